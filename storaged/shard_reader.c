/* Cells of one shard, checked. */
#include "shard_reader.h"

#include "base/log.h"
#include "base/mem.h"
#include <assert.h>
#include <inttypes.h>

/* --- footers: CRCs that are too many for an index row --- */

static uint32_t *find_footer(struct shard_reader *reader, uint32_t cell_count)
{
    struct storage *storage = reader->storage;
    uint32_t *crcs = NULL;
    pthread_mutex_lock(storage->mutex);
    for (unsigned i = 0; crcs == NULL && i < FOOTER_CACHE_ENTRIES; i++) {
        struct footer_entry *entry = &storage->footers[i];
        if (entry->cell_crcs != NULL && entry->drive == reader->drive->index &&
            entry->segment == reader->place.segment && entry->offset == reader->place.offset &&
            entry->cell_count == cell_count) {
            entry->used_at = ++storage->footer_clock;
            crcs = mem_copy(entry->cell_crcs, cell_count * sizeof(uint32_t));
        }
    }
    pthread_mutex_unlock(storage->mutex);
    return crcs;
}

static void keep_footer(struct shard_reader *reader, const struct record *footer)
{
    struct storage *storage = reader->storage;
    pthread_mutex_lock(storage->mutex);
    struct footer_entry *oldest = &storage->footers[0];
    for (unsigned i = 1; i < FOOTER_CACHE_ENTRIES; i++) {
        if (storage->footers[i].used_at < oldest->used_at)
            oldest = &storage->footers[i];
    }
    mem_free(oldest->cell_crcs);
    *oldest = (struct footer_entry){
        .drive = reader->drive->index,
        .segment = reader->place.segment,
        .offset = reader->place.offset,
        .used_at = ++storage->footer_clock,
        .cell_count = footer->cell_count,
        .cell_crcs = mem_copy(footer->cell_crcs, footer->cell_count * sizeof(uint32_t)),
    };
    pthread_mutex_unlock(storage->mutex);
}

static enum err read_footer(struct io *io, struct shard_reader *reader, bool direct,
                            const struct shard_key *key, struct record *out)
{
    const struct place *place = &reader->place;
    uint64_t offset = place->offset + RECORD_HEADER_BYTES + record_align(place->payload_bytes);
    uint64_t bytes = place->offset + place->bytes - offset;
    if (bytes != 4096 && bytes != RECORD_FOOTER_BYTES_MAX)
        return FAIL(ERR_CORRUPT, "index row with an impossible footer");
    struct file *file = NULL;
    TRY(drive_segment_file(io, reader->drive, reader->segment, direct, &file));
    AUTO(buf) buf = buf_new(RECORD_FOOTER_BYTES_MAX);
    size_t got = 0;
    TRY(io_read(io, file, buf, 0, (size_t)bytes, offset, &got));
    if (got != bytes)
        return FAIL(ERR_CORRUPT, "footer beyond the end of its segment");
    TRY(record_decode(slice_of(buf->data, got), &reader->segment->identity, RECORD_FOOTER,
                      place->offset, out));
    if (!block_id_equal(out->block, key->block) || out->slot != key->slot ||
        out->payload_bytes != place->payload_bytes)
        return FAIL(ERR_CORRUPT, "footer of another block");
    return OK;
}

static enum err load_footer(struct io *io, struct shard_reader *reader, const struct shard_key *key)
{
    uint32_t cell_count = record_cells(reader->place.payload_bytes);
    reader->footer_crcs = find_footer(reader, cell_count);
    if (reader->footer_crcs != NULL)
        return OK;
    struct record *footer = mem_new(struct record);
    enum err err = read_footer(io, reader, false, key, footer);
    if (err == ERR_CORRUPT || err == ERR_MISMATCH || err == ERR_IO)
        err = read_footer(io, reader, true, key, footer);
    if (err == OK) {
        keep_footer(reader, footer);
        reader->footer_crcs = mem_copy(footer->cell_crcs, cell_count * sizeof(uint32_t));
    }
    mem_free(footer);
    return err == ERR_MISMATCH ? ERR_CORRUPT : err;
}

/* --- opening --- */

/* A shard answers only for its block, slot and geometry (CLUSTER.md I17); the row was made from a
 * checked record. */
static enum err check_place(const struct place *place, const struct volume_entry *entry,
                            const struct block_ref *ref, unsigned slot)
{
    /* Of an earlier stay of the slot on this drive; perhaps it misses what came later. */
    if (place->epoch < entry->volume.slot_epochs[slot])
        return FAIL(ERR_NOT_FOUND, "shard of an earlier epoch slot=%u", slot);
    if (place->bad)
        return FAIL(ERR_CORRUPT, "shard found damaged at start slot=%u", slot);
    struct geometry geometry = {place->data_shards, place->parity_shards, place->unit_bytes};
    if (place->data_shards != entry->volume.data_shards ||
        place->parity_shards != entry->volume.parity_shards || place->block_bytes != ref->bytes ||
        geometry_check(geometry, ref->bytes) != OK ||
        place->payload_bytes != geometry_shard_bytes(geometry, ref->bytes, slot))
        return FAIL(ERR_CORRUPT, "shard does not fit its block slot=%u", slot);
    return OK;
}

enum err shard_reader_open(struct io *io, struct storage *storage, const struct volume_entry *entry,
                           const struct block_ref *ref, unsigned slot, struct shard_reader *out)
{
    struct drive *drive = entry->drives[slot];
    if (drive == NULL)
        return ERR_FENCED;
    TRY(drive_check(drive));
    *out = (struct shard_reader){.storage = storage, .drive = drive};
    struct shard_key key = {.block = ref->id, .slot = (uint8_t)slot};
    TRY(drive_index_find(io, drive, &key, &out->place));
    TRY(check_place(&out->place, entry, ref, slot));
    out->segment = drive_segment_acquire(drive, out->place.segment);
    if (out->segment == NULL)
        return FAIL(ERR_CORRUPT, "segment of a shard is gone segment=%" PRIu64, out->place.segment);
    if (out->place.cell_count == record_cells(out->place.payload_bytes))
        return OK;
    enum err err = load_footer(io, out, &key);
    if (err != OK)
        shard_reader_deinit(out);
    return err;
}

void shard_reader_deinit(struct shard_reader *reader)
{
    if (reader->segment != NULL)
        drive_segment_release(reader->drive, TAKE(reader->segment));
    mem_free(TAKE(reader->footer_crcs));
}

/* --- reading --- */

struct cell_range shard_reader_cover(const struct shard_reader *reader, uint32_t offset,
                                     uint32_t bytes)
{
    assert(offset + bytes <= reader->place.payload_bytes);
    uint32_t to = (offset + bytes + RECORD_CELL_BYTES - 1) / RECORD_CELL_BYTES * RECORD_CELL_BYTES;
    return (struct cell_range){
        .from = offset / RECORD_CELL_BYTES * RECORD_CELL_BYTES,
        .to = to < reader->place.payload_bytes ? to : reader->place.payload_bytes,
    };
}

static bool cell_is_good(const struct shard_reader *reader, uint32_t offset, const uint8_t *data)
{
    const uint32_t *crcs =
        reader->footer_crcs != NULL ? reader->footer_crcs : reader->place.cell_crcs;
    uint32_t index = offset / RECORD_CELL_BYTES;
    uint32_t bytes = record_cell_bytes(reader->place.payload_bytes, index);
    return record_cell_matches(crcs, reader->place.payload_bytes, index, slice_of(data, bytes));
}

/* Past the page cache, into memory of its own: the caller's may be too small for whole blocks. */
static enum err read_cell_again(struct io *io, struct shard_reader *reader, uint32_t offset,
                                uint8_t *out)
{
    const struct place *place = &reader->place;
    uint32_t bytes = record_cell_bytes(place->payload_bytes, offset / RECORD_CELL_BYTES);
    struct file *file = NULL;
    TRY(drive_segment_file(io, reader->drive, reader->segment, true, &file));
    AUTO(buf) buf = buf_new(RECORD_CELL_BYTES);
    size_t got = 0;
    TRY(io_read(io, file, buf, 0, (size_t)record_align(bytes),
                place->offset + RECORD_HEADER_BYTES + offset, &got));
    bool good = got >= bytes && cell_is_good(reader, offset, buf->data);
    if (!good && reader->given_up != NULL && *reader->given_up)
        return ERR_CANCELED;
    if (!good) {
        counter_add(reader->storage->corrupt_cells, 1);
        log_error("read: a cell fails its checksum directory=%s segment=%" PRIu64 " offset=%" PRIu64
                  " cell=%u",
                  reader->drive->directory, place->segment, place->offset,
                  offset / RECORD_CELL_BYTES);
        return FAIL(ERR_CORRUPT, "cell fails its checksum");
    }
    memcpy(out, buf->data, bytes);
    return OK;
}

enum err shard_reader_read(struct io *io, struct shard_reader *reader, struct cell_range range,
                           struct buf *buf)
{
    assert(range.to > range.from);
    assert(range.to - range.from <= buf->capacity);
    struct file *file = NULL;
    TRY(drive_segment_file(io, reader->drive, reader->segment, false, &file));
    size_t got = 0;
    enum err err = io_read(io, file, buf, 0, range.to - range.from,
                           reader->place.offset + RECORD_HEADER_BYTES + range.from, &got);
    if (err != OK && err != ERR_IO)
        return err;
    if (err == ERR_IO)
        got = 0; /* perhaps only one sector: try cell by cell */
    for (uint32_t at = range.from; at < range.to; at += RECORD_CELL_BYTES) {
        uint32_t bytes = record_cell_bytes(reader->place.payload_bytes, at / RECORD_CELL_BYTES);
        uint8_t *data = buf->data + (at - range.from);
        bool good = at - range.from + bytes <= got && cell_is_good(reader, at, data);
        if (!good)
            TRY(read_cell_again(io, reader, at, data));
    }
    return OK;
}
