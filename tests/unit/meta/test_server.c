/* The metadata replica: alone and in groups of three, in the simulator and on a real disk.
 *
 * Every key belongs to one client, so what it may hold is the last acknowledged value and those
 * since whose outcome nobody was told. A read from any replica gives one of them, and
 * afterwards that one or a later one: the later may still be on their way (I7). A value that
 * was refused is never seen. A value is written once, so one that comes back after a later one
 * was read is a command that took effect twice (I11). */
#include "base/mem.h"
#include "entry.h"
#include "kv/memory.h"
#include "meta/client.h"
#include "runtime/runtime.h"
#include "runtime/sim.h"
#include "server_core.h"
#include "server_group.h"
#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    NODES_MAX = 3,
    CLIENTS = 5,
    CANDIDATES_MAX = 64,
    REACTORS = 2,
    GROUP_ID = 1,
    NETWORK_NS_MAX = 3000000,
    FAULTS = 12,
    EVENTS_BETWEEN_FAULTS_MAX = 4000,
};
#define SECOND_NS IO_NS_PER_S

struct world;

struct packet {
    struct list_node node;
    struct world *world;
    unsigned from, to;
    uint64_t due_ns;
    struct bytes bytes;
};

struct node {
    struct world *world;
    unsigned index;
    struct sim_machine *machine;
    struct kv_memory_world *stores;
    struct meta_server *server;
    struct meta_client *client;
    bool made;
    bool running; /* its fiber */
    enum err started;
};

struct key {
    char name[16];
    uint64_t candidates[CANDIDATES_MAX]; /* values; 0: no object */
    uint32_t count;
};

struct world {
    struct sim *sim;
    struct metrics *metrics;
    unsigned node_count;
    struct node nodes[NODES_MAX];
    struct sim_machine *outside; /* clients and the network; never cut */
    struct fiber *network;
    struct list packets;
    bool blocked[NODES_MAX][NODES_MAX];
    bool lossy;
    bool confirm_refuses; /* now and then */
    struct key keys[CLIENTS];
    uint64_t bucket_id;
    uint64_t value_next;
    unsigned clients_running;
    bool faults_over;
    bool ended;
    uint64_t seed;
    uint64_t acknowledged, unknown, refused, reads;
};

_Noreturn static void die(const struct world *world, const char *what, const struct key *key)
{
    fprintf(stderr, "server: %s key=%s seed=%" PRIu64 " nodes=%u now_ns=%" PRIu64 "\n", what,
            key == NULL ? "" : key->name, world->seed, world->node_count, sim_now_ns(world->sim));
    abort();
}

static uint64_t draw(struct world *world, uint64_t bound)
{
    return sim_draw(world->sim, bound);
}

/* --- network --- */

static void send_message(void *context, uint64_t to, struct slice message)
{
    struct node *node = context;
    struct world *world = node->world;
    unsigned copies = 1;
    if (world->lossy && draw(world, 50) == 0)
        copies = (unsigned)draw(world, 3);
    for (; copies > 0; copies--) {
        struct packet *packet = mem_new(struct packet);
        *packet = (struct packet){.world = world,
                                  .from = node->index,
                                  .to = (unsigned)(to - 1),
                                  .due_ns = sim_now_ns(world->sim) + draw(world, NETWORK_NS_MAX),
                                  .bytes = {.max = message.bytes}};
        if (world->lossy && draw(world, 200) == 0)
            packet->due_ns += draw(world, 3 * SECOND_NS);
        bytes_append(&packet->bytes, message);
        list_push_back(&world->packets, &packet->node);
    }
    if (world->network != NULL)
        io_wake(sim_machine_io(world->outside, 0), world->network);
}

static void deliver_packet(struct io *io, void *argument)
{
    struct packet *packet = argument;
    struct node *node = &packet->world->nodes[packet->to];
    (void)io;
    if (node->server != NULL && !node->world->blocked[packet->from][packet->to])
        meta_server_receive(node->server, bytes_slice(&packet->bytes));
    bytes_deinit(&packet->bytes);
    mem_free(packet);
}

static void network_fiber(struct io *io, void *argument)
{
    struct world *world = argument;
    world->network = io_self(io);
    while (!world->ended) {
        uint64_t now_ns = io_now_ns(io);
        uint64_t next_ns = now_ns + SECOND_NS;
        LIST_EACH(struct packet, packet, &world->packets, node)
        {
            if (packet->due_ns > now_ns) {
                next_ns = packet->due_ns < next_ns ? packet->due_ns : next_ns;
                continue;
            }
            list_remove(&world->packets, &packet->node);
            io_post(sim_machine_io(world->nodes[packet->to].machine, 0), deliver_packet, packet);
        }
        (void)io_park(io, next_ns);
    }
    world->network = NULL;
}

/* --- nodes --- */

static enum err confirm(struct io *io, void *context)
{
    struct world *world = ((struct node *)context)->world;
    if (draw(world, 4) == 0)
        TRY(io_sleep_ms(io, draw(world, 20)));
    return draw(world, 30) == 0 ? ERR_STALE_EPOCH : OK;
}

static enum err node_start(struct io *io, struct node *node)
{
    struct world *world = node->world;
    struct raft_membership membership = {.voter_count = world->node_count};
    for (unsigned i = 0; i < world->node_count; i++)
        membership.voters[i] = i + 1;
    struct server_seams group = {.membership = &membership,
                                 .send = send_message,
                                 .confirm = world->confirm_refuses ? confirm : NULL,
                                 .context = node,
                                 .retain_log_bytes = world->node_count > 1 ? 1 << 30 : 0};
    struct meta_server_options options = {.directory = "/meta",
                                          .cluster_id = "server test",
                                          .replica_id = node->index + 1,
                                          .group_id = GROUP_ID,
                                          .create = !node->made,
                                          .metrics = world->metrics,
                                          .log_segment_bytes = META_LOG_SEGMENT_BYTES_MIN,
                                          .flush_log_bytes = 40000};
    struct file_info info;
    enum err found = io_stat(io, "/meta/identity", &info);
    if (found != OK && found != ERR_NOT_FOUND)
        return found;
    if (found != OK && node->made)
        die(world, "the identity is gone", NULL);
    if (found != OK) {
        TRY(io_remove_tree(io, "/meta"));
        kv_memory_world_free(node->stores);
        node->stores = kv_memory_world_new();
    }
    options.create = found != OK;
    options.kv = kv_memory_provider(node->stores);
    return meta_server_start_group(io, &options, &group, &node->server);
}

static void node_fiber(struct io *io, void *argument)
{
    struct node *node = argument;
    node->started = node_start(io, node);
    if (node->started == OK) {
        node->made = true;
        node->client = meta_client_new(meta_server_group(node->server));
        while (!node->world->ended && io_sleep_ms(io, 20) == OK)
            ;
        struct meta_server *server = node->server;
        node->server = NULL;
        struct meta_client *client = node->client;
        node->client = NULL;
        meta_server_stop(io, server);
        meta_client_free(client);
    } else if (node->started != ERR_CANCELED && node->started != ERR_FENCED) {
        die(node->world, err_text(node->started), NULL);
    }
    node->running = false;
}

static void node_spawn(struct node *node)
{
    node->running = true;
    assert_int_equal(sim_spawn(node->machine, 0, node_fiber, node), OK);
}

static uint64_t draw_for_stores(void *context, uint64_t bound)
{
    return draw(context, bound);
}

static void node_cut(struct node *node)
{
    bool kill = draw(node->world, 4) == 0;
    if (kill)
        sim_kill(node->machine);
    else
        sim_power_cut(node->machine);
    kv_memory_crash(node->stores, draw_for_stores, node->world);
}

/* --- clients --- */

struct operation {
    struct node *node;
    const struct key *key;
    bool write;
    uint64_t value;
    enum err err;
};

static void perform(struct io *io, void *argument)
{
    struct operation *operation = argument;
    struct node *node = operation->node;
    struct world *world = node->world;
    struct slice name = slice_of_text(operation->key->name);
    if (node->client == NULL) {
        operation->err = ERR_CLOSED;
        return;
    }
    (void)io_set_deadline(io, io_now_ns(io) + SECOND_NS + draw(world, SECOND_NS));
    if (operation->write) {
        uint8_t bytes[3000];
        struct object_put put = {.bucket_id = world->bucket_id,
                                 .key = name,
                                 .bytes = operation->value % 7 == 0 ? sizeof bytes : 8};
        for (size_t i = 0; i < put.bytes; i += 8)
            memcpy(bytes + i, &operation->value, 8);
        put.inline_bytes = slice_of(bytes, put.bytes);
        struct object_written written;
        operation->err = meta_object_put(io, node->client, &put, &written);
        return;
    }
    AUTO(object) object = NULL;
    operation->err = meta_object_find(io, node->client, world->bucket_id, name, true, &object);
    if (operation->err == ERR_NOT_FOUND) {
        operation->value = 0;
        operation->err = OK;
    } else if (operation->err == OK) {
        memcpy(&operation->value, object->inline_bytes.data, 8);
    }
}

/* False: refused, and certainly without effect. */
static bool write_key(struct io *io, struct world *world, struct key *key, struct node *node)
{
    struct operation operation = {
        .node = node, .key = key, .write = true, .value = ++world->value_next};
    io_call(io, sim_machine_io(node->machine, (unsigned)draw(world, REACTORS)), perform,
            &operation);
    switch (operation.err) {
    case OK:
        world->acknowledged++;
        key->candidates[0] = operation.value;
        key->count = 1;
        return true;
    case ERR_OUTCOME_UNKNOWN:
        world->unknown++;
        if (key->count == CANDIDATES_MAX)
            die(world, "too many unknown outcomes", key);
        key->candidates[key->count++] = operation.value;
        return true;
    case ERR_CLOSED:
    case ERR_CANCELED:
    case ERR_NOT_LEADER:
    case ERR_TIMEOUT:
    case ERR_BUSY:
    case ERR_FENCED:
        world->refused++;
        return false;
    default: /* every other error is wrong here */
        die(world, err_text(operation.err), key);
    }
}

static bool read_key(struct io *io, struct world *world, struct key *key, struct node *node)
{
    struct operation operation = {.node = node, .key = key};
    io_call(io, sim_machine_io(node->machine, (unsigned)draw(world, REACTORS)), perform,
            &operation);
    if (operation.err != OK)
        return false;
    for (uint32_t i = 0; i < key->count; i++) {
        if (key->candidates[i] != operation.value)
            continue;
        key->count -= i;
        memmove(key->candidates, key->candidates + i, key->count * sizeof *key->candidates);
        world->reads++;
        return true;
    }
    fprintf(stderr, "value=%" PRIu64 " candidates=", operation.value);
    for (uint32_t i = 0; i < key->count; i++)
        fprintf(stderr, "%" PRIu64 " ", key->candidates[i]);
    die(world, "a read gave a value that it cannot hold", key);
}

struct client {
    struct world *world;
    struct key *key;
};

static void client_fiber(struct io *io, void *argument)
{
    struct client client = *(struct client *)argument;
    struct world *world = client.world;
    unsigned hint = 0;
    while (!world->faults_over) {
        struct node *node = &world->nodes[hint];
        bool write = client.key->count <= CANDIDATES_MAX / 2 && draw(world, 2) == 0;
        bool served =
            write ? write_key(io, world, client.key, node) : read_key(io, world, client.key, node);
        if (!served || draw(world, 20) == 0)
            hint = (unsigned)draw(world, world->node_count);
        if (!served || draw(world, 10) == 0)
            (void)io_sleep_ms(io, draw(world, 100));
    }
    /* Audit: without faults every key can be read and written within bounded time (L1, L2). */
    uint64_t until_ns = io_now_ns(io) + 60 * SECOND_NS;
    while (!read_key(io, world, client.key, &world->nodes[draw(world, world->node_count)])) {
        if (io_now_ns(io) > until_ns)
            die(world, "no replica serves", client.key);
        (void)io_sleep_ms(io, 50);
    }
    world->clients_running--;
}

/* The bucket must exist before clients start; its creation is repeated until it is acknowledged. */
struct bucket_call {
    struct node *node;
    bool done;
};

static void create_bucket(struct io *io, void *argument)
{
    struct bucket_call *call = argument;
    struct bucket bucket;
    if (call->node->client == NULL)
        return;
    (void)io_set_deadline(io, io_now_ns(io) + 2 * SECOND_NS);
    enum err err = meta_bucket_create(io, call->node->client, SLICE_LITERAL("bucket"),
                                      SLICE_LITERAL("owner"), SLICE_LITERAL(""), &bucket);
    call->done = err == OK || err == ERR_EXISTS;
    if (call->done)
        call->node->world->bucket_id = bucket.id;
}

static void clients_fiber(struct io *io, void *argument)
{
    struct world *world = argument;
    struct bucket_call call = {0};
    for (unsigned i = 0; !call.done; i++) {
        if (i > 2000)
            die(world, "the bucket cannot be created", NULL);
        call.node = &world->nodes[i % world->node_count];
        io_call(io, sim_machine_io(call.node->machine, 0), create_bucket, &call);
        (void)io_sleep_ms(io, 50);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client client = {world, &world->keys[i]};
        enum err err = io_spawn(io, client_fiber, &client);
        if (err != OK)
            die(world, "no fiber", NULL);
    }
}

/* --- the run --- */

struct until {
    struct world *world;
    uint64_t events;
};

static bool at_event(void *context)
{
    struct until *until = context;
    return sim_event_count(until->world->sim) >= until->events;
}

static bool clients_ended(void *context)
{
    return ((struct world *)context)->clients_running == 0;
}

static bool nodes_ended(void *context)
{
    struct world *world = context;
    for (unsigned i = 0; i < world->node_count; i++)
        if (world->nodes[i].running)
            return false;
    return world->network == NULL;
}

static bool bucket_made(void *context)
{
    return ((struct world *)context)->bucket_id != 0;
}

static void revive_nodes(struct world *world, bool all)
{
    for (unsigned i = 0; i < world->node_count; i++) {
        struct node *node = &world->nodes[i];
        if (!sim_is_on(node->machine) && (all || draw(world, 2) == 0)) {
            sim_power_on(node->machine);
            node_spawn(node);
        } else if (sim_is_on(node->machine) && !node->running) {
            node_spawn(node); /* it had stopped */
        }
    }
}

static void inject(struct world *world)
{
    struct node *node = &world->nodes[draw(world, world->node_count)];
    switch (draw(world, 5)) {
    case 0:
    case 1:
        if (sim_is_on(node->machine))
            node_cut(node);
        break;
    case 2:
        revive_nodes(world, false);
        break;
    case 3:
        for (unsigned i = 0; i < world->node_count; i++)
            world->blocked[node->index][i] = draw(world, 2) == 0;
        break;
    case 4:
        memset(world->blocked, 0, sizeof world->blocked);
        break;
    }
    if (world->node_count == 1)
        revive_nodes(world, true);
}

static bool same_applied(void *context)
{
    struct world *world = context;
    for (unsigned i = 0; i < world->node_count; i++)
        if (world->nodes[i].server == NULL ||
            world->nodes[i].server->applied != world->nodes[0].server->applied)
            return false;
    return true;
}

/* I10. */
static void check_hashes(struct world *world)
{
    if (!sim_run(world->sim, same_applied, world, sim_now_ns(world->sim) + 60 * SECOND_NS))
        die(world, "a replica does not catch up", NULL);
    for (unsigned i = 1; i < world->node_count; i++)
        if (world->nodes[i].server->position.hash != world->nodes[0].server->position.hash)
            die(world, "states differ", NULL);
}

static void world_init(struct world *world, const struct sim_options *options, unsigned node_count)
{
    *world = (struct world){.sim = sim_new(options),
                            .metrics = metrics_new(),
                            .node_count = node_count,
                            .clients_running = CLIENTS,
                            .seed = options->seed};
    list_init(&world->packets);
    world->outside = sim_machine_new(world->sim, 1);
    for (unsigned i = 0; i < node_count; i++) {
        struct node *node = &world->nodes[i];
        *node = (struct node){.world = world,
                              .index = i,
                              .machine = sim_machine_new(world->sim, REACTORS),
                              .stores = kv_memory_world_new()};
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        snprintf(world->keys[i].name, sizeof world->keys[i].name, "key-%u", i);
        world->keys[i].count = 1;
    }
}

static void world_deinit(struct world *world)
{
    sim_free(world->sim);
    struct list_node *node = NULL;
    while ((node = list_pop_front(&world->packets)) != NULL) {
        struct packet *packet = CONTAINER_OF(node, struct packet, node);
        bytes_deinit(&packet->bytes);
        mem_free(packet);
    }
    for (unsigned i = 0; i < world->node_count; i++)
        kv_memory_world_free(world->nodes[i].stores);
    metrics_free(world->metrics);
}

static void run_seed(uint64_t seed, unsigned node_count)
{
    struct sim_options options = {.seed = seed};
    if (seed % 3 == 0)
        options.latency_spike_ppm = 500;
    struct world *world = mem_new(struct world);
    world_init(world, &options, node_count);
    world->lossy = seed % 2 == 0;
    world->confirm_refuses = seed % 5 == 0;
    assert_int_equal(sim_spawn(world->outside, 0, network_fiber, world), OK);
    for (unsigned i = 0; i < node_count; i++)
        node_spawn(&world->nodes[i]);
    assert_int_equal(sim_spawn(world->outside, 0, clients_fiber, world), OK);
    uint64_t start_ns = sim_now_ns(world->sim);
    if (!sim_run(world->sim, bucket_made, world, start_ns + 60 * SECOND_NS))
        die(world, "no bucket", NULL);
    for (unsigned i = 0; i < FAULTS; i++) {
        struct until until = {world,
                              sim_event_count(world->sim) + draw(world, EVENTS_BETWEEN_FAULTS_MAX)};
        sim_run(world->sim, at_event, &until, sim_now_ns(world->sim) + 5 * SECOND_NS);
        inject(world);
    }
    memset(world->blocked, 0, sizeof world->blocked);
    world->lossy = false;
    revive_nodes(world, true);
    world->faults_over = true;
    if (!sim_run(world->sim, clients_ended, world, sim_now_ns(world->sim) + 100 * SECOND_NS))
        die(world, "clients do not end", NULL);
    check_hashes(world);
    world->ended = true;
    if (!sim_run(world->sim, nodes_ended, world, sim_now_ns(world->sim) + 60 * SECOND_NS))
        die(world, "nodes do not end", NULL);
    if (getenv("SHALE_TEST_VERBOSE") != NULL)
        fprintf(stderr,
                "seed=%" PRIu64 " acknowledged=%" PRIu64 " unknown=%" PRIu64 " refused=%" PRIu64
                " reads=%" PRIu64 "\n",
                seed, world->acknowledged, world->unknown, world->refused, world->reads);
    world_deinit(world);
    mem_free(world);
}

static uint64_t environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void run_seeds(unsigned node_count)
{
    uint64_t base = environment("SHALE_SEED_BASE", 1);
    uint64_t count = environment("SHALE_SEEDS", 100);
    for (uint64_t seed = base; seed < base + count; seed++)
        run_seed(seed, node_count);
}

static void one_replica_keeps_every_promise_through_power_cuts(void **state)
{
    (void)state;
    run_seeds(1);
}

static void three_replicas_keep_every_promise_through_cuts_and_partitions(void **state)
{
    (void)state;
    run_seeds(3);
}

/* --- directed --- */

static uint64_t draw_nothing(void *context, uint64_t bound)
{
    (void)context, (void)bound;
    return 0; /* the oldest point that a crash may leave */
}

/* Checks inside fibers end the process: cmocka's jump does not cross stacks. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* One replica on one machine, and a story told by one fiber. */
struct single {
    struct sim_machine *machine;
    struct kv_memory_world *stores;
    struct metrics *metrics;
    struct meta_server *server;
    struct meta_client *client;
    const char *directory;
    uint64_t bucket_id;
    uint64_t key_next;
    bool refuse;
    bool ended;
};

static enum err confirm_unless_refused(struct io *io, void *context)
{
    struct single *single = context;
    TRY(io_sleep_ms(io, 1));
    return single->refuse ? ERR_STALE_EPOCH : OK;
}

static enum err single_start(struct io *io, struct single *single, bool create, char cluster)
{
    struct server_seams group = {.confirm = confirm_unless_refused, .context = single};
    struct meta_server_options options = {.directory = single->directory,
                                          .cluster_id = {(uint8_t)cluster},
                                          .replica_id = 9,
                                          .group_id = GROUP_ID,
                                          .create = create,
                                          .kv = kv_memory_provider(single->stores),
                                          .metrics = single->metrics,
                                          .log_segment_bytes = META_LOG_SEGMENT_BYTES_MIN,
                                          .flush_log_bytes = 100000};
    TRY(meta_server_start_group(io, &options, &group, &single->server));
    single->client = meta_client_new(meta_server_group(single->server));
    struct bucket bucket = {0};
    enum err err = meta_bucket_create(io, single->client, SLICE_LITERAL("bucket"),
                                      SLICE_LITERAL("owner"), SLICE_LITERAL(""), &bucket);
    CHECK(err == OK || err == ERR_EXISTS || io_canceled(io));
    single->bucket_id = bucket.id;
    return OK;
}

static void single_stop(struct io *io, struct single *single)
{
    meta_client_free(single->client);
    meta_server_stop(io, single->server);
}

static enum err put_one(struct io *io, struct single *single, uint32_t bytes)
{
    static const uint8_t payload[16384];
    char name[32];
    snprintf(name, sizeof name, "key-%" PRIu64, single->key_next++);
    struct object_put put = {.bucket_id = single->bucket_id,
                             .key = slice_of_text(name),
                             .bytes = bytes,
                             .inline_bytes = slice_of(payload, bytes)};
    struct object_written written;
    return meta_object_put(io, single->client, &put, &written);
}

static enum err find_one(struct io *io, struct single *single, uint64_t number)
{
    char name[32];
    AUTO(object) object = NULL;
    snprintf(name, sizeof name, "key-%" PRIu64, number);
    return meta_object_find(io, single->client, single->bucket_id, slice_of_text(name), true,
                            &object);
}

static bool single_ended(void *context)
{
    return ((struct single *)context)->ended;
}

static void tell(fiber_fn *story)
{
    AUTO(sim) sim = sim_new(&(struct sim_options){.seed = 1});
    struct single single = {.machine = sim_machine_new(sim, 2),
                            .stores = kv_memory_world_new(),
                            .metrics = metrics_new(),
                            .directory = "/meta"};
    assert_int_equal(sim_spawn(single.machine, 0, story, &single), OK);
    assert_true(sim_run(sim, single_ended, &single, sim_now_ns(sim) + 3600 * SECOND_NS));
    kv_memory_world_free(single.stores);
    metrics_free(single.metrics);
}

static void failing_log_story(struct io *io, void *argument)
{
    struct single *single = argument;
    CHECK(single_start(io, single, true, 'a') == OK);
    CHECK(put_one(io, single, 10) == OK);
    sim_set_fault(single->machine, &(struct sim_fault){.prefix = "/meta/log", .write_fails = true});
    CHECK(put_one(io, single, 10) == ERR_OUTCOME_UNKNOWN);
    sim_clear_faults(single->machine);
    CHECK(put_one(io, single, 10) == ERR_FENCED);
    CHECK(io_sleep_ms(io, 5000) == OK); /* it does not spin */
    CHECK(find_one(io, single, 0) == ERR_FENCED);
    CHECK(!meta_server_ready(single->server));
    struct meta_server_status status;
    meta_server_status(io, single->server, &status);
    CHECK(status.fenced);
    single_stop(io, single);
    CHECK(single_start(io, single, false, 'a') == OK);
    CHECK(find_one(io, single, 0) == OK);
    CHECK(put_one(io, single, 10) == OK);
    single_stop(io, single);
    single->ended = true;
}

static void a_failed_log_write_stops_every_acknowledgement(void **state)
{
    (void)state;
    tell(failing_log_story);
}

static void idle_story(struct io *io, void *argument)
{
    struct single *single = argument;
    CHECK(single_start(io, single, true, 'a') == OK);
    uint64_t session = single->server->group->session;
    CHECK(put_one(io, single, 10) == OK);
    CHECK(io_sleep_ms(io, 2 * SESSION_IDLE_MS) == OK);
    CHECK(put_one(io, single, 10) == OK);
    CHECK(single->server->group->session != session);
    CHECK(find_one(io, single, 1) == OK);
    single_stop(io, single);
    single->ended = true;
}

static void a_session_closed_while_idle_is_opened_again(void **state)
{
    (void)state;
    tell(idle_story);
}

static void cut_story(struct io *io, void *argument)
{
    struct single *single = argument;
    struct meta_server_status status;
    CHECK(single_start(io, single, true, 'a') == OK);
    for (unsigned i = 0; i < 600; i++)
        CHECK(put_one(io, single, 3000) == OK);
    meta_server_status(io, single->server, &status);
    CHECK(status.log_bytes < 6 * META_LOG_SEGMENT_BYTES_MIN);
    uint64_t hash = status.state_hash;
    uint64_t applied = status.applied;
    single_stop(io, single);
    kv_memory_crash(single->stores, draw_nothing, NULL);
    CHECK(single_start(io, single, false, 'a') == OK);
    meta_server_status(io, single->server, &status);
    CHECK(status.applied > applied && status.state_hash != hash);
    for (uint64_t i = 0; i < 600; i++)
        CHECK(find_one(io, single, i) == OK);
    single_stop(io, single);
    single->ended = true;
}

static void flushes_cut_the_log_and_a_stopped_store_lacks_nothing(void **state)
{
    (void)state;
    tell(cut_story);
}

static void identity_story(struct io *io, void *argument)
{
    struct single *single = argument;
    CHECK(single_start(io, single, false, 'a') == ERR_NOT_FOUND);
    CHECK(single_start(io, single, true, 'a') == OK);
    CHECK(single_start(io, single, true, 'a') == ERR_EXISTS);
    single_stop(io, single);
    CHECK(single_start(io, single, false, 'b') == ERR_MISMATCH);
    CHECK(sim_flip_bit(single->machine, "/meta/identity", 300) == OK);
    CHECK(single_start(io, single, false, 'a') == ERR_CORRUPT);
    CHECK(sim_flip_bit(single->machine, "/meta/identity", 300) == OK);
    kv_memory_world_free(single->stores);
    single->stores = kv_memory_world_new();
    CHECK(single_start(io, single, false, 'a') == ERR_CORRUPT); /* the store is gone */
    single->ended = true;
}

static void foreign_and_damaged_directories_are_refused(void **state)
{
    (void)state;
    tell(identity_story);
}

static void late_story(struct io *io, void *argument)
{
    struct single *single = argument;
    CHECK(single_start(io, single, true, 'a') == OK);
    sim_set_fault(single->machine,
                  &(struct sim_fault){.prefix = "/meta/log", .latency_ns = 5 * SECOND_NS});
    uint64_t start_ns = io_now_ns(io);
    (void)io_set_deadline(io, start_ns + SECOND_NS);
    CHECK(put_one(io, single, 10) == ERR_OUTCOME_UNKNOWN);
    CHECK(io_now_ns(io) < start_ns + 2 * SECOND_NS);
    (void)io_set_deadline(io, 0);
    sim_clear_faults(single->machine);
    CHECK(io_sleep_ms(io, 10000) == OK);
    CHECK(find_one(io, single, 0) == OK); /* it took effect later */
    single_stop(io, single);
    single->ended = true;
}

static void a_deadline_ends_the_wait_for_an_outcome(void **state)
{
    (void)state;
    tell(late_story);
}

static void refused_story(struct io *io, void *argument)
{
    struct single *single = argument;
    CHECK(single_start(io, single, true, 'a') == OK);
    single->refuse = true;
    CHECK(put_one(io, single, 10) == ERR_OUTCOME_UNKNOWN);
    CHECK(find_one(io, single, 0) == ERR_FENCED);
    single->refuse = false;
    CHECK(find_one(io, single, 0) == OK);
    single_stop(io, single);
    single->ended = true;
}

static void nothing_is_acknowledged_or_read_without_confirmation(void **state)
{
    (void)state;
    tell(refused_story);
}

/* A new server, killed or without power at some event. The next start begins anew or goes on, as
 * a node does; what is acknowledged then is there after the next cut. */
struct first_start {
    struct single single;
    struct sim *sim;
    uint64_t events;
    bool written; /* a put was acknowledged, or its object was read */
};

static enum err first_start_try(struct io *io, struct first_start *first)
{
    struct single *single = &first->single;
    bool made = false;
    TRY(meta_server_probe(io, single->directory, &made));
    if (!made)
        TRY(io_remove_tree(io, single->directory));
    TRY(single_start(io, single, !made, 'a'));
    enum err err = find_one(io, single, 0);
    if (err == ERR_NOT_FOUND) {
        CHECK(!first->written);
        single->key_next = 0;
        err = put_one(io, single, 10);
    }
    first->written |= err == OK;
    single_stop(io, single);
    return err;
}

static void first_start_story(struct io *io, void *argument)
{
    struct first_start *first = argument;
    enum err err = first_start_try(io, first);
    CHECK(err == OK || io_canceled(io));
    first->single.ended = true;
}

static bool first_start_cut(void *context)
{
    struct first_start *first = context;
    return first->single.ended || sim_event_count(first->sim) >= first->events;
}

static uint64_t draw_from_sim(void *context, uint64_t bound)
{
    return sim_draw(context, bound);
}

/* True when the first life came to its end before that event. */
static bool first_start_survives(uint64_t seed, bool kill, const char *directory, uint64_t events)
{
    AUTO(sim) sim = sim_new(&(struct sim_options){.seed = seed});
    struct first_start first = {.sim = sim, .events = events};
    struct single *single = &first.single;
    *single = (struct single){.machine = sim_machine_new(sim, 1),
                              .stores = kv_memory_world_new(),
                              .metrics = metrics_new(),
                              .directory = directory};
    bool whole = false;
    for (unsigned life = 0; life < 3; life++) {
        single->ended = false;
        assert_int_equal(sim_spawn(single->machine, 0, first_start_story, &first), OK);
        (void)sim_run(sim, first_start_cut, &first, UINT64_MAX);
        whole |= single->ended && life == 0;
        if (kill && life == 0)
            sim_kill(single->machine);
        else
            sim_power_cut(single->machine);
        kv_memory_crash(single->stores, draw_from_sim, sim);
        sim_power_on(single->machine);
        first.events = UINT64_MAX;
    }
    assert_true(first.written);
    kv_memory_world_free(single->stores);
    metrics_free(single->metrics);
    return whole;
}

static void a_first_start_may_end_at_any_event(void **state)
{
    (void)state;
    static const char *const directories[] = {"/meta", "meta"};
    for (uint64_t seed = 0; seed < 4; seed++) {
        uint64_t events = 1;
        while (!first_start_survives(seed, seed / 2 % 2 == 0, directories[seed % 2], events))
            events += 1 + events / 40;
    }
}

static void limit_story(struct io *io, void *argument)
{
    struct single *single = argument;
    static uint8_t large[META_LOG_SEGMENT_BYTES_MIN];
    AUTO_VALUE(bytes) result = {.max = RESULT_BYTES_MAX};
    CHECK(single_start(io, single, true, 'a') == OK);
    CHECK(meta_group_propose(io, meta_server_group(single->server), slice_of(large, sizeof large),
                             &result) == ERR_LIMIT);
    CHECK(put_one(io, single, 16384) == OK);
    single_stop(io, single);
    single->ended = true;
}

static void a_command_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    tell(limit_story);
}

/* --- a real disk --- */

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

struct real_run {
    struct metrics *metrics;
    const char *directory;
    bool create;
    struct fiber_group writers;
    struct meta_client *client;
    uint64_t bucket_id;
    unsigned written;
};

static void real_writer(struct io *io, void *argument)
{
    struct real_run *run = argument;
    for (unsigned i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "key-%u", run->written++);
        struct object_put put = {.bucket_id = run->bucket_id,
                                 .key = slice_of_text(name),
                                 .bytes = 5,
                                 .inline_bytes = SLICE_LITERAL("hello")};
        struct object_written written;
        enum err err = meta_object_put(io, run->client, &put, &written);
        if (err != OK)
            abort();
    }
}

static void real_call(struct io *io, void *argument)
{
    real_writer(io, argument);
}

static void real_fiber(struct io *io, void *argument)
{
    struct real_run *run = argument;
    struct meta_server *server = NULL;
    struct meta_server_options options = {.directory = run->directory,
                                          .create = run->create,
                                          .replica_id = 77,
                                          .group_id = GROUP_ID,
                                          .kv = kv_provider_rocks(),
                                          .metrics = run->metrics,
                                          .log_segment_bytes = 1 << 20};
    enum err err = meta_server_start(io, &options, &server);
    if (err != OK || !meta_server_ready(server))
        abort();
    struct meta_server *second = NULL;
    options.create = false;
    if (meta_server_start(io, &options, &second) != ERR_LOCKED)
        abort();
    run->client = meta_client_new(meta_server_group(server));
    struct bucket bucket;
    err = meta_bucket_create(io, run->client, SLICE_LITERAL("bucket"), SLICE_LITERAL("me"),
                             SLICE_LITERAL(""), &bucket);
    if (err != OK && err != ERR_EXISTS)
        abort();
    run->bucket_id = bucket.id;
    unsigned before = run->written;
    fiber_group_init(&run->writers);
    for (unsigned i = 0; i < 8; i++)
        if (fiber_group_spawn(io, &run->writers, real_writer, run) != OK)
            abort();
    fiber_group_wait(io, &run->writers);
    io_call(io, io_reactor(io, 1), real_call, run);
    for (unsigned i = 0; i < run->written; i++) {
        char name[32];
        AUTO(object) object = NULL;
        snprintf(name, sizeof name, "key-%u", i);
        if (meta_object_find(io, run->client, run->bucket_id, slice_of_text(name), true, &object) !=
            OK)
            abort();
    }
    if (run->written != before + 180)
        abort();
    meta_client_free(run->client);
    meta_server_stop(io, server);
}

static void a_replica_works_on_a_real_disk_and_restarts(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    char *path = mem_format("%s/shale-server-XXXXXX", parent == NULL ? "/tmp" : parent);
    assert_non_null(mkdtemp(path));
    AUTO_STRING directory = mem_format("%s/meta", path);
    struct real_run run = {.metrics = metrics_new(), .directory = directory, .create = true};
    for (unsigned life = 0; life < 3; life++) {
        AUTO(runtime) runtime = NULL;
        assert_int_equal(runtime_new(&(struct runtime_options){.reactor_count = 2}, &runtime), OK);
        runtime_run(runtime, real_fiber, &run);
        run.create = false;
    }
    metrics_free(run.metrics);
    assert_int_equal(nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
    mem_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_replica_keeps_every_promise_through_power_cuts),
        cmocka_unit_test(three_replicas_keep_every_promise_through_cuts_and_partitions),
        cmocka_unit_test(a_failed_log_write_stops_every_acknowledgement),
        cmocka_unit_test(a_session_closed_while_idle_is_opened_again),
        cmocka_unit_test(flushes_cut_the_log_and_a_stopped_store_lacks_nothing),
        cmocka_unit_test(foreign_and_damaged_directories_are_refused),
        cmocka_unit_test(a_deadline_ends_the_wait_for_an_outcome),
        cmocka_unit_test(nothing_is_acknowledged_or_read_without_confirmation),
        cmocka_unit_test(a_first_start_may_end_at_any_event),
        cmocka_unit_test(a_command_beyond_the_limit_is_refused),
        cmocka_unit_test(a_replica_works_on_a_real_disk_and_restarts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
