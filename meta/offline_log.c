/* See offline_log.h. Judged by log_scan.c, as at a start; but nothing is deleted or synced. */
#include "offline_log.h"
#include "base/crc.h"
#include "base/encode.h"
#include "base/mem.h"
#include "base/text.h"
#include <inttypes.h>
#include <stdio.h>

enum {
    CHUNK_BYTES = 1 << 20,
    NAMES_BYTES_MAX = 4 << 20,
    NUMBER_CHARS = 16,
    /* docs/formats.md#raft-log: identity */
    IDENTITY_BYTES = 4096,
    IDENTITY_VERSION = 1,
    IDENTITY_VERSION_AT = 8,
    IDENTITY_CLUSTER_AT = 16,
    IDENTITY_LOG_AT = 32,
    IDENTITY_REPLICA_AT = 48,
    IDENTITY_GROUP_AT = 56,
    IDENTITY_CRC_AT = 64,
};
static const char identity_magic[8] = "SHALEMTA";
#define SEGMENT_PREFIX "segment-"

struct reader {
    struct io *io;
    struct log_scan_segment *segments;
    struct file **files;
    uint32_t count;
    struct buf *buf;
};

void offline_log_deinit(struct offline_log *log)
{
    log_state_deinit(&log->state);
    mem_free(log->directory);
    *log = (struct offline_log){0};
}

static void damaged(struct offline_log *log, const char *file, uint64_t offset, const char *reason)
{
    snprintf(log->found.damage_file, sizeof log->found.damage_file, "%s", file);
    log->found.damage_offset = offset;
    log->found.damage_reason = reason;
}

/* --- identity --- */

static enum err load_identity(struct io *io, const char *replica, struct offline_log *log)
{
    AUTO_STRING path = mem_format("%s/identity", replica);
    AUTO(file) file = NULL;
    TRY(io_open(io, path, 0, &file));
    AUTO(buf) buf = buf_new(IDENTITY_BYTES);
    size_t bytes = 0;
    memset(buf->data, 0, IDENTITY_BYTES);
    enum err err = io_read(io, file, buf, 0, IDENTITY_BYTES, 0, &bytes);
    if (err == ERR_IO) {
        damaged(log, path, 0, "it cannot be read");
        return OK;
    }
    TRY(err);
    const uint8_t *at = buf->data;
    if (memcmp(at, identity_magic, sizeof identity_magic) != 0 ||
        load_u32(at + IDENTITY_CRC_AT) != crc32c_update(0, slice_of(at, IDENTITY_CRC_AT))) {
        damaged(log, path, 0, "the identity of the replica fails its checksum");
        return OK;
    }
    if (load_u32(at + IDENTITY_VERSION_AT) != IDENTITY_VERSION)
        return FAIL(ERR_UNSUPPORTED, "%s version=%" PRIu32, path,
                    load_u32(at + IDENTITY_VERSION_AT));
    memcpy(log->found.cluster_id, at + IDENTITY_CLUSTER_AT, 16);
    memcpy(log->log_id, at + IDENTITY_LOG_AT, LOG_ID_BYTES);
    log->found.replica_id = load_u64(at + IDENTITY_REPLICA_AT);
    log->found.group_id = load_u64(at + IDENTITY_GROUP_AT);
    return OK;
}

/* --- segments --- */

static void reader_deinit(struct reader *reader)
{
    for (uint32_t i = 0; i < reader->count; i++)
        file_close(reader->files[i]);
    mem_free(reader->files);
    mem_free(reader->segments);
    if (reader->buf != NULL)
        buf_unref(reader->buf);
}

/* False for what is no segment: a start clears the one being made away and refuses others. */
static bool parse_name(const char *name, uint64_t *out_number)
{
    uint8_t bytes[NUMBER_CHARS / 2];
    struct slice text = slice_of_text(name);
    if (!slice_starts_with(text, SLICE_LITERAL(SEGMENT_PREFIX)) ||
        text_parse_hex(slice_skip(text, sizeof SEGMENT_PREFIX - 1), bytes, sizeof bytes) != OK)
        return false;
    *out_number = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        *out_number = *out_number << 8 | bytes[i];
    return *out_number != 0;
}

static char *segment_path(const struct offline_log *log, uint64_t number)
{
    return mem_format("%s/" SEGMENT_PREFIX "%016" PRIx64, log->directory, number);
}

static enum err open_segment(struct reader *reader, const struct offline_log *log, uint64_t number)
{
    AUTO_STRING path = segment_path(log, number);
    AUTO(file) file = NULL;
    struct file_info info;
    TRY(io_open(reader->io, path, FILE_DIRECT, &file));
    TRY(io_file_info(reader->io, file, &info));
    if (info.bytes > UINT32_MAX)
        return FAIL(ERR_CORRUPT, "%s bytes=%" PRIu64, path, info.bytes);
    size_t count = reader->count + (size_t)1;
    reader->segments = mem_resize(reader->segments, count * sizeof *reader->segments);
    reader->files = (struct file **)mem_resize(reader->files, count * sizeof(struct file *));
    reader->segments[reader->count] =
        (struct log_scan_segment){.number = number, .bytes = info.bytes};
    reader->files[reader->count++] = TAKE(file);
    return OK;
}

static enum err open_segments(struct reader *reader, const struct offline_log *log)
{
    AUTO_VALUE(bytes) names = {.max = NAMES_BYTES_MAX};
    TRY(io_list_directory(reader->io, log->directory, &names));
    for (size_t at = 0; at < names.bytes; at += strlen((const char *)names.data + at) + 1) {
        uint64_t number = 0;
        if (parse_name((const char *)names.data + at, &number))
            TRY(open_segment(reader, log, number));
    }
    return OK;
}

static enum err read_segment(void *context, uint32_t index, uint64_t offset, size_t bytes,
                             uint8_t *out)
{
    struct reader *reader = context;
    while (bytes > 0) {
        size_t count = bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES;
        size_t got = 0;
        TRY(io_read(reader->io, reader->files[index], reader->buf, 0, count, offset, &got));
        if (got < count)
            return FAIL(ERR_IO, "%s became shorter", file_path(reader->files[index]));
        memcpy(out, reader->buf->data, count);
        out += count;
        offset += count;
        bytes -= count;
    }
    return OK;
}

/* --- the judgement --- */

static const char *reason_of(enum err err)
{
    if (err == ERR_CORRUPT)
        return "the header of the segment is damaged";
    return err == ERR_MISMATCH ? "the segment is of another log" : "the segment cannot be read";
}

static enum err scan_segments(struct io *io, struct offline_log *log)
{
    struct reader reader = {.io = io, .buf = buf_new(CHUNK_BYTES)};
    struct log_scan scan = {.end = LOG_END_CLEAN};
    enum err err = open_segments(&reader, log);
    if (err == OK) {
        struct log_source source = {.segments = reader.segments,
                                    .segment_count = reader.count,
                                    .read = read_segment,
                                    .context = &reader};
        memcpy(source.log_id, log->log_id, LOG_ID_BYTES);
        err = log_scan(&source, &log->state, &scan);
    }
    reader_deinit(&reader);
    AUTO_STRING path = segment_path(log, scan.segment);
    bool is_damage = err == ERR_CORRUPT || err == ERR_MISMATCH || err == ERR_IO;
    if (is_damage || err == ERR_NOT_FOUND)
        damaged(log, is_damage && scan.segment != 0 ? path : log->directory, 0,
                is_damage ? reason_of(err) : "the log is missing");
    else if (err == OK && scan.end == LOG_END_ROTTEN)
        damaged(log, path, scan.offset, scan.reason);
    log->found.torn = err == OK && scan.end == LOG_END_TORN;
    log_scan_deinit(&scan);
    return is_damage || err == ERR_NOT_FOUND ? OK : err;
}

static void note_last(struct offline_log *log)
{
    const struct log_group *group = log_state_group(&log->state, log->found.group_id);
    if (group == NULL) {
        if (log->found.damage_file[0] == '\0')
            damaged(log, log->directory, 0, "the log does not know its group");
        return;
    }
    log->found.last_index = group->last_index;
    enum err err = log_group_term(group, group->last_index, &log->found.last_term);
    if (err != OK)
        log->found.last_term = group->compacted_term;
}

static enum err load(struct io *io, const char *replica, struct offline_log *log)
{
    TRY(load_identity(io, replica, log));
    if (log->found.replica_id == 0)
        return OK;
    log->directory = mem_format("%s/log", replica);
    TRY(scan_segments(io, log));
    note_last(log);
    return OK;
}

enum err offline_log_load(struct io *io, const char *replica, struct offline_log *out_log)
{
    *out_log = (struct offline_log){.directory = NULL};
    enum err err = load(io, replica, out_log);
    if (err != OK)
        offline_log_deinit(out_log);
    return err;
}

enum err meta_offline_check(struct io *io, const char *directory, struct meta_offline_log *out_log)
{
    struct offline_log log;
    TRY(offline_log_load(io, directory, &log));
    *out_log = log.found;
    offline_log_deinit(&log);
    return OK;
}
