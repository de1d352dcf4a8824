/* One function per record type, and what a segment begins with. */
#include "log_state.h"
#include "base/encode.h"
#include "base/hash.h"
#include "base/mem.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define INDEX_MAX (UINT64_MAX / 2) /* no group gets there; sums do not wrap below it */

/* Room for one more element. */
#define GROW(array, count, capacity)                                                               \
    do {                                                                                           \
        if ((count) == (capacity)) {                                                               \
            (capacity) = (capacity) == 0 ? 8 : (capacity)*2;                                       \
            (array) = mem_resize((array), (capacity) * sizeof *(array));                           \
        }                                                                                          \
    } while (0)

/* --- groups --- */

static void group_free(struct log_group *group)
{
    mem_free(group->runs);
    mem_free(group->memberships);
    mem_free(group->spans);
    mem_free(group);
}

void log_state_deinit(struct log_state *state)
{
    for (uint32_t i = 0; i < state->group_count; i++)
        group_free(state->groups[i]);
    for (uint32_t i = 0; i < state->segment_count; i++)
        mem_free(state->segments[i].marks);
    mem_free(state->groups);
    mem_free(state->segments);
    *state = (struct log_state){0};
}

struct log_group *log_state_group(const struct log_state *state, uint64_t group)
{
    for (uint32_t i = 0; i < state->group_count; i++)
        if (state->groups[i]->id == group)
            return state->groups[i];
    return NULL;
}

static enum err group_add(struct log_state *state, uint64_t id, struct log_group **out_group)
{
    if (state->group_count == LOG_GROUPS_MAX)
        return FAIL(ERR_CORRUPT, "log groups=%u", state->group_count);
    if (state->groups == NULL)
        state->groups = mem_alloc_array(LOG_GROUPS_MAX, sizeof *state->groups);
    struct log_group *group = mem_new(struct log_group);
    group->id = id;
    uint32_t at = state->group_count++;
    for (; at > 0 && state->groups[at - 1]->id > id; at--)
        state->groups[at] = state->groups[at - 1];
    state->groups[at] = group;
    *out_group = group;
    return OK;
}

static void group_remove(struct log_state *state, struct log_group *group)
{
    uint32_t at = 0;
    while (state->groups[at] != group)
        at++;
    for (state->group_count--; at < state->group_count; at++)
        state->groups[at] = state->groups[at + 1];
    group_free(group);
}

enum err log_group_term(const struct log_group *group, uint64_t index, uint64_t *out_term)
{
    if (index < group->compacted_index)
        return ERR_COMPACTED;
    if (index > group->last_index)
        return ERR_NOT_FOUND;
    *out_term = group->compacted_term;
    for (uint32_t i = group->run_count; i > 0; i--) {
        if (group->runs[i - 1].first_index > index)
            continue;
        *out_term = group->runs[i - 1].term;
        break;
    }
    return OK;
}

static uint64_t last_term(const struct log_group *group)
{
    return group->run_count == 0 ? group->compacted_term : group->runs[group->run_count - 1].term;
}

const struct log_span *log_group_span(const struct log_group *group, uint64_t index,
                                      uint64_t *out_next)
{
    if (index <= group->compacted_index || index > group->last_index)
        return NULL;
    uint32_t low = 0;
    uint32_t high = group->span_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (group->spans[middle].first_index <= index)
            low = middle;
        else
            high = middle;
    }
    assert(low < high);
    assert(group->spans[low].first_index <= index);
    *out_next = high < group->span_count ? group->spans[high].first_index : group->last_index + 1;
    return &group->spans[low];
}

/* --- records --- */

static struct log_segment *last_segment(const struct log_state *state)
{
    return state->segment_count == 0 ? NULL : &state->segments[state->segment_count - 1];
}

static struct log_segment_mark *segment_mark(struct log_segment *segment, uint64_t group)
{
    for (uint32_t i = 0; i < segment->mark_count; i++)
        if (segment->marks[i].group == group)
            return &segment->marks[i];
    return NULL;
}

static enum err take_group(struct log_state *state, const struct log_record *record)
{
    struct decoder decoder = decoder_of(record->bytes);
    uint64_t chain = decode_u64(&decoder);
    TRY(decode_finish(&decoder, "log group record"));
    if (record->index > INDEX_MAX)
        return FAIL(ERR_CORRUPT, "log group=%" PRIu64 " index=%" PRIu64, record->group,
                    record->index);
    struct log_group *group = log_state_group(state, record->group);
    if (group == NULL) {
        TRY(group_add(state, record->group, &group));
        group->compacted_index = group->last_index = record->index;
        group->compacted_term = record->term;
        group->chain = chain;
    }
    if (group->last_index != record->index || last_term(group) != record->term ||
        group->chain != chain)
        return FAIL(ERR_CORRUPT, "log group=%" PRIu64 " last=%" PRIu64 " repeated as %" PRIu64,
                    group->id, group->last_index, record->index);
    struct log_segment *segment = last_segment(state);
    GROW(segment->marks, segment->mark_count, segment->mark_capacity);
    segment->marks[segment->mark_count++] =
        (struct log_segment_mark){.group = group->id, .start_index = record->index};
    return OK;
}

static enum err take_hard_state(struct log_group *group, const struct log_record *record)
{
    struct decoder decoder = decoder_of(record->bytes);
    struct raft_hard_state next = {
        .term = record->term, .vote = decode_u64(&decoder), .commit = decode_u64(&decoder)};
    TRY(decode_finish(&decoder, "log hard state"));
    struct raft_hard_state *now = &group->hard_state;
    if (next.term < now->term ||
        (next.term == now->term && now->vote != 0 && next.vote != now->vote))
        return FAIL(ERR_CORRUPT, "log group=%" PRIu64 " term=%" PRIu64 " after %" PRIu64, group->id,
                    next.term, now->term);
    if (next.commit < now->commit)
        next.commit = now->commit;
    *now = next;
    return OK;
}

static enum err push_membership(struct log_group *group, uint64_t index, struct slice bytes)
{
    struct raft_membership_at at = {.index = index};
    TRY(raft_membership_decode(bytes, &at.membership));
    if (group->membership_count > 0) {
        uint64_t newest = group->memberships[group->membership_count - 1].index;
        if (index <= newest)
            return OK; /* repeated at the start of a segment */
    }
    if (group->membership_count == RAFT_MEMBERSHIPS_MAX)
        return FAIL(ERR_LIMIT, "log group=%" PRIu64 " memberships", group->id);
    GROW(group->memberships, group->membership_count, group->membership_capacity);
    group->memberships[group->membership_count++] = at;
    return OK;
}

static void push_span(struct log_group *group, uint64_t index, const struct log_batch *batch)
{
    if (group->span_count > 0) {
        const struct log_span *last = &group->spans[group->span_count - 1];
        if (last->segment == batch->segment && last->offset == batch->offset)
            return;
    }
    GROW(group->spans, group->span_count, group->span_capacity);
    group->spans[group->span_count++] = (struct log_span){.first_index = index,
                                                          .segment = batch->segment,
                                                          .offset = (uint32_t)batch->offset,
                                                          .block_count = batch->block_count};
}

static enum err take_entry(struct log_state *state, struct log_group *group,
                           const struct log_record *record, const struct log_batch *batch)
{
    struct log_segment_mark *mark = segment_mark(last_segment(state), group->id);
    if (record->index != group->last_index + 1 || record->term < last_term(group) ||
        record->term == 0 || mark == NULL)
        return FAIL(ERR_CORRUPT,
                    "log group=%" PRIu64 " entry=%" PRIu64 " term=%" PRIu64 " after %" PRIu64,
                    group->id, record->index, record->term, group->last_index);
    if (record->kind < RAFT_NOOP || record->kind > RAFT_MEMBERSHIP)
        return FAIL(ERR_UNSUPPORTED, "log entry kind=%u", record->kind);
    if (record->term > last_term(group) || group->run_count == 0) {
        GROW(group->runs, group->run_count, group->run_capacity);
        group->runs[group->run_count++] =
            (struct raft_term_run){.first_index = record->index, .term = record->term};
    }
    group->last_index = record->index;
    if (record->index > mark->last_index)
        mark->last_index = record->index;
    if (record->kind == RAFT_MEMBERSHIP)
        TRY(push_membership(group, record->index, record->bytes));
    push_span(group, record->index, batch);
    return OK;
}

static enum err take_truncate(struct log_group *group, const struct log_record *record)
{
    uint64_t from = record->index;
    uint64_t term = 0;
    if (from == 0 || from > group->last_index)
        return FAIL(ERR_CORRUPT, "log group=%" PRIu64 " truncate=%" PRIu64, group->id, from);
    if (from <= group->compacted_index) {
        /* What it truncates was cut off with an earlier segment. */
        group->compacted_index = from - 1;
        group->compacted_term = record->term;
    }
    if (log_group_term(group, from - 1, &term) != OK || term != record->term)
        return FAIL(ERR_CORRUPT, "log group=%" PRIu64 " truncate=%" PRIu64 " term=%" PRIu64,
                    group->id, from, record->term);
    group->last_index = from - 1;
    while (group->run_count > 0 && group->runs[group->run_count - 1].first_index >= from)
        group->run_count--;
    while (group->span_count > 0 && group->spans[group->span_count - 1].first_index >= from)
        group->span_count--;
    while (group->membership_count > 0 &&
           group->memberships[group->membership_count - 1].index >= from)
        group->membership_count--;
    return OK;
}

static enum err take_record(struct log_state *state, const struct log_record *record, uint32_t crc,
                            const struct log_batch *batch)
{
    if (record->type == LOG_RECORD_GROUP)
        TRY(take_group(state, record));
    struct log_group *group = log_state_group(state, record->group);
    if (group == NULL)
        return FAIL(ERR_CORRUPT, "log record type=%d of no group=%" PRIu64, (int)record->type,
                    record->group);
    group->touched = batch->sequence;
    if (record->type != LOG_RECORD_GROUP) {
        uint8_t link[12];
        store_u64(link, group->chain);
        store_u32(link + 8, crc);
        group->chain = hash64_of(slice_of(link, sizeof link));
    }
    switch (record->type) {
    case LOG_RECORD_GROUP:
        return OK;
    case LOG_RECORD_GROUP_REMOVE:
        group_remove(state, group);
        return OK;
    case LOG_RECORD_HARD_STATE:
        return take_hard_state(group, record);
    case LOG_RECORD_MEMBERSHIP:
        return push_membership(group, record->index, record->bytes);
    case LOG_RECORD_ENTRY:
        return take_entry(state, group, record, batch);
    case LOG_RECORD_TRUNCATE:
        return take_truncate(group, record);
    case LOG_RECORD_BATCH:
    case LOG_RECORD_SEGMENT:
        return FAIL(ERR_CORRUPT, "log record type=%d inside a batch", (int)record->type);
    case LOG_RECORD_INSTALLED:
        break;
    }
    return FAIL(ERR_UNSUPPORTED, "log record type=%d", (int)record->type);
}

/* --- batches --- */

static void describe_batch(const struct log_state *state, struct log_batch_record *out)
{
    *out = (struct log_batch_record){.sequence = state->sequence};
    for (uint32_t i = 0; i < state->group_count; i++) {
        const struct log_group *group = state->groups[i];
        if (state->sequence != 0 && group->touched == state->sequence)
            out->groups[out->count++] = (struct log_group_mark){
                .group = group->id, .last_index = group->last_index, .chain = group->chain};
    }
}

/* The batch names exactly what the one before it left. */
static enum err check_opening(const struct log_state *state, struct slice *stream)
{
    struct log_record record;
    struct log_batch_record named;
    TRY(log_record_decode(stream, &record, NULL));
    if (record.type != LOG_RECORD_BATCH)
        return FAIL(ERR_CORRUPT, "log batch begins with record type=%d", (int)record.type);
    TRY(log_batch_record_decode(&record, &named));
    if (state->segment_count == 0)
        return OK; /* what it names was cut off, or there was nothing */
    struct log_batch_record found;
    describe_batch(state, &found);
    bool same = named.sequence == found.sequence && named.count == found.count;
    for (uint32_t i = 0; same && i < named.count; i++)
        same = named.groups[i].group == found.groups[i].group &&
               named.groups[i].last_index == found.groups[i].last_index &&
               named.groups[i].chain == found.groups[i].chain;
    if (!same)
        return FAIL(ERR_CORRUPT, "log batch after sequence=%" PRIu64 " names another one before it",
                    state->sequence);
    return OK;
}

static enum err begin_segment(struct log_state *state, const struct log_batch *batch,
                              struct slice *stream)
{
    struct log_record record;
    struct log_segment_record before;
    TRY(log_record_decode(stream, &record, NULL));
    if (record.type != LOG_RECORD_SEGMENT)
        return FAIL(ERR_CORRUPT, "log segment begins with record type=%d", (int)record.type);
    TRY(log_segment_record_decode(&record, &before));
    const struct log_segment *last = last_segment(state);
    if (last != NULL && (before.segment != last->number || before.end != state->end ||
                         before.sequence != state->sequence))
        return FAIL(ERR_CORRUPT, "log segment=%" PRIu64 " does not follow %" PRIu64, batch->segment,
                    last->number);
    GROW(state->segments, state->segment_count, state->segment_capacity);
    state->segments[state->segment_count++] =
        (struct log_segment){.number = batch->segment, .first_sequence = batch->sequence};
    return OK;
}

enum err log_state_batch(struct log_state *state, const struct log_batch *batch)
{
    struct slice stream = batch->stream;
    TRY(check_opening(state, &stream));
    const struct log_segment *last = last_segment(state);
    if (last == NULL || last->number != batch->segment)
        TRY(begin_segment(state, batch, &stream));
    while (stream.bytes > 0) {
        struct log_record record;
        uint32_t crc = 0;
        TRY(log_record_decode(&stream, &record, &crc));
        TRY(take_record(state, &record, crc, batch));
    }
    uint64_t bytes = (uint64_t)batch->block_count * LOG_BLOCK_BYTES;
    last_segment(state)->bytes += bytes;
    state->sequence = batch->sequence;
    state->end = batch->offset + bytes;
    return OK;
}

static void encode_group(struct bytes *out, const struct log_group *group)
{
    uint8_t chain[8];
    store_u64(chain, group->chain);
    struct log_record position = {.type = LOG_RECORD_GROUP,
                                  .group = group->id,
                                  .term = last_term(group),
                                  .index = group->last_index,
                                  .bytes = slice_of(chain, sizeof chain)};
    log_record_encode(out, &position);
    uint8_t hard[16];
    store_u64(hard, group->hard_state.vote);
    store_u64(hard + 8, group->hard_state.commit);
    struct log_record hard_state = {.type = LOG_RECORD_HARD_STATE,
                                    .group = group->id,
                                    .term = group->hard_state.term,
                                    .bytes = slice_of(hard, sizeof hard)};
    log_record_encode(out, &hard_state);
    for (uint32_t i = 0; i < group->membership_count; i++) {
        AUTO_VALUE(bytes) bytes = {.max = LOG_BLOCK_BYTES};
        raft_membership_encode(&bytes, &group->memberships[i].membership);
        struct log_record membership = {.type = LOG_RECORD_MEMBERSHIP,
                                        .group = group->id,
                                        .index = group->memberships[i].index,
                                        .bytes = bytes_slice(&bytes)};
        log_record_encode(out, &membership);
    }
}

void log_state_opening(const struct log_state *state, bool new_segment, struct bytes *out)
{
    struct log_batch_record batch;
    describe_batch(state, &batch);
    log_batch_record_encode(out, &batch);
    if (!new_segment)
        return;
    const struct log_segment *last = last_segment(state);
    struct log_segment_record before = {
        .segment = last == NULL ? 0 : last->number, .end = state->end, .sequence = state->sequence};
    log_segment_record_encode(out, &before);
    for (uint32_t i = 0; i < state->group_count; i++)
        encode_group(out, state->groups[i]);
}

/* --- cutting --- */

uint64_t log_state_bytes(const struct log_state *state)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < state->segment_count; i++)
        bytes += state->segments[i].bytes;
    return bytes;
}

static void compact(struct log_group *group, uint64_t index)
{
    uint64_t term = 0;
    if (index <= group->compacted_index || log_group_term(group, index, &term) != OK)
        return;
    uint32_t drop = 0;
    while (drop + 1 < group->run_count && group->runs[drop + 1].first_index <= index + 1)
        drop++;
    group->run_count -= drop;
    memmove(group->runs, group->runs + drop, group->run_count * sizeof *group->runs);
    if (index == group->last_index)
        group->run_count = 0;
    else
        group->runs[0].first_index = index + 1;
    drop = 0;
    while (drop + 1 < group->span_count && group->spans[drop + 1].first_index <= index + 1)
        drop++;
    if (index == group->last_index)
        drop = group->span_count;
    group->span_count -= drop;
    memmove(group->spans, group->spans + drop, group->span_count * sizeof *group->spans);
    drop = 0;
    while (drop + 1 < group->membership_count && group->memberships[drop + 1].index <= index)
        drop++;
    group->membership_count -= drop;
    memmove(group->memberships, group->memberships + drop,
            group->membership_count * sizeof *group->memberships);
    group->compacted_index = index;
    group->compacted_term = term;
}

bool log_state_drop_segment(struct log_state *state, uint64_t durable_sequence)
{
    if (state->segment_count < 2 || state->segments[1].first_sequence > durable_sequence)
        return false;
    const struct log_segment *first = &state->segments[0];
    for (uint32_t i = 0; i < first->mark_count; i++) {
        const struct log_group *group = log_state_group(state, first->marks[i].group);
        if (group != NULL && first->marks[i].last_index > group->cut_index)
            return false;
    }
    const struct log_segment *next = &state->segments[1];
    for (uint32_t i = 0; i < next->mark_count; i++) {
        struct log_group *group = log_state_group(state, next->marks[i].group);
        if (group != NULL)
            compact(group, next->marks[i].start_index);
    }
    mem_free(state->segments[0].marks);
    state->segment_count--;
    memmove(state->segments, state->segments + 1, state->segment_count * sizeof *state->segments);
    return true;
}
