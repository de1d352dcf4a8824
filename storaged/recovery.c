/* Scanning what an earlier start left: see recovery.h. */
#include "recovery.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    READ_BYTES = 1 << 20,
    EVENTS_BATCH = 256,
    NAMES_BYTES_MAX = 64 << 20,
    NAME_BYTES = 20, /* 16 hex digits and ".seg" */
};

/* One segment being looked through. */
struct recovery {
    struct drive *drive;
    struct segment_file *segment;
    struct segment_scan scan;
    struct index_entry events[EVENTS_BATCH];
    uint32_t event_count;
    uint64_t *offsets; /* of all records found, rising: compared with the trailer */
    uint32_t offset_count, offset_capacity;
    uint64_t *bad_offsets;
    uint32_t bad_count, bad_capacity;
};

static void push_offset(uint64_t **offsets, uint32_t *count, uint32_t *capacity, uint64_t offset)
{
    if (*count == *capacity) {
        *capacity = *capacity == 0 ? 64 : 2 * *capacity;
        *offsets = mem_resize(*offsets, *capacity * sizeof(uint64_t));
    }
    (*offsets)[(*count)++] = offset;
}

static void note_unfinished(struct recovery *recovery, const struct segment_event *event)
{
    struct drive *drive = recovery->drive;
    if (drive->dead_count == drive->dead_capacity) {
        drive->dead_capacity = drive->dead_capacity == 0 ? 16 : 2 * drive->dead_capacity;
        drive->dead = mem_resize(drive->dead, drive->dead_capacity * sizeof(struct dead_extent));
    }
    drive->dead[drive->dead_count++] =
        (struct dead_extent){recovery->segment->identity.segment, event->offset, event->bytes};
}

static void on_event(void *context, const struct segment_event *event)
{
    struct recovery *recovery = context;
    if (event->kind == SEGMENT_UNFINISHED) {
        note_unfinished(recovery, event);
        return;
    }
    assert(recovery->event_count < EVENTS_BATCH);
    bool bad = event->kind == SEGMENT_BAD;
    if (bad)
        push_offset(&recovery->bad_offsets, &recovery->bad_count, &recovery->bad_capacity,
                    event->offset);
    push_offset(&recovery->offsets, &recovery->offset_count, &recovery->offset_capacity,
                event->offset);
    struct index_entry *entry = &recovery->events[recovery->event_count++];
    entry->key = (struct shard_key){.block = event->record->block, .slot = event->record->slot};
    entry->place =
        place_of_record(event->record, recovery->segment->identity.segment, event->bytes);
    entry->place.bad = bad;
}

static enum err put_events(struct io *io, struct recovery *recovery)
{
    if (recovery->event_count == 0)
        return OK;
    TRY(drive_index_restore(io, recovery->drive, recovery->segment, recovery->events,
                            recovery->event_count));
    recovery->event_count = 0;
    return OK;
}

/* A short read at the end of the file is completed with zeros to a whole block. */
static enum err read_blocks(struct io *io, struct file *file, struct buf *buf, uint64_t offset,
                            size_t bytes, size_t *out_bytes)
{
    size_t got = 0;
    TRY(io_read(io, file, buf, 0, bytes, offset, &got));
    size_t whole = (size_t)record_align(got);
    memset(buf->data + got, 0, whole - got);
    *out_bytes = whole;
    return OK;
}

static enum err scan_file(struct io *io, struct recovery *recovery, struct file *file)
{
    AUTO(buf) buf = buf_new(READ_BYTES);
    for (;;) {
        size_t bytes = 0;
        TRY(read_blocks(io, file, buf, recovery->scan.position, READ_BYTES, &bytes));
        if (bytes == 0)
            break;
        /* At most one event for each block fed, and room for what was begun before. */
        for (size_t at = 0; at < bytes; at += (EVENTS_BATCH - 8) / 2 * RECORD_ALIGN_BYTES) {
            TRY(put_events(io, recovery));
            segment_scan_feed(&recovery->scan,
                              slice_first(slice_of(buf->data + at, bytes - at),
                                          (EVENTS_BATCH - 8) / 2 * RECORD_ALIGN_BYTES));
        }
    }
    TRY(put_events(io, recovery));
    segment_scan_finish(&recovery->scan);
    return put_events(io, recovery);
}

/* A record that the trailer lists and the scan did not find: punched when there are zeros, else its
 * header rotted. */
static enum err check_entry(struct io *io, struct recovery *recovery, struct file *file,
                            const struct segment_entry *entry)
{
    AUTO(buf) buf = buf_new(RECORD_ALIGN_BYTES);
    size_t bytes = 0;
    TRY(read_blocks(io, file, buf, entry->offset, RECORD_ALIGN_BYTES, &bytes));
    if (bytes == 0 || (buf->data[0] == 0 && memcmp(buf->data, buf->data + 1, bytes - 1) == 0))
        return OK;
    push_offset(&recovery->bad_offsets, &recovery->bad_count, &recovery->bad_capacity,
                entry->offset);
    recovery->events[recovery->event_count++] =
        (struct index_entry){.key = {.block = entry->block, .slot = entry->slot},
                             .place = {.segment = recovery->segment->identity.segment,
                                       .offset = entry->offset,
                                       .bytes = entry->bytes,
                                       .kind = (enum record_kind)recovery->segment->kind,
                                       .data_shards = 1,
                                       .unit_bytes = RECORD_ALIGN_BYTES,
                                       .bad = true}};
    return recovery->event_count == EVENTS_BATCH ? put_events(io, recovery) : OK;
}

static int compare_offsets(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* Entries are in the order in which the records became durable. */
static enum err check_trailer(struct io *io, struct recovery *recovery, struct file *file,
                              uint64_t from)
{
    for (uint32_t i = 0; i < segment_scan_entries(&recovery->scan); i++) {
        struct segment_entry entry = segment_scan_entry(&recovery->scan, i);
        bool found = entry.offset < from ||
                     (recovery->offset_count > 0 &&
                      bsearch(&entry.offset, recovery->offsets, recovery->offset_count,
                              sizeof entry.offset, compare_offsets) != NULL);
        if (!found)
            TRY(check_entry(io, recovery, file, &entry));
    }
    return put_events(io, recovery);
}

static void report(const struct recovery *recovery)
{
    const char *directory = recovery->drive->directory;
    uint64_t segment = recovery->segment->identity.segment;
    const struct segment_scan *scan = &recovery->scan;
    for (uint32_t i = 0; i < recovery->bad_count; i++) {
        uint64_t offset = recovery->bad_offsets[i];
        if (scan->sealed || offset < scan->durable_offset)
            log_error("recovery: a stored record is damaged directory=%s segment=%" PRIu64
                      " offset=%" PRIu64,
                      directory, segment, offset);
        else
            log_info("recovery: a write was cut off by the crash directory=%s segment=%" PRIu64
                     " offset=%" PRIu64,
                     directory, segment, offset);
    }
    if (scan->damaged_from != UINT64_MAX)
        log_warn("recovery: bytes that are no record between good ones directory=%s "
                 "segment=%" PRIu64 " offset=%" PRIu64,
                 directory, segment, scan->damaged_from);
}

/* Entries come by offset from the index, which now has all of them. */
static enum err seal(struct io *io, struct recovery *recovery)
{
    struct drive *drive = recovery->drive;
    struct segment_file *segment = recovery->segment;
    if (recovery->scan.sealed) {
        pthread_mutex_lock(&drive->mutex);
        segment->state = SEGMENT_SEALED;
        segment->end = recovery->scan.position;
        segment->watermark = segment->end;
        pthread_mutex_unlock(&drive->mutex);
        return drive_index_put_segment(io, drive, segment);
    }
    struct segment_entry *entries = NULL;
    uint32_t count = 0;
    TRY(drive_index_entries(io, drive, segment->identity.segment, &entries, &count));
    uint64_t end = recovery->scan.used_end;
    if (count > 0 && entries[count - 1].offset + entries[count - 1].bytes > end)
        end = entries[count - 1].offset + entries[count - 1].bytes;
    enum err err = drive_segment_seal(io, drive, segment, entries, count, end);
    mem_free(entries);
    return err;
}

static enum err scan_segment(struct io *io, struct drive *drive, struct segment_file *segment)
{
    struct file *file = NULL;
    TRY(drive_segment_file(io, drive, segment, true, &file));
    struct recovery *recovery = mem_new(struct recovery);
    recovery->drive = drive;
    recovery->segment = segment;
    uint64_t from = segment->watermark;
    segment_scan_init(&recovery->scan, &segment->identity, from, on_event, recovery);
    enum err err = scan_file(io, recovery, file);
    if (err == OK)
        err = check_trailer(io, recovery, file, from);
    if (err == OK) {
        report(recovery);
        err = seal(io, recovery);
    }
    segment_scan_deinit(&recovery->scan);
    mem_free(recovery->offsets);
    mem_free(recovery->bad_offsets);
    mem_free(recovery);
    return err;
}

/* --- which segments there are --- */

static const struct segment_row *find_row(const struct segment_row *rows, uint32_t count,
                                          uint64_t segment)
{
    for (uint32_t low = 0, high = count; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        if (rows[middle].segment == segment)
            return &rows[middle];
        if (rows[middle].segment < segment)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* The header of the file, or what the index knows of it. ERR_NOT_FOUND: the file was just
 * being made and holds nothing. */
static enum err read_identity(struct io *io, struct drive *drive, uint64_t id,
                              const struct segment_row *row, struct segment_header *out)
{
    char path[DRIVE_PATH_BYTES_MAX];
    drive_segment_path(drive, id, path);
    AUTO(file) file = NULL;
    TRY(io_open(io, path, FILE_DIRECT, &file));
    AUTO(buf) buf = buf_new(SEGMENT_HEADER_BYTES);
    size_t bytes = 0;
    TRY(io_read(io, file, buf, 0, SEGMENT_HEADER_BYTES, 0, &bytes));
    enum err err = segment_header_decode(slice_of(buf->data, bytes), out);
    bool ours = err == OK && out->identity.segment == id &&
                memcmp(out->identity.drive.bytes, drive->superblock->drive.bytes, 16) == 0 &&
                memcmp(out->identity.cluster_id, drive->superblock->node.cluster_id, 16) == 0;
    if (ours || err == ERR_UNSUPPORTED)
        return err;
    if (err == OK)
        return FAIL(ERR_MISMATCH, "segment file of another drive path=%s", path);
    if (row != NULL) {
        log_error("recovery: header of a segment is damaged, going on by the index path=%s", path);
        out->kind = row->kind;
        out->identity = (struct segment_identity){.drive = drive->superblock->drive, .segment = id};
        memcpy(out->identity.cluster_id, drive->superblock->node.cluster_id, 16);
        memcpy(out->identity.nonce, row->nonce, RECORD_NONCE_BYTES);
        return OK;
    }
    struct file_info info;
    TRY(io_file_info(io, file, &info));
    if (info.bytes <= SEGMENT_HEADER_BYTES)
        return ERR_NOT_FOUND;
    return err;
}

static enum err take_segment(struct io *io, struct drive *drive, uint64_t id,
                             const struct segment_row *row)
{
    struct segment_header header = {.kind = SEGMENT_ONE_SHOT};
    enum err err = read_identity(io, drive, id, row, &header);
    char path[DRIVE_PATH_BYTES_MAX];
    drive_segment_path(drive, id, path);
    if (err == ERR_NOT_FOUND)
        return io_unlink(io, path); /* its header was never durable, so nothing in it was */
    if (err == ERR_CORRUPT || err == ERR_MISMATCH) {
        log_error("recovery: segment cannot be read and is left alone path=%s cause=\"%s\"", path,
                  err_text(err));
        return OK;
    }
    TRY(err);
    struct segment_file *segment = mem_new(struct segment_file);
    *segment = (struct segment_file){.identity = header.identity,
                                     .kind = header.kind,
                                     .state = SEGMENT_CLOSING,
                                     .end = SEGMENT_HEADER_BYTES,
                                     .watermark = SEGMENT_HEADER_BYTES,
                                     .users = 1};
    if (row != NULL) {
        segment->end = row->end;
        segment->watermark = row->watermark;
        segment->live_bytes = row->live_bytes;
        segment->live_count = row->live_count;
        if (row->sealed)
            segment->state = SEGMENT_SEALED;
    }
    drive_segment_insert(drive, segment);
    err = segment->state == SEGMENT_SEALED ? OK : scan_segment(io, drive, segment);
    drive_segment_release(drive, segment);
    return err;
}

static bool parse_name(const char *name, uint64_t *out_id)
{
    uint8_t bytes[8];
    if (strlen(name) != NAME_BYTES || strcmp(name + 16, ".seg") != 0 ||
        text_parse_hex(slice_of(name, 16), bytes, sizeof bytes) != OK)
        return false;
    *out_id = 0;
    for (int i = 0; i < 8; i++)
        *out_id = *out_id << 8 | bytes[i];
    return true;
}

static void report_missing(struct drive *drive, const struct segment_row *rows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct segment_file *segment = drive_segment_acquire(drive, rows[i].segment);
        if (segment == NULL && rows[i].live_count > 0)
            log_error("recovery: a segment file is gone directory=%s segment=%" PRIu64
                      " records=%" PRIu64,
                      drive->directory, rows[i].segment, rows[i].live_count);
        drive_segment_release(drive, segment);
    }
}

enum err drive_recover(struct io *io, struct drive *drive, const struct segment_row *rows,
                       uint32_t row_count, bool rebuild)
{
    for (uint32_t i = 0; i < row_count; i++) {
        if (rows[i].segment >= drive->segment_next)
            drive->segment_next = rows[i].segment + 1;
    }
    AUTO_STRING path = mem_format("%s/segments", drive->directory);
    AUTO_VALUE(bytes) names = {.max = NAMES_BYTES_MAX};
    TRY(io_list_directory(io, path, &names));
    if (rebuild && names.bytes > 0)
        log_warn("recovery: scanning every segment directory=%s", drive->directory);
    for (size_t at = 0; at < names.bytes; at += strlen((char *)names.data + at) + 1) {
        uint64_t id = 0;
        if (parse_name((char *)names.data + at, &id))
            TRY(take_segment(io, drive, id, find_row(rows, row_count, id)));
        else
            log_warn("recovery: not a segment, ignored directory=%s name=%s", drive->directory,
                     (char *)names.data + at);
    }
    report_missing(drive, rows, row_count);
    return drive_index_flush(io, drive);
}
