/* See cli/node.h. */
#include "cli/node.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "credentials.h"
#include "node_metadata.h"

struct node {
    struct metrics *metrics;
    struct storage *storage;
    struct node_metadata metadata;
    struct meta_client *meta_client;
    struct storage_client *storage_client;
    struct gateway *gateway;
    bool reads_only; /* the metadata has no quorum */
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

struct meta_group *node_meta(struct node *node)
{
    return node->metadata.group;
}

bool node_ready(const struct node *node)
{
    return meta_group_ready(node->metadata.group) && storage_ready(node->storage);
}

const char *node_root_user(const struct node *node)
{
    return node->root.access_key;
}

const char *node_credentials_path(const struct node *node)
{
    return node->credentials_path;
}

/* Without a quorum reads go on; writes are refused by the metadata itself. */
static bool gateway_is_ready(void *context)
{
    const struct node *node = context;
    return node->reads_only || meta_group_ready(node->metadata.group);
}

/* A directory whose drive is not there may be a bare mount point: nothing is put into it. */
static const char *first_that_serves(const struct drive_status *drives, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!drives[i].fenced && drives[i].state != DRIVE_STATE_MISSING &&
            drives[i].state != DRIVE_STATE_QUARANTINED)
            return drives[i].directory;
    }
    return NULL;
}

static enum err services_start(struct io *io, const struct node_options *options, struct node *node)
{
    struct node_metadata *metadata = &node->metadata;
    node->meta_client = meta_client_new(metadata->group);
    node->reads_only = node_metadata_reads_only(io, metadata);
    if (node->reads_only) {
        TRY(storage_start_reading(io, node->storage, node->meta_client));
    } else {
        TRY(storage_start(io, node->storage, node->meta_client));
        TRY(node_metadata_settle(io, metadata));
    }
    node->storage_client = storage_client_new(node->storage);
    struct drive_status drives[STORAGE_DRIVES_MAX];
    uint32_t count = storage_drives(io, node->storage, drives, STORAGE_DRIVES_MAX);
    const char *directory = first_that_serves(drives, count);
    if (directory == NULL)
        return FAIL(ERR_FENCED, "no drive serves");
    TRY(credentials_establish(io, node->meta_client, directory, options->root_user,
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
        .redundancy = options->redundancy,
        .out_s = options->out_s,
        .out_no_spare_s = options->out_no_spare_s,
        .accepts_loss = options->accepts_loss,
        .drives_changed = node_metadata_drives_changed,
        .context = &node->metadata,
    };
    TRY(credentials_check(options->root_user, options->root_password));
    TRY(storage_open(io, &storage, &node->storage));
    node->metadata.home = io;
    node->metadata.storage = node->storage;
    TRY(node_metadata_start(io, options, &node->metadata));
    return services_start(io, options, node);
}

enum err node_start(struct io *io, const struct node_options *options, struct node **out_node)
{
    assert(options->directory_count >= 1);
    struct node *node = mem_new(struct node);
    node->metrics = options->metrics;
    fiber_group_init(&node->metadata.asking);
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
    node_metadata_leave_storage(io, &node->metadata);
    if (node->storage != NULL)
        storage_stop(io, node->storage);
    meta_client_free(node->meta_client);
    if (node->metadata.group != NULL)
        meta_group_stop(io, node->metadata.group);
    mem_free(node);
}
