/* Typed calls for the storage daemon: drives, volumes and their repair. */
#include "calls.h"

enum {
    BLOCKS_FOUND_MAX = 4096,
    BLOCK_PAGE_MAX = 16384,
};

/* --- drives --- */

enum err meta_drive_register(struct io *io, struct meta_client *client,
                             const struct drive_record *drive)
{
    struct command command = {.type = COMMAND_DRIVE_REGISTER, .drive = *drive};
    return client_command(io, client, &command);
}

enum err meta_drive_set_standing(struct io *io, struct meta_client *client,
                                 const struct drive_id *drive, enum drive_standing standing)
{
    struct command command = {
        .type = COMMAND_DRIVE_STANDING,
        .drive = {.id = *drive, .standing = standing},
    };
    return client_command(io, client, &command);
}

enum err meta_drive_forget(struct io *io, struct meta_client *client, const struct drive_id *drive)
{
    struct command command = {.type = COMMAND_DRIVE_FORGET, .drive = {.id = *drive}};
    return client_command(io, client, &command);
}

static enum err drive_list_read(struct lane *lane, struct state *state, void *argument)
{
    struct drive_page **page = argument;
    return state_drive_list(lane, state, page);
}

enum err meta_drive_list(struct io *io, struct meta_client *client, struct drive_page **out_page)
{
    return client_read(io, client, drive_list_read, out_page, false);
}

/* --- volumes --- */

static enum err propose_volume(struct io *io, struct meta_client *client,
                               const struct command *command, struct volume *out_volume)
{
    struct result result;
    TRY(client_propose(io, client, command, &result));
    *out_volume = result.volume;
    return OK;
}

enum err meta_volume_create(struct io *io, struct meta_client *client, uint8_t data_shards,
                            uint8_t parity_shards, const struct drive_id *drives,
                            struct volume *out_volume)
{
    size_t slots = (size_t)data_shards + parity_shards;
    if (slots > META_SHARDS_MAX)
        return FAIL(ERR_INVALID, "volume of %zu slots", slots);
    struct command command = {
        .type = COMMAND_VOLUME_CREATE,
        .volume = {.data_shards = data_shards, .parity_shards = parity_shards},
    };
    memcpy(command.volume.slots, drives, slots * sizeof *drives);
    return propose_volume(io, client, &command, out_volume);
}

static enum err volume_list_read(struct lane *lane, struct state *state, void *argument)
{
    struct volume_page **page = argument;
    return state_volume_list(lane, state, page);
}

enum err meta_volume_list(struct io *io, struct meta_client *client, struct volume_page **out_page)
{
    return client_read(io, client, volume_list_read, out_page, false);
}

enum err meta_repair_start(struct io *io, struct meta_client *client, uint64_t volume,
                           uint32_t slots, const struct drive_id drives[META_SHARDS_MAX],
                           struct volume *out_volume)
{
    if (slots >> META_SHARDS_MAX != 0)
        return FAIL(ERR_INVALID, "repair of slots that do not exist");
    struct command command = {
        .type = COMMAND_REPAIR_START,
        .repair = {.volume = volume, .slots = slots},
    };
    memcpy(command.repair.drives, drives, sizeof command.repair.drives);
    return propose_volume(io, client, &command, out_volume);
}

enum err meta_repair_done(struct io *io, struct meta_client *client, uint64_t volume,
                          uint64_t repair, struct volume *out_volume)
{
    struct command command = {
        .type = COMMAND_REPAIR_DONE,
        .repair = {.volume = volume, .repair = repair},
    };
    return propose_volume(io, client, &command, out_volume);
}

enum err meta_repair_cancel(struct io *io, struct meta_client *client, uint64_t volume,
                            uint64_t repair, struct volume *out_volume)
{
    struct command command = {
        .type = COMMAND_REPAIR_CANCEL,
        .repair = {.volume = volume, .repair = repair},
    };
    return propose_volume(io, client, &command, out_volume);
}

/* --- blocks --- */

struct blocks_read {
    struct block_id from;
    uint32_t max;
    struct block_page *page;
};

static enum err volume_blocks_read(struct lane *lane, struct state *state, void *argument)
{
    struct blocks_read *read = argument;
    return state_volume_blocks(lane, state, read->from.volume, read->from.sequence, read->max,
                               &read->page);
}

static enum err repair_list_read(struct lane *lane, struct state *state, void *argument)
{
    struct blocks_read *read = argument;
    return state_repair_list(lane, state, read->from, read->max, &read->page);
}

static enum err read_blocks(struct io *io, struct meta_client *client, meta_read_fn *fn,
                            struct block_id from, uint32_t max, struct block_page **out_page)
{
    struct blocks_read read = {.from = from, .max = max < BLOCK_PAGE_MAX ? max : BLOCK_PAGE_MAX};
    TRY(client_read(io, client, fn, &read, false));
    *out_page = read.page;
    return OK;
}

enum err meta_volume_blocks(struct io *io, struct meta_client *client, uint64_t volume,
                            uint64_t from, uint32_t max, struct block_page **out_page)
{
    return read_blocks(io, client, volume_blocks_read, (struct block_id){volume, from}, max,
                       out_page);
}

enum err meta_repair_list(struct io *io, struct meta_client *client, struct block_id from,
                          uint32_t max, struct block_page **out_page)
{
    return read_blocks(io, client, repair_list_read, from, max, out_page);
}

enum err meta_blocks_repaired(struct io *io, struct meta_client *client,
                              const struct block_ref *blocks, uint32_t count)
{
    struct block_ref *copy = mem_alloc_array(BLOCKS_REPAIRED_MAX, sizeof *copy);
    enum err err = OK;
    for (uint32_t at = 0; at < count && err == OK; at += BLOCKS_REPAIRED_MAX) {
        uint32_t some = count - at < BLOCKS_REPAIRED_MAX ? count - at : BLOCKS_REPAIRED_MAX;
        memcpy(copy, blocks + at, some * sizeof *copy);
        struct command command = {
            .type = COMMAND_BLOCKS_REPAIRED,
            .repaired = {.blocks = copy, .count = some},
        };
        err = client_command(io, client, &command);
    }
    mem_free(copy);
    return err;
}

struct find_read {
    const struct block_id *ids;
    uint32_t count;
    struct block_ref *refs;
};

static enum err find_read(struct lane *lane, struct state *state, void *argument)
{
    struct find_read *read = argument;
    return state_block_find(lane, state, read->ids, read->count, read->refs);
}

enum err meta_block_find(struct io *io, struct meta_client *client, const struct block_id *ids,
                         uint32_t count, struct block_ref *out_refs)
{
    if (count > BLOCKS_FOUND_MAX)
        return FAIL(ERR_LIMIT, "blocks to find count=%u", count);
    struct find_read read = {.ids = ids, .count = count, .refs = out_refs};
    return client_read(io, client, find_read, &read, false);
}
