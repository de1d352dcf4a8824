/* The contract of kv/kv.h, run on both back ends. */
#include "fixture.h"
#include <string.h>

FIXTURE_LANE

/* --- one store of either back end --- */

struct store {
    char *directory;
    struct kv_memory_world *world;
    struct kv_provider *provider;
    char *path;
    struct kv *kv;
};

static void store_open(struct store *store)
{
    const struct kv_options options = {.create = true, .blob_bytes_min = 4096};
    assert_int_equal(kv_open(store->provider, the_lane(), store->path, &options, &store->kv), OK);
}

static void store_reopen(struct store *store)
{
    kv_close(store->kv);
    store_open(store);
}

static int setup(void **state, bool memory)
{
    struct store *store = mem_new(struct store);
    store->directory = directory_new();
    store->world = kv_memory_world_new();
    store->provider = memory ? kv_memory_provider(store->world) : kv_provider_rocks();
    store->path = mem_format("%s/store", store->directory);
    store_open(store);
    *state = store;
    return 0;
}

static int setup_rocks(void **state)
{
    return setup(state, false);
}

static int setup_memory(void **state)
{
    return setup(state, true);
}

static int teardown(void **state)
{
    struct store *store = *state;
    kv_close(store->kv);
    kv_memory_world_free(store->world);
    directory_remove(store->directory);
    mem_free(store->path);
    mem_free(store);
    return 0;
}

static struct kv_iterator *iterate(struct kv *kv, const char *from, const char *to)
{
    return kv_iterator_new(the_lane(), kv, NULL, slice_of_text(from), slice_of_text(to));
}

static void expect_at(const struct kv_iterator *iterator, const char *key)
{
    assert_int_equal(kv_iterator_error(iterator), OK);
    assert_int_equal(kv_iterator_valid(iterator), key != NULL);
    if (key != NULL)
        assert_true(slice_equal_text(kv_iterator_key(iterator), key));
}

/* --- facts --- */

static void what_was_put_is_found(void **state)
{
    struct kv *kv = ((struct store *)*state)->kv;
    holds(kv, "a", NULL);
    put_text(kv, "a", "1");
    put_text(kv, "b", "");
    holds(kv, "a", "1");
    holds(kv, "b", "");
    put_text(kv, "a", "2");
    holds(kv, "a", "2");
    AUTO_VALUE(bytes) value = {.max = 100};
    bytes_append_text(&value, "kept ");
    assert_int_equal(kv_get(the_lane(), kv, SLICE_LITERAL("a"), &value), OK);
    assert_true(slice_equal_text(bytes_slice(&value), "kept 2"));
    AUTO_VALUE(bytes) fresh = {.max = 100};
    assert_int_equal(kv_try_get(kv, SLICE_LITERAL("a"), &fresh), OK);
    assert_true(slice_equal_text(bytes_slice(&fresh), "2"));
    assert_int_equal(kv_try_get(kv, SLICE_LITERAL("c"), &fresh), ERR_NOT_FOUND);
}

static void a_value_above_the_callers_maximum_is_refused(void **state)
{
    struct kv *kv = ((struct store *)*state)->kv;
    put_text(kv, "a", "12345");
    AUTO_VALUE(bytes) value = {.max = 6};
    bytes_append_text(&value, "xy");
    assert_int_equal(kv_get(the_lane(), kv, SLICE_LITERAL("a"), &value), ERR_LIMIT);
    assert_true(slice_equal_text(bytes_slice(&value), "xy"));
    assert_false(value.overflow);
}

static void a_batch_is_applied_in_its_order(void **state)
{
    struct kv *kv = ((struct store *)*state)->kv;
    AUTO(kv_batch) batch = kv_batch_new(kv);
    assert_int_equal(kv_write(the_lane(), kv, batch), OK);
    kv_batch_put(batch, SLICE_LITERAL("a"), SLICE_LITERAL("1"));
    kv_batch_put(batch, SLICE_LITERAL("b"), SLICE_LITERAL("1"));
    kv_batch_delete(batch, SLICE_LITERAL("a"));
    kv_batch_put(batch, SLICE_LITERAL("c"), SLICE_LITERAL("1"));
    kv_batch_delete_range(batch, SLICE_LITERAL("b"), SLICE_LITERAL("c"));
    kv_batch_put(batch, SLICE_LITERAL("b"), SLICE_LITERAL("2"));
    kv_batch_delete_range(batch, SLICE_LITERAL("c"), SLICE_LITERAL("b"));
    assert_int_equal(kv_batch_count(batch), 6);
    holds(kv, "b", NULL);
    assert_int_equal(kv_write(the_lane(), kv, batch), OK);
    holds(kv, "a", NULL);
    holds(kv, "b", "2");
    holds(kv, "c", "1");
    /* It keeps its contents until cleared. */
    put_text(kv, "b", "3");
    assert_int_equal(kv_write(the_lane(), kv, batch), OK);
    holds(kv, "b", "2");
    kv_batch_clear(batch);
    assert_int_equal(kv_batch_count(batch), 0);
    put_text(kv, "b", "3");
    assert_int_equal(kv_write(the_lane(), kv, batch), OK);
    holds(kv, "b", "3");
}

static void iteration_stays_within_its_bounds(void **state)
{
    struct kv *kv = ((struct store *)*state)->kv;
    static const char *const keys[] = {"a", "b", "bb", "c", "d", "\xff"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        put_text(kv, keys[i], "v");
    static const struct {
        const char *from, *to, *seek, *at_or_after, *before;
    } cases[] = {
        {"", "", "", "a", NULL},     {"", "", "a", "a", NULL},
        {"", "", "a0", "b", "a"},    {"", "", "bb", "bb", "b"},
        {"", "", "e", "\xff", "d"},  {"", "", "\xff\xff", NULL, "\xff"},
        {"b", "d", "", "b", NULL},   {"b", "d", "b", "b", NULL},
        {"b", "d", "bb", "bb", "b"}, {"b", "d", "d", NULL, "c"},
        {"b", "d", "zz", NULL, "c"}, {"e", "f", "e", NULL, NULL},
        {"e", "f", "z", NULL, NULL}, {"c", "c", "c", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO(kv_iterator) iterator = iterate(kv, cases[i].from, cases[i].to);
        assert_false(kv_iterator_valid(iterator));
        kv_iterator_seek(iterator, slice_of_text(cases[i].seek));
        expect_at(iterator, cases[i].at_or_after);
        kv_iterator_seek_before(iterator, slice_of_text(cases[i].seek));
        expect_at(iterator, cases[i].before);
    }
    AUTO(kv_iterator) iterator = iterate(kv, "b", "d");
    kv_iterator_seek(iterator, SLICE_LITERAL("b"));
    kv_iterator_next(iterator);
    expect_at(iterator, "bb");
    kv_iterator_next(iterator);
    expect_at(iterator, "c");
    assert_true(slice_equal_text(kv_iterator_value(iterator), "v"));
    kv_iterator_previous(iterator);
    expect_at(iterator, "bb");
    kv_iterator_previous(iterator);
    kv_iterator_previous(iterator);
    expect_at(iterator, NULL);
}

static void iterators_and_snapshots_see_one_point(void **state)
{
    struct kv *kv = ((struct store *)*state)->kv;
    put_text(kv, "a", "old");
    put_text(kv, "b", "old");
    AUTO(kv_snapshot) snapshot = kv_snapshot_new(kv);
    AUTO(kv_iterator) before = iterate(kv, "", "");
    AUTO(kv_batch) batch = kv_batch_new(kv);
    kv_batch_delete_range(batch, SLICE_LITERAL("a"), SLICE_LITERAL("b"));
    kv_batch_put(batch, SLICE_LITERAL("b"), SLICE_LITERAL("new"));
    assert_int_equal(kv_write(the_lane(), kv, batch), OK);
    assert_int_equal(kv_flush(the_lane(), kv), OK);
    AUTO(kv_iterator) of_snapshot =
        kv_iterator_new(the_lane(), kv, snapshot, slice_of(NULL, 0), slice_of(NULL, 0));
    struct kv_iterator *const old[] = {before, of_snapshot};
    for (int i = 0; i < 2; i++) {
        kv_iterator_seek(old[i], SLICE_LITERAL(""));
        expect_at(old[i], "a");
        kv_iterator_next(old[i]);
        expect_at(old[i], "b");
        assert_true(slice_equal_text(kv_iterator_value(old[i]), "old"));
        kv_iterator_next(old[i]);
        expect_at(old[i], NULL);
    }
    AUTO(kv_iterator) after = iterate(kv, "", "");
    kv_iterator_seek(after, SLICE_LITERAL(""));
    expect_at(after, "b");
    assert_true(slice_equal_text(kv_iterator_value(after), "new"));
}

static void what_was_flushed_survives_a_close(void **state)
{
    struct store *store = *state;
    put_text(store->kv, "a", "1");
    assert_true(kv_unflushed_bytes(store->kv) > 0);
    assert_int_equal(kv_flush(the_lane(), store->kv), OK);
    assert_int_equal(kv_unflushed_bytes(store->kv), 0);
    assert_int_equal(kv_flush(the_lane(), store->kv), OK);
    store_reopen(store);
    holds(store->kv, "a", "1");
    assert_int_equal(kv_unflushed_bytes(store->kv), 0);
}

static void a_checkpoint_is_a_store_of_its_own(void **state)
{
    struct store *store = *state;
    AUTO_STRING path = mem_format("%s/checkpoint", store->directory);
    put_text(store->kv, "a", "1");
    assert_int_equal(kv_checkpoint(the_lane(), store->kv, path), OK);
    assert_int_equal(kv_checkpoint(the_lane(), store->kv, path), ERR_EXISTS);
    put_text(store->kv, "a", "2");
    AUTO(kv) copy = NULL;
    const struct kv_options options = {0};
    assert_int_equal(kv_open(store->provider, the_lane(), path, &options, &copy), OK);
    holds(copy, "a", "1");
    put_text(copy, "b", "3");
    holds(store->kv, "a", "2");
    holds(store->kv, "b", NULL);
}

static void a_store_is_opened_once_and_made_only_when_wanted(void **state)
{
    struct store *store = *state;
    struct kv *other = NULL;
    const struct kv_options create = {.create = true};
    const struct kv_options existing = {0};
    assert_int_equal(kv_open(store->provider, the_lane(), store->path, &create, &other),
                     ERR_LOCKED);
    AUTO_STRING missing = mem_format("%s/missing", store->directory);
    assert_int_equal(kv_open(store->provider, the_lane(), missing, &existing, &other),
                     ERR_NOT_FOUND);
    assert_null(other);
    kv_close(store->kv);
    assert_int_equal(kv_open(store->provider, the_lane(), store->path, &existing, &store->kv), OK);
}

static void the_largest_key_and_value_fit(void **state)
{
    struct store *store = *state;
    uint8_t *large = mem_alloc(KV_VALUE_BYTES_MAX);
    memset(large, 'v', KV_VALUE_BYTES_MAX);
    struct slice key = slice_of(large, KV_KEY_BYTES_MAX);
    put(store->kv, key, slice_of(large, KV_VALUE_BYTES_MAX));
    put(store->kv, slice_of(NULL, 0), SLICE_LITERAL("empty key"));
    assert_int_equal(kv_flush(the_lane(), store->kv), OK);
    store_reopen(store);
    AUTO_VALUE(bytes) value = {.max = KV_VALUE_BYTES_MAX};
    assert_int_equal(kv_get(the_lane(), store->kv, key, &value), OK);
    assert_true(slice_equal(bytes_slice(&value), slice_of(large, KV_VALUE_BYTES_MAX)));
    mem_free(large);
    holds(store->kv, "", "empty key");
    assert_true(kv_disk_bytes(store->kv) > KV_VALUE_BYTES_MAX);
    assert_int_equal(kv_verify(the_lane(), store->kv), OK);
}

enum { KEYS = 50 };

static struct slice numbered(char *room, int i)
{
    return slice_of(room, (size_t)snprintf(room, 16, "key%02d", i));
}

static void check_all(struct kv *kv, const int *values)
{
    char room[16];
    AUTO(kv_iterator) up = iterate(kv, "", "");
    AUTO(kv_iterator) down = iterate(kv, "", "");
    kv_iterator_seek(up, slice_of(NULL, 0));
    kv_iterator_seek_before(down, SLICE_LITERAL("\xff"));
    for (int i = 0; i < KEYS; i++) {
        if (values[i] >= 0) {
            assert_true(slice_equal(kv_iterator_key(up), numbered(room, i)));
            assert_true(slice_equal(kv_iterator_value(up), slice_of(&values[i], sizeof(int))));
            kv_iterator_next(up);
        }
        if (values[KEYS - 1 - i] >= 0) {
            assert_true(slice_equal(kv_iterator_key(down), numbered(room, KEYS - 1 - i)));
            kv_iterator_previous(down);
        }
    }
    expect_at(up, NULL);
    expect_at(down, NULL);
}

static void random_batches_agree_with_a_model(void **state)
{
    struct store *store = *state;
    int values[KEYS];
    char a[16], b[16];
    memset(values, 0xff, sizeof values);
    srandom(1);
    for (int round = 0; round < 300; round++) {
        AUTO(kv_batch) batch = kv_batch_new(store->kv);
        for (long change = random() % 8; change >= 0; change--) {
            int i = (int)(random() % KEYS), j = i + (int)(random() % 10),
                dice = (int)(random() % 8);
            if (dice < 5) {
                values[i] = round;
                kv_batch_put(batch, numbered(a, i), slice_of(&round, sizeof round));
            } else if (dice < 7) {
                values[i] = -1;
                kv_batch_delete(batch, numbered(a, i));
            } else {
                for (int gone = i; gone < j && gone < KEYS; gone++)
                    values[gone] = -1;
                kv_batch_delete_range(batch, numbered(a, i), numbered(b, j));
            }
        }
        assert_int_equal(kv_write(the_lane(), store->kv, batch), OK);
        if (round % 20 == 0)
            assert_int_equal(kv_flush(the_lane(), store->kv), OK);
        if (round % 10 == 0)
            check_all(store->kv, values);
        if (round % 100 == 0) {
            kv_batch_free(TAKE(batch));
            store_reopen(store);
            check_all(store->kv, values);
        }
    }
}

/* --- crashes of the memory back end --- */

static uint64_t draw(void *context, uint64_t bound)
{
    (void)context;
    return (uint64_t)random() % bound;
}

static int number_of(struct kv *kv)
{
    AUTO_VALUE(bytes) value = {.max = 100};
    enum err err = kv_get(the_lane(), kv, SLICE_LITERAL("number"), &value);
    int number = -1;
    if (err == OK)
        memcpy(&number, value.data, sizeof number);
    return number;
}

static void a_crash_leaves_a_prefix_that_holds_the_last_flush(void **state)
{
    struct store *store = *state;
    int flushed = -1, lost = 0, kept = 0;
    srandom(2);
    for (int number = 0; number < 5000; number++) {
        put(store->kv, SLICE_LITERAL("number"), slice_of(&number, sizeof number));
        if (random() % 20 == 0) {
            assert_int_equal(kv_flush(the_lane(), store->kv), OK);
            flushed = number;
        }
        if (random() % 50 != 0)
            continue;
        kv_close(store->kv);
        kv_memory_crash(store->world, draw, NULL);
        store_open(store);
        int found = number_of(store->kv);
        assert_in_range(found + 1, flushed + 1, number + 1);
        lost += found < number;
        kept += found > flushed;
        number = found;
        flushed = found;
    }
    assert_true(lost > 10);
    assert_true(kept > 10);
}

static void history_without_flushes_is_bounded(void **state)
{
    struct store *store = *state;
    for (int number = 0; number < 3000; number++)
        put(store->kv, SLICE_LITERAL("number"), slice_of(&number, sizeof number));
    kv_close(store->kv);
    srandom(3);
    kv_memory_crash(store->world, draw, NULL);
    store_open(store);
    assert_in_range(number_of(store->kv), 3000 - 1025, 2999);
}

#define ON_BOTH(test)                                                                              \
    {#test " (rocks)", test, setup_rocks, teardown, NULL},                                         \
    {                                                                                              \
#test " (memory)", test, setup_memory, teardown, NULL                                      \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(what_was_put_is_found),
        ON_BOTH(a_value_above_the_callers_maximum_is_refused),
        ON_BOTH(a_batch_is_applied_in_its_order),
        ON_BOTH(iteration_stays_within_its_bounds),
        ON_BOTH(iterators_and_snapshots_see_one_point),
        ON_BOTH(what_was_flushed_survives_a_close),
        ON_BOTH(a_checkpoint_is_a_store_of_its_own),
        ON_BOTH(a_store_is_opened_once_and_made_only_when_wanted),
        ON_BOTH(the_largest_key_and_value_fit),
        ON_BOTH(random_batches_agree_with_a_model),
        cmocka_unit_test_setup_teardown(a_crash_leaves_a_prefix_that_holds_the_last_flush,
                                        setup_memory, teardown),
        cmocka_unit_test_setup_teardown(history_without_flushes_is_bounded, setup_memory, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
