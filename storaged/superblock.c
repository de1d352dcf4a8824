/* Copies of a superblock: docs/formats.md#superblock. */
#include "superblock.h"

#include "base/crc.h"
#include "erasure/codec.h"
#include <assert.h>
#include <stddef.h>

#define SUPERBLOCK_MAGIC UINT64_C(0x5055534c41485300)
enum { SUPERBLOCK_VERSION = 1, FLAG_MOUNT_POINT = 1, FLAG_LOST = 2, FLAG_VACATED = 4 };

struct superblock_layout {
    uint64_t magic;
    uint32_t crc; /* CRC32C of the whole copy with this field zero */
    uint32_t version;
    uint8_t cluster_id[16];
    uint8_t drive_id[16];
    uint64_t node_id;
    uint64_t reserved;
    uint64_t incarnation;
    uint64_t mount_counter;
    uint64_t segment_bytes;
    uint64_t formatted_ms;
    uint32_t block_bytes_max;
    uint32_t reserved_flags;
    uint32_t drive_count;
    uint32_t parity_floor;
    uint64_t table_version;
};
static_assert(sizeof(struct superblock_layout) == 120);
static_assert(offsetof(struct superblock_layout, node_id) == 48);

/* drive_count of these follow. */
struct drive_layout {
    uint8_t id[16];
    uint32_t flags;
    uint32_t path_bytes;
    uint64_t mount_counter;
    uint8_t path[IO_PATH_BYTES_MAX];
};
static_assert(sizeof(struct drive_layout) == 1056);
static_assert(sizeof(struct superblock_layout) + STORAGE_DRIVES_MAX * sizeof(struct drive_layout) <=
              SUPERBLOCK_COPY_BYTES);

void superblock_encode(const struct superblock *superblock, uint8_t *out)
{
    assert(superblock->drive_count > 0);
    assert(superblock->drive_count <= STORAGE_DRIVES_MAX);
    struct superblock_layout layout = {
        .magic = SUPERBLOCK_MAGIC,
        .version = SUPERBLOCK_VERSION,
        .node_id = superblock->node.node_id,
        .incarnation = superblock->incarnation,
        .mount_counter = superblock->mount_counter,
        .segment_bytes = superblock->segment_bytes,
        .formatted_ms = superblock->formatted_ms,
        .block_bytes_max = superblock->block_bytes_max,
        .drive_count = superblock->drive_count,
        .parity_floor = superblock->parity_floor,
        .table_version = superblock->table_version,
    };
    memcpy(layout.cluster_id, superblock->node.cluster_id, 16);
    memcpy(layout.drive_id, superblock->drive.bytes, 16);
    memset(out, 0, SUPERBLOCK_COPY_BYTES);
    for (uint32_t i = 0; i < superblock->drive_count; i++) {
        const struct superblock_drive *drive = &superblock->drives[i];
        struct drive_layout entry = {
            .flags = (drive->was_mount_point ? FLAG_MOUNT_POINT : 0u) |
                     (drive->lost ? FLAG_LOST : 0u) | (drive->vacated ? FLAG_VACATED : 0u),
            .mount_counter = drive->mount_counter,
            .path_bytes = (uint32_t)strnlen(drive->path, IO_PATH_BYTES_MAX - 1),
        };
        memcpy(entry.id, drive->id.bytes, 16);
        memcpy(entry.path, drive->path, entry.path_bytes);
        memcpy(out + sizeof layout + i * sizeof entry, &entry, sizeof entry);
    }
    memcpy(out, &layout, sizeof layout);
    layout.crc = crc32c_update(0, slice_of(out, SUPERBLOCK_COPY_BYTES));
    memcpy(out, &layout, sizeof layout);
}

static bool copy_is_whole(const uint8_t *copy, struct superblock_layout *out)
{
    static const uint8_t zeros[4];
    memcpy(out, copy, sizeof *out);
    struct slice bytes = slice_of(copy, SUPERBLOCK_COPY_BYTES);
    size_t at = offsetof(struct superblock_layout, crc);
    uint32_t crc = crc32c_update(0, slice_first(bytes, at));
    crc = crc32c_update(crc, slice_of(zeros, sizeof zeros));
    crc = crc32c_update(crc, slice_skip(bytes, at + sizeof zeros));
    return out->magic == SUPERBLOCK_MAGIC && out->crc == crc;
}

static enum err unpack(const struct superblock_layout *layout, const uint8_t *copy,
                       struct superblock *out)
{
    if (layout->version != SUPERBLOCK_VERSION)
        return FAIL(ERR_UNSUPPORTED, "superblock version=%u", layout->version);
    if (layout->drive_count == 0 || layout->drive_count > STORAGE_DRIVES_MAX)
        return FAIL(ERR_CORRUPT, "superblock drive_count=%u", layout->drive_count);
    if (layout->parity_floor > CODEC_PARITY_SHARDS_MAX)
        return FAIL(ERR_CORRUPT, "superblock parity_floor=%u", layout->parity_floor);
    *out = (struct superblock){
        .node = {.node_id = layout->node_id},
        .incarnation = layout->incarnation,
        .mount_counter = layout->mount_counter,
        .segment_bytes = layout->segment_bytes,
        .block_bytes_max = layout->block_bytes_max,
        .formatted_ms = layout->formatted_ms,
        .table_version = layout->table_version,
        .parity_floor = (uint8_t)layout->parity_floor,
        .drive_count = layout->drive_count,
    };
    memcpy(out->node.cluster_id, layout->cluster_id, 16);
    memcpy(out->drive.bytes, layout->drive_id, 16);
    for (uint32_t i = 0; i < layout->drive_count; i++) {
        struct drive_layout entry;
        memcpy(&entry, copy + sizeof *layout + i * sizeof entry, sizeof entry);
        if (entry.path_bytes >= IO_PATH_BYTES_MAX)
            return FAIL(ERR_CORRUPT, "superblock path_bytes=%u", entry.path_bytes);
        memcpy(out->drives[i].id.bytes, entry.id, 16);
        out->drives[i].was_mount_point = (entry.flags & FLAG_MOUNT_POINT) != 0;
        out->drives[i].lost = (entry.flags & FLAG_LOST) != 0;
        out->drives[i].vacated = (entry.flags & FLAG_VACATED) != 0;
        out->drives[i].mount_counter = entry.mount_counter;
        memcpy(out->drives[i].path, entry.path, entry.path_bytes);
    }
    return OK;
}

static bool is_newer(const struct superblock_layout *a, const struct superblock_layout *b)
{
    return a->mount_counter != b->mount_counter ? a->mount_counter > b->mount_counter
                                                : a->table_version > b->table_version;
}

enum err superblock_decode(struct slice file, struct superblock *out)
{
    struct superblock_layout best = {.magic = 0};
    const uint8_t *best_copy = NULL;
    for (size_t at = 0; at + SUPERBLOCK_COPY_BYTES <= file.bytes && at < SUPERBLOCK_BYTES;
         at += SUPERBLOCK_COPY_BYTES) {
        struct superblock_layout layout;
        if (copy_is_whole(file.data + at, &layout) &&
            (best_copy == NULL || is_newer(&layout, &best))) {
            best = layout;
            best_copy = file.data + at;
        }
    }
    if (best_copy == NULL)
        return FAIL(ERR_CORRUPT, "superblock: no whole copy in %zu bytes", file.bytes);
    return unpack(&best, best_copy, out);
}

uint64_t superblock_segment_bytes(uint64_t drive_bytes)
{
    const uint64_t mib = UINT64_C(1) << 20;
    uint64_t bytes = drive_bytes / 32;
    if (bytes < 128 * mib)
        bytes = 128 * mib;
    if (bytes > 1024 * mib)
        bytes = 1024 * mib;
    return bytes / mib * mib;
}
