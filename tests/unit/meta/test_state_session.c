/* Exactly once (I11), and what ends a session. */
#include "fixture.h"

FIXTURE_SERVER

static struct command upload_create(const struct world *world)
{
    return (struct command){.type = COMMAND_UPLOAD_CREATE,
                            .upload = {.bucket_id = world->bucket_id, .key = SLICE_LITERAL("k")}};
}

static struct entry_header header_of(const struct world *world, uint64_t sequence,
                                     uint64_t done_below)
{
    return (struct entry_header){.wall_ms = world->server->wall_ms,
                                 .session = world->server->session,
                                 .sequence = sequence,
                                 .done_below = done_below};
}

/* Each upload created is one effect more. */
static uint32_t effects(const struct world *world)
{
    struct list_query query = {.bucket_id = world->bucket_id, .max = META_LIST_MAX};
    AUTO(list_page) page = NULL;
    assert_int_equal(meta_upload_list(NULL, world->client, &query, &page), OK);
    return page->count;
}

static struct result propose(const struct world *world, uint64_t sequence, uint64_t done_below)
{
    struct command command = upload_create(world);
    struct entry_header header = header_of(world, sequence, done_below);
    return server_entry(world->server, &header, &command);
}

static struct result propose_next(const struct world *world)
{
    uint64_t sequence = ++world->server->sequence;
    return propose(world, sequence, sequence);
}

static void reopen(struct world *world)
{
    state_free(world->server->state);
    assert_int_equal(state_open(the_lane(), world->server->kv, &world->server->state), OK);
}

static void a_repeated_proposal_takes_effect_once(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    uint64_t base = world.server->sequence + 10;
    struct result first = propose(&world, base + 1, base);
    struct result other = propose(&world, base + 3, base); /* out of order */
    reopen(&world);
    struct result again = propose(&world, base + 1, base);
    assert_int_equal(again.outcome, RESULT_APPLIED);
    assert_int_equal(again.written.stamp, first.written.stamp);
    assert_int_not_equal(other.written.stamp, first.written.stamp);
    assert_int_equal(effects(&world), 2);
    world_deinit(&world);
}

static void a_refusal_is_repeated_as_well(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    uint64_t sequence = world.server->sequence + 1;
    struct command abort = {.type = COMMAND_UPLOAD_ABORT,
                            .upload = {.bucket_id = world.bucket_id,
                                       .key = SLICE_LITERAL("k"),
                                       .upload_id = world.bucket_id + 1}};
    struct entry_header header = header_of(&world, sequence, sequence);
    assert_int_equal(server_entry(world.server, &header, &abort).err, ERR_NOT_FOUND);
    assert_int_equal(server_entry(world.server, &header, &abort).err, ERR_NOT_FOUND);
    world_deinit(&world);
}

static void what_is_done_is_stale_and_its_result_is_freed(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    uint64_t base = world.server->sequence + 1;
    (void)propose(&world, base, base);
    (void)propose(&world, base + 1, base + 1);
    AUTO_VALUE(bytes) value = {.max = KV_VALUE_BYTES_MAX};
    struct row_key freed = row_key_2(TABLE_RESULT, world.server->session, base);
    assert_int_equal(kv_get(the_lane(), world.server->kv, row_key_slice(&freed), &value),
                     ERR_NOT_FOUND);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(propose(&world, base, base).outcome, RESULT_STALE);
        assert_int_equal(propose(&world, base + 2, base + 3).outcome, RESULT_STALE);
        reopen(&world);
    }
    assert_int_equal(effects(&world), 2);
    world_deinit(&world);
}

static void more_results_than_a_session_may_keep_are_refused(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    uint64_t base = world.server->sequence + 1;
    (void)propose(&world, base, base);
    uint64_t last = base + SESSION_RESULTS_MAX - 1;
    assert_int_equal(propose(&world, last + 1, base).err, ERR_BUSY);
    assert_int_equal(propose(&world, last, base).err, OK);
    assert_int_equal(propose(&world, last + 1, last).err, OK);
    assert_int_equal(propose(&world, last, last).outcome, RESULT_APPLIED);
    assert_int_equal(effects(&world), 3);
    world_deinit(&world);
}

static void an_idle_session_is_closed_by_tick_time(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct meta_group *server = world.server;
    uint64_t idle = server->session;
    uint64_t sequence = server->sequence;
    server_open_session(server);
    for (uint64_t ms = 0; ms < SESSION_IDLE_MS; ms += 5000) {
        assert_int_equal(propose_next(&world).err, OK);
        server_tick(server, 5000);
        reopen(&world); /* the last use is not lost */
    }
    assert_int_equal(propose_next(&world).outcome, RESULT_APPLIED);
    struct command command = upload_create(&world);
    struct entry_header header = {
        .session = idle, .sequence = sequence + 1, .done_below = sequence + 1};
    assert_int_equal(server_entry(server, &header, &command).outcome, RESULT_SESSION_CLOSED);
    world_deinit(&world);
}

static void ticks_keep_their_own_session_alive(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct meta_group *server = world.server;
    for (uint64_t ms = 0; ms < 3 * SESSION_IDLE_MS; ms += 5000) {
        server->wall_ms += 5000;
        struct command tick = {.type = COMMAND_TICK, .tick = {.tick_ms = server->wall_ms}};
        struct entry_header header = {.wall_ms = server->wall_ms, .session = server->session};
        assert_int_equal(server_entry(server, &header, &tick).err, OK);
        reopen(&world);
    }
    assert_int_equal(propose_next(&world).outcome, RESULT_APPLIED);
    world_deinit(&world);
}

static void time_without_ticks_closes_nothing(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    server_tick(world.server, 24 * 3600 * UINT64_C(1000));
    assert_int_equal(propose(&world, world.server->sequence + 1, 1).outcome, RESULT_APPLIED);
    world_deinit(&world);
}

static void other_entries_move_the_position_and_keep_the_membership(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct state *state = world.server->state;
    struct state_position before = state_position(state);
    struct slice membership = SLICE_LITERAL("three voters");
    assert_int_equal(state_apply_other(the_lane(), state, before.index + 1, 2, NULL), OK);
    assert_int_equal(state_apply_other(the_lane(), state, before.index + 2, 2, &membership), OK);
    reopen(&world);
    struct state_position after = state_position(world.server->state);
    assert_int_equal(after.index, before.index + 2);
    assert_int_equal(after.term, 2);
    assert_int_not_equal(after.hash, before.hash);
    assert_true(slice_equal(state_membership(world.server->state), membership));
    world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_repeated_proposal_takes_effect_once),
        cmocka_unit_test(a_refusal_is_repeated_as_well),
        cmocka_unit_test(what_is_done_is_stale_and_its_result_is_freed),
        cmocka_unit_test(more_results_than_a_session_may_keep_are_refused),
        cmocka_unit_test(an_idle_session_is_closed_by_tick_time),
        cmocka_unit_test(ticks_keep_their_own_session_alive),
        cmocka_unit_test(time_without_ticks_closes_nothing),
        cmocka_unit_test(other_entries_move_the_position_and_keep_the_membership),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
