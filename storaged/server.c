/* The life of a storage: format, open, start, stop. */
#include "storaged/server.h"

#include "base/log.h"
#include "base/mem.h"
#include "collector.h"
#include "placement.h"
#include <assert.h>
#include <inttypes.h>

enum { ORPHANS_EVERY_S = 600, TICK_S = 1, READ_LANE_THREADS = 2 };
#define DRIVE_BYTES_MIN_DEFAULT (UINT64_C(1) << 30)

/* --- before there is a storage --- */

enum err storage_probe(struct io *io, const char *directory, enum drive_kind *out_kind,
                       struct storage_identity *out_identity)
{
    struct superblock *superblock = mem_new(struct superblock);
    enum err err = drive_probe(io, directory, out_kind, superblock);
    if (err == OK && *out_kind == DRIVE_SHALE)
        *out_identity = superblock->node;
    mem_free(superblock);
    return err;
}

/* A directory on another device than its parent is where a file system is mounted. */
static bool is_mount_point(struct io *io, const char *directory)
{
    AUTO_STRING parent = mem_format("%s/..", directory);
    struct file_info here, above;
    return io_stat(io, directory, &here) == OK && io_stat(io, parent, &above) == OK &&
           here.device != above.device;
}

static struct superblock_drive table_line(struct io *io, const struct drive_id *id,
                                          const char *directory)
{
    struct superblock_drive line = {.id = *id, .was_mount_point = is_mount_point(io, directory)};
    size_t bytes = strlen(directory);
    if (bytes >= sizeof line.path)
        bytes = sizeof line.path - 1;
    memcpy(line.path, directory, bytes);
    return line;
}

static enum err check_formattable(struct io *io, const struct storage_options *options,
                                  const char *directory, uint64_t *out_bytes)
{
    enum drive_kind kind;
    struct superblock *superblock = mem_new(struct superblock);
    enum err err = drive_probe(io, directory, &kind, superblock);
    mem_free(superblock);
    TRY(err);
    if (kind != DRIVE_EMPTY)
        return FAIL(ERR_EXISTS, "directory is not empty path=%s", directory);
    err = io_make_directory(io, directory);
    if (err != OK && err != ERR_EXISTS)
        return err;
    struct space_info space;
    TRY(io_space(io, directory, &space));
    uint64_t minimum =
        options->drive_bytes_min > 0 ? options->drive_bytes_min : DRIVE_BYTES_MIN_DEFAULT;
    if (space.total_bytes < minimum) {
        log_error("format: file system too small bytes=%" PRIu64 " minimum=%" PRIu64 " path=%s",
                  space.total_bytes, minimum, directory);
        return FAIL(ERR_NO_SPACE, "file system too small");
    }
    *out_bytes = space.total_bytes;
    return OK;
}

static enum err format_all(struct io *io, const struct storage_options *options,
                           const struct storage_identity *identity, struct superblock *superblock)
{
    uint64_t bytes[STORAGE_DRIVES_MAX];
    *superblock = (struct superblock){.node = *identity,
                                      .incarnation = 1,
                                      .formatted_ms = io_wall_ms(io),
                                      .drive_count = options->directory_count};
    for (uint32_t i = 0; i < options->directory_count; i++) {
        const char *directory = options->directories[i];
        TRY(check_formattable(io, options, directory, &bytes[i]));
        struct drive_id id;
        io_random(io, &id, sizeof id);
        superblock->drives[i] = table_line(io, &id, directory);
    }
    for (uint32_t i = 0; i < options->directory_count; i++) {
        superblock->drive = superblock->drives[i].id;
        superblock->has_meta = i == 0;
        superblock->segment_bytes = options->segment_bytes > 0 ? options->segment_bytes
                                                               : superblock_segment_bytes(bytes[i]);
        superblock->block_bytes_max = superblock->segment_bytes / 2 < BLOCK_BYTES_MAX
                                          ? (uint32_t)(superblock->segment_bytes / 2)
                                          : BLOCK_BYTES_MAX;
        TRY(drive_format(io, options->directories[i], superblock));
    }
    return OK;
}

enum err storage_format(struct io *io, const struct storage_options *options,
                        const struct storage_identity *identity)
{
    assert(options->directory_count > 0);
    assert(options->directory_count <= STORAGE_DRIVES_MAX);
    struct superblock *superblock = mem_new(struct superblock);
    enum err err = format_all(io, options, identity, superblock);
    mem_free(superblock);
    return err;
}

/* --- opening --- */

static struct storage *storage_new(struct io *io, const struct storage_options *options)
{
    struct storage *storage = mem_new(struct storage);
    storage->home = io;
    storage->checks_mounts = options->checks_mounts;
    storage->pool = buf_pool_new(STORAGE_BUFFER_BYTES);
    storage->mutex = mem_alloc(sizeof *storage->mutex);
    pthread_mutex_init(storage->mutex, NULL);
    signal_init(&storage->stop);
    fiber_group_init(&storage->background);
    fiber_mutex_init(&storage->collecting);
    atomic_store(&storage->guard_epoch, 1);
    storage->reactor_count = io_reactor_count(io);
    storage->reactors = mem_alloc_array(storage->reactor_count, sizeof(struct reactor_store));
    for (unsigned i = 0; i < storage->reactor_count; i++) {
        struct reactor_store *reactor = &storage->reactors[i];
        reactor->io = io_reactor(io, i);
        reactor->storage = storage;
        fiber_group_init(&reactor->group);
        signal_init(&reactor->lease_opened);
        list_init(&reactor->guards);
    }
    struct metrics *metrics = options->metrics;
    storage->written_bytes = metrics_counter(metrics, "shale_storage_written_bytes_total", NULL,
                                             "Plain bytes taken by block writers.");
    storage->read_bytes = metrics_counter(metrics, "shale_storage_read_bytes_total", NULL,
                                          "Plain bytes given by block reads.");
    storage->corrupt_cells = metrics_counter(metrics, "shale_storage_corrupt_cells_total", NULL,
                                             "Cells that failed their checksum on the device.");
    storage->blocks_punched = metrics_counter(metrics, "shale_storage_shards_punched_total", NULL,
                                              "Shards whose space was given back.");
    return storage;
}

struct appender *storage_appender(struct io *io, struct storage *storage, struct drive *drive)
{
    struct reactor_store *reactor = storage_reactor(io, storage);
    struct appender **slot = &reactor->appenders[drive->index];
    if (*slot == NULL) {
        *slot = mem_new(struct appender);
        appender_init(*slot, drive, &reactor->group);
    }
    return *slot;
}

/* A directory without superblock that another drive remembers as a mount point: the file
 * system is not mounted, and nothing must be made in its place. */
static void explain_missing(struct storage *storage, const char *directory)
{
    for (uint32_t i = 0; i < storage->drive_count; i++) {
        const struct superblock *superblock = storage->drives[i]->superblock;
        for (uint32_t j = 0; j < superblock->drive_count; j++) {
            if (superblock->drives[j].was_mount_point &&
                strcmp(superblock->drives[j].path, directory) == 0)
                log_error("storage: a known drive is not mounted path=%s", directory);
        }
    }
}

static enum err check_identity(struct storage *storage, struct drive *drive)
{
    const struct superblock *superblock = drive->superblock;
    if (storage->drive_count == 0) {
        storage->identity = superblock->node;
        return OK;
    }
    if (memcmp(superblock->node.cluster_id, storage->identity.cluster_id, 16) != 0 ||
        superblock->node.node_id != storage->identity.node_id) {
        log_error("storage: drives of different nodes or clusters path=%s", drive->directory);
        return FAIL(ERR_MISMATCH, "drive of another node");
    }
    for (uint32_t i = 0; i < storage->drive_count; i++) {
        if (memcmp(storage->drives[i]->superblock->drive.bytes, superblock->drive.bytes, 16) == 0) {
            log_error("storage: one drive is a copy of another paths=%s,%s",
                      storage->drives[i]->directory, drive->directory);
            return FAIL(ERR_MISMATCH, "cloned drive");
        }
        if (storage->drives[i]->device == drive->device)
            log_warn("storage: two directories share one device, they fail together paths=%s,%s",
                     storage->drives[i]->directory, drive->directory);
    }
    return OK;
}

/* The first drive of the node holds the metadata replica; drives that were added later do not. */
static void find_meta_drive(struct storage *storage)
{
    for (uint32_t i = 0; i < storage->drive_count; i++) {
        struct drive *drive = storage->drives[i];
        if (drive->superblock->has_meta &&
            (storage->meta_drive == NULL ||
             drive->superblock->formatted_ms < storage->meta_drive->superblock->formatted_ms))
            storage->meta_drive = drive;
    }
    if (storage->meta_drive == NULL)
        storage->meta_drive = storage->drives[0];
    storage->identity = storage->meta_drive->superblock->node;
}

/* Every superblock lists all drives of the node: those that are here, where they are now, and
 * those that are not. */
static enum err write_tables(struct io *io, struct storage *storage)
{
    struct superblock_drive *table =
        mem_alloc_array(STORAGE_DRIVES_MAX, sizeof(struct superblock_drive));
    uint32_t count = 0;
    for (uint32_t i = 0; i < storage->drive_count; i++)
        table[count++] =
            table_line(io, &storage->drives[i]->superblock->drive, storage->drives[i]->directory);
    for (uint32_t i = 0; i < storage->drive_count; i++) {
        const struct superblock *superblock = storage->drives[i]->superblock;
        for (uint32_t j = 0; j < superblock->drive_count && count < STORAGE_DRIVES_MAX; j++) {
            bool known = false;
            for (uint32_t l = 0; l < count; l++)
                known = known || memcmp(table[l].id.bytes, superblock->drives[j].id.bytes, 16) == 0;
            if (known)
                continue;
            log_error("storage: a drive of this node is missing last_path=%s",
                      superblock->drives[j].path);
            table[count++] = superblock->drives[j];
        }
    }
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < storage->drive_count; i++)
        err = drive_write_table(io, storage->drives[i], table, count);
    mem_free(table);
    return err;
}

static enum err open_drives(struct io *io, struct storage *storage,
                            const struct storage_options *options)
{
    TRY(lane_new(io, "index-read", READ_LANE_THREADS, &storage->read_lane));
    for (uint32_t i = 0; i < options->directory_count; i++) {
        struct drive_options drive_options = {
            .directory = options->directories[i],
            .kv = options->kv,
            .read_lane = storage->read_lane,
            .segment_bytes = options->segment_bytes,
            .drive_bytes_min =
                options->drive_bytes_min > 0 ? options->drive_bytes_min : DRIVE_BYTES_MIN_DEFAULT,
            .index = i,
        };
        struct drive *drive = NULL;
        enum err err = drive_open(io, &drive_options, &drive);
        if (err == ERR_NOT_FOUND)
            explain_missing(storage, options->directories[i]);
        if (err != OK && err != ERR_CANCELED)
            log_error("storage: the drive does not open path=%s cause=%s", options->directories[i],
                      err_text(err));
        TRY(err);
        err = check_identity(storage, drive);
        if (err != OK) {
            drive_close(io, drive);
            return err;
        }
        storage->drives[storage->drive_count++] = drive;
    }
    find_meta_drive(storage);
    return write_tables(io, storage);
}

enum err storage_open(struct io *io, const struct storage_options *options,
                      struct storage **out_storage)
{
    assert(options->directory_count > 0);
    assert(options->directory_count <= STORAGE_DRIVES_MAX);
    struct storage *storage = storage_new(io, options);
    enum err err = open_drives(io, storage, options);
    if (err != OK) {
        storage_stop(io, storage);
        return err;
    }
    *out_storage = storage;
    return OK;
}

/* --- running --- */

/* False when the storage stops. */
static bool sleep_until_tick(struct io *io, struct storage *storage, uint64_t seconds)
{
    enum err err = signal_wait(io, &storage->stop, io_now_ns(io) + seconds * IO_NS_PER_S);
    return err == ERR_TIMEOUT && !atomic_load(&storage->stopping);
}

/* One for each drive, so that one that hangs does not hold up the others. */
struct tick {
    struct storage *storage;
    struct drive *drive;
};

static void tick_fiber(struct io *io, void *argument)
{
    struct tick tick = *(struct tick *)argument;
    mem_free(argument);
    while (sleep_until_tick(io, tick.storage, TICK_S))
        drive_tick(io, tick.drive, tick.storage->checks_mounts);
}

static enum err start_ticks(struct io *io, struct storage *storage)
{
    for (uint32_t i = 0; i < storage->drive_count; i++) {
        struct tick *tick = mem_new(struct tick);
        *tick = (struct tick){storage, storage->drives[i]};
        enum err err = fiber_group_spawn(io, &storage->background, tick_fiber, tick);
        if (err != OK)
            mem_free(tick);
        TRY(err);
    }
    return OK;
}

static enum err collect(struct io *io, struct storage *storage, bool orphans)
{
    TRY(fiber_mutex_lock(io, &storage->collecting));
    enum err err = collector_free(io, storage);
    if (err == OK && orphans)
        err = collector_orphans(io, storage);
    fiber_mutex_unlock(io, &storage->collecting);
    return err;
}

static void collect_fiber(struct io *io, void *argument)
{
    struct storage *storage = argument;
    uint64_t orphans_ns = io_now_ns(io);
    do {
        bool orphans = io_now_ns(io) >= orphans_ns;
        enum err err = collect(io, storage, orphans);
        if (err == OK && orphans)
            orphans_ns = io_now_ns(io) + ORPHANS_EVERY_S * IO_NS_PER_S;
        if (err != OK && err != ERR_CANCELED)
            log_debug("collector: pass ended early cause=%s", err_text(err));
    } while (sleep_until_tick(io, storage, TICK_S));
}

enum err storage_start(struct io *io, struct storage *storage, struct meta_client *meta)
{
    assert(io == storage->home);
    assert(storage->meta == NULL);
    storage->meta = meta;
    TRY(placement_start(io, storage));
    TRY(start_ticks(io, storage));
    return fiber_group_spawn(io, &storage->background, collect_fiber, storage);
}

struct collect_call {
    struct storage *storage;
    enum err err;
};

static void collect_at_home(struct io *io, void *argument)
{
    struct collect_call *call = argument;
    call->err = collect(io, call->storage, true);
}

enum err storage_collect(struct io *io, struct storage *storage)
{
    struct collect_call call = {.storage = storage};
    io_call(io, storage->home, collect_at_home, &call);
    return call.err;
}

/* --- stopping --- */

static void stop_reactor(struct io *io, void *argument)
{
    struct reactor_store *reactor = argument;
    fiber_group_wait(io, &reactor->group);
    assert(list_empty(&reactor->guards));
    for (unsigned i = 0; i < STORAGE_DRIVES_MAX; i++) {
        if (reactor->appenders[i] != NULL)
            appender_deinit(reactor->appenders[i]);
        mem_free(reactor->appenders[i]);
    }
    mem_free(reactor->leases);
    mem_free(reactor->old_leases);
}

void storage_stop(struct io *io, struct storage *storage)
{
    if (storage == NULL)
        return;
    assert(io == storage->home);
    atomic_store(&storage->stopping, true);
    signal_wake_all(io, &storage->stop);
    fiber_group_wait(io, &storage->background);
    for (unsigned i = 0; i < storage->reactor_count; i++)
        io_call(io, storage->reactors[i].io, stop_reactor, &storage->reactors[i]);
    for (uint32_t i = 0; i < storage->drive_count; i++)
        drive_close(io, storage->drives[i]);
    lane_free(storage->read_lane);
    for (uint32_t i = 0; i < storage->volume_count; i++) {
        codec_free(storage->volumes[i]->codec);
        mem_free(storage->volumes[i]);
    }
    mem_free(storage->volumes);
    for (unsigned i = 0; i < FOOTER_CACHE_ENTRIES; i++)
        mem_free(storage->footers[i].cell_crcs);
    mem_free(storage->reactors);
    pthread_mutex_destroy(storage->mutex);
    mem_free(storage->mutex);
    buf_pool_free(storage->pool);
    mem_free(storage);
}

/* --- asking --- */

bool storage_ready(const struct storage *storage)
{
    bool serves = false;
    for (uint32_t i = 0; i < storage->drive_count; i++)
        serves = serves || !atomic_load(&storage->drives[i]->fenced);
    return serves && !atomic_load(&storage->stopping);
}

const char *storage_meta_directory(const struct storage *storage)
{
    return storage->meta_drive->directory;
}

uint32_t storage_drives(struct io *io, struct storage *storage, struct drive_status *out,
                        uint32_t max)
{
    (void)io;
    uint32_t count = storage->drive_count < max ? storage->drive_count : max;
    for (uint32_t i = 0; i < count; i++) {
        struct drive *drive = storage->drives[i];
        out[i] = (struct drive_status){
            .directory = drive->directory,
            .id = drive->superblock->drive,
            .total_bytes = atomic_load(&drive->total_bytes),
            .free_bytes = atomic_load(&drive->free_bytes),
            .reserve_bytes = atomic_load(&drive->reserve_bytes),
            .fenced = atomic_load(&drive->fenced),
            .full = atomic_load(&drive->full),
        };
        pthread_mutex_lock(&drive->mutex);
        out[i].segment_count = drive->segment_count;
        out[i].record_count = drive->pending_queue.count;
        for (uint32_t j = 0; j < drive->segment_count; j++) {
            out[i].record_count += drive->segments[j]->live_count;
            out[i].live_bytes += drive->segments[j]->live_bytes;
        }
        pthread_mutex_unlock(&drive->mutex);
    }
    return count;
}
