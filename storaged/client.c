/* Clients and read guards. */
#include "storaged/client.h"

#include "base/mem.h"
#include "storage.h"
#include <assert.h>

struct storage_client *storage_client_new(struct storage *storage)
{
    struct storage_client *client = mem_new(struct storage_client);
    client->storage = storage;
    return client;
}

void storage_client_free(struct storage_client *client)
{
    mem_free(client);
}

enum err storage_check_space(struct storage_client *client)
{
    struct storage *storage = client->storage;
    const struct drive *full = NULL;
    uint32_t roomy = 0;
    for (uint32_t i = 0; i < atomic_load(&storage->drive_count); i++) {
        const struct drive *drive = storage->drives[i];
        bool is_full = atomic_load(&drive->full);
        if (drive_check(drive) != OK)
            continue;
        roomy += !is_full;
        if (is_full)
            full = drive;
    }
    if (full == NULL || roomy >= STORAGE_ROOMY_DRIVES)
        return OK;
    return FAIL(ERR_NO_SPACE, "drive below its reserve directory=%s", full->directory);
}

/* Epochs only grow, so the list of a reactor is in order and its first guard is the oldest. */
void read_guard_begin(struct io *io, struct storage_client *client, struct read_guard *guard)
{
    struct reactor_store *reactor = storage_reactor(io, client->storage);
    *guard = (struct read_guard){.epoch = atomic_load(&client->storage->guard_epoch),
                                 .begun_ns = io_now_ns(io),
                                 .reactor = io_reactor_index(io)};
    list_push_back(&reactor->guards, &guard->node);
}

void read_guard_end(struct io *io, struct storage_client *client, struct read_guard *guard)
{
    assert(guard->reactor == io_reactor_index(io));
    list_remove(&storage_reactor(io, client->storage)->guards, &guard->node);
}
