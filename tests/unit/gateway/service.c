/* See service.h. */
#include "service.h"

#include "base/mem.h"
#include "base/text.h"
#include "entry.h"
#include "kv/memory.h"
#include "runtime/lane.h"
#include "runtime/sim.h"
#include "s3/checksum.h"
#include "s3/date.h"
#include "s3/signer.h"
#include "server_calls.h"
#include "state.h"
#include "storaged/client.h"

#define ACCESS_KEY "AKTEST"
#define SECRET "the-secret-of-the-test"

enum {
    BLOCKS_MAX = 256,
    HEADERS_MAX = 16,
    ANSWER_BYTES_MAX = 32 << 20,
};

/* --- metadata: entries applied one after the other --- */

struct meta_group {
    struct kv_memory_world *world;
    struct lane *lane;
    struct kv *kv;
    struct state *state;
    uint64_t index;
    uint64_t session;
    uint64_t sequence;
    uint64_t wall_ms;
};

struct application {
    struct meta_group *server;
    struct slice command;
    struct bytes *out_result;
};

static void apply(struct lane *lane, void *argument)
{
    struct application *application = argument;
    struct meta_group *server = application->server;
    server->wall_ms++;
    struct entry_header header = {.wall_ms = server->wall_ms};
    if (server->session != 0) {
        header.session = server->session;
        header.sequence = ++server->sequence;
        header.done_below = header.sequence;
    }
    AUTO_VALUE(bytes) entry = {.max = ENTRY_BYTES_MAX};
    entry_header_encode(&entry, &header);
    bytes_append(&entry, application->command);
    server->index++;
    assert_int_equal(state_apply(lane, server->state, server->index, 1, bytes_slice(&entry),
                                 application->out_result),
                     OK);
}

enum err meta_group_propose(struct io *io, struct meta_group *server, struct slice command,
                            struct bytes *out_result)
{
    struct application application = {
        .server = server, .command = command, .out_result = out_result};
    return lane_run(io, server->lane, apply, &application);
}

struct reading {
    struct meta_group *server;
    meta_read_fn *fn;
    void *argument;
    enum err err;
};

static void read_state(struct lane *lane, void *argument)
{
    struct reading *reading = argument;
    reading->err = reading->fn(lane, reading->server->state, reading->argument);
}

enum err meta_group_read(struct io *io, struct meta_group *server, meta_read_fn *fn, void *argument,
                         bool memory_first)
{
    (void)memory_first;
    struct reading reading = {.server = server, .fn = fn, .argument = argument};
    TRY(lane_run(io, server->lane, read_state, &reading));
    return reading.err;
}

static void server_open(struct lane *lane, void *argument)
{
    struct meta_group *server = argument;
    struct kv_options options = {.create = true};
    assert_int_equal(
        kv_open(kv_memory_provider(server->world), lane, "state", &options, &server->kv), OK);
    assert_int_equal(state_open(lane, server->kv, &server->state), OK);
    server->wall_ms = 1700000000000;
}

static void server_session(struct io *io, struct meta_group *server)
{
    AUTO_VALUE(bytes) command = {.max = ENTRY_BYTES_MAX};
    AUTO_VALUE(bytes) answer = {.max = RESULT_BYTES_MAX};
    struct command open = {.type = COMMAND_OPEN_SESSION, .session = {.holder = 7, .boot = 8}};
    struct result result;
    assert_int_equal(command_encode(&command, &open), OK);
    assert_int_equal(meta_group_propose(io, server, bytes_slice(&command), &answer), OK);
    assert_int_equal(result_decode(bytes_slice(&answer), &result), OK);
    assert_int_equal(result.err, OK);
    server->session = result.written.stamp;
}

/* --- blocks --- */

struct storage_client {
    struct lease lease;
    struct stored_block {
        uint8_t *data;
        uint32_t bytes;
    } blocks[BLOCKS_MAX];
    uint32_t block_count;
    uint32_t guards;
};

struct block_writer {
    struct storage_client *client;
    uint32_t index;
};

enum err storage_check_space(struct storage_client *client)
{
    (void)client;
    return OK;
}

enum err block_writer_open(struct io *io, struct storage_client *client,
                           const struct block_hint *hint, uint32_t bytes_expected,
                           struct block_writer **out_writer)
{
    (void)hint;
    TRY(io_yield(io));
    assert_true(client->block_count < BLOCKS_MAX);
    struct block_writer *writer = mem_new(struct block_writer);
    *writer = (struct block_writer){.client = client, .index = client->block_count++};
    client->blocks[writer->index].data =
        mem_alloc(bytes_expected > 0 ? bytes_expected : BLOCK_BYTES_MAX);
    *out_writer = writer;
    return OK;
}

enum err block_writer_append(struct io *io, struct block_writer *writer, struct buf *buf,
                             size_t offset, size_t bytes)
{
    struct stored_block *block = &writer->client->blocks[writer->index];
    memcpy(block->data + block->bytes, buf->data + offset, bytes);
    block->bytes += (uint32_t)bytes;
    return io_yield(io);
}

struct block_id block_writer_id(const struct block_writer *writer)
{
    const struct lease *lease = &writer->client->lease;
    return (struct block_id){.volume = lease->volume, .sequence = lease->from + writer->index};
}

enum err block_writer_finish(struct io *io, struct block_writer *writer, struct block_ref *out_ref,
                             struct lease *out_lease)
{
    *out_ref = (struct block_ref){
        .id = block_writer_id(writer),
        .bytes = writer->client->blocks[writer->index].bytes,
    };
    *out_lease = writer->client->lease;
    return io_yield(io);
}

void block_writer_free(struct block_writer *writer)
{
    mem_free(writer);
}

enum err block_read(struct io *io, struct storage_client *client, const struct block_ref *ref,
                    uint32_t offset, uint32_t bytes, struct buf_pool *pool, struct buf **out_buf,
                    size_t *out_offset)
{
    TRY(io_yield(io));
    assert_true(client->guards > 0);
    const struct stored_block *block = &client->blocks[ref->id.sequence - client->lease.from];
    assert_int_equal(block->bytes, ref->bytes);
    TRY(buf_pool_get(pool, bytes, out_buf));
    memcpy((*out_buf)->data, block->data + offset, bytes);
    *out_offset = 0;
    return OK;
}

void read_guard_begin(struct io *io, struct storage_client *client, struct read_guard *guard)
{
    (void)io;
    *guard = (struct read_guard){.epoch = 1};
    client->guards++;
}

void read_guard_end(struct io *io, struct storage_client *client, struct read_guard *guard)
{
    (void)io;
    (void)guard;
    client->guards--;
}

/* --- the service --- */

struct service {
    struct sim *sim;
    struct sim_machine *machine;
    struct metrics *metrics;
    struct digest_methods *methods;
    struct gateway *gateway;
    struct meta_group server;
    struct meta_client *meta;
    struct storage_client storage;
};

struct job {
    struct service *service;
    bool done;
};

static bool job_done(void *context)
{
    return *(bool *)context;
}

static void open_lease(struct io *io, struct service *service)
{
    struct drive_id drives[2] = {{.bytes = {1}}, {.bytes = {2}}};
    struct volume volume;
    for (unsigned i = 0; i < 2; i++) {
        struct drive_record record = {.id = drives[i], .node_id = 1, .capacity_bytes = 1 << 30};
        assert_int_equal(meta_drive_register(io, service->meta, &record), OK);
    }
    assert_int_equal(meta_volume_create(io, service->meta, 1, 1, drives, &volume), OK);
    assert_int_equal(meta_lease_open(io, service->meta, volume.id, 1, 1, &service->storage.lease),
                     OK);
}

static void start(struct io *io, void *argument)
{
    struct job *job = argument;
    struct service *service = job->service;
    assert_int_equal(lane_new(io, "apply", 1, &service->server.lane), OK);
    assert_int_equal(lane_run(io, service->server.lane, server_open, &service->server), OK);
    server_session(io, &service->server);
    struct identity identity = {.access_key = ACCESS_KEY, .secret_key = SECRET, .root = true};
    assert_int_equal(meta_identity_put(io, service->meta, &identity), OK);
    open_lease(io, service);
    struct gateway_options options = {
        .meta = service->meta,
        .storage = &service->storage,
        .metrics = service->metrics,
        .body_budget_bytes = 16 << 20,
    };
    service->gateway = gateway_new(io, &options);
    job->done = true;
}

static void stop(struct io *io, void *argument)
{
    (void)io;
    struct job *job = argument;
    lane_free(job->service->server.lane);
    job->done = true;
}

static void run(struct service *service, fiber_fn *fn, void *argument, bool *done)
{
    assert_int_equal(sim_spawn(service->machine, 0, fn, argument), OK);
    assert_true(sim_run(service->sim, job_done, done, UINT64_MAX));
}

struct service *service_new(void)
{
    struct service *service = mem_new(struct service);
    service->sim = sim_new(&(struct sim_options){.seed = 1});
    service->machine = sim_machine_new(service->sim, 1);
    service->metrics = metrics_new();
    service->methods = digest_methods_new();
    service->server.world = kv_memory_world_new();
    service->meta = meta_client_new(&service->server);
    struct job job = {.service = service};
    run(service, start, &job, &job.done);
    struct answer created = service_expect(service, 200, "PUT", "/bucket", "");
    answer_deinit(&created);
    return service;
}

void service_free(struct service *service)
{
    if (service == NULL)
        return;
    assert_int_equal(gateway_active(service->gateway), 0);
    assert_int_equal(gateway_body_bytes(service->gateway), 0);
    assert_int_equal(service->storage.guards, 0);
    gateway_free(service->gateway);
    struct job job = {.service = service};
    run(service, stop, &job, &job.done);
    state_free(service->server.state);
    kv_close(service->server.kv);
    kv_memory_world_free(service->server.world);
    meta_client_free(service->meta);
    sim_stop(service->machine);
    for (uint32_t i = 0; i < service->storage.block_count; i++)
        mem_free(service->storage.blocks[i].data);
    digest_methods_free(service->methods);
    metrics_free(service->metrics);
    sim_free(service->sim);
    mem_free(service);
}

/* --- requests --- */

struct request {
    struct service *service;
    const char *method;
    const char *target;
    const char *const *headers;
    struct slice body;
    struct memory_exchange memory;
    struct answer answer;
    bool done;
};

static void take_answer(struct request *request)
{
    struct memory_exchange *memory = &request->memory;
    struct answer *answer = &request->answer;
    assert_true(memory->exchange.responded);
    answer->status = memory->exchange.status;
    answer->body_bytes = memory->answer.bytes;
    answer->body = mem_copy(memory->answer.data, memory->answer.bytes);
    struct bytes headers = {.max = 64 << 10};
    struct slice name;
    struct slice value;
    for (size_t at = 0; exchange_next_header(&memory->exchange, &at, &name, &value);)
        bytes_append_format(&headers, "%.*s: %.*s\n", SLICE_PRINT(name), SLICE_PRINT(value));
    answer->headers = slice_to_text(bytes_slice(&headers));
    bytes_deinit(&headers);
}

static void add_headers(struct request *request, char names[HEADERS_MAX][64])
{
    for (unsigned i = 0; request->headers != NULL && request->headers[i] != NULL; i++) {
        assert_true(i < HEADERS_MAX);
        struct slice line = slice_of_text(request->headers[i]);
        size_t colon = slice_find(line, ':');
        assert_true(colon < 64);
        memcpy(names[i], line.data, colon);
        names[i][colon] = '\0';
        memory_exchange_header(&request->memory, names[i], slice_trim(slice_skip(line, colon + 1)));
    }
}

static void serve(struct io *io, void *argument)
{
    struct request *request = argument;
    struct memory_exchange *memory = &request->memory;
    struct s3_signer signer = {
        .access_key = SLICE_LITERAL(ACCESS_KEY),
        .secret = SLICE_LITERAL(SECRET),
        .region = SLICE_LITERAL("us-east-1"),
        .now_ms = io_wall_ms(io),
    };
    char date[S3_DATE_BASIC_CHARS + 1];
    char sha256[2 * DIGEST_SHA256_BYTES + 1];
    char length[24];
    char names[HEADERS_MAX][64];
    uint8_t digest[DIGEST_SHA256_BYTES];
    s3_date_format_basic(signer.now_ms, date);
    digest_sha256(request->service->methods, request->body, digest);
    text_hex(slice_of(digest, sizeof digest), sha256);
    snprintf(length, sizeof length, "%zu", request->body.bytes);
    memory_exchange_init(memory, request->method, slice_of_text(request->target), request->body,
                         ANSWER_BYTES_MAX);
    memory->exchange.started_ns = io_now_ns(io);
    memory->exchange.request_id = 7;
    memory_exchange_header(memory, "host", SLICE_LITERAL("shale.test:9000"));
    memory_exchange_header(memory, "x-amz-date", slice_of_text(date));
    memory_exchange_header(memory, "x-amz-content-sha256", slice_of_text(sha256));
    add_headers(request, names);
    AUTO_VALUE(bytes) authorization = {.max = 4096};
    s3_signer_authorize(&signer, &memory->exchange.head, &authorization, NULL);
    memory_exchange_header(memory, "authorization", bytes_slice(&authorization));
    memory_exchange_header(memory, "content-length", slice_of_text(length));
    struct s3_failure failure = {0};
    assert_int_equal(memory_exchange_ready(memory, &failure), S3_OK);
    gateway_serve(io, request->service->gateway, &memory->exchange);
    take_answer(request);
    memory_exchange_deinit(memory);
    request->done = true;
}

struct answer service_call(struct service *service, const char *method, const char *target,
                           const char *const *headers, struct slice body)
{
    struct request *request = mem_new(struct request);
    *request = (struct request){
        .service = service, .method = method, .target = target, .headers = headers, .body = body};
    run(service, serve, request, &request->done);
    struct answer answer = request->answer;
    mem_free(request);
    return answer;
}

void answer_deinit(struct answer *answer)
{
    mem_free(answer->body);
    mem_free(answer->headers);
}

struct answer service_expect(struct service *service, unsigned status, const char *method,
                             const char *target, const char *body)
{
    struct answer answer = service_call(service, method, target, NULL, slice_of_text(body));
    if (answer.status != status)
        print_message("%s %s: %s\n", method, target, answer.body);
    assert_int_equal(answer.status, status);
    return answer;
}

struct answer service_put(struct service *service, const char *target, char fill, size_t bytes)
{
    uint8_t *data = mem_alloc(bytes);
    memset(data, fill, bytes);
    struct answer answer = service_call(service, "PUT", target, NULL, slice_of(data, bytes));
    mem_free(data);
    if (answer.status != 200)
        print_message("PUT %s: %s\n", target, answer.body);
    assert_int_equal(answer.status, 200);
    return answer;
}

const char *answer_next(const struct answer *answer, const char *element, size_t *from,
                        char out[2048])
{
    char open[64];
    char close[64];
    snprintf(open, sizeof open, "<%s>", element);
    snprintf(close, sizeof close, "</%s>", element);
    out[0] = '\0';
    const char *begin = strstr(answer->body + *from, open);
    if (begin == NULL)
        return out;
    begin += strlen(open);
    const char *end = strstr(begin, close);
    assert_non_null(end);
    assert_true(end - begin < 2048);
    memcpy(out, begin, (size_t)(end - begin));
    out[end - begin] = '\0';
    *from = (size_t)(end - answer->body);
    return out;
}

const char *answer_element(const struct answer *answer, const char *element, char out[2048])
{
    size_t from = 0;
    return answer_next(answer, element, &from, out);
}

const char *answer_all(const struct answer *answer, const char *element, char out[2048])
{
    char one[2048];
    size_t used = 0;
    out[0] = '\0';
    for (size_t from = 0;;) {
        size_t before = from;
        answer_next(answer, element, &from, one);
        if (from == before)
            return out;
        int written = snprintf(out + used, 2048 - used, "%s%s", used == 0 ? "" : " ", one);
        used += (size_t)written;
        assert_true(used < 2048);
    }
}

const char *answer_header(const struct answer *answer, const char *name, char out[2048])
{
    char label[80];
    snprintf(label, sizeof label, "%s: ", name);
    out[0] = '\0';
    const char *begin = strcasestr(answer->headers, label);
    if (begin == NULL)
        return out;
    begin += strlen(label);
    size_t bytes = strcspn(begin, "\n");
    assert_true(bytes < 2048);
    memcpy(out, begin, bytes);
    out[bytes] = '\0';
    return out;
}

void service_refuses(struct service *service, unsigned status, const char *code, const char *method,
                     const char *target, const char *body)
{
    char text[2048];
    struct answer answer = service_expect(service, status, method, target, body);
    assert_string_equal(answer_element(&answer, "Code", text), code);
    answer_deinit(&answer);
}
