/* The replicas of one process on several drives, in the simulator.
 *
 * Every key belongs to one client, so what it may hold is the last acknowledged value and those
 * since whose outcome nobody was told; a value that a read gave stays, or a later one does (I7).
 * Faults that destroy a replica come one at a time, when the group is whole; power cuts at any
 * time. */
#include "base/mem.h"
#include "entry.h"
#include "group_core.h"
#include "group_reconcile.h"
#include "kv/memory.h"
#include "meta/client.h"
#include "meta/group.h"
#include "runtime/runtime.h"
#include "runtime/sim.h"
#include "server_core.h"
#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    DRIVES_MAX = 7,
    CLIENTS = 4,
    CANDIDATES_MAX = 64,
    REACTORS = 2,
    FAULTS = 10,
    EVENTS_BETWEEN_FAULTS_MAX = 6000,
};
#define SECOND_NS IO_NS_PER_S

struct drive {
    char directory[56];
    char meta[64];
    uint8_t id[16];
    bool usable;
    bool wipe; /* as soon as the group was told that it is gone */
};

struct key {
    char name[16];
    uint64_t candidates[CANDIDATES_MAX]; /* values; 0: no object */
    uint32_t count;
};

struct world {
    struct sim *sim;
    struct sim_machine *machine;
    struct sim_machine *outside; /* clients; never cut */
    struct kv_memory_world *stores;
    struct kv_provider *kv;
    struct metrics *metrics;
    const char *root; /* directory of the drives */
    struct drive drives[DRIVES_MAX];
    uint32_t drive_count;
    uint8_t drive_next;
    bool drives_changed;
    bool made; /* the first start ended */
    bool auto_recover;
    struct meta_group *group;
    struct meta_client *client;
    bool running; /* the node's fiber */
    bool settled; /* the group, the last time somebody looked */
    enum err started;
    struct key keys[CLIENTS];
    uint64_t bucket_id;
    uint64_t value_next;
    unsigned clients_running;
    bool faults_over, ended;
    uint64_t seed;
    uint64_t acknowledged, unknown, refused, reads;
};

static void describe(const struct world *world)
{
    const struct meta_group *group = world->group;
    for (uint32_t i = 0; group != NULL && i < group->replica_count; i++) {
        const struct meta_server *server = group->replicas[i];
        struct raft_status status;
        uint64_t index = 0;
        raft_status_get(server->raft, &status);
        const struct raft_membership *m = raft_membership_get(server->raft, &index);
        fprintf(stderr,
                "replica=%016" PRIx64 " %s role=%d term=%" PRIu64 " last=%" PRIu64
                " durable=%" PRIu64 " commit=%" PRIu64 " applied=%" PRIu64
                " failed=%d membership=%" PRIu64 " voters=%u old=%u learners=%u\n",
                server->options.replica_id, server->directory, (int)server->role, server->term,
                status.last_index, status.durable_index, status.commit_index, server->applied,
                server->failed, index, m->voter_count, m->old_voter_count, m->learner_count);
    }
    for (uint32_t i = 0; group != NULL && i < group->reconciler->drive_count; i++) {
        const struct group_drive *drive = group->reconciler->drives[i];
        fprintf(stderr, "%s usable=%d listed=%d unknown=%d broken=%d joins=%d server=%p\n",
                drive->directory, drive->usable, drive->listed, drive->unknown, drive->broken,
                drive->joins, (void *)drive->server);
    }
}

_Noreturn static void die(const struct world *world, const char *what, const struct key *key)
{
    fprintf(stderr, "group: %s key=%s seed=%" PRIu64 " drives=%u now_ns=%" PRIu64 "\n", what,
            key == NULL ? "" : key->name, world->seed, world->drive_count, sim_now_ns(world->sim));
    fprintf(stderr, "running=%d started=%d made=%d group=%p on=%d\n", world->running,
            (int)world->started, world->made, (void *)world->group,
            world->sim == NULL || sim_is_on(world->machine));
    describe(world);
    abort();
}

/* Checks inside fibers end the process: cmocka's jump does not cross stacks. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static uint64_t draw(struct world *world, uint64_t bound)
{
    return sim_draw(world->sim, bound);
}

/* --- the node --- */

static void add_drive(struct world *world)
{
    uint32_t number = world->drive_count;
    struct drive *drive = &world->drives[number];
    const char *root = world->root == NULL ? "" : world->root;
    snprintf(drive->directory, sizeof drive->directory, "%s/drive-%u", root, number);
    snprintf(drive->meta, sizeof drive->meta, "%s/drive-%u/meta", root, number);
    drive->id[0] = ++world->drive_next;
    drive->usable = true;
    world->drive_count++;
    world->drives_changed = true;
}

static uint32_t list_drives(const struct world *world, struct meta_group_drive *out)
{
    for (uint32_t i = 0; i < world->drive_count; i++) {
        out[i] = (struct meta_group_drive){.directory = world->drives[i].meta,
                                           .usable = world->drives[i].usable};
        memcpy(out[i].drive, world->drives[i].id, sizeof out[i].drive);
    }
    return world->drive_count;
}

static enum err make_directories(struct io *io, struct world *world)
{
    for (uint32_t i = 0; i < world->drive_count; i++) {
        enum err err = io_make_directory(io, world->drives[i].directory);
        if (err != OK && err != ERR_EXISTS)
            return err;
    }
    return io_sync_directory(io, world->root == NULL ? "/" : world->root);
}

static enum err group_start(struct io *io, struct world *world)
{
    struct meta_group_options options = {.cluster_id = "group test",
                                         .group_id = 1,
                                         .kv = world->kv,
                                         .metrics = world->metrics,
                                         .log_segment_bytes = META_LOG_SEGMENT_BYTES_MIN,
                                         .flush_log_bytes = 40000,
                                         .create = !world->made,
                                         .auto_recover = world->auto_recover};
    struct meta_group_drive drives[DRIVES_MAX];
    TRY(make_directories(io, world));
    world->drives_changed = false;
    uint32_t count = list_drives(world, drives);
    TRY(meta_group_start(io, &options, drives, count, &world->group));
    world->client = meta_client_new(world->group);
    return OK;
}

static void group_stop(struct io *io, struct world *world)
{
    struct meta_group *group = world->group;
    struct meta_client *client = world->client;
    world->group = NULL;
    world->client = NULL;
    if (group != NULL)
        meta_group_stop(io, group);
    meta_client_free(client);
}

static enum err follow_drives(struct io *io, struct world *world)
{
    struct meta_group_drive drives[DRIVES_MAX];
    TRY(make_directories(io, world));
    world->drives_changed = false;
    uint32_t count = list_drives(world, drives);
    CHECK(meta_group_set_drives(io, world->group, drives, count) == OK);
    for (uint32_t i = 0; i < world->drive_count; i++) {
        struct drive *drive = &world->drives[i];
        if (!drive->wipe || drive->usable)
            continue;
        TRY(io_sleep_ms(io, 50)); /* while it still writes into the files */
        enum err err = io_remove_tree(io, drive->directory);
        if (err == ERR_IO || err == ERR_BUSY ||
            err == ERR_NOT_EMPTY) { /* another fault is there, or files come to be */
            world->drives_changed = true;
            continue;
        }
        TRY(err);
        drive->wipe = false;
        drive->id[0] = ++world->drive_next;
        drive->usable = world->drives_changed = true;
    }
    return OK;
}

static bool any_failed(const struct meta_group *group)
{
    for (uint32_t i = 0; i < group->replica_count; i++)
        if (group->replicas[i]->failed)
            return true;
    return false;
}

/* More happens here within an hour than in years. */
static void forgive_tries(struct reconciler *reconciler)
{
    for (uint32_t i = 0; i < reconciler->drive_count; i++)
        memset(reconciler->drives[i]->tries_ns, 0, sizeof reconciler->drives[i]->tries_ns);
}

static void node_fiber(struct io *io, void *argument)
{
    struct world *world = argument;
    world->started = group_start(io, world);
    enum err err = world->started;
    if (err == OK && !world->made)
        err = meta_group_settle(io, world->group, io_now_ns(io) + 300 * SECOND_NS);
    if (err == OK)
        world->made = true;
    else if (err != ERR_CANCELED)
        die(world, err_text(err), NULL);
    while (err == OK && !world->ended) {
        err = io_sleep_ms(io, 10);
        if (err == OK && world->drives_changed)
            err = follow_drives(io, world);
        forgive_tries(world->group->reconciler);
        world->settled = world->group->reconciler->settled && !world->drives_changed &&
                         !any_failed(world->group);
    }
    world->settled = false;
    if (err != OK && err != ERR_CANCELED)
        die(world, err_text(err), NULL);
    group_stop(io, world);
    world->running = false;
}

static void node_spawn(struct world *world)
{
    world->running = true;
    assert_int_equal(sim_spawn(world->machine, 0, node_fiber, world), OK);
}

static uint64_t draw_for_stores(void *context, uint64_t bound)
{
    return draw(context, bound);
}

static uint64_t draw_nothing(void *context, uint64_t bound)
{
    (void)context, (void)bound;
    return 0; /* the oldest point that a crash may leave */
}

static void node_cut(struct world *world)
{
    if (draw(world, 4) == 0)
        sim_kill(world->machine);
    else
        sim_power_cut(world->machine);
    kv_memory_crash(world->stores, draw_for_stores, world);
    world->settled = false;
    /* Drives that were being emptied are empty, or as they were. */
    for (uint32_t i = 0; i < world->drive_count; i++)
        if (world->drives[i].wipe) {
            world->drives[i].wipe = false;
            world->drives[i].usable = true;
            world->drives[i].id[0] = ++world->drive_next;
        }
    sim_power_on(world->machine);
}

/* --- clients --- */

struct operation {
    struct world *world;
    const struct key *key;
    bool write;
    uint64_t value;
    enum err err;
};

static enum err put_value(struct io *io, struct world *world, struct slice name, uint64_t value)
{
    uint8_t bytes[3000];
    struct object_put put = {
        .bucket_id = world->bucket_id, .key = name, .bytes = value % 7 == 0 ? sizeof bytes : 8};
    for (size_t i = 0; i < put.bytes; i += 8)
        memcpy(bytes + i, &value, 8);
    put.inline_bytes = slice_of(bytes, put.bytes);
    struct object_written written;
    return meta_object_put(io, world->client, &put, &written);
}

static enum err get_value(struct io *io, struct world *world, struct slice name, uint64_t *out)
{
    AUTO(object) object = NULL;
    enum err err = meta_object_find(io, world->client, world->bucket_id, name, true, &object);
    *out = 0;
    if (err == ERR_NOT_FOUND)
        return OK;
    TRY(err);
    memcpy(out, object->inline_bytes.data, 8);
    return OK;
}

static void perform(struct io *io, void *argument)
{
    struct operation *operation = argument;
    struct world *world = operation->world;
    struct slice name = slice_of_text(operation->key->name);
    operation->err = ERR_CLOSED;
    if (world->client == NULL || !world->made)
        return;
    (void)io_set_deadline(io, io_now_ns(io) + SECOND_NS + draw(world, 6 * SECOND_NS));
    if (operation->write)
        operation->err = put_value(io, world, name, operation->value);
    else
        operation->err = get_value(io, world, name, &operation->value);
}

static struct io *some_reactor(struct world *world)
{
    return sim_machine_io(world->machine, (unsigned)draw(world, REACTORS));
}

/* False: refused, and certainly without effect. */
static bool write_key(struct io *io, struct world *world, struct key *key)
{
    struct operation operation = {
        .world = world, .key = key, .write = true, .value = ++world->value_next};
    io_call(io, some_reactor(world), perform, &operation);
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

static bool read_key(struct io *io, struct world *world, struct key *key)
{
    struct operation operation = {.world = world, .key = key};
    io_call(io, some_reactor(world), perform, &operation);
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
    while (!world->faults_over) {
        bool write = client.key->count <= CANDIDATES_MAX / 2 && draw(world, 2) == 0;
        bool served = write ? write_key(io, world, client.key) : read_key(io, world, client.key);
        if (!served || draw(world, 10) == 0)
            (void)io_sleep_ms(io, draw(world, 100));
    }
    /* Audit: without faults every key can be read within bounded time (L1, L2). */
    uint64_t until_ns = io_now_ns(io) + 60 * SECOND_NS;
    while (!read_key(io, world, client.key)) {
        if (io_now_ns(io) > until_ns)
            die(world, "nobody serves", client.key);
        (void)io_sleep_ms(io, 50);
    }
    world->clients_running--;
}

static void create_bucket(struct io *io, void *argument)
{
    struct world *world = argument;
    struct bucket bucket;
    if (world->client == NULL || !world->made)
        return;
    (void)io_set_deadline(io, io_now_ns(io) + 2 * SECOND_NS);
    enum err err = meta_bucket_create(io, world->client, SLICE_LITERAL("bucket"),
                                      SLICE_LITERAL("owner"), SLICE_LITERAL(""), &bucket);
    if (err == OK || err == ERR_EXISTS)
        world->bucket_id = bucket.id;
}

static void clients_fiber(struct io *io, void *argument)
{
    struct world *world = argument;
    for (unsigned i = 0; world->bucket_id == 0; i++) {
        if (i > 4000)
            die(world, "the bucket cannot be created", NULL);
        io_call(io, sim_machine_io(world->machine, 0), create_bucket, world);
        (void)io_sleep_ms(io, 50);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client client = {world, &world->keys[i]};
        if (io_spawn(io, client_fiber, &client) != OK)
            die(world, "no fiber", NULL);
    }
}

/* --- the run --- */

static struct world *world_new(uint64_t seed, uint32_t drive_count)
{
    struct world *world = mem_new(struct world);
    struct sim_options options = {.seed = seed};
    if (seed % 3 == 0)
        options.latency_spike_ppm = 500;
    *world = (struct world){.sim = sim_new(&options),
                            .stores = kv_memory_world_new(),
                            .metrics = metrics_new(),
                            .clients_running = CLIENTS,
                            .seed = seed};
    world->kv = kv_memory_provider(world->stores);
    world->machine = sim_machine_new(world->sim, REACTORS);
    world->outside = sim_machine_new(world->sim, 1);
    for (uint32_t i = 0; i < drive_count; i++)
        add_drive(world);
    for (unsigned i = 0; i < CLIENTS; i++) {
        snprintf(world->keys[i].name, sizeof world->keys[i].name, "key-%u", i);
        world->keys[i].count = 1;
    }
    return world;
}

static void world_free(struct world *world)
{
    sim_free(world->sim);
    kv_memory_world_free(world->stores);
    metrics_free(world->metrics);
    mem_free(world);
}

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

static bool node_ended(void *context)
{
    return !((struct world *)context)->running;
}

static bool bucket_made(void *context)
{
    return ((struct world *)context)->bucket_id != 0;
}

static bool is_settled(void *context)
{
    return ((struct world *)context)->settled;
}

static bool same_applied(void *context)
{
    const struct meta_group *group = ((struct world *)context)->group;
    if (group == NULL || group->replica_count == 0)
        return false;
    for (uint32_t i = 0; i < group->replica_count; i++)
        if (group->replicas[i]->applied != group->replicas[0]->applied)
            return false;
    return true;
}

/* I10. */
static void check_hashes(struct world *world)
{
    if (!sim_run(world->sim, same_applied, world, sim_now_ns(world->sim) + 60 * SECOND_NS))
        die(world, "a replica does not catch up", NULL);
    const struct meta_group *group = world->group;
    for (uint32_t i = 0; i < group->replica_count; i++)
        if (group->replicas[i]->position.hash != group->replicas[0]->position.hash)
            die(world, "states differ", NULL);
    struct group_wanted wanted = group_wanted_of(world->drive_count);
    if (group->replica_count != wanted.voters + wanted.learners)
        die(world, "not as many replicas as the drives allow", NULL);
}

static void run_events(struct world *world, uint64_t events)
{
    struct until until = {world, sim_event_count(world->sim) + events};
    sim_run(world->sim, at_event, &until, sim_now_ns(world->sim) + 5 * SECOND_NS);
}

static bool wait_settled(struct world *world)
{
    return sim_run(world->sim, is_settled, world, sim_now_ns(world->sim) + 400 * SECOND_NS);
}

static void restart(struct world *world)
{
    node_cut(world);
    node_spawn(world);
}

/* A bit of the log of a drive, in the batches. */
static void damage_log(struct world *world, struct drive *drive)
{
    char path[128];
    for (unsigned number = 1; number < 200; number++) {
        snprintf(path, sizeof path, "%s/log/segment-%016x", drive->meta, number);
        uint64_t block = 1 + draw(world, 6);
        if (sim_flip_bit(world->machine, path, 8 * 4096 * block + 8 * 100 + draw(world, 800)) == OK)
            return;
    }
}

/* Losing one replica is tolerated by three voters and more, and by two drives if it is the
 * learner's. */
static bool may_destroy(struct world *world, struct drive *drive)
{
    if (!wait_settled(world))
        die(world, "the group does not settle", NULL);
    if (world->drive_count >= 3)
        return true;
    struct meta_server *leader = world->group->leader;
    return world->drive_count == 2 && strcmp(leader->directory, drive->meta) != 0;
}

static void inject(struct world *world)
{
    world->settled = false; /* to be looked at again */
    struct drive *drive = &world->drives[draw(world, world->drive_count)];
    uint64_t kind = draw(world, 8);
    char prefix[96];
    if (kind >= 4 && kind <= 6 && !may_destroy(world, drive))
        kind = 0;
    switch (kind) {
    case 0:
    case 1:
        restart(world);
        break;
    case 2:
        if (world->drive_count < DRIVES_MAX)
            add_drive(world);
        break;
    case 3: /* it comes back */
        if (world->drive_count < 3 || !wait_settled(world))
            break;
        drive->usable = false;
        world->drives_changed = true;
        run_events(world, draw(world, EVENTS_BETWEEN_FAULTS_MAX));
        drive->usable = true;
        world->drives_changed = true;
        break;
    case 4:
        drive->wipe = true;
        drive->usable = false;
        world->drives_changed = true;
        break;
    case 5:
        snprintf(prefix, sizeof prefix, "%s/log", drive->meta);
        sim_set_fault(world->machine, &(struct sim_fault){.prefix = prefix, .write_fails = true});
        run_events(world, draw(world, EVENTS_BETWEEN_FAULTS_MAX));
        sim_clear_faults(world->machine);
        break;
    case 6:
        node_cut(world);
        damage_log(world, drive);
        node_spawn(world);
        break;
    case 7:
        sim_pause(world->machine, sim_now_ns(world->sim) + draw(world, 3 * SECOND_NS));
        break;
    }
}

static void run_seed(uint64_t seed)
{
    struct world *world = world_new(seed, 1 + (uint32_t)(seed % 6));
    node_spawn(world);
    assert_int_equal(sim_spawn(world->outside, 0, clients_fiber, world), OK);
    uint64_t start_ns = sim_now_ns(world->sim);
    for (unsigned i = 0; i < 3 && seed % 4 == 0; i++) { /* in the middle of the first start */
        run_events(world, draw(world, 2000));
        restart(world);
    }
    if (!sim_run(world->sim, bucket_made, world, start_ns + 600 * SECOND_NS))
        die(world, "no bucket", NULL);
    for (unsigned i = 0; i < FAULTS; i++) {
        run_events(world, draw(world, EVENTS_BETWEEN_FAULTS_MAX));
        inject(world);
    }
    world->settled = false;
    if (!wait_settled(world))
        die(world, "the group does not settle in the end", NULL);
    world->faults_over = true;
    if (!sim_run(world->sim, clients_ended, world, sim_now_ns(world->sim) + 100 * SECOND_NS))
        die(world, "clients do not end", NULL);
    check_hashes(world);
    world->ended = true;
    if (!sim_run(world->sim, node_ended, world, sim_now_ns(world->sim) + 60 * SECOND_NS))
        die(world, "the node does not end", NULL);
    if (getenv("SHALE_TEST_VERBOSE") != NULL)
        fprintf(stderr,
                "seed=%" PRIu64 " acknowledged=%" PRIu64 " unknown=%" PRIu64 " refused=%" PRIu64
                " reads=%" PRIu64 " drives=%u\n",
                seed, world->acknowledged, world->unknown, world->refused, world->reads,
                world->drive_count);
    world_free(world);
}

static uint64_t environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void no_acknowledged_write_is_lost_while_drives_fail_and_come(void **state)
{
    (void)state;
    uint64_t base = environment("SHALE_SEED_BASE", 1);
    uint64_t count = environment("SHALE_SEEDS", 12);
    for (uint64_t seed = base; seed < base + count; seed++)
        run_seed(seed);
}

/* --- directed: a story told by one fiber of the machine --- */

struct story {
    struct world *world;
    void (*tell)(struct io *io, struct world *world);
    bool ended;
};

static void story_fiber(struct io *io, void *argument)
{
    struct story *story = argument;
    story->tell(io, story->world);
    story->ended = true;
}

static bool story_ended(void *context)
{
    return ((struct story *)context)->ended;
}

static void tell(uint32_t drive_count, void (*fn)(struct io *io, struct world *world))
{
    struct world *world = world_new(1, drive_count);
    struct story story = {.world = world, .tell = fn};
    assert_int_equal(sim_spawn(world->machine, 0, story_fiber, &story), OK);
    assert_true(
        sim_run(world->sim, story_ended, &story, sim_now_ns(world->sim) + 3600 * SECOND_NS));
    world_free(world);
}

static enum err settle(struct io *io, struct world *world)
{
    return meta_group_settle(io, world->group, io_now_ns(io) + 300 * SECOND_NS);
}

static void begin(struct io *io, struct world *world)
{
    CHECK(group_start(io, world) == OK);
    CHECK(settle(io, world) == OK);
    world->made = true;
    struct bucket bucket;
    enum err err = meta_bucket_create(io, world->client, SLICE_LITERAL("bucket"),
                                      SLICE_LITERAL("owner"), SLICE_LITERAL(""), &bucket);
    CHECK(err == OK || err == ERR_EXISTS);
    world->bucket_id = bucket.id;
}

static void tell_drives(struct io *io, struct world *world)
{
    struct meta_group_drive drives[DRIVES_MAX];
    CHECK(make_directories(io, world) == OK);
    uint32_t count = list_drives(world, drives);
    CHECK(meta_group_set_drives(io, world->group, drives, count) == OK);
}

static void put(struct io *io, struct world *world, uint64_t number)
{
    char name[32];
    snprintf(name, sizeof name, "number-%" PRIu64, number);
    enum err err = put_value(io, world, slice_of_text(name), number);
    if (err != OK)
        die(world, err_text(err), NULL);
}

static uint64_t get(struct io *io, struct world *world, uint64_t number)
{
    char name[32];
    uint64_t value = 0;
    snprintf(name, sizeof name, "number-%" PRIu64, number);
    CHECK(get_value(io, world, slice_of_text(name), &value) == OK);
    return value;
}

static void check_roles(struct io *io, struct world *world, uint32_t voters, uint32_t learners)
{
    struct meta_group_status status;
    meta_group_status(io, world->group, &status);
    CHECK(status.voters == voters);
    CHECK(status.learners == learners);
    CHECK(status.voters_missing == 0);
    CHECK(status.leader != 0);
    CHECK(meta_group_ready(world->group));
    CHECK(atomic_load(&world->group->serving) == world->group->leader);
}

static const struct {
    uint32_t drives, voters, learners;
} wanted_cases[] = {{1, 1, 0}, {2, 1, 1}, {3, 3, 0}, {4, 4, 0}, {5, 5, 0}, {6, 5, 0}};

static void first_start_story(struct io *io, struct world *world)
{
    for (size_t i = 0; i < sizeof wanted_cases / sizeof wanted_cases[0]; i++) {
        if (wanted_cases[i].drives != world->drive_count)
            continue;
        begin(io, world);
        check_roles(io, world, wanted_cases[i].voters, wanted_cases[i].learners);
        put(io, world, 1);
        group_stop(io, world);
        CHECK(group_start(io, world) == OK);
        CHECK(get(io, world, 1) == 1);
        group_stop(io, world);
    }
}

static void a_first_start_makes_as_many_replicas_as_the_drives_allow(void **state)
{
    (void)state;
    for (uint32_t drives = 1; drives <= 6; drives++)
        tell(drives, first_start_story);
}

static void growth_story(struct io *io, struct world *world)
{
    begin(io, world);
    for (uint64_t i = 1; world->drive_count < 5; i++) {
        put(io, world, i);
        add_drive(world);
        if (world->drive_count == 4) /* two at once */
            add_drive(world);
        tell_drives(io, world);
        put(io, world, 100 + i); /* served meanwhile */
        CHECK(settle(io, world) == OK);
        struct group_wanted wanted = group_wanted_of(world->drive_count);
        check_roles(io, world, wanted.voters, wanted.learners);
        CHECK(get(io, world, i) == i);
    }
    group_stop(io, world);
}

static void drives_that_are_added_get_voters_while_the_group_serves(void **state)
{
    (void)state;
    tell(1, growth_story);
}

static struct drive *drive_of_leader(struct world *world)
{
    for (uint32_t i = 0; i < world->drive_count; i++)
        if (strcmp(world->drives[i].meta, world->group->leader->directory) == 0)
            return &world->drives[i];
    CHECK(false);
    return NULL;
}

static void emptied_leader_story(struct io *io, struct world *world)
{
    begin(io, world);
    put(io, world, 1);
    struct drive *drive = drive_of_leader(world);
    uint64_t id = world->group->leader->options.replica_id;
    drive->usable = false;
    tell_drives(io, world);
    put(io, world, 2); /* waits for the next leader */
    CHECK(io_remove_tree(io, drive->directory) == OK);
    drive->id[0] = ++world->drive_next;
    drive->usable = true;
    tell_drives(io, world);
    CHECK(settle(io, world) == OK);
    check_roles(io, world, 3, 0);
    CHECK(group_replica(world->group, id) == NULL); /* I3 */
    CHECK(get(io, world, 1) == 1 && get(io, world, 2) == 2);
    group_stop(io, world);
}

static void an_emptied_drive_of_the_leader_gets_a_new_replica(void **state)
{
    (void)state;
    tell(3, emptied_leader_story);
}

/* The write that the failing log had taken gives its caller the true answer. */
static void failing_log_story(struct io *io, struct world *world)
{
    begin(io, world);
    struct drive *drive = drive_of_leader(world);
    char prefix[96];
    snprintf(prefix, sizeof prefix, "%s/log", drive->meta);
    for (uint64_t i = 1; i < 6; i++) {
        drive = drive_of_leader(world);
        snprintf(prefix, sizeof prefix, "%s/log", drive->meta);
        sim_set_fault(world->machine, &(struct sim_fault){.prefix = prefix, .write_fails = true});
        put(io, world, i);
        sim_clear_faults(world->machine);
        forgive_tries(world->group->reconciler);
        CHECK(settle(io, world) == OK);
        CHECK(get(io, world, i) == i);
    }
    check_roles(io, world, 3, 0);
    group_stop(io, world);
}

static void a_failed_log_of_the_leader_costs_no_answer(void **state)
{
    (void)state;
    tell(3, failing_log_story);
}

static void hopeless_drive_story(struct io *io, struct world *world)
{
    sim_set_fault(world->machine,
                  &(struct sim_fault){.prefix = "/drive-2/meta", .write_fails = true});
    begin(io, world);
    struct meta_group_status status;
    meta_group_status(io, world->group, &status);
    CHECK(status.voters == 1 && status.learners == 1 && status.voters_missing == 2);
    CHECK(io_sleep_ms(io, 20 * 60 * 1000) == OK);
    unsigned tries = 0;
    for (unsigned i = 0; i < RECONCILE_TRIES_MAX; i++)
        tries += world->group->reconciler->drives[2]->tries_ns[i] != 0;
    CHECK(tries == RECONCILE_TRIES_MAX);
    uint64_t made = counter_value(world->group->reconciler->rebuilt_total);
    sim_clear_faults(world->machine);
    CHECK(io_sleep_ms(io, 3600 * 1000) == OK);
    CHECK(counter_value(world->group->reconciler->rebuilt_total) == made + 1);
    check_roles(io, world, 3, 0);
    group_stop(io, world);
}

static void a_hopeless_drive_is_tried_three_times_an_hour(void **state)
{
    (void)state;
    struct world *world = world_new(1, 3);
    struct story story = {.world = world, .tell = hopeless_drive_story};
    assert_int_equal(sim_spawn(world->machine, 0, story_fiber, &story), OK);
    assert_true(
        sim_run(world->sim, story_ended, &story, sim_now_ns(world->sim) + 3 * 3600 * SECOND_NS));
    world_free(world);
}

static void different_state_story(struct io *io, struct world *world)
{
    begin(io, world);
    struct meta_group *group = world->group;
    struct meta_server *odd = group->replicas[0];
    uint64_t id = odd->options.replica_id;
    for (uint32_t i = 0; i < 3; i++)
        group_note_hash(group, group->replicas[i], GROUP_HASH_EVERY, i == 0 ? 7 : 8);
    CHECK(odd->failed);
    CHECK(!group->replicas[1]->failed && !group->replicas[2]->failed);
    CHECK(counter_value(group->hash_mismatches_total) == 1);
    CHECK(settle(io, world) == OK);
    CHECK(group_replica(group, id) == NULL);
    check_roles(io, world, 3, 0);
    group_stop(io, world);
}

static void a_replica_whose_state_differs_is_made_anew(void **state)
{
    (void)state;
    tell(3, different_state_story);
}

/* --- without a quorum --- */

static void lose(struct io *io, struct drive *drive)
{
    CHECK(io_remove_tree(io, drive->directory) == OK);
    drive->id[0]++;
}

struct lines {
    struct world *world;
    char text[4096];
};

static void collect_line(void *context, const char *line)
{
    struct lines *lines = context;
    size_t length = strlen(lines->text);
    snprintf(lines->text + length, sizeof lines->text - length, "%s\n", line);
}

struct move {
    struct world *world;
    const char *from, *to;
    enum err err;
};

static enum err move_on(struct lane *lane, const struct move *move)
{
    AUTO(kv) kv = NULL;
    struct kv_options options = {.create = false};
    TRY(kv_open(kv_memory_provider(move->world->stores), lane, move->from, &options, &kv));
    return kv_checkpoint(lane, kv, move->to);
}

static void move_on_lane(struct lane *lane, void *argument)
{
    struct move *move = argument;
    move->err = move_on(lane, move);
}

static enum err move_store(struct io *io, void *context, const char *from, const char *to)
{
    struct lines *lines = context;
    struct move move = {.world = lines->world, .from = from, .to = to};
    AUTO(lane) lane = NULL;
    TRY(lane_new(io, "move", 1, &lane));
    TRY(lane_run(io, lane, move_on_lane, &move));
    return move.err;
}

static enum err recover(struct io *io, struct world *world, bool accept_loss, struct lines *lines)
{
    const char *directories[DRIVES_MAX];
    for (uint32_t i = 0; i < world->drive_count; i++)
        directories[i] = world->drives[i].meta;
    struct meta_recover_options options = {.directories = directories,
                                           .count = world->drive_count,
                                           .kv = world->kv,
                                           .accept_loss = accept_loss,
                                           .report = collect_line,
                                           .store_moved = world->sim == NULL ? NULL : move_store,
                                           .context = lines};
    lines->text[0] = '\0';
    lines->world = world;
    return meta_recover(io, &options);
}

static void lose_two_of_four(struct io *io, struct world *world)
{
    begin(io, world);
    for (uint64_t i = 1; i <= 20; i++)
        put(io, world, i);
    group_stop(io, world);
    lose(io, &world->drives[1]);
    lose(io, &world->drives[3]);
}

static void two_of_four_story(struct io *io, struct world *world)
{
    struct lines lines;
    lose_two_of_four(io, world);
    CHECK(group_start(io, world) == OK);
    for (unsigned life = 0; life < 2; life++) { /* reading changes nothing */
        struct meta_group_status status;
        meta_group_status(io, world->group, &status);
        CHECK(status.read_only && !meta_group_ready(world->group));
        for (uint64_t i = 1; i <= 20; i++)
            CHECK(get(io, world, i) == i);
        (void)io_set_deadline(io, io_now_ns(io) + 5 * SECOND_NS);
        CHECK(put_value(io, world, SLICE_LITERAL("x"), 1) == ERR_NOT_LEADER);
        (void)io_set_deadline(io, 0);
        CHECK(recover(io, world, false, &lines) == ERR_LOCKED);
        group_stop(io, world);
        if (life == 0)
            CHECK(group_start(io, world) == OK);
    }
    CHECK(recover(io, world, false, &lines) == OK);
    CHECK(strstr(lines.text, "nothing acknowledged is lost") != NULL);
    CHECK(recover(io, world, false, &lines) == ERR_EXISTS);
    begin(io, world);
    check_roles(io, world, 4, 0);
    for (uint64_t i = 1; i <= 20; i++)
        CHECK(get(io, world, i) == i);
    put(io, world, 21);
    group_stop(io, world);
}

static void two_of_four_voters_read_and_write_again_after_recovery(void **state)
{
    (void)state;
    tell(4, two_of_four_story);
}

static void auto_recover_story(struct io *io, struct world *world)
{
    lose_two_of_four(io, world);
    world->auto_recover = true;
    begin(io, world);
    check_roles(io, world, 4, 0);
    for (uint64_t i = 1; i <= 20; i++)
        CHECK(get(io, world, i) == i);
    put(io, world, 21);
    group_stop(io, world);
}

static void two_of_four_voters_recover_by_themselves_when_told_so(void **state)
{
    (void)state;
    tell(4, auto_recover_story);
}

static void two_of_three_story(struct io *io, struct world *world)
{
    struct lines lines;
    begin(io, world);
    put(io, world, 1);
    group_stop(io, world);
    CHECK(recover(io, world, true, &lines) == ERR_EXISTS);
    lose(io, &world->drives[0]);
    lose(io, &world->drives[1]);
    world->auto_recover = true; /* does not help where something may be lost */
    CHECK(group_start(io, world) == ERR_CORRUPT);
    CHECK(recover(io, world, false, &lines) == ERR_PRECONDITION);
    CHECK(strstr(lines.text, "--accept-loss") != NULL);
    CHECK(recover(io, world, true, &lines) == OK);
    begin(io, world);
    check_roles(io, world, 3, 0);
    CHECK(get(io, world, 1) == 1);
    group_stop(io, world);
}

static void one_of_three_voters_goes_on_only_when_loss_is_accepted(void **state)
{
    (void)state;
    tell(3, two_of_three_story);
}

/* The state is not flushed further than the damage in the one case, and is in the other. */
static void damaged_lone_log(struct io *io, struct world *world, bool flushed)
{
    struct lines lines;
    begin(io, world);
    for (uint64_t i = 1; i <= 30; i++)
        put(io, world, i);
    if (flushed) {
        group_stop(io, world);
    } else {
        server_fail(world->group->leader, ERR_IO, "a test"); /* so that stopping does not flush */
        group_stop(io, world);
        kv_memory_crash(world->stores, draw_nothing, NULL);
    }
    damage_log(world, &world->drives[0]);
    CHECK(group_start(io, world) == ERR_CORRUPT);
    CHECK(recover(io, world, false, &lines) == ERR_PRECONDITION);
    CHECK(recover(io, world, true, &lines) == OK);
    begin(io, world);
    check_roles(io, world, 1, 0);
    uint64_t value = get(io, world, 30);
    CHECK(value == 30 || (value == 0 && !flushed));
    put(io, world, 31);
    group_stop(io, world);
    CHECK(group_start(io, world) == OK);
    CHECK(get(io, world, 31) == 31);
    group_stop(io, world);
}

static void damaged_log_story(struct io *io, struct world *world)
{
    damaged_lone_log(io, world, false);
}

static void damaged_behind_story(struct io *io, struct world *world)
{
    damaged_lone_log(io, world, true);
}

static void a_damaged_lone_log_goes_on_when_loss_is_accepted(void **state)
{
    (void)state;
    tell(1, damaged_log_story);
    tell(1, damaged_behind_story);
}

static void damaged_one_of_three_story(struct io *io, struct world *world)
{
    begin(io, world);
    put(io, world, 1);
    group_stop(io, world);
    damage_log(world, &world->drives[0]);
    CHECK(group_start(io, world) == OK);
    CHECK(settle(io, world) == OK);
    check_roles(io, world, 3, 0);
    CHECK(get(io, world, 1) == 1);
    CHECK(counter_value(world->group->reconciler->rebuilt_total) == 3);
    group_stop(io, world);
}

static void a_log_damaged_while_stopped_is_made_anew_from_the_others(void **state)
{
    (void)state;
    tell(3, damaged_one_of_three_story);
}

static void durable_copy_story(struct io *io, struct world *world)
{
    begin(io, world);
    put(io, world, 1);
    for (uint32_t i = 0; i < 3; i++) /* so that stopping does not flush */
        server_fail(world->group->replicas[i], ERR_IO, "a test");
    group_stop(io, world);
    kv_memory_crash(world->stores, draw_nothing, NULL);
    CHECK(group_start(io, world) == OK);
    check_roles(io, world, 3, 0);
    CHECK(get(io, world, 1) == 1);
    group_stop(io, world);
}

static void a_copied_state_is_durable_before_its_replica_counts(void **state)
{
    (void)state;
    tell(3, durable_copy_story);
}

static void left_out_story(struct io *io, struct world *world)
{
    begin(io, world);
    put(io, world, 1);
    struct drive *away[2] = {drive_of_leader(world), NULL};
    away[0]->usable = false;
    tell_drives(io, world); /* the sixth drive takes its place */
    CHECK(settle(io, world) == OK);
    away[1] = drive_of_leader(world);
    away[1]->usable = false;
    tell_drives(io, world);
    CHECK(io_sleep_ms(io, 2 * 60 * 1000) == OK); /* and now there are four */
    put(io, world, 2);
    uint64_t term = world->group->leader->term;
    for (unsigned i = 0; i < 2; i++) {
        away[i]->usable = true;
        tell_drives(io, world);
        CHECK(settle(io, world) == OK);
        CHECK(get(io, world, 2) == 2);
    }
    CHECK(world->group->leader->term == term); /* they disturbed nobody */
    check_roles(io, world, 5, 0);
    group_stop(io, world);
}

static void a_replica_that_was_left_out_never_runs_again(void **state)
{
    (void)state;
    tell(6, left_out_story);
}

static void fenced_story(struct io *io, struct world *world)
{
    begin(io, world);
    struct meta_server *leader = world->group->leader;
    struct drive *drive = drive_of_leader(world);
    uint64_t id = leader->options.replica_id;
    drive->usable = false;
    tell_drives(io, world);
    put(io, world, 1);
    drive->usable = true;
    tell_drives(io, world);
    CHECK(settle(io, world) == OK);
    CHECK(group_replica(world->group, id) != NULL);
    check_roles(io, world, 3, 0);
    group_stop(io, world);
}

static void a_drive_that_comes_back_keeps_its_replica(void **state)
{
    (void)state;
    tell(3, fenced_story);
}

/* --- a real disk, with RocksDB --- */

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void real_story(struct io *io, void *argument)
{
    struct world *world = argument;
    begin(io, world);
    check_roles(io, world, 4, 0);
    for (uint64_t i = 1; i <= 200; i++)
        put(io, world, i);
    struct drive *drive = drive_of_leader(world);
    drive->usable = false;
    tell_drives(io, world);
    put(io, world, 201);
    CHECK(io_remove_tree(io, drive->directory) == OK);
    drive->id[0] = ++world->drive_next;
    drive->usable = true;
    tell_drives(io, world);
    CHECK(settle(io, world) == OK);
    check_roles(io, world, 4, 0);
    group_stop(io, world);
    lose(io, &world->drives[0]);
    lose(io, &world->drives[2]);
    CHECK(group_start(io, world) == OK);
    for (uint64_t i = 1; i <= 201; i++)
        CHECK(get(io, world, i) == i);
    group_stop(io, world);
    struct lines lines;
    CHECK(recover(io, world, false, &lines) == OK);
    begin(io, world);
    check_roles(io, world, 4, 0);
    for (uint64_t i = 1; i <= 201; i++)
        CHECK(get(io, world, i) == i);
    group_stop(io, world);
    world->ended = true;
}

static void replicas_on_real_disks_are_copied_and_recovered(void **state)
{
    (void)state;
    char root[] = "/tmp/shale-group-XXXXXX";
    assert_non_null(mkdtemp(root));
    struct world *world = mem_new(struct world);
    *world = (struct world){
        .kv = kv_provider_rocks(), .metrics = metrics_new(), .root = root, .seed = 1};
    for (unsigned i = 0; i < 4; i++)
        add_drive(world);
    AUTO(runtime) runtime = NULL;
    struct runtime_options options = {.reactor_count = 1};
    assert_int_equal(runtime_new(&options, &runtime), OK);
    runtime_run(runtime, real_story, world);
    assert_true(world->ended);
    metrics_free(world->metrics);
    mem_free(world);
    assert_int_equal(nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_first_start_makes_as_many_replicas_as_the_drives_allow),
        cmocka_unit_test(drives_that_are_added_get_voters_while_the_group_serves),
        cmocka_unit_test(an_emptied_drive_of_the_leader_gets_a_new_replica),
        cmocka_unit_test(a_failed_log_of_the_leader_costs_no_answer),
        cmocka_unit_test(a_hopeless_drive_is_tried_three_times_an_hour),
        cmocka_unit_test(a_replica_whose_state_differs_is_made_anew),
        cmocka_unit_test(a_log_damaged_while_stopped_is_made_anew_from_the_others),
        cmocka_unit_test(a_drive_that_comes_back_keeps_its_replica),
        cmocka_unit_test(a_replica_that_was_left_out_never_runs_again),
        cmocka_unit_test(a_copied_state_is_durable_before_its_replica_counts),
        cmocka_unit_test(two_of_four_voters_read_and_write_again_after_recovery),
        cmocka_unit_test(two_of_four_voters_recover_by_themselves_when_told_so),
        cmocka_unit_test(one_of_three_voters_goes_on_only_when_loss_is_accepted),
        cmocka_unit_test(a_damaged_lone_log_goes_on_when_loss_is_accepted),
        cmocka_unit_test(replicas_on_real_disks_are_copied_and_recovered),
        cmocka_unit_test(no_acknowledged_write_is_lost_while_drives_fail_and_come),
    };
    cmocka_set_test_filter(getenv("SHALE_TEST")); /* NULL: all */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
