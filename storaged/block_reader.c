/* Reading ranges of blocks: copies, or units of several drives, decoded where some fail or are
 * late.
 *
 * Each shard that is asked gets a fiber, so that all drives work at the same time and the first k
 * good answers win. An answer that comes after that is dropped; its buffer lives until then, and
 * is of the storage's pool, because the reader and the reader's pool may be gone. */
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "drives.h"
#include "placement.h"
#include "shard_reader.h"
#include <assert.h>
#include <inttypes.h>

enum { HEDGE_NS_MIN = 3000000 };

enum ask_state {
    ASK_RUNNING = 1,
    ASK_GOOD = 2,
    ASK_FAILED = 3,
};

/* A question to one slot: payload [offset, offset + bytes) of its shard, or only where the shard is
 * (bytes 0). Outlives the reading that asked. */
struct ask {
    uint32_t references;           /* the reading's and the fiber's */
    struct block_reading *reading; /* NULL: nobody waits for the answer */
    struct storage *storage;
    struct volume_entry *entry; /* referenced */
    struct block_ref ref;
    unsigned slot;
    uint32_t offset, bytes;
    uint32_t unit_bytes; /* that it must have; 0: any */
    enum ask_state state;
    enum err err;
    struct place place;
    struct buf *buf;
    size_t at; /* of payload `offset` in buf */
    uint64_t hedge_ns;
    bool hedged;   /* somebody else was asked in its place */
    bool given_up; /* by its reading, which may hold no read guard any more */
};

struct block_reading {
    struct storage *storage;
    struct volume_entry *entry;
    const struct block_ref *ref;
    struct geometry geometry;
    struct ask *asks[META_SHARDS_MAX]; /* by slot */
    struct signal answered;
};

/* --- one slot --- */

static void ask_unref(struct ask *ask)
{
    if (ask == NULL || --ask->references > 0)
        return;
    if (ask->buf != NULL)
        buf_unref(ask->buf);
    volume_unref(ask->entry);
    mem_free(ask);
}

static enum err read_range(struct io *io, struct ask *ask, struct shard_reader *reader)
{
    if (ask->unit_bytes != 0 && reader->place.unit_bytes != ask->unit_bytes)
        return FAIL(ERR_CORRUPT, "shards of one block differ in their unit");
    struct cell_range range = shard_reader_cover(reader, ask->offset, ask->bytes);
    TRY(buf_pool_get(ask->storage->pool, range.to - range.from, &ask->buf));
    ask->at = ask->offset - range.from;
    return shard_reader_read(io, reader, range, ask->buf);
}

/* Damage, or nothing where the drive should have something. */
static bool is_bad(const struct ask *ask, enum err err)
{
    bool expected = (ask->ref.missing >> ask->slot & 1) == 0;
    return expected && !ask->given_up && (err == ERR_CORRUPT || err == ERR_NOT_FOUND) &&
           drive_is_ok(ask->entry->drives[ask->slot]);
}

static enum err answer(struct io *io, struct ask *ask)
{
    struct drive *drive = ask->entry->drives[ask->slot];
    struct shard_reader reader;
    uint64_t begun_ns = io_now_ns(io);
    TRY(shard_reader_open(io, ask->storage, ask->entry, &ask->ref, ask->slot, &reader));
    reader.given_up = &ask->given_up;
    ask->place = reader.place;
    enum err err = ask->bytes > 0 ? read_range(io, ask, &reader) : OK;
    shard_reader_deinit(&reader);
    if (ask->bytes > 0)
        latency_record(&drive->read_latency, io_now_ns(io) - begun_ns);
    return err;
}

static void ask_fiber(struct io *io, void *argument)
{
    struct ask *ask = argument;
    ask->err = answer(io, ask);
    ask->state = ask->err == OK ? ASK_GOOD : ASK_FAILED;
    if (is_bad(ask, ask->err))
        storage_report_bad(ask->storage, &ask->ref, ask->slot);
    if (ask->reading != NULL)
        signal_wake_all(io, &ask->reading->answered);
    ask_unref(ask);
}

static uint64_t hedge_after_ns(const struct drive *drive)
{
    uint64_t p95_ns = atomic_load(&drive->read_latency.known)
                          ? atomic_load(&drive->read_latency.p95_ns)
                          : HEDGE_NS_MIN;
    return p95_ns > HEDGE_NS_MIN ? p95_ns : HEDGE_NS_MIN;
}

static void drop_ask(struct block_reading *reading, unsigned slot)
{
    struct ask *ask = TAKE(reading->asks[slot]);
    if (ask == NULL)
        return;
    ask->reading = NULL;
    ask->given_up = true;
    ask_unref(ask);
}

/* In the place of an earlier question. */
static void ask_slot(struct io *io, struct block_reading *reading, unsigned slot, uint32_t offset,
                     uint32_t bytes)
{
    drop_ask(reading, slot);
    struct ask *ask = mem_new(struct ask);
    reading->asks[slot] = ask;
    ask->references = 2;
    ask->reading = reading;
    ask->storage = reading->storage;
    ask->entry = volume_ref(reading->entry);
    ask->ref = *reading->ref;
    ask->slot = slot;
    ask->offset = offset;
    ask->bytes = bytes;
    ask->unit_bytes = reading->geometry.unit_bytes;
    ask->state = ASK_RUNNING;
    const struct drive *drive = reading->entry->drives[slot];
    enum err err = OK;
    /* A slot that was missing when the block was acknowledged may have been repaired since: its
     * drive knows. */
    if (!drive_is_ok(drive))
        err = ERR_FENCED;
    if (err == OK) {
        ask->hedge_ns = io_now_ns(io) + hedge_after_ns(drive);
        err = fiber_group_spawn(io, &storage_reactor(io, reading->storage)->group, ask_fiber, ask);
    }
    if (err == OK)
        return;
    ask->state = ASK_FAILED;
    ask->err = err;
    ask_unref(ask); /* the fiber's that there is not */
}

/* --- all slots --- */

static unsigned slots_of(const struct block_reading *reading)
{
    return volume_slots(reading->entry);
}

static bool is_running(const struct ask *ask)
{
    return ask != NULL && ask->state == ASK_RUNNING;
}

static bool is_good(const struct ask *ask)
{
    return ask != NULL && ask->state == ASK_GOOD;
}

/* The error of the whole when fewer than k are good: 503 as long as drives that are only absent
 * could have been enough, damage when they could not (CLUSTER.md R5). */
static enum err verdict(const struct block_reading *reading)
{
    unsigned good = 0, absent = 0, none = 0;
    enum err err = ERR_FENCED;
    for (unsigned slot = 0; slot < slots_of(reading); slot++) {
        const struct ask *ask = reading->asks[slot];
        bool missing = (reading->ref->missing >> slot & 1) != 0;
        if (ask == NULL || ask->state == ASK_GOOD)
            good++;
        else if (ask->err == ERR_BUSY || ask->err == ERR_CANCELED)
            return ask->err;
        else if (ask->err == ERR_FENCED || ask->err == ERR_TIMEOUT || ask->err == ERR_IO)
            absent++;
        else if (ask->err == ERR_NOT_FOUND || missing)
            none++;
    }
    if (good + absent >= reading->entry->volume.data_shards)
        return err;
    return none == slots_of(reading) ? ERR_NOT_FOUND : ERR_CORRUPT;
}

/* The earliest time at which a running slot counts as late; 0: none runs that has not been hedged.
 */
static uint64_t next_hedge_ns(const struct block_reading *reading)
{
    uint64_t next_ns = 0;
    for (unsigned slot = 0; slot < slots_of(reading); slot++) {
        const struct ask *ask = reading->asks[slot];
        if (is_running(ask) && !ask->hedged && (next_ns == 0 || ask->hedge_ns < next_ns))
            next_ns = ask->hedge_ns;
    }
    return next_ns;
}

static bool any_running(const struct block_reading *reading)
{
    for (unsigned slot = 0; slot < slots_of(reading); slot++) {
        if (is_running(reading->asks[slot]))
            return true;
    }
    return false;
}

/* Wait for an answer or a slot that gets late. ERR_TIMEOUT: a slot is late and is marked so. */
static enum err wait_answer(struct io *io, struct block_reading *reading)
{
    uint64_t hedge_ns = next_hedge_ns(reading);
    uint64_t deadline_ns = io_deadline(io);
    bool hedges = hedge_ns != 0 && (deadline_ns == 0 || hedge_ns < deadline_ns);
    enum err err = signal_wait(io, &reading->answered, hedges ? hedge_ns : 0);
    if (err != ERR_TIMEOUT || !hedges)
        return err == ERR_TIMEOUT ? FAIL(ERR_BUSY, "drives do not answer in time") : err;
    for (unsigned slot = 0; slot < slots_of(reading); slot++) {
        struct ask *ask = reading->asks[slot];
        if (is_running(ask) && ask->hedge_ns <= io_now_ns(io))
            ask->hedged = true;
    }
    counter_add(reading->storage->reads_hedged, 1);
    return OK;
}

static bool is_slow(const struct drive *drive)
{
    return atomic_load(&drive->slow) || atomic_load(&drive->late) > 0;
}

/* Slots from the one to ask first on: those whose drive is well, then slow ones, then the rest. */
static unsigned order_slots(const struct block_reading *reading, unsigned first,
                            unsigned out_order[META_SHARDS_MAX])
{
    unsigned count = 0;
    unsigned slots = slots_of(reading);
    for (unsigned rank = 0; rank < 3; rank++) {
        for (unsigned i = 0; i < slots; i++) {
            unsigned slot = (first + i) % slots;
            const struct drive *drive = reading->entry->drives[slot];
            unsigned of_slot = !drive_is_ok(drive) || (reading->ref->missing >> slot & 1) != 0 ? 2
                               : is_slow(drive)                                                ? 1
                                                                                               : 0;
            if (of_slot == rank)
                out_order[count++] = slot;
        }
    }
    return count;
}

/* --- k = 1: any slot has the plain bytes --- */

/* The drive with the least to do, so that copies share the reads. */
static unsigned least_loaded(const struct block_reading *reading)
{
    unsigned best = (unsigned)(reading->ref->id.sequence % slots_of(reading));
    unsigned first = best;
    for (unsigned i = 0; i < slots_of(reading); i++) {
        unsigned slot = (first + i) % slots_of(reading);
        const struct drive *drive = reading->entry->drives[slot];
        const struct drive *chosen = reading->entry->drives[best];
        if (drive_is_ok(drive) &&
            (!drive_is_ok(chosen) || atomic_load(&drive->load) < atomic_load(&chosen->load)))
            best = slot;
    }
    return best;
}

/* Ask one after the other until one answered well; a late one does not keep the next waiting. */
static enum err ask_until_one(struct io *io, struct block_reading *reading, unsigned first,
                              uint32_t offset, uint32_t bytes, struct ask **out_ask)
{
    unsigned order[META_SHARDS_MAX];
    unsigned count = order_slots(reading, first, order);
    unsigned asked = 0;
    for (;;) {
        bool waits = false;
        for (unsigned i = 0; i < asked; i++) {
            struct ask *ask = reading->asks[order[i]];
            if (is_good(ask)) {
                *out_ask = ask;
                return OK;
            }
            waits = waits || (is_running(ask) && !ask->hedged);
        }
        if (!waits && asked < count) {
            ask_slot(io, reading, order[asked++], offset, bytes);
            continue;
        }
        if (!any_running(reading))
            return verdict(reading);
        TRY(wait_answer(io, reading));
    }
}

static enum err read_copy(struct io *io, struct block_reading *reading, uint32_t offset,
                          uint32_t bytes, struct buf *out)
{
    struct ask *ask = NULL;
    TRY(ask_until_one(io, reading, least_loaded(reading), offset, bytes, &ask));
    memcpy(out->data, ask->buf->data + ask->at, bytes);
    return OK;
}

/* A single copy: nobody else to ask, so the bytes go to the caller's memory at once. */
static enum err read_single(struct io *io, struct block_reading *reading, uint32_t offset,
                            uint32_t bytes, struct buf_pool *pool, struct buf **out_buf,
                            size_t *out_offset)
{
    struct shard_reader reader;
    struct drive *drive = reading->entry->drives[0];
    uint64_t begun_ns = io_now_ns(io);
    enum err err =
        shard_reader_open(io, reading->storage, reading->entry, reading->ref, 0, &reader);
    AUTO(buf) buf = NULL;
    if (err == OK) {
        struct cell_range range = shard_reader_cover(&reader, offset, bytes);
        err = buf_pool_get(pool, range.to - range.from, &buf);
        if (err == OK)
            err = shard_reader_read(io, &reader, range, buf);
        *out_offset = offset - range.from;
        shard_reader_deinit(&reader);
        latency_record(&drive->read_latency, io_now_ns(io) - begun_ns);
    }
    if ((err == ERR_CORRUPT || err == ERR_NOT_FOUND) && drive_is_ok(drive))
        storage_report_bad(reading->storage, reading->ref, 0);
    TRY(err);
    *out_buf = TAKE(buf);
    return OK;
}

/* --- k > 1 --- */

/* The unit is in every shard's row; any that can be found says it. */
static enum err find_geometry(struct io *io, struct block_reading *reading)
{
    struct ask *ask = NULL;
    const struct volume *volume = &reading->entry->volume;
    TRY(ask_until_one(io, reading, 0, 0, 0, &ask));
    reading->geometry =
        (struct geometry){volume->data_shards, volume->parity_shards, ask->place.unit_bytes};
    for (unsigned slot = 0; slot < slots_of(reading); slot++)
        drop_ask(reading, slot);
    return geometry_check(reading->geometry, reading->ref->bytes) == OK
               ? OK
               : FAIL(ERR_CORRUPT, "impossible geometry");
}

/* What a read needs of the shards: its own range of each data slot, and the range of positions that
 * all of these lie in, which is what decoding needs of any k slots. */
struct need {
    uint32_t offsets[META_SHARDS_MAX];
    uint32_t bytes[META_SHARDS_MAX]; /* 0: nothing of this slot */
    uint32_t from, to;
};

static struct need need_of(const struct block_reading *reading, uint32_t offset, uint32_t bytes)
{
    struct geometry_range ranges[CODEC_DATA_SHARDS_MAX];
    struct need need = {.from = UINT32_MAX};
    uint32_t count = geometry_cover(reading->geometry, reading->ref->bytes, offset, bytes, ranges);
    for (uint32_t i = 0; i < count; i++) {
        need.offsets[ranges[i].slot] = ranges[i].shard_offset;
        need.bytes[ranges[i].slot] = ranges[i].bytes;
        if (ranges[i].shard_offset < need.from)
            need.from = ranges[i].shard_offset;
        if (ranges[i].shard_offset + ranges[i].bytes > need.to)
            need.to = ranges[i].shard_offset + ranges[i].bytes;
    }
    return need;
}

/* Of the positions [from, to), what the shard of `slot` has. */
static uint32_t decode_bytes(const struct block_reading *reading, const struct need *need,
                             unsigned slot)
{
    uint32_t end = geometry_shard_bytes(reading->geometry, reading->ref->bytes, slot);
    uint32_t to = need->to < end ? need->to : end;
    return to > need->from ? to - need->from : 0;
}

static bool covers(const struct block_reading *reading, const struct need *need, unsigned slot)
{
    const struct ask *ask = reading->asks[slot];
    uint32_t bytes = decode_bytes(reading, need, slot);
    return ask != NULL && ask->offset <= need->from &&
           ask->offset + ask->bytes >= need->from + bytes;
}

/* A data slot that has nothing at these positions counts as zeros, without being read. */
static bool is_zeros(const struct block_reading *reading, const struct need *need, unsigned slot)
{
    return decode_bytes(reading, need, slot) == 0;
}

/* Slots that decoding can use now, and those that may come to be. */
static unsigned count_useful(const struct block_reading *reading, const struct need *need,
                             bool running_too)
{
    unsigned useful = 0;
    for (unsigned slot = 0; slot < slots_of(reading); slot++) {
        const struct ask *ask = reading->asks[slot];
        useful += is_zeros(reading, need, slot) ||
                  (covers(reading, need, slot) &&
                   (is_good(ask) || (running_too && is_running(ask) && !ask->hedged)));
    }
    return useful;
}

static bool is_whole(const struct block_reading *reading, const struct need *need)
{
    for (unsigned slot = 0; slot < reading->geometry.data_shards; slot++) {
        if (need->bytes[slot] > 0 && !is_good(reading->asks[slot]))
            return false;
    }
    return true;
}

/* Something that was asked for will not come, or not in time. */
static bool is_hurt(const struct block_reading *reading, const struct need *need)
{
    for (unsigned slot = 0; slot < reading->geometry.data_shards; slot++) {
        const struct ask *ask = reading->asks[slot];
        if (need->bytes[slot] > 0 &&
            (ask == NULL || ask->state == ASK_FAILED || (is_running(ask) && ask->hedged)))
            return true;
    }
    return false;
}

/* Ask more slots until k of them can be expected; what was read too narrowly is read again. */
static void ask_for_decoding(struct io *io, struct block_reading *reading, const struct need *need)
{
    unsigned order[META_SHARDS_MAX];
    unsigned count = order_slots(reading, 0, order);
    for (unsigned i = 0; i < count; i++) {
        unsigned slot = order[i];
        const struct ask *ask = reading->asks[slot];
        if (count_useful(reading, need, true) >= reading->geometry.data_shards)
            return;
        bool narrow = ask != NULL && ask->state != ASK_FAILED && !covers(reading, need, slot);
        if (is_zeros(reading, need, slot) || (ask != NULL && !narrow) || (narrow && ask->hedged))
            continue;
        ask_slot(io, reading, slot, need->from, decode_bytes(reading, need, slot));
    }
}

static enum err decode(struct block_reading *reading, const struct need *need)
{
    struct slice units[CODEC_SHARDS_MAX] = {{.bytes = 0}};
    struct codec_output outputs[CODEC_SHARDS_MAX] = {{.bytes = 0}};
    struct ask *computed[CODEC_SHARDS_MAX] = {NULL};
    uint32_t present = 0;
    uint32_t wanted = 0;
    enum err err = OK;
    for (unsigned slot = 0; slot < slots_of(reading); slot++) {
        struct ask *ask = reading->asks[slot];
        uint32_t bytes = decode_bytes(reading, need, slot);
        if (bytes == 0) {
            present |= 1u << slot;
        } else if (is_good(ask) && covers(reading, need, slot)) {
            present |= 1u << slot;
            units[slot] = buf_slice(ask->buf, ask->at + (need->from - ask->offset), bytes);
        } else if (slot < reading->geometry.data_shards && need->bytes[slot] > 0 && !is_good(ask) &&
                   err == OK) {
            computed[slot] = mem_new(struct ask);
            *computed[slot] = (struct ask){.references = 1,
                                           .entry = volume_ref(reading->entry),
                                           .slot = slot,
                                           .offset = need->from,
                                           .bytes = bytes,
                                           .state = ASK_GOOD};
            err = buf_pool_get(reading->storage->pool, bytes, &computed[slot]->buf);
            if (err == OK)
                outputs[slot] = (struct codec_output){computed[slot]->buf->data, bytes};
            wanted |= 1u << slot;
        }
    }
    if (err == OK && wanted != 0)
        err = codec_reconstruct(reading->entry->codec, present, units, wanted, outputs);
    for (unsigned slot = 0; slot < CODEC_SHARDS_MAX; slot++) {
        if (computed[slot] == NULL)
            continue;
        drop_ask(reading, slot);
        reading->asks[slot] = computed[slot];
    }
    return err;
}

/* The data slots of the range; and others where these fail or are late. */
static enum err gather(struct io *io, struct block_reading *reading, const struct need *need,
                       bool *out_decoded)
{
    *out_decoded = false;
    for (unsigned slot = 0; slot < reading->geometry.data_shards; slot++) {
        const struct drive *drive = reading->entry->drives[slot];
        bool around = need->bytes[slot] > 0 && drive_is_ok(drive) && is_slow(drive);
        if (need->bytes[slot] > 0 && !around)
            ask_slot(io, reading, slot, need->offsets[slot], need->bytes[slot]);
    }
    while (!is_whole(reading, need)) {
        if (is_hurt(reading, need))
            ask_for_decoding(io, reading, need);
        if (is_whole(reading, need))
            return OK;
        if (is_hurt(reading, need) &&
            count_useful(reading, need, false) >= reading->geometry.data_shards) {
            *out_decoded = true;
            counter_add(reading->storage->reads_decoded, 1);
            return decode(reading, need);
        }
        if (!any_running(reading))
            return verdict(reading);
        TRY(wait_answer(io, reading));
    }
    return OK;
}

static void assemble(const struct block_reading *reading, uint32_t offset, uint32_t bytes,
                     struct buf *out)
{
    for (uint32_t done = 0; done < bytes;) {
        struct geometry_position at =
            geometry_locate(reading->geometry, reading->ref->bytes, offset + done);
        const struct ask *ask = reading->asks[at.slot];
        assert(at.shard_offset >= ask->offset);
        uint32_t take = at.bytes < bytes - done ? at.bytes : bytes - done;
        assert(at.shard_offset - ask->offset + take <= ask->bytes);
        memcpy(out->data + done, ask->buf->data + ask->at + (at.shard_offset - ask->offset), take);
        done += take;
    }
}

static enum err read_striped(struct io *io, struct block_reading *reading, uint32_t offset,
                             uint32_t bytes, struct buf *out)
{
    TRY(find_geometry(io, reading));
    struct need need = need_of(reading, offset, bytes);
    bool decoded = false;
    TRY(gather(io, reading, &need, &decoded));
    assemble(reading, offset, bytes, out);
    if (!decoded || bytes != reading->ref->bytes)
        return OK;
    struct hash128 hash = hash128_of(buf_slice(out, 0, bytes));
    return hash128_equal(&hash, &reading->ref->hash)
               ? OK
               : FAIL(ERR_CORRUPT, "decoded block has another hash");
}

enum err block_read(struct io *io, struct storage_client *client, const struct block_ref *ref,
                    uint32_t offset, uint32_t bytes, struct buf_pool *pool, struct buf **out_buf,
                    size_t *out_offset)
{
    assert(bytes > 0);
    assert(bytes <= BLOCK_READ_BYTES_MAX);
    assert((uint64_t)offset + bytes <= ref->bytes);
    struct block_reading reading = {.storage = client->storage, .ref = ref};
    signal_init(&reading.answered);
    AUTO(volume_entry) entry = NULL;
    TRY(placement_volume(io, client->storage, ref->id.volume, &entry));
    reading.entry = entry;
    enum err err = OK;
    if (slots_of(&reading) == 1) {
        err = read_single(io, &reading, offset, bytes, pool, out_buf, out_offset);
    } else {
        AUTO(buf) buf = NULL;
        TRY(buf_pool_get(pool, bytes, &buf));
        err = entry->volume.data_shards == 1 ? read_copy(io, &reading, offset, bytes, buf)
                                             : read_striped(io, &reading, offset, bytes, buf);
        for (unsigned slot = 0; slot < META_SHARDS_MAX; slot++)
            drop_ask(&reading, slot);
        if (err == OK) {
            *out_buf = TAKE(buf);
            *out_offset = 0;
        }
    }
    if (err == OK)
        counter_add(client->storage->read_bytes, bytes);
    return err;
}
