/* Runs of terms, a ring of payloads, a short list of memberships. */
#include "log.h"
#include "base/mem.h"
#include <assert.h>
#include <inttypes.h>

enum { RING_CAPACITY_MIN = 64 };

static enum err runs_check(const struct raft_config *config)
{
    const struct raft_log_view *view = &config->log;
    if (view->last_index < view->compacted_index)
        return FAIL(ERR_CORRUPT, "log ends below its start last=%" PRIu64, view->last_index);
    if ((view->run_count == 0) != (view->last_index == view->compacted_index))
        return FAIL(ERR_CORRUPT, "log without terms last=%" PRIu64, view->last_index);
    if (view->run_count > RAFT_TERM_RUNS_MAX)
        return FAIL(ERR_LIMIT, "log has too many terms count=%u", view->run_count);
    uint64_t next = view->compacted_index + 1;
    uint64_t term = view->compacted_term;
    for (uint32_t i = 0; i < view->run_count; i++) {
        const struct raft_term_run *run = &view->runs[i];
        bool starts = i == 0 ? run->first_index == next : run->first_index > next;
        bool rises = i == 0 ? run->term >= term && run->term > 0 : run->term > term;
        if (!starts || !rises || run->first_index > view->last_index)
            return FAIL(ERR_CORRUPT, "log terms contradict at index=%" PRIu64, run->first_index);
        next = run->first_index;
        term = run->term;
    }
    /* A snapshot may have come from a term that this replica did not enter yet; entries may not. */
    if (view->run_count > 0 && term > config->hard_state.term && term > view->compacted_term)
        return FAIL(ERR_CORRUPT, "log term=%" PRIu64 " above hard state term=%" PRIu64, term,
                    config->hard_state.term);
    return OK;
}

static enum err memberships_check(const struct raft_config *config)
{
    if (config->membership_count == 0)
        return FAIL(ERR_CORRUPT, "no membership group=%" PRIu64, config->group);
    if (config->membership_count > RAFT_MEMBERSHIPS_MAX)
        return FAIL(ERR_LIMIT, "too many memberships count=%u", config->membership_count);
    for (uint32_t i = 0; i < config->membership_count; i++) {
        const struct raft_membership_at *at = &config->memberships[i];
        bool ordered = i == 0 || at->index > config->memberships[i - 1].index;
        bool inside = at->index <= config->log.last_index;
        if (!ordered || !inside || at->membership.voter_count == 0)
            return FAIL(ERR_CORRUPT, "membership misplaced index=%" PRIu64, at->index);
    }
    return OK;
}

enum err raft_log_init(struct raft_log *log, const struct raft_config *config)
{
    TRY(runs_check(config));
    TRY(memberships_check(config));
    const struct raft_log_view *view = &config->log;
    *log = (struct raft_log){
        .compacted_index = view->compacted_index,
        .compacted_term = view->compacted_term,
        .last_index = view->last_index,
        .cache_first = view->last_index + 1,
        .ring_capacity = RING_CAPACITY_MIN,
        .run_count = view->run_count,
        .run_capacity = view->run_count + 8,
        .membership_count = config->membership_count,
        .membership_capacity = config->membership_count + 4,
    };
    log->ring = mem_alloc_array(log->ring_capacity, sizeof *log->ring);
    log->runs = mem_alloc_array(log->run_capacity, sizeof *log->runs);
    for (uint32_t i = 0; i < view->run_count; i++)
        log->runs[i] = view->runs[i];
    log->memberships = mem_alloc_array(log->membership_capacity, sizeof *log->memberships);
    for (uint32_t i = 0; i < config->membership_count; i++)
        log->memberships[i] = config->memberships[i];
    return OK;
}

static void entry_release(struct raft_entry *entry)
{
    mem_free((void *)(uintptr_t)entry->payload.data);
    *entry = (struct raft_entry){0};
}

static struct raft_entry *slot(struct raft_log *log, uint64_t index)
{
    return &log->ring[index & (log->ring_capacity - 1)];
}

void raft_log_deinit(struct raft_log *log)
{
    while (log->cache_first <= log->last_index)
        raft_log_evict_first(log);
    mem_free(log->ring);
    mem_free(log->runs);
    mem_free(log->memberships);
    *log = (struct raft_log){0};
}

/* Position of the run that holds `index`; the log holds it. */
static uint32_t run_of(const struct raft_log *log, uint64_t index)
{
    assert(log->run_count > 0);
    uint32_t low = 0;
    uint32_t high = log->run_count - 1;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (log->runs[middle].first_index <= index)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

enum err raft_log_term(const struct raft_log *log, uint64_t index, uint64_t *out_term)
{
    if (index < log->compacted_index)
        return ERR_COMPACTED;
    if (index > log->last_index)
        return ERR_NOT_FOUND;
    *out_term =
        index == log->compacted_index ? log->compacted_term : log->runs[run_of(log, index)].term;
    return OK;
}

uint64_t raft_log_last_term(const struct raft_log *log)
{
    return log->run_count == 0 ? log->compacted_term : log->runs[log->run_count - 1].term;
}

bool raft_log_matches(const struct raft_log *log, uint64_t index, uint64_t term)
{
    uint64_t own = 0;
    return raft_log_term(log, index, &own) == OK && own == term;
}

uint64_t raft_log_find_conflict(const struct raft_log *log, uint64_t index, uint64_t term)
{
    uint64_t at = index < log->last_index ? index : log->last_index;
    while (at > log->compacted_index) {
        uint32_t run = run_of(log, at);
        if (log->runs[run].term <= term)
            return at;
        at = log->runs[run].first_index - 1;
    }
    return log->compacted_index;
}

bool raft_log_has_room_for_term(const struct raft_log *log, uint64_t term)
{
    return log->run_count < RAFT_TERM_RUNS_MAX || raft_log_last_term(log) == term;
}

static void push_term(struct raft_log *log, uint64_t index, uint64_t term)
{
    if (log->run_count > 0 && log->runs[log->run_count - 1].term == term)
        return;
    assert(term > 0);
    assert(term >= raft_log_last_term(log));
    if (log->run_count == log->run_capacity) {
        log->run_capacity *= 2;
        log->runs = mem_resize(log->runs, log->run_capacity * sizeof *log->runs);
    }
    log->runs[log->run_count++] = (struct raft_term_run){.first_index = index, .term = term};
}

static void ring_grow(struct raft_log *log)
{
    uint64_t capacity = log->ring_capacity * 2;
    struct raft_entry *ring = mem_alloc_array(capacity, sizeof *ring);
    for (uint64_t i = log->cache_first; i <= log->last_index; i++)
        ring[i & (capacity - 1)] = *slot(log, i);
    mem_free(log->ring);
    log->ring = ring;
    log->ring_capacity = capacity;
}

void raft_log_append(struct raft_log *log, uint64_t term, enum raft_entry_type type, void *payload,
                     size_t payload_bytes)
{
    if (log->last_index + 1 - log->cache_first == log->ring_capacity)
        ring_grow(log);
    uint64_t index = log->last_index + 1;
    push_term(log, index, term);
    struct raft_entry *entry = slot(log, index);
    *entry = (struct raft_entry){
        .term = term, .type = type, .payload = slice_of(payload, payload_bytes)};
    log->cache_bytes += raft_entry_bytes(entry);
    log->last_index = index;
}

void raft_log_evict_first(struct raft_log *log)
{
    assert(log->cache_first <= log->last_index);
    struct raft_entry *entry = slot(log, log->cache_first);
    log->cache_bytes -= raft_entry_bytes(entry);
    entry_release(entry);
    log->cache_first++;
}

void raft_log_truncate(struct raft_log *log, uint64_t first)
{
    assert(first > log->compacted_index);
    assert(first <= log->last_index + 1);
    for (uint64_t i = log->last_index; i >= first && i >= log->cache_first; i--) {
        struct raft_entry *entry = slot(log, i);
        log->cache_bytes -= raft_entry_bytes(entry);
        entry_release(entry);
    }
    log->last_index = first - 1;
    if (log->cache_first > first)
        log->cache_first = first;
    while (log->run_count > 0 && log->runs[log->run_count - 1].first_index >= first)
        log->run_count--;
    while (log->membership_count > 1 && raft_log_membership(log)->index >= first)
        log->membership_count--;
    assert(raft_log_membership(log)->index < first);
}

void raft_log_reset(struct raft_log *log, uint64_t index, uint64_t term)
{
    while (log->cache_first <= log->last_index)
        raft_log_evict_first(log);
    log->compacted_index = log->last_index = index;
    log->compacted_term = term;
    log->run_count = 0;
    log->cache_first = index + 1;
}

void raft_log_compact(struct raft_log *log, uint64_t index)
{
    assert(index >= log->compacted_index);
    assert(index <= log->last_index);
    uint64_t term = 0;
    enum err err = raft_log_term(log, index, &term);
    assert(err == OK);
    while (log->cache_first <= index)
        raft_log_evict_first(log);
    uint32_t keep = index == log->last_index ? log->run_count : run_of(log, index + 1);
    if (index > log->compacted_index) {
        memmove(log->runs, log->runs + keep, (log->run_count - keep) * sizeof *log->runs);
        log->run_count -= keep;
        if (log->run_count > 0)
            log->runs[0].first_index = index + 1;
    }
    log->compacted_index = index;
    log->compacted_term = term;
}

enum err raft_log_push_membership(struct raft_log *log, uint64_t index,
                                  const struct raft_membership *membership)
{
    assert(index > raft_log_membership(log)->index);
    if (log->membership_count == RAFT_MEMBERSHIPS_MAX)
        return FAIL(ERR_LIMIT, "too many uncommitted memberships index=%" PRIu64, index);
    if (log->membership_count == log->membership_capacity) {
        log->membership_capacity *= 2;
        log->memberships =
            mem_resize(log->memberships, log->membership_capacity * sizeof *log->memberships);
    }
    log->memberships[log->membership_count++] =
        (struct raft_membership_at){.index = index, .membership = *membership};
    return OK;
}

void raft_log_settle_memberships(struct raft_log *log, uint64_t commit)
{
    uint32_t settled = 0;
    while (settled + 1 < log->membership_count && log->memberships[settled + 1].index <= commit)
        settled++;
    if (settled == 0)
        return;
    log->membership_count -= settled;
    memmove(log->memberships, log->memberships + settled,
            log->membership_count * sizeof *log->memberships);
}

void raft_log_rebase_memberships(struct raft_log *log, uint64_t index,
                                 const struct raft_membership *membership)
{
    raft_log_settle_memberships(log, index);
    log->memberships[0] = (struct raft_membership_at){.index = index, .membership = *membership};
}
