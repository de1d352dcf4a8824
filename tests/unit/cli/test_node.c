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
        .storage_segment_bytes = 16 << 20,
        .log_segment_bytes = 4 << 20,
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

static void run(void (*body)(struct io *io, struct world *world))
{
    struct world world = {.sim = sim_new(&(struct sim_options){.seed = 1}), .body = body};
    log_set_sink(drop_line, NULL); /* the refusals are wanted */
    world.machine = sim_machine_new(world.sim, 1);
    world.stores = kv_memory_world_new();
    world.metrics = metrics_new();
    CHECK(sim_spawn(world.machine, 0, run_fiber, &world) == OK);
    CHECK(sim_run(world.sim, is_done, &world, 3600 * IO_NS_PER_S));
    sim_stop(world.machine);
    metrics_free(world.metrics);
    kv_memory_world_free(world.stores);
    sim_free(world.sim);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_metadata_is_kept_without_its_marker),
        cmocka_unit_test(missing_metadata_is_refused),
        cmocka_unit_test(segments_without_metadata_are_refused),
        cmocka_unit_test(a_spoilt_copy_of_the_credentials_is_written_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
