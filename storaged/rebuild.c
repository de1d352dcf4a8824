/* See rebuild.h. A block passes through stripe by stripe: k units are read, the missing data units
 * are computed for the hash, the wanted ones for their shards. */
#include "rebuild.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "drives.h"
#include "placement.h"
#include "record_check.h"
#include "shard.h"
#include "shard_reader.h"
#include <assert.h>

/* A slot that is read. */
struct source {
    struct shard_reader reader;
    struct buf *buf;
    size_t at;    /* of the present unit in buf */
    bool open;    /* reader is */
    bool present; /* open, or known to be empty */
    bool tried;
};

struct job {
    struct rebuild *rebuild;
    struct geometry geometry;
    struct source sources[META_SHARDS_MAX];
    struct shard *shards[META_SHARDS_MAX]; /* being written, by slot */
    struct buf *units[META_SHARDS_MAX];    /* computed, of the present stripe */
    struct hasher *hasher;
    struct buf *memory; /* of a header */
    struct record record;
};

static unsigned slots_of(const struct job *job)
{
    return volume_slots(job->rebuild->entry);
}

static bool has_bit(uint32_t mask, unsigned slot)
{
    return (mask >> slot & 1) != 0;
}

enum err rebuild_find(struct io *io, struct drive *drive, const struct volume *volume,
                      const struct block_ref *ref, unsigned slot, uint64_t epoch_min,
                      struct place *out_place)
{
    if (!drive_is_ok(drive))
        return ERR_FENCED;
    struct shard_key key = {.block = ref->id, .slot = (uint8_t)slot};
    TRY(drive_index_find(io, drive, &key, out_place));
    if (out_place->epoch < epoch_min)
        return ERR_NOT_FOUND;
    struct geometry geometry = {out_place->data_shards, out_place->parity_shards,
                                out_place->unit_bytes};
    bool fits = !out_place->bad && out_place->data_shards == volume->data_shards &&
                out_place->parity_shards == volume->parity_shards &&
                out_place->block_bytes == ref->bytes &&
                geometry_check(geometry, ref->bytes) == OK &&
                out_place->payload_bytes == geometry_shard_bytes(geometry, ref->bytes, slot);
    return fits ? OK : ERR_CORRUPT;
}

/* --- targets --- */

static enum err open_target(struct io *io, struct job *job, unsigned slot,
                            const struct block_hint *hint)
{
    const struct rebuild *rebuild = job->rebuild;
    struct drive *drive = rebuild->targets[slot].drive;
    uint32_t bytes = geometry_shard_bytes(job->geometry, rebuild->ref->bytes, slot);
    struct shard_options options = {
        .key = {.block = rebuild->ref->id, .slot = (uint8_t)slot},
        .epoch = rebuild->targets[slot].epoch,
        .incarnation = drive->superblock->incarnation,
        .geometry = job->geometry,
        .hint = hint,
        .payload_bytes_expected = bytes,
        .payload_bytes_max = bytes,
        .pool = rebuild->pool,
        .replaces = true,
    };
    return shard_open(io, storage_appender(io, rebuild->storage, drive), &options,
                      &job->shards[slot]);
}

/* An error of the target, unless it says nothing about it. */
static enum err of_target(struct job *job, enum err err)
{
    if (err != OK && err != ERR_BUSY && err != ERR_CANCELED)
        job->rebuild->target_failed = true;
    return err;
}

static enum err finish_targets(struct io *io, struct job *job)
{
    struct rebuild *rebuild = job->rebuild;
    for (unsigned slot = 0; slot < slots_of(job); slot++) {
        if (job->shards[slot] != NULL)
            TRY(of_target(job, shard_finish(io, job->shards[slot], rebuild->ref->bytes)));
    }
    for (unsigned slot = 0; slot < slots_of(job); slot++) {
        if (job->shards[slot] == NULL)
            continue;
        TRY(of_target(job, shard_wait(io, job->shards[slot])));
        rebuild->bytes += geometry_shard_bytes(job->geometry, rebuild->ref->bytes, slot);
    }
    return OK;
}

static void drop_targets(struct job *job)
{
    for (unsigned slot = 0; slot < META_SHARDS_MAX; slot++)
        shard_free(TAKE(job->shards[slot]));
}

/* --- sources --- */

static void close_source(struct source *source)
{
    if (source->open)
        shard_reader_deinit(&source->reader);
    if (source->buf != NULL)
        buf_unref(TAKE(source->buf));
    source->open = false;
    source->present = false;
}

/* The source is no good; somebody looks at it later. */
static void give_up_source(struct job *job, unsigned slot, enum err err)
{
    struct rebuild *rebuild = job->rebuild;
    close_source(&job->sources[slot]);
    bool bad = err == ERR_CORRUPT || err == ERR_NOT_FOUND;
    if (!bad || !drive_is_ok(rebuild->entry->drives[slot]))
        return;
    rebuild->bad |= 1u << slot;
    if (!has_bit(rebuild->wanted, slot) && !has_bit(rebuild->ref->missing, slot))
        storage_report_bad(rebuild->storage, rebuild->ref, slot);
}

static enum err take_geometry(struct job *job, unsigned slot)
{
    const struct place *place = &job->sources[slot].reader.place;
    if (job->geometry.unit_bytes == 0)
        job->geometry =
            (struct geometry){place->data_shards, place->parity_shards, place->unit_bytes};
    return job->geometry.unit_bytes == place->unit_bytes
               ? OK
               : FAIL(ERR_CORRUPT, "shards of one block differ in their unit");
}

static enum err open_source(struct io *io, struct job *job, unsigned slot)
{
    const struct rebuild *rebuild = job->rebuild;
    struct source *source = &job->sources[slot];
    source->tried = true;
    TRY(shard_reader_open(io, rebuild->storage, rebuild->entry, rebuild->ref, slot,
                          &source->reader));
    source->open = true;
    TRY(take_geometry(job, slot));
    /* A unit need not begin or end with a cell. */
    TRY(buf_pool_get(rebuild->pool, job->geometry.unit_bytes + 2 * RECORD_CELL_BYTES,
                     &source->buf));
    source->present = true;
    return OK;
}

/* Data slots that have nothing of so short a block need not be there. */
static void count_empty(struct job *job)
{
    for (unsigned slot = 0; slot < job->geometry.data_shards; slot++) {
        if (geometry_shard_bytes(job->geometry, job->rebuild->ref->bytes, slot) == 0)
            job->sources[slot].present = true;
    }
}

static unsigned count_present(const struct job *job)
{
    unsigned present = 0;
    for (unsigned slot = 0; slot < slots_of(job); slot++)
        present += job->sources[slot].present;
    return present;
}

/* Drives that are well first; data before parity, which costs a computation. */
static unsigned next_source(const struct job *job)
{
    unsigned best = META_SHARDS_MAX;
    unsigned best_rank = 2;
    for (unsigned slot = 0; slot < slots_of(job); slot++) {
        const struct drive *drive = job->rebuild->entry->drives[slot];
        if (job->sources[slot].tried || job->sources[slot].present ||
            has_bit(job->rebuild->avoid | job->rebuild->wanted, slot) || !drive_is_ok(drive))
            continue;
        unsigned rank = atomic_load(&drive->slow) || has_bit(job->rebuild->ref->missing, slot);
        if (rank < best_rank) {
            best = slot;
            best_rank = rank;
        }
    }
    return best;
}

static enum err verdict(const struct job *job)
{
    unsigned possible = 0;
    for (unsigned slot = 0; slot < slots_of(job); slot++)
        possible += !has_bit(job->rebuild->bad | job->rebuild->avoid, slot);
    return possible >= job->rebuild->entry->volume.data_shards
               ? FAIL(ERR_FENCED, "too few shards while drives are absent")
               : FAIL(ERR_CORRUPT, "too few good shards");
}

static enum err open_sources(struct io *io, struct job *job)
{
    while (count_present(job) < job->rebuild->entry->volume.data_shards ||
           job->geometry.unit_bytes == 0) {
        unsigned slot = next_source(job);
        if (slot == META_SHARDS_MAX)
            return verdict(job);
        enum err err = open_source(io, job, slot);
        if (err == ERR_BUSY || err == ERR_CANCELED)
            return err;
        if (err != OK)
            give_up_source(job, slot, err);
        else
            count_empty(job);
    }
    return OK;
}

/* What every record says about the object; one that cannot be had is no reason to leave the block
 * as it is. */
static struct block_hint read_hint(struct io *io, struct job *job)
{
    for (unsigned slot = 0; slot < slots_of(job); slot++) {
        const struct source *source = &job->sources[slot];
        if (!source->open)
            continue;
        struct index_record record = {
            .key = {.block = job->rebuild->ref->id, .slot = (uint8_t)slot},
            .segment = source->reader.place.segment,
            .offset = source->reader.place.offset,
            .bytes = source->reader.place.bytes};
        if (record_identify(io, source->reader.drive, &record, job->memory, &job->record) == OK)
            return job->record.hint;
    }
    log_warn("repair: no record of a block says whose it is");
    return (struct block_hint){.bucket_id = 0};
}

static enum err read_unit(struct io *io, struct source *source, uint32_t offset, uint32_t bytes)
{
    struct cell_range range = shard_reader_cover(&source->reader, offset, bytes);
    source->at = offset - range.from;
    return shard_reader_read(io, &source->reader, range, source->buf);
}

/* Units of a stripe from k sources; others take the place of those that fail. */
static enum err read_stripe(struct io *io, struct job *job, uint32_t stripe)
{
    uint32_t done = 0;
    for (;;) {
        bool failed = false;
        for (unsigned slot = 0; slot < slots_of(job); slot++) {
            struct source *source = &job->sources[slot];
            uint32_t bytes =
                geometry_unit_bytes(job->geometry, job->rebuild->ref->bytes, stripe, slot);
            if (!source->open || bytes == 0 || has_bit(done, slot))
                continue;
            enum err err = read_unit(io, source, stripe * job->geometry.unit_bytes, bytes);
            if (err == ERR_BUSY || err == ERR_CANCELED)
                return err;
            if (err == OK)
                done |= 1u << slot;
            else
                give_up_source(job, slot, err == ERR_IO ? ERR_CORRUPT : err);
            failed = failed || err != OK;
        }
        if (!failed)
            return OK;
        TRY(open_sources(io, job));
    }
}

/* --- a stripe --- */

static void drop_units(struct job *job)
{
    for (unsigned slot = 0; slot < META_SHARDS_MAX; slot++) {
        if (job->units[slot] != NULL)
            buf_unref(TAKE(job->units[slot]));
    }
}

static enum err compute(struct job *job, uint32_t stripe, struct slice data[CODEC_SHARDS_MAX])
{
    const struct rebuild *rebuild = job->rebuild;
    struct codec_output outputs[CODEC_SHARDS_MAX] = {{.bytes = 0}};
    uint32_t present = 0;
    uint32_t computed = 0;
    for (unsigned slot = 0; slot < slots_of(job); slot++) {
        uint32_t bytes = geometry_unit_bytes(job->geometry, rebuild->ref->bytes, stripe, slot);
        const struct source *source = &job->sources[slot];
        data[slot] = (struct slice){.bytes = 0};
        if (source->present || (bytes == 0 && slot < job->geometry.data_shards)) {
            present |= 1u << slot;
            if (bytes > 0)
                data[slot] = buf_slice(source->buf, source->at, bytes);
        } else if (slot < job->geometry.data_shards || has_bit(rebuild->wanted, slot)) {
            TRY(buf_pool_get(rebuild->pool, bytes, &job->units[slot]));
            outputs[slot] = (struct codec_output){job->units[slot]->data, bytes};
            computed |= 1u << slot;
        }
    }
    if (computed == 0)
        return OK;
    TRY(codec_reconstruct(rebuild->entry->codec, present, data, computed, outputs));
    for (unsigned slot = 0; slot < slots_of(job); slot++) {
        if (has_bit(computed, slot))
            data[slot] = slice_of(outputs[slot].data, outputs[slot].bytes);
    }
    return OK;
}

static enum err pass_stripe(struct io *io, struct job *job, uint32_t stripe)
{
    struct slice units[CODEC_SHARDS_MAX];
    TRY(read_stripe(io, job, stripe));
    TRY(compute(job, stripe, units));
    for (unsigned slot = 0; slot < job->geometry.data_shards; slot++)
        hasher_update(job->hasher, units[slot]);
    for (unsigned slot = 0; slot < slots_of(job); slot++) {
        if (job->shards[slot] != NULL && units[slot].bytes > 0)
            TRY(of_target(
                job, shard_append(io, job->shards[slot], job->units[slot], 0, units[slot].bytes)));
    }
    return OK;
}

static enum err decode_all(struct io *io, struct job *job)
{
    struct rebuild *rebuild = job->rebuild;
    TRY(open_sources(io, job));
    struct block_hint hint = read_hint(io, job);
    for (unsigned slot = 0; slot < slots_of(job); slot++) {
        if (has_bit(rebuild->wanted, slot))
            TRY(of_target(job, open_target(io, job, slot, &hint)));
    }
    job->hasher = hasher_new();
    uint32_t stripes = geometry_stripe_count(job->geometry, rebuild->ref->bytes);
    for (uint32_t stripe = 0; stripe < stripes; stripe++) {
        enum err err = pass_stripe(io, job, stripe);
        drop_units(job);
        TRY(err);
    }
    struct hash128 hash = hasher_value(job->hasher);
    if (!hash128_equal(&hash, &rebuild->ref->hash))
        return FAIL(ERR_CORRUPT, "rebuilt block has another hash");
    return finish_targets(io, job);
}

/* --- one shard as it is --- */

static enum err copy_payload(struct io *io, struct job *job, struct source *source, unsigned slot)
{
    uint32_t payload_bytes = source->reader.place.payload_bytes;
    for (uint32_t at = 0; at < payload_bytes;) {
        uint32_t rest = payload_bytes - at;
        uint32_t bytes = rest < GEOMETRY_UNIT_BYTES_MAX ? rest : GEOMETRY_UNIT_BYTES_MAX;
        AUTO(buf) buf = NULL;
        TRY(buf_pool_get(job->rebuild->pool, record_align(bytes), &buf));
        TRY(shard_reader_read(io, &source->reader, (struct cell_range){at, at + bytes}, buf));
        hasher_update(job->hasher, buf_slice(buf, 0, bytes));
        TRY(of_target(job, shard_append(io, job->shards[slot], buf, 0, bytes)));
        at += bytes;
    }
    struct hash128 hash = hasher_value(job->hasher);
    return hash128_equal(&hash, &job->record.payload_hash)
               ? OK
               : FAIL(ERR_CORRUPT, "shard has another hash than its record says");
}

static enum err copy_shard(struct io *io, struct job *job, unsigned slot)
{
    struct source *source = &job->sources[slot];
    TRY(open_source(io, job, slot));
    const struct place *place = &source->reader.place;
    struct index_record record = {.key = {.block = job->rebuild->ref->id, .slot = (uint8_t)slot},
                                  .segment = place->segment,
                                  .offset = place->offset,
                                  .bytes = place->bytes};
    TRY(record_identify(io, source->reader.drive, &record, job->memory, &job->record));
    TRY(of_target(job, open_target(io, job, slot, &job->record.hint)));
    job->hasher = hasher_new();
    TRY(copy_payload(io, job, source, slot));
    return finish_targets(io, job);
}

static void reset(struct job *job)
{
    drop_targets(job);
    drop_units(job);
    hasher_free(TAKE(job->hasher));
    for (unsigned slot = 0; slot < META_SHARDS_MAX; slot++) {
        close_source(&job->sources[slot]);
        job->sources[slot].tried = false;
    }
}

/* The slots whose drive still serves: cheaper than decoding, and possible when decoding is not. */
static enum err copy_some(struct io *io, struct job *job)
{
    struct rebuild *rebuild = job->rebuild;
    for (unsigned slot = 0; slot < slots_of(job); slot++) {
        if (!has_bit(rebuild->wanted & ~rebuild->avoid, slot) ||
            !drive_is_ok(rebuild->entry->drives[slot]))
            continue;
        enum err err = copy_shard(io, job, slot);
        if (err == OK)
            rebuild->wanted &= ~(1u << slot);
        else if (err != ERR_BUSY && err != ERR_CANCELED && !rebuild->target_failed)
            give_up_source(job, slot, err == ERR_IO ? ERR_CORRUPT : err);
        reset(job);
        if (err == ERR_BUSY || err == ERR_CANCELED || rebuild->target_failed)
            return err;
    }
    return OK;
}

enum err rebuild_block(struct io *io, struct rebuild *rebuild)
{
    assert(rebuild->wanted != 0);
    struct job *job = mem_new(struct job);
    job->rebuild = rebuild;
    job->memory = buf_new(RECORD_HEADER_BYTES + RECORD_FOOTER_BYTES_MAX);
    rebuild->bad = 0;
    rebuild->bytes = 0;
    rebuild->target_failed = false;
    enum err err = copy_some(io, job);
    if (err == OK && rebuild->wanted != 0)
        err = decode_all(io, job);
    reset(job);
    buf_unref(job->memory);
    mem_free(job);
    return err;
}
