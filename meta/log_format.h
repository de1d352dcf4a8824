/* Bytes of the Raft log on disk: segments, blocks, records. Pure. Layouts: docs/formats.md#log.
 *
 *     segment | header block | batch | batch | ... | zeros |
 *     batch   | block | block | ...                  one durable write of whole blocks
 *     block   | stamp | payload, with a marker at the end of each 512-byte sector |
 *
 * The payloads of a batch's blocks, joined, are a stream of records. A segment is zero before
 * it is written, and never written twice. So a sector without its marker (which is never 0) was
 * never written: a torn write can be told from damage (CLUSTER.md C1.4). */
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/slice.h"
#include <stdint.h>

enum {
    LOG_BLOCK_BYTES = 4096,
    LOG_SECTOR_BYTES = 512,
    LOG_SECTORS = LOG_BLOCK_BYTES / LOG_SECTOR_BYTES,
    LOG_MARKER_BYTES = 2,
    LOG_STAMP_BYTES = 28,
    LOG_PAYLOAD_BYTES = LOG_BLOCK_BYTES - LOG_STAMP_BYTES - LOG_SECTORS * LOG_MARKER_BYTES,
    LOG_HEADER_BYTES = LOG_BLOCK_BYTES, /* of a segment, before its first batch */
    LOG_RECORD_HEADER_BYTES = 36,
    LOG_ENTRY_BYTES_MAX = 4 << 20, /* payload of one record */
    LOG_BATCH_BLOCKS_MAX = 2048,
    LOG_IN_FLIGHT_MAX = 8, /* batches; recovery relies on it */
    LOG_ID_BYTES = 16,
    LOG_FORMAT_VERSION = 1,
};

/* --- blocks --- */

/* Where a block belongs; part of its checksum, so that a block elsewhere is not valid (F20,
 * F21). */
struct log_place {
    uint8_t log_id[LOG_ID_BYTES];
    uint64_t segment;
    uint64_t offset;
};

struct log_stamp {
    uint64_t sequence;         /* of the batch, from 1 */
    uint64_t durable_sequence; /* this batch and all before were durable when the block was made */
    uint16_t block;            /* in the batch, from 0 */
    uint16_t block_count;      /* of the batch */
    uint16_t used;             /* payload bytes; less than all only in the last block */
    uint16_t flags;            /* 0 */
};

/* Blocks that a stream of `bytes` takes. */
uint32_t log_block_count(size_t bytes);

/* Writes a stream into zeroed memory for log_block_count blocks. */
struct log_encoder {
    uint8_t *blocks;
    uint32_t block_count;
    uint32_t block; /* present one */
    uint32_t used;  /* payload bytes in it */
};
void log_encoder_put(struct log_encoder *encoder, struct slice bytes);
/* Stamp, mark and checksum all blocks; `place` is that of the first. */
void log_encoder_finish(struct log_encoder *encoder, const struct log_place *place,
                        uint64_t sequence, uint64_t durable_sequence);

enum log_block_kind {
    LOG_BLOCK_VALID,
    LOG_BLOCK_EMPTY,  /* all zero: not written */
    LOG_BLOCK_TORN,   /* partly written, of batch `sequence` or one in flight with it */
    LOG_BLOCK_ROTTEN, /* anything else: no write of ours and no crash leaves this */
};
/* `out_stamp` is set for LOG_BLOCK_VALID only. */
enum log_block_kind log_block_classify(const uint8_t *block, const struct log_place *place,
                                       uint64_t sequence, struct log_stamp *out_stamp);
/* Append the payload of a valid block. */
void log_block_payload(const uint8_t *block, const struct log_stamp *stamp, struct bytes *out);

/* --- segment header --- */

void log_header_encode(uint8_t *block, const uint8_t log_id[LOG_ID_BYTES], uint64_t segment);
/* ERR_CORRUPT, ERR_UNSUPPORTED (version), ERR_MISMATCH (another log or segment). */
enum err log_header_check(const uint8_t *block, const uint8_t log_id[LOG_ID_BYTES],
                          uint64_t segment);

/* --- records --- */

/* Numbers are stored: append only. */
enum log_record_type {
    LOG_RECORD_BATCH = 1,   /* opens a batch: what the one before it left */
    LOG_RECORD_SEGMENT = 2, /* opens a segment: where the one before it ended */
    LOG_RECORD_GROUP = 3,   /* a group's position; repeated at the start of each segment */
    LOG_RECORD_GROUP_REMOVE = 4,
    LOG_RECORD_HARD_STATE = 5,
    LOG_RECORD_MEMBERSHIP = 6, /* in force at `index`, from an earlier segment */
    LOG_RECORD_ENTRY = 7,
    LOG_RECORD_TRUNCATE = 8,  /* entries from `index` on are void; `term` is that of index - 1 */
    LOG_RECORD_INSTALLED = 9, /* reserved: a snapshot was installed at (index, term) */
};

struct log_record {
    enum log_record_type type;
    uint8_t kind; /* ENTRY: enum raft_entry_type; else 0 */
    uint64_t group;
    uint64_t term;
    uint64_t index;
    struct slice bytes;
};

void log_record_encode(struct bytes *out, const struct log_record *record);
/* Take the first record off the stream; `bytes` are borrowed. ERR_CORRUPT, ERR_UNSUPPORTED
 * (type). `out_crc` may be NULL. */
enum err log_record_decode(struct slice *stream, struct log_record *out_record, uint32_t *out_crc);

struct log_group_mark {
    uint64_t group;
    uint64_t last_index;
    uint64_t chain;
};
enum { LOG_GROUPS_MAX = 64 };

struct log_batch_record {
    uint64_t sequence; /* of the batch before; 0: none */
    uint32_t count;    /* groups it touched, by ascending id */
    struct log_group_mark groups[LOG_GROUPS_MAX];
};
void log_batch_record_encode(struct bytes *out, const struct log_batch_record *batch);
enum err log_batch_record_decode(const struct log_record *record,
                                 struct log_batch_record *out_batch);

struct log_segment_record {
    uint64_t segment;  /* number of the one before; 0: none */
    uint64_t end;      /* offset behind its last batch; what follows there means nothing */
    uint64_t sequence; /* of its last batch */
};
void log_segment_record_encode(struct bytes *out, const struct log_segment_record *segment);
enum err log_segment_record_decode(const struct log_record *record,
                                   struct log_segment_record *out_segment);
