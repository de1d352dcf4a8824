/* s3/form.h: fields, the file and what is refused, at every split of the body. */
#include "base/bytes.h"
#include "s3/form.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define TYPE "multipart/form-data; boundary=XyZ"
#define PART(name, value)                                                                          \
    "--XyZ\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define FILE_PART(content)                                                                         \
    "--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a/b\\c.txt\"\r\n"          \
    "Content-Type: text/plain\r\n\r\n" content "\r\n"
#define CLOSE "--XyZ--\r\n"

/* What a body came to: the fields as "name=value;", and the content of the file. */
struct result {
    enum s3_error error;
    struct bytes fields;
    struct bytes content;
    bool ended;
};

static void result_deinit(struct result *result)
{
    bytes_deinit(&result->fields);
    bytes_deinit(&result->content);
}

static void describe(const struct s3_form *form, struct bytes *out)
{
    for (uint32_t i = 0; i < s3_form_field_count(form); i++) {
        struct slice name;
        struct slice value;
        s3_form_field_at(form, i, &name, &value);
        bytes_append(out, name);
        bytes_append_byte(out, '=');
        bytes_append(out, value);
        bytes_append_byte(out, ';');
    }
}

static enum s3_error feed(struct s3_form *form, struct slice piece, struct result *result)
{
    enum s3_form_event event;
    do {
        struct slice content;
        TRY(s3_form_next(form, &piece, &event, &content, NULL));
        assert_true((content.bytes > 0) == (event == S3_FORM_CONTENT));
        if (event == S3_FORM_FILE)
            describe(form, &result->fields);
        bytes_append(&result->content, content);
    } while (event != S3_FORM_MORE && event != S3_FORM_END);
    result->ended = event == S3_FORM_END;
    assert_true(result->ended || piece.bytes == 0);
    return S3_OK;
}

/* The body in three pieces: up to `first`, up to `second`, the rest. */
static struct result parse(const char *type, struct slice body, size_t first, size_t second)
{
    struct result result = {.fields = {.max = 1 << 20}, .content = {.max = 1 << 20}};
    const struct slice pieces[] = {
        slice_first(body, first),
        slice_skip(slice_first(body, second), first),
        slice_skip(body, second),
    };
    AUTO(s3_form) form = NULL;
    result.error = s3_form_new(slice_of_text(type), NULL, &form);
    for (size_t i = 0; i < 3 && result.error == S3_OK; i++)
        result.error = feed(form, pieces[i], &result);
    if (result.error == S3_OK)
        result.error = s3_form_finish(form, NULL);
    return result;
}

static const struct {
    const char *name;
    const char *body;
    enum s3_error error;
    const char *fields;
    const char *content;
} cases[] = {
    {"file alone", FILE_PART("hello") CLOSE, S3_OK, "", "hello"},
    {"empty file", FILE_PART("") CLOSE, S3_OK, "", ""},
    {"fields", PART("key", "k") PART("A-b", " v\r\nw ") FILE_PART("x") CLOSE, S3_OK,
     "key=k;a-b= v\r\nw ;", "x"},
    {"empty field", PART("key", "") FILE_PART("x") CLOSE, S3_OK, "key=;", "x"},
    {"file name without its folders", PART("key", "p/${filename}/${filename}") FILE_PART("x") CLOSE,
     S3_OK, "key=p/c.txt/c.txt;", "x"},
    {"no other variable", PART("key", "$ ${ ${file} $${filename}") FILE_PART("x") CLOSE, S3_OK,
     "key=$ ${ ${file} $c.txt;", "x"},
    {"the policy is not expanded", PART("policy", "${filename}") FILE_PART("x") CLOSE, S3_OK,
     "policy=${filename};", "x"},
    {"content almost like a boundary", FILE_PART("\r\r\n\r\n--Xy\r\n--\n--XyZ\r") CLOSE, S3_OK, "",
     "\r\r\n\r\n--Xy\r\n--\n--XyZ\r"},
    {"field almost like a boundary", PART("key", "\r\n--Xy\r\n-") FILE_PART("x") CLOSE, S3_OK,
     "key=\r\n--Xy\r\n-;", "x"},
    {"preamble", "not\r\n--a part\r\n" FILE_PART("x") CLOSE, S3_OK, "", "x"},
    {"line ends before the first boundary", "\r\n" FILE_PART("x") CLOSE, S3_OK, "", "x"},
    {"epilogue", FILE_PART("x") CLOSE "tail --XyZ", S3_OK, "", "x"},
    {"no line end at the end", FILE_PART("x") "--XyZ--", S3_OK, "", "x"},
    {"spaces behind a boundary", "--XyZ \t" FILE_PART("x"), S3_MALFORMED_POST_REQUEST, "", ""},
    {"parts behind the file", FILE_PART("x") PART("key", "late") PART("key", "later") CLOSE, S3_OK,
     "", "x"},
    {"a name without quotes",
     "--XyZ\r\ncontent-disposition:form-data;NAME=key\r\n\r\nk\r\n" FILE_PART("x") CLOSE, S3_OK,
     "key=k;", "x"},
    {"quotes in a name",
     "--XyZ\r\nContent-Disposition: form-data; name=\"a\\\"b%22c\\\\\"\r\n\r\nk\r\n" FILE_PART("x")
         CLOSE,
     S3_OK, "a\"b\"c\\=k;", "x"},
    {"padding behind a boundary",
     "--XyZ \t\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n--XyZ--", S3_OK, "", "x"},
    {"two files", FILE_PART("x") FILE_PART("y") CLOSE, S3_INCORRECT_NUMBER_OF_FILES_IN_POST_REQUEST,
     "", "x"},
    {"no file", PART("key", "k") CLOSE, S3_INCORRECT_NUMBER_OF_FILES_IN_POST_REQUEST, "", ""},
    {"nothing", CLOSE, S3_INCORRECT_NUMBER_OF_FILES_IN_POST_REQUEST, "", ""},
    {"no boundary", "hello", S3_MALFORMED_POST_REQUEST, "", ""},
    {"empty body", "", S3_MALFORMED_POST_REQUEST, "", ""},
    {"not closed", FILE_PART("x"), S3_MALFORMED_POST_REQUEST, "", "x"},
    {"not closed behind a boundary", FILE_PART("x") "--XyZ", S3_MALFORMED_POST_REQUEST, "", "x"},
    {"half closed", FILE_PART("x") "--XyZ-", S3_MALFORMED_POST_REQUEST, "", "x"},
    {"a longer boundary", FILE_PART("x") "--XyZA\r\n", S3_MALFORMED_POST_REQUEST, "", "x"},
    {"a boundary with LF", "--XyZ\nContent-Disposition: form-data; name=file\r\n\r\n",
     S3_MALFORMED_POST_REQUEST, "", ""},
    {"headers with LF", "--XyZ\r\nContent-Disposition: form-data; name=file\n\n",
     S3_MALFORMED_POST_REQUEST, "", ""},
    {"part without headers", "--XyZ\r\n\r\nx\r\n" CLOSE, S3_MALFORMED_POST_REQUEST, "", ""},
    {"part without a name", "--XyZ\r\nContent-Disposition: form-data\r\n\r\nx\r\n" CLOSE,
     S3_MALFORMED_POST_REQUEST, "", ""},
    {"empty name", PART("", "v") FILE_PART("x") CLOSE, S3_MALFORMED_POST_REQUEST, "", ""},
    {"attachment", "--XyZ\r\nContent-Disposition: attachment; name=file\r\n\r\nx\r\n" CLOSE,
     S3_MALFORMED_POST_REQUEST, "", ""},
    {"two dispositions",
     "--XyZ\r\nContent-Disposition: form-data; name=a\r\n"
     "Content-Disposition: form-data; name=b\r\n\r\nx\r\n" CLOSE,
     S3_MALFORMED_POST_REQUEST, "", ""},
    {"open quote", "--XyZ\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx\r\n" CLOSE,
     S3_MALFORMED_POST_REQUEST, "", ""},
    {"header without colon", "--XyZ\r\nContent-Disposition\r\n\r\nx\r\n" CLOSE,
     S3_MALFORMED_POST_REQUEST, "", ""},
    {"repeated field", PART("key", "a") PART("KEY", "b") FILE_PART("x") CLOSE, S3_INVALID_ARGUMENT,
     "", ""},
};

static void check(size_t index, size_t first, size_t second)
{
    struct slice body = slice_of_text(cases[index].body);
    AUTO_VALUE(result) result = parse(TYPE, body, first, second);
    bool fits = result.error == cases[index].error &&
                slice_equal_text(bytes_slice(&result.fields), cases[index].fields) &&
                slice_equal_text(bytes_slice(&result.content), cases[index].content);
    if (!fits)
        print_error("case %s at %zu, %zu: %s, %.*s, %.*s\n", cases[index].name, first, second,
                    result.error == S3_OK ? "OK" : s3_error_code(result.error),
                    SLICE_PRINT(bytes_slice(&result.fields)),
                    SLICE_PRINT(bytes_slice(&result.content)));
    assert_true(fits);
    assert_true(result.ended == (result.error == S3_OK));
}

static void a_body_means_the_same_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t bytes = strlen(cases[i].body);
        for (size_t first = 0; first <= bytes; first++) {
            check(i, first, bytes);
            check(i, first, first + 1);
        }
    }
}

static void bytes_one_by_one_give_the_same(void **state)
{
    (void)state;
    static const char body[] = PART("key", "k\r\n--") FILE_PART("a\r\n--Xyb\r\r\n--XY") CLOSE;
    struct result result = {.fields = {.max = 1 << 20}, .content = {.max = 1 << 20}};
    AUTO(s3_form) form = NULL;
    assert_int_equal(s3_form_new(slice_of_text(TYPE), NULL, &form), S3_OK);
    for (size_t i = 0; i < sizeof body - 1; i++)
        assert_int_equal(feed(form, slice_of(body + i, 1), &result), S3_OK);
    assert_true(slice_equal_text(bytes_slice(&result.fields), "key=k\r\n--;"));
    assert_true(slice_equal_text(bytes_slice(&result.content), "a\r\n--Xyb\r\r\n--XY"));
    assert_true(slice_equal_text(s3_form_field(form, "key"), "k\r\n--"));
    assert_null(s3_form_field(form, "other").data);
    result_deinit(&result);
}

static const struct {
    const char *type;
    enum s3_error error;
} types[] = {
    {"multipart/form-data; boundary=XyZ", S3_OK},
    {"Multipart/Form-Data;charset=utf-8 ; BOUNDARY=\"XyZ\"", S3_OK},
    {"multipart/form-data; boundary=XyZ; charset=utf-8", S3_OK},
    {"multipart/form-data", S3_MALFORMED_POST_REQUEST},
    {"multipart/form-data; boundary=", S3_MALFORMED_POST_REQUEST},
    {"multipart/form-data; boundary=\"a b \"", S3_MALFORMED_POST_REQUEST},
    {"multipart/form-data; boundary=\"a\rb\"", S3_MALFORMED_POST_REQUEST},
    {"multipart/form-data; boundary=a\x7f", S3_MALFORMED_POST_REQUEST},
    {"multipart/form-data; boundary=01234567890123456789012345678901234567890123456789012345678901"
     "234567890",
     S3_MALFORMED_POST_REQUEST},
    {"multipart/mixed; boundary=XyZ", S3_PRECONDITION_FAILED},
    {"multipart/form-databoundary=XyZ", S3_PRECONDITION_FAILED},
    {"application/x-www-form-urlencoded", S3_PRECONDITION_FAILED},
    {"", S3_PRECONDITION_FAILED},
};

static void only_a_form_with_a_boundary_is_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        AUTO_VALUE(result)
        result = parse(types[i].type, slice_of_text(FILE_PART("x") CLOSE), 0, 0);
        if (result.error != types[i].error)
            print_error("type %s\n", types[i].type);
        assert_int_equal(result.error, types[i].error);
    }
}

/* A form with `fields` fields of `bytes` bytes each. */
static enum s3_error sized(uint32_t fields, size_t bytes, const char *value, const char *tail)
{
    AUTO_VALUE(bytes) body = {.max = 1 << 20};
    for (uint32_t i = 0; i < fields; i++) {
        bytes_append_format(&body, "--XyZ\r\nContent-Disposition: form-data; name=\"n%u\"\r\n\r\n",
                            i);
        for (size_t k = 0; k < bytes; k += strlen(value))
            bytes_append_text(&body, value);
        bytes_append_text(&body, "\r\n");
    }
    bytes_append_text(&body, FILE_PART("x"));
    bytes_append_text(&body, tail);
    AUTO_VALUE(result) result = parse(TYPE, bytes_slice(&body), 1000, 10000);
    return result.error;
}

static void the_form_around_a_file_is_bounded(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) tail = {.max = 1 << 20};
    assert_int_equal(sized(1, 20000, "v", CLOSE), S3_OK);
    assert_int_equal(sized(1, 20480, "v", CLOSE), S3_MAX_POST_PRE_DATA_LENGTH_EXCEEDED);
    assert_int_equal(sized(S3_FORM_FIELDS_MAX, 1, "v", CLOSE), S3_OK);
    assert_int_equal(sized(S3_FORM_FIELDS_MAX + 1, 1, "v", CLOSE),
                     S3_MAX_POST_PRE_DATA_LENGTH_EXCEEDED);
    bytes_append_text(&tail, "--XyZ\r\nContent-Disposition: form-data; name=late\r\n\r\n");
    for (int i = 0; i < S3_FORM_BYTES_MAX; i++)
        bytes_append_byte(&tail, 'v');
    bytes_append_text(&tail, "\r\n" CLOSE);
    bytes_append_byte(&tail, '\0');
    assert_int_equal(sized(1, 1, "v", (const char *)tail.data), S3_MALFORMED_POST_REQUEST);
}

static void what_a_file_name_makes_of_the_fields_is_bounded(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) body = {.max = 1 << 20};
    bytes_append_text(&body, "--XyZ\r\nContent-Disposition: form-data; name=key\r\n\r\n");
    for (int i = 0; i < 500; i++)
        bytes_append_text(&body, "${filename}");
    bytes_append_text(&body, "\r\n--XyZ\r\nContent-Disposition: form-data; name=file; filename=");
    for (int i = 0; i < 8000; i++)
        bytes_append_byte(&body, 'n');
    bytes_append_text(&body, "\r\n\r\nx\r\n" CLOSE);
    AUTO_VALUE(result) result = parse(TYPE, bytes_slice(&body), 0, 0);
    assert_int_equal(result.error, S3_MAX_POST_PRE_DATA_LENGTH_EXCEEDED);
}

static void an_error_is_final(void **state)
{
    (void)state;
    AUTO(s3_form) form = NULL;
    struct slice input = SLICE_LITERAL("--XyZ\r\nbad\r\n");
    enum s3_form_event event;
    struct slice content;
    assert_int_equal(s3_form_new(slice_of_text(TYPE), NULL, &form), S3_OK);
    assert_int_equal(s3_form_next(form, &input, &event, &content, NULL), S3_MALFORMED_POST_REQUEST);
    input = SLICE_LITERAL(FILE_PART("x") CLOSE);
    assert_int_equal(s3_form_next(form, &input, &event, &content, NULL), S3_MALFORMED_POST_REQUEST);
    assert_int_equal(s3_form_finish(form, NULL), S3_MALFORMED_POST_REQUEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_means_the_same_at_every_split),
        cmocka_unit_test(bytes_one_by_one_give_the_same),
        cmocka_unit_test(only_a_form_with_a_boundary_is_accepted),
        cmocka_unit_test(the_form_around_a_file_is_bounded),
        cmocka_unit_test(what_a_file_name_makes_of_the_fields_is_bounded),
        cmocka_unit_test(an_error_is_final),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
