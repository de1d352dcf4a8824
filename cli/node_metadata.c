/* See node_metadata.h. */
#include "node_metadata.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include <stdio.h>

enum { SEGMENT_NAMES_BYTES_MAX = 64 << 20, SETTLE_SECONDS_MAX = 120 };

/* The drives that may hold a replica, as the group wants them told. */
struct group_drives {
    uint32_t count;
    struct drive_status status[STORAGE_DRIVES_MAX];
    struct meta_group_drive drives[STORAGE_DRIVES_MAX];
    char paths[STORAGE_DRIVES_MAX][IO_PATH_BYTES_MAX];
};

static enum err path_join(const char *directory, const char *name, char *out)
{
    int length = snprintf(out, IO_PATH_BYTES_MAX, "%s/%s", directory, name);
    if (length >= IO_PATH_BYTES_MAX)
        return FAIL(ERR_INVALID, "path too long directory=%s", directory);
    return OK;
}

/* A drive that is full keeps its replica only where there are too few others. */
static bool is_usable(const struct drive_status *status, uint32_t roomy)
{
    return status->state == DRIVE_STATE_OK || status->state == DRIVE_STATE_DRAINING ||
           (status->state == DRIVE_STATE_FULL && roomy < STORAGE_ROOMY_DRIVES);
}

static enum err list_drives(const struct node_metadata *metadata, struct group_drives *out)
{
    out->count = storage_drives(metadata->home, metadata->storage, out->status, STORAGE_DRIVES_MAX);
    uint32_t roomy = 0;
    for (uint32_t i = 0; i < out->count; i++)
        roomy += out->status[i].state == DRIVE_STATE_OK;
    for (uint32_t i = 0; i < out->count; i++) {
        const struct drive_status *status = &out->status[i];
        TRY(path_join(status->directory, "meta", out->paths[i]));
        out->drives[i] = (struct meta_group_drive){.directory = out->paths[i],
                                                   .usable = is_usable(status, roomy)};
        memcpy(out->drives[i].drive, status->id.bytes, sizeof out->drives[i].drive);
    }
    return OK;
}

void node_metadata_drives_changed(void *context)
{
    struct node_metadata *metadata = context;
    if (metadata->group == NULL)
        return;
    struct group_drives *list = mem_new(struct group_drives);
    enum err err = list_drives(metadata, list);
    if (err == OK)
        err = meta_group_set_drives(metadata->home, metadata->group, list->drives, list->count);
    if (err != OK)
        log_error("node: the metadata does not follow the change of drives: %s", err_text(err));
    mem_free(list);
}

static bool drive_is_here(struct io *io, void *context, const uint8_t drive[16])
{
    struct node_metadata *metadata = context;
    struct drive_id id;
    memcpy(id.bytes, drive, sizeof id.bytes);
    if (metadata->left)
        return false;
    fiber_group_enter(&metadata->asking);
    bool is_here = storage_drive_is_here(io, metadata->storage, &id);
    fiber_group_leave(io, &metadata->asking);
    return is_here;
}

void node_metadata_leave_storage(struct io *io, struct node_metadata *metadata)
{
    metadata->left = true;
    fiber_group_wait(io, &metadata->asking);
}

bool node_metadata_reads_only(struct io *io, const struct node_metadata *metadata)
{
    struct meta_group_status status;
    meta_group_status(io, metadata->group, &status);
    return status.read_only;
}

/* --- the first start --- */

static enum err exists(struct io *io, const char *directory, const char *name, bool *out_exists)
{
    char path[IO_PATH_BYTES_MAX];
    struct file_info info;
    TRY(path_join(directory, name, path));
    enum err err = io_stat(io, path, &info);
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    *out_exists = err == OK;
    return OK;
}

/* A drive gets its first segment when there is something to serve. */
static enum err has_segments(struct io *io, const char *directory, bool *out_has)
{
    char path[IO_PATH_BYTES_MAX];
    AUTO_VALUE(bytes) names = {.max = SEGMENT_NAMES_BYTES_MAX};
    TRY(path_join(directory, "segments", path));
    TRY(io_list_directory(io, path, &names));
    *out_has = names.bytes > 0;
    return OK;
}

/* What the usable drives say about metadata, together. */
struct traces {
    bool replica, marker, segment;
    bool all_marked;
};

static enum err find_traces(struct io *io, const struct group_drives *list, struct traces *out)
{
    *out = (struct traces){.all_marked = true};
    for (uint32_t i = 0; i < list->count; i++) {
        const char *directory = list->status[i].directory;
        bool replica = false;
        bool marker = false;
        bool segment = false;
        if (!list->drives[i].usable)
            continue;
        TRY(exists(io, directory, "meta/identity", &replica));
        TRY(exists(io, directory, "metadata-made", &marker));
        TRY(has_segments(io, directory, &segment));
        out->replica = out->replica || replica;
        out->marker = out->marker || marker;
        out->segment = out->segment || segment;
        out->all_marked = out->all_marked && marker;
    }
    return OK;
}

/* Begin the metadata anew where a first start ended early; nowhere else. */
static enum err clear_early_end(struct io *io, const struct group_drives *list,
                                const struct traces *traces)
{
    if (traces->marker || traces->segment) {
        log_error("node: the metadata in %s is missing; the objects of this node cannot be named "
                  "without it: put it back",
                  list->paths[0]);
        return ERR_CORRUPT;
    }
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->drives[i].usable)
            TRY(io_remove_tree(io, list->paths[i]));
    }
    return OK;
}

static enum err start(struct io *io, const struct node_options *options,
                      struct node_metadata *metadata, struct group_drives *list)
{
    struct traces traces;
    TRY(list_drives(metadata, list));
    TRY(find_traces(io, list, &traces));
    if (!traces.replica)
        TRY(clear_early_end(io, list, &traces));
    metadata->marked = traces.all_marked;
    struct meta_group_options group = {
        .create = !traces.replica,
        .drive_is_here = drive_is_here,
        .context = metadata,
        .auto_recover = options->auto_recover,
        .group_id = 1,
        .kv = options->kv,
        .metrics = options->metrics,
        .log_segment_bytes = options->log_segment_bytes,
    };
    const struct storage_identity *identity = storage_identity_of(metadata->storage);
    memcpy(group.cluster_id, identity->cluster_id, sizeof group.cluster_id);
    return meta_group_start(io, &group, list->drives, list->count, &metadata->group);
}

enum err node_metadata_start(struct io *io, const struct node_options *options,
                             struct node_metadata *metadata)
{
    struct group_drives *list = mem_new(struct group_drives);
    enum err err = start(io, options, metadata, list);
    mem_free(list);
    return err;
}

/* --- markers --- */

static enum err write_marker(struct io *io, const char *directory)
{
    char path[IO_PATH_BYTES_MAX];
    AUTO(file) file = NULL;
    TRY(path_join(directory, "metadata-made", path));
    TRY(io_open(io, path, FILE_WRITE | FILE_CREATE, &file));
    return io_sync_directory(io, directory);
}

static enum err write_markers(struct io *io, const struct node_metadata *metadata,
                              struct group_drives *list)
{
    uint32_t written = 0;
    enum err err = list_drives(metadata, list);
    for (uint32_t i = 0; i < list->count && (err == OK || err == ERR_IO); i++) {
        if (!list->drives[i].usable)
            continue;
        err = write_marker(io, list->status[i].directory);
        written += err == OK; /* a drive that fails does not hold up the others */
    }
    return written > 0 && err == ERR_IO ? OK : err;
}

enum err node_metadata_settle(struct io *io, struct node_metadata *metadata)
{
    if (metadata->marked)
        return OK;
    uint64_t until_ns = io_now_ns(io) + SETTLE_SECONDS_MAX * IO_NS_PER_S;
    TRY(meta_group_settle(io, metadata->group, until_ns));
    struct group_drives *list = mem_new(struct group_drives);
    enum err err = write_markers(io, metadata, list);
    mem_free(list);
    return err;
}
