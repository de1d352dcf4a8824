/* One look at a time: close what failed, open what came back, and then at most one step towards
 * the wanted replicas. Every step is a membership change that Raft makes safe, or a file operation
 * on a replica that is in no membership; so a crash between any two of them leaves a group that
 * the next look takes on from there. */
#include "group_reconcile.h"
#include "base/log.h"
#include "base/mem.h"
#include "group_copy.h"
#include "offline_log.h"
#include "server_core.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum {
    LAG_MAX = 100, /* entries a learner may lack when it becomes a voter */
    NAMES_BYTES_MAX = 1 << 20,
    LOG_RETAIN_SEGMENTS = 16, /* kept at most for members that lag or are away */
};

struct group_wanted group_wanted_of(uint32_t drives)
{
    if (drives == 2)
        return (struct group_wanted){.voters = 1, .learners = 1};
    return (struct group_wanted){
        .voters = drives < META_VOTERS_WANTED_MAX ? drives : META_VOTERS_WANTED_MAX};
}

void group_reconcile_wake(struct meta_group *group)
{
    if (group->reconciler == NULL)
        return;
    group->reconciler->settled = false;
    signal_wake_all(group->home, &group->reconciler->wake);
}

/* --- drives --- */

void group_drive_free(struct group_drive *drive)
{
    mem_free(drive->directory);
    mem_free(drive);
}

static void remove_drive(struct reconciler *r, uint32_t at)
{
    group_drive_free(r->drives[at]);
    for (r->drive_count--; at < r->drive_count; at++)
        r->drives[at] = r->drives[at + 1];
}

static struct group_drive *drive_of(const struct reconciler *r, uint64_t replica_id)
{
    for (uint32_t i = 0; i < r->drive_count; i++) {
        struct group_drive *drive = r->drives[i];
        if (drive->server != NULL && drive->server->options.replica_id == replica_id)
            return drive;
    }
    return NULL;
}

static bool given_up(struct io *io, const struct group_drive *drive)
{
    for (unsigned i = 0; i < RECONCILE_TRIES_MAX; i++)
        if (drive->tries_ns[i] == 0 || io_now_ns(io) - drive->tries_ns[i] >= RECONCILE_TRIES_NS)
            return false;
    return true;
}

static void note_try(struct io *io, struct group_drive *drive)
{
    unsigned oldest = 0;
    for (unsigned i = 1; i < RECONCILE_TRIES_MAX; i++)
        if (drive->tries_ns[i] < drive->tries_ns[oldest])
            oldest = i;
    drive->tries_ns[oldest] = io_now_ns(io);
}

static bool takes_replica(struct io *io, const struct group_drive *drive)
{
    return drive->listed && drive->usable && drive->server == NULL &&
           (!drive->unknown || drive->broken) && !given_up(io, drive);
}

uint32_t group_listed_drives(const struct reconciler *r)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->drive_count; i++)
        count += r->drives[i]->listed;
    return count;
}

/* --- opening and closing --- */

static struct meta_server_options server_options(const struct reconciler *r,
                                                 const struct group_drive *drive,
                                                 uint64_t replica_id, bool create)
{
    struct meta_server_options options = {
        .directory = drive->directory,
        .create = create,
        .replica_id = replica_id,
        .group_id = r->options.group_id,
        .kv = r->options.kv,
        .metrics = r->options.metrics,
        .log_segment_bytes = r->options.log_segment_bytes,
        .flush_log_bytes = r->options.flush_log_bytes,
        .state_cache_bytes = r->options.state_cache_bytes,
    };
    memcpy(options.cluster_id, r->options.cluster_id, sizeof options.cluster_id);
    return options;
}

static uint64_t lag_bytes_max(const struct reconciler *r)
{
    uint64_t segment = r->options.log_segment_bytes;
    return LOG_RETAIN_SEGMENTS * (segment != 0 ? segment : META_LOG_SEGMENT_BYTES);
}

enum err group_open_replica(struct io *io, struct reconciler *r, struct group_drive *drive,
                            bool reads_only)
{
    struct meta_replica_identity identity;
    TRY(meta_server_identify(io, drive->directory, &identity));
    struct meta_server_options options = server_options(r, drive, identity.replica_id, false);
    struct server_seams seams = {.lag_log_bytes_max = lag_bytes_max(r), .reads_only = reads_only};
    return server_start_in(io, &options, &seams, r->group, &drive->server);
}

static uint64_t new_replica_id(struct io *io)
{
    uint64_t id = 0;
    io_random(io, &id, sizeof id);
    return id | 1; /* never 0 */
}

enum err group_create_first(struct io *io, struct reconciler *r, struct group_drive *drive)
{
    TRY(io_remove_tree(io, drive->directory));
    struct meta_server_options options = server_options(r, drive, new_replica_id(io), true);
    struct server_seams seams = {.lag_log_bytes_max = lag_bytes_max(r)};
    return server_start_in(io, &options, &seams, r->group, &drive->server);
}

void group_close_replica(struct io *io, struct reconciler *r, struct group_drive *drive)
{
    struct meta_server *server = TAKE(drive->server);
    if (server == NULL)
        return;
    group_detach(r->group, server);
    group_wait_readers(io, r->group, server);
    server_stop_replica(io, server);
}

/* The drive is gone, or its replica failed. */
static void close_lost(struct io *io, struct reconciler *r)
{
    for (uint32_t i = 0; i < r->drive_count;) {
        struct group_drive *drive = r->drives[i];
        bool failed = drive->server != NULL && drive->server->failed;
        if (!drive->listed || !drive->usable || failed) {
            if (drive->server != NULL && !failed)
                server_fail(drive->server, ERR_FENCED, "drive that is gone");
            /* One that failed is never opened again: what it said it had may not be there. */
            drive->broken |= failed;
            drive->unknown |= !failed && drive->server != NULL;
            group_close_replica(io, r, drive);
        }
        if (!drive->listed)
            remove_drive(r, i);
        else
            i++;
    }
}

/* --- what there is --- */

struct view {
    struct meta_server *leader;
    struct raft_membership membership;
    struct group_wanted wanted; /* by the drives that can have a replica */
    uint32_t running;           /* replicas */
    uint64_t live[RAFT_VOTERS_MAX];
    uint64_t dead[RAFT_VOTERS_MAX];
    uint64_t ready[RAFT_LEARNERS_MAX]; /* learners that run and have nearly everything */
    uint32_t live_count, dead_count, ready_count;
};

static bool is_running(const struct reconciler *r, uint64_t replica_id)
{
    const struct group_drive *drive = drive_of(r, replica_id);
    return drive != NULL && !drive->server->failed;
}

static bool caught_up(const struct meta_server *leader, uint64_t replica_id)
{
    struct raft_progress_status progress;
    struct raft_status status;
    raft_status_get(leader->raft, &status);
    return raft_progress_get(leader->raft, replica_id, &progress) == OK &&
           progress.match + LAG_MAX >= status.commit_index;
}

/* False: nobody leads, or a change of the membership is not over yet. */
static bool look(struct io *io, const struct reconciler *r, struct view *view)
{
    struct meta_server *leader = r->group->leader;
    *view = (struct view){.leader = leader};
    if (leader == NULL || leader->failed || leader->role != RAFT_LEADER ||
        leader->applied_term != leader->term)
        return false;
    uint64_t index = 0;
    view->membership = *raft_membership_get(leader->raft, &index);
    if (view->membership.old_voter_count > 0 || index > leader->applied)
        return false;
    uint32_t able = 0;
    for (uint32_t i = 0; i < r->drive_count; i++) {
        const struct group_drive *drive = r->drives[i];
        bool runs = drive->server != NULL && !drive->server->failed;
        view->running += runs;
        able += runs || takes_replica(io, drive);
    }
    view->wanted = group_wanted_of(able);
    const struct raft_membership *m = &view->membership;
    for (uint32_t i = 0; i < m->voter_count; i++) {
        if (is_running(r, m->voters[i]))
            view->live[view->live_count++] = m->voters[i];
        else
            view->dead[view->dead_count++] = m->voters[i];
    }
    for (uint32_t i = 0; i < m->learner_count; i++)
        if (is_running(r, m->learners[i]) && caught_up(leader, m->learners[i]))
            view->ready[view->ready_count++] = m->learners[i];
    return true;
}

/* --- drives that come back --- */

/* The membership that counts: the leader's, or while nobody leads that of the log that goes
 * furthest. NULL: none is known. */
static const struct raft_membership *known_membership(const struct meta_group *group)
{
    const struct meta_server *best = NULL;
    struct raft_status best_status = {0};
    for (uint32_t i = 0; i < group->replica_count; i++) {
        const struct meta_server *server = group->replicas[i];
        struct raft_status status;
        raft_status_get(server->raft, &status);
        if (server->failed)
            continue;
        if (server == group->leader && server->role == RAFT_LEADER)
            return raft_membership_get(server->raft, NULL);
        if (best != NULL && status.last_index <= best_status.last_index)
            continue;
        best = server;
        best_status = status;
    }
    return best == NULL ? NULL : raft_membership_get(best->raft, NULL);
}

/* A replica that the group left out while its drive was away. Should it know more than the leader,
 * the leader is of a group that was started from old drives: then nothing is deleted. */
static void drop_left_out(struct io *io, struct reconciler *r, struct group_drive *drive)
{
    struct offline_log log;
    struct raft_status status;
    uint64_t term = 0;
    const struct meta_server *leader = r->group->leader;
    raft_status_get(leader->raft, &status);
    bool known = offline_log_load(io, drive->directory, &log) == OK &&
                 raft_term_get(leader->raft, status.last_index, &term) == OK;
    bool behind =
        known && (log.found.last_term < term ||
                  (log.found.last_term == term && log.found.last_index <= status.last_index));
    if (known)
        offline_log_deinit(&log);
    drive->broken = true; /* until it is gone */
    drive->keeps = !behind;
    if (behind) {
        log_info("meta: a replica that is in no membership is deleted directory=%s",
                 drive->directory);
        drive->broken = io_remove_tree(io, drive->directory) != OK;
    } else {
        log_error("meta: %s is in no membership but its log goes further than the leader's: it is "
                  "kept; is this host running on old drives?",
                  drive->directory);
    }
}

/* The replica on a drive that was added or came back. One that the group left out must not run: it
 * might elect a leader together with others that do not know it either. */
static bool open_back(struct io *io, struct reconciler *r, struct group_drive *drive)
{
    struct meta_replica_identity identity;
    bool made = false;
    if (meta_server_probe(io, drive->directory, &made) != OK || !made)
        return true;
    if (meta_server_identify(io, drive->directory, &identity) != OK) {
        drive->broken = true;
        return true;
    }
    const struct raft_membership *membership = known_membership(r->group);
    struct view view;
    if (membership != NULL && !raft_membership_has(membership, identity.replica_id)) {
        if (!look(io, r, &view))
            return false; /* when somebody leads */
        drop_left_out(io, r, drive);
        return true;
    }
    enum err err = group_open_replica(io, r, drive, false);
    drive->broken = err != OK;
    return true;
}

static void open_found(struct io *io, struct reconciler *r)
{
    for (uint32_t i = 0; i < r->drive_count; i++) {
        struct group_drive *drive = r->drives[i];
        if (!drive->unknown || drive->broken || !drive->usable || drive->server != NULL)
            continue;
        drive->unknown = !open_back(io, r, drive);
    }
}

/* --- membership --- */

static bool change(struct reconciler *r, const struct view *view,
                   const struct raft_membership *target, const char *why)
{
    uint64_t index = 0;
    enum err err = raft_change_membership(view->leader->raft, target, &index);
    if (err == OK) {
        log_info("meta: membership changes index=%" PRIu64 " voters=%" PRIu32 " learners=%" PRIu32
                 " because %s",
                 index, target->voter_count, target->learner_count, why);
        group_update(r->group);
        server_wake(view->leader);
    }
    return true; /* if not now, at the next look */
}

static void add_id(uint64_t *ids, uint32_t *count, uint32_t max, uint64_t id)
{
    if (*count < max)
        ids[(*count)++] = id;
}

static void add_voter(struct raft_membership *target, uint64_t id)
{
    add_id(target->voters, &target->voter_count, RAFT_VOTERS_MAX, id);
}

/* Learners of before that run and are no voters now. */
static void keep_learners(const struct reconciler *r, const struct view *view,
                          struct raft_membership *target)
{
    const struct raft_membership *m = &view->membership;
    for (uint32_t i = 0; i < m->learner_count; i++)
        if (is_running(r, m->learners[i]) && !raft_membership_is_voter(target, m->learners[i]))
            add_id(target->learners, &target->learner_count, RAFT_LEARNERS_MAX, m->learners[i]);
}

/* The leader first, so that it stays one when there are more voters than wanted. */
static void take_live(const struct view *view, uint32_t wanted, struct raft_membership *target)
{
    uint64_t leader = view->leader->options.replica_id;
    for (uint32_t i = 0; i < view->live_count; i++)
        if (view->live[i] == leader)
            add_voter(target, leader);
    for (uint32_t i = 0; i < view->live_count && target->voter_count < wanted; i++)
        if (view->live[i] != leader)
            add_voter(target, view->live[i]);
}

/* Voters that are no more wanted become learners, up to as many as are. */
static void demote(const struct view *view, struct raft_membership *target)
{
    for (uint32_t i = 0; i < view->live_count; i++)
        if (target->learner_count < view->wanted.learners &&
            !raft_membership_is_voter(target, view->live[i]))
            add_id(target->learners, &target->learner_count, RAFT_LEARNERS_MAX, view->live[i]);
}

/* Dead voters without a successor are left out only when that costs no copies that count (at least
 * three are left), and not at once: the drive may come back. */
static bool may_shrink(struct io *io, struct reconciler *r, const struct view *view)
{
    bool fewer_drives =
        group_wanted_of(group_listed_drives(r)).voters < view->membership.voter_count;
    if (!fewer_drives && view->live_count < 3) {
        r->shrink_since_ns = 0;
        return false;
    }
    if (r->shrink_since_ns == 0)
        r->shrink_since_ns = io_now_ns(io);
    return io_now_ns(io) - r->shrink_since_ns >= RECONCILE_SHRINK_NS;
}

/* True: something was or is to be done. */
static bool change_voters(struct io *io, struct reconciler *r, const struct view *view)
{
    uint32_t wanted = view->wanted.voters;
    uint32_t listed = group_wanted_of(group_listed_drives(r)).voters;
    uint32_t voters = view->membership.voter_count;
    if (view->live_count + view->ready_count >= wanted && view->live_count < wanted) {
        struct raft_membership target = {0};
        take_live(view, wanted, &target);
        for (uint32_t i = 0; i < view->ready_count && target.voter_count < wanted; i++)
            add_voter(&target, view->ready[i]);
        keep_learners(r, view, &target);
        return change(r, view, &target, "learners have caught up");
    }
    bool too_many = view->live_count > wanted && view->live_count > listed;
    if (view->live_count < wanted || (view->dead_count == 0 && !too_many)) {
        r->shrink_since_ns = 0;
        return view->live_count < wanted;
    }
    if (!too_many && voters <= wanted)
        return false;
    if (!may_shrink(io, r, view))
        return false;
    struct raft_membership target = {0};
    take_live(view, wanted > listed ? wanted : listed, &target);
    demote(view, &target);
    keep_learners(r, view, &target);
    r->shrink_since_ns = 0;
    return change(r, view, &target, "there are fewer drives");
}

/* Learners that are gone, or of which there are too many. */
static bool drop_learner(struct reconciler *r, const struct view *view)
{
    const struct raft_membership *m = &view->membership;
    bool surplus = m->learner_count > view->wanted.learners &&
                   view->live_count >= view->wanted.voters && view->dead_count == 0;
    for (uint32_t i = m->learner_count; i > 0; i--) {
        if (is_running(r, m->learners[i - 1]) && !surplus)
            continue;
        struct raft_membership target = *m;
        target.learner_count--;
        for (uint32_t j = i - 1; j < target.learner_count; j++)
            target.learners[j] = m->learners[j + 1];
        target.learners[target.learner_count] = 0;
        return change(r, view, &target, surplus ? "a learner is not needed" : "a learner is gone");
    }
    return false;
}

/* Replicas outside of the membership: a new one joins, another one is deleted. */
static bool settle_outsiders(struct io *io, struct reconciler *r, const struct view *view)
{
    const struct raft_membership *m = &view->membership;
    for (uint32_t i = 0; i < r->drive_count; i++) {
        struct group_drive *drive = r->drives[i];
        if (drive->server == NULL)
            continue;
        if (raft_membership_has(m, drive->server->options.replica_id)) {
            drive->joins = false;
            continue;
        }
        if (drive->joins && m->learner_count < RAFT_LEARNERS_MAX) {
            struct raft_membership target = *m;
            target.learners[target.learner_count++] = drive->server->options.replica_id;
            return change(r, view, &target, "a new replica was made");
        }
        log_info("meta: a replica that is in no membership is deleted directory=%s",
                 drive->directory);
        group_close_replica(io, r, drive);
        if (io_remove_tree(io, drive->directory) != OK)
            drive->broken = true;
        return true;
    }
    return false;
}

/* --- a new replica --- */

/* What is in its place goes: a replica that failed is put aside until the membership does not need
 * it, since without a quorum its log might still be the best. */
static enum err make_room(struct io *io, struct group_drive *drive)
{
    bool made = false;
    TRY(meta_server_probe(io, drive->directory, &made));
    if (!made)
        return io_remove_tree(io, drive->directory);
    struct meta_replica_identity identity = {0};
    if (meta_server_identify(io, drive->directory, &identity) != OK)
        identity.replica_id = new_replica_id(io); /* any name */
    AUTO_STRING aside =
        group_aside_path(drive->directory, drive->keeps ? "old" : "gone", identity.replica_id);
    drive->keeps = false;
    drive->leftovers = true;
    return io_rename(io, drive->directory, aside);
}

static struct meta_server *choose_source(const struct reconciler *r, const struct view *view)
{
    struct meta_server *source = view->leader;
    for (uint32_t i = 0; i < view->live_count; i++) {
        struct meta_server *server = drive_of(r, view->live[i])->server;
        if (server != view->leader && server->applied + LAG_MAX >= view->leader->applied)
            source = server; /* the leader has enough to do */
    }
    return source;
}

static void membership_at(const struct meta_server *server, uint64_t index,
                          struct raft_membership *out)
{
    const struct log_group *group = meta_log_group(server->log, server->options.group_id);
    assert(group->memberships[0].index <= index);
    for (uint32_t i = 0; i < group->membership_count && group->memberships[i].index <= index; i++)
        *out = group->memberships[i].membership;
}

static enum err make_copy(struct io *io, struct reconciler *r, struct group_drive *drive,
                          struct meta_server *source, struct group_copy *copy)
{
    uint64_t id = new_replica_id(io);
    struct meta_server_options options = server_options(r, drive, id, true);
    struct server_seams seams = {.lag_log_bytes_max = lag_bytes_max(r), .seed = &copy->seed};
    TRY(make_room(io, drive));
    TRY(group_copy_begin(io, copy, source->apply_lane, source->state, source->read_lane));
    membership_at(source, copy->seed.index, &copy->seed.membership);
    return server_start_in(io, &options, &seams, r->group, &drive->server);
}

static void make_replica(struct io *io, struct reconciler *r, const struct view *view,
                         struct group_drive *drive)
{
    struct meta_server *source = choose_source(r, view);
    struct group_copy copy = {.stopping = &r->stopping};
    log_info("meta: a replica is made directory=%s from=%016" PRIx64, drive->directory,
             source->options.replica_id);
    note_try(io, drive);
    r->group->retain_from = source->applied;
    r->group->retain_until_ns = io_now_ns(io) + RECONCILE_RETAIN_NS;
    enum err err = make_copy(io, r, drive, source, &copy);
    group_copy_end(&copy);
    drive->broken = err != OK;
    drive->joins = err == OK;
    if (err == OK) {
        drive->server->seams.seed = NULL;
        counter_add(r->rebuilt_total, 1);
        return;
    }
    r->group->retain_from = UINT64_MAX;
    if (err != ERR_CANCELED)
        log_warn("meta: no replica could be made directory=%s cause=%s%s", drive->directory,
                 err_text(err), given_up(io, drive) ? "; not tried again for an hour" : "");
    if (copy.source_err == ERR_CORRUPT || copy.source_err == ERR_IO)
        server_fail(source, copy.source_err, "copy of its state");
}

static bool is_here(struct io *io, const struct reconciler *r, const struct group_drive *drive)
{
    const struct meta_group_options *options = &r->options;
    return options->drive_is_here == NULL ||
           options->drive_is_here(io, options->context, drive->drive);
}

static bool add_replica(struct io *io, struct reconciler *r, const struct view *view)
{
    if (view->running >= view->wanted.voters + view->wanted.learners)
        return false;
    for (uint32_t i = 0; i < r->drive_count; i++) {
        if (!takes_replica(io, r->drives[i]) || !is_here(io, r, r->drives[i]))
            continue;
        make_replica(io, r, view, r->drives[i]);
        return true;
    }
    return false;
}

/* --- the rest --- */

/* A follower that lags behind the cut of the log is made anew. */
static bool drop_lagging(struct reconciler *r, const struct view *view)
{
    uint64_t id = view->leader->lagging;
    view->leader->lagging = 0;
    struct group_drive *drive = id == 0 ? NULL : drive_of(r, id);
    if (drive == NULL || drive->server->failed)
        return false;
    server_fail(drive->server, ERR_COMPACTED, "catching up");
    return true;
}

/* Replicas put aside that no membership names, since all that are named run. */
static void clear_leftovers(struct io *io, struct group_drive *drive)
{
    const char *slash = strrchr(drive->directory, '/');
    AUTO_STRING parent =
        slash == NULL ? mem_format(".")
                      : mem_format("%.*s", (int)(slash - drive->directory), drive->directory);
    AUTO_STRING prefix = mem_format("%s.gone-", slash == NULL ? drive->directory : slash + 1);
    AUTO_VALUE(bytes) names = {.max = NAMES_BYTES_MAX};
    if (io_list_directory(io, parent[0] == '\0' ? "/" : parent, &names) != OK)
        return;
    for (size_t at = 0; at < names.bytes; at += strlen((const char *)names.data + at) + 1) {
        const char *name = (const char *)names.data + at;
        if (strncmp(name, prefix, strlen(prefix)) != 0)
            continue;
        AUTO_STRING path = mem_format("%s/%s", parent, name);
        (void)io_remove_tree(io, path); /* found again at the next start */
    }
    drive->leftovers = false;
}

static void tidy_up(struct io *io, struct reconciler *r)
{
    r->group->retain_from = UINT64_MAX;
    for (uint32_t i = 0; i < r->drive_count; i++)
        if (r->drives[i]->leftovers && r->drives[i]->usable)
            clear_leftovers(io, r->drives[i]);
}

static void set_gauges(struct reconciler *r, const struct view *view)
{
    uint32_t wanted = group_wanted_of(group_listed_drives(r)).voters;
    gauge_set(r->voters, view->live_count);
    gauge_set(r->voters_missing, wanted > view->live_count ? wanted - view->live_count : 0);
}

static bool learners_ready(const struct view *view)
{
    return view->wanted.learners == 0 || view->ready_count >= view->wanted.learners;
}

/* True: look again soon. */
static bool reconcile(struct io *io, struct reconciler *r)
{
    struct view view;
    close_lost(io, r);
    r->settled = false;
    if (r->read_only)
        return false; /* nothing may run that could vote */
    open_found(io, r);
    if (!look(io, r, &view))
        return true;
    set_gauges(r, &view);
    if (drop_lagging(r, &view) || settle_outsiders(io, r, &view) || drop_learner(r, &view) ||
        add_replica(io, r, &view) || change_voters(io, r, &view))
        return true;
    r->settled = view.live_count >= view.wanted.voters && learners_ready(&view);
    if (r->settled && view.dead_count == 0)
        tidy_up(io, r);
    signal_wake_all(io, &r->group->changed);
    return !r->settled;
}

void group_reconcile_fiber(struct io *io, void *argument)
{
    struct reconciler *r = argument;
    while (!r->stopping) {
        bool soon = reconcile(io, r);
        group_expire(r->group, io_now_ns(io));
        uint64_t wait_ms = soon ? RECONCILE_SOON_MS : RECONCILE_IDLE_MS;
        if (signal_wait(io, &r->wake, io_now_ns(io) + wait_ms * IO_NS_PER_MS) == ERR_CANCELED)
            return;
    }
}
