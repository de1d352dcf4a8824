/* Buckets: the name in the cluster role, the permission to put objects in the object role.
 *
 *     create:  TAKE (creating) -> OPEN -> SETTLE (live)
 *     delete:  MARK (deleting, attempt n) -> CLOSE (attempt n) -> FORGET
 *                                            not empty         -> SETTLE (attempt n: live again)
 *
 * Any step may be repeated, and anyone may go on from where another stopped. Two deleters may
 * interleave: MARK counts attempts, only the last one may bring the bucket back to life, and a
 * CLOSE that found objects refuses the CLOSE of earlier attempts. So a closed bucket never stays
 * live. What was set for the bucket goes with CLOSE. */
#include "apply.h"

/* ERR_NOT_FOUND. */
static enum err name_read(struct change *change, struct slice name, struct bucket_row *out_row)
{
    struct row_key key = row_key_bytes(TABLE_BUCKET_NAME, name);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    return CHANGE_READ(change, &key, bucket_row, &value, out_row);
}

static void name_write(struct change *change, struct slice name, const struct bucket_row *row)
{
    struct row_key key = row_key_bytes(TABLE_BUCKET_NAME, name);
    CHANGE_WRITE(change, &key, bucket_row, row);
}

static void text_set(char *text, struct slice value)
{
    if (value.bytes > 0)
        memcpy(text, value.data, value.bytes);
    text[value.bytes] = '\0';
}

enum err apply_bucket_take(struct change *change, const struct command_bucket *command,
                           struct result *result)
{
    if (command->name.bytes == 0)
        return FAIL(ERR_INVALID, "bucket without a name");
    result->kind = RESULT_BUCKET;
    enum err err = name_read(change, command->name, &result->bucket);
    if (err == OK)
        return FAIL(ERR_EXISTS, "bucket name is taken");
    if (err != ERR_NOT_FOUND)
        return err;
    struct bucket_row row = {
        .state = BUCKET_CREATING,
        .bucket = {.id = ++change->applied.bucket_id,
                   .created_ms = change->wall_ms,
                   .group = command->group},
    };
    text_set(row.bucket.name, command->name);
    text_set(row.bucket.owner, command->owner);
    text_set(row.bucket.region, command->region);
    name_write(change, command->name, &row);
    result->bucket = row;
    return OK;
}

/* No effect when others went on meanwhile. */
enum err apply_bucket_settle(struct change *change, const struct command_bucket *command)
{
    struct bucket_row row;
    enum err err = name_read(change, command->name, &row);
    if (err == ERR_NOT_FOUND || (err == OK && row.bucket.id != command->id))
        return OK;
    TRY(err);
    bool mine = row.state == BUCKET_CREATING ||
                (row.state == BUCKET_DELETING && row.attempt == command->attempt);
    if (!mine)
        return OK;
    row.state = BUCKET_LIVE;
    name_write(change, command->name, &row);
    return OK;
}

enum err apply_bucket_mark(struct change *change, const struct command_bucket *command,
                           struct result *result)
{
    struct bucket_row row;
    TRY(name_read(change, command->name, &row));
    if (row.state == BUCKET_CREATING)
        return FAIL(ERR_NOT_FOUND, "bucket is being created");
    row.state = BUCKET_DELETING;
    row.attempt++;
    name_write(change, command->name, &row);
    result->kind = RESULT_BUCKET;
    result->bucket = row;
    return OK;
}

/* Whoever asks has seen the object role close the bucket, and that is for ever. */
enum err apply_bucket_forget(struct change *change, const struct command_bucket *command)
{
    struct bucket_row row;
    enum err err = name_read(change, command->name, &row);
    if (err == ERR_NOT_FOUND || (err == OK && row.bucket.id != command->id))
        return OK;
    TRY(err);
    struct row_key key = row_key_bytes(TABLE_BUCKET_NAME, command->name);
    change_delete(change, &key);
    return OK;
}

/* --- object role --- */

static uint64_t *open_slot(struct change *change, uint64_t bucket_id)
{
    return &change->open_buckets->ids[bucket_id % OPEN_BUCKETS_MAX];
}

static enum err open_read(struct change *change, uint64_t bucket_id,
                          struct bucket_open_row *out_row)
{
    struct row_key key = row_key_1(TABLE_BUCKET, bucket_id);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    return CHANGE_READ(change, &key, bucket_open_row, &value, out_row);
}

static void open_write(struct change *change, uint64_t bucket_id, const struct bucket_open_row *row)
{
    struct row_key key = row_key_1(TABLE_BUCKET, bucket_id);
    *open_slot(change, bucket_id) = 0;
    CHANGE_WRITE(change, &key, bucket_open_row, row);
}

enum err bucket_check_open(struct change *change, uint64_t bucket_id)
{
    struct bucket_open_row row;
    uint64_t *slot = open_slot(change, bucket_id);
    if (bucket_id != 0 && *slot == bucket_id)
        return OK;
    TRY(open_read(change, bucket_id, &row));
    if (!row.open)
        return FAIL(ERR_NOT_FOUND, "bucket is closed");
    if (change->count == 0) /* so it is the store's word, not that of this entry */
        *slot = bucket_id;
    return OK;
}

enum err apply_bucket_open(struct change *change, const struct command_bucket *command)
{
    struct bucket_open_row row;
    enum err err = open_read(change, command->id, &row);
    if (err == OK && !row.open)
        return FAIL(ERR_NOT_FOUND, "bucket was closed before");
    if (err != ERR_NOT_FOUND)
        return err;
    open_write(change, command->id, &(struct bucket_open_row){.open = true});
    return OK;
}

static enum err bucket_is_empty(struct change *change, uint64_t bucket_id, bool *out_empty)
{
    struct row_key current = row_key_1(TABLE_CURRENT, bucket_id);
    struct row_key history = row_key_1(TABLE_HISTORY, bucket_id);
    *out_empty = change_empty(change, &current) && change_empty(change, &history);
    return change->broken;
}

static void config_delete_all(struct change *change, uint64_t bucket_id)
{
    for (int kind = 1; kind <= BUCKET_CONFIG_KIND_MAX; kind++) {
        struct row_key key = row_key_bucket_config(bucket_id, (enum bucket_config_kind)kind);
        if (change_has(change, &key) == OK)
            change_delete(change, &key);
    }
}

enum err apply_bucket_close(struct change *change, const struct command_bucket *command)
{
    struct bucket_open_row row;
    TRY(open_read(change, command->id, &row));
    if (!row.open)
        return OK;
    if (command->attempt < row.attempt)
        return FAIL(ERR_STALE, "bucket: a later try to delete it came first");
    bool empty = false;
    TRY(bucket_is_empty(change, command->id, &empty));
    if (!empty) {
        row.attempt = command->attempt;
        open_write(change, command->id, &row);
        change->keep = true;
        return FAIL(ERR_NOT_EMPTY, "bucket has objects");
    }
    open_write(change, command->id, &(struct bucket_open_row){.open = false});
    config_delete_all(change, command->id);
    struct row_key uploads = row_key_1(TABLE_UPLOAD, command->id);
    if (!change_empty(change, &uploads))
        TRY(job_add(change, &(struct job_row){.kind = JOB_UPLOADS, .id = command->id}));
    return change->broken;
}

enum err apply_bucket_config(struct change *change, const struct command_config *command)
{
    TRY(bucket_check_open(change, command->bucket_id));
    struct row_key key = row_key_bucket_config(command->bucket_id, command->kind);
    if (command->value.bytes > 0) {
        CHANGE_WRITE(change, &key, bytes_row, command->value);
        return OK;
    }
    enum err err = change_has(change, &key);
    if (err == OK)
        change_delete(change, &key);
    return err == ERR_NOT_FOUND ? OK : err;
}
