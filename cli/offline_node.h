/* What fsck and extract share: the drives, surveyed, and the best metadata on them. */
#pragma once
#include "cli/offline.h"
#include "meta/offline.h"
#include "report.h"
#include "storaged/survey.h"

struct offline_node {
    struct io *io;
    const struct offline_options *options;
    struct survey *survey;
    struct meta_offline *meta; /* NULL: none can be read */
    char meta_directory[IO_PATH_BYTES_MAX];
    bool meta_is_cut; /* its log is damaged: what was acknowledged last is not in it */
    uint32_t replica_count, replicas_damaged;
};

/* The callbacks of `survey` are the caller's; directories come from `options`. False after a
 * complaint. */
bool offline_node_open(struct io *io, const struct offline_options *options,
                       const struct survey_options *survey, struct offline_node *out_node);
void offline_node_close(struct offline_node *node);
/* Read all records; false after a complaint. */
bool offline_node_scan(struct offline_node *node);
/* Find the replicas and open the one that knows most. With `report` each is told and every store
 * is checked; NULL: stop at the first that can be opened. False after a complaint. */
bool offline_node_read_metadata(struct offline_node *node, const struct report *report);
void offline_complain(const struct offline_options *options, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
