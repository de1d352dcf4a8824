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

static enum err punch_shard(struct io *io, struct storage *storage, struct drive *drive,
                            const struct shard_key *key, struct touched *touched)
{
    struct place place;
    enum err err = drive_index_find(io, drive, key, &place);
    if (err == ERR_NOT_FOUND)
        return OK;
    TRY(err);
    struct segment_file *segment = drive_segment_acquire(drive, place.segment);
    if (segment == NULL)
        return OK; /* the file is gone, the row goes too */
    err = drive_punch(io, drive, segment, place.offset, place.bytes);
    drive_segment_release(drive, segment);
    TRY(err);
    counter_add(storage->blocks_punched, 1);
    touch(touched, place.segment);
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
static enum err punch_on_drive(struct io *io, struct storage *storage, struct drive *drive,
                               const struct shard_key *keys, uint32_t count)
{
    if (count == 0)
        return OK;
    assert(count <= FREE_PAGE);
    struct touched *touched = mem_new(struct touched);
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < count; i++)
        err = punch_shard(io, storage, drive, &keys[i], touched);
    if (err == OK)
        err = sync_touched(io, drive, touched);
    mem_free(touched);
    TRY(err);
    return drive_index_remove(io, drive, keys, count);
}

/* --- free lists --- */

/* The shards of `entries` on one drive, in batches. */
static enum err punch_entries(struct io *io, struct storage *storage, struct drive *drive,
                              const struct free_entry *entries, struct volume_entry *const *volumes,
                              uint32_t count)
{
    struct shard_key *keys = mem_alloc_array(FREE_PAGE, sizeof(struct shard_key));
    uint32_t key_count = 0;
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < count; i++) {
        for (unsigned slot = 0; volumes[i] != NULL && slot < META_SHARDS_MAX; slot++) {
            if (volumes[i]->drives[slot] != drive)
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

static bool reaches_fenced_drive(const struct volume_entry *entry)
{
    for (unsigned slot = 0; slot < META_SHARDS_MAX; slot++) {
        if (entry->drives[slot] != NULL && drive_check(entry->drives[slot]) != OK)
            return true;
    }
    return false;
}

/* Entries whose volume is not here or not whole stay on the list. */
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
        if (volumes[i] != NULL && reaches_fenced_drive(volumes[i]))
            volumes[i] = NULL;
        if (volumes[i] != NULL)
            positions[done++] = page->entries[i].position;
    }
    if (err == OK && done > 0)
        err = wait_for_guards(io, storage);
    for (uint32_t i = 0; err == OK && done > 0 && i < storage->drive_count; i++)
        err = punch_entries(io, storage, storage->drives[i], page->entries, volumes, page->count);
    if (err == OK && done > 0)
        err = meta_free_done(io, storage->meta, positions, done);
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

/* --- orphans --- */

static enum err judge_page(struct io *io, struct storage *storage, struct drive *drive,
                           const struct shard_key *keys, uint32_t count)
{
    struct block_id *ids = mem_alloc_array(count, sizeof(struct block_id));
    enum block_status *status = mem_alloc_array(count, sizeof(enum block_status));
    struct shard_key *never = mem_alloc_array(count, sizeof(struct shard_key));
    uint32_t never_count = 0;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = keys[i].block;
    enum err err = meta_block_status(io, storage->meta, ids, count, status);
    for (uint32_t i = 0; err == OK && i < count; i++) {
        if (status[i] == BLOCK_NEVER)
            never[never_count++] = keys[i];
    }
    if (err == OK && never_count > 0) {
        log_info("collector: orphans found directory=%s count=%u", drive->directory, never_count);
        err = wait_for_guards(io, storage);
    }
    if (err == OK)
        err = punch_on_drive(io, storage, drive, never, never_count);
    mem_free(never);
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
    for (uint32_t i = 0; i < storage->drive_count; i++) {
        if (drive_check(storage->drives[i]) == OK)
            TRY(judge_drive(io, storage, storage->drives[i]));
    }
    return OK;
}
