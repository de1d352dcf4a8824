/* An exchange without a network: for tests and the simulator. The request is given as a whole,
 * the answer is captured. */
#pragma once
#include "gateway/exchange.h"

struct memory_exchange {
    struct exchange exchange; /* first: the transport gets back here from it */
    struct s3_header headers[S3_HEADERS_MAX];
    struct slice body; /* borrowed */
    size_t body_offset;
    size_t read_bytes_max; /* deliver at most this much a read, 0 = all */
    size_t abort_at; /* the client leaves when this much of the body was read; SIZE_MAX = never */
    uint64_t read_delay_ns; /* each read takes this long */
    struct bytes answer;    /* body of the answer; its max bounds what is kept */
    uint64_t answer_bytes;  /* sent in all, kept or not */
    bool client_gone;
};

/* Method, target and body are borrowed until deinit. Add headers with memory_exchange_header,
 * then memory_exchange_ready. `answer_bytes_max` of the answer's body are kept. */
void memory_exchange_init(struct memory_exchange *memory, const char *method, struct slice target,
                          struct slice body, size_t answer_bytes_max);
/* Both borrowed. At most S3_HEADERS_MAX. */
void memory_exchange_header(struct memory_exchange *memory, const char *name, struct slice value);
/* Check the head as the HTTP server does, and give it its framing; Content-Length is added by
 * the caller like any header. */
enum s3_error memory_exchange_ready(struct memory_exchange *memory, struct s3_failure *failure);
void memory_exchange_deinit(struct memory_exchange *memory);
/* Value of an answer header (name without case), data NULL when absent. */
struct slice memory_exchange_answer_header(const struct memory_exchange *memory, const char *name);
