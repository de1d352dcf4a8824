/* ListObjects, ListObjectsV2 and ListObjectVersions over the real metadata. */
#include "service.h"

#include "s3/uri.h"

static const char *const keys[] = {
    "a", "b%20c", "d/1", "d/2", "d/e/3", "dd", "f//g", "x%3Cy%26", "z--1", "z--2", "z-3",
};

static void done(struct answer answer)
{
    answer_deinit(&answer);
}

static int setup(void **state)
{
    struct service *service = service_new();
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char target[64];
        snprintf(target, sizeof target, "/bucket/%s", keys[i]);
        done(service_put(service, target, 'x', i));
    }
    *state = service;
    return 0;
}

static int teardown(void **state)
{
    service_free(*state);
    return 0;
}

/* Of the answer, behind the prefix that was asked for. */
static const char *common_prefixes(const struct answer *answer, char out[2048])
{
    out[0] = '\0';
    char *begin = strstr(answer->body, "<CommonPrefixes>");
    if (begin == NULL)
        return out;
    return answer_all(&(struct answer){.body = begin}, "Prefix", out);
}

static void one_page_holds_what_was_asked_for(void **state)
{
    static const struct {
        const char *query, *keys, *prefixes, *truncated;
    } cases[] = {
        {"", "a b c d/1 d/2 d/e/3 dd f//g x&lt;y&amp; z--1 z--2 z-3", "", "false"},
        {"&encoding-type=url", "a b%20c d/1 d/2 d/e/3 dd f//g x%3Cy%26 z--1 z--2 z-3", "", "false"},
        {"&prefix=d", "d/1 d/2 d/e/3 dd", "", "false"},
        {"&prefix=none", "", "", "false"},
        {"&delimiter=/", "a b c dd x&lt;y&amp; z--1 z--2 z-3", "d/ f/", "false"},
        {"&delimiter=/&prefix=d/", "d/1 d/2", "d/e/", "false"},
        {"&delimiter=--", "a b c d/1 d/2 d/e/3 dd f//g x&lt;y&amp; z-3", "z--", "false"},
        {"&delimiter=//", "a b c d/1 d/2 d/e/3 dd x&lt;y&amp; z--1 z--2 z-3", "f//", "false"},
        {"&max-keys=2", "a b c", "", "true"},
        {"&max-keys=3&delimiter=/", "a b c", "d/", "true"},
        {"&max-keys=0", "", "", "false"},
        {"&max-keys=5000&prefix=a", "a", "", "false"},
    };
    struct service *service = *state;
    static const char *const versions[] = {"/bucket?list-type=2", "/bucket?x-id=ListObjects",
                                           "/bucket?versions"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t k = 0; k < 3; k++) {
            char target[256];
            char text[2048];
            snprintf(target, sizeof target, "%s%s", versions[k], cases[i].query);
            struct answer answer = service_expect(service, 200, "GET", target, "");
            assert_string_equal(answer_all(&answer, "Key", text), cases[i].keys);
            assert_string_equal(answer_element(&answer, "IsTruncated", text), cases[i].truncated);
            assert_string_equal(common_prefixes(&answer, text), cases[i].prefixes);
            done(answer);
        }
    }
}

/* Follow a listing page by page; the keys and prefixes of all pages. Markers must need no
 * unescaping. */
static void walk(struct service *service, const char *base, const char *marker_name,
                 const char *next_element, char out[2048])
{
    char target[4096];
    char one[2048];
    snprintf(target, sizeof target, "%s", base);
    out[0] = '\0';
    for (int pages = 0;; pages++) {
        assert_true(pages < 20);
        struct answer answer = service_expect(service, 200, "GET", target, "");
        strcat(strcat(out, answer_all(&answer, "Key", one)), "|");
        if (common_prefixes(&answer, one)[0] != '\0')
            strcat(strcat(out, one), "|");
        bool more = strcmp(answer_element(&answer, "IsTruncated", one), "true") == 0;
        answer_element(&answer, next_element, one);
        assert_true(more == (one[0] != '\0'));
        done(answer);
        if (!more)
            return;
        AUTO_VALUE(bytes) encoded = {.max = 4096};
        s3_uri_encode(&encoded, slice_of_text(one), false);
        snprintf(target, sizeof target, "%s&%s=%.*s", base, marker_name,
                 SLICE_PRINT(bytes_slice(&encoded)));
    }
}

static void pages_join_to_the_whole(void **state)
{
    struct service *service = *state;
    char text[2048];
    walk(service, "/bucket?list-type=2&max-keys=4", "continuation-token", "NextContinuationToken",
         text);
    assert_string_equal(text, "a b c d/1 d/2|d/e/3 dd f//g x&lt;y&amp;|z--1 z--2 z-3|");
    walk(service, "/bucket?list-type=2&max-keys=3&delimiter=/", "continuation-token",
         "NextContinuationToken", text);
    assert_string_equal(text, "a b c|d/|dd x&lt;y&amp;|f/|z--1 z--2 z-3|");
    walk(service, "/bucket?max-keys=4&delimiter=/", "marker", "NextMarker", text);
    assert_string_equal(text, "a b c dd|d/|x&lt;y&amp; z--1 z--2|f/|z-3|");
    walk(service, "/bucket?versions&max-keys=3&delimiter=/&prefix=d", "key-marker", "NextKeyMarker",
         text);
    assert_string_equal(text, "dd|d/|");
}

static void start_after_and_markers_are_exclusive(void **state)
{
    static const struct {
        const char *query, *keys;
    } cases[] = {
        {"list-type=2&prefix=d&start-after=d/2", "d/e/3 dd"},
        {"list-type=2&prefix=d&start-after=d/10", "d/2 d/e/3 dd"},
        {"list-type=2&prefix=d&start-after=a", "d/1 d/2 d/e/3 dd"},
        {"list-type=2&prefix=d&start-after=z", ""},
        {"prefix=d&marker=d/2", "d/e/3 dd"},
        {"versions&prefix=d&key-marker=d/2", "d/e/3 dd"},
        {"versions&prefix=d&key-marker=d/2&version-id-marker=null", "d/e/3 dd"},
    };
    struct service *service = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char target[256];
        char text[2048];
        snprintf(target, sizeof target, "/bucket?%s", cases[i].query);
        struct answer answer = service_expect(service, 200, "GET", target, "");
        assert_string_equal(answer_all(&answer, "Key", text), cases[i].keys);
        done(answer);
    }
}

static void wrong_arguments_are_named(void **state)
{
    static const struct {
        const char *query, *argument;
    } cases[] = {
        {"list-type=2&max-keys=-1", "max-keys"},
        {"list-type=2&max-keys=many", "max-keys"},
        {"list-type=2&max-keys=2147483648", "max-keys"},
        {"list-type=2&encoding-type=base64", "encoding-type"},
        {"list-type=2&continuation-token=", "continuation-token"},
        {"list-type=2&continuation-token=bm8gdG9rZW4=", "continuation-token"},
        {"list-type=2&fetch-owner=perhaps", "fetch-owner"},
        {"versions&version-id-marker=null", "version-id-marker"},
        {"versions&key-marker=a&version-id-marker=3sL4kqtJlcpXro", "version-id-marker"},
    };
    struct service *service = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char target[256];
        char text[2048];
        snprintf(target, sizeof target, "/bucket?%s", cases[i].query);
        struct answer answer = service_expect(service, 400, "GET", target, "");
        assert_string_equal(answer_element(&answer, "Code", text), "InvalidArgument");
        assert_string_equal(answer_element(&answer, "ArgumentName", text), cases[i].argument);
        done(answer);
    }
    service_refuses(service, 404, "NoSuchBucket", "GET", "/missing?list-type=2", "");
}

static void entries_tell_of_the_object(void **state)
{
    struct service *service = *state;
    char text[2048];
    struct answer answer =
        service_expect(service, 200, "GET", "/bucket?list-type=2&prefix=d/2", "");
    assert_string_equal(answer_element(&answer, "Size", text), "3");
    assert_string_equal(answer_element(&answer, "ETag", text),
                        "&quot;f561aaf6ef0bf14d4208bb46a4ccb3ad&quot;");
    assert_string_equal(answer_element(&answer, "ChecksumAlgorithm", text), "CRC64NVME");
    assert_string_equal(answer_element(&answer, "ChecksumType", text), "FULL_OBJECT");
    assert_string_equal(answer_element(&answer, "StorageClass", text), "STANDARD");
    assert_string_equal(answer_element(&answer, "KeyCount", text), "1");
    assert_string_equal(answer_element(&answer, "Owner", text), "");
    assert_int_equal(strlen(answer_element(&answer, "LastModified", text)), 24);
    done(answer);
    answer =
        service_expect(service, 200, "GET", "/bucket?list-type=2&prefix=d/2&fetch-owner=true", "");
    assert_string_equal(answer_element(&answer, "ID", text), "AKTEST");
    done(answer);
    answer = service_expect(service, 200, "GET", "/bucket?versions&prefix=d/2", "");
    assert_string_equal(answer_element(&answer, "VersionId", text), "null");
    assert_string_equal(answer_element(&answer, "IsLatest", text), "true");
    done(answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_page_holds_what_was_asked_for),
        cmocka_unit_test(pages_join_to_the_whole),
        cmocka_unit_test(start_after_and_markers_are_exclusive),
        cmocka_unit_test(wrong_arguments_are_named),
        cmocka_unit_test(entries_tell_of_the_object),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
