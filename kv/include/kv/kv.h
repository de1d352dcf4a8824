/* Ordered key-value store. The state machine and the drives' indexes live in it.
 *
 * Contract (CLUSTER.md C1.5):
 *   K1  kv_write applies a batch as a whole. After a crash the store equals its state after some
 *       prefix of the batches that contains at least everything before the last kv_flush that
 *       returned OK; a store that was never flushed may be missing.
 *   K2  an iterator or snapshot sees one point in time.
 *   K3  a checkpoint is complete at exactly one point.
 *   K4  after ERR_IO or ERR_CORRUPT the store refuses every later write.
 * Keys compare as unsigned bytes. There is no write-ahead log: the Raft log, or the records of a
 * drive, is the truth.
 *
 * Functions that take a lane may block and assert that they run on it. kv_try_get answers from
 * memory only and may run on a reactor. A handle may be used from several threads; writes come from
 * one at a time.
 *
 * Back ends: RocksDB (kv_provider_rocks) and an ordered map for the simulator (kv/memory.h). */
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/own.h"
#include "base/slice.h"
#include "runtime/lane.h"

struct kv;
struct kv_batch;
struct kv_iterator;
struct kv_snapshot;

enum {
    KV_KEY_BYTES_MAX = 4096,
    KV_VALUE_BYTES_MAX = 16 << 20,
};

struct kv_options {
    size_t write_buffer_bytes; /* 0 = 8 MiB */
    size_t cache_bytes;        /* block and blob cache, 0 = 32 MiB */
    size_t blob_bytes_min;     /* values from this size live in blob files; 0 = never */
    bool create;               /* else ERR_NOT_FOUND when missing */
    bool discard;              /* begin empty, whatever is there: what an unfinished format left */
};

/* Where stores come from; the simulator passes its own. */
struct kv_provider {
    enum err (*open)(struct kv_provider *provider, struct lane *lane, const char *path,
                     const struct kv_options *options, struct kv **out_kv);
};
/* RocksDB stores in directories of the file system. Static. ERR_CORRUPT names the damaged file
 * in the log. */
struct kv_provider *kv_provider_rocks(void);

enum err kv_open(struct kv_provider *provider, struct lane *lane, const char *path,
                 const struct kv_options *options, struct kv **out_kv);
/* Without a flush: what was not flushed may be lost, as in a crash. Batches, iterators and
 * snapshots must be gone. May block. */
void kv_close(struct kv *kv);
DEFINE_AUTO(kv, kv_close)

/* Value of `key` appended to *out_value (which the caller initialised with a max).
 * ERR_NOT_FOUND, ERR_LIMIT. */
enum err kv_get(struct lane *lane, struct kv *kv, struct slice key, struct bytes *out_value);
/* The same from memory only, on any thread: ERR_WOULD_BLOCK when the disk would be needed. */
enum err kv_try_get(struct kv *kv, struct slice key, struct bytes *out_value);

/* --- batches --- */
struct kv_batch *kv_batch_new(struct kv *kv);
void kv_batch_free(struct kv_batch *batch);
DEFINE_AUTO(kv_batch, kv_batch_free)
void kv_batch_put(struct kv_batch *batch, struct slice key, struct slice value);
void kv_batch_delete(struct kv_batch *batch, struct slice key);
/* [from, to) */
void kv_batch_delete_range(struct kv_batch *batch, struct slice from, struct slice to);
void kv_batch_clear(struct kv_batch *batch);
unsigned kv_batch_count(const struct kv_batch *batch);
/* Apply the batch; it keeps its contents. */
enum err kv_write(struct lane *lane, struct kv *kv, struct kv_batch *batch);

/* Make the store and everything written so far durable. */
enum err kv_flush(struct lane *lane, struct kv *kv);
/* Bytes written since the last flush began, roughly. */
uint64_t kv_unflushed_bytes(const struct kv *kv);
/* A complete copy of the store at this point in a new directory (hard links where possible). */
enum err kv_checkpoint(struct lane *lane, struct kv *kv, const char *path);
/* Read every block and compare checksums. ERR_CORRUPT says in the log which file. */
enum err kv_verify(struct lane *lane, struct kv *kv);
/* Bytes on disk, roughly. */
uint64_t kv_disk_bytes(struct kv *kv);

/* --- reading in order --- */
struct kv_snapshot *kv_snapshot_new(struct kv *kv);
void kv_snapshot_free(struct kv_snapshot *snapshot);
DEFINE_AUTO(kv_snapshot, kv_snapshot_free)

/* Keys in [from, to); an empty `to` = no upper bound; `snapshot` NULL = now. Starts before the
 * first key: call a seek. */
struct kv_iterator *kv_iterator_new(struct lane *lane, struct kv *kv, struct kv_snapshot *snapshot,
                                    struct slice from, struct slice to);
void kv_iterator_free(struct kv_iterator *iterator);
DEFINE_AUTO(kv_iterator, kv_iterator_free)
/* First key >= `key` (and within the bounds). */
void kv_iterator_seek(struct kv_iterator *iterator, struct slice key);
/* Last key < `key`. */
void kv_iterator_seek_before(struct kv_iterator *iterator, struct slice key);
void kv_iterator_next(struct kv_iterator *iterator);
void kv_iterator_previous(struct kv_iterator *iterator);
/* On a key. False at either end and after an error. */
bool kv_iterator_valid(const struct kv_iterator *iterator);
/* ERR_CORRUPT or ERR_IO when iteration stopped for that; check after the loop. */
enum err kv_iterator_error(const struct kv_iterator *iterator);
/* Borrowed until the next move. */
struct slice kv_iterator_key(const struct kv_iterator *iterator);
struct slice kv_iterator_value(const struct kv_iterator *iterator);
