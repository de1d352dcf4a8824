/* Versions of objects: put, copy, tag, delete. */
#include "apply.h"

void version_deinit(struct version *version)
{
    bytes_deinit(&version->value);
}

enum err version_read(struct change *change, uint64_t bucket_id, struct slice key,
                      struct version *out_version)
{
    *out_version = (struct version){.value = {.max = ROW_VALUE_BYTES_MAX}};
    struct row_key row_key = row_key_current(bucket_id, key);
    enum err err =
        CHANGE_READ(change, &row_key, version_row, &out_version->value, &out_version->row);
    if (err == ERR_NOT_FOUND)
        return OK;
    TRY(err);
    out_version->exists = true;
    return OK;
}

enum err version_judge(const struct version *version, const struct write_conditions *conditions)
{
    const struct version_row *row = &version->row;
    bool holds = true;
    bool on_present = conditions->modified_ms != 0 || conditions->has_bytes;
    switch (conditions->kind) {
    case CONDITION_NONE:
        break;
    case CONDITION_ABSENT:
        holds = !version->exists;
        break;
    case CONDITION_PRESENT:
        on_present = true;
        break;
    case CONDITION_ETAG:
        on_present = true;
        holds = object_etag_equal(&row->etag, &conditions->etag);
        break;
    case CONDITION_STAMP:
        on_present = true;
        holds = row->stamp == conditions->stamp;
        break;
    }
    if (on_present && !version->exists)
        return FAIL(ERR_NOT_FOUND, "condition on a missing key");
    if (conditions->modified_ms != 0)
        holds = holds && row->modified_ms / 1000 == conditions->modified_ms / 1000;
    if (conditions->has_bytes)
        holds = holds && row->bytes == conditions->bytes;
    return holds ? OK : FAIL(ERR_PRECONDITION, "condition does not hold");
}

static enum err manifest_unlink(struct change *change, uint64_t manifest, uint64_t stamp)
{
    struct row_key own = row_key_2(TABLE_MANIFEST_REFERRER, manifest, stamp);
    change_delete(change, &own);
    struct row_key all = row_key_1(TABLE_MANIFEST_REFERRER, manifest);
    if (change_empty(change, &all))
        return job_add(change, &(struct job_row){.kind = JOB_PARTS, .id = manifest});
    return change->broken;
}

/* Give up what a version refers to. */
static enum err version_release(struct change *change, uint64_t bucket_id,
                                const struct version_row *row)
{
    switch (row->layout) {
    case LAYOUT_INLINE: {
        struct row_key key = row_key_2(TABLE_INLINE, bucket_id, row->stamp);
        if (row->bytes > 0)
            change_delete(change, &key);
        return OK;
    }
    case LAYOUT_BLOCKS:
        return blocks_unlink(change, row->blocks,
                             (struct referrer){.kind = REFERRER_VERSION, .id = row->stamp});
    case LAYOUT_PARTS:
        return manifest_unlink(change, row->manifest, row->stamp);
    }
    return change_check(change, FAIL(ERR_CORRUPT, "version of layout=%d", row->layout));
}

enum err version_replace(struct change *change, uint64_t bucket_id, struct slice key,
                         const struct version *old, struct version_row *row, struct result *result)
{
    row->modified_ms = change_time_ms(change, old->exists ? old->row.modified_ms : 0);
    row->origin_session = change->session;
    row->origin_sequence = change->sequence;
    if (old->exists)
        TRY(version_release(change, bucket_id, &old->row));
    struct row_key row_key = row_key_current(bucket_id, key);
    CHANGE_WRITE(change, &row_key, version_row, row);
    result_stamp(result, row->stamp, row->modified_ms);
    return OK;
}

/* --- put --- */

static enum err put_contents(struct change *change, const struct command_put *command,
                             struct version_row *row, struct bytes *blocks)
{
    if (command->use_count == 0) {
        row->layout = LAYOUT_INLINE;
        struct row_key key = row_key_2(TABLE_INLINE, command->bucket_id, row->stamp);
        if (command->bytes > 0)
            CHANGE_WRITE(change, &key, bytes_row, command->inline_bytes);
        /* An object may turn out empty or short after an intent was made for it. */
        return blocks_claim(change, command, (struct referrer){0});
    }
    row->layout = LAYOUT_BLOCKS;
    row->write_id = command->uses[0].ref.id;
    blocks_encode(blocks, command);
    row->blocks = bytes_slice(blocks);
    return blocks_claim(change, command,
                        (struct referrer){.kind = REFERRER_VERSION, .id = row->stamp});
}

static enum err put_version(struct change *change, const struct command_put *command,
                            const struct version *old, struct result *result)
{
    TRY(version_judge(old, &command->conditions));
    struct version_row row = {.stamp = change_stamp(change),
                              .bytes = command->bytes,
                              .etag = command->etag,
                              .checksum = command->checksum,
                              .attributes = command->attributes,
                              .tags = command->tags};
    AUTO_VALUE(bytes) blocks = {.max = META_OBJECT_BLOCKS_MAX * BLOCK_REF_BYTES};
    TRY(put_contents(change, command, &row, &blocks));
    return version_replace(change, command->bucket_id, command->key, old, &row, result);
}

enum err apply_object_put(struct change *change, const struct command_put *command,
                          struct result *result)
{
    TRY(put_check(command));
    TRY(bucket_check_open(change, command->bucket_id));
    AUTO_VALUE(version) old;
    TRY(version_read(change, command->bucket_id, command->key, &old));
    return put_version(change, command, &old, result);
}

/* --- copy --- */

/* Every layout is shared or copied in one bounded step: at most META_OBJECT_BLOCKS_MAX blocks,
 * or the manifest as a whole. */
static enum err copy_contents(struct change *change, const struct command_copy *command,
                              const struct version_row *source, const struct version_row *row)
{
    switch (row->layout) {
    case LAYOUT_INLINE: {
        if (row->bytes == 0)
            return OK;
        struct row_key from = row_key_2(TABLE_INLINE, command->source_bucket_id, source->stamp);
        struct row_key to = row_key_2(TABLE_INLINE, command->bucket_id, row->stamp);
        AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
        enum err err = change_get(change, &from, &value);
        if (err != OK)
            return change_check(change, err == ERR_NOT_FOUND ? ERR_CORRUPT : err);
        change_put(change, &to, &value);
        return OK;
    }
    case LAYOUT_BLOCKS:
        return blocks_share(change, row->blocks, command->bucket_id, command->key,
                            (struct referrer){.kind = REFERRER_VERSION, .id = row->stamp});
    case LAYOUT_PARTS: {
        struct row_key key = row_key_2(TABLE_MANIFEST_REFERRER, row->manifest, row->stamp);
        CHANGE_WRITE(change, &key, bytes_row, slice_of(NULL, 0));
        return OK;
    }
    }
    return change_check(change, FAIL(ERR_CORRUPT, "version of layout=%d", row->layout));
}

static enum err copy_version(struct change *change, const struct command_copy *command,
                             const struct version *source, const struct version *old,
                             struct result *result)
{
    if (!source->exists || source->row.stamp != command->source_stamp)
        return FAIL(ERR_STALE, "source of the copy is another version now");
    TRY(version_judge(old, &command->conditions));
    struct version_row row = source->row;
    row.stamp = change_stamp(change);
    row.upload_id = 0;
    row.checksum = command->checksum;
    row.attributes = command->attributes;
    if (command->replace_tags)
        row.tags = command->tags;
    TRY(copy_contents(change, command, &source->row, &row));
    return version_replace(change, command->bucket_id, command->key, old, &row, result);
}

enum err apply_object_copy(struct change *change, const struct command_copy *command,
                           struct result *result)
{
    TRY(bucket_check_open(change, command->bucket_id));
    AUTO_VALUE(version) source;
    TRY(version_read(change, command->source_bucket_id, command->source_key, &source));
    AUTO_VALUE(version) old;
    TRY(version_read(change, command->bucket_id, command->key, &old));
    return copy_version(change, command, &source, &old, result);
}

/* --- tag --- */

/* The version stays the one it is: same stamp, time and contents. */
enum err apply_object_tag(struct change *change, const struct command_tag *command)
{
    TRY(bucket_check_open(change, command->bucket_id));
    AUTO_VALUE(version) version;
    TRY(version_read(change, command->bucket_id, command->key, &version));
    if (!version.exists)
        return FAIL(ERR_NOT_FOUND, "tags for a missing key");
    struct row_key key = row_key_current(command->bucket_id, command->key);
    version.row.tags = command->tags;
    CHANGE_WRITE(change, &key, version_row, &version.row);
    return OK;
}

/* --- delete --- */

static enum err delete_version(struct change *change, const struct command_delete *command,
                               const struct version *old, struct result *result)
{
    TRY(version_judge(old, &command->conditions));
    result->kind = RESULT_DELETED;
    result->deleted = old->exists;
    if (!old->exists)
        return OK;
    struct row_key key = row_key_current(command->bucket_id, command->key);
    change_delete(change, &key);
    return version_release(change, command->bucket_id, &old->row);
}

enum err apply_object_delete(struct change *change, const struct command_delete *command,
                             struct result *result)
{
    TRY(bucket_check_open(change, command->bucket_id));
    AUTO_VALUE(version) old;
    TRY(version_read(change, command->bucket_id, command->key, &old));
    return delete_version(change, command, &old, result);
}
