/* The table of shards that a survey fills, and its drives. */
#pragma once
#include "segment.h"
#include "storaged/survey.h"
#include "superblock.h"

enum shard_flag {
    SHARD_BAD = 1,
    SHARD_TORN = 2, /* bad, and what a crash leaves of a write that nobody was told of */
    SHARD_REFERRED = 4,
    SHARD_TRAILER = 8, /* known from the trailer only: its header is damaged */
};
struct survey_shard {
    struct block_id block;
    uint64_t segment;
    uint64_t hash;  /* first half of the payload's */
    uint32_t place; /* offset of the header / 4096 */
    uint32_t payload_bytes;
    uint32_t block_bytes;
    uint32_t unit_bytes;
    uint8_t drive;
    uint8_t slot;
    uint8_t data_shards;
    uint8_t parity_shards;
    uint8_t kind;
    uint8_t flags;
};
static_assert(sizeof(struct survey_shard) == 56);

struct survey_segment {
    uint64_t number;
    uint64_t created_ms;
    uint8_t nonce[RECORD_NONCE_BYTES];
    bool known;
};

struct drive_survey {
    struct survey *survey;
    uint32_t index;
    char *directory;
    struct file *lock;
    struct superblock *superblock; /* NULL: damaged */
    bool identified;
    uint8_t cluster_id[16];
    struct drive_id id;
    struct survey_segment *segments; /* by rising number */
    uint32_t segment_count, segment_capacity;
    uint64_t records, bad_records, torn_records, payload_bytes;
    enum err err;
};

struct survey {
    struct survey_options options;
    struct drive_survey drives[META_SHARDS_MAX];
    uint32_t drive_count;
    struct survey_shard *shards; /* sorted after the scan */
    uint64_t shard_count, shard_capacity, shards_max;
    uint64_t done_bytes, total_bytes;
};

void survey_report(struct survey *survey, const char *file, uint64_t offset, const char *what,
                   const struct block_id *block, uint8_t slot);
char *survey_segment_path(const struct drive_survey *drive, uint64_t segment);
/* NULL: not scanned. */
const struct survey_segment *survey_segment(const struct drive_survey *drive, uint64_t number);
/* ERR_LIMIT. */
enum err survey_add(struct survey *survey, const struct survey_shard *shard);

/* survey_scan.c: everything on one drive. */
enum err survey_scan_drive(struct io *io, struct drive_survey *drive);
