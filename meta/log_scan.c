/* The walk over all segments and the judgement of its end. */
#include "log_scan.h"
#include "base/mem.h"
#include <assert.h>
#include <inttypes.h>

enum { WINDOW_BYTES = 1 << 20 };
static_assert(WINDOW_BYTES % LOG_BLOCK_BYTES == 0);

/* The first batch of a segment, if whole. */
struct head {
    bool whole;
    struct log_segment_record before;
};

struct scanner {
    const struct log_source *source;
    struct log_state *state;
    struct log_scan *scan;
    struct head *heads;
    struct bytes stream; /* of the present batch */
    /* part of one segment in memory */
    uint8_t *window;
    uint32_t window_segment;
    uint64_t window_offset;
    uint64_t window_bytes;
};

void log_scan_deinit(struct log_scan *scan)
{
    mem_free(scan->used);
    mem_free(scan->clean);
    *scan = (struct log_scan){0};
}

/* --- blocks --- */

static uint64_t segment_bytes(const struct scanner *scanner, uint32_t segment)
{
    uint64_t bytes = scanner->source->segments[segment].bytes;
    return bytes - bytes % LOG_BLOCK_BYTES;
}

static enum err block_at(struct scanner *scanner, uint32_t segment, uint64_t offset,
                         const uint8_t **out_block)
{
    uint64_t length = segment_bytes(scanner, segment);
    assert(offset < length);
    if (scanner->window_segment != segment || offset < scanner->window_offset ||
        offset >= scanner->window_offset + scanner->window_bytes) {
        uint64_t bytes = length - offset < WINDOW_BYTES ? length - offset : WINDOW_BYTES;
        scanner->window_bytes = 0;
        TRY(scanner->source->read(scanner->source->context, segment, offset, bytes,
                                  scanner->window));
        scanner->window_segment = segment;
        scanner->window_offset = offset;
        scanner->window_bytes = bytes;
    }
    *out_block = scanner->window + (offset - scanner->window_offset);
    return OK;
}

static enum err classify(struct scanner *scanner, uint32_t segment, uint64_t offset,
                         uint64_t sequence, enum log_block_kind *out_kind,
                         struct log_stamp *out_stamp, const uint8_t **out_block)
{
    struct log_place place = {.segment = scanner->source->segments[segment].number,
                              .offset = offset};
    memcpy(place.log_id, scanner->source->log_id, LOG_ID_BYTES);
    TRY(block_at(scanner, segment, offset, out_block));
    *out_kind = log_block_classify(*out_block, &place, sequence, out_stamp);
    return OK;
}

/* Collect the stream of the batch at a place. *out_stamp is that of its first block; *out_whole
 * is false when any block of it is not valid. */
static enum err read_batch(struct scanner *scanner, uint32_t segment, uint64_t offset,
                           struct log_stamp *out_stamp, bool *out_whole)
{
    bytes_clear(&scanner->stream);
    *out_whole = false;
    uint64_t length = segment_bytes(scanner, segment);
    uint32_t count = 1;
    for (uint32_t i = 0; i < count; i++, offset += LOG_BLOCK_BYTES) {
        enum log_block_kind kind;
        struct log_stamp stamp;
        const uint8_t *block = NULL;
        if (offset >= length)
            return OK;
        TRY(classify(scanner, segment, offset, 1, &kind, &stamp, &block));
        if (kind != LOG_BLOCK_VALID || stamp.block != i)
            return OK;
        if (i == 0)
            *out_stamp = stamp;
        count = out_stamp->block_count;
        if (stamp.block_count != count || stamp.sequence != out_stamp->sequence)
            return OK;
        log_block_payload(block, &stamp, &scanner->stream);
    }
    *out_whole = true;
    return OK;
}

/* --- where segments say that others end --- */

static enum err read_head(struct scanner *scanner, uint32_t segment, struct head *out_head)
{
    const uint8_t *block = NULL;
    uint64_t number = scanner->source->segments[segment].number;
    *out_head = (struct head){0};
    if (segment_bytes(scanner, segment) < LOG_HEADER_BYTES)
        return FAIL(ERR_CORRUPT, "log segment=%" PRIu64 " is shorter than its header", number);
    TRY(block_at(scanner, segment, 0, &block));
    TRY(log_header_check(block, scanner->source->log_id, number));
    struct log_stamp stamp;
    TRY(read_batch(scanner, segment, LOG_HEADER_BYTES, &stamp, &out_head->whole));
    if (!out_head->whole)
        return OK;
    struct slice stream = bytes_slice(&scanner->stream);
    struct log_record record;
    bool sound = log_record_decode(&stream, &record, NULL) == OK &&
                 log_record_decode(&stream, &record, NULL) == OK &&
                 record.type == LOG_RECORD_SEGMENT &&
                 log_segment_record_decode(&record, &out_head->before) == OK;
    out_head->whole = sound;
    return OK;
}

/* The segment that goes on where `segment` ended: the last one that says so, since an earlier
 * one may be left over from a torn end. source->segment_count: none. */
static uint32_t successor(const struct scanner *scanner, uint32_t segment)
{
    uint32_t count = scanner->source->segment_count;
    for (uint32_t i = count; i > segment + 1; i--) {
        const struct head *head = &scanner->heads[i - 1];
        if (head->whole && head->before.segment == scanner->source->segments[segment].number)
            return i - 1;
    }
    return count;
}

/* --- the end --- */

static enum err rotten(struct scanner *scanner, uint32_t segment, uint64_t offset,
                       const char *reason)
{
    scanner->scan->end = LOG_END_ROTTEN;
    scanner->scan->segment = scanner->source->segments[segment].number;
    scanner->scan->offset = offset;
    scanner->scan->reason = reason;
    return OK;
}

/* Why a block behind the first batch that is not whole, which has `sequence`, proves damage;
 * NULL: it may be what a crash left. */
static const char *damage_of(enum log_block_kind kind, const struct log_stamp *stamp,
                             uint64_t sequence)
{
    switch (kind) {
    case LOG_BLOCK_EMPTY:
    case LOG_BLOCK_TORN:
        return NULL;
    case LOG_BLOCK_ROTTEN:
        return "a block was written in full and has changed since";
    case LOG_BLOCK_VALID:
        break;
    }
    if (stamp->sequence < sequence)
        return "a block is of an earlier batch";
    if (stamp->durable_sequence >= sequence)
        return "a later batch says that it was durable";
    if (stamp->sequence >= sequence + LOG_IN_FLIGHT_MAX)
        return "a later batch was written after it was durable";
    return NULL;
}

/* Judge everything from the place where the intact log ends (C1.4, T1 to T3). */
static enum err judge_end(struct scanner *scanner, uint32_t segment, uint64_t offset)
{
    const struct log_source *source = scanner->source;
    struct log_scan *scan = scanner->scan;
    uint64_t sequence = scanner->state->sequence + 1;
    if (offset == LOG_HEADER_BYTES)
        scan->used[segment] = false; /* nothing in it was ever acknowledged */
    scan->end = LOG_END_CLEAN;
    scan->segment = source->segments[segment].number;
    scan->offset = offset;
    for (uint32_t i = segment; i < source->segment_count; i++) {
        bool clean = true;
        uint64_t at = i == segment ? offset : LOG_HEADER_BYTES;
        for (; at < segment_bytes(scanner, i); at += LOG_BLOCK_BYTES) {
            enum log_block_kind kind;
            struct log_stamp stamp = {0};
            const uint8_t *block = NULL;
            TRY(classify(scanner, i, at, sequence, &kind, &stamp, &block));
            const char *reason = damage_of(kind, &stamp, sequence);
            bool own = kind == LOG_BLOCK_VALID && stamp.sequence == sequence;
            if (own && i == segment && at - stamp.block * (uint64_t)LOG_BLOCK_BYTES != offset)
                reason = "a block of it is elsewhere";
            if (reason != NULL)
                return rotten(scanner, segment, offset, reason);
            clean &= kind == LOG_BLOCK_EMPTY;
        }
        scan->clean[i] = clean && !scan->used[i];
        if (!clean)
            scan->end = LOG_END_TORN;
    }
    return OK;
}

/* --- the walk --- */

/* Take the batch at a place; *out_taken false: the intact log ends before it. */
static enum err take_batch(struct scanner *scanner, uint32_t segment, uint64_t offset, bool first,
                           bool *out_taken)
{
    struct log_stamp stamp;
    bool whole = false;
    *out_taken = false;
    TRY(read_batch(scanner, segment, offset, &stamp, &whole));
    if (!whole)
        return OK;
    uint64_t expected = scanner->state->sequence + 1;
    bool in_order = first ? stamp.sequence >= expected : stamp.sequence == expected;
    if (!in_order)
        return rotten(scanner, segment, offset, "a batch is out of order");
    struct log_batch batch = {.sequence = stamp.sequence,
                              .segment = scanner->source->segments[segment].number,
                              .offset = offset,
                              .block_count = stamp.block_count,
                              .stream = bytes_slice(&scanner->stream)};
    enum err err = log_state_batch(scanner->state, &batch);
    if (err == ERR_CORRUPT)
        return rotten(scanner, segment, offset, "a batch contradicts the ones before it");
    TRY(err);
    *out_taken = true;
    return OK;
}

/* All batches of a segment up to `limit`. *out_end is where they end. */
static enum err walk_segment(struct scanner *scanner, uint32_t segment, uint64_t limit,
                             uint64_t *out_end)
{
    bool taken = true;
    uint64_t offset = LOG_HEADER_BYTES;
    scanner->scan->used[segment] = true;
    while (taken && offset < limit && scanner->scan->reason == NULL) {
        TRY(take_batch(scanner, segment, offset, offset == LOG_HEADER_BYTES, &taken));
        if (taken)
            offset = scanner->state->end;
    }
    *out_end = offset;
    return OK;
}

/* Where the log begins: in the last segment that says that none was before it, else in the
 * oldest one, whose predecessors were cut. */
static uint32_t first_segment(const struct scanner *scanner)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < scanner->source->segment_count; i++)
        if (scanner->heads[i].whole && scanner->heads[i].before.segment == 0)
            first = i;
    return first;
}

static enum err walk(struct scanner *scanner, uint32_t segment)
{
    uint32_t count = scanner->source->segment_count;
    for (;;) {
        uint32_t next = successor(scanner, segment);
        uint64_t limit = segment_bytes(scanner, segment);
        if (next < count)
            limit = scanner->heads[next].before.end;
        if (limit > segment_bytes(scanner, segment))
            return rotten(scanner, segment, segment_bytes(scanner, segment), "it is too short");
        uint64_t end = LOG_HEADER_BYTES;
        TRY(walk_segment(scanner, segment, limit, &end));
        if (scanner->scan->reason != NULL)
            return OK;
        if (next == count || end < limit)
            return judge_end(scanner, segment, end);
        if (end > limit)
            return rotten(scanner, segment, limit, "the next segment says that it ends earlier");
        segment = next;
    }
}

static enum err scan_all(struct scanner *scanner)
{
    const struct log_source *source = scanner->source;
    for (uint32_t i = 0; i < source->segment_count; i++) {
        scanner->scan->segment = source->segments[i].number;
        TRY(read_head(scanner, i, &scanner->heads[i]));
    }
    if (source->segment_count == 0)
        return OK;
    return walk(scanner, first_segment(scanner));
}

enum err log_scan(const struct log_source *source, struct log_state *state,
                  struct log_scan *out_scan)
{
    assert(state->segment_count == 0);
    *out_scan =
        (struct log_scan){.used = mem_alloc_array(source->segment_count + 1, sizeof(bool)),
                          .clean = mem_alloc_array(source->segment_count + 1, sizeof(bool))};
    struct scanner scanner = {
        .source = source,
        .state = state,
        .scan = out_scan,
        .heads = mem_alloc_array(source->segment_count + 1, sizeof(struct head)),
        .stream = {.max = (size_t)LOG_BATCH_BLOCKS_MAX * LOG_PAYLOAD_BYTES},
        .window = mem_alloc(WINDOW_BYTES),
    };
    enum err err = scan_all(&scanner);
    mem_free(scanner.heads);
    mem_free(scanner.window);
    bytes_deinit(&scanner.stream);
    if (err != OK) {
        uint64_t segment = out_scan->segment;
        log_scan_deinit(out_scan);
        out_scan->segment = segment;
    }
    return err;
}
