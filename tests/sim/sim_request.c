/* See sim_request.h. */
#include "sim_request.h"

#include "base/text.h"
#include "s3/date.h"
#include "s3/signer.h"

#include <stdio.h>
#include <stdlib.h>

/* splitmix64 */
void content_fill(uint8_t *out, uint32_t bytes, uint64_t seed)
{
    for (uint32_t at = 0; at < bytes; at += 8) {
        seed += UINT64_C(0x9e3779b97f4a7c15);
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        z ^= z >> 31;
        uint32_t count = bytes - at < 8 ? bytes - at : 8;
        memcpy(out + at, &z, count);
    }
}

void request_perform(struct io *io, const struct requester *requester,
                     const struct request *request, struct memory_exchange *memory,
                     unsigned *out_status)
{
    uint64_t now_ms = io_wall_ms(io);
    char date[S3_DATE_BASIC_CHARS + 1];
    char length[24];
    s3_date_format_basic(now_ms, date);
    snprintf(length, sizeof length, "%zu", request->body.bytes);
    memory_exchange_init(memory, request->method, slice_of_text(request->target), request->body,
                         REQUEST_ANSWER_BYTES_MAX);
    if (!requester->at_once) {
        memory->read_bytes_max = 1 + sim_draw(requester->sim, 200000);
        bool slow = sim_draw(requester->sim, 3) == 0;
        memory->read_delay_ns = slow ? sim_draw(requester->sim, 2000000) : 0;
    }
    memory_exchange_header(memory, "host", SLICE_LITERAL("sim"));
    memory_exchange_header(memory, "x-amz-date", slice_of_text(date));
    memory_exchange_header(memory, "x-amz-content-sha256", SLICE_LITERAL("UNSIGNED-PAYLOAD"));
    if (request->body.bytes > 0 || strcmp(request->method, "PUT") == 0)
        memory_exchange_header(memory, "content-length", slice_of_text(length));
    if (request->copy_source != NULL)
        memory_exchange_header(memory, "x-amz-copy-source", slice_of_text(request->copy_source));
    if (request->if_none_match != NULL)
        memory_exchange_header(memory, "if-none-match", slice_of_text(request->if_none_match));
    struct s3_signer signer = {.access_key = slice_of_text(sim_access_key),
                               .secret = slice_of_text(sim_secret_key),
                               .region = SLICE_LITERAL("us-east-1"),
                               .now_ms = now_ms};
    AUTO_VALUE(bytes) authorization = {.max = 4096};
    s3_signer_authorize(&signer, &memory->exchange.head, &authorization, NULL);
    memory_exchange_header(memory, "authorization", bytes_slice(&authorization));
    AUTO_VALUE(s3_failure) failure = {0};
    if (memory_exchange_ready(memory, &failure) != S3_OK) {
        fprintf(stderr, "sim: head refused target=%s\n", request->target);
        abort();
    }
    memory->exchange.request_id = sim_draw(requester->sim, UINT64_MAX);
    memory->exchange.started_ns = io_now_ns(io);
    gateway_serve(io, node_gateway(requester->node), &memory->exchange);
    *out_status = memory->exchange.responded ? memory->exchange.status : 0;
    if (requester->verbose) {
        struct slice said = slice_first(bytes_slice(&memory->answer), *out_status >= 400 ? 300 : 0);
        fprintf(stderr, "%llu %s %s %zu -> %u %.*s\n",
                (unsigned long long)sim_now_ns(requester->sim), request->method, request->target,
                request->body.bytes, *out_status, SLICE_PRINT(said));
    }
    bytes_deinit(&memory->exchange.headers);
    memory->exchange.headers = (struct bytes){0};
    for (uint32_t i = 0; i < memory->exchange.head.header_count; i++)
        memory->headers[i] = (struct s3_header){0}; /* they pointed into this frame */
    if (*out_status == 0 || *out_status >= 500)
        (void)io_sleep_ms(io, 20); /* a fenced node answers at once; canceled: the end comes */
}
