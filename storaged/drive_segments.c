/* Segment files of a drive, their extents, and their ends. */
#include "base/log.h"
#include "base/mem.h"
#include "drive.h"
#include "drive_index.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

enum { TRAILER_WRITE_BYTES = 1 << 20 };

void drive_segment_path(const struct drive *drive, uint64_t segment, char *out)
{
    snprintf(out, DRIVE_PATH_BYTES_MAX, "%s/segments/%016" PRIx64 ".seg", drive->directory,
             segment);
}

/* Index of the first segment with id >= `segment`. */
static uint32_t lower_bound(const struct drive *drive, uint64_t segment)
{
    uint32_t low = 0;
    uint32_t high = drive->segment_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (drive->segments[middle]->identity.segment < segment)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct segment_file *drive_segment_find(struct drive *drive, uint64_t segment)
{
    uint32_t at = lower_bound(drive, segment);
    bool found = at < drive->segment_count && drive->segments[at]->identity.segment == segment;
    return found ? drive->segments[at] : NULL;
}

void drive_segment_insert(struct drive *drive, struct segment_file *segment)
{
    pthread_mutex_lock(&drive->mutex);
    uint32_t at = lower_bound(drive, segment->identity.segment);
    assert(drive_segment_find(drive, segment->identity.segment) == NULL);
    if (drive->segment_count == drive->segment_capacity) {
        drive->segment_capacity = drive->segment_capacity == 0 ? 64 : 2 * drive->segment_capacity;
        drive->segments =
            mem_resize(drive->segments, drive->segment_capacity * sizeof(struct segment_file *));
    }
    memmove(drive->segments + at + 1, drive->segments + at,
            (drive->segment_count - at) * sizeof(struct segment_file *));
    drive->segments[at] = segment;
    drive->segment_count++;
    if (segment->identity.segment >= drive->segment_next)
        drive->segment_next = segment->identity.segment + 1;
    pthread_mutex_unlock(&drive->mutex);
}

struct segment_file *drive_segment_acquire(struct drive *drive, uint64_t id)
{
    pthread_mutex_lock(&drive->mutex);
    struct segment_file *segment = drive_segment_find(drive, id);
    if (segment != NULL) {
        segment->users++;
        segment->used_at = ++drive->use_clock;
    }
    pthread_mutex_unlock(&drive->mutex);
    return segment;
}

void drive_segment_use(struct drive *drive, struct segment_file *segment)
{
    pthread_mutex_lock(&drive->mutex);
    segment->users++;
    pthread_mutex_unlock(&drive->mutex);
}

static void close_files(struct drive *drive, struct segment_file *segment)
{
    assert(segment->users == 0);
    if (segment->direct != NULL)
        drive->open_files--;
    if (segment->buffered != NULL)
        drive->open_files--;
    file_close(TAKE(segment->direct));
    file_close(TAKE(segment->buffered));
}

static void segment_free(struct segment_file *segment)
{
    mem_free(segment->extents);
    mem_free(segment->entries);
    mem_free(segment);
}

/* Keep the number of open files bounded: close those of the segment that was used longest ago. */
static void evict_files(struct drive *drive)
{
    while (drive->open_files > DRIVE_HANDLES_MAX) {
        struct segment_file *oldest = NULL;
        for (uint32_t i = 0; i < drive->segment_count; i++) {
            struct segment_file *segment = drive->segments[i];
            bool idle =
                segment->users == 0 && (segment->direct != NULL || segment->buffered != NULL);
            if (idle && (oldest == NULL || segment->used_at < oldest->used_at))
                oldest = segment;
        }
        if (oldest == NULL)
            return;
        close_files(drive, oldest);
    }
}

void drive_segment_release(struct drive *drive, struct segment_file *segment)
{
    if (segment == NULL)
        return;
    pthread_mutex_lock(&drive->mutex);
    assert(segment->users > 0);
    bool last = --segment->users == 0;
    bool gone = last && segment->doomed;
    if (gone)
        close_files(drive, segment);
    else if (last && drive->open_files > DRIVE_HANDLES_MAX)
        evict_files(drive);
    pthread_mutex_unlock(&drive->mutex);
    if (gone)
        segment_free(segment);
}

enum err drive_segment_file(struct io *io, struct drive *drive, struct segment_file *segment,
                            bool direct, struct file **out_file)
{
    struct file **slot = direct ? &segment->direct : &segment->buffered;
    pthread_mutex_lock(&drive->mutex);
    assert(segment->users > 0);
    struct file *file = *slot;
    pthread_mutex_unlock(&drive->mutex);
    if (file != NULL) {
        *out_file = file;
        return OK;
    }
    char path[DRIVE_PATH_BYTES_MAX];
    drive_segment_path(drive, segment->identity.segment, path);
    AUTO(file) opened = NULL;
    /* Sealed ones are punched, so the direct file is always writable. */
    TRY(io_open(io, path, direct ? FILE_WRITE | FILE_DIRECT : FILE_RANDOM, &opened));
    pthread_mutex_lock(&drive->mutex);
    if (*slot == NULL) {
        *slot = TAKE(opened);
        drive->open_files++;
    }
    *out_file = *slot;
    pthread_mutex_unlock(&drive->mutex);
    return OK;
}

/* --- making --- */

static enum err write_header(struct io *io, struct file *file, const struct segment_header *header)
{
    AUTO(buf) buf = buf_new(SEGMENT_HEADER_BYTES);
    segment_header_encode(header, buf->data);
    struct io_part part = {.buf = buf, .bytes = SEGMENT_HEADER_BYTES};
    return io_write(io, file, &part, 1, 0, WRITE_DURABLE);
}

enum err drive_segment_create(struct io *io, struct drive *drive, enum segment_kind kind,
                              struct segment_file **out_segment)
{
    TRY(drive_check(drive));
    pthread_mutex_lock(&drive->mutex);
    uint64_t id = drive->segment_next++;
    pthread_mutex_unlock(&drive->mutex);
    struct segment_header header = {
        .identity = {.drive = drive->superblock->drive, .segment = id},
        .kind = kind,
        .created_ms = io_wall_ms(io),
    };
    memcpy(header.identity.cluster_id, drive->superblock->node.cluster_id, 16);
    io_random(io, header.identity.nonce, sizeof header.identity.nonce);
    char path[DRIVE_PATH_BYTES_MAX];
    drive_segment_path(drive, id, path);
    AUTO(file) file = NULL;
    enum err err =
        io_open(io, path, FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE | FILE_DIRECT, &file);
    if (err == OK)
        err = write_header(io, file, &header);
    /* The name must be durable before anything in the file is acknowledged. */
    if (err == OK)
        err = io_sync(io, drive->segments_directory);
    if (err != OK) {
        if (err == ERR_IO)
            drive_fence(drive, "new segment", err);
        if (err == ERR_NO_SPACE && file != NULL)
            (void)io_unlink(io, path); /* else each try leaves an empty file */
        return err;
    }
    struct segment_file *segment = mem_new(struct segment_file);
    *segment = (struct segment_file){.identity = header.identity,
                                     .kind = kind,
                                     .state = SEGMENT_OPEN,
                                     .end = SEGMENT_HEADER_BYTES,
                                     .watermark = SEGMENT_HEADER_BYTES,
                                     .users = 1,
                                     .dirty = true,
                                     .direct = TAKE(file)};
    drive_segment_insert(drive, segment);
    pthread_mutex_lock(&drive->mutex);
    drive->open_files++;
    pthread_mutex_unlock(&drive->mutex);
    *out_segment = segment;
    return OK;
}

/* --- extents --- */

static void push_extent(struct segment_file *segment, struct segment_extent extent)
{
    if (segment->extents_first + segment->extents_count == segment->extents_capacity) {
        if (segment->extents_first > segment->extents_count) {
            memmove(segment->extents, segment->extents + segment->extents_first,
                    segment->extents_count * sizeof(struct segment_extent));
            segment->extents_first = 0;
        } else {
            segment->extents_capacity =
                segment->extents_capacity == 0 ? 64 : 2 * segment->extents_capacity;
            segment->extents = mem_resize(segment->extents, segment->extents_capacity *
                                                                sizeof(struct segment_extent));
        }
    }
    segment->extents[segment->extents_first + segment->extents_count++] = extent;
}

/* Everything below is durable or was given up. */
static uint64_t durable_below(const struct segment_file *segment)
{
    return segment->extents_settled < segment->extents_count
               ? segment->extents[segment->extents_first + segment->extents_settled].offset
               : segment->end;
}

bool drive_segment_reserve(struct drive *drive, struct segment_file *segment, uint64_t bytes,
                           uint64_t *out_offset, uint64_t *out_durable_offset)
{
    assert(bytes % RECORD_ALIGN_BYTES == 0);
    pthread_mutex_lock(&drive->mutex);
    bool fits = segment->state == SEGMENT_OPEN && segment->end + bytes <= drive->segment_bytes &&
                segment->entries_count + segment->extents_count < SEGMENT_ENTRIES_MAX;
    if (fits) {
        *out_offset = segment->end;
        *out_durable_offset = durable_below(segment);
        push_extent(segment, (struct segment_extent){segment->end, bytes, EXTENT_ACTIVE});
        segment->end += bytes;
    }
    pthread_mutex_unlock(&drive->mutex);
    return fits;
}

static struct segment_extent *find_extent(struct segment_file *segment, uint64_t offset)
{
    uint32_t low = 0;
    uint32_t high = segment->extents_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (segment->extents[segment->extents_first + middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    assert(low < segment->extents_count);
    struct segment_extent *extent = &segment->extents[segment->extents_first + low];
    assert(extent->offset == offset);
    return extent;
}

void drive_extent_move(struct segment_file *segment, uint64_t offset, enum extent_state state)
{
    struct segment_extent *extent = find_extent(segment, offset);
    assert(state > extent->state);
    extent->state = state;
    while (segment->extents_settled < segment->extents_count &&
           segment->extents[segment->extents_first + segment->extents_settled].state >=
               EXTENT_DURABLE)
        segment->extents_settled++;
    while (segment->extents_count > 0 &&
           segment->extents[segment->extents_first].state == EXTENT_DONE) {
        segment->extents_first++;
        segment->extents_count--;
        segment->extents_settled--;
    }
    uint64_t watermark =
        segment->extents_count > 0 ? segment->extents[segment->extents_first].offset : segment->end;
    if (watermark != segment->watermark) {
        segment->watermark = watermark;
        segment->dirty = true;
    }
}

static void note_dead(struct drive *drive, uint64_t segment, uint64_t offset, uint64_t bytes)
{
    if (drive->dead_count == drive->dead_capacity) {
        drive->dead_capacity = drive->dead_capacity == 0 ? 16 : 2 * drive->dead_capacity;
        drive->dead = mem_resize(drive->dead, drive->dead_capacity * sizeof(struct dead_extent));
    }
    drive->dead[drive->dead_count++] = (struct dead_extent){segment, offset, bytes};
}

/* The mutex is held. */
static void trim(struct drive *drive, struct segment_file *segment, uint64_t offset,
                 uint64_t used_bytes)
{
    struct segment_extent *extent = find_extent(segment, offset);
    uint64_t rest_bytes = extent->bytes - used_bytes;
    assert(used_bytes <= extent->bytes);
    extent->bytes = used_bytes;
    if (offset + used_bytes + rest_bytes == segment->end)
        segment->end = offset + used_bytes;
    else if (rest_bytes > 0)
        note_dead(drive, segment->identity.segment, offset + used_bytes, rest_bytes);
}

void drive_extent_trim(struct drive *drive, struct segment_file *segment, uint64_t offset,
                       uint64_t used_bytes)
{
    pthread_mutex_lock(&drive->mutex);
    trim(drive, segment, offset, used_bytes);
    pthread_mutex_unlock(&drive->mutex);
}

void drive_extent_abandon(struct drive *drive, struct segment_file *segment, uint64_t offset,
                          uint64_t used_bytes)
{
    pthread_mutex_lock(&drive->mutex);
    trim(drive, segment, offset, used_bytes);
    if (segment->end == offset) {
        /* It was the last one, and the next one will begin where it did. */
        assert(find_extent(segment, offset)->state == EXTENT_ACTIVE);
        segment->extents_count--;
    } else {
        drive_extent_move(segment, offset, EXTENT_DONE);
        if (used_bytes > 0)
            note_dead(drive, segment->identity.segment, offset, used_bytes);
    }
    pthread_mutex_unlock(&drive->mutex);
}

void drive_segment_close(struct drive *drive, struct segment_file *segment)
{
    pthread_mutex_lock(&drive->mutex);
    assert(segment->state == SEGMENT_OPEN);
    segment->state = SEGMENT_CLOSING;
    pthread_mutex_unlock(&drive->mutex);
}

/* --- sealing, deleting, punching --- */

/* Not durable yet: the sync of the whole seal follows, and until then the scan finds the
 * records. */
static enum err write_trailer(struct io *io, struct file *file, struct slice trailer,
                              uint64_t offset)
{
    AUTO(buf) buf = buf_new(TRAILER_WRITE_BYTES);
    while (trailer.bytes > 0) {
        size_t bytes = trailer.bytes < TRAILER_WRITE_BYTES ? trailer.bytes : TRAILER_WRITE_BYTES;
        memcpy(buf->data, trailer.data, bytes);
        struct io_part part = {.buf = buf, .bytes = bytes};
        TRY(io_write(io, file, &part, 1, offset, 0));
        offset += bytes;
        trailer = slice_skip(trailer, bytes);
    }
    return OK;
}

enum err drive_segment_seal(struct io *io, struct drive *drive, struct segment_file *segment,
                            const struct segment_entry *entries, uint32_t count, uint64_t end)
{
    struct file *file = NULL;
    TRY(drive_segment_file(io, drive, segment, true, &file));
    AUTO_VALUE(bytes) trailer = {.max = RECORD_ALIGN_BYTES + record_align((uint64_t)count * 32)};
    segment_trailer_encode(&segment->identity, end, entries, count, &trailer);
    enum err err = write_trailer(io, file, bytes_slice(&trailer), end);
    end += trailer.bytes;
    if (err == OK)
        err = io_truncate(io, file, end);
    if (err == OK)
        err = io_sync(io, file);
    if (err != OK) {
        if (err == ERR_IO)
            drive_fence(drive, "seal of a segment", err);
        return err;
    }
    pthread_mutex_lock(&drive->mutex);
    segment->state = SEGMENT_SEALED;
    segment->end = end;
    segment->watermark = end;
    mem_free(segment->entries);
    segment->entries = NULL;
    segment->entries_count = segment->entries_capacity = 0;
    pthread_mutex_unlock(&drive->mutex);
    return drive_index_put_segment(io, drive, segment);
}

/* Nothing in the segment is live, so the file goes as a whole. The rows must be gone durably before
 * the file is, or a row without a file would look like a loss. */
static enum err delete_segment(struct io *io, struct drive *drive, struct segment_file *segment)
{
    TRY(drive_index_drop_segment(io, drive, segment->identity.segment));
    TRY(drive_index_flush(io, drive));
    pthread_mutex_lock(&drive->mutex);
    uint32_t at = lower_bound(drive, segment->identity.segment);
    assert(drive->segments[at] == segment);
    drive->segment_count--;
    memmove(drive->segments + at, drive->segments + at + 1,
            (drive->segment_count - at) * sizeof(struct segment_file *));
    segment->doomed = true;
    pthread_mutex_unlock(&drive->mutex);
    char path[DRIVE_PATH_BYTES_MAX];
    drive_segment_path(drive, segment->identity.segment, path);
    return io_unlink(io, path);
}

enum err drive_punch(struct io *io, struct drive *drive, struct segment_file *segment,
                     uint64_t offset, uint64_t bytes)
{
    struct file *file = NULL;
    TRY(drive_segment_file(io, drive, segment, true, &file));
    enum err err = io_punch(io, file, offset, bytes);
    if (err == ERR_UNSUPPORTED) {
        if (!drive->punch_refused)
            log_warn("drive: the file system cannot free parts of files; space of deleted objects "
                     "comes back segment by segment directory=%s",
                     drive->directory);
        drive->punch_refused = true;
        return OK;
    }
    if (err == ERR_IO)
        drive_fence(drive, "punch", err);
    return err;
}

/* A closing segment whose extents are all done, or a sealed one where nothing lives; with a use. */
static struct segment_file *next_to_tidy(struct drive *drive, uint64_t *after, bool *out_seal)
{
    struct segment_file *found = NULL;
    pthread_mutex_lock(&drive->mutex);
    for (uint32_t i = lower_bound(drive, *after); found == NULL && i < drive->segment_count; i++) {
        struct segment_file *segment = drive->segments[i];
        *after = segment->identity.segment + 1;
        bool seal = segment->state == SEGMENT_CLOSING && segment->extents_count == 0;
        bool remove = segment->state == SEGMENT_SEALED && segment->live_count == 0;
        if (seal || remove) {
            found = segment;
            *out_seal = seal;
            segment->users++;
        }
    }
    pthread_mutex_unlock(&drive->mutex);
    return found;
}

static enum err punch_dead(struct io *io, struct drive *drive)
{
    for (;;) {
        pthread_mutex_lock(&drive->mutex);
        bool any = drive->dead_count > 0;
        struct dead_extent dead = {.segment = 0};
        if (any)
            dead = drive->dead[--drive->dead_count];
        pthread_mutex_unlock(&drive->mutex);
        if (!any)
            return OK;
        struct segment_file *segment = drive_segment_acquire(drive, dead.segment);
        if (segment == NULL)
            continue;
        enum err err = drive_punch(io, drive, segment, dead.offset, dead.bytes);
        drive_segment_release(drive, segment);
        if (err != OK) {
            pthread_mutex_lock(&drive->mutex);
            note_dead(drive, dead.segment, dead.offset, dead.bytes);
            pthread_mutex_unlock(&drive->mutex);
            return err;
        }
    }
}

void drive_tidy_segments(struct io *io, struct drive *drive)
{
    enum err err = punch_dead(io, drive);
    uint64_t after = 0;
    bool seal = false;
    for (struct segment_file *segment = NULL;
         err == OK && (segment = next_to_tidy(drive, &after, &seal)) != NULL;) {
        if (seal)
            err = drive_segment_seal(io, drive, segment, segment->entries, segment->entries_count,
                                     segment->end);
        else
            err = delete_segment(io, drive, segment);
        drive_segment_release(drive, segment);
    }
    if (err != OK && err != ERR_CANCELED && err != ERR_FENCED)
        log_warn("drive: tidying segments failed directory=%s cause=%s", drive->directory,
                 err_text(err));
}
