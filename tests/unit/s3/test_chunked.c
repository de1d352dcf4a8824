/* s3/chunked.h against the published examples, in many splits, and fault by fault. */
#include "base/bytes.h"
#include "base/text.h"
#include "s3/chunked.h"
#include "s3/signer.h"
#include "s3/sigv4.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CRC_NAME "x-amz-checksum-crc32c"

/* The examples of "Transferring Payload in Multiple Chunks" and "Including Trailing Headers": 65
 * KiB of 'a'. */
static struct s3_chunk_signing example_chain(const char *seed)
{
    struct s3_chunk_signing signing = {.date = "20130524T000000Z",
                                       .scope = "20130524/us-east-1/s3/aws4_request"};
    s3_signing_key_derive(SLICE_LITERAL("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
                          SLICE_LITERAL("20130524"), SLICE_LITERAL("us-east-1"), signing.key);
    assert_int_equal(text_parse_hex(slice_of_text(seed), signing.previous, 32), OK);
    return signing;
}

static void append_as(struct bytes *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes_append_byte(out, 'a');
}

static void append_example(struct bytes *out, const char *first, const char *second,
                           const char *last)
{
    bytes_append_format(out, "10000;chunk-signature=%s\r\n", first);
    append_as(out, 65536);
    bytes_append_format(out, "\r\n400;chunk-signature=%s\r\n", second);
    append_as(out, 1024);
    bytes_append_format(out, "\r\n0;chunk-signature=%s\r\n", last);
}

/* Feed the body in pieces of `piece_bytes`; the decoded payload is appended to `out` (may be
 * NULL). */
static enum s3_error decode(struct s3_chunked *chunked, struct slice body, size_t piece_bytes,
                            struct bytes *out)
{
    while (body.bytes > 0) {
        struct slice piece = slice_first(body, piece_bytes);
        struct slice payload = {0};
        body = slice_skip(body, piece.bytes);
        do {
            TRY(s3_chunked_next(chunked, &piece, &payload, NULL));
            if (out != NULL)
                bytes_append(out, payload);
        } while (payload.bytes > 0);
        assert_int_equal(piece.bytes, 0);
    }
    return s3_chunked_finish(chunked, NULL);
}

static struct s3_chunked *chunked_of(const struct s3_chunked_options *options)
{
    struct s3_chunked *chunked = NULL;
    assert_int_equal(s3_chunked_new(options, NULL, &chunked), S3_OK);
    return chunked;
}

static const size_t pieces[] = {1, 2, 7, 87, 88, 89, 4096, 65536, 1 << 20};

static void the_signed_example_of_aws_decodes_in_any_split(void **state)
{
    (void)state;
    struct s3_chunk_signing signing =
        example_chain("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
    AUTO_VALUE(bytes) body = {.max = 1 << 20};
    append_example(&body, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
                   "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
                   "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9");
    bytes_append_text(&body, "\r\n");
    assert_int_equal(body.bytes, 66824);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        AUTO_VALUE(bytes) out = {.max = 1 << 20};
        AUTO(s3_chunked) chunked = chunked_of(&(struct s3_chunked_options){
            .mode = S3_CHUNKED_SIGNED,
            .signing = &signing,
            .has_decoded_bytes = true,
            .decoded_bytes = 66560,
        });
        assert_int_equal(decode(chunked, bytes_slice(&body), pieces[i], &out), S3_OK);
        assert_int_equal(out.bytes, 66560);
        assert_int_equal(s3_chunked_payload_bytes(chunked), 66560);
    }
}

static void the_trailer_example_of_aws_decodes_in_any_split(void **state)
{
    (void)state;
    struct s3_chunk_signing signing =
        example_chain("106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e");
    AUTO_VALUE(bytes) body = {.max = 1 << 20};
    append_example(&body, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
                   "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
                   "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992");
    bytes_append_text(&body, "x-amz-checksum-crc32c:sOO8/Q==\r\n"
                             "x-amz-trailer-signature:"
                             "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
                             "\r\n\r\n");
    assert_int_equal(body.bytes, 66946);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        AUTO(s3_chunked) chunked = chunked_of(&(struct s3_chunked_options){
            .mode = S3_CHUNKED_SIGNED_TRAILER,
            .signing = &signing,
            .has_decoded_bytes = true,
            .decoded_bytes = 66560,
            .trailer_names = SLICE_LITERAL(CRC_NAME),
        });
        assert_int_equal(decode(chunked, bytes_slice(&body), pieces[i], NULL), S3_OK);
        assert_true(slice_equal_text(s3_chunked_trailer(chunked, CRC_NAME), "sOO8/Q=="));
        assert_int_equal(s3_chunked_trailer_count(chunked), 1);
    }
}

static const struct {
    const char *name;
    const char *names;     /* announced trailers */
    int64_t decoded_bytes; /* -1: not given */
    const char *body;
    enum s3_error error;
} unsigned_cases[] = {
    {"empty", "", 0, "0\r\n\r\n", S3_OK},
    {"one chunk", "", 3, "3\r\nabc\r\n0\r\n\r\n", S3_OK},
    {"one trailer", "x-a", 3, "3\r\nabc\r\n0\r\nx-a: 1 \r\n\r\n", S3_OK},
    {"trailer in capitals", "X-A", 3, "3\r\nabc\r\n0\r\nX-a:1\r\n\r\n", S3_OK},
    {"two trailers", "x-a, x-b", 3, "3\r\nabc\r\n0\r\nx-b:1\r\nx-a:2\r\n\r\n", S3_OK},
    {"minio-go", "x-a", 3, "3\r\nabc\r\n0\r\nx-a:1\n\r\n\r\n", S3_OK},
    {"no length given", "", -1, "3\r\nabc\r\n0\r\n\r\n", S3_OK},
    {"small chunk before the last", "", -1, "3\r\nabc\r\n1\r\nd\r\n", S3_INVALID_CHUNK_SIZE},
    {"size in capitals", "", -1, "A\r\n0123456789\r\n0\r\n\r\n", S3_OK},
    {"leading zeros", "", -1, "0000000000000003\r\nabc\r\n0\r\n\r\n", S3_OK},
    {"17 digits", "", -1, "00000000000000003\r\nabc\r\n0\r\n\r\n", S3_INCOMPLETE_BODY},
    {"not hexadecimal", "", -1, "g\r\n", S3_INCOMPLETE_BODY},
    {"no size", "", -1, "\r\n", S3_INCOMPLETE_BODY},
    {"negative", "", -1, "-1\r\n", S3_INCOMPLETE_BODY},
    {"space", "", -1, "3 \r\nabc\r\n", S3_INCOMPLETE_BODY},
    {"LF alone", "", -1, "3\nabc\r\n", S3_INCOMPLETE_BODY},
    {"extension", "", -1, "3;a=b\r\nabc\r\n", S3_INCOMPLETE_BODY},
    {"huge chunk", "", -1, "ffffffffffffffff\r\n", S3_ENTITY_TOO_LARGE},
    {"chunk longer than its size", "", -1, "3\r\nabcd\r\n", S3_INCOMPLETE_BODY},
    {"longer than announced", "", 3, "4\r\nabcd\r\n0\r\n\r\n", S3_INCOMPLETE_BODY},
    {"shorter than announced", "", 4, "3\r\nabc\r\n0\r\n\r\n", S3_INCOMPLETE_BODY},
    {"ends in a size", "", -1, "3", S3_INCOMPLETE_BODY},
    {"ends in a payload", "", -1, "3\r\nab", S3_INCOMPLETE_BODY},
    {"ends behind a payload", "", -1, "3\r\nabc", S3_INCOMPLETE_BODY},
    {"ends before the last chunk", "", 3, "3\r\nabc\r\n", S3_INCOMPLETE_BODY},
    {"ends before the last line", "", 3, "3\r\nabc\r\n0\r\n", S3_INCOMPLETE_BODY},
    {"nothing", "", 0, "", S3_INCOMPLETE_BODY},
    {"half of the extra CRLF", "", 0, "0\r\n\r\n\r", S3_INCOMPLETE_BODY},
    {"something behind the end", "", 0, "0\r\n\r\nx", S3_INCOMPLETE_BODY},
    {"something behind the extra CRLF", "", 0, "0\r\n\r\n\r\nx", S3_INVALID_REQUEST},
    {"trailer not announced", "", -1, "0\r\nx-a:1\r\n\r\n", S3_MALFORMED_TRAILER},
    {"trailer missing", "x-a", -1, "0\r\n\r\n", S3_MALFORMED_TRAILER},
    {"trailer twice", "x-a", -1, "0\r\nx-a:1\r\nx-a:1\r\n\r\n", S3_MALFORMED_TRAILER},
    {"trailer without colon", "x-a", -1, "0\r\nx-a\r\n\r\n", S3_MALFORMED_TRAILER},
    {"signature in an unsigned trailer", "x-a", -1, "0\r\nx-amz-trailer-signature:00\r\n\r\n",
     S3_MALFORMED_TRAILER},
};

static void an_unsigned_body_follows_its_grammar(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof unsigned_cases / sizeof unsigned_cases[0]; i++) {
        struct s3_chunked_options options = {
            .mode = S3_CHUNKED_UNSIGNED_TRAILER,
            .has_decoded_bytes = unsigned_cases[i].decoded_bytes >= 0,
            .decoded_bytes = (uint64_t)unsigned_cases[i].decoded_bytes,
            .trailer_names = slice_of_text(unsigned_cases[i].names),
        };
        if (!options.has_decoded_bytes)
            options.decoded_bytes = 0;
        for (size_t piece = 1; piece < 8; piece++) {
            AUTO(s3_chunked) chunked = chunked_of(&options);
            enum s3_error error =
                decode(chunked, slice_of_text(unsigned_cases[i].body), piece, NULL);
            if (error != unsigned_cases[i].error)
                fail_msg("%s in pieces of %zu: error %d", unsigned_cases[i].name, piece, error);
            if (error != S3_OK)
                assert_int_equal(s3_chunked_finish(chunked, NULL), error);
        }
    }
}

/* A signed body with a trailer as our signer makes it. */
static void build_signed(struct s3_chunk_signing signing, struct bytes *out)
{
    const struct s3_header trailer = {SLICE_LITERAL(CRC_NAME), SLICE_LITERAL("AAAAAA==")};
    s3_signer_chunk(&signing, SLICE_LITERAL("hello world"), out);
    s3_signer_chunk(&signing, SLICE_LITERAL(""), out);
    s3_signer_trailer(&signing, &trailer, 1, out);
}

static enum s3_error decode_signed(const struct s3_chunk_signing *signing, struct slice body,
                                   size_t piece_bytes, struct bytes *out)
{
    AUTO(s3_chunked) chunked = chunked_of(&(struct s3_chunked_options){
        .mode = S3_CHUNKED_SIGNED_TRAILER,
        .signing = signing,
        .has_decoded_bytes = true,
        .decoded_bytes = 11,
        .trailer_names = SLICE_LITERAL(CRC_NAME),
    });
    return decode(chunked, body, piece_bytes, out);
}

static void no_flipped_bit_of_a_signed_body_is_accepted_with_another_meaning(void **state)
{
    (void)state;
    struct s3_chunk_signing signing =
        example_chain("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
    AUTO_VALUE(bytes) body = {.max = 4096};
    build_signed(signing, &body);
    for (size_t bit = 0; bit < body.bytes * 8; bit++) {
        AUTO_VALUE(bytes) whole = {.max = 4096};
        AUTO_VALUE(bytes) bytewise = {.max = 4096};
        body.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        enum s3_error error = decode_signed(&signing, bytes_slice(&body), 4096, &whole);
        assert_int_equal(decode_signed(&signing, bytes_slice(&body), 1, &bytewise), error);
        assert_true(slice_equal(bytes_slice(&whole), bytes_slice(&bytewise)));
        /* Letter case of hexadecimal digits and of trailer names means nothing. */
        if (error == S3_OK)
            assert_true(slice_equal_text(bytes_slice(&whole), "hello world"));
        body.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void chunks_cannot_be_left_out_swapped_or_repeated(void **state)
{
    (void)state;
    struct s3_chunk_signing signing =
        example_chain("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
    struct s3_chunk_signing chain = signing;
    static uint8_t text[2][S3_CHUNK_BYTES_MIN];
    memset(text[0], 'a', sizeof text[0]);
    memset(text[1], 'b', sizeof text[1]);
    const struct slice texts[] = {slice_of(text[0], sizeof text[0]),
                                  slice_of(text[1], sizeof text[1]), slice_of(NULL, 0)};
    static const struct {
        int order[4];
        int count;
        enum s3_error error;
    } orders[] = {
        {{0, 1, 2}, 3, S3_OK},
        {{1, 0, 2}, 3, S3_SIGNATURE_DOES_NOT_MATCH},
        {{0, 2}, 2, S3_SIGNATURE_DOES_NOT_MATCH},
        {{0, 0, 2}, 3, S3_SIGNATURE_DOES_NOT_MATCH},
        {{2}, 1, S3_SIGNATURE_DOES_NOT_MATCH},
        {{0, 1}, 2, S3_INCOMPLETE_BODY},
    };
    enum { BUILT_BYTES_MAX = S3_CHUNK_BYTES_MIN + 256 };
    struct bytes built[3] = {
        {.max = BUILT_BYTES_MAX}, {.max = BUILT_BYTES_MAX}, {.max = BUILT_BYTES_MAX}};
    for (int i = 0; i < 3; i++)
        s3_signer_chunk(&chain, texts[i], &built[i]);
    bytes_append_text(&built[2], "\r\n");
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        AUTO_VALUE(bytes) body = {.max = 4 * BUILT_BYTES_MAX};
        for (int j = 0; j < orders[i].count; j++)
            bytes_append(&body, bytes_slice(&built[orders[i].order[j]]));
        AUTO(s3_chunked) chunked = chunked_of(
            &(struct s3_chunked_options){.mode = S3_CHUNKED_SIGNED, .signing = &signing});
        assert_int_equal(decode(chunked, bytes_slice(&body), 5, NULL), orders[i].error);
    }
    for (int i = 0; i < 3; i++)
        bytes_deinit(&built[i]);
}

static void a_small_chunk_is_the_last(void **state)
{
    (void)state;
    struct s3_chunk_signing signing =
        example_chain("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
    static uint8_t text[S3_CHUNK_BYTES_MIN];
    static const struct {
        size_t bytes[3];
        enum s3_error error;
    } cases[] = {
        {{1, 0, 0}, S3_OK},
        {{S3_CHUNK_BYTES_MIN, 1, 0}, S3_OK},
        {{S3_CHUNK_BYTES_MIN - 1, 1, 0}, S3_INVALID_CHUNK_SIZE},
        {{1, S3_CHUNK_BYTES_MIN, 0}, S3_INVALID_CHUNK_SIZE},
    };
    const struct s3_chunked_options modes[] = {
        {.mode = S3_CHUNKED_SIGNED, .signing = &signing},
        {.mode = S3_CHUNKED_UNSIGNED_TRAILER},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    for (size_t i = 0; i < 2 * CASES; i++) {
        const struct s3_chunked_options *mode = &modes[i / CASES];
        const size_t *sizes = cases[i % CASES].bytes;
        struct s3_chunk_signing chain = signing;
        AUTO_VALUE(bytes) body = {.max = 4 * S3_CHUNK_BYTES_MIN};
        for (int j = 0; j < 3; j++) {
            s3_signer_chunk(mode->signing == NULL ? NULL : &chain, slice_of(text, sizes[j]), &body);
            if (sizes[j] == 0)
                break;
        }
        bytes_append_text(&body, "\r\n");
        AUTO(s3_chunked) chunked = chunked_of(mode);
        assert_int_equal(decode(chunked, bytes_slice(&body), 1000, NULL), cases[i % CASES].error);
    }
}

static void minio_go_ends_trailer_lines_with_lf(void **state)
{
    (void)state;
    struct s3_chunk_signing signing =
        example_chain("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
    AUTO_VALUE(bytes) body = {.max = 4096};
    build_signed(signing, &body);
    AUTO_VALUE(bytes) theirs = {.max = 4096};
    struct slice text = bytes_slice(&body);
    size_t value_end = 0;
    while (!slice_starts_with(slice_skip(text, value_end), SLICE_LITERAL("\r\nx-amz-trailer-s")))
        value_end++;
    bytes_append(&theirs, slice_first(text, value_end));
    bytes_append_text(&theirs, "\n");
    bytes_append(&theirs, slice_skip(text, value_end));
    assert_int_equal(decode_signed(&signing, bytes_slice(&theirs), 3, NULL), S3_OK);
}

static void limits_hold_before_memory_is_used(void **state)
{
    (void)state;
    struct s3_chunk_signing signing =
        example_chain("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
    AUTO_VALUE(bytes) body = {.max = 1 << 20};
    struct s3_chunked *refused = NULL;
    append_as(&body, 300);
    AUTO(s3_chunked) line =
        chunked_of(&(struct s3_chunked_options){.mode = S3_CHUNKED_SIGNED, .signing = &signing});
    assert_int_equal(decode(line, bytes_slice(&body), 11, NULL), S3_INCOMPLETE_BODY);
    bytes_clear(&body);
    bytes_append_text(&body, "0\r\nx-a:");
    append_as(&body, S3_TRAILER_BYTES_MAX);
    AUTO(s3_chunked) trailer = chunked_of(&(struct s3_chunked_options){
        .mode = S3_CHUNKED_UNSIGNED_TRAILER, .trailer_names = SLICE_LITERAL("x-a")});
    assert_int_equal(decode(trailer, bytes_slice(&body), 11, NULL), S3_MALFORMED_TRAILER);
    bytes_clear(&body);
    bytes_append_format(&body, "1000001;chunk-signature=%064d\r\n", 0);
    AUTO(s3_chunked) chunk =
        chunked_of(&(struct s3_chunked_options){.mode = S3_CHUNKED_SIGNED, .signing = &signing});
    assert_int_equal(decode(chunk, bytes_slice(&body), 11, NULL), S3_INVALID_CHUNK_SIZE);
    assert_int_equal(
        s3_chunked_new(&(struct s3_chunked_options){.mode = S3_CHUNKED_UNSIGNED_TRAILER,
                                                    .has_decoded_bytes = true,
                                                    .decoded_bytes = S3_BODY_BYTES_MAX + 1},
                       NULL, &refused),
        S3_ENTITY_TOO_LARGE);
    assert_int_equal(
        s3_chunked_new(
            &(struct s3_chunked_options){.mode = S3_CHUNKED_UNSIGNED_TRAILER,
                                         .trailer_names = SLICE_LITERAL("a,b,c,d,e,f,g,h,i")},
            NULL, &refused),
        S3_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_signed_example_of_aws_decodes_in_any_split),
        cmocka_unit_test(the_trailer_example_of_aws_decodes_in_any_split),
        cmocka_unit_test(an_unsigned_body_follows_its_grammar),
        cmocka_unit_test(no_flipped_bit_of_a_signed_body_is_accepted_with_another_meaning),
        cmocka_unit_test(chunks_cannot_be_left_out_swapped_or_repeated),
        cmocka_unit_test(a_small_chunk_is_the_last),
        cmocka_unit_test(minio_go_ends_trailer_lines_with_lf),
        cmocka_unit_test(limits_hold_before_memory_is_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
