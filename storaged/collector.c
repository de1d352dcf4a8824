/* Free lists and orphans: see collector.h. */
#include "collector.h"

#include "base/log.h"
#include "base/mem.h"
#include "placement.h"
#include <assert.h>
#include <inttypes.h>

enum {
    FREE_PAGE = 1024,
    ORPHAN_PAGE = 1024,
    PAGES_MAX = 100000, /* of one pass */
    GUARD_POLL_MS_MAX = 200,
};

/* --- readers that must not lose their blocks --- */

struct guard_query {
    struct storage *storage;
    uint64_t oldest;
};

static void find_oldest_guard(struct io *io, void *argument)
{
    struct guard_query *query = argument;
    struct reactor_store *reactor = storage_reactor(io, query->storage);
    uint64_t now_ns = io_now_ns(io);
    LIST_EACH(struct read_guard, guard, &reactor->guards, node)
    {
        if (guard->begun_ns + READ_GUARD_S_MAX * IO_NS_PER_S <= now_ns)
            continue;
        if (guard->epoch < query->oldest)
            query->oldest = guard->epoch;
        return;
    }
}

/* Wait until every guard that was held when this was called has ended, or holds no more. Later ones
 * looked their object up after the statement that freed the block was committed, so they do not
 * know the block. */
static enum err wait_for_guards(struct io *io, struct storage *storage)
{
    uint64_t epoch = atomic_fetch_add(&storage->guard_epoch, 1) + 1;
    uint64_t poll_ms = 1;
    for (;;) {
        struct guard_query query = {.storage = storage, .oldest = epoch};
        for (unsigned i = 0; i < storage->reactor_count; i++)
            io_call(io, storage->reactors[i].io, find_oldest_guard, &query);
        if (query.oldest >= epoch)
            return OK;
        if (atomic_load(&storage->stopping))
            return ERR_CANCELED;
        TRY(io_sleep_ms(io, poll_ms));
        poll_ms = 2 * poll_ms < GUARD_POLL_MS_MAX ? 2 * poll_ms : GUARD_POLL_MS_MAX;
    }
}

/* --- punching --- */

struct touched {
    uint64_t segments[FREE_PAGE + 1];
    uint32_t count;
};

static void touch(struct touched *touched, uint64_t segment)
{
    for (uint32_t i = 0; i < touched->count; i++) {
        if (touched->segments[i] == segment)
            return;
    }
    assert(touched->count <= FREE_PAGE);
    touched->segments[touched->count++] = segment;
}

static enum err punch_record(struct io *io, struct storage *storage, struct drive *drive,
                             const struct index_record *record, struct touched *touched)
{
    struct segment_file *segment = drive_segment_acquire(drive, record->segment);
    if (segment == NULL)
        return OK; /* the file is gone, the row goes too */
    enum err err = drive_punch(io, drive, segment, record->offset, record->bytes);
    drive_segment_release(drive, segment);
    TRY(err);
    counter_add(storage->blocks_punched, 1);
    touch(touched, record->segment);
    return OK;
}

static enum err sync_touched(struct io *io, struct drive *drive, const struct touched *touched)
{
    for (uint32_t i = 0; i < touched->count; i++) {
        struct segment_file *segment = drive_segment_acquire(drive, touched->segments[i]);
        if (segment == NULL)
            continue;
        struct file *file = NULL;
        enum err err = drive_segment_file(io, drive, segment, true, &file);
        if (err == OK)
            err = io_sync(io, file);
        if (err == ERR_IO)
            drive_fence(drive, "sync after a punch", err);
        drive_segment_release(drive, segment);
        TRY(err);
    }
    return OK;
}

/* Space first, rows after: a crash between leaves rows of zeros, which come here again; the other
 * order would leave space that nobody knows of. */
enum err collector_punch(struct io *io, struct storage *storage, struct drive *drive,
                         const struct index_record *records, uint32_t count)
{
    if (count == 0)
        return OK;
    assert(count <= FREE_PAGE);
    struct touched *touched = mem_new(struct touched);
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < count; i++)
        err = punch_record(io, storage, drive, &records[i], touched);
    if (err == OK)
        err = sync_touched(io, drive, touched);
    mem_free(touched);
    TRY(err);
    return drive_index_remove(io, drive, records, count);
}

/* The record of a shard that counts. */
static enum err find_record(struct io *io, struct drive *drive, const struct shard_key *key,
                            struct place *place, struct index_record *out)
{
    TRY(drive_index_find(io, drive, key, place));
    *out = (struct index_record){
        .key = *key, .segment = place->segment, .offset = place->offset, .bytes = place->bytes};
    return OK;
}

static enum err punch_on_drive(struct io *io, struct storage *storage, struct drive *drive,
                               const struct shard_key *keys, uint32_t count)
{
    struct index_record *records = mem_alloc_array(FREE_PAGE, sizeof(struct index_record));
    uint32_t found = 0;
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < count; i++) {
        struct place place;
        err = find_record(io, drive, &keys[i], &place, &records[found]);
        found += err == OK;
        if (err == ERR_NOT_FOUND)
            err = OK;
    }
    if (err == OK)
        err = collector_punch(io, storage, drive, records, found);
    mem_free(records);
    return err;
}

/* --- records that others took the place of --- */

/* Of a record: whether it counts for its shard, another does, which stays so, or none does. */
enum record_claim { CLAIM_COUNTS, CLAIM_STALE, CLAIM_NONE };

static enum err judge_claim(struct io *io, struct drive *drive, const struct index_record *record,
                            enum record_claim *out_claim)
{
    struct place place;
    enum err err = drive_index_find(io, drive, &record->key, &place);
    bool counts = err == OK && place.segment == record->segment && place.offset == record->offset;
    *out_claim = err == ERR_NOT_FOUND ? CLAIM_NONE : counts ? CLAIM_COUNTS : CLAIM_STALE;
    return err == ERR_NOT_FOUND ? OK : err;
}

/* What the shard's row was taken away from goes when the metadata wants the block no more. */
static enum err is_never(struct io *io, struct storage *storage, const struct index_record *record,
                         bool *out_never)
{
    enum block_status status = BLOCK_UNKNOWN;
    TRY(meta_block_status(io, storage->meta, &record->key.block, 1, &status));
    *out_never = status == BLOCK_NEVER;
    return OK;
}

enum err collector_sweep(struct io *io, struct storage *storage, struct drive *drive,
                         struct index_record *records, uint32_t count)
{
    uint32_t unwanted = 0;
    for (uint32_t i = 0; i < count; i++) {
        enum record_claim claim = CLAIM_COUNTS;
        TRY(judge_claim(io, drive, &records[i], &claim));
        bool goes = claim == CLAIM_STALE;
        if (claim == CLAIM_NONE)
            TRY(is_never(io, storage, &records[i], &goes));
        if (goes)
            records[unwanted++] = records[i];
    }
    if (unwanted == 0)
        return OK;
    TRY(wait_for_guards(io, storage));
    return collector_punch(io, storage, drive, records, unwanted);
}

enum err collector_stale(struct io *io, struct storage *storage)
{
    struct index_record *records = mem_alloc_array(DRIVE_STALE_MAX, sizeof(struct index_record));
    uint32_t drives = atomic_load(&storage->drive_count);
    enum err worst = OK;
    for (uint32_t i = 0; i < drives && worst != ERR_CANCELED; i++) {
        struct drive *drive = storage->drives[i];
        uint32_t count =
            drive_check(drive) == OK ? drive_index_take_stale(drive, records, DRIVE_STALE_MAX) : 0;
        enum err err = collector_sweep(io, storage, drive, records, count);
        if (err != OK && err != ERR_FENCED)
            worst = err;
    }
    mem_free(records);
    return worst;
}

/* --- free lists --- */

/* Whether the drive has the slot, or is about to: what a repair wrote is given up too. */
static bool may_have(const struct volume_entry *entry, unsigned slot, const struct drive *drive)
{
    const struct volume_repair *repair = &entry->volume.repair;
    return entry->drives[slot] == drive ||
           ((repair->slots >> slot & 1) != 0 &&
            drive_id_equal(&repair->drives[slot], &drive->superblock->drive));
}

/* The shards of `entries` on one drive, in batches. */
static enum err punch_entries(struct io *io, struct storage *storage, struct drive *drive,
                              const struct free_entry *entries, struct volume_entry *const *volumes,
                              uint32_t count)
{
    struct shard_key *keys = mem_alloc_array(FREE_PAGE, sizeof(struct shard_key));
    uint32_t key_count = 0;
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < count; i++) {
        for (unsigned slot = 0; volumes[i] != NULL && slot < volume_slots(volumes[i]); slot++) {
            if (!may_have(volumes[i], slot, drive))
                continue;
            if (key_count == FREE_PAGE) {
                err = punch_on_drive(io, storage, drive, keys, key_count);
                key_count = 0;
            }
            keys[key_count++] =
                (struct shard_key){.block = entries[i].block, .slot = (uint8_t)slot};
        }
    }
    if (err == OK)
        err = punch_on_drive(io, storage, drive, keys, key_count);
    mem_free(keys);
    return err;
}

/* Entries whose volume is not known stay on the list. A drive that is absent is cleaned when it is
 * back: then nothing refers to the block any more, and its lease is closed. */
static enum err free_page(struct io *io, struct storage *storage, const struct free_page *page)
{
    struct volume_entry **volumes = mem_alloc_array(page->count, sizeof(struct volume_entry *));
    uint64_t *positions = mem_alloc_array(page->count, sizeof(uint64_t));
    uint32_t done = 0;
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < page->count; i++) {
        err = placement_volume(io, storage, page->entries[i].block.volume, &volumes[i]);
        if (err == ERR_NOT_FOUND)
            err = OK;
        if (volumes[i] != NULL)
            positions[done++] = page->entries[i].position;
    }
    if (err == OK && done > 0)
        err = wait_for_guards(io, storage);
    uint32_t drives = atomic_load(&storage->drive_count);
    for (uint32_t i = 0; err == OK && done > 0 && i < drives; i++) {
        struct drive *drive = storage->drives[i];
        if (drive_check(drive) == OK)
            err = punch_entries(io, storage, drive, page->entries, volumes, page->count);
        if (err == ERR_FENCED || drive_check(drive) != OK)
            err = OK; /* it is absent now */
    }
    if (err == OK && done > 0)
        err = meta_free_done(io, storage->meta, positions, done);
    for (uint32_t i = 0; i < page->count; i++)
        volume_unref(volumes[i]);
    mem_free(positions);
    mem_free(volumes);
    return err;
}

enum err collector_free(struct io *io, struct storage *storage)
{
    uint64_t after = 0;
    for (unsigned i = 0; i < PAGES_MAX && !atomic_load(&storage->stopping); i++) {
        AUTO(free_page) page = NULL;
        TRY(meta_free_list(io, storage->meta, after, FREE_PAGE, &page));
        if (page->count == 0)
            return OK;
        TRY(free_page(io, storage, page));
        after = page->entries[page->count - 1].position;
    }
    return OK;
}

/* --- orphans, and what no volume wants any more --- */

/* The map as it is committed, for as long as one page is judged. */
struct map {
    struct volume_page *page;
    uint32_t last; /* where the last one was found */
};

static const struct volume *map_find(struct map *map, uint64_t volume)
{
    for (uint32_t i = 0; i < map->page->count; i++) {
        uint32_t at = (map->last + i) % map->page->count;
        if (map->page->volumes[at].id != volume)
            continue;
        map->last = at;
        return &map->page->volumes[at];
    }
    return NULL;
}

/* The records of the slot on the drive that count are those from this epoch on (0: all), or none
 * (UINT64_MAX); `*out_repair`: that epoch counts too. */
static uint64_t epoch_wanted(const struct volume *volume, unsigned slot, const struct drive *drive,
                             uint64_t *out_repair)
{
    const struct drive_id *id = &drive->superblock->drive;
    bool moves = volume->repair.id != 0 && (volume->repair.slots >> slot & 1) != 0;
    *out_repair = moves && drive_id_equal(&volume->repair.drives[slot], id) ? volume->repair.epoch
                                                                            : UINT64_MAX;
    return drive_id_equal(&volume->slots[slot], id) ? volume->slot_epochs[slot] : UINT64_MAX;
}

/* A record of a later epoch than the map's was written after the map was asked for. Older ones
 * never come to count again: a slot that moves back here does so with an epoch of its own. */
bool collector_unwanted(const struct volume *volume, unsigned slot, const struct drive *drive,
                        uint64_t epoch)
{
    if (slot >= (unsigned)volume->data_shards + volume->parity_shards || epoch > volume->epoch)
        return false;
    uint64_t repair = UINT64_MAX;
    uint64_t from = epoch_wanted(volume, slot, drive, &repair);
    return epoch < from && epoch != repair;
}

/* Of a block that lives: by the volume's map alone. */
static enum err judge_live(struct io *io, struct map *map, struct drive *drive,
                           const struct shard_key *key, struct index_record *out, bool *out_punch)
{
    const struct volume *volume = map_find(map, key->block.volume);
    *out_punch = false;
    if (volume == NULL || key->slot >= volume->data_shards + volume->parity_shards)
        return OK;
    uint64_t repair;
    if (epoch_wanted(volume, key->slot, drive, &repair) <= 1)
        return OK; /* it never was anywhere else */
    struct place place;
    enum err err = find_record(io, drive, key, &place, out);
    if (err == ERR_NOT_FOUND)
        return OK;
    *out_punch = err == OK && collector_unwanted(volume, key->slot, drive, place.epoch);
    return err;
}

static enum err judge_key(struct io *io, struct map *map, struct drive *drive,
                          const struct shard_key *key, enum block_status status,
                          struct index_record *out, bool *out_punch)
{
    struct place place;
    *out_punch = false;
    switch (status) {
    case BLOCK_UNKNOWN:
    case BLOCK_LIVE:
        return judge_live(io, map, drive, key, out, out_punch);
    case BLOCK_NEVER:
        *out_punch = true;
        enum err err = find_record(io, drive, key, &place, out);
        if (err != ERR_NOT_FOUND)
            return err;
        *out_punch = false;
    }
    return OK;
}

static enum err judge_page(struct io *io, struct storage *storage, struct drive *drive,
                           const struct shard_key *keys, uint32_t count)
{
    struct block_id *ids = mem_alloc_array(count, sizeof(struct block_id));
    enum block_status *status = mem_alloc_array(count, sizeof(enum block_status));
    struct index_record *records = mem_alloc_array(count, sizeof(struct index_record));
    uint32_t found = 0;
    AUTO(volume_page) volumes = NULL;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = keys[i].block;
    enum err err = meta_block_status(io, storage->meta, ids, count, status);
    if (err == OK)
        err = meta_volume_list(io, storage->meta, &volumes);
    struct map map = {.page = volumes};
    for (uint32_t i = 0; err == OK && i < count; i++) {
        bool punch = false;
        err = judge_key(io, &map, drive, &keys[i], status[i], &records[found], &punch);
        found += punch;
    }
    if (err == OK && found > 0) {
        log_info("collector: shards that nothing needs found directory=%s count=%u",
                 drive->directory, found);
        err = wait_for_guards(io, storage);
    }
    if (err == OK)
        err = collector_punch(io, storage, drive, records, found);
    mem_free(records);
    mem_free(status);
    mem_free(ids);
    return err;
}

static enum err judge_drive(struct io *io, struct storage *storage, struct drive *drive)
{
    struct shard_key *keys = mem_alloc_array(ORPHAN_PAGE, sizeof(struct shard_key));
    struct shard_key last;
    uint32_t count = ORPHAN_PAGE;
    enum err err = OK;
    for (bool first = true; err == OK && count == ORPHAN_PAGE && !atomic_load(&storage->stopping);
         first = false) {
        err = drive_index_page(io, drive, first ? NULL : &last, keys, ORPHAN_PAGE, &count);
        if (err != OK || count == 0)
            break;
        last = keys[count - 1];
        err = judge_page(io, storage, drive, keys, count);
    }
    mem_free(keys);
    return err;
}

enum err collector_orphans(struct io *io, struct storage *storage)
{
    enum err worst = OK;
    uint32_t drives = atomic_load(&storage->drive_count);
    for (uint32_t i = 0; i < drives && worst != ERR_CANCELED; i++) {
        enum err err = drive_check(storage->drives[i]) == OK
                           ? judge_drive(io, storage, storage->drives[i])
                           : OK;
        if (err != OK && err != ERR_FENCED)
            worst = err;
    }
    return worst;
}
