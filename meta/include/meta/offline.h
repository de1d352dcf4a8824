/* Metadata of a node that is not running, read exactly and without changing it: for the tools that
 * look through the drives of a stopped host.
 *
 * A replica is a log and a state store that may lag behind it. So the store's files are copied to
 * a scratch directory, opened there, and what the log has beyond is applied to the copy by the
 * code that a running replica uses. The drive is only read. */
#pragma once
#include "kv/kv.h"
#include "meta/types.h"
#include "runtime/io.h"

struct meta_offline;

/* What the log of one replica says. */
struct meta_offline_log {
    uint8_t cluster_id[16];
    uint64_t replica_id;
    uint64_t group_id;
    uint64_t last_term, last_index; /* of the last intact entry */
    bool torn;                      /* a crash cut off a write that was never acknowledged */
    /* Where acknowledged records are damaged: file "" when they are not. */
    char damage_file[IO_PATH_BYTES_MAX];
    uint64_t damage_offset;
    const char *damage_reason; /* static */
};

/* Read and check identity and log of the replica in `directory` (DIR/meta of a drive). Damage is
 * not an error but told in *out_log; with a damaged identity nothing else of it is known (replica
 * id 0). ERR_NOT_FOUND: no replica was made here. ERR_UNSUPPORTED: of a later release. */
enum err meta_offline_check(struct io *io, const char *directory, struct meta_offline_log *out_log);

struct meta_offline_options {
    const char *directory; /* DIR/meta */
    const char *scratch;   /* a directory that does not exist yet; removed by close */
    struct kv_provider *kv;
    /* Copy a store to a new place; NULL: the files of its directory. Stores of the simulator are
     * no files. */
    enum err (*copy_store)(void *context, const char *from, const char *to);
    void *context;
};
/* Everything the replica knows, its whole log applied: what it would serve if it were elected. Of
 * a damaged log the entries before the damage. ERR_CORRUPT: the store is damaged, or behind the
 * log's first entry. ERR_NO_SPACE: for the copy. */
enum err meta_offline_open(struct io *io, const struct meta_offline_options *options,
                           struct meta_offline **out_offline);
void meta_offline_close(struct io *io, struct meta_offline *offline);
/* Index of the last entry applied. */
uint64_t meta_offline_index(const struct meta_offline *offline);
/* Read every block of the store and compare checksums; ERR_CORRUPT names the file in the log. */
enum err meta_offline_verify(struct io *io, struct meta_offline *offline);

/* As the calls of meta/client.h; in addition ERR_CORRUPT: the store is damaged. */
enum err meta_offline_bucket_find(struct io *io, struct meta_offline *offline, struct slice name,
                                  struct bucket *out_bucket);
enum err meta_offline_bucket_list(struct io *io, struct meta_offline *offline, struct slice after,
                                  struct bucket_page **out_page);
enum err meta_offline_object_find(struct io *io, struct meta_offline *offline, uint64_t bucket_id,
                                  struct slice key, struct object **out_object);
/* Keys of a bucket in order, after `after`; META_LIST_MAX a page. */
enum err meta_offline_object_list(struct io *io, struct meta_offline *offline, uint64_t bucket_id,
                                  struct slice after, struct list_page **out_page);
/* Extents of an object of either layout with blocks, from `offset` on. */
enum err meta_offline_extents(struct io *io, struct meta_offline *offline,
                              const struct object *object, uint64_t offset,
                              struct extent_page **out_page);

enum { META_OFFLINE_BLOCKS_MAX = 1024 };
struct meta_offline_block {
    struct block_ref ref;
    bool pending; /* only by an upload in progress: not part of any object yet */
};
struct meta_offline_blocks {
    struct meta_offline_block blocks[META_OFFLINE_BLOCKS_MAX];
    uint32_t count;
    bool truncated; /* continue after the last one */
};
/* Blocks that something refers to, each once, by rising id, strictly after `after` (the null id:
 * from the start). */
enum err meta_offline_block_list(struct io *io, struct meta_offline *offline, struct block_id after,
                                 struct meta_offline_blocks *out_blocks);
