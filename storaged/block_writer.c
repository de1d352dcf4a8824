/* Writing a block: plain bytes to the shards of its volume.
 *
 * k = 1: every slot takes the plain bytes as they come, without a copy where they are aligned.
 * k > 1: bytes are collected to a stripe, encoded, and each slot takes its unit of it.
 *
 * Each slot has a queue and, while there is something in it, a fiber, so that a drive that is slow
 * or hangs holds up no other. Which slots must be durable (CLUSTER.md W4): all k + m of them, but
 * with m >= 2 the block may go on without those that fail or lag, as long as k + 1 are left. A
 * block that fails by its drives is written again on another volume as long as all its bytes are
 * still here. */
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "drives.h"
#include "placement.h"
#include "shard.h"
#include <assert.h>

enum {
    QUEUE_PARTS_MAX = 32,
    KEPT_PARTS_MAX = 64,
    KEPT_BYTES_MAX = 1 << 20, /* of a block that can be written again */
    OPEN_TRIES = 3,
    WRITE_AGAIN_MAX = 2,
    LAG_FACTOR = 8,
};
#define LAG_NS_MIN (2 * IO_NS_PER_S)

enum slot_state {
    SLOT_OPEN = 1,
    SLOT_DURABLE = 2,
    SLOT_FAILED = 3, /* or left out */
};

/* The shard of one slot: what is queued for it, and how far it is. */
struct slot {
    struct block_stripes *stripes;
    struct shard *shard;
    enum slot_state state;
    struct io_part queue[QUEUE_PARTS_MAX]; /* buffers referenced */
    unsigned first, count;
    uint64_t queued_bytes;
    bool running; /* its fiber */
    bool finishing;
    bool late;       /* left out while its drive was at work */
    uint64_t lag_ns; /* since when it is the one to wait for; 0: it is not */
    uint64_t done_ns;
};

/* One try to write the block: shards under one block id. Outlives the writer while a slot's fiber
 * waits for a drive that hangs. */
struct block_stripes {
    uint32_t references; /* the writer's and one for each running fiber */
    struct storage *storage;
    struct volume_entry *entry; /* referenced */
    struct geometry geometry;
    struct slot slots[META_SHARDS_MAX];
    uint32_t block_bytes; /* set before a slot finishes */
    bool dropped;         /* by the writer */
    enum err err;         /* not of one slot: limits, canceled */
    enum err slot_err;    /* of the last slot that failed */
    struct signal progress;
};

struct block_writer {
    struct storage *storage;
    struct placed placed;
    struct block_stripes *stripes;
    struct block_hint hint;
    uint8_t *hint_memory;
    uint32_t bytes_expected;
    uint32_t bytes;
    struct buf *stripe; /* k > 1: the plain bytes of the stripe being collected */
    uint32_t stripe_bytes;
    struct hasher *hasher; /* k > 1; else the shard's hash is the block's */
    struct io_part kept[KEPT_PARTS_MAX];
    unsigned kept_count;
    uint32_t kept_bytes;
    bool finished;
    enum err err;
};

static unsigned slot_count(const struct block_stripes *stripes)
{
    return geometry_shards(stripes->geometry);
}

static unsigned slots_required(const struct block_stripes *stripes)
{
    return stripes->geometry.parity_shards >= 2 ? stripes->geometry.data_shards + 1u
                                                : slot_count(stripes);
}

static unsigned count_slots(const struct block_stripes *stripes, enum slot_state state)
{
    unsigned count = 0;
    for (unsigned i = 0; i < slot_count(stripes); i++)
        count += stripes->slots[i].state == state;
    return count;
}

/* --- one slot --- */

/* Errors that say nothing about the drive: another one would give them too. */
static bool is_of_the_block(enum err err)
{
    return err == ERR_BUSY || err == ERR_CANCELED || err == ERR_LIMIT || err == ERR_INVALID;
}

static void drop_queue(struct slot *slot)
{
    for (; slot->count > 0; slot->count--) {
        buf_unref(slot->queue[slot->first].buf);
        slot->first = (slot->first + 1) % QUEUE_PARTS_MAX;
    }
    slot->queued_bytes = 0;
}

static void fail_slot(struct slot *slot, enum err err)
{
    assert(slot->state == SLOT_OPEN);
    slot->state = SLOT_FAILED;
    drop_queue(slot);
    if (is_of_the_block(err))
        slot->stripes->err = err;
    else
        slot->stripes->slot_err = err;
}

static void stripes_unref(struct block_stripes *stripes)
{
    assert(stripes->references > 0);
    if (--stripes->references > 0)
        return;
    for (unsigned i = 0; i < META_SHARDS_MAX; i++)
        drop_queue(&stripes->slots[i]);
    volume_unref(stripes->entry);
    mem_free(stripes);
}

static enum err append_first(struct io *io, struct slot *slot)
{
    struct io_part part = slot->queue[slot->first];
    slot->first = (slot->first + 1) % QUEUE_PARTS_MAX;
    slot->count--;
    enum err err = shard_append(io, slot->shard, part.buf, part.offset, part.bytes);
    buf_unref(part.buf);
    if (slot->state == SLOT_OPEN)
        slot->queued_bytes -= part.bytes;
    signal_wake_all(io, &slot->stripes->progress);
    return err;
}

static enum err finish_slot(struct io *io, struct slot *slot)
{
    TRY(shard_finish(io, slot->shard, slot->stripes->block_bytes));
    TRY(shard_wait(io, slot->shard));
    slot->done_ns = io_now_ns(io);
    return OK;
}

static struct drive *slot_drive(const struct slot *slot)
{
    return slot->stripes->entry->drives[slot - slot->stripes->slots];
}

/* Ends when there is nothing to do; the next part starts it again. */
static void slot_fiber(struct io *io, void *argument)
{
    struct slot *slot = argument;
    struct block_stripes *stripes = slot->stripes;
    enum err err = OK;
    while (err == OK && slot->state == SLOT_OPEN && slot->count > 0)
        err = append_first(io, slot);
    bool finishes = err == OK && slot->state == SLOT_OPEN && slot->finishing;
    if (finishes)
        err = finish_slot(io, slot);
    if (slot->state == SLOT_OPEN && err != OK)
        fail_slot(slot, err);
    else if (slot->state == SLOT_OPEN && finishes)
        slot->state = SLOT_DURABLE;
    slot->running = false;
    if (slot->late)
        atomic_fetch_sub(&slot_drive(slot)->late, 1);
    if (stripes->dropped)
        shard_free(TAKE(slot->shard));
    signal_wake_all(io, &stripes->progress);
    stripes_unref(stripes);
}

static void run_slot(struct io *io, struct slot *slot)
{
    if (slot->running || slot->state != SLOT_OPEN)
        return;
    struct block_stripes *stripes = slot->stripes;
    slot->running = true;
    stripes->references++;
    enum err err =
        fiber_group_spawn(io, &storage_reactor(io, stripes->storage)->group, slot_fiber, slot);
    if (err == OK)
        return;
    slot->running = false;
    stripes->references--;
    fail_slot(slot, err);
}

/* --- all slots --- */

/* The drive takes longer than the block should wait for: the others are enough. Until it answers
 * after all, new blocks go elsewhere. */
static void leave_out(struct slot *slot)
{
    struct drive *drive = slot_drive(slot);
    log_warn("storage: a drive is late, a block goes on without it directory=%s", drive->directory);
    slot->late = slot->running;
    if (slot->late)
        atomic_fetch_add(&drive->late, 1);
    fail_slot(slot, ERR_TIMEOUT);
}

static enum err check_slots(const struct block_stripes *stripes)
{
    TRY(stripes->err);
    unsigned left = count_slots(stripes, SLOT_OPEN) + count_slots(stripes, SLOT_DURABLE);
    return left >= slots_required(stripes) ? OK : stripes->slot_err;
}

static bool has_room(const struct slot *slot)
{
    return slot->state != SLOT_OPEN || slot->count == 0 ||
           (slot->count < QUEUE_PARTS_MAX && slot->queued_bytes < BLOCK_WINDOW_BYTES);
}

/* Wait until every slot that is written has room; those that have none for long while enough
 * others do are left out. */
static enum err wait_for_room(struct io *io, struct block_stripes *stripes)
{
    for (;;) {
        TRY(check_slots(stripes));
        unsigned full = 0;
        unsigned ready = 0;
        uint64_t until_ns = 0;
        uint64_t now_ns = io_now_ns(io);
        for (unsigned i = 0; i < slot_count(stripes); i++) {
            struct slot *slot = &stripes->slots[i];
            bool room = has_room(slot);
            ready += room && slot->state == SLOT_OPEN;
            full += !room;
            if (room)
                slot->lag_ns = 0;
            else if (slot->lag_ns == 0)
                slot->lag_ns = now_ns;
        }
        if (full == 0)
            return OK;
        bool enough = stripes->geometry.parity_shards >= 2 && ready >= slots_required(stripes);
        for (unsigned i = 0; enough && i < slot_count(stripes); i++) {
            struct slot *slot = &stripes->slots[i];
            if (slot->lag_ns == 0)
                continue;
            if (slot->lag_ns + LAG_NS_MIN <= now_ns)
                leave_out(slot);
            else if (until_ns == 0 || slot->lag_ns + LAG_NS_MIN < until_ns)
                until_ns = slot->lag_ns + LAG_NS_MIN;
        }
        if (enough && until_ns == 0)
            continue; /* somebody was left out */
        enum err err = signal_wait(io, &stripes->progress, until_ns);
        if (err != OK && (err != ERR_TIMEOUT || until_ns == 0))
            return err;
    }
}

/* Keeps a reference to the buffer. There is room. */
static void push_part(struct io *io, struct slot *slot, struct buf *buf, size_t offset,
                      size_t bytes)
{
    if (slot->state != SLOT_OPEN)
        return;
    assert(slot->count < QUEUE_PARTS_MAX);
    unsigned at = (slot->first + slot->count++) % QUEUE_PARTS_MAX;
    slot->queue[at] = (struct io_part){.buf = buf_ref(buf), .offset = offset, .bytes = bytes};
    slot->queued_bytes += bytes;
    run_slot(io, slot);
}

/* When the lag of the slots that are not durable is over: well beyond what the others took. */
static uint64_t lag_end_ns(const struct block_stripes *stripes, uint64_t begun_ns)
{
    uint64_t sorted[META_SHARDS_MAX];
    unsigned count = 0;
    for (unsigned i = 0; i < slot_count(stripes); i++) {
        if (stripes->slots[i].state != SLOT_DURABLE)
            continue;
        uint64_t done_ns = stripes->slots[i].done_ns;
        unsigned at = count++;
        for (; at > 0 && sorted[at - 1] > done_ns; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = done_ns;
    }
    uint64_t median_ns = sorted[count / 2] > begun_ns ? sorted[count / 2] - begun_ns : 0;
    uint64_t lag_ns = LAG_FACTOR * median_ns > LAG_NS_MIN ? LAG_FACTOR * median_ns : LAG_NS_MIN;
    return sorted[slots_required(stripes) - 1] + lag_ns;
}

static enum err wait_durable(struct io *io, struct block_stripes *stripes)
{
    uint64_t begun_ns = io_now_ns(io);
    for (;;) {
        TRY(check_slots(stripes));
        unsigned open = count_slots(stripes, SLOT_OPEN);
        if (open == 0)
            return OK;
        uint64_t until_ns = 0;
        if (stripes->geometry.parity_shards >= 2 &&
            count_slots(stripes, SLOT_DURABLE) >= slots_required(stripes))
            until_ns = lag_end_ns(stripes, begun_ns);
        if (until_ns != 0 && io_now_ns(io) >= until_ns) {
            for (unsigned i = 0; i < slot_count(stripes); i++) {
                if (stripes->slots[i].state == SLOT_OPEN)
                    leave_out(&stripes->slots[i]);
            }
            return OK;
        }
        enum err err = signal_wait(io, &stripes->progress, until_ns);
        if (err != OK && (err != ERR_TIMEOUT || until_ns == 0))
            return err;
    }
}

/* The writer wants no more of it. Never waits. */
static void stripes_drop(struct block_stripes *stripes)
{
    if (stripes == NULL)
        return;
    stripes->dropped = true;
    for (unsigned i = 0; i < META_SHARDS_MAX; i++) {
        struct slot *slot = &stripes->slots[i];
        if (slot->state == SLOT_OPEN)
            slot->state = SLOT_FAILED;
        if (!slot->running)
            shard_free(TAKE(slot->shard));
    }
    stripes_unref(stripes);
}

/* --- beginning --- */

/* The superblock of each drive fixes the largest block it takes; the shard is never larger. */
static uint32_t block_bytes_max(const struct volume_entry *entry)
{
    uint32_t bytes = BLOCK_BYTES_MAX;
    for (unsigned slot = 0; slot < volume_slots(entry); slot++) {
        const struct drive *drive = entry->drives[slot];
        if (drive == NULL)
            continue;
        uint64_t half = drive->segment_bytes / 2;
        if (half < bytes)
            bytes = (uint32_t)half;
        if (drive->superblock->block_bytes_max < bytes)
            bytes = drive->superblock->block_bytes_max;
    }
    return bytes;
}

static enum err open_slot(struct io *io, struct block_writer *writer, unsigned index,
                          uint32_t bytes_max)
{
    struct drive *drive = writer->placed.entry->drives[index];
    struct geometry geometry = writer->stripes->geometry;
    if (!drive_is_ok(drive))
        return ERR_FENCED;
    struct shard_options options = {
        .key = {.block = writer->placed.block, .slot = (uint8_t)index},
        .epoch = writer->placed.lease->lease.epoch,
        .incarnation = drive->superblock->incarnation,
        .geometry = geometry,
        .hint = &writer->hint,
        .payload_bytes_max = geometry_shard_bytes(geometry, bytes_max, index),
        .pool = writer->storage->pool,
    };
    if (writer->bytes_expected > 0)
        options.payload_bytes_expected =
            geometry_shard_bytes(geometry, writer->bytes_expected, index);
    return shard_open(io, storage_appender(io, writer->storage, drive), &options,
                      &writer->stripes->slots[index].shard);
}

static enum err open_slots(struct io *io, struct block_writer *writer)
{
    struct block_stripes *stripes = writer->stripes;
    uint32_t bytes_max = block_bytes_max(writer->placed.entry);
    if (writer->bytes_expected > bytes_max)
        return FAIL(ERR_LIMIT, "block larger than the drives take bytes=%u max=%u",
                    writer->bytes_expected, bytes_max);
    unsigned failed = 0;
    for (unsigned i = 0; i < slot_count(stripes); i++) {
        struct slot *slot = &stripes->slots[i];
        *slot = (struct slot){.stripes = stripes, .state = SLOT_OPEN};
        enum err err = open_slot(io, writer, i, bytes_max);
        if (err == OK)
            continue;
        failed++;
        slot->state = SLOT_FAILED;
        stripes->slot_err = err;
    }
    /* Only a block that could be placed in no better way begins with a slot missing (D8). */
    if (failed > 0 && !writer->placed.degraded)
        return stripes->slot_err;
    return check_slots(stripes);
}

static void end_try(struct block_writer *writer)
{
    stripes_drop(TAKE(writer->stripes));
    placement_release(&writer->placed);
    if (writer->stripe != NULL)
        buf_unref(TAKE(writer->stripe));
    hasher_free(TAKE(writer->hasher));
    writer->stripe_bytes = 0;
    writer->bytes = 0;
}

static enum err begin_try(struct io *io, struct block_writer *writer)
{
    TRY(placement_choose(io, writer->storage, writer->bytes_expected, &writer->placed));
    const struct volume *volume = &writer->placed.entry->volume;
    struct geometry geometry;
    enum err err = geometry_make(volume->data_shards, volume->parity_shards, writer->bytes_expected,
                                 &geometry);
    if (err == OK) {
        writer->stripes = mem_new(struct block_stripes);
        writer->stripes->references = 1;
        writer->stripes->storage = writer->storage;
        writer->stripes->entry = volume_ref(writer->placed.entry);
        writer->stripes->geometry = geometry;
        signal_init(&writer->stripes->progress);
        if (geometry.data_shards > 1)
            writer->hasher = hasher_new();
        err = open_slots(io, writer);
    }
    if (err != OK)
        end_try(writer);
    return err;
}

/* A drive may fail between the choice and the first write. */
static enum err begin(struct io *io, struct block_writer *writer)
{
    enum err err = OK;
    for (unsigned i = 0; i < OPEN_TRIES; i++) {
        err = begin_try(io, writer);
        if (err != ERR_FENCED && err != ERR_NO_SPACE)
            break;
    }
    return err;
}

static void copy_hint(struct block_writer *writer, const struct block_hint *hint)
{
    size_t name_bytes = hint->bucket_name.bytes;
    writer->hint = *hint;
    writer->hint_memory = mem_alloc(name_bytes + hint->key.bytes);
    if (name_bytes > 0)
        memcpy(writer->hint_memory, hint->bucket_name.data, name_bytes);
    if (hint->key.bytes > 0)
        memcpy(writer->hint_memory + name_bytes, hint->key.data, hint->key.bytes);
    writer->hint.bucket_name = slice_of(writer->hint_memory, name_bytes);
    writer->hint.key = slice_of(writer->hint_memory + name_bytes, hint->key.bytes);
}

enum err block_writer_open(struct io *io, struct storage_client *client,
                           const struct block_hint *hint, uint32_t bytes_expected,
                           struct block_writer **out_writer)
{
    if (bytes_expected > BLOCK_BYTES_MAX || hint->key.bytes > META_KEY_BYTES_MAX ||
        hint->bucket_name.bytes > META_BUCKET_NAME_BYTES_MAX)
        return FAIL(ERR_INVALID, "block larger than its limit or hint too long");
    AUTO(block_writer) writer = mem_new(struct block_writer);
    writer->storage = client->storage;
    writer->bytes_expected = bytes_expected;
    copy_hint(writer, hint);
    TRY(begin(io, writer));
    *out_writer = TAKE(writer);
    return OK;
}

/* --- stripes --- */

static enum err push_parity(struct io *io, struct block_writer *writer, const struct slice *data,
                            uint32_t unit_bytes)
{
    struct block_stripes *stripes = writer->stripes;
    unsigned data_count = stripes->geometry.data_shards;
    struct buf *bufs[CODEC_PARITY_SHARDS_MAX] = {NULL};
    struct codec_output outputs[CODEC_PARITY_SHARDS_MAX];
    enum err err = OK;
    unsigned count = 0;
    while (err == OK && count < stripes->geometry.parity_shards) {
        err = buf_pool_get(writer->storage->pool, unit_bytes, &bufs[count]);
        if (err == OK) {
            outputs[count] = (struct codec_output){bufs[count]->data, unit_bytes};
            count++;
        }
    }
    if (err == OK && count > 0)
        codec_encode(stripes->entry->codec, data, outputs);
    for (unsigned i = 0; i < count; i++) {
        if (err == OK)
            push_part(io, &stripes->slots[data_count + i], bufs[i], 0, unit_bytes);
        buf_unref(bufs[i]);
    }
    return err;
}

/* So that the block can be written again; beyond the limit nothing is kept. */
static void keep(struct block_writer *writer, struct buf *buf, size_t offset, size_t bytes)
{
    writer->kept_bytes += (uint32_t)bytes;
    if (writer->kept_bytes <= KEPT_BYTES_MAX && writer->kept_count < KEPT_PARTS_MAX) {
        writer->kept[writer->kept_count++] =
            (struct io_part){.buf = buf_ref(buf), .offset = offset, .bytes = bytes};
        return;
    }
    writer->kept_bytes = KEPT_BYTES_MAX + 1;
    while (writer->kept_count > 0)
        buf_unref(writer->kept[--writer->kept_count].buf);
}

/* Hand the collected stripe to the slots; `block_bytes` is the block up to its end. */
static enum err flush_stripe(struct io *io, struct block_writer *writer, uint32_t block_bytes)
{
    assert(writer->stripe_bytes > 0);
    struct block_stripes *stripes = writer->stripes;
    struct geometry geometry = stripes->geometry;
    TRY(wait_for_room(io, stripes));
    uint32_t stripe = geometry_stripe_count(geometry, block_bytes) - 1;
    AUTO(buf) buf = TAKE(writer->stripe);
    struct slice units[CODEC_DATA_SHARDS_MAX];
    uint32_t offset = 0;
    for (unsigned slot = 0; slot < geometry.data_shards; slot++) {
        uint32_t bytes = geometry_unit_bytes(geometry, block_bytes, stripe, slot);
        units[slot] = slice_of(buf->data + offset, bytes);
        if (bytes > 0)
            push_part(io, &stripes->slots[slot], buf, offset, bytes);
        offset += bytes;
    }
    assert(offset == writer->stripe_bytes);
    writer->stripe_bytes = 0;
    return push_parity(io, writer, units, geometry_unit_bytes(geometry, block_bytes, stripe, 0));
}

static enum err collect(struct io *io, struct block_writer *writer, struct slice bytes)
{
    uint32_t stripe_max = geometry_stripe_bytes(writer->stripes->geometry);
    hasher_update(writer->hasher, bytes);
    while (bytes.bytes > 0) {
        if (writer->stripe_bytes == stripe_max)
            TRY(flush_stripe(io, writer, writer->bytes));
        if (writer->stripe == NULL) {
            uint32_t rest = writer->bytes_expected > writer->bytes
                                ? writer->bytes_expected - writer->bytes
                                : stripe_max;
            TRY(buf_pool_get(writer->storage->pool, rest < stripe_max ? rest : stripe_max,
                             &writer->stripe));
        }
        struct slice piece = slice_first(bytes, stripe_max - writer->stripe_bytes);
        memcpy(writer->stripe->data + writer->stripe_bytes, piece.data, piece.bytes);
        writer->stripe_bytes += (uint32_t)piece.bytes;
        writer->bytes += (uint32_t)piece.bytes;
        bytes = slice_skip(bytes, piece.bytes);
    }
    return OK;
}

static enum err append(struct io *io, struct block_writer *writer, struct buf *buf, size_t offset,
                       size_t bytes)
{
    if (writer->stripes->geometry.data_shards > 1)
        return collect(io, writer, buf_slice(buf, offset, bytes));
    TRY(wait_for_room(io, writer->stripes));
    for (unsigned slot = 0; slot < slot_count(writer->stripes); slot++)
        push_part(io, &writer->stripes->slots[slot], buf, offset, bytes);
    writer->bytes += (uint32_t)bytes;
    return OK;
}

/* --- again, on another volume --- */

static bool may_write_again(const struct block_writer *writer, enum err err, unsigned again)
{
    return again < WRITE_AGAIN_MAX && writer->kept_bytes <= KEPT_BYTES_MAX &&
           writer->stripes != NULL && writer->stripes->err == OK && !is_of_the_block(err) &&
           err == writer->stripes->slot_err;
}

/* All of the kept bytes under a new block id. */
static enum err write_again(struct io *io, struct block_writer *writer)
{
    log_warn("storage: the drives of a block fail, it is written again on another volume");
    end_try(writer);
    TRY(begin(io, writer));
    for (unsigned i = 0; i < writer->kept_count; i++) {
        struct io_part part = writer->kept[i];
        TRY(append(io, writer, part.buf, part.offset, part.bytes));
    }
    return OK;
}

/* What a client can try later; the drives' own errors say more to the operator, who has them in
 * the log. */
static enum err answer_of(const struct block_writer *writer, enum err err)
{
    if (err == OK)
        return OK;
    bool of_drives = writer->stripes != NULL && err == writer->stripes->slot_err;
    return of_drives && err != ERR_NO_SPACE && !is_of_the_block(err) ? ERR_FENCED : err;
}

enum err block_writer_append(struct io *io, struct block_writer *writer, struct buf *buf,
                             size_t offset, size_t bytes)
{
    assert(!writer->finished);
    assert(offset + bytes <= buf->capacity);
    TRY(writer->err);
    if (bytes == 0)
        return OK;
    uint32_t limit = writer->bytes_expected > 0 ? writer->bytes_expected : BLOCK_BYTES_MAX;
    if (bytes > limit - writer->bytes) {
        writer->err = FAIL(ERR_LIMIT, "more bytes than the block was opened for");
        return writer->err;
    }
    counter_add(writer->storage->written_bytes, bytes);
    keep(writer, buf, offset, bytes);
    enum err err = append(io, writer, buf, offset, bytes);
    for (unsigned again = 0; err != OK && may_write_again(writer, err, again); again++)
        err = write_again(io, writer);
    writer->err = answer_of(writer, err);
    return writer->err;
}

static enum err finish(struct io *io, struct block_writer *writer)
{
    struct block_stripes *stripes = writer->stripes;
    if (writer->stripe_bytes > 0)
        TRY(flush_stripe(io, writer, writer->bytes));
    stripes->block_bytes = writer->bytes;
    for (unsigned i = 0; i < slot_count(stripes); i++) {
        stripes->slots[i].finishing = true;
        run_slot(io, &stripes->slots[i]);
    }
    return wait_durable(io, stripes);
}

static void describe(const struct block_writer *writer, struct block_ref *out_ref)
{
    const struct block_stripes *stripes = writer->stripes;
    *out_ref = (struct block_ref){.id = writer->placed.block, .bytes = writer->bytes};
    if (writer->hasher != NULL)
        out_ref->hash = hasher_value(writer->hasher);
    for (unsigned i = 0; i < slot_count(stripes); i++) {
        const struct slot *slot = &stripes->slots[i];
        if (slot->state != SLOT_DURABLE)
            out_ref->missing |= 1u << i;
        else if (writer->hasher == NULL)
            out_ref->hash = shard_hash(slot->shard);
    }
}

enum err block_writer_finish(struct io *io, struct block_writer *writer, struct block_ref *out_ref,
                             struct lease *out_lease)
{
    assert(!writer->finished);
    assert(writer->bytes > 0 || writer->err != OK);
    TRY(writer->err);
    writer->finished = true;
    enum err err = finish(io, writer);
    for (unsigned again = 0; err != OK && may_write_again(writer, err, again); again++) {
        err = write_again(io, writer);
        if (err == OK)
            err = finish(io, writer);
    }
    writer->err = answer_of(writer, err);
    TRY(writer->err);
    assert(count_slots(writer->stripes, SLOT_DURABLE) >= slots_required(writer->stripes));
    describe(writer, out_ref);
    if (out_ref->missing != 0)
        counter_add(writer->storage->blocks_degraded, 1);
    *out_lease = writer->placed.lease->lease;
    while (writer->kept_count > 0)
        buf_unref(writer->kept[--writer->kept_count].buf);
    return OK;
}

void block_writer_free(struct block_writer *writer)
{
    if (writer == NULL)
        return;
    end_try(writer);
    while (writer->kept_count > 0)
        buf_unref(writer->kept[--writer->kept_count].buf);
    mem_free(writer->hint_memory);
    mem_free(writer);
}

struct block_id block_writer_id(const struct block_writer *writer)
{
    return writer->placed.block;
}
