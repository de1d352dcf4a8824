/* Exchanges: headers of an answer, and the transport that works from memory. */
#include "gateway/exchange_memory.h"
#include "runtime/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void run(fiber_fn *fn)
{
    struct runtime_options options = {.reactor_count = 1};
    AUTO(runtime) runtime = NULL;
    assert_int_equal(runtime_new(&options, &runtime), OK);
    runtime_run(runtime, fn, NULL);
    assert_int_equal(runtime_fiber_count(runtime), 0);
}

static void assert_slice(struct slice slice, const char *text)
{
    if (!slice_equal_text(slice, text))
        fail_msg("\"%.*s\" is not \"%s\"", SLICE_PRINT(slice), text);
}

/* --- headers --- */

static void headers_are_walked_in_order(void **state)
{
    (void)state;
    struct memory_exchange memory;
    memory_exchange_init(&memory, "GET", SLICE_LITERAL("/"), slice_of(NULL, 0), 0);
    struct exchange *exchange = &memory.exchange;
    exchange_header_text(exchange, "ETag", "\"abc\"");
    exchange_header_text(exchange, "x-amz-meta-empty", "");
    exchange_header(exchange, "x-colon", SLICE_LITERAL("a: b"));
    exchange_header_format(exchange, "Content-Range", "bytes %d-%d/%d", 0, 9, 100);
    static const char *const expected[][2] = {{"ETag", "\"abc\""},
                                              {"x-amz-meta-empty", ""},
                                              {"x-colon", "a: b"},
                                              {"Content-Range", "bytes 0-9/100"}};
    size_t offset = 0;
    struct slice name;
    struct slice value;
    for (size_t i = 0; i < 4; i++) {
        assert_true(exchange_next_header(exchange, &offset, &name, &value));
        assert_slice(name, expected[i][0]);
        assert_slice(value, expected[i][1]);
        assert_int_equal(value.data[value.bytes], 0);
    }
    assert_false(exchange_next_header(exchange, &offset, &name, &value));
    assert_slice(memory_exchange_answer_header(&memory, "etag"), "\"abc\"");
    assert_null(memory_exchange_answer_header(&memory, "none").data);
    exchange_reset_answer(exchange);
    offset = 0;
    assert_false(exchange_next_header(exchange, &offset, &name, &value));
    memory_exchange_deinit(&memory);
}

static void header_values_cannot_split_an_answer(void **state)
{
    (void)state;
    static const char *const values[] = {"a\r\nx: y", "a\nb", "\r", "a\x01", "\x7f"};
    struct memory_exchange memory;
    memory_exchange_init(&memory, "GET", SLICE_LITERAL("/"), slice_of(NULL, 0), 0);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        exchange_header_text(&memory.exchange, "x-value", values[i]);
    exchange_header(&memory.exchange, "x-value", slice_of("a\0b", 3));
    assert_int_equal(memory.exchange.header_count, 0);
    exchange_header_text(&memory.exchange, "x-value", "tab\tand \xc3\xa4 pass");
    assert_int_equal(memory.exchange.header_count, 1);
    memory_exchange_deinit(&memory);
}

static void headers_beyond_the_limits_are_dropped(void **state)
{
    (void)state;
    static char long_text[EXCHANGE_HEADER_BYTES_MAX + 1];
    memset(long_text, 'a', sizeof long_text - 1);
    struct memory_exchange memory;
    memory_exchange_init(&memory, "GET", SLICE_LITERAL("/"), slice_of(NULL, 0), 0);
    exchange_header_text(&memory.exchange, "x-long", long_text);
    exchange_header_format(&memory.exchange, "x-long", "%s", long_text);
    assert_int_equal(memory.exchange.header_count, 0);
    for (unsigned i = 0; i < EXCHANGE_HEADERS_MAX + 10; i++)
        exchange_header_text(&memory.exchange, "x", "y");
    assert_int_equal(memory.exchange.header_count, EXCHANGE_HEADERS_MAX);
    memory_exchange_deinit(&memory);
}

/* --- the memory transport --- */

static void read_in_pieces(struct io *io, void *argument)
{
    (void)argument;
    struct memory_exchange memory;
    memory_exchange_init(&memory, "PUT", SLICE_LITERAL("/b/k"), SLICE_LITERAL("hello world"), 100);
    memory.read_bytes_max = 4;
    memory_exchange_header(&memory, "Host", SLICE_LITERAL("a"));
    memory_exchange_header(&memory, "Content-Length", SLICE_LITERAL("11"));
    struct s3_failure failure = {0};
    assert_int_equal(memory_exchange_ready(&memory, &failure), S3_OK);
    assert_int_equal(memory.exchange.framing.content_length, 11);
    static const size_t pieces[] = {4, 4, 3, 0, 0};
    uint8_t data[8];
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        size_t bytes = 99;
        assert_int_equal(exchange_read(io, &memory.exchange, data, sizeof data, &bytes), OK);
        assert_int_equal(bytes, pieces[i]);
    }
    assert_int_equal(memory.exchange.body_bytes_read, 11);
    assert_int_equal(exchange_respond(io, &memory.exchange, 200, SLICE_LITERAL("done")), OK);
    assert_int_equal(memory.exchange.status, 200);
    assert_int_equal(memory.exchange.content_bytes, 4);
    assert_slice(bytes_slice(&memory.answer), "done");
    memory_exchange_deinit(&memory);
}

static void bodies_are_read_in_pieces(void **state)
{
    (void)state;
    run(read_in_pieces);
}

static void leave_in_the_body(struct io *io, void *argument)
{
    (void)argument;
    struct memory_exchange memory;
    memory_exchange_init(&memory, "PUT", SLICE_LITERAL("/b/k"), SLICE_LITERAL("hello world"), 100);
    memory.read_bytes_max = 4;
    memory.abort_at = 6;
    uint8_t data[8];
    size_t bytes = 0;
    assert_int_equal(exchange_read(io, &memory.exchange, data, sizeof data, &bytes), OK);
    assert_int_equal(exchange_read(io, &memory.exchange, data, sizeof data, &bytes), ERR_CLOSED);
    assert_int_equal(exchange_respond(io, &memory.exchange, 400, slice_of(NULL, 0)), ERR_CLOSED);
    memory_exchange_deinit(&memory);
}

static void a_client_that_leaves_ends_reads_and_answers(void **state)
{
    (void)state;
    run(leave_in_the_body);
}

static void stream(struct io *io, void *argument)
{
    (void)argument;
    struct memory_exchange memory;
    memory_exchange_init(&memory, "GET", SLICE_LITERAL("/b/k"), slice_of(NULL, 0), 6);
    assert_int_equal(exchange_begin(io, &memory.exchange, 206, 8), OK);
    assert_int_equal(exchange_send(io, &memory.exchange, SLICE_LITERAL("abcd")), OK);
    assert_int_equal(exchange_send(io, &memory.exchange, SLICE_LITERAL("efgh")), OK);
    assert_int_equal(memory.answer_bytes, 8);
    assert_int_equal(memory.exchange.body_bytes_sent, 8);
    assert_slice(bytes_slice(&memory.answer), "abcd"); /* what fits in 6 bytes */
    memory_exchange_deinit(&memory);

    memory_exchange_init(&memory, "HEAD", SLICE_LITERAL("/b/k"), slice_of(NULL, 0), 100);
    assert_true(exchange_is_head(&memory.exchange));
    assert_int_equal(exchange_respond(io, &memory.exchange, 200, SLICE_LITERAL("abcd")), OK);
    assert_int_equal(memory.exchange.content_bytes, 4);
    assert_int_equal(memory.answer_bytes, 0);
    memory_exchange_deinit(&memory);
}

static void answers_are_captured_and_head_has_none(void **state)
{
    (void)state;
    run(stream);
}

static void a_bad_head_is_refused_as_the_server_does(void **state)
{
    (void)state;
    struct memory_exchange memory;
    memory_exchange_init(&memory, "PUT", SLICE_LITERAL("/"), slice_of(NULL, 0), 0);
    memory_exchange_header(&memory, "Host", SLICE_LITERAL("a"));
    memory_exchange_header(&memory, "Content-Length", SLICE_LITERAL("1"));
    memory_exchange_header(&memory, "Transfer-Encoding", SLICE_LITERAL("chunked"));
    AUTO_VALUE(s3_failure) failure = {0};
    assert_int_equal(memory_exchange_ready(&memory, &failure), S3_INVALID_REQUEST);
    memory_exchange_deinit(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_walked_in_order),
        cmocka_unit_test(header_values_cannot_split_an_answer),
        cmocka_unit_test(headers_beyond_the_limits_are_dropped),
        cmocka_unit_test(bodies_are_read_in_pieces),
        cmocka_unit_test(a_client_that_leaves_ends_reads_and_answers),
        cmocka_unit_test(answers_are_captured_and_head_has_none),
        cmocka_unit_test(a_bad_head_is_refused_as_the_server_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
