/* See group_survey.h. */
#include "group_survey.h"
#include "base/log.h"
#include "base/mem.h"
#include "log.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

/* --- reading --- */

static const struct log_group *group_of(const struct survey_replica *replica)
{
    return log_state_group(&replica->log.state, replica->log.found.group_id);
}

static enum err load_one(struct io *io, const char *directory, struct survey_replica *replica)
{
    if (directory == NULL)
        return OK;
    replica->directory = mem_format("%s", directory);
    enum err err = offline_log_load(io, directory, &replica->log);
    if (err == ERR_NOT_FOUND)
        return OK;
    replica->found = err == OK || err == ERR_IO || err == ERR_CORRUPT;
    if (err == ERR_IO || err == ERR_CORRUPT) {
        replica->log = (struct offline_log){.found = {.damage_reason = "it cannot be read"}};
        return OK;
    }
    TRY(err);
    replica->whole = replica->log.found.damage_file[0] == '\0' &&
                     replica->log.found.replica_id != 0 && group_of(replica) != NULL &&
                     group_of(replica)->membership_count > 0;
    return OK;
}

static enum err check_same(const struct group_survey *survey)
{
    const struct survey_replica *first = NULL;
    for (uint32_t i = 0; i < survey->count; i++) {
        const struct survey_replica *replica = &survey->replicas[i];
        if (!replica->found || replica->log.found.replica_id == 0)
            continue;
        if (first == NULL)
            first = replica;
        if (memcmp(first->log.found.cluster_id, replica->log.found.cluster_id, 16) != 0 ||
            first->log.found.group_id != replica->log.found.group_id) {
            log_error("meta: %s and %s are of different clusters", first->directory,
                      replica->directory);
            return FAIL(ERR_MISMATCH, "replica in directory=%s", replica->directory);
        }
    }
    return OK;
}

enum err group_survey_load(struct io *io, const char *const *directories, uint32_t count,
                           struct group_survey *out_survey)
{
    struct group_survey survey = {.count = count};
    survey.replicas = mem_alloc_array(count, sizeof *survey.replicas);
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < count; i++) {
        err = load_one(io, directories[i], &survey.replicas[i]);
        survey.found += survey.replicas[i].found;
    }
    if (err == OK)
        err = check_same(&survey);
    if (err != OK) {
        group_survey_deinit(&survey);
        return err;
    }
    group_survey_judge(&survey);
    *out_survey = survey;
    return OK;
}

void group_survey_deinit(struct group_survey *survey)
{
    for (uint32_t i = 0; i < survey->count; i++) {
        offline_log_deinit(&survey->replicas[i].log);
        mem_free(survey->replicas[i].directory);
    }
    mem_free(survey->replicas);
    *survey = (struct group_survey){0};
}

/* --- judging --- */

static bool goes_further(const struct meta_offline_log *a, const struct meta_offline_log *b)
{
    return a->last_term > b->last_term ||
           (a->last_term == b->last_term && a->last_index > b->last_index);
}

static uint32_t whole_of(const struct group_survey *survey, const uint64_t *ids, uint32_t count)
{
    uint32_t whole = 0;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < survey->count; j++)
            whole +=
                survey->replicas[j].whole && survey->replicas[j].log.found.replica_id == ids[i];
    return whole;
}

static uint32_t majority_of(uint32_t voters)
{
    return voters / 2 + 1;
}

void group_survey_judge(struct group_survey *survey)
{
    survey->best = survey->count;
    survey->quorum = survey->complete = false;
    survey->membership = (struct raft_membership){0};
    for (uint32_t i = 0; i < survey->count; i++) {
        const struct survey_replica *replica = &survey->replicas[i];
        if (replica->whole &&
            (survey->best == survey->count ||
             goes_further(&replica->log.found, &survey->replicas[survey->best].log.found)))
            survey->best = i;
    }
    if (survey->best == survey->count)
        return;
    const struct log_group *group = group_of(&survey->replicas[survey->best]);
    survey->membership = group->memberships[group->membership_count - 1].membership;
    const struct raft_membership *m = &survey->membership;
    uint32_t voters = whole_of(survey, m->voters, m->voter_count);
    uint32_t old = whole_of(survey, m->old_voters, m->old_voter_count);
    bool joint = m->old_voter_count > 0;
    survey->quorum =
        voters >= majority_of(m->voter_count) && (!joint || old >= majority_of(m->old_voter_count));
    /* An entry of a joint membership is on a majority of both parts; one before it, of the old. */
    survey->complete = joint ? old > m->old_voter_count - majority_of(m->old_voter_count)
                             : voters > m->voter_count - majority_of(m->voter_count);
}

/* --- recovering --- */

char *group_aside_path(const char *directory, const char *word, uint64_t id)
{
    return mem_format("%s.%s-%016" PRIx64, directory, word, id);
}

/* Hard state and membership in one batch: a crash leaves both or none. The membership entry is of
 * a term that nobody ever led, above all of the log's. */
static enum err append_membership(struct io *io, struct meta_log *log,
                                  const struct survey_replica *replica)
{
    uint64_t group_id = replica->log.found.group_id;
    const struct log_group *group = meta_log_group(log, group_id);
    struct raft_membership alone = {.voters = {replica->log.found.replica_id}, .voter_count = 1};
    AUTO_VALUE(bytes) encoded = {.max = LOG_BLOCK_BYTES};
    raft_membership_encode(&encoded, &alone);
    uint64_t last_term = 0;
    TRY(log_group_term(group, group->last_index, &last_term));
    uint64_t term = 1 + (group->hard_state.term > last_term ? group->hard_state.term : last_term);
    struct raft_hard_state hard_state = {.term = term, .commit = group->hard_state.commit};
    struct raft_entry entry = {
        .term = term, .type = RAFT_MEMBERSHIP, .payload = bytes_slice(&encoded)};
    struct meta_log_write write = {.group = group_id,
                                   .hard_state = &hard_state,
                                   .first_index = group->last_index + 1,
                                   .entries = &entry,
                                   .entry_count = 1};
    uint64_t ticket = 0;
    TRY(meta_log_append(log, &write, &ticket));
    return meta_log_wait(io, log, ticket);
}

static enum err make_sole_voter(struct io *io, const struct survey_replica *replica,
                                uint64_t segment_bytes)
{
    AUTO(metrics) metrics = metrics_new();
    AUTO_STRING path = mem_format("%s/log", replica->directory);
    struct meta_log_options options = {.directory = path,
                                       .metrics = metrics,
                                       .segment_bytes = segment_bytes,
                                       .accept_loss = !replica->whole};
    memcpy(options.id, replica->log.log_id, LOG_ID_BYTES);
    struct meta_log *log = NULL;
    TRY(meta_log_open(io, &options, &log));
    enum err err = append_membership(io, log, replica);
    meta_log_close(io, log);
    return err;
}

enum err group_put_aside(struct io *io, const struct survey_replica *replica)
{
    uint64_t id = replica->log.found.replica_id;
    if (id == 0)
        io_random(io, &id, sizeof id); /* its identity cannot be read */
    AUTO_STRING aside = group_aside_path(replica->directory, "old", id);
    TRY(io_rename(io, replica->directory, aside));
    return io_sync_parent(io, replica->directory);
}

/* The one that goes on first: a crash in between leaves a quorum that is whole by itself, and the
 * others are no part of it any more. */
enum err group_survey_recover(struct io *io, struct group_survey *survey, uint64_t segment_bytes)
{
    assert(survey->best < survey->count);
    const struct survey_replica *best = &survey->replicas[survey->best];
    TRY(make_sole_voter(io, best, segment_bytes));
    log_warn("meta: recovered: the only voter from now on is replica=%016" PRIx64 " directory=%s "
             "last index=%" PRIu64 " term=%" PRIu64,
             best->log.found.replica_id, best->directory, best->log.found.last_index,
             best->log.found.last_term);
    for (uint32_t i = 0; i < survey->count; i++)
        if (i != survey->best && survey->replicas[i].found)
            TRY(group_put_aside(io, &survey->replicas[i]));
    return OK;
}
