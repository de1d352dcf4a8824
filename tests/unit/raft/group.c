/* Disks, network and checks of a simulated group. */
#include "group.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/slice.h"
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP_ID = 7, CAPACITY_MIN = 64 };

_Noreturn void group_violation(const struct group *group, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "VIOLATION seed=%" PRIu64 ": ", group->seed);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    if (group->trace != NULL)
        fprintf(stderr, "%.*s", (int)group->trace->bytes, (const char *)group->trace->data);
    exit(1);
}

void group_print(struct group *group, const char *format, ...)
{
    if (group->trace == NULL)
        return;
    char line[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    bytes_append_text(group->trace, line);
}

const char *message_type_text(enum raft_message_type type)
{
    static const char *const names[] = {
        [RAFT_PREVOTE] = "PREVOTE",
        [RAFT_PREVOTE_REPLY] = "PREVOTE_REPLY",
        [RAFT_VOTE] = "VOTE",
        [RAFT_VOTE_REPLY] = "VOTE_REPLY",
        [RAFT_APPEND] = "APPEND",
        [RAFT_APPEND_REPLY] = "APPEND_REPLY",
        [RAFT_HEARTBEAT] = "HEARTBEAT",
        [RAFT_HEARTBEAT_REPLY] = "HEARTBEAT_REPLY",
        [RAFT_TIMEOUT_NOW] = "TIMEOUT_NOW",
    };
    return names[type];
}

const char *role_text(enum raft_role role)
{
    static const char *const names[] = {"follower", "pre-candidate", "candidate", "leader"};
    return names[role];
}

static void print_ids(struct bytes *out, const char *name, const uint64_t *ids, uint32_t count)
{
    if (count == 0)
        return;
    bytes_append_format(out, " %s=", name);
    for (uint32_t i = 0; i < count; i++)
        bytes_append_format(out, "%s%" PRIu64, i == 0 ? "" : ",", ids[i]);
}

void print_membership(struct bytes *out, const struct raft_membership *membership)
{
    print_ids(out, "voters", membership->voters, membership->voter_count);
    print_ids(out, "old", membership->old_voters, membership->old_voter_count);
    print_ids(out, "learners", membership->learners, membership->learner_count);
}

/* ---- packets ---- */

static void packets_push(struct packets *packets, struct packet packet)
{
    if (packets->count == packets->capacity) {
        packets->capacity = packets->capacity == 0 ? CAPACITY_MIN : packets->capacity * 2;
        packets->items = mem_resize(packets->items, packets->capacity * sizeof *packets->items);
    }
    packets->items[packets->count++] = packet;
}

static struct packet packets_remove(struct packets *packets, uint32_t position)
{
    assert(position < packets->count);
    struct packet packet = packets->items[position];
    packets->count--;
    memmove(&packets->items[position], &packets->items[position + 1],
            (packets->count - position) * sizeof *packets->items);
    return packet;
}

static void packets_clear(struct packets *packets)
{
    for (uint32_t i = 0; i < packets->count; i++)
        mem_free(packets->items[i].data);
    packets->count = 0;
}

/* ---- disk ---- */

uint64_t disk_last(const struct disk *disk)
{
    return disk->compacted_index + disk->entry_count;
}

static struct stored_entry *disk_entry(const struct disk *disk, uint64_t index)
{
    assert(index > disk->compacted_index);
    assert(index <= disk_last(disk));
    return &disk->entries[index - disk->compacted_index - 1];
}

static bool disk_holds(const struct disk *disk, uint64_t index, uint64_t term)
{
    if (index <= disk->compacted_index)
        return true; /* was committed before it was compacted */
    return index <= disk_last(disk) && disk_entry(disk, index)->term == term;
}

static void disk_truncate(struct disk *disk, uint64_t from)
{
    while (disk->entry_count > 0 && disk_last(disk) >= from)
        mem_free(disk->entries[--disk->entry_count].data);
}

static void disk_append(struct disk *disk, struct stored_entry entry)
{
    if (disk->entry_count == disk->entry_capacity) {
        disk->entry_capacity = disk->entry_capacity == 0 ? CAPACITY_MIN : disk->entry_capacity * 2;
        disk->entries = mem_resize(disk->entries, disk->entry_capacity * sizeof *disk->entries);
    }
    disk->entries[disk->entry_count++] = entry;
}

static void disk_cut(struct disk *disk, uint64_t index)
{
    uint64_t count = index - disk->compacted_index;
    for (uint64_t i = 0; i < count; i++) {
        struct stored_entry *entry = &disk->entries[i];
        disk->compacted_term = entry->term;
        if (entry->type == RAFT_MEMBERSHIP) {
            disk->base.index = disk->compacted_index + 1 + i;
            enum err err =
                raft_membership_decode(slice_of(entry->data, entry->bytes), &disk->base.membership);
            assert(err == OK);
        }
        mem_free(entry->data);
    }
    disk->entry_count -= count;
    memmove(disk->entries, disk->entries + count, disk->entry_count * sizeof *disk->entries);
    disk->compacted_index = index;
}

/* I2 on disk. */
static void check_hard_state(const struct group *group, const struct replica *replica,
                             const struct raft_hard_state *next)
{
    const struct raft_hard_state *now = &replica->disk.hard_state;
    if (next->term < now->term)
        group_violation(group, "I2 replica %" PRIu64 " term falls to %" PRIu64, replica->id,
                        next->term);
    if (next->term == now->term && now->vote != 0 && next->vote != now->vote)
        group_violation(group, "I2 replica %" PRIu64 " votes twice in term %" PRIu64, replica->id,
                        next->term);
}

static void disk_write(const struct group *group, struct replica *replica,
                       struct pending_write *write)
{
    struct disk *disk = &replica->disk;
    if (write->hard_state_changed) {
        check_hard_state(group, replica, &write->hard_state);
        disk->hard_state = write->hard_state;
    }
    if (write->truncate_from != 0)
        disk_truncate(disk, write->truncate_from);
    for (uint64_t i = 0; i < write->count; i++) {
        uint64_t index = write->first + i;
        if (index <= disk->compacted_index) {
            mem_free(write->entries[i].data);
            continue;
        }
        if (index != disk_last(disk) + 1)
            group_violation(group, "replica %" PRIu64 " appends %" PRIu64 " after %" PRIu64,
                            replica->id, index, disk_last(disk));
        disk_append(disk, write->entries[i]);
    }
    mem_free(write->entries);
}

static void write_discard(struct pending_write *write)
{
    for (uint64_t i = 0; i < write->count; i++)
        mem_free(write->entries[i].data);
    mem_free(write->entries);
}

/* ---- checks ---- */

/* I1. */
static void check_leader(struct group *group, struct replica *replica, uint64_t term)
{
    while (term >= group->leader_capacity) {
        uint64_t capacity = group->leader_capacity == 0 ? CAPACITY_MIN : group->leader_capacity * 2;
        group->leaders = mem_resize(group->leaders, capacity * sizeof *group->leaders);
        for (uint64_t i = group->leader_capacity; i < capacity; i++)
            group->leaders[i] = 0;
        group->leader_capacity = capacity;
    }
    if (group->leaders[term] != 0 && group->leaders[term] != replica->id)
        group_violation(group, "I1 term %" PRIu64 " has leaders %" PRIu64 " and %" PRIu64, term,
                        group->leaders[term], replica->id);
    if (group->leaders[term] == replica->id)
        return;
    group->leaders[term] = replica->id;
    /* I6, leader completeness. */
    for (uint64_t i = 1; i <= group->committed_count; i++) {
        uint64_t own = 0;
        enum err err = raft_term_get(replica->raft, i, &own);
        if (err == ERR_COMPACTED)
            continue;
        if (err != OK || own != group->committed_terms[i - 1])
            group_violation(group, "I6 leader %" PRIu64 " of term %" PRIu64 " lacks index %" PRIu64,
                            replica->id, term, i);
    }
}

static uint32_t majority_of(const struct group *group, const uint64_t *ids, uint32_t count,
                            uint64_t index, uint64_t term)
{
    uint32_t holders = 0;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < group->replica_count; j++)
            if (group->replicas[j].id == ids[i])
                holders += disk_holds(&group->replicas[j].disk, index, term);
    return count == 0 || holders > count / 2;
}

/* I4: what a leader says is committed is on the disks of a quorum, and on its own if it counts
 * itself. */
static void check_commit(struct group *group, const struct replica *replica)
{
    struct raft_status status;
    raft_status_get(replica->raft, &status);
    uint64_t term = 0;
    if (status.role != RAFT_LEADER ||
        raft_term_get(replica->raft, status.commit_index, &term) != OK)
        return;
    if (status.commit_index <= group->commit_checked)
        return;
    group->commit_checked = status.commit_index;
    const struct raft_membership *m = raft_membership_get(replica->raft, NULL);
    if (!majority_of(group, m->voters, m->voter_count, status.commit_index, term) ||
        !majority_of(group, m->old_voters, m->old_voter_count, status.commit_index, term))
        group_violation(group, "I4 leader %" PRIu64 " commits %" PRIu64 " without a quorum",
                        replica->id, status.commit_index);
}

static bool same_ids(const uint64_t *a, uint32_t a_count, const uint64_t *b, uint32_t b_count)
{
    if (a_count != b_count)
        return false;
    for (uint32_t i = 0; i < a_count; i++) {
        bool found = false;
        for (uint32_t j = 0; j < b_count; j++)
            found = found || a[i] == b[j];
        if (!found)
            return false;
    }
    return true;
}

/* I8: voters change only old -> joint(old, new) -> new. */
static void check_change(const struct group *group, const struct raft_membership *from,
                         const struct raft_membership *to)
{
    bool same = same_ids(from->voters, from->voter_count, to->voters, to->voter_count);
    bool legal = false;
    if (from->old_voter_count > 0)
        legal = same && to->old_voter_count == 0;
    else if (to->old_voter_count > 0)
        legal = same_ids(from->voters, from->voter_count, to->old_voters, to->old_voter_count);
    else
        legal = same;
    if (!legal)
        group_violation(group, "I8 illegal membership change");
}

/* Check the memberships along the log that the replica has in memory or on disk. */
static void check_appended_membership(struct group *group, struct replica *replica, uint64_t index,
                                      struct slice payload)
{
    struct raft_membership next;
    if (raft_membership_decode(payload, &next) != OK)
        group_violation(group, "malformed membership at %" PRIu64, index);
    struct raft_membership before = replica->disk.base.membership;
    for (uint64_t i = replica->disk.compacted_index + 1; i < index; i++) {
        struct raft_entry entry;
        struct slice bytes = {0};
        if (raft_entry_get(replica->raft, i, &entry) == OK) {
            bytes = entry.type == RAFT_MEMBERSHIP ? entry.payload : bytes;
        } else if (i <= disk_last(&replica->disk)) {
            const struct stored_entry *stored = disk_entry(&replica->disk, i);
            if (stored->type == RAFT_MEMBERSHIP)
                bytes = slice_of(stored->data, stored->bytes);
        }
        if (bytes.bytes > 0 && raft_membership_decode(bytes, &before) != OK)
            group_violation(group, "malformed membership at %" PRIu64, i);
    }
    check_change(group, &before, &next);
}

/* Nothing leaves before what it claims is durable; one vote a term over all lives (I2). */
static void check_packet(const struct group *group, struct replica *replica,
                         const struct raft_message *message)
{
    const struct disk *disk = &replica->disk;
    bool future =
        message->type == RAFT_PREVOTE || (message->type == RAFT_PREVOTE_REPLY && !message->reject);
    if (!future && message->term > disk->hard_state.term)
        group_violation(group,
                        "B18 replica %" PRIu64 " sends %s of term %" PRIu64 " before it is durable",
                        replica->id, message_type_text(message->type), message->term);
    /* An acknowledgement of an earlier term was true when it was made; what it names may be gone
     * now. */
    if (message->type == RAFT_APPEND_REPLY && !message->reject &&
        message->term == disk->hard_state.term && message->index > disk_last(disk))
        group_violation(group,
                        "B18 replica %" PRIu64 " acknowledges %" PRIu64 " before it is durable",
                        replica->id, message->index);
    uint64_t candidate = 0;
    if (message->type == RAFT_VOTE)
        candidate = replica->id;
    if (message->type == RAFT_VOTE_REPLY && !message->reject)
        candidate = message->to;
    if (candidate == 0)
        return;
    for (uint32_t i = 0; i < replica->vote_count; i++)
        if (replica->votes[i].term == message->term && replica->votes[i].candidate != candidate)
            group_violation(group, "I2 replica %" PRIu64 " voted twice in term %" PRIu64,
                            replica->id, message->term);
    if (replica->vote_count == replica->vote_capacity) {
        replica->vote_capacity = replica->vote_capacity == 0 ? 16 : replica->vote_capacity * 2;
        replica->votes =
            mem_resize(replica->votes, replica->vote_capacity * sizeof *replica->votes);
    }
    replica->votes[replica->vote_count++] =
        (struct vote_seen){.term = message->term, .candidate = candidate};
}

/* I6: every replica commits the same entry at the same place. */
static void check_committed(struct group *group, const struct replica *replica, uint64_t index,
                            uint64_t term, uint64_t hash, bool command)
{
    if (index <= group->committed_count) {
        if (group->committed_terms[index - 1] != term || group->committed_hashes[index - 1] != hash)
            group_violation(group, "I6 replica %" PRIu64 " commits another entry at %" PRIu64,
                            replica->id, index);
        return;
    }
    if (index != group->committed_count + 1)
        group_violation(group, "I9 replica %" PRIu64 " commits %" PRIu64 " after %" PRIu64,
                        replica->id, index, group->committed_count);
    if (group->committed_count == group->committed_capacity) {
        group->committed_capacity =
            group->committed_capacity == 0 ? CAPACITY_MIN : group->committed_capacity * 2;
        size_t bytes = group->committed_capacity * sizeof(uint64_t);
        group->committed_terms = mem_resize(group->committed_terms, bytes);
        group->committed_hashes = mem_resize(group->committed_hashes, bytes);
        group->committed_counters = mem_resize(group->committed_counters, bytes);
    }
    group->committed_terms[index - 1] = term;
    group->committed_hashes[index - 1] = hash;
    group->committed_counters[index - 1] =
        (index == 1 ? 0 : group->committed_counters[index - 2]) + command;
    group->committed_count = index;
}

/* ---- acting on outputs ---- */

static void print_message(struct group *group, const char *what, const struct raft_message *m)
{
    if (group->trace == NULL)
        return;
    AUTO_VALUE(bytes) line = {.max = 4096};
    bytes_append_format(&line, "  %s %s %" PRIu64 "->%" PRIu64 " term=%" PRIu64, what,
                        message_type_text(m->type), m->from, m->to, m->term);
    switch (m->type) {
    case RAFT_PREVOTE:
    case RAFT_VOTE:
        bytes_append_format(&line, " last=%" PRIu64 "/%" PRIu64 "%s", m->index, m->log_term,
                            m->transfer ? " transfer" : "");
        break;
    case RAFT_PREVOTE_REPLY:
    case RAFT_VOTE_REPLY:
        bytes_append_text(&line, m->reject ? " refused" : " granted");
        break;
    case RAFT_APPEND:
        bytes_append_format(&line, " after=%" PRIu64 "/%" PRIu64 " commit=%" PRIu64 " entries=[",
                            m->index, m->log_term, m->commit);
        for (uint32_t i = 0; i < m->entry_count; i++)
            bytes_append_format(&line, "%s%" PRIu64 "/%" PRIu64, i == 0 ? "" : " ",
                                m->index + 1 + i, m->entries[i].term);
        bytes_append_text(&line, "]");
        break;
    case RAFT_APPEND_REPLY:
        if (m->reject)
            bytes_append_format(&line, " refused=%" PRIu64 " hint=%" PRIu64 "/%" PRIu64, m->index,
                                m->hint_index, m->hint_term);
        else
            bytes_append_format(&line, " match=%" PRIu64, m->index);
        break;
    case RAFT_HEARTBEAT:
    case RAFT_HEARTBEAT_REPLY:
        bytes_append_format(&line, " commit=%" PRIu64 " round=%" PRIu64, m->commit, m->round);
        break;
    case RAFT_TIMEOUT_NOW:
        break;
    }
    if (m->repair)
        bytes_append_text(&line, " repair");
    if (m->wait_sequence != 0)
        bytes_append_format(&line, " wait=%" PRIu64, m->wait_sequence);
    group_print(group, "%.*s\n", (int)line.bytes, (const char *)line.data);
}

static void release_packet(struct group *group, struct replica *replica, struct packet packet)
{
    struct raft_message message;
    enum err err =
        raft_message_decode(slice_of(packet.data, packet.bytes), &group->decode_storage, &message);
    if (err != OK)
        group_violation(group, "own message does not decode err=%s", err_text(err));
    check_packet(group, replica, &message);
    packets_push(&group->network, packet);
}

static void release_held(struct group *group, struct replica *replica)
{
    uint32_t i = 0;
    while (i < replica->held.count) {
        if (replica->held.items[i].wait_sequence > replica->sequence_durable)
            i++;
        else
            release_packet(group, replica, packets_remove(&replica->held, i));
    }
}

static void act_messages(struct group *group, struct replica *replica,
                         const struct raft_output *output)
{
    for (uint32_t i = 0; i < output->message_count; i++) {
        const struct raft_message *message = &output->messages[i];
        print_message(group, "send", message);
        struct bytes encoded = {.max = RAFT_MESSAGE_ENCODED_MAX};
        raft_message_encode(&encoded, message);
        assert(!encoded.overflow);
        packets_push(&replica->held, (struct packet){.type = message->type,
                                                     .from = message->from,
                                                     .to = message->to,
                                                     .wait_sequence = message->wait_sequence,
                                                     .data = encoded.data,
                                                     .bytes = encoded.bytes});
    }
}

static struct stored_entry store_copy(const struct raft_entry *entry)
{
    return (struct stored_entry){
        .term = entry->term,
        .type = entry->type,
        .data =
            entry->payload.bytes == 0 ? NULL : mem_copy(entry->payload.data, entry->payload.bytes),
        .bytes = entry->payload.bytes,
    };
}

static void act_write(struct group *group, struct replica *replica,
                      const struct raft_output *output)
{
    if (output->token.sequence == 0)
        return;
    if (replica->write_count == GROUP_PENDING_MAX)
        group_violation(group, "replica %" PRIu64 " has too many writes", replica->id);
    struct pending_write write = {
        .token = output->token,
        .hard_state_changed = output->hard_state_changed,
        .hard_state = output->hard_state,
        .truncate_from = output->truncate_from,
        .first = output->append_first,
        .count = output->append_count,
        .entries = mem_alloc_array(output->append_count + 1, sizeof(struct stored_entry)),
    };
    group_print(group, "  %" PRIu64 " write seq=%" PRIu64 " gen=%" PRIu64, replica->id,
                output->token.sequence, output->token.generation);
    if (output->hard_state_changed)
        group_print(group, " term=%" PRIu64 " vote=%" PRIu64, output->hard_state.term,
                    output->hard_state.vote);
    if (output->truncate_from != 0)
        group_print(group, " truncate=%" PRIu64, output->truncate_from);
    if (output->append_count > 0)
        group_print(group, " append=%" PRIu64 "..%" PRIu64, output->append_first,
                    output->append_first + output->append_count - 1);
    group_print(group, "\n");
    for (uint64_t i = 0; i < output->append_count; i++) {
        struct raft_entry entry;
        enum err err = raft_entry_get(replica->raft, output->append_first + i, &entry);
        if (err != OK)
            group_violation(group, "entry to append is not in memory: %s", err_text(err));
        write.entries[i] = store_copy(&entry);
        if (entry.type == RAFT_MEMBERSHIP)
            check_appended_membership(group, replica, output->append_first + i, entry.payload);
    }
    replica->writes[replica->write_count++] = write;
}

static void act_committed(struct group *group, struct replica *replica,
                          const struct raft_output *output)
{
    if (output->committed_last < output->committed_first)
        return;
    if (output->committed_first != replica->apply_last + 1)
        group_violation(group, "I9 replica %" PRIu64 " is given %" PRIu64 " after %" PRIu64,
                        replica->id, output->committed_first, replica->apply_last);
    group_print(group, "  %" PRIu64 " committed %" PRIu64 "..%" PRIu64 "\n", replica->id,
                output->committed_first, output->committed_last);
    replica->apply_last = output->committed_last;
}

static void act_loads(struct group *group, struct replica *replica,
                      const struct raft_output *output)
{
    struct raft_load loads[RAFT_PEERS_MAX];
    uint32_t count = output->load_count;
    memcpy(loads, output->loads, count * sizeof loads[0]);
    for (uint32_t i = 0; i < count; i++) {
        group_print(group, "  %" PRIu64 " load peer=%" PRIu64 " %" PRIu64 "..%" PRIu64 "\n",
                    replica->id, loads[i].peer, loads[i].first_index, loads[i].last_index);
        if (group->manual_load)
            continue;
        struct raft_entry *entries = mem_alloc_array(RAFT_MESSAGE_ENTRIES_MAX, sizeof *entries);
        uint32_t entry_count = 0;
        for (uint64_t at = loads[i].first_index;
             at > replica->disk.compacted_index && at <= loads[i].last_index &&
             at <= disk_last(&replica->disk);
             at++) {
            const struct stored_entry *stored = disk_entry(&replica->disk, at);
            entries[entry_count++] =
                (struct raft_entry){.term = stored->term,
                                    .type = stored->type,
                                    .payload = slice_of(stored->data, stored->bytes)};
        }
        raft_entries_loaded(replica->raft, loads[i].peer, loads[i].first_index, entries,
                            entry_count);
        mem_free(entries);
    }
}

static void act_news(struct group *group, struct replica *replica, const struct raft_output *output)
{
    if (output->role_changed) {
        group_print(group, "  %" PRIu64 " role %s term=%" PRIu64 " leader=%" PRIu64 "\n",
                    replica->id, role_text(output->role), output->term, output->leader);
        if (output->role == RAFT_LEADER)
            check_leader(group, replica, output->term);
    }
    if (output->membership_changed && group->trace != NULL) {
        uint64_t index = 0;
        const struct raft_membership *membership = raft_membership_get(replica->raft, &index);
        group_print(group, "  %" PRIu64 " membership index=%" PRIu64, replica->id, index);
        print_membership(group->trace, membership);
        group_print(group, "\n");
    }
    if (output->grant.ticket_last != 0) {
        group_print(group, "  %" PRIu64 " granted reads<=%" PRIu64 " index=%" PRIu64 "\n",
                    replica->id, output->grant.ticket_last, output->grant.index);
        replica->grant = output->grant;
    }
    if (output->reads_failed_last != 0) {
        group_print(group, "  %" PRIu64 " failed reads<=%" PRIu64 "\n", replica->id,
                    output->reads_failed_last);
        replica->reads_failed_last = output->reads_failed_last;
    }
    for (uint32_t i = 0; i < output->snapshot_count; i++) {
        group_print(group, "  %" PRIu64 " snapshot wanted by %" PRIu64 "\n", replica->id,
                    output->snapshots[i]);
        struct replica *peer = group_find(group, output->snapshots[i]);
        if (peer != NULL)
            replica->snapshot_wanted[peer - group->replicas] = true;
    }
    for (uint32_t i = 0; i < output->repair_count; i++)
        group_print(group, "  %" PRIu64 " repair %" PRIu64 "/%" PRIu64 " %.*s\n", replica->id,
                    output->repair_first + i, output->repairs[i].term,
                    SLICE_PRINT(output->repairs[i].payload));
}

void group_drain(struct group *group, struct replica *replica)
{
    while (replica->raft != NULL && raft_has_output(replica->raft)) {
        struct raft_output output;
        raft_take_output(replica->raft, &output);
        act_write(group, replica, &output);
        act_messages(group, replica, &output);
        act_news(group, replica, &output);
        check_commit(group, replica);
        act_committed(group, replica, &output);
        release_held(group, replica);
        act_loads(group, replica, &output);
        if (!group->manual_apply)
            group_apply(group, replica);
    }
}

/* ---- events ---- */

static void answer(struct group *group, struct replica *replica, const struct raft_token *token)
{
    group_print(group, "  %" PRIu64 " durable seq=%" PRIu64 "\n", replica->id, token->sequence);
    if (token->sequence > replica->sequence_durable)
        replica->sequence_durable = token->sequence;
    raft_persisted(replica->raft, token);
    release_held(group, replica);
    group_drain(group, replica);
}

bool group_persist(struct group *group, struct replica *replica, bool answered)
{
    if (replica->write_count == 0)
        return false;
    struct pending_write write = replica->writes[0];
    replica->write_count--;
    memmove(&replica->writes[0], &replica->writes[1],
            replica->write_count * sizeof replica->writes[0]);
    disk_write(group, replica, &write);
    if (answered)
        answer(group, replica, &write.token);
    else
        replica->late = write.token;
    return true;
}

void group_answer_late(struct group *group, struct replica *replica)
{
    if (replica->raft != NULL && replica->late.sequence != 0)
        answer(group, replica, &replica->late);
    replica->late = (struct raft_token){0};
}

static void apply_entry(struct store *store, const struct stored_entry *entry)
{
    uint64_t words[3] = {store->hash, entry->term, hash64_of(slice_of(entry->data, entry->bytes))};
    store->hash = hash64_of(slice_of(words, sizeof words));
    store->applied++;
    if (entry->type == RAFT_COMMAND)
        store->counter++;
    if (entry->type == RAFT_MEMBERSHIP &&
        raft_membership_decode(slice_of(entry->data, entry->bytes), &store->membership) != OK)
        abort();
}

void group_apply(struct group *group, struct replica *replica)
{
    for (uint64_t i = replica->store.applied + 1; i <= replica->apply_last; i++) {
        struct raft_entry entry;
        enum err err = raft_entry_get(replica->raft, i, &entry);
        struct stored_entry stored;
        if (err == OK)
            stored = (struct stored_entry){.term = entry.term,
                                           .type = entry.type,
                                           .data = (uint8_t *)(uintptr_t)entry.payload.data,
                                           .bytes = entry.payload.bytes};
        else if (err == ERR_WOULD_BLOCK && i <= disk_last(&replica->disk))
            stored = *disk_entry(&replica->disk, i);
        else
            group_violation(group, "replica %" PRIu64 " cannot apply %" PRIu64 ": %s", replica->id,
                            i, err_text(err));
        check_committed(group, replica, i, stored.term,
                        hash64_of(slice_of(stored.data, stored.bytes)),
                        stored.type == RAFT_COMMAND);
        apply_entry(&replica->store, &stored);
    }
    raft_applied(replica->raft, replica->store.applied);
}

void group_deliver(struct group *group, uint32_t position)
{
    struct packet packet = packets_remove(&group->network, position);
    struct replica *to = group_find(group, packet.to);
    if (to != NULL && to->raft != NULL) {
        struct raft_message message;
        enum err err = raft_message_decode(slice_of(packet.data, packet.bytes),
                                           &group->decode_storage, &message);
        if (err == OK) {
            print_message(group, "recv", &message);
            err = raft_receive(to->raft, &message);
        }
        if (err != OK && err != ERR_BUSY)
            group_violation(group, "replica %" PRIu64 " refuses a message: %s", to->id,
                            err_text(err));
        group_drain(group, to);
    }
    mem_free(packet.data);
}

enum err group_inject(struct group *group, const struct raft_message *message)
{
    struct raft_message copy = *message;
    copy.group = GROUP_ID;
    print_message(group, "recv", &copy);
    struct replica *to = group_find(group, message->to);
    enum err err = raft_receive(to->raft, &copy);
    group_drain(group, to);
    return err;
}

void group_drop(struct group *group, uint32_t position)
{
    struct packet packet = packets_remove(&group->network, position);
    mem_free(packet.data);
}

void group_duplicate(struct group *group, uint32_t position)
{
    struct packet packet = group->network.items[position];
    packet.data = mem_copy(packet.data, packet.bytes);
    packets_push(&group->network, packet);
}

void group_crash(struct group *group, struct replica *replica, uint32_t survivors)
{
    if (replica->raft == NULL)
        return;
    raft_free(replica->raft);
    replica->raft = NULL;
    for (uint32_t i = 0; i < replica->write_count; i++) {
        if (i < survivors)
            disk_write(group, replica, &replica->writes[i]);
        else
            write_discard(&replica->writes[i]);
    }
    replica->write_count = 0;
    packets_clear(&replica->held);
}

static uint32_t disk_terms(const struct disk *disk, struct raft_term_run **out_runs)
{
    struct raft_term_run *runs = mem_alloc_array(disk->entry_count + 1, sizeof *runs);
    uint32_t count = 0;
    for (uint64_t i = 0; i < disk->entry_count; i++)
        if (count == 0 || runs[count - 1].term != disk->entries[i].term)
            runs[count++] = (struct raft_term_run){.first_index = disk->compacted_index + 1 + i,
                                                   .term = disk->entries[i].term};
    *out_runs = runs;
    return count;
}

static uint32_t disk_memberships(const struct disk *disk, struct raft_membership_at **out)
{
    struct raft_membership_at *list = mem_alloc_array(disk->entry_count + 1, sizeof *list);
    uint32_t count = 0;
    list[count++] = disk->base;
    for (uint64_t i = 0; i < disk->entry_count; i++) {
        const struct stored_entry *entry = &disk->entries[i];
        if (entry->type != RAFT_MEMBERSHIP)
            continue;
        list[count].index = disk->compacted_index + 1 + i;
        if (raft_membership_decode(slice_of(entry->data, entry->bytes), &list[count].membership) !=
            OK)
            abort();
        count++;
    }
    *out = list;
    return count;
}

void group_restart(struct group *group, struct replica *replica)
{
    if (replica->raft != NULL)
        return;
    const struct disk *disk = &replica->disk;
    struct raft_term_run *runs = NULL;
    struct raft_membership_at *memberships = NULL;
    struct raft_config config = {
        .replica = replica->id,
        .group = GROUP_ID,
        .hard_state = disk->hard_state,
        .log = {.compacted_index = disk->compacted_index,
                .compacted_term = disk->compacted_term,
                .last_index = disk_last(disk),
                .run_count = disk_terms(disk, &runs)},
        .membership_count = disk_memberships(disk, &memberships),
        .applied_index = disk->store.applied,
        .seed = group->seed + replica->restarts++,
        .cache_bytes_max = 400, /* small, so that loads from disk happen */
    };
    config.log.runs = runs;
    config.memberships = memberships;
    enum err err = raft_new(&config, &replica->raft);
    if (err != OK)
        group_violation(group, "replica %" PRIu64 " cannot start: %s", replica->id, err_text(err));
    mem_free(runs);
    mem_free(memberships);
    replica->store = disk->store;
    replica->apply_last = disk->store.applied;
    replica->sequence_durable = 0;
    replica->late = (struct raft_token){0};
    replica->grant = (struct raft_read_grant){0};
    replica->reads_failed_last = 0;
    memset(replica->snapshot_wanted, 0, sizeof replica->snapshot_wanted);
    group_drain(group, replica);
}

void group_flush_store(struct replica *replica)
{
    if (replica->raft != NULL)
        replica->disk.store = replica->store;
}

void group_compact(struct group *group, struct replica *replica, uint64_t index)
{
    (void)group;
    assert(index <= replica->disk.store.applied);
    if (replica->raft == NULL || index <= replica->disk.compacted_index)
        return;
    disk_cut(&replica->disk, index);
    raft_compacted(replica->raft, index);
}

void group_install(struct group *group, struct replica *to, const struct store *snapshot,
                   uint64_t term)
{
    if (to->raft == NULL)
        return;
    while (group_persist(group, to, true))
        continue;
    struct raft_status status;
    raft_status_get(to->raft, &status);
    uint64_t index = snapshot->applied;
    if (status.role == RAFT_LEADER || index <= status.commit_index)
        return;
    struct disk *disk = &to->disk;
    bool keeps = index <= disk_last(disk) && disk_holds(disk, index, term);
    if (keeps) {
        disk_cut(disk, index);
    } else {
        disk_truncate(disk, disk->compacted_index + 1);
        disk->compacted_index = index;
        disk->compacted_term = term;
    }
    disk->base = (struct raft_membership_at){.index = index, .membership = snapshot->membership};
    disk->store = to->store = *snapshot;
    to->apply_last = index;
    enum err err = raft_snapshot_installed(to->raft, index, term, &snapshot->membership);
    if (err != OK)
        group_violation(group, "snapshot refused: %s", err_text(err));
    group_drain(group, to);
}

/* ---- life ---- */

struct replica *group_find(struct group *group, uint64_t id)
{
    for (uint32_t i = 0; i < group->replica_count; i++)
        if (group->replicas[i].id == id)
            return &group->replicas[i];
    return NULL;
}

struct replica *group_add(struct group *group, uint64_t id,
                          const struct raft_membership *membership)
{
    assert(group->replica_count < GROUP_REPLICAS_MAX);
    struct replica *replica = &group->replicas[group->replica_count++];
    *replica = (struct replica){.id = id};
    replica->disk.base.membership = *membership;
    replica->disk.store.membership = *membership;
    group_restart(group, replica);
    return replica;
}

void group_init(struct group *group, const struct raft_membership *membership, uint64_t seed)
{
    *group = (struct group){.seed = seed, .trace = group->trace};
    for (uint32_t i = 0; i < membership->voter_count; i++)
        group_add(group, membership->voters[i], membership);
    for (uint32_t i = 0; i < membership->learner_count; i++)
        group_add(group, membership->learners[i], membership);
}

void group_deinit(struct group *group)
{
    for (uint32_t i = 0; i < group->replica_count; i++) {
        struct replica *replica = &group->replicas[i];
        group_crash(group, replica, 0);
        disk_truncate(&replica->disk, 0);
        mem_free(replica->disk.entries);
        mem_free(replica->held.items);
        mem_free(replica->votes);
    }
    packets_clear(&group->network);
    mem_free(group->network.items);
    mem_free(group->leaders);
    mem_free(group->committed_terms);
    mem_free(group->committed_hashes);
    mem_free(group->committed_counters);
    raft_entries_deinit(&group->decode_storage);
}
