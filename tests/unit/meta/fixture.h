/* A metadata service without Raft: the client's calls become entries that are applied at once.
 *
 * The test answers for the server (server_calls.h) and for the one question kv asks the runtime.
 * All entries are kept, so that a test can apply them again elsewhere. FIXTURE_SERVER defines
 * the functions; use it once per test program. */
#pragma once
#include "base/mem.h"
#include "entry.h"
#include "kv/kv.h"
#include "kv/memory.h"
#include "meta/client.h"
#include "server_calls.h"
#include "state.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct recorded {
    uint8_t *data;
    size_t bytes;
};

struct meta_group {
    struct kv_memory_world *world;
    struct kv *kv;
    struct state *state;
    struct recorded *log; /* entry of index i + 1 */
    uint32_t log_count, log_capacity;
    size_t entry_bytes_max; /* the longest so far */
    uint64_t session, sequence;
    uint64_t wall_ms;
};

static inline struct lane *the_lane(void)
{
    static char place;
    return (struct lane *)(void *)&place;
}

static inline struct kv *store_open(struct kv_memory_world *world, const char *path)
{
    struct kv *kv = NULL;
    struct kv_options options = {.create = true};
    assert_int_equal(kv_open(kv_memory_provider(world), the_lane(), path, &options, &kv), OK);
    return kv;
}

/* Apply, record, and give the result. */
static inline struct result server_apply(struct meta_group *server, struct slice entry)
{
    if (server->log_count == server->log_capacity) {
        server->log_capacity = server->log_capacity == 0 ? 64 : server->log_capacity * 2;
        server->log = mem_resize(server->log, server->log_capacity * sizeof *server->log);
    }
    server->log[server->log_count++] =
        (struct recorded){.data = mem_copy(entry.data, entry.bytes), .bytes = entry.bytes};
    if (entry.bytes > server->entry_bytes_max)
        server->entry_bytes_max = entry.bytes;
    AUTO_VALUE(bytes) answer = {.max = RESULT_BYTES_MAX};
    assert_int_equal(state_apply(the_lane(), server->state, server->log_count, 1, entry, &answer),
                     OK);
    struct result result;
    assert_int_equal(result_decode(bytes_slice(&answer), &result), OK);
    return result;
}

static inline struct result server_entry(struct meta_group *server,
                                         const struct entry_header *header,
                                         const struct command *command)
{
    AUTO_VALUE(bytes) entry = {.max = ENTRY_BYTES_MAX};
    entry_header_encode(&entry, header);
    assert_int_equal(command_encode(&entry, command), OK);
    return server_apply(server, bytes_slice(&entry));
}

static inline void server_tick(struct meta_group *server, uint64_t step_ms)
{
    server->wall_ms += step_ms;
    struct command tick = {.type = COMMAND_TICK, .tick = {.tick_ms = server->wall_ms}};
    struct result result =
        server_entry(server, &(struct entry_header){.wall_ms = server->wall_ms}, &tick);
    assert_int_equal(result.err, OK);
}

static inline void server_open_session(struct meta_group *server)
{
    struct command open = {.type = COMMAND_OPEN_SESSION, .session = {.holder = 7, .boot = 8}};
    struct result result =
        server_entry(server, &(struct entry_header){.wall_ms = server->wall_ms}, &open);
    assert_int_equal(result.err, OK);
    server->session = result.written.stamp;
    server->sequence = 0;
}

static inline struct meta_group *server_new(void)
{
    struct meta_group *server = mem_new(struct meta_group);
    server->world = kv_memory_world_new();
    server->kv = store_open(server->world, "state");
    server->wall_ms = 1700000000000;
    assert_int_equal(state_open(the_lane(), server->kv, &server->state), OK);
    server_tick(server, 0);
    server_open_session(server);
    return server;
}

static inline void server_free(struct meta_group *server)
{
    state_free(server->state);
    kv_close(server->kv);
    kv_memory_world_free(server->world);
    for (uint32_t i = 0; i < server->log_count; i++)
        mem_free(server->log[i].data);
    mem_free(server->log);
    mem_free(server);
}
DEFINE_AUTO(meta_group, server_free)

#define FIXTURE_SERVER                                                                             \
    bool lane_is_current(const struct lane *lane)                                                  \
    {                                                                                              \
        return lane == the_lane();                                                                 \
    }                                                                                              \
    enum err meta_group_propose(struct io *io, struct meta_group *server, struct slice command,    \
                                struct bytes *out_result)                                          \
    {                                                                                              \
        (void)io;                                                                                  \
        server->wall_ms++;                                                                         \
        server->sequence++;                                                                        \
        struct entry_header header = {.wall_ms = server->wall_ms,                                  \
                                      .session = server->session,                                  \
                                      .sequence = server->sequence,                                \
                                      .done_below = server->sequence};                             \
        AUTO_VALUE(bytes) entry = {.max = ENTRY_BYTES_MAX};                                        \
        entry_header_encode(&entry, &header);                                                      \
        bytes_append(&entry, command);                                                             \
        struct result result = server_apply(server, bytes_slice(&entry));                          \
        result_encode(out_result, &result);                                                        \
        return OK;                                                                                 \
    }                                                                                              \
    enum err meta_group_read(struct io *io, struct meta_group *server, meta_read_fn *fn,           \
                             void *argument, bool memory_first)                                    \
    {                                                                                              \
        (void)io;                                                                                  \
        return fn(memory_first ? NULL : the_lane(), server->state, argument);                      \
    }

/* --- short words for calls --- */

struct world {
    struct meta_group *server;
    struct meta_client *client;
    uint64_t bucket_id;
    struct volume volume;
    struct lease lease;
    uint64_t sequence; /* next block of the lease */
};

static inline struct drive_id drive_of(uint8_t number)
{
    return (struct drive_id){.bytes = {number}};
}

/* A service with one bucket, one volume and an open lease. */
static inline void world_init(struct world *world)
{
    *world = (struct world){.server = server_new()};
    world->client = meta_client_new(world->server);
    struct bucket bucket;
    assert_int_equal(meta_bucket_create(NULL, world->client, SLICE_LITERAL("bucket"),
                                        SLICE_LITERAL("owner"), SLICE_LITERAL(""), &bucket),
                     OK);
    world->bucket_id = bucket.id;
    struct drive_id drives[2] = {drive_of(1), drive_of(2)};
    for (unsigned i = 0; i < 2; i++) {
        struct drive_record record = {.id = drives[i], .node_id = 1, .capacity_bytes = 1 << 30};
        assert_int_equal(meta_drive_register(NULL, world->client, &record), OK);
    }
    assert_int_equal(meta_volume_create(NULL, world->client, 1, 1, drives, &world->volume), OK);
    assert_int_equal(meta_lease_open(NULL, world->client, world->volume.id, 1, 1, &world->lease),
                     OK);
    world->sequence = world->lease.from;
}

static inline void world_deinit(struct world *world)
{
    meta_client_free(world->client);
    server_free(world->server);
}

static inline struct block_ref block_next(struct world *world, uint32_t bytes)
{
    uint64_t sequence = world->sequence++;
    return (struct block_ref){.id = {.volume = world->volume.id, .sequence = sequence},
                              .hash = {.bytes = {(uint8_t)sequence, (uint8_t)(sequence >> 8)}},
                              .bytes = bytes,
                              .missing = (uint32_t)sequence & 1};
}

static inline bool block_ref_equal(const struct block_ref *a, const struct block_ref *b)
{
    return block_id_equal(a->id, b->id) && a->bytes == b->bytes && a->missing == b->missing &&
           hash128_equal(&a->hash, &b->hash);
}

/* Run jobs until none is left; how many steps it took. */
static inline unsigned world_expand(struct world *world)
{
    for (unsigned steps = 0;; steps++) {
        bool more = false;
        assert_int_equal(state_has_jobs(the_lane(), world->server->state, &more), OK);
        if (!more)
            return steps;
        AUTO(free_page) page = NULL;
        assert_int_equal(meta_free_list(NULL, world->client, 0, 1, &page), OK);
    }
}
