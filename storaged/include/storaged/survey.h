/* What is on the drives of a stopped host: every record, checked, and the blocks they add up to.
 *
 * Nothing is written and no index is trusted: the segments themselves are read from end to end,
 * every cell is compared with its CRC and every payload with its hash. The drives stay locked, so
 * that no server starts beside it. Any number of the host's drives may be given; shards on those
 * that were not are missing.
 *
 * Life: open (identities), scan, then the questions. All on one reactor. */
#pragma once
#include "base/buf.h"
#include "meta/types.h"
#include "runtime/io.h"
#include "storaged/client.h"

struct survey;

/* Damage that was found; the places name a file and an offset in it. */
struct survey_damage {
    const char *file;
    uint64_t offset;
    const char *what;             /* static */
    const struct block_id *block; /* whose record it is, or NULL */
    uint8_t slot;
};

struct survey_record {
    struct block_id block;
    uint8_t slot;
    uint32_t block_bytes;
    uint32_t payload_bytes;
    bool good;
    uint64_t written_ms; /* not before this: when its segment was begun */
    const struct block_hint *hint;
};

struct survey_options {
    const char *const *directories;
    uint32_t directory_count; /* 1..META_SHARDS_MAX */
    uint64_t memory_bytes;    /* of the table of shards; 0 = SURVEY_MEMORY_BYTES */
    /* Do not read the payload of records that a segment's trailer lists: for those who read what
     * they want with survey_read, which checks it. */
    bool headers_only;
    /* Called while scanning; none of them waits. May be NULL. */
    void (*on_damage)(void *context, const struct survey_damage *damage);
    void (*on_record)(void *context, const struct survey_record *record);
    void (*on_progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};
#define SURVEY_MEMORY_BYTES (UINT64_C(1) << 30)

/* Lock the drives and read who they are. A drive whose superblock is damaged is taken by what its
 * segments say. ERR_LOCKED: a server runs on one; ERR_NOT_FOUND: not a drive; ERR_MISMATCH:
 * drives of different nodes, or one given twice; ERR_UNSUPPORTED: of a later release. *out_bad is
 * the directory. */
enum err survey_open(struct io *io, const struct survey_options *options, const char **out_bad,
                     struct survey **out_survey);
void survey_close(struct survey *survey);
/* Read everything. Unreadable places are damage, not errors. ERR_LIMIT: more shards than
 * memory_bytes hold. */
enum err survey_scan(struct io *io, struct survey *survey);

struct survey_drive {
    const char *directory;
    struct drive_id id;
    bool identified; /* by a superblock or a segment; else there is nothing on it */
    uint64_t segments, records, bad_records, torn_records;
    uint64_t payload_bytes;
};
uint32_t survey_drives(const struct survey *survey, struct survey_drive *out, uint32_t max);
/* 16 bytes; NULL when no drive says it. */
const uint8_t *survey_cluster_id(const struct survey *survey);
/* Drives of the node that the superblocks name and that were not given: their last path. Returns
 * how many; fills up to `max`. */
uint32_t survey_absent(const struct survey *survey, struct drive_id *out_ids,
                       const char **out_paths, uint32_t max);

/* One block, as the records tell it. */
struct survey_block {
    struct block_id id;
    uint64_t first; /* in the table */
    uint32_t count; /* records of it */
    uint8_t data_shards, parity_shards;
    uint32_t unit_bytes;
    uint32_t bytes; /* 0: no record says it */
    uint32_t good;  /* bit per slot with a whole record */
    uint32_t bad;   /* bit per slot with damaged records only */
    uint64_t hash;  /* k = 1: the first half of its hash, as stored */
    bool torn;      /* no more than what a crash cut off: nobody was told of it */
    bool referred;  /* survey_refer was called */
};
/* Blocks by rising id: start with *cursor 0. */
bool survey_next(const struct survey *survey, uint64_t *cursor, struct survey_block *out_block);
/* False, with only the id set, when no record of it is there. */
bool survey_find(const struct survey *survey, struct block_id id, struct survey_block *out_block);
/* Something names the block. */
void survey_refer(struct survey *survey, struct survey_block *block);

enum survey_state { SURVEY_WHOLE = 1, SURVEY_DEGRADED = 2, SURVEY_LOST = 3 };
struct survey_verdict {
    enum survey_state state;
    uint32_t missing; /* bit per slot without any record */
    uint32_t spare;   /* slots more than needed */
};
/* Whether the block can be had; `ref` is what the metadata knows of it, or NULL. */
struct survey_verdict survey_judge(const struct survey_block *block, const struct block_ref *ref);

/* Where a damaged record of the block is; false when there is none. The text is the caller's. */
bool survey_bad_place(const struct survey *survey, const struct survey_block *block,
                      char **out_file, uint64_t *out_offset);

/* The plain bytes of a block from any k good shards, each cell checked again: *out_buf has
 * block->bytes of them. With `ref` their hash is compared with it. ERR_CORRUPT: cannot be had. */
enum err survey_read(struct io *io, struct survey *survey, const struct survey_block *block,
                     const struct block_ref *ref, struct buf **out_buf);
/* What a record of the block says about the object; slices point into *out_buf. ERR_NOT_FOUND: no
 * record can be read. */
enum err survey_hint(struct io *io, struct survey *survey, const struct survey_block *block,
                     struct buf **out_buf, struct block_hint *out_hint);
