/* Tools over the drives of a host whose server does not run: check them, and get an object out of
 * them. They lock the drives and write nothing to them.
 *
 * Both run in the simulator too; what they print goes to a function. */
#pragma once
#include "base/slice.h"
#include "kv/kv.h"
#include "runtime/io.h"

enum offline_status {
    OFFLINE_WHOLE = 0,   /* nothing is wrong */
    OFFLINE_DAMAGED = 1, /* something is, and everything can be had */
    OFFLINE_LOST = 2,    /* something cannot be had */
    OFFLINE_REFUSED = 3, /* could not look: locked, not a drive, out of space */
};

struct offline_options {
    const char *const *directories;
    uint32_t directory_count;
    struct kv_provider *kv;
    const char *scratch;   /* an empty directory for copies of the metadata */
    uint64_t memory_bytes; /* of the table of shards; 0 = default */
    bool no_metadata;      /* as if there were none */
    /* See meta/offline.h; NULL with stores that are files. */
    enum err (*copy_store)(void *context, const char *from, const char *to);
    /* Whole lines: findings, and what stands in the way. */
    void (*print)(void *context, struct slice text);
    void (*complain)(void *context, struct slice text);
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes); /* or NULL */
    void *context;
};

struct fsck_options {
    struct offline_options offline;
    bool json;      /* each line is a JSON object */
    bool all;       /* print every damaged block, not only the first ones */
    bool no_decode; /* do not read the blocks of more than one data shard again */
};
/* Look through everything; the last line sums up. */
enum offline_status fsck_run(struct io *io, const struct fsck_options *options);

struct extract_options {
    struct offline_options offline;
    struct slice bucket;
    struct slice key;
    /* Which one, by the records alone: of an upload, or with this first block. 0: the newest. */
    uint64_t upload_id;
    uint64_t write_volume, write_sequence;
    bool list;  /* only print what there is */
    bool holes; /* zeros for what is lost, and OFFLINE_LOST */
    /* Takes the object's bytes in order. */
    enum err (*write)(struct io *io, void *context, struct buf *buf, size_t offset, size_t bytes);
};
/* Nothing is written when the object cannot be had and `holes` is not set. */
enum offline_status extract_run(struct io *io, const struct extract_options *options);
