/* Log entries of the state machine: commands, and the results they leave.
 *
 *     entry   | version u8 | wall ms | session | sequence | done below | command ... |
 *     command | version u8 | type | fields ... |
 *     result  | version u8 | outcome | err | kind | fields ... |
 *
 * Encoders and decoders share one walk (codec.h). Decoders are safe on any bytes. Byte layouts:
 * docs/formats.md#entries. */
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "meta/client.h"
#include "rows.h"

enum {
    ENTRY_VERSION = 1,
    ENTRY_BYTES_MAX = 1 << 20,
    RESULT_BYTES_MAX = 4096,
    LEASE_SEQUENCES = 65536,
    FREE_DONE_MAX = 4096, /* positions of one entry */
    BLOCKS_REPAIRED_MAX = 1024,
};

struct entry_header {
    uint64_t wall_ms;    /* of the proposer */
    uint64_t session;    /* 0: COMMAND_OPEN_SESSION; COMMAND_TICK: 0, or the one it keeps alive */
    uint64_t sequence;   /* of the proposal in its session, from 1 */
    uint64_t done_below; /* results of smaller sequences will not be asked for again */
};

/* Append the header; the encoded command follows it. */
void entry_header_encode(struct bytes *out, const struct entry_header *header);
/* `out_command` is borrowed. ERR_CORRUPT, ERR_UNSUPPORTED. */
enum err entry_decode(struct slice entry, struct entry_header *out_header,
                      struct slice *out_command);

/* Numbers are stored: append only. Below 64: cluster role, 64 and up: object role; no entry
 * touches both. */
enum command_type {
    COMMAND_OPEN_SESSION = 1,
    COMMAND_TICK = 2,
    COMMAND_BUCKET_TAKE = 16,   /* take the name: creating */
    COMMAND_BUCKET_SETTLE = 17, /* creating or deleting -> live */
    COMMAND_BUCKET_MARK = 18,   /* live -> deleting */
    COMMAND_BUCKET_FORGET = 19, /* the name is free */
    COMMAND_IDENTITY_PUT = 20,
    COMMAND_DRIVE_REGISTER = 21,
    COMMAND_VOLUME_CREATE = 22,
    COMMAND_LEASE_OPEN = 23,
    COMMAND_LEASE_CLOSING = 24,
    COMMAND_LEASE_CLOSED = 25,
    COMMAND_DRIVE_STANDING = 26,
    COMMAND_DRIVE_FORGET = 27,
    COMMAND_REPAIR_START = 28,
    COMMAND_REPAIR_DONE = 29,
    COMMAND_REPAIR_CANCEL = 30,
    COMMAND_BUCKET_OPEN = 64,  /* objects may be put */
    COMMAND_BUCKET_CLOSE = 65, /* it is empty, and no object may be put any more */
    COMMAND_OBJECT_PUT = 66,
    COMMAND_OBJECT_COPY = 67,
    COMMAND_OBJECT_DELETE = 68,
    COMMAND_UPLOAD_CREATE = 69,
    COMMAND_PART_PUT = 70,
    COMMAND_UPLOAD_COMPLETE = 71,
    COMMAND_UPLOAD_ABORT = 72,
    COMMAND_BLOCK_STAGE = 73,
    COMMAND_INTENT_DROP = 74,
    COMMAND_LEASE_REFUSE = 75, /* no block of the lease is accepted any more */
    COMMAND_FREE_DONE = 76,
    COMMAND_EXPAND = 77, /* a bounded step of the first job */
    COMMAND_INTENT_RENEW = 78,
    COMMAND_BLOCKS_REPAIRED = 79,
    COMMAND_OBJECT_TAG = 80,    /* replace the tags of the current version */
    COMMAND_BUCKET_CONFIG = 81, /* set, or take away, what a bucket has of one kind */
};

struct command_session {
    uint64_t holder, boot;
};
struct command_tick {
    uint64_t tick_ms; /* wall clock of the leader, never smaller than the one before */
};
struct command_bucket {
    struct slice name, owner, region;
    uint64_t id, attempt, group;
};
struct command_repair {
    uint64_t volume, repair; /* COMMAND_REPAIR_START: no repair, but slots and drives */
    uint32_t slots;
    struct drive_id drives[META_SHARDS_MAX];
};
struct command_repaired {
    struct block_ref *blocks; /* owned by the command after decoding; id and missing count */
    uint32_t count;
};
struct command_volume {
    uint8_t data_shards, parity_shards;
    struct drive_id slots[META_SHARDS_MAX];
};
struct command_lease {
    uint64_t volume, from, to, holder, boot;
};

/* A block and the sequences [lease_from, lease_to) of its volume that the lease it was written
 * under covers. */
struct block_use {
    struct block_ref ref;
    uint64_t lease_from, lease_to;
};
struct command_put {
    uint64_t bucket_id;
    struct slice key;
    struct write_conditions conditions;
    uint64_t bytes;
    struct object_etag etag;
    struct object_checksum checksum;
    struct slice attributes, tags;
    struct slice inline_bytes;
    struct block_use *uses; /* owned by the command after decoding */
    uint32_t use_count;
    uint64_t intent;
    uint64_t upload_id; /* COMMAND_PART_PUT */
    uint32_t part_number;
};
struct command_copy {
    uint64_t source_bucket_id;
    struct slice source_key;
    uint64_t source_stamp;
    uint64_t bucket_id;
    struct slice key;
    struct write_conditions conditions;
    struct object_checksum checksum;
    struct slice attributes;
    bool replace_tags;
    struct slice tags;
};
struct command_delete {
    uint64_t bucket_id;
    struct slice key;
    struct write_conditions conditions;
};
struct command_upload {
    uint64_t bucket_id;
    struct slice key;
    uint64_t upload_id;
    struct slice attributes, tags;
    uint8_t checksum_algorithm, checksum_type;
};
struct command_tag {
    uint64_t bucket_id;
    struct slice key;
    struct slice tags;
};
struct command_config {
    uint64_t bucket_id;
    enum bucket_config_kind kind;
    struct slice value; /* empty: there is none any more */
};
struct part_name {
    uint32_t number;
    uint64_t id;
};
struct command_complete {
    uint64_t bucket_id;
    struct slice key;
    uint64_t upload_id;
    struct write_conditions conditions;
    struct part_name *parts; /* owned after decoding */
    uint32_t part_count;
    struct object_etag etag;
    struct object_checksum checksum;
};
struct command_stage {
    uint64_t bucket_id, intent;
    struct block_use use;
};
struct command_free_done {
    uint64_t *positions; /* owned after decoding */
    uint32_t count;
};

struct command {
    enum command_type type;
    union {
        struct command_session session;
        struct command_tick tick;
        struct command_bucket bucket;
        struct identity identity;
        struct drive_record drive;
        struct command_repair repair;
        struct command_repaired repaired;
        struct command_volume volume;
        struct command_lease lease;
        struct command_put put;
        struct command_copy copy;
        struct command_delete delete;
        struct command_upload upload;
        struct command_tag tag;
        struct command_config config;
        struct command_complete complete;
        struct command_stage stage;
        uint64_t intent;
        struct command_free_done free_done;
    };
    void *memory; /* arrays of a decoded command */
};

/* `command` is within the limits of its types: what callers pass is checked by the client
 * before. ERR_LIMIT. */
enum err command_encode(struct bytes *out, const struct command *command);
/* Slices are borrowed from `bytes`, arrays belong to the command. On error there is nothing to
 * free. ERR_CORRUPT, ERR_UNSUPPORTED. Fields are within the limits of types.h; relations between
 * them are judged by apply. */
enum err command_decode(struct slice bytes, struct command *out_command);
void command_deinit(struct command *command);

enum result_outcome {
    RESULT_APPLIED = 1,        /* `err` is the verdict of the state machine, OK included */
    RESULT_STALE = 2,          /* below done_below: its result is gone. Nothing was changed */
    RESULT_SESSION_CLOSED = 3, /* nothing was changed */
};
enum result_kind {
    RESULT_NOTHING = 0,
    RESULT_STAMP = 1, /* stamp, modified_ms: a version, part, upload or intent; the session's id */
    RESULT_DELETED = 2,
    RESULT_BUCKET = 3,
    RESULT_VOLUME = 4,
    RESULT_LEASE = 5,
};
struct result {
    enum result_outcome outcome;
    enum err err;
    enum result_kind kind;
    union {
        struct object_written written;
        bool deleted;
        struct bucket_row bucket; /* also with ERR_EXISTS */
        struct volume volume;
        struct lease lease;
    };
};
void result_encode(struct bytes *out, const struct result *result);
enum err result_decode(struct slice bytes, struct result *out_result);
