/* What the tests of storages over many drives share. */
#pragma once
#include "blocks.h"

enum { BLOCKS = 12 };

struct many {
    struct node node; /* first */
    struct known_block blocks[BLOCKS];
    uint64_t count; /* of something that the test counts */
};

static inline struct many *many_of(struct node *node)
{
    return (struct many *)(void *)node;
}

static inline void drop_line(void *context, enum log_level level, const char *line)
{
    (void)context, (void)level, (void)line;
}

static inline struct many *many_new(uint64_t seed, uint32_t drives)
{
    struct many *many = mem_new(struct many);
    node_init(&many->node, &(struct sim_options){.seed = seed}, drives);
    many->node.checks_mounts = true;
    log_set_sink(drop_line, NULL); /* errors are expected here */
    return many;
}

static inline void many_free(struct many *many)
{
    node_deinit(&many->node);
    mem_free(many);
}

static inline void write_blocks(struct io *io, struct node *node)
{
    struct many *many = many_of(node);
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct lease lease;
        uint32_t bytes = i % 4 == 0 ? 2500000 + i : 1000 + 40011 * i;
        many->blocks[i].seed = 100 + i;
        assert_int_equal(write_block(io, node->client, 100 + i, bytes, 262144, i % 2 == 0,
                                     &many->blocks[i].ref, &lease),
                         OK);
        assert_true(fake_meta_commit(node->server, &many->blocks[i].ref, &lease));
    }
}

static inline void read_blocks(struct io *io, struct node *node)
{
    struct many *many = many_of(node);
    for (unsigned i = 0; i < BLOCKS; i++) {
        const struct known_block *block = &many->blocks[i];
        uint32_t third = block->ref.bytes / 3;
        assert_int_equal(check_block(io, node->client, block, node->pool), OK);
        assert_int_equal(check_range(io, node->client, block, third,
                                     1 + (third < 70001 ? third : 70001) / 2, node->pool),
                         OK);
    }
}

/* A committed block of the seed; its missing shards and profile. */
static inline enum err write_one(struct io *io, struct node *node, uint64_t seed, uint32_t bytes,
                                 struct known_block *out, struct lease *out_lease)
{
    out->seed = seed;
    TRY(write_block(io, node->client, seed, bytes, 262144, true, &out->ref, out_lease));
    assert_true(fake_meta_commit(node->server, &out->ref, out_lease));
    return OK;
}

static inline void require_profile(struct io *io, struct node *node, unsigned data_shards,
                                   unsigned parity_shards)
{
    struct known_block block;
    struct lease lease;
    assert_int_equal(write_one(io, node, 77, 300000, &block, &lease), OK);
    assert_int_equal(block.ref.missing, 0);
    assert_int_equal(lease.data_shards, data_shards);
    assert_int_equal(lease.parity_shards, parity_shards);
    assert_int_equal(check_block(io, node->client, &block, node->pool), OK);
}

static inline void empty_directory(struct io *io, const char *directory)
{
    assert_int_equal(io_remove_tree(io, directory), OK);
    assert_int_equal(io_make_directory(io, directory), OK);
    assert_int_equal(io_sync_directory(io, "/"), OK);
}

static inline struct drive_status status_at(struct io *io, struct node *node, const char *directory)
{
    struct drive_status status[STORAGE_DRIVES_MAX];
    uint32_t count = storage_drives(io, node->storage, status, STORAGE_DRIVES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(status[i].directory, directory) == 0)
            return status[i];
    }
    return (struct drive_status){.state = 0};
}

/* Writes to the drive fail from now on, and one block finds out. */
static inline void break_drive(struct io *io, struct node *node, const char *directory)
{
    sim_set_fault(node->machine, &(struct sim_fault){.prefix = directory, .write_fails = true});
    for (unsigned i = 0; i < 64 && status_at(io, node, directory).state == DRIVE_STATE_OK; i++) {
        struct known_block block;
        struct lease lease;
        (void)write_one(io, node, i, 200000, &block, &lease);
        assert_int_equal(io_sleep_ms(io, 100), OK);
    }
    assert_int_equal(status_at(io, node, directory).state, DRIVE_STATE_FENCED);
    sim_clear_faults(node->machine);
}
