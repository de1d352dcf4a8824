/* The file system of one simulated machine: a tree of names over sim_file.h.
 *
 * Names have a live state and a durable state as well. Each creation, rename and unlink is a
 * pending change of the directories it touches until one of them is synced; a rename is in both
 * directories or in none. A power cut keeps a drawn prefix of each directory's changes. This is
 * weaker than ext4, where one fsync commits all earlier changes of the whole file system: code
 * that holds here holds there. So a synced file whose name was never synced may vanish, and a
 * synced name may lead to an empty file. */
#pragma once
#include "base/bytes.h"
#include "runtime/io.h"
#include "sim_file.h"

struct sim_disk;
struct sim_node; /* a file or a directory */

enum {
    SIM_NAME_BYTES_MAX = 255,
    /* Beyond it the oldest change becomes durable, as the journal's own commits would do. */
    SIM_PENDING_NAMES_MAX = 4096,
};

struct sim_disk *sim_disk_new(uint64_t total_bytes, uint64_t device);
/* No node may be held. */
void sim_disk_free(struct sim_disk *disk);
DEFINE_AUTO(sim_disk, sim_disk_free)

/* `flags` as for io_open. The node is held until sim_node_release. */
enum err sim_disk_open(struct sim_disk *disk, const char *path, unsigned flags,
                       struct sim_node **out_node);
void sim_node_release(struct sim_node *node);
DEFINE_AUTO(sim_node, sim_node_release)
/* NULL for a directory. */
struct sim_file *sim_node_file(const struct sim_node *node);
void sim_node_info(const struct sim_node *node, struct file_info *out_info);
/* ERR_LOCKED when another owner has it. */
enum err sim_node_lock(struct sim_node *node, const void *owner);
void sim_node_unlock(struct sim_node *node, const void *owner);

enum err sim_disk_stat(struct sim_disk *disk, const char *path, struct file_info *out_info);
enum err sim_disk_make_directory(struct sim_disk *disk, const char *path);
enum err sim_disk_rename(struct sim_disk *disk, const char *from, const char *to);
enum err sim_disk_unlink(struct sim_disk *disk, const char *path);
enum err sim_disk_remove_directory(struct sim_disk *disk, const char *path);
enum err sim_disk_list(struct sim_disk *disk, const char *path, struct bytes *out_names);
enum err sim_disk_space(struct sim_disk *disk, const char *path, struct space_info *out_space);
/* Names the present moment, for sim_disk_sync_directory. */
uint64_t sim_disk_sequence(const struct sim_disk *disk);
/* Make the changes of a directory up to and including `sequence` durable, and with them all
 * earlier ones of the directories that they touch. */
void sim_disk_sync_directory(struct sim_disk *disk, struct sim_node *directory, uint64_t sequence);

/* Power cut: see above and sim_file_crash. Locks are gone. */
void sim_disk_crash(struct sim_disk *disk, struct sim_random *random,
                    struct sim_fault_counts *counts);
/* Make everything durable: an orderly end. */
void sim_disk_keep_all(struct sim_disk *disk);
void sim_disk_drop_locks(struct sim_disk *disk);
/* Copy a directory with all it holds to a path that does not exist, durable at once. */
enum err sim_disk_copy(struct sim_disk *from, const char *from_path, struct sim_disk *to,
                       const char *to_path);
/* Rename a directory, durable at once. */
enum err sim_disk_move(struct sim_disk *disk, const char *from, const char *to);
/* One line per file and directory, sorted by path. */
void sim_disk_describe(struct sim_disk *disk, struct bytes *out);
