/* I/O buffers: alignment, references, budget. */
#include "base/buf.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void every_buffer_is_aligned_and_large_enough(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 65536, 1 << 20, (1 << 20) + 1, 64 << 20};
    AUTO(buf_pool) pool = buf_pool_new((size_t)64 << 20);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        AUTO(buf) heap = buf_new(sizes[i]);
        assert_int_equal((uintptr_t)heap->data % BUF_ALIGN_BYTES, 0);
        assert_true(heap->capacity >= sizes[i]);
        assert_int_equal(heap->capacity % BUF_ALIGN_BYTES, 0);
        if (sizes[i] == 0)
            continue;
        AUTO(buf) pooled = NULL;
        assert_int_equal(buf_pool_get(pool, sizes[i], &pooled), OK);
        assert_int_equal((uintptr_t)pooled->data % BUF_ALIGN_BYTES, 0);
        assert_true(pooled->capacity >= sizes[i]);
        assert_int_equal(pooled->capacity % BUF_ALIGN_BYTES, 0);
        assert_int_equal(buf_pool_used_bytes(pool), pooled->capacity);
        memset(pooled->data, 1, pooled->capacity);
    }
    assert_int_equal(buf_pool_used_bytes(pool), 0);
}

static void the_budget_is_exact(void **state)
{
    (void)state;
    AUTO(buf_pool) pool = buf_pool_new(3 * 4096);
    assert_int_equal(buf_pool_budget_bytes(pool), 3 * 4096);
    struct buf *held[3];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++)
            assert_int_equal(buf_pool_get(pool, 4096, &held[i]), OK);
        struct buf *refused = NULL;
        assert_int_equal(buf_pool_get(pool, 1, &refused), ERR_BUSY);
        assert_null(refused);
        for (int i = 0; i < 3; i++)
            buf_unref(held[i]);
        assert_int_equal(buf_pool_get(pool, 4 * 4096, &refused), ERR_BUSY);
        assert_int_equal(buf_pool_used_bytes(pool), 0);
    }
}

static void the_last_reference_gives_back(void **state)
{
    (void)state;
    AUTO(buf_pool) pool = buf_pool_new(1 << 20);
    struct buf *buf = NULL;
    assert_int_equal(buf_pool_get(pool, 5000, &buf), OK);
    struct buf *other = buf_ref(buf);
    buf_unref(buf);
    assert_int_equal(buf_pool_used_bytes(pool), 8192);
    assert_true(slice_equal(buf_slice(other, 3, 2), slice_of(other->data + 3, 2)));
    buf_unref(other);
    assert_int_equal(buf_pool_used_bytes(pool), 0);
    buf_unref(NULL);
}

static void a_freed_buffer_is_used_again(void **state)
{
    (void)state;
    AUTO(buf_pool) pool = buf_pool_new(1 << 20);
    struct buf *first = NULL;
    struct buf *second = NULL;
    assert_int_equal(buf_pool_get(pool, 60000, &first), OK);
    uint8_t *data = first->data;
    buf_unref(first);
    assert_int_equal(buf_pool_get(pool, 50000, &second), OK);
    assert_ptr_equal(second->data, data);
    buf_unref(second);
}

enum { ROUNDS = 3000, THREADS = 4, THREAD_BYTES_MAX = 64 << 10 };

static void *churn(void *context)
{
    struct buf_pool *pool = context;
    for (size_t i = 0; i < ROUNDS; i++) {
        struct buf *buf = NULL;
        if (buf_pool_get(pool, 1 + i * 997 % THREAD_BYTES_MAX, &buf) != OK)
            continue;
        buf->data[0] = (uint8_t)i;
        buf_unref(buf_ref(buf));
        assert_int_equal(buf->data[0], (uint8_t)i);
        buf_unref(buf);
    }
    return NULL;
}

static void threads_share_a_pool(void **state)
{
    (void)state;
    AUTO(buf_pool) pool = buf_pool_new(3 * THREAD_BYTES_MAX);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, pool), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(buf_pool_used_bytes(pool), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_buffer_is_aligned_and_large_enough),
        cmocka_unit_test(the_budget_is_exact),
        cmocka_unit_test(the_last_reference_gives_back),
        cmocka_unit_test(a_freed_buffer_is_used_again),
        cmocka_unit_test(threads_share_a_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
