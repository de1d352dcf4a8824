/* The life of a storage: open, start, stop. */
#include "storaged/server.h"

#include "base/log.h"
#include "base/mem.h"
#include "collector.h"
#include "drives.h"
#include "placement.h"
#include "repair.h"
#include "scrub.h"
#include "volumes.h"
#include <assert.h>
#include <inttypes.h>

enum { ORPHANS_EVERY_S = 600, ORPHANS_SOON_S = 30, TICK_S = 1, LATENCY_AGE_TICKS = 5 };

/* --- opening --- */

static void make_counters(struct storage *storage)
{
    struct metrics *metrics = storage->metrics;
    storage->written_bytes = metrics_counter(metrics, "shale_storage_written_bytes_total", NULL,
                                             "Plain bytes taken by block writers.");
    storage->read_bytes = metrics_counter(metrics, "shale_storage_read_bytes_total", NULL,
                                          "Plain bytes given by block reads.");
    storage->corrupt_cells = metrics_counter(metrics, "shale_storage_corrupt_cells_total", NULL,
                                             "Cells that failed their checksum on the device.");
    storage->blocks_punched = metrics_counter(metrics, "shale_storage_shards_punched_total", NULL,
                                              "Shards whose space was given back.");
    storage->blocks_degraded =
        metrics_counter(metrics, "shale_blocks_degraded_written_total", NULL,
                        "Blocks acknowledged with some shards missing, to be repaired.");
    storage->reads_hedged = metrics_counter(metrics, "shale_reads_hedged_total", NULL,
                                            "Shard reads begun because another one was late.");
    storage->reads_decoded = metrics_counter(metrics, "shale_reads_decoded_total", NULL,
                                             "Block reads that had to compute missing data.");
}

static struct storage *storage_new(struct io *io, const struct storage_options *options)
{
    struct storage *storage = mem_new(struct storage);
    storage->home = io;
    storage->options = *options;
    for (uint32_t i = 0; i < options->directory_count; i++)
        storage->directories[i] = mem_format("%s", options->directories[i]);
    storage->options.directories = (const char *const *)storage->directories;
    storage->metrics = options->metrics;
    storage->pool = buf_pool_new(STORAGE_BUFFER_BYTES);
    storage->mutex = mem_alloc(sizeof *storage->mutex);
    pthread_mutex_init(storage->mutex, NULL);
    signal_init(&storage->stop);
    fiber_group_init(&storage->background);
    fiber_mutex_init(&storage->collecting);
    fiber_mutex_init(&storage->placing);
    fiber_mutex_init(&storage->membership);
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
        list_init(&reactor->retired);
    }
    make_counters(storage);
    storage->repair = repair_new(storage->metrics);
    storage->scrub = scrub_new(storage->metrics);
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

enum err storage_open(struct io *io, const struct storage_options *options,
                      struct storage **out_storage)
{
    assert(options->directory_count > 0);
    assert(options->directory_count <= STORAGE_DRIVES_MAX);
    struct storage *storage = storage_new(io, options);
    enum err err = drives_open(io, storage);
    if (err != OK) {
        storage_stop(io, storage);
        return err;
    }
    *out_storage = storage;
    return OK;
}

/* --- running --- */

bool storage_sleep(struct io *io, struct storage *storage, uint64_t ms)
{
    enum err err = signal_wait(io, &storage->stop, io_now_ns(io) + ms * IO_NS_PER_MS);
    return err == ERR_TIMEOUT && !atomic_load(&storage->stopping);
}

static bool sleep_until_tick(struct io *io, struct storage *storage, uint64_t seconds)
{
    return storage_sleep(io, storage, seconds * 1000);
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
    while (sleep_until_tick(io, tick.storage, TICK_S) && drive_check(tick.drive) == OK)
        drive_tick(io, tick.drive, tick.storage->options.checks_mounts);
}

/* For the drives from `*ticking` on. */
static enum err start_ticks(struct io *io, struct storage *storage, uint32_t *ticking)
{
    for (; *ticking < atomic_load(&storage->drive_count); (*ticking)++) {
        struct tick *tick = mem_new(struct tick);
        *tick = (struct tick){storage, storage->drives[*ticking]};
        enum err err = fiber_group_spawn(io, &storage->background, tick_fiber, tick);
        if (err != OK)
            mem_free(tick);
        TRY(err);
    }
    return OK;
}

static enum err start_fibers(struct io *io, struct storage *storage, uint32_t *ticking,
                             uint32_t *scrubbing)
{
    TRY(start_ticks(io, storage, ticking));
    for (; *scrubbing < atomic_load(&storage->drive_count); (*scrubbing)++)
        TRY(scrub_start(io, storage, storage->drives[*scrubbing]));
    return OK;
}

/* Drives that leave and join. */
static void watch_fiber(struct io *io, void *argument)
{
    struct storage *storage = argument;
    uint32_t ticking = 0;
    uint32_t scrubbing = 0;
    for (uint64_t ticks = 1; start_fibers(io, storage, &ticking, &scrubbing) != OK ||
                             sleep_until_tick(io, storage, TICK_S);
         ticks++) {
        bool changed = drives_watch(io, storage);
        drives_judge_latency(storage, ticks % LATENCY_AGE_TICKS == 0);
        drives_show(storage);
        if (!changed)
            continue;
        storage->collects_orphans = true; /* what was given up while a drive was away */
        if (storage->options.drives_changed != NULL)
            storage->options.drives_changed(storage->options.context);
        (void)placement_reconcile(io, storage); /* the next tick tries again */
        repair_wake(io, storage);
    }
}

static void place_fiber(struct io *io, void *argument)
{
    struct storage *storage = argument;
    for (uint64_t ticks = 1; sleep_until_tick(io, storage, TICK_S); ticks++)
        placement_tick(io, storage, ticks);
}

static enum err collect(struct io *io, struct storage *storage, bool orphans)
{
    TRY(fiber_mutex_lock(io, &storage->collecting));
    enum err err = collector_free(io, storage);
    if (err == OK)
        err = collector_stale(io, storage);
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
        uint64_t now_ns = io_now_ns(io);
        bool orphans = now_ns >= orphans_ns ||
                       (storage->collects_orphans &&
                        now_ns + (ORPHANS_EVERY_S - ORPHANS_SOON_S) * IO_NS_PER_S >= orphans_ns);
        if (orphans)
            storage->collects_orphans = false;
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
    drives_show(storage);
    TRY(fiber_group_spawn(io, &storage->background, watch_fiber, storage));
    TRY(fiber_group_spawn(io, &storage->background, place_fiber, storage));
    TRY(repair_start(io, storage));
    return fiber_group_spawn(io, &storage->background, collect_fiber, storage);
}

enum err storage_start_reading(struct io *io, struct storage *storage, struct meta_client *meta)
{
    assert(io == storage->home);
    assert(storage->meta == NULL);
    storage->meta = meta;
    storage->reads_only = true;
    drives_show(storage);
    return volumes_refresh(io, storage);
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
    for (unsigned i = 0; i < STORAGE_DRIVES_LIFE_MAX; i++) {
        if (reactor->appenders[i] != NULL)
            appender_deinit(reactor->appenders[i]);
        mem_free(reactor->appenders[i]);
    }
    leases_deinit(reactor);
}

void storage_stop(struct io *io, struct storage *storage)
{
    if (storage == NULL)
        return;
    assert(io == storage->home);
    atomic_store(&storage->stopping, true);
    signal_wake_all(io, &storage->stop);
    repair_wake(io, storage);
    scrub_wake(io, storage);
    fiber_group_wait(io, &storage->background);
    for (unsigned i = 0; i < storage->reactor_count; i++)
        io_call(io, storage->reactors[i].io, stop_reactor, &storage->reactors[i]);
    for (uint32_t i = 0; i < atomic_load(&storage->drive_count); i++)
        drive_close(io, storage->drives[i]);
    volumes_deinit(storage);
    for (uint32_t i = 0; i < storage->options.directory_count; i++)
        mem_free(storage->directories[i]);
    for (unsigned i = 0; i < FOOTER_CACHE_ENTRIES; i++)
        mem_free(storage->footers[i].cell_crcs);
    mem_free(storage->reactors);
    pthread_mutex_destroy(storage->mutex);
    mem_free(storage->mutex);
    repair_free(storage->repair);
    scrub_free(storage->scrub);
    buf_pool_free(storage->pool);
    mem_free(storage);
}

/* --- asking --- */

bool storage_ready(const struct storage *storage)
{
    bool serves = false;
    for (uint32_t i = 0; i < atomic_load(&storage->drive_count); i++)
        serves = serves || !atomic_load(&storage->drives[i]->fenced);
    return serves && !atomic_load(&storage->stopping);
}

const struct storage_identity *storage_identity_of(const struct storage *storage)
{
    return &storage->identity;
}

const char *drive_state_text(enum drive_state state)
{
    switch (state) {
    case DRIVE_STATE_OK:
        return "ok";
    case DRIVE_STATE_FULL:
        return "full";
    case DRIVE_STATE_FENCED:
        return "fenced";
    case DRIVE_STATE_MISSING:
        return "missing";
    case DRIVE_STATE_QUARANTINED:
        return "quarantined";
    case DRIVE_STATE_DRAINING:
        return "draining";
    }
    return "unknown";
}

static uint32_t count_slots(struct storage *storage, const struct drive_id *id)
{
    uint32_t slots = 0;
    pthread_mutex_lock(storage->mutex);
    for (uint32_t i = 0; i < storage->volume_count; i++) {
        const struct volume_entry *entry = storage->volumes[i];
        for (unsigned slot = 0; slot < volume_slots(entry); slot++)
            slots += drive_id_equal(&entry->volume.slots[slot], id);
    }
    pthread_mutex_unlock(storage->mutex);
    return slots;
}

static struct drive_status status_of(struct storage *storage, const struct known_drive *known)
{
    struct drive_status status = {
        .directory = known->entry.path,
        .id = known->entry.id,
        .state = drives_state(known),
        .fresh = known->fresh,
        .slots = count_slots(storage, &known->entry.id),
    };
    struct drive *drive = known->drive;
    if (drive == NULL)
        return status;
    status.directory = drive->directory;
    status.total_bytes = atomic_load(&drive->total_bytes);
    status.free_bytes = atomic_load(&drive->free_bytes);
    status.reserve_bytes = atomic_load(&drive->reserve_bytes);
    status.fenced = atomic_load(&drive->fenced);
    status.full = atomic_load(&drive->full);
    status.slow = atomic_load(&drive->slow);
    pthread_mutex_lock(&drive->mutex);
    status.segment_count = drive->segment_count;
    status.record_count = drive->pending_queue.count;
    for (uint32_t j = 0; j < drive->segment_count; j++) {
        status.record_count += drive->segments[j]->live_count;
        status.live_bytes += drive->segments[j]->live_bytes;
    }
    pthread_mutex_unlock(&drive->mutex);
    return status;
}

uint32_t storage_drives(struct io *io, struct storage *storage, struct drive_status *out,
                        uint32_t max)
{
    assert(io == storage->home);
    uint32_t count = 0;
    for (uint32_t i = 0; i < storage->known_count && count < max; i++) {
        if (storage->known[i].state != ROSTER_LOST)
            out[count++] = status_of(storage, &storage->known[i]);
    }
    return count;
}

bool storage_drive_is_here(struct io *io, struct storage *storage, const struct drive_id *drive)
{
    struct drive *found = drives_find(storage, drive);
    if (found == NULL)
        return false;
    if (storage->options.checks_mounts && drive_check(found) == OK)
        drive_check_mount(io, found);
    return drive_check(found) == OK;
}

enum err storage_drain(struct io *io, struct storage *storage, const struct drive_id *drive,
                       bool drains)
{
    assert(io == storage->home);
    AUTO(drive_page) page = NULL;
    TRY(meta_drive_list(io, storage->meta, &page));
    uint32_t at = 0;
    while (at < page->count && !drive_id_equal(&page->drives[at].id, drive))
        at++;
    if (at == page->count)
        return FAIL(ERR_NOT_FOUND, "no such drive");
    if (page->drives[at].standing == DRIVE_LOST)
        return FAIL(ERR_INVALID, "the drive is lost");
    TRY(meta_drive_set_standing(io, storage->meta, drive,
                                drains ? DRIVE_DRAINING : DRIVE_IN_SERVICE));
    TRY(placement_reconcile(io, storage));
    repair_wake(io, storage);
    return OK;
}
