/* Typed calls over the metadata service of this process: buckets, identities, drives, volumes. */
#include "meta/client.h"
#include "calls.h"

enum {
    FIRST_GROUP = 1,      /* one group serves both roles for now (DESIGN.md [6]) */
    BUCKET_ATTEMPTS = 16, /* others may create and delete the same name meanwhile */
    BUCKET_LIST_MAX = 10000,
};

struct meta_client {
    struct meta_group *group;
};

struct meta_client *meta_client_new(struct meta_group *group)
{
    struct meta_client *client = mem_new(struct meta_client);
    client->group = group;
    return client;
}

void meta_client_free(struct meta_client *client)
{
    mem_free(client);
}

enum err client_propose(struct io *io, struct meta_client *client, const struct command *command,
                        struct result *out_result)
{
    AUTO_VALUE(bytes) encoded = {.max = ENTRY_BYTES_MAX};
    AUTO_VALUE(bytes) answer = {.max = RESULT_BYTES_MAX};
    TRY(command_encode(&encoded, command));
    TRY(meta_group_propose(io, client->group, bytes_slice(&encoded), &answer));
    TRY(result_decode(bytes_slice(&answer), out_result));
    switch (out_result->outcome) {
    case RESULT_APPLIED:
        return out_result->err;
    case RESULT_STALE:
    case RESULT_SESSION_CLOSED:
        break;
    }
    /* This proposal changed nothing, but an earlier one of the same sequence may have. */
    return FAIL(ERR_OUTCOME_UNKNOWN, "proposal answered with outcome=%d", out_result->outcome);
}

enum err client_command(struct io *io, struct meta_client *client, const struct command *command)
{
    struct result result;
    return client_propose(io, client, command, &result);
}

enum err client_read(struct io *io, struct meta_client *client, meta_read_fn *fn, void *argument,
                     bool memory_first)
{
    return meta_group_read(io, client->group, fn, argument, memory_first);
}

/* --- buckets --- (steps: state_bucket.c) */

static enum err bucket_step(struct io *io, struct meta_client *client, enum command_type type,
                            const struct bucket_row *row)
{
    struct command command = {
        .type = type,
        .bucket = {.name = slice_of_text(row->bucket.name),
                   .id = row->bucket.id,
                   .attempt = row->attempt},
    };
    return client_command(io, client, &command);
}

static enum err bucket_finish_create(struct io *io, struct meta_client *client,
                                     const struct bucket_row *row)
{
    enum err err = bucket_step(io, client, COMMAND_BUCKET_OPEN, row);
    if (err == ERR_NOT_FOUND)
        return OK; /* finished by others, and deleted again */
    TRY(err);
    return bucket_step(io, client, COMMAND_BUCKET_SETTLE, row);
}

/* One try from the first step on; also goes on with what another one left. ERR_NOT_FOUND,
 * ERR_NOT_EMPTY; ERR_STALE: another deleter was faster, begin again. */
static enum err bucket_delete_once(struct io *io, struct meta_client *client, struct slice name)
{
    struct command mark = {.type = COMMAND_BUCKET_MARK, .bucket = {.name = name}};
    struct result result;
    TRY(client_propose(io, client, &mark, &result));
    enum err err = bucket_step(io, client, COMMAND_BUCKET_CLOSE, &result.bucket);
    if (err == ERR_NOT_EMPTY) {
        TRY(bucket_step(io, client, COMMAND_BUCKET_SETTLE, &result.bucket));
        return err;
    }
    TRY(err);
    return bucket_step(io, client, COMMAND_BUCKET_FORGET, &result.bucket);
}

/* ERR_STALE: what was in the way is being removed, try again. */
static enum err bucket_create_once(struct io *io, struct meta_client *client,
                                   const struct command *take, struct bucket *out_bucket)
{
    struct result result;
    enum err err = client_propose(io, client, take, &result);
    if (err != OK && err != ERR_EXISTS)
        return err;
    switch (result.bucket.state) {
    case BUCKET_LIVE:
        break;
    case BUCKET_CREATING:
        TRY(bucket_finish_create(io, client, &result.bucket));
        break;
    case BUCKET_DELETING: {
        enum err gone = bucket_delete_once(io, client, take->bucket.name);
        bool settled = gone == OK || gone == ERR_NOT_FOUND || gone == ERR_NOT_EMPTY;
        return settled ? ERR_STALE : gone;
    }
    }
    *out_bucket = result.bucket.bucket;
    return err;
}

static bool text_is_valid(struct slice text, size_t bytes_max)
{
    return text.bytes <= bytes_max && slice_find(text, 0) == text.bytes;
}

enum err meta_bucket_create(struct io *io, struct meta_client *client, struct slice name,
                            struct slice owner, struct slice region, struct bucket *out_bucket)
{
    if (name.bytes == 0 || !text_is_valid(name, META_BUCKET_NAME_BYTES_MAX) ||
        !text_is_valid(owner, OWNER_BYTES_MAX) || !text_is_valid(region, OWNER_BYTES_MAX))
        return FAIL(ERR_INVALID, "bucket name, owner or region");
    struct command take = {
        .type = COMMAND_BUCKET_TAKE,
        .bucket = {.name = name, .owner = owner, .region = region, .group = FIRST_GROUP},
    };
    for (unsigned i = 0; i < BUCKET_ATTEMPTS; i++) {
        enum err err = bucket_create_once(io, client, &take, out_bucket);
        if (err != ERR_STALE)
            return err;
    }
    return FAIL(ERR_BUSY, "bucket is created and deleted at once");
}

struct bucket_find {
    struct slice name;
    struct bucket_row row;
};

static enum err bucket_find_read(struct lane *lane, struct state *state, void *argument)
{
    struct bucket_find *find = argument;
    return state_bucket_find(lane, state, find->name, &find->row);
}

/* A half-done deletion is finished first, since the object role may refuse the bucket already;
 * one that is being created is not there yet: nobody was told. */
enum err meta_bucket_find(struct io *io, struct meta_client *client, struct slice name,
                          struct bucket *out_bucket)
{
    for (unsigned i = 0; i < BUCKET_ATTEMPTS; i++) {
        struct bucket_find find = {.name = name};
        TRY(client_read(io, client, bucket_find_read, &find, true));
        switch (find.row.state) {
        case BUCKET_CREATING:
            return FAIL(ERR_NOT_FOUND, "bucket is being created");
        case BUCKET_LIVE:
            *out_bucket = find.row.bucket;
            return OK;
        case BUCKET_DELETING: {
            enum err err = bucket_delete_once(io, client, name);
            if (err == OK)
                return ERR_NOT_FOUND;
            if (err != ERR_NOT_FOUND && err != ERR_NOT_EMPTY && err != ERR_STALE)
                return err;
            break;
        }
        }
    }
    return FAIL(ERR_BUSY, "bucket is created and deleted at once");
}

struct bucket_list {
    struct slice prefix, after;
    uint32_t max;
    struct bucket_page *page;
};

static enum err bucket_list_read(struct lane *lane, struct state *state, void *argument)
{
    struct bucket_list *list = argument;
    return state_bucket_list(lane, state, list->prefix, list->after, list->max, &list->page);
}

enum err meta_bucket_list(struct io *io, struct meta_client *client, struct slice prefix,
                          struct slice after, uint32_t max, struct bucket_page **out_page)
{
    if (max == 0 || max > BUCKET_LIST_MAX)
        return FAIL(ERR_INVALID, "bucket list max=%u", max);
    struct bucket_list list = {.prefix = prefix, .after = after, .max = max};
    TRY(client_read(io, client, bucket_list_read, &list, false));
    *out_page = list.page;
    return OK;
}

enum err meta_bucket_delete(struct io *io, struct meta_client *client, struct slice name)
{
    if (!text_is_valid(name, META_BUCKET_NAME_BYTES_MAX))
        return FAIL(ERR_NOT_FOUND, "no such bucket can exist");
    for (unsigned i = 0; i < BUCKET_ATTEMPTS; i++) {
        enum err err = bucket_delete_once(io, client, name);
        if (err != ERR_STALE)
            return err;
    }
    return FAIL(ERR_BUSY, "bucket is deleted by others");
}

struct bucket_config_find {
    uint64_t bucket_id;
    enum bucket_config_kind kind;
    struct bytes *value;
};

static enum err bucket_config_read(struct lane *lane, struct state *state, void *argument)
{
    struct bucket_config_find *find = argument;
    return state_bucket_config_find(lane, state, find->bucket_id, find->kind, find->value);
}

enum err meta_bucket_config_find(struct io *io, struct meta_client *client, uint64_t bucket_id,
                                 enum bucket_config_kind kind, struct bytes *out_value)
{
    struct bucket_config_find find = {.bucket_id = bucket_id, .kind = kind, .value = out_value};
    return client_read(io, client, bucket_config_read, &find, true);
}

enum err meta_bucket_config_put(struct io *io, struct meta_client *client, uint64_t bucket_id,
                                enum bucket_config_kind kind, struct slice value)
{
    if (value.bytes > META_BUCKET_CONFIG_BYTES_MAX)
        return FAIL(ERR_LIMIT, "bucket config bytes=%zu", value.bytes);
    struct command command = {
        .type = COMMAND_BUCKET_CONFIG,
        .config = {.bucket_id = bucket_id, .kind = kind, .value = value},
    };
    return client_command(io, client, &command);
}

/* --- identities --- */

struct identity_find {
    struct slice access_key;
    struct identity identity;
};

static enum err identity_find_read(struct lane *lane, struct state *state, void *argument)
{
    struct identity_find *find = argument;
    return state_identity_find(lane, state, find->access_key, &find->identity);
}

static enum err identity_root_read(struct lane *lane, struct state *state, void *argument)
{
    struct identity_find *find = argument;
    return state_identity_root(lane, state, &find->identity);
}

enum err meta_identity_find(struct io *io, struct meta_client *client, struct slice access_key,
                            struct identity *out_identity)
{
    struct identity_find find = {.access_key = access_key};
    TRY(client_read(io, client, identity_find_read, &find, true));
    *out_identity = find.identity;
    return OK;
}

enum err meta_identity_root(struct io *io, struct meta_client *client,
                            struct identity *out_identity)
{
    struct identity_find find = {0};
    TRY(client_read(io, client, identity_root_read, &find, true));
    *out_identity = find.identity;
    return OK;
}

enum err meta_identity_put(struct io *io, struct meta_client *client,
                           const struct identity *identity)
{
    struct command command = {.type = COMMAND_IDENTITY_PUT, .identity = *identity};
    return client_command(io, client, &command);
}
