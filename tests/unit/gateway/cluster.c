/* See cluster.h. */
#include "cluster.h"

#include "base/mem.h"
#include "base/text.h"
#include "s3/date.h"
#include "s3/signer.h"
#include "storaged/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum {
    OBJECTS_MAX = 64,
    BLOCKS_MAX = 512,
    PARTS_MAX = 8,
    ANSWER_BYTES_MAX = 96 << 20,
};
#define ACCESS_KEY "AKTEST"
#define SECRET "the-secret-of-the-test"

/* One version; its blocks are looked up by id. */
struct version {
    bool live;
    struct object object; /* without what it points to */
    char key[META_KEY_BYTES_MAX + 1];
    uint8_t *attributes;
    uint8_t *inline_bytes;
    struct block_ref *blocks;
    struct part parts[PARTS_MAX];
    uint32_t part_blocks[PARTS_MAX]; /* index of the first block of each */
    uint32_t part_count;
};

struct stored_block {
    struct block_id id;
    uint8_t *data;
    uint32_t bytes;
};

struct fault {
    uint32_t skip;
    uint32_t times;
    enum err err;
};

struct meta_client {
    struct cluster *cluster;
};
struct storage_client {
    struct cluster *cluster;
};

struct cluster {
    struct sim *sim;
    struct sim_machine *machine;
    struct io *io;
    struct metrics *metrics;
    struct digest_methods *methods;
    struct gateway *gateway;
    struct meta_client meta;
    struct storage_client storage;
    struct version versions[OBJECTS_MAX];
    struct stored_block blocks[BLOCKS_MAX];
    uint32_t block_count;
    uint64_t stamp;
    uint64_t intents;
    uint32_t intents_dropped;
    uint32_t guards;
    struct fault faults[CALL_COUNT];
};

static bool finished(void *context)
{
    return *(bool *)context;
}

void cluster_run(struct cluster *cluster, fiber_fn *fn, void *argument, bool *done)
{
    assert_int_equal(sim_spawn(cluster->machine, 0, fn, argument), OK);
    assert_true(sim_run(cluster->sim, finished, done, UINT64_MAX));
}

struct start {
    struct cluster *cluster;
    bool done;
};

static void start(struct io *io, void *argument)
{
    struct start *start = argument;
    struct cluster *cluster = start->cluster;
    struct gateway_options options = {
        .meta = &cluster->meta,
        .storage = &cluster->storage,
        .metrics = cluster->metrics,
        .body_budget_bytes = 8 << 20,
    };
    cluster->gateway = gateway_new(io, &options);
    start->done = true;
}

struct cluster *cluster_new(void)
{
    struct cluster *cluster = mem_new(struct cluster);
    struct sim_options options = {.seed = 1};
    cluster->sim = sim_new(&options);
    cluster->machine = sim_machine_new(cluster->sim, 1);
    cluster->io = sim_machine_io(cluster->machine, 0);
    cluster->metrics = metrics_new();
    cluster->methods = digest_methods_new();
    cluster->meta.cluster = cluster;
    cluster->storage.cluster = cluster;
    struct start run = {.cluster = cluster};
    cluster_run(cluster, start, &run, &run.done);
    return cluster;
}

static void version_deinit(struct version *version)
{
    mem_free(version->attributes);
    mem_free(version->inline_bytes);
    mem_free(version->blocks);
    *version = (struct version){0};
}

void cluster_free(struct cluster *cluster)
{
    if (cluster == NULL)
        return;
    assert_int_equal(gateway_active(cluster->gateway), 0);
    assert_int_equal(gateway_body_bytes(cluster->gateway), 0);
    assert_int_equal(cluster->guards, 0);
    gateway_free(cluster->gateway);
    sim_stop(cluster->machine);
    for (uint32_t i = 0; i < OBJECTS_MAX; i++)
        version_deinit(&cluster->versions[i]);
    for (uint32_t i = 0; i < cluster->block_count; i++)
        mem_free(cluster->blocks[i].data);
    digest_methods_free(cluster->methods);
    metrics_free(cluster->metrics);
    sim_free(cluster->sim);
    mem_free(cluster);
}

struct gateway *cluster_gateway(struct cluster *cluster)
{
    return cluster->gateway;
}

const struct digest_methods *cluster_methods(struct cluster *cluster)
{
    return cluster->methods;
}

void cluster_fail(struct cluster *cluster, enum service_call call, uint32_t skip, uint32_t times,
                  enum err err)
{
    cluster->faults[call] = (struct fault){.skip = skip, .times = times, .err = err};
}

static enum err fault(struct io *io, struct cluster *cluster, enum service_call call)
{
    TRY(io_yield(io));
    struct fault *fault = &cluster->faults[call];
    if (fault->times == 0)
        return OK;
    if (fault->skip > 0) {
        fault->skip--;
        return OK;
    }
    fault->times--;
    return fault->err;
}

uint32_t cluster_object_count(const struct cluster *cluster)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < OBJECTS_MAX; i++)
        count += cluster->versions[i].live;
    return count;
}

uint32_t cluster_intents_dropped(const struct cluster *cluster)
{
    return cluster->intents_dropped;
}

/* --- metadata --- */

static const char *const buckets[] = {"bucket", "other"};

enum err meta_bucket_find(struct io *io, struct meta_client *client, struct slice name,
                          struct bucket *out_bucket)
{
    (void)client;
    TRY(io_yield(io));
    for (unsigned i = 0; i < 2; i++) {
        if (!slice_equal_text(name, buckets[i]))
            continue;
        *out_bucket = (struct bucket){.id = i + 1, .group = 1, .owner = ACCESS_KEY};
        memcpy(out_bucket->name, buckets[i], strlen(buckets[i]));
        return OK;
    }
    return ERR_NOT_FOUND;
}

enum err meta_identity_find(struct io *io, struct meta_client *client, struct slice access_key,
                            struct identity *out_identity)
{
    (void)client;
    TRY(io_yield(io));
    if (!slice_equal_text(access_key, ACCESS_KEY))
        return ERR_NOT_FOUND;
    *out_identity = (struct identity){.access_key = ACCESS_KEY, .secret_key = SECRET, .root = true};
    return OK;
}

static struct version *find(struct cluster *cluster, uint64_t bucket_id, struct slice key)
{
    for (uint32_t i = 0; i < OBJECTS_MAX; i++) {
        struct version *version = &cluster->versions[i];
        if (version->live && version->object.bucket_id == bucket_id &&
            slice_equal_text(key, version->key))
            return version;
    }
    return NULL;
}

static enum err check(const struct write_conditions *conditions, const struct version *version)
{
    bool conditional = conditions->kind >= CONDITION_PRESENT || conditions->modified_ms != 0 ||
                       conditions->has_bytes;
    if (conditional && version == NULL)
        return ERR_NOT_FOUND;
    if (conditions->kind == CONDITION_ABSENT && version != NULL)
        return ERR_PRECONDITION;
    if (conditions->kind == CONDITION_ETAG &&
        !object_etag_equal(&conditions->etag, &version->object.etag))
        return ERR_PRECONDITION;
    if (conditions->modified_ms != 0 &&
        conditions->modified_ms / 1000 != version->object.modified_ms / 1000)
        return ERR_PRECONDITION;
    if (conditions->has_bytes && conditions->bytes != version->object.bytes)
        return ERR_PRECONDITION;
    return OK;
}

/* The slot of a new version; the one it replaces is gone. */
static struct version *place(struct io *io, struct cluster *cluster, uint64_t bucket_id,
                             struct slice key, struct object_written *out_written)
{
    struct version *slot = find(cluster, bucket_id, key);
    for (uint32_t i = 0; i < OBJECTS_MAX && slot == NULL; i++)
        if (!cluster->versions[i].live)
            slot = &cluster->versions[i];
    assert_non_null(slot);
    version_deinit(slot);
    slot->live = true;
    memcpy(slot->key, key.data, key.bytes);
    slot->object.bucket_id = bucket_id;
    slot->object.stamp = ++cluster->stamp;
    slot->object.modified_ms = io_wall_ms(io);
    *out_written = (struct object_written){
        .stamp = slot->object.stamp,
        .modified_ms = slot->object.modified_ms,
    };
    return slot;
}

enum err meta_object_put(struct io *io, struct meta_client *client, const struct object_put *put,
                         struct object_written *out_written)
{
    struct cluster *cluster = client->cluster;
    TRY(fault(io, cluster, CALL_OBJECT_PUT));
    TRY(check(&put->conditions, find(cluster, put->bucket_id, put->key)));
    uint64_t bytes = put->inline_bytes.bytes;
    for (uint32_t i = 0; i < put->block_count; i++)
        bytes += put->blocks[i].bytes;
    assert_int_equal(bytes, put->bytes);
    assert_true((put->block_count > 1) == (put->intent != 0));
    struct version *version = place(io, cluster, put->bucket_id, put->key, out_written);
    version->object.bytes = put->bytes;
    version->object.etag = put->etag;
    version->object.checksum = put->checksum;
    version->object.layout = put->block_count == 0 ? LAYOUT_INLINE : LAYOUT_BLOCKS;
    version->object.block_count = put->block_count;
    version->object.attributes.bytes = put->attributes.bytes;
    version->attributes = mem_copy(put->attributes.data, put->attributes.bytes);
    if (put->block_count == 0)
        version->inline_bytes = mem_copy(put->inline_bytes.data, put->inline_bytes.bytes);
    else
        version->blocks = mem_copy(put->blocks, put->block_count * sizeof *put->blocks);
    return OK;
}

enum err meta_object_copy(struct io *io, struct meta_client *client, const struct object_copy *copy,
                          struct object_written *out_written)
{
    struct cluster *cluster = client->cluster;
    TRY(fault(io, cluster, CALL_OBJECT_COPY));
    struct version *found = find(cluster, copy->source_bucket_id, copy->source_key);
    if (found == NULL || found->object.stamp != copy->source_stamp)
        return ERR_STALE;
    TRY(check(&copy->conditions, find(cluster, copy->bucket_id, copy->key)));
    struct version source = *found;
    if (found->inline_bytes != NULL)
        source.inline_bytes = mem_copy(found->inline_bytes, found->object.bytes);
    if (found->blocks != NULL)
        source.blocks = mem_copy(found->blocks, found->object.block_count * sizeof *found->blocks);
    struct version *version = place(io, cluster, copy->bucket_id, copy->key, out_written);
    uint64_t stamp = version->object.stamp;
    uint64_t modified_ms = version->object.modified_ms;
    memcpy(source.key, version->key, sizeof source.key);
    *version = source;
    version->object.bucket_id = copy->bucket_id;
    version->object.stamp = stamp;
    version->object.modified_ms = modified_ms;
    version->object.checksum = copy->checksum;
    version->object.attributes.bytes = copy->attributes.bytes;
    version->attributes = mem_copy(copy->attributes.data, copy->attributes.bytes);
    return OK;
}

enum err meta_object_find(struct io *io, struct meta_client *client, uint64_t bucket_id,
                          struct slice key, bool inline_too, struct object **out_object)
{
    struct cluster *cluster = client->cluster;
    TRY(fault(io, cluster, CALL_OBJECT_FIND));
    const struct version *version = find(cluster, bucket_id, key);
    if (version == NULL)
        return ERR_NOT_FOUND;
    const struct object *from = &version->object;
    bool inline_bytes = inline_too && from->layout == LAYOUT_INLINE;
    size_t bytes = sizeof *from + strlen(version->key) + from->attributes.bytes +
                   from->block_count * sizeof *from->blocks + (inline_bytes ? from->bytes : 0);
    struct object *object = mem_alloc(bytes);
    *object = *from;
    struct block_ref *blocks = (struct block_ref *)(object + 1);
    if (from->block_count > 0)
        memcpy(blocks, version->blocks, from->block_count * sizeof *blocks);
    object->blocks = blocks;
    uint8_t *at = (uint8_t *)(blocks + from->block_count);
    memcpy(at, version->key, strlen(version->key));
    object->key = slice_of(at, strlen(version->key));
    at += object->key.bytes;
    memcpy(at, version->attributes, from->attributes.bytes);
    object->attributes = slice_of(at, from->attributes.bytes);
    at += from->attributes.bytes;
    if (inline_bytes) {
        memcpy(at, version->inline_bytes, from->bytes);
        object->inline_bytes = slice_of(at, from->bytes);
    }
    *out_object = object;
    return OK;
}

enum err meta_object_extents(struct io *io, struct meta_client *client, const struct object *object,
                             uint64_t offset, uint32_t max, struct extent_page **out_page)
{
    struct cluster *cluster = client->cluster;
    TRY(fault(io, cluster, CALL_OBJECT_EXTENTS));
    struct version *version = find(cluster, object->bucket_id, object->key);
    if (version == NULL || version->object.stamp != object->stamp)
        return ERR_STALE;
    struct extent_page *page = mem_new(struct extent_page);
    page->extents = mem_alloc_array(object->block_count, sizeof *page->extents);
    uint64_t at = 0;
    for (uint32_t i = 0; i < object->block_count && page->count < max; i++) {
        if (at + object->blocks[i].bytes > offset)
            page->extents[page->count++] = (struct extent){.offset = at, .ref = object->blocks[i]};
        at += object->blocks[i].bytes;
    }
    *out_page = page;
    return OK;
}

enum err meta_object_parts(struct io *io, struct meta_client *client, const struct object *object,
                           uint32_t after, uint32_t max, struct part_page **out_page)
{
    TRY(io_yield(io));
    struct version *version = find(client->cluster, object->bucket_id, object->key);
    if (version == NULL || version->object.stamp != object->stamp)
        return ERR_STALE;
    struct part_page *page = mem_new(struct part_page);
    page->parts = mem_alloc_array(PARTS_MAX, sizeof *page->parts);
    for (uint32_t i = 0; i < version->part_count; i++) {
        if (version->parts[i].number <= after)
            continue;
        if (page->count == max)
            page->truncated = true;
        else
            page->parts[page->count++] = version->parts[i];
    }
    *out_page = page;
    return OK;
}

enum err meta_object_delete(struct io *io, struct meta_client *client, uint64_t bucket_id,
                            struct slice key, const struct write_conditions *conditions,
                            bool *out_deleted)
{
    TRY(io_yield(io));
    struct version *version = find(client->cluster, bucket_id, key);
    TRY(check(conditions, version));
    *out_deleted = version != NULL;
    if (version != NULL)
        version_deinit(version);
    return OK;
}

enum err meta_block_stage(struct io *io, struct meta_client *client, uint64_t bucket_id,
                          const struct lease *lease, const struct block_ref *ref, uint64_t *intent)
{
    (void)bucket_id;
    assert_int_equal(lease->volume, ref->id.volume);
    if (*intent == 0)
        *intent = ++client->cluster->intents;
    return io_yield(io);
}

enum err meta_intent_renew(struct io *io, struct meta_client *client, uint64_t intent)
{
    assert_true(intent > 0 && intent <= client->cluster->intents);
    return io_yield(io);
}

enum err meta_intent_drop(struct io *io, struct meta_client *client, uint64_t intent)
{
    (void)io;
    assert_true(intent > 0 && intent <= client->cluster->intents);
    client->cluster->intents_dropped++;
    return OK;
}

/* Operations that are tested elsewhere. */
#define ABSENT(name, ...)                                                                          \
    enum err name(struct io *io, struct meta_client *client, __VA_ARGS__)                          \
    {                                                                                              \
        (void)io;                                                                                  \
        (void)client;                                                                              \
        return ERR_UNSUPPORTED;                                                                    \
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
ABSENT(meta_bucket_create, struct slice name, struct slice owner, struct slice region,
       struct bucket *out_bucket)
ABSENT(meta_bucket_list, struct slice prefix, struct slice after, uint32_t max,
       struct bucket_page **out_page)
ABSENT(meta_bucket_delete, struct slice name)
ABSENT(meta_object_list, const struct list_query *query, struct list_page **out_page)
ABSENT(meta_bucket_config_put, uint64_t bucket_id, enum bucket_config_kind kind, struct slice value)
ABSENT(meta_bucket_config_find, uint64_t bucket_id, enum bucket_config_kind kind,
       struct bytes *out_value)
ABSENT(meta_object_tag, uint64_t bucket_id, struct slice key, struct slice tags)
ABSENT(meta_upload_create, const struct upload_create *create, uint64_t *out_upload_id)
ABSENT(meta_upload_find, uint64_t bucket_id, struct slice key, uint64_t upload_id,
       struct upload **out_upload)
ABSENT(meta_upload_list, const struct list_query *query, struct list_page **out_page)
ABSENT(meta_part_put, uint64_t upload_id, uint32_t part_number, const struct object_put *put,
       struct object_written *out_written)
ABSENT(meta_part_list, uint64_t bucket_id, struct slice key, uint64_t upload_id, uint32_t after,
       uint32_t max, struct part_page **out_page)
ABSENT(meta_upload_complete, const struct upload_complete *complete,
       struct object_written *out_written)
ABSENT(meta_upload_abort, uint64_t bucket_id, struct slice key, uint64_t upload_id)
#pragma GCC diagnostic pop

/* --- blocks --- */

struct block_writer {
    struct cluster *cluster;
    struct stored_block *block;
};

static struct stored_block *block_new(struct cluster *cluster, size_t capacity)
{
    assert_true(cluster->block_count < BLOCKS_MAX);
    struct stored_block *block = &cluster->blocks[cluster->block_count++];
    block->id = (struct block_id){.volume = 1, .sequence = cluster->block_count};
    block->data = mem_alloc(capacity);
    return block;
}

enum err storage_check_space(struct storage_client *client)
{
    (void)client;
    return OK;
}

enum err block_writer_open(struct io *io, struct storage_client *client,
                           const struct block_hint *hint, uint32_t bytes_expected,
                           struct block_writer **out_writer)
{
    struct cluster *cluster = client->cluster;
    TRY(fault(io, cluster, CALL_BLOCK_OPEN));
    assert_int_equal(hint->bucket_id, 1);
    struct block_writer *writer = mem_new(struct block_writer);
    writer->cluster = cluster;
    writer->block = block_new(cluster, bytes_expected > 0 ? bytes_expected : BLOCK_BYTES_MAX);
    *out_writer = writer;
    return OK;
}

enum err block_writer_append(struct io *io, struct block_writer *writer, struct buf *buf,
                             size_t offset, size_t bytes)
{
    TRY(fault(io, writer->cluster, CALL_BLOCK_APPEND));
    memcpy(writer->block->data + writer->block->bytes, buf->data + offset, bytes);
    writer->block->bytes += (uint32_t)bytes;
    return OK;
}

enum err block_writer_finish(struct io *io, struct block_writer *writer, struct block_ref *out_ref,
                             struct lease *out_lease)
{
    TRY(fault(io, writer->cluster, CALL_BLOCK_FINISH));
    *out_ref = (struct block_ref){.id = writer->block->id, .bytes = writer->block->bytes};
    *out_lease = (struct lease){.volume = 1, .from = 1, .to = UINT64_MAX};
    return OK;
}

void block_writer_free(struct block_writer *writer)
{
    mem_free(writer);
}

struct block_id block_writer_id(const struct block_writer *writer)
{
    return writer->block->id;
}

enum err block_read(struct io *io, struct storage_client *client, const struct block_ref *ref,
                    uint32_t offset, uint32_t bytes, struct buf_pool *pool, struct buf **out_buf,
                    size_t *out_offset)
{
    struct cluster *cluster = client->cluster;
    TRY(fault(io, cluster, CALL_BLOCK_READ));
    assert_true(bytes > 0 && bytes <= BLOCK_READ_BYTES_MAX);
    assert_true(offset + bytes <= ref->bytes);
    assert_true(cluster->guards > 0);
    struct stored_block *block = &cluster->blocks[ref->id.sequence - 1];
    assert_int_equal(block->bytes, ref->bytes);
    TRY(buf_pool_get(pool, bytes + 17, out_buf));
    memcpy((*out_buf)->data + 17, block->data + offset, bytes);
    *out_offset = 17;
    return OK;
}

void read_guard_begin(struct io *io, struct storage_client *client, struct read_guard *guard)
{
    (void)io;
    *guard = (struct read_guard){.epoch = 1};
    client->cluster->guards++;
}

void read_guard_end(struct io *io, struct storage_client *client, struct read_guard *guard)
{
    (void)io;
    assert_int_equal(guard->epoch, 1);
    client->cluster->guards--;
}

void cluster_add_multipart(struct cluster *cluster, const char *key, const uint32_t *part_bytes,
                           uint32_t part_count)
{
    assert_true(part_count <= PARTS_MAX);
    struct object_written written;
    struct version *version = place(cluster->io, cluster, 1, slice_of_text(key), &written);
    version->attributes = mem_copy("\1\0", 2);
    version->object.attributes.bytes = 2;
    version->object.layout = LAYOUT_PARTS;
    version->object.etag.part_count = part_count;
    version->object.block_count = part_count;
    version->blocks = mem_alloc_array(part_count, sizeof *version->blocks);
    version->part_count = part_count;
    uint64_t offset = 0;
    for (uint32_t i = 0; i < part_count; i++) {
        struct stored_block *block = block_new(cluster, part_bytes[i]);
        block->bytes = part_bytes[i];
        for (uint32_t at = 0; at < part_bytes[i]; at++)
            block->data[at] = cluster_pattern(offset++);
        version->blocks[i] = (struct block_ref){.id = block->id, .bytes = block->bytes};
        version->parts[i] = (struct part){.number = 2 * i + 1, .id = i + 1, .bytes = block->bytes};
    }
    version->object.bytes = offset;
}

/* --- requests --- */

struct running {
    struct cluster *cluster;
    const struct call *call;
    struct memory_exchange *memory;
    struct bytes body;
    struct bytes authorization;
    char date[S3_DATE_BASIC_CHARS + 1];
    char sha256[65];
    char decoded[24];
    char length[24];
    bool done;
};

static const char *const mode_texts[] = {
    [S3_PAYLOAD_UNSIGNED] = "UNSIGNED-PAYLOAD",
    [S3_PAYLOAD_CHUNKS_SIGNED] = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    [S3_PAYLOAD_CHUNKS_SIGNED_TRAILER] = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    [S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER] = "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
};

static enum s3_payload_mode mode_of(const struct call *call)
{
    return call->mode == 0 ? S3_PAYLOAD_SIGNED : call->mode;
}

static const char *content_sha256(struct running *run)
{
    const struct call *call = run->call;
    if (call->content_sha256 != NULL)
        return call->content_sha256;
    if (mode_of(call) != S3_PAYLOAD_SIGNED)
        return mode_texts[mode_of(call)];
    uint8_t digest[DIGEST_SHA256_BYTES];
    digest_sha256(run->cluster->methods, call->body, digest);
    text_hex(slice_of(digest, sizeof digest), run->sha256);
    return run->sha256;
}

static void header(struct running *run, const char *name, const char *value)
{
    memory_exchange_header(run->memory, name, slice_of_text(value));
}

static bool is_chunked(const struct call *call)
{
    return mode_of(call) != S3_PAYLOAD_SIGNED && mode_of(call) != S3_PAYLOAD_UNSIGNED;
}

static void add_headers(struct running *run)
{
    const struct call *call = run->call;
    header(run, "host", "127.0.0.1:9000");
    header(run, "x-amz-date", run->date);
    header(run, "x-amz-content-sha256", content_sha256(run));
    for (int i = 0; call->headers[i] != NULL; i += 2)
        header(run, call->headers[i], call->headers[i + 1]);
    if (call->trailer != NULL)
        header(run, "x-amz-trailer", call->trailer);
    if (is_chunked(call) && !call->without_decoded_length) {
        snprintf(run->decoded, sizeof run->decoded, "%zu", call->body.bytes);
        header(run, "x-amz-decoded-content-length", run->decoded);
    }
}

static void encode_chunks(struct running *run, struct s3_chunk_signing *signing)
{
    const struct call *call = run->call;
    struct slice rest = call->body;
    size_t step = call->chunk_bytes == 0 ? rest.bytes : call->chunk_bytes;
    while (rest.bytes > 0) {
        s3_signer_chunk(signing, slice_first(rest, step), &run->body);
        rest = slice_skip(rest, step);
    }
    s3_signer_chunk(signing, rest, &run->body);
    struct s3_header trailer = {.name = slice_of_text(call->trailer),
                                .value = slice_of_text(call->trailer_value)};
    if (mode_of(call) == S3_PAYLOAD_CHUNKS_SIGNED)
        bytes_append_text(&run->body, "\r\n");
    else
        s3_signer_trailer(signing, &trailer, call->trailer == NULL ? 0 : 1, &run->body);
}

static void encode_body(struct running *run, struct s3_chunk_signing *signing)
{
    const struct call *call = run->call;
    bool is_signed = mode_of(call) != S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER;
    run->body.max = 2 * call->body.bytes + 65536;
    if (is_chunked(call))
        encode_chunks(run, is_signed ? signing : NULL);
    else
        bytes_append(&run->body, call->body);
    if (call->flip_at > 0)
        run->body.data[call->flip_at - 1] ^= 1;
    snprintf(run->length, sizeof run->length, "%zu", run->body.bytes);
    run->body.bytes -= call->cut_bytes;
    run->memory->body = bytes_slice(&run->body);
    if (call->client_leaves)
        run->memory->abort_at = run->body.bytes / 2;
    run->memory->client_gone = call->client_leaves && run->body.bytes == 0;
    run->memory->read_bytes_max = call->read_bytes_max;
}

static void serve(struct io *io, void *argument)
{
    struct running *run = argument;
    const struct call *call = run->call;
    struct memory_exchange *memory = run->memory;
    struct s3_signer signer = {
        .access_key = SLICE_LITERAL(ACCESS_KEY),
        .secret = SLICE_LITERAL(SECRET),
        .region = SLICE_LITERAL("us-east-1"),
        .now_ms = io_wall_ms(io),
    };
    s3_date_format_basic(signer.now_ms, run->date);
    memory_exchange_init(memory, call->method, slice_of_text(call->target), slice_of(NULL, 0),
                         ANSWER_BYTES_MAX);
    memory->exchange.started_ns = io_now_ns(io);
    memory->exchange.request_id = 7;
    add_headers(run);
    struct s3_chunk_signing signing;
    run->authorization.max = 4096;
    if (!call->anonymous) {
        s3_signer_authorize(&signer, &memory->exchange.head, &run->authorization, &signing);
        memory_exchange_header(memory, "authorization", bytes_slice(&run->authorization));
    }
    encode_body(run, &signing);
    if (call->without_length)
        header(run, "transfer-encoding", "chunked");
    else
        header(run, "content-length", run->length);
    struct s3_failure failure = {0};
    assert_int_equal(memory_exchange_ready(memory, &failure), S3_OK);
    gateway_serve(io, run->cluster->gateway, &memory->exchange);
    run->done = true;
}

void cluster_call(struct cluster *cluster, const struct call *call, struct memory_exchange *memory)
{
    struct running run = {.cluster = cluster, .call = call, .memory = memory};
    cluster_run(cluster, serve, &run, &run.done);
    bytes_deinit(&run.body);
    bytes_deinit(&run.authorization);
    memory->exchange.head.header_count = 0; /* their texts are gone */
}

struct crowd {
    struct running *running;
    uint32_t count;
};

static bool crowd_finished(void *context)
{
    const struct crowd *crowd = context;
    for (uint32_t i = 0; i < crowd->count; i++)
        if (!crowd->running[i].done)
            return false;
    return true;
}

uint64_t cluster_call_together(struct cluster *cluster, const struct call *call, uint32_t count)
{
    struct crowd crowd = {
        .running = mem_alloc_array(count, sizeof *crowd.running),
        .count = count,
    };
    struct memory_exchange *memories = mem_alloc_array(count, sizeof *memories);
    for (uint32_t i = 0; i < count; i++) {
        crowd.running[i] =
            (struct running){.cluster = cluster, .call = call, .memory = &memories[i]};
        assert_int_equal(sim_spawn(cluster->machine, 0, serve, &crowd.running[i]), OK);
    }
    assert_true(sim_run(cluster->sim, crowd_finished, &crowd, UINT64_MAX));
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(memories[i].exchange.status, 200);
        bytes += memories[i].answer_bytes;
        bytes_deinit(&crowd.running[i].body);
        bytes_deinit(&crowd.running[i].authorization);
        memory_exchange_deinit(&memories[i]);
    }
    mem_free(memories);
    mem_free(crowd.running);
    return bytes;
}

unsigned cluster_status(struct cluster *cluster, const struct call *call)
{
    struct memory_exchange memory;
    cluster_call(cluster, call, &memory);
    unsigned status = memory.exchange.status;
    memory_exchange_deinit(&memory);
    return status;
}

const char *cluster_code(struct memory_exchange *memory, char out[64])
{
    const char *begin = memory->answer.bytes == 0
                            ? NULL
                            : memmem(memory->answer.data, memory->answer.bytes, "<Code>", 6);
    out[0] = '\0';
    if (begin == NULL)
        return out;
    size_t bytes = strcspn(begin + 6, "<");
    assert_true(bytes < 64);
    memcpy(out, begin + 6, bytes);
    out[bytes] = '\0';
    return out;
}
