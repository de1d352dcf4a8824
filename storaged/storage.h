/* The inside of `struct storage`: drives, volumes, and what each reactor has for itself. */
#pragma once
#include "appender.h"
#include "base/buf.h"
#include "erasure/codec.h"
#include "storaged/client.h"
#include "storaged/server.h"

enum {
    STORAGE_VOLUMES_MAX = 65536,
    STORAGE_BUFFER_BYTES = 128 << 20, /* for bytes that writers must copy, and stripes */
    FOOTER_CACHE_ENTRIES = 128,
};

/* A volume whose slots are drives of this process. Never freed before the storage; constant
 * but for the atomics. */
struct volume_entry {
    struct volume volume;
    struct drive *drives[META_SHARDS_MAX]; /* by slot */
    struct codec *codec;
    _Atomic bool leased; /* by any reactor */
};

/* A reactor's right to write to one volume. */
struct reactor_lease {
    struct lease lease;
    uint64_t next; /* sequence of the next block; == lease.to: used up or none */
    bool opening;
    bool opened; /* once */
};

/* A lease that is used up: closed when nothing written under it can still be on its way. */
struct old_lease {
    struct lease lease;
    uint64_t close_ns;
};

/* Used by fibers of that reactor only. */
struct reactor_store {
    struct io *io;
    struct storage *storage;
    struct fiber_group group;
    struct appender *appenders[STORAGE_DRIVES_MAX]; /* NULL until used */
    struct reactor_lease *leases;                   /* by index of the volume */
    uint32_t lease_capacity;
    struct signal lease_opened;
    struct old_lease *old_leases;
    uint32_t old_lease_count, old_lease_capacity;
    struct list guards; /* by rising epoch */
    uint64_t random;    /* state of a xorshift, for choices that need not be strong */
};

/* CRCs of a record with more cells than an index row holds. */
struct footer_entry {
    unsigned drive;
    uint64_t segment, offset;
    uint64_t used_at;
    uint32_t cell_count;
    uint32_t *cell_crcs;
};

struct storage {
    struct io *home;
    struct metrics *metrics;
    bool checks_mounts;
    struct storage_identity identity;
    struct drive *drives[STORAGE_DRIVES_MAX];
    uint32_t drive_count;
    struct drive *meta_drive;
    struct reactor_store *reactors;
    unsigned reactor_count;
    struct lane *read_lane;
    struct buf_pool *pool;
    struct meta_client *meta;
    uint64_t boot; /* nonce of this start */

    pthread_mutex_t *mutex; /* guards the table of volumes and the footer cache */
    struct volume_entry **volumes;
    uint32_t volume_count, volume_capacity;
    struct footer_entry footers[FOOTER_CACHE_ENTRIES];
    uint64_t footer_clock;

    _Atomic uint64_t guard_epoch;
    _Atomic bool stopping;
    struct signal stop;            /* home reactor */
    struct fiber_group background; /* home reactor: ticks and collector */
    struct fiber_mutex collecting;

    struct counter *written_bytes, *read_bytes, *corrupt_cells, *blocks_punched;
};

struct storage_client {
    struct storage *storage;
};

static inline struct reactor_store *storage_reactor(struct io *io, struct storage *storage)
{
    return &storage->reactors[io_reactor_index(io)];
}
/* This reactor's appender on a drive, made on first use. */
struct appender *storage_appender(struct io *io, struct storage *storage, struct drive *drive);
