/* The rows of a drive: block and slot -> place. Derived from the records. Format:
 * docs/formats.md#index.
 *
 * A record counts as soon as it is durable: its row is in memory first (`pending`) and goes to the
 * store in batches on the index lane, together with the watermark of its segment. */
#pragma once
#include "drive.h"

/* The row of a checked record. `total_bytes`: of the whole record. */
struct place place_of_record(const struct record *record, uint64_t segment, uint64_t total_bytes);

/* Open or create the store and load the segments' rows into *out_rows; *out_rebuild: it was
 * missing or damaged, so everything must be scanned. */
struct segment_row {
    uint64_t segment;
    enum segment_kind kind;
    bool sealed;
    uint8_t nonce[RECORD_NONCE_BYTES];
    uint64_t end;
    uint64_t watermark;
    uint64_t live_bytes;
    uint64_t live_count;
};
enum err drive_index_open(struct io *io, struct drive *drive, struct kv_provider *provider,
                          struct segment_row **out_rows, uint32_t *out_row_count,
                          bool *out_rebuild);
/* Write all pending rows, flush, close. */
void drive_index_close(struct io *io, struct drive *drive);

/* How a new record stands to one of the same shard that may be here. Of two the one of the higher
 * epoch counts; the other is stale: its record row stays until it is punched. */
enum index_add {
    INDEX_ADD_FIRST = 0,    /* there is none */
    INDEX_ADD_AGAIN = 1,    /* of equal epochs the one that was there counts */
    INDEX_ADD_REPLACES = 2, /* of equal epochs this one counts */
};
/* A record is durable: visible to find from now on. Never waits. */
void drive_index_add(struct drive *drive, struct segment_file *segment, const struct shard_key *key,
                     const struct place *place, enum index_add how);
bool drive_index_is_full(struct drive *drive);
bool drive_index_is_idle(struct drive *drive);
/* Write what is pending (at most a batch). */
enum err drive_index_drain(struct io *io, struct drive *drive);
enum err drive_index_flush(struct io *io, struct drive *drive);
/* ERR_NOT_FOUND. */
enum err drive_index_find(struct io *io, struct drive *drive, const struct shard_key *key,
                          struct place *out_place);

struct index_entry {
    struct shard_key key;
    struct place place;
};
/* Remove the rows of these records; those that are not there any more are fine. Punch before. */
enum err drive_index_remove(struct io *io, struct drive *drive, const struct index_record *records,
                            uint32_t count);
/* Take up to `max` of the records that became stale; some may be forgotten. */
uint32_t drive_index_take_stale(struct drive *drive, struct index_record *out, uint32_t max);
/* Up to `max` records that the store knows, behind (segment, offset), in that order; stale ones
 * too. */
enum err drive_index_records(struct io *io, struct drive *drive, uint64_t segment, uint64_t offset,
                             struct index_record *out_records, uint32_t max, uint32_t *out_count);
/* Small values that others keep in the store; a lost one is begun anew. ERR_NOT_FOUND. */
enum err drive_index_put_note(struct io *io, struct drive *drive, uint8_t note, struct slice value);
enum err drive_index_get_note(struct io *io, struct drive *drive, uint8_t note,
                              struct bytes *out_value);
/* Read everything in the store; ERR_CORRUPT: damaged. */
enum err drive_index_verify(struct io *io, struct drive *drive);
/* The store is damaged: the next open makes it anew from the records. */
enum err drive_index_condemn(struct io *io, struct drive *drive);
/* Recovery: put rows of one segment; a record that is there already is not counted twice. Of two
 * good records of a shard the one of the higher epoch counts, of equal ones the one put last; a bad
 * one never takes the place of a good one. */
enum err drive_index_restore(struct io *io, struct drive *drive, struct segment_file *segment,
                             const struct index_entry *entries, uint32_t count);
/* Up to `max` keys after `after` (NULL: from the start), in order. Only of the store. */
enum err drive_index_page(struct io *io, struct drive *drive, const struct shard_key *after,
                          struct shard_key *out_keys, uint32_t max, uint32_t *out_count);
/* All records of a segment that the store knows; the caller frees *out_entries. */
enum err drive_index_entries(struct io *io, struct drive *drive, uint64_t segment,
                             struct segment_entry **out_entries, uint32_t *out_count);
/* Write the row of a segment, or forget it. */
enum err drive_index_put_segment(struct io *io, struct drive *drive, struct segment_file *segment);
enum err drive_index_drop_segment(struct io *io, struct drive *drive, uint64_t segment);
