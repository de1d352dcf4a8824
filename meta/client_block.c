/* Typed calls for the storage daemon: leases, staged blocks, collection. */
#include "calls.h"

enum {
    STALE_LEASES_READ = 64,
    STALE_ROUNDS_MAX = 16384,
    FREE_LIST_MAX = 65536,
    STATUS_MAX = 4096,
};

/* --- leases --- */

enum err meta_lease_open(struct io *io, struct meta_client *client, uint64_t volume,
                         uint64_t holder, uint64_t boot, struct lease *out_lease)
{
    struct command command = {
        .type = COMMAND_LEASE_OPEN,
        .lease = {.volume = volume, .holder = holder, .boot = boot},
    };
    struct result result;
    TRY(client_propose(io, client, &command, &result));
    *out_lease = result.lease;
    return OK;
}

/* Between the steps the lease is closing: whoever finds it so goes on from the first step. Only
 * after every group of objects (one, so far) refuses its blocks is it closed (CLUSTER.md C1.7). */
static enum err lease_close(struct io *io, struct meta_client *client, uint64_t volume,
                            uint64_t from)
{
    struct command command = {
        .type = COMMAND_LEASE_CLOSING,
        .lease = {.volume = volume, .from = from},
    };
    struct result result;
    TRY(client_propose(io, client, &command, &result));
    if (result.kind == RESULT_NOTHING)
        return OK;
    command.type = COMMAND_LEASE_REFUSE;
    command.lease.to = result.lease.to;
    TRY(client_command(io, client, &command));
    command.type = COMMAND_LEASE_CLOSED;
    return client_command(io, client, &command);
}

enum err meta_lease_close(struct io *io, struct meta_client *client, const struct lease *lease)
{
    return lease_close(io, client, lease->volume, lease->from);
}

struct stale_read {
    uint64_t holder, boot; /* of others than this boot; or ... */
    uint64_t volume;       /* ... not 0: all of this volume */
    struct lease_found leases[STALE_LEASES_READ];
    uint32_t count;
};

static enum err stale_read(struct lane *lane, struct state *state, void *argument)
{
    struct stale_read *stale = argument;
    if (stale->volume != 0)
        return state_lease_list(lane, state, stale->volume, STALE_LEASES_READ, stale->leases,
                                &stale->count);
    return state_lease_stale(lane, state, stale->holder, stale->boot, STALE_LEASES_READ,
                             stale->leases, &stale->count);
}

static enum err close_all(struct io *io, struct meta_client *client, struct stale_read *stale)
{
    for (unsigned round = 0; round < STALE_ROUNDS_MAX; round++) {
        TRY(client_read(io, client, stale_read, stale, false));
        if (stale->count == 0)
            return OK;
        for (uint32_t i = 0; i < stale->count; i++)
            TRY(lease_close(io, client, stale->leases[i].volume, stale->leases[i].from));
    }
    return FAIL(ERR_BUSY, "leases to close keep appearing");
}

enum err meta_lease_close_stale(struct io *io, struct meta_client *client, uint64_t holder,
                                uint64_t boot)
{
    struct stale_read stale = {.holder = holder, .boot = boot};
    return close_all(io, client, &stale);
}

enum err meta_lease_close_volume(struct io *io, struct meta_client *client, uint64_t volume)
{
    struct stale_read all = {.volume = volume};
    return close_all(io, client, &all);
}

/* --- staged blocks --- */

enum err meta_block_stage(struct io *io, struct meta_client *client, uint64_t bucket_id,
                          const struct lease *lease, const struct block_ref *ref, uint64_t *intent)
{
    if (lease->volume != ref->id.volume || ref->bytes == 0 || ref->bytes > META_BLOCK_BYTES_MAX)
        return FAIL(ERR_INVALID, "staged block of bytes=%u", ref->bytes);
    struct command command = {
        .type = COMMAND_BLOCK_STAGE,
        .stage = {.bucket_id = bucket_id,
                  .intent = *intent,
                  .use = {.ref = *ref, .lease_from = lease->from, .lease_to = lease->to}},
    };
    struct result result;
    TRY(client_propose(io, client, &command, &result));
    *intent = result.written.stamp;
    return OK;
}

enum err meta_intent_drop(struct io *io, struct meta_client *client, uint64_t intent)
{
    struct command command = {.type = COMMAND_INTENT_DROP, .intent = intent};
    return client_command(io, client, &command);
}

enum err meta_intent_renew(struct io *io, struct meta_client *client, uint64_t intent)
{
    struct command command = {.type = COMMAND_INTENT_RENEW, .intent = intent};
    return client_command(io, client, &command);
}

/* --- collection --- */

struct free_read {
    uint64_t after;
    uint32_t max;
    bool has_jobs;
    struct free_page *page;
};

static enum err has_jobs_read(struct lane *lane, struct state *state, void *argument)
{
    struct free_read *free = argument;
    return state_has_jobs(lane, state, &free->has_jobs);
}

static enum err free_read(struct lane *lane, struct state *state, void *argument)
{
    struct free_read *free = argument;
    return state_free_list(lane, state, free->after, free->max, &free->page);
}

enum err meta_free_list(struct io *io, struct meta_client *client, uint64_t after, uint32_t max,
                        struct free_page **out_page)
{
    struct free_read free = {.after = after, .max = max < FREE_LIST_MAX ? max : FREE_LIST_MAX};
    TRY(client_read(io, client, has_jobs_read, &free, false));
    if (free.has_jobs) {
        struct command expand = {.type = COMMAND_EXPAND};
        TRY(client_command(io, client, &expand));
    }
    TRY(client_read(io, client, free_read, &free, false));
    *out_page = free.page;
    return OK;
}

enum err meta_free_done(struct io *io, struct meta_client *client, const uint64_t *positions,
                        uint32_t count)
{
    uint64_t *copy = mem_alloc_array(FREE_DONE_MAX, sizeof *copy);
    enum err err = OK;
    for (uint32_t at = 0; at < count && err == OK; at += FREE_DONE_MAX) {
        uint32_t some = count - at < FREE_DONE_MAX ? count - at : FREE_DONE_MAX;
        memcpy(copy, positions + at, some * sizeof *copy);
        struct command command = {
            .type = COMMAND_FREE_DONE,
            .free_done = {.positions = copy, .count = some},
        };
        err = client_command(io, client, &command);
    }
    mem_free(copy);
    return err;
}

struct status_read {
    const struct block_id *ids;
    uint32_t count;
    enum block_status *status;
};

static enum err status_read(struct lane *lane, struct state *state, void *argument)
{
    struct status_read *read = argument;
    return state_block_status(lane, state, read->ids, read->count, read->status);
}

enum err meta_block_status(struct io *io, struct meta_client *client, const struct block_id *ids,
                           uint32_t count, enum block_status *out_status)
{
    if (count > STATUS_MAX)
        return FAIL(ERR_LIMIT, "block status count=%u", count);
    struct status_read read = {.ids = ids, .count = count, .status = out_status};
    return client_read(io, client, status_read, &read, false);
}
