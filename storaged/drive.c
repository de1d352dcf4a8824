/* Identity, opening, space and the second-by-second care of one drive. */
#include "drive.h"

#include "base/log.h"
#include "base/mem.h"
#include "drive_index.h"
#include "recovery.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

enum {
    RESERVE_PERCENT = 5,
    INDEX_FLUSH_TICKS = 30,
    READ_LANE_THREADS = 2,
    INDEX_FLUSH_BYTES = 4 << 20,
    NAMES_BYTES_MAX = 64 << 20, /* of the names in segments/ */
};
#define RESERVE_BYTES_MAX (UINT64_C(2) << 30)
#define RESERVE_FILE_BYTES (UINT64_C(128) << 20)

enum err drive_check(const struct drive *drive)
{
    return atomic_load(&drive->fenced) ? ERR_FENCED : OK;
}

void drive_fence(struct drive *drive, const char *why, enum err cause)
{
    if (atomic_exchange(&drive->fenced, true))
        return;
    log_error("drive: fenced, it is neither read nor written until a restart or until an empty "
              "directory is in its place directory=%s during=\"%s\" cause=\"%s\"",
              drive->directory, why, err_text(cause));
}

/* --- identity --- */

static char *path_of(const char *directory, const char *name)
{
    return mem_format("%s/%s", directory, name);
}

static enum err read_superblock(struct io *io, struct file *file, struct superblock *out)
{
    AUTO(buf) buf = buf_new(SUPERBLOCK_BYTES);
    size_t bytes = 0;
    TRY(io_read(io, file, buf, 0, SUPERBLOCK_BYTES, 0, &bytes));
    return superblock_decode(slice_of(buf->data, bytes), out);
}

/* Copies go one after the other, each durable before the next is touched. */
static enum err write_superblock(struct io *io, struct file *file,
                                 const struct superblock *superblock)
{
    AUTO(buf) buf = buf_new(SUPERBLOCK_COPY_BYTES);
    superblock_encode(superblock, buf->data);
    struct io_part part = {.buf = buf, .bytes = SUPERBLOCK_COPY_BYTES};
    for (uint64_t copy = 0; copy < SUPERBLOCK_COPIES; copy++)
        TRY(io_write(io, file, &part, 1, copy * SUPERBLOCK_COPY_BYTES, WRITE_DURABLE));
    return OK;
}

/* What an interrupted format leaves, and what a new file system has. */
static bool counts_as_empty(const char *name)
{
    return strcmp(name, "lost+found") == 0 || strcmp(name, "superblock.new") == 0;
}

/* What an opening drive makes before anything is in it. A directory that was emptied in that moment
 * has some of it again, and no superblock. */
struct leftover {
    bool segments, index, reserve;
};

static bool is_leftover(struct leftover *leftover, const char *name)
{
    bool *found = strcmp(name, "segments") == 0  ? &leftover->segments
                  : strcmp(name, "index") == 0   ? &leftover->index
                  : strcmp(name, "reserve") == 0 ? &leftover->reserve
                                                 : NULL;
    if (found != NULL)
        *found = true;
    return found != NULL;
}

static bool is_id(const char *name)
{
    return strlen(name) == 2 * sizeof(struct drive_id) &&
           strspn(name, "0123456789abcdef") == 2 * sizeof(struct drive_id);
}

/* No names but drive ids: of indexes, which are derived; a segment's is not one. */
static enum err holds_only_ids(struct io *io, const char *directory, const char *name, bool *out)
{
    AUTO_STRING path = path_of(directory, name);
    AUTO_VALUE(bytes) names = {.max = NAMES_BYTES_MAX};
    TRY(io_list_directory(io, path, &names));
    for (size_t at = 0; at < names.bytes; at += strlen((char *)names.data + at) + 1)
        *out = *out && is_id((char *)names.data + at);
    return OK;
}

static enum err list_is_empty(struct io *io, const char *directory, bool *out_empty)
{
    AUTO_VALUE(bytes) names = {.max = NAMES_BYTES_MAX};
    enum err err = io_list_directory(io, directory, &names);
    struct leftover leftover = {.segments = false};
    *out_empty = true;
    if (err == ERR_NOT_FOUND)
        return OK;
    TRY(err);
    for (size_t at = 0; at < names.bytes; at += strlen((char *)names.data + at) + 1) {
        const char *name = (char *)names.data + at;
        *out_empty = *out_empty && (counts_as_empty(name) || is_leftover(&leftover, name));
    }
    if (leftover.reserve && !leftover.segments && !leftover.index)
        *out_empty = false;
    if (*out_empty && leftover.segments)
        TRY(holds_only_ids(io, directory, "segments", out_empty));
    if (*out_empty && leftover.index)
        TRY(holds_only_ids(io, directory, "index", out_empty));
    return OK;
}

enum err drive_probe(struct io *io, const char *directory, enum drive_kind *out_kind,
                     struct superblock *out_superblock)
{
    AUTO_STRING path = path_of(directory, "superblock");
    AUTO(file) file = NULL;
    enum err err = io_open(io, path, 0, &file);
    if (err == ERR_NOT_FOUND) {
        bool empty = false;
        TRY(list_is_empty(io, directory, &empty));
        *out_kind = empty ? DRIVE_EMPTY : DRIVE_FOREIGN;
        return OK;
    }
    TRY(err);
    TRY(read_superblock(io, file, out_superblock));
    *out_kind = DRIVE_SHALE;
    return OK;
}

/* Make the directory's own name durable. Through a symbolic link the parent is another one
 * than the path says, hence "..". */
static enum err sync_parent(struct io *io, const char *directory)
{
    AUTO_STRING parent = path_of(directory, "..");
    enum err err = io_sync_directory(io, parent);
    if (err != ERR_NOT_FOUND && err != ERR_INVALID)
        return err;
    return io_sync_parent(io, directory);
}

enum err drive_format(struct io *io, const char *directory, const struct superblock *superblock)
{
    enum err err = io_make_directory(io, directory);
    if (err != OK && err != ERR_EXISTS)
        return err;
    bool empty = false;
    TRY(list_is_empty(io, directory, &empty));
    if (!empty)
        return FAIL(ERR_EXISTS, "directory is not empty path=%s", directory);
    /* Before the superblock: whoever finds one, after a kill here too, may rely on the name. */
    TRY(sync_parent(io, directory));
    AUTO_STRING path_new = path_of(directory, "superblock.new");
    AUTO_STRING path = path_of(directory, "superblock");
    AUTO(file) file = NULL;
    TRY(io_open(io, path_new, FILE_WRITE | FILE_CREATE, &file));
    TRY(write_superblock(io, file, superblock)); /* durable when it returns */
    /* drive_open makes the name durable; before that nothing rests on the drive. */
    return io_rename(io, path_new, path);
}

enum err drive_write_table(struct io *io, struct drive *drive, const struct superblock *table)
{
    assert(table->drive_count > 0);
    TRY(drive_check(drive));
    drive->superblock->table_version = table->table_version;
    drive->superblock->parity_floor = table->parity_floor;
    drive->superblock->drive_count = table->drive_count;
    memcpy(drive->superblock->drives, table->drives, sizeof table->drives);
    enum err err = write_superblock(io, drive->lock, drive->superblock);
    if (err != OK && err != ERR_CANCELED)
        drive_fence(drive, "superblock", err);
    return err;
}

/* --- space --- */

enum err drive_poll_space(struct io *io, struct drive *drive)
{
    struct space_info space;
    uint64_t promised = atomic_load(&drive->reserved_bytes);
    TRY(io_space(io, drive->directory, &space));
    uint64_t reserve = space.total_bytes / 100 * RESERVE_PERCENT;
    if (reserve > RESERVE_BYTES_MAX)
        reserve = RESERVE_BYTES_MAX;
    drive->device = space.device;
    atomic_store(&drive->total_bytes, space.total_bytes);
    atomic_store(&drive->free_bytes, space.free_bytes);
    atomic_store(&drive->reserve_bytes, reserve);
    /* What was promised before the poll has been allocated or given up by now, nearly all of it. */
    atomic_fetch_sub(&drive->reserved_bytes, promised);
    bool full = space.free_bytes <= reserve;
    if (full != atomic_exchange(&drive->full, full))
        log_write(full ? LOG_WARN : LOG_INFO,
                  full ? "drive: below its reserve, new objects are refused directory=%s"
                       : "drive: space again directory=%s",
                  drive->directory);
    return OK;
}

bool drive_has_space(const struct drive *drive, uint64_t bytes)
{
    uint64_t need =
        atomic_load(&drive->reserve_bytes) + atomic_load(&drive->reserved_bytes) + bytes;
    return need < atomic_load(&drive->free_bytes);
}

enum err drive_take_space(struct drive *drive, uint64_t bytes)
{
    if (!drive_has_space(drive, bytes))
        return FAIL(ERR_NO_SPACE, "drive below its reserve directory=%s", drive->directory);
    atomic_fetch_add(&drive->reserved_bytes, bytes);
    return OK;
}

/* The blocks of this file go to the index when nothing else is left, so that deletes still work. */
static enum err keep_reserve(struct io *io, struct drive *drive)
{
    uint64_t bytes = atomic_load(&drive->total_bytes) / 64;
    if (bytes > RESERVE_FILE_BYTES)
        bytes = RESERVE_FILE_BYTES;
    bytes = record_align(bytes);
    uint64_t free_bytes = atomic_load(&drive->free_bytes);
    bool give = drive->reserve_kept && free_bytes < bytes / 2;
    bool take = !drive->reserve_kept && free_bytes > atomic_load(&drive->reserve_bytes) + 2 * bytes;
    if (!give && !take)
        return OK;
    AUTO_STRING path = path_of(drive->directory, "reserve");
    AUTO(file) file = NULL;
    /* Made at the open only: nothing is put into a directory that was emptied meanwhile. */
    TRY(io_open(io, path, FILE_WRITE, &file));
    if (give) {
        log_warn("drive: full, its reserve is given up for deletes directory=%s", drive->directory);
        TRY(io_truncate(io, file, 0));
    } else {
        TRY(io_allocate(io, file, 0, bytes));
    }
    drive->reserve_kept = take;
    return OK;
}

/* --- every second --- */

void drive_check_mount(struct io *io, struct drive *drive)
{
    AUTO_STRING path = path_of(drive->directory, "superblock");
    struct file_info info;
    enum err err = io_stat(io, path, &info);
    if (err == ERR_CANCELED || err == ERR_TIMEOUT || err == ERR_BUSY)
        return; /* nothing was learned */
    if (err == OK &&
        (info.device != drive->superblock_device || info.inode != drive->superblock_inode))
        err = ERR_MISMATCH;
    if (err != OK)
        drive_fence(drive, "look for its superblock: unmounted, replaced or emptied", err);
}

void drive_tick(struct io *io, struct drive *drive, bool checks_mount)
{
    if (drive_check(drive) != OK)
        return;
    if (checks_mount)
        drive_check_mount(io, drive);
    enum err err = drive_poll_space(io, drive);
    if (err == OK)
        err = keep_reserve(io, drive);
    if (err == ERR_IO)
        drive_fence(drive, "space", err);
    if (drive_check(drive) != OK)
        return;
    (void)drive_index_drain(io, drive); /* fences the drive itself */
    drive_tidy_segments(io, drive);
    uint64_t unflushed = kv_unflushed_bytes(drive->kv);
    drive->tick_count++;
    if (unflushed > INDEX_FLUSH_BYTES ||
        (unflushed > 0 && drive->tick_count % INDEX_FLUSH_TICKS == 0))
        (void)drive_index_flush(io, drive); /* likewise */
}

/* --- opening --- */

static enum err open_identity(struct io *io, struct drive *drive)
{
    AUTO_STRING path = path_of(drive->directory, "superblock");
    enum err err = io_open(io, path, FILE_WRITE, &drive->lock);
    if (err == ERR_NOT_FOUND)
        return FAIL(ERR_NOT_FOUND, "no drive here directory=%s", drive->directory);
    TRY(err);
    err = io_lock(io, drive->lock);
    if (err == ERR_LOCKED)
        log_error("drive: in use by another process directory=%s", drive->directory);
    TRY(err);
    struct file_info info;
    TRY(io_file_info(io, drive->lock, &info));
    drive->superblock_device = info.device;
    drive->superblock_inode = info.inode;
    err = read_superblock(io, drive->lock, drive->superblock);
    if (err == ERR_UNSUPPORTED)
        log_error("drive: written by a later release, upgrade first directory=%s",
                  drive->directory);
    if (err == ERR_CORRUPT)
        log_error("drive: all copies of the superblock are damaged directory=%s", drive->directory);
    TRY(err);
    drive->superblock->mount_counter++;
    return write_superblock(io, drive->lock, drive->superblock);
}

static enum err open_segments(struct io *io, struct drive *drive)
{
    AUTO_STRING path = path_of(drive->directory, "segments");
    enum err err = io_make_directory(io, path);
    if (err != OK && err != ERR_EXISTS)
        return err;
    TRY(io_sync_directory(io, drive->directory));
    return io_open(io, path, FILE_DIRECTORY, &drive->segments_directory);
}

static enum err open_all(struct io *io, struct drive *drive, const struct drive_options *options)
{
    TRY(open_identity(io, drive));
    drive->segment_bytes =
        options->segment_bytes > 0 ? options->segment_bytes : drive->superblock->segment_bytes;
    TRY(drive_poll_space(io, drive));
    if (atomic_load(&drive->total_bytes) < options->drive_bytes_min) {
        log_error("drive: file system too small bytes=%" PRIu64 " minimum=%" PRIu64 " directory=%s",
                  atomic_load(&drive->total_bytes), options->drive_bytes_min, drive->directory);
        return FAIL(ERR_NO_SPACE, "drive too small");
    }
    AUTO_STRING reserve = path_of(drive->directory, "reserve");
    struct file_info info;
    AUTO(file) file = NULL;
    TRY(io_open(io, reserve, FILE_WRITE | FILE_CREATE, &file));
    TRY(io_file_info(io, file, &info));
    drive->reserve_kept = info.bytes > 0;
    TRY(keep_reserve(io, drive));
    TRY(open_segments(io, drive));
    TRY(lane_new(io, "index", 1, &drive->index_lane));
    TRY(lane_new(io, "index-read", READ_LANE_THREADS, &drive->read_lane));
    struct segment_row *rows = NULL;
    uint32_t row_count = 0;
    bool rebuild = false;
    TRY(drive_index_open(io, drive, options->kv, &rows, &row_count, &rebuild));
    enum err err = drive_recover(io, drive, rows, row_count, rebuild);
    mem_free(rows);
    return err;
}

enum err drive_open(struct io *io, const struct drive_options *options, struct drive **out_drive)
{
    struct drive *drive = mem_new(struct drive);
    drive->directory = mem_format("%s", options->directory);
    drive->superblock = mem_new(struct superblock);
    drive->home = io;
    drive->index = options->index;
    drive->segment_next = 1;
    pthread_mutex_init(&drive->mutex, NULL);
    for (unsigned i = 0; i < PENDING_BUCKETS; i++)
        list_init(&drive->pending[i]);
    list_init(&drive->pending_queue);
    enum err err = open_all(io, drive, options);
    if (err != OK) {
        drive_close(io, drive);
        return err;
    }
    *out_drive = drive;
    return OK;
}

static void free_segments(struct drive *drive)
{
    for (uint32_t i = 0; i < drive->segment_count; i++) {
        struct segment_file *segment = drive->segments[i];
        assert(segment->users == 0);
        file_close(segment->direct);
        file_close(segment->buffered);
        mem_free(segment->extents);
        mem_free(segment->entries);
        mem_free(segment);
    }
    mem_free(drive->segments);
}

void drive_close(struct io *io, struct drive *drive)
{
    if (drive == NULL)
        return;
    drive_index_close(io, drive);
    lane_free(drive->index_lane);
    lane_free(drive->read_lane);
    free_segments(drive);
    mem_free(drive->dead);
    file_close(drive->segments_directory);
    file_close(drive->lock);
    pthread_mutex_destroy(&drive->mutex);
    mem_free(drive->superblock);
    mem_free(drive->directory);
    mem_free(drive);
}
