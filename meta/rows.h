/* Keys and values of every table of the state store. Byte layouts: docs/formats.md#rows.
 *
 * A key is a table tag and then fields in big endian, so that byte order is the order in which
 * the rows are read. Object keys hold no NUL, hence end with one and need no escape:
 *
 *     current   | 43 | bucket u64 | key bytes | 00 |
 *     upload    | 46 | bucket u64 | key bytes | 00 | upload u64 |
 *     part      | 47 | upload u64 | number u32 |
 *     referrer  | 4a | volume u64 | sequence u64 | kind u8 | id u64 |
 *
 * Each table belongs to one role: cluster (G0, later one group) or objects (later many groups).
 * An entry touches the tables of one role only. Every value starts with a version byte. Decoded
 * rows borrow from the encoded value. */
#pragma once
#include "codec.h"
#include "meta/types.h"

enum row_table {
    /* both roles: how far this replica is, and exactly-once results */
    TABLE_APPLIED = 0x01,
    TABLE_MEMBERSHIP = 0x02,
    TABLE_SESSION = 0x03,
    TABLE_RESULT = 0x04,
    /* cluster */
    TABLE_BUCKET_NAME = 0x10,
    TABLE_IDENTITY = 0x11,
    TABLE_ROOT = 0x12,
    TABLE_DRIVE = 0x13,
    TABLE_VOLUME = 0x14,
    TABLE_LEASE = 0x15,
    TABLE_NODE = 0x16,   /* reserved */
    TABLE_POLICY = 0x17, /* reserved */
    /* objects */
    TABLE_BUCKET = 0x40,
    TABLE_BUCKET_CONFIG = 0x41,
    TABLE_BUCKET_COUNTERS = 0x42, /* reserved */
    TABLE_CURRENT = 0x43,
    TABLE_HISTORY = 0x44, /* reserved: bucket, key, 00, inverted stamp */
    TABLE_INLINE = 0x45,
    TABLE_UPLOAD = 0x46,
    TABLE_PART = 0x47,
    TABLE_MANIFEST = 0x48,
    TABLE_MANIFEST_REFERRER = 0x49,
    TABLE_REFERRER = 0x4a,
    TABLE_CLOSED = 0x4b,
    TABLE_INTENT = 0x4c,
    TABLE_INTENT_BLOCK = 0x4d,
    TABLE_FREE = 0x4e,
    TABLE_JOB = 0x4f,
    TABLE_REPAIR = 0x50, /* blocks with missing shards */
};

enum {
    ROW_VERSION = 1,
    ROW_KEY_BYTES_MAX = 1 + 8 + META_KEY_BYTES_MAX + 1 + 8,
    ROW_VALUE_BYTES_MAX = 64 << 10,
    MANIFEST_SEGMENT_PARTS = 128,
    OWNER_BYTES_MAX = 64,
};

/* --- keys --- */

struct row_key {
    size_t bytes;
    uint8_t data[ROW_KEY_BYTES_MAX];
};

/* Borrowed from `key`. */
static inline struct slice row_key_slice(const struct row_key *key)
{
    return slice_of(key->data, key->bytes);
}

/* A key of the table's tag and `count` (<= 3) numbers. Also the start of all keys with these
 * first fields. */
struct row_key row_key_numbers(enum row_table table, unsigned count, uint64_t a, uint64_t b,
                               uint64_t c);
static inline struct row_key row_key_table(enum row_table table)
{
    return row_key_numbers(table, 0, 0, 0, 0);
}
static inline struct row_key row_key_1(enum row_table table, uint64_t a)
{
    return row_key_numbers(table, 1, a, 0, 0);
}
static inline struct row_key row_key_2(enum row_table table, uint64_t a, uint64_t b)
{
    return row_key_numbers(table, 2, a, b, 0);
}
static inline struct row_key row_key_3(enum row_table table, uint64_t a, uint64_t b, uint64_t c)
{
    return row_key_numbers(table, 3, a, b, c);
}
/* The tag, then the bytes: bucket names, access keys, drive ids. */
struct row_key row_key_bytes(enum row_table table, struct slice bytes);
/* The tag, the bucket, then a part of an object key without the NUL: where a listing seeks. */
struct row_key row_key_name_prefix(enum row_table table, uint64_t bucket_id, struct slice prefix);
struct row_key row_key_bucket_config(uint64_t bucket_id, enum bucket_config_kind kind);
struct row_key row_key_current(uint64_t bucket_id, struct slice key);
struct row_key row_key_upload(uint64_t bucket_id, struct slice key, uint64_t upload_id);
struct row_key row_key_part(uint64_t upload_id, uint32_t number);

enum referrer_kind { REFERRER_VERSION = 1, REFERRER_PART = 2, REFERRER_INTENT = 3 };
struct referrer {
    enum referrer_kind kind;
    uint64_t id; /* stamp, part id or intent id */
};
struct row_key row_key_referrer(struct block_id block, struct referrer referrer);

/* Turn a key into the first key after all keys that start with it. */
void row_key_next_prefix(struct row_key *key);
/* Fields of keys read back. ERR_CORRUPT when the key does not have the table's shape. */
enum err row_key_read_numbers(struct slice key, enum row_table table, unsigned count,
                              uint64_t *out_numbers);
/* `out_name` is borrowed; `out_upload_id` NULL: a row of the current table. */
enum err row_key_read_name(struct slice key, enum row_table table, struct slice *out_name,
                           uint64_t *out_upload_id);
enum err row_key_read_part(struct slice key, uint32_t *out_number);

/* --- values --- */

/* Everything the replica counts; in every batch. */
struct applied_row {
    uint64_t index, term;
    uint64_t hash;     /* over the former hash, this row and the batch */
    uint64_t tick_ms;  /* the largest Tick */
    uint64_t clock_ms; /* Tick time: grows with tick_ms, but not over gaps */
    uint64_t stamp;    /* last one given */
    uint64_t bucket_id, volume_id;
    uint64_t free_position; /* last one given, free list and jobs */
    uint64_t intent_count;
};

struct session_row {
    uint64_t holder, boot;
    uint64_t clock_ms; /* Tick time when it was opened, or renewed by a Tick */
};
/* A session's present done_below and last use are the largest of its result rows. */
struct result_row {
    uint64_t done_below, clock_ms;
    struct slice result;
};

enum bucket_state { BUCKET_CREATING = 1, BUCKET_LIVE = 2, BUCKET_DELETING = 3 };
struct bucket_row {
    enum bucket_state state;
    uint64_t attempt; /* counts the tries to delete it */
    struct bucket bucket;
};
/* What the object role knows of a bucket. A closed one stays as a tombstone: a late open must
 * not revive it. */
struct bucket_open_row {
    bool open;
    uint64_t attempt; /* the last try to delete that found it not empty */
};

struct identity_row {
    struct slice secret_key;
};
struct drive_row {
    uint64_t node_id, capacity_bytes, mount_counter, boot;
    enum drive_standing standing;
};
struct volume_row {
    struct volume volume;
    uint64_t next_sequence; /* first one that no lease has */
};
enum lease_state { LEASE_OPEN = 1, LEASE_CLOSING = 2 };
struct lease_row {
    enum lease_state state;
    uint64_t to, epoch, holder, boot;
};

/* What a listing shows comes first, so that it reads no further. */
struct version_row {
    uint64_t stamp, modified_ms, bytes;
    struct object_etag etag;
    struct object_checksum checksum;
    enum object_layout layout;
    uint64_t origin_session, origin_sequence; /* CLUSTER.md C1.3 */
    uint64_t upload_id;                       /* made by this upload, else 0 */
    uint64_t manifest;                        /* LAYOUT_PARTS: upload whose parts it has */
    struct block_id write_id;
    struct slice attributes, tags;
    struct slice blocks; /* LAYOUT_BLOCKS: BLOCK_REF_BYTES each */
};
struct upload_row {
    uint64_t created_ms;
    uint8_t checksum_algorithm, checksum_type;
    struct slice attributes, tags;
};
struct part_row {
    struct part part;
    struct slice blocks;
};
/* Up to MANIFEST_SEGMENT_PARTS parts in order; the key has the offset of the first. */
struct manifest_row {
    uint32_t count;
    struct part parts[MANIFEST_SEGMENT_PARTS];
};
struct referrer_row {
    uint32_t bytes, missing;
    struct hash128 hash;
    uint64_t bucket_id; /* with the key: for people who look for the reason */
    struct slice key;
};
struct intent_row {
    uint64_t bucket_id;
    uint64_t renewed_ms; /* Tick time of the last stage */
    uint32_t block_count;
};
enum job_kind {
    JOB_PARTS = 1,    /* free all parts and the manifest of upload `id` */
    JOB_LEFTOVER = 2, /* free the parts of upload `id` that are not in `kept` */
    JOB_UPLOADS = 3,  /* abort all uploads of bucket `id` */
};
struct job_row {
    enum job_kind kind;
    uint64_t id;
    uint32_t cursor;   /* JOB_LEFTOVER: part numbers up to this one are done */
    struct slice kept; /* JOB_LEFTOVER: bit per part number */
};

/* One pair per row type. Encoders append; the caller's `out` is large enough
 * (ROW_VALUE_BYTES_MAX). Decoders answer ERR_CORRUPT or ERR_UNSUPPORTED. */
#define ROW_TYPES(X)                                                                               \
    X(applied_row)                                                                                 \
    X(session_row)                                                                                 \
    X(result_row)                                                                                  \
    X(bucket_row)                                                                                  \
    X(bucket_open_row)                                                                             \
    X(identity_row)                                                                                \
    X(drive_row)                                                                                   \
    X(volume_row)                                                                                  \
    X(lease_row)                                                                                   \
    X(version_row)                                                                                 \
    X(upload_row)                                                                                  \
    X(part_row)                                                                                    \
    X(manifest_row)                                                                                \
    X(referrer_row)                                                                                \
    X(intent_row)                                                                                  \
    X(job_row)
#define DECLARE_ROW(type)                                                                          \
    void type##_encode(struct bytes *out, const struct type *row);                                 \
    enum err type##_decode(struct slice value, struct type *out_row);
ROW_TYPES(DECLARE_ROW)
#undef DECLARE_ROW

/* Rows whose value is one of these alone: a block (intent block), its id (free list), a number
 * (closed ranges, missing shards), nothing (manifest referrers), bytes (root access key,
 * inline bytes). */
void block_row_encode(struct bytes *out, const struct block_ref *ref);
enum err block_row_decode(struct slice value, struct block_ref *out_ref);
void block_id_row_encode(struct bytes *out, struct block_id id);
enum err block_id_row_decode(struct slice value, struct block_id *out_id);
void number_row_encode(struct bytes *out, uint64_t number);
enum err number_row_decode(struct slice value, uint64_t *out_number);
void bytes_row_encode(struct bytes *out, struct slice bytes);
enum err bytes_row_decode(struct slice value, struct slice *out_bytes);

/* The fields of a version that a listing shows, without reading the rest. */
enum err version_row_decode_head(struct slice value, struct version_row *out_row);
static inline uint32_t row_block_count(struct slice blocks)
{
    return (uint32_t)(blocks.bytes / BLOCK_REF_BYTES);
}
static inline struct block_ref row_block(struct slice blocks, uint32_t index)
{
    return block_ref_load(blocks.data + (size_t)index * BLOCK_REF_BYTES);
}
