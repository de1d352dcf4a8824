/* What the metadata service keeps, as the callers see it. Encodings: docs/formats.md#rows. */
#pragma once
#include "base/hash.h"
#include "base/own.h"
#include "base/slice.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    META_KEY_BYTES_MAX = 1024,
    META_BUCKET_NAME_BYTES_MAX = 63,
    META_INLINE_BYTES_MAX = 16 << 10, /* larger objects live in blocks */
    META_ATTRIBUTES_BYTES_MAX = 16 << 10,
    META_TAGS_BYTES_MAX = 16 << 10,
    META_BUCKET_CONFIG_BYTES_MAX = (64 << 10) - 16, /* fits a row */
    META_BLOCK_BYTES_MAX = 64 << 20,
    META_OBJECT_BLOCKS_MAX = 256, /* of one PUT or part: 5 GiB, and blocks closed early */
    META_PARTS_MAX = 10000,
    META_LIST_MAX = 1000, /* entries of one page */
    META_CHECKSUM_BYTES_MAX = 64,
    META_SHARDS_MAX = 24, /* k + m */
};

/* Never used again, not even on retry (CLUSTER.md I18). The null id is {0, 0}. */
struct block_id {
    uint64_t volume;
    uint64_t sequence;
};

static inline bool block_id_equal(struct block_id a, struct block_id b)
{
    return a.volume == b.volume && a.sequence == b.sequence;
}

/* What an object knows of a block; profile and places come from the volume. */
struct block_ref {
    struct block_id id;
    struct hash128 hash; /* XXH3-128 of the block's plain bytes */
    uint32_t bytes;      /* 1..META_BLOCK_BYTES_MAX */
    uint32_t missing;    /* bit per slot that was not durable when the block was acknowledged */
};

/* The right to write blocks [from, to) of a volume. Blocks outside any open lease are refused
 * in apply. */
struct lease {
    uint64_t volume;
    uint64_t from; /* with `volume` it is the lease's identity */
    uint64_t to;
    uint64_t epoch; /* of the volume */
    uint8_t data_shards;
    uint8_t parity_shards;
};

struct object_checksum {
    uint8_t algorithm; /* the gateway's numbers (s3/checksum.h), 0 = none */
    uint8_t type;      /* likewise: composite or full object */
    uint8_t bytes;     /* 0..META_CHECKSUM_BYTES_MAX */
    uint8_t value[META_CHECKSUM_BYTES_MAX];
};

struct object_etag {
    uint8_t md5[16];
    uint32_t part_count; /* 0: ETag is hex(md5), else hex(md5)-part_count */
};

static inline bool object_etag_equal(const struct object_etag *a, const struct object_etag *b)
{
    return a->part_count == b->part_count && memcmp(a->md5, b->md5, 16) == 0;
}

enum object_layout {
    LAYOUT_INLINE = 1, /* bytes in the state store; also the empty object */
    LAYOUT_BLOCKS = 2, /* block list in the version row */
    LAYOUT_PARTS = 3,  /* list of parts in manifest rows; each part keeps its blocks */
};

/* One version of an object, decoded; one allocation, freed with object_free. */
struct object {
    uint64_t bucket_id;
    struct slice key;
    uint64_t stamp; /* version order; never used twice in a group */
    uint64_t modified_ms;
    uint64_t bytes;
    struct object_etag etag;
    struct object_checksum checksum;
    struct slice attributes; /* the gateway's encoding of headers and user metadata */
    struct slice tags;       /* likewise of its tags; what changes without a new version */
    enum object_layout layout;
    uint32_t block_count; /* LAYOUT_BLOCKS */
    const struct block_ref *blocks;
    uint64_t upload_id;        /* of the multipart upload that made it, else 0 */
    uint64_t manifest;         /* LAYOUT_PARTS: the upload whose parts it has, also of a copy */
    struct block_id write_id;  /* id of its first block, null when inline */
    struct slice inline_bytes; /* filled when asked for and LAYOUT_INLINE */
};
void object_free(struct object *object);
DEFINE_AUTO(object, object_free)

/* Conditions of a write, judged in apply against the current version. */
enum condition_rule {
    CONDITION_NONE = 0,
    CONDITION_ABSENT = 1,  /* If-None-Match: * */
    CONDITION_PRESENT = 2, /* If-Match: * */
    CONDITION_ETAG = 3,    /* If-Match: etag */
    CONDITION_STAMP = 4,   /* the version read before is still the current one */
};
struct write_conditions {
    enum condition_rule kind;
    struct object_etag etag; /* CONDITION_ETAG */
    uint64_t stamp;          /* CONDITION_STAMP */
    /* When not 0: If-Match-Last-Modified-Time of DELETE, compared in whole seconds. */
    uint64_t modified_ms;
    uint64_t bytes; /* If-Match-Size of DELETE, when has_bytes */
    bool has_bytes;
};

struct bucket {
    uint64_t id;
    uint64_t created_ms;
    uint64_t group; /* Raft group that holds its objects */
    char name[META_BUCKET_NAME_BYTES_MAX + 1];
    char owner[65];  /* access key id of its creator */
    char region[65]; /* LocationConstraint as given, may be empty */
};

/* What may be set for a bucket, one value of each kind, in the gateway's encoding. Numbers are
 * stored: append only. */
enum bucket_config_kind {
    BUCKET_CONFIG_TAGS = 1,
    BUCKET_CONFIG_CORS = 2,
};
enum { BUCKET_CONFIG_KIND_MAX = BUCKET_CONFIG_CORS };

struct bucket_page {
    struct bucket *buckets;
    uint32_t count;
    bool truncated; /* continue after the last name */
};
void bucket_page_free(struct bucket_page *page);
DEFINE_AUTO(bucket_page, bucket_page_free)

struct list_entry {
    struct slice key; /* the common prefix when is_prefix */
    bool is_prefix;
    uint64_t stamp;
    uint64_t modified_ms;
    uint64_t bytes;
    struct object_etag etag;
    uint8_t checksum_algorithm;
    uint8_t checksum_type;
    /* uploads: */
    uint64_t upload_id;
};

/* One allocation with everything its entries point to. */
struct list_page {
    struct list_entry *entries;
    uint32_t count;
    bool truncated; /* continue with after = the last entry's key (and upload id) */
};
void list_page_free(struct list_page *page);
DEFINE_AUTO(list_page, list_page_free)

struct part {
    uint32_t number; /* 1..META_PARTS_MAX */
    uint64_t id;     /* stamp: a re-uploaded number gets a new one */
    uint64_t bytes;
    uint64_t modified_ms;
    struct object_etag etag;
    struct object_checksum checksum;
};

struct part_page {
    struct part *parts;
    uint32_t count;
    bool truncated;
};
void part_page_free(struct part_page *page);
DEFINE_AUTO(part_page, part_page_free)

struct upload {
    uint64_t bucket_id;
    struct slice key;
    uint64_t id;
    uint64_t created_ms;
    uint8_t checksum_algorithm; /* of the whole upload, 0 = none asked */
    uint8_t checksum_type;
    struct slice attributes;
    struct slice tags;
};
void upload_free(struct upload *upload);
DEFINE_AUTO(upload, upload_free)

/* A piece of an object: bytes [offset, offset + ref.bytes) of it are the block's bytes. */
struct extent {
    uint64_t offset;
    struct block_ref ref;
};
struct extent_page {
    struct extent *extents;
    uint32_t count;
};
void extent_page_free(struct extent_page *page);
DEFINE_AUTO(extent_page, extent_page_free)

enum volume_state { VOLUME_OPEN = 1, VOLUME_SEALED = 2, VOLUME_REPAIRING = 3, VOLUME_RETIRED = 4 };
struct drive_id {
    uint8_t bytes[16];
};

static inline bool drive_id_equal(const struct drive_id *a, const struct drive_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

enum drive_standing {
    DRIVE_IN_SERVICE = 1,
    DRIVE_DRAINING = 2, /* its slots are moved to others; gets no new ones */
    DRIVE_LOST = 3,     /* its slots are rebuilt elsewhere; counts again when it registers */
};
struct drive_record {
    struct drive_id id;
    uint64_t node_id;
    uint64_t capacity_bytes;
    uint64_t mount_counter; /* of its superblock, at its last register */
    uint64_t boot;          /* nonce of the start that registered it */
    enum drive_standing standing;
};

/* Slots of a volume on their way to other drives. */
struct volume_repair {
    uint64_t id;    /* 0: none */
    uint64_t epoch; /* since the volume is in repair; shards written for it carry this one */
    uint32_t slots; /* bit per slot */
    struct drive_id drives[META_SHARDS_MAX]; /* of those slots */
};

struct volume {
    uint64_t id;
    uint64_t epoch;
    enum volume_state state;
    uint8_t data_shards;
    uint8_t parity_shards;
    struct drive_id slots[META_SHARDS_MAX]; /* data_shards + parity_shards of them */
    /* Since when the slot is on its drive: older records of the slot there are no part of it. */
    uint64_t slot_epochs[META_SHARDS_MAX];
    struct volume_repair repair;
};
