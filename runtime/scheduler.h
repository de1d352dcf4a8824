/* The inside of `struct io`: the fiber scheduler that both back ends share, and the seam between
 * them.
 *
 * A back end embeds `struct io` in its own reactor struct (CONTAINER_OF leads back), calls
 * scheduler_init with its `struct io_backend`, and owns the loop:
 *
 *     for (;;) {
 *         complete operations, deliver messages  -> makes fibers ready
 *         more = scheduler_turn(io, n);          -> timers, then n fibers at most
 *         unless `more`: sleep (or move the virtual clock) until an event or
 *             scheduler_next_timer_ns(io)
 *     }
 *
 * Files and names: the front (io.c) checks arguments, fills a `struct io_operation`, takes
 * references to its file and bufs, hands it to backend->submit and parks the fiber. The back end
 * answers with io_operation_complete, on the reactor's thread, at any later time or within submit,
 * exactly once. When the fiber left early (deadline, cancel) the operation is abandoned: waiter is
 * NULL, everything it refers to stays valid until io_operation_complete, which then releases it. So
 * results live in the operation, never on a fiber's stack. A back end may look at `waiter` to see
 * that nobody waits any more.
 *
 * Messages: backend->deliver(target, message) may be called from any thread and leads to
 * message->arrive(target, message) on the target's thread, outside of any fiber, in the order of
 * delivery per sender. io_post, io_call and lanes are built on it.
 *
 * Lanes: with lane_submit NULL a lane is threads (lane.c). Otherwise the back end gets each job,
 * and later, outside of any fiber and in the order of submission per lane, calls lane_job_run(job),
 * which runs it and wakes its waiter.
 *
 * Power cut in the simulator: scheduler_cancel_all, then turns until fiber_count is 0. New fibers
 * of that reactor are born canceled until scheduler_revive.
 *
 * No state outside these structs but the log's request id, which is switched with the fiber; so
 * many reactors may share a thread, as long as no reactor's scheduler_turn runs inside another turn
 * of the same reactor. */
#pragma once
#include "fiber.h"
#include "runtime/io.h"
#include "runtime/lane.h"
#include <stdatomic.h>

#define IO_NEVER UINT64_MAX /* a deadline that does not come */

enum {
    OPERATIONS_PER_REACTOR_MAX = 16384, /* in flight, abandoned ones included; ERR_BUSY beyond */
    FIBERS_PER_TURN = 256,              /* run between two looks at completions */
};

/* --- fibers --- */

enum fiber_state {
    FIBER_FREE,    /* in the pool */
    FIBER_RUNNING, /* also while it started another fiber that has not waited yet */
    FIBER_PARKED,
    FIBER_READY,
    FIBER_ENDED, /* for the moment between its last switch and the pool */
};

struct fiber {
    struct fiber_context context;
    struct fiber_context *resumer; /* where to go when it waits */
    struct io *io;
    void *stack;
    fiber_fn *fn;
    void *argument;
    struct list_node node;       /* in ready, yielded or pool */
    struct list_node alive_node; /* in io->fibers while alive */
    enum fiber_state state;
    enum err wake_result; /* of the wait that just ended */
    bool cancelable;      /* the present wait */
    bool canceled;
    bool wake_pending; /* a wake came while it was not parked */
    uint64_t request_id;
    uint64_t deadline_ns;    /* 0 = none */
    uint64_t timer_ns;       /* of the present wait; valid while timer_index != TIMER_NONE */
    uint64_t timer_sequence; /* equal times fire in the order they were set */
    uint32_t timer_index;
};

struct io_message {
    struct io_message *next; /* the back end's */
    void (*arrive)(struct io *io, struct io_message *message);
};

struct io {
    const struct io_backend *backend;
    unsigned index; /* within the process (machine), from 0 */
    unsigned reactor_count;
    uint64_t now_ns; /* clock at the last turn or io_now_ns */
    struct fiber *current;
    bool in_turn;
    bool born_canceled;
    struct list fibers;    /* alive */
    struct list ready;     /* in the order of waking */
    struct list yielded;   /* ready at the next turn */
    struct list pool;      /* free fibers with their stacks */
    struct list posts;     /* arrived while FIBERS_PER_REACTOR_MAX were alive */
    struct fiber **timers; /* heap by (timer_ns, timer_sequence) */
    uint32_t timer_count;
    uint32_t timer_capacity;
    uint64_t timer_sequence;
    /* Not yet completed or not yet read by their fiber; written by this reactor only. */
    _Atomic uint32_t operation_count;
    struct io_operation *free_operations; /* linked by next */
    uint32_t free_operation_count;
    /* Read by other threads to find that all work ended (runtime.c). Never falling. */
    _Atomic uint64_t started_count; /* fibers; written by this reactor only */
    _Atomic uint64_t ended_count;
    _Atomic uint64_t posted_count; /* messages; written by all */
    _Atomic uint64_t arrived_count;
};

/* The back end's clock must work already. */
void scheduler_init(struct io *io, const struct io_backend *backend, unsigned index,
                    unsigned reactor_count);
/* No fiber and no operation may be left. */
void scheduler_deinit(struct io *io);
/* Read the clock, make due and yielded fibers ready, start posts that waited, run at most
 * `fibers_max` ready fibers. True when some are still ready. Called outside of this reactor's
 * fibers. */
bool scheduler_turn(struct io *io, unsigned fibers_max);
/* A turn would run something now, whatever the clock says. */
bool scheduler_has_ready(const struct io *io);
/* Earliest timer, or IO_NEVER. */
uint64_t scheduler_next_timer_ns(const struct io *io);
static inline unsigned scheduler_fiber_count(const struct io *io)
{
    return io->fibers.count;
}
/* Cancel all fibers that live and those that will be started, until scheduler_revive. */
void scheduler_cancel_all(struct io *io);
void scheduler_revive(struct io *io);

/* Park the running fiber until io_wake, the absolute `deadline_ns` (IO_NEVER: none) or, if
 * `cancelable`, io_cancel. A remembered wake, a passed deadline or an earlier cancel is answered at
 * once, without letting others run. */
enum err scheduler_park(struct io *io, uint64_t deadline_ns, bool cancelable);
/* Start posts that came while all fibers were alive, as far as there are fibers now (io.c). */
void scheduler_start_posts(struct io *io);
/* Free pooled operations; asserts that none is out (io.c). */
void scheduler_free_operations(struct io *io);
/* The absolute end of a wait that names `deadline_ns` (0 = the fiber's, or the default timeout). */
uint64_t scheduler_deadline(struct io *io, uint64_t deadline_ns);

/* --- operations on files and names --- */

enum io_kind {
    IO_OPEN,  /* path, flags (enum file_flag) -> out_file, a reference */
    IO_READ,  /* file, part 0, offset -> out_bytes, less than asked only at the end of the file */
    IO_WRITE, /* file, parts, bytes (their sum), offset, flags (enum write_flag) */
    IO_SYNC,  /* file (FILE_DIRECTORY in file->flags: a directory) */
    IO_ALLOCATE,         /* file, offset, bytes */
    IO_PUNCH,            /* file, offset, bytes */
    IO_TRUNCATE,         /* file, bytes */
    IO_LOCK,             /* file */
    IO_FILE_INFO,        /* file -> out_info */
    IO_STAT,             /* path, flags (STAT_NO_FOLLOW) -> out_info */
    IO_MAKE_DIRECTORY,   /* path */
    IO_RENAME,           /* path, path_to */
    IO_UNLINK,           /* path of what is not a directory: ERR_INVALID else */
    IO_REMOVE_DIRECTORY, /* path; ERR_NOT_EMPTY */
    IO_LIST_DIRECTORY,   /* path -> names (max is set) */
    IO_SPACE,            /* path -> out_space */
};

enum { STAT_NO_FOLLOW = 1 }; /* of a symbolic link itself */

/* Shared part of an open file; back ends embed it. */
struct file {
    const struct io_backend *backend;
    _Atomic uint32_t references; /* the holder's and one per operation in flight */
    unsigned flags;              /* enum file_flag */
    _Atomic bool direct;         /* may turn false at the first transfer */
    char *path;
};

struct io_operation {
    struct io *io;        /* where it was submitted and completes */
    struct fiber *waiter; /* NULL: abandoned */
    enum io_kind kind;
    bool complete;
    enum err result;
    /* arguments */
    struct file *file;
    struct io_part parts[IO_PARTS_MAX];
    unsigned part_count;
    unsigned flags;
    uint64_t offset;
    uint64_t bytes;
    char *path; /* copies, owned */
    char *path_to;
    /* results, set before io_operation_complete */
    struct file *out_file;
    size_t out_bytes;
    struct file_info out_info;
    struct space_info out_space;
    struct bytes names;
    /* the back end's own */
    struct io_message message;
    struct list_node node;
    void *backend_data;
    uint64_t backend_value;
    struct io_operation *next; /* in the pool */
};

/* The back end is done with `operation`. On its reactor's thread, in a fiber or outside of one. */
void io_operation_complete(struct io_operation *operation, enum err result);
/* For back ends: fill a fresh `file` with one reference. `path` is copied. */
void file_init(struct file *file, const struct io_backend *backend, const char *path,
               unsigned flags, bool direct);
/* Release what file_init made; called by the back end in its file_release. */
void file_deinit(struct file *file);
struct file *file_ref(struct file *file);

/* --- lanes --- */

struct lane_threads;

struct lane {
    const struct io_backend *backend;
    char *name;
    unsigned thread_count;
    _Atomic unsigned depth;       /* jobs queued or running */
    bool running;                 /* without threads: inside lane_job_run */
    struct lane_threads *threads; /* NULL when the back end runs the jobs */
    uint64_t backend_value;       /* the back end's own, e.g. when its last job ends; 0 at first */
};

struct lane_job {
    struct lane *lane;
    lane_fn *fn;
    void *argument;
    struct io *io; /* of the waiter */
    struct fiber *waiter;
    uint64_t request_id;
    bool done; /* seen by the waiter only */
    struct io_message message;
    struct list_node node; /* in the lane's queue, or the back end's while it has the job */
};

/* For back ends that have lane_submit: run the job now, on this stack, and wake its waiter. */
void lane_job_run(struct lane_job *job);

/* --- the back end --- */

struct io_backend {
    uint64_t (*now_ns)(struct io *io);
    uint64_t (*wall_ms)(struct io *io);
    void (*random)(struct io *io, void *out, size_t bytes);
    struct io *(*reactor)(struct io *io, unsigned index);
    /* Start the operation; see the opening comment. Called on a fiber of `io`, but must not wait.
     */
    void (*submit)(struct io *io, struct io_operation *operation);
    /* The last reference to a file is gone: close it without waiting, then file_deinit. On any
     * thread. */
    void (*file_release)(struct file *file);
    void (*deliver)(struct io *target, struct io_message *message);
    /* NULL: lanes are threads. Else called on a fiber of job->io, must not wait. */
    void (*lane_submit)(struct io *io, struct lane_job *job);
};
