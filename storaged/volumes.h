/* The volumes of this node's metadata, by index; entries are replaced when the volume changes. */
#pragma once
#include "storage.h"

static inline unsigned volume_slots(const struct volume_entry *entry)
{
    return (unsigned)entry->volume.data_shards + entry->volume.parity_shards;
}

struct volume_entry *volume_ref(struct volume_entry *entry);
void volume_unref(struct volume_entry *entry);
static inline void volume_entry_free(struct volume_entry *entry)
{
    volume_unref(entry);
}
DEFINE_AUTO(volume_entry, volume_entry_free)

/* The volume as it is now, with a reference; asks the metadata service when it is not known.
 * ERR_NOT_FOUND: there is none. */
enum err volumes_find(struct io *io, struct storage *storage, uint64_t volume,
                      struct volume_entry **out_entry);
/* Take what the metadata service lists: new volumes, new epochs, slots whose drive is here now. */
enum err volumes_refresh(struct io *io, struct storage *storage);
/* Take one that it just told; an older one than is known changes nothing. */
enum err volumes_take(struct storage *storage, const struct volume *volume);
void volumes_deinit(struct storage *storage);
