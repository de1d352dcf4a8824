/* The metadata service of the tests: see fake_meta.h. */
#include "fake_meta.h"

#include "base/mem.h"
#include <assert.h>
#include <pthread.h>

enum { FAKE_MAX = 65536, FAKE_CALL_NS = 200000 };

struct fake_lease {
    struct lease lease;
    uint64_t holder, boot;
    bool closed;
};

struct meta_server {
    pthread_mutex_t mutex; /* callers may be on several threads */
    struct volume volumes[64];
    uint32_t volume_count;
    struct fake_lease leases[FAKE_MAX];
    uint32_t lease_count;
    uint64_t next_sequence;
    struct block_id live[FAKE_MAX];
    uint32_t live_count;
    struct free_entry freed[FAKE_MAX];
    uint32_t freed_count;
    uint64_t next_position;
};

struct meta_client {
    struct meta_server *server;
};

struct meta_server *fake_meta_new(void)
{
    struct meta_server *server = mem_new(struct meta_server);
    pthread_mutex_init(&server->mutex, NULL);
    server->next_sequence = 1;
    server->next_position = 1;
    return server;
}

void fake_meta_free(struct meta_server *server)
{
    pthread_mutex_destroy(&server->mutex);
    mem_free(server);
}

struct meta_client *meta_client_new(struct meta_server *server)
{
    struct meta_client *client = mem_new(struct meta_client);
    client->server = server;
    return client;
}

void meta_client_free(struct meta_client *client)
{
    mem_free(client);
}

static void unlock(pthread_mutex_t **mutex)
{
    pthread_mutex_unlock(*mutex);
}

/* Until the scope ends. */
#define LOCKED(server)                                                                             \
    __attribute__((cleanup(unlock))) pthread_mutex_t *locked_ = &(server)->mutex;                  \
    pthread_mutex_lock(locked_)

/* Calls take a while, and do nothing when the caller's machine is off. */
static enum err think(struct io *io)
{
    return io_sleep_until(io, io_now_ns(io) + FAKE_CALL_NS);
}

enum err meta_drive_register(struct io *io, struct meta_client *client,
                             const struct drive_id *drive, uint64_t node_id,
                             uint64_t capacity_bytes)
{
    (void)client, (void)drive, (void)node_id;
    assert(capacity_bytes > 0);
    return think(io);
}

enum err meta_volume_create(struct io *io, struct meta_client *client, uint8_t data_shards,
                            uint8_t parity_shards, const struct drive_id *drives,
                            struct volume *out_volume)
{
    TRY(think(io));
    struct meta_server *server = client->server;
    LOCKED(server);
    assert(server->volume_count < 64);
    struct volume *volume = &server->volumes[server->volume_count++];
    *volume = (struct volume){.id = server->volume_count,
                              .epoch = 1,
                              .state = VOLUME_OPEN,
                              .data_shards = data_shards,
                              .parity_shards = parity_shards};
    for (unsigned i = 0; i < (unsigned)data_shards + parity_shards; i++)
        volume->slots[i] = drives[i];
    *out_volume = *volume;
    return OK;
}

void volume_page_free(struct volume_page *page)
{
    if (page != NULL)
        mem_free(page->volumes);
    mem_free(page);
}

enum err meta_volume_list(struct io *io, struct meta_client *client, struct volume_page **out_page)
{
    TRY(think(io));
    LOCKED(client->server);
    struct volume_page *page = mem_new(struct volume_page);
    page->count = client->server->volume_count;
    page->volumes = mem_copy(client->server->volumes, page->count * sizeof(struct volume));
    *out_page = page;
    return OK;
}

enum err meta_lease_open(struct io *io, struct meta_client *client, uint64_t volume,
                         uint64_t holder, uint64_t boot, struct lease *out_lease)
{
    TRY(think(io));
    struct meta_server *server = client->server;
    LOCKED(server);
    assert(server->lease_count < FAKE_MAX);
    struct fake_lease *lease = &server->leases[server->lease_count++];
    *lease =
        (struct fake_lease){.lease = {.volume = volume,
                                      .from = server->next_sequence,
                                      .to = server->next_sequence + FAKE_LEASE_BLOCKS,
                                      .epoch = 1,
                                      .data_shards = server->volumes[volume - 1].data_shards,
                                      .parity_shards = server->volumes[volume - 1].parity_shards},
                            .holder = holder,
                            .boot = boot};
    server->next_sequence += FAKE_LEASE_BLOCKS;
    *out_lease = lease->lease;
    return OK;
}

enum err meta_lease_close(struct io *io, struct meta_client *client, const struct lease *lease)
{
    TRY(think(io));
    LOCKED(client->server);
    for (uint32_t i = 0; i < client->server->lease_count; i++) {
        if (client->server->leases[i].lease.from == lease->from)
            client->server->leases[i].closed = true;
    }
    return OK;
}

enum err meta_lease_close_stale(struct io *io, struct meta_client *client, uint64_t holder,
                                uint64_t boot)
{
    TRY(think(io));
    LOCKED(client->server);
    for (uint32_t i = 0; i < client->server->lease_count; i++) {
        struct fake_lease *lease = &client->server->leases[i];
        lease->closed = lease->closed || (lease->holder == holder && lease->boot != boot);
    }
    return OK;
}

void free_page_free(struct free_page *page)
{
    if (page != NULL)
        mem_free(page->entries);
    mem_free(page);
}

enum err meta_free_list(struct io *io, struct meta_client *client, uint64_t after, uint32_t max,
                        struct free_page **out_page)
{
    TRY(think(io));
    struct meta_server *server = client->server;
    LOCKED(server);
    struct free_page *page = mem_new(struct free_page);
    page->entries = mem_alloc_array(max, sizeof(struct free_entry));
    for (uint32_t i = 0; i < server->freed_count && page->count < max; i++) {
        if (server->freed[i].position > after)
            page->entries[page->count++] = server->freed[i];
    }
    *out_page = page;
    return OK;
}

enum err meta_free_done(struct io *io, struct meta_client *client, const uint64_t *positions,
                        uint32_t count)
{
    TRY(think(io));
    struct meta_server *server = client->server;
    LOCKED(server);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < server->freed_count; i++) {
        bool done = false;
        for (uint32_t j = 0; j < count; j++)
            done = done || positions[j] == server->freed[i].position;
        if (!done)
            server->freed[kept++] = server->freed[i];
    }
    server->freed_count = kept;
    return OK;
}

static const struct fake_lease *lease_of(const struct meta_server *server, struct block_id block)
{
    for (uint32_t i = 0; i < server->lease_count; i++) {
        const struct fake_lease *lease = &server->leases[i];
        if (lease->lease.volume == block.volume && block.sequence >= lease->lease.from &&
            block.sequence < lease->lease.to)
            return lease;
    }
    return NULL;
}

static enum block_status status_of(const struct meta_server *server, struct block_id block)
{
    for (uint32_t i = 0; i < server->live_count; i++) {
        if (block_id_equal(server->live[i], block))
            return BLOCK_LIVE;
    }
    for (uint32_t i = 0; i < server->freed_count; i++) {
        if (block_id_equal(server->freed[i].block, block))
            return BLOCK_UNKNOWN;
    }
    const struct fake_lease *lease = lease_of(server, block);
    return lease != NULL && lease->closed ? BLOCK_NEVER : BLOCK_UNKNOWN;
}

enum err meta_block_status(struct io *io, struct meta_client *client, const struct block_id *ids,
                           uint32_t count, enum block_status *out_status)
{
    TRY(think(io));
    LOCKED(client->server);
    for (uint32_t i = 0; i < count; i++)
        out_status[i] = status_of(client->server, ids[i]);
    return OK;
}

bool fake_meta_commit(struct meta_server *server, const struct block_ref *ref,
                      const struct lease *lease)
{
    LOCKED(server);
    const struct fake_lease *known = lease_of(server, ref->id);
    assert(known != NULL && known->lease.from == lease->from);
    if (known->closed)
        return false;
    assert(server->live_count < FAKE_MAX);
    server->live[server->live_count++] = ref->id;
    return true;
}

void fake_meta_delete(struct meta_server *server, struct block_id block)
{
    LOCKED(server);
    uint32_t at = 0;
    while (at < server->live_count && !block_id_equal(server->live[at], block))
        at++;
    assert(at < server->live_count);
    server->live[at] = server->live[--server->live_count];
    assert(server->freed_count < FAKE_MAX);
    server->freed[server->freed_count++] =
        (struct free_entry){.position = server->next_position++, .block = block};
}

uint32_t fake_meta_free_count(const struct meta_server *server)
{
    return server->freed_count;
}
