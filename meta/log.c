/* The owner of the log: batches, writers, segments ahead. */
#include "log.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/mem.h"
#include "log_files.h"
#include "runtime/sync.h"
#include <assert.h>
#include <inttypes.h>

enum {
    BATCH_BYTES_MAX = 1 << 20, /* of records that join a batch; a larger one travels alone */
    STREAM_BYTES_MAX = LOG_BATCH_BLOCKS_MAX * LOG_PAYLOAD_BYTES,
    BUSY_RETRIES_MAX = 10000,
};
#define FOREVER_NS UINT64_MAX
#define PREPARE_RETRY_MS 1000

/* Records that wait for a batch. */
struct pending {
    struct list_node node;
    struct bytes stream;
    uint64_t ticket;
};

/* A batch on its way to the disk. */
struct flight {
    struct list_node node;
    struct list_node start_node;
    struct buf *buf;
    struct log_file *file;
    uint64_t offset;
    size_t bytes;
    uint64_t sequence;
    uint64_t ticket;
    bool done;
};

struct meta_log {
    struct meta_log_options options;
    char *directory;
    struct io *io;
    struct log_state state;
    struct log_file *current; /* NULL: the next batch begins a segment */
    struct log_file *spares[META_LOG_SPARES];
    uint32_t spare_count;
    uint64_t number_next;
    struct list pending; /* struct pending */
    uint64_t pending_bytes;
    struct list flights;  /* struct flight, by sequence, until durable in order */
    struct list starting; /* those no writer took yet */
    uint64_t ticket_last;
    uint64_t ticket_durable;
    uint64_t sequence_durable;
    bool failed;
    bool closing;
    bool no_space; /* no further segment could be made */
    struct signal to_write;
    struct signal to_fill;
    struct signal progress;
    struct fiber_group fibers;
    struct counter *writes_total, *bytes_total;
    struct histogram *write_seconds;
    struct gauge *segments;
};

/* --- batches --- */

static void changed(struct meta_log *log)
{
    signal_wake_all(log->io, &log->progress);
    if (log->options.changed != NULL)
        log->options.changed(log->options.context);
}

static void fail(struct meta_log *log, enum err err)
{
    if (log->failed)
        return;
    log->failed = true;
    if (err != ERR_CANCELED)
        log_error("log: a write failed, the replica on this drive stops directory=%s cause=%s",
                  log->directory, err_text(err));
    signal_wake_all(log->io, &log->to_write);
    signal_wake_all(log->io, &log->to_fill);
    changed(log);
}

static size_t batch_bytes_max(const struct meta_log *log)
{
    size_t entry = meta_log_entry_bytes_max(log);
    return entry < BATCH_BYTES_MAX ? entry : BATCH_BYTES_MAX;
}

/* Build the stream of the next batch from what waits. The pendings stay until the batch has a
 * place. */
static uint32_t collect(const struct meta_log *log, bool new_segment, struct bytes *stream)
{
    uint32_t count = 0;
    log_state_opening(&log->state, new_segment, stream);
    size_t opening_bytes = stream->bytes;
    LIST_EACH(struct pending, pending, &log->pending, node)
    {
        if (count > 0 &&
            stream->bytes - opening_bytes + pending->stream.bytes > batch_bytes_max(log))
            return count;
        bytes_append(stream, bytes_slice(&pending->stream));
        count++;
    }
    return count;
}

static struct flight *take_off(struct meta_log *log, const struct bytes *stream, uint32_t count)
{
    struct flight *flight = mem_new(struct flight);
    uint32_t blocks = log_block_count(stream->bytes);
    *flight = (struct flight){.buf = buf_new((size_t)blocks * LOG_BLOCK_BYTES),
                              .file = log_file_ref(log->current),
                              .offset = log->current->offset,
                              .bytes = (size_t)blocks * LOG_BLOCK_BYTES,
                              .sequence = log->state.sequence + 1};
    for (; count > 0; count--) {
        struct pending *pending = CONTAINER_OF(list_pop_front(&log->pending), struct pending, node);
        flight->ticket = pending->ticket;
        log->pending_bytes -= pending->stream.bytes;
        bytes_deinit(&pending->stream);
        mem_free(pending);
    }
    return flight;
}

static void encode_flight(struct meta_log *log, struct flight *flight, const struct bytes *stream)
{
    struct log_encoder encoder = {.blocks = flight->buf->data,
                                  .block_count = (uint32_t)(flight->bytes / LOG_BLOCK_BYTES)};
    struct log_place place = {.segment = flight->file->number, .offset = flight->offset};
    memcpy(place.log_id, log->options.id, LOG_ID_BYTES);
    memset(flight->buf->data, 0, flight->bytes);
    log_encoder_put(&encoder, bytes_slice(stream));
    log_encoder_finish(&encoder, &place, flight->sequence, log->sequence_durable);
    struct log_batch batch = {.sequence = flight->sequence,
                              .segment = place.segment,
                              .offset = place.offset,
                              .block_count = encoder.block_count,
                              .stream = bytes_slice(stream)};
    enum err err = log_state_batch(&log->state, &batch);
    assert(err == OK); /* what is appended follows from what was appended before */
}

static bool fits(const struct meta_log *log, const struct log_file *file, size_t stream_bytes)
{
    uint64_t bytes = (uint64_t)log_block_count(stream_bytes) * LOG_BLOCK_BYTES;
    return file->offset + bytes <= log->options.segment_bytes;
}

/* Go on in a fresh segment. False: none is ready; the filler was told. */
static bool next_segment(struct meta_log *log)
{
    signal_wake_all(log->io, &log->to_fill);
    if (log->spare_count == 0)
        return false;
    log_file_unref(log->current);
    log->current = log->spares[0];
    log->spare_count--;
    for (uint32_t i = 0; i < log->spare_count; i++)
        log->spares[i] = log->spares[i + 1];
    return true;
}

/* Make what waits one batch and hand it to a writer. */
static bool launch_one(struct meta_log *log)
{
    AUTO_VALUE(bytes) stream = {.max = STREAM_BYTES_MAX};
    uint32_t count = 0;
    if (log->current != NULL)
        count = collect(log, false, &stream);
    if (log->current == NULL || !fits(log, log->current, stream.bytes)) {
        if (!next_segment(log))
            return false;
        bytes_clear(&stream);
        count = collect(log, true, &stream);
    }
    assert(!stream.overflow);
    assert(fits(log, log->current, stream.bytes));
    struct flight *flight = take_off(log, &stream, count);
    encode_flight(log, flight, &stream);
    log->current->offset += flight->bytes;
    list_push_back(&log->flights, &flight->node);
    list_push_back(&log->starting, &flight->start_node);
    signal_wake_one(log->io, &log->to_write);
    return true;
}

static void launch(struct meta_log *log)
{
    while (!log->failed && !list_empty(&log->pending) && log->flights.count < LOG_IN_FLIGHT_MAX)
        if (!launch_one(log))
            return;
}

static void flight_free(struct flight *flight)
{
    buf_unref(flight->buf);
    log_file_unref(flight->file);
    mem_free(flight);
}

/* Acknowledge in order. */
static void land(struct meta_log *log)
{
    bool any = false;
    while (!list_empty(&log->flights)) {
        struct flight *first = CONTAINER_OF(list_first(&log->flights), struct flight, node);
        if (!first->done)
            break;
        assert(!log->failed);
        log->sequence_durable = first->sequence;
        log->ticket_durable = first->ticket;
        list_remove(&log->flights, &first->node);
        flight_free(first);
        any = true;
    }
    launch(log);
    if (any)
        changed(log);
}

static enum err write_flight(struct io *io, struct flight *flight)
{
    struct io_part part = {.buf = flight->buf, .bytes = flight->bytes};
    enum err err = ERR_BUSY;
    /* ERR_BUSY: nothing was submitted. */
    for (unsigned i = 0; err == ERR_BUSY && i < BUSY_RETRIES_MAX; i++) {
        err = io_write(io, flight->file->file, &part, 1, flight->offset, WRITE_DURABLE);
        if (err == ERR_BUSY)
            TRY(io_sleep_ms(io, 1));
    }
    return err;
}

static void writer_fiber(struct io *io, void *argument)
{
    struct meta_log *log = argument;
    for (;;) {
        while (list_empty(&log->starting)) {
            if (log->closing || log->failed ||
                signal_wait(io, &log->to_write, FOREVER_NS) == ERR_CANCELED) {
                if (!log->closing)
                    fail(log, ERR_CANCELED);
                return;
            }
        }
        struct flight *flight =
            CONTAINER_OF(list_pop_front(&log->starting), struct flight, start_node);
        if (log->failed)
            return;
        uint64_t start_ns = io_now_ns(io);
        enum err err = write_flight(io, flight);
        if (err != OK) {
            fail(log, err);
            return;
        }
        histogram_record_ns(log->write_seconds, io_now_ns(io) - start_ns);
        counter_add(log->writes_total, 1);
        counter_add(log->bytes_total, flight->bytes);
        flight->done = true;
        if (!log->failed)
            land(log);
    }
}

/* --- segments ahead --- */

static void filler_fiber(struct io *io, void *argument)
{
    struct meta_log *log = argument;
    while (!log->closing && !log->failed) {
        if (log->spare_count == META_LOG_SPARES) {
            if (signal_wait(io, &log->to_fill, FOREVER_NS) == ERR_CANCELED)
                return;
            continue;
        }
        struct log_file *file = NULL;
        enum err err = log_file_prepare(io, log->directory, log->options.id, log->number_next,
                                        log->options.segment_bytes, &file);
        if (err == ERR_NO_SPACE || err == ERR_BUSY) {
            if (err == ERR_NO_SPACE && !log->no_space)
                log_warn("log: no space for another segment; only deletes go on directory=%s",
                         log->directory);
            log->no_space = log->no_space || err == ERR_NO_SPACE;
            if (signal_wait(io, &log->to_fill, io_now_ns(io) + PREPARE_RETRY_MS * IO_NS_PER_MS) ==
                ERR_CANCELED)
                return;
            continue;
        }
        if (err != OK) {
            fail(log, err);
            return;
        }
        log->no_space = false;
        log->number_next++;
        log->spares[log->spare_count++] = file;
        launch(log);
    }
}

/* --- open and close --- */

static void register_metrics(struct meta_log *log)
{
    struct metrics *metrics = log->options.metrics;
    log->writes_total = metrics_counter(metrics, "shale_meta_log_writes_total", NULL,
                                        "Durable writes of the Raft log.");
    log->bytes_total =
        metrics_counter(metrics, "shale_meta_log_bytes_total", NULL, "Bytes of these writes.");
    log->write_seconds = metrics_histogram(metrics, "shale_meta_log_write_seconds", NULL,
                                           "Time of a durable write of the Raft log.");
    log->segments =
        metrics_gauge(metrics, "shale_meta_log_segments", NULL, "Segments of the Raft log.");
}

static void log_release(struct meta_log *log)
{
    while (!list_empty(&log->pending)) {
        struct pending *pending = CONTAINER_OF(list_pop_front(&log->pending), struct pending, node);
        bytes_deinit(&pending->stream);
        mem_free(pending);
    }
    while (!list_empty(&log->flights))
        flight_free(CONTAINER_OF(list_pop_front(&log->flights), struct flight, node));
    for (uint32_t i = 0; i < log->spare_count; i++)
        log_file_unref(log->spares[i]);
    log_file_unref(log->current);
    log_state_deinit(&log->state);
    mem_free(log->directory);
    mem_free(log);
}

static enum err start_fibers(struct io *io, struct meta_log *log)
{
    for (unsigned i = 0; i < LOG_IN_FLIGHT_MAX; i++)
        TRY(fiber_group_spawn(io, &log->fibers, writer_fiber, log));
    return fiber_group_spawn(io, &log->fibers, filler_fiber, log);
}

static enum err open_log(struct io *io, struct meta_log *log)
{
    struct log_found found = {0};
    enum err err =
        log_files_recover(io, log->directory, log->options.id, log->options.segment_bytes,
                          log->options.accept_loss, &log->state, &found);
    for (uint32_t i = 0; i < found.spare_count; i++) {
        if (i < META_LOG_SPARES)
            log->spares[log->spare_count++] = found.spares[i];
        else
            log_file_unref(found.spares[i]); /* found again at the next start */
    }
    mem_free(found.spares);
    TRY(err);
    log->number_next = found.number_next;
    log->sequence_durable = log->state.sequence;
    if (log->spare_count == 0) {
        TRY(log_file_prepare(io, log->directory, log->options.id, log->number_next,
                             log->options.segment_bytes, &log->spares[0]));
        log->number_next++;
        log->spare_count = 1;
    }
    return start_fibers(io, log);
}

enum err meta_log_open(struct io *io, const struct meta_log_options *options,
                       struct meta_log **out_log)
{
    struct meta_log *log = mem_new(struct meta_log);
    log->options = *options;
    log->io = io;
    log->directory = mem_format("%s", options->directory);
    if (log->options.segment_bytes == 0)
        log->options.segment_bytes = META_LOG_SEGMENT_BYTES;
    assert(log->options.segment_bytes >= META_LOG_SEGMENT_BYTES_MIN);
    assert(log->options.segment_bytes % LOG_BLOCK_BYTES == 0);
    list_init(&log->pending);
    list_init(&log->flights);
    list_init(&log->starting);
    signal_init(&log->to_write);
    signal_init(&log->to_fill);
    signal_init(&log->progress);
    fiber_group_init(&log->fibers);
    register_metrics(log);
    enum err err = open_log(io, log);
    if (err != OK) {
        meta_log_close(io, log);
        return err;
    }
    gauge_set(log->segments, log->state.segment_count);
    *out_log = log;
    return OK;
}

void meta_log_close(struct io *io, struct meta_log *log)
{
    if (log == NULL)
        return;
    log->closing = true;
    signal_wake_all(io, &log->to_write);
    signal_wake_all(io, &log->to_fill);
    fiber_group_wait(io, &log->fibers);
    log_release(log);
}

/* --- appending --- */

static struct pending *pending_new(struct meta_log *log)
{
    struct pending *pending = mem_new(struct pending);
    pending->stream.max = STREAM_BYTES_MAX;
    pending->ticket = ++log->ticket_last;
    return pending;
}

static void pending_push(struct meta_log *log, struct pending *pending)
{
    assert(!pending->stream.overflow);
    assert(pending->stream.bytes > 0);
    log->pending_bytes += pending->stream.bytes;
    list_push_back(&log->pending, &pending->node);
}

enum err meta_log_create_group(struct meta_log *log, uint64_t group, uint64_t index, uint64_t term,
                               const struct raft_membership *membership, uint64_t *out_ticket)
{
    assert(log_state_group(&log->state, group) == NULL);
    if (log->failed)
        return ERR_FENCED;
    AUTO_VALUE(bytes) encoded = {.max = LOG_BLOCK_BYTES};
    static const uint8_t chain[8];
    raft_membership_encode(&encoded, membership);
    struct log_record position = {.type = LOG_RECORD_GROUP,
                                  .group = group,
                                  .term = term,
                                  .index = index,
                                  .bytes = slice_of(chain, sizeof chain)};
    struct log_record first = {.type = LOG_RECORD_MEMBERSHIP,
                               .group = group,
                               .index = index,
                               .bytes = bytes_slice(&encoded)};
    struct pending *pending = pending_new(log);
    log_record_encode(&pending->stream, &position);
    log_record_encode(&pending->stream, &first);
    pending_push(log, pending);
    *out_ticket = log->ticket_last;
    launch(log);
    return OK;
}

static void encode_before_entries(struct bytes *out, const struct meta_log_write *write)
{
    if (write->hard_state != NULL) {
        uint8_t bytes[16];
        store_u64(bytes, write->hard_state->vote);
        store_u64(bytes + 8, write->hard_state->commit);
        struct log_record record = {.type = LOG_RECORD_HARD_STATE,
                                    .group = write->group,
                                    .term = write->hard_state->term,
                                    .bytes = slice_of(bytes, sizeof bytes)};
        log_record_encode(out, &record);
    }
    if (write->truncate_from != 0) {
        struct log_record record = {.type = LOG_RECORD_TRUNCATE,
                                    .group = write->group,
                                    .term = write->truncate_term,
                                    .index = write->truncate_from};
        log_record_encode(out, &record);
    }
}

enum err meta_log_append(struct meta_log *log, const struct meta_log_write *write,
                         uint64_t *out_ticket)
{
    assert(write->hard_state != NULL || write->truncate_from != 0 || write->entry_count > 0);
    if (log->failed)
        return ERR_FENCED;
    struct pending *pending = pending_new(log);
    encode_before_entries(&pending->stream, write);
    for (uint64_t i = 0; i < write->entry_count; i++) {
        const struct raft_entry *entry = &write->entries[i];
        assert(entry->payload.bytes <= meta_log_entry_bytes_max(log));
        if (pending->stream.bytes > 0 &&
            pending->stream.bytes + entry->payload.bytes > batch_bytes_max(log)) {
            pending_push(log, pending);
            pending = pending_new(log);
        }
        struct log_record record = {.type = LOG_RECORD_ENTRY,
                                    .kind = (uint8_t)entry->type,
                                    .group = write->group,
                                    .term = entry->term,
                                    .index = write->first_index + i,
                                    .bytes = entry->payload};
        log_record_encode(&pending->stream, &record);
    }
    pending_push(log, pending);
    *out_ticket = log->ticket_last;
    launch(log);
    return OK;
}

size_t meta_log_entry_bytes_max(const struct meta_log *log)
{
    uint64_t half = log->options.segment_bytes / 2;
    return half < LOG_ENTRY_BYTES_MAX ? half : LOG_ENTRY_BYTES_MAX;
}

uint64_t meta_log_durable(const struct meta_log *log)
{
    return log->ticket_durable;
}

enum err meta_log_health(const struct meta_log *log)
{
    return log->failed ? ERR_FENCED : OK;
}

enum err meta_log_wait(struct io *io, struct meta_log *log, uint64_t ticket)
{
    while (log->ticket_durable < ticket) {
        if (log->failed)
            return ERR_FENCED;
        TRY(signal_wait(io, &log->progress, 0));
    }
    return OK;
}

bool meta_log_has_space(const struct meta_log *log, size_t bytes, bool urgent)
{
    if (!log->no_space)
        return true;
    if (!urgent && log->spare_count < META_LOG_SPARES)
        return false;
    uint64_t free_bytes = log->spare_count * log->options.segment_bytes;
    if (log->current != NULL)
        free_bytes += log->options.segment_bytes - log->current->offset;
    /* Batches are padded, and a segment's end may stay unused: half is a safe promise. */
    return 2 * (log->pending_bytes + bytes) + LOG_BLOCK_BYTES <= free_bytes;
}

/* --- reading back --- */

const struct log_group *meta_log_group(const struct meta_log *log, uint64_t group)
{
    return log_state_group(&log->state, group);
}

void meta_log_entries_deinit(struct meta_log_entries *entries)
{
    bytes_deinit(&entries->data);
    mem_free(entries->entries);
    mem_free(entries->offsets);
    *entries = (struct meta_log_entries){0};
}

/* Entries want..next-1 of a group from one batch; their payloads are found by out->offsets
 * while out->data grows. */
static enum err take_entries(struct slice stream, uint64_t group, uint64_t want, uint64_t next,
                             uint64_t last, struct meta_log_entries *out)
{
    uint32_t count_before = out->count;
    while (stream.bytes > 0) {
        struct log_record record;
        TRY(log_record_decode(&stream, &record, NULL));
        if (record.group != group)
            continue;
        if (record.type == LOG_RECORD_TRUNCATE && record.index < want + (out->count - count_before))
            out->count = count_before + (uint32_t)(record.index > want ? record.index - want : 0);
        if (record.type != LOG_RECORD_ENTRY || record.index < want || record.index >= next ||
            record.index > last)
            continue;
        if (out->count == out->capacity) {
            out->capacity = out->capacity == 0 ? 64 : out->capacity * 2;
            out->entries = mem_resize(out->entries, out->capacity * sizeof *out->entries);
            out->offsets = mem_resize(out->offsets, out->capacity * sizeof *out->offsets);
        }
        out->offsets[out->count] = out->data.bytes;
        bytes_append(&out->data, record.bytes);
        out->entries[out->count++] = (struct raft_entry){.term = record.term,
                                                         .type = (enum raft_entry_type)record.kind,
                                                         .payload = {.bytes = record.bytes.bytes}};
    }
    return out->count > count_before ? OK : FAIL(ERR_CORRUPT, "log entry=%" PRIu64 " lost", want);
}

enum err meta_log_read(struct io *io, struct meta_log *log, uint64_t group, uint64_t first,
                       uint64_t last, size_t bytes_max, struct meta_log_entries *out_entries)
{
    struct meta_log_entries *out = out_entries;
    out->count = 0;
    bytes_clear(&out->data);
    out->data.max = SIZE_MAX / 2;
    AUTO_VALUE(bytes) stream = {.max = STREAM_BYTES_MAX};
    size_t batch_bytes = 0;
    do {
        uint64_t want = first + out->count;
        uint64_t next = 0;
        const struct log_group *known = log_state_group(&log->state, group);
        const struct log_span *span = known == NULL ? NULL : log_group_span(known, want, &next);
        if (span == NULL)
            return known != NULL && want <= known->compacted_index ? ERR_COMPACTED : ERR_NOT_FOUND;
        struct log_span copy = *span; /* the log may change while this waits */
        TRY(log_file_read_batch(io, log->directory, log->options.id, &copy, &stream));
        batch_bytes = out->data.bytes;
        TRY(take_entries(bytes_slice(&stream), group, want, next, last, out));
        batch_bytes = out->data.bytes - batch_bytes;
    } while (first + out->count <= last && out->data.bytes + batch_bytes <= bytes_max);
    for (uint32_t i = 0; i < out->count; i++) {
        struct slice *payload = &out->entries[i].payload;
        payload->data = payload->bytes == 0 ? NULL : out->data.data + out->offsets[i];
    }
    return OK;
}

/* --- cutting --- */

/* Durable before the next one goes: a hole in the row of segments would look like damage. */
static enum err delete_segment(struct io *io, struct meta_log *log, uint64_t number)
{
    enum err err = ERR_BUSY;
    for (unsigned i = 0; err == ERR_BUSY && i < BUSY_RETRIES_MAX; i++) {
        err = log_file_delete(io, log->directory, number);
        if (err == OK || err == ERR_NOT_FOUND)
            err = io_sync_directory(io, log->directory);
        if (err == ERR_BUSY)
            TRY(io_sleep_ms(io, 1));
    }
    return err;
}

enum err meta_log_cut(struct io *io, struct meta_log *log, uint64_t group, uint64_t index,
                      uint64_t retain_bytes)
{
    struct log_group *known = log_state_group(&log->state, group);
    assert(known != NULL);
    if (log->failed)
        return ERR_FENCED;
    if (index > known->cut_index)
        known->cut_index = index;
    bool any = false;
    while (log->state.segment_count > 1) {
        const struct log_segment *first = &log->state.segments[0];
        uint64_t number = first->number;
        if (log_state_bytes(&log->state) - first->bytes < retain_bytes ||
            !log_state_drop_segment(&log->state, log->sequence_durable))
            break;
        any = true;
        TRY(delete_segment(io, log, number));
    }
    gauge_set(log->segments, log->state.segment_count);
    if (any && log->no_space)
        signal_wake_all(io, &log->to_fill);
    return OK;
}

uint64_t meta_log_bytes(const struct meta_log *log)
{
    return log_state_bytes(&log->state);
}

uint32_t meta_log_segment_count(const struct meta_log *log)
{
    return log->state.segment_count;
}
