/* The simulator: lives, faults, determinism. */
#include "base/log.h"
#include "base/mem.h"
#include "runtime/lane.h"
#include "runtime/sim.h"
#include "runtime/sync.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NEVER_NS UINT64_MAX
#define RUN_NS (3600 * IO_NS_PER_S)

static bool never(void *context)
{
    (void)context;
    return false;
}

static bool is_set(void *context)
{
    return *(bool *)context;
}

struct event_goal {
    struct sim *sim;
    uint64_t count;
};

static bool events_reached(void *context)
{
    const struct event_goal *goal = context;
    return sim_event_count(goal->sim) >= goal->count;
}

static void run_events(struct sim *sim, uint64_t count)
{
    struct event_goal goal = {.sim = sim, .count = sim_event_count(sim) + count};
    (void)sim_run(sim, events_reached, &goal, NEVER_NS); /* or until nothing is left */
}

/* Run fn to its end on reactor 0 of a machine. */
struct body {
    void (*fn)(struct io *io, void *argument);
    void *argument;
    bool done;
};

static void body_fiber(struct io *io, void *argument)
{
    struct body *body = argument;
    body->fn(io, body->argument);
    body->done = true;
}

static void run(struct sim *sim, struct sim_machine *machine, fiber_fn *fn, void *argument)
{
    struct body body = {.fn = fn, .argument = argument};
    assert_int_equal(sim_spawn(machine, 0, body_fiber, &body), OK);
    assert_true(sim_run(sim, is_set, &body.done, sim_now_ns(sim) + RUN_NS));
}

/* --- a log whose every acknowledged record must survive --- */

enum { RECORD_BYTES = 1536, RECORDS_MAX = 400 };

struct log_life {
    uint64_t acknowledged; /* records, over all lives */
    bool violated;         /* an acknowledged record was gone or wrong */
    bool sync_later;       /* io_sync instead of WRITE_DURABLE */
};

static uint64_t record_word(uint64_t index, size_t at)
{
    return (index + 1) * 1000003 + at;
}

static void record_fill(struct buf *buf, uint64_t index)
{
    for (size_t at = 0; at < RECORD_BYTES; at += sizeof(uint64_t)) {
        uint64_t word = record_word(index, at);
        memcpy(buf->data + at, &word, sizeof word);
    }
}

static bool record_is(const struct buf *buf, uint64_t index)
{
    for (size_t at = 0; at < RECORD_BYTES; at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, buf->data + at, sizeof word);
        if (word != record_word(index, at))
            return false;
    }
    return true;
}

static enum err log_check(struct io *io, struct file *file, struct log_life *log)
{
    AUTO(buf) buf = buf_new(RECORD_BYTES);
    for (uint64_t i = 0; i < log->acknowledged; i++) {
        size_t bytes = 0;
        TRY(io_read(io, file, buf, 0, RECORD_BYTES, i * RECORD_BYTES, &bytes));
        log->violated |= bytes != RECORD_BYTES || !record_is(buf, i);
    }
    return OK;
}

static enum err log_append(struct io *io, struct file *file, struct log_life *log)
{
    AUTO(buf) buf = buf_new(RECORD_BYTES);
    record_fill(buf, log->acknowledged);
    const struct io_part part = {.buf = buf, .bytes = RECORD_BYTES};
    TRY(io_write(io, file, &part, 1, log->acknowledged * RECORD_BYTES,
                 log->sync_later ? 0 : WRITE_DURABLE));
    if (log->sync_later)
        TRY(io_sync(io, file));
    log->acknowledged++;
    return OK;
}

static enum err log_live(struct io *io, struct log_life *log)
{
    AUTO(file) file = NULL;
    TRY(io_open(io, "/log", FILE_WRITE | FILE_CREATE, &file));
    struct file_info info;
    TRY(io_file_info(io, file, &info));
    if (log->acknowledged > 0 && info.bytes < log->acknowledged * RECORD_BYTES)
        log->violated = true;
    TRY(log_check(io, file, log));
    TRY(io_sync_directory(io, "/"));
    for (;;) {
        TRY(log_append(io, file, log));
        if (log->acknowledged == RECORDS_MAX) {
            TRY(io_truncate(io, file, 0));
            log->acknowledged = 0;
        }
    }
}

static void log_fiber(struct io *io, void *argument)
{
    assert_int_equal(log_live(io, argument), ERR_CANCELED);
}

/* Lives of one log, each ended by a power cut after a drawn number of events. True when a record
 * was lost. */
static bool log_lives(uint64_t seed, unsigned lives, const struct sim_fault *fault, bool sync_later,
                      uint64_t *out_hash)
{
    AUTO(sim) sim = sim_new(&(struct sim_options){.seed = seed});
    struct sim_machine *machine = sim_machine_new(sim, 1);
    if (fault != NULL)
        sim_set_fault(machine, fault);
    struct log_life log = {.sync_later = sync_later};
    for (unsigned life = 0; life < lives && !log.violated; life++) {
        assert_int_equal(sim_spawn(machine, 0, log_fiber, &log), OK);
        run_events(sim, sim_draw(sim, 2 * log.acknowledged + 40));
        sim_power_cut(machine);
        assert_false(sim_is_on(machine));
        sim_power_on(machine);
    }
    if (out_hash != NULL)
        *out_hash = sim_trace_hash(sim);
    return log.violated;
}

static void acknowledged_records_survive_every_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        assert_false(log_lives(seed, 100, NULL, false, NULL));
        assert_false(log_lives(seed, 100, NULL, true, NULL));
    }
}

static void a_sync_that_does_nothing_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct sim_fault fault;
        bool sync_later;
        unsigned found_min;
    } cases[] = {
        {"io_sync", {.prefix = "/log", .sync_ignored = true}, true, 15},
        {"WRITE_DURABLE", {.prefix = "/log", .durable_ignored = true}, false, 15},
        /* Once a cut has kept the name, nothing is left to find. */
        {"directory", {.prefix = "/", .sync_ignored = true}, false, 5},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned found = 0;
        for (uint64_t seed = 0; seed < 20; seed++)
            found += log_lives(seed, 30, &cases[i].fault, cases[i].sync_later, NULL);
        if (found < cases[i].found_min)
            fail_msg("%s: found by %u of 20 seeds", cases[i].name, found);
    }
}

static void the_same_seed_gives_the_same_run(void **state)
{
    (void)state;
    uint64_t former = 0;
    for (uint64_t seed = 0; seed < 10; seed++) {
        uint64_t first;
        uint64_t second;
        (void)log_lives(seed, 20, NULL, seed % 2 == 0, &first);
        (void)log_lives(seed, 20, NULL, seed % 2 == 0, &second);
        assert_true(first == second);
        assert_true(first != former);
        former = first;
    }
}

/* --- a power cut ends every kind of wait --- */

struct waits {
    struct semaphore semaphore;
    struct signal signal;
    struct fiber_group group;
    struct lane *lane;
    struct io *other;
    unsigned begun;
    unsigned ended;
};

static void begin(struct waits *waits)
{
    waits->begun++;
}

static void wait_file(struct io *io, void *argument)
{
    struct waits *waits = argument;
    begin(waits);
    AUTO(file) file = NULL;
    AUTO(buf) buf = buf_new(4096);
    enum err result = io_open(io, "/file", FILE_WRITE | FILE_CREATE, &file);
    const struct io_part part = {.buf = buf, .bytes = 4096};
    memset(buf->data, 1, 4096);
    while (result == OK) {
        result = io_write(io, file, &part, 1, 0, WRITE_DURABLE);
        size_t bytes;
        if (result == OK)
            result = io_read(io, file, buf, 0, 4096, 0, &bytes);
    }
    assert_int_equal(result, ERR_CANCELED);
    waits->ended++;
}

static void wait_names(struct io *io, void *argument)
{
    struct waits *waits = argument;
    begin(waits);
    enum err result = OK;
    while (result == OK || result == ERR_NOT_FOUND || result == ERR_EXISTS) {
        result = io_make_directory(io, "/directory");
        if (result == OK)
            result = io_rename(io, "/directory", "/other");
        AUTO_VALUE(bytes) names = {.max = 1000};
        if (result == OK)
            result = io_list_directory(io, "/", &names);
        if (result == OK)
            result = io_remove_tree(io, "/other");
    }
    assert_int_equal(result, ERR_CANCELED);
    waits->ended++;
}

static void wait_sleep(struct io *io, void *argument)
{
    struct waits *waits = argument;
    begin(waits);
    assert_int_equal(io_sleep_ms(io, UINT64_C(1000) * 3600), ERR_CANCELED);
    assert_true(io_canceled(io));
    waits->ended++;
}

static void wait_yield(struct io *io, void *argument)
{
    struct waits *waits = argument;
    begin(waits);
    while (io_yield(io) == OK)
        continue;
    waits->ended++;
}

static void wait_semaphore(struct io *io, void *argument)
{
    struct waits *waits = argument;
    begin(waits);
    assert_int_equal(semaphore_take(io, &waits->semaphore, 1, NEVER_NS), ERR_CANCELED);
    waits->ended++;
}

static void wait_signal(struct io *io, void *argument)
{
    struct waits *waits = argument;
    begin(waits);
    assert_int_equal(signal_wait(io, &waits->signal, NEVER_NS), ERR_CANCELED);
    waits->ended++;
}

static void lane_job(struct lane *lane, void *argument)
{
    assert_true(lane_is_current(lane));
    (*(unsigned *)argument)++;
}

static void wait_lane(struct io *io, void *argument)
{
    struct waits *waits = argument;
    begin(waits);
    enum err result = OK;
    while (result == OK) {
        unsigned count = 0;
        result = lane_run(io, waits->lane, lane_job, &count);
        assert_int_equal(count, result == OK);
    }
    assert_int_equal(result, ERR_CANCELED);
    waits->ended++;
}

static void called(struct io *io, void *argument)
{
    *(enum err *)argument = io_sleep_ms(io, 1);
}

static void wait_call(struct io *io, void *argument)
{
    struct waits *waits = argument;
    begin(waits);
    enum err result = OK;
    while (result == OK)
        io_call(io, waits->other, called, &result);
    assert_int_equal(result, ERR_CANCELED);
    waits->ended++;
}

static void wait_group(struct io *io, void *argument)
{
    struct waits *waits = argument;
    begin(waits);
    assert_int_equal(fiber_group_spawn(io, &waits->group, wait_sleep, waits), OK);
    assert_int_equal(fiber_group_spawn(io, &waits->group, wait_lane, waits), OK);
    fiber_group_wait(io, &waits->group);
    waits->ended++;
}

static void post_again(struct io *io, void *argument)
{
    if (!io_canceled(io))
        io_post(((struct waits *)argument)->other, post_again, argument);
}

static void wait_post(struct io *io, void *argument)
{
    struct waits *waits = argument;
    begin(waits);
    post_again(io, waits);
    waits->ended++;
}

static void a_cut_unwinds_every_kind_of_wait(void **state)
{
    (void)state;
    static fiber_fn *const kinds[] = {wait_file,      wait_names,  wait_sleep, wait_yield,
                                      wait_semaphore, wait_signal, wait_lane,  wait_call,
                                      wait_group,     wait_post};
    for (uint64_t seed = 0; seed < 200; seed++) {
        const struct sim_options options = {.seed = seed};
        AUTO(sim) sim = sim_new(&options);
        struct sim_machine *machine = sim_machine_new(sim, 2);
        struct waits waits = {.other = sim_machine_io(machine, 1)};
        semaphore_init(&waits.semaphore, 0, 10);
        signal_init(&waits.signal);
        fiber_group_init(&waits.group);
        assert_int_equal(lane_new(sim_machine_io(machine, 0), "lane", 1, &waits.lane), OK);
        for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
            assert_int_equal(sim_spawn(machine, 0, kinds[i], &waits), OK);
        run_events(sim, sim_draw(sim, 200));
        if (seed % 4 == 0)
            sim_kill(machine);
        else
            sim_power_cut(machine);
        assert_int_equal(waits.begun, 12);
        assert_int_equal(waits.ended, 12);
        lane_free(waits.lane);
    }
}

static void hang(struct io *io, void *argument)
{
    (void)argument;
    struct fiber_group group;
    fiber_group_init(&group);
    group.running = 1; /* of a member that does not exist */
    fiber_group_wait(io, &group);
}

static void discard(void *context, enum log_level level, const char *line)
{
    (void)context;
    (void)level;
    (void)line;
}

static void a_fiber_that_does_not_end_stops_the_process(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        log_set_sink(discard, NULL);
        const struct sim_options options = {.seed = 1};
        struct sim_machine *machine = sim_machine_new(sim_new(&options), 1);
        if (sim_spawn(machine, 0, hang, NULL) == OK)
            sim_power_cut(machine);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void cut_other(struct io *io, void *argument)
{
    (void)io_sleep_ms(io, 1); /* not canceled in this test */
    sim_power_cut(argument);
    (void)io_sleep_ms(io, 1); /* the same */
}

static void a_fiber_may_cut_another_machine(void **state)
{
    (void)state;
    const struct sim_options options = {.seed = 1};
    AUTO(sim) sim = sim_new(&options);
    struct sim_machine *first = sim_machine_new(sim, 1);
    struct sim_machine *second = sim_machine_new(sim, 1);
    struct waits waits = {0};
    assert_int_equal(sim_spawn(first, 0, wait_file, &waits), OK);
    assert_int_equal(sim_spawn(first, 0, wait_sleep, &waits), OK);
    run(sim, second, cut_other, first);
    assert_int_equal(waits.ended, 2);
    assert_false(sim_is_on(first));
    sim_stop(second);
}

/* --- faults --- */

static void write_text(struct io *io, const char *path, const char *text, unsigned flags,
                       enum err *out_result)
{
    AUTO(file) file = NULL;
    *out_result = io_open(io, path, FILE_WRITE | FILE_CREATE, &file);
    if (*out_result != OK)
        return;
    AUTO(buf) buf = buf_new(4096);
    memcpy(buf->data, text, strlen(text));
    const struct io_part part = {.buf = buf, .bytes = strlen(text)};
    *out_result = io_write(io, file, &part, 1, 0, flags);
}

static void read_text(struct io *io, const char *path, char *out, size_t max, enum err *out_result)
{
    AUTO(file) file = NULL;
    *out_result = io_open(io, path, 0, &file);
    if (*out_result != OK)
        return;
    AUTO(buf) buf = buf_new(4096);
    size_t bytes = 0;
    *out_result = io_read(io, file, buf, 0, max - 1, 0, &bytes);
    memcpy(out, buf->data, bytes);
    out[bytes] = '\0';
}

static void sync_file(struct io *io, const char *path, enum err *out_result)
{
    AUTO(file) file = NULL;
    *out_result = io_open(io, path, FILE_WRITE, &file);
    if (*out_result == OK)
        *out_result = io_sync(io, file);
}

struct outcome {
    enum err write;
    enum err durable_write;
    enum err rewrite; /* of blocks that exist */
    enum err read;
    enum err sync;
    enum err rename;
    uint64_t ns;
};

static void try_all(struct io *io, void *argument)
{
    struct outcome *out = argument;
    char text[16];
    uint64_t start_ns = io_now_ns(io);
    write_text(io, "/bad/new", "text", 0, &out->write);
    write_text(io, "/bad/durable", "text", WRITE_DURABLE, &out->durable_write);
    write_text(io, "/bad/old", "text", 0, &out->rewrite);
    read_text(io, "/bad/old", text, sizeof text, &out->read);
    sync_file(io, "/bad/old", &out->sync);
    out->rename = io_rename(io, "/bad/old", "/bad/older");
    if (out->rename == OK)
        assert_int_equal(io_rename(io, "/bad/older", "/bad/old"), OK);
    (void)io_unlink(io, "/bad/new"); /* may not be there */
    (void)io_unlink(io, "/bad/durable");
    out->ns = io_now_ns(io) - start_ns;
    enum err result;
    write_text(io, "/good", "text", WRITE_DURABLE, &result);
    assert_int_equal(result, OK);
}

static void prepare(struct io *io, void *argument)
{
    (void)argument;
    enum err result;
    assert_int_equal(io_make_directory(io, "/bad"), OK);
    write_text(io, "/bad/old", "text", WRITE_DURABLE, &result);
    assert_int_equal(result, OK);
}

static void directed_faults_strike_their_paths_only(void **state)
{
    (void)state;
    static const struct {
        struct sim_fault fault;
        struct outcome outcome;
    } cases[] = {
        {{.prefix = "/bad"}, {0}},
        {{.prefix = "/bad", .read_fails = true}, {.read = ERR_IO}},
        {{.prefix = "/bad", .sync_fails = true}, {.durable_write = ERR_IO, .sync = ERR_IO}},
        {{.prefix = "/bad", .full = true}, {.write = ERR_NO_SPACE, .durable_write = ERR_NO_SPACE}},
        {{.prefix = "/bad/new", .full = true}, {.write = ERR_NO_SPACE}},
        {{.prefix = "/bad", .write_fails = true},
         {.write = ERR_IO, .durable_write = ERR_IO, .rewrite = ERR_IO, .rename = ERR_IO}},
    };
    const struct sim_options options = {.seed = 1};
    AUTO(sim) sim = sim_new(&options);
    struct sim_machine *machine = sim_machine_new(sim, 1);
    run(sim, machine, prepare, NULL);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sim_set_fault(machine, &cases[i].fault);
        struct outcome outcome = {0};
        run(sim, machine, try_all, &outcome);
        outcome.ns = 0;
        assert_memory_equal(&outcome, &cases[i].outcome, sizeof outcome);
        sim_clear_faults(machine);
    }
    assert_true(sim_fault_count(sim, "read_error") > 0);
    assert_true(sim_fault_count(sim, "write_error") > 0);
    assert_true(sim_fault_count(sim, "sync_error") > 0);
    assert_true(sim_fault_count(sim, "no_space") > 0);
    const struct sim_fault slow = {.prefix = "/bad", .latency_ns = IO_NS_PER_S};
    sim_set_fault(machine, &slow);
    struct outcome outcome = {0};
    run(sim, machine, try_all, &outcome);
    assert_true(outcome.ns > 10 * IO_NS_PER_S);
    assert_true(sim_fault_count(sim, "slow_disk") > 0);
    assert_int_equal(sim_fault_count(sim, "no such fault"), 0);
    sim_stop(machine);
}

static void many_operations(struct io *io, void *argument)
{
    struct waits *waits = argument;
    AUTO(file) file = NULL;
    while (io_open(io, "/file", FILE_WRITE | FILE_CREATE, &file) != OK)
        continue;
    AUTO(buf) buf = buf_new(8192);
    for (unsigned i = 0; i < 300; i++) {
        memset(buf->data, (int)i, 8192);
        const struct io_part parts[2] = {{.buf = buf, .bytes = 4096},
                                         {.buf = buf, .offset = 4096, .bytes = 4096}};
        size_t bytes;
        (void)io_write(io, file, parts, 2, i % 4 * 8192, i % 2 == 0 ? WRITE_DURABLE : 0);
        (void)io_read(io, file, buf, 0, 4096, i % 8 * 4096, &bytes);
        (void)io_sync(io, file); /* any of these may fail: only the counters are looked at */
        (void)io_wall_ms(io);
    }
    waits->ended++;
}

static bool four_ended(void *context)
{
    return ((struct waits *)context)->ended == 4;
}

static uint64_t random_faults(uint64_t seed, bool check)
{
    const struct sim_options options = {.seed = seed,
                                        .latency_spike_ppm = 20000,
                                        .read_error_ppm = 20000,
                                        .write_error_ppm = 20000,
                                        .sync_error_ppm = 20000,
                                        .flip_ppm = 20000,
                                        .misdirected_write_ppm = 20000,
                                        .misdirected_read_ppm = 20000,
                                        .phantom_write_ppm = 20000,
                                        .clock_jump_ppm = 20000};
    AUTO(sim) sim = sim_new(&options);
    struct waits waits = {0};
    for (unsigned i = 0; i < 4; i++) {
        struct sim_machine *machine = sim_machine_new(sim, 2);
        assert_int_equal(sim_spawn(machine, i % 2, many_operations, &waits), OK);
    }
    assert_true(sim_run(sim, four_ended, &waits, NEVER_NS));
    static const char *const wanted[] = {
        "latency_spike",     "read_error",       "write_error",   "sync_error", "flip",
        "misdirected_write", "misdirected_read", "phantom_write", "clock_jump",
    };
    for (unsigned i = 0; check && i < sizeof wanted / sizeof wanted[0]; i++) {
        if (sim_fault_count(sim, wanted[i]) < 5)
            fail_msg("%s fired too rarely", wanted[i]);
    }
    return sim_trace_hash(sim);
}

static void drawn_faults_fire_and_repeat_with_their_seed(void **state)
{
    (void)state;
    uint64_t hash = random_faults(7, true);
    assert_true(hash == random_faults(7, true));
    assert_true(hash != random_faults(8, false));
}

static void flip_and_read(struct io *io, void *argument)
{
    enum err result;
    read_text(io, "/bad/old", argument, 16, &result);
    assert_int_equal(result, OK);
}

static void a_bit_can_be_flipped_from_outside(void **state)
{
    (void)state;
    const struct sim_options options = {.seed = 1};
    AUTO(sim) sim = sim_new(&options);
    struct sim_machine *machine = sim_machine_new(sim, 1);
    run(sim, machine, prepare, NULL);
    assert_int_equal(sim_flip_bit(machine, "/none", 0), ERR_NOT_FOUND);
    assert_int_equal(sim_flip_bit(machine, "/bad/old", 4 * 8), ERR_INVALID);
    assert_int_equal(sim_flip_bit(machine, "/bad/old", 5), OK);
    char text[16];
    run(sim, machine, flip_and_read, text);
    assert_string_equal(text, "Text");
    AUTO_VALUE(bytes) tree = {.max = 1000};
    sim_describe_disk(machine, &tree);
    assert_int_equal(memcmp(tree.data, "/bad/\n/bad/old bytes=4 ", 23), 0);
    sim_stop(machine);
}

static void fill_disk(struct io *io, void *argument)
{
    (void)argument;
    AUTO(file) file = NULL;
    AUTO(buf) buf = buf_new(4096);
    struct space_info space;
    assert_int_equal(io_open(io, "/file", FILE_WRITE | FILE_CREATE, &file), OK);
    assert_int_equal(io_allocate(io, file, 0, 60 << 10), OK);
    assert_int_equal(io_allocate(io, file, 0, 68 << 10), ERR_NO_SPACE);
    assert_int_equal(io_space(io, "/", &space), OK);
    assert_int_equal(space.free_bytes, 4096);
    memset(buf->data, 1, 4096);
    const struct io_part parts[2] = {{.buf = buf, .bytes = 4096}, {.buf = buf, .bytes = 4096}};
    assert_int_equal(io_write(io, file, parts, 2, 60 << 10, 0), ERR_NO_SPACE);
    struct file_info info;
    assert_int_equal(io_file_info(io, file, &info), OK);
    assert_int_equal(info.bytes, 60 << 10);
    assert_int_equal(io_write(io, file, parts, 1, 60 << 10, WRITE_DURABLE), OK);
    assert_int_equal(io_punch(io, file, 0, 8192), OK);
    assert_int_equal(io_stat(io, "/file", &info), OK);
    assert_int_equal(info.allocated_bytes, 56 << 10);
    assert_int_equal(info.bytes, 64 << 10);
}

static void a_full_disk_refuses_without_harm(void **state)
{
    (void)state;
    const struct sim_options options = {.seed = 1, .disk_bytes = 64 << 10};
    AUTO(sim) sim = sim_new(&options);
    struct sim_machine *machine = sim_machine_new(sim, 1);
    run(sim, machine, fill_disk, NULL);
    sim_stop(machine);
}

/* --- lives, locks, time --- */

static void write_unsynced(struct io *io, void *argument)
{
    (void)argument;
    enum err result;
    write_text(io, "/file", "unsynced", 0, &result);
    assert_int_equal(result, OK);
}

static void expect_unsynced(struct io *io, void *argument)
{
    (void)argument;
    enum err result;
    char text[16];
    read_text(io, "/file", text, sizeof text, &result);
    assert_int_equal(result, OK);
    assert_string_equal(text, "unsynced");
}

static void a_kill_and_a_stop_keep_the_page_cache(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        const struct sim_options options = {.seed = seed};
        AUTO(sim) sim = sim_new(&options);
        struct sim_machine *machine = sim_machine_new(sim, 1);
        run(sim, machine, write_unsynced, NULL);
        if (seed % 2 == 0)
            sim_kill(machine);
        else
            sim_stop(machine);
        sim_power_on(machine);
        run(sim, machine, expect_unsynced, NULL);
        if (seed % 2 == 0)
            continue;
        sim_power_cut(machine); /* what was stopped in order is durable */
        sim_power_on(machine);
        run(sim, machine, expect_unsynced, NULL);
    }
}

struct lock_life {
    bool locked;
};

static void hold_lock(struct io *io, void *argument)
{
    struct lock_life *life = argument;
    AUTO(file) file = NULL;
    AUTO(file) second = NULL;
    assert_int_equal(io_open(io, "/lock", FILE_WRITE | FILE_CREATE, &file), OK);
    assert_int_equal(io_open(io, "/lock", FILE_WRITE, &second), OK);
    assert_int_equal(io_sync_directory(io, "/"), OK);
    assert_int_equal(io_lock(io, file), OK);
    assert_int_equal(io_lock(io, second), ERR_LOCKED);
    life->locked = true;
    assert_int_equal(io_sleep_ms(io, 1000000), ERR_CANCELED);
}

static void locks_end_with_the_life(void **state)
{
    (void)state;
    const struct sim_options options = {.seed = 1};
    AUTO(sim) sim = sim_new(&options);
    struct sim_machine *machine = sim_machine_new(sim, 1);
    for (unsigned i = 0; i < 5; i++) {
        struct lock_life life = {0};
        assert_int_equal(sim_spawn(machine, 0, hold_lock, &life), OK);
        assert_true(sim_run(sim, is_set, &life.locked, NEVER_NS));
        sim_power_cut(machine);
        sim_power_on(machine);
    }
}

static void read_too_slow(struct io *io, void *argument)
{
    AUTO(file) file = NULL;
    assert_int_equal(io_open(io, "/bad/old", 0, &file), OK);
    AUTO(buf) buf = buf_new(4096);
    size_t bytes;
    const struct sim_fault slow = {.prefix = "/bad", .latency_ns = 100 * IO_NS_PER_S};
    sim_set_fault(argument, &slow);
    (void)io_set_deadline(io, io_now_ns(io) + IO_NS_PER_S);
    assert_int_equal(io_read(io, file, buf, 0, 4, 0, &bytes), ERR_TIMEOUT);
}

static void an_abandoned_operation_ends_on_its_own(void **state)
{
    (void)state;
    const struct sim_options options = {.seed = 1};
    AUTO(sim) sim = sim_new(&options);
    struct sim_machine *machine = sim_machine_new(sim, 1);
    run(sim, machine, prepare, NULL);
    uint64_t start_ns = sim_now_ns(sim);
    run(sim, machine, read_too_slow, machine);
    assert_true(sim_now_ns(sim) < start_ns + 2 * IO_NS_PER_S);
    assert_false(sim_run(sim, never, NULL, NEVER_NS)); /* nothing is left to happen */
    assert_true(sim_now_ns(sim) >= start_ns + 100 * IO_NS_PER_S);
    sim_stop(machine);
}

struct ticks {
    unsigned count[2];
};

static void tick_first(struct io *io, void *argument)
{
    while (io_sleep_ms(io, 10) == OK)
        ((struct ticks *)argument)->count[0]++;
}

static void tick_second(struct io *io, void *argument)
{
    while (io_sleep_ms(io, 10) == OK)
        ((struct ticks *)argument)->count[1]++;
}

static void a_paused_machine_does_nothing_meanwhile(void **state)
{
    (void)state;
    const struct sim_options options = {.seed = 1};
    AUTO(sim) sim = sim_new(&options);
    struct sim_machine *first = sim_machine_new(sim, 1);
    struct sim_machine *second = sim_machine_new(sim, 1);
    struct ticks ticks = {0};
    assert_int_equal(sim_spawn(first, 0, tick_first, &ticks), OK);
    assert_int_equal(sim_spawn(second, 0, tick_second, &ticks), OK);
    uint64_t start_ns = sim_now_ns(sim);
    sim_pause(first, start_ns + 10 * IO_NS_PER_S);
    (void)sim_run(sim, never, NULL, start_ns + 5 * IO_NS_PER_S);
    assert_int_equal(sim_now_ns(sim), start_ns + 5 * IO_NS_PER_S);
    assert_int_equal(ticks.count[0], 0);
    assert_true(ticks.count[1] > 400);
    (void)sim_run(sim, never, NULL, start_ns + 15 * IO_NS_PER_S);
    assert_true(ticks.count[0] > 400);
}

struct order {
    unsigned next;
    unsigned ended;
};

struct numbered {
    struct order *order;
    struct lane *lane;
    unsigned number;
};

static void arrive_in_order(struct io *io, void *argument)
{
    struct numbered *numbered = argument;
    (void)io;
    assert_int_equal(numbered->order->next++, numbered->number);
}

static void job_in_order(struct lane *lane, void *argument)
{
    assert_true(lane_is_current(lane));
    arrive_in_order(NULL, argument);
}

static void run_job(struct io *io, void *argument)
{
    struct numbered *numbered = argument;
    assert_int_equal(lane_run(io, numbered->lane, job_in_order, numbered), OK);
    numbered->order->ended++;
}

static void messages_and_jobs_keep_their_order(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 3; threads += 2) {
        const struct sim_options options = {.seed = threads};
        AUTO(sim) sim = sim_new(&options);
        struct sim_machine *machine = sim_machine_new(sim, 2);
        AUTO(lane) lane = NULL;
        assert_int_equal(lane_new(sim_machine_io(machine, 0), "lane", threads, &lane), OK);
        struct order messages = {0};
        struct order jobs = {0};
        struct numbered numbered[2][100];
        for (unsigned i = 0; i < 100; i++) {
            numbered[0][i] = (struct numbered){.order = &messages, .number = i};
            numbered[1][i] = (struct numbered){.order = &jobs, .lane = lane, .number = i};
            io_post(sim_machine_io(machine, 1), arrive_in_order, &numbered[0][i]);
            assert_int_equal(sim_spawn(machine, 0, run_job, &numbered[1][i]), OK);
        }
        assert_false(sim_run(sim, never, NULL, NEVER_NS));
        assert_int_equal(messages.next, 100);
        assert_int_equal(jobs.ended, 100);
        assert_int_equal(lane_depth(lane), 0);
    }
}

static void draw_ids(struct io *io, void *argument)
{
    io_random(io, argument, 16);
}

static void randomness_differs_by_reactor_and_repeats_with_the_seed(void **state)
{
    (void)state;
    uint8_t ids[2][2][16];
    for (unsigned again = 0; again < 2; again++) {
        const struct sim_options options = {.seed = 5};
        AUTO(sim) sim = sim_new(&options);
        for (unsigned i = 0; i < 2; i++)
            run(sim, sim_machine_new(sim, 1), draw_ids, ids[again][i]);
    }
    assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
    assert_memory_not_equal(ids[0][0], ids[0][1], 16);
}

static void poll_clock(struct io *io, void *argument)
{
    (void)argument;
    uint64_t end_ns = io_now_ns(io) + IO_NS_PER_MS;
    while (io_now_ns(io) < end_ns)
        assert_int_equal(io_yield(io), OK);
}

static void who_polls_the_clock_sees_it_move(void **state)
{
    (void)state;
    const struct sim_options options = {.seed = 1};
    AUTO(sim) sim = sim_new(&options);
    run(sim, sim_machine_new(sim, 1), poll_clock, NULL);
}

static void sleep_a_minute(struct io *io, void *argument)
{
    uint64_t *out_ns = argument;
    uint64_t start_ns = io_now_ns(io);
    assert_int_equal(io_sleep_ms(io, 60000), OK);
    *out_ns = io_now_ns(io) - start_ns;
}

static void clocks_run_at_different_rates(void **state)
{
    (void)state;
    const struct sim_options options = {.seed = 1, .clock_rate_ppm = 100000};
    AUTO(sim) sim = sim_new(&options);
    unsigned wrong = 0;
    for (unsigned i = 0; i < 10; i++) {
        uint64_t shown_ns;
        uint64_t start_ns = sim_now_ns(sim);
        run(sim, sim_machine_new(sim, 1), sleep_a_minute, &shown_ns);
        uint64_t elapsed_ns = sim_now_ns(sim) - start_ns;
        assert_true(shown_ns >= 60 * IO_NS_PER_S);
        assert_true(shown_ns < 60 * IO_NS_PER_S + IO_NS_PER_MS);
        assert_true(elapsed_ns > 54 * IO_NS_PER_S);
        assert_true(elapsed_ns < 67 * IO_NS_PER_S);
        wrong += elapsed_ns < 59 * IO_NS_PER_S || elapsed_ns > 61 * IO_NS_PER_S;
    }
    assert_true(wrong > 3);
    assert_true(sim_fault_count(sim, "clock_rate") > 3);
}

static void a_drive_can_be_cloned(void **state)
{
    (void)state;
    const struct sim_options options = {.seed = 1};
    AUTO(sim) sim = sim_new(&options);
    struct sim_machine *first = sim_machine_new(sim, 1);
    struct sim_machine *second = sim_machine_new(sim, 1);
    run(sim, first, prepare, NULL);
    assert_int_equal(sim_copy_directory(first, "/bad", second, "/bad"), OK);
    assert_int_equal(sim_copy_directory(first, "/bad", second, "/bad"), ERR_EXISTS);
    assert_int_equal(sim_copy_directory(first, "/bad", first, "/bad/bad"), ERR_INVALID);
    assert_int_equal(sim_copy_directory(first, "/none", first, "/x"), ERR_NOT_FOUND);
    sim_power_cut(second);
    AUTO_VALUE(bytes) tree = {.max = 1000};
    AUTO_VALUE(bytes) copy = {.max = 1000};
    sim_describe_disk(first, &tree);
    sim_describe_disk(second, &copy);
    assert_true(slice_equal(bytes_slice(&tree), bytes_slice(&copy)));
    sim_stop(first);
}

static void a_pulled_drive_stays_away_after_a_power_cut(void **state)
{
    (void)state;
    const struct sim_options options = {.seed = 1};
    AUTO(sim) sim = sim_new(&options);
    struct sim_machine *machine = sim_machine_new(sim, 1);
    run(sim, machine, prepare, NULL);
    assert_int_equal(sim_move_directory(machine, "/none", "/x"), ERR_NOT_FOUND);
    assert_int_equal(sim_move_directory(machine, "/bad", "/away"), OK);
    sim_power_cut(machine);
    AUTO_VALUE(bytes) tree = {.max = 1000};
    sim_describe_disk(machine, &tree);
    AUTO_STRING text = slice_to_text(bytes_slice(&tree));
    assert_non_null(strstr(text, "/away/"));
    assert_null(strstr(text, "/bad/"));
    assert_int_equal(sim_move_directory(machine, "/away", "/bad"), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledged_records_survive_every_cut),
        cmocka_unit_test(a_sync_that_does_nothing_is_found),
        cmocka_unit_test(the_same_seed_gives_the_same_run),
        cmocka_unit_test(a_cut_unwinds_every_kind_of_wait),
        cmocka_unit_test(a_fiber_that_does_not_end_stops_the_process),
        cmocka_unit_test(a_fiber_may_cut_another_machine),
        cmocka_unit_test(directed_faults_strike_their_paths_only),
        cmocka_unit_test(drawn_faults_fire_and_repeat_with_their_seed),
        cmocka_unit_test(a_bit_can_be_flipped_from_outside),
        cmocka_unit_test(a_full_disk_refuses_without_harm),
        cmocka_unit_test(a_kill_and_a_stop_keep_the_page_cache),
        cmocka_unit_test(locks_end_with_the_life),
        cmocka_unit_test(an_abandoned_operation_ends_on_its_own),
        cmocka_unit_test(a_paused_machine_does_nothing_meanwhile),
        cmocka_unit_test(messages_and_jobs_keep_their_order),
        cmocka_unit_test(randomness_differs_by_reactor_and_repeats_with_the_seed),
        cmocka_unit_test(who_polls_the_clock_sees_it_move),
        cmocka_unit_test(clocks_run_at_different_rates),
        cmocka_unit_test(a_drive_can_be_cloned),
        cmocka_unit_test(a_pulled_drive_stays_away_after_a_power_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
