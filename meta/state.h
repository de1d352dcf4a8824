/* The state machine: what the log means. A pure function of the entries, over a kv store.
 *
 * state_apply turns one entry into one batch that also holds the applied row (I9) with an
 * incremental hash over everything applied (I10). Nothing but the entries enters it: no clock,
 * no randomness, no memory of an earlier run beyond what the store holds. Verdicts about a
 * command are results; an error of state_apply means that this replica must stop.
 *
 * One thread at a time applies (the replica's lane); reads run beside it and see rows as of
 * their own time: scans see one point in time, others check again what they depend on. */
#pragma once
#include "base/bytes.h"
#include "entry.h"
#include "kv/kv.h"
#include "meta/client.h"

struct bucket_cache;
struct state;

enum {
    SESSIONS_MAX = 1024,
    SESSION_RESULTS_MAX = 4096,      /* sequences [done_below, done_below + this) are accepted */
    TICK_STEP_MS_MAX = 10 * 1000,    /* what one Tick adds to Tick time at most */
    SESSION_IDLE_MS = 120 * 1000,    /* of Tick time */
    INTENT_IDLE_MS = 15 * 60 * 1000, /* of Tick time */
    INTENTS_MAX = 65536,
    MEMBERSHIP_BYTES_MAX = 16 << 10,
};

/* Load the applied row and the sessions; an empty store gives index 0. The state borrows `kv`.
 * ERR_CORRUPT, ERR_UNSUPPORTED. */
enum err state_open(struct lane *lane, struct kv *kv, struct state **out_state);
void state_free(struct state *state);
DEFINE_AUTO(state, state_free)
struct kv *state_kv(struct state *state);
struct bucket_cache *state_bucket_cache(struct state *state);

struct state_position {
    uint64_t index, term;
    uint64_t hash;
    uint64_t tick_ms; /* largest Tick applied; propose the next as max(this, wall clock) */
};
/* From where state_apply runs, or while nothing is applied. */
struct state_position state_position(const struct state *state);
/* Encoded membership of the last membership entry applied; empty when there was none. Borrowed
 * until the next apply. */
struct slice state_membership(const struct state *state);

/* Apply the entry of the next index. An encoded `struct result` (RESULT_BYTES_MAX at most) is
 * appended to *out_result. ERR_UNSUPPORTED: this release does not understand the entry: nothing
 * was changed and the replica must stop, never skip it. ERR_IO, ERR_CORRUPT: of the store; all
 * later calls fail. */
enum err state_apply(struct lane *lane, struct state *state, uint64_t index, uint64_t term,
                     struct slice entry, struct bytes *out_result);
/* Move past an entry that is not for the state machine: the no-op of a term (`membership` NULL),
 * or a membership entry. */
enum err state_apply_other(struct lane *lane, struct state *state, uint64_t index, uint64_t term,
                           const struct slice *membership);

/* --- reads --- (meta_read_fn helpers; `lane` NULL: from memory or ERR_WOULD_BLOCK) */

enum err state_bucket_find(struct lane *lane, struct state *state, struct slice name,
                           struct bucket_row *out_row);
/* Appended to *out_value. ERR_NOT_FOUND: not set. */
enum err state_bucket_config_find(struct lane *lane, struct state *state, uint64_t bucket_id,
                                  enum bucket_config_kind kind, struct bytes *out_value);
enum err state_identity_find(struct lane *lane, struct state *state, struct slice access_key,
                             struct identity *out_identity);
enum err state_identity_root(struct lane *lane, struct state *state, struct identity *out_identity);
enum err state_object_find(struct lane *lane, struct state *state, uint64_t bucket_id,
                           struct slice key, bool inline_too, struct object **out_object);
enum err state_upload_find(struct lane *lane, struct state *state, uint64_t bucket_id,
                           struct slice key, uint64_t upload_id, struct upload **out_upload);

/* Scans: never with lane NULL. Contracts: meta/client.h. */
enum err state_bucket_list(struct lane *lane, struct state *state, struct slice prefix,
                           struct slice after, uint32_t max, struct bucket_page **out_page);
/* Of LAYOUT_PARTS only: the blocks of LAYOUT_BLOCKS are in the object. */
enum err state_object_extents(struct lane *lane, struct state *state, const struct object *object,
                              uint64_t offset, uint32_t max, struct extent_page **out_page);
enum err state_object_parts(struct lane *lane, struct state *state, const struct object *object,
                            uint32_t after, uint32_t max, struct part_page **out_page);
/* Current objects or, with `uploads`, open uploads. */
enum err state_list(struct lane *lane, struct state *state, const struct list_query *query,
                    bool uploads, struct list_page **out_page);
enum err state_part_list(struct lane *lane, struct state *state, uint64_t bucket_id,
                         struct slice key, uint64_t upload_id, uint32_t after, uint32_t max,
                         struct part_page **out_page);
enum err state_volume_list(struct lane *lane, struct state *state, struct volume_page **out_page);
/* Leases of `holder` from other boots than `boot`, at most `max`. */
struct lease_found {
    uint64_t volume, from, to;
};
enum err state_lease_stale(struct lane *lane, struct state *state, uint64_t holder, uint64_t boot,
                           uint32_t max, struct lease_found *out_leases, uint32_t *out_count);
enum err state_lease_list(struct lane *lane, struct state *state, uint64_t volume, uint32_t max,
                          struct lease_found *out_leases, uint32_t *out_count);
enum err state_drive_list(struct lane *lane, struct state *state, struct drive_page **out_page);
enum err state_volume_blocks(struct lane *lane, struct state *state, uint64_t volume, uint64_t from,
                             uint32_t max, struct block_page **out_page);
enum err state_repair_list(struct lane *lane, struct state *state, struct block_id from,
                           uint32_t max, struct block_page **out_page);
enum err state_block_find(struct lane *lane, struct state *state, const struct block_id *ids,
                          uint32_t count, struct block_ref *out_refs);
enum err state_free_list(struct lane *lane, struct state *state, uint64_t after, uint32_t max,
                         struct free_page **out_page);
/* True while deleted multipart objects or uploads wait for COMMAND_EXPAND. */
enum err state_has_jobs(struct lane *lane, struct state *state, bool *out_has_jobs);
enum err state_block_status(struct lane *lane, struct state *state, const struct block_id *ids,
                            uint32_t count, enum block_status *out_status);
