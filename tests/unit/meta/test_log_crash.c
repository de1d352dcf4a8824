/* Every state in which a crash can leave a log, and damage that no crash leaves (RELIABILITY.md
 * R8, C1.4 T1 to T3). */
#include "base/mem.h"
#include "log_scan.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum {
    SEGMENT_BYTES = 24 * LOG_BLOCK_BYTES,
    SEGMENTS_MAX = 8,
    BATCHES_MAX = 64,
    UNSYNCED_BLOCKS_MAX = 12,
    GROUP = 7,
};
static const uint8_t log_id[LOG_ID_BYTES] = "crash test log";

struct image {
    uint8_t *data[SEGMENTS_MAX];
    struct log_scan_segment segments[SEGMENTS_MAX];
    uint32_t count;
};

/* What a batch was, and what the log was after it. */
struct written {
    uint32_t segment;
    uint32_t offset;
    uint32_t block_count;
    uint64_t sequence;
    uint64_t last_index;
    uint64_t chain;
    uint8_t *blocks;
};

struct writer {
    struct log_state state;
    struct image image; /* everything written in full */
    struct written batches[BATCHES_MAX];
    uint32_t batch_count;
    uint64_t durable_sequence;
    uint64_t random;
};

static uint64_t draw(uint64_t *random, uint64_t bound)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*random >> 33) % bound;
}

static void image_add(struct image *image, uint64_t number)
{
    assert_true(image->count < SEGMENTS_MAX);
    image->segments[image->count] =
        (struct log_scan_segment){.number = number, .bytes = SEGMENT_BYTES};
    image->data[image->count] = mem_alloc(SEGMENT_BYTES);
    log_header_encode(image->data[image->count++], log_id, number);
}

static void image_deinit(struct image *image)
{
    for (uint32_t i = 0; i < image->count; i++)
        mem_free(image->data[i]);
}

static struct image image_copy(const struct image *from)
{
    struct image copy = *from;
    for (uint32_t i = 0; i < from->count; i++)
        copy.data[i] = mem_copy(from->data[i], SEGMENT_BYTES);
    return copy;
}

static void writer_init(struct writer *writer, uint64_t seed)
{
    *writer = (struct writer){.random = seed};
    image_add(&writer->image, 1);
    image_add(&writer->image, 2);
    image_add(&writer->image, 3);
}

static void writer_deinit(struct writer *writer)
{
    for (uint32_t i = 0; i < writer->batch_count; i++)
        mem_free(writer->batches[i].blocks);
    log_state_deinit(&writer->state);
    image_deinit(&writer->image);
}

static uint32_t writer_segment(const struct writer *writer)
{
    return writer->batch_count == 0 ? 0 : writer->batches[writer->batch_count - 1].segment;
}

/* Records for about `payload_bytes`: entries, now and then a hard state and a truncation. */
static void make_records(struct writer *writer, size_t payload_bytes, struct bytes *stream)
{
    const struct log_group *group = log_state_group(&writer->state, GROUP);
    uint64_t index = group == NULL ? 0 : group->last_index;
    uint64_t term = group == NULL ? 1 : group->hard_state.term;
    uint8_t eight[16] = {0};
    if (group == NULL) {
        AUTO_VALUE(bytes) membership = {.max = 4096};
        raft_membership_encode(&membership,
                               &(struct raft_membership){.voters = {1}, .voter_count = 1});
        log_record_encode(stream, &(struct log_record){.type = LOG_RECORD_GROUP,
                                                       .group = GROUP,
                                                       .bytes = slice_of(eight, 8)});
        log_record_encode(stream, &(struct log_record){.type = LOG_RECORD_MEMBERSHIP,
                                                       .group = GROUP,
                                                       .bytes = bytes_slice(&membership)});
    }
    if (group == NULL || draw(&writer->random, 4) == 0)
        log_record_encode(stream, &(struct log_record){.type = LOG_RECORD_HARD_STATE,
                                                       .group = GROUP,
                                                       .term = term,
                                                       .bytes = slice_of(eight, 16)});
    if (index > 3 && draw(&writer->random, 5) == 0) {
        uint64_t before = 0;
        assert_int_equal(log_group_term(group, index - 2, &before), OK);
        log_record_encode(stream, &(struct log_record){.type = LOG_RECORD_TRUNCATE,
                                                       .group = GROUP,
                                                       .term = before,
                                                       .index = index - 1});
        index -= 2;
    }
    size_t end = stream->bytes + payload_bytes;
    do {
        uint8_t data[600];
        size_t bytes = 1 + draw(&writer->random, sizeof data);
        for (size_t i = 0; i < bytes; i++)
            data[i] = (uint8_t)draw(&writer->random, 3); /* many zeros */
        log_record_encode(stream, &(struct log_record){.type = LOG_RECORD_ENTRY,
                                                       .kind = RAFT_COMMAND,
                                                       .group = GROUP,
                                                       .term = term,
                                                       .index = ++index,
                                                       .bytes = slice_of(data, bytes)});
    } while (stream->bytes < end);
}

/* Write one batch of about `payload_bytes`; in the next segment when it does not fit or
 * `segment` says so. */
static void write_batch(struct writer *writer, size_t payload_bytes, uint32_t segment)
{
    AUTO_VALUE(bytes) stream = {.max = SEGMENT_BYTES};
    AUTO_VALUE(bytes) records = {.max = SEGMENT_BYTES};
    make_records(writer, payload_bytes, &records);
    uint64_t offset = writer->state.end;
    bool fresh = writer->state.segment_count == 0 || segment != writer_segment(writer);
    if (!fresh) {
        log_state_opening(&writer->state, false, &stream);
        uint64_t blocks = log_block_count(stream.bytes + records.bytes);
        fresh = offset + blocks * LOG_BLOCK_BYTES > SEGMENT_BYTES;
        segment += fresh;
        bytes_clear(&stream);
    }
    log_state_opening(&writer->state, fresh, &stream);
    bytes_append(&stream, bytes_slice(&records));
    offset = fresh ? LOG_HEADER_BYTES : offset;
    struct written *batch = &writer->batches[writer->batch_count++];
    uint32_t blocks = log_block_count(stream.bytes);
    assert_true(offset + blocks * LOG_BLOCK_BYTES <= SEGMENT_BYTES);
    batch->blocks = mem_alloc((size_t)blocks * LOG_BLOCK_BYTES);
    struct log_encoder encoder = {.blocks = batch->blocks, .block_count = blocks};
    struct log_place place = {.segment = writer->image.segments[segment].number, .offset = offset};
    memcpy(place.log_id, log_id, LOG_ID_BYTES);
    log_encoder_put(&encoder, bytes_slice(&stream));
    uint64_t sequence = writer->state.sequence + 1;
    log_encoder_finish(&encoder, &place, sequence, writer->durable_sequence);
    struct log_batch taken = {.sequence = sequence,
                              .segment = place.segment,
                              .offset = offset,
                              .block_count = blocks,
                              .stream = bytes_slice(&stream)};
    assert_int_equal(log_state_batch(&writer->state, &taken), OK);
    const struct log_group *group = log_state_group(&writer->state, GROUP);
    batch->segment = segment;
    batch->offset = (uint32_t)offset;
    batch->block_count = blocks;
    batch->sequence = sequence;
    batch->last_index = group->last_index;
    batch->chain = group->chain;
}

static void copy_block(struct image *image, const struct written *batch, uint32_t block)
{
    memcpy(image->data[batch->segment] + batch->offset + (size_t)block * LOG_BLOCK_BYTES,
           batch->blocks + (size_t)block * LOG_BLOCK_BYTES, LOG_BLOCK_BYTES);
}

static void copy_sectors(struct image *image, const struct written *batch, uint32_t block,
                         unsigned mask)
{
    size_t at = (size_t)block * LOG_BLOCK_BYTES;
    for (unsigned i = 0; i < LOG_SECTORS; i++)
        if ((mask >> i & 1) != 0)
            memcpy(image->data[batch->segment] + batch->offset + at + i * LOG_SECTOR_BYTES,
                   batch->blocks + at + i * LOG_SECTOR_BYTES, LOG_SECTOR_BYTES);
}

static void copy_batches(struct image *image, const struct writer *writer, uint32_t from,
                         uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        for (uint32_t block = 0; block < writer->batches[i].block_count; block++)
            copy_block(image, &writer->batches[i], block);
}

/* --- scanning --- */

static enum err read_image(void *context, uint32_t index, uint64_t offset, size_t bytes,
                           uint8_t *out)
{
    const struct image *image = context;
    assert_true(offset + bytes <= SEGMENT_BYTES);
    memcpy(out, image->data[index] + offset, bytes);
    return OK;
}

static void scan_image(struct image *image, struct log_state *state, struct log_scan *scan)
{
    struct log_source source = {.segments = image->segments,
                                .segment_count = image->count,
                                .read = read_image,
                                .context = image};
    memcpy(source.log_id, log_id, LOG_ID_BYTES);
    assert_int_equal(log_scan(&source, state, scan), OK);
}

/* The log holds exactly the first `count` batches. */
static void check_holds(const struct log_state *state, const struct writer *writer, uint32_t count)
{
    if (count == 0) {
        assert_int_equal(state->sequence, 0);
        return;
    }
    const struct written *last = &writer->batches[count - 1];
    const struct log_group *group = log_state_group(state, GROUP);
    assert_int_equal(state->sequence, last->sequence);
    assert_int_equal(group->last_index, last->last_index);
    assert_int_equal(group->chain, last->chain);
}

static void check_image(struct image *image, const struct writer *writer, uint32_t whole)
{
    struct log_state state = {0};
    AUTO_VALUE(log_scan) scan = {0};
    scan_image(image, &state, &scan);
    if (scan.end == LOG_END_ROTTEN)
        fail_msg("taken for damage: %s", scan.reason);
    check_holds(&state, writer, whole);
    log_state_deinit(&state);
}

/* Batches from `acknowledged` on that are there in full, in order. */
static uint32_t whole_prefix(const struct image *image, const struct writer *writer, uint32_t from)
{
    uint32_t i = from;
    for (; i < writer->batch_count; i++) {
        const struct written *batch = &writer->batches[i];
        if (memcmp(image->data[batch->segment] + batch->offset, batch->blocks,
                   (size_t)batch->block_count * LOG_BLOCK_BYTES) != 0)
            break;
    }
    return i;
}

static void check_crash(const struct writer *writer, struct image *image, uint32_t acknowledged)
{
    uint32_t whole = whole_prefix(image, writer, acknowledged);
    assert_true(whole >= acknowledged);
    check_image(image, writer, whole);
}

/* Some acknowledged batches, then some in flight of at most UNSYNCED_BLOCKS_MAX blocks. */
static uint32_t make_trace(struct writer *writer)
{
    uint32_t acknowledged = (uint32_t)draw(&writer->random, 9);
    for (uint32_t i = 0; i < acknowledged; i++) {
        write_batch(writer, draw(&writer->random, 9000), writer_segment(writer));
        writer->durable_sequence = writer->state.sequence;
    }
    uint32_t blocks = 0;
    uint32_t flights = 1 + (uint32_t)draw(&writer->random, LOG_IN_FLIGHT_MAX);
    for (uint32_t i = 0; i < flights && blocks < UNSYNCED_BLOCKS_MAX - 4; i++) {
        write_batch(writer, draw(&writer->random, 3) == 0 ? draw(&writer->random, 9000) : 1,
                    writer_segment(writer));
        blocks += writer->batches[writer->batch_count - 1].block_count;
    }
    assert_true(blocks <= UNSYNCED_BLOCKS_MAX);
    return acknowledged;
}

struct unsynced {
    const struct written *batch;
    uint32_t block;
};

static uint32_t list_unsynced(const struct writer *writer, uint32_t from,
                              struct unsynced out[UNSYNCED_BLOCKS_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = from; i < writer->batch_count; i++)
        for (uint32_t block = 0; block < writer->batches[i].block_count; block++)
            out[count++] = (struct unsynced){.batch = &writer->batches[i], .block = block};
    return count;
}

static void every_subset_of_unsynced_blocks_recovers_the_acknowledged_prefix(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct writer writer;
        writer_init(&writer, seed);
        uint32_t acknowledged = make_trace(&writer);
        struct unsynced unsynced[UNSYNCED_BLOCKS_MAX];
        uint32_t count = list_unsynced(&writer, acknowledged, unsynced);
        struct image image = image_copy(&writer.image);
        copy_batches(&image, &writer, 0, acknowledged);
        /* Gray code: each state differs from the one before in one block. */
        for (uint32_t i = 0; i < 1u << count; i++) {
            if (i > 0) {
                uint32_t bit = (uint32_t)__builtin_ctz(i);
                const struct unsynced *one = &unsynced[bit];
                bool on = ((i ^ i >> 1) >> bit & 1) != 0;
                if (on)
                    copy_block(&image, one->batch, one->block);
                else
                    memset(image.data[one->batch->segment] + one->batch->offset +
                               (size_t)one->block * LOG_BLOCK_BYTES,
                           0, LOG_BLOCK_BYTES);
            }
            check_crash(&writer, &image, acknowledged);
        }
        image_deinit(&image);
        writer_deinit(&writer);
    }
}

/* --- sectors, and lives after a crash --- */

static void tear(struct writer *writer, struct image *image, uint32_t acknowledged)
{
    struct unsynced unsynced[UNSYNCED_BLOCKS_MAX];
    uint32_t count = list_unsynced(writer, acknowledged, unsynced);
    for (uint32_t i = 0; i < count; i++) {
        unsigned mask = (unsigned)draw(&writer->random, 256);
        uint64_t kind = draw(&writer->random, 3);
        mask = kind == 0 ? 255 : kind == 1 ? 0 : mask;
        copy_sectors(image, unsynced[i].batch, unsynced[i].block, mask);
    }
}

static void any_tearing_of_sectors_recovers_the_acknowledged_prefix(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct writer writer;
        writer_init(&writer, seed);
        uint32_t acknowledged = make_trace(&writer);
        for (unsigned round = 0; round < 10; round++) {
            struct image image = image_copy(&writer.image);
            copy_batches(&image, &writer, 0, acknowledged);
            tear(&writer, &image, acknowledged);
            check_crash(&writer, &image, acknowledged);
            image_deinit(&image);
        }
        writer_deinit(&writer);
    }
}

/* Go on after recovery as log_files.c does: in a fresh segment, with what the crash left over
 * deleted or, when that deletion was not durable, still there. */
static void next_life(struct writer *writer, struct image *image, uint32_t whole)
{
    struct log_state state = {0};
    AUTO_VALUE(log_scan) scan = {0};
    scan_image(image, &state, &scan);
    for (uint32_t i = whole; i < writer->batch_count; i++)
        mem_free(writer->batches[i].blocks);
    writer->batch_count = whole;
    log_state_deinit(&writer->state);
    writer->state = state;
    writer->durable_sequence = state.sequence;
    uint32_t fresh = image->count;
    for (uint32_t i = image->count; i > 0 && scan.clean[i - 1]; i--)
        fresh = i - 1;
    if (fresh == image->count) {
        if (image->count == SEGMENTS_MAX)
            return;
        image_add(image, image->segments[image->count - 1].number + 1);
        image_add(&writer->image, image->segments[image->count - 1].number);
    }
    uint32_t count = 1 + (uint32_t)draw(&writer->random, 3);
    for (uint32_t i = 0; i < count; i++)
        write_batch(writer, draw(&writer->random, 5000), i == 0 ? fresh : writer_segment(writer));
}

static void crashes_while_recovering_from_crashes_lose_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 1500; seed++) {
        struct writer writer;
        writer_init(&writer, seed);
        uint32_t acknowledged = make_trace(&writer);
        struct image image = image_copy(&writer.image);
        copy_batches(&image, &writer, 0, acknowledged);
        for (unsigned life = 0; life < 3; life++) {
            tear(&writer, &image, acknowledged);
            uint32_t whole = whole_prefix(&image, &writer, acknowledged);
            check_image(&image, &writer, whole);
            if (image.count == SEGMENTS_MAX)
                break;
            next_life(&writer, &image, whole);
            /* Some of the new life's batches become durable, in order. */
            acknowledged = whole + (uint32_t)draw(&writer.random, writer.batch_count - whole + 1);
            copy_batches(&image, &writer, whole, acknowledged);
        }
        image_deinit(&image);
        writer_deinit(&writer);
    }
}

/* --- damage --- */

static void check_rotten(struct image *image, const struct writer *writer, const char *what)
{
    struct log_state state = {0};
    AUTO_VALUE(log_scan) scan = {0};
    scan_image(image, &state, &scan);
    if (scan.end != LOG_END_ROTTEN)
        fail_msg("%s was not noticed: batches=%" PRIu64 " of %u", what, state.sequence,
                 writer->batch_count);
    log_state_deinit(&state);
}

static void a_flipped_bit_in_acknowledged_data_is_never_silent(void **state)
{
    (void)state;
    struct writer writer;
    writer_init(&writer, 5);
    for (unsigned i = 0; i < 9; i++) {
        write_batch(&writer, i % 3 == 0 ? 9000 : 100, writer_segment(&writer));
        writer.durable_sequence = writer.state.sequence;
    }
    struct image image = image_copy(&writer.image);
    copy_batches(&image, &writer, 0, writer.batch_count);
    check_image(&image, &writer, writer.batch_count);
    for (uint32_t i = 0; i < writer.batch_count; i++) {
        const struct written *batch = &writer.batches[i];
        uint8_t *data = image.data[batch->segment] + batch->offset;
        size_t bits = (size_t)batch->block_count * LOG_BLOCK_BYTES * 8;
        for (size_t bit = draw(&writer.random, 97); bit < bits;
             bit += 1 + draw(&writer.random, 400)) {
            data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            check_rotten(&image, &writer, "a flipped bit");
            data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        /* Each marker bit of each sector: the ones that could make a sector look unwritten. */
        for (size_t sector = 1; sector <= batch->block_count * (size_t)LOG_SECTORS; sector++)
            for (unsigned bit = 0; bit < 16; bit++) {
                uint8_t *at = data + sector * LOG_SECTOR_BYTES - 2 + bit / 8;
                *at ^= (uint8_t)(1 << bit % 8);
                check_rotten(&image, &writer, "a flipped marker");
                *at ^= (uint8_t)(1 << bit % 8);
            }
    }
    image_deinit(&image);
    writer_deinit(&writer);
}

static void an_acknowledged_batch_that_is_gone_is_noticed_by_the_next(void **state)
{
    (void)state;
    struct writer writer;
    writer_init(&writer, 6);
    for (unsigned i = 0; i < 12; i++) {
        write_batch(&writer, 100 + 3000 * (i % 3), writer_segment(&writer));
        writer.durable_sequence = writer.state.sequence;
    }
    for (uint32_t i = 0; i + 1 < writer.batch_count; i++) {
        const struct written *batch = &writer.batches[i];
        struct image image = image_copy(&writer.image);
        copy_batches(&image, &writer, 0, writer.batch_count);
        memset(image.data[batch->segment] + batch->offset, 0,
               (size_t)batch->block_count * LOG_BLOCK_BYTES);
        check_rotten(&image, &writer, "a lost batch");
        image_deinit(&image);
    }
    writer_deinit(&writer);
}

static void a_block_of_another_place_or_log_is_not_valid(void **state)
{
    (void)state;
    struct writer writer;
    writer_init(&writer, 7);
    write_batch(&writer, 1, 0);
    struct log_place place = {.segment = 1, .offset = LOG_HEADER_BYTES};
    memcpy(place.log_id, log_id, LOG_ID_BYTES);
    struct log_stamp stamp;
    const uint8_t *block = writer.batches[0].blocks;
    assert_int_equal(log_block_classify(block, &place, 1, &stamp), LOG_BLOCK_VALID);
    place.offset += LOG_BLOCK_BYTES;
    assert_int_equal(log_block_classify(block, &place, 1, &stamp), LOG_BLOCK_ROTTEN);
    place.offset = LOG_HEADER_BYTES;
    place.segment = 2;
    assert_int_equal(log_block_classify(block, &place, 1, &stamp), LOG_BLOCK_ROTTEN);
    place.segment = 1;
    place.log_id[0] ^= 1;
    assert_int_equal(log_block_classify(block, &place, 1, &stamp), LOG_BLOCK_ROTTEN);
    writer_deinit(&writer);
}

static void records_and_streams_come_back_as_they_were(void **state)
{
    (void)state;
    uint64_t random = 3;
    for (unsigned round = 0; round < 200; round++) {
        AUTO_VALUE(bytes) stream = {.max = 1 << 20};
        AUTO_VALUE(bytes) back = {.max = 1 << 20};
        size_t bytes = 1 + draw(&random, 40000);
        for (size_t i = 0; i < bytes; i++)
            bytes_append_byte(&stream, (uint8_t)draw(&random, 256));
        uint32_t count = log_block_count(bytes);
        uint8_t *blocks = mem_alloc((size_t)count * LOG_BLOCK_BYTES);
        struct log_encoder encoder = {.blocks = blocks, .block_count = count};
        struct log_place place = {.segment = 9, .offset = 4096};
        log_encoder_put(&encoder, slice_first(bytes_slice(&stream), bytes / 3));
        log_encoder_put(&encoder, slice_skip(bytes_slice(&stream), bytes / 3));
        log_encoder_finish(&encoder, &place, 5, 4);
        for (uint32_t i = 0; i < count; i++) {
            struct log_stamp stamp;
            const uint8_t *block = blocks + (size_t)i * LOG_BLOCK_BYTES;
            assert_int_equal(log_block_classify(block, &place, 5, &stamp), LOG_BLOCK_VALID);
            assert_int_equal(stamp.block, i);
            assert_int_equal(stamp.block_count, count);
            log_block_payload(block, &stamp, &back);
            place.offset += LOG_BLOCK_BYTES;
        }
        assert_true(slice_equal(bytes_slice(&stream), bytes_slice(&back)));
        mem_free(blocks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_and_streams_come_back_as_they_were),
        cmocka_unit_test(a_block_of_another_place_or_log_is_not_valid),
        cmocka_unit_test(every_subset_of_unsynced_blocks_recovers_the_acknowledged_prefix),
        cmocka_unit_test(any_tearing_of_sectors_recovers_the_acknowledged_prefix),
        cmocka_unit_test(crashes_while_recovering_from_crashes_lose_nothing),
        cmocka_unit_test(a_flipped_bit_in_acknowledged_data_is_never_silent),
        cmocka_unit_test(an_acknowledged_batch_that_is_gone_is_noticed_by_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
