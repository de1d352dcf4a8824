/* What the tests of whole storages share: blocks with contents that are told by a seed, and a
 * table of those that were acknowledged. */
#pragma once
#include "base/log.h"
#include "base/mem.h"
#include "fake_meta.h"
#include "kv/memory.h"
#include "runtime/sim.h"
#include "runtime/sync.h"
#include "storaged/client.h"
#include "storaged/server.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* cmocka leaves a failed test by longjmp, which does not work from a fiber. */
#undef assert_int_equal
#undef assert_true
#define assert_int_equal(a, b) require((uint64_t)(a), (uint64_t)(b), #a " == " #b, __LINE__)
#define assert_true(a) require((a) ? 1 : 0, 1, #a, __LINE__)

static inline void require(uint64_t a, uint64_t b, const char *what, int line)
{
    if (a == b)
        return;
    fprintf(stderr, "line %d: %s: %llu, %llu\n", line, what, (unsigned long long)a,
            (unsigned long long)b);
    abort();
}

static inline uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Contents of seed `seed`: word i is mix(seed, i), from any byte on. */
static inline void fill_content(uint64_t seed, uint64_t from, uint8_t *out, size_t bytes)
{
    for (size_t i = 0; i < bytes;) {
        uint64_t word = mix(seed ^ ((from + i) / 8) << 20);
        size_t skip = (from + i) % 8;
        size_t take = 8 - skip < bytes - i ? 8 - skip : bytes - i;
        memcpy(out + i, (const uint8_t *)&word + skip, take);
        i += take;
    }
}

static inline bool content_matches(uint64_t seed, uint64_t from, const uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 4096) {
        uint8_t page[4096];
        size_t take = bytes - i < sizeof page ? bytes - i : sizeof page;
        fill_content(seed, from + i, page, take);
        if (memcmp(page, data + i, take) != 0)
            return false;
    }
    return true;
}

struct known_block {
    struct block_ref ref;
    uint64_t seed;
    bool deleted;
};

/* Write a block of `bytes` in pieces of `piece`, declared or not. */
static inline enum err write_block(struct io *io, struct storage_client *client, uint64_t seed,
                                   uint32_t bytes, uint32_t piece, bool declared,
                                   struct block_ref *out_ref, struct lease *out_lease)
{
    struct block_hint hint = {.bucket_id = 7,
                              .bucket_name = SLICE_LITERAL("bucket"),
                              .key = SLICE_LITERAL("some/key of an object"),
                              .ordinal = 3};
    AUTO(block_writer) writer = NULL;
    TRY(block_writer_open(io, client, &hint, declared ? bytes : 0, &writer));
    for (uint32_t at = 0; at < bytes; at += piece) {
        uint32_t count = piece < bytes - at ? piece : bytes - at;
        AUTO(buf) buf = buf_new(count);
        fill_content(seed, at, buf->data, count);
        TRY(block_writer_append(io, writer, buf, 0, count));
    }
    return block_writer_finish(io, writer, out_ref, out_lease);
}

/* Read a range and compare: ERR_MISMATCH when the bytes are wrong. */
static inline enum err check_range(struct io *io, struct storage_client *client,
                                   const struct known_block *block, uint32_t offset, uint32_t bytes,
                                   struct buf_pool *pool)
{
    AUTO(buf) buf = NULL;
    size_t at = 0;
    TRY(block_read(io, client, &block->ref, offset, bytes, pool, &buf, &at));
    return content_matches(block->seed, offset, buf->data + at, bytes) ? OK : ERR_MISMATCH;
}

static inline enum err check_block(struct io *io, struct storage_client *client,
                                   const struct known_block *block, struct buf_pool *pool)
{
    for (uint32_t at = 0; at < block->ref.bytes; at += BLOCK_READ_BYTES_MAX) {
        uint32_t rest = block->ref.bytes - at;
        TRY(check_range(io, client, block, at,
                        rest < BLOCK_READ_BYTES_MAX ? rest : BLOCK_READ_BYTES_MAX, pool));
    }
    return OK;
}

/* --- a machine of the simulator with a storage --- */

struct node {
    struct sim *sim;
    struct sim_machine *machine;
    struct kv_memory_world *world;
    struct meta_group *server;
    struct metrics *metrics;
    struct buf_pool *pool;
    const char *directories[24];
    uint32_t directory_count;
    uint8_t data_shards, parity_shards; /* of new volumes; 0: by the number of drives */
    bool checks_mounts, accepts_loss;
    uint32_t out_s, out_no_spare_s; /* of absent drives; 0: the defaults */
    uint32_t scrub_pass_s;
    unsigned changes;                 /* calls of drives_changed */
    struct storage_identity identity; /* by node_format */
    struct storage *storage;
    struct meta_client *meta;
    struct storage_client *client;
};

static inline void node_changed(void *context)
{
    ((struct node *)context)->changes++;
}

static inline struct storage_options node_options(struct node *node)
{
    return (struct storage_options){.directories = node->directories,
                                    .directory_count = node->directory_count,
                                    .kv = kv_memory_provider(node->world),
                                    .metrics = node->metrics,
                                    .segment_bytes = 16 << 20,
                                    .drive_bytes_min = 1 << 20,
                                    .checks_mounts = node->checks_mounts,
                                    .redundancy = {node->data_shards, node->parity_shards},
                                    .accepts_loss = node->accepts_loss,
                                    .out_s = node->out_s,
                                    .out_no_spare_s = node->out_no_spare_s,
                                    .scrub_pass_s = node->scrub_pass_s,
                                    .drives_changed = node_changed,
                                    .context = node};
}

static inline void node_init(struct node *node, const struct sim_options *options,
                             uint32_t directory_count)
{
    static const char *const names[] = {"/d0", "/d1", "/d2", "/d3", "/d4",
                                        "/d5", "/d6", "/d7", "/d8", "/d9"};
    log_set_level(LOG_ERROR);
    *node = (struct node){.sim = sim_new(options)};
    node->machine = sim_machine_new(node->sim, 1);
    node->world = kv_memory_world_new();
    node->server = fake_meta_new();
    node->metrics = metrics_new();
    node->pool = buf_pool_new(256 << 20);
    node->directory_count = directory_count;
    memcpy(node->directories, names, directory_count * sizeof names[0]);
}

static inline void node_deinit(struct node *node)
{
    sim_free(node->sim);
    kv_memory_world_free(node->world);
    fake_meta_free(node->server);
    metrics_free(node->metrics);
    buf_pool_free(node->pool);
}

/* Make the drives, and nothing else. */
static inline enum err node_format(struct io *io, struct node *node)
{
    struct storage_options options = node_options(node);
    struct storage *storage = NULL;
    TRY(storage_open(io, &options, &storage));
    node->identity = *storage_identity_of(storage);
    storage_stop(io, storage);
    return OK;
}

static inline enum err node_start(struct io *io, struct node *node)
{
    struct storage_options options = node_options(node);
    TRY(storage_open(io, &options, &node->storage));
    node->meta = meta_client_new(node->server);
    node->client = storage_client_new(node->storage);
    return storage_start(io, node->storage, node->meta);
}

static inline void node_stop(struct io *io, struct node *node)
{
    storage_stop(io, TAKE(node->storage));
    storage_client_free(TAKE(node->client));
    meta_client_free(TAKE(node->meta));
}

/* Run fn(io, node) to its end. */
struct node_run {
    struct node *node;
    void (*fn)(struct io *io, struct node *node);
    bool done;
};

static inline void node_run_fiber(struct io *io, void *argument)
{
    struct node_run *run = argument;
    run->fn(io, run->node);
    run->done = true;
}

static inline bool node_run_done(void *context)
{
    return ((struct node_run *)context)->done;
}

static inline void node_run(struct node *node, void (*fn)(struct io *io, struct node *node))
{
    struct node_run run = {.node = node, .fn = fn};
    assert_int_equal(sim_spawn(node->machine, 0, node_run_fiber, &run), OK);
    assert_true(
        sim_run(node->sim, node_run_done, &run, sim_now_ns(node->sim) + 36000 * IO_NS_PER_S));
}

static inline uint64_t node_draw(void *context, uint64_t bound)
{
    return sim_draw(((struct node *)context)->sim, bound);
}
