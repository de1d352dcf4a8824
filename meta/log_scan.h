/* Recovery of a log: what of the bytes on disk was acknowledged, what was torn, what is
 * damaged. Pure but for its reader.
 *
 * CLUSTER.md C1.4: batches are read in order up to the first that is not whole. There the log
 * ends (T1, all zero behind), was torn by a crash (T2: nothing at or behind this place was ever
 * acknowledged), or is damaged (T3). A segment that was followed by another one ends where the
 * other says; bytes behind that place mean nothing. */
#pragma once
#include "log_state.h"

struct log_scan_segment {
    uint64_t number;
    uint64_t bytes; /* length of the file, at most UINT32_MAX */
};

struct log_source {
    uint8_t log_id[LOG_ID_BYTES];
    const struct log_scan_segment *segments; /* by ascending number */
    uint32_t segment_count;
    /* Fill `out` with `bytes` (a multiple of LOG_BLOCK_BYTES) of segment `index`, all within
     * its length. */
    enum err (*read)(void *context, uint32_t index, uint64_t offset, size_t bytes, uint8_t *out);
    void *context;
};

enum log_end {
    LOG_END_CLEAN, /* T1 */
    LOG_END_TORN,  /* T2 */
    LOG_END_ROTTEN /* T3 */
};

struct log_scan {
    enum log_end end;
    /* The batch that is not whole: place and, with LOG_END_ROTTEN, why it cannot be a crash. */
    uint64_t segment;
    uint64_t offset;
    const char *reason;
    bool *used;  /* per segment: part of the log */
    bool *clean; /* per segment: nothing but a header and zeros */
};
void log_scan_deinit(struct log_scan *scan);

/* `state` is empty; after OK it holds the intact batches, also when scan.end is LOG_END_ROTTEN.
 * Errors are those of the reader and ERR_CORRUPT, ERR_UNSUPPORTED, ERR_MISMATCH of segment
 * headers; out_scan->segment is then the segment. */
enum err log_scan(const struct log_source *source, struct log_state *state,
                  struct log_scan *out_scan);
