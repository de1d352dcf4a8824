/* See leases.h. */
#include "leases.h"

#include "base/log.h"
#include "base/mem.h"
#include <assert.h>

enum { LEASE_IDLE_S = 60, CLOSE_TIMEOUT_S = 10, OPEN_TRIES = 64 };

static struct reactor_volume *volume_at(struct reactor_store *reactor, uint32_t index)
{
    if (index >= reactor->volume_capacity) {
        uint32_t capacity = index + 16;
        reactor->volumes = mem_resize(reactor->volumes, capacity * sizeof(struct reactor_volume));
        memset(reactor->volumes + reactor->volume_capacity, 0,
               (capacity - reactor->volume_capacity) * sizeof(struct reactor_volume));
        reactor->volume_capacity = capacity;
    }
    return &reactor->volumes[index];
}

static void retire(struct reactor_store *reactor, struct reactor_volume *volume)
{
    if (volume->lease != NULL)
        list_push_back(&reactor->retired, &TAKE(volume->lease)->node);
}

/* A fresh lease in the place of what is left of the old one. One fiber at a time. */
static enum err open_lease(struct io *io, struct storage *storage, uint32_t index, uint64_t id)
{
    struct reactor_store *reactor = storage_reactor(io, storage);
    assert(!volume_at(reactor, index)->opening);
    volume_at(reactor, index)->opening = true;
    struct lease lease = {.volume = 0};
    enum err err =
        meta_lease_open(io, storage->meta, id, storage->identity.node_id, storage->boot, &lease);
    struct reactor_volume *volume = volume_at(reactor, index);
    volume->opening = false;
    if (err == OK) {
        retire(reactor, volume);
        volume->lease = mem_new(struct held_lease);
        *volume->lease =
            (struct held_lease){.lease = lease, .next = lease.from, .used_at_ns = io_now_ns(io)};
    }
    signal_wake_all(io, &reactor->lease_opened);
    return err;
}

struct renewal {
    struct storage *storage;
    uint32_t index;
    uint64_t volume;
};

static void renew_fiber(struct io *io, void *argument)
{
    struct renewal renewal = *(struct renewal *)argument;
    mem_free(argument);
    struct reactor_store *reactor = storage_reactor(io, renewal.storage);
    if (!volume_at(reactor, renewal.index)->opening)
        (void)open_lease(io, renewal.storage, renewal.index,
                         renewal.volume); /* tried again when needed */
    leases_tend(io, renewal.storage);
}

static void renew_ahead(struct io *io, struct storage *storage, const struct volume_entry *entry)
{
    struct reactor_store *reactor = storage_reactor(io, storage);
    struct reactor_volume *volume = volume_at(reactor, entry->index);
    uint64_t range = volume->lease->lease.to - volume->lease->lease.from;
    if (volume->opening || volume->lease->lease.to - volume->lease->next > range / 4)
        return;
    struct renewal *renewal = mem_new(struct renewal);
    *renewal = (struct renewal){storage, entry->index, entry->volume.id};
    if (fiber_group_spawn(io, &reactor->group, renew_fiber, renewal) != OK)
        mem_free(renewal);
}

static bool is_usable(const struct reactor_volume *volume, const struct volume_entry *entry)
{
    return volume->lease != NULL && volume->lease->next < volume->lease->lease.to &&
           volume->lease->lease.epoch >= entry->volume.epoch;
}

enum err leases_take(struct io *io, struct storage *storage, struct volume_entry *entry,
                     struct held_lease **out_lease, struct block_id *out_block)
{
    struct reactor_store *reactor = storage_reactor(io, storage);
    for (unsigned i = 0; !is_usable(volume_at(reactor, entry->index), entry); i++) {
        if (i == OPEN_TRIES)
            return FAIL(ERR_BUSY, "leases are used up faster than they come");
        if (volume_at(reactor, entry->index)->opening)
            TRY(signal_wait(io, &reactor->lease_opened, 0));
        else
            TRY(open_lease(io, storage, entry->index, entry->volume.id));
        if (atomic_load(&entry->drained))
            return FAIL(ERR_STALE_EPOCH, "volume is drained");
    }
    struct held_lease *held = volume_at(reactor, entry->index)->lease;
    /* It was opened on a later epoch than the map that the caller has. */
    if (held->lease.epoch != entry->volume.epoch)
        return FAIL(ERR_STALE_EPOCH, "volume has changed");
    held->uses++;
    held->used_at_ns = io_now_ns(io);
    *out_lease = held;
    *out_block = (struct block_id){entry->volume.id, held->next++};
    renew_ahead(io, storage, entry);
    return OK;
}

void leases_return(struct held_lease *lease)
{
    assert(lease->uses > 0);
    lease->uses--;
}

/* --- closing --- */

/* Orphans may lie under a lease that blocks were taken from; the next block opens another. */
static void retire_idle(struct io *io, struct reactor_store *reactor)
{
    uint64_t now_ns = io_now_ns(io);
    for (uint32_t i = 0; i < reactor->volume_capacity; i++) {
        struct reactor_volume *volume = &reactor->volumes[i];
        struct held_lease *lease = volume->lease;
        if (lease != NULL && !volume->opening && lease->uses == 0 &&
            lease->next > lease->lease.from &&
            now_ns - lease->used_at_ns > LEASE_IDLE_S * IO_NS_PER_S)
            retire(reactor, volume);
    }
}

static struct held_lease *first_unused(struct reactor_store *reactor)
{
    LIST_EACH(struct held_lease, lease, &reactor->retired, node)
    {
        if (lease->uses == 0 && !lease->closing)
            return lease;
    }
    return NULL;
}

void leases_tend(struct io *io, struct storage *storage)
{
    struct reactor_store *reactor = storage_reactor(io, storage);
    if (reactor->tending)
        return;
    reactor->tending = true;
    retire_idle(io, reactor);
    uint64_t deadline_ns = io_set_deadline(io, io_now_ns(io) + CLOSE_TIMEOUT_S * IO_NS_PER_S);
    enum err err = OK;
    for (struct held_lease *lease; err == OK && (lease = first_unused(reactor)) != NULL;) {
        lease->closing = true;
        err = meta_lease_close(io, storage->meta, &lease->lease);
        lease->closing = false; /* when it failed the next tick tries again */
        if (err == OK) {
            list_remove(&reactor->retired, &lease->node);
            mem_free(lease);
        }
    }
    (void)io_set_deadline(io, deadline_ns);
    reactor->tending = false;
}

uint32_t leases_drain(struct io *io, struct storage *storage, uint64_t volume)
{
    struct reactor_store *reactor = storage_reactor(io, storage);
    uint32_t left = 0;
    for (uint32_t i = 0; i < reactor->volume_capacity; i++) {
        struct reactor_volume *held = &reactor->volumes[i];
        if (held->lease != NULL && held->lease->lease.volume == volume)
            retire(reactor, held);
        left += held->opening; /* perhaps of this one */
    }
    leases_tend(io, storage);
    LIST_EACH(struct held_lease, lease, &reactor->retired, node)
    {
        left += lease->lease.volume == volume;
    }
    return left;
}

void leases_deinit(struct reactor_store *reactor)
{
    for (uint32_t i = 0; i < reactor->volume_capacity; i++)
        mem_free(reactor->volumes[i].lease);
    mem_free(reactor->volumes);
    while (!list_empty(&reactor->retired))
        mem_free(CONTAINER_OF(list_pop_front(&reactor->retired), struct held_lease, node));
}
