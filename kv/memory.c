/* Stores in memory that keep every state since their last flush, so that a crash can choose one. */
#include "kv/memory.h"
#include "backend.h"
#include "base/list.h"
#include "base/mem.h"
#include "treap.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

enum {
    /* States kept between flushes. When there are more the oldest half becomes durable by
     * itself, as in RocksDB when a write buffer is full; K1 allows it. */
    HISTORY_MAX = 1024,
};

struct kv_memory_world {
    struct kv_provider provider;
    pthread_mutex_t mutex; /* guards stores, histories and the counters of their nodes */
    struct list stores;
};

/* What is "on disk": outlives its handle. */
struct store {
    struct list_node node;
    char *path;
    bool open;
    bool durable;                      /* else a crash may take the whole store away */
    unsigned state_count;              /* at least 1 */
    struct treap *states[HISTORY_MAX]; /* [0] is durable, the last is current */
};

struct memory_kv {
    struct kv kv;
    struct kv_memory_world *world;
    struct store *store;
};

enum operation { OPERATION_PUT, OPERATION_DELETE, OPERATION_DELETE_RANGE };

struct change {
    struct list_node node;
    enum operation operation;
    struct slice key;   /* owned; or where the range starts */
    struct slice value; /* owned; or where the range ends */
};

struct memory_batch {
    struct kv_batch batch;
    struct list changes;
};

struct memory_snapshot {
    struct kv_snapshot snapshot;
    struct treap *root;
};

struct memory_iterator {
    struct kv_iterator iterator;
    struct treap *root;
    const struct treap *at;
};

static struct memory_kv *memory_of(struct kv *kv)
{
    return CONTAINER_OF(kv, struct memory_kv, kv);
}

static struct memory_batch *batch_of(struct kv_batch *batch)
{
    return CONTAINER_OF(batch, struct memory_batch, batch);
}

static struct memory_iterator *iterator_of(struct kv_iterator *iterator)
{
    return CONTAINER_OF(iterator, struct memory_iterator, iterator);
}

static const struct memory_iterator *const_iterator_of(const struct kv_iterator *iterator)
{
    return CONTAINER_OF((uintptr_t)iterator, struct memory_iterator, iterator);
}

static void lock(struct kv_memory_world *world)
{
    int result = pthread_mutex_lock(&world->mutex);
    assert(result == 0);
}

static void unlock(struct kv_memory_world *world)
{
    int result = pthread_mutex_unlock(&world->mutex);
    assert(result == 0);
}

static struct treap *current(const struct store *store)
{
    assert(store->state_count > 0);
    return store->states[store->state_count - 1];
}

/* A reference to the state of now. */
static struct treap *current_root(struct kv *kv)
{
    struct memory_kv *memory = memory_of(kv);
    lock(memory->world);
    struct treap *root = treap_ref(current(memory->store));
    unlock(memory->world);
    return root;
}

static void release_root(struct kv *kv, struct treap *root)
{
    struct kv_memory_world *world = memory_of(kv)->world;
    lock(world);
    treap_unref(root);
    unlock(world);
}

/* Keep the states [first, first + count) only. */
static void keep_states(struct store *store, unsigned first, unsigned count)
{
    assert(count > 0);
    assert(first + count <= store->state_count);
    for (unsigned i = 0; i < store->state_count; i++) {
        if (i < first || i >= first + count)
            treap_unref(store->states[i]);
    }
    memmove(store->states, store->states + first, count * sizeof store->states[0]);
    store->state_count = count;
}

/* --- reading --- */

static enum err memory_get(struct kv *kv, struct slice key, bool memory_only,
                           struct bytes *out_value)
{
    (void)memory_only;
    struct treap *root = current_root(kv);
    const struct treap *node = treap_find(root, key);
    enum err err = OK;
    if (node == NULL)
        err = FAIL(ERR_NOT_FOUND, "no such key");
    else if (treap_value(node).bytes > out_value->max - out_value->bytes)
        err = FAIL(ERR_LIMIT, "value bytes=%zu", treap_value(node).bytes);
    else
        bytes_append(out_value, treap_value(node));
    release_root(kv, root);
    return err;
}

static struct kv_snapshot *memory_snapshot_new(struct kv *kv)
{
    struct memory_snapshot *snapshot = mem_new(struct memory_snapshot);
    snapshot->root = current_root(kv);
    return &snapshot->snapshot;
}

static void memory_snapshot_free(struct kv_snapshot *base)
{
    struct memory_snapshot *snapshot = CONTAINER_OF(base, struct memory_snapshot, snapshot);
    release_root(base->kv, snapshot->root);
    mem_free(snapshot);
}

static struct kv_iterator *memory_iterator_new(struct kv *kv, struct kv_snapshot *base,
                                               struct slice from, struct slice to)
{
    (void)from;
    (void)to;
    struct memory_iterator *iterator = mem_new(struct memory_iterator);
    if (base == NULL) {
        iterator->root = current_root(kv);
        return &iterator->iterator;
    }
    struct memory_kv *memory = memory_of(kv);
    lock(memory->world);
    iterator->root = treap_ref(CONTAINER_OF(base, struct memory_snapshot, snapshot)->root);
    unlock(memory->world);
    return &iterator->iterator;
}

static void memory_iterator_free(struct kv_iterator *base)
{
    struct memory_iterator *iterator = iterator_of(base);
    release_root(base->kv, iterator->root);
    mem_free(iterator);
}

/* Stand on `node` if it is within the bounds. */
static void stand_on(struct memory_iterator *iterator, const struct treap *node)
{
    struct slice from = iterator->iterator.from;
    struct slice to = iterator->iterator.to;
    bool within = node != NULL && slice_compare(treap_key(node), from) >= 0 &&
                  (to.bytes == 0 || slice_compare(treap_key(node), to) < 0);
    iterator->at = within ? node : NULL;
}

static void memory_seek(struct kv_iterator *base, struct slice key)
{
    struct memory_iterator *iterator = iterator_of(base);
    stand_on(iterator, treap_at_or_after(iterator->root, key));
}

static void memory_seek_before(struct kv_iterator *base, struct slice key)
{
    struct memory_iterator *iterator = iterator_of(base);
    stand_on(iterator, treap_before(iterator->root, key));
}

static void memory_next(struct kv_iterator *base)
{
    struct memory_iterator *iterator = iterator_of(base);
    stand_on(iterator, treap_after(iterator->root, treap_key(iterator->at)));
}

static void memory_previous(struct kv_iterator *base)
{
    struct memory_iterator *iterator = iterator_of(base);
    stand_on(iterator, treap_before(iterator->root, treap_key(iterator->at)));
}

static bool memory_valid(const struct kv_iterator *base)
{
    return const_iterator_of(base)->at != NULL;
}

static enum err memory_error(const struct kv_iterator *base)
{
    (void)base;
    return OK;
}

static struct slice memory_key(const struct kv_iterator *base)
{
    return treap_key(const_iterator_of(base)->at);
}

static struct slice memory_value(const struct kv_iterator *base)
{
    return treap_value(const_iterator_of(base)->at);
}

/* --- writing --- */

static struct kv_batch *memory_batch_new(struct kv *kv)
{
    (void)kv;
    struct memory_batch *batch = mem_new(struct memory_batch);
    list_init(&batch->changes);
    return &batch->batch;
}

static void add_change(struct kv_batch *base, enum operation operation, struct slice key,
                       struct slice value)
{
    struct change *change = mem_new(struct change);
    change->operation = operation;
    change->key = slice_of(mem_copy(key.data, key.bytes), key.bytes);
    change->value = slice_of(mem_copy(value.data, value.bytes), value.bytes);
    list_push_back(&batch_of(base)->changes, &change->node);
}

static void memory_batch_put(struct kv_batch *base, struct slice key, struct slice value)
{
    add_change(base, OPERATION_PUT, key, value);
}

static void memory_batch_delete(struct kv_batch *base, struct slice key)
{
    add_change(base, OPERATION_DELETE, key, slice_of(NULL, 0));
}

static void memory_batch_delete_range(struct kv_batch *base, struct slice from, struct slice to)
{
    add_change(base, OPERATION_DELETE_RANGE, from, to);
}

static void memory_batch_clear(struct kv_batch *base)
{
    LIST_EACH(struct change, change, &batch_of(base)->changes, node)
    {
        list_remove(&batch_of(base)->changes, &change->node);
        mem_free((void *)(uintptr_t)change->key.data);
        mem_free((void *)(uintptr_t)change->value.data);
        mem_free(change);
    }
}

static void memory_batch_free(struct kv_batch *base)
{
    memory_batch_clear(base);
    mem_free(batch_of(base));
}

static struct treap *apply(struct treap *root, const struct change *change)
{
    switch (change->operation) {
    case OPERATION_PUT:
        return treap_put(root, change->key, change->value);
    case OPERATION_DELETE:
        return treap_delete(root, change->key);
    case OPERATION_DELETE_RANGE:
        return treap_delete_range(root, change->key, change->value);
    }
    abort();
}

static enum err memory_write(struct kv *kv, struct kv_batch *base)
{
    struct memory_kv *memory = memory_of(kv);
    struct store *store = memory->store;
    lock(memory->world);
    if (store->state_count == HISTORY_MAX) {
        keep_states(store, HISTORY_MAX / 2, HISTORY_MAX / 2);
        store->durable = true;
    }
    struct treap *root = treap_ref(current(store));
    LIST_EACH(struct change, change, &batch_of(base)->changes, node)
    root = apply(root, change);
    store->states[store->state_count++] = root;
    unlock(memory->world);
    return OK;
}

/* --- whole stores --- */

static enum err memory_flush(struct kv *kv)
{
    struct memory_kv *memory = memory_of(kv);
    lock(memory->world);
    keep_states(memory->store, memory->store->state_count - 1, 1);
    memory->store->durable = true;
    unlock(memory->world);
    return OK;
}

static struct store *find(struct kv_memory_world *world, const char *path)
{
    LIST_EACH(struct store, store, &world->stores, node)
    {
        if (strcmp(store->path, path) == 0)
            return store;
    }
    return NULL;
}

/* Takes the reference to `root`. */
static struct store *store_new(struct kv_memory_world *world, const char *path, struct treap *root)
{
    struct store *store = mem_new(struct store);
    store->path = mem_format("%s", path);
    store->states[0] = root;
    store->state_count = 1;
    list_push_back(&world->stores, &store->node);
    return store;
}

static enum err memory_checkpoint(struct kv *kv, const char *path)
{
    struct memory_kv *memory = memory_of(kv);
    lock(memory->world);
    bool exists = find(memory->world, path) != NULL;
    if (!exists)
        store_new(memory->world, path, treap_ref(current(memory->store)))->durable = true;
    unlock(memory->world);
    return exists ? FAIL(ERR_EXISTS, "checkpoint path=%s", path) : OK;
}

static enum err memory_verify(struct kv *kv)
{
    (void)kv;
    return OK;
}

static uint64_t memory_disk_bytes(struct kv *kv)
{
    struct treap *root = current_root(kv);
    uint64_t bytes = treap_bytes(root);
    release_root(kv, root);
    return bytes;
}

static void memory_close(struct kv *kv)
{
    struct memory_kv *memory = memory_of(kv);
    lock(memory->world);
    assert(memory->store->open);
    memory->store->open = false;
    unlock(memory->world);
    mem_free(memory);
}

static const struct kv_operations OPERATIONS = {
    .close = memory_close,
    .get = memory_get,
    .batch_new = memory_batch_new,
    .batch_free = memory_batch_free,
    .batch_put = memory_batch_put,
    .batch_delete = memory_batch_delete,
    .batch_delete_range = memory_batch_delete_range,
    .batch_clear = memory_batch_clear,
    .write = memory_write,
    .flush = memory_flush,
    .checkpoint = memory_checkpoint,
    .verify = memory_verify,
    .disk_bytes = memory_disk_bytes,
    .snapshot_new = memory_snapshot_new,
    .snapshot_free = memory_snapshot_free,
    .iterator_new = memory_iterator_new,
    .iterator_free = memory_iterator_free,
    .seek = memory_seek,
    .seek_before = memory_seek_before,
    .next = memory_next,
    .previous = memory_previous,
    .valid = memory_valid,
    .error = memory_error,
    .key = memory_key,
    .value = memory_value,
};

static void store_free(struct kv_memory_world *world, struct store *store)
{
    assert(!store->open);
    keep_states(store, 0, 1);
    treap_unref(store->states[0]);
    list_remove(&world->stores, &store->node);
    mem_free(store->path);
    mem_free(store);
}

static enum err open_store(struct kv_memory_world *world, const char *path,
                           const struct kv_options *options, struct store **out_store)
{
    struct store *store = find(world, path);
    if (store == NULL && !options->create)
        return FAIL(ERR_NOT_FOUND, "store path=%s", path);
    if (store != NULL && store->open)
        return FAIL(ERR_LOCKED, "store path=%s", path);
    if (store != NULL && options->discard) {
        store_free(world, store);
        store = NULL;
    }
    /* What is read after opening was read from the disk: it does not go away any more. */
    if (store != NULL)
        store->durable = true;
    else
        store = store_new(world, path, NULL);
    keep_states(store, store->state_count - 1, 1);
    store->open = true;
    *out_store = store;
    return OK;
}

static enum err memory_open(struct kv_provider *provider, struct lane *lane, const char *path,
                            const struct kv_options *options, struct kv **out_kv)
{
    (void)lane;
    struct kv_memory_world *world = CONTAINER_OF(provider, struct kv_memory_world, provider);
    struct store *store = NULL;
    lock(world);
    enum err err = open_store(world, path, options, &store);
    unlock(world);
    TRY(err);
    struct memory_kv *memory = mem_new(struct memory_kv);
    memory->kv.operations = &OPERATIONS;
    memory->world = world;
    memory->store = store;
    *out_kv = &memory->kv;
    return OK;
}

/* --- worlds --- */

struct kv_memory_world *kv_memory_world_new(void)
{
    struct kv_memory_world *world = mem_new(struct kv_memory_world);
    world->provider.open = memory_open;
    int result = pthread_mutex_init(&world->mutex, NULL);
    assert(result == 0);
    list_init(&world->stores);
    return world;
}

void kv_memory_world_free(struct kv_memory_world *world)
{
    if (world == NULL)
        return;
    LIST_EACH(struct store, store, &world->stores, node)
    {
        store_free(world, store);
    }
    pthread_mutex_destroy(&world->mutex);
    mem_free(world);
}

struct kv_provider *kv_memory_provider(struct kv_memory_world *world)
{
    return &world->provider;
}

void kv_memory_crash(struct kv_memory_world *world, uint64_t (*draw)(void *context, uint64_t bound),
                     void *context)
{
    lock(world);
    LIST_EACH(struct store, store, &world->stores, node)
    {
        assert(!store->open);
        uint64_t chosen = draw(context, store->state_count + (uint64_t)!store->durable);
        assert(chosen < store->state_count + (uint64_t)!store->durable);
        if (chosen < store->state_count)
            keep_states(store, (unsigned)chosen, 1);
        else
            store_free(world, store);
    }
    unlock(world);
}
