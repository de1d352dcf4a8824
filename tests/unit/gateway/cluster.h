/* A gateway over metadata and blocks kept in plain memory, in the simulator: for tests of
 * operations. Errors of the services can be ordered call by call. */
#pragma once
#include "gateway/exchange_memory.h"
#include "gateway/gateway.h"
#include "runtime/sim.h"
#include "s3/checksum.h"

struct cluster;

struct cluster *cluster_new(void);
/* Checks that nothing leaked: body memory, intents, guards, running requests. */
void cluster_free(struct cluster *cluster);
DEFINE_AUTO(cluster, cluster_free)
struct gateway *cluster_gateway(struct cluster *cluster);
const struct digest_methods *cluster_methods(struct cluster *cluster);

/* Calls of the services that can be made to fail. */
enum service_call {
    CALL_OBJECT_FIND,
    CALL_OBJECT_PUT,
    CALL_OBJECT_COPY,
    CALL_OBJECT_EXTENTS,
    CALL_BLOCK_OPEN,
    CALL_BLOCK_APPEND,
    CALL_BLOCK_FINISH,
    CALL_BLOCK_READ,
    CALL_COUNT,
};
/* The next `times` calls after `skip` good ones return `err`. */
void cluster_fail(struct cluster *cluster, enum service_call call, uint32_t skip, uint32_t times,
                  enum err err);
uint32_t cluster_object_count(const struct cluster *cluster);
uint32_t cluster_intents_dropped(const struct cluster *cluster);
/* A multipart object of parts of these sizes, with bytes of cluster_pattern. */
void cluster_add_multipart(struct cluster *cluster, const char *key, const uint32_t *part_bytes,
                           uint32_t part_count);
/* The byte at an offset of test bodies. */
static inline uint8_t cluster_pattern(uint64_t offset)
{
    return (uint8_t)(offset * 31 + (offset >> 8) * 7 + (offset >> 16));
}

/* One request. */
struct call {
    const char *method;
    const char *target;
    const char *headers[24]; /* name, value, ... until NULL */
    struct slice body;
    enum s3_payload_mode mode; /* 0 = S3_PAYLOAD_SIGNED */
    size_t chunk_bytes;        /* of aws-chunked, 0 = all in one */
    const char *trailer;       /* name of the trailer, or NULL */
    const char *trailer_value;
    bool without_decoded_length;
    bool without_length;        /* Transfer-Encoding: chunked */
    const char *content_sha256; /* instead of the true one */
    bool anonymous;
    size_t cut_bytes;      /* of the encoded body, missing at the end */
    size_t flip_at;        /* 1 + offset of a byte of the encoded body to damage, 0 = none */
    size_t read_bytes_max; /* a read of the body */
    bool client_leaves;    /* in the middle of the body; without one, before the answer */
};
/* Run a function on a fiber until it has set *done. */
void cluster_run(struct cluster *cluster, fiber_fn *fn, void *argument, bool *done);
/* Run it to its end on a fiber; the answer is in `memory`, which the caller deinits. */
void cluster_call(struct cluster *cluster, const struct call *call, struct memory_exchange *memory);
/* The same request `count` times at once, each to be answered 200; bytes of all answers. */
uint64_t cluster_call_together(struct cluster *cluster, const struct call *call, uint32_t count);
/* Status alone. */
unsigned cluster_status(struct cluster *cluster, const struct call *call);
/* The answer's <Code>, "" when there is none. */
const char *cluster_code(struct memory_exchange *memory, char out[64]);
