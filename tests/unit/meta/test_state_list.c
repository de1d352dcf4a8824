/* Listings as S3 clients expect them: prefixes, delimiters, markers. */
#include "fixture.h"

FIXTURE_SERVER

static const char *const keys[] = {"a", "a/b", "a/c/d", "a/c/e", "a0", "b/", "b/x", "c"};

static const struct {
    const char *prefix, *delimiter, *after;
    uint32_t max;
    const char *expected; /* prefixes in brackets */
    bool truncated;
} cases[] = {
    {"", "", "", 1000, "a a/b a/c/d a/c/e a0 b/ b/x c ", false},
    {"", "", "", 8, "a a/b a/c/d a/c/e a0 b/ b/x c ", false},
    {"", "", "", 7, "a a/b a/c/d a/c/e a0 b/ b/x ", true},
    {"", "", "", 0, "", false},
    {"", "/", "", 1000, "a [a/] a0 [b/] c ", false},
    {"", "/", "", 2, "a [a/] ", true},
    {"", "/", "a/", 1000, "a0 [b/] c ", false},       /* the prefix itself: all of it is skipped */
    {"", "/", "a/b", 1000, "[a/] a0 [b/] c ", false}, /* inside: keys follow, so it is shown */
    {"", "/", "a/c/e", 1000, "a0 [b/] c ", false},    /* inside, but nothing follows */
    {"", "", "a/", 1000, "a/b a/c/d a/c/e a0 b/ b/x c ", false},
    {"a/", "/", "", 1000, "a/b [a/c/] ", false},
    {"a/", "/", "a/b", 1, "[a/c/] ", false},
    {"a/", "/", "a/c/", 1, "", false},
    {"a/", "/", "a/c/d", 1, "[a/c/] ", false},
    {"a/c/", "/", "", 1000, "a/c/d a/c/e ", false},
    {"b/", "/", "", 1000, "b/ b/x ", false}, /* a key that equals the prefix is a key */
    {"b/", "/", "b/", 1000, "b/x ", false},
    {"b", "/", "", 1000, "[b/] ", false},
    {"a", "c/", "", 1000, "a a/b [a/c/] a0 ", false},
    {"", "/", "zzz", 1000, "", false},
    {"b", "", "a", 1000, "b/ b/x ", false},
    {"b", "", "c", 1000, "", false},
    {"a/", "", "a", 1000, "a/b a/c/d a/c/e ", false},
    {"x", "/", "", 1000, "", false},
};

static void listings_follow_prefix_delimiter_and_marker(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct object_put put = {.bucket_id = world.bucket_id, .key = slice_of_text(keys[i])};
        struct object_written written;
        assert_int_equal(meta_object_put(NULL, world.client, &put, &written), OK);
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct list_query query = {.bucket_id = world.bucket_id,
                                   .prefix = slice_of_text(cases[i].prefix),
                                   .delimiter = slice_of_text(cases[i].delimiter),
                                   .after = slice_of_text(cases[i].after),
                                   .max = cases[i].max};
        AUTO(list_page) page = NULL;
        assert_int_equal(meta_object_list(NULL, world.client, &query, &page), OK);
        AUTO_VALUE(bytes) found = {.max = 1000};
        for (uint32_t j = 0; j < page->count; j++)
            bytes_append_format(&found, page->entries[j].is_prefix ? "[%.*s] " : "%.*s ",
                                SLICE_PRINT(page->entries[j].key));
        if (!slice_equal_text(bytes_slice(&found), cases[i].expected) ||
            page->truncated != cases[i].truncated)
            fail_msg("case %zu prefix=%s delimiter=%s after=%s: %.*s", i, cases[i].prefix,
                     cases[i].delimiter, cases[i].after, SLICE_PRINT(bytes_slice(&found)));
    }
    world_deinit(&world);
}

/* A marker longer than any key is still a place in the order. */
static void a_marker_may_be_longer_than_a_key(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    static uint8_t key[META_KEY_BYTES_MAX];
    static uint8_t marker[META_KEY_BYTES_MAX + 100];
    memset(key, 'k', sizeof key);
    memset(marker, 'k', sizeof marker);
    const struct slice names[] = {slice_of(key, sizeof key), SLICE_LITERAL("l")};
    for (size_t i = 0; i < 2; i++) {
        struct object_put put = {.bucket_id = world.bucket_id, .key = names[i]};
        struct object_written written;
        assert_int_equal(meta_object_put(NULL, world.client, &put, &written), OK);
    }
    struct list_query query = {
        .bucket_id = world.bucket_id, .after = slice_of(marker, sizeof marker), .max = 10};
    AUTO(list_page) page = NULL;
    assert_int_equal(meta_object_list(NULL, world.client, &query, &page), OK);
    assert_int_equal(page->count, 1);
    assert_true(slice_equal(page->entries[0].key, names[1]));
    world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listings_follow_prefix_delimiter_and_marker),
        cmocka_unit_test(a_marker_may_be_longer_than_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
