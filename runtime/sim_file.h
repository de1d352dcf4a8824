/* The contents of one simulated file: what readers see, and what a power cut would leave.
 *
 * Each page of 4 KiB has a live image (page cache) and a durable image; both are one memory block
 * while they agree. A change that was not synced is also kept in a list of pending changes,
 * writes as a snapshot of the 512-byte sectors they touched. sim_file_crash builds the durable
 * image from the durable one and a drawn part of that list:
 *
 *   - a write is kept, lost, or torn at 512 B or 4 KiB, each independently of the others
 *     (F15-F17);
 *   - truncate, punch and allocate go through a journal: a prefix of them is kept, and what was
 *     written after a lost one into space that only it made is lost too;
 *   - a sector never goes back behind bytes that were made durable. */
#pragma once
#include "base/err.h"
#include "base/own.h"
#include "sim_random.h"
#include <stddef.h>

enum {
    SIM_SECTOR_BYTES = 512,
    SIM_PAGE_BYTES = 4096,
    SIM_PAGE_SECTORS = SIM_PAGE_BYTES / SIM_SECTOR_BYTES,
    /* Beyond these the oldest pending change becomes durable, as by the kernel's write-back. */
    SIM_PENDING_CHANGES_MAX = 4096,
    SIM_PENDING_BYTES_MAX = 64 << 20,
};
#define SIM_FILE_BYTES_MAX (UINT64_C(1) << 40)

/* Fault classes that are counted; the names are those of sim_fault_count. */
#define SIM_FAULT_LIST(X)                                                                          \
    X(LOST_WRITE, "lost_write")               /* F15 */                                            \
    X(TORN_WRITE, "torn_write")               /* F16 */                                            \
    X(REORDERED_WRITE, "reordered_write")     /* F17: kept, an earlier one was not */              \
    X(KEPT_WRITE, "kept_write")               /* unsynced but kept */                              \
    X(LENGTH_ONLY, "length_only")             /* of a lost write */                                \
    X(LOST_CHANGE, "lost_change")             /* truncate, punch or allocate */                    \
    X(LOST_NAME, "lost_name")                 /* create, rename or unlink */                       \
    X(KEPT_NAME, "kept_name")                 /* unsynced but kept */                              \
    X(READ_ERROR, "read_error")               /* F18 */                                            \
    X(FLIP, "flip")                           /* F19 */                                            \
    X(MISDIRECTED_WRITE, "misdirected_write") /* F20 */                                            \
    X(MISDIRECTED_READ, "misdirected_read")   /* F21 */                                            \
    X(PHANTOM_WRITE, "phantom_write")         /* F22 */                                            \
    X(SYNC_ERROR, "sync_error")               /* F23 */                                            \
    X(NO_SPACE, "no_space")                   /* F24 */                                            \
    X(WRITE_ERROR, "write_error")             /* F25 */                                            \
    X(LATENCY_SPIKE, "latency_spike")         /* F26 */                                            \
    X(SLOW_DISK, "slow_disk")                 /* F27 */                                            \
    X(POWER_CUT, "power_cut")                                                                      \
    X(KILL, "kill")                                 /* F33 */                                      \
    X(PAUSE, "pause")                               /* F34 */                                      \
    X(IN_FLIGHT, "in_flight")                       /* operation at a cut or kill */               \
    X(CLOCK_JUMP, "clock_jump")                     /* F35 */                                      \
    X(CLOCK_RATE, "clock_rate")                     /* F36 */                                      \
    X(REORDERED_COMPLETION, "reordered_completion") /* F38 */                                      \
    X(IGNORED_SYNC, "ignored_sync")                 /* by a disk that lies */

enum sim_fault_class {
#define X(name, text) SIM_FAULT_##name,
    SIM_FAULT_LIST(X)
#undef X
        SIM_FAULT_CLASS_COUNT
};

struct sim_fault_counts {
    uint64_t counts[SIM_FAULT_CLASS_COUNT];
};

/* The blocks of one disk, shared by its files. */
struct sim_space {
    uint64_t total_bytes;
    /* May exceed the total after a crash undid an unlink; then nothing is free. */
    uint64_t used_bytes;
};

struct sim_file;

struct sim_file *sim_file_new(struct sim_space *space);
void sim_file_free(struct sim_file *file);
DEFINE_AUTO(sim_file, sim_file_free)

uint64_t sim_file_bytes(const struct sim_file *file);
uint64_t sim_file_allocated_bytes(const struct sim_file *file);

/* Bytes read, less than `bytes` only at the end of the file. */
size_t sim_file_read(const struct sim_file *file, uint64_t offset, uint8_t *out, size_t bytes);
/* ERR_NO_SPACE: a write of the range would need more blocks than are free. ERR_INVALID: beyond
 * SIM_FILE_BYTES_MAX. */
enum err sim_file_check_space(const struct sim_file *file, uint64_t offset, uint64_t bytes);
/* A write of the range would need blocks that the file does not have yet. */
bool sim_file_needs_blocks(const struct sim_file *file, uint64_t offset, uint64_t bytes);
/* The caller has checked the space. `durable` as by RWF_DSYNC: the bytes, the length, and all
 * earlier truncate, punch and allocate calls, but no earlier write elsewhere. */
void sim_file_write(struct sim_file *file, uint64_t offset, const uint8_t *data, size_t bytes,
                    bool durable);
enum err sim_file_truncate(struct sim_file *file, uint64_t bytes);
/* ERR_NO_SPACE, then nothing changed. */
enum err sim_file_allocate(struct sim_file *file, uint64_t offset, uint64_t bytes);
void sim_file_punch(struct sim_file *file, uint64_t offset, uint64_t bytes);

/* Make an empty file a durable copy of `from` as readers see it. ERR_NO_SPACE: part of it is
 * there. */
enum err sim_file_copy(struct sim_file *file, const struct sim_file *from);

/* Names the present moment, for sim_file_sync. */
uint64_t sim_file_sequence(const struct sim_file *file);
/* Make all changes up to and including `sequence` durable. */
void sim_file_sync(struct sim_file *file, uint64_t sequence);
/* What a failed fsync does to the page cache: pending writes are marked clean and will never
 * reach the disk, though readers see them until the next crash (Rebello et al., USENIX ATC
 * 2020). */
void sim_file_lose_writes(struct sim_file *file);
/* Flip a bit in both images. ERR_INVALID beyond the end. */
enum err sim_file_flip(struct sim_file *file, uint64_t bit);

/* Power cut: draw what of the pending changes is kept, forget the live image. */
void sim_file_crash(struct sim_file *file, struct sim_random *random,
                    struct sim_fault_counts *counts);
