/* One drive from end to end: the files in segments/, and in each the records.
 *
 * The scan of segment.h finds records and compares their cells; the hash of the payload is taken
 * here, from the same bytes. */
#include "survey_table.h"

#include "base/mem.h"
#include "base/text.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    READ_BYTES = 4 << 20,
    RETRY_BYTES = 64 << 10, /* around a place that cannot be read */
    NAMES_BYTES_MAX = 64 << 20,
    NAME_BYTES = 20, /* 16 hex digits and ".seg" */
    NONCE_AT = 48,   /* docs/formats.md#records */
    /* where a trailer is looked for: its head and its entries */
    TRAILER_BYTES_MAX = RECORD_ALIGN_BYTES + 32 * SEGMENT_ENTRIES_MAX,
};

/* A record that is bad, until it is known whether a crash explains it. */
struct bad_record {
    uint64_t shard; /* in the table */
    uint64_t offset;
    const char *what;
};

struct segment_survey {
    struct io *io;
    struct drive_survey *drive;
    struct survey_segment *segment;
    struct file *file;
    char *path;
    uint64_t bytes;
    struct segment_scan scan;
    /* Payload of the current record: all but its last block is in the hasher. */
    struct hasher *hasher;
    uint32_t blocks_seen;
    uint8_t block[RECORD_ALIGN_BYTES];
    uint64_t *offsets; /* of all records found, rising */
    uint32_t offset_count, offset_capacity;
    struct bad_record *bad;
    uint32_t bad_count, bad_capacity;
    enum err err;
};

static const char trailer_magic[8] = "SHLETTRL";
static const char what_payload[] = "the payload of a record fails its checksums";
static const char what_hash[] = "the payload of a record differs from its hash";
static const char what_header[] = "the header of a record is damaged";
static const char what_unreadable[] = "the device cannot read here";

/* --- the table --- */

static struct survey_shard shard_of(const struct segment_survey *scan, const struct record *record,
                                    uint64_t offset)
{
    struct survey_shard shard = {
        .block = record->block,
        .segment = scan->segment->number,
        .place = (uint32_t)(offset / RECORD_ALIGN_BYTES),
        .payload_bytes = record->payload_bytes,
        .block_bytes = record->block_bytes,
        .unit_bytes = record->unit_bytes,
        .drive = (uint8_t)scan->drive->index,
        .slot = record->slot,
        .data_shards = record->data_shards,
        .parity_shards = record->parity_shards,
        .kind = (uint8_t)record->kind,
    };
    memcpy(&shard.hash, record->payload_hash.bytes, sizeof shard.hash);
    return shard;
}

static void add_offset(struct segment_survey *scan, uint64_t offset)
{
    if (scan->offset_count == scan->offset_capacity) {
        scan->offset_capacity = scan->offset_capacity == 0 ? 256 : 2 * scan->offset_capacity;
        scan->offsets = mem_resize(scan->offsets, scan->offset_capacity * sizeof(uint64_t));
    }
    scan->offsets[scan->offset_count++] = offset;
}

static void add_bad(struct segment_survey *scan, uint64_t shard, uint64_t offset, const char *what)
{
    if (scan->bad_count == scan->bad_capacity) {
        scan->bad_capacity = scan->bad_capacity == 0 ? 16 : 2 * scan->bad_capacity;
        scan->bad = mem_resize(scan->bad, scan->bad_capacity * sizeof *scan->bad);
    }
    scan->bad[scan->bad_count++] = (struct bad_record){shard, offset, what};
}

/* `what`: NULL when it is whole. */
static void add_record(struct segment_survey *scan, const struct record *record, uint64_t offset,
                       const char *what)
{
    struct survey *survey = scan->drive->survey;
    struct survey_shard shard = shard_of(scan, record, offset);
    if (what != NULL) {
        shard.flags = SHARD_BAD;
        add_bad(scan, survey->shard_count, offset, what);
    }
    if (scan->err == OK)
        scan->err = survey_add(survey, &shard);
    if (scan->err != OK)
        return;
    add_offset(scan, offset);
    scan->drive->records++;
    scan->drive->payload_bytes += record->payload_bytes;
    struct survey_record found = {
        .block = record->block,
        .slot = record->slot,
        .block_bytes = record->block_bytes,
        .payload_bytes = record->payload_bytes,
        .good = what == NULL,
        .written_ms = scan->segment->created_ms,
        .hint = &record->hint,
    };
    if (survey->options.on_record != NULL)
        survey->options.on_record(survey->options.context, &found);
}

/* --- hashes --- */

static void add_block(struct segment_survey *scan, const uint8_t *block)
{
    if (scan->hasher == NULL)
        scan->hasher = hasher_new();
    if (scan->blocks_seen > 0)
        hasher_update(scan->hasher, slice_of(scan->block, sizeof scan->block));
    memcpy(scan->block, block, sizeof scan->block);
    scan->blocks_seen++;
}

static void forget_payload(struct segment_survey *scan)
{
    hasher_free(TAKE(scan->hasher));
    scan->blocks_seen = 0;
}

static bool hash_matches(struct segment_survey *scan, const struct record *record)
{
    /* The event of a one-shot record comes while its last block is taken. */
    if (scan->scan.payload_blocks == scan->blocks_seen + 1)
        add_block(scan, scan->scan.last_block);
    struct hash128 hash = hash128_of(slice_of(NULL, 0));
    if (record->payload_bytes > 0) {
        size_t tail_bytes = (record->payload_bytes - 1) % RECORD_ALIGN_BYTES + 1;
        hasher_update(scan->hasher, slice_of(scan->block, tail_bytes));
        hash = hasher_value(scan->hasher);
    }
    return hash128_equal(&hash, &record->payload_hash) != 0;
}

static void on_event(void *context, const struct segment_event *event)
{
    struct segment_survey *scan = context;
    switch (event->kind) {
    case SEGMENT_RECORD:
        add_record(scan, event->record, event->offset,
                   hash_matches(scan, event->record) ? NULL : what_hash);
        break;
    case SEGMENT_BAD:
        add_record(scan, event->record, event->offset, what_payload);
        break;
    case SEGMENT_UNFINISHED:
        break;
    }
    forget_payload(scan);
}

/* Block by block, to see which of them are payload. */
static void feed(struct segment_survey *scan, const uint8_t *data, size_t bytes)
{
    for (size_t at = 0; at < bytes && scan->err == OK; at += RECORD_ALIGN_BYTES) {
        uint32_t before = scan->scan.payload_blocks;
        segment_scan_feed(&scan->scan, slice_of(data + at, RECORD_ALIGN_BYTES));
        bool in_payload = scan->scan.in_stream || scan->scan.state == SCAN_ONE_SHOT;
        if (scan->scan.payload_blocks < before || !in_payload)
            forget_payload(scan);
        else if (scan->scan.payload_blocks == scan->blocks_seen + 1)
            add_block(scan, scan->scan.last_block);
    }
}

/* --- bytes --- */

/* What cannot be read becomes bytes that are nothing, so that the rest is still understood. */
static enum err read_around(struct segment_survey *scan, struct buf *buf, uint64_t offset,
                            size_t bytes, size_t step, size_t *out_bytes)
{
    *out_bytes = 0;
    for (size_t at = 0; at < bytes; at += step) {
        size_t got = 0;
        size_t want = step < bytes - at ? step : bytes - at;
        enum err err = io_read(scan->io, scan->file, buf, at, want, offset + at, &got);
        if (err == ERR_IO && step > RECORD_ALIGN_BYTES) {
            err = read_around(scan, buf, offset + at, want, RECORD_ALIGN_BYTES, &got);
        } else if (err == ERR_IO) {
            survey_report(scan->drive->survey, scan->path, offset + at, what_unreadable, NULL, 0);
            memset(buf->data + at, 0xff, want);
            got = want;
            err = OK;
        }
        TRY(err);
        *out_bytes += got;
        if (got < want)
            break;
    }
    return OK;
}

/* A short read at the end of the file is completed with zeros to a whole block. */
static enum err read_blocks(struct segment_survey *scan, struct buf *buf, uint64_t offset,
                            size_t bytes, size_t *out_bytes)
{
    size_t got = 0;
    enum err err = io_read(scan->io, scan->file, buf, 0, bytes, offset, &got);
    if (err == ERR_IO) {
        size_t left = offset < scan->bytes ? (size_t)(scan->bytes - offset) : 0;
        bytes = bytes < left ? bytes : left;
        err = read_around(scan, buf, offset, bytes, RETRY_BYTES, &got);
    }
    TRY(err);
    size_t whole = (size_t)record_align(got);
    memset(buf->data + got, 0, whole - got);
    *out_bytes = whole;
    return OK;
}

static void add_progress(struct survey *survey, uint64_t bytes)
{
    survey->done_bytes += bytes;
    if (survey->options.on_progress != NULL)
        survey->options.on_progress(survey->options.context, survey->done_bytes,
                                    survey->total_bytes);
}

static enum err read_all(struct segment_survey *scan)
{
    AUTO(buf) buf = buf_new(READ_BYTES);
    for (;;) {
        size_t bytes = 0;
        TRY(read_blocks(scan, buf, scan->scan.position, READ_BYTES, &bytes));
        if (bytes == 0)
            break;
        feed(scan, buf->data, bytes);
        TRY(scan->err);
        add_progress(scan->drive->survey, bytes);
        TRY(io_yield(scan->io));
    }
    segment_scan_finish(&scan->scan);
    return scan->err;
}

/* --- what the trailer lists and nothing was found of --- */

static int compare_offsets(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static bool was_found(const struct segment_survey *scan, uint64_t offset)
{
    return scan->offset_count > 0 && bsearch(&offset, scan->offsets, scan->offset_count,
                                             sizeof offset, compare_offsets) != NULL;
}

static bool all_zero(const uint8_t *data, size_t bytes)
{
    return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

static enum err add_entry(struct segment_survey *scan, const struct segment_entry *entry)
{
    struct survey *survey = scan->drive->survey;
    struct survey_shard shard = {.block = entry->block,
                                 .segment = scan->segment->number,
                                 .place = (uint32_t)(entry->offset / RECORD_ALIGN_BYTES),
                                 .drive = (uint8_t)scan->drive->index,
                                 .slot = entry->slot,
                                 .flags = SHARD_BAD | SHARD_TRAILER};
    if (entry->slot >= META_SHARDS_MAX)
        return OK;
    add_bad(scan, survey->shard_count, entry->offset, what_header);
    scan->drive->records++;
    return survey_add(survey, &shard);
}

/* Zeros are a record that was punched. */
static enum err check_entries(struct segment_survey *scan)
{
    AUTO(buf) buf = buf_new(RECORD_ALIGN_BYTES);
    for (uint32_t i = 0; i < segment_scan_entries(&scan->scan); i++) {
        struct segment_entry entry = segment_scan_entry(&scan->scan, i);
        size_t bytes = 0;
        if (was_found(scan, entry.offset))
            continue;
        TRY(read_blocks(scan, buf, entry.offset, RECORD_ALIGN_BYTES, &bytes));
        if (!all_zero(buf->data, bytes))
            TRY(add_entry(scan, &entry));
    }
    return OK;
}

static void judge_bad(struct segment_survey *scan)
{
    struct survey *survey = scan->drive->survey;
    for (uint32_t i = 0; i < scan->bad_count; i++) {
        const struct bad_record *bad = &scan->bad[i];
        struct survey_shard *shard = &survey->shards[bad->shard];
        bool torn = !scan->scan.sealed && bad->offset >= scan->scan.durable_offset &&
                    bad->what == what_payload;
        if (torn) {
            shard->flags |= SHARD_TORN;
            scan->drive->torn_records++;
            continue;
        }
        scan->drive->bad_records++;
        survey_report(survey, scan->path, bad->offset, bad->what, &shard->block, shard->slot);
    }
    if (scan->scan.damaged_from != UINT64_MAX)
        survey_report(survey, scan->path, scan->scan.damaged_from,
                      "bytes between good records that are none", NULL, 0);
}

/* --- without the payload --- */

/* Feed the scan from a place that looks like the trailer on; true when it is one. */
static enum err try_trailer(struct segment_survey *scan, uint64_t offset, struct buf *buf)
{
    struct segment_identity identity = scan->scan.identity;
    segment_scan_deinit(&scan->scan);
    segment_scan_init(&scan->scan, &identity, offset, on_event, scan);
    while (!scan->scan.sealed) {
        size_t bytes = 0;
        TRY(read_blocks(scan, buf, scan->scan.position, READ_BYTES, &bytes));
        if (bytes == 0)
            break;
        segment_scan_feed(&scan->scan, slice_of(buf->data, bytes));
    }
    return OK;
}

/* The file of a sealed segment ends with the entries of its trailer. */
static enum err find_trailer(struct segment_survey *scan, bool *out_found)
{
    AUTO(buf) buf = buf_new(READ_BYTES);
    AUTO(buf) rest = buf_new(READ_BYTES);
    uint64_t blocks = scan->bytes / RECORD_ALIGN_BYTES;
    uint64_t high = blocks * RECORD_ALIGN_BYTES;
    uint64_t least = high > TRAILER_BYTES_MAX + (uint64_t)SEGMENT_HEADER_BYTES
                         ? high - TRAILER_BYTES_MAX
                         : SEGMENT_HEADER_BYTES;
    *out_found = false;
    while (!*out_found && high > least) {
        uint64_t low = high - least > READ_BYTES ? high - READ_BYTES : least;
        size_t bytes = 0;
        TRY(read_blocks(scan, buf, low, (size_t)(high - low), &bytes));
        for (size_t at = bytes; !*out_found && at > 0; at -= RECORD_ALIGN_BYTES) {
            const uint8_t *block = buf->data + at - RECORD_ALIGN_BYTES;
            if (memcmp(block, trailer_magic, sizeof trailer_magic) != 0)
                continue;
            TRY(try_trailer(scan, low + at - RECORD_ALIGN_BYTES, rest));
            *out_found = scan->scan.sealed;
        }
        high = low;
    }
    return OK;
}

/* The header of a one-shot record or the footer of a stream, which say all there is to say. */
static enum err read_entry(struct segment_survey *scan, const struct segment_entry *entry,
                           struct buf *buf, struct record *record, bool *out_punched)
{
    const struct segment_identity *identity = &scan->scan.identity;
    size_t bytes = 0;
    *out_punched = false;
    TRY(read_blocks(scan, buf, entry->offset, RECORD_HEADER_BYTES, &bytes));
    *out_punched = all_zero(buf->data, bytes);
    if (*out_punched || bytes < RECORD_HEADER_BYTES)
        return ERR_CORRUPT;
    TRY(record_decode(slice_of(buf->data, RECORD_HEADER_BYTES), identity, RECORD_HEADER,
                      entry->offset, record));
    if (record->kind == RECORD_ONE_SHOT)
        return OK;
    for (uint32_t size = RECORD_ALIGN_BYTES; size <= RECORD_FOOTER_BYTES_MAX;
         size += RECORD_ALIGN_BYTES) {
        if (entry->bytes < size + (uint64_t)RECORD_HEADER_BYTES)
            break;
        TRY(read_blocks(scan, buf, entry->offset + entry->bytes - size, size, &bytes));
        if (bytes == size && record_looks_like(buf->data, RECORD_FOOTER) &&
            record_claimed_bytes(buf->data, identity) == size)
            return record_decode(slice_of(buf->data, size), identity, RECORD_FOOTER, UINT64_MAX,
                                 record);
    }
    return ERR_CORRUPT;
}

static enum err read_entries(struct segment_survey *scan)
{
    AUTO(buf) buf = buf_new(RECORD_FOOTER_BYTES_MAX);
    struct record *record = mem_new(struct record);
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < segment_scan_entries(&scan->scan); i++) {
        struct segment_entry entry = segment_scan_entry(&scan->scan, i);
        bool punched = false;
        enum err found = read_entry(scan, &entry, buf, record, &punched);
        bool other = found == OK && (!block_id_equal(record->block, entry.block) ||
                                     record->offset != entry.offset);
        if (found == OK && !other)
            add_record(scan, record, entry.offset, NULL);
        else if ((found == ERR_CORRUPT || found == ERR_MISMATCH || other) && !punched)
            err = add_entry(scan, &entry);
        else if (!punched)
            err = found;
        if (err == OK)
            err = scan->err;
    }
    mem_free(record);
    return err;
}

static enum err scan_headers(struct segment_survey *scan, bool *out_done)
{
    TRY(find_trailer(scan, out_done));
    if (!*out_done) {
        struct segment_identity identity = scan->scan.identity;
        segment_scan_deinit(&scan->scan);
        segment_scan_init(&scan->scan, &identity, SEGMENT_HEADER_BYTES, on_event, scan);
        return OK;
    }
    TRY(read_entries(scan));
    add_progress(scan->drive->survey, scan->bytes);
    judge_bad(scan);
    return OK;
}

static enum err scan_records(struct segment_survey *scan, enum segment_kind kind)
{
    bool done = false;
    /* Small records are read faster in a row than one by one. */
    if (scan->drive->survey->options.headers_only && kind == SEGMENT_STREAMED)
        TRY(scan_headers(scan, &done));
    if (done)
        return OK;
    TRY(read_all(scan));
    TRY(check_entries(scan));
    judge_bad(scan);
    return OK;
}

/* --- who a segment is --- */

static enum err identify(struct drive_survey *drive, const struct segment_identity *identity)
{
    if (!drive->identified) {
        memcpy(drive->cluster_id, identity->cluster_id, 16);
        drive->id = identity->drive;
        drive->identified = true;
    }
    if (memcmp(identity->cluster_id, drive->cluster_id, 16) != 0 ||
        memcmp(identity->drive.bytes, drive->id.bytes, 16) != 0)
        return ERR_MISMATCH; /* reported by the caller */
    return OK;
}

/* Both headers are gone: every record carries the nonce too, and the ids beside it, which no
 * client knows. */
static enum err find_nonce(struct segment_survey *scan, struct segment_identity *identity)
{
    AUTO(buf) buf = buf_new(READ_BYTES);
    struct record *record = mem_new(struct record);
    enum err found = ERR_CORRUPT;
    for (uint64_t offset = SEGMENT_HEADER_BYTES; found != OK && offset < scan->bytes;
         offset += READ_BYTES) {
        size_t bytes = 0;
        enum err err = read_blocks(scan, buf, offset, READ_BYTES, &bytes);
        if (err != OK) {
            mem_free(record);
            return err;
        }
        for (size_t at = 0; found != OK && at < bytes; at += RECORD_ALIGN_BYTES) {
            const uint8_t *block = buf->data + at;
            if (!record_looks_like(block, RECORD_HEADER))
                continue;
            memcpy(identity->nonce, block + NONCE_AT, RECORD_NONCE_BYTES);
            found = record_decode(slice_of(block, RECORD_HEADER_BYTES), identity, RECORD_HEADER,
                                  offset + at, record);
        }
    }
    mem_free(record);
    return found;
}

/* ERR_NOT_FOUND: nothing in it was ever durable. */
static enum err read_identity(struct segment_survey *scan, struct segment_identity *out,
                              enum segment_kind *out_kind)
{
    struct drive_survey *drive = scan->drive;
    AUTO(buf) buf = buf_new(SEGMENT_HEADER_BYTES);
    size_t bytes = 0;
    struct segment_header header;
    TRY(read_blocks(scan, buf, 0, SEGMENT_HEADER_BYTES, &bytes));
    enum err err = segment_header_decode(slice_of(buf->data, bytes), &header);
    if (err == OK) {
        scan->segment->created_ms = header.created_ms;
        *out_kind = header.kind;
        *out = header.identity;
        return out->segment == scan->segment->number ? identify(drive, out) : ERR_MISMATCH;
    }
    if (err != ERR_CORRUPT)
        return err;
    if (scan->bytes <= SEGMENT_HEADER_BYTES)
        return ERR_NOT_FOUND;
    survey_report(drive->survey, scan->path, 0, "both headers of the segment are damaged", NULL, 0);
    *out = (struct segment_identity){.drive = drive->id, .segment = scan->segment->number};
    memcpy(out->cluster_id, drive->cluster_id, 16);
    return find_nonce(scan, out);
}

static enum err scan_segment(struct segment_survey *scan)
{
    struct survey *survey = scan->drive->survey;
    struct segment_identity identity;
    TRY(io_open(scan->io, scan->path, FILE_DIRECT, &scan->file));
    struct file_info info;
    TRY(io_file_info(scan->io, scan->file, &info));
    scan->bytes = info.bytes;
    enum segment_kind kind = SEGMENT_ONE_SHOT;
    enum err err = read_identity(scan, &identity, &kind);
    if (err == ERR_NOT_FOUND)
        return OK;
    if (err == ERR_MISMATCH || err == ERR_CORRUPT || err == ERR_UNSUPPORTED) {
        survey_report(survey, scan->path, 0,
                      err == ERR_MISMATCH  ? "a segment of another drive"
                      : err == ERR_CORRUPT ? "the segment cannot be understood"
                                           : "the segment is of a later release",
                      NULL, 0);
        return OK;
    }
    TRY(err);
    memcpy(scan->segment->nonce, identity.nonce, RECORD_NONCE_BYTES);
    scan->segment->known = true;
    segment_scan_init(&scan->scan, &identity, SEGMENT_HEADER_BYTES, on_event, scan);
    err = scan_records(scan, kind);
    segment_scan_deinit(&scan->scan);
    return err;
}

/* --- the drive --- */

static bool parse_name(const char *name, uint64_t *out_number)
{
    uint8_t bytes[8];
    if (strlen(name) != NAME_BYTES || strcmp(name + 16, ".seg") != 0 ||
        text_parse_hex(slice_of(name, 16), bytes, sizeof bytes) != OK)
        return false;
    *out_number = 0;
    for (int i = 0; i < 8; i++)
        *out_number = *out_number << 8 | bytes[i];
    return true;
}

static enum err list_segments(struct io *io, struct drive_survey *drive)
{
    AUTO_STRING path = mem_format("%s/segments", drive->directory);
    AUTO_VALUE(bytes) names = {.max = NAMES_BYTES_MAX};
    enum err err = io_list_directory(io, path, &names);
    if (err == ERR_NOT_FOUND)
        return OK; /* nothing was ever written */
    TRY(err);
    for (size_t at = 0; at < names.bytes; at += strlen((char *)names.data + at) + 1) {
        struct survey_segment segment = {.known = false};
        if (!parse_name((char *)names.data + at, &segment.number))
            continue;
        if (drive->segment_count == drive->segment_capacity) {
            drive->segment_capacity =
                drive->segment_capacity == 0 ? 64 : 2 * drive->segment_capacity;
            drive->segments = mem_resize(drive->segments, drive->segment_capacity * sizeof segment);
        }
        drive->segments[drive->segment_count++] = segment;
        AUTO_STRING file = survey_segment_path(drive, segment.number);
        struct file_info info;
        TRY(io_stat(io, file, &info));
        drive->survey->total_bytes += info.bytes;
    }
    return OK;
}

enum err survey_scan_drive(struct io *io, struct drive_survey *drive)
{
    TRY(list_segments(io, drive));
    for (uint32_t i = 0; i < drive->segment_count; i++) {
        struct segment_survey *scan = mem_new(struct segment_survey);
        scan->io = io;
        scan->drive = drive;
        scan->segment = &drive->segments[i];
        scan->path = survey_segment_path(drive, scan->segment->number);
        enum err err = scan_segment(scan);
        forget_payload(scan);
        file_close(scan->file);
        mem_free(scan->offsets);
        mem_free(scan->bad);
        mem_free(scan->path);
        mem_free(scan);
        TRY(err);
    }
    return OK;
}
