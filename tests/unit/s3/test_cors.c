/* Tests of s3/cors.h: which rules are accepted, how they come back, and what they allow. */
#include "base/mem.h"
#include "s3/cors.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { FIELDS_MAX = 512, ENCODED_BYTES_MAX = 64 << 10 };

static enum cors_field_kind kind_of(char letter)
{
    static const char letters[] = "RIHMOEA"; /* in the order of the kinds */
    const char *at = strchr(letters, letter);
    assert_non_null(at);
    return (enum cors_field_kind)(CORS_RULE + (at - letters));
}

/* Fields from a text: one a line, the letter of the kind, then its text. */
static uint32_t fields_of(const char *lines, struct cors_field *fields)
{
    uint32_t count = 0;
    for (struct slice rest = slice_of_text(lines); rest.bytes > 0; count++) {
        struct slice line = slice_first(rest, slice_find(rest, '\n'));
        rest = slice_skip(rest, line.bytes + 1);
        assert_true(count < FIELDS_MAX);
        fields[count] =
            (struct cors_field){.kind = kind_of((char)line.data[0]), .text = slice_skip(line, 1)};
    }
    return count;
}

static void what_s3_refuses_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *lines;
        enum s3_error error;
        const char *message; /* NULL: the default one */
    } cases[] = {
        {"R\nMGET\nO*", S3_OK, NULL},
        {"R\nMGET\nMPUT\nMHEAD\nMPOST\nMDELETE\nOhttp://*.a\nOb\nH*\nHx-amz-*\nEETag\nIid\nA0",
         S3_OK, NULL},
        {"R\nMGET\nO*\nA-2147483648", S3_OK, NULL},
        {"R\nMGET\nO*\nH\nE", S3_OK, NULL},
        {"R", S3_MALFORMED_XML, NULL},
        {"R\nMGET", S3_MALFORMED_XML, NULL},
        {"R\nO*", S3_MALFORMED_XML, NULL},
        {"R\nMGET\nO*\nR\nMGET", S3_MALFORMED_XML, NULL},
        {"R\nMGET\nO", S3_MALFORMED_XML, NULL},
        {"R\nMGET\nO*\nA", S3_MALFORMED_XML, NULL},
        {"R\nMGET\nO*\nA1.5", S3_MALFORMED_XML, NULL},
        {"R\nMGET\nO*\nA2147483648", S3_MALFORMED_XML, NULL},
        {"R\nMGET\nO*\nA-2147483649", S3_MALFORMED_XML, NULL},
        {"R\nMget\nO*", S3_INVALID_REQUEST,
         "Found unsupported HTTP method in CORS config. Unsupported method is get"},
        {"R\nMGET\nMOPTIONS\nO*", S3_INVALID_REQUEST,
         "Found unsupported HTTP method in CORS config. Unsupported method is OPTIONS"},
        {"R\nM\nO*", S3_INVALID_REQUEST,
         "Found unsupported HTTP method in CORS config. Unsupported method is "},
        {"R\nMGET\nOhttp://*.a.*", S3_INVALID_REQUEST,
         "AllowedOrigin \"http://*.a.*\" can not have more than one wildcard."},
        {"R\nMGET\nO*\nH*-*", S3_INVALID_REQUEST,
         "AllowedHeader \"*-*\" can not have more than one wildcard."},
        {"R\nMGET\nO*\nHa b", S3_INVALID_REQUEST,
         "AllowedHeader \"a b\" contains invalid character."},
        {"R\nMGET\nO*\nEa:b", S3_INVALID_REQUEST,
         "ExposeHeader \"a:b\" contains invalid character."},
        {"R\nMGET\nO*\nEx-*", S3_INVALID_REQUEST,
         "ExposeHeader \"x-*\" contains wildcard. We currently do not support wildcard for "
         "ExposeHeader."},
        {"R\nMGET\nO*\nIa\nR\nMGET\nO*\nIa", S3_INVALID_REQUEST, "Rule Id must be unique."},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cors_field fields[FIELDS_MAX];
        AUTO_VALUE(s3_failure) failure = {0};
        uint32_t count = fields_of(cases[i].lines, fields);
        enum s3_error error = cors_check(fields, count, &failure);
        if (error != cases[i].error)
            print_error("%s\n", cases[i].lines);
        assert_int_equal(error, cases[i].error);
        if (cases[i].message != NULL)
            assert_true(slice_equal_text(s3_failure_message(&failure, error), cases[i].message));
    }
}

static void rules_and_ids_have_limits(void **state)
{
    (void)state;
    static struct cors_field fields[3 * (CORS_RULE_COUNT_MAX + 1)];
    for (uint32_t i = 0; i < CORS_RULE_COUNT_MAX + 1; i++)
        (void)fields_of("R\nMGET\nO*", fields + 3 * (size_t)i);
    assert_int_equal(cors_check(fields, 3 * CORS_RULE_COUNT_MAX, NULL), S3_OK);
    assert_int_equal(cors_check(fields, 3 * (CORS_RULE_COUNT_MAX + 1), NULL), S3_INVALID_REQUEST);

    static char id[2 * CORS_ID_CHARACTERS_MAX + 3];
    for (size_t i = 0; i < CORS_ID_CHARACTERS_MAX + 1; i++)
        memcpy(id + 2 * i, "\xc3\xa9", 2);
    struct cors_field rule[FIELDS_MAX];
    uint32_t count = fields_of("R\nMGET\nO*\nI", rule);
    rule[3].text = slice_of(id, 2 * CORS_ID_CHARACTERS_MAX);
    assert_int_equal(cors_check(rule, count, NULL), S3_OK);
    rule[3].text = slice_of(id, 2 * CORS_ID_CHARACTERS_MAX + 2);
    assert_int_equal(cors_check(rule, count, NULL), S3_INVALID_REQUEST);
}

static struct slice encode(const char *lines, struct bytes *out)
{
    struct cors_field fields[FIELDS_MAX];
    uint32_t count = fields_of(lines, fields);
    out->max = ENCODED_BYTES_MAX;
    cors_encode(out, fields, count);
    assert_false(out->overflow);
    return bytes_slice(out);
}

static void rules_come_back_in_the_order_of_the_schema(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) stored = {0};
    struct slice encoded = encode("R\nA5\nOb\nMPUT\nOa\nMGET\nHx\nH\nI\nR\nMGET\nO*\nIid", &stored);
    static const char expected[] = "R\nHx\nMPUT\nMGET\nOb\nOa\nA5\nR\nIid\nMGET\nO*";
    struct cors_field wanted[FIELDS_MAX];
    uint32_t count = fields_of(expected, wanted);
    struct cors_reader reader;
    struct cors_field field;
    assert_int_equal(cors_read(encoded, &reader), OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(cors_next(&reader, &field));
        assert_int_equal(field.kind, wanted[i].kind);
        assert_true(slice_equal(field.text, wanted[i].text));
    }
    assert_false(cors_next(&reader, &field));
}

static void what_is_cut_or_of_a_later_release_is_not_read(void **state)
{
    (void)state;
    struct cors_reader reader;
    assert_int_equal(cors_read(slice_of(NULL, 0), &reader), ERR_CORRUPT);
    assert_int_equal(cors_read(SLICE_LITERAL("\x02\x01\x01\x01"), &reader), ERR_UNSUPPORTED);
    assert_int_equal(cors_read(SLICE_LITERAL("\x01\xff\x01\x01"), &reader), ERR_CORRUPT);
    AUTO_VALUE(bytes) stored = {0};
    struct slice encoded = encode("R\nMGET\nO*\nA10", &stored);
    const struct cors_question question = {.origin = SLICE_LITERAL("http://a"),
                                           .method = SLICE_LITERAL("GET")};
    for (size_t cut = 0; cut < encoded.bytes; cut++) { /* never read beyond, whatever it says */
        AUTO_VALUE(bytes) copy = {.max = ENCODED_BYTES_MAX};
        bytes_append(&copy, slice_first(encoded, cut));
        struct cors_grant grant = {0};
        (void)cors_ask(bytes_slice(&copy), &question, &grant);
        cors_grant_deinit(&grant);
    }
}

#define RULES                                                                                      \
    "R\nOhttp://one.example\nOhttps://*.example.org\nMGET\nMHEAD\nHx-amz-*\nHContent-Type\n"       \
    "EETag\nEx-amz-id-2\nA3000\n"                                                                  \
    "R\nOhttp://one.example\nMPUT\nH*\n"                                                           \
    "R\nO*\nMGET"

static void the_first_rule_that_matches_answers(void **state)
{
    (void)state;
    static const struct {
        const char *origin, *method, *headers;
        const char *allowed; /* NULL: nothing */
        const char *methods, *exposed, *max_age;
    } cases[] = {
        {"http://one.example", "GET", "", "http://one.example", "GET, HEAD", "ETag, x-amz-id-2",
         "3000"},
        {"https://b.example.org", "HEAD", "X-AMZ-date, content-type", "https://b.example.org",
         "GET, HEAD", "ETag, x-amz-id-2", "3000"},
        {"https://.example.org", "GET", "", "https://.example.org", "GET, HEAD", "ETag, x-amz-id-2",
         "3000"},
        /* the second rule: method, any header */
        {"http://one.example", "PUT", "authorization,x-anything", "http://one.example", "PUT", "",
         ""},
        /* the third: another origin, or headers that the first does not allow ... */
        {"http://two.example", "GET", "", "*", "GET", "", ""},
        {"https://example.org", "GET", "", "*", "GET", "", ""},
        {"http://ONE.example", "GET", "", "*", "GET", "", ""},
        {"null", "GET", "", "*", "GET", "", ""},
        /* ... but it allows none at all */
        {"http://one.example", "GET", "authorization", NULL, NULL, NULL, NULL},
        {"http://two.example", "GET", "x-amz-date", NULL, NULL, NULL, NULL},
        {"http://two.example", "PUT", "", NULL, NULL, NULL, NULL},
        {"http://one.example", "POST", "", NULL, NULL, NULL, NULL},
        {"http://one.example", "get", "", NULL, NULL, NULL, NULL},
        {"http://one.example", "OPTIONS", "", NULL, NULL, NULL, NULL},
    };
    AUTO_VALUE(bytes) stored = {0};
    struct slice encoded = encode(RULES, &stored);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct cors_question question = {
            .origin = slice_of_text(cases[i].origin),
            .method = slice_of_text(cases[i].method),
            .headers = slice_of_text(cases[i].headers),
        };
        struct cors_grant grant = {0};
        bool granted = cors_ask(encoded, &question, &grant);
        if (granted != (cases[i].allowed != NULL))
            print_error("%s %s %s\n", cases[i].origin, cases[i].method, cases[i].headers);
        assert_int_equal(granted, cases[i].allowed != NULL);
        if (granted) {
            assert_true(slice_equal_text(grant.origin, cases[i].allowed));
            assert_true(slice_equal_text(bytes_slice(&grant.methods), cases[i].methods));
            assert_true(slice_equal_text(bytes_slice(&grant.exposed), cases[i].exposed));
            assert_true(slice_equal_text(grant.max_age, cases[i].max_age));
        }
        cors_grant_deinit(&grant);
    }
}

static void questions_and_answers_have_limits(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) names = {.max = 4096};
    for (int i = 0; i < CORS_REQUEST_HEADERS_MAX; i++)
        bytes_append_text(&names, i == 0 ? "x" : ",x");
    static char origin[CORS_ORIGIN_BYTES_MAX + 2];
    memset(origin, 'o', CORS_ORIGIN_BYTES_MAX + 1);
    struct cors_question question = {.origin = slice_of(origin, CORS_ORIGIN_BYTES_MAX),
                                     .method = SLICE_LITERAL("GET"),
                                     .headers = bytes_slice(&names)};
    AUTO_VALUE(bytes) stored = {0};
    struct slice encoded = encode("R\nMGET\nO*\nHx", &stored);
    struct cors_grant grant = {0};
    assert_true(cors_ask(encoded, &question, &grant));
    cors_grant_deinit(&grant);
    bytes_append_text(&names, ",x");
    question.headers = bytes_slice(&names);
    assert_false(cors_ask(encoded, &question, &grant));
    question.headers = slice_of(NULL, 0);
    question.origin.bytes++;
    assert_false(cors_ask(encoded, &question, &grant));

    /* More exposed headers than an answer can hold: none are said, the rest is. */
    static char lines[16 << 10] = "R\nMGET\nO*";
    for (int i = 0; i < 200; i++)
        strcat(lines, "\nEx-a-header-with-a-rather-long-name-of-thirty-bytes");
    AUTO_VALUE(bytes) many = {0};
    encoded = encode(lines, &many);
    question.origin.bytes--;
    struct cors_grant second = {0};
    assert_true(cors_ask(encoded, &question, &second));
    assert_int_equal(second.exposed.bytes, 0);
    assert_true(slice_equal_text(bytes_slice(&second.methods), "GET"));
    cors_grant_deinit(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_s3_refuses_is_refused),
        cmocka_unit_test(rules_and_ids_have_limits),
        cmocka_unit_test(rules_come_back_in_the_order_of_the_schema),
        cmocka_unit_test(what_is_cut_or_of_a_later_release_is_not_read),
        cmocka_unit_test(the_first_rule_that_matches_answers),
        cmocka_unit_test(questions_and_answers_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
