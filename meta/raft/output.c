/* What the owner must do, collected while inputs are stepped and handed out at once. */
#include "base/mem.h"
#include "core.h"
#include <assert.h>

static void retired_free(struct raft_pending_output *output)
{
    for (uint32_t i = 0; i < output->retired_count; i++)
        mem_free((void *)(uintptr_t)output->retired[i].payload.data);
    output->retired_count = 0;
}

void raft_output_deinit(struct raft *raft)
{
    struct raft_pending_output *output = &raft->output;
    for (uint32_t i = 0; i < output->repair_count; i++)
        raft_retire(raft, output->repairs[i]);
    retired_free(output);
    mem_free(output->repairs);
    mem_free(output->retired);
    mem_free(output->messages);
    mem_free(output->entry_offsets);
    mem_free(output->scratch);
    *output = (struct raft_pending_output){0};
}

void raft_retire(struct raft *raft, struct raft_entry entry)
{
    struct raft_pending_output *output = &raft->output;
    if (output->retired_count == output->retired_capacity) {
        output->retired_capacity =
            output->retired_capacity == 0 ? 64 : output->retired_capacity * 2;
        output->retired =
            mem_resize(output->retired, output->retired_capacity * sizeof *output->retired);
    }
    output->retired[output->retired_count++] = entry;
}

void raft_scratch_add(struct raft *raft, const struct raft_entry *entry)
{
    struct raft_pending_output *output = &raft->output;
    if (output->scratch_count == output->scratch_capacity) {
        output->scratch_capacity =
            output->scratch_capacity == 0 ? 64 : output->scratch_capacity * 2;
        output->scratch =
            mem_resize(output->scratch, output->scratch_capacity * sizeof *output->scratch);
    }
    output->scratch[output->scratch_count++] = *entry;
}

bool raft_hard_state_durable(const struct raft *raft)
{
    return !raft->output.hard_state_changed && raft->sequence_durable >= raft->hard_sequence;
}

uint64_t raft_wait_for_index(const struct raft *raft, uint64_t index)
{
    if (index <= raft->durable_index)
        return 0;
    if (index >= raft->output.append_first)
        return raft->sequence_next; /* the write of the next output */
    return raft->sequence_next - 1;
}

/* A message tells its receiver the term of this replica, and a vote tells the vote: both must be on
 * disk before it leaves, or a restarted replica could contradict itself (B18, B28). */
static uint64_t wait_for_hard_state(const struct raft *raft)
{
    if (MUTANT(VOTE_NOT_DURABLE) || raft_hard_state_durable(raft))
        return 0;
    return raft->output.hard_state_changed ? raft->sequence_next : raft->hard_sequence;
}

static void reserve_message(struct raft_pending_output *output)
{
    if (output->message_count < output->message_capacity)
        return;
    output->message_capacity = output->message_capacity == 0 ? 32 : output->message_capacity * 2;
    output->messages =
        mem_resize(output->messages, output->message_capacity * sizeof *output->messages);
    output->entry_offsets =
        mem_resize(output->entry_offsets, output->message_capacity * sizeof *output->entry_offsets);
}

void raft_send(struct raft *raft, struct raft_message message)
{
    struct raft_pending_output *output = &raft->output;
    assert(message.to != raft->id);
    if (output->message_count == RAFT_OUTPUT_MESSAGES_MAX) {
        raft->messages_dropped++;
        return;
    }
    message.group = raft->group;
    message.from = raft->id;
    if (message.term == 0)
        message.term = raft->term;
    uint64_t wait = wait_for_hard_state(raft);
    if (message.wait_sequence < wait)
        message.wait_sequence = wait;
    reserve_message(output);
    output->entry_offsets[output->message_count] = output->scratch_count - message.entry_count;
    output->messages[output->message_count++] = message;
}

static uint64_t committed_last(const struct raft *raft)
{
    uint64_t last = raft->commit < raft->durable_index ? raft->commit : raft->durable_index;
    if (MUTANT(COMMIT_WITHOUT_OWN_FSYNC))
        last = raft->commit;
    if (raft->repair && last >= raft->first_unknown)
        last = raft->first_unknown - 1;
    return last > raft->output.committed_sent ? last : raft->output.committed_sent;
}

static bool has_write(const struct raft *raft)
{
    return raft->output.hard_state_changed || raft->output.truncate_from != 0 ||
           raft->output.append_first <= raft->log.last_index;
}

bool raft_has_output(const struct raft *raft)
{
    const struct raft_pending_output *output = &raft->output;
    return output->message_count > 0 || has_write(raft) || output->appends_due ||
           committed_last(raft) > output->committed_sent || output->grant.ticket_last != 0 ||
           output->reads_failed_last != 0 || output->role_changed || output->membership_changed ||
           output->repair_count > 0;
}

static void take_write(struct raft *raft, struct raft_output *out)
{
    struct raft_pending_output *output = &raft->output;
    if (!has_write(raft))
        return;
    out->append_first = output->append_first;
    out->append_count = raft->log.last_index + 1 - output->append_first;
    out->truncate_from = output->truncate_from;
    out->hard_state_changed = output->hard_state_changed;
    out->token = (struct raft_token){
        .sequence = raft->sequence_next++,
        .generation = raft->generation,
        .term = raft->term,
        .last_index = raft->log.last_index,
    };
    if (output->hard_state_changed)
        raft->hard_sequence = out->token.sequence;
    output->append_first = raft->log.last_index + 1;
    output->truncate_from = 0;
    output->hard_state_changed = false;
}

static void take_messages(struct raft *raft, struct raft_output *out)
{
    struct raft_pending_output *output = &raft->output;
    for (uint32_t i = 0; i < output->message_count; i++) {
        struct raft_message *message = &output->messages[i];
        assert(message->entry_count == 0 || message->wait_sequence == 0);
        if (message->entry_count > 0)
            message->entries = output->scratch + output->entry_offsets[i];
    }
    out->messages = output->messages;
    out->message_count = output->message_count;
    output->message_count = 0;
}

static uint32_t take_repairs(struct raft *raft)
{
    struct raft_pending_output *output = &raft->output;
    uint32_t offset = output->scratch_count;
    for (uint32_t i = 0; i < output->repair_count; i++) {
        raft_scratch_add(raft, &output->repairs[i]);
        raft_retire(raft, output->repairs[i]);
    }
    mem_free(output->repairs);
    output->repairs = NULL;
    return offset;
}

void raft_take_output(struct raft *raft, struct raft_output *out_output)
{
    struct raft_pending_output *output = &raft->output;
    retired_free(output);
    output->scratch_count = 0;
    output->load_count = output->snapshot_count = 0;
    if (raft->role == RAFT_LEADER && output->appends_due)
        raft_send_appends(raft);
    uint32_t repair_offset = take_repairs(raft);
    *out_output = (struct raft_output){
        .hard_state = {.term = raft->term,
                       .vote = raft->vote,
                       .commit =
                           raft->commit < raft->durable_index ? raft->commit : raft->durable_index},
        .committed_first = output->committed_sent + 1,
        .committed_last = committed_last(raft),
        .grant = output->grant,
        .reads_failed_last = output->reads_failed_last,
        .role_changed = output->role_changed,
        .role = raft->role,
        .leader = raft->leader,
        .term = raft->term,
        .membership_changed = output->membership_changed,
        .loads = output->loads,
        .load_count = output->load_count,
        .snapshots = output->snapshots,
        .snapshot_count = output->snapshot_count,
        .repairs = output->scratch + repair_offset,
        .repair_first = output->repair_first,
        .repair_count = output->repair_count,
    };
    take_write(raft, out_output);
    take_messages(raft, out_output);
    output->committed_sent = out_output->committed_last;
    output->grant = (struct raft_read_grant){0};
    output->reads_failed_last = 0;
    output->role_changed = output->membership_changed = false;
    output->repair_count = 0;
}
