/* See drives.h.
 *
 * Order of steps when the set of drives changes, each durable before the next: the superblocks of
 * new drives (with a table of a higher version that names them and the lost ones), then the tables
 * of all drives with their mount counters, then the first use. Whoever is cut off in between finds
 * either the old set and an empty place, or the new set; a drive that was never opened (counter 0
 * in the table) may be made again, since nothing was written to it. */
#include "drives.h"

#include "base/log.h"
#include "base/mem.h"
#include "drive.h"
#include "ladder.h"
#include <assert.h>
#include <inttypes.h>

enum { LOOK_TIMEOUT_S = 5 };
#define DRIVE_BYTES_MIN_DEFAULT (UINT64_C(1) << 30)

/* --- looking --- */

/* A directory on another device than its parent is where a file system is mounted. */
static bool is_mount_point(struct io *io, const char *directory)
{
    AUTO_STRING parent = mem_format("%s/..", directory);
    struct file_info here, above;
    return io_stat(io, directory, &here) == OK && io_stat(io, parent, &above) == OK &&
           here.device != above.device;
}

/* The superblock is the caller's to free. */
static void look(struct io *io, const char *directory, struct roster_found *out)
{
    struct superblock *superblock = mem_new(struct superblock);
    struct file_info info = {.bytes = 0};
    *out = (struct roster_found){.directory = directory, .superblock = superblock};
    out->err = drive_probe(io, directory, &out->kind, superblock);
    if (out->err != OK)
        return;
    out->exists = io_stat(io, directory, &info) == OK && info.is_directory;
    out->device = info.device;
    out->inode = info.inode;
    out->is_mount_point = out->exists && is_mount_point(io, directory);
}

static void free_superblock(const struct roster_found *found)
{
    struct superblock *superblock = (struct superblock *)(uintptr_t)found->superblock;
    mem_free(superblock);
}

/* --- the table of known drives --- */

static struct known_drive *find_known(struct storage *storage, const struct drive_id *id)
{
    for (uint32_t i = 0; i < storage->known_count; i++) {
        if (drive_id_equal(&storage->known[i].entry.id, id))
            return &storage->known[i];
    }
    return NULL;
}

struct drive *drives_find(struct storage *storage, const struct drive_id *id)
{
    uint32_t count = atomic_load(&storage->drive_count);
    for (uint32_t i = 0; i < count; i++) {
        if (drive_id_equal(&storage->drives[i]->superblock->drive, id))
            return storage->drives[i];
    }
    return NULL;
}

static void set_place(struct io *io, struct superblock_drive *entry, const char *directory)
{
    size_t bytes = strnlen(directory, sizeof entry->path - 1);
    memset(entry->path, 0, sizeof entry->path);
    memcpy(entry->path, directory, bytes);
    entry->was_mount_point = is_mount_point(io, directory);
}

static struct known_drive *add_known(struct io *io, struct storage *storage, const char *directory)
{
    assert(storage->known_count < STORAGE_DRIVES_MAX);
    struct known_drive *known = &storage->known[storage->known_count++];
    *known = (struct known_drive){.state = ROSTER_HERE, .fresh = true};
    io_random(io, &known->entry.id, sizeof known->entry.id);
    set_place(io, &known->entry, directory);
    return known;
}

static void remove_known(struct storage *storage, struct known_drive *known)
{
    struct known_drive *last = &storage->known[--storage->known_count];
    memmove(known, known + 1, (size_t)((char *)(last + 1) - (char *)(known + 1)));
}

static void fill_table(const struct storage *storage, struct superblock *table)
{
    table->table_version = storage->table_version;
    table->parity_floor = storage->parity_floor;
    table->drive_count = storage->known_count;
    memset(table->drives, 0, sizeof table->drives);
    for (uint32_t i = 0; i < storage->known_count; i++) {
        table->drives[i] = storage->known[i].entry;
        table->drives[i].lost = storage->known[i].state == ROSTER_LOST;
    }
}

enum err drives_write_tables(struct io *io, struct storage *storage)
{
    struct superblock *table = mem_new(struct superblock);
    storage->table_version++;
    fill_table(storage, table);
    enum err worst = ERR_FENCED;
    bool written = false;
    uint32_t count = atomic_load(&storage->drive_count);
    for (uint32_t i = 0; i < count && !io_canceled(io); i++) {
        if (!drive_is_ok(storage->drives[i]))
            continue;
        enum err err = drive_write_table(io, storage->drives[i], table);
        written = written || err == OK;
        if (err != OK)
            worst = err;
    }
    mem_free(table);
    return written ? OK : worst;
}

enum err drives_raise_floor(struct io *io, struct storage *storage, uint8_t parity_shards)
{
    if (parity_shards <= storage->parity_floor || storage->options.accepts_loss)
        return OK;
    TRY(fiber_mutex_lock(io, &storage->membership));
    storage->parity_floor = parity_shards;
    enum err err = drives_write_tables(io, storage);
    fiber_mutex_unlock(io, &storage->membership);
    return err;
}

enum err drives_forget(struct io *io, struct storage *storage, const struct drive_id *id)
{
    TRY(fiber_mutex_lock(io, &storage->membership));
    struct known_drive *known = find_known(storage, id);
    enum err err = OK;
    if (known != NULL && known->state == ROSTER_LOST) {
        remove_known(storage, known);
        err = drives_write_tables(io, storage);
    }
    fiber_mutex_unlock(io, &storage->membership);
    return err;
}

/* --- formatting and opening one --- */

static uint64_t bytes_min(const struct storage_options *options)
{
    return options->drive_bytes_min > 0 ? options->drive_bytes_min : DRIVE_BYTES_MIN_DEFAULT;
}

static enum err check_size(struct io *io, const struct storage_options *options,
                           const char *directory, uint64_t *out_bytes)
{
    enum err err = io_make_directory(io, directory);
    if (err != OK && err != ERR_EXISTS)
        return err;
    struct space_info space;
    TRY(io_space(io, directory, &space));
    if (space.total_bytes < bytes_min(options)) {
        log_error("format: file system too small bytes=%" PRIu64 " minimum=%" PRIu64 " path=%s",
                  space.total_bytes, bytes_min(options), directory);
        return FAIL(ERR_NO_SPACE, "file system too small");
    }
    *out_bytes = space.total_bytes;
    return OK;
}

static enum err format_one(struct io *io, struct storage *storage, const struct known_drive *known)
{
    uint64_t bytes = 0;
    TRY(check_size(io, &storage->options, known->entry.path, &bytes));
    struct superblock *superblock = mem_new(struct superblock);
    fill_table(storage, superblock);
    superblock->node = storage->identity;
    superblock->drive = known->entry.id;
    superblock->incarnation = storage->incarnation;
    superblock->formatted_ms = io_wall_ms(io);
    superblock->segment_bytes = storage->options.segment_bytes > 0
                                    ? storage->options.segment_bytes
                                    : superblock_segment_bytes(bytes);
    superblock->block_bytes_max = superblock->segment_bytes / 2 < BLOCK_BYTES_MAX
                                      ? (uint32_t)(superblock->segment_bytes / 2)
                                      : BLOCK_BYTES_MAX;
    enum err err = drive_format(io, known->entry.path, superblock);
    mem_free(superblock);
    return err;
}

/* In its place of the table; used by nobody before the tables are written. */
static enum err open_one(struct io *io, struct storage *storage, struct known_drive *known,
                         struct drive **out_drive)
{
    uint32_t index = atomic_load(&storage->drive_count);
    if (index == STORAGE_DRIVES_LIFE_MAX) {
        if (!storage->life_full)
            log_error("storage: %d drives were opened since the start, a restart is needed before "
                      "more can join",
                      STORAGE_DRIVES_LIFE_MAX);
        storage->life_full = true;
        return FAIL(ERR_LIMIT, "drives of one life");
    }
    struct drive_options options = {
        .directory = known->entry.path,
        .kv = storage->options.kv,
        .segment_bytes = storage->options.segment_bytes,
        .drive_bytes_min = bytes_min(&storage->options),
        .index = index,
    };
    enum err err = drive_open(io, &options, out_drive);
    if (err != OK && err != ERR_CANCELED)
        log_error("storage: the drive does not open path=%s cause=\"%s\"", known->entry.path,
                  err_text(err));
    return err;
}

/* Into the list of the life: from here on other reactors may see it. */
static void publish(struct storage *storage, struct known_drive *known, struct drive *drive)
{
    uint32_t index = atomic_load(&storage->drive_count);
    assert(drive->index == index);
    known->drive = drive;
    known->entry.vacated = false;
    known->entry.mount_counter = drive->superblock->mount_counter;
    storage->drives[index] = drive;
    atomic_store(&storage->drive_count, index + 1);
}

/* --- start --- */

static void take_roster(struct io *io, struct storage *storage, const struct roster *roster,
                        const struct roster_found *found)
{
    storage->table_version = roster->table_version + 1;
    storage->parity_floor = roster->parity_floor;
    storage->incarnation = roster->is_new ? 1 : roster->incarnation;
    storage->identity = roster->node;
    if (roster->is_new) {
        io_random(io, storage->identity.cluster_id, sizeof storage->identity.cluster_id);
        io_random(io, &storage->identity.node_id, sizeof storage->identity.node_id);
        storage->identity.node_id |= 1; /* 0 means "none" */
    }
    for (uint32_t i = 0; i < roster->known_count; i++) {
        const struct roster_known *from = &roster->known[i];
        if (from->state == ROSTER_NEVER_MADE)
            continue;
        struct known_drive *known = &storage->known[storage->known_count++];
        *known = (struct known_drive){.entry = from->entry, .state = from->state};
        if (from->state == ROSTER_HERE)
            set_place(io, &known->entry, found[from->found].directory);
        else
            log_write(from->state == ROSTER_LOST ? LOG_WARN : LOG_ERROR,
                      "storage: a drive of this node is %s last_path=%s",
                      roster_state_text(from->state), from->entry.path);
    }
}

/* What is fine for a while and what is not: before anything is formatted. */
static enum err check_promise(struct storage *storage, uint32_t formats, const char **out_reason)
{
    const struct storage_options *options = &storage->options;
    struct redundancy wanted = options->redundancy;
    uint32_t members = formats;
    uint32_t usable = formats;
    for (uint32_t i = 0; i < storage->known_count; i++) {
        members += storage->known[i].state != ROSTER_LOST;
        usable += storage->known[i].state == ROSTER_HERE;
    }
    *out_reason = NULL;
    if ((uint32_t)wanted.data_shards + wanted.parity_shards > members)
        *out_reason = "the redundancy asked for needs more drives than there are";
    else if (wanted.data_shards > 0 && wanted.parity_shards < storage->parity_floor &&
             !options->accepts_loss)
        *out_reason = "the redundancy asked for has less parity than what this node has promised";
    if (*out_reason != NULL)
        return FAIL(ERR_INVALID, "%s", *out_reason);
    struct redundancy rung = ladder_rung(usable, wanted, 0);
    if (options->accepts_loss || rung.parity_shards > storage->parity_floor)
        storage->parity_floor = rung.parity_shards;
    return OK;
}

static bool bears(struct storage *storage, struct roster *roster, uint32_t known_index)
{
    roster->known[known_index].state = ROSTER_UNREADABLE;
    return storage->options.accepts_loss || roster_bears_absent(roster);
}

/* Those that are here; one that does not open counts as missing where the redundancy bears it. */
static enum err open_known(struct io *io, struct storage *storage, struct roster *roster)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < roster->known_count; i++) {
        if (roster->known[i].state == ROSTER_NEVER_MADE)
            continue;
        struct known_drive *known = &storage->known[at++];
        if (known->state != ROSTER_HERE)
            continue;
        struct drive *drive = NULL;
        enum err err = open_one(io, storage, known, &drive);
        if (err == OK) {
            publish(storage, known, drive);
            continue;
        }
        if (err == ERR_CANCELED || err == ERR_LOCKED || err == ERR_UNSUPPORTED ||
            !bears(storage, roster, i)) {
            if (roster->reason[0] != '\0')
                log_error("storage: %s", roster->reason);
            return err;
        }
        known->state = ROSTER_UNREADABLE;
    }
    return OK;
}

static enum err format_new(struct io *io, struct storage *storage, const struct roster *roster,
                           const struct roster_found *found)
{
    const struct storage_options *options = &storage->options;
    uint32_t first = storage->known_count;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < options->directory_count; i++) {
        if (roster->actions[i] != ROSTER_FORMAT)
            continue;
        TRY(check_size(io, options, found[i].directory, &bytes));
        (void)add_known(io, storage, found[i].directory);
    }
    for (uint32_t i = first; i < storage->known_count; i++) {
        TRY(format_one(io, storage, &storage->known[i]));
        log_info("storage: new drive directory=%s", storage->known[i].entry.path);
    }
    for (uint32_t i = first; i < storage->known_count; i++) {
        struct drive *drive = NULL;
        TRY(open_one(io, storage, &storage->known[i], &drive));
        publish(storage, &storage->known[i], drive);
    }
    return OK;
}

static void warn_of_shared_devices(const struct storage *storage)
{
    uint32_t count = atomic_load(&storage->drive_count);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = i + 1; j < count; j++) {
            if (storage->drives[i]->device != storage->drives[j]->device)
                continue;
            log_warn("storage: directories share one device, they fail together paths=%s,%s",
                     storage->drives[i]->directory, storage->drives[j]->directory);
            return;
        }
    }
}

static enum err open_all(struct io *io, struct storage *storage, struct roster *roster,
                         const struct roster_found *found)
{
    uint32_t formats = 0;
    const char *reason = NULL;
    for (uint32_t i = 0; i < storage->options.directory_count; i++)
        formats += roster->actions[i] == ROSTER_FORMAT;
    take_roster(io, storage, roster, found);
    enum err err = check_promise(storage, formats, &reason);
    if (err != OK)
        log_error("storage: start refused: %s", reason);
    TRY(err);
    TRY(open_known(io, storage, roster));
    TRY(format_new(io, storage, roster, found));
    warn_of_shared_devices(storage);
    TRY(drives_write_tables(io, storage));
    if (storage->known_count == 1 && storage->parity_floor == 0)
        log_warn("storage: one drive, no redundancy: what is on it is lost with it");
    return OK;
}

enum err drives_open(struct io *io, struct storage *storage)
{
    const struct storage_options *options = &storage->options;
    struct roster_found found[STORAGE_DRIVES_MAX];
    for (uint32_t i = 0; i < options->directory_count; i++)
        look(io, options->directories[i], &found[i]);
    struct roster *roster = mem_new(struct roster);
    enum err err = roster_decide(found, options->directory_count, options->accepts_loss, roster);
    if (err != OK && err != ERR_CANCELED)
        log_error("storage: start refused: %s", roster->reason);
    if (err == OK)
        err = open_all(io, storage, roster, found);
    mem_free(roster);
    for (uint32_t i = 0; i < options->directory_count; i++)
        free_superblock(&found[i]);
    return err;
}

/* --- while running --- */

static bool is_given(const struct storage *storage, const char *path)
{
    for (uint32_t i = 0; i < storage->options.directory_count; i++) {
        if (roster_same_path(storage->options.directories[i], path))
            return true;
    }
    return false;
}

enum err drives_vacate(struct io *io, struct storage *storage, const struct drive_id *id)
{
    TRY(fiber_mutex_lock(io, &storage->membership));
    struct known_drive *known = find_known(storage, id);
    enum err err = OK;
    if (known != NULL && known->state != ROSTER_HERE && known->state != ROSTER_LOST) {
        bool given = is_given(storage, known->entry.path);
        bool changes = !given || !known->entry.vacated;
        known->entry.vacated = true;
        if (!given)
            known->state = ROSTER_LOST;
        if (changes)
            err = drives_write_tables(io, storage);
    }
    fiber_mutex_unlock(io, &storage->membership);
    return err;
}

/* The old one is lost, a new one takes its place. A new one that does not open is tried again as
 * any drive that is missing. */
static enum err replace(struct io *io, struct storage *storage, uint32_t index)
{
    struct known_drive *old = &storage->known[index];
    if (storage->known_count == STORAGE_DRIVES_MAX) {
        if (!old->complained)
            log_error("storage: the table of drives is full, %s is not taken before lost ones are "
                      "rebuilt",
                      old->entry.path);
        old->complained = true;
        return ERR_LIMIT;
    }
    enum roster_state state_before = old->state;
    old->state = ROSTER_LOST;
    storage->table_version++;
    struct known_drive *new = add_known(io, storage, old->entry.path);
    enum err err = format_one(io, storage, new);
    if (err != OK) {
        remove_known(storage, new);
        old->state = state_before;
        return err;
    }
    log_warn("storage: a drive was emptied, what it held is rebuilt elsewhere directory=%s",
             new->entry.path);
    struct drive *drive = NULL;
    new->state = ROSTER_UNREADABLE;
    err = open_one(io, storage, new, &drive);
    if (err == OK) {
        new->state = ROSTER_HERE;
        publish(storage, new, drive);
    }
    TRY(drives_write_tables(io, storage));
    return err;
}

static enum err rejoin(struct io *io, struct storage *storage, struct known_drive *known)
{
    struct drive *drive = NULL;
    TRY(open_one(io, storage, known, &drive));
    log_info("storage: a missing drive is back directory=%s", known->entry.path);
    known->state = ROSTER_HERE;
    known->entry.was_mount_point = is_mount_point(io, known->entry.path);
    publish(storage, known, drive);
    return drives_write_tables(io, storage);
}

static bool may_rejoin(const struct storage *storage, const struct known_drive *known,
                       const struct superblock *superblock)
{
    return known->drive == NULL && known->state != ROSTER_ROLLED_BACK &&
           memcmp(superblock->node.cluster_id, storage->identity.cluster_id, 16) == 0 &&
           superblock->node.node_id == storage->identity.node_id &&
           drive_id_equal(&superblock->drive, &known->entry.id) &&
           superblock->mount_counter >= known->entry.mount_counter;
}

/* True: the set changed. */
static bool look_again(struct io *io, struct storage *storage, uint32_t index)
{
    struct known_drive *known = &storage->known[index];
    struct roster_found found;
    uint64_t deadline = io_set_deadline(io, io_now_ns(io) + LOOK_TIMEOUT_S * IO_NS_PER_S);
    look(io, known->entry.path, &found);
    (void)io_set_deadline(io, deadline);
    enum err err = found.err;
    bool empty = err == OK && found.kind == DRIVE_EMPTY && found.exists;
    bool changed = false;
    if (empty && known->entry.was_mount_point && !found.is_mount_point) {
        if (known->state != ROSTER_NOT_MOUNTED)
            log_error("storage: the file system of a drive is not mounted directory=%s",
                      known->entry.path);
        known->state = ROSTER_NOT_MOUNTED;
    } else if (empty) {
        err = replace(io, storage, index);
        changed = err == OK;
    } else if (err == OK && found.kind == DRIVE_SHALE &&
               may_rejoin(storage, known, found.superblock)) {
        err = rejoin(io, storage, known);
        changed = err == OK;
    }
    free_superblock(&found);
    return changed;
}

bool drives_watch(struct io *io, struct storage *storage)
{
    bool changed = false;
    if (fiber_mutex_lock(io, &storage->membership) != OK)
        return false; /* the storage stops */
    uint32_t count = storage->known_count;
    for (uint32_t i = 0; i < count && !atomic_load(&storage->stopping); i++) {
        struct known_drive *known = &storage->known[i];
        if (known->state == ROSTER_HERE && !drive_is_ok(known->drive)) {
            known->state =
                atomic_load(&known->drive->rolled_back) ? ROSTER_ROLLED_BACK : ROSTER_MISSING;
            changed = true;
        }
        bool full = known->state == ROSTER_HERE && atomic_load(&known->drive->full);
        changed = changed || full != known->was_full;
        known->was_full = full;
        bool absent = known->state != ROSTER_HERE && known->state != ROSTER_LOST;
        if (absent && storage->options.checks_mounts && is_given(storage, known->entry.path))
            changed = look_again(io, storage, i) || changed;
    }
    fiber_mutex_unlock(io, &storage->membership);
    return changed;
}
