/* RocksDB behind the operations of backend.h. No write-ahead log; a flush is the sync. */
#include "backend.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <rocksdb/c.h>
#include <unistd.h>

enum {
    WRITE_BUFFER_BYTES_DEFAULT = 8 << 20,
    CACHE_BYTES_DEFAULT = 32 << 20,
    MANIFEST_BYTES_MAX = 16 << 20,
    INFO_LOG_BYTES_MAX = 1 << 20,
    INFO_LOG_COUNT_MAX = 2,
    BACKGROUND_JOBS_MAX = 2,
    FILTER_BITS_PER_KEY = 10,
    /* Numbers of enums that the C interface takes as int. */
    INFO_LOG_LEVEL_FATAL = 4,
    READ_TIER_BLOCK_CACHE = 1,
};
/* Of the write buffer. */
static const double MEMTABLE_FILTER_RATIO = 0.02;

struct rocks_kv {
    struct kv kv;
    char *path;
    rocksdb_t *db;
    rocksdb_readoptions_t *read;
    rocksdb_readoptions_t *read_memory;
    rocksdb_writeoptions_t *write;
    rocksdb_flushoptions_t *flush;
};

struct rocks_batch {
    struct kv_batch batch;
    rocksdb_writebatch_t *changes;
};

struct rocks_snapshot {
    struct kv_snapshot snapshot;
    const rocksdb_snapshot_t *point;
};

struct rocks_iterator {
    struct kv_iterator iterator;
    rocksdb_readoptions_t *read;
    rocksdb_iterator_t *cursor;
};

static struct rocks_kv *rocks_of(struct kv *kv)
{
    return CONTAINER_OF(kv, struct rocks_kv, kv);
}

static struct rocks_batch *batch_of(struct kv_batch *batch)
{
    return CONTAINER_OF(batch, struct rocks_batch, batch);
}

static struct rocks_iterator *iterator_of(struct kv_iterator *iterator)
{
    return CONTAINER_OF(iterator, struct rocks_iterator, iterator);
}

static const struct rocks_iterator *const_iterator_of(const struct kv_iterator *iterator)
{
    return CONTAINER_OF((uintptr_t)iterator, struct rocks_iterator, iterator);
}

/* --- errors: the C interface gives a status as text only (rocksdb/util/status.cc) --- */

static bool starts_with(const char *text, const char *prefix)
{
    return slice_starts_with(slice_of_text(text), slice_of_text(prefix));
}

static enum err classify(const char *message)
{
    if (starts_with(message, "Result incomplete"))
        return ERR_WOULD_BLOCK;
    /* A file that the store names and that is not there is damage, not a failing device. */
    if (starts_with(message, "Corruption") || strstr(message, "No such file or directory") != NULL)
        return ERR_CORRUPT;
    if (strstr(message, "No space left on device") != NULL)
        return ERR_NO_SPACE;
    if (starts_with(message, "IO error") && strstr(message, "/LOCK: ") != NULL)
        return ERR_LOCKED;
    if (starts_with(message, "Not implemented"))
        return ERR_UNSUPPORTED;
    return ERR_IO;
}

/* OK when `message` is NULL; frees it. */
static enum err convert(const char *path, const char *what, char *message)
{
    if (message == NULL)
        return OK;
    enum err err = classify(message);
    /* Here and not by the caller, because only the message names the damaged file. */
    if (err == ERR_CORRUPT || err == ERR_IO)
        log_error("kv: store failed path=%s in=%s message=%s", path, what, message);
    enum err raised = FAIL(err, "kv path=%s in=%s message=%s", path, what, message);
    rocksdb_free(message);
    return raised;
}

static const char *text_of(struct slice slice)
{
    /* RocksDB wants a pointer even for an empty slice. */
    return slice.bytes == 0 ? "" : (const char *)slice.data;
}

/* --- reading --- */

static enum err rocks_get(struct kv *kv, struct slice key, bool memory_only,
                          struct bytes *out_value)
{
    struct rocks_kv *rocks = rocks_of(kv);
    char *message = NULL;
    rocksdb_pinnableslice_t *pinned =
        rocksdb_get_pinned(rocks->db, memory_only ? rocks->read_memory : rocks->read, text_of(key),
                           key.bytes, &message);
    TRY(convert(rocks->path, "get", message));
    if (pinned == NULL)
        return FAIL(ERR_NOT_FOUND, "no such key");
    size_t bytes = 0;
    const char *data = rocksdb_pinnableslice_value(pinned, &bytes);
    enum err err = OK;
    if (bytes > out_value->max - out_value->bytes)
        err = FAIL(ERR_LIMIT, "value bytes=%zu", bytes);
    else
        bytes_append(out_value, slice_of(data, bytes));
    rocksdb_pinnableslice_destroy(pinned);
    return err;
}

static struct kv_snapshot *rocks_snapshot_new(struct kv *kv)
{
    struct rocks_snapshot *snapshot = mem_new(struct rocks_snapshot);
    snapshot->point = rocksdb_create_snapshot(rocks_of(kv)->db);
    return &snapshot->snapshot;
}

static void rocks_snapshot_free(struct kv_snapshot *base)
{
    struct rocks_snapshot *snapshot = CONTAINER_OF(base, struct rocks_snapshot, snapshot);
    rocksdb_release_snapshot(rocks_of(base->kv)->db, snapshot->point);
    mem_free(snapshot);
}

static struct kv_iterator *rocks_iterator_new(struct kv *kv, struct kv_snapshot *base,
                                              struct slice from, struct slice to)
{
    struct rocks_iterator *iterator = mem_new(struct rocks_iterator);
    iterator->read = rocksdb_readoptions_create();
    if (base != NULL)
        rocksdb_readoptions_set_snapshot(
            iterator->read, CONTAINER_OF(base, struct rocks_snapshot, snapshot)->point);
    if (from.bytes > 0)
        rocksdb_readoptions_set_iterate_lower_bound(iterator->read, text_of(from), from.bytes);
    if (to.bytes > 0)
        rocksdb_readoptions_set_iterate_upper_bound(iterator->read, text_of(to), to.bytes);
    iterator->cursor = rocksdb_create_iterator(rocks_of(kv)->db, iterator->read);
    return &iterator->iterator;
}

static void rocks_iterator_free(struct kv_iterator *base)
{
    struct rocks_iterator *iterator = iterator_of(base);
    rocksdb_iter_destroy(iterator->cursor);
    rocksdb_readoptions_destroy(iterator->read);
    mem_free(iterator);
}

static bool rocks_valid(const struct kv_iterator *base)
{
    return rocksdb_iter_valid(const_iterator_of(base)->cursor) != 0;
}

static struct slice rocks_key(const struct kv_iterator *base)
{
    size_t bytes = 0;
    const char *data = rocksdb_iter_key(const_iterator_of(base)->cursor, &bytes);
    return slice_of(data, bytes);
}

static struct slice rocks_value(const struct kv_iterator *base)
{
    size_t bytes = 0;
    const char *data = rocksdb_iter_value(const_iterator_of(base)->cursor, &bytes);
    return slice_of(data, bytes);
}

static void rocks_seek(struct kv_iterator *base, struct slice key)
{
    rocksdb_iter_seek(iterator_of(base)->cursor, text_of(key), key.bytes);
}

static void rocks_seek_before(struct kv_iterator *base, struct slice key)
{
    rocksdb_iterator_t *cursor = iterator_of(base)->cursor;
    rocksdb_iter_seek_for_prev(cursor, text_of(key), key.bytes); /* last key <= `key` */
    if (rocks_valid(base) && slice_equal(rocks_key(base), key))
        rocksdb_iter_prev(cursor);
}

static void rocks_next(struct kv_iterator *base)
{
    rocksdb_iter_next(iterator_of(base)->cursor);
}

static void rocks_previous(struct kv_iterator *base)
{
    rocksdb_iter_prev(iterator_of(base)->cursor);
}

static enum err rocks_error(const struct kv_iterator *base)
{
    char *message = NULL;
    rocksdb_iter_get_error(const_iterator_of(base)->cursor, &message);
    return convert(rocks_of(base->kv)->path, "iterate", message);
}

/* --- writing --- */

static struct kv_batch *rocks_batch_new(struct kv *kv)
{
    (void)kv;
    struct rocks_batch *batch = mem_new(struct rocks_batch);
    batch->changes = rocksdb_writebatch_create();
    return &batch->batch;
}

static void rocks_batch_free(struct kv_batch *base)
{
    rocksdb_writebatch_destroy(batch_of(base)->changes);
    mem_free(batch_of(base));
}

static void rocks_batch_put(struct kv_batch *base, struct slice key, struct slice value)
{
    rocksdb_writebatch_put(batch_of(base)->changes, text_of(key), key.bytes, text_of(value),
                           value.bytes);
}

static void rocks_batch_delete(struct kv_batch *base, struct slice key)
{
    rocksdb_writebatch_delete(batch_of(base)->changes, text_of(key), key.bytes);
}

static void rocks_batch_delete_range(struct kv_batch *base, struct slice from, struct slice to)
{
    rocksdb_writebatch_delete_range(batch_of(base)->changes, text_of(from), from.bytes, text_of(to),
                                    to.bytes);
}

static void rocks_batch_clear(struct kv_batch *base)
{
    rocksdb_writebatch_clear(batch_of(base)->changes);
}

static enum err rocks_write(struct kv *kv, struct kv_batch *base)
{
    struct rocks_kv *rocks = rocks_of(kv);
    char *message = NULL;
    rocksdb_write(rocks->db, rocks->write, batch_of(base)->changes, &message);
    return convert(rocks->path, "write", message);
}

/* --- whole stores --- */

static enum err rocks_flush(struct kv *kv)
{
    struct rocks_kv *rocks = rocks_of(kv);
    char *message = NULL;
    rocksdb_flush(rocks->db, rocks->flush, &message);
    return convert(rocks->path, "flush", message);
}

/* Make the name of `path` itself durable: RocksDB syncs what is in its directory, not the
 * directory's own entry, without which a flush would be worth nothing. */
static enum err sync_parent(const char *path)
{
    AUTO_STRING parent = mem_format("%s", path);
    for (size_t length = strlen(parent); length > 1 && parent[length - 1] == '/'; length--)
        parent[length - 1] = '\0';
    char *slash = strrchr(parent, '/');
    if (slash == parent)
        slash[1] = '\0';
    else if (slash != NULL)
        *slash = '\0';
    int directory = open(slash == NULL ? "." : parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return FAIL(ERR_IO, "open parent of path=%s errno=%d", path, errno);
    int result = fsync(directory);
    int reason = errno;
    close(directory);
    if (result != 0)
        return FAIL(ERR_IO, "fsync parent of path=%s errno=%d", path, reason);
    return OK;
}

static enum err rocks_checkpoint(struct kv *kv, const char *path)
{
    struct rocks_kv *rocks = rocks_of(kv);
    if (access(path, F_OK) == 0)
        return FAIL(ERR_EXISTS, "checkpoint path=%s", path);
    char *message = NULL;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(rocks->db, &message);
    TRY(convert(rocks->path, "checkpoint", message));
    /* 0: flush first, since there is no log to copy. */
    rocksdb_checkpoint_create(checkpoint, path, 0, &message);
    rocksdb_checkpoint_object_destroy(checkpoint);
    TRY(convert(rocks->path, "checkpoint", message));
    return sync_parent(path);
}

/* The C interface has no VerifyChecksum; reading all that can be read covers every block but those
 * that hold deleted data only. */
static enum err rocks_verify(struct kv *kv)
{
    struct rocks_kv *rocks = rocks_of(kv);
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(read, 1);
    rocksdb_readoptions_set_fill_cache(read, 0);
    rocksdb_iterator_t *cursor = rocksdb_create_iterator(rocks->db, read);
    for (rocksdb_iter_seek_to_first(cursor); rocksdb_iter_valid(cursor);
         rocksdb_iter_next(cursor)) {
        size_t bytes = 0;
        (void)rocksdb_iter_value(cursor, &bytes); /* a blob is read when asked for */
    }
    char *message = NULL;
    rocksdb_iter_get_error(cursor, &message);
    rocksdb_iter_destroy(cursor);
    rocksdb_readoptions_destroy(read);
    return convert(rocks->path, "verify", message);
}

static uint64_t rocks_disk_bytes(struct kv *kv)
{
    static const char *const properties[] = {"rocksdb.total-sst-files-size",
                                             "rocksdb.total-blob-file-size"};
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof properties / sizeof properties[0]; i++) {
        uint64_t bytes = 0;
        if (rocksdb_property_int(rocks_of(kv)->db, properties[i], &bytes) == 0)
            sum += bytes;
    }
    return sum;
}

static void rocks_close(struct kv *kv)
{
    struct rocks_kv *rocks = rocks_of(kv);
    if (rocks->db != NULL)
        rocksdb_close(rocks->db);
    rocksdb_readoptions_destroy(rocks->read);
    rocksdb_readoptions_destroy(rocks->read_memory);
    rocksdb_writeoptions_destroy(rocks->write);
    rocksdb_flushoptions_destroy(rocks->flush);
    mem_free(rocks->path);
    mem_free(rocks);
}

static const struct kv_operations OPERATIONS = {
    .close = rocks_close,
    .get = rocks_get,
    .batch_new = rocks_batch_new,
    .batch_free = rocks_batch_free,
    .batch_put = rocks_batch_put,
    .batch_delete = rocks_batch_delete,
    .batch_delete_range = rocks_batch_delete_range,
    .batch_clear = rocks_batch_clear,
    .write = rocks_write,
    .flush = rocks_flush,
    .checkpoint = rocks_checkpoint,
    .verify = rocks_verify,
    .disk_bytes = rocks_disk_bytes,
    .snapshot_new = rocks_snapshot_new,
    .snapshot_free = rocks_snapshot_free,
    .iterator_new = rocks_iterator_new,
    .iterator_free = rocks_iterator_free,
    .seek = rocks_seek,
    .seek_before = rocks_seek_before,
    .next = rocks_next,
    .previous = rocks_previous,
    .valid = rocks_valid,
    .error = rocks_error,
    .key = rocks_key,
    .value = rocks_value,
};

/* --- opening --- */

/* Block cache, filters and index blocks. Index and filter blocks count against the cache, so that a
 * large store cannot outgrow the memory it was given. */
static void set_cache(rocksdb_options_t *options, const struct kv_options *wanted)
{
    rocksdb_cache_t *cache = rocksdb_cache_create_lru(
        wanted->cache_bytes == 0 ? CACHE_BYTES_DEFAULT : wanted->cache_bytes);
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom_full(FILTER_BITS_PER_KEY));
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
    if (wanted->blob_bytes_min > 0) {
        rocksdb_options_set_enable_blob_files(options, 1);
        rocksdb_options_set_min_blob_size(options, wanted->blob_bytes_min);
        rocksdb_options_set_enable_blob_gc(options, 1);
        /* Without it kv_try_get would never find a blob in memory. */
        rocksdb_options_set_blob_cache(options, cache);
        /* What was just written is often read soon. */
        rocksdb_options_set_prepopulate_blob_cache(options, rocksdb_prepopulate_blob_flush_only);
    }
    rocksdb_cache_destroy(cache);
}

static enum err options_new(const struct kv_options *wanted, rocksdb_options_t **out_options)
{
    rocksdb_options_t *base = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(base, wanted->create);
    rocksdb_options_set_paranoid_checks(base, 1);
    rocksdb_options_set_compression(base, rocksdb_no_compression);
    rocksdb_options_set_write_buffer_size(base, wanted->write_buffer_bytes == 0
                                                    ? WRITE_BUFFER_BYTES_DEFAULT
                                                    : wanted->write_buffer_bytes);
    /* A key that is not there is told from one bloom filter instead of a search. */
    rocksdb_options_set_memtable_prefix_bloom_size_ratio(base, MEMTABLE_FILTER_RATIO);
    rocksdb_options_set_memtable_whole_key_filtering(base, 1);
    rocksdb_options_set_max_background_jobs(base, BACKGROUND_JOBS_MAX);
    rocksdb_options_set_max_manifest_file_size(base, MANIFEST_BYTES_MAX);
    /* Errors are returned, and RocksDB 7.8 asserts when it cannot write to its own log. */
    rocksdb_options_set_info_log_level(base, INFO_LOG_LEVEL_FATAL);
    rocksdb_options_set_max_log_file_size(base, INFO_LOG_BYTES_MAX);
    rocksdb_options_set_keep_log_file_num(base, INFO_LOG_COUNT_MAX);
    rocksdb_options_set_skip_stats_update_on_db_open(base, 1);
    set_cache(base, wanted);
    /* No function exists for this one: closing is to be like a crash, so that a crash is like
     * closing. */
    rocksdb_options_t *options = rocksdb_options_create();
    char *message = NULL;
    rocksdb_get_options_from_string(base, "avoid_flush_during_shutdown=true", options, &message);
    rocksdb_options_destroy(base);
    if (message != NULL) {
        rocksdb_options_destroy(options);
        return convert("", "options", message);
    }
    *out_options = options;
    return OK;
}

/* RocksDB takes a directory without the file CURRENT for a new one and would delete the data in
 * it. */
static enum err check_directory(const char *path, bool create)
{
    AUTO_STRING current = mem_format("%s/CURRENT", path);
    if (access(current, F_OK) == 0)
        return OK;
    if (!create)
        return FAIL(ERR_NOT_FOUND, "store path=%s", path);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return errno == ENOENT ? OK : FAIL(ERR_IO, "store path=%s errno=%d", path, errno);
    bool has_data = false;
    errno = 0;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        const char *suffix = strrchr(entry->d_name, '.');
        has_data |= suffix != NULL && (strcmp(suffix, ".sst") == 0 || strcmp(suffix, ".blob") == 0);
    }
    int reason = errno; /* of the readdir that ended the loop */
    closedir(directory);
    if (reason != 0)
        return FAIL(ERR_IO, "store path=%s errno=%d", path, reason);
    if (has_data) {
        log_error("kv: store lost its file CURRENT path=%s", path);
        return FAIL(ERR_CORRUPT, "store without CURRENT path=%s", path);
    }
    return OK;
}

static enum err rocks_open(struct kv_provider *provider, struct lane *lane, const char *path,
                           const struct kv_options *wanted, struct kv **out_kv)
{
    (void)provider;
    (void)lane;
    rocksdb_options_t *options = NULL;
    char *message = NULL;
    if (!wanted->discard)
        TRY(check_directory(path, wanted->create));
    TRY(options_new(wanted, &options));
    if (wanted->discard) {
        rocksdb_destroy_db(options, path, &message);
        enum err err = convert(path, "discard", message);
        if (err != OK) {
            rocksdb_options_destroy(options);
            return err;
        }
    }
    rocksdb_t *db = rocksdb_open(options, path, &message);
    rocksdb_options_destroy(options);
    TRY(convert(path, "open", message));
    struct rocks_kv *rocks = mem_new(struct rocks_kv);
    AUTO(kv) kv = &rocks->kv;
    kv->operations = &OPERATIONS;
    rocks->db = db;
    rocks->path = mem_format("%s", path);
    rocks->read = rocksdb_readoptions_create();
    rocks->read_memory = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(rocks->read_memory, READ_TIER_BLOCK_CACHE);
    rocks->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(rocks->write, 1);
    rocks->flush = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(rocks->flush, 1);
    TRY(sync_parent(path));
    *out_kv = TAKE(kv);
    return OK;
}

struct kv_provider *kv_provider_rocks(void)
{
    static struct kv_provider provider = {.open = rocks_open}; /* never written to */
    return &provider;
}
