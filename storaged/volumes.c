/* See volumes.h. */
#include "volumes.h"

#include "base/log.h"
#include "base/mem.h"
#include "drives.h"
#include <assert.h>
#include <inttypes.h>

struct volume_entry *volume_ref(struct volume_entry *entry)
{
    atomic_fetch_add(&entry->references, 1);
    return entry;
}

void volume_unref(struct volume_entry *entry)
{
    if (entry == NULL || atomic_fetch_sub(&entry->references, 1) > 1)
        return;
    codec_free(entry->codec);
    mem_free(entry);
}

static struct volume_entry *find_locked(struct storage *storage, uint64_t volume)
{
    for (uint32_t i = 0; i < storage->volume_count; i++) {
        if (storage->volumes[i]->volume.id == volume)
            return storage->volumes[i];
    }
    return NULL;
}

static struct volume_entry *find(struct storage *storage, uint64_t volume)
{
    pthread_mutex_lock(storage->mutex);
    struct volume_entry *found = find_locked(storage, volume);
    if (found != NULL)
        (void)volume_ref(found); /* the caller's */
    pthread_mutex_unlock(storage->mutex);
    return found;
}

static bool is_as_known(const struct volume_entry *known, const struct volume_entry *entry)
{
    return known->volume.epoch == entry->volume.epoch &&
           known->volume.state == entry->volume.state &&
           known->volume.repair.id == entry->volume.repair.id &&
           memcmp(known->drives, entry->drives, sizeof known->drives) == 0;
}

static void insert_locked(struct storage *storage, struct volume_entry *entry)
{
    if (storage->volume_count == storage->volume_capacity) {
        storage->volume_capacity =
            storage->volume_capacity == 0 ? 16 : 2 * storage->volume_capacity;
        storage->volumes =
            mem_resize(storage->volumes, storage->volume_capacity * sizeof(struct volume_entry *));
    }
    entry->index = storage->volume_count;
    storage->volumes[storage->volume_count++] = entry;
}

/* Takes the entry when it says something new; what is to be freed is returned. */
static struct volume_entry *put_locked(struct storage *storage, struct volume_entry *entry)
{
    struct volume_entry *known = find_locked(storage, entry->volume.id);
    if (known == NULL) {
        insert_locked(storage, entry);
        return NULL;
    }
    if (entry->volume.epoch < known->volume.epoch || is_as_known(known, entry))
        return entry;
    entry->index = known->index;
    if (entry->volume.epoch == known->volume.epoch)
        atomic_store(&entry->drained, atomic_load(&known->drained));
    storage->volumes[entry->index] = entry;
    return known;
}

enum err volumes_take(struct storage *storage, const struct volume *volume)
{
    if (volume->data_shards == 0 || volume->data_shards + volume->parity_shards > META_SHARDS_MAX)
        return FAIL(ERR_CORRUPT, "volume of an impossible profile id=%" PRIu64, volume->id);
    AUTO(volume_entry) entry = mem_new(struct volume_entry);
    entry->volume = *volume;
    atomic_store(&entry->references, 1);
    for (unsigned slot = 0; slot < volume_slots(entry); slot++)
        entry->drives[slot] = drives_find(storage, &volume->slots[slot]);
    TRY(codec_new(volume->data_shards, volume->parity_shards, &entry->codec));
    pthread_mutex_lock(storage->mutex);
    bool full =
        storage->volume_count == STORAGE_VOLUMES_MAX && find_locked(storage, volume->id) == NULL;
    if (!full)
        entry = put_locked(storage, entry);
    pthread_mutex_unlock(storage->mutex);
    return full ? FAIL(ERR_LIMIT, "too many volumes") : OK;
}

enum err volumes_refresh(struct io *io, struct storage *storage)
{
    AUTO(volume_page) page = NULL;
    TRY(meta_volume_list(io, storage->meta, &page));
    for (uint32_t i = 0; i < page->count; i++)
        TRY(volumes_take(storage, &page->volumes[i]));
    return OK;
}

enum err volumes_find(struct io *io, struct storage *storage, uint64_t volume,
                      struct volume_entry **out_entry)
{
    struct volume_entry *entry = find(storage, volume);
    if (entry == NULL && storage->meta != NULL) {
        TRY(volumes_refresh(io, storage));
        entry = find(storage, volume);
    }
    if (entry == NULL)
        return FAIL(ERR_NOT_FOUND, "volume=%" PRIu64 " is not known", volume);
    *out_entry = entry;
    return OK;
}

void volumes_deinit(struct storage *storage)
{
    for (uint32_t i = 0; i < storage->volume_count; i++)
        volume_unref(storage->volumes[i]);
    mem_free(storage->volumes);
}
