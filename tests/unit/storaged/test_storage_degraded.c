/* Blocks over drives that fail, fill up, hang and lie: what is acknowledged, what is read. */
#include "drives_test.h"
#include "placement.h"
#include "repair_queue.h"

/* --- narrower and narrower --- */

static void break_one_after_the_other(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    require_profile(io, node, 4, 2);
    break_drive(io, node, "/d0");
    require_profile(io, node, 3, 2);
    read_blocks(io, node);
    break_drive(io, node, "/d1");
    require_profile(io, node, 2, 2);
    read_blocks(io, node);
    assert_true(
        counter_value(metrics_counter(node->metrics, "shale_reads_decoded_total", NULL, "")) > 0);
    break_drive(io, node, "/d2");
    require_profile(io, node, 1, 2);
    /* Three of six are gone of blocks that bear two. */
    assert_int_equal(check_block(io, node->client, &many_of(node)->blocks[0], node->pool),
                     ERR_FENCED);
    break_drive(io, node, "/d3");
    /* No rung with two parity shards is left; two copies of three are k + 1. */
    struct known_block block;
    struct lease lease;
    assert_int_equal(write_one(io, node, 5, 300000, &block, &lease), OK);
    assert_int_equal(lease.data_shards, 1);
    assert_int_equal(__builtin_popcount(block.ref.missing), 1);
    assert_int_equal(check_block(io, node->client, &block, node->pool), OK);
    sim_set_fault(node->machine, &(struct sim_fault){.prefix = "/d4", .write_fails = true});
    assert_int_equal(write_one(io, node, 6, 300000, &block, &lease), ERR_FENCED);
    node_stop(io, node);
}

static void blocks_get_narrower_never_weaker(void **state)
{
    (void)state;
    struct many *many = many_new(1, 6);
    node_run(&many->node, break_one_after_the_other);
    many_free(many);
}

/* --- in the middle of a block --- */

static void break_in_the_middle(struct io *io, struct node *node, const struct sim_fault *fault)
{
    struct block_hint hint = {.bucket_id = 7, .key = SLICE_LITERAL("stream")};
    AUTO(block_writer) writer = NULL;
    struct known_block block = {.seed = 9};
    struct lease lease;
    assert_int_equal(block_writer_open(io, node->client, &hint, 0, &writer), OK);
    for (uint32_t at = 0; at < 8 << 20; at += 1 << 20) {
        AUTO(buf) buf = buf_new(1 << 20);
        fill_content(9, at, buf->data, 1 << 20);
        if (at == 4 << 20)
            sim_set_fault(node->machine, fault);
        assert_int_equal(block_writer_append(io, writer, buf, 0, 1 << 20), OK);
    }
    assert_int_equal(block_writer_finish(io, writer, &block.ref, &lease), OK);
    assert_true(fake_meta_commit(node->server, &block.ref, &lease));
    sim_clear_faults(node->machine);
    assert_int_equal(__builtin_popcount(block.ref.missing), 1);
    assert_int_equal(check_block(io, node->client, &block, node->pool), OK);
}

static void break_hang_and_fill(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    uint64_t begun_ns = io_now_ns(io);
    break_in_the_middle(io, node,
                        &(struct sim_fault){.prefix = "/d2", .latency_ns = 30 * IO_NS_PER_S});
    assert_true(io_now_ns(io) - begun_ns < 8 * IO_NS_PER_S);
    /* While it hangs, new blocks go elsewhere, whole. */
    begun_ns = io_now_ns(io);
    require_profile(io, node, 3, 2);
    assert_true(io_now_ns(io) - begun_ns < IO_NS_PER_S);
    assert_int_equal(io_sleep_ms(io, 90000), OK);
    require_profile(io, node, 4, 2);
    break_in_the_middle(io, node, &(struct sim_fault){.prefix = "/d1", .write_fails = true});
    assert_true(counter_value(metrics_counter(node->metrics, "shale_blocks_degraded_written_total",
                                              NULL, "")) >= 2);
    /* What hung was given up, what failed is fenced, and new blocks are whole. */
    assert_int_equal(status_at(io, node, "/d1").state, DRIVE_STATE_FENCED);
    require_profile(io, node, 3, 2);
    node_stop(io, node);
}

static void a_block_in_flight_goes_on_without_one_drive(void **state)
{
    (void)state;
    struct many *many = many_new(2, 6);
    node_run(&many->node, break_hang_and_fill);
    many_free(many);
}

/* All of two copies or 2+1 must be durable: the block is written again, elsewhere. */
static void break_with_one_parity(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    sim_set_fault(node->machine, &(struct sim_fault){.prefix = "/d1", .write_fails = true});
    for (unsigned i = 0; i < 10; i++) {
        struct known_block block;
        struct lease lease;
        assert_int_equal(write_one(io, node, i, 700000, &block, &lease), OK);
        assert_int_equal(block.ref.missing, 0);
        assert_int_equal(lease.data_shards, 1);
        assert_int_equal(lease.parity_shards, 1);
        assert_int_equal(check_block(io, node->client, &block, node->pool), OK);
    }
    read_blocks(io, node);
    node_stop(io, node);
}

static void a_small_block_is_written_again_on_drives_that_work(void **state)
{
    (void)state;
    struct many *many = many_new(3, 3);
    node_run(&many->node, break_with_one_parity);
    many_free(many);
}

/* --- full --- */

static void fill_one(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    sim_set_fault(node->machine, &(struct sim_fault){.prefix = "/d3/segments", .full = true});
    unsigned missing = 0;
    for (unsigned i = 0; i < 40; i++) {
        struct known_block block;
        struct lease lease;
        assert_int_equal(write_one(io, node, i, 1 << 20, &block, &lease), OK);
        missing += block.ref.missing != 0;
        assert_int_equal(check_block(io, node->client, &block, node->pool), OK);
    }
    assert_true(missing > 0);
    assert_int_equal(status_at(io, node, "/d3").state, DRIVE_STATE_OK);
    node_stop(io, node);
}

static void no_space_on_one_drive_fails_no_block(void **state)
{
    (void)state;
    struct many *many = many_new(4, 4);
    node_run(&many->node, fill_one);
    many_free(many);
}

/* --- slow --- */

static void read_beside_a_hanging_drive(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    assert_int_equal(io_sleep_ms(io, 1000), OK);
    sim_set_fault(node->machine,
                  &(struct sim_fault){.prefix = node->directories[many_of(node)->count],
                                      .latency_ns = 20 * IO_NS_PER_S});
    uint64_t begun_ns = io_now_ns(io);
    read_blocks(io, node);
    assert_true(io_now_ns(io) - begun_ns < 3 * IO_NS_PER_S);
    sim_clear_faults(node->machine);
    assert_true(
        counter_value(metrics_counter(node->metrics, "shale_reads_hedged_total", NULL, "")) > 0);
    node_stop(io, node);
}

static void reads_do_not_wait_for_a_drive_that_hangs(void **state)
{
    (void)state;
    for (unsigned drives = 2; drives <= 6; drives += 2) {
        struct many *many = many_new(5, drives);
        many->count = drives - 1;
        node_run(&many->node, read_beside_a_hanging_drive);
        many_free(many);
    }
}

static void read_from_a_slow_drive(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    sim_set_fault(node->machine,
                  &(struct sim_fault){.prefix = "/d0", .latency_ns = 60 * IO_NS_PER_MS});
    for (unsigned i = 0; i < 40 && !status_at(io, node, "/d0").slow; i++) {
        read_blocks(io, node);
        assert_int_equal(io_sleep_ms(io, 100), OK);
    }
    assert_true(status_at(io, node, "/d0").slow);
    struct known_block block;
    struct lease lease;
    assert_int_equal(write_one(io, node, 1, 1 << 20, &block, &lease), OK);
    assert_int_equal(lease.data_shards + lease.parity_shards, 6);
    sim_clear_faults(node->machine);
    /* It gets another chance. */
    assert_int_equal(io_sleep_ms(io, 120000), OK);
    assert_true(!status_at(io, node, "/d0").slow);
    node_stop(io, node);
}

static void a_slow_drive_is_read_around_for_a_while(void **state)
{
    (void)state;
    struct many *many = many_new(6, 6);
    node_run(&many->node, read_from_a_slow_drive);
    many_free(many);
}

/* --- damage --- */

static void damage_and_read(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    read_blocks(io, node);
    assert_true(node->storage->repair_queue.reported > 0);
    node_stop(io, node);
}

static void start_write_stop(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    node_stop(io, node);
}

static void bad_shards_are_decoded_around_and_reported(void **state)
{
    (void)state;
    struct many *many = many_new(7, 6);
    node_run(&many->node, start_write_stop);
    for (unsigned done = 0; done < 60;) {
        AUTO_STRING path = mem_format("/d3/segments/%016llx.seg",
                                      (unsigned long long)(1 + sim_draw(many->node.sim, 2)));
        done += sim_flip_bit(many->node.machine, path,
                             sim_draw(many->node.sim, UINT64_C(4) << 23)) == OK;
    }
    node_run(&many->node, damage_and_read);
    many_free(many);
}

/* --- leases --- */

static void use_leases(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    struct block_hint hint = {.key = SLICE_LITERAL("gone")};
    struct block_writer *writer = NULL;
    assert_int_equal(block_writer_open(io, node->client, &hint, 100000, &writer), OK);
    uint64_t volume = block_writer_id(writer).volume;
    assert_int_equal(
        placement_drain_volume(io, node->storage, volume, io_now_ns(io) + 500 * IO_NS_PER_MS),
        ERR_TIMEOUT);
    AUTO(buf) buf = buf_new(100000);
    memset(buf->data, 1, 100000);
    struct block_ref ref;
    struct lease lease;
    assert_int_equal(block_writer_append(io, writer, buf, 0, 100000), OK);
    assert_int_equal(block_writer_finish(io, writer, &ref, &lease), OK);
    /* Between the end of the block and its commit the lease is in use. */
    assert_int_equal(io_sleep_ms(io, 90000), OK);
    assert_true(fake_meta_commit(node->server, &ref, &lease));
    block_writer_free(writer);
    assert_int_equal(placement_drain_volume(io, node->storage, volume, io_now_ns(io)), OK);
    /* Nobody writes there any more, elsewhere they do. */
    for (unsigned i = 0; i < 50; i++) {
        struct known_block block;
        assert_int_equal(write_one(io, node, i, 5000, &block, &lease), OK);
        assert_true(block.ref.id.volume != volume);
    }
    /* What was abandoned is collected without a restart. */
    assert_int_equal(block_writer_open(io, node->client, &hint, 100000, &writer), OK);
    assert_int_equal(block_writer_append(io, writer, buf, 0, 100000), OK);
    assert_int_equal(block_writer_finish(io, writer, &ref, &lease), OK);
    block_writer_free(writer);
    assert_int_equal(io_sleep_ms(io, 70000), OK);
    assert_int_equal(fake_meta_open_leases(node->server), 0);
    assert_int_equal(storage_collect(io, node->storage), OK);
    struct known_block gone = {.ref = ref};
    assert_int_equal(check_block(io, node->client, &gone, node->pool), ERR_NOT_FOUND);
    node_stop(io, node);
}

static void leases_close_once_nobody_uses_them(void **state)
{
    (void)state;
    struct many *many = many_new(8, 3);
    node_run(&many->node, use_leases);
    many_free(many);
}

/* --- maps that change --- */

static void change_the_map(struct io *io, struct node *node)
{
    struct known_block block;
    struct lease lease;
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(write_one(io, node, 1, 500000, &block, &lease), OK);
    struct volume *volume = fake_meta_change_volume(node->server, lease.volume);
    volume->epoch += 2;
    volume->state = VOLUME_SEALED;
    struct volume_entry *old = NULL;
    struct volume_entry *new = NULL;
    assert_int_equal(volumes_find(io, node->storage, lease.volume, &old), OK);
    assert_int_equal(volumes_refresh(io, node->storage), OK);
    assert_int_equal(volumes_find(io, node->storage, lease.volume, &new), OK);
    assert_true(old != new);
    assert_int_equal(old->volume.epoch + 2, new->volume.epoch);
    volume_unref(old);
    volume_unref(new);
    assert_int_equal(check_block(io, node->client, &block, node->pool), OK);
    for (unsigned i = 0; i < 30; i++) {
        struct known_block other;
        assert_int_equal(write_one(io, node, i, 5000, &other, &lease), OK);
        assert_true(other.ref.id.volume != block.ref.id.volume);
    }
    /* A record of an earlier stay on the drive is no part of the slot. */
    volume->epoch++;
    volume->slot_epochs[0] = volume->epoch;
    assert_int_equal(volumes_refresh(io, node->storage), OK);
    assert_int_equal(check_block(io, node->client, &block, node->pool), OK);
    assert_true(node->storage->repair_queue.reported > 0);
    node_stop(io, node);
}

static void a_volume_that_changed_gets_a_new_map(void **state)
{
    (void)state;
    struct many *many = many_new(9, 4);
    node_run(&many->node, change_the_map);
    many_free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_get_narrower_never_weaker),
        cmocka_unit_test(a_block_in_flight_goes_on_without_one_drive),
        cmocka_unit_test(a_small_block_is_written_again_on_drives_that_work),
        cmocka_unit_test(no_space_on_one_drive_fails_no_block),
        cmocka_unit_test(reads_do_not_wait_for_a_drive_that_hangs),
        cmocka_unit_test(a_slow_drive_is_read_around_for_a_while),
        cmocka_unit_test(bad_shards_are_decoded_around_and_reported),
        cmocka_unit_test(leases_close_once_nobody_uses_them),
        cmocka_unit_test(a_volume_that_changed_gets_a_new_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
