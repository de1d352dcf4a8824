/* No reader gets an older bucket row than one that somebody got before. */
#include "bucket_cache.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { WRITES = 20000, READERS = 2 };

static struct bucket_row row_of(const char *name, uint64_t attempt)
{
    struct bucket_row row = {.state = BUCKET_LIVE, .attempt = attempt};
    (void)snprintf(row.bucket.name, sizeof row.bucket.name, "%s", name);
    return row;
}

static bool has(struct bucket_cache *cache, const char *name, uint64_t attempt)
{
    struct bucket_row row;
    return bucket_cache_get(cache, bucket_cache_version(cache), slice_of_text(name), &row) &&
           row.attempt == attempt;
}

static void put(struct bucket_cache *cache, uint64_t version, const char *name, uint64_t attempt)
{
    struct bucket_row row = row_of(name, attempt);
    bucket_cache_put(cache, version, &row);
}

static void a_row_is_found_until_a_write_begins(void **unused)
{
    (void)unused;
    static struct bucket_cache cache;
    bucket_cache_init(&cache);
    assert_false(has(&cache, "a", 0));
    put(&cache, bucket_cache_version(&cache), "a", 1);
    assert_true(has(&cache, "a", 1));
    assert_false(has(&cache, "b", 1));
    bucket_cache_write_begin(&cache);
    assert_false(has(&cache, "a", 1));
    put(&cache, bucket_cache_version(&cache), "a", 2);
    assert_false(has(&cache, "a", 2));
    bucket_cache_write_end(&cache);
    assert_false(has(&cache, "a", 1));
    assert_false(has(&cache, "a", 2));
}

static void a_row_read_before_a_write_is_not_found_after_it(void **unused)
{
    (void)unused;
    static struct bucket_cache cache;
    bucket_cache_init(&cache);
    uint64_t before = bucket_cache_version(&cache);
    bucket_cache_write_begin(&cache);
    bucket_cache_write_end(&cache);
    put(&cache, before, "a", 1);
    assert_false(has(&cache, "a", 1));
    put(&cache, bucket_cache_version(&cache), "a", 2);
    put(&cache, before, "a", 1); /* does not displace the newer one either */
    assert_true(has(&cache, "a", 2));
}

struct race {
    struct bucket_cache cache;
    _Atomic uint64_t store; /* the attempt that the row in the store has */
    _Atomic uint64_t seen;  /* the newest one that was written or got by anybody */
    _Atomic bool stale;
};

static void note_seen(struct race *race, uint64_t attempt)
{
    uint64_t seen = atomic_load(&race->seen);
    while (seen < attempt && !atomic_compare_exchange_weak(&race->seen, &seen, attempt))
        ;
}

static uint64_t read_row(struct race *race)
{
    struct bucket_row row;
    uint64_t version = bucket_cache_version(&race->cache);
    if (bucket_cache_get(&race->cache, version, SLICE_LITERAL("a"), &row))
        return row.attempt;
    row = row_of("a", atomic_load(&race->store));
    bucket_cache_put(&race->cache, version, &row);
    return row.attempt;
}

static void *reader(void *argument)
{
    struct race *race = argument;
    uint64_t attempt = 0;
    while (attempt < WRITES && !atomic_load(&race->stale)) {
        uint64_t least = atomic_load(&race->seen);
        attempt = read_row(race);
        if (attempt < least)
            atomic_store(&race->stale, true);
        note_seen(race, attempt);
    }
    return NULL;
}

static void readers_beside_writes_never_go_back_in_time(void **unused)
{
    (void)unused;
    static struct race race;
    pthread_t threads[READERS];
    bucket_cache_init(&race.cache);
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reader, &race), 0);
    for (uint64_t attempt = 1; attempt <= WRITES; attempt++) {
        bucket_cache_write_begin(&race.cache);
        atomic_store(&race.store, attempt);
        bucket_cache_write_end(&race.cache);
        note_seen(&race, attempt);
    }
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_false(atomic_load(&race.stale));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_is_found_until_a_write_begins),
        cmocka_unit_test(a_row_read_before_a_write_is_not_found_after_it),
        cmocka_unit_test(readers_beside_writes_never_go_back_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
