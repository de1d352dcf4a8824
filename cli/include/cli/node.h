/* Every role of one process put together: drives, metadata replica, gateway. `shale server`
 * and the simulator start the same node; only listeners and signals are the server's own
 * (cli/server.c). */
#pragma once
#include "gateway/gateway.h"
#include "kv/kv.h"
#include "meta/group.h"
#include "runtime/metrics.h"
#include "storaged/server.h"

struct node;

struct node_options {
    const char *const *directories;
    uint32_t directory_count;
    struct kv_provider *kv;
    struct metrics *metrics;
    /* Root credentials; both or none. None: those made at the first start stay; at the first
     * start random ones. */
    const char *root_user;
    const char *root_password;
    struct s3_config s3;
    size_t body_budget_bytes;       /* 0 = the gateway's default */
    uint64_t storage_segment_bytes; /* 0 = by drive size; tests use small ones */
    uint64_t log_segment_bytes;     /* 0 = default */
    uint64_t drive_bytes_min;       /* 0 = default */
    bool checks_mounts;
    uint32_t out_s, out_no_spare_s; /* of drives that stay away; 0 = storage_options' defaults */
    struct redundancy redundancy;   /* of new blocks; zeros = by the number of drives */
    bool accepts_loss;              /* start although more drives are gone than can be borne */
    bool auto_recover;              /* meta_group_options.auto_recover */
};

/* Take the directories as they are: empty ones become drives of a new node, known ones are
 * opened and recovered, anything else is refused untouched. `io` is reactor 0 and becomes the
 * home of the metadata replica. Returns when the node can serve. Errors as storage_open and
 * meta_group_start, each with a log line for the operator. */
enum err node_start(struct io *io, const struct node_options *options, struct node **out_node);
/* Let running work end, flush, release. From reactor 0; no request may run any more. Frees the
 * node. */
void node_stop(struct io *io, struct node *node);

struct gateway *node_gateway(struct node *node);
struct storage *node_storage(struct node *node);
struct meta_group *node_meta(struct node *node);
bool node_ready(const struct node *node);
/* Access key id of the root identity, and the file that holds a copy of its secret ("" when
 * the operator gave it). */
const char *node_root_user(const struct node *node);
const char *node_credentials_path(const struct node *node);
