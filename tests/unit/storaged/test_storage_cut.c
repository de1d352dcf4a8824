/* What a power cut after the end of a call, or of a process, leaves on a drive. */
#include "blocks.h"

enum { BLOCKS = 10, BLOCK_BYTES = 1 << 20, SEEDS = 12, FIRST_RECORD_OFFSET = 8192 };

struct story {
    struct node node; /* first */
    struct known_block blocks[BLOCKS];
    uint64_t free_bytes;
};

static struct story *story_of(struct node *node)
{
    return (struct story *)(void *)node; /* its first member */
}

static struct story *story_new(uint64_t seed)
{
    struct story *story = mem_new(struct story);
    node_init(&story->node, &(struct sim_options){.seed = seed}, 1);
    return story;
}

static void story_free(struct story *story)
{
    node_deinit(&story->node);
    mem_free(story);
}

static uint64_t draw_nothing(void *context, uint64_t bound)
{
    (void)context, (void)bound;
    return 0; /* the oldest state that a crash may leave */
}

static void cut(struct node *node)
{
    sim_power_cut(node->machine);
    kv_memory_crash(node->world, draw_nothing, NULL);
    sim_power_on(node->machine);
}

/* --- format --- */

static void format(struct io *io, struct node *node)
{
    assert_int_equal(node_format(io, node), OK);
}

static void require_shale(struct io *io, struct node *node)
{
    struct storage_options options = node_options(node);
    struct storage *storage = NULL;
    assert_int_equal(storage_open(io, &options, &storage), OK);
    assert_int_equal(memcmp(storage_identity_of(storage), &node->identity, sizeof node->identity),
                     0);
    storage_stop(io, storage);
}

static void a_formatted_drive_stays_formatted(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct story *story = story_new(seed);
        node_run(&story->node, format);
        cut(&story->node);
        node_run(&story->node, require_shale);
        story_free(story);
    }
}

/* --- collection --- */

static void write_blocks(struct io *io, struct node *node)
{
    struct story *story = story_of(node);
    format(io, node);
    assert_int_equal(node_start(io, node), OK);
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct known_block *block = &story->blocks[i];
        struct lease lease;
        block->seed = i + 1;
        enum err err = write_block(io, node->client, block->seed, BLOCK_BYTES, BLOCK_BYTES, true,
                                   &block->ref, &lease);
        assert_int_equal(err, OK);
        assert_true(fake_meta_commit(node->server, &block->ref, &lease));
    }
    node_stop(io, node);
}

static struct drive_status status_of(struct io *io, struct node *node)
{
    struct drive_status status;
    assert_int_equal(storage_drives(io, node->storage, &status, 1), 1);
    return status;
}

static void delete_all_but_one(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    for (unsigned i = 1; i < BLOCKS; i++)
        fake_meta_delete(node->server, story_of(node)->blocks[i].ref.id);
    assert_int_equal(storage_collect(io, node->storage), OK);
    assert_int_equal(io_sleep_ms(io, 5000), OK); /* ticks see the space */
    story_of(node)->free_bytes = status_of(io, node).free_bytes;
    node_stop(io, node);
}

static void require_space(struct io *io, struct node *node)
{
    struct story *story = story_of(node);
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(storage_collect(io, node->storage), OK);
    assert_int_equal(io_sleep_ms(io, 5000), OK);
    struct drive_status status = status_of(io, node);
    assert_int_equal(status.record_count, 1);
    assert_true(status.free_bytes + BLOCK_BYTES > story->free_bytes);
    assert_int_equal(check_block(io, node->client, &story->blocks[0], node->pool), OK);
    node_stop(io, node);
}

static void collected_space_does_not_come_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct story *story = story_new(seed);
        node_run(&story->node, write_blocks);
        node_run(&story->node, delete_all_but_one);
        cut(&story->node);
        node_run(&story->node, require_space);
        story_free(story);
    }
}

/* --- the index --- */

/* A scan would not find the first record any more. */
static void require_index(struct io *io, struct node *node)
{
    uint64_t bit = FIRST_RECORD_OFFSET * 8;
    assert_int_equal(sim_flip_bit(node->machine, "/d0/segments/0000000000000001.seg", bit), OK);
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(status_of(io, node).record_count, BLOCKS);
    node_stop(io, node);
}

static void drop_line(void *context, enum log_level level, const char *line)
{
    (void)context, (void)level, (void)line;
}

static void an_orderly_end_leaves_an_index_that_needs_no_scan(void **state)
{
    (void)state;
    struct story *story = story_new(1);
    log_set_sink(drop_line, NULL);
    node_run(&story->node, write_blocks);
    cut(&story->node);
    node_run(&story->node, require_index);
    log_set_sink(NULL, NULL);
    story_free(story);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_formatted_drive_stays_formatted),
        cmocka_unit_test(collected_space_does_not_come_back),
        cmocka_unit_test(an_orderly_end_leaves_an_index_that_needs_no_scan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
