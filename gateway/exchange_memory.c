/* See gateway/exchange_memory.h. */
#include "gateway/exchange_memory.h"

static struct memory_exchange *of(struct exchange *exchange)
{
    return CONTAINER_OF(exchange, struct memory_exchange, exchange);
}

static enum err memory_read(struct io *io, struct exchange *exchange, uint8_t *dst, size_t bytes,
                            size_t *out_bytes)
{
    struct memory_exchange *memory = of(exchange);
    if (memory->read_delay_ns > 0)
        TRY(io_sleep_until(io, io_now_ns(io) + memory->read_delay_ns));
    struct slice rest = slice_skip(memory->body, memory->body_offset);
    size_t count = rest.bytes < bytes ? rest.bytes : bytes;
    if (memory->read_bytes_max > 0 && count > memory->read_bytes_max)
        count = memory->read_bytes_max;
    if (memory->body_offset + count > memory->abort_at) {
        memory->client_gone = true;
        return ERR_CLOSED;
    }
    if (count > 0)
        memcpy(dst, rest.data, count);
    memory->body_offset += count;
    *out_bytes = count;
    return OK;
}

static void keep(struct memory_exchange *memory, struct slice bytes)
{
    memory->answer_bytes += bytes.bytes;
    bytes_append(&memory->answer, bytes);
}

static enum err memory_respond(struct io *io, struct exchange *exchange, struct slice body,
                               bool streamed)
{
    (void)io;
    struct memory_exchange *memory = of(exchange);
    if (memory->client_gone)
        return ERR_CLOSED;
    if (!streamed && !exchange_is_head(exchange))
        keep(memory, body);
    return OK;
}

static enum err memory_send(struct io *io, struct exchange *exchange, struct slice bytes)
{
    struct memory_exchange *memory = of(exchange);
    if (memory->client_gone)
        return ERR_CLOSED;
    keep(memory, bytes);
    return io_yield(io);
}

static const struct exchange_transport memory_transport = {
    .read = memory_read,
    .respond = memory_respond,
    .send = memory_send,
};

void memory_exchange_init(struct memory_exchange *memory, const char *method, struct slice target,
                          struct slice body, size_t answer_bytes_max)
{
    *memory = (struct memory_exchange){
        .exchange = {.transport = &memory_transport, .peer = SLICE_LITERAL("memory")},
        .body = body,
        .abort_at = SIZE_MAX,
        .answer = {.max = answer_bytes_max},
    };
    memory->exchange.head = (struct s3_head){
        .method = slice_of_text(method),
        .target = target,
        .version = SLICE_LITERAL("HTTP/1.1"),
        .headers = memory->headers,
    };
}

void memory_exchange_header(struct memory_exchange *memory, const char *name, struct slice value)
{
    assert(memory->exchange.head.header_count < S3_HEADERS_MAX);
    memory->headers[memory->exchange.head.header_count++] =
        (struct s3_header){.name = slice_of_text(name), .value = value};
}

enum s3_error memory_exchange_ready(struct memory_exchange *memory, struct s3_failure *failure)
{
    return s3_head_check(&memory->exchange.head, failure, &memory->exchange.framing);
}

void memory_exchange_deinit(struct memory_exchange *memory)
{
    bytes_deinit(&memory->exchange.headers);
    bytes_deinit(&memory->answer);
}

struct slice memory_exchange_answer_header(const struct memory_exchange *memory, const char *name)
{
    size_t offset = 0;
    struct slice found;
    struct slice value;
    while (exchange_next_header(&memory->exchange, &offset, &found, &value))
        if (slice_equal_nocase(found, slice_of_text(name)))
            return value;
    return slice_of(NULL, 0);
}
