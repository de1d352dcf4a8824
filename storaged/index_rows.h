/* What the parts of the index share: rows as bytes, and jobs on the index lane. */
#pragma once
#include "base/encode.h"
#include "drive_index.h"

enum {
    TABLE_BLOCK = 1,   /* volume, sequence, slot -> place */
    TABLE_RECORD = 2,  /* segment, offset -> block, slot, bytes */
    TABLE_SEGMENT = 3, /* segment -> segment_row */
    TABLE_NOTE = 4,    /* number of it -> what its owner wrote */
    ROW_VERSION = 1,
    ROW_BYTES_MAX = 512,
    KEY_BYTES_MAX = 32,
};

void encode_block_key(struct bytes *out, const struct shard_key *key);
enum err decode_block_key(struct slice bytes, struct shard_key *out);
void encode_record_key(struct bytes *out, uint64_t segment, uint64_t offset);
void encode_segment_key(struct bytes *out, uint64_t segment);
enum err decode_segment_row(struct slice key, struct slice value, struct segment_row *out);

/* The row of the segment as it is now. */
void put_segment_row(struct kv_batch *batch, const struct segment_file *segment);
void put_record_rows(struct kv_batch *batch, const struct shard_key *key,
                     const struct place *place);
/* `counts`: it is the one that the shard's row names, which goes too. */
void remove_record_rows(struct kv_batch *batch, const struct index_record *record, bool counts);
/* Only that the record is there, not that it is the one that counts. */
void put_record_row(struct kv_batch *batch, const struct shard_key *key, const struct place *place);
/* Whether the store has the record; for a batch that is not written yet it does not count. */
enum err find_record_row(struct lane *lane, struct drive *drive, uint64_t segment, uint64_t offset,
                         bool *out_found);
/* From the store; with `lane` NULL from memory only. */
enum err get_place(struct lane *lane, struct drive *drive, const struct shard_key *key,
                   struct place *out);
/* Another record of the shard counts. The mutex is not held. */
void note_stale(struct drive *drive, const struct shard_key *key, const struct place *place);
/* The record lives in its segment no more. */
void uncount_record(struct drive *drive, uint64_t segment, uint64_t bytes);

/* Arguments and results of a job; each uses what it needs. */
struct index_job {
    struct drive *drive;
    enum err err;
    struct kv_provider *provider;
    const char *path;
    struct segment_row *rows;
    uint32_t row_count;
    bool create;
    const struct index_record *records;
    struct index_record *out_records;
    struct shard_key *out_keys;
    const struct index_entry *entries;
    struct segment_entry *out_entries;
    uint32_t count, max;
    const struct shard_key *key;
    struct place *place;
    struct segment_file *segment;
    uint64_t segment_id;
    uint64_t offset;
    uint8_t note;
    struct slice value;
    struct bytes *out_value;
};
enum err index_run(struct io *io, struct lane *lane, lane_fn *fn, struct index_job *job);
/* The same on the index lane; a damaged or failing store fences the drive. */
enum err index_change(struct io *io, struct drive *drive, lane_fn *fn, struct index_job *job);
