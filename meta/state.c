/* One entry, one batch. */
#include "state.h"
#include "apply.h"
#include "base/hash.h"
#include "base/log.h"
#include "bucket_cache.h"
#include "session.h"
#include <assert.h>
#include <inttypes.h>

struct state {
    struct kv *kv;
    struct kv_batch *batch;
    struct applied_row applied;
    struct sessions sessions;
    struct bucket_cache buckets;
    struct open_buckets open_buckets;
    struct bytes membership;
    enum err stopped; /* after a trouble of the store: its contents are not known any more */
};

/* --- open --- */

static enum err load_applied(struct lane *lane, struct state *state)
{
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct row_key key = row_key_table(TABLE_APPLIED);
    enum err err = kv_get(lane, state->kv, row_key_slice(&key), &value);
    if (err == ERR_NOT_FOUND)
        return OK;
    TRY(err);
    return applied_row_decode(bytes_slice(&value), &state->applied);
}

static enum err load_membership(struct lane *lane, struct state *state)
{
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct row_key key = row_key_table(TABLE_MEMBERSHIP);
    enum err err = kv_get(lane, state->kv, row_key_slice(&key), &value);
    if (err == ERR_NOT_FOUND)
        return OK;
    TRY(err);
    struct slice membership = {0};
    TRY(bytes_row_decode(bytes_slice(&value), &membership));
    bytes_append(&state->membership, membership);
    return OK;
}

enum err state_open(struct lane *lane, struct kv *kv, struct state **out_state)
{
    AUTO(state) state = mem_new(struct state);
    *state = (struct state){
        .kv = kv, .batch = kv_batch_new(kv), .membership = {.max = MEMBERSHIP_BYTES_MAX}};
    bucket_cache_init(&state->buckets);
    TRY(load_applied(lane, state));
    TRY(load_membership(lane, state));
    TRY(sessions_load(lane, kv, &state->sessions));
    *out_state = TAKE(state);
    return OK;
}

void state_free(struct state *state)
{
    if (state == NULL)
        return;
    kv_batch_free(state->batch);
    sessions_deinit(&state->sessions);
    bytes_deinit(&state->membership);
    mem_free(state);
}

struct kv *state_kv(struct state *state)
{
    return state->kv;
}

struct bucket_cache *state_bucket_cache(struct state *state)
{
    return &state->buckets;
}

struct state_position state_position(const struct state *state)
{
    return (struct state_position){
        .index = state->applied.index,
        .term = state->applied.term,
        .hash = state->applied.hash,
        .tick_ms = state->applied.tick_ms,
    };
}

struct slice state_membership(const struct state *state)
{
    return bytes_slice(&state->membership);
}

/* --- apply --- */

static struct change change_begin(struct lane *lane, struct state *state, uint64_t index,
                                  uint64_t term)
{
    assert(index == state->applied.index + 1);
    assert(term >= state->applied.term);
    struct change change = {.lane = lane,
                            .kv = state->kv,
                            .open_buckets = &state->open_buckets,
                            .index = index,
                            .applied = state->applied};
    change.applied.index = index;
    change.applied.term = term;
    return change;
}

/* Write the rows together with the applied row (I9). The hash covers the former hash, the
 * counters and every row (I10). */
static enum err change_commit(struct state *state, struct change *change)
{
    AUTO(hasher) hasher = hasher_new();
    AUTO_VALUE(bytes) counters = {.max = ROW_VALUE_BYTES_MAX};
    applied_row_encode(&counters, &change->applied);
    hasher_update(hasher, bytes_slice(&counters));
    kv_batch_clear(state->batch);
    change_write(change, state->batch, hasher);
    struct hash128 hash = hasher_value(hasher);
    change->applied.hash = load_u64(hash.bytes);

    struct row_key key = row_key_table(TABLE_APPLIED);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    applied_row_encode(&value, &change->applied);
    kv_batch_put(state->batch, row_key_slice(&key), bytes_slice(&value));
    bool has_buckets = change_has_table(change, TABLE_BUCKET_NAME);
    if (has_buckets)
        bucket_cache_write_begin(&state->buckets);
    TRY(kv_write(change->lane, state->kv, state->batch)); /* failed: the cache stays shut */
    if (has_buckets)
        bucket_cache_write_end(&state->buckets);
    state->applied = change->applied;
    return OK;
}

static enum err apply_verdict(struct change *change, const struct command *command,
                              struct result *result)
{
    switch (command->type) {
    case COMMAND_OPEN_SESSION:
    case COMMAND_TICK:
        break; /* not of a session */
    case COMMAND_BUCKET_TAKE:
        return apply_bucket_take(change, &command->bucket, result);
    case COMMAND_BUCKET_SETTLE:
        return apply_bucket_settle(change, &command->bucket);
    case COMMAND_BUCKET_MARK:
        return apply_bucket_mark(change, &command->bucket, result);
    case COMMAND_BUCKET_FORGET:
        return apply_bucket_forget(change, &command->bucket);
    case COMMAND_IDENTITY_PUT:
        return apply_identity_put(change, &command->identity);
    case COMMAND_DRIVE_REGISTER:
        return apply_drive_register(change, &command->drive);
    case COMMAND_DRIVE_STANDING:
        return apply_drive_standing(change, &command->drive);
    case COMMAND_DRIVE_FORGET:
        return apply_drive_forget(change, &command->drive);
    case COMMAND_REPAIR_START:
        return apply_repair_start(change, &command->repair, result);
    case COMMAND_REPAIR_DONE:
        return apply_repair_done(change, &command->repair, result);
    case COMMAND_REPAIR_CANCEL:
        return apply_repair_cancel(change, &command->repair, result);
    case COMMAND_VOLUME_CREATE:
        return apply_volume_create(change, &command->volume, result);
    case COMMAND_LEASE_OPEN:
        return apply_lease_open(change, &command->lease, result);
    case COMMAND_LEASE_CLOSING:
        return apply_lease_closing(change, &command->lease, result);
    case COMMAND_LEASE_CLOSED:
        return apply_lease_closed(change, &command->lease);
    case COMMAND_BUCKET_OPEN:
        return apply_bucket_open(change, &command->bucket);
    case COMMAND_BUCKET_CLOSE:
        return apply_bucket_close(change, &command->bucket);
    case COMMAND_OBJECT_PUT:
        return apply_object_put(change, &command->put, result);
    case COMMAND_OBJECT_COPY:
        return apply_object_copy(change, &command->copy, result);
    case COMMAND_OBJECT_DELETE:
        return apply_object_delete(change, &command->delete, result);
    case COMMAND_UPLOAD_CREATE:
        return apply_upload_create(change, &command->upload, result);
    case COMMAND_PART_PUT:
        return apply_part_put(change, &command->put, result);
    case COMMAND_UPLOAD_COMPLETE:
        return apply_upload_complete(change, &command->complete, result);
    case COMMAND_UPLOAD_ABORT:
        return apply_upload_abort(change, &command->upload);
    case COMMAND_BLOCK_STAGE:
        return apply_block_stage(change, &command->stage, result);
    case COMMAND_INTENT_DROP:
        return apply_intent_drop(change, command->intent);
    case COMMAND_INTENT_RENEW:
        return apply_intent_renew(change, command->intent);
    case COMMAND_LEASE_REFUSE:
        return apply_lease_refuse(change, &command->lease);
    case COMMAND_FREE_DONE:
        return apply_free_done(change, &command->free_done);
    case COMMAND_OBJECT_TAG:
        return apply_object_tag(change, &command->tag);
    case COMMAND_BUCKET_CONFIG:
        return apply_bucket_config(change, &command->config);
    case COMMAND_BLOCKS_REPAIRED:
        return apply_blocks_repaired(change, &command->repaired);
    case COMMAND_EXPAND:
        return apply_expand(change);
    }
    assert(false);
    return ERR_UNSUPPORTED;
}

/* The verdict on the command; writes of a refused one are dropped and the counters are as
 * before. */
static enum err judge(struct change *change, const struct command *command, struct result *result)
{
    struct applied_row before = change->applied;
    enum err err = apply_verdict(change, command, result);
    TRY(change->broken);
    result->err = err;
    if (err != OK && !change->keep) {
        change_clear(change);
        change->applied = before;
    }
    return OK;
}

/* An entry of a session: exactly once. */
static enum err apply_proposal(struct state *state, struct change *change,
                               const struct entry_header *header, const struct command *command,
                               struct bytes *out_result)
{
    struct result result = {.outcome = RESULT_APPLIED};
    AUTO_VALUE(bytes) encoded = {.max = RESULT_BYTES_MAX};
    enum session_verdict verdict = sessions_judge(&state->sessions, header);
    switch (verdict) {
    case SESSION_REPEATED:
        TRY(session_result(change, header, &encoded));
        break;
    case SESSION_STALE:
        result.outcome = RESULT_STALE;
        break;
    case SESSION_GONE:
        result.outcome = RESULT_SESSION_CLOSED;
        break;
    case SESSION_BUSY:
        result.err = ERR_BUSY;
        break;
    case SESSION_NEW:
        TRY(judge(change, command, &result));
        break;
    }
    if (verdict != SESSION_REPEATED)
        result_encode(&encoded, &result);
    assert(!encoded.overflow);
    if (verdict == SESSION_NEW)
        session_keep(change, &state->sessions, header, &encoded);
    TRY(change_commit(state, change));
    if (verdict == SESSION_NEW)
        sessions_note(&state->sessions, header, state->applied.clock_ms);
    bytes_append(out_result, bytes_slice(&encoded));
    return OK;
}

static enum err apply_open_session(struct state *state, struct change *change,
                                   const struct command_session *command, struct bytes *out_result)
{
    struct result result = {.outcome = RESULT_APPLIED};
    result.err = session_open(change, &state->sessions, command);
    if (result.err == OK)
        result_stamp(&result, change->index, change->wall_ms);
    TRY(change_commit(state, change));
    if (result.err == OK)
        sessions_opened(&state->sessions, change->index, state->applied.clock_ms);
    result_encode(out_result, &result);
    return OK;
}

/* Time during which nobody ticked (all were down, the first Tick ever, a clock set right) is not
 * held against sessions and intents. */
static void tick_time(struct applied_row *applied, uint64_t tick_ms)
{
    if (tick_ms <= applied->tick_ms)
        return;
    uint64_t step_ms = tick_ms - applied->tick_ms;
    applied->clock_ms += step_ms < TICK_STEP_MS_MAX ? step_ms : TICK_STEP_MS_MAX;
    applied->tick_ms = tick_ms;
}

static enum err apply_tick(struct state *state, struct change *change, uint64_t session,
                           const struct command_tick *command, struct bytes *out_result)
{
    struct result result = {.outcome = RESULT_APPLIED};
    tick_time(&change->applied, command->tick_ms);
    TRY(intents_expire(change));
    TRY(session_renew(change, &state->sessions, session));
    uint64_t closed[SESSIONS_CLOSED_PER_TICK];
    uint32_t count = sessions_expire(change, &state->sessions, session, closed);
    TRY(change_commit(state, change));
    sessions_closed(&state->sessions, closed, count);
    sessions_renewed(&state->sessions, session, state->applied.clock_ms);
    result_encode(out_result, &result);
    return OK;
}

static enum err apply_command(struct state *state, struct change *change,
                              const struct entry_header *header, const struct command *command,
                              struct bytes *out_result)
{
    if (command->type == COMMAND_OPEN_SESSION)
        return apply_open_session(state, change, &command->session, out_result);
    if (command->type == COMMAND_TICK)
        return apply_tick(state, change, header->session, &command->tick, out_result);
    return apply_proposal(state, change, header, command, out_result);
}

enum err state_apply(struct lane *lane, struct state *state, uint64_t index, uint64_t term,
                     struct slice entry, struct bytes *out_result)
{
    TRY(state->stopped);
    struct entry_header header;
    struct slice encoded;
    struct command command;
    enum err err = entry_decode(entry, &header, &encoded);
    if (err == OK)
        err = command_decode(encoded, &command);
    if (err != OK) {
        log_error("state: entry is not understood by this release index=%" PRIu64, index);
        return FAIL(ERR_UNSUPPORTED, "entry index=%" PRIu64 " bytes=%zu", index, entry.bytes);
    }
    struct change change = change_begin(lane, state, index, term);
    change.wall_ms = header.wall_ms;
    change.session = header.session;
    change.sequence = header.sequence;
    state->stopped = apply_command(state, &change, &header, &command, out_result);
    change_deinit(&change);
    command_deinit(&command);
    return state->stopped;
}

enum err state_apply_other(struct lane *lane, struct state *state, uint64_t index, uint64_t term,
                           const struct slice *membership)
{
    TRY(state->stopped);
    struct change change = change_begin(lane, state, index, term);
    if (membership != NULL) {
        assert(membership->bytes <= MEMBERSHIP_BYTES_MAX);
        struct row_key key = row_key_table(TABLE_MEMBERSHIP);
        CHANGE_WRITE(&change, &key, bytes_row, *membership);
        bytes_clear(&state->membership);
        bytes_append(&state->membership, *membership);
    }
    state->stopped = change_commit(state, &change);
    change_deinit(&change);
    return state->stopped;
}
