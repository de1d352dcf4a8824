/* Keeps the replicas as the drives allow. One fiber on the home reactor, one change at a time. */
#pragma once
#include "group_core.h"
#include "group_survey.h"

enum {
    RECONCILE_TRIES_MAX = 3, /* new replicas on one drive, an hour */
    RECONCILE_SOON_MS = 20,  /* between looks while something is to be done */
    RECONCILE_IDLE_MS = 1000,
};
#define RECONCILE_TRIES_NS (3600 * IO_NS_PER_S)
/* A voter whose drive is gone is left out without a successor only after this. */
#define RECONCILE_SHRINK_NS (60 * IO_NS_PER_S)
#define RECONCILE_RETAIN_NS (1800 * IO_NS_PER_S)

struct group_drive {
    char *directory;
    uint8_t drive[16];
    bool usable;
    bool listed;    /* else it is gone, and goes from here too when its replica is closed */
    bool unknown;   /* may hold a replica that was not looked for yet */
    bool broken;    /* holds one that failed, and is not opened again */
    bool keeps;     /* what it holds is put aside for good, should a new one be made */
    bool joins;     /* its replica is new and no member yet */
    bool leftovers; /* given up replicas may lie beside it */
    struct meta_server *server; /* or NULL */
    uint64_t tries_ns[RECONCILE_TRIES_MAX];
};

struct reconciler {
    struct meta_group *group;
    struct meta_group_options options;
    struct group_drive *drives[META_DRIVES_MAX + GROUP_REPLICAS_MAX];
    uint32_t drive_count;
    struct signal wake;
    struct fiber_group fibers;
    bool stopping;
    bool read_only;
    bool settled;
    uint64_t shrink_since_ns; /* a voter is to be left out since then; 0: none */
    struct counter *rebuilt_total;
    struct gauge *voters, *voters_missing;
};

struct group_wanted {
    uint32_t voters, learners;
};
struct group_wanted group_wanted_of(uint32_t drives);

void group_reconcile_fiber(struct io *io, void *argument);
/* Open the replica of a drive, which must be there. */
enum err group_open_replica(struct io *io, struct reconciler *reconciler, struct group_drive *drive,
                            bool reads_only);
/* Make the first replica of a group, alone. */
enum err group_create_first(struct io *io, struct reconciler *reconciler,
                            struct group_drive *drive);
/* Close the replica of a drive. */
void group_close_replica(struct io *io, struct reconciler *reconciler, struct group_drive *drive);
void group_drive_free(struct group_drive *drive);
uint32_t group_listed_drives(const struct reconciler *reconciler);
