/* Every record of every drive is read again and again, and what the drive has is compared with what
 * the metadata wants of it: rot is found while there is redundancy to repair it from.
 *
 * A fiber for each drive on the home reactor. A pass takes SCRUB_PASS_S by itself, its position is
 * kept in the drive's index store; one that was asked for runs at full speed, from the start, and
 * reads the index store too. */
#pragma once
#include "drive_index.h"
#include "storage.h"

enum { SCRUB_PASS_S = 14 * 24 * 3600 };

struct drive_scrub {
    uint64_t served;          /* the last request that a pass was begun for */
    bool running;             /* at full speed */
    uint64_t segment, offset; /* the last record that was read */
    uint64_t bytes, errors;   /* of this pass, or the one that ended last */
};

struct scrub {
    struct drive_scrub drives[STORAGE_DRIVES_LIFE_MAX]; /* by index */
    uint64_t requests;
    struct signal wake;
    struct counter *bytes, *errors;
};

struct scrub *scrub_new(struct metrics *metrics);
void scrub_free(struct scrub *scrub);
/* The drive joined. */
enum err scrub_start(struct io *io, struct storage *storage, struct drive *drive);
/* The storage stops: look at it. */
void scrub_wake(struct io *io, struct storage *storage);
