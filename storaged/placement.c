/* Volumes, leases and the choice between them. */
#include "placement.h"

#include "base/log.h"
#include "base/mem.h"
#include <assert.h>
#include <inttypes.h>

enum { LEASE_CLOSE_AFTER_S = 3600 };

/* --- volumes --- */

static struct drive *find_drive(struct storage *storage, const struct drive_id *id)
{
    for (uint32_t i = 0; i < storage->drive_count; i++) {
        if (memcmp(storage->drives[i]->superblock->drive.bytes, id->bytes, 16) == 0)
            return storage->drives[i];
    }
    return NULL;
}

static struct volume_entry *find_volume_locked(struct storage *storage, uint64_t volume)
{
    for (uint32_t i = 0; i < storage->volume_count; i++) {
        if (storage->volumes[i]->volume.id == volume)
            return storage->volumes[i];
    }
    return NULL;
}

static struct volume_entry *find_volume(struct storage *storage, uint64_t volume)
{
    pthread_mutex_lock(storage->mutex);
    struct volume_entry *found = find_volume_locked(storage, volume);
    pthread_mutex_unlock(storage->mutex);
    return found;
}

/* Takes the volume into the table when all its drives are here. */
static enum err add_volume(struct storage *storage, const struct volume *volume)
{
    if (find_volume(storage, volume->id) != NULL)
        return OK;
    if (storage->volume_count == STORAGE_VOLUMES_MAX)
        return FAIL(ERR_LIMIT, "too many volumes");
    unsigned slots = (unsigned)volume->data_shards + volume->parity_shards;
    struct volume_entry entry = {.volume = *volume};
    for (unsigned slot = 0; slot < slots && slot < META_SHARDS_MAX; slot++) {
        entry.drives[slot] = find_drive(storage, &volume->slots[slot]);
        if (entry.drives[slot] == NULL)
            return OK;
    }
    AUTO(codec) codec = NULL;
    TRY(codec_new(volume->data_shards, volume->parity_shards, &codec));
    pthread_mutex_lock(storage->mutex);
    /* Another reactor may have been faster. */
    if (find_volume_locked(storage, volume->id) != NULL) {
        pthread_mutex_unlock(storage->mutex);
        return OK;
    }
    entry.codec = TAKE(codec);
    if (storage->volume_count == storage->volume_capacity) {
        storage->volume_capacity =
            storage->volume_capacity == 0 ? 16 : 2 * storage->volume_capacity;
        storage->volumes =
            mem_resize(storage->volumes, storage->volume_capacity * sizeof(struct volume_entry *));
    }
    storage->volumes[storage->volume_count++] = mem_copy(&entry, sizeof entry);
    pthread_mutex_unlock(storage->mutex);
    return OK;
}

static enum err load_volumes(struct io *io, struct storage *storage)
{
    AUTO(volume_page) page = NULL;
    TRY(meta_volume_list(io, storage->meta, &page));
    for (uint32_t i = 0; i < page->count; i++)
        TRY(add_volume(storage, &page->volumes[i]));
    return OK;
}

enum err placement_volume(struct io *io, struct storage *storage, uint64_t volume,
                          struct volume_entry **out_entry)
{
    struct volume_entry *entry = find_volume(storage, volume);
    if (entry == NULL && storage->meta != NULL) {
        TRY(load_volumes(io, storage));
        entry = find_volume(storage, volume);
    }
    if (entry == NULL)
        return FAIL(ERR_NOT_FOUND, "volume=%" PRIu64 " is not on these drives", volume);
    *out_entry = entry;
    return OK;
}

static uint32_t volume_count(struct storage *storage)
{
    pthread_mutex_lock(storage->mutex);
    uint32_t count = storage->volume_count;
    pthread_mutex_unlock(storage->mutex);
    return count;
}

static struct volume_entry *volume_at(struct storage *storage, uint32_t index)
{
    pthread_mutex_lock(storage->mutex);
    struct volume_entry *entry = storage->volumes[index];
    pthread_mutex_unlock(storage->mutex);
    return entry;
}

/* --- leases --- */

static struct reactor_lease *lease_at(struct storage *storage, struct reactor_store *reactor,
                                      uint32_t index)
{
    if (index >= reactor->lease_capacity) {
        uint32_t capacity = volume_count(storage);
        reactor->leases = mem_resize(reactor->leases, capacity * sizeof(struct reactor_lease));
        memset(reactor->leases + reactor->lease_capacity, 0,
               (capacity - reactor->lease_capacity) * sizeof(struct reactor_lease));
        reactor->lease_capacity = capacity;
    }
    return &reactor->leases[index];
}

static void retire_lease(struct io *io, struct reactor_store *reactor, const struct lease *lease)
{
    if (reactor->old_lease_count == reactor->old_lease_capacity) {
        reactor->old_lease_capacity =
            reactor->old_lease_capacity == 0 ? 8 : 2 * reactor->old_lease_capacity;
        reactor->old_leases =
            mem_resize(reactor->old_leases, reactor->old_lease_capacity * sizeof(struct old_lease));
    }
    reactor->old_leases[reactor->old_lease_count++] = (struct old_lease){
        .lease = *lease, .close_ns = io_now_ns(io) + LEASE_CLOSE_AFTER_S * IO_NS_PER_S};
}

/* Closing early would only waste work that is still on its way to a commit; never closing
 * would keep orphans until the next start. */
static void close_old_leases(struct io *io, struct storage *storage, struct reactor_store *reactor)
{
    while (reactor->old_lease_count > 0 && reactor->old_leases[0].close_ns <= io_now_ns(io)) {
        struct lease lease = reactor->old_leases[0].lease;
        /* Out of the list first: the renewal of another volume may come here meanwhile. */
        reactor->old_lease_count--;
        memmove(reactor->old_leases, reactor->old_leases + 1,
                reactor->old_lease_count * sizeof(struct old_lease));
        if (meta_lease_close(io, storage->meta, &lease) != OK) {
            retire_lease(io, reactor, &lease); /* tried again later */
            return;
        }
    }
}

/* A fresh lease in the place of what is left of the old one. One fiber at a time. */
static enum err open_lease(struct io *io, struct storage *storage, struct reactor_store *reactor,
                           uint32_t index)
{
    struct volume_entry *entry = volume_at(storage, index);
    assert(!lease_at(storage, reactor, index)->opening);
    lease_at(storage, reactor, index)->opening = true;
    struct lease lease = {.volume = 0};
    enum err err = meta_lease_open(io, storage->meta, entry->volume.id, storage->identity.node_id,
                                   storage->boot, &lease);
    struct reactor_lease *slot = lease_at(storage, reactor, index);
    slot->opening = false;
    if (err == OK) {
        if (slot->opened)
            retire_lease(io, reactor, &slot->lease);
        *slot = (struct reactor_lease){.lease = lease, .next = lease.from, .opened = true};
        atomic_store(&entry->leased, true);
    }
    signal_wake_all(io, &reactor->lease_opened);
    return err;
}

struct renewal {
    struct storage *storage;
    uint32_t index;
};

static void renew_fiber(struct io *io, void *argument)
{
    struct renewal renewal = *(struct renewal *)argument;
    mem_free(argument);
    struct reactor_store *reactor = storage_reactor(io, renewal.storage);
    if (!lease_at(renewal.storage, reactor, renewal.index)->opening)
        (void)open_lease(io, renewal.storage, reactor, renewal.index); /* tried again when needed */
    close_old_leases(io, renewal.storage, reactor);
}

static void renew_ahead(struct io *io, struct storage *storage, struct reactor_store *reactor,
                        uint32_t index)
{
    struct reactor_lease *slot = lease_at(storage, reactor, index);
    uint64_t range = slot->lease.to - slot->lease.from;
    if (slot->opening || slot->lease.to - slot->next > range / 4)
        return;
    struct renewal *renewal = mem_new(struct renewal);
    *renewal = (struct renewal){.storage = storage, .index = index};
    if (fiber_group_spawn(io, &reactor->group, renew_fiber, renewal) != OK)
        mem_free(renewal);
}

static enum err take_block(struct io *io, struct storage *storage, uint32_t index,
                           struct placed *out)
{
    struct reactor_store *reactor = storage_reactor(io, storage);
    struct reactor_lease *slot = lease_at(storage, reactor, index);
    while (slot->next == slot->lease.to) {
        if (slot->opening)
            TRY(signal_wait(io, &reactor->lease_opened, 0));
        else
            TRY(open_lease(io, storage, reactor, index));
        slot = lease_at(storage, reactor, index);
    }
    struct volume_entry *entry = volume_at(storage, index);
    *out = (struct placed){
        .entry = entry, .lease = slot->lease, .block = {entry->volume.id, slot->next++}};
    renew_ahead(io, storage, reactor, index);
    return OK;
}

/* --- choosing --- */

static uint64_t draw(struct reactor_store *reactor, uint64_t bound)
{
    uint64_t x = reactor->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    reactor->random = x;
    return x % bound;
}

struct candidate {
    uint32_t index;
    uint32_t load;
};

enum fitness { FITS, FULL, BROKEN };

static enum fitness judge(const struct volume_entry *entry, uint32_t bytes, uint32_t *out_load)
{
    unsigned slots = (unsigned)entry->volume.data_shards + entry->volume.parity_shards;
    enum fitness fitness = entry->volume.state == VOLUME_OPEN ? FITS : BROKEN;
    *out_load = 0;
    for (unsigned slot = 0; slot < slots; slot++) {
        const struct drive *drive = entry->drives[slot];
        if (atomic_load(&drive->fenced))
            fitness = BROKEN;
        else if (fitness == FITS && !drive_has_space(drive, bytes / entry->volume.data_shards))
            fitness = FULL;
        *out_load += atomic_load(&drive->load);
    }
    return fitness;
}

enum err placement_choose(struct io *io, struct storage *storage, uint32_t bytes,
                          struct placed *out)
{
    struct reactor_store *reactor = storage_reactor(io, storage);
    struct candidate chosen = {0};
    struct candidate other = {0};
    uint32_t fitting = 0;
    bool full = false;
    /* Reservoir of two: each pair of fitting volumes is as likely as any other. */
    for (uint32_t i = 0; i < volume_count(storage); i++) {
        struct candidate candidate = {.index = i};
        enum fitness fitness = judge(volume_at(storage, i), bytes, &candidate.load);
        full = full || fitness == FULL;
        if (fitness != FITS)
            continue;
        fitting++;
        if (fitting == 1) {
            chosen = candidate;
        } else if (fitting == 2) {
            other = candidate;
        } else {
            uint64_t at = draw(reactor, fitting);
            if (at == 0)
                chosen = candidate;
            else if (at == 1)
                other = candidate;
        }
    }
    if (fitting == 0)
        return full ? FAIL(ERR_NO_SPACE, "every drive is below its reserve")
                    : FAIL(ERR_FENCED, "no volume can be written");
    bool take_other = fitting > 1 && (other.load < chosen.load ||
                                      (other.load == chosen.load && draw(reactor, 2) == 0));
    return take_block(io, storage, take_other ? other.index : chosen.index, out);
}

/* --- start --- */

static bool is_in_a_volume(struct storage *storage, const struct drive *drive)
{
    for (uint32_t i = 0; i < storage->volume_count; i++) {
        const struct volume_entry *entry = storage->volumes[i];
        unsigned slots = (unsigned)entry->volume.data_shards + entry->volume.parity_shards;
        for (unsigned slot = 0; slot < slots; slot++) {
            if (entry->drives[slot] == drive && entry->volume.state == VOLUME_OPEN)
                return true;
        }
    }
    return false;
}

struct lease_call {
    struct storage *storage;
    enum err err;
};

static void open_leases(struct io *io, void *argument)
{
    struct lease_call *call = argument;
    struct reactor_store *reactor = storage_reactor(io, call->storage);
    for (uint32_t i = 0; call->err == OK && i < volume_count(call->storage); i++) {
        struct volume_entry *entry = volume_at(call->storage, i);
        bool wanted =
            entry->volume.state == VOLUME_OPEN && lease_at(call->storage, reactor, i)->next ==
                                                      lease_at(call->storage, reactor, i)->lease.to;
        if (wanted)
            call->err = open_lease(io, call->storage, reactor, i);
    }
}

enum err placement_start(struct io *io, struct storage *storage)
{
    io_random(io, &storage->boot, sizeof storage->boot);
    for (unsigned i = 0; i < storage->reactor_count; i++) {
        io_random(io, &storage->reactors[i].random, sizeof storage->reactors[i].random);
        storage->reactors[i].random |= 1;
    }
    for (uint32_t i = 0; i < storage->drive_count; i++) {
        struct drive *drive = storage->drives[i];
        TRY(meta_drive_register(io, storage->meta, &drive->superblock->drive,
                                storage->identity.node_id, atomic_load(&drive->total_bytes)));
    }
    TRY(meta_lease_close_stale(io, storage->meta, storage->identity.node_id, storage->boot));
    TRY(load_volumes(io, storage));
    for (uint32_t i = 0; i < storage->drive_count; i++) {
        if (is_in_a_volume(storage, storage->drives[i]))
            continue;
        struct volume volume;
        TRY(meta_volume_create(io, storage->meta, 1, 0, &storage->drives[i]->superblock->drive,
                               &volume));
        TRY(add_volume(storage, &volume));
    }
    for (unsigned i = 0; i < storage->reactor_count; i++) {
        struct lease_call call = {.storage = storage};
        io_call(io, storage->reactors[i].io, open_leases, &call);
        TRY(call.err);
    }
    return OK;
}
