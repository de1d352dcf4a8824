/* Messages between the replicas of a group, and entries that lagging followers need from the
 * disk. */
#include "server_group.h"
#include "base/log.h"
#include "base/mem.h"
#include "server_core.h"
#include <assert.h>
#include <inttypes.h>

enum {
    HELD_MAX = 8192,
    RECEIVED_MAX = 1024,
    RECEIVED_BYTES_MAX = 64 << 20,
};

static void message_free(struct held_message *message)
{
    bytes_deinit(&message->bytes);
    mem_free(message);
}

static void send(struct meta_server *server, uint64_t to, struct slice message)
{
    struct meta_server *local = group_replica(server->group, to);
    if (local != NULL)
        meta_server_receive(local, message);
    else if (server->seams.send != NULL)
        server->seams.send(server->seams.context, to, message);
}

/* --- sending --- */

void server_send_messages(struct meta_server *server, const struct raft_output *output)
{
    for (uint32_t i = 0; i < output->message_count; i++) {
        const struct raft_message *message = &output->messages[i];
        struct bytes encoded = {.max = RAFT_MESSAGE_ENCODED_MAX};
        raft_message_encode(&encoded, message);
        if (message->wait_sequence <= server->sequence_durable || server->held.count == HELD_MAX) {
            /* Too many held: dropped, as a network may. */
            if (message->wait_sequence <= server->sequence_durable)
                send(server, message->to, bytes_slice(&encoded));
            bytes_deinit(&encoded);
            continue;
        }
        struct held_message *held = mem_new(struct held_message);
        held->to = message->to;
        held->wait_sequence = message->wait_sequence;
        held->bytes = encoded;
        list_push_back(&server->held, &held->node);
    }
}

void server_release_messages(struct meta_server *server)
{
    LIST_EACH(struct held_message, held, &server->held, node)
    {
        if (held->wait_sequence > server->sequence_durable)
            continue;
        list_remove(&server->held, &held->node);
        send(server, held->to, bytes_slice(&held->bytes));
        message_free(held);
    }
}

/* --- receiving --- */

void meta_server_receive(struct meta_server *server, struct slice message)
{
    if (server->driver == NULL || server->failed || server->received.count == RECEIVED_MAX ||
        message.bytes > RECEIVED_BYTES_MAX / RECEIVED_MAX * 64)
        return;
    struct held_message *received = mem_new(struct held_message);
    received->bytes.max = message.bytes;
    bytes_append(&received->bytes, message);
    list_push_back(&server->received, &received->node);
    server_wake(server);
}

void server_receive_messages(struct meta_server *server)
{
    struct list_node *node = NULL;
    struct raft_entries storage = {0};
    while ((node = list_pop_front(&server->received)) != NULL) {
        struct held_message *received = CONTAINER_OF(node, struct held_message, node);
        struct raft_message message;
        enum err err = raft_message_decode(bytes_slice(&received->bytes), &storage, &message);
        if (err == OK)
            err = raft_receive(server->raft, &message);
        message_free(received);
        if (err == ERR_CORRUPT)
            server_fail(server, err, "message that contradicts what is committed");
        else if (err != OK)
            log_debug("meta: message dropped cause=%s", err_text(err));
    }
    raft_entries_deinit(&storage);
}

/* --- loads --- */

struct load {
    struct meta_server *server;
    struct raft_load wanted;
};

static void load_fiber(struct io *io, void *argument)
{
    struct load load = *(const struct load *)argument; /* the spawner's, until the first wait */
    struct meta_server *server = load.server;
    struct meta_log_entries loaded = {0};
    enum err err = meta_log_read(io, server->log, server->options.group_id, load.wanted.first_index,
                                 load.wanted.last_index, RAFT_MESSAGE_BYTES_MAX / 2, &loaded);
    if (!server->failed && !server->stopping) {
        raft_entries_loaded(server->raft, load.wanted.peer, load.wanted.first_index, loaded.entries,
                            err == OK ? loaded.count : 0);
        server_wake(server);
    }
    meta_log_entries_deinit(&loaded);
}

void server_load(struct meta_server *server, const struct raft_output *output)
{
    if (output->snapshot_count > 0 && server->lagging != output->snapshots[0]) {
        server->lagging = output->snapshots[0];
        log_error("meta: a follower lacks entries that were cut from the log, it needs a new "
                  "replica follower=%016" PRIx64,
                  output->snapshots[0]);
        signal_wake_all(server->home, &server->group->changed);
    }
    for (uint32_t i = 0; i < output->load_count; i++) {
        struct load load = {.server = server, .wanted = output->loads[i]};
        if (fiber_group_spawn(server->home, &server->fibers, load_fiber, &load) != OK)
            log_debug("meta: no fiber for a load peer=%016" PRIx64, load.wanted.peer);
    }
}

void server_group_deinit(struct meta_server *server)
{
    struct list_node *node = NULL;
    while ((node = list_pop_front(&server->held)) != NULL)
        message_free(CONTAINER_OF(node, struct held_message, node));
    while ((node = list_pop_front(&server->received)) != NULL)
        message_free(CONTAINER_OF(node, struct held_message, node));
}
