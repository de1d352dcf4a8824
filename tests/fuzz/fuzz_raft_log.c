/* Recovery of the Raft log from arbitrary bytes. The first byte picks how they become segments:
 *
 *     even   the rest is the segment behind its header, as it is
 *     odd    the rest is a list of streams (length u16, bytes), each made a batch with valid
 *            blocks and records whose checksums are right, so that what they say is reached
 *
 * Whatever is recovered must be consistent enough for raft to take or refuse it. */
#include "base/crc.h"
#include "base/encode.h"
#include "base/mem.h"
#include "log_scan.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { SEGMENT_BYTES = 64 * LOG_BLOCK_BYTES, SEGMENTS = 2, STREAM_BYTES_MAX = 8000 };
static const uint8_t log_id[LOG_ID_BYTES] = "fuzz";

struct image {
    uint8_t *data[SEGMENTS];
};

static enum err read_image(void *context, uint32_t index, uint64_t offset, size_t bytes,
                           uint8_t *out)
{
    const struct image *image = context;
    assert(offset + bytes <= SEGMENT_BYTES);
    memcpy(out, image->data[index] + offset, bytes);
    return OK;
}

/* Where a record's header is, make its checksum right. */
static void fix_records(uint8_t *stream, size_t bytes)
{
    enum { CRC_AT = LOG_RECORD_HEADER_BYTES - 4 };
    for (size_t at = 0; bytes - at >= LOG_RECORD_HEADER_BYTES;) {
        size_t length = load_u32(stream + at) % 512;
        if (length > bytes - at - LOG_RECORD_HEADER_BYTES)
            length = bytes - at - LOG_RECORD_HEADER_BYTES;
        store_u32(stream + at, (uint32_t)length);
        uint32_t crc = crc32c_update(0, slice_of(stream + at, CRC_AT));
        crc = crc32c_update(crc, slice_of(stream + at + LOG_RECORD_HEADER_BYTES, length));
        store_u32(stream + at + CRC_AT, crc);
        at += LOG_RECORD_HEADER_BYTES + length;
    }
}

static void make_batches(struct image *image, struct slice input)
{
    uint64_t offset = LOG_HEADER_BYTES;
    uint32_t segment = 0;
    for (uint64_t sequence = 1; input.bytes > 2; sequence++) {
        size_t want = load_u16(input.data);
        struct slice stream = slice_first(slice_skip(input, 2), want % STREAM_BYTES_MAX);
        input = slice_skip(input, 2 + stream.bytes);
        if (stream.bytes == 0)
            continue;
        uint8_t *copy = mem_copy(stream.data, stream.bytes);
        fix_records(copy, stream.bytes);
        uint32_t count = log_block_count(stream.bytes);
        if (segment == 0 && (want / STREAM_BYTES_MAX) % 2 == 1) {
            segment = 1;
            offset = LOG_HEADER_BYTES;
        }
        if (offset + (uint64_t)count * LOG_BLOCK_BYTES <= SEGMENT_BYTES) {
            struct log_encoder encoder = {.blocks = image->data[segment] + offset,
                                          .block_count = count};
            struct log_place place = {.segment = segment + 1, .offset = offset};
            memcpy(place.log_id, log_id, LOG_ID_BYTES);
            log_encoder_put(&encoder, slice_of(copy, stream.bytes));
            log_encoder_finish(&encoder, &place, sequence, 0);
            offset += (uint64_t)count * LOG_BLOCK_BYTES;
        }
        mem_free(copy);
    }
}

static void check_group(const struct log_group *group)
{
    assert(group->last_index >= group->compacted_index);
    assert((group->span_count == 0) == (group->last_index == group->compacted_index));
    for (uint64_t index = group->compacted_index;; index++) {
        uint64_t term = 0;
        uint64_t next = 0;
        enum err err = log_group_term(group, index, &term);
        assert(err == OK);
        if (index > group->compacted_index)
            assert(log_group_span(group, index, &next) != NULL && next > index);
        if (index == group->last_index)
            break;
    }
    struct raft_config config = {
        .replica = 1,
        .group = group->id,
        .hard_state = group->hard_state,
        .log = {.compacted_index = group->compacted_index,
                .last_index = group->last_index,
                .compacted_term = group->compacted_term,
                .runs = group->runs,
                .run_count = group->run_count},
        .applied_index = group->compacted_index,
        .memberships = group->memberships,
        .membership_count = group->membership_count,
    };
    AUTO(raft) raft = NULL;
    (void)raft_new(&config, &raft); /* it may refuse: a hard state may be missing */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0)
        return 0;
    struct image image;
    struct log_scan_segment segments[SEGMENTS];
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        image.data[i] = mem_alloc(SEGMENT_BYTES);
        log_header_encode(image.data[i], log_id, i + 1);
        segments[i] = (struct log_scan_segment){.number = i + 1, .bytes = SEGMENT_BYTES};
    }
    struct slice rest = slice_of(data + 1, bytes - 1);
    if (data[0] % 2 == 1) {
        make_batches(&image, rest);
    } else if (rest.bytes > 0) {
        size_t count = SEGMENT_BYTES - LOG_HEADER_BYTES;
        memcpy(image.data[0] + LOG_HEADER_BYTES, rest.data,
               count < rest.bytes ? count : rest.bytes);
    }
    struct log_source source = {
        .segments = segments, .segment_count = SEGMENTS, .read = read_image, .context = &image};
    memcpy(source.log_id, log_id, LOG_ID_BYTES);
    struct log_state state = {0};
    AUTO_VALUE(log_scan) scan = {0};
    if (log_scan(&source, &state, &scan) == OK && scan.end != LOG_END_ROTTEN)
        for (uint32_t i = 0; i < state.group_count; i++)
            check_group(state.groups[i]);
    log_state_deinit(&state);
    for (uint32_t i = 0; i < SEGMENTS; i++)
        mem_free(image.data[i]);
    return 0;
}
