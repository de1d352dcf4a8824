/* See repair_queue.h. */
#include "repair_queue.h"

#include "storage.h"

static bool is_queued(const struct repair_queue *queue, struct block_id block, unsigned slot)
{
    for (uint32_t i = 0; i < queue->count; i++) {
        const struct bad_shard *bad = &queue->shards[(queue->first + i) % REPAIR_QUEUE_MAX];
        if (bad->slot == slot && block_id_equal(bad->ref.id, block))
            return true;
    }
    return false;
}

static bool report(struct storage *storage, const struct block_ref *ref, unsigned slot,
                   bool scrubbed)
{
    struct repair_queue *queue = &storage->repair_queue;
    pthread_mutex_lock(storage->mutex);
    bool known = is_queued(queue, ref->id, slot);
    bool full = !known && queue->count == REPAIR_QUEUE_MAX;
    if (!known && !full)
        queue->shards[(queue->first + queue->count++) % REPAIR_QUEUE_MAX] =
            (struct bad_shard){.ref = *ref, .slot = slot, .scrubbed = scrubbed};
    queue->reported += !known;
    queue->dropped += full;
    pthread_mutex_unlock(storage->mutex);
    return !full;
}

void storage_report_bad(struct storage *storage, const struct block_ref *ref, unsigned slot)
{
    (void)report(storage, ref, slot, false); /* found again when it is read or scrubbed */
}

bool storage_report_scrubbed(struct storage *storage, const struct block_ref *ref, unsigned slot)
{
    return report(storage, ref, slot, true);
}

uint32_t storage_bad_count(struct storage *storage)
{
    pthread_mutex_lock(storage->mutex);
    uint32_t count = storage->repair_queue.count;
    pthread_mutex_unlock(storage->mutex);
    return count;
}

bool storage_take_bad(struct storage *storage, struct bad_shard *out_bad)
{
    struct repair_queue *queue = &storage->repair_queue;
    pthread_mutex_lock(storage->mutex);
    bool found = queue->count > 0;
    if (found) {
        *out_bad = queue->shards[queue->first];
        queue->first = (queue->first + 1) % REPAIR_QUEUE_MAX;
        queue->count--;
    }
    pthread_mutex_unlock(storage->mutex);
    return found;
}
