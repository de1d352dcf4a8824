/* The tree of names, its pending changes, and the ends of a life. */
#include "sim_disk.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum {
    CHANGE_ENTRIES_MAX = 2,     /* a rename takes one name away and sets another */
    CHANGE_DIRECTORIES_MAX = 3, /* and is ordered behind all renames of directories */
};

struct entry {
    char *name;
    struct sim_node *node;
};

/* Sorted by name. */
struct entries {
    struct entry *all;
    size_t count;
    size_t capacity;
};

struct sim_node {
    struct list_node node; /* in disk->nodes */
    struct sim_disk *disk;
    uint64_t inode;
    uint32_t references;   /* entries, pending changes and holders */
    struct sim_file *file; /* NULL: a directory */
    struct entries live;
    struct entries durable;
    const void *locked_by;
    bool marked; /* scratch of the walks over pending changes */
};

/* In directory i, name i leads to node i from now on; NULL = to nothing. */
struct name_change {
    struct list_node node;
    uint64_t sequence;
    unsigned entry_count;
    unsigned directory_count;
    bool chosen; /* scratch of commit */
    struct sim_node *directories[CHANGE_DIRECTORIES_MAX];
    char *names[CHANGE_ENTRIES_MAX];
    struct sim_node *nodes[CHANGE_ENTRIES_MAX];
};

struct sim_disk {
    struct sim_space space;
    uint64_t device;
    uint64_t inode_next;
    uint64_t sequence;   /* of the newest change of names */
    struct list nodes;   /* struct sim_node, in the order of creation */
    struct list pending; /* struct name_change, oldest first */
    struct sim_node *root;
    /* Not a directory: every rename of a directory touches it. Were such renames kept in any
     * order, a directory could end up inside itself. */
    struct sim_node *topology;
};

/* --- nodes and entries --- */

static struct sim_node *node_new(struct sim_disk *disk, bool is_directory)
{
    struct sim_node *node = mem_new(struct sim_node);
    *node = (struct sim_node){.disk = disk, .inode = disk->inode_next++, .references = 1};
    if (!is_directory)
        node->file = sim_file_new(&disk->space);
    list_push_back(&disk->nodes, &node->node);
    return node;
}

static struct sim_node *node_ref(struct sim_node *node)
{
    assert(node->references > 0);
    node->references++;
    return node;
}

static void entries_clear(struct entries *entries);

void sim_node_release(struct sim_node *node)
{
    if (node == NULL)
        return;
    assert(node->references > 0);
    if (--node->references > 0)
        return;
    entries_clear(&node->live);
    entries_clear(&node->durable);
    sim_file_free(node->file);
    list_remove(&node->disk->nodes, &node->node);
    mem_free(node);
}

static void entries_clear(struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        mem_free(entries->all[i].name);
        sim_node_release(entries->all[i].node);
    }
    mem_free(entries->all);
    *entries = (struct entries){0};
}

/* Where `name` is, or would be; *out_found says which. */
static size_t entries_position(const struct entries *entries, const char *name, bool *out_found)
{
    size_t low = 0;
    size_t high = entries->count;
    *out_found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(entries->all[middle].name, name);
        if (order == 0) {
            *out_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct sim_node *entries_find(const struct entries *entries, const char *name)
{
    bool found;
    size_t position = entries_position(entries, name, &found);
    return found ? entries->all[position].node : NULL;
}

static void entries_insert(struct entries *entries, size_t position, struct entry entry)
{
    if (entries->count == entries->capacity) {
        entries->capacity = entries->capacity == 0 ? 8 : entries->capacity * 2;
        entries->all = mem_resize(entries->all, entries->capacity * sizeof *entries->all);
    }
    struct entry *at = &entries->all[position];
    memmove(at + 1, at, (entries->count - position) * sizeof *at);
    *at = entry;
    entries->count++;
}

static void entries_remove(struct entries *entries, size_t position)
{
    struct entry *at = &entries->all[position];
    struct entry gone = *at;
    entries->count--;
    memmove(at, at + 1, (entries->count - position) * sizeof *at);
    mem_free(gone.name);
    sim_node_release(gone.node);
}

/* `name` leads to `node`, NULL = to nothing. */
static void entries_set(struct entries *entries, const char *name, struct sim_node *node)
{
    bool found;
    size_t position = entries_position(entries, name, &found);
    if (node == NULL) {
        if (found)
            entries_remove(entries, position);
        return;
    }
    node_ref(node);
    if (found) {
        sim_node_release(entries->all[position].node);
        entries->all[position].node = node;
    } else {
        struct entry entry = {.name = mem_copy(name, strlen(name)), .node = node};
        entries_insert(entries, position, entry);
    }
}

static void entries_copy(struct entries *to, const struct entries *from)
{
    struct entries copy = {0};
    for (size_t i = 0; i < from->count; i++) {
        struct entry entry = {.name = mem_copy(from->all[i].name, strlen(from->all[i].name)),
                              .node = node_ref(from->all[i].node)};
        entries_insert(&copy, i, entry);
    }
    entries_clear(to);
    *to = copy;
}

/* --- pending changes of names --- */

static void change_free(struct sim_disk *disk, struct name_change *change)
{
    list_remove(&disk->pending, &change->node);
    for (unsigned i = 0; i < change->entry_count; i++) {
        mem_free(change->names[i]);
        sim_node_release(change->nodes[i]);
    }
    for (unsigned i = 0; i < change->directory_count; i++)
        sim_node_release(change->directories[i]);
    mem_free(change);
}

static void change_make_durable(struct sim_disk *disk, struct name_change *change)
{
    for (unsigned i = 0; i < change->entry_count; i++)
        entries_set(&change->directories[i]->durable, change->names[i], change->nodes[i]);
    change_free(disk, change);
}

static bool change_touches_marked(const struct name_change *change)
{
    for (unsigned i = 0; i < change->directory_count; i++) {
        if (change->directories[i]->marked)
            return true;
    }
    return false;
}

static void change_mark(struct name_change *change)
{
    for (unsigned i = 0; i < change->directory_count; i++)
        change->directories[i]->marked = true;
}

static void unmark_all(struct sim_disk *disk)
{
    LIST_EACH(struct sim_node, node, &disk->nodes, node)
    node->marked = false;
}

uint64_t sim_disk_sequence(const struct sim_disk *disk)
{
    return disk->sequence;
}

void sim_disk_sync_directory(struct sim_disk *disk, struct sim_node *directory, uint64_t sequence)
{
    assert(directory->file == NULL);
    directory->marked = true;
    for (struct list_node *at = disk->pending.head.previous; at != &disk->pending.head;
         at = at->previous) {
        struct name_change *change = CONTAINER_OF(at, struct name_change, node);
        change->chosen = change->sequence <= sequence && change_touches_marked(change);
        if (change->chosen)
            change_mark(change);
    }
    LIST_EACH(struct name_change, change, &disk->pending, node)
    {
        if (change->chosen)
            change_make_durable(disk, change);
    }
    unmark_all(disk);
}

/* Set names now, durable later. `names` is copied and its references are taken anew. */
static void change_names(struct sim_disk *disk, const struct name_change *names)
{
    struct name_change *change = mem_new(struct name_change);
    *change = *names;
    change->sequence = ++disk->sequence;
    for (unsigned i = 0; i < change->directory_count; i++)
        node_ref(change->directories[i]);
    for (unsigned i = 0; i < change->entry_count; i++) {
        change->names[i] = mem_copy(names->names[i], strlen(names->names[i]));
        if (change->nodes[i] != NULL)
            node_ref(change->nodes[i]);
    }
    for (unsigned i = 0; i < change->entry_count; i++) {
        entries_set(&change->directories[i]->live, change->names[i], change->nodes[i]);
    }
    list_push_back(&disk->pending, &change->node);
    if (disk->pending.count > SIM_PENDING_NAMES_MAX)
        change_make_durable(disk,
                            CONTAINER_OF(list_first(&disk->pending), struct name_change, node));
}

static void set_name(struct sim_disk *disk, struct sim_node *directory, char *name,
                     struct sim_node *node)
{
    const struct name_change change = {.entry_count = 1,
                                       .directory_count = 1,
                                       .directories = {directory},
                                       .names = {name},
                                       .nodes = {node}};
    change_names(disk, &change);
}

/* --- paths --- */

/* A path resolved up to its last component. */
struct place {
    struct sim_node *directory;
    char name[SIM_NAME_BYTES_MAX + 1]; /* "" for the root */
    struct sim_node *node;             /* NULL: there is none */
};

/* The next component of *path into `name`; "" at the end. */
static enum err next_component(const char **path, char name[SIM_NAME_BYTES_MAX + 1])
{
    size_t bytes;
    do {
        *path += strspn(*path, "/");
        bytes = strcspn(*path, "/");
        if (bytes > SIM_NAME_BYTES_MAX)
            return FAIL(ERR_INVALID, "name too long bytes=%zu", bytes);
        memcpy(name, *path, bytes);
        name[bytes] = '\0';
        *path += bytes;
    } while (strcmp(name, ".") == 0);
    if (strcmp(name, "..") == 0)
        return FAIL(ERR_INVALID, "path with ..");
    return OK;
}

/* ERR_NOT_FOUND when a directory on the way is missing. `avoid` must not be on the way:
 * ERR_INVALID. */
static enum err resolve(struct sim_disk *disk, const char *path, const struct sim_node *avoid,
                        struct place *out)
{
    if (strlen(path) > IO_PATH_BYTES_MAX)
        return FAIL(ERR_INVALID, "path too long bytes=%zu", strlen(path));
    const char *rest = path;
    struct place place = {.node = disk->root};
    char name[SIM_NAME_BYTES_MAX + 1];
    for (;;) {
        TRY(next_component(&rest, name));
        if (name[0] == '\0')
            break;
        if (place.node == NULL)
            return FAIL(ERR_NOT_FOUND, "no directory on the way to path=%s", path);
        if (place.node->file != NULL)
            return FAIL(ERR_INVALID, "not a directory on the way to path=%s", path);
        if (place.node == avoid)
            return FAIL(ERR_INVALID, "rename into itself path=%s", path);
        place.directory = place.node;
        place.node = entries_find(&place.directory->live, name);
        memcpy(place.name, name, sizeof name);
    }
    *out = place;
    return OK;
}

static enum err resolve_existing(struct sim_disk *disk, const char *path, struct place *out)
{
    TRY(resolve(disk, path, NULL, out));
    if (out->node == NULL)
        return FAIL(ERR_NOT_FOUND, "path=%s", path);
    return OK;
}

static enum err resolve_directory(struct sim_disk *disk, const char *path, struct place *out)
{
    TRY(resolve_existing(disk, path, out));
    if (out->node->file != NULL)
        return FAIL(ERR_INVALID, "not a directory path=%s", path);
    return OK;
}

/* --- life --- */

struct sim_disk *sim_disk_new(uint64_t total_bytes, uint64_t device)
{
    struct sim_disk *disk = mem_new(struct sim_disk);
    *disk =
        (struct sim_disk){.space = {.total_bytes = total_bytes}, .device = device, .inode_next = 2};
    list_init(&disk->nodes);
    list_init(&disk->pending);
    disk->root = node_new(disk, true);
    disk->topology = node_new(disk, true);
    return disk;
}

void sim_disk_free(struct sim_disk *disk)
{
    if (disk == NULL)
        return;
    while (!list_empty(&disk->pending))
        change_free(disk, CONTAINER_OF(list_first(&disk->pending), struct name_change, node));
    sim_node_release(disk->root);
    sim_node_release(disk->topology);
    assert(list_empty(&disk->nodes));
    assert(disk->space.used_bytes == 0);
    mem_free(disk);
}

/* --- operations --- */

static enum err create(struct sim_disk *disk, const char *path, struct place *place)
{
    if (place->directory == NULL)
        return FAIL(ERR_INVALID, "no name in path=%s", path);
    place->node = node_new(disk, false);
    set_name(disk, place->directory, place->name, place->node);
    return OK;
}

enum err sim_disk_open(struct sim_disk *disk, const char *path, unsigned flags,
                       struct sim_node **out_node)
{
    struct place place;
    TRY(resolve(disk, path, NULL, &place));
    if (place.node == NULL && (flags & FILE_CREATE) != 0) {
        TRY(create(disk, path, &place));
        *out_node = place.node; /* the reference of node_new */
        return OK;
    }
    if (place.node == NULL)
        return FAIL(ERR_NOT_FOUND, "path=%s", path);
    if ((flags & FILE_CREATE) != 0 && (flags & FILE_EXCLUSIVE) != 0)
        return FAIL(ERR_EXISTS, "path=%s", path);
    if ((place.node->file == NULL) != ((flags & FILE_DIRECTORY) != 0))
        return FAIL(ERR_INVALID, "not of the asked kind path=%s", path);
    *out_node = node_ref(place.node);
    return OK;
}

struct sim_file *sim_node_file(const struct sim_node *node)
{
    return node->file;
}

void sim_node_info(const struct sim_node *node, struct file_info *out_info)
{
    *out_info = (struct file_info){
        .device = node->disk->device, .inode = node->inode, .is_directory = node->file == NULL};
    if (node->file == NULL)
        return;
    out_info->bytes = sim_file_bytes(node->file);
    out_info->allocated_bytes = sim_file_allocated_bytes(node->file);
}

enum err sim_node_lock(struct sim_node *node, const void *owner)
{
    if (node->locked_by != NULL && node->locked_by != owner)
        return FAIL(ERR_LOCKED, "inode=%" PRIu64, node->inode);
    node->locked_by = owner;
    return OK;
}

void sim_node_unlock(struct sim_node *node, const void *owner)
{
    if (node->locked_by == owner)
        node->locked_by = NULL;
}

enum err sim_disk_stat(struct sim_disk *disk, const char *path, struct file_info *out_info)
{
    struct place place;
    TRY(resolve_existing(disk, path, &place));
    sim_node_info(place.node, out_info);
    return OK;
}

enum err sim_disk_make_directory(struct sim_disk *disk, const char *path)
{
    struct place place;
    TRY(resolve(disk, path, NULL, &place));
    if (place.node != NULL)
        return FAIL(ERR_EXISTS, "path=%s", path);
    AUTO(sim_node) node = node_new(disk, true);
    set_name(disk, place.directory, place.name, node);
    return OK;
}

/* rename(2): the target is replaced when it is of the same kind and, as a directory, empty. */
static enum err check_target(const struct place *from, const struct place *to, const char *path)
{
    if (to->directory == NULL || from->directory == NULL)
        return FAIL(ERR_INVALID, "rename of the root");
    if (to->node == NULL)
        return OK;
    if ((to->node->file == NULL) != (from->node->file == NULL))
        return FAIL(ERR_INVALID, "rename onto another kind path=%s", path);
    if (to->node->live.count > 0)
        return FAIL(ERR_NOT_EMPTY, "path=%s", path);
    return OK;
}

enum err sim_disk_rename(struct sim_disk *disk, const char *from, const char *to)
{
    struct place source;
    TRY(resolve_existing(disk, from, &source));
    struct place target;
    TRY(resolve(disk, to, source.node, &target));
    if (target.node == source.node)
        return OK;
    TRY(check_target(&source, &target, to));
    struct name_change change = {.entry_count = 2,
                                 .directory_count = 2,
                                 .directories = {source.directory, target.directory},
                                 .names = {source.name, target.name},
                                 .nodes = {NULL, source.node}};
    if (source.node->file == NULL)
        change.directories[change.directory_count++] = disk->topology;
    change_names(disk, &change);
    return OK;
}

enum err sim_disk_unlink(struct sim_disk *disk, const char *path)
{
    struct place place;
    TRY(resolve_existing(disk, path, &place));
    if (place.node->file == NULL)
        return FAIL(ERR_INVALID, "unlink of a directory path=%s", path);
    set_name(disk, place.directory, place.name, NULL);
    return OK;
}

enum err sim_disk_remove_directory(struct sim_disk *disk, const char *path)
{
    struct place place;
    TRY(resolve_directory(disk, path, &place));
    if (place.directory == NULL)
        return FAIL(ERR_INVALID, "removal of the root");
    if (place.node->live.count > 0)
        return FAIL(ERR_NOT_EMPTY, "path=%s", path);
    set_name(disk, place.directory, place.name, NULL);
    return OK;
}

enum err sim_disk_list(struct sim_disk *disk, const char *path, struct bytes *out_names)
{
    struct place place;
    TRY(resolve_directory(disk, path, &place));
    const struct entries *entries = &place.node->live;
    for (size_t i = 0; i < entries->count; i++) {
        const char *name = entries->all[i].name;
        bytes_append(out_names, slice_of(name, strlen(name) + 1));
    }
    if (out_names->overflow)
        return FAIL(ERR_LIMIT, "names do not fit path=%s count=%zu", path, entries->count);
    return OK;
}

enum err sim_disk_space(struct sim_disk *disk, const char *path, struct space_info *out_space)
{
    struct place place;
    TRY(resolve_existing(disk, path, &place));
    const struct sim_space *space = &disk->space;
    *out_space = (struct space_info){.total_bytes = space->total_bytes, .device = disk->device};
    if (space->used_bytes < space->total_bytes)
        out_space->free_bytes = space->total_bytes - space->used_bytes;
    return OK;
}

/* --- ends of a life --- */

/* The live names are the durable ones. A node that no durable name reaches goes with its last
 * holder. */
static void reload(struct sim_disk *disk)
{
    LIST_EACH(struct sim_node, held, &disk->nodes, node)
    node_ref(held);
    LIST_EACH(struct sim_node, node, &disk->nodes, node)
    entries_copy(&node->live, &node->durable);
    /* Frees nodes before this one at most: all others are still held. */
    LIST_EACH(struct sim_node, node, &disk->nodes, node)
    sim_node_release(node);
}

void sim_disk_crash(struct sim_disk *disk, struct sim_random *random,
                    struct sim_fault_counts *counts)
{
    /* `marked`: a change of this directory was lost, so all later ones are. */
    unsigned keep_in_4 = (unsigned)sim_random_below(random, 5);
    while (!list_empty(&disk->pending)) {
        struct name_change *change =
            CONTAINER_OF(list_first(&disk->pending), struct name_change, node);
        bool keep = sim_random_below(random, 4) < keep_in_4 && !change_touches_marked(change);
        counts->counts[keep ? SIM_FAULT_KEPT_NAME : SIM_FAULT_LOST_NAME]++;
        if (keep) {
            change_make_durable(disk, change);
        } else {
            change_mark(change);
            change_free(disk, change);
        }
    }
    unmark_all(disk);
    sim_disk_drop_locks(disk);
    LIST_EACH(struct sim_node, node, &disk->nodes, node)
    {
        if (node->file != NULL)
            sim_file_crash(node->file, random, counts);
    }
    reload(disk);
}

void sim_disk_keep_all(struct sim_disk *disk)
{
    while (!list_empty(&disk->pending))
        change_make_durable(disk,
                            CONTAINER_OF(list_first(&disk->pending), struct name_change, node));
    LIST_EACH(struct sim_node, node, &disk->nodes, node)
    {
        if (node->file != NULL)
            sim_file_sync(node->file, UINT64_MAX);
    }
}

void sim_disk_drop_locks(struct sim_disk *disk)
{
    LIST_EACH(struct sim_node, node, &disk->nodes, node)
    node->locked_by = NULL;
}

/* --- copying and description; depth is bounded by IO_PATH_BYTES_MAX, which every path obeyed
 * --- */

static enum err copy_entries(const struct sim_node *from, struct sim_node *to)
{
    for (size_t i = 0; i < from->live.count; i++) {
        const struct entry *entry = &from->live.all[i];
        bool is_directory = entry->node->file == NULL;
        AUTO(sim_node) node = node_new(to->disk, is_directory);
        entries_set(&to->live, entry->name, node);
        entries_set(&to->durable, entry->name, node);
        if (is_directory)
            TRY(copy_entries(entry->node, node));
        else
            TRY(sim_file_copy(node->file, entry->node->file));
    }
    return OK;
}

enum err sim_disk_copy(struct sim_disk *from, const char *from_path, struct sim_disk *to,
                       const char *to_path)
{
    struct place source;
    struct place target;
    TRY(resolve_directory(from, from_path, &source));
    TRY(resolve(to, to_path, source.node, &target)); /* not into itself */
    TRY(sim_disk_make_directory(to, to_path));
    sim_disk_sync_directory(to, target.directory, UINT64_MAX);
    return copy_entries(source.node, entries_find(&target.directory->live, target.name));
}

enum err sim_disk_move(struct sim_disk *disk, const char *from, const char *to)
{
    struct place source;
    struct place target;
    TRY(resolve_directory(disk, from, &source));
    TRY(sim_disk_rename(disk, from, to));
    TRY(resolve(disk, to, NULL, &target));
    if (source.directory != NULL)
        sim_disk_sync_directory(disk, source.directory, UINT64_MAX);
    sim_disk_sync_directory(disk, target.directory, UINT64_MAX);
    return OK;
}

static uint64_t content_hash(const struct sim_file *file)
{
    AUTO(hasher) hasher = hasher_new();
    uint8_t page[SIM_PAGE_BYTES];
    for (uint64_t offset = 0; offset < sim_file_bytes(file);) {
        size_t bytes = sim_file_read(file, offset, page, sizeof page);
        hasher_update(hasher, slice_of(page, bytes));
        offset += bytes;
    }
    struct hash128 hash = hasher_value(hasher);
    uint64_t value;
    memcpy(&value, hash.bytes, sizeof value);
    return value;
}

static void describe(const struct sim_node *directory, const char *path, struct bytes *out)
{
    for (size_t i = 0; i < directory->live.count; i++) {
        const struct entry *entry = &directory->live.all[i];
        AUTO_STRING child = mem_format("%s/%s", path, entry->name);
        const struct sim_file *file = entry->node->file;
        if (file == NULL) {
            bytes_append_format(out, "%s/\n", child);
            describe(entry->node, child, out);
        } else {
            bytes_append_format(
                out, "%s bytes=%" PRIu64 " allocated=%" PRIu64 " hash=%016" PRIx64 "\n", child,
                sim_file_bytes(file), sim_file_allocated_bytes(file), content_hash(file));
        }
    }
}

void sim_disk_describe(struct sim_disk *disk, struct bytes *out)
{
    describe(disk->root, "", out);
}
