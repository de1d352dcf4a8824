/* What nobody reads is read by the scrub: damage is found and repaired, what is missing is noticed,
 * the index store is read too. */
#include "collector.h"
#include "drive_index.h"
#include "drives_test.h"
#include "repair.h"
#include "scrub.h"

static int64_t gauge_of(struct node *node, const char *name)
{
    return gauge_value(metrics_gauge(node->metrics, name, NULL, ""));
}

static struct scrub_status scrub_at(struct io *io, struct node *node, const char *directory)
{
    struct scrub_status status[STORAGE_DRIVES_MAX];
    uint32_t count = storage_scrub_state(io, node->storage, status, STORAGE_DRIVES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(status[i].directory, directory) == 0)
            return status[i];
    }
    return (struct scrub_status){.bytes = 0};
}

static void scrub_all(struct io *io, struct node *node)
{
    bool running = true;
    assert_int_equal(storage_scrub(io, node->storage), OK);
    for (unsigned i = 0; running && i < 600; i++) {
        assert_int_equal(io_sleep_ms(io, 100), OK);
        running = false;
        for (uint32_t j = 0; j < node->directory_count; j++)
            running = running || scrub_at(io, node, node->directories[j]).running;
    }
    assert_true(!running);
    for (unsigned i = 0; gauge_of(node, "shale_repair_queue") > 0 || i < 3; i++) {
        assert_true(i < 60);
        assert_int_equal(io_sleep_ms(io, 1000), OK);
    }
}

static void start_write_stop(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    node_stop(io, node);
}

static void damage(struct node *node, const char *directory, unsigned flips)
{
    for (unsigned done = 0; done < flips;) {
        AUTO_STRING path = mem_format("%s/segments/%016llx.seg", directory,
                                      (unsigned long long)(1 + node_draw(node, 2)));
        done += sim_flip_bit(node->machine, path, node_draw(node, UINT64_C(3) << 23)) == OK;
    }
}

static uint64_t errors_of(struct io *io, struct node *node)
{
    uint64_t errors = 0;
    for (uint32_t i = 0; i < node->directory_count; i++)
        errors += scrub_at(io, node, node->directories[i]).errors;
    return errors;
}

static void scrub_damaged(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    scrub_all(io, node);
    uint64_t errors = errors_of(io, node);
    assert_true(errors > 0);
    assert_int_equal(counter_value(node->storage->scrub->errors), errors);
    assert_int_equal(counter_value(node->storage->repair->scrub_repairs), errors);
    scrub_all(io, node);
    assert_int_equal(errors_of(io, node), 0);
    uint64_t decoded = counter_value(node->storage->reads_decoded);
    read_blocks(io, node);
    assert_int_equal(counter_value(node->storage->reads_decoded), decoded);
    node_stop(io, node);
}

static void flipped_bits_are_found_and_repaired(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct many *many = many_new(seed, 6);
        node_run(&many->node, start_write_stop);
        damage(&many->node, "/d2", 60);
        damage(&many->node, "/d4", 60);
        node_run(&many->node, scrub_damaged);
        many_free(many);
    }
}

static void scrub_sound(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    uint64_t live_bytes = 0;
    for (uint32_t i = 0; i < node->directory_count; i++)
        live_bytes += status_at(io, node, node->directories[i]).live_bytes;
    assert_int_equal(io_sleep_ms(io, 1000), OK);
    scrub_all(io, node);
    assert_int_equal(errors_of(io, node), 0);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < node->directory_count; i++)
        bytes += scrub_at(io, node, node->directories[i]).bytes;
    assert_true(bytes >= live_bytes);
    assert_int_equal(counter_value(node->storage->repair->blocks), 0);
    node_stop(io, node);
}

static void sound_drives_are_read_once_and_left_alone(void **state)
{
    (void)state;
    struct many *many = many_new(4, 6);
    node_run(&many->node, scrub_sound);
    many_free(many);
}

/* --- shards that are not there --- */

static void lose_rows(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    assert_int_equal(io_sleep_ms(io, 1000), OK);
    struct drive *drive = node->storage->drives[1];
    struct index_record records[64];
    uint32_t count = 0;
    assert_int_equal(drive_index_records(io, drive, 0, 0, records, 64, &count), OK);
    assert_int_equal(count, BLOCKS);
    assert_int_equal(collector_punch(io, node->storage, drive, records, 5), OK);
    scrub_all(io, node);
    assert_int_equal(errors_of(io, node), 5);
    assert_int_equal(counter_value(node->storage->repair->scrub_repairs), 5);
    assert_int_equal(drive_index_records(io, drive, 0, 0, records, 64, &count), OK);
    assert_int_equal(count, BLOCKS);
    scrub_all(io, node);
    assert_int_equal(errors_of(io, node), 0);
    node_stop(io, node);
}

static void shards_that_are_not_there_are_written_again(void **state)
{
    (void)state;
    struct many *many = many_new(5, 6);
    node_run(&many->node, lose_rows);
    many_free(many);
}

/* --- by itself --- */

static void wait_a_pass(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    /* Half a pass, and a restart. */
    assert_int_equal(io_sleep_ms(io, 500000), OK);
    node_stop(io, node);
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(io_sleep_ms(io, 600000), OK);
    assert_true(counter_value(node->storage->scrub->errors) > 0);
    assert_int_equal(counter_value(node->storage->repair->scrub_repairs),
                     counter_value(node->storage->scrub->errors));
    scrub_all(io, node);
    assert_int_equal(errors_of(io, node), 0);
    node_stop(io, node);
}

static void a_pass_by_itself_goes_on_over_restarts(void **state)
{
    (void)state;
    struct many *many = many_new(6, 3);
    node_run(&many->node, start_write_stop);
    damage(&many->node, "/d1", 60);
    many->node.scrub_pass_s = 1000;
    node_run(&many->node, wait_a_pass);
    many_free(many);
}

/* --- the index store --- */

static void condemn_index(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(drive_index_condemn(io, node->storage->drives[2]), OK);
    node_stop(io, node);
    assert_int_equal(node_start(io, node), OK);
    read_blocks(io, node);
    scrub_all(io, node);
    assert_int_equal(errors_of(io, node), 0);
    assert_int_equal(counter_value(node->storage->reads_decoded), 0);
    node_stop(io, node);
    struct file_info info;
    assert_int_equal(io_stat(io, "/d2/index/damaged", &info), ERR_NOT_FOUND);
}

static void a_damaged_index_is_made_anew_from_the_records(void **state)
{
    (void)state;
    struct many *many = many_new(7, 6);
    node_run(&many->node, start_write_stop);
    node_run(&many->node, condemn_index);
    many_free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flipped_bits_are_found_and_repaired),
        cmocka_unit_test(sound_drives_are_read_once_and_left_alone),
        cmocka_unit_test(shards_that_are_not_there_are_written_again),
        cmocka_unit_test(a_pass_by_itself_goes_on_over_restarts),
        cmocka_unit_test(a_damaged_index_is_made_anew_from_the_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
