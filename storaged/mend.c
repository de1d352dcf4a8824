/* Single shards written again where they belong: blocks acknowledged with shards missing, shards
 * found damaged or not there. No epoch changes: what a slot has of a block is a fixed function of
 * it, so writing it again is idempotent. */
#include "base/log.h"
#include "base/mem.h"
#include "drives.h"
#include "placement.h"
#include "rebuild.h"
#include "record_check.h"
#include "repair.h"
#include <inttypes.h>

enum {
    TICK_MS = 1000,
    LIST_EVERY_TICKS = 2,
    LIST_PAGE = 256,
    UNREADABLE_EVERY_TICKS = 60,
    BUSY_TRIES = 20,
    BUSY_WAIT_MS = 50,
};

/* --- one block --- */

struct mending {
    struct storage *storage;
    struct volume_entry *entry; /* referenced */
    struct block_ref ref;       /* as it is live now; bytes 0: it is not */
    uint32_t good;              /* slots found good, or made so */
    uint32_t waits;             /* slots whose time comes: absent drives, a repair under way */
    bool unreadable;
};

/* Everything on the medium. */
static enum err check_place(struct io *io, struct drive *drive, const struct shard_key *key,
                            const struct place *place)
{
    struct index_record record = {
        .key = *key, .segment = place->segment, .offset = place->offset, .bytes = place->bytes};
    return record_check(io, drive, &record);
}

/* OK: the shard is good. ERR_NOT_FOUND, ERR_CORRUPT: it has to be written; *out_epoch is
 * under which epoch. */
static enum err check_slot(struct io *io, const struct mending *mending, unsigned slot,
                           uint64_t *out_epoch)
{
    const struct volume *volume = &mending->entry->volume;
    struct drive *drive = mending->entry->drives[slot];
    struct shard_key key = {.block = mending->ref.id, .slot = (uint8_t)slot};
    struct place place = {.epoch = 0};
    enum err err =
        rebuild_find(io, drive, volume, &mending->ref, slot, volume->slot_epochs[slot], &place);
    if (err == OK)
        err = check_place(io, drive, &key, &place);
    *out_epoch = place.epoch > volume->slot_epochs[slot] ? place.epoch : volume->slot_epochs[slot];
    /* A sector that cannot be read is written again elsewhere. */
    return err == ERR_IO && drive_is_ok(drive) ? ERR_CORRUPT : err;
}

static bool must_wait(const struct mending *mending, unsigned slot)
{
    const struct volume_repair *repair = &mending->entry->volume.repair;
    return !drive_is_ok(mending->entry->drives[slot]) ||
           (repair->id != 0 && (repair->slots >> slot & 1) != 0);
}

static enum err gather(struct io *io, struct mending *mending, uint32_t slots, struct rebuild *out)
{
    for (unsigned slot = 0; slot < volume_slots(mending->entry); slot++) {
        if ((slots >> slot & 1) == 0)
            continue;
        if (must_wait(mending, slot)) {
            mending->waits |= 1u << slot;
            continue;
        }
        uint64_t epoch = 0;
        enum err err = check_slot(io, mending, slot, &epoch);
        if (err == OK) {
            mending->good |= 1u << slot;
            continue;
        }
        if (err != ERR_NOT_FOUND && err != ERR_CORRUPT)
            return err;
        out->wanted |= 1u << slot;
        out->targets[slot].drive = mending->entry->drives[slot];
        out->targets[slot].epoch = epoch;
    }
    out->avoid = out->wanted;
    return OK;
}

static enum err find_block(struct io *io, struct mending *mending, struct block_id id)
{
    TRY(meta_block_find(io, mending->storage->meta, &id, 1, &mending->ref));
    if (mending->ref.bytes == 0)
        return OK;
    return volumes_find(io, mending->storage, id.volume, &mending->entry);
}

static enum err write_slots(struct io *io, struct mending *mending, uint32_t slots)
{
    struct storage *storage = mending->storage;
    struct rebuild rebuild = {.storage = storage,
                              .entry = mending->entry,
                              .ref = &mending->ref,
                              .pool = storage->repair->pool};
    TRY(gather(io, mending, slots, &rebuild));
    uint32_t wanted = rebuild.wanted;
    if (wanted == 0)
        return OK;
    enum err err = rebuild_block(io, &rebuild);
    mending->unreadable = (err == ERR_CORRUPT || err == ERR_FENCED) && !rebuild.target_failed;
    TRY(err);
    mending->good |= wanted;
    counter_add(storage->repair->bytes, rebuild.bytes);
    counter_add(storage->repair->blocks, 1);
    log_info("repair: shards of a block were written again volume=%" PRIu64 " sequence=%" PRIu64
             " slots=%#x",
             mending->ref.id.volume, mending->ref.id.sequence, wanted);
    return OK;
}

/* Make the slots of the mask good; fills *mending, whose entry the caller gives back. */
static enum err mend(struct io *io, struct mending *mending, struct block_id id, uint32_t slots)
{
    enum err err = OK;
    for (unsigned tries = 0; tries < BUSY_TRIES; tries++) {
        volume_unref(TAKE(mending->entry));
        mending->good = mending->waits = 0;
        mending->unreadable = false;
        TRY(find_block(io, mending, id));
        if (mending->ref.bytes == 0)
            break; /* deleted: nothing to do */
        err = write_slots(io, mending, slots);
        if (err != ERR_BUSY || !storage_sleep(io, mending->storage, BUSY_WAIT_MS))
            break;
    }
    if (mending->unreadable) {
        /* Unless it was deleted under way. */
        struct block_ref now;
        TRY(meta_block_find(io, mending->storage->meta, &id, 1, &now));
        mending->unreadable = now.bytes > 0;
    }
    if (err == OK || mending->unreadable)
        repair_note_unreadable(mending->storage, id, mending->unreadable);
    return err;
}

/* --- reports --- */

static int spare_of(const struct mending *mending)
{
    if (mending->entry == NULL)
        return 0;
    return mending->entry->volume.parity_shards -
           __builtin_popcount(mending->ref.missing | mending->waits) - 1;
}

static bool mend_reported(struct io *io, struct storage *storage, const struct bad_shard *bad)
{
    struct mending mending = {.storage = storage};
    uint64_t begun_ns = io_now_ns(io);
    uint32_t bit = 1u << bad->slot;
    enum err err = mend(io, &mending, bad->ref.id, bit);
    bool mended = err == OK && (mending.good & bit) != 0;
    if (mended && bad->scrubbed)
        counter_add(storage->repair->scrub_repairs, 1);
    if (err == ERR_BUSY)
        storage_report_bad(storage, &bad->ref, bad->slot);
    int spare = spare_of(&mending);
    volume_unref(mending.entry);
    return repair_pause(io, storage, io_now_ns(io) - begun_ns, spare);
}

static bool mend_reports(struct io *io, struct storage *storage)
{
    for (uint32_t left = storage_bad_count(storage); left > 0; left--) {
        struct bad_shard bad;
        if (!storage_take_bad(storage, &bad))
            break;
        if (!mend_reported(io, storage, &bad))
            return false;
    }
    return true;
}

/* --- blocks that were acknowledged with shards missing --- */

struct list_pass {
    struct block_ref *repaired; /* of one page */
    uint32_t count;
    uint64_t left; /* blocks that stay on the list */
};

static bool mend_listed(struct io *io, struct storage *storage, const struct block_ref *ref,
                        struct list_pass *pass)
{
    struct mending mending = {.storage = storage};
    uint64_t begun_ns = io_now_ns(io);
    enum err err = mend(io, &mending, ref->id, ref->missing);
    bool live = err != OK || mending.ref.bytes > 0;
    if (mending.good != 0 && mending.ref.bytes > 0) {
        pass->repaired[pass->count] = mending.ref;
        pass->repaired[pass->count++].missing = mending.good;
    }
    pass->left += live && (ref->missing & ~mending.good) != 0;
    /* What only waits for a drive costs nothing. */
    bool worked = err != OK || mending.good != 0;
    int spare = spare_of(&mending);
    volume_unref(mending.entry);
    return !worked || repair_pause(io, storage, io_now_ns(io) - begun_ns, spare);
}

/* All of the list once; counts what is left of it. */
static bool mend_list(struct io *io, struct storage *storage)
{
    struct list_pass pass = {.repaired = mem_alloc_array(LIST_PAGE, sizeof(struct block_ref))};
    struct block_id from = {0, 0};
    bool goes_on = true;
    enum err err = OK;
    for (bool more = true; more && goes_on && err == OK;) {
        AUTO(block_page) page = NULL;
        err = meta_repair_list(io, storage->meta, from, LIST_PAGE, &page);
        if (err != OK || page->count == 0)
            break;
        pass.count = 0;
        for (uint32_t i = 0; goes_on && i < page->count; i++)
            goes_on = mend_listed(io, storage, &page->blocks[i], &pass);
        if (pass.count > 0)
            err = meta_blocks_repaired(io, storage->meta, pass.repaired, pass.count);
        from = page->blocks[page->count - 1].id;
        from.sequence++;
        more = page->truncated;
    }
    if (err == OK && goes_on)
        storage->repair->degraded_listed = pass.left;
    mem_free(pass.repaired);
    return goes_on;
}

/* --- blocks that could not be read --- */

static void look_again(struct io *io, struct storage *storage)
{
    struct repair *repair = storage->repair;
    for (uint32_t i = 0; i < repair->unreadable_count; i++) {
        struct mending mending = {.storage = storage};
        struct block_id id = repair->unreadable[i];
        uint32_t before = repair->unreadable_count;
        enum err err = mend(io, &mending, id, UINT32_MAX);
        if (err == OK && mending.entry != NULL &&
            __builtin_popcount(mending.good) < mending.entry->volume.data_shards)
            repair_note_unreadable(storage, id, true);
        volume_unref(mending.entry);
        if (atomic_load(&storage->stopping) || io_canceled(io))
            return;
        i -= repair->unreadable_count < before;
    }
}

void mend_fiber(struct io *io, void *argument)
{
    struct storage *storage = argument;
    for (uint64_t ticks = 1; storage_sleep(io, storage, TICK_MS); ticks++) {
        bool goes_on = mend_reports(io, storage);
        if (goes_on && ticks % LIST_EVERY_TICKS == 0)
            goes_on = mend_list(io, storage);
        if (goes_on && ticks % UNREADABLE_EVERY_TICKS == 0)
            look_again(io, storage);
        repair_show(storage);
        if (!goes_on)
            return;
    }
}
