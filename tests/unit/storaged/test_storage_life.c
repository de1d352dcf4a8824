/* A drive's life in the simulator: writers, readers, deletes and collection side by side,
 * power cuts at any event. */
#include "blocks.h"

enum { KNOWN_MAX = 4000, WORKERS = 6 };

struct life {
    struct node node;
    struct known_block known[KNOWN_MAX];
    unsigned known_count;
    uint64_t next_seed;
    bool running;  /* workers go on */
    bool settling; /* the last life: no power cut, workers stop by themselves */
    unsigned steps_left;
    struct fiber_group workers;
    bool ended;
    const char *violation;
};

static uint64_t draw(struct life *life, uint64_t bound)
{
    return sim_draw(life->node.sim, bound);
}

static void violate(struct life *life, const char *what)
{
    if (life->violation == NULL)
        life->violation = what;
    life->running = false;
}

/* Mostly small; one in eight each below a block, up to 1 MiB and up to 4 MiB. */
static uint32_t draw_size(struct life *life)
{
    static const uint32_t bytes_max[8] = {4096,   1 << 20, 4 << 20, 100000,
                                          100000, 100000,  100000,  100000};
    return (uint32_t)(1 + draw(life, bytes_max[draw(life, 8)]));
}

static enum err write_one(struct io *io, struct life *life)
{
    if (life->known_count == KNOWN_MAX)
        return OK;
    uint64_t seed = ++life->next_seed;
    uint32_t bytes = draw_size(life);
    struct known_block block = {.seed = seed};
    struct lease lease;
    TRY(write_block(io, life->node.client, seed, bytes, 1 + (uint32_t)draw(life, 300000) + 4096,
                    draw(life, 2) == 0, &block.ref, &lease));
    if (draw(life, 8) == 0)
        return OK; /* the gateway died before its commit */
    if (!fake_meta_commit(life->node.server, &block.ref, &lease))
        violate(life, "lease of a running writer was closed");
    life->known[life->known_count++] = block;
    return OK;
}

/* A client that goes away in the middle. */
static enum err abandon_one(struct io *io, struct life *life)
{
    struct block_hint hint = {.key = SLICE_LITERAL("gone")};
    AUTO(block_writer) writer = NULL;
    TRY(block_writer_open(io, life->node.client, &hint, 0, &writer));
    AUTO(buf) buf = buf_new(1 << 20);
    fill_content(++life->next_seed, 0, buf->data, 1 << 20);
    for (uint64_t i = draw(life, 4); i > 0; i--)
        TRY(block_writer_append(io, writer, buf, 0, 1 + draw(life, 1 << 20)));
    return OK;
}

static enum err read_one(struct io *io, struct life *life)
{
    struct read_guard guard;
    read_guard_begin(io, life->node.client, &guard);
    enum err err = OK;
    const struct known_block *block =
        life->known_count > 0 ? &life->known[draw(life, life->known_count)] : NULL;
    if (block != NULL && !block->deleted) {
        err = check_block(io, life->node.client, block, life->node.pool);
        if (err == ERR_MISMATCH || err == ERR_CORRUPT || err == ERR_NOT_FOUND)
            violate(life, "acknowledged block is wrong");
    }
    read_guard_end(io, life->node.client, &guard);
    return err;
}

static void delete_one(struct life *life)
{
    if (life->known_count == 0)
        return;
    struct known_block *block = &life->known[draw(life, life->known_count)];
    if (block->deleted)
        return;
    block->deleted = true;
    fake_meta_delete(life->node.server, block->ref.id);
}

static void worker(struct io *io, void *argument)
{
    struct life *life = argument;
    enum err err = OK;
    while (life->running && err == OK && (!life->settling || life->steps_left-- > WORKERS)) {
        uint64_t what = draw(life, 10);
        if (what < 4)
            err = write_one(io, life);
        else if (what == 4)
            err = abandon_one(io, life);
        else if (what == 5)
            delete_one(life);
        else if (what == 6)
            err = draw(life, 4) == 0 ? storage_collect(io, life->node.storage)
                                     : io_sleep_ms(io, draw(life, 3000));
        else
            err = read_one(io, life);
    }
    if (err != OK && err != ERR_CANCELED)
        violate(life, err_text(err));
}

static void life_fiber(struct io *io, void *argument)
{
    struct life *life = argument;
    enum err err = node_start(io, &life->node);
    fiber_group_init(&life->workers);
    life->running = err == OK;
    for (unsigned i = 0; err == OK && i < WORKERS; i++)
        err = fiber_group_spawn(io, &life->workers, worker, life);
    fiber_group_wait(io, &life->workers);
    if (life->node.storage != NULL)
        node_stop(io, &life->node);
    if (err != OK && err != ERR_CANCELED)
        violate(life, err_text(err));
    life->ended = true;
}

struct event_goal {
    struct life *life;
    uint64_t count;
};

static bool reached(void *context)
{
    const struct event_goal *goal = context;
    return goal->life->ended || sim_event_count(goal->life->node.sim) >= goal->count;
}

static bool ended(void *context)
{
    return ((struct life *)context)->ended;
}

static void live(struct life *life, uint64_t events)
{
    life->ended = false;
    struct node *node = &life->node;
    assert_int_equal(sim_spawn(node->machine, 0, life_fiber, life), OK);
    if (life->settling) {
        assert_true(sim_run(node->sim, ended, life, sim_now_ns(node->sim) + 36000 * IO_NS_PER_S));
        return;
    }
    struct event_goal goal = {.life = life, .count = sim_event_count(node->sim) + events};
    (void)sim_run(node->sim, reached, &goal, UINT64_MAX);
    life->running = false;
    sim_power_cut(node->machine);
    kv_memory_crash(node->world, node_draw, node);
    sim_power_on(node->machine);
}

/* Everything acknowledged is there, everything else is gone, and its space is back. */
static void audit(struct io *io, struct node *node)
{
    struct life *life = (struct life *)(void *)node; /* its first member */
    assert_int_equal(node_start(io, node), OK);
    uint64_t live = 0;
    uint64_t live_bytes = 0;
    for (unsigned i = 0; i < life->known_count; i++) {
        const struct known_block *block = &life->known[i];
        if (block->deleted)
            continue;
        live++;
        live_bytes += block->ref.bytes;
        assert_int_equal(check_block(io, node->client, block, node->pool), OK);
    }
    assert_int_equal(storage_collect(io, node->storage), OK);
    assert_int_equal(fake_meta_free_count(node->server), 0);
    for (unsigned i = 0; i < life->known_count; i++) {
        if (!life->known[i].deleted)
            assert_int_equal(check_block(io, node->client, &life->known[i], node->pool), OK);
    }
    assert_int_equal(io_sleep_ms(io, 5000), OK); /* ticks tidy up */
    struct drive_status status[8];
    uint32_t drives = storage_drives(io, node->storage, status, 8);
    uint64_t records = 0;
    uint64_t used = 0;
    for (uint32_t i = 0; i < drives; i++)
        records += status[i].record_count;
    used = status[0].total_bytes - status[0].free_bytes;
    unsigned slots = node->data_shards == 0 ? 1 : (unsigned)node->data_shards + node->parity_shards;
    unsigned data = node->data_shards == 0 ? 1 : node->data_shards;
    assert_int_equal(records, live * slots);
    /* Headers, footers, padding: 16 KiB a record. What a power cut tore, a few writes a drive,
     * comes back only with its segment. */
    uint64_t reserve = drives * (UINT64_C(129) << 20);
    assert_true(used < live_bytes * slots / data + records * 16384 + reserve + drives * (64 << 20));
    node_stop(io, node);
}

static void format(struct io *io, struct node *node)
{
    assert_int_equal(node_format(io, node), OK);
}

static void require_no_violation(const struct life *life, uint64_t seed, unsigned number)
{
    if (life->violation == NULL)
        return;
    fprintf(stderr, "seed=%llu life=%u: %s\n", (unsigned long long)seed, number, life->violation);
    abort();
}

static struct life *life_new(const struct sim_options *options, uint32_t drives,
                             uint8_t data_shards, uint8_t parity_shards)
{
    struct life *life = mem_new(struct life);
    node_init(&life->node, options, drives);
    life->node.data_shards = data_shards;
    life->node.parity_shards = parity_shards;
    return life;
}

static void life_free(struct life *life)
{
    node_deinit(&life->node);
    mem_free(life);
}

static void run_lives(uint64_t seed, uint32_t drives, uint8_t data_shards, uint8_t parity_shards,
                      unsigned lives)
{
    struct sim_options options = {.seed = seed, .latency_spike_ppm = 200};
    struct life *life = life_new(&options, drives, data_shards, parity_shards);
    node_run(&life->node, format);
    for (unsigned i = 0; i < lives; i++) {
        live(life, draw(life, 3) == 0 ? draw(life, 600) : draw(life, 8000));
        require_no_violation(life, seed, i);
    }
    life->settling = true;
    life->steps_left = 200;
    live(life, 0);
    require_no_violation(life, seed, lives);
    node_run(&life->node, audit);
    life_free(life);
}

static unsigned seeds(unsigned fallback)
{
    const char *text = getenv("SHALE_TEST_SEEDS");
    return text == NULL ? fallback : (unsigned)strtoul(text, NULL, 10);
}

static void a_drive_keeps_what_was_acknowledged_over_power_cuts(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= seeds(2); seed++)
        run_lives(seed, 1, 0, 0, 6);
}

static void a_striped_volume_keeps_what_was_acknowledged_over_power_cuts(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= seeds(1); seed++)
        run_lives(1000 + seed, 3, 2, 1, 4);
}

static void drop_line(void *context, enum log_level level, const char *line);

/* Everything acknowledged is there. */
static void read_all(struct io *io, struct node *node)
{
    struct life *life = (struct life *)(void *)node; /* its first member */
    assert_int_equal(node_start(io, node), OK);
    for (unsigned i = 0; i < life->known_count; i++) {
        if (!life->known[i].deleted)
            assert_int_equal(check_block(io, node->client, &life->known[i], node->pool), OK);
    }
    node_stop(io, node);
}

static void empty_one(struct io *io, struct node *node)
{
    const char *directory = node->directories[5];
    assert_int_equal(io_remove_tree(io, directory), OK);
    assert_int_equal(io_make_directory(io, directory), OK);
    assert_int_equal(io_sync_directory(io, "/"), OK);
}

/* Six drives, 4+2: one is emptied between two lives, another fails or hangs in some lives. */
static void run_lives_of_many(uint64_t seed)
{
    struct life *life = life_new(&(struct sim_options){.seed = seed}, 6, 0, 0);
    log_set_sink(drop_line, NULL);
    node_run(&life->node, format);
    for (unsigned i = 0; i < 5; i++) {
        uint64_t what = draw(life, 3);
        struct sim_fault fault = {.prefix = "/d1/segments",
                                  .write_fails = what == 1,
                                  .latency_ns = what == 2 ? 4 * IO_NS_PER_S : 0};
        sim_set_fault(life->node.machine, &fault);
        live(life, draw(life, 12000));
        sim_clear_faults(life->node.machine);
        require_no_violation(life, seed, i);
        if (i == 2)
            node_run(&life->node, empty_one);
    }
    node_run(&life->node, read_all);
    log_set_sink(NULL, NULL);
    life_free(life);
}

static void six_drives_keep_what_was_acknowledged_with_two_of_them_bad(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= seeds(1); seed++)
        run_lives_of_many(2000 + seed);
}

static void drop_line(void *context, enum log_level level, const char *line)
{
    (void)context, (void)level, (void)line;
}

/* The lives above would notice a write that was not durable when it was acknowledged. */
static void a_disk_that_lies_is_noticed(void **state)
{
    (void)state;
    struct life *life = life_new(&(struct sim_options){.seed = 1}, 1, 0, 0);
    log_set_sink(drop_line, NULL);
    node_run(&life->node, format);
    sim_set_fault(life->node.machine,
                  &(struct sim_fault){.prefix = "/d0", .durable_ignored = true});
    for (unsigned i = 0; i < 6 && life->violation == NULL; i++)
        live(life, 4000);
    assert_true(life->violation != NULL);
    log_set_sink(NULL, NULL);
    life_free(life);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drive_keeps_what_was_acknowledged_over_power_cuts),
        cmocka_unit_test(a_striped_volume_keeps_what_was_acknowledged_over_power_cuts),
        cmocka_unit_test(six_drives_keep_what_was_acknowledged_with_two_of_them_bad),
        cmocka_unit_test(a_disk_that_lies_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
