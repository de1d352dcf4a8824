/* See repair.h. */
#include "repair.h"

#include "base/log.h"
#include "base/mem.h"
#include "drives.h"
#include "ladder.h"
#include "placement.h"
#include "rebuild.h"
#include <assert.h>
#include <inttypes.h>

enum {
    TICK_MS = 1000,
    OUT_S = 600,         /* an absent drive counts as lost after this */
    OUT_NO_SPARE_S = 60, /* when the next loss would lose data */
    PAGE_BLOCKS = 1024,
    DRAIN_TRY_S = 2,
    DRAIN_WAIT_MS = 250, /* then, and longer each time, for clients that are slow */
    DRAIN_WAIT_MS_MAX = 16000,
    BACKOFF_S_MAX = 60,
    BUSY_TRIES = 100,
    BUSY_WAIT_MS = 50,
    ACTIVE_MS = 200,
    PAUSE_MS_MAX = 5000,
    TARGETS_FILLED_PERCENT_MAX = 95,
};

/* --- life --- */

struct repair *repair_new(struct metrics *metrics)
{
    struct repair *repair = mem_new(struct repair);
    repair->pool = buf_pool_new(REPAIR_BUFFER_BYTES);
    signal_init(&repair->changed);
    repair->bytes = metrics_counter(metrics, "shale_repair_bytes_total", NULL,
                                    "Bytes of shards written by repair.");
    repair->blocks = metrics_counter(metrics, "shale_repair_blocks_total", NULL,
                                     "Blocks of which repair wrote shards.");
    repair->scrub_repairs =
        metrics_counter(metrics, "shale_scrub_repairs_total", NULL,
                        "Shards written again because the scrub found them damaged.");
    repair->degraded_gauge = metrics_gauge(metrics, "shale_blocks_degraded", NULL,
                                           "Live blocks with fewer shards than they should have.");
    repair->unreadable_gauge =
        metrics_gauge(metrics, "shale_blocks_unreadable", NULL,
                      "Live blocks that cannot be read with the drives that are here.");
    repair->volumes_gauge = metrics_gauge(metrics, "shale_volumes_repairing", NULL,
                                          "Volumes with slots on lost or draining drives.");
    repair->queue_gauge =
        metrics_gauge(metrics, "shale_repair_queue", NULL, "Reports of bad shards that wait.");
    return repair;
}

void repair_free(struct repair *repair)
{
    if (repair == NULL)
        return;
    buf_pool_free(repair->pool);
    mem_free(repair);
}

void repair_wake(struct io *io, struct storage *storage)
{
    signal_wake_all(io, &storage->repair->changed);
}

/* --- when to work, and how much --- */

bool repair_clients_active(struct io *io, struct storage *storage)
{
    struct repair *repair = storage->repair;
    uint64_t sum = counter_value(storage->written_bytes) + counter_value(storage->read_bytes);
    uint64_t now_ns = io_now_ns(io);
    if (sum != repair->io_sum) {
        repair->io_sum = sum;
        repair->active_ns = now_ns;
    }
    return repair->active_ns != 0 && now_ns - repair->active_ns < ACTIVE_MS * IO_NS_PER_MS;
}

bool repair_pause(struct io *io, struct storage *storage, uint64_t busy_ns, int spare)
{
    if (atomic_load(&storage->stopping))
        return false;
    if (!repair_clients_active(io, storage))
        return true;
    unsigned percent = spare <= 0 ? 50 : spare == 1 ? 20 : 10;
    uint64_t pause_ms = busy_ns / IO_NS_PER_MS * (100 - percent) / percent;
    if (pause_ms > PAUSE_MS_MAX)
        pause_ms = PAUSE_MS_MAX;
    return pause_ms == 0 || storage_sleep(io, storage, pause_ms);
}

/* --- what is known --- */

void repair_note_unreadable(struct storage *storage, struct block_id block, bool unreadable)
{
    struct repair *repair = storage->repair;
    uint32_t at = 0;
    while (at < repair->unreadable_count && !block_id_equal(repair->unreadable[at], block))
        at++;
    bool known = at < repair->unreadable_count;
    if (unreadable && !known && repair->unreadable_count < REPAIR_UNREADABLE_MAX) {
        log_error("repair: a block cannot be read, too few of its shards are good volume=%" PRIu64
                  " sequence=%" PRIu64,
                  block.volume, block.sequence);
        repair->unreadable[repair->unreadable_count++] = block;
    } else if (!unreadable && known) {
        repair->unreadable[at] = repair->unreadable[--repair->unreadable_count];
    }
}

void repair_show(struct storage *storage)
{
    struct repair *repair = storage->repair;
    uint64_t degraded = repair->degraded_listed;
    uint64_t unreadable = repair->unreadable_count;
    for (uint32_t i = 0; i < repair->volume_count; i++) {
        const struct repair_volume *volume = &repair->volumes[i];
        if (volume->blocks == UINT64_MAX)
            continue;
        degraded += volume->degraded ? volume->blocks : 0;
        unreadable += volume->unreadable ? volume->blocks : 0;
    }
    gauge_set(repair->degraded_gauge, (int64_t)degraded);
    gauge_set(repair->unreadable_gauge, (int64_t)unreadable);
    gauge_set(repair->queue_gauge, storage_bad_count(storage));
}

bool repair_drive_is_gone(const struct storage *storage, const struct drive_id *drive)
{
    for (uint32_t i = 0; i < storage->known_count; i++) {
        if (drive_id_equal(&storage->known[i].entry.id, drive))
            return storage->known[i].state == ROSTER_LOST;
    }
    return true; /* it left the table */
}

/* What a look at drives and volumes found. */
struct look {
    struct drive_page *drives;
    struct volume_page *volumes;
};

static void look_deinit(struct look *look)
{
    drive_page_free(look->drives);
    volume_page_free(look->volumes);
}

static enum err look_now(struct io *io, struct storage *storage, struct look *out)
{
    TRY(meta_drive_list(io, storage->meta, &out->drives));
    TRY(meta_volume_list(io, storage->meta, &out->volumes));
    for (uint32_t i = 0; i < out->volumes->count; i++)
        TRY(volumes_take(storage, &out->volumes->volumes[i]));
    return OK;
}

/* DRIVE_LOST for one that the metadata does not know. */
static enum drive_standing standing_of(const struct look *look, const struct drive_id *id)
{
    for (uint32_t i = 0; i < look->drives->count; i++) {
        if (drive_id_equal(&look->drives->drives[i].id, id))
            return look->drives->drives[i].standing;
    }
    return DRIVE_LOST;
}

static unsigned slots_of(const struct volume *volume)
{
    return (unsigned)volume->data_shards + volume->parity_shards;
}

/* Slots of a volume, a bit each. */
struct slots {
    uint32_t absent; /* their drive does not serve */
    uint32_t lost;   /* and will not */
    uint32_t drains;
    int spare; /* shards that may still be lost; negative: unreadable now */
};

static struct slots judge_slots(struct storage *storage, const struct look *look,
                                const struct volume *volume)
{
    struct slots slots = {.spare = volume->parity_shards};
    for (unsigned slot = 0; slot < slots_of(volume); slot++) {
        uint32_t bit = 1u << slot;
        enum drive_standing standing = standing_of(look, &volume->slots[slot]);
        if (!drive_is_ok(drives_find(storage, &volume->slots[slot]))) {
            slots.absent |= bit;
            slots.spare--;
        }
        if (standing == DRIVE_LOST)
            slots.lost |= bit;
        else if (standing == DRIVE_DRAINING)
            slots.drains |= bit;
    }
    return slots;
}

/* --- targets --- */

static bool has_slot(const struct volume *volume, const struct drive_id *id)
{
    for (unsigned slot = 0; slot < slots_of(volume); slot++) {
        if (drive_id_equal(&volume->slots[slot], id))
            return true;
    }
    return false;
}

static bool may_take(const struct look *look, const struct volume *volume,
                     const struct drive *drive)
{
    const struct drive_id *id = &drive->superblock->drive;
    uint64_t total = atomic_load(&drive->total_bytes);
    return drive_is_ok(drive) && drive->registered && !atomic_load(&drive->draining) &&
           !atomic_load(&drive->full) &&
           atomic_load(&drive->free_bytes) > total / 100 * (100 - TARGETS_FILLED_PERCENT_MAX) &&
           standing_of(look, id) == DRIVE_IN_SERVICE && !has_slot(volume, id);
}

/* Targets for as many of the slots as there are drives; returns which. */
static uint32_t choose_targets(struct io *io, struct storage *storage, const struct look *look,
                               const struct volume *volume, uint32_t wanted,
                               struct drive_id out_drives[META_SHARDS_MAX])
{
    struct ladder_drive weights[STORAGE_DRIVES_MAX];
    struct drive *drives[STORAGE_DRIVES_MAX];
    uint32_t order[STORAGE_DRIVES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < atomic_load(&storage->drive_count) && count < STORAGE_DRIVES_MAX;
         i++) {
        struct drive *drive = storage->drives[i];
        if (!may_take(look, volume, drive))
            continue;
        weights[count] = (struct ladder_drive){.free_bytes = atomic_load(&drive->free_bytes),
                                               .load = atomic_load(&drive->load),
                                               .volumes = 1};
        drives[count++] = drive;
    }
    uint32_t wanted_count = (uint32_t)__builtin_popcount(wanted);
    uint32_t take = wanted_count < count ? wanted_count : count;
    ladder_draw(weights, count, take, &storage_reactor(io, storage)->random, order);
    uint32_t chosen = 0;
    for (unsigned slot = 0, next = 0; slot < slots_of(volume) && next < take; slot++) {
        if ((wanted >> slot & 1) == 0)
            continue;
        out_drives[slot] = drives[order[next++]]->superblock->drive;
        chosen |= 1u << slot;
    }
    return chosen;
}

static bool targets_serve(struct storage *storage, const struct volume *volume)
{
    for (unsigned slot = 0; slot < slots_of(volume); slot++) {
        if ((volume->repair.slots >> slot & 1) == 0)
            continue;
        const struct drive *drive = drives_find(storage, &volume->repair.drives[slot]);
        if (!drive_is_ok(drive) || atomic_load(&drive->draining))
            return false;
    }
    return true;
}

/* --- a pass over the blocks of a volume --- */

struct pass {
    struct storage *storage;
    struct repair_volume *known;
    const struct volume *volume;
    struct volume_entry *entry; /* as the slots are now */
    int spare;
    const struct block_page *page;
    uint32_t next; /* of the page */
    uint64_t listed, whole, gone;
    bool incomplete;    /* a block was left that may be had later */
    bool target_failed; /* then `err` says how */
    enum err err;
};

static bool pass_ends(const struct pass *pass)
{
    return pass->err != OK || atomic_load(&pass->storage->stopping);
}

/* Slots that their new drive does not have yet. */
static enum err find_missing(struct io *io, struct pass *pass, const struct block_ref *ref,
                             struct rebuild *out)
{
    const struct volume *volume = pass->volume;
    for (unsigned slot = 0; slot < slots_of(volume); slot++) {
        if ((volume->repair.slots >> slot & 1) == 0)
            continue;
        struct drive *drive = drives_find(pass->storage, &volume->repair.drives[slot]);
        struct place place;
        enum err err = rebuild_find(io, drive, volume, ref, slot, volume->repair.epoch, &place);
        if (err != OK && err != ERR_NOT_FOUND && err != ERR_CORRUPT) {
            out->target_failed = err != ERR_BUSY && err != ERR_CANCELED;
            return err;
        }
        out->targets[slot].drive = drive;
        out->targets[slot].epoch = volume->repair.epoch;
        if (err != OK)
            out->wanted |= 1u << slot;
    }
    return OK;
}

/* Nothing that is away and may come back could make it readable, and its own places of the moving
 * slots have nothing that the move would cost. */
static bool is_lost_for_good(const struct pass *pass, const struct rebuild *rebuild)
{
    const struct volume *volume = pass->volume;
    unsigned possible = 0;
    for (unsigned slot = 0; slot < slots_of(volume); slot++) {
        bool none = (rebuild->bad >> slot & 1) != 0 ||
                    repair_drive_is_gone(pass->storage, &volume->slots[slot]);
        bool moves = (volume->repair.slots >> slot & 1) != 0;
        if (moves && !none)
            return false;
        possible += !none;
    }
    return possible < volume->data_shards;
}

static enum err is_live(struct io *io, struct storage *storage, struct block_id id, bool *out_live)
{
    struct block_ref ref;
    TRY(meta_block_find(io, storage->meta, &id, 1, &ref));
    *out_live = ref.bytes > 0;
    return OK;
}

/* Why a block was not made whole, and whether the pass can go on. */
static void judge_failure(struct io *io, struct pass *pass, const struct block_ref *ref,
                          const struct rebuild *rebuild, enum err err)
{
    bool live = true;
    if (rebuild->target_failed || (err != ERR_CORRUPT && err != ERR_FENCED)) {
        pass->target_failed = pass->target_failed || rebuild->target_failed;
        pass->err = err;
        return;
    }
    enum err found = is_live(io, pass->storage, ref->id, &live);
    if (found != OK) {
        pass->err = found;
    } else if (!live) {
        pass->gone++; /* deleted under way */
    } else {
        repair_note_unreadable(pass->storage, ref->id, true);
        if (is_lost_for_good(pass, rebuild))
            pass->gone++;
        else
            pass->incomplete = true;
    }
}

static void count_block(struct pass *pass, const struct rebuild *rebuild, uint32_t wanted)
{
    struct repair *repair = pass->storage->repair;
    counter_add(repair->bytes, rebuild->bytes);
    counter_add(repair->blocks, wanted != 0);
    pass->whole++;
}

static void repair_block(struct io *io, struct pass *pass, const struct block_ref *ref)
{
    for (unsigned tries = 0; !pass_ends(pass); tries++) {
        struct rebuild rebuild = {.storage = pass->storage,
                                  .entry = pass->entry,
                                  .ref = ref,
                                  .pool = pass->storage->repair->pool};
        enum err err = find_missing(io, pass, ref, &rebuild);
        uint32_t wanted = rebuild.wanted;
        if (err == OK && wanted != 0)
            err = rebuild_block(io, &rebuild);
        if (err == OK) {
            repair_note_unreadable(pass->storage, ref->id, false);
            count_block(pass, &rebuild, wanted);
            return;
        }
        if (err != ERR_BUSY || tries == BUSY_TRIES) {
            judge_failure(io, pass, ref, &rebuild, err);
            return;
        }
        if (!storage_sleep(io, pass->storage, BUSY_WAIT_MS))
            return;
    }
}

struct worker {
    struct pass *pass;
    unsigned index;
};

/* All but the first only work while no client does. */
static void worker_fiber(struct io *io, void *argument)
{
    struct worker *worker = argument;
    struct pass *pass = worker->pass;
    struct storage *storage = pass->storage;
    while (!pass_ends(pass) && pass->next < pass->page->count) {
        if (worker->index > 0 && repair_clients_active(io, storage)) {
            if (!storage_sleep(io, storage, ACTIVE_MS))
                return;
            continue;
        }
        const struct block_ref *ref = &pass->page->blocks[pass->next++];
        uint64_t begun_ns = io_now_ns(io);
        repair_block(io, pass, ref);
        if (!repair_pause(io, storage, io_now_ns(io) - begun_ns, pass->spare))
            return;
    }
}

static void pass_page(struct io *io, struct pass *pass)
{
    struct worker workers[REPAIR_WORKERS];
    struct fiber_group group;
    fiber_group_init(&group);
    pass->next = 0;
    for (unsigned i = 0; i < REPAIR_WORKERS; i++) {
        workers[i] = (struct worker){pass, i};
        enum err err = fiber_group_spawn(io, &group, worker_fiber, &workers[i]);
        if (err != OK && i == 0)
            pass->err = err;
    }
    fiber_group_wait(io, &group);
    if (pass->err == OK && atomic_load(&pass->storage->stopping))
        pass->err = ERR_CANCELED;
}

/* Every block that is live when its page is read. */
static enum err pass_volume(struct io *io, struct pass *pass)
{
    struct storage *storage = pass->storage;
    pass->listed = pass->whole = pass->gone = 0;
    pass->incomplete = false;
    uint64_t from = 0;
    for (bool more = true; more && pass->err == OK;) {
        AUTO(block_page) page = NULL;
        TRY(meta_volume_blocks(io, storage->meta, pass->volume->id, from, PAGE_BLOCKS, &page));
        if (page->count == 0)
            break;
        pass->page = page;
        pass->listed += page->count;
        pass_page(io, pass);
        from = page->blocks[page->count - 1].id.sequence + 1;
        more = page->truncated;
    }
    TRY(pass->err);
    pass->known->blocks = pass->listed - pass->gone;
    return OK;
}

/* --- one volume --- */

static enum err end_repair(struct io *io, struct storage *storage, const struct volume *volume,
                           bool done)
{
    struct volume now;
    if (done)
        TRY(meta_repair_done(io, storage->meta, volume->id, volume->repair.id, &now));
    else
        TRY(meta_repair_cancel(io, storage->meta, volume->id, volume->repair.id, &now));
    return volumes_take(storage, &now);
}

static enum err close_leases(struct io *io, struct storage *storage, uint64_t volume)
{
    TRY(placement_drain_volume(io, storage, volume, io_now_ns(io) + DRAIN_TRY_S * IO_NS_PER_S));
    return meta_lease_close_volume(io, storage->meta, volume);
}

/* Passes until the one that began with all leases closed has found every block whole. */
static enum err copy_and_check(struct io *io, struct pass *pass)
{
    struct storage *storage = pass->storage;
    bool final = false;
    for (uint64_t wait_ms = DRAIN_WAIT_MS;; wait_ms *= wait_ms < DRAIN_WAIT_MS_MAX ? 2 : 1) {
        TRY(pass_volume(io, pass));
        repair_show(storage);
        if (final)
            break;
        enum err err = close_leases(io, storage, pass->volume->id);
        final = err == OK;
        if (err != OK && err != ERR_TIMEOUT)
            return err;
        if (!targets_serve(storage, pass->volume)) {
            pass->target_failed = true;
            return ERR_FENCED;
        }
        if (!final && !storage_sleep(io, storage, wait_ms))
            return ERR_CANCELED;
    }
    if (pass->incomplete)
        return FAIL(ERR_FENCED, "blocks of volume %" PRIu64 " cannot be read now",
                    pass->volume->id);
    return pass->whole + pass->gone == pass->listed
               ? OK
               : FAIL(ERR_CORRUPT, "repair counts blocks=%" PRIu64 " of %" PRIu64, pass->whole,
                      pass->listed);
}

/* Go on with the repair that the volume is in. */
static enum err run_repair(struct io *io, struct storage *storage, struct repair_volume *known,
                           const struct volume *volume, int spare)
{
    struct pass pass = {.storage = storage, .known = known, .volume = volume, .spare = spare};
    AUTO(volume_entry) entry = NULL;
    TRY(volumes_find(io, storage, volume->id, &entry));
    pass.entry = entry;
    enum err err = OK;
    if (!targets_serve(storage, volume)) {
        pass.target_failed = true;
        err = ERR_FENCED;
    }
    if (err == OK)
        err = copy_and_check(io, &pass);
    if (err == OK && !targets_serve(storage, volume)) {
        pass.target_failed = true;
        err = ERR_FENCED;
    }
    if (err == OK)
        err = end_repair(io, storage, volume, true);
    if (err == OK) {
        log_info("repair: slots of a volume are on their new drives volume=%" PRIu64
                 " blocks=%" PRIu64 " slots=%#x",
                 volume->id, pass.listed, volume->repair.slots);
        storage->collects_orphans = true; /* the old places */
        return OK;
    }
    if (!pass.target_failed || io_canceled(io))
        return err;
    log_warn("repair: a target failed, others are chosen volume=%" PRIu64 " cause=\"%s\"",
             volume->id, err_text(err));
    return end_repair(io, storage, volume, false);
}

static enum err begin_repair(struct io *io, struct storage *storage, const struct look *look,
                             const struct volume *volume, uint32_t wanted, struct volume *out)
{
    struct drive_id drives[META_SHARDS_MAX] = {{.bytes = {0}}};
    uint32_t slots = choose_targets(io, storage, look, volume, wanted, drives);
    if (slots == 0)
        return ERR_NOT_FOUND;
    TRY(meta_repair_start(io, storage->meta, volume->id, slots, drives, out));
    log_info("repair: slots of a volume move volume=%" PRIu64 " slots=%#x", volume->id, slots);
    return volumes_take(storage, out);
}

/* --- what to do next --- */

static struct repair_volume *known_volume(struct repair *repair, uint64_t id)
{
    for (uint32_t i = 0; i < repair->volume_count; i++) {
        if (repair->volumes[i].id == id)
            return &repair->volumes[i];
    }
    if (repair->volume_count == REPAIR_VOLUMES_MAX)
        return NULL;
    struct repair_volume *known = &repair->volumes[repair->volume_count++];
    *known = (struct repair_volume){.id = id, .blocks = UINT64_MAX};
    return known;
}

static enum err count_blocks(struct io *io, struct storage *storage, struct repair_volume *known,
                             uint64_t epoch)
{
    uint64_t blocks = 0;
    uint64_t from = 0;
    for (bool more = true; more;) {
        AUTO(block_page) page = NULL;
        TRY(meta_volume_blocks(io, storage->meta, known->id, from, 16 * PAGE_BLOCKS, &page));
        blocks += page->count;
        more = page->truncated && page->count > 0;
        if (more)
            from = page->blocks[page->count - 1].id.sequence + 1;
    }
    known->blocks = blocks;
    known->epoch = epoch;
    return OK;
}

/* One that may be worked on now. */
struct choice {
    const struct volume *volume; /* NULL: none */
    struct repair_volume *known;
    struct slots slots;
    uint32_t wanted; /* slots to move */
};

static bool is_better(const struct choice *a, const struct choice *b)
{
    if (b->volume == NULL)
        return true;
    bool a_lost = a->slots.lost != 0 || a->volume->state == VOLUME_REPAIRING;
    bool b_lost = b->slots.lost != 0 || b->volume->state == VOLUME_REPAIRING;
    if (a_lost != b_lost)
        return a_lost;
    return a->slots.spare < b->slots.spare;
}

static bool has_targets(struct io *io, struct storage *storage, const struct look *look,
                        const struct volume *volume, uint32_t wanted)
{
    struct drive_id drives[META_SHARDS_MAX];
    return choose_targets(io, storage, look, volume, wanted, drives) != 0;
}

static enum err look_at_volume(struct io *io, struct storage *storage, const struct look *look,
                               const struct volume *volume, struct choice *best,
                               uint32_t *repairing)
{
    struct choice choice = {.volume = volume, .slots = judge_slots(storage, look, volume)};
    choice.wanted = choice.slots.lost | choice.slots.drains;
    bool running = volume->state == VOLUME_REPAIRING;
    *repairing += running || choice.wanted != 0;
    if (choice.slots.absent == 0 && choice.wanted == 0 && !running)
        return OK;
    choice.known = known_volume(storage->repair, volume->id);
    if (choice.known == NULL)
        return OK; /* when others are whole again */
    choice.known->seen = true;
    choice.known->degraded = choice.slots.absent != 0;
    choice.known->unreadable = choice.slots.spare < 0;
    if (choice.known->blocks == UINT64_MAX || choice.known->epoch != volume->epoch)
        TRY(count_blocks(io, storage, choice.known, volume->epoch));
    /* Too few shards, and not for good: drives that are away must come back first. */
    bool hopeless = choice.slots.spare < 0 && (choice.slots.absent & ~choice.slots.lost) != 0;
    bool begins =
        choice.wanted != 0 && !hopeless && has_targets(io, storage, look, volume, choice.wanted);
    if (choice.known->again_ns > io_now_ns(io) || (!running && !begins))
        return OK;
    if (is_better(&choice, best))
        *best = choice;
    return OK;
}

/* Volumes that are whole again are of no interest. */
static void forget_volumes(struct repair *repair)
{
    for (uint32_t i = 0; i < repair->volume_count;) {
        bool seen = repair->volumes[i].seen;
        repair->volumes[i].seen = false;
        if (!seen)
            repair->volumes[i] = repair->volumes[--repair->volume_count];
        else
            i++;
    }
}

static enum err choose_volume(struct io *io, struct storage *storage, const struct look *look,
                              struct choice *out)
{
    uint32_t repairing = 0;
    enum err err = OK;
    *out = (struct choice){.volume = NULL};
    for (uint32_t i = 0; err == OK && i < look->volumes->count; i++) {
        const struct volume *volume = &look->volumes->volumes[i];
        if (volume->state != VOLUME_RETIRED)
            err = look_at_volume(io, storage, look, volume, out, &repairing);
    }
    TRY(err);
    uint64_t chosen = out->known != NULL ? out->known->id : 0;
    forget_volumes(storage->repair);
    out->known = chosen != 0 ? known_volume(storage->repair, chosen) : NULL; /* it may have moved */
    gauge_set(storage->repair->volumes_gauge, repairing);
    repair_show(storage);
    return OK;
}

static void back_off(struct io *io, struct repair_volume *known)
{
    uint64_t seconds = UINT64_C(1) << (known->failures < 6 ? known->failures : 6);
    known->failures++;
    known->again_ns =
        io_now_ns(io) + (seconds < BACKOFF_S_MAX ? seconds : BACKOFF_S_MAX) * IO_NS_PER_S;
}

static enum err work_on(struct io *io, struct storage *storage, const struct look *look,
                        const struct choice *choice)
{
    struct volume volume = *choice->volume;
    if (volume.state != VOLUME_REPAIRING)
        TRY(begin_repair(io, storage, look, &volume, choice->wanted, &volume));
    return run_repair(io, storage, choice->known, &volume, choice->slots.spare);
}

/* --- drives that stay away --- */

static struct absence *note_absence(struct io *io, struct repair *repair, const struct drive_id *id)
{
    for (uint32_t i = 0; i < repair->absence_count; i++) {
        if (drive_id_equal(&repair->absences[i].id, id))
            return &repair->absences[i];
    }
    if (repair->absence_count == sizeof repair->absences / sizeof repair->absences[0])
        return NULL;
    struct absence *absence = &repair->absences[repair->absence_count++];
    *absence = (struct absence){.id = *id, .since_ns = io_now_ns(io)};
    return absence;
}

static void forget_absences(struct repair *repair)
{
    for (uint32_t i = 0; i < repair->absence_count;) {
        bool seen = repair->absences[i].seen;
        repair->absences[i].seen = false;
        if (!seen)
            repair->absences[i] = repair->absences[--repair->absence_count];
        else
            i++;
    }
}

/* How its slots stand: whether some block has no shard to spare, and whether any can move. */
static void judge_drive(struct io *io, struct storage *storage, const struct look *look,
                        const struct drive_id *id, bool *out_no_spare, bool *out_can_move)
{
    bool named = false;
    *out_no_spare = *out_can_move = false;
    for (uint32_t i = 0; i < look->volumes->count; i++) {
        const struct volume *volume = &look->volumes->volumes[i];
        if (!has_slot(volume, id))
            continue;
        named = true;
        struct slots slots = judge_slots(storage, look, volume);
        *out_no_spare = *out_no_spare || slots.spare <= 0;
        *out_can_move =
            *out_can_move || (slots.spare >= 0 && has_targets(io, storage, look, volume, 1));
    }
    *out_can_move = *out_can_move || !named;
}

static enum err time_out_drive(struct io *io, struct storage *storage, const struct look *look,
                               const struct drive_record *record, bool *out_changed)
{
    const struct storage_options *options = &storage->options;
    struct absence *absence = note_absence(io, storage->repair, &record->id);
    if (absence == NULL)
        return OK;
    absence->seen = true;
    if (record->standing == DRIVE_LOST)
        return OK;
    bool no_spare, can_move;
    judge_drive(io, storage, look, &record->id, &no_spare, &can_move);
    uint64_t out_s = options->out_s > 0 ? options->out_s : OUT_S;
    if (no_spare)
        out_s = options->out_no_spare_s > 0 ? options->out_no_spare_s : OUT_NO_SPARE_S;
    if (!can_move || io_now_ns(io) - absence->since_ns < out_s * IO_NS_PER_S)
        return OK;
    TRY(meta_drive_set_standing(io, storage->meta, &record->id, DRIVE_LOST));
    log_warn("repair: a drive is away for %" PRIu64 " s, what it held is rebuilt elsewhere "
             "drive=%02x%02x%02x%02x...",
             (io_now_ns(io) - absence->since_ns) / IO_NS_PER_S, record->id.bytes[0],
             record->id.bytes[1], record->id.bytes[2], record->id.bytes[3]);
    *out_changed = true;
    return OK;
}

static bool is_named(const struct look *look, const struct drive_id *id)
{
    for (uint32_t i = 0; i < look->volumes->count; i++) {
        const struct volume *volume = &look->volumes->volumes[i];
        for (unsigned slot = 0; slot < slots_of(volume); slot++) {
            if (drive_id_equal(&volume->slots[slot], id) ||
                ((volume->repair.slots >> slot & 1) != 0 &&
                 drive_id_equal(&volume->repair.drives[slot], id)))
                return true;
        }
    }
    return false;
}

/* No slot names it, so its loss costs nothing any more. An emptied one is forgotten; one that
 * is away may come back. */
static enum err let_go(struct io *io, struct storage *storage, const struct drive_id *id)
{
    if (!repair_drive_is_gone(storage, id))
        return drives_vacate(io, storage, id);
    enum err err = meta_drive_forget(io, storage->meta, id);
    if (err == ERR_NOT_EMPTY)
        return OK; /* it was named meanwhile */
    TRY(err);
    return drives_forget(io, storage, id);
}

/* Lost in the metadata once away for long; out of the tables of the node when nothing names it. */
static enum err time_out(struct io *io, struct storage *storage, const struct look *look,
                         bool *out_changed)
{
    *out_changed = false;
    for (uint32_t i = 0; i < look->drives->count; i++) {
        const struct drive_record *record = &look->drives->drives[i];
        struct drive *drive = drives_find(storage, &record->id);
        /* Given up just when it came back. */
        if (drive_is_ok(drive) && record->standing == DRIVE_LOST)
            drive->registered = false;
        if (record->node_id != storage->identity.node_id || drive_is_ok(drive))
            continue;
        TRY(time_out_drive(io, storage, look, record, out_changed));
        if (record->standing == DRIVE_LOST && !is_named(look, &record->id))
            TRY(let_go(io, storage, &record->id));
    }
    forget_absences(storage->repair);
    return OK;
}

/* --- the fiber --- */

/* True: there is more to do at once. */
static bool step(struct io *io, struct storage *storage)
{
    struct look look = {.drives = NULL};
    struct choice choice = {.volume = NULL};
    bool changed = false;
    uint64_t deadline_ns = io_set_deadline(io, io_now_ns(io) + REPAIR_META_TIMEOUT_S * IO_NS_PER_S);
    enum err err = look_now(io, storage, &look);
    if (err == OK)
        err = time_out(io, storage, &look, &changed);
    if (err == OK && !changed)
        err = choose_volume(io, storage, &look, &choice);
    (void)io_set_deadline(io, deadline_ns);
    bool more = err == OK && (changed || choice.volume != NULL);
    if (err == OK && choice.volume != NULL) {
        err = work_on(io, storage, &look, &choice);
        if (err == OK)
            choice.known->failures = 0;
        else
            back_off(io, choice.known);
    }
    if (err != OK && err != ERR_CANCELED)
        log_debug("repair: ended early cause=%s", err_text(err));
    look_deinit(&look);
    return more && !atomic_load(&storage->stopping) && !io_canceled(io);
}

static void repair_fiber(struct io *io, void *argument)
{
    struct storage *storage = argument;
    struct repair *repair = storage->repair;
    while (!atomic_load(&storage->stopping) && !io_canceled(io)) {
        if (step(io, storage))
            continue;
        enum err err = signal_wait(io, &repair->changed, io_now_ns(io) + TICK_MS * IO_NS_PER_MS);
        if (err != OK && err != ERR_TIMEOUT)
            return;
    }
}

enum err repair_start(struct io *io, struct storage *storage)
{
    TRY(fiber_group_spawn(io, &storage->background, repair_fiber, storage));
    return fiber_group_spawn(io, &storage->background, mend_fiber, storage);
}
