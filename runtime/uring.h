/* Structs of the io_uring back end, shared by uring.c (ring and loop), offload.c (blocking calls)
 * and runtime.c (threads).
 *
 * A reactor's fields belong to its thread but for the inbox, `sleeping` and the counters of struct
 * io. Operations on open files go through the ring; opens, names and closes, which the kernel may
 * block in, through the offload threads. */
#pragma once
#include "runtime/runtime.h"
#include "scheduler.h"
#include <liburing.h>
#include <pthread.h>

enum {
    REACTORS_MAX = 64,
    OFFLOAD_THREADS = 4,
    SUBMISSION_ENTRIES = 1024,
    COMPLETION_ENTRIES = 4096,
    /* Operations in the ring at once; the rest waits in the backlog, so completions cannot
     * overflow. The margin is for pollers and the wake-up. */
    IN_FLIGHT_MAX = COMPLETION_ENTRIES - 512,
    POLLERS_MAX = 128,          /* of a reactor */
    FILE_SYSTEMS_SAID_MAX = 64, /* beyond that many, no more warnings about refused O_DIRECT */
};

struct offload {
    pthread_mutex_t mutex;
    pthread_cond_t job_or_stop;
    struct io_message *first; /* FIFO, under mutex; bounded by operations and open files */
    struct io_message *last;
    bool stop;
    unsigned thread_count;
    pthread_t threads[OFFLOAD_THREADS];
    uint64_t said_devices[FILE_SYSTEMS_SAID_MAX]; /* under mutex */
    unsigned said_count;
    _Atomic unsigned file_count; /* open */
};

struct uring_reactor {
    struct io io;
    struct runtime *runtime;
    struct io_uring ring;
    bool ring_made;
    bool ring_disabled; /* until its thread is known (IORING_SETUP_SINGLE_ISSUER) */
    unsigned in_flight;
    unsigned enter_failures;       /* in a row */
    struct list backlog;           /* operations that wait for room in the ring */
    struct list freed_pollers;     /* their polls are to be removed from the ring */
    _Atomic unsigned poller_count; /* written by this reactor only */
    int wake_fd;                   /* eventfd */
    bool wake_armed;
    uint64_t wake_value; /* read by the ring */
    pthread_t thread;
    bool thread_started;
    bool stopped;                   /* stop_message arrived */
    struct io_message stop_message; /* to this reactor */
    struct io_message idle_message; /* from this reactor to reactor 0, once main returned */
    _Atomic bool idle_message_sent;
    char line_before[64];               /* what other threads write has a cache line of its own */
    _Atomic(struct io_message *) inbox; /* newest first */
    _Atomic bool sleeping;              /* a sender must write wake_fd */
    char line_behind[64];
};

struct runtime {
    unsigned reactor_count;
    unsigned made_count;            /* reactors that reactor_init saw */
    _Atomic unsigned main_returned; /* 1: the fn of runtime_run did */
    struct offload offload;
    struct uring_reactor reactors[];
};

struct uring_file {
    struct file file;
    struct offload *offload;
    int fd;
    struct io_message close_message;
};

static inline struct uring_reactor *reactor_of(struct io *io)
{
    return CONTAINER_OF(io, struct uring_reactor, io);
}

static inline struct uring_file *uring_file_of(struct file *file)
{
    return CONTAINER_OF(file, struct uring_file, file);
}

/* --- uring.c --- */

extern const struct io_backend uring_backend;
/* ERR_UNSUPPORTED when the kernel or a seccomp profile refuses io_uring, ERR_BUSY when it lacks
 * resources. */
enum err reactor_init(struct uring_reactor *reactor, struct runtime *runtime, unsigned index);
void reactor_deinit(struct uring_reactor *reactor);
/* On the reactor's thread, before the first round. */
void reactor_adopt_thread(struct uring_reactor *reactor);
/* Complete operations, deliver messages, run fibers. True when more of them are ready. */
bool reactor_work(struct uring_reactor *reactor);
/* Submit what was prepared and, unless there is `more` to do or a message came since reactor_work,
 * sleep until something completes, a message comes, or a time is reached. */
void reactor_rest(struct uring_reactor *reactor, bool more, uint64_t until_ns);
void uring_deliver(struct io *target, struct io_message *message);

/* --- offload.c --- */

enum err offload_init(struct offload *offload);
/* Runs what is queued and ends the threads. */
void offload_deinit(struct offload *offload);
/* Run the operation on an offload thread. */
void offload_submit(struct offload *offload, struct io_operation *operation);
void offload_close(struct file *file);
/* The file system refused O_DIRECT: go on buffered, and say so once per file system. */
void offload_make_buffered(struct uring_file *file);
/* The meaning of an errno; the cause of ERR_IO is logged. */
enum err error_of_errno(int number, const char *call, const char *path);
