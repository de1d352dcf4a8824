/* See roster.h. */
#include "roster.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

static enum err refuse(struct roster *roster, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum err refuse(struct roster *roster, enum err err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(roster->reason, sizeof roster->reason, format, arguments); /* cut when long */
    va_end(arguments);
    return FAIL(err, "%s", roster->reason);
}

const char *roster_state_text(enum roster_state state)
{
    switch (state) {
    case ROSTER_HERE:
        return "here";
    case ROSTER_MISSING:
        return "missing";
    case ROSTER_NOT_MOUNTED:
        return "not mounted";
    case ROSTER_UNREADABLE:
        return "unreadable";
    case ROSTER_ROLLED_BACK:
        return "an older copy of itself";
    case ROSTER_LOST:
        return "lost";
    case ROSTER_NEVER_MADE:
        return "never made";
    }
    return "unknown";
}

static size_t path_bytes(const char *path)
{
    size_t bytes = strlen(path);
    while (bytes > 1 && path[bytes - 1] == '/')
        bytes--;
    return bytes;
}

bool roster_same_path(const char *a, const char *b)
{
    size_t bytes = path_bytes(a);
    return bytes == path_bytes(b) && memcmp(a, b, bytes) == 0;
}

static bool is_shale(const struct roster_found *found)
{
    return found->err == OK && found->kind == DRIVE_SHALE;
}

static bool is_empty(const struct roster_found *found)
{
    return found->err == OK && found->kind == DRIVE_EMPTY;
}

/* --- what no redundancy helps against --- */

static enum err check_each(const struct roster_found *found, uint32_t count, struct roster *roster)
{
    for (uint32_t i = 0; i < count; i++) {
        enum err err = found[i].err;
        if (err == ERR_LOCKED || err == ERR_UNSUPPORTED || err == ERR_CANCELED ||
            err == ERR_INVALID)
            return refuse(roster, err, "%s: %s", found[i].directory, err_text(err));
        if (err == OK && found[i].kind == DRIVE_FOREIGN)
            return refuse(roster, ERR_EXISTS,
                          "%s holds files that are not Shale's; give an empty directory",
                          found[i].directory);
    }
    return OK;
}

static enum err check_pair(const struct roster_found *a, const struct roster_found *b,
                           struct roster *roster)
{
    bool same_inode = a->exists && b->exists && a->err == OK && b->err == OK &&
                      a->device == b->device && a->inode == b->inode;
    if (same_inode || roster_same_path(a->directory, b->directory))
        return refuse(roster, ERR_INVALID, "%s and %s are one directory", a->directory,
                      b->directory);
    if (!is_shale(a) || !is_shale(b))
        return OK;
    const struct superblock *x = a->superblock;
    const struct superblock *y = b->superblock;
    if (memcmp(x->node.cluster_id, y->node.cluster_id, sizeof x->node.cluster_id) != 0 ||
        x->node.node_id != y->node.node_id)
        return refuse(roster, ERR_MISMATCH, "%s and %s belong to different clusters or nodes",
                      a->directory, b->directory);
    if (drive_id_equal(&x->drive, &y->drive))
        return refuse(roster, ERR_MISMATCH, "%s and %s are one drive, one is a copy of the other",
                      a->directory, b->directory);
    return OK;
}

/* --- the drives of the node --- */

/* The highest version; of equal ones the same whatever the order of directories. */
static const struct superblock *newest_table(const struct roster_found *found, uint32_t count)
{
    const struct superblock *newest = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const struct superblock *superblock = found[i].superblock;
        if (!is_shale(&found[i]))
            continue;
        if (newest == NULL || superblock->table_version > newest->table_version ||
            (superblock->table_version == newest->table_version &&
             memcmp(superblock->drive.bytes, newest->drive.bytes, 16) < 0))
            newest = superblock;
    }
    return newest;
}

static struct roster_known *find_known(struct roster *roster, const struct drive_id *id)
{
    for (uint32_t i = 0; i < roster->known_count; i++) {
        if (drive_id_equal(&roster->known[i].entry.id, id))
            return &roster->known[i];
    }
    return NULL;
}

/* What the other drives say that its counter was at least. */
static uint64_t counter_recorded(const struct roster_found *found, uint32_t count,
                                 const struct drive_id *id)
{
    uint64_t recorded = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_shale(&found[i]) || drive_id_equal(&found[i].superblock->drive, id))
            continue;
        for (uint32_t j = 0; j < found[i].superblock->drive_count; j++) {
            const struct superblock_drive *entry = &found[i].superblock->drives[j];
            if (drive_id_equal(&entry->id, id) && entry->mount_counter > recorded)
                recorded = entry->mount_counter;
        }
    }
    return recorded;
}

static void take_table(const struct superblock *newest, struct roster *roster)
{
    roster->node = newest->node;
    roster->incarnation = newest->incarnation;
    roster->table_version = newest->table_version;
    roster->parity_floor = newest->parity_floor;
    roster->known_count = newest->drive_count;
    for (uint32_t i = 0; i < newest->drive_count; i++)
        roster->known[i] =
            (struct roster_known){.entry = newest->drives[i],
                                  .state = newest->drives[i].lost ? ROSTER_LOST : ROSTER_MISSING,
                                  .found = ROSTER_NONE};
}

/* A drive that the newest table does not name was given up long ago, unless its own table is as
 * new: then a crash kept the change from the others. */
static enum err place_drive(const struct roster_found *found, uint32_t count, uint32_t index,
                            struct roster *roster)
{
    const struct superblock *superblock = found[index].superblock;
    struct roster_known *known = find_known(roster, &superblock->drive);
    roster->actions[index] = ROSTER_LEAVE;
    if (superblock->parity_floor > roster->parity_floor &&
        superblock->table_version == roster->table_version)
        roster->parity_floor = superblock->parity_floor;
    if (known == NULL) {
        if (superblock->table_version < roster->table_version)
            return OK;
        if (roster->known_count == STORAGE_DRIVES_MAX)
            return refuse(roster, ERR_LIMIT, "more than %d drives", STORAGE_DRIVES_MAX);
        known = &roster->known[roster->known_count++];
        *known = (struct roster_known){.entry = {.id = superblock->drive}, .state = ROSTER_MISSING};
    }
    known->found = index;
    if (known->state == ROSTER_LOST)
        return OK;
    if (superblock->mount_counter < counter_recorded(found, count, &superblock->drive)) {
        known->state = ROSTER_ROLLED_BACK;
        return OK;
    }
    known->state = ROSTER_HERE;
    roster->actions[index] = ROSTER_OPEN;
    return OK;
}

static struct roster_known *known_at(struct roster *roster, const char *directory)
{
    for (uint32_t i = 0; i < roster->known_count; i++) {
        struct roster_known *known = &roster->known[i];
        if (known->state == ROSTER_MISSING && roster_same_path(known->entry.path, directory))
            return known;
    }
    return NULL;
}

static void place_empty(const struct roster_found *found, uint32_t index, struct roster *roster)
{
    struct roster_known *known = known_at(roster, found->directory);
    roster->actions[index] = ROSTER_FORMAT;
    if (known == NULL)
        return;
    known->found = index;
    if (known->entry.was_mount_point && !found->is_mount_point)
        known->state = ROSTER_NOT_MOUNTED;
    else if (known->entry.mount_counter == 0)
        known->state = ROSTER_NEVER_MADE;
    else if (found->exists)
        known->state = ROSTER_LOST;
    if (known->state != ROSTER_LOST && known->state != ROSTER_NEVER_MADE)
        roster->actions[index] = ROSTER_LEAVE;
}

/* It can only be one of those that were not found elsewhere. */
static enum err place_unreadable(const struct roster_found *found, uint32_t index,
                                 struct roster *roster)
{
    struct roster_known *known = known_at(roster, found->directory);
    for (uint32_t i = 0; known == NULL && i < roster->known_count; i++) {
        if (roster->known[i].state == ROSTER_MISSING && roster->known[i].found == ROSTER_NONE)
            known = &roster->known[i];
    }
    if (known == NULL)
        return refuse(roster, found->err, "%s cannot be read (%s) and is no drive of this node",
                      found->directory, err_text(found->err));
    known->found = index;
    known->state = ROSTER_UNREADABLE;
    roster->actions[index] = ROSTER_LEAVE;
    return OK;
}

static bool is_absent(const struct roster_known *known)
{
    return known->state != ROSTER_HERE && known->state != ROSTER_NEVER_MADE &&
           !known->entry.vacated;
}

/* It took the place of one that is lost. No block has shards on both: the older one got no slot any
 * more when the newer one was made, so a place costs a block one shard however often it was
 * emptied. */
static bool is_counted_before(const struct roster *roster, uint32_t index)
{
    for (uint32_t i = 0; i < index; i++) {
        if (is_absent(&roster->known[i]) && roster->known[i].state == ROSTER_LOST &&
            roster_same_path(roster->known[i].entry.path, roster->known[index].entry.path))
            return true;
    }
    return false;
}

uint32_t roster_absent(const struct roster *roster)
{
    uint32_t absent = 0;
    for (uint32_t i = 0; i < roster->known_count; i++)
        absent += is_absent(&roster->known[i]) && !is_counted_before(roster, i);
    return absent;
}

bool roster_bears_absent(struct roster *roster)
{
    uint32_t absent = roster_absent(roster);
    if (absent <= roster->parity_floor)
        return true;
    char names[ROSTER_REASON_BYTES / 2] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < roster->known_count && used < sizeof names; i++) {
        const struct roster_known *known = &roster->known[i];
        if (!is_absent(known))
            continue;
        int bytes = snprintf(names + used, sizeof names - used, "%s%s (%s)", used > 0 ? ", " : "",
                             known->entry.path, roster_state_text(known->state));
        used += bytes > 0 ? (size_t)bytes : 0;
    }
    (void)snprintf(roster->reason, sizeof roster->reason,
                   "%u of %u drives do not serve, the redundancy bears %u: %s; put them back, or "
                   "accept the loss with --accept-loss",
                   absent, roster->known_count, roster->parity_floor, names);
    return false;
}

static enum err place_all(const struct roster_found *found, uint32_t count, struct roster *roster)
{
    for (uint32_t i = 0; i < count; i++) {
        if (is_shale(&found[i]))
            TRY(place_drive(found, count, i, roster));
    }
    uint32_t formats = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (is_empty(&found[i]))
            place_empty(&found[i], i, roster);
        formats += is_empty(&found[i]) && roster->actions[i] == ROSTER_FORMAT;
    }
    if (roster->known_count + formats > STORAGE_DRIVES_MAX)
        return refuse(roster, ERR_LIMIT,
                      "more than %d drives, lost ones that are not rebuilt yet included",
                      STORAGE_DRIVES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (found[i].err != OK)
            TRY(place_unreadable(&found[i], i, roster));
    }
    return OK;
}

/* Nothing of the node is known: all of it is to be made, or nothing. */
static enum err decide_new(const struct roster_found *found, uint32_t count, struct roster *roster)
{
    roster->is_new = true;
    for (uint32_t i = 0; i < count; i++) {
        if (found[i].err != OK)
            return refuse(roster, found[i].err, "%s cannot be read: %s", found[i].directory,
                          err_text(found[i].err));
        roster->actions[i] = ROSTER_FORMAT;
    }
    return OK;
}

enum err roster_decide(const struct roster_found *found, uint32_t count, bool accepts_loss,
                       struct roster *out_roster)
{
    assert(count > 0);
    assert(count <= STORAGE_DRIVES_MAX);
    memset(out_roster, 0, sizeof *out_roster);
    TRY(check_each(found, count, out_roster));
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = i + 1; j < count; j++)
            TRY(check_pair(&found[i], &found[j], out_roster));
    }
    const struct superblock *newest = newest_table(found, count);
    if (newest == NULL)
        return decide_new(found, count, out_roster);
    take_table(newest, out_roster);
    TRY(place_all(found, count, out_roster));
    if (!accepts_loss && !roster_bears_absent(out_roster))
        return FAIL(ERR_NOT_FOUND, "%s", out_roster->reason);
    return OK;
}
