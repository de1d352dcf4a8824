/* See meta/offline.h. */
#include "meta/offline.h"
#include "base/mem.h"
#include "entry.h"
#include "log_files.h"
#include "offline_log.h"
#include "raft/raft.h"
#include "read.h"
#include <assert.h>
#include <inttypes.h>

enum {
    COPY_BYTES = 4 << 20,
    NAMES_BYTES_MAX = 64 << 20,
    STREAM_BYTES_MAX = LOG_BATCH_BLOCKS_MAX * LOG_PAYLOAD_BYTES,
    CACHE_BYTES = 64 << 20,
    WRITE_BUFFER_BYTES = 32 << 20,
    BLOB_BYTES_MIN = 4096, /* as the replica's own store */
    BUCKETS_MAX = 1000,
    EXTENTS_MAX = 1024,
};

struct meta_offline {
    char *scratch;
    struct lane *lane;
    struct kv *kv;
    struct state *state;
};

/* One job of the lane: fn(lane, offline, argument). */
typedef enum err offline_fn(struct lane *lane, struct meta_offline *offline, void *argument);
struct offline_job {
    struct meta_offline *offline;
    offline_fn *fn;
    void *argument;
    enum err err;
};

static void run_job(struct lane *lane, void *argument)
{
    struct offline_job *job = argument;
    job->err = job->fn(lane, job->offline, job->argument);
}

static enum err on_lane(struct io *io, struct meta_offline *offline, offline_fn *fn, void *argument)
{
    struct offline_job job = {.offline = offline, .fn = fn, .argument = argument};
    TRY(lane_run(io, offline->lane, run_job, &job));
    return job.err;
}

/* --- the copy --- */

static enum err copy_file(struct io *io, const char *from_path, const char *to_path)
{
    AUTO(file) from = NULL;
    AUTO(file) to = NULL;
    AUTO(buf) buf = buf_new(COPY_BYTES);
    TRY(io_open(io, from_path, 0, &from));
    TRY(io_open(io, to_path, FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE, &to));
    uint64_t offset = 0;
    size_t got = 0;
    do {
        TRY(io_read(io, from, buf, 0, COPY_BYTES, offset, &got));
        struct io_part part = {.buf = buf, .bytes = got};
        if (got > 0)
            TRY(io_write(io, to, &part, 1, offset, 0));
        offset += got;
    } while (got == COPY_BYTES);
    return OK;
}

/* A store is one flat directory. */
static enum err copy_directory(struct io *io, const char *from, const char *to)
{
    AUTO_VALUE(bytes) names = {.max = NAMES_BYTES_MAX};
    TRY(io_list_directory(io, from, &names));
    TRY(io_make_directory(io, to));
    for (size_t at = 0; at < names.bytes; at += strlen((const char *)names.data + at) + 1) {
        AUTO_STRING from_path = mem_format("%s/%s", from, (const char *)names.data + at);
        AUTO_STRING to_path = mem_format("%s/%s", to, (const char *)names.data + at);
        struct file_info info;
        TRY(io_stat(io, from_path, &info));
        if (!info.is_directory)
            TRY(copy_file(io, from_path, to_path));
    }
    return OK;
}

static enum err open_copy(struct lane *lane, struct meta_offline *offline, void *argument)
{
    const struct meta_offline_options *options = argument;
    AUTO_STRING path = mem_format("%s/state", offline->scratch);
    struct kv_options kv_options = {.cache_bytes = CACHE_BYTES,
                                    .write_buffer_bytes = WRITE_BUFFER_BYTES,
                                    .blob_bytes_min = BLOB_BYTES_MIN};
    enum err err = kv_open(options->kv, lane, path, &kv_options, &offline->kv);
    if (err == ERR_NOT_FOUND)
        return FAIL(ERR_CORRUPT, "no store in the copy path=%s", path);
    TRY(err);
    return state_open(lane, offline->kv, &offline->state);
}

static enum err copy_store(struct io *io, const struct meta_offline_options *options,
                           uint64_t replica_id, struct meta_offline *offline)
{
    AUTO_STRING from = mem_format("%s/state/%016" PRIx64, options->directory, replica_id);
    AUTO_STRING to = mem_format("%s/state", options->scratch);
    TRY(io_make_directory(io, options->scratch));
    offline->scratch = mem_format("%s", options->scratch);
    enum err err = options->copy_store != NULL ? options->copy_store(options->context, from, to)
                                               : copy_directory(io, from, to);
    if (err == ERR_NOT_FOUND)
        return FAIL(ERR_CORRUPT, "store is missing path=%s", from);
    return err;
}

/* --- what the log has beyond the store --- */

struct replay {
    const struct log_group *group;
    struct bytes stream; /* of one batch */
    uint64_t first;      /* entries [first, end) of the group are in it */
    uint64_t end;
    struct log_record *records; /* those entries, borrowed from the stream */
    uint64_t count, capacity;
};

static enum err take_records(struct replay *replay)
{
    struct slice stream = bytes_slice(&replay->stream);
    replay->count = 0;
    while (stream.bytes > 0) {
        struct log_record record;
        TRY(log_record_decode(&stream, &record, NULL));
        uint64_t next = replay->first + replay->count;
        if (record.group != replay->group->id)
            continue;
        /* What a new leader replaced within this batch. */
        if (record.type == LOG_RECORD_TRUNCATE && record.index < next)
            replay->count = record.index > replay->first ? record.index - replay->first : 0;
        next = replay->first + replay->count;
        if (record.type != LOG_RECORD_ENTRY || record.index != next || next >= replay->end)
            continue;
        READ_GROW(replay->records, replay->count, replay->capacity);
        replay->records[replay->count++] = record;
    }
    if (replay->count == 0)
        return FAIL(ERR_CORRUPT, "log entry=%" PRIu64 " lost", replay->first);
    return OK;
}

static enum err apply_record(struct lane *lane, struct state *state,
                             const struct log_record *record, struct bytes *result)
{
    bytes_clear(result);
    switch ((enum raft_entry_type)record->kind) {
    case RAFT_COMMAND:
        return state_apply(lane, state, record->index, record->term, record->bytes, result);
    case RAFT_NOOP:
        return state_apply_other(lane, state, record->index, record->term, NULL);
    case RAFT_MEMBERSHIP:
        return state_apply_other(lane, state, record->index, record->term, &record->bytes);
    }
    return FAIL(ERR_UNSUPPORTED, "entry type=%u", record->kind);
}

static enum err apply_records(struct lane *lane, struct meta_offline *offline, void *argument)
{
    struct replay *replay = argument;
    AUTO_VALUE(bytes) result = {.max = RESULT_BYTES_MAX};
    TRY(take_records(replay));
    for (uint64_t i = 0; i < replay->count; i++)
        TRY(apply_record(lane, offline->state, &replay->records[i], &result));
    return OK;
}

static enum err replay_all(struct io *io, struct meta_offline *offline,
                           const struct offline_log *log, struct replay *replay)
{
    while (meta_offline_index(offline) < replay->group->last_index) {
        replay->first = meta_offline_index(offline) + 1;
        const struct log_span *span = log_group_span(replay->group, replay->first, &replay->end);
        if (span == NULL)
            return FAIL(ERR_CORRUPT, "entry=%" PRIu64 " is neither in the store nor in the log",
                        replay->first);
        TRY(log_file_read_batch(io, log->directory, log->log_id, span, &replay->stream));
        TRY(on_lane(io, offline, apply_records, replay));
    }
    return OK;
}

static enum err replay_log(struct io *io, struct meta_offline *offline,
                           const struct offline_log *log)
{
    struct replay replay = {.group = log_state_group(&log->state, log->found.group_id),
                            .stream = {.max = STREAM_BYTES_MAX}};
    enum err err = replay.group == NULL ? OK : replay_all(io, offline, log, &replay);
    bytes_deinit(&replay.stream);
    mem_free(replay.records);
    return err;
}

/* --- open and close --- */

static enum err open_all(struct io *io, const struct meta_offline_options *options,
                         const struct offline_log *log, struct meta_offline *offline)
{
    if (log->found.replica_id == 0)
        return FAIL(ERR_CORRUPT, "identity damaged directory=%s", options->directory);
    TRY(lane_new(io, "meta-offline", 1, &offline->lane));
    TRY(copy_store(io, options, log->found.replica_id, offline));
    struct meta_offline_options copy = *options;
    TRY(on_lane(io, offline, open_copy, &copy));
    return replay_log(io, offline, log);
}

enum err meta_offline_open(struct io *io, const struct meta_offline_options *options,
                           struct meta_offline **out_offline)
{
    struct offline_log log;
    TRY(offline_log_load(io, options->directory, &log));
    struct meta_offline *offline = mem_new(struct meta_offline);
    enum err err = open_all(io, options, &log, offline);
    offline_log_deinit(&log);
    if (err != OK) {
        meta_offline_close(io, offline);
        return err;
    }
    *out_offline = offline;
    return OK;
}

void meta_offline_close(struct io *io, struct meta_offline *offline)
{
    if (offline == NULL)
        return;
    lane_free(offline->lane);
    state_free(offline->state);
    kv_close(offline->kv);
    if (offline->scratch != NULL)
        (void)io_remove_tree(io, offline->scratch); /* nobody relies on its absence */
    mem_free(offline->scratch);
    mem_free(offline);
}

uint64_t meta_offline_index(const struct meta_offline *offline)
{
    return state_position(offline->state).index;
}

static enum err verify(struct lane *lane, struct meta_offline *offline, void *argument)
{
    (void)argument;
    /* The entries replayed are in memory; what they made is not on any drive. */
    return kv_verify(lane, offline->kv);
}

enum err meta_offline_verify(struct io *io, struct meta_offline *offline)
{
    return on_lane(io, offline, verify, NULL);
}

/* --- reads --- */

struct bucket_query {
    struct slice name;
    struct bucket_row row;
    struct bucket_page *page;
};

static enum err find_bucket(struct lane *lane, struct meta_offline *offline, void *argument)
{
    struct bucket_query *query = argument;
    return state_bucket_find(lane, offline->state, query->name, &query->row);
}

enum err meta_offline_bucket_find(struct io *io, struct meta_offline *offline, struct slice name,
                                  struct bucket *out_bucket)
{
    struct bucket_query query = {.name = name};
    TRY(on_lane(io, offline, find_bucket, &query));
    if (query.row.state == BUCKET_CREATING)
        return FAIL(ERR_NOT_FOUND, "bucket was never made whole");
    *out_bucket = query.row.bucket;
    return OK;
}

static enum err list_buckets(struct lane *lane, struct meta_offline *offline, void *argument)
{
    struct bucket_query *query = argument;
    return state_bucket_list(lane, offline->state, slice_of(NULL, 0), query->name, BUCKETS_MAX,
                             &query->page);
}

enum err meta_offline_bucket_list(struct io *io, struct meta_offline *offline, struct slice after,
                                  struct bucket_page **out_page)
{
    struct bucket_query query = {.name = after};
    TRY(on_lane(io, offline, list_buckets, &query));
    *out_page = query.page;
    return OK;
}

struct object_query {
    uint64_t bucket_id;
    struct slice key; /* or the one before */
    uint64_t offset;
    const struct object *object;
    struct object *found;
    struct list_page *page;
    struct extent_page *extents;
};

static enum err find_object(struct lane *lane, struct meta_offline *offline, void *argument)
{
    struct object_query *query = argument;
    return state_object_find(lane, offline->state, query->bucket_id, query->key, true,
                             &query->found);
}

enum err meta_offline_object_find(struct io *io, struct meta_offline *offline, uint64_t bucket_id,
                                  struct slice key, struct object **out_object)
{
    struct object_query query = {.bucket_id = bucket_id, .key = key};
    TRY(on_lane(io, offline, find_object, &query));
    *out_object = query.found;
    return OK;
}

static enum err list_objects(struct lane *lane, struct meta_offline *offline, void *argument)
{
    struct object_query *query = argument;
    struct list_query list = {
        .bucket_id = query->bucket_id, .after = query->key, .max = META_LIST_MAX};
    return state_list(lane, offline->state, &list, false, &query->page);
}

enum err meta_offline_object_list(struct io *io, struct meta_offline *offline, uint64_t bucket_id,
                                  struct slice after, struct list_page **out_page)
{
    struct object_query query = {.bucket_id = bucket_id, .key = after};
    TRY(on_lane(io, offline, list_objects, &query));
    *out_page = query.page;
    return OK;
}

static enum err list_extents(struct lane *lane, struct meta_offline *offline, void *argument)
{
    struct object_query *query = argument;
    return state_object_extents(lane, offline->state, query->object, query->offset, EXTENTS_MAX,
                                &query->extents);
}

static struct extent_page *extents_of_blocks(const struct object *object, uint64_t offset)
{
    struct extent_page *page = mem_new(struct extent_page);
    page->extents = mem_alloc_array(object->block_count + (size_t)1, sizeof *page->extents);
    uint64_t at = 0;
    for (uint32_t i = 0; i < object->block_count; i++) {
        struct extent extent = {.offset = at, .ref = object->blocks[i]};
        at += extent.ref.bytes;
        if (at > offset)
            page->extents[page->count++] = extent;
    }
    return page;
}

enum err meta_offline_extents(struct io *io, struct meta_offline *offline,
                              const struct object *object, uint64_t offset,
                              struct extent_page **out_page)
{
    assert(object->layout != LAYOUT_INLINE);
    if (object->layout == LAYOUT_BLOCKS) {
        *out_page = extents_of_blocks(object, offset);
        return OK;
    }
    struct object_query query = {.object = object, .offset = offset};
    enum err err = on_lane(io, offline, list_extents, &query);
    /* Nobody writes here: a manifest that nothing refers to is damage. */
    if (err == ERR_STALE)
        return FAIL(ERR_CORRUPT, "manifest without its referrer");
    TRY(err);
    *out_page = query.extents;
    return OK;
}

/* --- blocks --- */

struct block_query {
    struct block_id after;
    struct meta_offline_blocks *blocks;
};

/* Rows of one block follow each other: 4a | volume | sequence | kind | id, kinds by rising
 * number, so that a version or part is seen before an intent. */
static enum err take_referrer(struct slice key, struct slice value,
                              struct meta_offline_blocks *blocks)
{
    struct decoder decoder = decoder_of(slice_skip(key, 1));
    struct block_id id = {.volume = decode_key_u64(&decoder)};
    id.sequence = decode_key_u64(&decoder);
    uint8_t kind = decode_key_u8(&decoder);
    (void)decode_key_u64(&decoder); /* which version, part or intent it is */
    TRY(decode_finish(&decoder, "referrer key"));
    bool known = blocks->count > 0 && block_id_equal(blocks->blocks[blocks->count - 1].ref.id, id);
    if (known)
        return OK;
    struct referrer_row row;
    TRY(referrer_row_decode(value, &row));
    if (blocks->count == META_OFFLINE_BLOCKS_MAX) {
        blocks->truncated = true;
        return OK;
    }
    blocks->blocks[blocks->count++] = (struct meta_offline_block){
        .ref = {.id = id, .hash = row.hash, .bytes = row.bytes, .missing = row.missing},
        .pending = kind == REFERRER_INTENT};
    return OK;
}

static enum err list_blocks(struct lane *lane, struct meta_offline *offline, void *argument)
{
    struct block_query *query = argument;
    struct row_key prefix = row_key_table(TABLE_REFERRER);
    struct row_key from = row_key_2(TABLE_REFERRER, query->after.volume, query->after.sequence);
    row_key_next_prefix(&from);
    AUTO(kv_iterator) iterator = read_prefix(lane, offline->state, NULL, &prefix);
    query->blocks->count = 0;
    query->blocks->truncated = false;
    kv_iterator_seek(iterator, row_key_slice(&from));
    for (; kv_iterator_valid(iterator) && !query->blocks->truncated; kv_iterator_next(iterator))
        TRY(take_referrer(kv_iterator_key(iterator), kv_iterator_value(iterator), query->blocks));
    return kv_iterator_error(iterator);
}

enum err meta_offline_block_list(struct io *io, struct meta_offline *offline, struct block_id after,
                                 struct meta_offline_blocks *out_blocks)
{
    struct block_query query = {.after = after, .blocks = out_blocks};
    return on_lane(io, offline, list_blocks, &query);
}
