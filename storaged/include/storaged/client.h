/* Blocks in and out: what the gateway asks of the storage daemons.
 *
 * A block is up to 64 MiB of one object. The writer takes plain bytes, cuts them in stripes,
 * encodes, and spreads shards over the drives of a leased volume; the reader checks every cell
 * that it hands out. Callable from every reactor; a writer stays on the reactor that opened
 * it. */
#pragma once
#include "base/buf.h"
#include "meta/types.h"
#include "runtime/io.h"

struct storage; /* storaged/server.h */
struct storage_client;
struct block_writer;

enum {
    BLOCK_BYTES_MAX = META_BLOCK_BYTES_MAX,
    BLOCK_READ_BYTES_MAX = 1 << 20, /* of one block_read */
    BLOCK_WINDOW_BYTES = 2 << 20,   /* not yet durable bytes a writer holds before it waits */
    READ_GUARD_S_MAX = 3600,
};

/* A client of the drives in this process. */
struct storage_client *storage_client_new(struct storage *storage);
void storage_client_free(struct storage_client *client);
DEFINE_AUTO(storage_client, storage_client_free)

/* Metadata grows with every object, also with those whose bytes lie in it. ERR_NO_SPACE: a drive
 * that may hold it is below its reserve, and too few others are not. Never waits. */
enum err storage_check_space(struct storage_client *client);

/* Written into every shard's header, so that a drive can be understood without the metadata
 * service. */
struct block_hint {
    uint64_t bucket_id;
    struct slice bucket_name;
    struct slice key;
    struct block_id write_id; /* of the object's or part's first block; null: this is it */
    uint32_t ordinal;         /* of the block in the object or part, from 0 */
    uint64_t upload_id;
    uint32_t part_number;
};

/* Choose a volume (two random leased ones, the less loaded), take a block id, reserve space.
 *
 * bytes_expected  length of the block when known (1..BLOCK_BYTES_MAX), else 0; a wrong value
 *                 is an error only when more is written: ERR_LIMIT from the append.
 * ERR_NO_SPACE: below the reserve. ERR_FENCED: no volume can be written. ERR_BUSY: queue or
 * memory limits. ERR_LIMIT: longer than the drives' superblocks allow. */
enum err block_writer_open(struct io *io, struct storage_client *client,
                           const struct block_hint *hint, uint32_t bytes_expected,
                           struct block_writer **out_writer);
/* Append bytes [offset, offset + bytes) of `buf` to the block; the writer keeps a reference
 * until they are durable, so the caller must not change them. Waits while the window is full. A
 * drive that fails or hangs costs the block its shard there, as long as k + 1 are left and m >= 2;
 * else a block of up to 1 MiB is written again on another volume. Any error is final for this
 * block. ERR_FENCED: its drives fail. */
enum err block_writer_append(struct io *io, struct block_writer *writer, struct buf *buf,
                             size_t offset, size_t bytes);
/* End the block: all shards durable (or with m >= 2 at least k + 1 of them, the others named in
 * out_ref->missing). At least one byte was appended. The lease stays in use until
 * block_writer_free: call that when the entry that names the block was committed or given up. */
enum err block_writer_finish(struct io *io, struct block_writer *writer, struct block_ref *out_ref,
                             struct lease *out_lease);
/* Ends the writer; a block that was not finished is lost work that is collected later. Never
 * waits. */
void block_writer_free(struct block_writer *writer);
DEFINE_AUTO(block_writer, block_writer_free)
/* The id the block has; another one after it was written again. Final after finish. */
struct block_id block_writer_id(const struct block_writer *writer);

/* Read bytes [offset, offset + bytes) of a block (1..BLOCK_READ_BYTES_MAX, within ref->bytes) into
 * a fresh buffer of `pool`; they start at *out_offset of it. Every cell touched was checked; what
 * the page cache got wrong was read again from the device, what a drive does not give or gives
 * late is computed from others. ERR_CORRUPT: not enough good shards. ERR_FENCED: not enough while
 * drives are absent. ERR_NOT_FOUND: punched or never there. ERR_BUSY: pool empty. */
enum err block_read(struct io *io, struct storage_client *client, const struct block_ref *ref,
                    uint32_t offset, uint32_t bytes, struct buf_pool *pool, struct buf **out_buf,
                    size_t *out_offset);

/* Between begin and end no block is punched that was live at begin: take the guard before
 * looking the object up, so that an overwrite or delete does not pull it away under a reader.
 * Holds for READ_GUARD_S_MAX, or one slow reader would keep all deleted space: a read of a block
 * that was deleted fails afterwards. Never fails; cheap. */
struct read_guard {
    struct list_node node;
    uint64_t epoch;
    uint64_t begun_ns;
    unsigned reactor;
};
void read_guard_begin(struct io *io, struct storage_client *client, struct read_guard *guard);
void read_guard_end(struct io *io, struct storage_client *client, struct read_guard *guard);
