/* Superblocks as bytes. */
#include "base/mem.h"
#include "superblock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct fixture {
    struct superblock in, out;
    uint8_t file[SUPERBLOCK_BYTES];
};

static struct fixture *fixture_new(void)
{
    struct fixture *f = mem_new(struct fixture);
    f->in = (struct superblock){.node = {.cluster_id = {1}, .node_id = 2},
                                .drive = {{4}},
                                .incarnation = 1,
                                .mount_counter = 5,
                                .segment_bytes = 128 << 20,
                                .block_bytes_max = 64 << 20,
                                .formatted_ms = 6,
                                .table_version = 9,
                                .parity_floor = 2,
                                .drive_count = STORAGE_DRIVES_MAX};
    for (unsigned i = 0; i < STORAGE_DRIVES_MAX; i++) {
        f->in.drives[i].id.bytes[0] = (uint8_t)i;
        f->in.drives[i].was_mount_point = i % 2 == 0;
        f->in.drives[i].lost = i % 3 == 0;
        f->in.drives[i].mount_counter = i * 7;
        memset(f->in.drives[i].path, 'a' + (int)i, IO_PATH_BYTES_MAX - 1);
    }
    for (uint64_t copy = 0; copy < SUPERBLOCK_COPIES; copy++)
        superblock_encode(&f->in, f->file + copy * SUPERBLOCK_COPY_BYTES);
    return f;
}

static enum err decode(struct fixture *f)
{
    return superblock_decode(slice_of(f->file, sizeof f->file), &f->out);
}

static void one_good_copy_is_enough(void **state)
{
    (void)state;
    for (unsigned bad = 0; bad < 16; bad++) {
        struct fixture *f = fixture_new();
        for (unsigned copy = 0; copy < 4; copy++) {
            if ((bad >> copy & 1) != 0)
                f->file[copy * SUPERBLOCK_COPY_BYTES + 3000] ^= 1;
        }
        assert_int_equal(decode(f), bad == 15 ? ERR_CORRUPT : OK);
        if (bad != 15)
            assert_memory_equal(&f->in, &f->out, sizeof f->in);
        mem_free(f);
    }
}

static void the_newest_copy_counts(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    f->in.mount_counter = 6;
    superblock_encode(&f->in, f->file); /* cut off after the first copy */
    assert_int_equal(decode(f), OK);
    assert_int_equal(f->out.mount_counter, 6);
    memset(f->file, 0, 10000); /* or in it */
    assert_int_equal(decode(f), OK);
    assert_int_equal(f->out.mount_counter, 5);
    mem_free(f);
}

static void a_short_or_empty_file_is_corrupt(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    assert_int_equal(superblock_decode(slice_of(f->file, 0), &f->out), ERR_CORRUPT);
    assert_int_equal(superblock_decode(slice_of(f->file, 1000), &f->out), ERR_CORRUPT);
    mem_free(f);
}

static void segments_are_a_32nd_of_the_drive_within_bounds(void **state)
{
    (void)state;
    const uint64_t mib = 1 << 20;
    assert_int_equal(superblock_segment_bytes(1024 * mib), 128 * mib);
    assert_int_equal(superblock_segment_bytes(8192 * mib), 256 * mib);
    assert_int_equal(superblock_segment_bytes(1024 * 1024 * mib), 1024 * mib);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_good_copy_is_enough),
        cmocka_unit_test(the_newest_copy_counts),
        cmocka_unit_test(a_short_or_empty_file_is_corrupt),
        cmocka_unit_test(segments_are_a_32nd_of_the_drive_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
