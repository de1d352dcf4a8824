/* What a back end of kv/kv.h provides. The front (kv.c) checks arguments, lanes, contract K4 and
 * life times; a back end only stores. */
#pragma once
#include "kv/kv.h"
#include <stdatomic.h>

struct kv_operations {
    void (*close)(struct kv *kv);
    /* ERR_WOULD_BLOCK only with memory_only. Leaves *out_value as it was unless OK. */
    enum err (*get)(struct kv *kv, struct slice key, bool memory_only, struct bytes *out_value);
    struct kv_batch *(*batch_new)(struct kv *kv);
    void (*batch_free)(struct kv_batch *batch);
    void (*batch_put)(struct kv_batch *batch, struct slice key, struct slice value);
    void (*batch_delete)(struct kv_batch *batch, struct slice key);
    void (*batch_delete_range)(struct kv_batch *batch, struct slice from, struct slice to);
    void (*batch_clear)(struct kv_batch *batch);
    enum err (*write)(struct kv *kv, struct kv_batch *batch);
    enum err (*flush)(struct kv *kv);
    enum err (*checkpoint)(struct kv *kv, const char *path);
    enum err (*verify)(struct kv *kv);
    uint64_t (*disk_bytes)(struct kv *kv);
    struct kv_snapshot *(*snapshot_new)(struct kv *kv);
    void (*snapshot_free)(struct kv_snapshot *snapshot);
    /* `from` and `to` live as long as the iterator. */
    struct kv_iterator *(*iterator_new)(struct kv *kv, struct kv_snapshot *snapshot,
                                        struct slice from, struct slice to);
    void (*iterator_free)(struct kv_iterator *iterator);
    void (*seek)(struct kv_iterator *iterator, struct slice key);        /* key >= from */
    void (*seek_before)(struct kv_iterator *iterator, struct slice key); /* key <= to */
    void (*next)(struct kv_iterator *iterator);
    void (*previous)(struct kv_iterator *iterator);
    bool (*valid)(const struct kv_iterator *iterator);
    enum err (*error)(const struct kv_iterator *iterator);
    struct slice (*key)(const struct kv_iterator *iterator);
    struct slice (*value)(const struct kv_iterator *iterator);
};

/* Each of these is the first member of the back end's own struct; the front fills them in. */

struct kv {
    const struct kv_operations *operations;
    _Atomic int failure; /* the first ERR_IO or ERR_CORRUPT (K4), OK before */
    _Atomic uint64_t unflushed_bytes;
    _Atomic uint32_t users; /* batches, snapshots and iterators that must go before the store */
};

struct kv_batch {
    struct kv *kv;
    unsigned count;
    uint64_t bytes;
};

struct kv_snapshot {
    struct kv *kv;
};

struct kv_iterator {
    struct kv *kv;
    struct lane *lane;
    struct slice from; /* owned */
    struct slice to;   /* owned; empty = no bound */
};
