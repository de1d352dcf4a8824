/* What a node does when it starts on a directory from which something was taken. */
#include "base/log.h"
#include "base/mem.h"
#include "cli/node.h"
#include "kv/memory.h"
#include "runtime/metrics.h"
#include "runtime/sim.h"
#include "storaged/client.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* cmocka leaves a failed test by longjmp, which does not work from a fiber. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { USER_BYTES = 129 };

struct world {
    struct sim *sim;
    struct sim_machine *machine;
    struct kv_memory_world *stores;
    struct metrics *metrics;
    const char *root_user; /* else made at random */
    void (*body)(struct io *io, struct world *world);
    bool done;
};

static enum err start(struct io *io, struct world *world, struct node **out_node)
{
    const char *directory = "/data";
    struct node_options options = {
        .directories = &directory,
        .directory_count = 1,
        .kv = kv_memory_provider(world->stores),
        .metrics = world->metrics,
        .root_user = world->root_user,
        .root_password = world->root_user,
        .storage_segment_bytes = 16 << 20,
        .log_segment_bytes = 1 << 20,
    };
    return node_start(io, &options, out_node);
}

/* Start and stop; *out_user is the access key, which is made at random with the metadata. */
static void visit(struct io *io, struct world *world, char *out_user)
{
    struct node *node = NULL;
    CHECK(start(io, world, &node) == OK);
    snprintf(out_user, USER_BYTES, "%s", node_root_user(node));
    node_stop(io, node);
}

static void write_a_block(struct io *io, struct node *node)
{
    AUTO(storage_client) client = storage_client_new(node_storage(node));
    struct block_hint hint = {.bucket_id = 1, .key = SLICE_LITERAL("key")};
    AUTO(block_writer) writer = NULL;
    AUTO(buf) buf = buf_new(4096);
    struct block_ref ref;
    struct lease lease;
    memset(buf->data, 7, 4096);
    CHECK(block_writer_open(io, client, &hint, 4096, &writer) == OK);
    CHECK(block_writer_append(io, writer, buf, 0, 4096) == OK);
    CHECK(block_writer_finish(io, writer, &ref, &lease) == OK);
}

static void run_fiber(struct io *io, void *argument)
{
    struct world *world = argument;
    world->body(io, world);
    world->done = true;
}

static bool is_done(void *context)
{
    return ((struct world *)context)->done;
}

static void drop_line(void *context, enum log_level level, const char *line)
{
    (void)context, (void)level, (void)line;
}

static void world_init(struct world *world, uint64_t seed)
{
    *world = (struct world){.sim = sim_new(&(struct sim_options){.seed = seed})};
    log_set_sink(drop_line, NULL); /* the refusals are wanted */
    world->machine = sim_machine_new(world->sim, 1);
    world->stores = kv_memory_world_new();
    world->metrics = metrics_new();
}

static void world_deinit(struct world *world)
{
    metrics_free(world->metrics);
    kv_memory_world_free(world->stores);
    sim_free(world->sim);
}

static void begin(struct world *world, void (*body)(struct io *io, struct world *world))
{
    world->body = body;
    world->done = false;
    CHECK(sim_spawn(world->machine, 0, run_fiber, world) == OK);
}

static void run_to_its_end(struct world *world, void (*body)(struct io *io, struct world *world))
{
    begin(world, body);
    CHECK(sim_run(world->sim, is_done, world, sim_now_ns(world->sim) + 3600 * IO_NS_PER_S));
}

static void run(void (*body)(struct io *io, struct world *world))
{
    struct world world;
    world_init(&world, 1);
    run_to_its_end(&world, body);
    sim_stop(world.machine);
    world_deinit(&world);
}

static void lose_the_marker(struct io *io, struct world *world)
{
    char before[USER_BYTES];
    char after[USER_BYTES];
    struct file_info info;
    visit(io, world, before);
    CHECK(io_unlink(io, "/data/metadata-made") == OK);
    visit(io, world, after);
    CHECK(strcmp(before, after) == 0);
    CHECK(io_stat(io, "/data/metadata-made", &info) == OK);
}

static void whole_metadata_is_kept_without_its_marker(void **state)
{
    (void)state;
    run(lose_the_marker);
}

static void lose_the_metadata(struct io *io, struct world *world)
{
    char user[USER_BYTES];
    struct node *node = NULL;
    visit(io, world, user);
    CHECK(io_remove_tree(io, "/data/meta") == OK);
    CHECK(start(io, world, &node) == ERR_CORRUPT);
}

static void missing_metadata_is_refused(void **state)
{
    (void)state;
    run(lose_the_metadata);
}

static void lose_all_but_segments(struct io *io, struct world *world)
{
    struct node *node = NULL;
    CHECK(start(io, world, &node) == OK);
    write_a_block(io, node);
    node_stop(io, node);
    CHECK(io_remove_tree(io, "/data/meta") == OK);
    CHECK(io_unlink(io, "/data/metadata-made") == OK);
    CHECK(start(io, world, &node) == ERR_CORRUPT);
}

static void segments_without_metadata_are_refused(void **state)
{
    (void)state;
    run(lose_all_but_segments);
}

static void spoil_the_copy(struct io *io, struct world *world)
{
    char user[USER_BYTES];
    visit(io, world, user);
    struct file_info whole, info;
    CHECK(io_stat(io, "/data/root-credentials", &whole) == OK);
    AUTO(file) file = NULL;
    CHECK(io_open(io, "/data/root-credentials", FILE_WRITE, &file) == OK);
    CHECK(io_truncate(io, file, 0) == OK);
    visit(io, world, user);
    CHECK(io_stat(io, "/data/root-credentials", &info) == OK);
    CHECK(info.bytes == whole.bytes);
}

static void a_spoilt_copy_of_the_credentials_is_written_again(void **state)
{
    (void)state;
    run(spoil_the_copy);
}

/* --- a first start that ends early --- */

struct first_start {
    struct world world;    /* first */
    uint64_t events;       /* of the first life */
    char user[USER_BYTES]; /* "" until a start was whole */
};

static void start_first(struct io *io, struct world *world)
{
    struct first_start *first = (struct first_start *)(void *)world;
    struct node *node = NULL;
    enum err err = start(io, world, &node);
    CHECK(err == OK || io_canceled(io));
    if (err != OK)
        return;
    if (first->user[0] == '\0')
        snprintf(first->user, sizeof first->user, "%s", node_root_user(node));
    CHECK(strcmp(first->user, node_root_user(node)) == 0);
    node_stop(io, node);
}

/* There may be no copy of the credentials, but none that says nothing. */
static void check_copy(struct io *io, const char *user)
{
    AUTO(buf) buf = buf_new(BUF_ALIGN_BYTES);
    AUTO(file) file = NULL;
    size_t bytes = 0;
    enum err err = io_open(io, "/data/root-credentials", 0, &file);
    CHECK(err == OK || (err == ERR_NOT_FOUND && user[0] == '\0'));
    if (err != OK)
        return;
    memset(buf->data, 0, BUF_ALIGN_BYTES);
    CHECK(io_read(io, file, buf, 0, BUF_ALIGN_BYTES - 1, 0, &bytes) == OK);
    CHECK(strncmp((char *)buf->data, "access_key=", 11) == 0);
    CHECK(strstr((char *)buf->data, "\nsecret_key=") != NULL);
    CHECK(strncmp((char *)buf->data + 11, user, strlen(user)) == 0);
}

/* What an operator finds before the next start. */
static void look_around(struct io *io, struct world *world)
{
    const struct first_start *first = (struct first_start *)(void *)world;
    struct file_info info;
    if (first->user[0] != '\0')
        CHECK(io_stat(io, "/data/metadata-made", &info) == OK);
    if (world->root_user == NULL)
        check_copy(io, first->user);
}

static bool first_start_over(void *context)
{
    const struct first_start *first = context;
    return first->world.done || sim_event_count(first->world.sim) >= first->events;
}

static uint64_t draw_from_sim(void *context, uint64_t bound)
{
    return sim_draw(context, bound);
}

static void cut(struct world *world)
{
    sim_power_cut(world->machine);
    kv_memory_crash(world->stores, draw_from_sim, world->sim);
    sim_power_on(world->machine);
}

/* True when the first life came to its end before that event. */
static bool first_start_survives(uint64_t seed, const char *root_user, uint64_t events)
{
    struct first_start first = {.events = events};
    struct world *world = &first.world;
    world_init(world, seed);
    world->root_user = root_user;
    begin(world, start_first);
    (void)sim_run(world->sim, first_start_over, &first, 3600 * IO_NS_PER_S);
    bool whole = world->done;
    for (unsigned life = 0; life < 2; life++) {
        cut(world);
        run_to_its_end(world, look_around);
        run_to_its_end(world, start_first);
    }
    world_deinit(world);
    return whole;
}

static void a_first_start_may_lose_power_at_any_event(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++) {
        uint64_t events = 1;
        while (!first_start_survives(seed, seed % 2 == 0 ? NULL : "operator", events))
            events += 1 + events / 20;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_metadata_is_kept_without_its_marker),
        cmocka_unit_test(missing_metadata_is_refused),
        cmocka_unit_test(segments_without_metadata_are_refused),
        cmocka_unit_test(a_spoilt_copy_of_the_credentials_is_written_again),
        cmocka_unit_test(a_first_start_may_lose_power_at_any_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
