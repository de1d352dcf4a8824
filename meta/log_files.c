/* Segments as files, and recovery over them. */
#include "log_files.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "log_scan.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

enum {
    CHUNK_BYTES = 1 << 20,
    NAMES_BYTES_MAX = 4 << 20,
    NUMBER_CHARS = 16,
};
#define PREPARING "preparing"
#define PREFIX "segment-"

struct log_file *log_file_ref(struct log_file *file)
{
    assert(file->references > 0);
    file->references++;
    return file;
}

void log_file_unref(struct log_file *file)
{
    if (file == NULL || --file->references > 0)
        return;
    file_close(file->file);
    mem_free(file);
}

static struct log_file *log_file_new(struct file *file, uint64_t number)
{
    struct log_file *result = mem_new(struct log_file);
    *result = (struct log_file){
        .file = file, .number = number, .offset = LOG_HEADER_BYTES, .references = 1};
    return result;
}

static char *segment_path(const char *directory, uint64_t number)
{
    return mem_format("%s/" PREFIX "%016" PRIx64, directory, number);
}

/* --- making and deleting --- */

static enum err fill(struct io *io, struct file *file, const uint8_t log_id[LOG_ID_BYTES],
                     uint64_t number, uint64_t bytes)
{
    TRY(io_allocate(io, file, 0, bytes));
    AUTO(buf) chunk = buf_new(CHUNK_BYTES);
    memset(chunk->data, 0, CHUNK_BYTES);
    for (uint64_t offset = 0; offset < bytes;) {
        uint64_t count = bytes - offset < CHUNK_BYTES ? bytes - offset : CHUNK_BYTES;
        struct io_part part = {.buf = chunk, .bytes = count};
        TRY(io_write(io, file, &part, 1, offset, 0));
        offset += count;
    }
    AUTO(buf) header = buf_new(LOG_HEADER_BYTES);
    log_header_encode(header->data, log_id, number);
    struct io_part part = {.buf = header, .bytes = LOG_HEADER_BYTES};
    TRY(io_write(io, file, &part, 1, 0, 0));
    return io_sync(io, file);
}

static enum err prepare(struct io *io, const char *preparing, const char *path,
                        const uint8_t log_id[LOG_ID_BYTES], uint64_t number, uint64_t bytes)
{
    AUTO(file) file = NULL;
    TRY(io_open(io, preparing, FILE_WRITE | FILE_CREATE | FILE_DIRECT, &file));
    enum err err = fill(io, file, log_id, number, bytes);
    if (err == ERR_NO_SPACE)
        (void)io_unlink(
            io, preparing); /* its space is wanted elsewhere; a left-over is unlinked later */
    TRY(err);
    return io_rename(io, preparing, path);
}

enum err log_file_prepare(struct io *io, const char *directory, const uint8_t log_id[LOG_ID_BYTES],
                          uint64_t number, uint64_t bytes, struct log_file **out_file)
{
    AUTO_STRING preparing = mem_format("%s/" PREPARING, directory);
    AUTO_STRING path = segment_path(directory, number);
    TRY(prepare(io, preparing, path, log_id, number, bytes));
    TRY(io_sync_directory(io, directory));
    AUTO(file) file = NULL;
    TRY(io_open(io, path, FILE_WRITE | FILE_DIRECT, &file));
    *out_file = log_file_new(TAKE(file), number);
    return OK;
}

enum err log_file_delete(struct io *io, const char *directory, uint64_t number)
{
    AUTO_STRING path = segment_path(directory, number);
    return io_unlink(io, path);
}

/* --- reading --- */

enum err log_file_read_batch(struct io *io, const char *directory,
                             const uint8_t log_id[LOG_ID_BYTES], const struct log_span *span,
                             struct bytes *stream)
{
    AUTO_STRING path = segment_path(directory, span->segment);
    AUTO(file) file = NULL;
    enum err err = io_open(io, path, FILE_DIRECT, &file);
    if (err == ERR_NOT_FOUND)
        return ERR_COMPACTED;
    TRY(err);
    size_t bytes = (size_t)span->block_count * LOG_BLOCK_BYTES;
    AUTO(buf) buf = buf_new(bytes);
    size_t count = 0;
    TRY(io_read(io, file, buf, 0, bytes, span->offset, &count));
    bytes_clear(stream);
    struct log_place place = {.segment = span->segment, .offset = span->offset};
    memcpy(place.log_id, log_id, LOG_ID_BYTES);
    for (uint32_t i = 0; i < span->block_count; i++) {
        const uint8_t *block = buf->data + (size_t)i * LOG_BLOCK_BYTES;
        struct log_stamp stamp;
        if (count < (i + (size_t)1) * LOG_BLOCK_BYTES ||
            log_block_classify(block, &place, 1, &stamp) != LOG_BLOCK_VALID || stamp.block != i ||
            stamp.block_count != span->block_count)
            return FAIL(ERR_CORRUPT, "%s offset=%" PRIu64 " has changed", path, place.offset);
        log_block_payload(block, &stamp, stream);
        place.offset += LOG_BLOCK_BYTES;
    }
    return OK;
}

/* --- recovery --- */

struct recovery {
    struct io *io;
    const char *directory;
    struct log_scan_segment *segments;
    struct file **files;
    uint32_t count;
    struct buf *buf;
};

static void recovery_deinit(struct recovery *recovery)
{
    for (uint32_t i = 0; i < recovery->count; i++)
        file_close(recovery->files[i]);
    mem_free(recovery->segments);
    mem_free(recovery->files);
    buf_unref(recovery->buf);
}

/* "segment-" and 16 lower-case hex digits. */
static bool parse_name(const char *name, uint64_t *out_number)
{
    uint8_t bytes[NUMBER_CHARS / 2];
    struct slice text = slice_of_text(name);
    if (!slice_starts_with(text, SLICE_LITERAL(PREFIX)) ||
        text_parse_hex(slice_skip(text, sizeof PREFIX - 1), bytes, sizeof bytes) != OK)
        return false;
    *out_number = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        *out_number = *out_number << 8 | bytes[i];
    return *out_number != 0;
}

static enum err find_segments(struct recovery *recovery)
{
    AUTO_VALUE(bytes) names = {.max = NAMES_BYTES_MAX};
    TRY(io_list_directory(recovery->io, recovery->directory, &names));
    for (size_t at = 0; at < names.bytes; at += strlen((const char *)names.data + at) + 1) {
        const char *name = (const char *)names.data + at;
        uint64_t number = 0;
        if (strcmp(name, PREPARING) == 0) {
            AUTO_STRING path = mem_format("%s/" PREPARING, recovery->directory);
            TRY(io_unlink(recovery->io, path));
            continue;
        }
        if (!parse_name(name, &number)) {
            log_error("log: not a segment, take it away: %s/%s", recovery->directory, name);
            return FAIL(ERR_CORRUPT, "log: unknown file %s/%s", recovery->directory, name);
        }
        size_t size = recovery->count + (size_t)1;
        recovery->segments = mem_resize(recovery->segments, size * sizeof *recovery->segments);
        recovery->files = (struct file **)mem_resize(recovery->files, size * sizeof(struct file *));
        recovery->segments[recovery->count] = (struct log_scan_segment){.number = number};
        recovery->files[recovery->count++] = NULL;
    }
    return OK;
}

static enum err open_segments(struct recovery *recovery)
{
    for (uint32_t i = 0; i < recovery->count; i++) {
        AUTO_STRING path = segment_path(recovery->directory, recovery->segments[i].number);
        struct file_info info;
        TRY(io_open(recovery->io, path, FILE_WRITE | FILE_DIRECT, &recovery->files[i]));
        TRY(io_file_info(recovery->io, recovery->files[i], &info));
        if (info.bytes > UINT32_MAX)
            return FAIL(ERR_CORRUPT, "%s bytes=%" PRIu64, path, info.bytes);
        recovery->segments[i].bytes = info.bytes;
    }
    return OK;
}

static enum err read_source(void *context, uint32_t index, uint64_t offset, size_t bytes,
                            uint8_t *out)
{
    struct recovery *recovery = context;
    while (bytes > 0) {
        size_t count = bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES;
        size_t got = 0;
        TRY(io_read(recovery->io, recovery->files[index], recovery->buf, 0, count, offset, &got));
        if (got < count)
            return FAIL(ERR_IO, "%s became shorter", file_path(recovery->files[index]));
        memcpy(out, recovery->buf->data, count);
        out += count;
        offset += count;
        bytes -= count;
    }
    return OK;
}

/* An operator must act; say what is known and what is not. */
static enum err report_damage(const struct recovery *recovery, const struct log_scan *scan,
                              const struct log_state *state)
{
    log_error("log: acknowledged records are damaged file=%s/" PREFIX "%016" PRIx64
              " offset=%" PRIu64 " cause=%s",
              recovery->directory, scan->segment, scan->offset, scan->reason);
    for (uint32_t i = 0; i < state->group_count; i++)
        log_error("log: group=%" PRIu64 " is intact up to index=%" PRIu64
                  "; what was acknowledged after it is lost unless another replica has it",
                  state->groups[i]->id, state->groups[i]->last_index);
    log_error(
        "log: nothing was changed; put the file back from a copy, or give up what follows with "
        "`shale meta recover --accept-loss`");
    return FAIL(ERR_CORRUPT, "log segment=%" PRIu64 " offset=%" PRIu64, scan->segment,
                scan->offset);
}

/* Keep what is part of the log and spares that are as good as new; delete the rest. */
static enum err tidy_up(struct recovery *recovery, const struct log_scan *scan,
                        uint64_t segment_bytes, struct log_found *found)
{
    found->spares =
        (struct log_file **)mem_alloc_array(recovery->count + (size_t)1, sizeof(struct log_file *));
    for (uint32_t i = 0; i < recovery->count; i++) {
        const struct log_scan_segment *segment = &recovery->segments[i];
        if (scan->used[i]) {
            TRY(io_sync(recovery->io, recovery->files[i]));
            continue;
        }
        if (scan->clean[i] && segment->bytes == segment_bytes) {
            found->spares[found->spare_count++] =
                log_file_new(TAKE(recovery->files[i]), segment->number);
            continue;
        }
        TRY(log_file_delete(recovery->io, recovery->directory, segment->number));
    }
    /* Also for a spare whose rename a killed process did not get to sync. */
    return io_sync_directory(recovery->io, recovery->directory);
}

static enum err recover(struct recovery *recovery, const uint8_t log_id[LOG_ID_BYTES],
                        uint64_t segment_bytes, bool accept_loss, struct log_state *state,
                        struct log_found *found)
{
    TRY(find_segments(recovery));
    TRY(open_segments(recovery));
    struct log_source source = {.segments = recovery->segments,
                                .segment_count = recovery->count,
                                .read = read_source,
                                .context = recovery};
    memcpy(source.log_id, log_id, LOG_ID_BYTES);
    AUTO_VALUE(log_scan) scan = {0};
    enum err err = log_scan(&source, state, &scan);
    if (err == ERR_CORRUPT || err == ERR_MISMATCH || err == ERR_UNSUPPORTED)
        log_error("log: the header of a segment is not this log's file=%s/" PREFIX "%016" PRIx64
                  " cause=%s; put the file back as it was",
                  recovery->directory, scan.segment, err_text(err));
    TRY(err);
    if (scan.end == LOG_END_ROTTEN && !accept_loss)
        return report_damage(recovery, &scan, state);
    if (scan.end == LOG_END_TORN)
        log_info("log: a torn write behind the acknowledged end was dropped segment=%" PRIu64
                 " offset=%" PRIu64,
                 scan.segment, scan.offset);
    found->number_next = 1;
    if (recovery->count > 0)
        found->number_next = recovery->segments[recovery->count - 1].number + 1;
    return tidy_up(recovery, &scan, segment_bytes, found);
}

enum err log_files_recover(struct io *io, const char *directory, const uint8_t log_id[LOG_ID_BYTES],
                           uint64_t segment_bytes, bool accept_loss, struct log_state *state,
                           struct log_found *out_found)
{
    struct recovery recovery = {.io = io, .directory = directory, .buf = buf_new(CHUNK_BYTES)};
    enum err err = recover(&recovery, log_id, segment_bytes, accept_loss, state, out_found);
    recovery_deinit(&recovery);
    return err;
}
