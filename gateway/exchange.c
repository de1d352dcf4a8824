/* See gateway/exchange.h. */
#include "gateway/exchange.h"

#include "base/log.h"
#include "s3/name.h"

#include <stdarg.h>
#include <stdio.h>

enum { HEADER_VALUE_BYTES_MAX = 8192 };

void exchange_header(struct exchange *exchange, const char *name, struct slice value)
{
    assert(!exchange->responded);
    assert(s3_header_name_valid(slice_of_text(name)));
    if (!s3_header_value_valid(value)) {
        log_warn("exchange: answer header dropped, its value has control bytes name=%s", name);
        return;
    }
    if (exchange->header_count == EXCHANGE_HEADERS_MAX ||
        exchange->headers.bytes + strlen(name) + value.bytes + 3 > EXCHANGE_HEADER_BYTES_MAX) {
        log_warn("exchange: answer header dropped, too many or too long name=%s", name);
        return;
    }
    exchange->headers.max = EXCHANGE_HEADER_BYTES_MAX;
    bytes_append_text(&exchange->headers, name);
    bytes_append(&exchange->headers, SLICE_LITERAL(": "));
    bytes_append(&exchange->headers, value);
    bytes_append_byte(&exchange->headers, 0);
    assert(!exchange->headers.overflow);
    exchange->header_count++;
}

void exchange_header_text(struct exchange *exchange, const char *name, const char *value)
{
    exchange_header(exchange, name, slice_of_text(value));
}

void exchange_header_format(struct exchange *exchange, const char *name, const char *format, ...)
{
    char value[HEADER_VALUE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(value, sizeof value, format, arguments);
    va_end(arguments);
    assert(bytes >= 0);
    if ((size_t)bytes >= sizeof value) {
        log_warn("exchange: answer header dropped, too long name=%s", name);
        return;
    }
    exchange_header(exchange, name, slice_of(value, (size_t)bytes));
}

void exchange_reset_answer(struct exchange *exchange)
{
    assert(!exchange->responded);
    exchange->status = 0;
    exchange->header_count = 0;
    bytes_clear(&exchange->headers);
}

bool exchange_next_header(const struct exchange *exchange, size_t *offset, struct slice *out_name,
                          struct slice *out_value)
{
    if (*offset >= exchange->headers.bytes)
        return false;
    const char *line = (const char *)exchange->headers.data + *offset;
    size_t line_bytes = strlen(line);
    size_t name_bytes = strcspn(line, ":");
    assert(name_bytes + 2 <= line_bytes);
    *out_name = slice_of(line, name_bytes);
    *out_value = slice_of(line + name_bytes + 2, line_bytes - name_bytes - 2);
    *offset += line_bytes + 1;
    return true;
}

bool exchange_is_head(const struct exchange *exchange)
{
    return slice_equal_text(exchange->head.method, "HEAD");
}

enum err exchange_read(struct io *io, struct exchange *exchange, uint8_t *dst, size_t bytes,
                       size_t *out_bytes)
{
    assert(!exchange->responded);
    assert(bytes > 0);
    TRY(exchange->transport->read(io, exchange, dst, bytes, out_bytes));
    assert(*out_bytes <= bytes);
    exchange->body_bytes_read += *out_bytes;
    return OK;
}

enum err exchange_respond(struct io *io, struct exchange *exchange, unsigned status,
                          struct slice body)
{
    assert(!exchange->responded);
    assert(body.bytes <= EXCHANGE_BODY_BYTES_MAX);
    exchange->status = status;
    exchange->content_bytes = body.bytes;
    exchange->responded = true;
    exchange->body_bytes_sent = exchange_is_head(exchange) ? 0 : body.bytes;
    return exchange->transport->respond(io, exchange, body, false);
}

enum err exchange_begin(struct io *io, struct exchange *exchange, unsigned status,
                        uint64_t content_bytes)
{
    assert(!exchange->responded);
    exchange->status = status;
    exchange->content_bytes = content_bytes;
    exchange->responded = true;
    return exchange->transport->respond(io, exchange, slice_of(NULL, 0), true);
}

enum err exchange_send(struct io *io, struct exchange *exchange, struct slice bytes)
{
    assert(exchange->responded);
    assert(bytes.bytes > 0);
    assert(bytes.bytes <= EXCHANGE_SEND_BYTES_MAX);
    assert(!exchange_is_head(exchange));
    exchange->body_bytes_sent += bytes.bytes;
    assert(exchange->body_bytes_sent <= exchange->content_bytes);
    return exchange->transport->send(io, exchange, bytes);
}
