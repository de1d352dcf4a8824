/* Exactly-once results (CLUSTER.md C1.3): which proposals of which session took effect.
 *
 * In memory there is a window of sequences per session; results and the session's last use live
 * in its result rows: a session's newest row always exists, since only a later one can free it,
 * so the largest done_below and clock of the rows are the session's, and an entry writes one row
 * instead of two. */
#pragma once
#include "change.h"
#include "entry.h"
#include "state.h"

struct session {
    uint64_t id; /* index of the entry that opened it */
    uint64_t done_below;
    uint64_t clock_ms;
    uint8_t window[SESSION_RESULTS_MAX / 8]; /* bit sequence % SESSION_RESULTS_MAX: has a result */
};
struct sessions {
    struct session *items; /* ascending ids */
    uint32_t count;
};

enum err sessions_load(struct lane *lane, struct kv *kv, struct sessions *sessions);
void sessions_deinit(struct sessions *sessions);

enum session_verdict { SESSION_NEW, SESSION_REPEATED, SESSION_STALE, SESSION_BUSY, SESSION_GONE };
enum session_verdict sessions_judge(const struct sessions *sessions,
                                    const struct entry_header *header);
/* The result of a repeated proposal, appended. */
enum err session_result(struct change *change, const struct entry_header *header,
                        struct bytes *out_result);
/* Rows of a new result; frees those below done_below. Memory follows after the batch was
 * written, by sessions_note. */
void session_keep(struct change *change, const struct sessions *sessions,
                  const struct entry_header *header, const struct bytes *result);
void sessions_note(struct sessions *sessions, const struct entry_header *header, uint64_t clock_ms);

/* ERR_BUSY: SESSIONS_MAX are open. */
enum err session_open(struct change *change, const struct sessions *sessions,
                      const struct command_session *command);
void sessions_opened(struct sessions *sessions, uint64_t id, uint64_t clock_ms);
/* A sign of life without a proposal; no effect when there is no such session. */
enum err session_renew(struct change *change, const struct sessions *sessions, uint64_t id);
void sessions_renewed(struct sessions *sessions, uint64_t id, uint64_t clock_ms);
/* Write the end of idle sessions but `renewed`, a bounded number; their ids for sessions_closed. */
enum { SESSIONS_CLOSED_PER_TICK = 4 };
uint32_t sessions_expire(struct change *change, const struct sessions *sessions, uint64_t renewed,
                         uint64_t out_ids[SESSIONS_CLOSED_PER_TICK]);
void sessions_closed(struct sessions *sessions, const uint64_t *ids, uint32_t count);
