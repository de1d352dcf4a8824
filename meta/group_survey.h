/* What the logs on the drives say before any replica runs: who may go on, and what may be missing.
 *
 * An entry was acknowledged when it was durable on a majority of the voters. Of n voters it is on
 * at least one of any n - majority + 1, so where more than n - majority voters are whole nothing
 * acknowledged can be missing from all of them, and the one whose log has the highest (last term,
 * last index) has everything (Raft §5.4.1: any of the others might have voted for it). */
#pragma once
#include "offline_log.h"

struct survey_replica {
    char *directory;
    bool found; /* a replica was made here */
    bool whole; /* identity and log are undamaged */
    struct offline_log log;
};

struct group_survey {
    struct survey_replica *replicas; /* one a directory */
    uint32_t count;
    uint32_t found;
    uint32_t best;                     /* the whole log that goes furthest; `count`: none */
    struct raft_membership membership; /* the newest of that log; no voter: none */
    bool quorum;                       /* the whole voters are one */
    bool complete;                     /* nothing acknowledged can be missing from the best log */
};

/* Reads only; a directory that is NULL has no replica. ERR_MISMATCH: replicas of two clusters or
 * groups. ERR_UNSUPPORTED. */
enum err group_survey_load(struct io *io, const char *const *directories, uint32_t count,
                           struct group_survey *out_survey);
/* Judge again after a replica was found damaged. */
void group_survey_judge(struct group_survey *survey);
void group_survey_deinit(struct group_survey *survey);
/* Make the best replica the only voter, durably; the others are put aside. */
enum err group_survey_recover(struct io *io, struct group_survey *survey, uint64_t segment_bytes);
/* The name of a directory beside a replica's: "<directory>.<word>-<id>". */
char *group_aside_path(const char *directory, const char *word, uint64_t id);
/* Rename a replica's directory to `<directory>.old-<id>`, durably. */
enum err group_put_aside(struct io *io, const struct survey_replica *replica);
