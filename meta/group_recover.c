/* `shale meta recover`: one replica goes on alone. See meta/group.h. */
#include "base/log.h"
#include "base/mem.h"
#include "group_copy.h"
#include "group_survey.h"
#include "meta/group.h"
#include "server_core.h"
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { COPY_THREADS = 2 };

struct recovery {
    const struct meta_recover_options *options;
    struct group_survey survey;
    struct file *locks[META_DRIVES_MAX];
};

static void recovery_deinit(struct recovery *recovery)
{
    for (uint32_t i = 0; i < META_DRIVES_MAX; i++)
        file_close(recovery->locks[i]);
    group_survey_deinit(&recovery->survey);
}

__attribute__((format(printf, 2, 3))) static void report(const struct recovery *recovery,
                                                         const char *format, ...)
{
    const struct meta_recover_options *options = recovery->options;
    if (options->report == NULL)
        return;
    char line[IO_PATH_BYTES_MAX + 256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments); /* a line that is cut still helps */
    va_end(arguments);
    options->report(options->context, line);
}

/* --- what there is --- */

/* Nobody may run what is about to change. */
static enum err lock_replicas(struct io *io, struct recovery *recovery)
{
    const struct meta_recover_options *options = recovery->options;
    for (uint32_t i = 0; i < options->count; i++) {
        AUTO_STRING path = mem_format("%s/identity", options->directories[i]);
        enum err err = io_open(io, path, FILE_WRITE, &recovery->locks[i]);
        if (err == ERR_NOT_FOUND)
            continue;
        TRY(err);
        err = io_lock(io, recovery->locks[i]);
        if (err == ERR_LOCKED)
            report(recovery, "%s is in use: stop the server first", options->directories[i]);
        TRY(err);
    }
    return OK;
}

static void report_replicas(const struct recovery *recovery)
{
    for (uint32_t i = 0; i < recovery->survey.count; i++) {
        const struct survey_replica *replica = &recovery->survey.replicas[i];
        const struct meta_offline_log *log = &replica->log.found;
        if (!replica->found)
            report(recovery, "%s: no replica", replica->directory);
        else if (replica->whole)
            report(recovery,
                   "%s: replica %016" PRIx64 ", last term %" PRIu64 ", last index %" PRIu64
                   ", whole",
                   replica->directory, log->replica_id, log->last_term, log->last_index);
        else
            report(recovery,
                   "%s: replica %016" PRIx64 ", damaged behind term %" PRIu64 ", index %" PRIu64
                   ": %s offset %" PRIu64 ": %s",
                   replica->directory, log->replica_id, log->last_term, log->last_index,
                   log->damage_file, log->damage_offset,
                   log->damage_reason == NULL ? "" : log->damage_reason);
    }
}

/* Without a whole log, the damaged one that goes furthest. */
static enum err choose_damaged(struct recovery *recovery)
{
    struct group_survey *survey = &recovery->survey;
    for (uint32_t i = 0; i < survey->count; i++) {
        const struct meta_offline_log *log = &survey->replicas[i].log.found;
        if (!survey->replicas[i].found || log->replica_id == 0)
            continue;
        const struct meta_offline_log *best =
            survey->best == survey->count ? NULL : &survey->replicas[survey->best].log.found;
        if (best == NULL || log->last_term > best->last_term ||
            (log->last_term == best->last_term && log->last_index > best->last_index))
            survey->best = i;
    }
    return survey->best < survey->count ? OK : ERR_NOT_FOUND;
}

/* --- a replica from its store alone --- */

struct store {
    struct lane *lane, *read_lane;
    struct kv *kv;
    struct state *state;
    const char *path;
    struct kv_provider *provider;
    enum err err;
};

static char *state_path(const char *directory, uint64_t replica_id)
{
    return mem_format("%s/state/%016" PRIx64, directory, replica_id);
}

static void store_deinit(struct store *store)
{
    state_free(store->state);
    kv_close(store->kv);
    lane_free(store->read_lane);
    lane_free(store->lane);
}

static enum err open_on(struct lane *lane, struct store *store)
{
    struct kv_options options = {.create = false};
    TRY(kv_open(store->provider, lane, store->path, &options, &store->kv));
    return state_open(lane, store->kv, &store->state);
}

static void open_on_lane(struct lane *lane, void *argument)
{
    struct store *store = argument;
    store->err = open_on(lane, store);
}

static enum err store_open(struct io *io, struct store *store)
{
    TRY(lane_new(io, "recover", 1, &store->lane));
    TRY(lane_new(io, "recover-read", COPY_THREADS, &store->read_lane));
    TRY(lane_run(io, store->lane, open_on_lane, store));
    return store->err;
}

static enum err make_from_store(struct io *io, const struct recovery *recovery,
                                const struct survey_replica *replica, struct store *store,
                                const char *directory, uint64_t id)
{
    AUTO(metrics) metrics = metrics_new();
    struct meta_group *group = mem_new(struct meta_group);
    struct group_copy copy = {.seed = {.membership = {.voter_count = 1}}};
    struct meta_server_options options = {.directory = directory,
                                          .create = true,
                                          .replica_id = id,
                                          .group_id = replica->log.found.group_id,
                                          .kv = recovery->options->kv,
                                          .metrics = metrics};
    memcpy(options.cluster_id, replica->log.found.cluster_id, sizeof options.cluster_id);
    struct server_seams seams = {.seed = &copy.seed};
    struct meta_server *server = NULL;
    copy.seed.membership.voters[0] = options.replica_id;
    group_init(io, group, metrics);
    enum err err = group_copy_begin(io, &copy, store->lane, store->state, store->read_lane);
    if (err == OK)
        err = server_start_in(io, &options, &seams, group, &server);
    group_copy_end(&copy);
    if (err == OK) {
        group_end_calls(io, group);
        group_detach(group, server);
        server_stop_replica(io, server);
    }
    group_deinit(group);
    mem_free(group);
    return err;
}

/* The store goes further than what is left of the log: a new replica is made from it, under a new
 * id, and takes the place of the old one. */
static enum err recover_from_store(struct io *io, struct recovery *recovery,
                                   const struct survey_replica *replica, struct store *store)
{
    const struct meta_recover_options *options = recovery->options;
    AUTO_STRING directory = mem_format("%s.recovering", replica->directory);
    uint64_t id = 0;
    io_random(io, &id, sizeof id);
    id |= 1; /* never 0 */
    TRY(io_remove_tree(io, directory));
    TRY(make_from_store(io, recovery, replica, store, directory, id));
    for (uint32_t i = 0; i < recovery->survey.count; i++)
        if (recovery->survey.replicas[i].found)
            TRY(group_put_aside(io, &recovery->survey.replicas[i]));
    TRY(io_rename(io, directory, replica->directory));
    TRY(io_sync_parent(io, replica->directory));
    if (options->store_moved == NULL)
        return OK;
    AUTO_STRING from = state_path(directory, id);
    AUTO_STRING to = state_path(replica->directory, id);
    return options->store_moved(io, options->context, from, to);
}

/* Entries below the damage stay, or the store's if they go further. */
static enum err recover_damaged(struct io *io, struct recovery *recovery)
{
    const struct survey_replica *replica = &recovery->survey.replicas[recovery->survey.best];
    AUTO_STRING path = state_path(replica->directory, replica->log.found.replica_id);
    AUTO_VALUE(store) store = {.path = path, .provider = recovery->options->kv};
    TRY(store_open(io, &store));
    struct state_position position = state_position(store.state);
    bool has_log = log_state_group(&replica->log.state, replica->log.found.group_id) != NULL;
    if (has_log && position.index <= replica->log.found.last_index)
        return group_survey_recover(io, &recovery->survey, 0);
    if (position.index == 0) {
        report(recovery, "%s: nothing is left to go on from", replica->directory);
        return FAIL(ERR_CORRUPT, "neither log nor state in directory=%s", replica->directory);
    }
    report(recovery, "%s: the state goes further than the log, to index %" PRIu64 "; it is copied",
           replica->directory, position.index);
    return recover_from_store(io, recovery, replica, &store);
}

/* --- the decision --- */

static enum err refuse_loss(const struct recovery *recovery)
{
    report(recovery, "refused: acknowledged changes may be missing from all of these. Give all "
                     "drives of the host, or accept the loss with --accept-loss");
    return FAIL(ERR_PRECONDITION, "recovery without --accept-loss");
}

static enum err recover_whole(struct io *io, struct recovery *recovery)
{
    struct group_survey *survey = &recovery->survey;
    if (survey->quorum) {
        report(recovery, "nothing to recover: these replicas are a quorum");
        return FAIL(ERR_EXISTS, "a quorum is there");
    }
    if (!survey->complete && !recovery->options->accept_loss)
        return refuse_loss(recovery);
    const struct survey_replica *best = &survey->replicas[survey->best];
    if (survey->complete)
        report(recovery, "nothing acknowledged is lost");
    else
        report(recovery, "lost may be: what was acknowledged behind index %" PRIu64,
               best->log.found.last_index);
    TRY(group_survey_recover(io, survey, 0));
    report(recovery, "done: the next start goes on from %s", best->directory);
    return OK;
}

static enum err recover(struct io *io, struct recovery *recovery)
{
    const struct meta_recover_options *options = recovery->options;
    TRY(lock_replicas(io, recovery));
    TRY(group_survey_load(io, options->directories, options->count, &recovery->survey));
    report_replicas(recovery);
    if (recovery->survey.found == 0)
        return FAIL(ERR_NOT_FOUND, "no replica in %" PRIu32 " directories", options->count);
    if (recovery->survey.best < recovery->survey.count)
        return recover_whole(io, recovery);
    if (!options->accept_loss)
        return refuse_loss(recovery);
    TRY(choose_damaged(recovery));
    const struct survey_replica *best = &recovery->survey.replicas[recovery->survey.best];
    report(recovery, "lost may be: what was acknowledged behind index %" PRIu64 " of %s",
           best->log.found.last_index, best->directory);
    TRY(recover_damaged(io, recovery));
    report(recovery, "done: the next start goes on from %s", best->directory);
    return OK;
}

enum err meta_recover(struct io *io, const struct meta_recover_options *options)
{
    assert(options->count > 0);
    assert(options->count <= META_DRIVES_MAX);
    struct recovery *recovery = mem_new(struct recovery);
    recovery->options = options;
    enum err err = recover(io, recovery);
    recovery_deinit(recovery);
    mem_free(recovery);
    return err;
}
