/* Request bodies in every payload mode, whole and damaged, through PutObject: what is answered, and
 * that nothing is stored unless everything agreed. */
#include "cluster.h"

#include "base/mem.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { BIG_BYTES = 3 << 20 };

static uint8_t big[BIG_BYTES];
static const struct slice hello = SLICE_LITERAL("hello world");
#define HELLO_CRC32 "DUoRhQ=="
#define HELLO_MD5 "XrY7u+Ae7tCTyyK7j1rNww=="
#define HELLO_SHA1 "Kq5sNclPz7QV2+lfQIuc6R7oRu0="

static const struct put_case {
    const char *name;
    struct call call; /* method, target, and when absent the body `hello`, are filled in */
    unsigned status;
    const char *code;
} cases[] = {
    {"signed", {0}, 200, ""},
    {"unsigned", {.mode = S3_PAYLOAD_UNSIGNED}, 200, ""},
    {"chunks signed", {.mode = S3_PAYLOAD_CHUNKS_SIGNED}, 200, ""},
    {"chunks unsigned with trailer",
     {.mode = S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER,
      .trailer = "x-amz-checksum-crc32",
      .trailer_value = HELLO_CRC32},
     200,
     ""},
    {"chunks signed with trailer",
     {.mode = S3_PAYLOAD_CHUNKS_SIGNED_TRAILER,
      .trailer = "x-amz-checksum-sha1",
      .trailer_value = HELLO_SHA1},
     200,
     ""},
    {"one byte a read",
     {.mode = S3_PAYLOAD_CHUNKS_SIGNED_TRAILER,
      .trailer = "x-amz-checksum-crc32",
      .trailer_value = HELLO_CRC32,
      .read_bytes_max = 1},
     200,
     ""},
    {"no Content-Length, as the JavaScript SDK",
     {.mode = S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER,
      .trailer = "x-amz-checksum-crc32",
      .trailer_value = HELLO_CRC32,
      .headers = {"x-amz-sdk-checksum-algorithm", "CRC32"},
      .without_length = true},
     200,
     ""},
    {"unsigned chunks without a decoded length",
     {.mode = S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER,
      .trailer = "x-amz-checksum-crc32",
      .trailer_value = HELLO_CRC32,
      .without_decoded_length = true},
     411,
     "MissingContentLength"},
    {"signed chunks without a decoded length",
     {.mode = S3_PAYLOAD_CHUNKS_SIGNED, .without_decoded_length = true},
     411,
     "MissingContentLength"},
    {"digests by header",
     {.headers = {"content-md5", HELLO_MD5, "x-amz-checksum-crc32", HELLO_CRC32}},
     200,
     ""},
    {"unsigned without a length",
     {.mode = S3_PAYLOAD_UNSIGNED, .without_length = true},
     411,
     "MissingContentLength"},
    {"another payload hash",
     {.content_sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
     400,
     "XAmzContentSHA256Mismatch"},
    {"damaged signed body", {.flip_at = 3}, 400, "XAmzContentSHA256Mismatch"},
    {"another MD5",
     {.mode = S3_PAYLOAD_UNSIGNED, .headers = {"content-md5", HELLO_MD5}, .flip_at = 3},
     400,
     "BadDigest"},
    {"no MD5", {.headers = {"content-md5", "short"}}, 400, "InvalidDigest"},
    {"another checksum by header",
     {.headers = {"x-amz-checksum-crc32", "DUoRhA=="}},
     400,
     "BadDigest"},
    {"no checksum by header", {.headers = {"x-amz-checksum-crc32", "AA"}}, 400, "InvalidRequest"},
    {"two checksums",
     {.headers = {"x-amz-checksum-crc32", HELLO_CRC32, "x-amz-checksum-sha1", HELLO_SHA1}},
     400,
     "InvalidRequest"},
    {"checksum of another algorithm than announced",
     {.headers = {"x-amz-checksum-crc32", HELLO_CRC32, "x-amz-sdk-checksum-algorithm", "SHA1"}},
     400,
     "InvalidRequest"},
    {"another checksum in the trailer",
     {.mode = S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER,
      .trailer = "x-amz-checksum-crc32",
      .trailer_value = "DUoRhA=="},
     400,
     "BadDigest"},
    {"small signed chunks",
     {.mode = S3_PAYLOAD_CHUNKS_SIGNED, .chunk_bytes = 4},
     400,
     "InvalidChunkSizeError"},
    {"small unsigned chunks",
     {.mode = S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER,
      .trailer = "x-amz-checksum-crc32",
      .trailer_value = HELLO_CRC32,
      .chunk_bytes = 4},
     400,
     "InvalidChunkSizeError"},
    {"two checksums, neither readable",
     {.headers = {"x-amz-checksum-crc32", "", "x-amz-checksum-sha512", ""}},
     400,
     "InvalidRequest"},
    {"damaged chunk",
     {.mode = S3_PAYLOAD_CHUNKS_SIGNED, .flip_at = 90},
     403,
     "SignatureDoesNotMatch"},
    {"body ends early", {.cut_bytes = 4}, 400, "IncompleteBody"},
    {"chunks end early",
     {.mode = S3_PAYLOAD_CHUNKS_SIGNED, .cut_bytes = 40},
     400,
     "IncompleteBody"},
    {"trailer is cut off",
     {.mode = S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER,
      .trailer = "x-amz-checksum-crc32",
      .trailer_value = HELLO_CRC32,
      .cut_bytes = 8},
     400,
     "IncompleteBody"},
    {"anonymous", {.anonymous = true, .mode = S3_PAYLOAD_UNSIGNED}, 403, "AccessDenied"},
};

static void put_case(const struct put_case *put, struct slice body)
{
    AUTO(cluster) cluster = cluster_new();
    struct call call = put->call;
    call.method = "PUT";
    call.target = "/bucket/key";
    call.body = body;
    struct memory_exchange memory;
    cluster_call(cluster, &call, &memory);
    char code[64];
    if (memory.exchange.status != put->status ||
        strcmp(cluster_code(&memory, code), put->code) != 0)
        print_error("case %s: %u %.*s\n", put->name, memory.exchange.status,
                    SLICE_PRINT(bytes_slice(&memory.answer)));
    assert_int_equal(memory.exchange.status, put->status);
    assert_string_equal(cluster_code(&memory, code), put->code);
    assert_int_equal(cluster_object_count(cluster), put->status == 200 ? 1 : 0);
    memory_exchange_deinit(&memory);
    if (put->status != 200)
        return;
    struct call get = {.method = "GET", .target = "/bucket/key"};
    cluster_call(cluster, &get, &memory);
    assert_true(slice_equal(bytes_slice(&memory.answer), body));
    memory_exchange_deinit(&memory);
}

static void a_body_is_stored_only_when_all_of_it_agrees(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        put_case(&cases[i], hello);
}

static void a_long_body_arrives_unchanged_in_every_mode(void **state)
{
    (void)state;
    for (size_t i = 0; i < BIG_BYTES; i++)
        big[i] = cluster_pattern(i);
    for (int mode = S3_PAYLOAD_UNSIGNED; mode <= S3_PAYLOAD_CHUNKS_UNSIGNED_TRAILER; mode++) {
        struct put_case put = {
            .name = "big",
            .status = 200,
            .code = "",
            .call = {.mode = (enum s3_payload_mode)mode,
                     .chunk_bytes = 100000,
                     .read_bytes_max = 33333},
        };
        put_case(&put, slice_of(big, BIG_BYTES - 1));
    }
}

static void a_client_that_leaves_stores_nothing_and_leaks_nothing(void **state)
{
    (void)state;
    AUTO(cluster) cluster = cluster_new();
    struct call call = {
        .method = "PUT",
        .target = "/bucket/key",
        .body = slice_of(big, BIG_BYTES),
        .read_bytes_max = 50000,
        .client_leaves = true,
    };
    struct memory_exchange memory;
    cluster_call(cluster, &call, &memory);
    assert_true(memory.client_gone);
    assert_int_equal(memory.answer_bytes, 0);
    assert_int_equal(cluster_object_count(cluster), 0);
    memory_exchange_deinit(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_is_stored_only_when_all_of_it_agrees),
        cmocka_unit_test(a_long_body_arrives_unchanged_in_every_mode),
        cmocka_unit_test(a_client_that_leaves_stores_nothing_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
