/* The inside of `struct storage`: drives, volumes, and what each reactor has for itself. */
#pragma once
#include "appender.h"
#include "base/buf.h"
#include "erasure/codec.h"
#include "repair_queue.h"
#include "roster.h"
#include "storaged/client.h"
#include "storaged/server.h"

enum {
    STORAGE_VOLUMES_MAX = 65536,
    STORAGE_BUFFER_BYTES = 128 << 20, /* for bytes that writers must copy, stripes, read pieces */
    FOOTER_CACHE_ENTRIES = 128,
};

/* A volume as the metadata service said it is; constant but for the atomics. When it changes there
 * (repair, a drive that joins) the table gets a new entry; users of the old one keep theirs. */
struct volume_entry {
    struct volume volume;
    struct drive *drives[META_SHARDS_MAX]; /* by slot; NULL: not here */
    struct codec *codec;
    uint32_t index; /* in the table, for ever */
    _Atomic uint32_t references;
    _Atomic bool drained; /* no block is begun on it */
};

/* A reactor's right to write to one volume. */
struct held_lease {
    struct list_node node; /* of the reactor's retired ones */
    struct lease lease;
    uint64_t next;       /* sequence of the next block; == lease.to: used up */
    uint32_t uses;       /* blocks between their begin and the end of their commit */
    uint64_t used_at_ns; /* when a block was begun last */
    bool closing;
};
struct reactor_volume {
    struct held_lease *lease; /* NULL: none yet */
    bool opening;
};

/* Used by fibers of that reactor only. */
struct reactor_store {
    struct io *io;
    struct storage *storage;
    struct fiber_group group;
    struct appender *appenders[STORAGE_DRIVES_LIFE_MAX]; /* NULL until used */
    struct reactor_volume *volumes;                      /* by index of the volume */
    uint32_t volume_capacity;
    struct signal lease_opened;
    struct list retired; /* of struct held_lease: closed once unused */
    bool tending;
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

/* A drive of the node, whether it is here or not; home reactor only. */
struct known_drive {
    struct superblock_drive entry;
    enum roster_state state;
    struct drive *drive; /* opened in this life, also when fenced since; else NULL */
    bool fresh;
    bool told_lost;  /* the metadata knows */
    bool was_full;   /* when it was looked at last */
    bool complained; /* said once why its directory cannot be taken */
    struct gauge *state_gauge, *free_gauge, *total_gauge, *reserve_gauge;
};

struct storage {
    struct io *home;
    struct storage_options options;
    char *directories[STORAGE_DRIVES_MAX]; /* what options.directories points to */
    struct metrics *metrics;
    struct storage_identity identity;
    uint64_t incarnation;

    struct drive *drives[STORAGE_DRIVES_LIFE_MAX]; /* opened in this life; only grows */
    _Atomic uint32_t drive_count;
    bool reads_only; /* storage_start_reading */
    struct known_drive known[STORAGE_DRIVES_MAX];
    uint32_t known_count;
    uint64_t table_version;
    _Atomic uint8_t parity_floor;
    struct fiber_mutex membership; /* held while the table of known drives changes */
    bool life_full;                /* said once */

    struct reactor_store *reactors;
    unsigned reactor_count;
    struct buf_pool *pool;
    struct meta_client *meta;
    uint64_t boot; /* nonce of this start */

    pthread_mutex_t *mutex; /* guards the table of volumes, the footer cache, the repair queue */
    struct volume_entry **volumes;
    uint32_t volume_count, volume_capacity;
    struct footer_entry footers[FOOTER_CACHE_ENTRIES];
    uint64_t footer_clock;
    struct repair_queue repair_queue;
    struct repair *repair; /* home reactor */
    struct scrub *scrub;   /* likewise */

    _Atomic uint32_t rung; /* of new volumes: data shards << 8 | parity shards */
    struct fiber_mutex placing;
    _Atomic uint64_t rung_missed_ns; /* when drives for a rung were looked for in vain; 0: found */

    _Atomic uint64_t guard_epoch;
    _Atomic bool stopping;
    struct signal stop;            /* home reactor */
    struct fiber_group background; /* home reactor: ticks, watch, placement, collector */
    struct fiber_mutex collecting;
    bool collects_orphans; /* soon, not only when it is time; home reactor */

    struct counter *written_bytes, *read_bytes, *corrupt_cells, *blocks_punched;
    struct counter *blocks_degraded, *reads_hedged, *reads_decoded;
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
/* False when the storage stops. */
bool storage_sleep(struct io *io, struct storage *storage, uint64_t ms);
