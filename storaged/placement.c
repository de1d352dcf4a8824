/* See placement.h. */
#include "placement.h"

#include "base/log.h"
#include "base/mem.h"
#include "drives.h"
#include "ladder.h"
#include <assert.h>
#include <inttypes.h>

enum {
    PLACE_TRIES = 4,
    REFRESH_TICKS = 5,
    FORGET_TICKS = 30,
    META_TIMEOUT_S = 10,
    DRAIN_POLL_MS = 20,
};
/* Requests do not look for drives again so soon after it was in vain; who joins is seen at once. */
#define RECONCILE_NS_MIN IO_NS_PER_S

enum err placement_volume(struct io *io, struct storage *storage, uint64_t volume,
                          struct volume_entry **out_entry)
{
    return volumes_find(io, storage, volume, out_entry);
}

bool placement_slot_is_ok(const struct volume_entry *entry, unsigned slot)
{
    return drive_is_ok(entry->drives[slot]);
}

/* --- choosing --- */

/* From best to worst; the last two are no choice of their own. */
enum fitness {
    FITS_BEST,     /* the best rung, every drive well */
    FITS_SLOW,     /* the same, a drive is slow */
    FITS_OTHER,    /* another profile with the promised parity */
    FITS_UNSURE,   /* a drive is to be emptied, or hangs */
    FITS_DEGRADED, /* k + 1 slots, no more */
    FULL,
    BROKEN,
};

static uint32_t pack_rung(struct redundancy rung)
{
    return (uint32_t)rung.data_shards << 8 | rung.parity_shards;
}

static enum fitness judge(struct storage *storage, const struct volume_entry *entry, uint32_t bytes,
                          uint32_t *out_load)
{
    unsigned absent = 0, full = 0, slow = 0, unsure = 0;
    unsigned slots = volume_slots(entry);
    *out_load = 0;
    if (entry->volume.state != VOLUME_OPEN || atomic_load(&entry->drained) ||
        entry->volume.parity_shards < storage->parity_floor)
        return BROKEN;
    for (unsigned slot = 0; slot < slots; slot++) {
        struct drive *drive = entry->drives[slot];
        if (!drive_is_ok(drive)) {
            absent++;
            continue;
        }
        full += !drive_has_space(drive, bytes / entry->volume.data_shards);
        slow += atomic_load(&drive->slow);
        unsure += atomic_load(&drive->draining) || atomic_load(&drive->late) > 0;
        *out_load += atomic_load(&drive->load);
    }
    if (absent > 0)
        return entry->volume.parity_shards >= 2 && full == 0 &&
                       slots - absent > entry->volume.data_shards
                   ? FITS_DEGRADED
                   : BROKEN;
    if (full > 0)
        return FULL;
    if (unsure > 0)
        return FITS_UNSURE;
    struct redundancy profile = {entry->volume.data_shards, entry->volume.parity_shards};
    if (pack_rung(profile) != atomic_load(&storage->rung))
        return FITS_OTHER;
    return slow > 0 ? FITS_SLOW : FITS_BEST;
}

struct candidate {
    struct volume_entry *entry;
    uint32_t load;
};

struct choice {
    enum fitness fitness; /* of the candidates */
    uint32_t seen;        /* as fit as they are */
    struct candidate first, second;
    bool full; /* some volume only lacks space */
};

/* Reservoir of two: each pair of the fittest volumes is as likely as any other. */
static void consider(struct choice *choice, struct candidate candidate, enum fitness fitness,
                     uint64_t *random)
{
    choice->full = choice->full || fitness == FULL;
    if (fitness >= FULL || fitness > choice->fitness)
        return;
    if (fitness < choice->fitness)
        *choice = (struct choice){.fitness = fitness, .full = choice->full};
    choice->seen++;
    if (choice->seen == 1) {
        choice->first = candidate;
    } else if (choice->seen == 2) {
        choice->second = candidate;
    } else {
        uint64_t at = random_below(random, choice->seen);
        if (at == 0)
            choice->first = candidate;
        else if (at == 1)
            choice->second = candidate;
    }
}

/* The entry has a reference of the caller's; NULL: no volume fits. */
static struct volume_entry *pick(struct storage *storage, struct reactor_store *reactor,
                                 uint32_t bytes, struct choice *out_choice)
{
    struct choice choice = {.fitness = FULL};
    pthread_mutex_lock(storage->mutex);
    for (uint32_t i = 0; i < storage->volume_count; i++) {
        struct candidate candidate = {.entry = storage->volumes[i]};
        enum fitness fitness = judge(storage, candidate.entry, bytes, &candidate.load);
        consider(&choice, candidate, fitness, &reactor->random);
    }
    struct volume_entry *entry = choice.first.entry;
    if (choice.seen > 1 &&
        (choice.second.load < choice.first.load ||
         (choice.second.load == choice.first.load && random_below(&reactor->random, 2) == 0)))
        entry = choice.second.entry;
    if (entry != NULL)
        (void)volume_ref(entry); /* the caller's */
    pthread_mutex_unlock(storage->mutex);
    *out_choice = choice;
    return entry;
}

struct reconcile_call {
    struct storage *storage;
    enum err err;
};

static void reconcile_at_home(struct io *io, void *argument)
{
    struct reconcile_call *call = argument;
    uint64_t deadline_ns = io_set_deadline(io, io_now_ns(io) + META_TIMEOUT_S * IO_NS_PER_S);
    call->err = placement_reconcile(io, call->storage);
    (void)io_set_deadline(io, deadline_ns);
}

static enum err refuse(const struct choice *choice)
{
    return choice->full ? FAIL(ERR_NO_SPACE, "drives are below their reserve")
                        : FAIL(ERR_FENCED, "no volume can be written");
}

/* Gives the entry up on an error. */
static enum err take(struct io *io, struct storage *storage, struct volume_entry *entry,
                     bool degraded, struct placed *out)
{
    struct placed placed = {.entry = entry, .degraded = degraded};
    enum err err = leases_take(io, storage, entry, &placed.lease, &placed.block);
    if (err == OK)
        *out = placed;
    else
        volume_unref(entry);
    return err;
}

enum err placement_choose(struct io *io, struct storage *storage, uint32_t bytes,
                          struct placed *out)
{
    struct reactor_store *reactor = storage_reactor(io, storage);
    uint64_t missed_ns = atomic_load(&storage->rung_missed_ns);
    bool reconciled = missed_ns != 0 && io_now_ns(io) - missed_ns < RECONCILE_NS_MIN;
    for (unsigned i = 0; i < PLACE_TRIES; i++) {
        struct choice choice;
        AUTO(volume_entry) entry = pick(storage, reactor, bytes, &choice);
        /* Perhaps drives for a full rung are there and only its volumes are not. */
        if (!reconciled && (entry == NULL || choice.fitness >= FITS_UNSURE)) {
            struct reconcile_call call = {.storage = storage};
            io_call(io, storage->home, reconcile_at_home, &call);
            if (entry == NULL)
                TRY(call.err);
            reconciled = true;
            continue;
        }
        if (entry == NULL || (choice.fitness == FITS_DEGRADED && choice.full))
            return refuse(&choice);
        enum err err = take(io, storage, TAKE(entry), choice.fitness == FITS_DEGRADED, out);
        if (err != ERR_STALE_EPOCH)
            return err;
        TRY(volumes_refresh(io, storage));
    }
    return FAIL(ERR_BUSY, "volumes change all the time");
}

void placement_release(struct placed *placed)
{
    if (placed->lease != NULL)
        leases_return(TAKE(placed->lease));
    volume_unref(TAKE(placed->entry));
}

/* --- making volumes --- */

struct pool_of_drives {
    struct drive *drives[STORAGE_DRIVES_MAX];
    struct ladder_drive weights[STORAGE_DRIVES_MAX];
    uint32_t count;
};

static bool has_room(const struct drive *drive)
{
    uint64_t total = atomic_load(&drive->total_bytes);
    return atomic_load(&drive->free_bytes) >= total / 100 * (100 - LADDER_PERCENT_USED_MAX);
}

static void gather(struct storage *storage, bool takes_slow, struct pool_of_drives *out)
{
    out->count = 0;
    uint32_t count = atomic_load(&storage->drive_count);
    for (uint32_t i = 0; i < count && out->count < STORAGE_DRIVES_MAX; i++) {
        struct drive *drive = storage->drives[i];
        if (!drive_is_ok(drive) || atomic_load(&drive->draining) || atomic_load(&drive->late) > 0 ||
            !has_room(drive) || (!takes_slow && atomic_load(&drive->slow)))
            continue;
        out->weights[out->count] = (struct ladder_drive){
            .free_bytes = atomic_load(&drive->free_bytes), .load = atomic_load(&drive->load)};
        out->drives[out->count++] = drive;
    }
}

/* Slow drives only where the rung would be narrower without them: being slow is no reason for less
 * redundancy. */
static struct redundancy choose_rung(struct storage *storage, struct pool_of_drives *out)
{
    struct redundancy wanted = storage->options.redundancy;
    uint8_t floor = atomic_load(&storage->parity_floor);
    gather(storage, true, out);
    struct redundancy rung = ladder_rung(out->count, wanted, floor);
    gather(storage, false, out);
    struct redundancy fast = ladder_rung(out->count, wanted, floor);
    if (pack_rung(fast) != pack_rung(rung))
        gather(storage, true, out);
    return rung;
}

/* Volumes of the rung that are whole; counts in which of them each drive is. */
static uint32_t count_volumes(struct storage *storage, struct redundancy rung,
                              struct pool_of_drives *pool)
{
    uint32_t whole = 0;
    for (uint32_t i = 0; i < pool->count; i++)
        pool->weights[i].volumes = 0;
    pthread_mutex_lock(storage->mutex);
    for (uint32_t i = 0; i < storage->volume_count; i++) {
        const struct volume_entry *entry = storage->volumes[i];
        uint32_t load;
        enum fitness fitness = judge(storage, entry, 0, &load);
        if (fitness > FITS_SLOW || entry->volume.data_shards != rung.data_shards)
            continue;
        whole++;
        for (uint32_t j = 0; j < pool->count; j++) {
            for (unsigned slot = 0; slot < volume_slots(entry); slot++)
                pool->weights[j].volumes += entry->drives[slot] == pool->drives[j];
        }
    }
    pthread_mutex_unlock(storage->mutex);
    return whole;
}

static bool leaves_one_out(const struct pool_of_drives *pool)
{
    bool left_out = false;
    for (uint32_t i = 0; i < pool->count; i++)
        left_out = left_out || pool->weights[i].volumes == 0;
    return left_out;
}

static enum err create_volume(struct io *io, struct storage *storage, struct redundancy rung,
                              const struct pool_of_drives *pool)
{
    uint32_t order[STORAGE_DRIVES_MAX];
    struct drive_id ids[STORAGE_DRIVES_MAX];
    uint32_t slots = (uint32_t)rung.data_shards + rung.parity_shards;
    ladder_draw(pool->weights, pool->count, slots, &storage_reactor(io, storage)->random, order);
    for (uint32_t i = 0; i < slots; i++)
        ids[i] = pool->drives[order[i]]->superblock->drive;
    struct volume volume;
    TRY(meta_volume_create(io, storage->meta, rung.data_shards, rung.parity_shards, ids, &volume));
    return volumes_take(storage, &volume);
}

static enum err make_volumes(struct io *io, struct storage *storage)
{
    for (uint32_t made = 0; made < 2 * LADDER_VOLUMES_MAX; made++) {
        /* Looked at again each time: a drive may have left meanwhile. */
        struct pool_of_drives pool;
        struct redundancy rung = choose_rung(storage, &pool);
        atomic_store(&storage->rung, pack_rung(rung));
        if (rung.data_shards == 0) {
            if (atomic_exchange(&storage->rung_missed_ns, io_now_ns(io)) == 0)
                log_error("storage: too few drives serve for the promised parity, new blocks are "
                          "written with less than full redundancy or refused drives=%u parity=%u",
                          pool.count, atomic_load(&storage->parity_floor));
            return OK;
        }
        atomic_store(&storage->rung_missed_ns, 0);
        uint32_t whole = count_volumes(storage, rung, &pool);
        if (whole >= ladder_volumes(pool.count, rung) && !leaves_one_out(&pool))
            return OK;
        TRY(drives_raise_floor(io, storage, rung.parity_shards));
        TRY(create_volume(io, storage, rung, &pool));
    }
    return OK;
}

/* --- what the metadata knows of the drives --- */

static enum err register_drive(struct io *io, struct storage *storage, struct drive *drive)
{
    struct drive_record record = {
        .id = drive->superblock->drive,
        .node_id = storage->identity.node_id,
        .capacity_bytes = atomic_load(&drive->total_bytes),
        .mount_counter = drive->superblock->mount_counter,
        .boot = storage->boot,
        .standing = DRIVE_IN_SERVICE,
    };
    enum err err = meta_drive_register(io, storage->meta, &record);
    if (err == OK)
        drive->registered = true;
    if (err != ERR_STALE)
        return err;
    log_error(
        "storage: an older copy of a drive, it is not used: empty the directory to take it as "
        "a new one directory=%s",
        drive->directory);
    atomic_store(&drive->rolled_back, true);
    drive_fence(drive, "register: the metadata saw a later state of it", ERR_STALE);
    return OK;
}

static enum err tell_drives(struct io *io, struct storage *storage)
{
    uint32_t count = atomic_load(&storage->drive_count);
    for (uint32_t i = 0; i < count; i++) {
        if (!storage->drives[i]->registered && drive_is_ok(storage->drives[i]))
            TRY(register_drive(io, storage, storage->drives[i]));
    }
    for (uint32_t i = 0; i < storage->known_count; i++) {
        if (storage->known[i].state != ROSTER_LOST || storage->known[i].told_lost)
            continue;
        struct drive_id id = storage->known[i].entry.id;
        enum err err = meta_drive_set_standing(io, storage->meta, &id, DRIVE_LOST);
        if (err != OK && err != ERR_NOT_FOUND)
            return err;
        /* The table may have moved meanwhile; telling again does no harm. */
        if (i < storage->known_count && drive_id_equal(&storage->known[i].entry.id, &id))
            storage->known[i].told_lost = true;
    }
    return OK;
}

/* Lost drives that nothing names any more leave the tables. */
static enum err forget_drives(struct io *io, struct storage *storage)
{
    for (uint32_t i = 0; i < storage->known_count; i++) {
        struct drive_id id = storage->known[i].entry.id;
        if (storage->known[i].state != ROSTER_LOST || !storage->known[i].told_lost)
            continue;
        enum err err = meta_drive_forget(io, storage->meta, &id);
        if (err == OK)
            return drives_forget(io, storage, &id); /* the next one next time */
        if (err != ERR_NOT_EMPTY)
            return err;
    }
    return OK;
}

static enum err learn_drains(struct io *io, struct storage *storage)
{
    AUTO(drive_page) page = NULL;
    TRY(meta_drive_list(io, storage->meta, &page));
    for (uint32_t i = 0; i < page->count; i++) {
        struct drive *drive = drives_find(storage, &page->drives[i].id);
        if (drive != NULL)
            atomic_store(&drive->draining, page->drives[i].standing == DRIVE_DRAINING);
    }
    return OK;
}

static enum err reconcile(struct io *io, struct storage *storage)
{
    TRY(tell_drives(io, storage));
    TRY(learn_drains(io, storage));
    TRY(volumes_refresh(io, storage));
    return make_volumes(io, storage);
}

enum err placement_reconcile(struct io *io, struct storage *storage)
{
    assert(io == storage->home);
    TRY(fiber_mutex_lock(io, &storage->placing));
    enum err err = reconcile(io, storage);
    fiber_mutex_unlock(io, &storage->placing);
    return err;
}

static void tend_reactor(struct io *io, void *argument)
{
    leases_tend(io, argument);
}

void placement_tick(struct io *io, struct storage *storage, uint64_t tick)
{
    for (unsigned i = 0; i < storage->reactor_count; i++)
        io_call(io, storage->reactors[i].io, tend_reactor, storage);
    uint64_t deadline_ns = io_set_deadline(io, io_now_ns(io) + META_TIMEOUT_S * IO_NS_PER_S);
    enum err err = OK;
    if (tick % REFRESH_TICKS == 0)
        err = placement_reconcile(io, storage);
    if (err == OK && tick % FORGET_TICKS == 0)
        err = forget_drives(io, storage);
    (void)io_set_deadline(io, deadline_ns);
    if (err != OK && err != ERR_CANCELED)
        log_debug("placement: pass ended early cause=%s", err_text(err));
}

enum err placement_start(struct io *io, struct storage *storage)
{
    io_random(io, &storage->boot, sizeof storage->boot);
    for (unsigned i = 0; i < storage->reactor_count; i++) {
        io_random(io, &storage->reactors[i].random, sizeof storage->reactors[i].random);
        storage->reactors[i].random |= 1;
    }
    TRY(tell_drives(io, storage));
    TRY(meta_lease_close_stale(io, storage->meta, storage->identity.node_id, storage->boot));
    return placement_reconcile(io, storage);
}

/* --- draining a volume --- */

struct drain_call {
    struct storage *storage;
    uint64_t volume;
    uint32_t left;
};

static void drain_reactor(struct io *io, void *argument)
{
    struct drain_call *call = argument;
    call->left += leases_drain(io, call->storage, call->volume);
}

enum err placement_drain_volume(struct io *io, struct storage *storage, uint64_t volume,
                                uint64_t deadline_ns)
{
    AUTO(volume_entry) entry = NULL;
    TRY(volumes_find(io, storage, volume, &entry));
    atomic_store(&entry->drained, true);
    enum err err = OK;
    for (;;) {
        struct drain_call call = {.storage = storage, .volume = volume};
        for (unsigned i = 0; i < storage->reactor_count; i++)
            io_call(io, storage->reactors[i].io, drain_reactor, &call);
        if (call.left == 0)
            return OK;
        if (io_now_ns(io) >= deadline_ns)
            err = ERR_TIMEOUT;
        else
            err = io_sleep_ms(io, DRAIN_POLL_MS);
        if (err != OK)
            break;
    }
    atomic_store(&entry->drained, false);
    return FAIL(err, "leases of volume %" PRIu64 " are still in use", volume);
}
