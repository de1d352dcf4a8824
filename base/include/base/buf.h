/* Reference-counted, 4096-aligned buffer: the only memory that I/O reads or writes.
 *
 * The ring holds a reference from submission to completion, so a wait that ends by deadline or
 * cancel never leaves the kernel writing into freed memory. Counts are atomic: a buffer may be
 * unreferenced on another thread than the one that made it. Contents are not zeroed. */
#pragma once
#include "base/err.h"
#include "base/own.h"
#include "base/slice.h"
#include <stdatomic.h>
#include <stdint.h>

enum {
    BUF_ALIGN_BYTES = 4096,
    BUF_CLASS_COUNT = 9, /* 4 KiB, 8 KiB, ... 1 MiB: pooled sizes */
    BUF_BYTES_MAX = 64 << 20,
};

struct buf_pool;

struct buf {
    uint8_t *data;
    size_t capacity; /* multiple of BUF_ALIGN_BYTES */
    _Atomic uint32_t references;
    uint32_t charged_bytes; /* returned to the pool's budget by the last unref */
    struct buf_pool *pool;  /* NULL: from the heap */
    struct buf *next_free;
};

/* A buffer of at least `bytes` outside any budget: for fixed internal needs. Never NULL. */
struct buf *buf_new(size_t bytes);
/* A buffer of at least `bytes` (1..BUF_BYTES_MAX) charged to the pool's budget.
 * ERR_BUSY: the budget is used up; the caller answers SlowDown or waits. */
enum err buf_pool_get(struct buf_pool *pool, size_t bytes, struct buf **out_buf);
struct buf *buf_ref(struct buf *buf);
void buf_unref(struct buf *buf);
DEFINE_AUTO(buf, buf_unref)

/* A pool with a budget of `budget_bytes`, safe from all threads; keeps free buffers of the
 * pooled sizes up to a quarter of the budget. */
struct buf_pool *buf_pool_new(size_t budget_bytes);
/* Every buffer must have come back. */
void buf_pool_free(struct buf_pool *pool);
/* Bytes charged now; 0 when nothing is out. */
size_t buf_pool_used_bytes(const struct buf_pool *pool);
size_t buf_pool_budget_bytes(const struct buf_pool *pool);
DEFINE_AUTO(buf_pool, buf_pool_free)

static inline struct slice buf_slice(const struct buf *buf, size_t offset, size_t bytes)
{
    return slice_of(buf->data + offset, bytes);
}
