/* The only door to the world: fibers, time, randomness, files, other reactors.
 *
 * There is one `struct io` per reactor (one per thread; in the simulator many share one thread).
 * Only a function that takes `struct io *io` first may wait, read the clock or draw a random
 * number. Every such call is a place where the world may have changed: check shared state again
 * after it.
 *
 * Fibers run straight-line code, never migrate, and always run to their end. A wait ends by its
 * event, by the fiber's deadline (ERR_TIMEOUT) or by io_cancel (ERR_CANCELED, from then on at every
 * wait). A wait on a file that ends early leaves the operation to finish into its own buffer, to
 * which the ring holds a reference.
 *
 * Back ends behind these functions: io_uring (runtime/runtime.h) and the simulator (runtime/sim.h).
 */
#pragma once
#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/list.h"
#include "base/own.h"
#include <stdbool.h>
#include <stdint.h>

struct io;
struct fiber;
struct file;

enum {
    FIBER_STACK_BYTES = 256 << 10,
    FIBERS_PER_REACTOR_MAX = 12000,
    IO_PARTS_MAX = 16,               /* parts of one vectored write */
    IO_TRANSFER_BYTES_MAX = 8 << 20, /* bytes of one read or write */
    IO_PATH_BYTES_MAX = 1024,
};
#define IO_NS_PER_MS UINT64_C(1000000)
#define IO_NS_PER_S UINT64_C(1000000000)
/* Deadline of a file operation or wait in a fiber that set none. */
#define IO_DEFAULT_TIMEOUT_NS (60 * IO_NS_PER_S)

/* --- time and randomness --- */

/* Monotonic nanoseconds since an arbitrary start; never 0. */
uint64_t io_now_ns(struct io *io);
/* Milliseconds since 1970 UTC. May jump. */
uint64_t io_wall_ms(struct io *io);
/* Cryptographically strong bytes (seeded bytes in the simulator). */
void io_random(struct io *io, void *out, size_t bytes);

/* --- fibers --- */

typedef void fiber_fn(struct io *io, void *argument);

/* Start a fiber. It runs at once, inside the call, until its first wait; it inherits the caller's
 * log request id but not its deadline. ERR_BUSY: FIBERS_PER_REACTOR_MAX are alive. */
enum err io_spawn(struct io *io, fiber_fn *fn, void *argument);
/* The running fiber. Valid to pass to io_wake and io_cancel until that fiber ended. */
struct fiber *io_self(struct io *io);
/* Ask a fiber to end early: its present and later waits return ERR_CANCELED. Same reactor only. */
void io_cancel(struct io *io, struct fiber *fiber);
bool io_canceled(struct io *io);
/* Absolute deadline (io_now_ns clock) of the running fiber's later waits; 0 = each wait gets
 * IO_DEFAULT_TIMEOUT_NS. Returns the former one, to be restored by the caller. */
uint64_t io_set_deadline(struct io *io, uint64_t deadline_ns);
uint64_t io_deadline(struct io *io);
/* Request id shown in this fiber's log lines. */
void io_set_request(struct io *io, uint64_t request_id);

/* Sleep until an absolute time, not shortened by the fiber's deadline. OK or ERR_CANCELED. */
enum err io_sleep_until(struct io *io, uint64_t wake_ns);
enum err io_sleep_ms(struct io *io, uint64_t ms);
/* Let other ready fibers and completed I/O run first. */
enum err io_yield(struct io *io);

/* Low level, for runtime/sync.h and adapters: wait until io_wake(this fiber). A wake before the
 * park is remembered (one). `deadline_ns` 0 = the fiber's. Spurious wakes are possible: check your
 * condition in a loop. */
enum err io_park(struct io *io, uint64_t deadline_ns);
/* Make a parked fiber ready. Same reactor only; cheap; no effect on a fiber that is ready already.
 */
void io_wake(struct io *io, struct fiber *fiber);

/* --- other reactors --- */

/* Run fn(target, argument) on a new fiber of reactor `target`. From any thread, also from lanes.
 * The message is queued without bound of its own: callers are bounded by what they wait for. */
void io_post(struct io *target, fiber_fn *fn, void *argument);
/* The same, and wait until fn returned; runs inline when target == io. Not ended by deadline or
 * cancel, since fn works on the caller's memory: fn bounds its own waits. */
void io_call(struct io *io, struct io *target, fiber_fn *fn, void *argument);
/* Index of this reactor in its process, from 0, and how many there are. */
unsigned io_reactor_index(struct io *io);
unsigned io_reactor_count(struct io *io);
struct io *io_reactor(struct io *io, unsigned index);

/* --- files --- */

enum file_flag {
    FILE_WRITE = 1,     /* read and write; without it read only */
    FILE_CREATE = 2,    /* create when missing, mode 0600 */
    FILE_EXCLUSIVE = 4, /* with FILE_CREATE: ERR_EXISTS when there is one */
    FILE_DIRECT = 8,  /* O_DIRECT: offset, bytes and memory multiples of 4096. Where the file system
                         refuses it the  file is opened buffered and file_is_direct says false */
    FILE_RANDOM = 16, /* no read-ahead */
    FILE_DIRECTORY = 32, /* a directory, for io_sync */
};
enum write_flag {
    WRITE_DURABLE = 1, /* the bytes are on stable storage when the call returns OK (RWF_DSYNC) */
};

struct io_part {
    struct buf *buf;
    size_t offset;
    size_t bytes;
};

struct file_info {
    uint64_t bytes;
    uint64_t allocated_bytes;
    uint64_t device;
    uint64_t inode;
    bool is_directory;
};

struct space_info {
    uint64_t total_bytes;
    uint64_t free_bytes; /* to an unprivileged writer */
    uint64_t device;
};

/* ERR_NOT_FOUND, ERR_EXISTS, ERR_NO_SPACE, ERR_INVALID (path too long, not a file), ERR_IO. */
enum err io_open(struct io *io, const char *path, unsigned flags, struct file **out_file);
/* Close; usable from any reactor; waits for nothing. Operations in flight keep the file until they
 * complete. */
void file_close(struct file *file);
DEFINE_AUTO(file, file_close)
bool file_is_direct(const struct file *file);
const char *file_path(const struct file *file);

/* Read `bytes` at `offset` of the file into buf at buf_offset. *out_bytes is less than `bytes` only
 * at the end of the file. ERR_IO: the device failed. */
enum err io_read(struct io *io, struct file *file, struct buf *buf, size_t buf_offset, size_t bytes,
                 uint64_t offset, size_t *out_bytes);
/* Write all parts one after the other at `offset`, completely or with an error. After any error but
 * ERR_NO_SPACE the contents of the range are undefined and the caller fences the drive. Durable
 * when WRITE_DURABLE is given (parts aligned when the file is direct) or after a later io_sync. */
enum err io_write(struct io *io, struct file *file, const struct io_part *parts,
                  unsigned part_count, uint64_t offset, unsigned flags);
/* fdatasync (fsync for a directory). An error is final: never retried (Rebello et al., USENIX ATC
 * 2020). */
enum err io_sync(struct io *io, struct file *file);
/* Reserve blocks for [offset, offset + bytes) and grow the file's length. ERR_NO_SPACE changes
 * nothing that matters. */
enum err io_allocate(struct io *io, struct file *file, uint64_t offset, uint64_t bytes);
/* Free the blocks of a range, which then reads as zeros; length unchanged. ERR_UNSUPPORTED where
 * the file system cannot. */
enum err io_punch(struct io *io, struct file *file, uint64_t offset, uint64_t bytes);
enum err io_truncate(struct io *io, struct file *file, uint64_t bytes);
/* Exclusive lock of the open file, dropped by file_close or process end. ERR_LOCKED: another
 * process has it. */
enum err io_lock(struct io *io, struct file *file);
enum err io_file_info(struct io *io, struct file *file, struct file_info *out_info);

/* --- names --- (durable only after io_sync of the directory that holds the name) */

enum err io_stat(struct io *io, const char *path, struct file_info *out_info);
enum err io_make_directory(struct io *io, const char *path); /* ERR_EXISTS */
enum err io_rename(struct io *io, const char *from, const char *to);
enum err io_unlink(struct io *io, const char *path);
/* Remove a directory with all it holds (bounded depth 8). OK when it does not exist. */
enum err io_remove_tree(struct io *io, const char *path);
/* Names in a directory without "." and "..", sorted, each followed by a NUL, appended to `out`;
 * ERR_LIMIT when they do not fit its max. */
enum err io_list_directory(struct io *io, const char *path, struct bytes *out_names);
enum err io_space(struct io *io, const char *path, struct space_info *out_space);
/* Open the directory, sync it, close it: makes creations and renames in it durable. */
enum err io_sync_directory(struct io *io, const char *path);
/* Make the name of `path` itself durable: sync the directory that the path says it is in. */
enum err io_sync_parent(struct io *io, const char *path);
