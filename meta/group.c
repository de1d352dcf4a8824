/* Start, drives, status and stop of the group. */
#include "meta/group.h"
#include "base/log.h"
#include "base/mem.h"
#include "group_reconcile.h"
#include "server_core.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define START_WAIT_NS (30 * IO_NS_PER_S) /* for the first leader */

/* --- drives --- */

static struct group_drive *find_drive(const struct reconciler *r,
                                      const struct meta_group_drive *wanted)
{
    for (uint32_t i = 0; i < r->drive_count; i++) {
        struct group_drive *drive = r->drives[i];
        if (strcmp(drive->directory, wanted->directory) == 0 &&
            memcmp(drive->drive, wanted->drive, sizeof drive->drive) == 0)
            return drive;
    }
    return NULL;
}

static void add_drive(struct reconciler *r, const struct meta_group_drive *wanted)
{
    struct group_drive *drive = mem_new(struct group_drive);
    *drive = (struct group_drive){.directory = mem_format("%s", wanted->directory),
                                  .usable = wanted->usable,
                                  .listed = true,
                                  .unknown = true,
                                  .leftovers = true};
    memcpy(drive->drive, wanted->drive, sizeof drive->drive);
    r->drives[r->drive_count++] = drive;
}

enum err meta_group_set_drives(struct io *io, struct meta_group *group,
                               const struct meta_group_drive *drives, uint32_t count)
{
    struct reconciler *r = group->reconciler;
    assert(io == group->home);
    uint32_t added = 0;
    for (uint32_t i = 0; i < count; i++)
        added += find_drive(r, &drives[i]) == NULL;
    uint32_t max = sizeof r->drives / sizeof r->drives[0];
    if (count > META_DRIVES_MAX || added > max - r->drive_count)
        return FAIL(ERR_LIMIT, "drives=%" PRIu32, count);
    for (uint32_t i = 0; i < r->drive_count; i++)
        r->drives[i]->listed = false;
    for (uint32_t i = 0; i < count; i++) {
        struct group_drive *drive = find_drive(r, &drives[i]);
        if (drive == NULL) {
            add_drive(r, &drives[i]);
            continue;
        }
        drive->listed = true;
        drive->usable = drives[i].usable;
    }
    group_reconcile_wake(group);
    return OK;
}

/* --- start --- */

static enum err survey_drives(struct io *io, const struct reconciler *r,
                              struct group_survey *out_survey)
{
    const char *directories[META_DRIVES_MAX] = {0};
    /* An unusable drive has no replica as long as it is. */
    for (uint32_t i = 0; i < r->drive_count; i++)
        directories[i] = r->drives[i]->usable ? r->drives[i]->directory : NULL;
    return group_survey_load(io, directories, r->drive_count, out_survey);
}

static enum err create_first(struct io *io, struct reconciler *r)
{
    if (!r->options.create) {
        log_error("meta: there is no metadata on any drive; put the drives back that hold it");
        return FAIL(ERR_CORRUPT, "no replica on %" PRIu32 " drives", r->drive_count);
    }
    for (uint32_t i = 0; i < r->drive_count; i++)
        if (r->drives[i]->usable) {
            r->drives[i]->unknown = false;
            return group_create_first(io, r, r->drives[i]);
        }
    return FAIL(ERR_NOT_FOUND, "no usable drive");
}

/* What cannot be opened is treated as lost if it is damage of its own. */
static enum err open_one(struct io *io, struct reconciler *r, struct group_survey *survey,
                         uint32_t at, bool reads_only)
{
    struct group_drive *drive = r->drives[at];
    drive->unknown = false;
    enum err err = group_open_replica(io, r, drive, reads_only);
    if (err != ERR_CORRUPT && err != ERR_IO && err != ERR_NO_SPACE && err != ERR_NOT_FOUND)
        return err;
    if (err != OK) {
        drive->broken = true;
        survey->replicas[at].whole = false;
    }
    return OK;
}

static void close_all(struct io *io, struct reconciler *r)
{
    for (uint32_t i = 0; i < r->drive_count; i++)
        group_close_replica(io, r, r->drives[i]);
}

/* All whole members; then those that opened are a quorum, or not. */
static enum err open_quorum(struct io *io, struct reconciler *r, struct group_survey *survey)
{
    for (uint32_t i = 0; i < r->drive_count; i++) {
        const struct survey_replica *replica = &survey->replicas[i];
        r->drives[i]->broken = replica->found && !replica->whole;
        if (replica->whole &&
            raft_membership_has(&survey->membership, replica->log.found.replica_id))
            TRY(open_one(io, r, survey, i, false));
    }
    group_survey_judge(survey);
    return OK;
}

static void report_replicas(const struct group_survey *survey)
{
    for (uint32_t i = 0; i < survey->count; i++) {
        const struct survey_replica *replica = &survey->replicas[i];
        if (replica->found)
            log_error("meta: found replica=%016" PRIx64 " directory=%s last term=%" PRIu64
                      " last index=%" PRIu64 " %s",
                      replica->log.found.replica_id, replica->directory,
                      replica->log.found.last_term, replica->log.found.last_index,
                      replica->whole ? "whole" : "damaged");
    }
}

static enum err refuse(const struct group_survey *survey)
{
    report_replicas(survey);
    log_error("meta: too few voters of %" PRIu32 " are left, and acknowledged changes may be "
              "missing from those that are; put the other drives back, or accept the loss with "
              "`shale meta recover --accept-loss DIR...`",
              survey->membership.voter_count);
    return FAIL(ERR_CORRUPT, "no quorum of the metadata voters");
}

static enum err start_reading(struct io *io, struct reconciler *r, struct group_survey *survey)
{
    report_replicas(survey);
    log_error("meta: the voters left are no quorum: reads go on from the longest log, which has "
              "everything acknowledged, writes do not; stop and run `shale meta recover DIR...`");
    r->read_only = true;
    TRY(open_one(io, r, survey, survey->best, true));
    struct meta_server *server = r->drives[survey->best]->server;
    if (server == NULL)
        return refuse(survey);
    while (server->applied < server->committed && !server->failed)
        TRY(signal_wait(io, &r->group->changed, 0));
    return server->failed ? ERR_CORRUPT : OK;
}

/* Without a quorum nothing may be opened that could vote. */
static enum err start_without_quorum(struct io *io, struct reconciler *r,
                                     struct group_survey *survey)
{
    close_all(io, r);
    if (survey->best == survey->count || !survey->complete)
        return refuse(survey);
    if (!r->options.auto_recover)
        return start_reading(io, r, survey);
    TRY(group_survey_recover(io, survey, r->options.log_segment_bytes));
    for (uint32_t i = 0; i < r->drive_count; i++)
        r->drives[i]->broken = false;
    TRY(open_one(io, r, survey, survey->best, false));
    return r->drives[survey->best]->server != NULL ? OK : ERR_CORRUPT;
}

/* A lone replica: the errors of its own start say what is wrong with it. */
static enum err open_lone(struct io *io, struct reconciler *r, const struct group_survey *survey)
{
    for (uint32_t i = 0; i < survey->count; i++)
        if (survey->replicas[i].found) {
            r->drives[i]->unknown = false;
            return group_open_replica(io, r, r->drives[i], false);
        }
    return ERR_NOT_FOUND;
}

static bool is_lone(const struct group_survey *survey)
{
    return survey->found == 1 && survey->membership.old_voter_count == 0 &&
           survey->membership.voter_count <= 1 && (survey->quorum || survey->best == survey->count);
}

static enum err open_replicas(struct io *io, struct reconciler *r, struct group_survey *survey)
{
    if (survey->found == 0)
        return create_first(io, r);
    if (is_lone(survey))
        return open_lone(io, r, survey);
    if (survey->quorum)
        TRY(open_quorum(io, r, survey));
    return survey->quorum ? OK : start_without_quorum(io, r, survey);
}

/* Until somebody leads; a start that takes longer goes on and is not ready yet. */
static enum err wait_for_leader(struct io *io, struct reconciler *r)
{
    struct meta_group *group = r->group;
    uint64_t until_ns = io_now_ns(io) + START_WAIT_NS;
    while (!r->read_only && !meta_group_ready(group)) {
        uint32_t running = 0;
        for (uint32_t i = 0; i < group->replica_count; i++)
            running += !group->replicas[i]->failed;
        if (running == 0)
            return io_canceled(io) ? ERR_CANCELED
                                   : FAIL(ERR_FENCED, "all replicas stopped while they started");
        enum err err = signal_wait(io, &group->changed, until_ns);
        if (err == ERR_TIMEOUT)
            return OK;
        TRY(err);
    }
    return OK;
}

static enum err start(struct io *io, struct reconciler *r)
{
    struct group_survey survey;
    TRY(survey_drives(io, r, &survey));
    enum err err = open_replicas(io, r, &survey);
    group_survey_deinit(&survey);
    TRY(err);
    group_hurry(r->group);
    TRY(wait_for_leader(io, r));
    return fiber_group_spawn(io, &r->fibers, group_reconcile_fiber, r);
}

static void register_metrics(struct reconciler *r)
{
    struct metrics *metrics = r->options.metrics;
    r->rebuilt_total =
        metrics_counter(metrics, "shale_meta_replicas_rebuilt_total", NULL,
                        "Metadata replicas made from a copy of another one, first ones included.");
    r->voters = metrics_gauge(metrics, "shale_meta_voters", NULL, "Metadata voters that run.");
    r->voters_missing = metrics_gauge(metrics, "shale_voters_missing", NULL,
                                      "Metadata voters that the drives call for but do not run.");
}

enum err meta_group_start(struct io *io, const struct meta_group_options *options,
                          const struct meta_group_drive *drives, uint32_t count,
                          struct meta_group **out_group)
{
    assert(count > 0);
    assert(count <= META_DRIVES_MAX);
    struct meta_group *group = mem_new(struct meta_group);
    struct reconciler *r = mem_new(struct reconciler);
    group_init(io, group, options->metrics);
    group->reconciler = r;
    r->group = group;
    r->options = *options;
    signal_init(&r->wake);
    fiber_group_init(&r->fibers);
    register_metrics(r);
    enum err err = meta_group_set_drives(io, group, drives, count);
    if (err == OK)
        err = start(io, r);
    if (err != OK) {
        meta_group_stop(io, group);
        return err;
    }
    *out_group = group;
    return OK;
}

enum err meta_group_settle(struct io *io, struct meta_group *group, uint64_t deadline_ns)
{
    while (!group->reconciler->settled) {
        if (group->reconciler->read_only)
            return FAIL(ERR_NOT_LEADER, "no quorum of the metadata voters");
        TRY(signal_wait(io, &group->changed, deadline_ns));
    }
    return OK;
}

/* --- stop --- */

void meta_group_stop(struct io *io, struct meta_group *group)
{
    struct reconciler *r = group->reconciler;
    assert(io == group->home);
    group_end_calls(io, group);
    r->stopping = true;
    signal_wake_all(io, &r->wake);
    fiber_group_wait(io, &r->fibers);
    close_all(io, r);
    for (uint32_t i = 0; i < r->drive_count; i++)
        group_drive_free(r->drives[i]);
    group_deinit(group);
    mem_free(r);
    mem_free(group);
}

bool meta_group_ready(const struct meta_group *group)
{
    return atomic_load(&group->ready);
}

/* --- status --- */

static void replica_status(const struct raft_membership *membership, struct meta_server *server,
                           struct meta_replica_status *out)
{
    struct raft_status status;
    uint64_t id = server->options.replica_id;
    raft_status_get(server->raft, &status);
    out->id = id;
    out->term = status.term;
    out->applied = server->applied;
    out->state_hash = server->position.hash;
    out->failed = server->failed;
    out->role = META_OUTSIDER;
    if (raft_membership_has(membership, id))
        out->role = raft_membership_is_voter(membership, id) ? META_FOLLOWER : META_LEARNER;
    if (status.role == RAFT_LEADER && !server->failed)
        out->role = META_LEADER;
}

static void fill_leader(struct meta_server *leader, struct meta_group_status *out)
{
    struct raft_status status;
    raft_status_get(leader->raft, &status);
    out->leader = leader->options.replica_id;
    out->term = status.term;
    out->commit = status.commit_index;
    out->applied = leader->applied;
    out->log_bytes = meta_log_bytes(leader->log);
}

/* The replica whose membership is told: the leader, or any. */
static struct meta_server *spokesman(const struct meta_group *group)
{
    if (group->leader != NULL)
        return group->leader;
    return group->replica_count > 0 ? group->replicas[0] : NULL;
}

struct status_query {
    struct meta_group *group;
    struct meta_group_status *out;
};

static void read_status(struct io *io, void *argument)
{
    struct status_query *query = argument;
    const struct reconciler *r = query->group->reconciler;
    struct meta_group_status *out = query->out;
    struct raft_membership membership = {0};
    struct meta_server *server = spokesman(query->group);
    (void)io; /* it is the home */
    *out = (struct meta_group_status){.read_only = r->read_only};
    if (server != NULL)
        membership = *raft_membership_get(server->raft, NULL);
    if (server != NULL && server->role == RAFT_LEADER && !server->failed)
        fill_leader(server, out);
    out->voters_wanted = group_wanted_of(group_listed_drives(r)).voters;
    for (uint32_t i = 0; i < r->drive_count && out->replica_count < META_DRIVES_MAX; i++) {
        struct meta_replica_status *replica = &out->replicas[out->replica_count++];
        memcpy(replica->drive, r->drives[i]->drive, sizeof replica->drive);
        if (r->drives[i]->server == NULL)
            continue;
        replica_status(&membership, r->drives[i]->server, replica);
        bool runs = !replica->failed;
        out->voters += runs && (replica->role == META_FOLLOWER || replica->role == META_LEADER);
        out->learners += runs && replica->role == META_LEARNER;
    }
    if (out->voters < out->voters_wanted)
        out->voters_missing = out->voters_wanted - out->voters;
}

void meta_group_status(struct io *io, struct meta_group *group,
                       struct meta_group_status *out_status)
{
    struct status_query query = {.group = group, .out = out_status};
    io_call(io, group->home, read_status, &query);
}
