/* The metadata service of the tests: see fake_meta.h. */
#include "fake_meta.h"

#include "base/mem.h"
#include <assert.h>
#include <pthread.h>

enum { FAKE_MAX = 65536, FAKE_VOLUMES_MAX = 1024, FAKE_DRIVES_MAX = 64, FAKE_CALL_NS = 200000 };

struct fake_lease {
    struct lease lease;
    uint64_t holder, boot;
    bool closed;
};

struct meta_group {
    pthread_mutex_t mutex; /* callers may be on several threads */
    struct drive_record drives[FAKE_DRIVES_MAX];
    uint32_t drive_count;
    struct volume volumes[FAKE_VOLUMES_MAX];
    uint32_t volume_count;
    struct fake_lease leases[FAKE_MAX];
    uint32_t lease_count;
    uint64_t next_sequence;
    struct block_ref live[FAKE_MAX];
    uint32_t live_count;
    struct free_entry freed[FAKE_MAX];
    uint32_t freed_count;
    uint64_t next_position;
};

struct meta_client {
    struct meta_group *server;
};

struct meta_group *fake_meta_new(void)
{
    struct meta_group *server = mem_new(struct meta_group);
    pthread_mutex_init(&server->mutex, NULL);
    server->next_sequence = 1;
    server->next_position = 1;
    return server;
}

void fake_meta_free(struct meta_group *server)
{
    pthread_mutex_destroy(&server->mutex);
    mem_free(server);
}

struct meta_client *meta_client_new(struct meta_group *server)
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

/* --- drives --- */

static struct drive_record *find_drive(struct meta_group *server, const struct drive_id *id)
{
    for (uint32_t i = 0; i < server->drive_count; i++) {
        if (drive_id_equal(&server->drives[i].id, id))
            return &server->drives[i];
    }
    return NULL;
}

enum err meta_drive_register(struct io *io, struct meta_client *client,
                             const struct drive_record *drive)
{
    TRY(think(io));
    struct meta_group *server = client->server;
    LOCKED(server);
    assert(drive->capacity_bytes > 0);
    struct drive_record *known = find_drive(server, &drive->id);
    if (known == NULL) {
        assert(server->drive_count < FAKE_DRIVES_MAX);
        known = &server->drives[server->drive_count++];
        known->standing = DRIVE_IN_SERVICE;
    } else if (drive->mount_counter < known->mount_counter ||
               (drive->mount_counter == known->mount_counter && drive->boot != known->boot)) {
        return ERR_STALE;
    }
    enum drive_standing standing =
        known->standing == DRIVE_DRAINING ? DRIVE_DRAINING : DRIVE_IN_SERVICE;
    *known = *drive;
    known->standing = standing;
    return OK;
}

enum err meta_drive_set_standing(struct io *io, struct meta_client *client,
                                 const struct drive_id *drive, enum drive_standing standing)
{
    TRY(think(io));
    LOCKED(client->server);
    struct drive_record *known = find_drive(client->server, drive);
    if (known == NULL)
        return ERR_NOT_FOUND;
    known->standing = standing;
    return OK;
}

static bool is_named(const struct meta_group *server, const struct drive_id *drive)
{
    for (uint32_t i = 0; i < server->volume_count; i++) {
        for (unsigned slot = 0; slot < META_SHARDS_MAX; slot++) {
            if (drive_id_equal(&server->volumes[i].slots[slot], drive) ||
                drive_id_equal(&server->volumes[i].repair.drives[slot], drive))
                return true;
        }
    }
    return false;
}

enum err meta_drive_forget(struct io *io, struct meta_client *client, const struct drive_id *drive)
{
    TRY(think(io));
    struct meta_group *server = client->server;
    LOCKED(server);
    struct drive_record *known = find_drive(server, drive);
    if (known == NULL)
        return OK;
    if (is_named(server, drive))
        return ERR_NOT_EMPTY;
    *known = server->drives[--server->drive_count];
    return OK;
}

void drive_page_free(struct drive_page *page)
{
    if (page != NULL)
        mem_free(page->drives);
    mem_free(page);
}

enum err meta_drive_list(struct io *io, struct meta_client *client, struct drive_page **out_page)
{
    TRY(think(io));
    LOCKED(client->server);
    struct drive_page *page = mem_new(struct drive_page);
    page->count = client->server->drive_count;
    page->drives = mem_copy(client->server->drives, page->count * sizeof(struct drive_record));
    *out_page = page;
    return OK;
}

/* --- volumes --- */

enum err meta_volume_create(struct io *io, struct meta_client *client, uint8_t data_shards,
                            uint8_t parity_shards, const struct drive_id *drives,
                            struct volume *out_volume)
{
    TRY(think(io));
    struct meta_group *server = client->server;
    LOCKED(server);
    assert(server->volume_count < FAKE_VOLUMES_MAX);
    struct volume *volume = &server->volumes[server->volume_count++];
    *volume = (struct volume){.id = server->volume_count,
                              .epoch = 1,
                              .state = VOLUME_OPEN,
                              .data_shards = data_shards,
                              .parity_shards = parity_shards};
    for (unsigned i = 0; i < (unsigned)data_shards + parity_shards; i++) {
        const struct drive_record *drive = find_drive(server, &drives[i]);
        assert(drive != NULL && drive->standing == DRIVE_IN_SERVICE);
        for (unsigned j = 0; j < i; j++)
            assert(!drive_id_equal(&drives[i], &drives[j]));
        volume->slots[i] = drives[i];
        volume->slot_epochs[i] = 1;
    }
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
    struct meta_group *server = client->server;
    LOCKED(server);
    assert(server->lease_count < FAKE_MAX);
    if (server->volumes[volume - 1].state != VOLUME_OPEN)
        return ERR_STALE_EPOCH;
    struct fake_lease *lease = &server->leases[server->lease_count++];
    *lease =
        (struct fake_lease){.lease = {.volume = volume,
                                      .from = server->next_sequence,
                                      .to = server->next_sequence + FAKE_LEASE_BLOCKS,
                                      .epoch = server->volumes[volume - 1].epoch,
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

enum err meta_lease_close_volume(struct io *io, struct meta_client *client, uint64_t volume)
{
    TRY(think(io));
    LOCKED(client->server);
    for (uint32_t i = 0; i < client->server->lease_count; i++) {
        struct fake_lease *lease = &client->server->leases[i];
        lease->closed = lease->closed || lease->lease.volume == volume;
    }
    return OK;
}

/* --- repair --- */

static bool has_open_lease(const struct meta_group *server, uint64_t volume)
{
    for (uint32_t i = 0; i < server->lease_count; i++) {
        if (server->leases[i].lease.volume == volume && !server->leases[i].closed)
            return true;
    }
    return false;
}

enum err meta_repair_start(struct io *io, struct meta_client *client, uint64_t id, uint32_t slots,
                           const struct drive_id drives[META_SHARDS_MAX], struct volume *out_volume)
{
    TRY(think(io));
    LOCKED(client->server);
    struct volume *volume = &client->server->volumes[id - 1];
    if (volume->repair.id != 0)
        return ERR_BUSY;
    volume->state = VOLUME_REPAIRING;
    volume->epoch++;
    volume->repair = (struct volume_repair){
        .id = client->server->next_position++, .epoch = volume->epoch, .slots = slots};
    for (unsigned slot = 0; slot < META_SHARDS_MAX; slot++) {
        if ((slots >> slot & 1) != 0)
            volume->repair.drives[slot] = drives[slot];
    }
    *out_volume = *volume;
    return OK;
}

enum err meta_repair_done(struct io *io, struct meta_client *client, uint64_t id, uint64_t repair,
                          struct volume *out_volume)
{
    TRY(think(io));
    LOCKED(client->server);
    struct volume *volume = &client->server->volumes[id - 1];
    if (volume->repair.id != repair)
        return ERR_STALE;
    if (has_open_lease(client->server, id))
        return ERR_NOT_EMPTY;
    for (unsigned slot = 0; slot < META_SHARDS_MAX; slot++) {
        if ((volume->repair.slots >> slot & 1) == 0)
            continue;
        volume->slots[slot] = volume->repair.drives[slot];
        volume->slot_epochs[slot] = volume->repair.epoch;
    }
    volume->repair = (struct volume_repair){.id = 0};
    volume->state = VOLUME_OPEN;
    volume->epoch++;
    *out_volume = *volume;
    return OK;
}

enum err meta_repair_cancel(struct io *io, struct meta_client *client, uint64_t id, uint64_t repair,
                            struct volume *out_volume)
{
    TRY(think(io));
    LOCKED(client->server);
    struct volume *volume = &client->server->volumes[id - 1];
    if (volume->repair.id != repair)
        return ERR_STALE;
    volume->repair = (struct volume_repair){.id = 0};
    volume->state = VOLUME_OPEN;
    volume->epoch++;
    *out_volume = *volume;
    return OK;
}

void block_page_free(struct block_page *page)
{
    if (page != NULL)
        mem_free(page->blocks);
    mem_free(page);
}

static bool is_before(struct block_id a, struct block_id b)
{
    return a.volume != b.volume ? a.volume < b.volume : a.sequence < b.sequence;
}

/* Those of `server->live` from `from` on that `wanted` takes, in order. */
static struct block_page *list_live(const struct meta_group *server, struct block_id from,
                                    uint64_t volume, bool missing_only, uint32_t max)
{
    struct block_page *page = mem_new(struct block_page);
    page->blocks = mem_alloc_array((size_t)max + 1, sizeof(struct block_ref));
    for (uint32_t i = 0; i < server->live_count; i++) {
        const struct block_ref *ref = &server->live[i];
        if (is_before(ref->id, from) || (volume != 0 && ref->id.volume != volume) ||
            (missing_only && ref->missing == 0))
            continue;
        uint32_t at = page->count;
        for (; at > 0 && is_before(ref->id, page->blocks[at - 1].id); at--)
            page->blocks[at] = page->blocks[at - 1];
        page->blocks[at] = *ref;
        page->count += page->count < max;
        page->truncated = page->truncated || page->count == max;
    }
    return page;
}

enum err meta_volume_blocks(struct io *io, struct meta_client *client, uint64_t volume,
                            uint64_t from, uint32_t max, struct block_page **out_page)
{
    TRY(think(io));
    LOCKED(client->server);
    *out_page = list_live(client->server, (struct block_id){volume, from}, volume, false, max);
    return OK;
}

enum err meta_repair_list(struct io *io, struct meta_client *client, struct block_id from,
                          uint32_t max, struct block_page **out_page)
{
    TRY(think(io));
    LOCKED(client->server);
    *out_page = list_live(client->server, from, 0, true, max);
    return OK;
}

static struct block_ref *find_live(struct meta_group *server, struct block_id id)
{
    for (uint32_t i = 0; i < server->live_count; i++) {
        if (block_id_equal(server->live[i].id, id))
            return &server->live[i];
    }
    return NULL;
}

enum err meta_blocks_repaired(struct io *io, struct meta_client *client,
                              const struct block_ref *blocks, uint32_t count)
{
    TRY(think(io));
    LOCKED(client->server);
    for (uint32_t i = 0; i < count; i++) {
        struct block_ref *ref = find_live(client->server, blocks[i].id);
        if (ref != NULL)
            ref->missing &= ~blocks[i].missing;
    }
    return OK;
}

enum err meta_block_find(struct io *io, struct meta_client *client, const struct block_id *ids,
                         uint32_t count, struct block_ref *out_refs)
{
    TRY(think(io));
    LOCKED(client->server);
    for (uint32_t i = 0; i < count; i++) {
        const struct block_ref *ref = find_live(client->server, ids[i]);
        out_refs[i] = ref != NULL ? *ref : (struct block_ref){.bytes = 0};
    }
    return OK;
}

/* --- what is freed --- */

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
    struct meta_group *server = client->server;
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
    struct meta_group *server = client->server;
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

static const struct fake_lease *lease_of(const struct meta_group *server, struct block_id block)
{
    for (uint32_t i = 0; i < server->lease_count; i++) {
        const struct fake_lease *lease = &server->leases[i];
        if (lease->lease.volume == block.volume && block.sequence >= lease->lease.from &&
            block.sequence < lease->lease.to)
            return lease;
    }
    return NULL;
}

static enum block_status status_of(const struct meta_group *server, struct block_id block)
{
    for (uint32_t i = 0; i < server->live_count; i++) {
        if (block_id_equal(server->live[i].id, block))
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

bool fake_meta_commit(struct meta_group *server, const struct block_ref *ref,
                      const struct lease *lease)
{
    LOCKED(server);
    const struct fake_lease *known = lease_of(server, ref->id);
    assert(known != NULL && known->lease.from == lease->from);
    if (known->closed)
        return false;
    assert(server->live_count < FAKE_MAX);
    server->live[server->live_count++] = *ref;
    return true;
}

void fake_meta_delete(struct meta_group *server, struct block_id block)
{
    LOCKED(server);
    uint32_t at = 0;
    while (at < server->live_count && !block_id_equal(server->live[at].id, block))
        at++;
    assert(at < server->live_count);
    server->live[at] = server->live[--server->live_count];
    assert(server->freed_count < FAKE_MAX);
    server->freed[server->freed_count++] =
        (struct free_entry){.position = server->next_position++, .block = block};
}

uint32_t fake_meta_free_count(const struct meta_group *server)
{
    return server->freed_count;
}

uint32_t fake_meta_open_leases(const struct meta_group *server)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < server->lease_count; i++)
        open += !server->leases[i].closed;
    return open;
}

const struct volume *fake_meta_volume(const struct meta_group *server, uint64_t volume)
{
    return &server->volumes[volume - 1];
}

struct volume *fake_meta_change_volume(struct meta_group *server, uint64_t volume)
{
    return &server->volumes[volume - 1];
}

enum drive_standing fake_meta_standing(struct meta_group *server, const struct drive_id *drive)
{
    const struct drive_record *known = find_drive(server, drive);
    return known == NULL ? 0 : known->standing;
}
