/* Groups of 1, 3 and 5 replicas under random faults: messages lost, late, twice, out of order, one
 * type held back; partitions; crashes that lose unsynced writes; snapshots; transfers; membership
 * changes; clients whose answers are lost. Checked: what group.h names, I7 on a counter, L1 and L2
 * after the faults.
 *
 * The same seed gives the same run. RAFT_SEED_FIRST and RAFT_SEED_COUNT, or two arguments, choose
 * seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "group.h"
#include <cmocka.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    STEPS = 16000,
    CLIENT_OPERATIONS_MAX = 256,
    NETWORK_MAX = 600,
    ELECTION_TICKS_MAX = 10 * 2 * RAFT_ELECTION_TICKS,
    CATCH_UP_TICKS_MAX = 2000,
    SPARE_IDS = 3,
};

static uint64_t current_seed;

struct operation {
    bool used;
    bool is_read;
    struct replica *replica;
    uint32_t life;
    uint64_t floor; /* acknowledged before this began */
    uint64_t index; /* read: granted, 0 not yet */
    uint64_t term;
    uint64_t ticket;
};

struct delayed_snapshot {
    bool used;
    struct store store;
    uint64_t term;
    uint64_t to;
};

struct run {
    struct group *group;
    uint64_t random;
    uint64_t acknowledged; /* highest counter any client saw */
    uint64_t proposals;
    uint64_t reads; /* answered */
    struct operation operations[CLIENT_OPERATIONS_MAX];
    struct delayed_snapshot delayed;
    bool cut[GROUP_REPLICAS_MAX][GROUP_REPLICAS_MAX];
    int held_type;      /* 0: none; messages of this type wait */
    uint64_t held_from; /* 0: of every sender */
    uint64_t slow;      /* this replica's clock nearly stands still; 0: none */
    uint32_t lose_percent;
    uint32_t duplicate_percent;
    uint32_t reorder_percent;
    bool memberships_change;
    struct raft_membership first;
};

static uint64_t draw(struct run *run)
{
    uint64_t value = run->random += 0x9e3779b97f4a7c15;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

static uint32_t draw_below(struct run *run, uint32_t bound)
{
    return (uint32_t)(draw(run) % bound);
}

static bool chance(struct run *run, uint32_t percent)
{
    return draw_below(run, 100) < percent;
}

static struct replica *any_replica(struct run *run)
{
    return &run->group->replicas[draw_below(run, run->group->replica_count)];
}

static bool is_leader(const struct replica *replica)
{
    struct raft_status status;
    if (replica->raft == NULL)
        return false;
    raft_status_get(replica->raft, &status);
    return status.role == RAFT_LEADER;
}

/* ---- clients ---- */

static struct operation *free_operation(struct run *run)
{
    for (uint32_t i = 0; i < CLIENT_OPERATIONS_MAX; i++)
        if (!run->operations[i].used)
            return &run->operations[i];
    return NULL;
}

static void propose(struct run *run, struct replica *replica)
{
    struct operation *operation = free_operation(run);
    if (operation == NULL || replica->raft == NULL)
        return;
    uint64_t payload[2] = {++run->proposals, run->group->seed};
    struct slice slices[2] = {slice_of(&payload[0], 8), slice_of(&payload[1], 8)};
    struct operation next = {
        .used = true, .replica = replica, .life = replica->restarts, .floor = run->acknowledged};
    if (raft_propose(replica->raft, slices, 2, &next.index, &next.term) != OK)
        return;
    *operation = next;
    if (chance(run, 10))
        operation->used = false; /* the answer is lost */
    group_drain(run->group, replica);
}

static void start_read(struct run *run, struct replica *replica)
{
    struct operation *operation = free_operation(run);
    if (operation == NULL || replica->raft == NULL)
        return;
    struct raft_read_ticket ticket;
    if (raft_read(replica->raft, &ticket) != OK)
        return;
    *operation = (struct operation){.used = true,
                                    .is_read = true,
                                    .replica = replica,
                                    .life = replica->restarts,
                                    .floor = run->acknowledged,
                                    .index = ticket.index,
                                    .ticket = ticket.number};
    group_drain(run->group, replica);
}

static void finish_read(struct run *run, struct operation *operation)
{
    const struct replica *replica = operation->replica;
    if (operation->index == 0 && replica->grant.ticket_last >= operation->ticket)
        operation->index = replica->grant.index;
    if (operation->index == 0 && replica->reads_failed_last >= operation->ticket)
        operation->used = false;
    if (!operation->used || operation->index == 0 || replica->store.applied < operation->index)
        return;
    operation->used = false;
    run->reads++;
    /* I7: a counter that only grows is linearizable when no read is below what was seen before it
     * began. */
    if (replica->store.counter < operation->floor)
        group_violation(run->group, "I7 replica %" PRIu64 " reads %" PRIu64 " after %" PRIu64,
                        replica->id, replica->store.counter, operation->floor);
    if (replica->store.counter > run->acknowledged)
        run->acknowledged = replica->store.counter;
}

static void finish_write(struct run *run, struct operation *operation)
{
    const struct replica *replica = operation->replica;
    const struct group *group = run->group;
    if (replica->store.applied < operation->index)
        return;
    operation->used = false;
    if (group->committed_terms[operation->index - 1] != operation->term)
        return; /* another entry took its place */
    uint64_t counter = group->committed_counters[operation->index - 1];
    if (counter <= operation->floor)
        group_violation(group, "I7 write counted %" PRIu64 " after %" PRIu64, counter,
                        operation->floor);
    if (counter > run->acknowledged)
        run->acknowledged = counter;
}

static void finish_operations(struct run *run)
{
    for (uint32_t i = 0; i < CLIENT_OPERATIONS_MAX; i++) {
        struct operation *operation = &run->operations[i];
        if (!operation->used)
            continue;
        if (operation->replica->raft == NULL || operation->replica->restarts != operation->life)
            operation->used = false;
        else if (operation->is_read)
            finish_read(run, operation);
        else
            finish_write(run, operation);
    }
}

/* ---- the world ---- */

static uint32_t position_of(const struct group *group, uint64_t id)
{
    for (uint32_t i = 0; i < group->replica_count; i++)
        if (group->replicas[i].id == id)
            return i;
    return 0;
}

static bool is_held(const struct run *run, const struct packet *packet)
{
    return (int)packet->type == run->held_type &&
           (run->held_from == 0 || run->held_from == packet->from);
}

static void move_packet(struct run *run)
{
    struct group *group = run->group;
    if (group->network.count == 0)
        return;
    uint32_t position =
        chance(run, run->reorder_percent) ? draw_below(run, group->network.count) : 0;
    struct packet *packet = &group->network.items[position];
    while (is_held(run, packet)) {
        if (++position >= group->network.count)
            return;
        packet = &group->network.items[position];
    }
    uint32_t from = position_of(group, packet->from);
    uint32_t to = position_of(group, packet->to);
    if (run->cut[from][to] || chance(run, run->lose_percent)) {
        group_drop(group, position);
        return;
    }
    if (chance(run, run->duplicate_percent))
        group_duplicate(group, position);
    group_deliver(group, position);
}

static void shed_packets(struct run *run)
{
    while (run->group->network.count > NETWORK_MAX)
        group_drop(run->group, draw_below(run, run->group->network.count));
}

static void cut_network(struct run *run)
{
    memset(run->cut, 0, sizeof run->cut);
    if (chance(run, 40))
        return;
    uint64_t side = draw(run);
    bool one_way = chance(run, 25);
    for (uint32_t i = 0; i < GROUP_REPLICAS_MAX; i++)
        for (uint32_t j = 0; j < GROUP_REPLICAS_MAX; j++)
            run->cut[i][j] = (side >> i & 1) != (side >> j & 1) && (!one_way || (side >> i & 1));
}

static void crash_one(struct run *run)
{
    struct replica *replica = any_replica(run);
    group_crash(run->group, replica, draw_below(run, replica->write_count + 1));
}

static void restart_all(struct run *run)
{
    for (uint32_t i = 0; i < run->group->replica_count; i++)
        group_restart(run->group, &run->group->replicas[i]);
}

static void cut_log(struct run *run)
{
    struct replica *replica = any_replica(run);
    group_flush_store(replica);
    uint64_t applied = replica->disk.store.applied;
    if (replica->raft != NULL && applied > 0 && chance(run, 30)) {
        group_compact(run->group, replica, applied - draw_below(run, (uint32_t)(applied % 5) + 1));
        group_drain(run->group, replica);
    }
}

static void serve_snapshots(struct run *run)
{
    struct group *group = run->group;
    if (run->delayed.used && chance(run, 20)) {
        run->delayed.used = false;
        group_install(group, group_find(group, run->delayed.to), &run->delayed.store,
                      run->delayed.term);
    }
    struct replica *leader = any_replica(run);
    struct replica *follower = any_replica(run);
    bool *wanted = &leader->snapshot_wanted[follower - group->replicas];
    if (!is_leader(leader) || !*wanted)
        return;
    *wanted = false;
    uint64_t term = 0;
    struct store store = leader->store;
    bool whole = raft_term_get(leader->raft, store.applied, &term) == OK;
    if (!whole || follower->raft == NULL || chance(run, 20)) {
        raft_snapshot_failed(leader->raft, follower->id);
        group_drain(group, leader);
        return;
    }
    if (chance(run, 30))
        run->delayed = (struct delayed_snapshot){
            .used = true, .store = store, .term = term, .to = follower->id};
    group_install(group, follower, &store, term);
}

static bool remove_id(uint64_t *ids, uint32_t *count, uint64_t id)
{
    for (uint32_t i = 0; i < *count; i++) {
        if (ids[i] != id)
            continue;
        ids[i] = ids[--*count];
        ids[*count] = 0;
        return true;
    }
    return false;
}

static void change_membership(struct run *run)
{
    struct replica *leader = any_replica(run);
    if (!run->memberships_change || !is_leader(leader))
        return;
    struct raft_membership next = *raft_membership_get(leader->raft, NULL);
    if (next.old_voter_count > 0)
        return;
    for (uint32_t changes = 1 + draw_below(run, 2); changes > 0; changes--) {
        uint64_t id = any_replica(run)->id;
        if (remove_id(next.learners, &next.learner_count, id)) {
            if (chance(run, 80) && next.voter_count < 5)
                next.voters[next.voter_count++] = id;
        } else if (next.voter_count > 1 && remove_id(next.voters, &next.voter_count, id)) {
            if (chance(run, 50))
                next.learners[next.learner_count++] = id;
        } else if (!raft_membership_is_voter(&next, id)) {
            next.learners[next.learner_count++] = id;
        }
    }
    uint64_t index = 0;
    if (raft_change_membership(leader->raft, &next, &index) == OK)
        group_drain(run->group, leader);
    /* A second one at once must be refused or legal: I8 watches. */
    if (chance(run, 30) && raft_change_membership(leader->raft, &run->first, &index) == OK)
        group_drain(run->group, leader);
}

static void transfer(struct run *run)
{
    struct replica *leader = any_replica(run);
    if (leader->raft == NULL || raft_transfer_leader(leader->raft, any_replica(run)->id) != OK)
        return;
    group_drain(run->group, leader);
}

static void tick(struct run *run)
{
    for (uint32_t i = 0; i < run->group->replica_count; i++) {
        struct replica *replica = &run->group->replicas[i];
        if (replica->raft == NULL || chance(run, replica->id == run->slow ? 95 : 20))
            continue;
        raft_tick(replica->raft);
        group_drain(run->group, replica);
    }
}

/* What was held was on its way before any partition: it arrives across it. */
static void release_messages(struct run *run)
{
    struct group *group = run->group;
    uint32_t position = 0;
    for (uint32_t left = group->network.count; left > 0; left--) {
        if (is_held(run, &group->network.items[position]))
            group_deliver(group, position);
        else
            position++;
    }
    run->held_type = 0;
}

/* Narrow races need one kind of message to be late for long. */
static void hold_messages(struct run *run)
{
    release_messages(run);
    if (chance(run, 40))
        return;
    run->held_type =
        chance(run, 50) ? RAFT_HEARTBEAT_REPLY : (int)(1 + draw_below(run, RAFT_TIMEOUT_NOW));
    run->held_from = chance(run, 30) ? 0 : any_replica(run)->id;
}

/* A leader that is cut off, does not notice for long, and still gets what was on its way (B3). */
static void isolate_leader(struct run *run)
{
    struct replica *leader = any_replica(run);
    if (!is_leader(leader))
        return;
    memset(run->cut, 0, sizeof run->cut);
    uint32_t position = position_of(run->group, leader->id);
    for (uint32_t i = 0; i < GROUP_REPLICAS_MAX; i++)
        run->cut[i][position] = run->cut[position][i] = true;
    run->slow = leader->id;
    run->held_type = RAFT_HEARTBEAT_REPLY;
    run->held_from = any_replica(run)->id;
}

static void rare_event(struct run *run)
{
    switch (draw_below(run, 10)) {
    case 0:
        cut_network(run);
        break;
    case 1:
        crash_one(run);
        break;
    case 2:
        restart_all(run);
        break;
    case 3:
        hold_messages(run);
        break;
    case 4:
        change_membership(run);
        break;
    case 5:
        transfer(run);
        break;
    case 6:
        cut_log(run);
        break;
    case 7:
        run->slow = chance(run, 40) ? 0 : any_replica(run)->id;
        break;
    case 8:
        isolate_leader(run);
        break;
    default: /* the last face of the dice: the network heals */
        memset(run->cut, 0, sizeof run->cut);
        break;
    }
}

static void step(struct run *run)
{
    struct group *group = run->group;
    struct replica *replica = any_replica(run);
    uint32_t dice = draw_below(run, 1000);
    if (dice < 580) {
        move_packet(run);
    } else if (dice < 650) {
        tick(run);
    } else if (dice < 810) {
        if (chance(run, 10))
            group_answer_late(group, replica);
        (void)group_persist(group, replica, chance(run, 90));
    } else if (dice < 870) {
        if (replica->raft != NULL) {
            group_apply(group, replica);
            group_drain(group, replica);
        }
    } else if (dice < 925) {
        propose(run, replica);
    } else if (dice < 975) {
        start_read(run, replica);
    } else if (dice < 992) {
        serve_snapshots(run);
    } else {
        rare_event(run);
    }
    finish_operations(run);
    shed_packets(run);
}

/* ---- after the faults ---- */

static void calm_tick(struct run *run)
{
    struct group *group = run->group;
    for (uint32_t i = 0; i < group->replica_count; i++) {
        struct replica *replica = &group->replicas[i];
        if (replica->raft == NULL)
            continue;
        raft_tick(replica->raft);
        group_drain(group, replica);
    }
    for (uint32_t left = group->network.count + 2000; left > 0 && group->network.count > 0; left--)
        group_deliver(group, 0);
    for (uint32_t i = 0; i < group->replica_count; i++) {
        struct replica *replica = &group->replicas[i];
        if (replica->raft == NULL)
            continue;
        while (group_persist(group, replica, true))
            continue;
        group_answer_late(group, replica);
        group_apply(group, replica);
        group_drain(group, replica);
    }
    serve_snapshots(run);
    finish_operations(run);
}

static struct replica *find_leader(struct group *group)
{
    struct replica *found = NULL;
    uint64_t term = 0;
    for (uint32_t i = 0; i < group->replica_count; i++) {
        struct raft_status status;
        if (!is_leader(&group->replicas[i]))
            continue;
        raft_status_get(group->replicas[i].raft, &status);
        if (status.term >= term)
            found = &group->replicas[i];
        term = status.term > term ? status.term : term;
    }
    return found;
}

static bool caught_up(struct group *group, const struct replica *leader)
{
    struct raft_status status;
    raft_status_get(leader->raft, &status);
    if (status.commit_index != status.last_index || leader->store.applied != status.last_index)
        return false;
    const struct raft_membership *membership = raft_membership_get(leader->raft, NULL);
    for (uint32_t i = 0; i < group->replica_count; i++) {
        const struct replica *replica = &group->replicas[i];
        if (replica->raft == NULL || !raft_membership_has(membership, replica->id))
            continue;
        if (replica->store.applied != leader->store.applied)
            return false;
        if (replica->store.hash != leader->store.hash)
            group_violation(group, "I10 replica %" PRIu64 " has another state", replica->id);
    }
    return true;
}

static void print_group(const struct group *group)
{
    for (uint32_t i = 0; i < group->replica_count; i++) {
        const struct replica *replica = &group->replicas[i];
        if (replica->raft == NULL)
            continue;
        struct raft_status s;
        raft_status_get(replica->raft, &s);
        fprintf(stderr,
                "%" PRIu64 " %s term=%" PRIu64 " leader=%" PRIu64 " log=%" PRIu64 "..%" PRIu64
                " durable=%" PRIu64 " commit=%" PRIu64 " applied=%" PRIu64 "\n",
                replica->id, role_text(s.role), s.term, s.leader, s.compacted_index, s.last_index,
                s.durable_index, s.commit_index, s.applied_index);
        for (uint32_t j = 0; j < group->replica_count; j++) {
            struct raft_progress_status p;
            if (raft_progress_get(replica->raft, group->replicas[j].id, &p) == OK)
                fprintf(stderr, "  of %" PRIu64 ": state=%d match=%" PRIu64 " next=%" PRIu64 "\n",
                        group->replicas[j].id, (int)p.state, p.match, p.next);
        }
    }
}

static void check_liveness(struct run *run)
{
    struct group *group = run->group;
    memset(run->cut, 0, sizeof run->cut);
    run->held_type = 0;
    run->slow = 0;
    /* A random core: one voter may stay away for ever where the others are a majority. */
    bool leave_one = !run->memberships_change && group->replica_count >= 3 && chance(run, 50);
    uint32_t away = draw_below(run, group->replica_count);
    for (uint32_t i = 0; i < group->replica_count; i++) {
        if (leave_one && i == away)
            group_crash(group, &group->replicas[i], 0);
        else
            group_restart(group, &group->replicas[i]);
    }
    uint32_t ticks = 0;
    for (; find_leader(group) == NULL; ticks++) {
        if (ticks == ELECTION_TICKS_MAX)
            group_violation(group, "L1 no leader");
        calm_tick(run);
    }
    for (ticks = 0;; ticks++) {
        struct replica *leader = find_leader(group);
        if (leader != NULL && caught_up(group, leader))
            return;
        if (ticks == CATCH_UP_TICKS_MAX) {
            print_group(group);
            group_violation(group, "L2 followers do not catch up");
        }
        calm_tick(run);
    }
}

static void run_seed(uint64_t seed)
{
    static const uint32_t sizes[] = {1, 3, 3, 5};
    current_seed = seed;
    struct group *group = mem_new(struct group);
    struct run *run = mem_new(struct run);
    struct bytes trace = {.max = 1 << 28};
    if (getenv("RAFT_SEED_TRACE") != NULL)
        group->trace = &trace; /* printed with a violation */
    run->group = group;
    run->random = seed * 0x2545f4914f6cdd1d;
    uint32_t size = sizes[seed % 4];
    for (uint32_t i = 0; i < size; i++)
        run->first.voters[run->first.voter_count++] = i + 1;
    group_init(group, &run->first, seed);
    group->manual_apply = true;
    run->memberships_change = chance(run, 40);
    run->lose_percent = chance(run, 50) ? draw_below(run, 20) : 0;
    run->duplicate_percent = chance(run, 50) ? draw_below(run, 15) : 0;
    run->reorder_percent = chance(run, 60) ? draw_below(run, 100) : 0;
    for (uint32_t i = 0; run->memberships_change && i < SPARE_IDS; i++)
        group_add(group, size + 1 + i, &run->first);
    for (uint32_t i = 0; i < STEPS; i++)
        step(run);
    check_liveness(run);
    if (getenv("RAFT_SEED_REPORT") != NULL)
        printf("seed=%" PRIu64 " replicas=%u committed=%" PRIu64 " proposals=%" PRIu64
               " acknowledged=%" PRIu64 " reads=%" PRIu64 "\n",
               seed, group->replica_count, group->committed_count, run->proposals,
               run->acknowledged, run->reads);
    group_deinit(group);
    mem_free(group);
    mem_free(run);
    bytes_deinit(&trace);
}

/* Assertions and sanitizers end in a signal: name the seed then too. */
static void print_seed(int signal_number)
{
    char line[64];
    int length = snprintf(line, sizeof line, "FAILED seed=%" PRIu64 "\n", current_seed);
    if (write(2, line, (size_t)length) < 0)
        _exit(2);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static uint64_t seed_first = 1;
static uint64_t seed_count = 350;

static void groups_keep_their_invariants_under_faults(void **state)
{
    (void)state;
    signal(SIGABRT, print_seed);
    for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++)
        run_seed(seed);
}

int main(int argument_count, char **arguments)
{
    const char *first = argument_count > 1 ? arguments[1] : getenv("RAFT_SEED_FIRST");
    const char *count = argument_count > 2 ? arguments[2] : getenv("RAFT_SEED_COUNT");
    seed_first = first == NULL ? seed_first : strtoull(first, NULL, 10);
    seed_count = count == NULL ? seed_count : strtoull(count, NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_keep_their_invariants_under_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
