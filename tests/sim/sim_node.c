/* The whole node in the simulator: S3 requests, signed like a client's, against gateway,
 * metadata and storage on a simulated disk, through power cuts, kills and orderly stops at random
 * events, with disks that fail, fill up or hang for a while in some lives. A last life without
 * faults looks whether nothing is left that no object needs. With several drives (--drives, else
 * the seed decides) some are hurt at random moments, never more at a time than the redundancy
 * bears; at the end everything is whole, and readable with that many drives taken away.
 *
 * sim_node [--seeds N] [--base SEED] [--lives N] [--drives N] [--mutant NAME] [--verbose]
 *
 * Each key belongs to one client fiber, so what a key may hold is a short list: the last
 * acknowledged state, and the states of requests since then whose outcome nobody was told.
 * Reading a key back must give one of them, bit for bit. 4xx, 503 and 507 promise that nothing
 * happened. */
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "runtime/sync.h"
#include "sim_drives.h"
#include "storaged/server.h"

enum {
    READ_SETS = 2,      /* of drives taken away at the end */
    OUT_SECONDS = 40,   /* a drive that is away so long is rebuilt */
    READY_SECONDS = 60, /* until reads and writes must succeed */
    /* Longer than the metadata keeps blocks of writers that went away. */
    INTENT_SECONDS = 20 * 60,
};
#define LIFE_NS_MAX (600 * IO_NS_PER_S)
#define AUDIT_NS_MAX (7200 * IO_NS_PER_S)

/* What strikes the disk for some events of a life. */
static const struct sim_fault disk_faults[] = {
    {.prefix = "/data/segments", .read_fails = true},
    {.prefix = "/data/meta/log", .read_fails = true},
    {.prefix = "/data/segments", .write_fails = true},
    {.prefix = "/data/meta/log", .write_fails = true},
    {.prefix = "/data", .write_fails = true},
    {.prefix = "/data/segments", .sync_fails = true},
    {.prefix = "/data/meta/log", .sync_fails = true},
    {.prefix = "/data", .sync_fails = true},
    {.prefix = "/data/segments", .full = true},
    {.prefix = "/data/meta/log", .full = true},
    {.prefix = "/data", .full = true},
    {.prefix = "/data", .latency_ns = 3 * IO_NS_PER_S},
};
enum { DISK_FAULT_COUNT = sizeof disk_faults / sizeof disk_faults[0] };

/* Disks that lie; the run must then fail (tests/tools/mutants.sh). */
static const struct mutant {
    const char *name;
    struct sim_fault fault;
} mutants[] = {
    {"log-write", {.prefix = "/data/meta/log", .durable_ignored = true}},
    {"log-directory", {.prefix = "/data/meta/log", .sync_ignored = true}},
    {"record-write", {.prefix = "/data/segments", .durable_ignored = true}},
    {"segment-directory", {.prefix = "/data/segments", .sync_ignored = true}},
    {"every-sync", {.prefix = "/data", .sync_ignored = true}},
};
enum { MUTANT_COUNT = sizeof mutants / sizeof mutants[0] };

static bool content_matches(const struct content *content, struct slice body)
{
    if (!content->exists || content->bytes != body.bytes)
        return false;
    uint8_t *expected = mem_alloc(content->bytes + 8);
    content_fill(expected, content->bytes, content->seed);
    bool same = body.bytes == 0 || memcmp(expected, body.data, body.bytes) == 0;
    mem_free(expected);
    return same;
}

/* Serve one signed request. *out_status is 0 when no answer was given. */
static void perform(struct io *io, struct world *world, const struct request *request,
                    struct memory_exchange *memory, unsigned *out_status)
{
    struct requester requester = {
        .sim = world->sim, .node = world->node, .verbose = world->verbose};
    request_perform(io, &requester, request, memory, out_status);
    bool allowed = *out_status < 500 || *out_status == 503 || *out_status == 507;
    /* Two of four drives gone at once are no quorum: what was under way stays unknown. */
    if (world->drive_count == 4 && world->auto_recover && strcmp(request->method, "GET") != 0)
        allowed = true;
    if (world->drive_count > 1 && !allowed && !io_canceled(io)) {
        fprintf(stderr, "sim_node: status %u %.*s\n", *out_status,
                SLICE_PRINT(slice_first(bytes_slice(&memory->answer), 400)));
        die(world, "an answer that no fault of a drive allows", request->target);
    }
}

/* --- what a key may hold --- */

static void key_acknowledge(struct key_state *key, struct content content)
{
    key->candidates[0] = content;
    key->candidate_count = 1;
}

static void key_unknown(struct world *world, struct key_state *key, struct content content)
{
    if (key->candidate_count == CANDIDATES_MAX)
        die(world, "too many unknown outcomes", key->name);
    content.late = true;
    key->candidates[key->candidate_count++] = content;
}

/* The key was read: it held `content`, or a write that is still on its way comes after it. */
static void key_found(struct key_state *key, struct content content)
{
    struct content late[CANDIDATES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < key->candidate_count; i++)
        if (key->candidates[i].late)
            late[count++] = key->candidates[i];
    content.late = false;
    key_acknowledge(key, content);
    for (uint32_t i = 0; i < count && key->candidate_count < CANDIDATES_MAX; i++)
        key->candidates[key->candidate_count++] = late[i];
}

/* What was on its way when the process ended has taken effect or never will. */
static void keys_settle(struct world *world)
{
    for (unsigned i = 0; i < KEYS; i++)
        for (uint32_t k = 0; k < world->keys[i].candidate_count; k++)
            world->keys[i].candidates[k].late = false;
}

/* Success, certainly no effect, or nobody knows. */
static void key_outcome(struct io *io, struct world *world, struct key_state *key, unsigned status,
                        struct content content)
{
    bool refused = (status >= 400 && status < 500) || status == 503 || status == 507;
    if (status >= 200 && status < 300) {
        world->acknowledged++;
        key_acknowledge(key, content);
    } else if (refused && !io_canceled(io)) {
        world->refused++;
    } else {
        world->unknown++;
        key_unknown(world, key, content);
    }
}

static void key_target(const struct key_state *key, char *out, size_t bytes, const char *query)
{
    snprintf(out, bytes, "/bucket/%s%s", key->name, query);
}

/* Read the key; it must hold one of its candidates. */
static void key_verify(struct io *io, struct world *world, struct key_state *key)
{
    char target[160];
    key_target(key, target, sizeof target, "");
    struct request get = {.method = "GET", .target = target};
    struct memory_exchange memory;
    unsigned status;
    perform(io, world, &get, &memory, &status);
    struct slice body = bytes_slice(&memory.answer);
    bool whole = !memory.answer.overflow && memory.exchange.content_bytes == memory.answer_bytes;
    if (status == 200 && whole) {
        uint32_t i = 0;
        while (i < key->candidate_count && !content_matches(&key->candidates[i], body))
            i++;
        if (i == key->candidate_count)
            die(world, "wrong bytes", key->name);
        key_found(key, key->candidates[i]);
        world->verified++;
    } else if (status == 404) {
        uint32_t i = 0;
        while (i < key->candidate_count && key->candidates[i].exists)
            i++;
        if (i == key->candidate_count)
            die(world, "acknowledged object lost", key->name);
        key_found(key, (struct content){0});
        world->verified++;
    } else if (!io_canceled(io) && !world->faulty && status != 503 && status != 0) {
        fprintf(stderr, "sim_node: status %u %.*s\n", status, SLICE_PRINT(body));
        die(world, "unexpected answer to GET", key->name);
    }
    memory_exchange_deinit(&memory);
}

/* --- operations of a client --- */

static uint32_t draw_bytes(struct world *world)
{
    switch (draw(world, 8)) {
    case 0:
        return 0;
    case 1:
    case 2:
        return (uint32_t)draw(world, 16 << 10);
    case 3:
    case 4:
        return (uint32_t)draw(world, 200 << 10);
    case 5:
        return (16 << 10) + (uint32_t)draw(world, 3) - 1;
    case 6:
        return (uint32_t)draw(world, 1 << 20);
    default: /* the rest of the draw */
        return (uint32_t)draw(world, 3 << 20);
    }
}

static void put_object(struct io *io, struct world *world, struct key_state *key)
{
    struct content content = {.exists = true, .seed = world->next_seed++};
    content.bytes = draw_bytes(world);
    bool conditional = draw(world, 10) == 0;
    uint8_t *body = mem_alloc(content.bytes + 8);
    content_fill(body, content.bytes, content.seed);
    char target[160];
    key_target(key, target, sizeof target, "");
    struct request put = {.method = "PUT",
                          .target = target,
                          .body = slice_of(body, content.bytes),
                          .if_none_match = conditional ? "*" : NULL};
    struct memory_exchange memory;
    unsigned status;
    perform(io, world, &put, &memory, &status);
    memory_exchange_deinit(&memory);
    mem_free(body);
    if (status == 404)
        die(world, "acknowledged bucket lost", key->name);
    key_outcome(io, world, key, status, content);
}

static void delete_object(struct io *io, struct world *world, struct key_state *key)
{
    char target[160];
    key_target(key, target, sizeof target, "");
    struct request request = {.method = "DELETE", .target = target};
    struct memory_exchange memory;
    unsigned status;
    perform(io, world, &request, &memory, &status);
    memory_exchange_deinit(&memory);
    key_outcome(io, world, key, status, (struct content){0});
}

/* Copy one of the client's own keys onto another: its candidates become possible there. */
static void copy_object(struct io *io, struct world *world, struct key_state *key,
                        struct key_state *source)
{
    if (source == key || source->candidate_count != 1)
        return;
    char target[160];
    char source_path[160];
    key_target(key, target, sizeof target, "");
    key_target(source, source_path, sizeof source_path, "");
    struct request copy = {.method = "PUT", .target = target, .copy_source = source_path};
    struct memory_exchange memory;
    unsigned status;
    perform(io, world, &copy, &memory, &status);
    memory_exchange_deinit(&memory);
    if (status == 404 && !source->candidates[0].exists)
        return;
    if (status == 404)
        die(world, "copy source lost", source->name);
    struct content content = source->candidates[0];
    content.late = false;
    key_outcome(io, world, key, status, content);
}

/* The text between <name> and </name>, copied; empty when absent. */
static char *element_text(struct slice xml, const char *name)
{
    AUTO_STRING text = slice_to_text(xml);
    AUTO_STRING start = mem_format("<%s>", name);
    char *from = strstr(text, start);
    if (from == NULL)
        return mem_format("%s", "");
    from += strlen(start);
    char *to = strchr(from, '<');
    return slice_to_text(slice_of(from, to == NULL ? 0 : (size_t)(to - from)));
}

static unsigned upload_part(struct io *io, struct world *world, const struct key_state *key,
                            const char *upload, unsigned number, struct slice body, char **out_etag)
{
    AUTO_STRING query = mem_format("?partNumber=%u&uploadId=%s", number, upload);
    AUTO_STRING target = mem_format("/bucket/%s%s", key->name, query);
    struct request put = {.method = "PUT", .target = target, .body = body};
    struct memory_exchange memory;
    unsigned status;
    perform(io, world, &put, &memory, &status);
    if (status == 200) {
        /* The answer's headers are gone with perform: ListParts tells the ETag. */
        AUTO_STRING list = mem_format("/bucket/%s?uploadId=%s&part-number-marker=%u", key->name,
                                      upload, number - 1);
        struct request parts = {.method = "GET", .target = list};
        struct memory_exchange answer;
        perform(io, world, &parts, &answer, &status);
        *out_etag = element_text(bytes_slice(&answer.answer), "ETag");
        memory_exchange_deinit(&answer);
    }
    memory_exchange_deinit(&memory);
    return status;
}

static void multipart(struct io *io, struct world *world, struct key_state *key)
{
    unsigned part_count = draw(world, 8) == 0 ? 2 : 1;
    struct content content = {.exists = true, .seed = world->next_seed++};
    uint32_t last = 1 + (uint32_t)draw(world, 400 << 10);
    content.bytes = (part_count - 1) * PART_BYTES_MIN + last;
    content.parts = part_count;
    char target[160];
    key_target(key, target, sizeof target, "?uploads");
    struct request create = {.method = "POST", .target = target};
    struct memory_exchange memory;
    unsigned status;
    perform(io, world, &create, &memory, &status);
    AUTO_STRING upload = element_text(bytes_slice(&memory.answer), "UploadId");
    memory_exchange_deinit(&memory);
    if (status != 200 || world->upload_count == UPLOADS_MAX)
        return;
    /* Stays there for the audit: an upload that has ended is not found then. */
    world->uploads[world->upload_count++] =
        (struct open_upload){.key = key, .id = mem_format("%s", upload)};
    uint8_t *body = mem_alloc(content.bytes + 8);
    content_fill(body, content.bytes, content.seed);
    AUTO_VALUE(bytes) complete = {.max = 4096};
    bytes_append_text(&complete, "<CompleteMultipartUpload>");
    for (unsigned i = 0; i < part_count && status == 200; i++) {
        uint32_t from = i * PART_BYTES_MIN;
        uint32_t bytes = i + 1 == part_count ? last : PART_BYTES_MIN;
        AUTO_STRING etag = NULL;
        status = upload_part(io, world, key, upload, i + 1, slice_of(body + from, bytes), &etag);
        bytes_append_format(&complete, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>",
                            i + 1, etag == NULL ? "" : etag);
    }
    bytes_append_text(&complete, "</CompleteMultipartUpload>");
    mem_free(body);
    if (status != 200)
        return;
    AUTO_STRING finish = mem_format("/bucket/%s?uploadId=%s", key->name, upload);
    struct request request = {
        .method = draw(world, 8) == 0 ? "DELETE" : "POST",
        .target = finish,
    };
    bool aborts = request.method[0] == 'D';
    if (!aborts)
        request.body = bytes_slice(&complete);
    perform(io, world, &request, &memory, &status);
    memory_exchange_deinit(&memory);
    if (!aborts)
        key_outcome(io, world, key, status, content);
}

static void client_step(struct io *io, struct world *world, unsigned client)
{
    struct key_state *own = &world->keys[client * KEYS_PER_CLIENT];
    struct key_state *key = &own[draw(world, KEYS_PER_CLIENT)];
    switch (draw(world, 12)) {
    case 0:
    case 1:
        delete_object(io, world, key);
        break;
    case 2:
    case 3:
    case 4:
        key_verify(io, world, key);
        break;
    case 5:
        copy_object(io, world, key, &own[draw(world, KEYS_PER_CLIENT)]);
        break;
    case 6:
        multipart(io, world, key);
        break;
    default: /* the rest of the draw */
        put_object(io, world, key);
        break;
    }
}

struct client {
    struct world *world;
    unsigned number;
};

static void client_body(struct io *io, void *argument)
{
    struct client *client = argument;
    while (client->world->running && !io_canceled(io))
        client_step(io, client->world, client->number);
}

static void client_fiber(struct io *io, void *argument)
{
    struct client *client = argument;
    io_call(io, io_reactor(io, client->number % REACTORS), client_body, client);
}

/* --- one life of the node --- */

static void make_bucket(struct io *io, struct world *world)
{
    struct request put = {.method = "PUT", .target = "/bucket"};
    struct memory_exchange memory;
    unsigned status;
    perform(io, world, &put, &memory, &status);
    memory_exchange_deinit(&memory);
    if (status == 200 || (status == 409 && !world->faulty))
        world->bucket_made = true;
}

static void verify_all(struct io *io, struct world *world)
{
    for (unsigned i = 0; i < KEYS && !io_canceled(io); i++)
        key_verify(io, world, &world->keys[i]);
}

static void serve_clients(struct io *io, struct world *world)
{
    struct client clients[CLIENTS];
    struct fiber_group group;
    fiber_group_init(&group);
    for (unsigned i = 0; i < CLIENTS && !io_canceled(io); i++) {
        clients[i] = (struct client){.world = world, .number = i};
        if (fiber_group_spawn(io, &group, client_fiber, &clients[i]) != OK)
            die(world, "no fiber", "");
    }
    fiber_group_wait(io, &group);
    if (!io_canceled(io))
        verify_all(io, world);
}

/* --- audit --- */

static void abort_uploads(struct io *io, struct world *world)
{
    for (uint32_t i = 0; i < world->upload_count; i++) {
        AUTO_STRING target =
            mem_format("/bucket/%s?uploadId=%s", world->uploads[i].key->name, world->uploads[i].id);
        struct request request = {.method = "DELETE", .target = target};
        struct memory_exchange memory;
        unsigned status;
        perform(io, world, &request, &memory, &status);
        memory_exchange_deinit(&memory);
        if (status != 204 && status != 404)
            die(world, "upload is not aborted", target);
    }
}

/* Copies share the blocks of what they were made from, which has the same seed. */
static uint64_t blocks_wanted(struct world *world)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        const struct content *content = &world->keys[i].candidates[0];
        if (world->keys[i].candidate_count != 1)
            die(world, "outcome is not known after reading", world->keys[i].name);
        bool seen = !content->exists;
        for (unsigned k = 0; k < i && !seen; k++)
            seen = world->keys[k].candidates[0].exists &&
                   world->keys[k].candidates[0].seed == content->seed;
        if (!seen)
            count += content->parts > 0 ? content->parts : content->bytes > META_INLINE_BYTES_MAX;
    }
    return count;
}

/* Nothing is left on the drives but what objects need. */
static void audit(struct io *io, struct world *world)
{
    abort_uploads(io, world);
    for (unsigned i = 0; i < INTENT_SECONDS && !io_canceled(io); i++)
        (void)io_sleep_ms(io, 1000); /* never canceled here */
    if (storage_collect(io, node_storage(world->node)) != OK)
        die(world, "collection fails", "");
    (void)io_sleep_ms(io, 1000); /* rows on their way to the index */
    drives_audit(io, world, blocks_wanted(world));
}

/* What is there can be read, after a short while at most. */
static void read_all(struct io *io, struct world *world)
{
    uint64_t until_ns = io_now_ns(io) + READY_SECONDS * IO_NS_PER_S;
    for (unsigned i = 0; i < KEYS && !io_canceled(io);) {
        uint64_t before = world->verified;
        key_verify(io, world, &world->keys[i]);
        if (world->verified > before)
            i++;
        else if (io_now_ns(io) >= until_ns && !io_canceled(io))
            die(world, "object cannot be read", world->keys[i].name);
    }
}

/* Writes are taken, after a short while at most. */
static void write_some(struct io *io, struct world *world)
{
    uint64_t until_ns = io_now_ns(io) + READY_SECONDS * IO_NS_PER_S;
    for (uint64_t before = world->acknowledged;
         world->acknowledged == before && !io_canceled(io);) {
        put_object(io, world, &world->keys[draw(world, KEYS)]);
        if (io_now_ns(io) >= until_ns && !io_canceled(io))
            die(world, "nothing can be written", "");
    }
}

static void serve(struct io *io, struct world *world)
{
    while (!world->bucket_made && !io_canceled(io) && world->running)
        make_bucket(io, world);
    switch (world->purpose) {
    case PURPOSE_SERVE:
        verify_all(io, world);
        serve_clients(io, world);
        break;
    case PURPOSE_MEND:
        read_all(io, world);
        write_some(io, world);
        drives_become_whole(io, world);
        break;
    case PURPOSE_AUDIT:
        if (world->drive_count > 1)
            drives_become_whole(io, world);
        verify_all(io, world);
        audit(io, world);
        break;
    case PURPOSE_READ:
        read_all(io, world);
        break;
    }
}

static struct node_options node_options(struct world *world, const char *directories[DRIVES_MAX])
{
    for (unsigned i = 0; i < world->drive_count; i++)
        directories[i] = world->drives[i].directory;
    struct node_options options = {
        .directories = directories,
        .directory_count = world->drive_count,
        .kv = kv_memory_provider(world->stores),
        .metrics = world->metrics,
        .root_user = sim_access_key,
        .root_password = sim_secret_key,
        .storage_segment_bytes = 160 << 20,
        .log_segment_bytes = 4 << 20,
        .drive_bytes_min = 1 << 20,
    };
    if (world->drive_count > 1) {
        options.storage_segment_bytes = 16 << 20;
        options.checks_mounts = true;
        options.auto_recover = world->auto_recover && world->purpose != PURPOSE_READ;
        options.out_s = OUT_SECONDS;
        options.out_no_spare_s = OUT_SECONDS;
    }
    return options;
}

static void node_fiber(struct io *io, void *argument)
{
    struct world *world = argument;
    const char *directories[DRIVES_MAX];
    struct node_options options = node_options(world, directories);
    enum err err = node_start(io, &options, &world->node);
    if (err == OK) {
        if (world->drive_count == 2)
            drives_note_voter(io, world);
        serve(io, world);
        struct node *node = world->node;
        world->node = NULL;
        node_stop(io, node);
    } else if (!io_canceled(io) && !world->faulty) {
        fprintf(stderr, "sim_node: %s\n", err_text(err));
        die(world, "node does not start", "");
    }
    world->ended = true;
}

static bool life_ended(void *context)
{
    return ((struct world *)context)->ended;
}

struct cut {
    struct world *world;
    uint64_t at_event;
};

static bool cut_reached(void *context)
{
    const struct cut *cut = context;
    return cut->world->ended || sim_event_count(cut->world->sim) >= cut->at_event;
}

static uint64_t draw_for_kv(void *context, uint64_t bound)
{
    return draw(context, bound);
}

void run_until(struct world *world, uint64_t events, uint64_t until_ns)
{
    struct cut cut = {.world = world, .at_event = sim_event_count(world->sim) + events};
    sim_run(world->sim, cut_reached, &cut, until_ns);
}

/* Let the disk fail at some event, for a few events or to the end of the life. */
static void run_with_fault(struct world *world, uint64_t life_events, uint64_t until_ns)
{
    run_until(world, draw(world, life_events), until_ns);
    sim_set_fault(world->machine, &disk_faults[draw(world, DISK_FAULT_COUNT)]);
    run_until(world, draw(world, 2) == 0 ? draw(world, 30) : draw(world, life_events), until_ns);
    sim_clear_faults(world->machine);
    run_until(world, draw(world, life_events), until_ns);
}

static void end_in_order(struct world *world, uint64_t until_ns)
{
    world->running = false;
    if (!sim_run(world->sim, life_ended, world, until_ns))
        die(world, "node does not stop", "");
    sim_stop(world->machine);
}

enum ending { POWER_CUT, KILL, ORDERLY };

static void end_life(struct world *world, enum ending ending, uint64_t until_ns)
{
    switch (ending) {
    case POWER_CUT:
        sim_power_cut(world->machine);
        break;
    case KILL:
        sim_kill(world->machine);
        break;
    case ORDERLY:
        end_in_order(world, until_ns);
        break;
    }
    kv_memory_crash(world->stores, draw_for_kv, world);
    keys_settle(world);
    sim_power_on(world->machine);
}

static void begin_life(struct world *world, enum purpose purpose)
{
    world->purpose = purpose;
    world->running = true;
    world->ended = false;
    world->node = NULL;
    if (sim_spawn(world->machine, 0, node_fiber, world) != OK)
        die(world, "no fiber", "");
}

/* Run the node until a random event, then end it and roll the stores back. */
static void live(struct world *world, enum ending ending)
{
    /* With a mutant nothing else is to be the reason of a failure. */
    world->faulty = !world->lies && draw(world, world->drive_count == 1 ? 3 : 2) == 0;
    begin_life(world, PURPOSE_SERVE);
    uint64_t until_ns = sim_now_ns(world->sim) + LIFE_NS_MAX;
    /* Half the cuts fall into the start: formatting, recovery, the first entries. */
    uint64_t life_events = draw(world, 2) == 0 ? 1500 : 12000;
    if (world->drive_count > 1)
        life_events += life_events / 4 * world->drive_count;
    if (!world->faulty)
        run_until(world, draw(world, life_events), until_ns);
    else if (world->drive_count == 1)
        run_with_fault(world, life_events, until_ns);
    else
        drives_hurt_while_running(world, life_events, until_ns);
    if (world->ended && !world->faulty)
        die(world, "node ended by itself", "");
    end_life(world, ending, until_ns + LIFE_NS_MAX);
    if (!world->lies)
        sim_clear_faults(world->machine);
    world->faulty = false;
}

/* Until its end. */
static void live_quietly(struct world *world, enum purpose purpose)
{
    begin_life(world, purpose);
    uint64_t until_ns = sim_now_ns(world->sim) + AUDIT_NS_MAX;
    if (!sim_run(world->sim, life_ended, world, until_ns))
        die(world, "life does not end", "");
    sim_stop(world->machine);
}

static void between_lives(struct world *world)
{
    drives_put_back(world);
    if (drives_are_hurt(world) && draw(world, 2) == 0) {
        live_quietly(world, PURPOSE_MEND);
        sim_power_on(world->machine);
    }
    if (world->drive_count > 1 && draw(world, 2) == 0)
        drives_hurt_while_off(world);
}

/* Everything can be read with any drives gone that the redundancy bears. */
static void read_without_some(struct world *world)
{
    for (unsigned i = 0; i < READ_SETS; i++) {
        sim_power_on(world->machine);
        drives_take_away(world);
        live_quietly(world, PURPOSE_READ);
        drives_put_back(world);
    }
}

static enum ending draw_ending(struct world *world)
{
    if (world->lies)
        return POWER_CUT; /* which alone shows that a sync is missing */
    switch (draw(world, 5)) {
    case 0:
        return KILL;
    case 1:
        return ORDERLY;
    default: /* the rest of the draw */
        return POWER_CUT;
    }
}

/* While the disk fails or the power goes, errors are what is wanted. */
static void write_line(void *context, enum log_level level, const char *line)
{
    const struct world *world = context;
    (void)level;
    bool wanted = world->faulty || drives_are_hurt(world) || world->purpose == PURPOSE_READ;
    if (world->verbose || (!wanted && sim_is_on(world->machine)))
        fprintf(stderr, "%s\n", line);
}

struct run {
    unsigned lives;
    unsigned drives; /* 0: the seed decides */
    const struct mutant *mutant;
    bool verbose;
};

static unsigned drives_of_seed(uint64_t seed)
{
    static const unsigned char counts[] = {1, 6, 3, 4, 1, 2, 6, 5, 1, 8};
    return counts[seed % (sizeof counts / sizeof counts[0])];
}

static void add_totals(struct world *totals, const struct world *world)
{
    totals->acknowledged += world->acknowledged;
    totals->unknown += world->unknown;
    totals->refused += world->refused;
    totals->verified += world->verified;
    totals->hurts += world->hurts;
    totals->mended += world->mended;
}

static void make_world(struct world *world, uint64_t seed, const struct run *run)
{
    struct sim_options options = {
        .seed = seed,
        .latency_spike_ppm = seed % 4 == 1 ? 2000 : 0,
        .disk_bytes =
            seed % 4 == 2 && world->drive_count == 1 ? UINT64_C(96) << 20 : 0, /* fills up */
    };
    log_set_sink(write_line, world);
    world->sim = sim_new(&options);
    world->machine = sim_machine_new(world->sim, REACTORS);
    if (run->mutant != NULL)
        sim_set_fault(world->machine, &run->mutant->fault);
    world->stores = kv_memory_world_new();
    world->metrics = metrics_new();
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(world->keys[i].name, sizeof world->keys[i].name, "client%u/key%%20%u",
                 i / KEYS_PER_CLIENT, i % KEYS_PER_CLIENT);
        key_acknowledge(&world->keys[i], (struct content){0});
    }
    drives_name(world);
    drives_prepare(world);
}

static void free_world(struct world *world)
{
    for (uint32_t i = 0; i < world->upload_count; i++)
        mem_free(world->uploads[i].id);
    metrics_free(world->metrics);
    kv_memory_world_free(world->stores);
    sim_free(world->sim);
    log_set_sink(NULL, NULL);
}

static uint64_t run_seed(uint64_t seed, const struct run *run, struct world *totals)
{
    struct world world = {.verbose = run->verbose,
                          .next_seed = seed << 20,
                          .lies = run->mutant != NULL,
                          .drive_count = run->drives,
                          .auto_recover = seed / 10 % 2 == 1};
    if (run->drives == 0)
        world.drive_count = run->mutant != NULL ? 1 : drives_of_seed(seed);
    make_world(&world, seed, run);
    for (unsigned life = 0; life < run->lives; life++) {
        live(&world, life + 1 == run->lives ? ORDERLY : draw_ending(&world));
        between_lives(&world);
    }
    drives_put_back(&world);
    live_quietly(&world, PURPOSE_AUDIT);
    if (world.drive_count > 1)
        read_without_some(&world);
    uint64_t hash = sim_trace_hash(world.sim);
    add_totals(totals, &world);
    free_world(&world);
    return hash;
}

static uint64_t number(const char *text)
{
    uint64_t value = 0;
    if (text == NULL || text_parse_u64(slice_of_text(text), UINT64_MAX, &value) != OK) {
        fprintf(stderr, "sim_node: a number is missing; see the opening comment of sim_node.c\n");
        exit(2);
    }
    return value;
}

static const struct mutant *find_mutant(const char *name)
{
    for (unsigned i = 0; i < MUTANT_COUNT; i++)
        if (name != NULL && strcmp(name, mutants[i].name) == 0)
            return &mutants[i];
    fputs("sim_node: mutants:", stderr);
    for (unsigned i = 0; i < MUTANT_COUNT; i++)
        fprintf(stderr, " %s", mutants[i].name);
    fputs("\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    uint64_t seeds = 20, base = 1;
    struct run run = {.lives = 3};
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--verbose") == 0)
            run.verbose = true;
        else if (strcmp(argv[i], "--seeds") == 0)
            seeds = number(next), i++;
        else if (strcmp(argv[i], "--base") == 0)
            base = number(next), i++;
        else if (strcmp(argv[i], "--lives") == 0)
            run.lives = (unsigned)number(next), i++;
        else if (strcmp(argv[i], "--drives") == 0)
            run.drives = (unsigned)number(next), i++;
        else if (strcmp(argv[i], "--mutant") == 0)
            run.mutant = find_mutant(next), i++;
        else {
            puts("sim_node [--seeds N] [--base SEED] [--lives N] [--drives N] [--mutant NAME] "
                 "[--verbose]");
            return strcmp(argv[i], "--help") == 0 ? 0 : 2;
        }
    }
    if (run.drives > DRIVES_MAX) {
        fprintf(stderr, "sim_node: at most %d drives\n", DRIVES_MAX);
        return 2;
    }
    log_set_level(run.verbose ? LOG_DEBUG : LOG_ERROR);
    struct world totals = {0};
    for (uint64_t seed = base; seed < base + seeds; seed++) {
        fprintf(stderr, "seed %llu\r", (unsigned long long)seed);
        uint64_t hash = run_seed(seed, &run, &totals);
        if (seed == base && run_seed(seed, &run, &totals) != hash) {
            fprintf(stderr, "sim_node: seed %llu is not deterministic\n", (unsigned long long)seed);
            return 1;
        }
    }
    printf("sim_node: %llu seeds, %llu writes acknowledged, %llu unknown, %llu refused, %llu reads "
           "verified, %llu drives hurt, %llu times whole again\n",
           (unsigned long long)seeds, (unsigned long long)totals.acknowledged,
           (unsigned long long)totals.unknown, (unsigned long long)totals.refused,
           (unsigned long long)totals.verified, (unsigned long long)totals.hurts,
           (unsigned long long)totals.mended);
    return 0;
}
