/* Multipart uploads over the real metadata. */
#include "service.h"

#include "base/mem.h"

#define PART ((size_t)5 << 20)

static void done(struct answer answer)
{
    answer_deinit(&answer);
}

/* Begin an upload; its id. */
static void begin(struct service *service, const char *key, const char *const *headers,
                  char out_id[2048])
{
    char target[256];
    snprintf(target, sizeof target, "/bucket/%s?uploads", key);
    struct answer answer = service_call(service, "POST", target, headers, slice_of(NULL, 0));
    assert_int_equal(answer.status, 200);
    answer_element(&answer, "UploadId", out_id);
    assert_int_equal(strlen(out_id), 32);
    done(answer);
}

/* Upload a part; its ETag with quotes. */
static void part(struct service *service, const char *key, const char *id, unsigned number,
                 char fill, size_t bytes, char out_etag[2048])
{
    char target[4096];
    snprintf(target, sizeof target, "/bucket/%s?partNumber=%u&uploadId=%s", key, number, id);
    struct answer answer = service_put(service, target, fill, bytes);
    answer_header(&answer, "ETag", out_etag);
    done(answer);
}

struct listed {
    unsigned number;
    const char *etag;
    const char *more; /* XML behind the ETag */
};

static char *document(const struct listed *parts, size_t count)
{
    struct bytes body = {.max = 1 << 20};
    bytes_append_text(&body, "<CompleteMultipartUpload>");
    for (size_t i = 0; i < count; i++)
        bytes_append_format(&body, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag>%s</Part>",
                            parts[i].number, parts[i].etag,
                            parts[i].more == NULL ? "" : parts[i].more);
    bytes_append_text(&body, "</CompleteMultipartUpload>");
    char *text = slice_to_text(bytes_slice(&body));
    bytes_deinit(&body);
    return text;
}

static struct answer complete(struct service *service, const char *key, const char *id,
                              const char *const *headers, const struct listed *parts, size_t count)
{
    char target[4096];
    snprintf(target, sizeof target, "/bucket/%s?uploadId=%s", key, id);
    char *body = document(parts, count);
    struct answer answer = service_call(service, "POST", target, headers, slice_of_text(body));
    mem_free(body);
    return answer;
}

static void completion_is(struct service *service, const char *key, const char *id,
                          const char *const *headers, const struct listed *parts, size_t count,
                          unsigned status, const char *code)
{
    char text[2048];
    struct answer answer = complete(service, key, id, headers, parts, count);
    if (answer.status != status)
        print_message("%s\n", answer.body);
    assert_int_equal(answer.status, status);
    assert_string_equal(answer_element(&answer, "Code", text), code);
    done(answer);
}

static void parts_become_an_object(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char id[2048], first[2048], second[2048], text[2048];
    const char *headers[] = {"content-type: text/plain", "x-amz-meta-color: blue", NULL};
    begin(service, "key", headers, id);
    part(service, "key", id, 9, 'b', 10, second);
    part(service, "key", id, 2, 'x', 20, first);
    part(service, "key", id, 2, 'a', PART, first);
    part(service, "key", id, 5, 'c', PART, text); /* left out */
    service_refuses(service, 404, "NoSuchKey", "GET", "/bucket/key", "");

    struct listed parts[] = {{2, first, NULL}, {9, second, NULL}};
    struct answer answer = complete(service, "key", id, NULL, parts, 2);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer_element(&answer, "Location", text),
                        "http://shale.test:9000/bucket/key");
    assert_string_equal(answer_element(&answer, "Bucket", text), "bucket");
    assert_string_equal(answer_element(&answer, "Key", text), "key");
    assert_string_equal(answer_element(&answer, "ChecksumType", text), "FULL_OBJECT");
    char etag[2048];
    answer_element(&answer, "ETag", etag);
    assert_non_null(strstr(etag, "-2&quot;"));

    struct answer object = service_expect(service, 200, "GET", "/bucket/key", "");
    assert_int_equal(object.body_bytes, PART + 10);
    for (size_t i = 0; i < object.body_bytes; i++)
        assert_int_equal(object.body[i], i < PART ? 'a' : 'b');
    assert_string_equal(answer_header(&object, "x-amz-meta-color", text), "blue");
    assert_string_equal(answer_header(&object, "Content-Type", text), "text/plain");
    done(object);

    /* The answer was lost: the same question gets the same answer, another one does not. */
    struct answer again = complete(service, "key", id, NULL, parts, 2);
    assert_int_equal(again.status, 200);
    assert_string_equal(again.body, answer.body);
    done(again);
    done(answer);
    completion_is(service, "key", id, NULL, parts, 1, 404, "NoSuchUpload");
}

static void an_upload_of_nothing_is_an_empty_object(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char id[2048], etag[2048], text[2048];
    begin(service, "key", NULL, id);
    part(service, "key", id, 1, 'a', 0, etag);
    struct listed parts[] = {{1, etag, NULL}};
    completion_is(service, "key", id, NULL, parts, 1, 200, "");
    struct answer answer = service_expect(service, 200, "GET", "/bucket/key", "");
    assert_int_equal(answer.body_bytes, 0);
    assert_string_equal(answer_header(&answer, "ETag", text),
                        "\"59adb24ef3cdbe0297f05b395827453f-1\"");
    done(answer);
}

static void parts_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char id[2048], etags[4][2048];
    begin(service, "key", NULL, id);
    part(service, "key", id, 1, 'a', PART, etags[1]);
    part(service, "key", id, 2, 'b', PART - 1, etags[2]);
    part(service, "key", id, 3, 'c', 0, etags[3]);
    const struct {
        struct listed parts[3];
        size_t count;
        unsigned status;
        const char *code;
    } cases[] = {
        {{{2, etags[2], NULL}, {1, etags[1], NULL}}, 2, 400, "InvalidPartOrder"},
        {{{1, etags[1], NULL}, {1, etags[1], NULL}}, 2, 400, "InvalidPartOrder"},
        {{{1, etags[2], NULL}}, 1, 400, "InvalidPart"},
        {{{4, etags[1], NULL}}, 1, 400, "InvalidPart"},
        {{{1, "nonsense", NULL}}, 1, 400, "InvalidPart"},
        {{{10001, etags[1], NULL}}, 1, 400, "InvalidPart"},
        {{{1, etags[1], NULL}, {2, etags[2], NULL}, {3, etags[3], NULL}}, 3, 400, "EntityTooSmall"},
        {{{0}}, 0, 400, "MalformedXML"},
        {{{1, etags[1], NULL}, {2, etags[2], NULL}}, 2, 200, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        completion_is(service, "key", id, NULL, cases[i].parts, cases[i].count, cases[i].status,
                      cases[i].code);
    service_refuses(service, 404, "NoSuchUpload", "POST",
                    "/bucket/key?uploadId=00000000000000000000000000000000",
                    "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>"
                    "</CompleteMultipartUpload>");
}

static void what_the_client_expects_of_the_whole_is_checked(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char id[2048], etag[2048];
    const char *crc32[] = {"x-amz-checksum-algorithm: CRC32", "x-amz-checksum-type: FULL_OBJECT",
                           NULL};
    begin(service, "key", crc32, id);
    part(service, "key", id, 1, 'a', 4, etag); /* CRC-32 of "aaaa" is ad98e545 */
    struct listed parts[] = {{1, etag, NULL}};
    static const struct {
        const char *header;
        unsigned status;
        const char *code;
    } cases[] = {
        {"x-amz-mp-object-size: 5", 400, "InvalidRequest"},
        {"x-amz-mp-object-size: -4", 400, "InvalidRequest"},
        {"x-amz-checksum-type: COMPOSITE", 400, "InvalidRequest"},
        {"x-amz-checksum-type: SOMETHING", 400, "InvalidRequest"},
        {"x-amz-checksum-crc32: AAAAAA==", 400, "BadDigest"},
        {"x-amz-checksum-crc32: AAAA", 400, "InvalidRequest"},
        {"x-amz-checksum-crc32c: AAAAAA==", 400, "BadDigest"},
        {"if-match: \"0123456789abcdef0123456789abcdef\"", 404, "NoSuchKey"},
        {"if-none-match: \"etag\"", 501, "NotImplemented"},
        {"x-amz-checksum-crc32: rZjlRQ==", 200, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *headers[] = {cases[i].header, NULL};
        completion_is(service, "key", id, headers, parts, 1, cases[i].status, cases[i].code);
    }
    begin(service, "key", NULL, id);
    part(service, "key", id, 1, 'a', 4, etag);
    const char *absent[] = {"if-none-match: *", NULL};
    completion_is(service, "key", id, absent, parts, 1, 412, "PreconditionFailed");
    const char *right[] = {"x-amz-mp-object-size: 4", NULL};
    completion_is(service, "key", id, right, parts, 1, 200, "");
}

static void a_composite_checksum_needs_one_for_each_part(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char id[2048], text[2048], target[4096];
    const char *sha1[] = {"x-amz-checksum-algorithm: SHA1", NULL};
    begin(service, "key", sha1, id);
    snprintf(target, sizeof target, "/bucket/key?partNumber=1&uploadId=%s", id);
    service_refuses(service, 400, "InvalidRequest", "PUT", target, "aaaa");
    const char *wrong[] = {"x-amz-checksum-crc32: rZjlRQ==", NULL};
    struct answer answer = service_call(service, "PUT", target, wrong, SLICE_LITERAL("aaaa"));
    assert_string_equal(answer_element(&answer, "Code", text), "InvalidRequest");
    done(answer);
    const char *right[] = {"x-amz-checksum-sha1: cMiB1KJphN3OeV9vcYF8nPRIDnk=", NULL};
    answer = service_call(service, "PUT", target, right, SLICE_LITERAL("aaaa"));
    if (answer.status != 200)
        print_message("%s\n", answer.body);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer_header(&answer, "x-amz-checksum-sha1", text),
                        "cMiB1KJphN3OeV9vcYF8nPRIDnk=");
    char etag[2048];
    answer_header(&answer, "ETag", etag);
    done(answer);

    struct listed parts[] = {{1, etag, NULL}};
    completion_is(service, "key", id, NULL, parts, 1, 400, "InvalidRequest");
    parts[0].more = "<ChecksumSHA1>AAAAAAAAAAAAAAAAAAAAAAAAAAA=</ChecksumSHA1>";
    completion_is(service, "key", id, NULL, parts, 1, 400, "InvalidPart");
    parts[0].more = "<ChecksumCRC32>rZjlRQ==</ChecksumCRC32>";
    completion_is(service, "key", id, NULL, parts, 1, 400, "BadDigest");
    parts[0].more = "<ChecksumSHA1>cMiB1KJphN3OeV9vcYF8nPRIDnk=</ChecksumSHA1>";
    answer = complete(service, "key", id, NULL, parts, 1);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer_element(&answer, "ChecksumType", text), "COMPOSITE");
    answer_element(&answer, "ChecksumSHA1", text);
    assert_string_equal(text + strlen(text) - 2, "-1");
    done(answer);
}

static void create_checks_the_kind_of_checksum(void **state)
{
    (void)state;
    static const struct {
        const char *headers[3];
        unsigned status;
    } cases[] = {
        {{"x-amz-checksum-algorithm: CRC1"}, 400},
        {{"x-amz-checksum-type: COMPOSITE"}, 400},
        {{"x-amz-checksum-algorithm: SHA256", "x-amz-checksum-type: FULL_OBJECT"}, 400},
        {{"x-amz-checksum-algorithm: CRC64NVME", "x-amz-checksum-type: COMPOSITE"}, 400},
        {{"x-amz-checksum-algorithm: CRC32", "x-amz-checksum-type: SIDEWAYS"}, 400},
        {{"x-amz-checksum-algorithm: crc32c", "x-amz-checksum-type: COMPOSITE"}, 200},
        {{"x-amz-checksum-algorithm: CRC64NVME"}, 200},
    };
    AUTO(service) service = service_new();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct answer answer = service_call(service, "POST", "/bucket/key?uploads",
                                            cases[i].headers, slice_of(NULL, 0));
        assert_int_equal(answer.status, cases[i].status);
        done(answer);
    }
}

static void parts_are_listed_page_by_page(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char id[2048], text[2048], target[4096];
    const char *crc32[] = {"x-amz-checksum-algorithm: CRC32", "x-amz-checksum-type: FULL_OBJECT",
                           NULL};
    begin(service, "key", crc32, id);
    for (unsigned number = 1; number <= 9; number += 2)
        part(service, "key", id, number, 'a', 4, text);
    static const struct {
        const char *query, *numbers, *truncated, *next;
    } cases[] = {
        {"", "1 3 5 7 9", "false", "9"},
        {"&max-parts=2", "1 3", "true", "3"},
        {"&max-parts=2&part-number-marker=3", "5 7", "true", "7"},
        {"&max-parts=2&part-number-marker=8", "9", "false", "9"},
        {"&part-number-marker=10000", "", "false", "0"},
        {"&max-parts=0", "", "false", "0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(target, sizeof target, "/bucket/key?uploadId=%s%s", id, cases[i].query);
        struct answer answer = service_expect(service, 200, "GET", target, "");
        assert_string_equal(answer_all(&answer, "PartNumber", text), cases[i].numbers);
        assert_string_equal(answer_element(&answer, "IsTruncated", text), cases[i].truncated);
        assert_string_equal(answer_element(&answer, "NextPartNumberMarker", text), cases[i].next);
        assert_string_equal(answer_element(&answer, "ChecksumAlgorithm", text), "CRC32");
        if (cases[i].numbers[0] != '\0')
            assert_string_equal(answer_element(&answer, "ChecksumCRC32", text), "rZjlRQ==");
        done(answer);
    }
    snprintf(target, sizeof target, "/bucket/key?uploadId=%s&max-parts=-1", id);
    service_refuses(service, 400, "InvalidArgument", "GET", target, "");
    snprintf(target, sizeof target, "/bucket/key?uploadId=%s&part-number-marker=x", id);
    service_refuses(service, 400, "InvalidArgument", "GET", target, "");
    snprintf(target, sizeof target, "/bucket/other?uploadId=%s", id);
    service_refuses(service, 404, "NoSuchUpload", "GET", target, "");
    snprintf(target, sizeof target, "/bucket/key?partNumber=10001&uploadId=%s", id);
    service_refuses(service, 400, "InvalidArgument", "PUT", target, "x");
}

static void uploads_are_listed_and_aborted(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char ids[5][2048], text[2048], target[4096];
    static const char *const keys[] = {"a", "b/1", "b/2", "c", "c"};
    for (int i = 0; i < 5; i++)
        begin(service, keys[i], NULL, ids[i]);
    struct answer answer = service_expect(service, 200, "GET", "/bucket?uploads", "");
    assert_string_equal(answer_all(&answer, "Key", text), "a b/1 b/2 c c");
    char all[2048 * 5];
    snprintf(all, sizeof all, "%s %s %s %s %s", ids[0], ids[1], ids[2], ids[3], ids[4]);
    assert_string_equal(answer_all(&answer, "UploadId", text), all);
    done(answer);

    answer = service_expect(service, 200, "GET", "/bucket?uploads&delimiter=/&max-uploads=2", "");
    assert_string_equal(answer_all(&answer, "Key", text), "a");
    assert_non_null(strstr(answer.body, "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"));
    assert_string_equal(answer_element(&answer, "NextKeyMarker", text), "b/");
    assert_string_equal(answer_element(&answer, "NextUploadIdMarker", text), "");
    done(answer);
    answer = service_expect(service, 200, "GET",
                            "/bucket?uploads&delimiter=/&max-uploads=1&key-marker=b/", "");
    assert_string_equal(answer_element(&answer, "UploadId", text), ids[3]);
    assert_string_equal(answer_element(&answer, "NextKeyMarker", text), "c");
    assert_string_equal(answer_element(&answer, "NextUploadIdMarker", text), ids[3]);
    done(answer);
    snprintf(target, sizeof target, "/bucket?uploads&key-marker=c&upload-id-marker=%s", ids[3]);
    answer = service_expect(service, 200, "GET", target, "");
    assert_string_equal(answer_all(&answer, "UploadId", text), ids[4]);
    done(answer);
    done(service_expect(service, 200, "GET", "/bucket?uploads&upload-id-marker=ignored", ""));
    service_refuses(service, 400, "InvalidArgument", "GET",
                    "/bucket?uploads&key-marker=c&upload-id-marker=unknown", "");

    snprintf(target, sizeof target, "/bucket/c?uploadId=%s", ids[3]);
    done(service_expect(service, 204, "DELETE", target, ""));
    service_refuses(service, 404, "NoSuchUpload", "DELETE", target, "");
    answer = service_expect(service, 200, "GET", "/bucket?uploads&prefix=c", "");
    assert_string_equal(answer_all(&answer, "UploadId", text), ids[4]);
    done(answer);
}

static void a_part_is_made_of_another_object(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char id[2048], text[2048], target[4096], etags[2][2048];
    done(service_put(service, "/bucket/large", 'a', PART + 100));
    struct answer answer =
        service_call(service, "PUT", "/bucket/small", NULL, SLICE_LITERAL("0123456789"));
    done(answer);
    begin(service, "key", NULL, id);
    static const struct {
        const char *headers[4];
        unsigned status;
        const char *code;
    } refused[] = {
        {{"x-amz-copy-source: /bucket/none"}, 404, "NoSuchKey"},
        {{"x-amz-copy-source: /nobucket/key"}, 404, "NoSuchBucket"},
        {{"x-amz-copy-source: /bucket/small", "x-amz-copy-source-range: bytes=5-10"},
         400,
         "InvalidArgument"},
        {{"x-amz-copy-source: /bucket/small", "x-amz-copy-source-range: 5-6"},
         400,
         "InvalidArgument"},
        {{"x-amz-copy-source: /bucket/small", "x-amz-copy-source-if-match: \"x\""},
         412,
         "PreconditionFailed"},
    };
    snprintf(target, sizeof target, "/bucket/key?partNumber=1&uploadId=%s", id);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        answer = service_call(service, "PUT", target, refused[i].headers, slice_of(NULL, 0));
        assert_string_equal(answer_element(&answer, "Code", text), refused[i].code);
        assert_int_equal(answer.status, refused[i].status);
        done(answer);
    }
    const char *large[] = {"x-amz-copy-source: /bucket/large", NULL};
    answer = service_call(service, "PUT", target, large, slice_of(NULL, 0));
    assert_int_equal(answer.status, 200);
    answer_element(&answer, "ETag", etags[0]);
    done(answer);
    const char *range[] = {"x-amz-copy-source: bucket/small", "x-amz-copy-source-range: bytes=3-5",
                           NULL};
    snprintf(target, sizeof target, "/bucket/key?partNumber=2&uploadId=%s", id);
    answer = service_call(service, "PUT", target, range, slice_of(NULL, 0));
    assert_int_equal(answer.status, 200);
    answer_element(&answer, "ETag", etags[1]);
    done(answer);
    struct listed parts[] = {{1, etags[0], NULL}, {2, etags[1], NULL}};
    completion_is(service, "key", id, NULL, parts, 2, 200, "");
    answer = service_expect(service, 200, "GET", "/bucket/key", "");
    assert_int_equal(answer.body_bytes, PART + 103);
    assert_string_equal(answer.body + PART + 98, "aa345");
    done(answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_become_an_object),
        cmocka_unit_test(an_upload_of_nothing_is_an_empty_object),
        cmocka_unit_test(parts_that_do_not_fit_are_refused),
        cmocka_unit_test(what_the_client_expects_of_the_whole_is_checked),
        cmocka_unit_test(a_composite_checksum_needs_one_for_each_part),
        cmocka_unit_test(create_checks_the_kind_of_checksum),
        cmocka_unit_test(parts_are_listed_page_by_page),
        cmocka_unit_test(uploads_are_listed_and_aborted),
        cmocka_unit_test(a_part_is_made_of_another_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
