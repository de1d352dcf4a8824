/* Signed S3 requests against a node of the simulator, and contents made from a seed. */
#pragma once
#include "cli/node.h"
#include "gateway/exchange_memory.h"
#include "runtime/sim.h"

enum { REQUEST_ANSWER_BYTES_MAX = 16 << 20 };

static const char sim_access_key[] = "SIMULATOR";
static const char sim_secret_key[] = "simulator-secret";

struct requester {
    struct sim *sim;
    struct node *node;
    bool at_once; /* the body comes in one piece, without delay */
    bool verbose;
};

struct request {
    const char *method;
    const char *target;
    struct slice body;
    const char *copy_source; /* or NULL */
    const char *if_none_match;
};

/* Serve one request; the caller ends `memory`. *out_status is 0 when no answer was given. */
void request_perform(struct io *io, const struct requester *requester,
                     const struct request *request, struct memory_exchange *memory,
                     unsigned *out_status);
/* `out` has room for 7 bytes more. */
void content_fill(uint8_t *out, uint32_t bytes, uint64_t seed);
