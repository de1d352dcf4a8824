/* Which drives make up the node: a pure decision from what lies in the directories given at start
 * and from the tables of drives in the superblocks found there.
 *
 * Nothing is formatted where data may be: an empty directory becomes a drive when all are empty (a
 * new node), when it is where a drive of the node was (that drive was emptied: declared lost), or
 * when no known drive was there (a drive is added). What is missing or lost beyond the parity that
 * the node promised is for the operator to decide. */
#pragma once
#include "superblock.h"

enum { ROSTER_REASON_BYTES = 2048, ROSTER_NONE = UINT32_MAX };

/* What a directory was found to be. */
struct roster_found {
    const char *directory;
    enum err err; /* of the look at it; the rest but the name counts on OK only */
    enum drive_kind kind;
    bool exists; /* an empty place may also be no directory at all */
    bool is_mount_point;
    uint64_t device, inode;
    const struct superblock *superblock; /* DRIVE_SHALE */
};

enum roster_action {
    ROSTER_OPEN = 1,
    ROSTER_FORMAT = 2,
    ROSTER_LEAVE = 3, /* neither read nor written */
};

/* Why a known drive does not serve. */
enum roster_state {
    ROSTER_HERE = 1,
    ROSTER_MISSING = 2,
    ROSTER_NOT_MOUNTED = 3, /* missing; where it was a mount point there is none now */
    ROSTER_UNREADABLE = 4,  /* missing; its directory gives errors */
    ROSTER_ROLLED_BACK = 5, /* an older copy of itself: taken for missing, never opened */
    ROSTER_LOST = 6,        /* declared: emptied, or given up */
    ROSTER_NEVER_MADE = 7,  /* a format that was cut off: nothing was ever written there */
};

struct roster_known {
    struct superblock_drive entry;
    enum roster_state state;
    uint32_t found; /* its directory, or ROSTER_NONE */
};

struct roster {
    bool is_new;
    struct storage_identity node; /* unless new */
    uint64_t incarnation;
    uint64_t table_version; /* highest seen */
    uint8_t parity_floor;
    uint32_t known_count;
    struct roster_known known[STORAGE_DRIVES_MAX];
    enum roster_action actions[STORAGE_DRIVES_MAX]; /* by directory */
    char reason[ROSTER_REASON_BYTES];               /* of a refusal, for the operator */
};

/* Decide; on an error *out_roster->reason says why the start is refused: ERR_EXISTS foreign files,
 * ERR_MISMATCH drives of several nodes or copies, ERR_INVALID a directory given twice,
 * ERR_NOT_FOUND more is missing than the parity floor bears, ERR_LIMIT too many drives, or the
 * error of the look at a directory that no redundancy covers. The order of directories does not
 * matter. */
enum err roster_decide(const struct roster_found *found, uint32_t count, bool accepts_loss,
                       struct roster *out_roster);
/* Known drives that do not serve, lost ones included; not those whose contents are elsewhere. */
uint32_t roster_absent(const struct roster *roster);
/* Whether the parity floor bears what is absent; else the reason is filled. */
bool roster_bears_absent(struct roster *roster);
const char *roster_state_text(enum roster_state state);
/* Same place: trailing slashes do not count. */
bool roster_same_path(const char *a, const char *b);
