/* See cli/node.h.
 *
 * First start of a directory, each step durable before the next: superblock (storage_format),
 * metadata replica, marker `metadata-made`. Nothing is served before the marker exists, so a
 * start that finds neither the marker nor a whole replica nor a segment begins the metadata anew.
 * One that finds the marker or segments but no metadata refuses: missing metadata is never taken
 * for an empty one. */
#include "cli/node.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "credentials.h"

#include <stdio.h>

enum { SEGMENT_NAMES_BYTES_MAX = 64 << 20 };

struct node {
    struct metrics *metrics;
    struct storage *storage;
    struct meta_server *meta;
    struct meta_client *meta_client;
    struct storage_client *storage_client;
    struct gateway *gateway;
    struct identity root;
    char credentials_path[CREDENTIALS_PATH_BYTES_MAX];
};

struct gateway *node_gateway(struct node *node)
{
    return node->gateway;
}

struct storage *node_storage(struct node *node)
{
    return node->storage;
}

struct meta_server *node_meta(struct node *node)
{
    return node->meta;
}

bool node_ready(const struct node *node)
{
    return meta_server_ready(node->meta) && storage_ready(node->storage);
}

const char *node_root_user(const struct node *node)
{
    return node->root.access_key;
}

const char *node_credentials_path(const struct node *node)
{
    return node->credentials_path;
}

static bool gateway_is_ready(void *context)
{
    const struct node *node = context;
    return meta_server_ready(node->meta);
}

static enum err path_join(const char *directory, const char *name, char *out)
{
    int length = snprintf(out, IO_PATH_BYTES_MAX, "%s/%s", directory, name);
    if (length >= IO_PATH_BYTES_MAX)
        return FAIL(ERR_INVALID, "path too long directory=%s", directory);
    return OK;
}

/* Refuse what is not ours, format what is empty; all directories belong to one node afterwards. */
static enum err drives_prepare(struct io *io, const struct node_options *options,
                               const struct storage_options *storage,
                               struct storage_identity *out_identity)
{
    bool found = false;
    uint32_t empty = 0;
    for (uint32_t i = 0; i < options->directory_count; i++) {
        enum drive_kind kind;
        struct storage_identity identity;
        enum err err = storage_probe(io, options->directories[i], &kind, &identity);
        if (err != OK && err != ERR_CANCELED)
            log_error("node: the superblock of %s cannot be used: %s", options->directories[i],
                      err_text(err));
        TRY(err);
        if (kind == DRIVE_FOREIGN) {
            log_error("node: %s holds files that are not Shale's; give an empty directory",
                      options->directories[i]);
            return ERR_EXISTS;
        }
        if (kind == DRIVE_EMPTY) {
            empty++;
            continue;
        }
        if (found && memcmp(&identity, out_identity, sizeof identity) != 0) {
            log_error("node: %s belongs to another cluster or node", options->directories[i]);
            return ERR_MISMATCH;
        }
        *out_identity = identity;
        found = true;
    }
    if (empty == 0)
        return OK;
    if (found) {
        log_error("node: an empty directory beside known drives cannot be added yet");
        return ERR_UNSUPPORTED;
    }
    memset(out_identity, 0, sizeof *out_identity);
    io_random(io, out_identity->cluster_id, sizeof out_identity->cluster_id);
    io_random(io, &out_identity->node_id, sizeof out_identity->node_id);
    io_random(io, &out_identity->replica_id, sizeof out_identity->replica_id);
    /* 0 means "none" in both id spaces. */
    out_identity->node_id |= 1;
    out_identity->replica_id |= 1;
    return storage_format(io, storage, out_identity);
}

static enum err write_marker(struct io *io, const char *directory, const char *path)
{
    AUTO(file) file = NULL;
    TRY(io_open(io, path, FILE_WRITE | FILE_CREATE, &file));
    TRY(io_sync(io, file));
    return io_sync_directory(io, directory);
}

/* A drive gets its first segment when there is something to serve. */
static enum err find_segments(struct io *io, const struct node_options *options, bool *out_found)
{
    *out_found = false;
    for (uint32_t i = 0; i < options->directory_count; i++) {
        char path[IO_PATH_BYTES_MAX];
        AUTO_VALUE(bytes) names = {.max = SEGMENT_NAMES_BYTES_MAX};
        TRY(path_join(options->directories[i], "segments", path));
        TRY(io_list_directory(io, path, &names));
        *out_found = *out_found || names.bytes > 0;
    }
    return OK;
}

/* Begin the metadata anew where a first start ended early; nowhere else. */
static enum err meta_clear(struct io *io, const struct node_options *options, bool marked,
                           const char *path)
{
    bool segments = false;
    TRY(find_segments(io, options, &segments));
    if (marked || segments) {
        log_error("node: the metadata in %s is missing; the objects of this node cannot be named "
                  "without it: put it back",
                  path);
        return ERR_CORRUPT;
    }
    return io_remove_tree(io, path);
}

static enum err meta_start(struct io *io, const struct node_options *options,
                           const struct storage_identity *identity, struct node *node)
{
    const char *directory = storage_meta_directory(node->storage);
    char path[IO_PATH_BYTES_MAX];
    char marker[IO_PATH_BYTES_MAX];
    TRY(path_join(directory, "meta", path));
    TRY(path_join(directory, "metadata-made", marker));
    struct file_info info;
    enum err marked = io_stat(io, marker, &info);
    if (marked != OK && marked != ERR_NOT_FOUND)
        return marked;
    bool made = false;
    TRY(meta_server_probe(io, path, &made));
    if (!made)
        TRY(meta_clear(io, options, marked == OK, path));
    struct meta_server_options server = {
        .directory = path,
        .create = !made,
        .replica_id = identity->replica_id,
        .group_id = 1,
        .kv = options->kv,
        .metrics = options->metrics,
        .log_segment_bytes = options->log_segment_bytes,
    };
    memcpy(server.cluster_id, identity->cluster_id, sizeof server.cluster_id);
    TRY(meta_server_start(io, &server, &node->meta));
    return marked == OK ? OK : write_marker(io, directory, marker);
}

static enum err services_start(struct io *io, const struct node_options *options, struct node *node)
{
    node->meta_client = meta_client_new(node->meta);
    TRY(storage_start(io, node->storage, node->meta_client));
    node->storage_client = storage_client_new(node->storage);
    TRY(credentials_establish(io, node->meta_client, options->directories[0], options->root_user,
                              options->root_password, &node->root, node->credentials_path));
    struct gateway_options gateway = {
        .meta = node->meta_client,
        .storage = node->storage_client,
        .metrics = options->metrics,
        .s3 = options->s3,
        .body_budget_bytes = options->body_budget_bytes,
        .ready = gateway_is_ready,
        .ready_context = node,
    };
    node->gateway = gateway_new(io, &gateway);
    return OK;
}

static enum err start(struct io *io, const struct node_options *options, struct node *node)
{
    struct storage_options storage = {
        .directories = options->directories,
        .directory_count = options->directory_count,
        .kv = options->kv,
        .metrics = options->metrics,
        .segment_bytes = options->storage_segment_bytes,
        .drive_bytes_min = options->drive_bytes_min,
        .checks_mounts = options->checks_mounts,
    };
    struct storage_identity identity;
    TRY(credentials_check(options->root_user, options->root_password));
    TRY(drives_prepare(io, options, &storage, &identity));
    TRY(storage_open(io, &storage, &node->storage));
    TRY(meta_start(io, options, &identity, node));
    return services_start(io, options, node);
}

enum err node_start(struct io *io, const struct node_options *options, struct node **out_node)
{
    assert(options->directory_count >= 1);
    struct node *node = mem_new(struct node);
    node->metrics = options->metrics;
    enum err err = start(io, options, node);
    if (err != OK) {
        node_stop(io, node);
        return err;
    }
    *out_node = node;
    return OK;
}

/* Also of a node that did not come up whole: each part may be missing. */
void node_stop(struct io *io, struct node *node)
{
    if (node == NULL)
        return;
    gateway_free(node->gateway);
    storage_client_free(node->storage_client);
    if (node->storage != NULL)
        storage_stop(io, node->storage);
    meta_client_free(node->meta_client);
    if (node->meta != NULL)
        meta_server_stop(io, node->meta);
    mem_free(node);
}
