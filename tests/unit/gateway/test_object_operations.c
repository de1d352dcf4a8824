/* GET, HEAD, PUT, DELETE, COPY of objects: ranges, parts, conditions, and what happens when a
 * service below fails at any point. */
#include "body.h"
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum {
    BIG_BYTES = 3000000,
    HUGE_BYTES = (64 << 20) + 100000, /* two blocks */
};
#define MIB (1 << 20)
#define FOX_ETAG "\"9e107d9d372bb6826bd81d3542a419d6\""

static uint8_t pattern[HUGE_BYTES];

static void put(struct cluster *cluster, const char *target, size_t bytes)
{
    struct call call = {
        .method = "PUT",
        .target = target,
        .body = slice_of(pattern, bytes),
        .mode = S3_PAYLOAD_UNSIGNED,
    };
    assert_int_equal(cluster_status(cluster, &call), 200);
}

static struct call fox(void)
{
    return (struct call){
        .method = "PUT",
        .target = "/bucket/fox",
        .body = SLICE_LITERAL("The quick brown fox jumps over the lazy dog"),
    };
}

struct expectation {
    const char *name;
    struct call call;
    unsigned status;
    const char *code;
    const char *header; /* of the answer, with its value (NULL: absent) */
    const char *value;
};

/* Run it; the answer is left to the caller. */
static void expect_open(struct cluster *cluster, const struct expectation *expected,
                        struct memory_exchange *memory)
{
    char code[64];
    cluster_call(cluster, &expected->call, memory);
    cluster_code(memory, code);
    const char *want = expected->code == NULL ? "" : expected->code;
    if (memory->exchange.status != expected->status || strcmp(code, want) != 0)
        print_error("case %s: %u %.300s\n", expected->name, memory->exchange.status,
                    memory->answer.bytes == 0 ? "" : (const char *)memory->answer.data);
    assert_int_equal(memory->exchange.status, expected->status);
    assert_string_equal(code, want);
    if (expected->header == NULL)
        return;
    struct slice found = memory_exchange_answer_header(memory, expected->header);
    if (!slice_equal(found, slice_of_text(expected->value)))
        print_error("case %s: %s: %.*s\n", expected->name, expected->header, SLICE_PRINT(found));
    assert_true(slice_equal(found, slice_of_text(expected->value)));
}

static void expect(struct cluster *cluster, const struct expectation *expected)
{
    struct memory_exchange memory;
    expect_open(cluster, expected, &memory);
    memory_exchange_deinit(&memory);
}

static bool answer_has(const struct memory_exchange *memory, const char *text)
{
    return memory->answer.bytes > 0 &&
           memmem(memory->answer.data, memory->answer.bytes, text, strlen(text)) != NULL;
}

static const struct {
    const char *range;
    unsigned status;
    const char *content_range;
    uint64_t offset;
    uint64_t bytes;
} ranges[] = {
    {NULL, 200, NULL, 0, BIG_BYTES},
    {"bytes=0-0", 206, "bytes 0-0/3000000", 0, 1},
    {"bytes=0-1048575", 206, "bytes 0-1048575/3000000", 0, MIB},
    {"bytes=1048575-1048577", 206, "bytes 1048575-1048577/3000000", MIB - 1, 3},
    {"bytes=5-2100000", 206, "bytes 5-2100000/3000000", 5, 2099996},
    {"bytes=2999999-", 206, "bytes 2999999-2999999/3000000", 2999999, 1},
    {"bytes=-5", 206, "bytes 2999995-2999999/3000000", 2999995, 5},
    {"bytes=0-9999999", 206, "bytes 0-2999999/3000000", 0, BIG_BYTES},
    {"bytes=3000000-", 416, "bytes */3000000", 0, 0},
    {"bytes=a-b", 200, NULL, 0, BIG_BYTES},
    {"bytes=0-1,3-4", 200, NULL, 0, BIG_BYTES},
};

static void a_range_gives_its_bytes(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    put(cluster, "/bucket/big", BIG_BYTES);
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        for (int head = 0; head < 2; head++) {
            struct expectation expected = {
                .name = ranges[i].range,
                .call = {.method = head ? "HEAD" : "GET",
                         .target = "/bucket/big",
                         .headers = {ranges[i].range == NULL ? NULL : "range", ranges[i].range}},
                .status = ranges[i].status,
                .code = ranges[i].status == 416 && !head ? "InvalidRange" : "",
                .header = "Content-Range",
                .value = ranges[i].content_range,
            };
            struct memory_exchange memory;
            expect_open(cluster, &expected, &memory);
            if (ranges[i].status != 416) {
                assert_int_equal(memory.exchange.content_bytes, ranges[i].bytes);
                assert_int_equal(memory.answer_bytes, head ? 0 : ranges[i].bytes);
                if (!head)
                    assert_memory_equal(memory.answer.data, pattern + ranges[i].offset,
                                        ranges[i].bytes);
            }
            memory_exchange_deinit(&memory);
        }
    }
}

static const struct {
    const char *target;
    unsigned status;
    const char *code;
    uint64_t offset;
    uint64_t bytes;
    const char *parts;
} parts[] = {
    {"/bucket/multi", 200, "", 0, 2600000, NULL},
    {"/bucket/multi?partNumber=1", 206, "", 0, 1500000, "3"},
    {"/bucket/multi?partNumber=3", 206, "", 1500000, 1000000, "3"},
    {"/bucket/multi?partNumber=5", 206, "", 2500000, 100000, "3"},
    {"/bucket/multi?partNumber=2", 416, "InvalidPartNumber", 0, 0, NULL},
    {"/bucket/multi?partNumber=7", 416, "InvalidPartNumber", 0, 0, NULL},
    {"/bucket/multi?partNumber=0", 400, "InvalidArgument", 0, 0, NULL},
    {"/bucket/multi?partNumber=10001", 400, "InvalidArgument", 0, 0, NULL},
    {"/bucket/multi?partNumber=x", 400, "InvalidArgument", 0, 0, NULL},
    {"/bucket/many", 200, "", 0, 6000000, NULL},
    {"/bucket/small?partNumber=1", 206, "", 0, 1000, NULL},
    {"/bucket/small?partNumber=2", 416, "InvalidPartNumber", 0, 0, NULL},
};

static void a_part_number_gives_that_part(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    cluster_add_multipart(cluster, "multi", (const uint32_t[]){1500000, 1000000, 100000}, 3);
    cluster_add_multipart(cluster, "many",
                          (const uint32_t[]){1000000, 1, 1999999, 1000000, 999999, 1000001}, 6);
    put(cluster, "/bucket/small", 1000);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct expectation expected = {
            .name = parts[i].target,
            .call = {.method = "GET", .target = parts[i].target},
            .status = parts[i].status,
            .code = parts[i].code,
            .header = "x-amz-mp-parts-count",
            .value = parts[i].parts,
        };
        struct memory_exchange memory;
        expect_open(cluster, &expected, &memory);
        if (parts[i].status < 300) {
            assert_int_equal(memory.answer_bytes, parts[i].bytes);
            assert_memory_equal(memory.answer.data, pattern + parts[i].offset, parts[i].bytes);
        }
        memory_exchange_deinit(&memory);
    }
}

#define PAST "Mon, 01 Jan 1990 00:00:00 GMT"
#define FUTURE "Fri, 01 Jan 2100 00:00:00 GMT"
#define GET_FOX(...)                                                                               \
    {                                                                                              \
        .method = "GET", .target = "/bucket/fox", .headers = { __VA_ARGS__ }                       \
    }

static const struct expectation reads[] = {
    {"etag", GET_FOX(NULL), 200, "", "ETag", FOX_ETAG},
    {"accepts ranges", GET_FOX(NULL), 200, "", "Accept-Ranges", "bytes"},
    {"no checksum unless asked", GET_FOX(NULL), 200, "", "x-amz-checksum-crc64nvme", NULL},
    {"checksum of the whole", GET_FOX("x-amz-checksum-mode", "ENABLED"), 200, "",
     "x-amz-checksum-type", "FULL_OBJECT"},
    {"no checksum of a range", GET_FOX("x-amz-checksum-mode", "ENABLED", "range", "bytes=1-2"), 206,
     "", "x-amz-checksum-type", NULL},
    {"if-match", GET_FOX("if-match", FOX_ETAG), 200, "", NULL, NULL},
    {"if-match another", GET_FOX("if-match", "\"x\""), 412, "PreconditionFailed", NULL, NULL},
    {"if-none-match", GET_FOX("if-none-match", FOX_ETAG), 304, "", "ETag", FOX_ETAG},
    {"if-none-match another", GET_FOX("if-none-match", "\"x\""), 200, "", NULL, NULL},
    {"if-modified-since future", GET_FOX("if-modified-since", FUTURE), 304, "", "Content-Type",
     NULL},
    {"if-modified-since past", GET_FOX("if-modified-since", PAST), 200, "", NULL, NULL},
    {"if-unmodified-since past", GET_FOX("if-unmodified-since", PAST), 412, "PreconditionFailed",
     NULL, NULL},
    {"if-range", GET_FOX("range", "bytes=0-1", "if-range", FOX_ETAG), 206, "", NULL, NULL},
    {"if-range another", GET_FOX("range", "bytes=0-1", "if-range", "\"x\""), 200, "", NULL, NULL},
    {"range and part",
     {.method = "GET", .target = "/bucket/fox?partNumber=1", .headers = {"range", "bytes=0-1"}},
     400,
     "InvalidRequest",
     NULL,
     NULL},
    {"version null",
     {.method = "GET", .target = "/bucket/fox?versionId=null"},
     200,
     "",
     NULL,
     NULL},
    {"another version",
     {.method = "GET", .target = "/bucket/fox?versionId=3"},
     404,
     "NoSuchVersion",
     NULL,
     NULL},
    {"no key",
     {.method = "GET", .target = "/bucket/none"},
     404,
     "NoSuchKey",
     "Content-Type",
     "application/xml"},
    {"no key, HEAD", {.method = "HEAD", .target = "/bucket/none"}, 404, "", NULL, NULL},
    {"no bucket", {.method = "GET", .target = "/nobucket/fox"}, 404, "NoSuchBucket", NULL, NULL},
    {"customer key", GET_FOX("x-amz-server-side-encryption-customer-algorithm", "AES256"), 400,
     "InvalidRequest", NULL, NULL},
    {"anonymous",
     {.method = "GET", .target = "/bucket/fox", .mode = S3_PAYLOAD_UNSIGNED, .anonymous = true},
     403,
     "AccessDenied",
     NULL,
     NULL},
};

static void reads_answer_as_documented(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    struct call call = fox();
    assert_int_equal(cluster_status(cluster, &call), 200);
    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++)
        expect(cluster, &reads[i]);
}

static void an_empty_object_is_an_object(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    put(cluster, "/bucket/empty", 0);
    const struct expectation expected[] = {
        {"get",
         {.method = "GET", .target = "/bucket/empty"},
         200,
         "",
         "ETag",
         "\"d41d8cd98f00b204e9800998ecf8427e\""},
        {"head",
         {.method = "HEAD", .target = "/bucket/empty"},
         200,
         "",
         "ETag",
         "\"d41d8cd98f00b204e9800998ecf8427e\""},
        {"range",
         {.method = "GET", .target = "/bucket/empty", .headers = {"range", "bytes=0-"}},
         416,
         "InvalidRange",
         "Content-Range",
         "bytes */0"},
        {"part",
         {.method = "GET", .target = "/bucket/empty?partNumber=1"},
         200,
         "",
         "Content-Range",
         NULL},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        expect(cluster, &expected[i]);
}

static void a_conditional_write_sees_the_current_object(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    static const struct {
        const char *header;
        const char *value;
        unsigned status;
        const char *code;
    } steps[] = {
        {"if-match", FOX_ETAG, 404, "NoSuchKey"},
        {"if-none-match", "*", 200, ""},
        {"if-none-match", "*", 412, "PreconditionFailed"},
        {"if-match", "\"00000000000000000000000000000000\"", 412, "PreconditionFailed"},
        {"if-match", "\"not an etag\"", 412, "PreconditionFailed"},
        {"if-match", FOX_ETAG, 200, ""},
        {"if-match", "*", 200, ""},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct expectation expected = {
            .name = steps[i].value,
            .call = fox(),
            .status = steps[i].status,
            .code = steps[i].code,
        };
        expected.call.headers[0] = steps[i].header;
        expected.call.headers[1] = steps[i].value;
        expect(cluster, &expected);
    }
}

#define DELETE_FOX(...)                                                                            \
    {                                                                                              \
        .method = "DELETE", .target = "/bucket/fox", .headers = { __VA_ARGS__ }                    \
    }

static void a_delete_is_idempotent_and_keeps_its_conditions(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    struct call call = fox();
    assert_int_equal(cluster_status(cluster, &call), 200);
    const struct expectation steps[] = {
        {"another etag", DELETE_FOX("if-match", "\"x\""), 412, "PreconditionFailed", NULL, NULL},
        {"another size", DELETE_FOX("x-amz-if-match-size", "7"), 412, "PreconditionFailed", NULL,
         NULL},
        {"another time", DELETE_FOX("x-amz-if-match-last-modified-time", PAST), 412,
         "PreconditionFailed", NULL, NULL},
        {"the beginning of time",
         DELETE_FOX("x-amz-if-match-last-modified-time", "Thu, 01 Jan 1970 00:00:00 GMT"), 412,
         "PreconditionFailed", NULL, NULL},
        {"another version",
         {.method = "DELETE", .target = "/bucket/fox?versionId=3"},
         404,
         "NoSuchVersion",
         NULL,
         NULL},
        {"this one", DELETE_FOX("if-match", FOX_ETAG), 204, "", NULL, NULL},
        {"again", DELETE_FOX(NULL), 204, "", NULL, NULL},
        {"condition on nothing", DELETE_FOX("if-match", FOX_ETAG), 404, "NoSuchKey", NULL, NULL},
        {"size of nothing", DELETE_FOX("x-amz-if-match-size", "7"), 404, "NoSuchKey", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        expect(cluster, &steps[i]);
    assert_int_equal(cluster_object_count(cluster), 0);
}

static struct call delete_call(const char *text)
{
    return (struct call){
        .method = "POST",
        .target = "/bucket?delete",
        .body = slice_of_text(text),
    };
}

static void deleting_many_answers_for_each(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    char target[64];
    for (int i = 0; i < 40; i++) {
        snprintf(target, sizeof target, "/bucket/key-%d", i);
        put(cluster, target, 10);
    }
    static char text[8192];
    size_t at = (size_t)snprintf(text, sizeof text, "<Delete>");
    for (int i = 0; i < 39; i++)
        at +=
            (size_t)snprintf(text + at, sizeof text - at, "<Object><Key>key-%d</Key></Object>", i);
    snprintf(text + at, sizeof text - at,
             "<Object><Key>none</Key></Object>"
             "<Object><Key>key-39</Key><ETag>\"x\"</ETag></Object></Delete>");
    struct expectation expected = {.name = "many", .call = delete_call(text), .status = 200};
    expected.code = "PreconditionFailed";
    struct memory_exchange memory;
    expect_open(cluster, &expected, &memory);
    assert_true(answer_has(&memory, "<Deleted><Key>key-0</Key></Deleted>"));
    assert_true(answer_has(&memory, "<Deleted><Key>none</Key></Deleted>"));
    assert_true(answer_has(&memory, "<Error><Key>key-39</Key><Code>PreconditionFailed</Code>"));
    memory_exchange_deinit(&memory);
    assert_int_equal(cluster_object_count(cluster), 1);

    expected.call = delete_call("<Delete><Quiet>true</Quiet><Object><Key>key-39</Key></Object>"
                                "</Delete>");
    expected.code = "";
    expect_open(cluster, &expected, &memory);
    assert_false(answer_has(&memory, "key-39"));
    memory_exchange_deinit(&memory);
    assert_int_equal(cluster_object_count(cluster), 0);

    struct expectation refused[] = {
        {"not XML", delete_call("<Delete>"), 400, "MalformedXML", NULL, NULL},
        {"no digest", delete_call("<Delete><Object><Key>a</Key></Object></Delete>"), 400,
         "InvalidRequest", NULL, NULL},
    };
    refused[1].call.mode = S3_PAYLOAD_UNSIGNED;
    for (size_t i = 0; i < 2; i++)
        expect(cluster, &refused[i]);
}

#define COPY(target_, ...)                                                                         \
    {                                                                                              \
        .method = "PUT", .target = target_, .headers = { "x-amz-copy-source", __VA_ARGS__ }        \
    }

static void copies_answer_as_documented(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    struct call call = fox();
    assert_int_equal(cluster_status(cluster, &call), 200);
    put(cluster, "/bucket/big", BIG_BYTES);
    static const struct expectation steps[] = {
        {"plain", COPY("/bucket/copy", "/bucket/fox"), 200, "", "Content-Type", "application/xml"},
        {"to another bucket", COPY("/other/copy", "bucket/fox"), 200, "", NULL, NULL},
        {"encoded source", COPY("/bucket/copy", "bucket%2Ff%6fx"), 200, "", NULL, NULL},
        {"version null", COPY("/bucket/copy", "bucket/fox?versionId=null"), 200, "", NULL, NULL},
        {"no version", COPY("/bucket/copy", "bucket/fox?versionId=9"), 404, "NoSuchVersion", NULL,
         NULL},
        {"no key", COPY("/bucket/copy", "bucket/none"), 404, "NoSuchKey", NULL, NULL},
        {"no bucket", COPY("/bucket/copy", "nobucket/fox"), 404, "NoSuchBucket", NULL, NULL},
        {"no source", COPY("/bucket/copy", "bucket"), 400, "InvalidArgument", NULL, NULL},
        {"onto itself", COPY("/bucket/fox", "bucket/fox"), 400, "InvalidRequest", NULL, NULL},
        {"onto itself, replacing",
         COPY("/bucket/fox", "bucket/fox", "x-amz-metadata-directive", "REPLACE"), 200, "", NULL,
         NULL},
        {"unknown directive",
         COPY("/bucket/copy", "bucket/fox", "x-amz-metadata-directive", "MERGE"), 400,
         "InvalidArgument", NULL, NULL},
        {"source etag", COPY("/bucket/copy", "bucket/fox", "x-amz-copy-source-if-match", FOX_ETAG),
         200, "", NULL, NULL},
        {"source etag is another",
         COPY("/bucket/copy", "bucket/fox", "x-amz-copy-source-if-match", "\"x\""), 412,
         "PreconditionFailed", NULL, NULL},
        {"source has not changed",
         COPY("/bucket/copy", "bucket/fox", "x-amz-copy-source-if-none-match", FOX_ETAG), 412,
         "PreconditionFailed", NULL, NULL},
        {"target exists", COPY("/bucket/copy", "bucket/fox", "if-none-match", "*"), 412,
         "PreconditionFailed", NULL, NULL},
        {"unknown checksum", COPY("/bucket/copy", "bucket/fox", "x-amz-checksum-algorithm", "MD4"),
         400, "InvalidRequest", NULL, NULL},
        {"source owner",
         COPY("/bucket/copy", "bucket/fox", "x-amz-source-expected-bucket-owner", "me"), 403,
         "AccessDenied", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        expect(cluster, &steps[i]);
    struct call get = {.method = "GET", .target = "/other/copy"};
    struct memory_exchange memory;
    cluster_call(cluster, &get, &memory);
    assert_true(slice_equal(bytes_slice(&memory.answer), call.body));
    memory_exchange_deinit(&memory);
}

static void a_copy_with_another_checksum_reads_its_source(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    struct call call = fox();
    assert_int_equal(cluster_status(cluster, &call), 200);
    put(cluster, "/bucket/big", BIG_BYTES);
    struct expectation steps[] = {
        {"inline", COPY("/bucket/copy", "bucket/fox", "x-amz-checksum-algorithm", "SHA1"), 200, "",
         NULL, NULL},
        {"stored",
         {.method = "HEAD",
          .target = "/bucket/copy",
          .headers = {"x-amz-checksum-mode", "ENABLED"}},
         200,
         "",
         "x-amz-checksum-sha1",
         "L9ThxnotKPzthJ7hu3bnORuT6xI="},
        {"blocks", COPY("/bucket/copy", "bucket/big", "x-amz-checksum-algorithm", "CRC32"), 200, "",
         NULL, NULL},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        expect(cluster, &steps[i]);
    cluster_fail(cluster, CALL_BLOCK_READ, 1, 1, ERR_CORRUPT);
    steps[2].status = 500;
    steps[2].code = "InternalError";
    expect(cluster, &steps[2]);
}

static void attributes_of_an_object_are_those_asked_for(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    cluster_add_multipart(cluster, "multi", (const uint32_t[]){100, 200, 300}, 3);
    struct expectation expected = {
        .name = "parts",
        .call = {.method = "GET",
                 .target = "/bucket/multi?attributes",
                 .headers = {"x-amz-object-attributes", "ObjectParts,ObjectSize", "x-amz-max-parts",
                             "1", "x-amz-part-number-marker", "1"}},
        .status = 200,
    };
    struct memory_exchange memory;
    expect_open(cluster, &expected, &memory);
    assert_true(answer_has(&memory, "<ObjectSize>600</ObjectSize>"));
    assert_true(answer_has(&memory, "<PartsCount>3</PartsCount>"));
    assert_true(answer_has(&memory, "<IsTruncated>true</IsTruncated>"));
    assert_true(answer_has(&memory, "<Part><PartNumber>3</PartNumber><Size>200</Size></Part>"));
    assert_false(answer_has(&memory, "ETag"));
    memory_exchange_deinit(&memory);
    expected.call.headers[1] = "Colour";
    expected.status = 400;
    expected.code = "InvalidArgument";
    expect(cluster, &expected);
    expected.call.headers[0] = NULL;
    expected.code = "InvalidRequest";
    expect(cluster, &expected);
}

static const struct {
    const char *name;
    enum service_call call;
    uint32_t skip;
    uint32_t times;
    enum err err;
    unsigned status;
    const char *code;
} put_faults[] = {
    {"no space for the first block", CALL_BLOCK_OPEN, 0, 1, ERR_NO_SPACE, 507,
     "InsufficientStorage"},
    {"no space for the second block", CALL_BLOCK_OPEN, 1, 1, ERR_NO_SPACE, 507,
     "InsufficientStorage"},
    {"drives fail while it is written", CALL_BLOCK_APPEND, 3, 1, ERR_FENCED, 503,
     "ServiceUnavailable"},
    {"not durable", CALL_BLOCK_FINISH, 1, 1, ERR_IO, 500, "InternalError"},
    {"lease closed", CALL_OBJECT_PUT, 0, 1, ERR_STALE_EPOCH, 503, "SlowDown"},
    {"no leader", CALL_OBJECT_PUT, 0, 1, ERR_NOT_LEADER, 503, "SlowDown"},
    {"outcome unknown", CALL_OBJECT_PUT, 0, 1, ERR_OUTCOME_UNKNOWN, 500, "InternalError"},
    {"bucket deleted meanwhile", CALL_OBJECT_PUT, 0, 1, ERR_NOT_FOUND, 404, "NoSuchBucket"},
};

static void a_write_that_fails_anywhere_leaves_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof put_faults / sizeof put_faults[0]; i++) {
        AUTO(cluster) cluster = cluster_new();
        cluster_fail(cluster, put_faults[i].call, put_faults[i].skip, put_faults[i].times,
                     put_faults[i].err);
        bool staged = put_faults[i].call != CALL_BLOCK_APPEND && put_faults[i].skip > 0;
        staged = staged || put_faults[i].call == CALL_OBJECT_PUT;
        struct expectation expected = {
            .name = put_faults[i].name,
            .call = {.method = "PUT",
                     .target = "/bucket/huge",
                     .body = slice_of(pattern, HUGE_BYTES),
                     .mode = S3_PAYLOAD_UNSIGNED},
            .status = put_faults[i].status,
            .code = put_faults[i].code,
        };
        expect(cluster, &expected);
        assert_int_equal(cluster_object_count(cluster), 0);
        assert_int_equal(cluster_intents_dropped(cluster), staged ? 1 : 0);
    }
}

struct writing {
    struct cluster *cluster;
    bool done;
};

static void write_pieces(struct io *io, void *argument)
{
    static const size_t sizes[] = {10 << 10, 6 << 10, 1, 200000};
    struct writing *writing = argument;
    struct context context = {.gateway = cluster_gateway(writing->cluster), .bucket = {.id = 1}};
    AUTO(object_writer) writer = NULL;
    assert_int_equal(
        object_writer_new(io, &context, SLICE_LITERAL("pieces"), 0, 0, UINT64_MAX, &writer), S3_OK);
    size_t offset = 0;
    for (int i = 0; i < 4; i++) {
        AUTO(buf) buf = buf_new(sizes[i]);
        memcpy(buf->data, pattern + offset, sizes[i]);
        assert_int_equal(object_writer_append(io, writer, buf, 0, sizes[i]), S3_OK);
        offset += sizes[i];
    }
    struct object_put order = {.attributes = SLICE_LITERAL("\1\0")};
    struct object_written written;
    assert_int_equal(object_writer_finish(io, writer, &order), S3_OK);
    assert_int_equal(order.bytes, offset);
    assert_int_equal(order.block_count, 1);
    assert_int_equal(meta_object_put(io, context.gateway->options.meta, &order, &written), OK);
    object_writer_committed(writer);
    writing->done = true;
}

static void small_pieces_outgrow_the_metadata_and_become_a_block(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    struct writing writing = {.cluster = cluster};
    cluster_run(cluster, write_pieces, &writing, &writing.done);
    struct call get = {.method = "GET", .target = "/bucket/pieces"};
    struct memory_exchange memory;
    cluster_call(cluster, &get, &memory);
    assert_int_equal(memory.answer.bytes, (16 << 10) + 200001);
    assert_memory_equal(memory.answer.data, pattern, memory.answer.bytes);
    memory_exchange_deinit(&memory);
}

static void an_object_of_two_blocks_comes_back(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    put(cluster, "/bucket/huge", HUGE_BYTES);
    assert_int_equal(cluster_intents_dropped(cluster), 0);
    struct call get = {.method = "GET", .target = "/bucket/huge"};
    struct memory_exchange memory;
    cluster_call(cluster, &get, &memory);
    assert_int_equal(memory.answer.bytes, HUGE_BYTES);
    assert_memory_equal(memory.answer.data, pattern, HUGE_BYTES);
    memory_exchange_deinit(&memory);
}

static const struct {
    const char *name;
    enum service_call call;
    uint32_t skip;
    uint32_t times;
    enum err err;
    unsigned status;
    const char *code;
    bool short_answer;
} get_faults[] = {
    {"memory is scarce for a while", CALL_BLOCK_READ, 0, 5, ERR_BUSY, 200, "", false},
    {"memory is scarce for too long", CALL_BLOCK_READ, 0, 100000, ERR_BUSY, 503, "SlowDown", false},
    {"damaged", CALL_BLOCK_READ, 0, 1, ERR_CORRUPT, 500, "InternalError", false},
    {"damaged in the middle", CALL_BLOCK_READ, 1, 1, ERR_CORRUPT, 200, "", true},
    {"replaced twice before the first byte", CALL_OBJECT_EXTENTS, 0, 2, ERR_STALE, 200, "", false},
    {"replaced all the time", CALL_OBJECT_EXTENTS, 0, 100, ERR_STALE, 503, "SlowDown", false},
    {"no leader", CALL_OBJECT_FIND, 0, 1, ERR_NOT_LEADER, 503, "SlowDown", false},
    {"no voter", CALL_OBJECT_FIND, 0, 1, ERR_FENCED, 503, "ServiceUnavailable", false},
};

static void a_read_that_fails_is_an_error_or_a_closed_connection(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof get_faults / sizeof get_faults[0]; i++) {
        AUTO(cluster) cluster = cluster_new();
        put(cluster, "/bucket/big", BIG_BYTES);
        cluster_fail(cluster, get_faults[i].call, get_faults[i].skip, get_faults[i].times,
                     get_faults[i].err);
        struct expectation expected = {
            .name = get_faults[i].name,
            .call = {.method = "GET", .target = "/bucket/big"},
            .status = get_faults[i].status,
            .code = get_faults[i].code,
            .header = "Retry-After",
            .value = get_faults[i].status == 503 ? "1" : NULL,
        };
        struct memory_exchange memory;
        expect_open(cluster, &expected, &memory);
        assert_int_equal(memory.exchange.close, get_faults[i].short_answer);
        if (get_faults[i].status == 200)
            assert_true(get_faults[i].short_answer == (memory.answer_bytes < BIG_BYTES));
        memory_exchange_deinit(&memory);
    }
}

static void a_reader_that_leaves_leaks_nothing(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    put(cluster, "/bucket/big", BIG_BYTES);
    struct call get = {.method = "GET", .target = "/bucket/big", .client_leaves = true};
    struct memory_exchange memory;
    cluster_call(cluster, &get, &memory);
    assert_int_equal(memory.answer_bytes, 0);
    memory_exchange_deinit(&memory);
}

static void more_requests_than_memory_take_turns(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new(); /* 8 MiB for bodies */
    put(cluster, "/bucket/big", BIG_BYTES);
    struct call get = {.method = "GET", .target = "/bucket/big"};
    assert_int_equal(cluster_call_together(cluster, &get, 24), 24 * (uint64_t)BIG_BYTES);
    struct call write = {
        .method = "PUT",
        .target = "/bucket/big",
        .body = slice_of(pattern, BIG_BYTES),
        .mode = S3_PAYLOAD_UNSIGNED,
    };
    assert_int_equal(cluster_call_together(cluster, &write, 24), 0);
}

static void what_shale_has_not_is_never_a_plain_put(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    static const struct expectation steps[] = {
        {"legal hold",
         {.method = "PUT", .target = "/bucket/fox?legal-hold"},
         501,
         "NotImplemented",
         NULL,
         NULL},
        {"select",
         {.method = "POST", .target = "/bucket/fox?select&select-type=2"},
         501,
         "NotImplemented",
         NULL,
         NULL},
        {"restore",
         {.method = "POST", .target = "/bucket/fox?restore"},
         501,
         "NotImplemented",
         NULL,
         NULL},
        {"torrent",
         {.method = "GET", .target = "/bucket/fox?torrent"},
         501,
         "NotImplemented",
         NULL,
         NULL},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        expect(cluster, &steps[i]);
}

int main(void)
{
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = cluster_pattern(i);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_gives_its_bytes),
        cmocka_unit_test(a_part_number_gives_that_part),
        cmocka_unit_test(reads_answer_as_documented),
        cmocka_unit_test(an_empty_object_is_an_object),
        cmocka_unit_test(a_conditional_write_sees_the_current_object),
        cmocka_unit_test(a_delete_is_idempotent_and_keeps_its_conditions),
        cmocka_unit_test(deleting_many_answers_for_each),
        cmocka_unit_test(copies_answer_as_documented),
        cmocka_unit_test(a_copy_with_another_checksum_reads_its_source),
        cmocka_unit_test(attributes_of_an_object_are_those_asked_for),
        cmocka_unit_test(a_write_that_fails_anywhere_leaves_nothing),
        cmocka_unit_test(small_pieces_outgrow_the_metadata_and_become_a_block),
        cmocka_unit_test(an_object_of_two_blocks_comes_back),
        cmocka_unit_test(a_read_that_fails_is_an_error_or_a_closed_connection),
        cmocka_unit_test(a_reader_that_leaves_leaks_nothing),
        cmocka_unit_test(more_requests_than_memory_take_turns),
        cmocka_unit_test(what_shale_has_not_is_never_a_plain_put),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
