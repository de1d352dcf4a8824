/* Drives that join, leave, come back and are emptied, while the node runs and while not. */
#include "drives_test.h"

static void start_write_stop(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    node_stop(io, node);
}

/* --- growth --- */

static void grow(struct io *io, struct node *node)
{
    static const struct redundancy rungs[] = {{1, 0}, {1, 1}, {2, 1}, {2, 2},
                                              {3, 2}, {4, 2}, {4, 2}};
    for (uint32_t drives = 1; drives <= 7; drives++) {
        node->directory_count = drives;
        assert_int_equal(node_start(io, node), OK);
        struct drive_status status[STORAGE_DRIVES_MAX];
        assert_int_equal(storage_drives(io, node->storage, status, STORAGE_DRIVES_MAX), drives);
        require_profile(io, node, rungs[drives - 1].data_shards, rungs[drives - 1].parity_shards);
        if (drives == 1)
            write_blocks(io, node);
        read_blocks(io, node);
        node_stop(io, node);
    }
}

static void each_drive_that_is_added_widens_new_blocks_at_once(void **state)
{
    (void)state;
    struct many *many = many_new(1, 7);
    node_run(&many->node, grow);
    many_free(many);
}

/* --- emptied while running --- */

static void empty_two_while_running(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    struct drive_id old = status_at(io, node, "/d2").id;
    empty_directory(io, "/d2");
    empty_directory(io, "/d4");
    read_blocks(io, node);
    assert_int_equal(io_sleep_ms(io, 3500), OK);
    struct drive_status status = status_at(io, node, "/d2");
    assert_int_equal(status.state, DRIVE_STATE_OK);
    assert_true(status.fresh);
    assert_true(!drive_id_equal(&status.id, &old));
    assert_true(node->changes > 0);
    assert_true(fake_meta_standing(node->server, &old) != DRIVE_IN_SERVICE);
    assert_int_equal(fake_meta_standing(node->server, &status.id), DRIVE_IN_SERVICE);
    require_profile(io, node, 4, 2);
    read_blocks(io, node);
    node_stop(io, node);
    assert_int_equal(node_start(io, node), OK);
    read_blocks(io, node);
    require_profile(io, node, 4, 2);
    node_stop(io, node);
}

static void an_emptied_drive_is_taken_as_a_new_one_within_seconds(void **state)
{
    (void)state;
    struct many *many = many_new(2, 6);
    node_run(&many->node, empty_two_while_running);
    many_free(many);
}

/* --- gone while stopped --- */

static void start_with_fewer(struct io *io, struct node *node)
{
    node->directory_count = 4;
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(status_at(io, node, "/d5").state, DRIVE_STATE_MISSING);
    read_blocks(io, node);
    require_profile(io, node, 2, 2);
    node_stop(io, node);
    node->directory_count = 3;
    assert_int_equal(node_start(io, node), ERR_NOT_FOUND);
    node->accepts_loss = true;
    assert_int_equal(node_start(io, node), OK);
    require_profile(io, node, 2, 1);
    node_stop(io, node);
}

static void more_missing_than_the_parity_is_refused_unless_accepted(void **state)
{
    (void)state;
    struct many *many = many_new(3, 6);
    node_run(&many->node, start_write_stop);
    node_run(&many->node, start_with_fewer);
    many_free(many);
}

static void empty_while_stopped(struct io *io, struct node *node)
{
    empty_directory(io, "/d1");
    empty_directory(io, "/d3");
    assert_int_equal(node_start(io, node), OK);
    assert_true(status_at(io, node, "/d1").fresh);
    assert_true(!status_at(io, node, "/d0").fresh);
    read_blocks(io, node);
    require_profile(io, node, 4, 2);
    node_stop(io, node);
}

static void empty_three(struct io *io, struct node *node)
{
    static const char *const directories[] = {"/d1", "/d3", "/d5"};
    for (unsigned i = 0; i < 3; i++)
        empty_directory(io, directories[i]);
    assert_int_equal(node_start(io, node), ERR_NOT_FOUND);
    for (unsigned i = 0; i < 3; i++) {
        AUTO_VALUE(bytes) names = {.max = 4096};
        assert_int_equal(io_list_directory(io, directories[i], &names), OK);
        assert_int_equal(names.bytes, 0);
    }
}

static void drives_emptied_while_stopped_are_made_anew_as_far_as_parity_goes(void **state)
{
    (void)state;
    struct many *many = many_new(4, 6);
    node_run(&many->node, start_write_stop);
    node_run(&many->node, empty_while_stopped);
    many_free(many);
    many = many_new(4, 6);
    node_run(&many->node, start_write_stop);
    node_run(&many->node, empty_three);
    many_free(many);
}

/* --- back again --- */

static void leave_and_come_back(struct io *io, struct node *node)
{
    assert_int_equal(io_rename(io, "/d3", "/away"), OK);
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(status_at(io, node, "/d3").state, DRIVE_STATE_MISSING);
    require_profile(io, node, 1, 2);
    read_blocks(io, node);
    assert_int_equal(io_rename(io, "/away", "/d3"), OK);
    assert_int_equal(io_sleep_ms(io, 2500), OK);
    assert_int_equal(status_at(io, node, "/d3").state, DRIVE_STATE_OK);
    assert_true(!status_at(io, node, "/d3").fresh);
    require_profile(io, node, 2, 2);
    read_blocks(io, node);
    node_stop(io, node);
}

static void a_missing_drive_that_is_back_serves_again(void **state)
{
    (void)state;
    struct many *many = many_new(5, 4);
    node_run(&many->node, start_write_stop);
    node_run(&many->node, leave_and_come_back);
    many_free(many);
}

static void put_back_an_older_copy(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    require_profile(io, node, 2, 2);
    node_stop(io, node);
    assert_int_equal(io_remove_tree(io, "/d2"), OK);
    assert_int_equal(io_rename(io, "/copy", "/d2"), OK);
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(status_at(io, node, "/d2").state, DRIVE_STATE_QUARANTINED);
    read_blocks(io, node);
    require_profile(io, node, 1, 2);
    /* Emptied, it is a new drive. */
    empty_directory(io, "/d2");
    assert_int_equal(io_sleep_ms(io, 2500), OK);
    assert_int_equal(status_at(io, node, "/d2").state, DRIVE_STATE_OK);
    require_profile(io, node, 2, 2);
    node_stop(io, node);
}

static void an_older_copy_of_a_drive_is_never_used(void **state)
{
    (void)state;
    struct many *many = many_new(6, 4);
    node_run(&many->node, start_write_stop);
    assert_int_equal(sim_copy_directory(many->node.machine, "/d2", many->node.machine, "/copy"),
                     OK);
    node_run(&many->node, put_back_an_older_copy);
    many_free(many);
}

/* Nobody else remembers a lone drive; the metadata service does. */
static void roll_back_the_only_drive(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    node_stop(io, node);
    assert_int_equal(io_remove_tree(io, "/d0"), OK);
    assert_int_equal(io_rename(io, "/copy", "/d0"), OK);
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(status_at(io, node, "/d0").state, DRIVE_STATE_QUARANTINED);
    node_stop(io, node);
}

static void the_metadata_knows_an_older_copy_of_a_lone_drive(void **state)
{
    (void)state;
    struct many *many = many_new(7, 1);
    node_run(&many->node, start_write_stop);
    assert_int_equal(sim_copy_directory(many->node.machine, "/d0", many->node.machine, "/copy"),
                     OK);
    node_run(&many->node, roll_back_the_only_drive);
    many_free(many);
}

/* --- options --- */

static void ask_for_profiles(struct io *io, struct node *node)
{
    node->data_shards = 3;
    node->parity_shards = 2;
    assert_int_equal(node_start(io, node), ERR_INVALID);
    node->data_shards = 1;
    node->parity_shards = 3;
    assert_int_equal(node_start(io, node), OK);
    require_profile(io, node, 1, 3);
    node_stop(io, node);
    node->data_shards = 2; /* less than was promised */
    node->parity_shards = 1;
    assert_int_equal(node_start(io, node), ERR_INVALID);
    node->data_shards = 0;
    node->parity_shards = 0;
    assert_int_equal(node_start(io, node), OK);
    require_profile(io, node, 1, 3);
    node_stop(io, node);
}

static void the_promised_parity_stays(void **state)
{
    (void)state;
    struct many *many = many_new(8, 4);
    node_run(&many->node, ask_for_profiles);
    many_free(many);
}

/* --- cut off --- */

static void try_to_start(struct io *io, void *argument)
{
    struct node *node = argument;
    if (node_start(io, node) == OK)
        (void)io_sleep_ms(io, 3000);
    if (node->storage != NULL)
        node_stop(io, node);
}

static void empty_and_try_to_start(struct io *io, void *argument)
{
    struct node *node = argument;
    if (io_remove_tree(io, "/d1") == OK && io_make_directory(io, "/d1") == OK &&
        io_sync_directory(io, "/") == OK)
        try_to_start(io, node);
}

static void run_and_empty(struct io *io, void *argument)
{
    struct node *node = argument;
    if (node_start(io, node) == OK) {
        many_of(node)->count = sim_event_count(node->sim);
        (void)io_remove_tree(io, "/d1");
        (void)io_make_directory(io, "/d1");
        (void)io_sync_directory(io, "/");
        (void)io_sleep_ms(io, 5000);
    }
    if (node->storage != NULL)
        node_stop(io, node);
}

struct event_goal {
    struct many *many;
    uint64_t count; /* after many->count, once that is set */
};

static bool reached(void *context)
{
    const struct event_goal *goal = context;
    return goal->many->count > 0 &&
           sim_event_count(goal->many->node.sim) >= goal->many->count + goal->count;
}

static void start_and_read(struct io *io, struct node *node)
{
    struct file_info info;
    if (io_stat(io, "/d1", &info) != OK)
        assert_int_equal(io_make_directory(io, "/d1"), OK);
    assert_int_equal(node_start(io, node), OK);
    read_blocks(io, node);
    unsigned parity = node->directory_count == 4 ? 2 : 1;
    require_profile(io, node, 2, parity);
    for (uint32_t i = 0; i < node->directory_count; i++)
        assert_int_equal(status_at(io, node, node->directories[i]).state, DRIVE_STATE_OK);
    node_stop(io, node);
}

/* Cut the power after `events` of `fn`, then everything must be there. */
static void cut_off(uint64_t events, fiber_fn *fn, uint32_t drives_after)
{
    struct many *many = many_new(events + 1, 3);
    struct node *node = &many->node;
    node_run(node, start_write_stop);
    node->directories[3] = "/d3";
    node->directory_count = drives_after;
    many->count = fn == run_and_empty ? 0 : sim_event_count(node->sim);
    struct event_goal goal = {many, events};
    assert_int_equal(sim_spawn(node->machine, 0, fn, node), OK);
    (void)sim_run(node->sim, reached, &goal, UINT64_MAX);
    sim_power_cut(node->machine);
    kv_memory_crash(node->world, node_draw, node);
    sim_power_on(node->machine);
    node_run(node, start_and_read);
    many_free(many);
}

static void an_addition_that_is_cut_off_ends_in_the_old_or_the_new_set(void **state)
{
    (void)state;
    for (uint64_t events = 1; events < 400; events += 41)
        cut_off(events, try_to_start, 4);
}

static void a_replacement_that_is_cut_off_ends_in_the_old_or_the_new_set(void **state)
{
    (void)state;
    for (uint64_t events = 2; events < 400; events += 41)
        cut_off(events, empty_and_try_to_start, 3);
}

static void a_replacement_while_running_that_is_cut_off_ends_in_the_old_or_the_new_set(void **state)
{
    (void)state;
    for (uint64_t events = 3; events < 500; events += 53)
        cut_off(events, run_and_empty, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_drive_that_is_added_widens_new_blocks_at_once),
        cmocka_unit_test(an_emptied_drive_is_taken_as_a_new_one_within_seconds),
        cmocka_unit_test(more_missing_than_the_parity_is_refused_unless_accepted),
        cmocka_unit_test(drives_emptied_while_stopped_are_made_anew_as_far_as_parity_goes),
        cmocka_unit_test(a_missing_drive_that_is_back_serves_again),
        cmocka_unit_test(an_older_copy_of_a_drive_is_never_used),
        cmocka_unit_test(the_metadata_knows_an_older_copy_of_a_lone_drive),
        cmocka_unit_test(the_promised_parity_stays),
        cmocka_unit_test(an_addition_that_is_cut_off_ends_in_the_old_or_the_new_set),
        cmocka_unit_test(a_replacement_that_is_cut_off_ends_in_the_old_or_the_new_set),
        cmocka_unit_test(
            a_replacement_while_running_that_is_cut_off_ends_in_the_old_or_the_new_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
