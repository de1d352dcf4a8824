/* One drive of six answers 50 times slower than the others: once the node has noticed, the p99 of
 * GET stays within twice that of a healthy node. Virtual time, so the numbers are the same in each
 * run.
 *
 * sim_slow [--seed SEED] */
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "kv/memory.h"
#include "sim_request.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    DRIVES = 6,
    OBJECTS = 48,
    OBJECT_BYTES = 1 << 20,
    WARM_UP_GETS = 400,
    MEASURED_GETS = 1000,
    SLOWER = 50,
};
#define NS_PER_US UINT64_C(1000)
#define DISK_NS_MIN (100 * NS_PER_US)
#define DISK_NS_MAX (1000 * NS_PER_US)
#define RUN_NS (3600 * IO_NS_PER_S)

struct run {
    struct sim_machine *machine;
    struct kv_memory_world *stores;
    struct metrics *metrics;
    struct requester requester;
    uint64_t healthy_ns, slow_ns; /* p99 */
    bool ended;
};

static void die(const char *what)
{
    fprintf(stderr, "sim_slow: %s\n", what);
    abort();
}

static void request(struct io *io, struct run *run, const struct request *request)
{
    struct memory_exchange memory;
    unsigned status = 0;
    request_perform(io, &run->requester, request, &memory, &status);
    bool whole = memory.exchange.content_bytes == memory.answer_bytes;
    memory_exchange_deinit(&memory);
    if (status != 200 || !whole)
        die("a request is refused");
}

static void put_all(struct io *io, struct run *run)
{
    uint8_t *body = mem_alloc(OBJECT_BYTES + 8);
    request(io, run, &(struct request){.method = "PUT", .target = "/bucket"});
    for (unsigned i = 0; i < OBJECTS; i++) {
        AUTO_STRING target = mem_format("/bucket/%u", i);
        content_fill(body, OBJECT_BYTES, i);
        request(io, run,
                &(struct request){
                    .method = "PUT", .target = target, .body = slice_of(body, OBJECT_BYTES)});
    }
    mem_free(body);
}

static uint64_t get_one(struct io *io, struct run *run)
{
    uint64_t object = sim_draw(run->requester.sim, OBJECTS);
    AUTO_STRING target = mem_format("/bucket/%llu", (unsigned long long)object);
    uint64_t from_ns = io_now_ns(io);
    request(io, run, &(struct request){.method = "GET", .target = target});
    return io_now_ns(io) - from_ns;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t measure(struct io *io, struct run *run, const char *name)
{
    uint64_t *took_ns = mem_alloc_array(MEASURED_GETS, sizeof *took_ns);
    uint64_t warm_up_ns = 0; /* the longest */
    for (unsigned i = 0; i < WARM_UP_GETS; i++) {
        uint64_t ns = get_one(io, run);
        warm_up_ns = ns > warm_up_ns ? ns : warm_up_ns;
    }
    for (unsigned i = 0; i < MEASURED_GETS; i++)
        took_ns[i] = get_one(io, run);
    qsort(took_ns, MEASURED_GETS, sizeof *took_ns, compare);
    uint64_t p99_ns = took_ns[MEASURED_GETS * 99 / 100];
    printf("sim_slow: %s warm_up_max_us=%llu p50_us=%llu p99_us=%llu max_us=%llu\n", name,
           (unsigned long long)(warm_up_ns / NS_PER_US),
           (unsigned long long)(took_ns[MEASURED_GETS / 2] / NS_PER_US),
           (unsigned long long)(p99_ns / NS_PER_US),
           (unsigned long long)(took_ns[MEASURED_GETS - 1] / NS_PER_US));
    mem_free(took_ns);
    return p99_ns;
}

static void node_fiber(struct io *io, void *argument)
{
    static const char *const directories[DRIVES] = {"/d1", "/d2", "/d3", "/d4", "/d5", "/d6"};
    static const struct sim_fault slow = {
        .prefix = "/d3", .latency_ns = (DISK_NS_MIN + DISK_NS_MAX) / 2 * (SLOWER - 1)};
    struct run *run = argument;
    struct node_options options = {
        .directories = directories,
        .directory_count = DRIVES,
        .kv = kv_memory_provider(run->stores),
        .metrics = run->metrics,
        .root_user = sim_access_key,
        .root_password = sim_secret_key,
        .storage_segment_bytes = 16 << 20,
        .log_segment_bytes = 4 << 20,
        .drive_bytes_min = 1 << 20,
        .checks_mounts = true,
    };
    if (node_start(io, &options, &run->requester.node) != OK)
        die("node does not start");
    put_all(io, run);
    run->healthy_ns = measure(io, run, "healthy");
    sim_set_fault(run->machine, &slow);
    run->slow_ns = measure(io, run, "one slow drive");
    sim_clear_faults(run->machine);
    node_stop(io, run->requester.node);
    run->ended = true;
}

static bool has_ended(void *context)
{
    return ((struct run *)context)->ended;
}

static uint64_t parse_seed(int argc, char **argv)
{
    uint64_t seed = 1;
    if (argc == 1)
        return seed;
    if (argc == 3 && strcmp(argv[1], "--seed") == 0 &&
        text_parse_u64(slice_of_text(argv[2]), UINT64_MAX, &seed) == OK)
        return seed;
    fputs("sim_slow [--seed SEED]\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    const struct sim_options options = {
        .seed = parse_seed(argc, argv), .disk_ns_min = DISK_NS_MIN, .disk_ns_max = DISK_NS_MAX};
    log_set_level(LOG_ERROR);
    struct run run = {.requester = {.sim = sim_new(&options), .at_once = true}};
    run.machine = sim_machine_new(run.requester.sim, 1);
    run.stores = kv_memory_world_new();
    run.metrics = metrics_new();
    if (sim_spawn(run.machine, 0, node_fiber, &run) != OK ||
        !sim_run(run.requester.sim, has_ended, &run, RUN_NS))
        die("node does not end");
    sim_stop(run.machine);
    metrics_free(run.metrics);
    kv_memory_world_free(run.stores);
    sim_free(run.requester.sim);
    if (run.slow_ns > 2 * run.healthy_ns) {
        fputs("sim_slow: the p99 of GET is more than twice the healthy one\n", stderr);
        return 1;
    }
    return 0;
}
