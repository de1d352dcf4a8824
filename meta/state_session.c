/* Sessions and their results. */
#include "apply.h"
#include "session.h"
#include <assert.h>

static struct session *session_find(const struct sessions *sessions, uint64_t id)
{
    uint32_t low = 0;
    uint32_t high = sessions->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (sessions->items[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < sessions->count && sessions->items[low].id == id;
    return found ? &sessions->items[low] : NULL;
}

static bool window_has(const struct session *session, uint64_t sequence)
{
    uint32_t bit = (uint32_t)(sequence % SESSION_RESULTS_MAX);
    return (session->window[bit / 8] >> (bit % 8) & 1) != 0;
}

static void window_set(struct session *session, uint64_t sequence, bool on)
{
    uint32_t bit = (uint32_t)(sequence % SESSION_RESULTS_MAX);
    uint8_t mask = (uint8_t)(1u << (bit % 8));
    if (on)
        session->window[bit / 8] |= mask;
    else
        session->window[bit / 8] &= (uint8_t)~mask;
}

/* Sequences [from, to) are done; at most one window of them can be set. */
static void window_clear(struct session *session, uint64_t from, uint64_t to)
{
    if (to - from >= SESSION_RESULTS_MAX) {
        memset(session->window, 0, sizeof session->window);
        return;
    }
    for (uint64_t sequence = from; sequence < to; sequence++)
        window_set(session, sequence, false);
}

void sessions_opened(struct sessions *sessions, uint64_t id, uint64_t clock_ms)
{
    assert(sessions->count < SESSIONS_MAX);
    assert(sessions->count == 0 || sessions->items[sessions->count - 1].id < id);
    sessions->items = mem_resize(sessions->items, (sessions->count + 1) * sizeof *sessions->items);
    sessions->items[sessions->count++] =
        (struct session){.id = id, .done_below = 1, .clock_ms = clock_ms};
}

void sessions_deinit(struct sessions *sessions)
{
    mem_free(sessions->items);
    *sessions = (struct sessions){0};
}

static enum err load_sessions(struct lane *lane, struct kv *kv, struct sessions *sessions)
{
    struct row_key from = row_key_table(TABLE_SESSION);
    struct row_key to = row_key_table(TABLE_SESSION + 1);
    AUTO(kv_iterator)
    iterator = kv_iterator_new(lane, kv, NULL, row_key_slice(&from), row_key_slice(&to));
    for (kv_iterator_seek(iterator, row_key_slice(&from)); kv_iterator_valid(iterator);
         kv_iterator_next(iterator)) {
        uint64_t id = 0;
        struct session_row row;
        TRY(row_key_read_numbers(kv_iterator_key(iterator), TABLE_SESSION, 1, &id));
        TRY(session_row_decode(kv_iterator_value(iterator), &row));
        if (sessions->count == SESSIONS_MAX)
            return FAIL(ERR_CORRUPT, "more sessions than can be open");
        sessions_opened(sessions, id, row.clock_ms);
    }
    return kv_iterator_error(iterator);
}

/* `pass` 0 finds each session's done_below, which pass 1 needs to place the sequences in the
 * window. */
static enum err load_results(struct lane *lane, struct kv *kv, struct sessions *sessions, int pass)
{
    struct row_key from = row_key_table(TABLE_RESULT);
    struct row_key to = row_key_table(TABLE_RESULT + 1);
    AUTO(kv_iterator)
    iterator = kv_iterator_new(lane, kv, NULL, row_key_slice(&from), row_key_slice(&to));
    for (kv_iterator_seek(iterator, row_key_slice(&from)); kv_iterator_valid(iterator);
         kv_iterator_next(iterator)) {
        uint64_t numbers[2] = {0, 0};
        struct result_row row;
        TRY(row_key_read_numbers(kv_iterator_key(iterator), TABLE_RESULT, 2, numbers));
        TRY(result_row_decode(kv_iterator_value(iterator), &row));
        struct session *session = session_find(sessions, numbers[0]);
        if (session == NULL)
            return FAIL(ERR_CORRUPT, "result of no session id=%llu",
                        (unsigned long long)numbers[0]);
        if (pass == 1) {
            window_set(session, numbers[1], true);
            continue;
        }
        if (row.done_below > session->done_below)
            session->done_below = row.done_below;
        if (row.clock_ms > session->clock_ms)
            session->clock_ms = row.clock_ms;
    }
    return kv_iterator_error(iterator);
}

enum err sessions_load(struct lane *lane, struct kv *kv, struct sessions *sessions)
{
    TRY(load_sessions(lane, kv, sessions));
    TRY(load_results(lane, kv, sessions, 0));
    return load_results(lane, kv, sessions, 1);
}

enum session_verdict sessions_judge(const struct sessions *sessions,
                                    const struct entry_header *header)
{
    const struct session *session = session_find(sessions, header->session);
    if (session == NULL)
        return SESSION_GONE;
    if (header->sequence < session->done_below || header->sequence < header->done_below)
        return SESSION_STALE;
    if (header->sequence - session->done_below < SESSION_RESULTS_MAX &&
        window_has(session, header->sequence))
        return SESSION_REPEATED;
    uint64_t done_below =
        header->done_below > session->done_below ? header->done_below : session->done_below;
    if (header->sequence - done_below >= SESSION_RESULTS_MAX)
        return SESSION_BUSY;
    return SESSION_NEW;
}

enum err session_result(struct change *change, const struct entry_header *header,
                        struct bytes *out_result)
{
    struct row_key key = row_key_2(TABLE_RESULT, header->session, header->sequence);
    AUTO_VALUE(bytes) value = {.max = KV_VALUE_BYTES_MAX};
    struct result_row row;
    enum err err = CHANGE_READ(change, &key, result_row, &value, &row);
    if (err != OK)
        return change_check(change, err == ERR_NOT_FOUND ? ERR_CORRUPT : err);
    bytes_append(out_result, row.result);
    return OK;
}

/* Sequences of the window that have a row and are below `to`. */
static void results_delete(struct change *change, const struct session *session, uint64_t to)
{
    uint64_t end = session->done_below + SESSION_RESULTS_MAX;
    for (uint64_t sequence = session->done_below; sequence < to && sequence < end; sequence++) {
        if (!window_has(session, sequence))
            continue;
        struct row_key key = row_key_2(TABLE_RESULT, session->id, sequence);
        change_delete(change, &key);
    }
}

void session_keep(struct change *change, const struct sessions *sessions,
                  const struct entry_header *header, const struct bytes *result)
{
    const struct session *session = session_find(sessions, header->session);
    assert(session != NULL);
    results_delete(change, session, header->done_below);
    uint64_t done_below =
        header->done_below > session->done_below ? header->done_below : session->done_below;
    struct result_row row = {.done_below = done_below,
                             .clock_ms = change->applied.clock_ms,
                             .result = bytes_slice(result)};
    struct row_key key = row_key_2(TABLE_RESULT, header->session, header->sequence);
    CHANGE_WRITE(change, &key, result_row, &row);
}

void sessions_note(struct sessions *sessions, const struct entry_header *header, uint64_t clock_ms)
{
    struct session *session = session_find(sessions, header->session);
    assert(session != NULL);
    if (header->done_below > session->done_below) {
        window_clear(session, session->done_below, header->done_below);
        session->done_below = header->done_below;
    }
    window_set(session, header->sequence, true);
    session->clock_ms = clock_ms;
}

enum err session_open(struct change *change, const struct sessions *sessions,
                      const struct command_session *command)
{
    if (sessions->count == SESSIONS_MAX)
        return FAIL(ERR_BUSY, "sessions open=%u", sessions->count);
    struct session_row row = {
        .holder = command->holder, .boot = command->boot, .clock_ms = change->applied.clock_ms};
    struct row_key key = row_key_1(TABLE_SESSION, change->index);
    CHANGE_WRITE(change, &key, session_row, &row);
    return OK;
}

enum err session_renew(struct change *change, const struct sessions *sessions, uint64_t id)
{
    if (session_find(sessions, id) == NULL)
        return OK;
    struct row_key key = row_key_1(TABLE_SESSION, id);
    AUTO_VALUE(bytes) value = {.max = KV_VALUE_BYTES_MAX};
    struct session_row row;
    enum err err = CHANGE_READ(change, &key, session_row, &value, &row);
    if (err != OK)
        return change_check(change, err == ERR_NOT_FOUND ? ERR_CORRUPT : err);
    row.clock_ms = change->applied.clock_ms;
    CHANGE_WRITE(change, &key, session_row, &row);
    return OK;
}

void sessions_renewed(struct sessions *sessions, uint64_t id, uint64_t clock_ms)
{
    struct session *session = session_find(sessions, id);
    if (session != NULL)
        session->clock_ms = clock_ms;
}

uint32_t sessions_expire(struct change *change, const struct sessions *sessions, uint64_t renewed,
                         uint64_t out_ids[SESSIONS_CLOSED_PER_TICK])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sessions->count && count < SESSIONS_CLOSED_PER_TICK; i++) {
        const struct session *session = &sessions->items[i];
        bool idle = change->applied.clock_ms - session->clock_ms >= SESSION_IDLE_MS;
        if (!idle || session->id == renewed)
            continue;
        results_delete(change, session, UINT64_MAX);
        struct row_key key = row_key_1(TABLE_SESSION, session->id);
        change_delete(change, &key);
        out_ids[count++] = session->id;
    }
    return count;
}

void sessions_closed(struct sessions *sessions, const uint64_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct session *session = session_find(sessions, ids[i]);
        assert(session != NULL);
        uint32_t at = (uint32_t)(session - sessions->items);
        memmove(session, session + 1, (sessions->count - at - 1) * sizeof *session);
        sessions->count--;
    }
}
