/* Drives made of records, byte by byte as docs/formats.md says, without the code that serves: for
 * the tools that read what others wrote. Slot i of every block is on drive i. */
#pragma once
#include "base/crc.h"
#include "base/log.h"
#include "base/mem.h"
#include "erasure/geometry.h"
#include "runtime/sim.h"
#include "segment.h"
#include "superblock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* cmocka leaves a failed test by longjmp, which does not work from a fiber. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { SET_VOLUME = 5, SET_ENTRIES_MAX = 64, SET_PATH_BYTES = 64 };

struct record_set {
    struct io *io;
    uint32_t count; /* drives: data and parity shards */
    struct geometry geometry;
    char directories[META_SHARDS_MAX][SET_PATH_BYTES];
    const char *paths[META_SHARDS_MAX];
    struct segment_identity identities[META_SHARDS_MAX];
    struct file *files[META_SHARDS_MAX];
    uint64_t ends[META_SHARDS_MAX];
    struct segment_entry entries[META_SHARDS_MAX][SET_ENTRIES_MAX];
    uint32_t entry_counts[META_SHARDS_MAX];
};

static inline void set_write(struct record_set *set, struct file *file, const void *data,
                             size_t bytes, uint64_t offset)
{
    size_t whole = (size_t)record_align(bytes);
    AUTO(buf) buf = buf_new(whole);
    memset(buf->data, 0, whole);
    memcpy(buf->data, data, bytes);
    for (size_t at = 0; at < whole; at += IO_TRANSFER_BYTES_MAX) {
        struct io_part part = {.buf = buf, .offset = at, .bytes = whole - at};
        if (part.bytes > IO_TRANSFER_BYTES_MAX)
            part.bytes = IO_TRANSFER_BYTES_MAX;
        CHECK(io_write(set->io, file, &part, 1, offset + at, 0) == OK);
    }
}

static inline void set_make_superblock(struct record_set *set, uint32_t drive)
{
    struct superblock *superblock = mem_new(struct superblock);
    AUTO_STRING path = mem_format("%s/superblock", set->directories[drive]);
    AUTO(file) file = NULL;
    AUTO(buf) copy = buf_new(SUPERBLOCK_COPY_BYTES);
    superblock->node = (struct storage_identity){.node_id = 7};
    memcpy(superblock->node.cluster_id, set->identities[drive].cluster_id, 16);
    superblock->drive = set->identities[drive].drive;
    superblock->drive_count = set->count;
    for (uint32_t i = 0; i < set->count; i++) {
        superblock->drives[i].id = set->identities[i].drive;
        snprintf(superblock->drives[i].path, IO_PATH_BYTES_MAX, "%s", set->directories[i]);
    }
    superblock_encode(superblock, copy->data);
    CHECK(io_open(set->io, path, FILE_WRITE | FILE_CREATE, &file) == OK);
    for (uint64_t i = 0; i < SUPERBLOCK_COPIES; i++)
        set_write(set, file, copy->data, SUPERBLOCK_COPY_BYTES, i * SUPERBLOCK_COPY_BYTES);
    mem_free(superblock);
}

static inline void set_make_segment(struct record_set *set, uint32_t drive)
{
    AUTO_STRING folder = mem_format("%s/segments", set->directories[drive]);
    AUTO_STRING path = mem_format("%s/%016x.seg", folder, 1);
    struct segment_header header = {
        .identity = set->identities[drive], .kind = SEGMENT_STREAMED, .created_ms = 1000};
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    CHECK(io_make_directory(set->io, folder) == OK);
    CHECK(io_open(set->io, path, FILE_WRITE | FILE_CREATE, &set->files[drive]) == OK);
    segment_header_encode(&header, bytes);
    set_write(set, set->files[drive], bytes, sizeof bytes, 0);
    set->ends[drive] = SEGMENT_HEADER_BYTES;
}

static inline struct record_set *set_new(struct io *io, uint8_t data_shards, uint8_t parity_shards)
{
    struct record_set *set = mem_new(struct record_set);
    set->io = io;
    set->count = data_shards + (uint32_t)parity_shards;
    set->geometry = (struct geometry){data_shards, parity_shards, 64 << 10};
    for (uint32_t i = 0; i < set->count; i++) {
        struct segment_identity *identity = &set->identities[i];
        snprintf(set->directories[i], SET_PATH_BYTES, "/drive-%u", i);
        set->paths[i] = set->directories[i];
        identity->segment = 1;
        memset(identity->cluster_id, 0x11, 16);
        memset(identity->drive.bytes, (int)(0x20 + i), 16);
        memset(identity->nonce, (int)(0x60 + i), 16);
    }
    for (uint32_t i = 0; i < set->count; i++) {
        CHECK(io_make_directory(io, set->directories[i]) == OK);
        set_make_superblock(set, i);
        set_make_segment(set, i);
    }
    return set;
}

static inline void set_free(struct record_set *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        file_close(set->files[i]);
    mem_free(set);
}

/* One record at the end of a drive's segment. */
static inline void set_put_record(struct record_set *set, uint32_t drive, struct record *record,
                                  struct slice payload)
{
    uint8_t head[RECORD_FOOTER_BYTES_MAX];
    struct file *file = set->files[drive];
    uint64_t offset = set->ends[drive];
    uint64_t durable_offset = offset; /* written one after the other */
    record->slot = (uint8_t)drive;
    record->offset = offset;
    record->durable_offset = durable_offset;
    record->payload_bytes = (uint32_t)payload.bytes;
    record->payload_hash = hash128_of(payload);
    record->kind = payload.bytes > (256 << 10) ? RECORD_STREAMED : RECORD_ONE_SHOT;
    uint64_t bytes = record_total_bytes(record->kind, record->payload_bytes, &record->hint);
    if (record->kind == RECORD_STREAMED) {
        struct record *begun = mem_new(struct record);
        *begun = *record;
        begun->payload_hash = (struct hash128){{0}};
        begun->block_bytes = 0;
        begun->cell_count = 0;
        record_encode(begun, &set->identities[drive], RECORD_HEADER, head);
        set_write(set, file, head, RECORD_HEADER_BYTES, offset);
        mem_free(begun);
    }
    record->cell_count = record_cells(record->payload_bytes);
    for (uint32_t i = 0; i < record->cell_count; i++)
        record->cell_crcs[i] =
            crc32c_update(0, slice_of(payload.data + (size_t)i * RECORD_CELL_BYTES,
                                      record_cell_bytes(record->payload_bytes, i)));
    bool streamed = record->kind == RECORD_STREAMED;
    record_encode(record, &set->identities[drive], streamed ? RECORD_FOOTER : RECORD_HEADER, head);
    uint64_t footer = offset + RECORD_HEADER_BYTES + record_align(payload.bytes);
    set_write(set, file, head,
              streamed ? record_footer_bytes(record->payload_bytes, &record->hint)
                       : RECORD_HEADER_BYTES,
              streamed ? footer : offset);
    if (payload.bytes > 0)
        set_write(set, file, payload.data, payload.bytes, offset + RECORD_HEADER_BYTES);
    CHECK(set->entry_counts[drive] < SET_ENTRIES_MAX);
    set->entries[drive][set->entry_counts[drive]++] = (struct segment_entry){
        .block = record->block, .offset = offset, .bytes = bytes, .slot = record->slot};
    set->ends[drive] = offset + bytes;
}

/* Contents of a block, told by its sequence. */
static inline struct buf *set_content(uint64_t sequence, uint32_t bytes)
{
    struct buf *buf = buf_new(bytes);
    uint64_t state = sequence * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (uint32_t i = 0; i < bytes; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        buf->data[i] = (uint8_t)state;
    }
    return buf;
}

/* Write block `sequence` to all drives but those of `skip`. */
static inline struct block_ref set_put_block(struct record_set *set, uint64_t sequence,
                                             uint32_t bytes, uint32_t skip,
                                             const struct block_hint *hint)
{
    struct geometry geometry = set->geometry;
    AUTO(buf) content = set_content(sequence, bytes);
    AUTO(codec) codec = NULL;
    uint8_t *shards[META_SHARDS_MAX];
    CHECK(codec_new(geometry.data_shards, geometry.parity_shards, &codec) == OK);
    for (uint32_t slot = 0; slot < set->count; slot++)
        shards[slot] = mem_alloc(geometry_shard_bytes(geometry, bytes, slot) + (size_t)1);
    const uint8_t *at = content->data;
    for (uint32_t stripe = 0; stripe < geometry_stripe_count(geometry, bytes); stripe++) {
        struct slice data[CODEC_DATA_SHARDS_MAX];
        struct codec_output parity[CODEC_PARITY_SHARDS_MAX];
        size_t from = (size_t)stripe * geometry.unit_bytes;
        for (uint32_t slot = 0; slot < set->count; slot++) {
            uint32_t unit = geometry_unit_bytes(geometry, bytes, stripe, slot);
            if (slot >= geometry.data_shards) {
                parity[slot - geometry.data_shards] =
                    (struct codec_output){shards[slot] + from, unit};
                continue;
            }
            data[slot] = slice_of(at, unit);
            memcpy(shards[slot] + from, at, unit);
            at += unit;
        }
        if (geometry.parity_shards > 0)
            codec_encode(codec, data, parity);
    }
    struct record *record = mem_new(struct record);
    for (uint32_t slot = 0; slot < set->count; slot++) {
        *record = (struct record){.block = {SET_VOLUME, sequence},
                                  .data_shards = geometry.data_shards,
                                  .parity_shards = geometry.parity_shards,
                                  .unit_bytes = geometry.unit_bytes,
                                  .block_bytes = bytes,
                                  .hint = *hint};
        if ((skip >> slot & 1) == 0)
            set_put_record(set, slot, record,
                           slice_of(shards[slot], geometry_shard_bytes(geometry, bytes, slot)));
        mem_free(shards[slot]);
    }
    mem_free(record);
    return (struct block_ref){.id = {SET_VOLUME, sequence},
                              .hash = hash128_of(slice_of(content->data, bytes)),
                              .bytes = bytes};
}

/* Write the trailer of a drive's segment. */
static inline void set_seal(struct record_set *set, uint32_t drive)
{
    AUTO_VALUE(bytes) trailer = {.max = 1 << 20};
    segment_trailer_encode(&set->identities[drive], set->ends[drive], set->entries[drive],
                           set->entry_counts[drive], &trailer);
    set_write(set, set->files[drive], trailer.data, trailer.bytes, set->ends[drive]);
}

/* Change one byte of a drive's segment. */
static inline void set_flip(struct record_set *set, uint32_t drive, uint64_t offset)
{
    AUTO(buf) buf = buf_new(RECORD_ALIGN_BYTES);
    uint64_t from = offset / RECORD_ALIGN_BYTES * RECORD_ALIGN_BYTES;
    size_t got = 0;
    CHECK(io_read(set->io, set->files[drive], buf, 0, RECORD_ALIGN_BYTES, from, &got) == OK);
    buf->data[offset - from] ^= 1;
    set_write(set, set->files[drive], buf->data, got, from);
}

/* --- a machine to run it on --- */

struct set_run {
    void (*body)(struct io *io, void *argument);
    void *argument;
    bool done;
};

static inline void set_run_fiber(struct io *io, void *argument)
{
    struct set_run *run = argument;
    run->body(io, run->argument);
    run->done = true;
}

static inline bool set_run_done(void *context)
{
    return ((struct set_run *)context)->done;
}

static inline void set_run_machine(struct sim *sim, struct sim_machine *machine,
                                   void (*body)(struct io *io, void *argument), void *argument)
{
    struct set_run run = {.body = body, .argument = argument};
    CHECK(sim_spawn(machine, 0, set_run_fiber, &run) == OK);
    CHECK(sim_run(sim, set_run_done, &run, sim_now_ns(sim) + 36000 * IO_NS_PER_S));
}
