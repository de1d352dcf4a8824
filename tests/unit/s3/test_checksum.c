/* Names, texts, streaming digests and what multipart uploads make of them. */
#include "s3/checksum.h"
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const enum checksum_algorithm all[] = {
    CHECKSUM_CRC32,  CHECKSUM_CRC32C, CHECKSUM_CRC64NVME, CHECKSUM_SHA1,    CHECKSUM_SHA256,
    CHECKSUM_SHA512, CHECKSUM_MD5,    CHECKSUM_XXHASH64,  CHECKSUM_XXHASH3, CHECKSUM_XXHASH128};
enum { ALL_COUNT = sizeof all / sizeof all[0], EVERY_DIGEST = DIGEST_SET_MAX };
static_assert(ALL_COUNT == CHECKSUM_ALGORITHM_COUNT - 1);

static void names_lead_back_to_their_algorithm(void **state)
{
    (void)state;
    for (int i = 0; i < ALL_COUNT; i++) {
        assert_int_equal(checksum_by_name(slice_of_text(checksum_name(all[i]))), all[i]);
        assert_int_equal(checksum_by_header(slice_of_text(checksum_header(all[i]))), all[i]);
        assert_int_equal(checksum_by_element(slice_of_text(checksum_element(all[i]))), all[i]);
    }
    assert_int_equal(checksum_by_name(SLICE_LITERAL("crc32c")), CHECKSUM_CRC32C);
    assert_int_equal(checksum_by_header(SLICE_LITERAL("X-Amz-Checksum-Sha256")), CHECKSUM_SHA256);
    assert_int_equal(checksum_by_element(SLICE_LITERAL("checksumsha1")), CHECKSUM_NONE);
    assert_int_equal(checksum_by_name(SLICE_LITERAL("SHA224")), CHECKSUM_NONE);
    assert_int_equal(checksum_by_name(SLICE_LITERAL("")), CHECKSUM_NONE);
    assert_null(checksum_name(CHECKSUM_NONE));
}

static void types_fit_algorithms_as_s3_says(void **state)
{
    (void)state;
    static const struct {
        enum checksum_algorithm algorithm;
        enum checksum_type standard;
        bool full, composite;
    } cases[] = {
        {CHECKSUM_NONE, CHECKSUM_FULL_OBJECT, true, false},
        {CHECKSUM_CRC32, CHECKSUM_COMPOSITE, true, true},
        {CHECKSUM_CRC32C, CHECKSUM_COMPOSITE, true, true},
        {CHECKSUM_CRC64NVME, CHECKSUM_FULL_OBJECT, true, false},
        {CHECKSUM_SHA1, CHECKSUM_COMPOSITE, false, true},
        {CHECKSUM_SHA256, CHECKSUM_COMPOSITE, false, true},
        {CHECKSUM_SHA512, CHECKSUM_COMPOSITE, false, true},
        {CHECKSUM_MD5, CHECKSUM_COMPOSITE, false, true},
        {CHECKSUM_XXHASH64, CHECKSUM_COMPOSITE, false, true},
        {CHECKSUM_XXHASH3, CHECKSUM_COMPOSITE, false, true},
        {CHECKSUM_XXHASH128, CHECKSUM_COMPOSITE, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum checksum_algorithm algorithm = cases[i].algorithm;
        assert_int_equal(checksum_type_default(algorithm), cases[i].standard);
        assert_int_equal(checksum_type_allowed(algorithm, CHECKSUM_FULL_OBJECT), cases[i].full);
        assert_int_equal(checksum_type_allowed(algorithm, CHECKSUM_COMPOSITE), cases[i].composite);
    }
    enum checksum_type type;
    assert_true(checksum_type_by_name(SLICE_LITERAL("full_object"), &type));
    assert_int_equal(type, CHECKSUM_FULL_OBJECT);
    assert_true(checksum_type_by_name(SLICE_LITERAL("COMPOSITE"), &type));
    assert_int_equal(type, CHECKSUM_COMPOSITE);
    assert_false(checksum_type_by_name(SLICE_LITERAL("FULL"), &type));
}

static void a_checksum_text_is_read_strictly(void **state)
{
    (void)state;
    static const struct {
        enum checksum_algorithm algorithm;
        const char *text;
        bool valid;
        uint32_t part_count;
    } cases[] = {
        {CHECKSUM_CRC32, "y/Q5Jg==", true, 0},
        {CHECKSUM_CRC32, "y/Q5Jg==-1", true, 1},
        {CHECKSUM_CRC32, "y/Q5Jg==-10000", true, 10000},
        {CHECKSUM_CRC32, "y/Q5Jg==-10001", false, 0},
        {CHECKSUM_CRC32, "y/Q5Jg==-0", false, 0},
        {CHECKSUM_CRC32, "y/Q5Jg==-01", false, 0},
        {CHECKSUM_CRC32, "y/Q5Jg==-", false, 0},
        {CHECKSUM_CRC32, "y/Q5Jg==-1-1", false, 0},
        {CHECKSUM_CRC32, "y/Q5Jg=", false, 0},
        {CHECKSUM_CRC32, "y/Q5Jg", false, 0},
        {CHECKSUM_CRC32, " y/Q5Jg==", false, 0},
        {CHECKSUM_CRC32, "invalid_checksum", false, 0},
        {CHECKSUM_CRC32, "", false, 0},
        {CHECKSUM_CRC32C, "4waSgw==", true, 0},
        {CHECKSUM_CRC64NVME, "rosUhgp5mIg=", true, 0},
        {CHECKSUM_CRC64NVME, "y/Q5Jg==", false, 0},
        {CHECKSUM_SHA1, "98O8HYCOBHMq32eZZczDTKeuNEE=", true, 0},
        {CHECKSUM_SHA256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=", true, 0},
        {CHECKSUM_SHA256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiUAAAA=", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct checksum checksum = {0};
        print_message("%s\n", cases[i].text);
        assert_int_equal(
            checksum_parse(cases[i].algorithm, slice_of_text(cases[i].text), &checksum),
            cases[i].valid);
        if (!cases[i].valid)
            continue;
        assert_int_equal(checksum.part_count, cases[i].part_count);
        assert_int_equal(checksum.type,
                         cases[i].part_count > 0 ? CHECKSUM_COMPOSITE : CHECKSUM_FULL_OBJECT);
        AUTO_VALUE(bytes) out = {.max = CHECKSUM_TEXT_BYTES_MAX};
        checksum_append(&out, &checksum);
        assert_true(slice_equal_text(bytes_slice(&out), cases[i].text));
    }
}

static void assert_checksum(const struct checksum *checksum, const char *expected)
{
    AUTO_VALUE(bytes) out = {.max = CHECKSUM_TEXT_BYTES_MAX};
    checksum_append(&out, checksum);
    assert_int_equal(out.bytes, strlen(expected));
    assert_memory_equal(out.data, expected, out.bytes);
}

/* Check values of "123456789" from the catalogues of CRCs and the standards of the hashes. */
static void digests_have_their_published_values(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "y/Q5Jg==",
        "4waSgw==",
        "rosUhgp5mIg=",
        "98O8HYCOBHMq32eZZczDTKeuNEE=",
        "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
        "2eZ2LdHI6vbWGzxhkvxAjU1tXxF20MKRabwk5xw/J0rSf81YEbMT1oH35V7ALXPUmclUVba1u1A6z1dPuo/+hQ==",
        "JfnnlDI7RTiF9RgfG2JNCw==",
        "jLhB20DmroM=",
        "ctyxi2ehff8=",
        "MxGUd+3l3NXpcWQnaB1YYA=="};
    AUTO(digest_methods) methods = digest_methods_new();
    AUTO(digest) digest = digest_new(methods, EVERY_DIGEST);
    digest_update(digest, SLICE_LITERAL("1234"));
    digest_update(digest, slice_of(NULL, 0));
    digest_update(digest, SLICE_LITERAL("56789"));
    assert_int_equal(digest_total_bytes(digest), 9);
    struct digest_values values;
    digest_finish(digest, &values);
    for (int i = 0; i < ALL_COUNT; i++) {
        struct checksum checksum = digest_checksum(&values, all[i]);
        assert_checksum(&checksum, expected[i]);
        assert_true(digest_matches(&values, &checksum));
        checksum.value[checksum_bytes(all[i]) - 1] ^= 1;
        assert_false(digest_matches(&values, &checksum));
    }
    struct etag etag = etag_of_md5(values.md5);
    assert_string_equal(etag.text, "25f9e794323b453885f5181f1b624d0b");
}

static void a_digest_does_not_depend_on_the_split_nor_on_the_set(void **state)
{
    (void)state;
    enum { BYTES = 100000 };
    static uint8_t data[BYTES];
    for (uint32_t i = 0; i < BYTES; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    AUTO(digest_methods) methods = digest_methods_new();
    AUTO(digest) whole = digest_new(methods, EVERY_DIGEST);
    digest_update(whole, slice_of(data, BYTES));
    struct digest_values expected;
    digest_finish(whole, &expected);

    static const uint32_t steps[] = {1, 7, 4096, 16384, 16385, 65536};
    for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
        AUTO(digest) digest = digest_new(methods, EVERY_DIGEST);
        for (struct slice rest = slice_of(data, BYTES); rest.bytes > 0;
             rest = slice_skip(rest, steps[s]))
            digest_update(digest, slice_first(rest, steps[s]));
        struct digest_values values;
        digest_finish(digest, &values);
        assert_memory_equal(&values, &expected, sizeof values);
    }
    for (int i = 0; i < ALL_COUNT; i++) {
        AUTO(digest) digest = digest_new(methods, digest_bit(all[i]));
        digest_update(digest, slice_of(data, BYTES));
        struct digest_values values;
        digest_finish(digest, &values);
        struct checksum alone = digest_checksum(&values, all[i]);
        struct checksum together = digest_checksum(&expected, all[i]);
        assert_true(checksum_equal(&alone, &together));
    }
    uint8_t md5[DIGEST_MD5_BYTES];
    uint8_t sha256[DIGEST_SHA256_BYTES];
    digest_md5(methods, slice_of(data, BYTES), md5);
    digest_sha256(methods, slice_of(data, BYTES), sha256);
    assert_memory_equal(md5, expected.md5, sizeof md5);
    assert_memory_equal(sha256, expected.sha256, sizeof sha256);
}

static void digest_of(const struct digest_methods *methods, struct slice data,
                      struct digest_values *out_values)
{
    AUTO(digest) digest = digest_new(methods, EVERY_DIGEST);
    digest_update(digest, data);
    digest_finish(digest, out_values);
}

/* Expected values computed with Python's hashlib and zlib. */
static void a_multipart_upload_combines_its_parts(void **state)
{
    (void)state;
    static const struct {
        enum checksum_algorithm algorithm;
        enum checksum_type type;
        const char *checksum;
    } cases[] = {
        {CHECKSUM_NONE, CHECKSUM_FULL_OBJECT, NULL},
        {CHECKSUM_CRC32, CHECKSUM_COMPOSITE, "mtSTBA==-3"},
        {CHECKSUM_SHA1, CHECKSUM_COMPOSITE, "97u1DE6fOwElhO9ta4Hx80MjgBs=-3"},
        {CHECKSUM_SHA256, CHECKSUM_COMPOSITE, "lgOf0yutVBajnDcxgepJZd9OONqDg71tMb8q1NsGp3c=-3"},
        {CHECKSUM_CRC32, CHECKSUM_FULL_OBJECT, "y/Q5Jg=="},
        {CHECKSUM_CRC32C, CHECKSUM_FULL_OBJECT, "4waSgw=="},
        {CHECKSUM_CRC64NVME, CHECKSUM_FULL_OBJECT, "rosUhgp5mIg="},
    };
    static const struct slice parts[] = {SLICE_LITERAL("1234"), SLICE_LITERAL(""),
                                         SLICE_LITERAL("56789")};
    AUTO(digest_methods) methods = digest_methods_new();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO(multipart_digest)
        multipart = multipart_digest_new(methods, cases[i].algorithm, cases[i].type);
        for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
            struct digest_values values;
            digest_of(methods, parts[p], &values);
            struct checksum checksum = {0};
            if (cases[i].algorithm != CHECKSUM_NONE)
                checksum = digest_checksum(&values, cases[i].algorithm);
            multipart_digest_add(multipart, values.md5, &checksum, parts[p].bytes);
        }
        struct etag etag;
        struct checksum checksum;
        multipart_digest_finish(multipart, &etag, &checksum);
        assert_string_equal(etag.text, "c57c61650e7a673bb13c5b3b2e9fbc27-3");
        assert_int_equal(checksum.algorithm, cases[i].algorithm);
        assert_int_equal(checksum.type, cases[i].type);
        if (cases[i].checksum != NULL)
            assert_checksum(&checksum, cases[i].checksum);
    }
}

static void ten_thousand_parts_fit_an_etag(void **state)
{
    (void)state;
    AUTO(digest_methods) methods = digest_methods_new();
    AUTO(multipart_digest)
    multipart = multipart_digest_new(methods, CHECKSUM_NONE, CHECKSUM_FULL_OBJECT);
    uint8_t md5[DIGEST_MD5_BYTES] = {0};
    for (int i = 0; i < CHECKSUM_PART_COUNT_MAX; i++)
        multipart_digest_add(multipart, md5, NULL, 1);
    struct etag etag;
    struct checksum checksum;
    multipart_digest_finish(multipart, &etag, &checksum);
    assert_int_equal(etag_slice(&etag).bytes, ETAG_TEXT_BYTES_MAX);
    assert_string_equal(etag.text + 32, "-10000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_lead_back_to_their_algorithm),
        cmocka_unit_test(types_fit_algorithms_as_s3_says),
        cmocka_unit_test(a_checksum_text_is_read_strictly),
        cmocka_unit_test(digests_have_their_published_values),
        cmocka_unit_test(a_digest_does_not_depend_on_the_split_nor_on_the_set),
        cmocka_unit_test(a_multipart_upload_combines_its_parts),
        cmocka_unit_test(ten_thousand_parts_fit_an_etag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
