/* How answers leave: through the library, or past it when it would not let them. See
 * http_private.h. */
#include "base/log.h"
#include "base/mem.h"
#include "http_tls.h"
#include "s3/date.h"
#include "s3/name.h"
#include "s3/xml.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ANSWER_HEAD_BYTES_MAX = 10 << 10,
    /* Shorter bodies are copied, which costs less than the handler's wait for their end. */
    COPIED_BODY_BYTES_MAX = 16 << 10,
    /* Below malloc's threshold for mmap: 128 KiB blocks took twice the time. */
    STREAM_BLOCK_BYTES = 120 << 10,
    DIRECT_ANSWER_BYTES_MAX = 128 << 10,
    REFUSAL_BYTES_MAX = 4 << 10,
};

static void request_id_text(const struct request *request, char out[17])
{
    int written = snprintf(out, 17, "%016" PRIx64, request->exchange.request_id);
    assert(written == 16);
}

/* The framing is the transport's; a second length would split the answer. */
static bool is_framing_header(const char *name)
{
    return strcasecmp(name, "Content-Length") == 0 || strcasecmp(name, "Transfer-Encoding") == 0 ||
           strcasecmp(name, "Connection") == 0;
}

/* Call fn for each header of the answer, ours included. Values are C strings. */
static void each_answer_header(struct request *request,
                               void (*fn)(void *context, const char *name, const char *value),
                               void *context)
{
    char id[17];
    request_id_text(request, id);
    if (request->exchange.close || request->reactor->stopping)
        fn(context, "Connection", "close");
    fn(context, "x-amz-request-id", id);
    fn(context, "x-amz-id-2", "shale");
    fn(context, "Server", "Shale");
    size_t offset = 0;
    struct slice name;
    struct slice value;
    while (exchange_next_header(&request->exchange, &offset, &name, &value)) {
        char name_text[S3_HEADER_NAME_BYTES_MAX + 1];
        assert(name.bytes < sizeof name_text);
        memcpy(name_text, name.data, name.bytes);
        name_text[name.bytes] = 0;
        /* exchange_header ends each value with a NUL. */
        if (!is_framing_header(name_text))
            fn(context, name_text, (const char *)value.data);
    }
}

static void add_response_header(void *context, const char *name, const char *value)
{
    /* The library refuses empty values; clients drop the spaces around one. */
    if (MHD_add_response_header(context, name, *value == 0 ? " " : value) != MHD_YES)
        log_warn("http: answer header dropped by the library name=%s", name);
}

static void set_response(struct request *request, struct MHD_Response *response)
{
    if (response == NULL) {
        log_error("http: no memory for an answer");
        abort();
    }
    each_answer_header(request, add_response_header, response);
    request->response = response;
    request->answered = true;
}

static ssize_t on_answer_read(void *context, uint64_t offset, char *block, size_t bytes)
{
    (void)offset;
    struct request *request = context;
    request->reactor->quiet_rounds = 0;
    size_t count = request->sending.bytes < bytes ? request->sending.bytes : bytes;
    if (count > 0) {
        memcpy(block, request->sending.data, count);
        request->sending = slice_skip(request->sending, count);
        if (request->sending.bytes == 0)
            http_wake_handler(request);
        return (ssize_t)count;
    }
    if (request->closing || request->fiber == NULL)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    http_suspend(request);
    return 0;
}

static void set_streamed_response(struct request *request)
{
    /* The answer to HEAD is the length alone: the library never asks for a byte. */
    size_t block_bytes = exchange_is_head(&request->exchange) ? 1 : STREAM_BLOCK_BYTES;
    request->streamed = true;
    set_response(request,
                 MHD_create_response_from_callback(request->exchange.content_bytes, block_bytes,
                                                   on_answer_read, request, NULL));
}

static void append_header_line(void *context, const char *name, const char *value)
{
    bytes_append_format(context, "%s: %s\r\n", name, value);
}

void http_answer_directly(struct io *io, struct request *request)
{
    struct exchange *exchange = &request->exchange;
    request->closing = true;
    if (request->streamed || request->body.bytes > DIRECT_ANSWER_BYTES_MAX / 2)
        return;
    exchange->close = true;
    char date[S3_DATE_HTTP_CHARS + 1];
    s3_date_format_http(io_wall_ms(io), date);
    AUTO_VALUE(bytes) text = {.max = DIRECT_ANSWER_BYTES_MAX};
    bytes_append_format(&text, "HTTP/1.1 %u %s\r\nDate: %s\r\nContent-Length: %zu\r\n",
                        exchange->status, MHD_get_reason_phrase_for(exchange->status), date,
                        request->body.bytes);
    each_answer_header(request, append_header_line, &text);
    bytes_append_text(&text, "\r\n");
    if (!exchange_is_head(exchange))
        bytes_append(&text, request->body);
    assert(!text.overflow);
    /* The send buffer is empty, so it takes all; if not, the connection closes all the same. */
    if (request->connection->tls != NULL)
        http_tls_send(request->connection, bytes_slice(&text));
    else
        (void)send(request->connection->fd, text.data, text.bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    request->connection->linger = true;
}

bool http_too_much_to_drop(const struct request *request)
{
    const struct s3_framing *framing = &request->exchange.framing;
    return framing->content_length > request->body_bytes_received &&
           framing->content_length - request->body_bytes_received > EXCHANGE_DRAIN_BYTES_MAX;
}

/* The answer is there: bring it to the client, past a body that is still coming if there is one. */
static void announce_answer(struct io *io, struct request *request)
{
    bool in_body = request->first_done && http_has_body(request) && !request->body_ended;
    if (in_body &&
        (request->exchange.close || request->timed_out || http_too_much_to_drop(request)))
        http_answer_directly(io, request);
    http_kick(request);
}

static enum err answer_whole(struct io *io, struct request *request, struct slice body)
{
    bool lent = body.bytes > COPIED_BODY_BYTES_MAX;
    if (!lent && body.bytes > 0)
        request->body_copy = mem_copy(body.data, body.bytes);
    request->body = lent ? body : slice_of(request->body_copy, body.bytes);
    /* The library takes a pointer to what it may change, and changes nothing. */
    void *data = (void *)(uintptr_t)request->body.data;
    set_response(request, MHD_create_response_from_buffer(request->body.bytes, data,
                                                          MHD_RESPMEM_PERSISTENT));
    announce_answer(io, request);
    if (!lent)
        return OK;
    if (request->connection != NULL) {
        /* Not ended by cancel: the library reads the handler's memory until on_completed. */
        fiber_group_enter(&request->whole);
        fiber_group_wait(io, &request->whole);
    }
    return request->completed ? OK : http_gone_error(request);
}

enum err http_respond(struct io *io, struct exchange *exchange, struct slice body, bool streamed)
{
    struct request *request = http_request_of(exchange);
    if (http_is_gone(request))
        return http_gone_error(request);
    if (exchange->headers.bytes > ANSWER_HEAD_BYTES_MAX) {
        log_error("http: answer head is too long bytes=%zu", exchange->headers.bytes);
        request->closing = true;
        http_kick(request);
        return ERR_LIMIT;
    }
    if (exchange_is_head(exchange)) {
        set_streamed_response(request);
        announce_answer(io, request);
        return OK;
    }
    if (!streamed || exchange->content_bytes == 0)
        return answer_whole(io, request, body);
    if (exchange->content_bytes <= EXCHANGE_SEND_BYTES_MAX) {
        /* It may come in one piece, which costs half of a streamed answer. */
        request->begun = true;
        return OK;
    }
    set_streamed_response(request);
    announce_answer(io, request);
    return OK;
}

enum err http_send(struct io *io, struct exchange *exchange, struct slice bytes)
{
    struct request *request = http_request_of(exchange);
    if (http_is_gone(request))
        return http_gone_error(request);
    if (request->begun) {
        request->begun = false;
        if (bytes.bytes == exchange->content_bytes)
            return answer_whole(io, request, bytes);
        set_streamed_response(request);
        announce_answer(io, request);
    }
    assert(request->streamed);
    assert(request->sending.bytes == 0);
    request->sending = bytes;
    http_kick(request);
    while (request->sending.bytes > 0 && !http_is_gone(request)) {
        enum err result = http_wait_for_library(io, request, UINT64_MAX);
        if (result != OK && request->sending.bytes > 0 && !http_is_gone(request)) {
            /* A hole in the answer cannot be mended. */
            request->sending = slice_of(NULL, 0);
            request->closing = true;
            http_kick(request);
            return result;
        }
    }
    bool sent = request->sending.bytes == 0;
    request->sending = slice_of(NULL, 0);
    return sent ? OK : http_gone_error(request);
}

void http_refuse(struct io *io, struct request *request, enum s3_error error,
                 const struct s3_failure *failure)
{
    char id[17];
    request_id_text(request, id);
    AUTO_VALUE(bytes) document = {.max = REFUSAL_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "Error", false);
    xml_element_text(&xml, "Code", s3_error_code(error));
    xml_element(&xml, "Message", s3_failure_message(failure, error));
    xml_element_text(&xml, "RequestId", id);
    xml_element_text(&xml, "HostId", "shale");
    xml_finish(&xml);
    assert(!document.overflow);
    exchange_header_text(&request->exchange, "Content-Type", "application/xml");
    uint16_t status = s3_error_status(error);
    if (status == 503)
        exchange_header_text(&request->exchange, "Retry-After", "1");
    (void)exchange_respond(io, &request->exchange, status,
                           bytes_slice(&document)); /* short, so it does not wait */
}
