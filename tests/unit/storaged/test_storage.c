/* A storage in the simulator: writing, reading, every shape of block. */
#include "blocks.h"

static void lives_once(struct io *io, struct node *node)
{
    assert_int_equal(node_format(io, node), OK);
    assert_int_equal(node_start(io, node), OK);
    assert_true(storage_ready(node->storage));
    static const uint32_t sizes[] = {1,           4095,       4096,    4097,          65536,
                                     65537,       262144,     1 << 20, (1 << 20) + 1, 3333333,
                                     5 * 1048576, 8 * 1048576};
    static const uint32_t pieces[] = {1 << 20, 100000, 65536, 12345678};
    struct known_block blocks[200];
    unsigned count = 0;
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (unsigned j = 0; j < sizeof pieces / sizeof pieces[0]; j++) {
            for (unsigned declared = 0; declared < 2; declared++) {
                struct known_block *block = &blocks[count];
                struct lease lease;
                block->seed = ++count;
                enum err err = write_block(io, node->client, block->seed, sizes[i], pieces[j],
                                           declared != 0, &block->ref, &lease);
                assert_int_equal(err, OK);
                assert_true(fake_meta_commit(node->server, &block->ref, &lease));
                assert_int_equal(check_block(io, node->client, block, node->pool), OK);
            }
        }
    }
    node_stop(io, node);
    assert_int_equal(node_start(io, node), OK);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(check_block(io, node->client, &blocks[i], node->pool), OK);
        uint32_t half = blocks[i].ref.bytes / 2;
        uint32_t bytes = blocks[i].ref.bytes - half < 70001 ? blocks[i].ref.bytes - half : 70001;
        assert_int_equal(check_range(io, node->client, &blocks[i], half, bytes, node->pool), OK);
    }
    node_stop(io, node);
}

static void blocks_of_every_size_are_read_back(void **state)
{
    (void)state;
    static const struct {
        uint32_t drives;
        uint8_t data_shards, parity_shards;
    } shapes[] = {{1, 0, 0}, {3, 0, 0}, {2, 1, 1}, {3, 2, 1}, {6, 4, 2}};
    for (unsigned i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct node node;
        struct sim_options options = {.seed = i + 1};
        node_init(&node, &options, shapes[i].drives);
        node.data_shards = shapes[i].data_shards;
        node.parity_shards = shapes[i].parity_shards;
        node_run(&node, lives_once);
        node_deinit(&node);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_every_size_are_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
