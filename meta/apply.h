/* The verdicts of the state machine, one function a command, and what they share.
 *
 * Each reads and writes rows through the change. An error is the command's result and its writes
 * are dropped, unless the change is broken. Sizes of single fields were checked when the entry
 * was decoded. */
#pragma once
#include "change.h"
#include "entry.h"
#include "state.h"

/* --- state_bucket.c (TAKE, SETTLE, MARK, FORGET: cluster role; OPEN, CLOSE, CONFIG: object
 * role) --- */
enum err apply_bucket_take(struct change *change, const struct command_bucket *command,
                           struct result *result);
enum err apply_bucket_settle(struct change *change, const struct command_bucket *command);
enum err apply_bucket_mark(struct change *change, const struct command_bucket *command,
                           struct result *result);
enum err apply_bucket_forget(struct change *change, const struct command_bucket *command);
enum err apply_bucket_open(struct change *change, const struct command_bucket *command);
enum err apply_bucket_close(struct change *change, const struct command_bucket *command);
enum err apply_bucket_config(struct change *change, const struct command_config *command);
/* ERR_NOT_FOUND: the bucket takes no objects. */
enum err bucket_check_open(struct change *change, uint64_t bucket_id);

/* --- state_cluster.c --- */
enum err apply_identity_put(struct change *change, const struct identity *command);
enum err apply_drive_register(struct change *change, const struct drive_record *command);
enum err apply_drive_standing(struct change *change, const struct drive_record *command);
enum err apply_drive_forget(struct change *change, const struct drive_record *command);
enum err apply_volume_create(struct change *change, const struct command_volume *command,
                             struct result *result);
enum err apply_repair_start(struct change *change, const struct command_repair *command,
                            struct result *result);
enum err apply_repair_done(struct change *change, const struct command_repair *command,
                           struct result *result);
enum err apply_repair_cancel(struct change *change, const struct command_repair *command,
                             struct result *result);
enum err apply_lease_open(struct change *change, const struct command_lease *command,
                          struct result *result);
enum err apply_lease_closing(struct change *change, const struct command_lease *command,
                             struct result *result);
enum err apply_lease_closed(struct change *change, const struct command_lease *command);

/* --- state_object.c --- */
enum err apply_object_put(struct change *change, const struct command_put *command,
                          struct result *result);
enum err apply_object_copy(struct change *change, const struct command_copy *command,
                           struct result *result);
enum err apply_object_delete(struct change *change, const struct command_delete *command,
                             struct result *result);
enum err apply_object_tag(struct change *change, const struct command_tag *command);

/* The current version of a key, held together with the bytes it was decoded from. */
struct version {
    bool exists;
    struct version_row row;
    struct bytes value;
};
void version_deinit(struct version *version);
enum err version_read(struct change *change, uint64_t bucket_id, struct slice key,
                      struct version *out_version);
/* ERR_PRECONDITION, or ERR_NOT_FOUND for a condition on a missing key. */
enum err version_judge(const struct version *version, const struct write_conditions *conditions);
/* Make `row` the current version instead of `old`, whose bytes and blocks are given up. Fills
 * stamp, time and origin; the caller took the references of the new one's blocks before. */
enum err version_replace(struct change *change, uint64_t bucket_id, struct slice key,
                         const struct version *old, struct version_row *row, struct result *result);

/* --- state_upload.c --- */
enum err apply_upload_create(struct change *change, const struct command_upload *command,
                             struct result *result);
enum err apply_part_put(struct change *change, const struct command_put *command,
                        struct result *result);
enum err apply_upload_complete(struct change *change, const struct command_complete *command,
                               struct result *result);
enum err apply_upload_abort(struct change *change, const struct command_upload *command);

/* --- state_block.c --- */
enum err apply_block_stage(struct change *change, const struct command_stage *command,
                           struct result *result);
enum err apply_intent_drop(struct change *change, uint64_t intent);
enum err apply_intent_renew(struct change *change, uint64_t intent);
enum err apply_lease_refuse(struct change *change, const struct command_lease *command);
enum err apply_blocks_repaired(struct change *change, const struct command_repaired *command);
enum err apply_free_done(struct change *change, const struct command_free_done *command);
/* Drop a bounded number of intents that were not renewed for INTENT_IDLE_MS. */
enum err intents_expire(struct change *change);

/* Shape of a put: lengths add up, no block twice. ERR_INVALID. Also what the client checks
 * before it proposes. */
enum err put_check(const struct command_put *command);
/* The blocks of a put become referred to by `owner`. Those of its intent lose the intent's
 * reference; blocks of the intent that the put does not name are given up. ERR_STALE_EPOCH. */
enum err blocks_claim(struct change *change, const struct command_put *command,
                      struct referrer owner);
/* Add a reference to blocks that have one already. */
enum err blocks_share(struct change *change, struct slice blocks, uint64_t bucket_id,
                      struct slice key, struct referrer owner);
/* Drop references; a block without any goes to the free list. */
enum err blocks_unlink(struct change *change, struct slice blocks, struct referrer owner);
/* The fixed form of a put's block list. */
void blocks_encode(struct bytes *out, const struct command_put *command);

/* --- state_job.c --- */
enum err apply_expand(struct change *change);
enum err job_add(struct change *change, const struct job_row *job);

static inline uint64_t change_stamp(struct change *change)
{
    return ++change->applied.stamp;
}

/* Times never go back for a key; they decide nothing. */
static inline uint64_t change_time_ms(const struct change *change, uint64_t former_ms)
{
    return change->wall_ms > former_ms ? change->wall_ms : former_ms;
}

static inline void result_stamp(struct result *result, uint64_t stamp, uint64_t modified_ms)
{
    result->kind = RESULT_STAMP;
    result->written = (struct object_written){.stamp = stamp, .modified_ms = modified_ms};
}

/* Read and decode one row: CHANGE_READ(change, &key, lease_row, &bytes, &row). */
#define CHANGE_READ(change, key, type, value, out_row)                                             \
    __extension__({                                                                                \
        enum err read_ = change_get((change), (key), (value));                                     \
        if (read_ == OK)                                                                           \
            read_ = change_check((change), type##_decode(bytes_slice(value), (out_row)));          \
        read_;                                                                                     \
    })
/* Encode and put one row. */
#define CHANGE_WRITE(change, key, type, row)                                                       \
    do {                                                                                           \
        AUTO_VALUE(bytes) write_ = {.max = ROW_VALUE_BYTES_MAX};                                   \
        type##_encode(&write_, (row));                                                             \
        change_put((change), (key), &write_);                                                      \
    } while (0)
