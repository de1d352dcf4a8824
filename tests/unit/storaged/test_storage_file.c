/* A storage on real files, with io_uring and RocksDB, on two reactors. */
#include "blocks.h"
#include "runtime/runtime.h"
#include <fcntl.h>
#include <ftw.h>
#include <unistd.h>

enum { PER_REACTOR = 40, REACTORS = 2 };

struct world {
    char *root;
    const char *directories[2];
    struct meta_group *server;
    struct metrics *metrics;
    struct buf_pool *pool;
    struct storage *storage;
    struct meta_client *meta;
    struct storage_client *client;
    struct known_block known[REACTORS][PER_REACTOR];
};

static void program(struct world *world, fiber_fn *fn)
{
    struct runtime_options options = {.reactor_count = REACTORS};
    AUTO(runtime) runtime = NULL;
    assert_int_equal(runtime_new(&options, &runtime), OK);
    runtime_run(runtime, fn, world);
    assert_int_equal(runtime_fiber_count(runtime), 0);
}

static struct storage_options options_of(struct world *world)
{
    return (struct storage_options){.directories = world->directories,
                                    .directory_count = 2,
                                    .kv = kv_provider_rocks(),
                                    .metrics = world->metrics,
                                    .segment_bytes = 16 << 20,
                                    .drive_bytes_min = 1 << 20,
                                    .checks_mounts = true};
}

static void start(struct io *io, struct world *world)
{
    struct storage_options options = options_of(world);
    assert_int_equal(storage_open(io, &options, &world->storage), OK);
    world->meta = meta_client_new(world->server);
    world->client = storage_client_new(world->storage);
    assert_int_equal(storage_start(io, world->storage, world->meta), OK);
}

static void stop(struct io *io, struct world *world)
{
    storage_stop(io, TAKE(world->storage));
    storage_client_free(TAKE(world->client));
    meta_client_free(TAKE(world->meta));
}

static void format(struct io *io, void *argument)
{
    struct world *world = argument;
    struct storage_options options = options_of(world);
    struct storage *storage = NULL;
    assert_int_equal(storage_open(io, &options, &storage), OK);
    struct storage_identity made = *storage_identity_of(storage);
    storage_stop(io, storage);
    assert_int_equal(storage_open(io, &options, &storage), OK);
    assert_int_equal(memcmp(storage_identity_of(storage), &made, sizeof made), 0);
    storage_stop(io, storage);
    /* Beside drives of the node, what is not Shale's stays untouched. */
    const char *foreign[] = {world->directories[0], world->directories[1], "/"};
    options.directories = foreign;
    options.directory_count = 3;
    assert_int_equal(storage_open(io, &options, &storage), ERR_EXISTS);
}

static void write_some(struct io *io, void *argument)
{
    struct world *world = argument;
    unsigned reactor = io_reactor_index(io);
    for (unsigned i = 0; i < PER_REACTOR; i++) {
        struct known_block *block = &world->known[reactor][i];
        struct lease lease;
        block->seed = 1 + reactor * 1000 + i;
        uint32_t bytes = i % 8 == 0 ? 5000000 + i : 1 + i * 13001;
        assert_int_equal(write_block(io, world->client, block->seed, bytes, 262144, i % 2 == 0,
                                     &block->ref, &lease),
                         OK);
        assert_true(fake_meta_commit(world->server, &block->ref, &lease));
        assert_int_equal(check_block(io, world->client, block, world->pool), OK);
    }
}

static void read_all(struct io *io, void *argument)
{
    struct world *world = argument;
    for (unsigned reactor = 0; reactor < REACTORS; reactor++) {
        for (unsigned i = 0; i < PER_REACTOR; i++) {
            struct read_guard guard;
            read_guard_begin(io, world->client, &guard);
            assert_int_equal(check_block(io, world->client, &world->known[reactor][i], world->pool),
                             world->known[reactor][i].deleted ? ERR_NOT_FOUND : OK);
            read_guard_end(io, world->client, &guard);
        }
    }
}

struct call {
    struct world *world;
    fiber_fn *fn;
    unsigned reactor;
};

static void call_fiber(struct io *io, void *argument)
{
    const struct call *call = argument;
    io_call(io, io_reactor(io, call->reactor), call->fn, call->world);
}

/* On all of them at the same time. */
static void on_all_reactors(struct io *io, struct world *world, fiber_fn *fn)
{
    struct call calls[REACTORS];
    struct fiber_group group;
    fiber_group_init(&group);
    for (unsigned i = 0; i < REACTORS; i++) {
        calls[i] = (struct call){world, fn, i};
        assert_int_equal(fiber_group_spawn(io, &group, call_fiber, &calls[i]), OK);
    }
    fiber_group_wait(io, &group);
}

static void first_life(struct io *io, void *argument)
{
    struct world *world = argument;
    start(io, world);
    assert_true(storage_ready(world->storage));
    /* A second process is kept out. */
    struct storage_options options = options_of(world);
    struct storage *other = NULL;
    assert_int_equal(storage_open(io, &options, &other), ERR_LOCKED);
    on_all_reactors(io, world, write_some);
    on_all_reactors(io, world, read_all);
    stop(io, world);
}

static void second_life(struct io *io, void *argument)
{
    struct world *world = argument;
    start(io, world);
    on_all_reactors(io, world, read_all);
    struct drive_status before[2], after[2];
    assert_int_equal(storage_drives(io, world->storage, before, 2), 2);
    for (unsigned i = 0; i < PER_REACTOR; i += 2) {
        world->known[0][i].deleted = true;
        fake_meta_delete(world->server, world->known[0][i].ref.id);
    }
    assert_int_equal(storage_collect(io, world->storage), OK);
    assert_int_equal(fake_meta_free_count(world->server), 0);
    storage_drives(io, world->storage, after, 2);
    assert_int_equal(after[0].record_count + after[1].record_count,
                     before[0].record_count + before[1].record_count - PER_REACTOR);
    on_all_reactors(io, world, read_all);
    stop(io, world);
}

static void third_life(struct io *io, void *argument)
{
    struct world *world = argument;
    start(io, world);
    on_all_reactors(io, world, read_all);
    stop(io, world);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static struct world *world_new(void)
{
    struct world *world = mem_new(struct world);
    const char *parent = getenv("TMPDIR");
    world->root = mem_format("%s/shale-storage-XXXXXX", parent == NULL ? "/tmp" : parent);
    assert_non_null(mkdtemp(world->root));
    world->directories[0] = mem_format("%s/a", world->root);
    world->directories[1] = mem_format("%s/b", world->root);
    world->server = fake_meta_new();
    world->metrics = metrics_new();
    world->pool = buf_pool_new(256 << 20);
    log_set_level(LOG_ERROR);
    return world;
}

static void world_free(struct world *world)
{
    assert_int_equal(nftw(world->root, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
    mem_free((char *)(uintptr_t)world->directories[0]);
    mem_free((char *)(uintptr_t)world->directories[1]);
    mem_free(world->root);
    fake_meta_free(world->server);
    metrics_free(world->metrics);
    buf_pool_free(world->pool);
    mem_free(world);
}

static void remove_index(struct world *world)
{
    for (unsigned i = 0; i < 2; i++) {
        AUTO_STRING path = mem_format("%s/index", world->directories[i]);
        (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
}

static void blocks_survive_reopening_and_the_loss_of_the_index(void **state)
{
    (void)state;
    struct world *world = world_new();
    program(world, format);
    program(world, first_life);
    program(world, second_life);
    program(world, third_life);
    remove_index(world);
    program(world, third_life);
    world_free(world);
}

static void replace_superblock(struct io *io, void *argument)
{
    struct world *world = argument;
    start(io, world);
    AUTO_STRING path = mem_format("%s/superblock", world->directories[0]);
    AUTO_STRING moved = mem_format("%s/moved", world->directories[0]);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(io_sleep_ms(io, 2500), OK);
    struct drive_status status[2];
    storage_drives(io, world->storage, status, 2);
    assert_true(status[0].fenced);
    assert_true(!status[1].fenced);
    assert_true(storage_ready(world->storage));
    struct known_block block = {.seed = 1};
    struct lease lease;
    /* One drive is left where two were promised: nothing is acknowledged with less. */
    assert_int_equal(write_block(io, world->client, 1, 100000, 262144, true, &block.ref, &lease),
                     ERR_FENCED);
    stop(io, world);
}

static void a_replaced_drive_is_fenced_and_the_other_goes_on(void **state)
{
    (void)state;
    struct world *world = world_new();
    program(world, format);
    log_set_level(LOG_ERROR);
    program(world, replace_superblock);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_survive_reopening_and_the_loss_of_the_index),
        cmocka_unit_test(a_replaced_drive_is_fenced_and_the_other_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
