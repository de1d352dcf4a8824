/* What a storage does when drives lie, fail, fill up, or lose power while they are made. */
#include "blocks.h"

enum { BLOCKS = 24 };

static void drop_line(void *context, enum log_level level, const char *line)
{
    (void)context, (void)level, (void)line;
}

/* The errors are expected here. */
static void quiet(void)
{
    log_set_sink(drop_line, NULL);
}

struct faulty {
    struct node node;
    struct known_block blocks[BLOCKS];
    uint32_t corrupt, right;
};

static void write_blocks(struct io *io, struct faulty *f)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct lease lease;
        f->blocks[i].seed = i + 1;
        uint32_t bytes = i % 6 == 0 ? 1500000 + i : 1000 + 20011 * i;
        assert_int_equal(write_block(io, f->node.client, i + 1, bytes, 262144, i % 2 == 0,
                                     &f->blocks[i].ref, &lease),
                         OK);
        assert_true(fake_meta_commit(f->node.server, &f->blocks[i].ref, &lease));
    }
}

static void fill(struct io *io, struct node *node)
{
    assert_int_equal(node_format(io, node), OK);
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, (struct faulty *)(void *)node);
    node_stop(io, node);
}

static struct faulty *faulty_new(uint64_t seed, uint32_t drives, uint8_t data_shards,
                                 uint8_t parity_shards, uint64_t disk_bytes)
{
    struct faulty *f = mem_new(struct faulty);
    struct sim_options options = {.seed = seed, .disk_bytes = disk_bytes};
    node_init(&f->node, &options, drives);
    f->node.data_shards = data_shards;
    f->node.parity_shards = parity_shards;
    return f;
}

static void faulty_free(struct faulty *f)
{
    node_deinit(&f->node);
    mem_free(f);
}

/* --- flips --- */

static void read_flipped(struct io *io, struct node *node)
{
    struct faulty *f = (struct faulty *)(void *)node;
    assert_int_equal(node_start(io, node), OK);
    for (unsigned i = 0; i < BLOCKS; i++) {
        enum err err = check_block(io, node->client, &f->blocks[i], node->pool);
        assert_true(err == OK || err == ERR_CORRUPT || err == ERR_NOT_FOUND);
        f->right += err == OK;
        f->corrupt += err == ERR_CORRUPT;
        assert_true(err != ERR_NOT_FOUND);
    }
    node_stop(io, node);
}

/* Flip `count` bits of segment files of drive `directory`. */
static void flip_bits(struct node *node, const char *directory, unsigned count)
{
    for (unsigned done = 0; done < count;) {
        AUTO_STRING path = mem_format("%s/segments/%016llx.seg", directory,
                                      (unsigned long long)(1 + sim_draw(node->sim, 3)));
        done += sim_flip_bit(node->machine, path, sim_draw(node->sim, UINT64_C(8) << 23)) == OK;
    }
}

static void flipped_bits_never_leave(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 6; seed++) {
        struct faulty *f = faulty_new(seed, 1, 0, 0, 0);
        node_run(&f->node, fill);
        flip_bits(&f->node, "/d0", 10);
        quiet();
        node_run(&f->node, read_flipped);
        /* And when everything is scanned again. */
        kv_memory_world_free(f->node.world);
        f->node.world = kv_memory_world_new();
        node_run(&f->node, read_flipped);
        assert_true(f->corrupt > 0);
        faulty_free(f);
    }
}

static void flipped_bits_of_one_drive_are_decoded_around(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 3; seed++) {
        struct faulty *f = faulty_new(seed, 3, 2, 1, 0);
        node_run(&f->node, fill);
        quiet();
        flip_bits(&f->node, seed == 1 ? "/d0" : seed == 2 ? "/d1" : "/d2", 60);
        node_run(&f->node, read_flipped);
        assert_int_equal(f->right, BLOCKS);
        faulty_free(f);
    }
}

/* --- errors --- */

static void fail_writes(struct io *io, struct node *node)
{
    struct faulty *f = (struct faulty *)(void *)node;
    assert_int_equal(node_format(io, node), OK);
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, f);
    sim_set_fault(node->machine,
                  &(struct sim_fault){.prefix = "/d0/segments", .write_fails = true});
    struct block_ref ref;
    struct lease lease;
    enum err err = write_block(io, node->client, 99, 100000, 262144, true, &ref, &lease);
    assert_true(err == ERR_IO || err == ERR_FENCED);
    sim_clear_faults(node->machine);
    /* It works again, but nobody knows what it holds. */
    assert_int_equal(write_block(io, node->client, 99, 100000, 262144, true, &ref, &lease),
                     ERR_FENCED);
    assert_true(!storage_ready(node->storage));
    assert_int_equal(check_block(io, node->client, &f->blocks[0], node->pool), ERR_FENCED);
    struct drive_status status;
    storage_drives(io, node->storage, &status, 1);
    assert_true(status.fenced);
    node_stop(io, node);
    assert_int_equal(node_start(io, node), OK);
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_int_equal(check_block(io, node->client, &f->blocks[i], node->pool), OK);
    node_stop(io, node);
}

static void a_failed_write_fences_the_drive_until_a_restart(void **state)
{
    (void)state;
    struct faulty *f = faulty_new(1, 1, 0, 0, 0);
    quiet();
    node_run(&f->node, fail_writes);
    faulty_free(f);
}

/* A zero fill hangs for longer than its deadline and lands after all. */
static void hang_the_fill(struct io *io, struct node *node)
{
    struct known_block blocks[96];
    unsigned count = 0;
    assert_int_equal(node_format(io, node), OK);
    assert_int_equal(node_start(io, node), OK);
    struct lease lease;
    assert_int_equal(write_block(io, node->client, 1, 5000, 5000, true, &blocks[0].ref, &lease),
                     OK);
    struct sim_fault slow = {.prefix = "/d0/segments", .latency_ns = 90 * IO_NS_PER_S};
    sim_set_fault(node->machine, &slow);
    assert_int_equal(io_sleep_ms(io, 3), OK);
    sim_clear_faults(node->machine);
    for (unsigned i = 0; i < 96; i++) {
        blocks[count].seed = 100 + i;
        if (write_block(io, node->client, 100 + i, 90000, 90000, true, &blocks[count].ref,
                        &lease) != OK)
            continue;
        assert_true(fake_meta_commit(node->server, &blocks[count].ref, &lease));
        count++;
    }
    assert_int_equal(io_sleep_ms(io, 100000), OK);
    node_stop(io, node);
    assert_int_equal(node_start(io, node), OK);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(check_block(io, node->client, &blocks[i], node->pool), OK);
    node_stop(io, node);
}

static void zeros_that_land_late_destroy_nothing_acknowledged(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 4; seed++) {
        struct faulty *f = faulty_new(seed, 1, 0, 0, 0);
        quiet();
        node_run(&f->node, hang_the_fill);
        faulty_free(f);
    }
}

static void fail_one_of_two(struct io *io, struct node *node)
{
    assert_int_equal(node_format(io, node), OK);
    assert_int_equal(node_start(io, node), OK);
    sim_set_fault(node->machine, &(struct sim_fault){.prefix = "/d1", .write_fails = true});
    unsigned failed = 0;
    for (unsigned i = 0; i < 30; i++) {
        struct block_ref ref;
        struct lease lease;
        enum err err = write_block(io, node->client, i, 50000, 262144, true, &ref, &lease);
        failed += err != OK;
    }
    assert_true(failed <= 1);
    assert_true(storage_ready(node->storage));
    node_stop(io, node);
}

static void writes_go_on_to_the_drive_that_is_left(void **state)
{
    (void)state;
    struct faulty *f = faulty_new(1, 2, 1, 0, 0);
    quiet();
    node_run(&f->node, fail_one_of_two);
    faulty_free(f);
}

static void fill_up(struct io *io, struct node *node)
{
    struct faulty *f = (struct faulty *)(void *)node;
    assert_int_equal(node_format(io, node), OK);
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, f);
    struct block_ref refs[512];
    unsigned count = 0;
    enum err err = OK;
    for (unsigned i = 0; err == OK && i < 512; i++) {
        struct lease lease;
        err = write_block(io, node->client, i, 1 << 20, 1 << 20, true, &refs[count], &lease);
        if (err == OK) {
            assert_true(fake_meta_commit(node->server, &refs[count], &lease));
            count++;
        }
        assert_int_equal(io_sleep_ms(io, 100), OK);
    }
    assert_int_equal(err, ERR_NO_SPACE);
    assert_int_equal(io_sleep_ms(io, 2000), OK);
    struct drive_status status;
    storage_drives(io, node->storage, &status, 1);
    assert_true(!status.fenced);
    /* Reads and deletes go on, and make room. */
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_int_equal(check_block(io, node->client, &f->blocks[i], node->pool), OK);
    for (unsigned i = 0; i < count; i++)
        fake_meta_delete(node->server, refs[i].id);
    assert_int_equal(storage_collect(io, node->storage), OK);
    assert_int_equal(io_sleep_ms(io, 3000), OK);
    struct lease lease;
    assert_int_equal(write_block(io, node->client, 7, 1 << 20, 1 << 20, true, &refs[0], &lease),
                     OK);
    node_stop(io, node);
}

static void a_full_drive_refuses_writes_and_recovers_by_deletes(void **state)
{
    (void)state;
    struct faulty *f = faulty_new(1, 1, 0, 0, 256 << 20);
    log_set_level(LOG_ERROR);
    node_run(&f->node, fill_up);
    faulty_free(f);
}

static void hit_the_wall(struct io *io, struct node *node)
{
    struct faulty *f = (struct faulty *)(void *)node;
    assert_int_equal(node_format(io, node), OK);
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, f);
    /* Another program ate all blocks between two polls. */
    sim_set_fault(node->machine, &(struct sim_fault){.prefix = "/d0/segments", .full = true});
    enum err err = OK;
    for (unsigned i = 0; err == OK && i < 64; i++) {
        struct block_ref ref;
        struct lease lease;
        err = write_block(io, node->client, i, 1 << 20, 1 << 20, true, &ref, &lease);
    }
    assert_int_equal(err, ERR_NO_SPACE);
    sim_clear_faults(node->machine);
    struct block_ref ref;
    struct lease lease;
    assert_int_equal(write_block(io, node->client, 5, 1 << 20, 1 << 20, true, &ref, &lease), OK);
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_int_equal(check_block(io, node->client, &f->blocks[i], node->pool), OK);
    node_stop(io, node);
}

/* While a stream is open, several more find no room at the same place. */
static void hit_the_wall_beside_a_stream(struct io *io, struct node *node)
{
    assert_int_equal(node_format(io, node), OK);
    assert_int_equal(node_start(io, node), OK);
    struct block_hint hint = {.bucket_id = 7, .key = SLICE_LITERAL("stream")};
    AUTO(block_writer) stream = NULL;
    AUTO(buf) buf = buf_new(3 << 20);
    memset(buf->data, 1, 3 << 20);
    assert_int_equal(block_writer_open(io, node->client, &hint, 0, &stream), OK);
    assert_int_equal(block_writer_append(io, stream, buf, 0, 3 << 20), OK);
    assert_int_equal(io_sleep_ms(io, 200), OK); /* its place is reserved */
    sim_set_fault(node->machine, &(struct sim_fault){.prefix = "/d0/segments", .full = true});
    struct block_ref ref;
    struct lease lease;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(write_block(io, node->client, i, 6 << 20, 1 << 20, true, &ref, &lease),
                         ERR_NO_SPACE);
    sim_clear_faults(node->machine);
    struct known_block block = {.seed = 9};
    assert_int_equal(write_block(io, node->client, 9, 6 << 20, 1 << 20, true, &block.ref, &lease),
                     OK);
    assert_true(fake_meta_commit(node->server, &block.ref, &lease));
    assert_int_equal(block_writer_finish(io, stream, &ref, &lease), OK);
    block_writer_free(TAKE(stream));
    assert_int_equal(check_block(io, node->client, &block, node->pool), OK);
    node_stop(io, node);
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(check_block(io, node->client, &block, node->pool), OK);
    node_stop(io, node);
}

static void no_space_at_one_place_may_come_again(void **state)
{
    (void)state;
    struct faulty *f = faulty_new(1, 1, 0, 0, 256 << 20);
    node_run(&f->node, hit_the_wall_beside_a_stream);
    faulty_free(f);
}

static void no_space_does_not_fence(void **state)
{
    (void)state;
    struct faulty *f = faulty_new(1, 1, 0, 0, 0);
    node_run(&f->node, hit_the_wall);
    faulty_free(f);
}

/* --- guards --- */

static void collect_fiber(struct io *io, void *argument)
{
    struct node *node = argument;
    assert_int_equal(storage_collect(io, node->storage), OK);
}

static void hold_a_guard(struct io *io, struct node *node)
{
    struct faulty *f = (struct faulty *)(void *)node;
    assert_int_equal(node_format(io, node), OK);
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, f);
    struct read_guard guard;
    read_guard_begin(io, node->client, &guard);
    fake_meta_delete(node->server, f->blocks[0].ref.id);
    assert_int_equal(io_spawn(io, collect_fiber, node), OK);
    assert_int_equal(io_sleep_ms(io, 10000), OK);
    assert_int_equal(check_block(io, node->client, &f->blocks[0], node->pool), OK);
    assert_int_equal(fake_meta_free_count(node->server), 1);
    read_guard_end(io, node->client, &guard);
    assert_int_equal(io_sleep_ms(io, 5000), OK);
    assert_int_equal(fake_meta_free_count(node->server), 0);
    assert_int_equal(check_block(io, node->client, &f->blocks[0], node->pool), ERR_NOT_FOUND);
    node_stop(io, node);
}

static void a_block_is_not_punched_under_its_reader(void **state)
{
    (void)state;
    struct faulty *f = faulty_new(1, 1, 0, 0, 0);
    node_run(&f->node, hold_a_guard);
    faulty_free(f);
}

static void hold_a_guard_for_ever(struct io *io, struct node *node)
{
    struct faulty *f = (struct faulty *)(void *)node;
    assert_int_equal(node_format(io, node), OK);
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, f);
    struct read_guard guard;
    read_guard_begin(io, node->client, &guard);
    fake_meta_delete(node->server, f->blocks[0].ref.id);
    assert_int_equal(io_sleep_ms(io, (READ_GUARD_S_MAX - 10) * 1000), OK);
    assert_int_equal(fake_meta_free_count(node->server), 1);
    assert_int_equal(io_sleep_ms(io, 20000), OK);
    assert_int_equal(fake_meta_free_count(node->server), 0);
    assert_int_equal(check_block(io, node->client, &f->blocks[0], node->pool), ERR_NOT_FOUND);
    assert_int_equal(check_block(io, node->client, &f->blocks[1], node->pool), OK);
    read_guard_end(io, node->client, &guard);
    node_stop(io, node);
}

static void a_slow_reader_does_not_keep_deleted_space_for_ever(void **state)
{
    (void)state;
    struct faulty *f = faulty_new(1, 1, 0, 0, 0);
    node_run(&f->node, hold_a_guard_for_ever);
    faulty_free(f);
}

/* --- formatting --- */

static void format_fiber(struct io *io, void *argument)
{
    enum err err = node_format(io, argument);
    assert_true(err == OK || err == ERR_CANCELED);
}

static void probe_and_finish(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    node_stop(io, node);
}

struct event_goal {
    struct sim *sim;
    uint64_t count;
};

static bool reached(void *context)
{
    const struct event_goal *goal = context;
    return sim_event_count(goal->sim) >= goal->count;
}

static void a_format_that_is_cut_off_leaves_an_empty_place_or_a_drive(void **state)
{
    (void)state;
    for (uint64_t events = 0; events < 40; events++) {
        struct faulty *f = faulty_new(events + 1, 1, 0, 0, 0);
        struct event_goal goal = {.sim = f->node.sim, .count = events};
        assert_int_equal(sim_spawn(f->node.machine, 0, format_fiber, &f->node), OK);
        (void)sim_run(f->node.sim, reached, &goal, UINT64_MAX);
        sim_power_cut(f->node.machine);
        sim_power_on(f->node.machine);
        node_run(&f->node, probe_and_finish);
        faulty_free(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flipped_bits_never_leave),
        cmocka_unit_test(flipped_bits_of_one_drive_are_decoded_around),
        cmocka_unit_test(a_failed_write_fences_the_drive_until_a_restart),
        cmocka_unit_test(zeros_that_land_late_destroy_nothing_acknowledged),
        cmocka_unit_test(writes_go_on_to_the_drive_that_is_left),
        cmocka_unit_test(a_full_drive_refuses_writes_and_recovers_by_deletes),
        cmocka_unit_test(no_space_does_not_fence),
        cmocka_unit_test(no_space_at_one_place_may_come_again),
        cmocka_unit_test(a_block_is_not_punched_under_its_reader),
        cmocka_unit_test(a_slow_reader_does_not_keep_deleted_space_for_ever),
        cmocka_unit_test(a_format_that_is_cut_off_leaves_an_empty_place_or_a_drive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
