/* Reference-counted I/O buffers and their pools. */
#include "base/buf.h"
#include "base/mem.h"
#include "heap.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

/* With AddressSanitizer, touching a buffer that lies in a free list is reported as if it were
 * freed. */
#if defined(__SANITIZE_ADDRESS__)
#define POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISON 1
#endif
#endif
#ifdef POISON
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

struct buf_pool {
    size_t budget_bytes;
    _Atomic size_t used_bytes;
    pthread_mutex_t mutex; /* guards what follows */
    size_t cached_bytes;   /* in the free lists: not charged to the budget */
    struct buf *free[BUF_CLASS_COUNT];
};

enum { CLASS_BYTES_MAX = BUF_ALIGN_BYTES << (BUF_CLASS_COUNT - 1) };

static_assert(CLASS_BYTES_MAX == 1 << 20);
static_assert(BUF_BYTES_MAX % BUF_ALIGN_BYTES == 0);

static size_t class_bytes(int index)
{
    return (size_t)BUF_ALIGN_BYTES << index;
}

/* The smallest class that holds `bytes`; BUF_CLASS_COUNT when none does. */
static int class_of(size_t bytes)
{
    int index = 0;
    while (index < BUF_CLASS_COUNT && class_bytes(index) < bytes)
        index++;
    return index;
}

static size_t round_up(size_t bytes)
{
    return bytes == 0 ? BUF_ALIGN_BYTES
                      : (bytes + BUF_ALIGN_BYTES - 1) / BUF_ALIGN_BYTES * BUF_ALIGN_BYTES;
}

static struct buf *create(size_t capacity)
{
    struct buf *buf = mem_new(struct buf);
    buf->data = heap_aligned(BUF_ALIGN_BYTES, capacity);
    buf->capacity = capacity;
    atomic_init(&buf->references, 1);
    return buf;
}

static void destroy(struct buf *buf)
{
    free(buf->data);
    mem_free(buf);
}

struct buf *buf_new(size_t bytes)
{
    assert(bytes <= BUF_BYTES_MAX);
    return create(round_up(bytes));
}

struct buf *buf_ref(struct buf *buf)
{
    uint32_t before = atomic_fetch_add_explicit(&buf->references, 1, memory_order_relaxed);
    assert(before > 0);
    assert(before < UINT32_MAX);
    return buf;
}

static bool charge(struct buf_pool *pool, size_t bytes)
{
    size_t used = atomic_load_explicit(&pool->used_bytes, memory_order_relaxed);
    do {
        if (bytes > pool->budget_bytes - used)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&pool->used_bytes, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static struct buf *pop(struct buf_pool *pool, int index)
{
    pthread_mutex_lock(&pool->mutex);
    struct buf *buf = pool->free[index];
    if (buf != NULL) {
        pool->free[index] = buf->next_free;
        pool->cached_bytes -= buf->capacity;
        ASAN_UNPOISON_MEMORY_REGION(buf->data, buf->capacity);
    }
    pthread_mutex_unlock(&pool->mutex);
    return buf;
}

enum err buf_pool_get(struct buf_pool *pool, size_t bytes, struct buf **out_buf)
{
    assert(bytes > 0);
    assert(bytes <= BUF_BYTES_MAX);
    int index = class_of(bytes);
    bool pooled = index < BUF_CLASS_COUNT;
    size_t capacity = pooled ? class_bytes(index) : round_up(bytes);
    if (!charge(pool, capacity))
        return FAIL(ERR_BUSY, "buffer budget used up wanted=%zu budget=%zu", capacity,
                    pool->budget_bytes);
    struct buf *buf = pooled ? pop(pool, index) : NULL;
    if (buf == NULL)
        buf = create(capacity);
    assert(buf->capacity == capacity);
    buf->next_free = NULL;
    buf->pool = pool;
    buf->charged_bytes = (uint32_t)capacity;
    atomic_store_explicit(&buf->references, 1, memory_order_relaxed);
    *out_buf = buf;
    return OK;
}

/* Keep the buffer for the next taker when its class is pooled and the share of free memory
 * allows. */
static bool push(struct buf_pool *pool, struct buf *buf)
{
    if (buf->capacity > CLASS_BYTES_MAX)
        return false;
    int index = class_of(buf->capacity);
    pthread_mutex_lock(&pool->mutex);
    bool kept = pool->cached_bytes + buf->capacity <= pool->budget_bytes / 4;
    if (kept) {
        ASAN_POISON_MEMORY_REGION(buf->data, buf->capacity);
        buf->next_free = pool->free[index];
        pool->free[index] = buf;
        pool->cached_bytes += buf->capacity;
    }
    pthread_mutex_unlock(&pool->mutex);
    return kept;
}

void buf_unref(struct buf *buf)
{
    if (buf == NULL)
        return;
    uint32_t before = atomic_fetch_sub_explicit(&buf->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1)
        return;
    struct buf_pool *pool = buf->pool;
    if (pool == NULL) {
        destroy(buf);
        return;
    }
    size_t charged_bytes = buf->charged_bytes;
    if (!push(pool, buf))
        destroy(buf);
    /* Last: from here on the pool may be freed by its owner. */
    size_t used = atomic_fetch_sub_explicit(&pool->used_bytes, charged_bytes, memory_order_release);
    assert(used >= charged_bytes);
}

struct buf_pool *buf_pool_new(size_t budget_bytes)
{
    struct buf_pool *pool = mem_new(struct buf_pool);
    pool->budget_bytes = budget_bytes;
    int result = pthread_mutex_init(&pool->mutex, NULL);
    assert(result == 0);
    return pool;
}

void buf_pool_free(struct buf_pool *pool)
{
    if (pool == NULL)
        return;
    assert(buf_pool_used_bytes(pool) == 0);
    for (int index = 0; index < BUF_CLASS_COUNT; index++) {
        for (struct buf *buf = pop(pool, index); buf != NULL; buf = pop(pool, index))
            destroy(buf);
    }
    assert(pool->cached_bytes == 0);
    pthread_mutex_destroy(&pool->mutex);
    mem_free(pool);
}

size_t buf_pool_used_bytes(const struct buf_pool *pool)
{
    return atomic_load_explicit(&pool->used_bytes, memory_order_acquire);
}

size_t buf_pool_budget_bytes(const struct buf_pool *pool)
{
    return pool->budget_bytes;
}
