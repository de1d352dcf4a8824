/* Headers and footers: docs/formats.md#records. */
#include "record.h"

#include "base/crc.h"
#include <assert.h>
#include <inttypes.h>
#include <stddef.h>

#define HEADER_MAGIC UINT64_C(0x434552454c414853) /* "SHALEREC" */
#define FOOTER_MAGIC UINT64_C(0x444e45454c414853) /* "SHALEEND" */
enum { RECORD_VERSION = 1 };

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "stored structs are little endian");

/* Followed by cell_count CRCs (u32), the bucket name, the key, zeros up to `bytes`. */
struct record_layout {
    uint64_t magic;
    uint32_t crc; /* CRC32C of all `bytes` with this field zero */
    uint16_t version;
    uint8_t kind;
    uint8_t slot;
    uint8_t cluster_id[16];
    uint8_t drive_id[16];
    uint8_t nonce[16];
    uint64_t segment;
    uint64_t offset;
    uint64_t durable_offset;
    uint64_t volume;
    uint64_t sequence;
    uint64_t epoch;
    uint64_t incarnation;
    uint32_t generation;
    uint32_t unit_bytes;
    uint32_t payload_bytes;
    uint32_t block_bytes;
    uint8_t payload_hash[16];
    uint32_t bytes;
    uint32_t cell_count;
    uint8_t data_shards;
    uint8_t parity_shards;
    uint16_t bucket_name_bytes;
    uint16_t key_bytes;
    uint16_t reserved;
    uint64_t bucket_id;
    uint64_t write_volume;
    uint64_t write_sequence;
    uint64_t upload_id;
    uint32_t ordinal;
    uint32_t part_number;
};
static_assert(sizeof(struct record_layout) == 208);
static_assert(offsetof(struct record_layout, crc) == 8);
static_assert(offsetof(struct record_layout, segment) == 64);
static_assert(offsetof(struct record_layout, generation) == 120);
static_assert(offsetof(struct record_layout, bytes) == 152);
static_assert(offsetof(struct record_layout, bucket_id) == 168);
static_assert(sizeof(struct record_layout) + 4 * (RECORD_ONE_SHOT_BYTES_MAX / RECORD_CELL_BYTES) +
                  META_BUCKET_NAME_BYTES_MAX + META_KEY_BYTES_MAX <=
              RECORD_HEADER_BYTES);
static_assert(sizeof(struct record_layout) + 4 * RECORD_CELLS_MAX + META_BUCKET_NAME_BYTES_MAX +
                  META_KEY_BYTES_MAX <=
              RECORD_FOOTER_BYTES_MAX);

uint32_t record_cell_bytes(uint32_t payload_bytes, uint32_t index)
{
    assert(index < record_cells(payload_bytes));
    uint32_t rest = payload_bytes - index * RECORD_CELL_BYTES;
    return rest < RECORD_CELL_BYTES ? rest : RECORD_CELL_BYTES;
}

uint32_t record_footer_bytes(uint32_t payload_bytes, const struct block_hint *hint)
{
    return (uint32_t)record_align(sizeof(struct record_layout) + 4 * record_cells(payload_bytes) +
                                  hint->bucket_name.bytes + hint->key.bytes);
}

uint64_t record_total_bytes(enum record_kind kind, uint32_t payload_bytes,
                            const struct block_hint *hint)
{
    uint64_t bytes = RECORD_HEADER_BYTES + record_align(payload_bytes);
    return kind == RECORD_STREAMED ? bytes + record_footer_bytes(payload_bytes, hint) : bytes;
}

void record_encode(const struct record *record, const struct segment_identity *identity,
                   enum record_role role, uint8_t *out)
{
    assert(record->hint.bucket_name.bytes <= META_BUCKET_NAME_BYTES_MAX);
    assert(record->hint.key.bytes <= META_KEY_BYTES_MAX);
    bool has_cells = role == RECORD_FOOTER || record->kind == RECORD_ONE_SHOT;
    assert(record->cell_count == (has_cells ? record_cells(record->payload_bytes) : 0));
    uint32_t bytes = role == RECORD_HEADER
                         ? RECORD_HEADER_BYTES
                         : record_footer_bytes(record->payload_bytes, &record->hint);
    struct record_layout layout = {
        .magic = role == RECORD_HEADER ? HEADER_MAGIC : FOOTER_MAGIC,
        .version = RECORD_VERSION,
        .kind = (uint8_t)record->kind,
        .slot = record->slot,
        .segment = identity->segment,
        .offset = record->offset,
        .durable_offset = record->durable_offset,
        .volume = record->block.volume,
        .sequence = record->block.sequence,
        .epoch = record->epoch,
        .incarnation = record->incarnation,
        .generation = record->generation,
        .unit_bytes = record->unit_bytes,
        .payload_bytes = record->payload_bytes,
        .block_bytes = record->block_bytes,
        .bytes = bytes,
        .cell_count = record->cell_count,
        .data_shards = record->data_shards,
        .parity_shards = record->parity_shards,
        .bucket_name_bytes = (uint16_t)record->hint.bucket_name.bytes,
        .key_bytes = (uint16_t)record->hint.key.bytes,
        .bucket_id = record->hint.bucket_id,
        .write_volume = record->hint.write_id.volume,
        .write_sequence = record->hint.write_id.sequence,
        .upload_id = record->hint.upload_id,
        .ordinal = record->hint.ordinal,
        .part_number = record->hint.part_number,
    };
    memcpy(layout.cluster_id, identity->cluster_id, 16);
    memcpy(layout.drive_id, identity->drive.bytes, 16);
    memcpy(layout.nonce, identity->nonce, 16);
    memcpy(layout.payload_hash, record->payload_hash.bytes, 16);

    memset(out, 0, bytes);
    memcpy(out, &layout, sizeof layout);
    uint8_t *at = out + sizeof layout;
    memcpy(at, record->cell_crcs, 4 * record->cell_count);
    at += 4 * record->cell_count;
    if (record->hint.bucket_name.bytes > 0)
        memcpy(at, record->hint.bucket_name.data, record->hint.bucket_name.bytes);
    at += record->hint.bucket_name.bytes;
    if (record->hint.key.bytes > 0)
        memcpy(at, record->hint.key.data, record->hint.key.bytes);
    uint32_t crc = crc32c_update(0, slice_of(out, bytes));
    memcpy(out + offsetof(struct record_layout, crc), &crc, sizeof crc);
}

bool record_looks_like(const uint8_t *block, enum record_role role)
{
    uint64_t magic;
    memcpy(&magic, block, sizeof magic);
    return magic == (role == RECORD_HEADER ? HEADER_MAGIC : FOOTER_MAGIC);
}

uint32_t record_claimed_bytes(const uint8_t *block, const struct segment_identity *identity)
{
    uint32_t bytes;
    if (memcmp(block + offsetof(struct record_layout, nonce), identity->nonce, 16) != 0)
        return 0;
    memcpy(&bytes, block + offsetof(struct record_layout, bytes), sizeof bytes);
    return bytes == 4096 || bytes == 8192 ? bytes : 0;
}

/* CRC32C of `bytes` with the four bytes of the crc field taken as zero. */
static uint32_t layout_crc(struct slice bytes)
{
    static const uint8_t zeros[4];
    size_t at = offsetof(struct record_layout, crc);
    uint32_t crc = crc32c_update(0, slice_first(bytes, at));
    crc = crc32c_update(crc, slice_of(zeros, sizeof zeros));
    return crc32c_update(crc, slice_skip(bytes, at + sizeof zeros));
}

/* Fields that carry a valid CRC and are still impossible were written by a bug or by nobody. */
static bool is_possible(const struct record_layout *layout, enum record_role role)
{
    bool has_cells = role == RECORD_FOOTER || layout->kind == RECORD_ONE_SHOT;
    bool kind_ok = layout->kind == RECORD_STREAMED ||
                   (layout->kind == RECORD_ONE_SHOT && role == RECORD_HEADER);
    uint32_t payload_bytes_max =
        layout->kind == RECORD_ONE_SHOT ? RECORD_ONE_SHOT_BYTES_MAX : RECORD_PAYLOAD_BYTES_MAX;
    if (!kind_ok || layout->payload_bytes > payload_bytes_max)
        return false;
    if (layout->cell_count != (has_cells ? record_cells(layout->payload_bytes) : 0))
        return false;
    if (layout->bucket_name_bytes > META_BUCKET_NAME_BYTES_MAX ||
        layout->key_bytes > META_KEY_BYTES_MAX)
        return false;
    if (layout->data_shards == 0 || layout->data_shards > 16 || layout->parity_shards > 8 ||
        layout->slot >= layout->data_shards + layout->parity_shards)
        return false;
    if (layout->unit_bytes == 0 || layout->unit_bytes % RECORD_ALIGN_BYTES != 0)
        return false;
    return layout->block_bytes <= META_BLOCK_BYTES_MAX && layout->offset % RECORD_ALIGN_BYTES == 0;
}

static void unpack(const struct record_layout *layout, const uint8_t *tail, struct record *out)
{
    out->kind = (enum record_kind)layout->kind;
    out->block = (struct block_id){layout->volume, layout->sequence};
    out->slot = layout->slot;
    out->data_shards = layout->data_shards;
    out->parity_shards = layout->parity_shards;
    out->unit_bytes = layout->unit_bytes;
    out->generation = layout->generation;
    out->epoch = layout->epoch;
    out->incarnation = layout->incarnation;
    out->offset = layout->offset;
    out->durable_offset = layout->durable_offset;
    out->payload_bytes = layout->payload_bytes;
    out->block_bytes = layout->block_bytes;
    memcpy(out->payload_hash.bytes, layout->payload_hash, 16);
    out->cell_count = layout->cell_count;
    memcpy(out->cell_crcs, tail, 4 * layout->cell_count);
    tail += 4 * layout->cell_count;
    out->hint = (struct block_hint){
        .bucket_id = layout->bucket_id,
        .bucket_name = slice_of(tail, layout->bucket_name_bytes),
        .key = slice_of(tail + layout->bucket_name_bytes, layout->key_bytes),
        .write_id = {layout->write_volume, layout->write_sequence},
        .ordinal = layout->ordinal,
        .upload_id = layout->upload_id,
        .part_number = layout->part_number,
    };
}

enum err record_decode(struct slice bytes, const struct segment_identity *identity,
                       enum record_role role, uint64_t offset, struct record *out)
{
    assert(bytes.bytes >= RECORD_HEADER_BYTES);
    struct record_layout layout;
    memcpy(&layout, bytes.data, sizeof layout);
    if (layout.magic != (role == RECORD_HEADER ? HEADER_MAGIC : FOOTER_MAGIC))
        return FAIL(ERR_CORRUPT, "record without magic");
    if (layout.bytes != bytes.bytes)
        return FAIL(ERR_CORRUPT, "record length says=%u given=%zu", layout.bytes, bytes.bytes);
    if (layout.crc != layout_crc(bytes))
        return FAIL(ERR_CORRUPT, "record header crc");
    if (memcmp(layout.nonce, identity->nonce, 16) != 0 || layout.segment != identity->segment ||
        memcmp(layout.cluster_id, identity->cluster_id, 16) != 0 ||
        memcmp(layout.drive_id, identity->drive.bytes, 16) != 0)
        return FAIL(ERR_MISMATCH, "record of another segment=%" PRIu64, layout.segment);
    if (offset != UINT64_MAX && layout.offset != offset)
        return FAIL(ERR_MISMATCH, "record for offset=%" PRIu64 " found at=%" PRIu64, layout.offset,
                    offset);
    if (layout.version != RECORD_VERSION)
        return FAIL(ERR_UNSUPPORTED, "record version=%u", layout.version);
    if (!is_possible(&layout, role))
        return FAIL(ERR_CORRUPT, "record with impossible fields");
    size_t used =
        sizeof layout + 4 * layout.cell_count + layout.bucket_name_bytes + layout.key_bytes;
    if (used > bytes.bytes)
        return FAIL(ERR_CORRUPT, "record fields beyond its end");
    unpack(&layout, bytes.data + sizeof layout, out);
    return OK;
}

bool record_cell_matches(const uint32_t *cell_crcs, uint32_t payload_bytes, uint32_t index,
                         struct slice cell)
{
    return cell.bytes == record_cell_bytes(payload_bytes, index) &&
           crc32c_update(0, cell) == cell_crcs[index];
}
