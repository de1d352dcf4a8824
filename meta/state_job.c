/* Jobs: what is too long for one entry is noted in one row and done in bounded steps by later
 * COMMAND_EXPAND entries. Until its step comes, a block stays live. */
#include "apply.h"

enum {
    STEP_ROWS_MAX = 1024,  /* rows looked at */
    STEP_BLOCKS_MAX = 512, /* blocks freed; one part more may come on top */
    STEP_UPLOADS_MAX = 64,
};

static_assert(MANIFEST_SEGMENT_PARTS * STEP_ROWS_MAX >=
              META_PARTS_MAX); /* a manifest is one step */

enum err job_add(struct change *change, const struct job_row *job)
{
    struct row_key key = row_key_1(TABLE_JOB, ++change->applied.free_position);
    CHANGE_WRITE(change, &key, job_row, job);
    return change->broken;
}

static bool job_keeps(const struct job_row *job, uint32_t number)
{
    return job->kind == JOB_LEFTOVER && (job->kept.data[number / 8] >> (number % 8) & 1) != 0;
}

/* A step over the parts of the job's upload from its cursor on. *out_done: it was the last one. */
static enum err parts_step(struct change *change, struct job_row *job, bool *out_done)
{
    struct row_key prefix = row_key_1(TABLE_PART, job->id);
    struct row_key cursor = row_key_part(job->id, job->cursor);
    uint32_t rows = 0;
    uint32_t blocks = 0;
    struct change_scan scan;
    change_scan_init(&scan, change, &prefix);
    if (job->cursor > 0)
        change_scan_after(&scan, &cursor);
    *out_done = true;
    while (change_scan_next(&scan)) {
        if (rows == STEP_ROWS_MAX || blocks >= STEP_BLOCKS_MAX) {
            *out_done = false;
            break;
        }
        struct part_row row;
        if (change_check(change, part_row_decode(scan.value, &row)) != OK)
            break;
        rows++;
        job->cursor = row.part.number;
        if (job_keeps(job, row.part.number))
            continue;
        blocks += row_block_count(row.blocks);
        struct referrer owner = {.kind = REFERRER_PART, .id = row.part.id};
        if (blocks_unlink(change, row.blocks, owner) != OK)
            break;
        change_delete_at(change, scan.key);
    }
    change_scan_deinit(&scan);
    return change->broken;
}

static enum err manifest_delete(struct change *change, uint64_t manifest)
{
    struct row_key prefix = row_key_1(TABLE_MANIFEST, manifest);
    struct change_scan scan;
    change_scan_init(&scan, change, &prefix);
    while (change_scan_next(&scan))
        change_delete_at(change, scan.key);
    change_scan_deinit(&scan);
    return change->broken;
}

static enum err uploads_step(struct change *change, uint64_t bucket_id, bool *out_done)
{
    struct row_key prefix = row_key_1(TABLE_UPLOAD, bucket_id);
    struct change_scan scan;
    change_scan_init(&scan, change, &prefix);
    uint32_t count = 0;
    *out_done = true;
    while (change_scan_next(&scan)) {
        if (count++ == STEP_UPLOADS_MAX) {
            *out_done = false;
            break;
        }
        struct slice name;
        uint64_t upload_id = 0;
        if (change_check(change, row_key_read_name(scan.key, TABLE_UPLOAD, &name, &upload_id)) !=
            OK)
            break;
        change_delete_at(change, scan.key);
        struct job_row job = {.kind = JOB_PARTS, .id = upload_id};
        if (job_add(change, &job) != OK)
            break;
    }
    change_scan_deinit(&scan);
    return change->broken;
}

static enum err job_step(struct change *change, struct job_row *job, bool *out_done)
{
    switch (job->kind) {
    case JOB_PARTS:
        TRY(parts_step(change, job, out_done));
        return *out_done ? manifest_delete(change, job->id) : OK;
    case JOB_LEFTOVER:
        return parts_step(change, job, out_done);
    case JOB_UPLOADS:
        return uploads_step(change, job->id, out_done);
    }
    return change_check(change, FAIL(ERR_CORRUPT, "job of kind=%d", job->kind));
}

/* The first job, with the bytes it borrows from. ERR_NOT_FOUND. */
static enum err job_first(struct change *change, struct row_key *out_key, struct bytes *value,
                          struct job_row *out_job)
{
    struct row_key prefix = row_key_table(TABLE_JOB);
    struct change_scan scan;
    change_scan_init(&scan, change, &prefix);
    bool found = change_scan_next(&scan);
    if (found) {
        *out_key = scan.last;
        bytes_append(value, scan.value);
    }
    change_scan_deinit(&scan);
    TRY(change->broken);
    if (!found)
        return ERR_NOT_FOUND;
    return change_check(change, job_row_decode(bytes_slice(value), out_job));
}

enum err apply_expand(struct change *change)
{
    struct row_key key;
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct job_row job;
    enum err err = job_first(change, &key, &value, &job);
    if (err == ERR_NOT_FOUND)
        return OK;
    TRY(err);
    bool done = false;
    TRY(job_step(change, &job, &done));
    if (done)
        change_delete(change, &key);
    else
        CHANGE_WRITE(change, &key, job_row, &job);
    return OK;
}
