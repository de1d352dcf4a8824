/* See offline_node.h. */
#include "offline_node.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum { COMPLAINT_BYTES_MAX = 4096 };

void offline_complain(const struct offline_options *options, const char *format, ...)
{
    char text[COMPLAINT_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    assert(bytes > 0);
    options->complain(options->context, slice_of_text(text));
}

/* --- drives --- */

static void complain_open(const struct offline_options *options, const char *directory,
                          enum err err)
{
    if (err == ERR_LOCKED)
        offline_complain(options, "%s is in use: stop the server first\n", directory);
    else if (err == ERR_NOT_FOUND)
        offline_complain(options, "%s is not a drive of Shale: it has no superblock\n", directory);
    else if (err == ERR_MISMATCH)
        offline_complain(options, "%s is given twice, or belongs to another node than the others\n",
                         directory);
    else
        offline_complain(options, "%s cannot be used: %s\n", directory, err_text(err));
}

bool offline_node_open(struct io *io, const struct offline_options *options,
                       const struct survey_options *survey, struct offline_node *out_node)
{
    struct survey_options with_directories = *survey;
    with_directories.directories = options->directories;
    with_directories.directory_count = options->directory_count;
    with_directories.memory_bytes = options->memory_bytes;
    const char *bad = NULL;
    *out_node = (struct offline_node){.io = io, .options = options};
    enum err err = survey_open(io, &with_directories, &bad, &out_node->survey);
    if (err != OK)
        complain_open(options, bad, err);
    return err == OK;
}

void offline_node_close(struct offline_node *node)
{
    meta_offline_close(node->io, node->meta);
    survey_close(node->survey);
}

bool offline_node_scan(struct offline_node *node)
{
    enum err err = survey_scan(node->io, node->survey);
    if (err == ERR_LIMIT)
        offline_complain(node->options,
                         "more shards than fit into the memory: give --memory MIB\n");
    else if (err != OK)
        offline_complain(node->options, "the scan ended early: %s\n", err_text(err));
    return err == OK;
}

/* --- metadata --- */

struct replica {
    char *directory;
    struct meta_offline_log log;
    bool usable; /* to be tried */
};

static void replica_free(struct replica *replicas, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        mem_free(replicas[i].directory);
    mem_free(replicas);
}

static bool is_damaged(const struct replica *replica)
{
    return replica->log.damage_file[0] != '\0';
}

static void tell_log(const struct report *report, const struct replica *replica)
{
    struct report_line line = report_begin(report, "replica");
    report_text(&line, "directory", slice_of_text(replica->directory));
    char id[24]; /* more than what a number of JSON holds exactly */
    snprintf(id, sizeof id, "%016" PRIx64, replica->log.replica_id);
    report_text(&line, "id", slice_of_text(id));
    report_number(&line, "last_term", replica->log.last_term);
    report_number(&line, "last_index", replica->log.last_index);
    report_text(&line, "log",
                slice_of_text(is_damaged(replica) ? "damaged"
                              : replica->log.torn ? "torn behind its acknowledged end"
                                                  : "whole"));
    report_end(&line);
    if (!is_damaged(replica))
        return;
    line = report_begin(report, "damage");
    report_text(&line, "file", slice_of_text(replica->log.damage_file));
    report_number(&line, "offset", replica->log.damage_offset);
    report_text(&line, "what", slice_of_text(replica->log.damage_reason));
    report_end(&line);
}

static void tell_store(const struct report *report, const struct replica *replica, enum err err)
{
    struct report_line line = report_begin(report, "damage");
    report_text(&line, "file", slice_of_text(replica->directory));
    report_text(&line, "what", SLICE_LITERAL("the replica cannot be used"));
    report_text(&line, "cause", slice_of_text(err_text(err)));
    report_end(&line);
}

/* What an election would prefer: whole logs, then the last entry (Raft §5.4.1). */
static bool knows_more(const struct replica *a, const struct replica *b)
{
    if (is_damaged(a) != is_damaged(b))
        return !is_damaged(a);
    if (a->log.last_term != b->log.last_term)
        return a->log.last_term > b->log.last_term;
    return a->log.last_index > b->log.last_index;
}

static bool check_replica(struct offline_node *node, const char *drive, const struct report *report,
                          struct replica *out)
{
    out->directory = mem_format("%s/meta", drive);
    enum err err = meta_offline_check(node->io, out->directory, &out->log);
    if (err == ERR_NOT_FOUND)
        return true;
    node->replica_count++;
    const uint8_t *cluster_id = survey_cluster_id(node->survey);
    out->usable = err == OK && out->log.replica_id != 0;
    if (out->usable && cluster_id != NULL && memcmp(out->log.cluster_id, cluster_id, 16) != 0) {
        out->usable = false;
        err = ERR_MISMATCH;
    }
    if (err == ERR_CANCELED || err == ERR_UNSUPPORTED) {
        offline_complain(node->options, "%s cannot be read: %s\n", out->directory, err_text(err));
        return false;
    }
    if (err != OK || is_damaged(out))
        node->replicas_damaged++;
    if (report != NULL && err == OK)
        tell_log(report, out);
    else if (report != NULL)
        tell_store(report, out, err);
    return true;
}

static struct replica *best_left(struct replica *replicas, uint32_t count)
{
    struct replica *best = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (replicas[i].usable && (best == NULL || knows_more(&replicas[i], best)))
            best = &replicas[i];
    return best;
}

/* ERR_CORRUPT: try another one. */
static enum err open_replica(struct offline_node *node, const struct replica *replica, bool verify)
{
    AUTO_STRING scratch =
        mem_format("%s/%016" PRIx64, node->options->scratch, replica->log.replica_id);
    struct meta_offline_options options = {.directory = replica->directory,
                                           .scratch = scratch,
                                           .kv = node->options->kv,
                                           .copy_store = node->options->copy_store,
                                           .context = node->options->context};
    struct meta_offline *meta = NULL;
    TRY(meta_offline_open(node->io, &options, &meta));
    enum err err = verify ? meta_offline_verify(node->io, meta) : OK;
    if (err != OK || node->meta != NULL) {
        meta_offline_close(node->io, meta);
        return err;
    }
    node->meta = meta;
    node->meta_is_cut = is_damaged(replica);
    snprintf(node->meta_directory, sizeof node->meta_directory, "%s", replica->directory);
    return OK;
}

static bool open_replicas(struct offline_node *node, struct replica *replicas, uint32_t count,
                          const struct report *report)
{
    struct replica *best = NULL;
    while ((best = best_left(replicas, count)) != NULL) {
        best->usable = false;
        if (report == NULL && node->meta != NULL)
            break;
        enum err err = open_replica(node, best, report != NULL);
        if (err == ERR_NO_SPACE) {
            offline_complain(node->options,
                             "no space for a copy of the metadata in %s: give --tmp DIR\n",
                             node->options->scratch);
            return false;
        }
        if (err == ERR_CANCELED)
            return false;
        if (err == OK)
            continue;
        if (!is_damaged(best))
            node->replicas_damaged++;
        if (report != NULL)
            tell_store(report, best, err);
    }
    return true;
}

bool offline_node_read_metadata(struct offline_node *node, const struct report *report)
{
    uint32_t count = node->options->directory_count;
    if (node->options->no_metadata)
        return true;
    struct replica *replicas = mem_alloc_array(count, sizeof *replicas);
    bool fine = true;
    for (uint32_t i = 0; fine && i < count; i++)
        fine = check_replica(node, node->options->directories[i], report, &replicas[i]);
    fine = fine && open_replicas(node, replicas, count, report);
    replica_free(replicas, count);
    return fine;
}
