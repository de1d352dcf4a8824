/* The Raft log on simulated and real disks: appends, power cuts, reading back, cutting, errors. */
#include "base/mem.h"
#include "log.h"
#include "runtime/runtime.h"
#include "runtime/sim.h"
#include "runtime/sync.h"
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    GROUP = 3,
    SEGMENT_BYTES = META_LOG_SEGMENT_BYTES_MIN,
    ENTRIES_MAX = 4096,
    VERSIONS_MAX = 8
};
static const uint8_t log_id[LOG_ID_BYTES] = "log test";

/* Checks inside fibers end the process: cmocka's jump does not cross stacks. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* What was appended, by index, and how much of it is known to be durable. */
struct entry_model {
    uint64_t term;
    uint64_t seed;
    uint32_t bytes;
};
struct model {
    struct sim *sim;
    struct metrics *metrics;
    struct meta_log *log;
    const char *directory;
    uint64_t segment_bytes;
    /* The newest version of each index first: a truncation that was not acknowledged may not
     * have happened. */
    struct entry_model entries[ENTRIES_MAX][VERSIONS_MAX];
    uint64_t last;         /* appended */
    uint64_t last_max;     /* at any time in this life */
    uint64_t acknowledged; /* entries told durable */
    uint64_t term;
    uint64_t random;
    unsigned appends; /* to make in a life */
    enum err opened;
    bool ended;
};

static uint64_t draw(struct model *model, uint64_t bound)
{
    model->random = model->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (model->random >> 33) % bound;
}

static void fill(uint8_t *out, uint32_t bytes, uint64_t seed)
{
    for (uint32_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(seed * 31 + i * (seed % 7));
}

static enum err open_log(struct io *io, struct model *model)
{
    struct meta_log_options options = {.directory = model->directory,
                                       .segment_bytes = model->segment_bytes,
                                       .metrics = model->metrics};
    memcpy(options.id, log_id, LOG_ID_BYTES);
    enum err made = io_make_directory(io, model->directory);
    if (made != OK && made != ERR_EXISTS)
        return made;
    TRY(io_sync_directory(io, "/"));
    return meta_log_open(io, &options, &model->log);
}

static enum err ensure_group(struct io *io, struct model *model)
{
    if (meta_log_group(model->log, GROUP) != NULL)
        return OK;
    struct raft_membership alone = {.voters = {1}, .voter_count = 1};
    uint64_t ticket = 0;
    TRY(meta_log_create_group(model->log, GROUP, 0, 0, &alone, &ticket));
    return meta_log_wait(io, model->log, ticket);
}

/* What the log holds is what was appended; nothing acknowledged is missing. */
static enum err check_contents(struct io *io, struct model *model)
{
    const struct log_group *group = meta_log_group(model->log, GROUP);
    uint64_t last = group == NULL ? 0 : group->last_index;
    uint64_t first = group == NULL ? 1 : group->compacted_index + 1;
    CHECK(last >= model->acknowledged);
    CHECK(last <= model->last_max);
    while (first <= last) {
        struct meta_log_entries read = {0};
        enum err err = meta_log_read(io, model->log, GROUP, first, last, 20000, &read);
        for (uint32_t i = 0; err == OK && i < read.count; i++) {
            struct entry_model *versions = model->entries[(first + i) % ENTRIES_MAX];
            unsigned at = 0;
            while (at < VERSIONS_MAX && versions[at].term != read.entries[i].term)
                at++;
            CHECK(at < VERSIONS_MAX);
            versions[0] = versions[at];
            uint8_t *expected = mem_alloc(versions[0].bytes + (size_t)1);
            fill(expected, versions[0].bytes, versions[0].seed);
            CHECK(slice_equal(read.entries[i].payload, slice_of(expected, versions[0].bytes)));
            mem_free(expected);
        }
        first += read.count;
        meta_log_entries_deinit(&read);
        TRY(err);
    }
    model->last = model->last_max = last;
    model->acknowledged = last;
    return OK;
}

static struct entry_model make_entry(struct model *model)
{
    return (struct entry_model){
        .term = model->term,
        .seed = draw(model, UINT32_MAX),
        .bytes = (uint32_t)(draw(model, 8) == 0 ? draw(model, 30000) : draw(model, 300))};
}

/* One append of up to four entries, at times after a truncation of what is not acknowledged. */
static enum err append_some(struct model *model, uint64_t *out_ticket)
{
    struct raft_entry entries[4];
    uint64_t from = 0;
    uint64_t from_term = 0;
    struct raft_hard_state hard = {.term = model->term, .vote = 1};
    if (model->last > model->acknowledged && draw(model, 8) == 0) {
        from = model->acknowledged + 1 + draw(model, model->last - model->acknowledged);
        from_term = from == 1 ? 0 : model->entries[(from - 1) % ENTRIES_MAX][0].term;
        model->last = from - 1;
        hard.term = ++model->term;
    }
    struct meta_log_write write = {.group = GROUP,
                                   .hard_state = &hard,
                                   .truncate_from = from,
                                   .truncate_term = from_term,
                                   .first_index = model->last + 1,
                                   .entries = entries,
                                   .entry_count = 1 + draw(model, 4)};
    for (uint64_t i = 0; i < write.entry_count; i++) {
        struct entry_model *entry = model->entries[++model->last % ENTRIES_MAX];
        memmove(entry + 1, entry, (VERSIONS_MAX - 1) * sizeof *entry);
        *entry = make_entry(model);
        uint8_t *payload = mem_alloc(entry->bytes + (size_t)1);
        fill(payload, entry->bytes, entry->seed);
        entries[i] = (struct raft_entry){
            .term = entry->term, .type = RAFT_COMMAND, .payload = slice_of(payload, entry->bytes)};
    }
    if (model->last > model->last_max)
        model->last_max = model->last;
    enum err err = meta_log_append(model->log, &write, out_ticket);
    for (uint64_t i = 0; i < write.entry_count; i++)
        mem_free((void *)(uintptr_t)entries[i].payload.data);
    return err;
}

static enum err live(struct io *io, struct model *model)
{
    TRY(open_log(io, model));
    TRY(check_contents(io, model));
    TRY(ensure_group(io, model));
    for (unsigned i = 0; i < model->appends; i++) {
        uint64_t ticket = 0;
        uint64_t last = 0;
        for (uint64_t burst = 1 + draw(model, 5); burst > 0; burst--) {
            TRY(append_some(model, &ticket));
            last = model->last;
            if (draw(model, 3) == 0)
                TRY(io_sleep_ms(io, draw(model, 3)));
        }
        if (draw(model, 2) == 0) {
            TRY(meta_log_wait(io, model->log, ticket));
            model->acknowledged = last;
        }
        if (draw(model, 20) == 0 && model->acknowledged > 0)
            TRY(meta_log_cut(io, model->log, GROUP, model->acknowledged,
                             draw(model, 2) * SEGMENT_BYTES));
    }
    return OK;
}

static void life_fiber(struct io *io, void *argument)
{
    struct model *model = argument;
    model->log = NULL;
    model->opened = live(io, model);
    meta_log_close(io, model->log);
    model->ended = true;
}

static bool has_ended(void *context)
{
    return ((struct model *)context)->ended;
}

struct cut_point {
    struct model *model;
    uint64_t events;
};

static bool cut_now(void *context)
{
    struct cut_point *point = context;
    return point->model->ended || sim_event_count(point->model->sim) >= point->events;
}

static struct model model_new(uint64_t seed)
{
    return (struct model){.metrics = metrics_new(),
                          .directory = "/log",
                          .segment_bytes = SEGMENT_BYTES,
                          .term = 1,
                          .random = seed,
                          .appends = 60};
}

static void one_seed(uint64_t seed)
{
    struct model model = model_new(seed);
    AUTO(sim) sim = sim_new(&(struct sim_options){.seed = seed});
    model.sim = sim;
    struct sim_machine *machine = sim_machine_new(sim, 1);
    for (unsigned life = 0; life < 6; life++) {
        model.ended = false;
        assert_int_equal(sim_spawn(machine, 0, life_fiber, &model), OK);
        struct cut_point point = {&model, sim_event_count(sim) + draw(&model, 1500)};
        sim_run(sim, cut_now, &point, UINT64_MAX);
        if (model.ended && model.opened != OK)
            fail_msg("seed %lu: %s", seed, err_text(model.opened));
        if (model.ended || draw(&model, 4) > 0)
            sim_power_cut(machine);
        else
            sim_kill(machine);
        sim_power_on(machine);
    }
    metrics_free(model.metrics);
}

static void power_cuts_never_lose_what_was_acknowledged(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++)
        one_seed(seed);
}

/* --- a process killed while it makes its first segments --- */

static bool has_acknowledged(void *context)
{
    const struct model *model = context;
    return model->ended || model->acknowledged > 0;
}

static void begin_life(struct model *model, struct sim_machine *machine)
{
    model->ended = false;
    assert_int_equal(sim_spawn(machine, 0, life_fiber, model), OK);
}

/* What the killed process had not synced is what the next one begins with. */
static void kill_then_cut(uint64_t seed, uint64_t events)
{
    struct model model = model_new(seed);
    AUTO(sim) sim = sim_new(&(struct sim_options){.seed = seed});
    struct sim_machine *machine = sim_machine_new(sim, 1);
    struct cut_point point = {&model, events};
    model.sim = sim;
    begin_life(&model, machine);
    sim_run(sim, cut_now, &point, UINT64_MAX);
    sim_kill(machine);
    sim_power_on(machine);
    begin_life(&model, machine);
    sim_run(sim, has_acknowledged, &model, UINT64_MAX);
    sim_power_cut(machine);
    sim_power_on(machine);
    model.appends = 0;
    begin_life(&model, machine);
    assert_true(sim_run(sim, has_ended, &model, UINT64_MAX));
    assert_int_equal(model.opened, OK);
    metrics_free(model.metrics);
}

static void a_kill_at_any_event_of_the_first_start_loses_nothing_later(void **state)
{
    (void)state;
    for (uint64_t events = 1; events <= 60; events++)
        for (uint64_t seed = 1; seed <= 3; seed++)
            kill_then_cut(seed, events);
}

/* --- directed faults --- */

struct directed {
    struct model model;
    struct sim_machine *machine;
    enum err appended, waited, after;
    uint32_t segments_before, segments_after;
};

static void run_directed(struct directed *directed, const struct sim_options *options, fiber_fn *fn)
{
    directed->model = model_new(1);
    AUTO(sim) sim = sim_new(options);
    directed->model.sim = sim;
    directed->machine = sim_machine_new(sim, 1);
    assert_int_equal(sim_spawn(directed->machine, 0, fn, directed), OK);
    assert_true(sim_run(sim, has_ended, &directed->model, UINT64_MAX));
    metrics_free(directed->model.metrics);
}

static void write_fails_fiber(struct io *io, void *argument)
{
    struct directed *directed = argument;
    struct model *model = &directed->model;
    uint64_t ticket = 0;
    CHECK(open_log(io, model) == OK);
    CHECK(ensure_group(io, model) == OK);
    sim_set_fault(directed->machine, &(struct sim_fault){.prefix = "/log", .write_fails = true});
    directed->appended = append_some(model, &ticket);
    directed->waited = meta_log_wait(io, model->log, ticket);
    sim_clear_faults(directed->machine);
    directed->after = append_some(model, &ticket);
    meta_log_close(io, model->log);
    model->ended = true;
}

static void a_failed_write_fences_the_log_for_good(void **state)
{
    (void)state;
    struct directed directed = {0};
    run_directed(&directed, &(struct sim_options){.seed = 1}, write_fails_fiber);
    assert_int_equal(directed.appended, OK);
    assert_int_equal(directed.waited, ERR_FENCED);
    assert_int_equal(directed.after, ERR_FENCED);
}

/* Fill the disk; what was kept ready takes urgent writes, and cutting lets the log go on. */
static void full_disk_fiber(struct io *io, void *argument)
{
    struct directed *directed = argument;
    struct model *model = &directed->model;
    uint64_t ticket = 0;
    CHECK(open_log(io, model) == OK);
    CHECK(ensure_group(io, model) == OK);
    CHECK(io_sleep_ms(io, 500) == OK); /* until the spares are there */
    sim_set_fault(directed->machine, &(struct sim_fault){.prefix = "/log/preparing", .full = true});
    for (unsigned i = 0; meta_log_has_space(model->log, 4000, false); i++) {
        CHECK(i < 1000);
        CHECK(append_some(model, &ticket) == OK);
        CHECK(meta_log_wait(io, model->log, ticket) == OK);
    }
    CHECK(meta_log_has_space(model->log, 4000, true));
    CHECK(append_some(model, &ticket) == OK);
    CHECK(meta_log_wait(io, model->log, ticket) == OK);
    sim_clear_faults(directed->machine);
    CHECK(io_sleep_ms(io, 3000) == OK);
    CHECK(meta_log_has_space(model->log, 4000, false));
    meta_log_close(io, model->log);
    model->ended = true;
}

static void a_full_disk_leaves_room_for_urgent_writes(void **state)
{
    (void)state;
    struct directed directed = {0};
    run_directed(&directed, &(struct sim_options){.seed = 2}, full_disk_fiber);
}

static void cut_fiber(struct io *io, void *argument)
{
    struct directed *directed = argument;
    struct model *model = &directed->model;
    uint64_t ticket = 0;
    CHECK(open_log(io, model) == OK);
    CHECK(ensure_group(io, model) == OK);
    while (meta_log_segment_count(model->log) < 6) {
        CHECK(append_some(model, &ticket) == OK);
        CHECK(meta_log_wait(io, model->log, ticket) == OK);
        model->acknowledged = model->last;
    }
    uint64_t half = model->last / 2;
    CHECK(meta_log_cut(io, model->log, GROUP, half, 0) == OK);
    directed->segments_before = meta_log_segment_count(model->log);
    struct meta_log_entries read = {0};
    CHECK(meta_log_read(io, model->log, GROUP, 1, 1, 1, &read) == ERR_COMPACTED);
    meta_log_entries_deinit(&read);
    CHECK(meta_log_group(model->log, GROUP)->compacted_index <= half);
    meta_log_close(io, model->log);
    CHECK(open_log(io, model) == OK);
    CHECK(check_contents(io, model) == OK);
    directed->segments_after = meta_log_segment_count(model->log);
    CHECK(meta_log_group(model->log, GROUP)->membership_count == 1);
    CHECK(meta_log_group(model->log, GROUP)->hard_state.term == model->term);
    meta_log_close(io, model->log);
    model->ended = true;
}

static void a_cut_deletes_whole_segments_and_keeps_the_rest_readable(void **state)
{
    (void)state;
    struct directed directed = {0};
    run_directed(&directed, &(struct sim_options){.seed = 3}, cut_fiber);
    assert_true(directed.segments_before > 1);
    assert_true(directed.segments_before < 6);
    assert_int_equal(directed.segments_before, directed.segments_after);
}

static void flip_fiber(struct io *io, void *argument)
{
    struct directed *directed = argument;
    struct model *model = &directed->model;
    uint64_t ticket = 0;
    CHECK(open_log(io, model) == OK);
    CHECK(ensure_group(io, model) == OK);
    for (unsigned i = 0; i < 20; i++)
        CHECK(append_some(model, &ticket) == OK);
    CHECK(meta_log_wait(io, model->log, ticket) == OK);
    meta_log_close(io, model->log);
    uint64_t bit = (3 * (uint64_t)LOG_BLOCK_BYTES + 700) * 8;
    CHECK(sim_flip_bit(directed->machine, "/log/segment-0000000000000001", bit) == OK);
    model->log = NULL;
    directed->after = open_log(io, model);
    model->ended = true;
}

static void damage_refuses_to_start(void **state)
{
    (void)state;
    struct directed directed = {0};
    run_directed(&directed, &(struct sim_options){.seed = 4}, flip_fiber);
    assert_int_equal(directed.after, ERR_CORRUPT);
}

/* --- a real disk --- */

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void the_log_works_on_a_real_disk(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    char *path = mem_format("%s/shale-log-XXXXXX", parent == NULL ? "/tmp" : parent);
    assert_non_null(mkdtemp(path));
    struct model model = model_new(11);
    model.directory = path;
    model.segment_bytes = 1 << 20;
    for (unsigned life = 0; life < 3; life++) {
        AUTO(runtime) runtime = NULL;
        assert_int_equal(runtime_new(&(struct runtime_options){.reactor_count = 1}, &runtime), OK);
        runtime_run(runtime, life_fiber, &model);
        assert_int_equal(model.opened, OK);
    }
    metrics_free(model.metrics);
    assert_int_equal(nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
    mem_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_cuts_never_lose_what_was_acknowledged),
        cmocka_unit_test(a_kill_at_any_event_of_the_first_start_loses_nothing_later),
        cmocka_unit_test(a_failed_write_fences_the_log_for_good),
        cmocka_unit_test(a_full_disk_leaves_room_for_urgent_writes),
        cmocka_unit_test(a_cut_deletes_whole_segments_and_keeps_the_rest_readable),
        cmocka_unit_test(damage_refuses_to_start),
        cmocka_unit_test(the_log_works_on_a_real_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
