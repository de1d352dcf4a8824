/* Bad shards that reads found, on their way to repair. Bounded: what does not fit is dropped, the
 * next read or scrub finds it again. */
#pragma once
#include "meta/types.h"
#include "storaged/server.h"

enum { REPAIR_QUEUE_MAX = 1024 };

struct bad_shard {
    struct block_ref ref;
    unsigned slot;
    bool scrubbed; /* the scrub found it */
};

/* A shard is damaged, or not there although its drive serves. From any reactor, never waits. */
void storage_report_bad(struct storage *storage, const struct block_ref *ref, unsigned slot);
/* The same from the scrub. False: the queue is full, wait and try again. */
bool storage_report_scrubbed(struct storage *storage, const struct block_ref *ref, unsigned slot);
/* Reports that wait. */
uint32_t storage_bad_count(struct storage *storage);
/* The oldest report; false: none. From any reactor. */
bool storage_take_bad(struct storage *storage, struct bad_shard *out_bad);

struct repair_queue {
    struct bad_shard shards[REPAIR_QUEUE_MAX];
    uint32_t first, count;
    uint64_t reported, dropped;
};
