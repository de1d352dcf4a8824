/* The metadata of a node: one replica group over those of its drives that are there. */
#pragma once
#include "cli/node.h"
#include "runtime/sync.h"

struct node_metadata {
    struct io *home;
    struct storage *storage;
    struct meta_group *group;
    bool marked; /* every drive says that metadata was made */
    bool left;   /* node_metadata_leave_storage */
    struct fiber_group asking;
};

/* Open the replicas on the opened drives; at the first start of a node make the first one.
 *
 * Nothing is served before the markers `metadata-made` exist (node_metadata_settle), so a
 * start that finds neither a marker nor a replica nor a segment begins the metadata anew. One
 * that finds a marker or segments but no replica refuses (ERR_CORRUPT): missing metadata is
 * never taken for an empty one. */
enum err node_metadata_start(struct io *io, const struct node_options *options,
                             struct node_metadata *metadata);
/* After the first start: wait until all wanted replicas are there, so that what is
 * acknowledged from now on has its redundancy, and write the markers. */
enum err node_metadata_settle(struct io *io, struct node_metadata *metadata);
/* The drives are others now: a storage_options.drives_changed; `context` is the metadata. */
void node_metadata_drives_changed(void *context);
/* Before the storage stops: the group, which stops after it, asks it nothing more. */
void node_metadata_leave_storage(struct io *io, struct node_metadata *metadata);
/* True when there is no quorum: reads go on, writes do not. */
bool node_metadata_reads_only(struct io *io, const struct node_metadata *metadata);
