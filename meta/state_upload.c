/* Multipart uploads.
 *
 * A part row keeps the blocks of a part, before and after completion. Complete writes the
 * version and manifest segments {offset -> parts}; the upload's id names the manifest. A copy of
 * the object is another referrer of the manifest. When the last one is gone a job frees the
 * parts in bounded steps (state_job.c). */
#include "apply.h"
#include <assert.h>
#include <inttypes.h>

/* ERR_NOT_FOUND. The row borrows from *value. */
static enum err upload_read(struct change *change, uint64_t bucket_id, struct slice key,
                            uint64_t upload_id, struct bytes *value, struct upload_row *out_row)
{
    struct row_key row_key = row_key_upload(bucket_id, key, upload_id);
    return CHANGE_READ(change, &row_key, upload_row, value, out_row);
}

enum err apply_upload_create(struct change *change, const struct command_upload *command,
                             struct result *result)
{
    TRY(bucket_check_open(change, command->bucket_id));
    uint64_t id = change_stamp(change);
    struct upload_row row = {.created_ms = change->wall_ms,
                             .checksum_algorithm = command->checksum_algorithm,
                             .checksum_type = command->checksum_type,
                             .attributes = command->attributes,
                             .tags = command->tags};
    struct row_key key = row_key_upload(command->bucket_id, command->key, id);
    CHANGE_WRITE(change, &key, upload_row, &row);
    result_stamp(result, id, row.created_ms);
    return OK;
}

static enum err part_write(struct change *change, const struct command_put *command,
                           const struct part_row *old, struct result *result)
{
    struct part_row row = {
        .part = {.number = command->part_number,
                 .id = change_stamp(change),
                 .bytes = command->bytes,
                 .modified_ms = change_time_ms(change, old == NULL ? 0 : old->part.modified_ms),
                 .etag = command->etag,
                 .checksum = command->checksum},
    };
    AUTO_VALUE(bytes) blocks = {.max = META_OBJECT_BLOCKS_MAX * BLOCK_REF_BYTES};
    blocks_encode(&blocks, command);
    row.blocks = bytes_slice(&blocks);
    TRY(blocks_claim(change, command, (struct referrer){.kind = REFERRER_PART, .id = row.part.id}));
    if (old != NULL)
        TRY(blocks_unlink(change, old->blocks,
                          (struct referrer){.kind = REFERRER_PART, .id = old->part.id}));
    struct row_key key = row_key_part(command->upload_id, row.part.number);
    CHANGE_WRITE(change, &key, part_row, &row);
    result_stamp(result, row.part.id, row.part.modified_ms);
    return OK;
}

enum err apply_part_put(struct change *change, const struct command_put *command,
                        struct result *result)
{
    TRY(put_check(command));
    if (command->part_number == 0 || command->inline_bytes.bytes > 0)
        return FAIL(ERR_INVALID, "part number=%u", command->part_number);
    TRY(bucket_check_open(change, command->bucket_id));
    AUTO_VALUE(bytes) upload_value = {.max = ROW_VALUE_BYTES_MAX};
    struct upload_row upload;
    TRY(upload_read(change, command->bucket_id, command->key, command->upload_id, &upload_value,
                    &upload));
    struct row_key key = row_key_part(command->upload_id, command->part_number);
    AUTO_VALUE(bytes) old_value = {.max = ROW_VALUE_BYTES_MAX};
    struct part_row old;
    enum err err = CHANGE_READ(change, &key, part_row, &old_value, &old);
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    return part_write(change, command, err == OK ? &old : NULL, result);
}

enum err apply_upload_abort(struct change *change, const struct command_upload *command)
{
    TRY(bucket_check_open(change, command->bucket_id));
    struct row_key key = row_key_upload(command->bucket_id, command->key, command->upload_id);
    TRY(change_has(change, &key));
    change_delete(change, &key);
    struct row_key parts = row_key_1(TABLE_PART, command->upload_id);
    if (change_empty(change, &parts))
        return OK;
    TRY(change->broken);
    return job_add(change, &(struct job_row){.kind = JOB_PARTS, .id = command->upload_id});
}

/* --- complete --- */

/* What is built while the stored parts pass by. */
struct completion {
    struct change *change;
    const struct command_complete *command;
    uint32_t next;   /* index of the part of the command that is looked for */
    uint64_t offset; /* bytes of the parts so far */
    struct block_id write_id;
    bool leftover;
    uint8_t kept[META_PARTS_MAX / 8 + 1];
    uint64_t segment_offset;
    struct manifest_row segment;
};

static void segment_end(struct completion *completion)
{
    struct manifest_row *segment = &completion->segment;
    if (segment->count == 0)
        return;
    struct row_key key = row_key_3(TABLE_MANIFEST, completion->command->upload_id,
                                   completion->segment_offset, segment->parts[0].number);
    CHANGE_WRITE(completion->change, &key, manifest_row, segment);
    segment->count = 0;
    completion->segment_offset = completion->offset;
}

static enum err completion_part(struct completion *completion, const struct part_row *row)
{
    const struct command_complete *command = completion->command;
    const struct part_name *wanted =
        completion->next < command->part_count ? &command->parts[completion->next] : NULL;
    if (wanted == NULL || row->part.number < wanted->number) {
        completion->leftover = true;
        return OK;
    }
    if (row->part.number > wanted->number || row->part.id != wanted->id)
        return FAIL(ERR_INVALID, "part number=%u is missing or was replaced", wanted->number);
    completion->next++;
    completion->kept[wanted->number / 8] |= (uint8_t)(1u << (wanted->number % 8));
    if (completion->write_id.volume == 0 && row->blocks.bytes > 0)
        completion->write_id = row_block(row->blocks, 0).id;
    completion->segment.parts[completion->segment.count++] = row->part;
    completion->offset += row->part.bytes;
    if (completion->segment.count == MANIFEST_SEGMENT_PARTS)
        segment_end(completion);
    return OK;
}

/* One pass over the stored parts, in the order of numbers. */
static enum err completion_run(struct completion *completion)
{
    struct change *change = completion->change;
    struct row_key prefix = row_key_1(TABLE_PART, completion->command->upload_id);
    struct change_scan scan;
    change_scan_init(&scan, change, &prefix);
    enum err err = OK;
    while (err == OK && change_scan_next(&scan)) {
        struct part_row row;
        err = change_check(change, part_row_decode(scan.value, &row));
        if (err == OK)
            err = completion_part(completion, &row);
    }
    change_scan_deinit(&scan);
    TRY(change->broken);
    TRY(err);
    if (completion->next < completion->command->part_count)
        return FAIL(ERR_INVALID, "part number=%u is missing",
                    completion->command->parts[completion->next].number);
    segment_end(completion);
    return OK;
}

static enum err names_check(const struct command_complete *command)
{
    if (command->part_count == 0)
        return FAIL(ERR_INVALID, "complete without parts");
    for (uint32_t i = 0; i < command->part_count; i++) {
        uint32_t before = i == 0 ? 0 : command->parts[i - 1].number;
        if (command->parts[i].number <= before)
            return FAIL(ERR_INVALID, "part numbers do not ascend");
    }
    return OK;
}

static enum err complete_version(struct change *change, const struct command_complete *command,
                                 const struct upload_row *upload, const struct version *old,
                                 struct result *result)
{
    struct completion completion = {.change = change, .command = command};
    TRY(completion_run(&completion));
    struct version_row row = {.stamp = change_stamp(change),
                              .bytes = completion.offset,
                              .etag = command->etag,
                              .checksum = command->checksum,
                              .layout = LAYOUT_PARTS,
                              .upload_id = command->upload_id,
                              .manifest = command->upload_id,
                              .write_id = completion.write_id,
                              .attributes = upload->attributes,
                              .tags = upload->tags};
    struct row_key referrer = row_key_2(TABLE_MANIFEST_REFERRER, row.manifest, row.stamp);
    CHANGE_WRITE(change, &referrer, bytes_row, slice_of(NULL, 0));
    struct row_key key = row_key_upload(command->bucket_id, command->key, command->upload_id);
    change_delete(change, &key);
    if (completion.leftover)
        TRY(job_add(change,
                    &(struct job_row){.kind = JOB_LEFTOVER,
                                      .id = command->upload_id,
                                      .kept = slice_of(completion.kept, sizeof completion.kept)}));
    return version_replace(change, command->bucket_id, command->key, old, &row, result);
}

/* The upload is gone: was it this one, of the same parts, that made what is there? */
static enum err complete_repeated(const struct command_complete *command, const struct version *old,
                                  struct result *result)
{
    if (!old->exists || old->row.upload_id != command->upload_id ||
        !object_etag_equal(&old->row.etag, &command->etag))
        return FAIL(ERR_NOT_FOUND, "upload=%" PRIu64, command->upload_id);
    result_stamp(result, old->row.stamp, old->row.modified_ms);
    return OK;
}

enum err apply_upload_complete(struct change *change, const struct command_complete *command,
                               struct result *result)
{
    TRY(names_check(command));
    TRY(bucket_check_open(change, command->bucket_id));
    AUTO_VALUE(version) old;
    TRY(version_read(change, command->bucket_id, command->key, &old));
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct upload_row upload;
    enum err err =
        upload_read(change, command->bucket_id, command->key, command->upload_id, &value, &upload);
    if (err == ERR_NOT_FOUND)
        return complete_repeated(command, &old, result);
    TRY(err);
    TRY(version_judge(&old, &command->conditions));
    return complete_version(change, command, &upload, &old, result);
}
