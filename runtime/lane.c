/* Lanes: threads that take jobs from one queue, or the back end's events. */
#include "runtime/lane.h"
#include "base/log.h"
#include "base/mem.h"
#include "scheduler.h"
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { LANE_THREADS_MAX = 16 };

struct lane_threads {
    pthread_mutex_t mutex;
    pthread_cond_t job_or_stop;
    struct list jobs; /* under mutex */
    bool stop;        /* under mutex */
    unsigned started_count;
    pthread_t threads[LANE_THREADS_MAX];
};

static void lane_job_arrive(struct io *io, struct io_message *message)
{
    struct lane_job *job = CONTAINER_OF(message, struct lane_job, message);
    job->done = true;
    io_wake(io, job->waiter);
}

void lane_job_run(struct lane_job *job)
{
    struct lane *lane = job->lane;
    assert(!lane->running);
    lane->running = true;
    job->fn(lane, job->argument);
    lane->running = false;
    atomic_fetch_sub_explicit(&lane->depth, 1, memory_order_relaxed);
    lane_job_arrive(job->io, &job->message);
}

/* NULL: the lane stops and nothing is queued. */
static struct lane_job *next_job(struct lane_threads *threads)
{
    struct list_node *node = NULL;
    pthread_mutex_lock(&threads->mutex);
    while (list_empty(&threads->jobs) && !threads->stop)
        pthread_cond_wait(&threads->job_or_stop, &threads->mutex);
    node = list_pop_front(&threads->jobs);
    pthread_mutex_unlock(&threads->mutex);
    return node == NULL ? NULL : CONTAINER_OF(node, struct lane_job, node);
}

static void *lane_thread(void *argument)
{
    struct lane *lane = argument;
    struct lane_job *job = NULL;
    while ((job = next_job(lane->threads)) != NULL) {
        log_set_request(job->request_id);
        job->fn(lane, job->argument);
        log_set_request(0);
        atomic_fetch_sub_explicit(&lane->depth, 1, memory_order_relaxed);
        /* The waiter's stack holds the job: it is gone as soon as the message arrived. */
        struct io *io = job->io;
        io->backend->deliver(io, &job->message);
    }
    return NULL;
}

static void stop_threads(struct lane_threads *threads)
{
    pthread_mutex_lock(&threads->mutex);
    threads->stop = true;
    pthread_cond_broadcast(&threads->job_or_stop);
    pthread_mutex_unlock(&threads->mutex);
    for (unsigned i = 0; i < threads->started_count; i++) {
        int result = pthread_join(threads->threads[i], NULL);
        assert(result == 0);
    }
    assert(list_empty(&threads->jobs));
    pthread_cond_destroy(&threads->job_or_stop);
    pthread_mutex_destroy(&threads->mutex);
    mem_free(threads);
}

/* Signals go to the threads that expect them. */
static int create_thread(struct lane *lane, pthread_t *out_thread)
{
    sigset_t all;
    sigset_t former;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &former);
    int result = pthread_create(out_thread, NULL, lane_thread, lane);
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    if (result == 0) {
        char name[16]; /* the kernel's limit */
        (void)snprintf(name, sizeof name, "%s", lane->name);
        (void)pthread_setname_np(*out_thread, name); /* for people with a debugger only */
    }
    return result;
}

static enum err start_threads(struct lane *lane)
{
    struct lane_threads *threads = lane->threads = mem_new(struct lane_threads);
    pthread_mutex_init(&threads->mutex, NULL);
    pthread_cond_init(&threads->job_or_stop, NULL);
    list_init(&threads->jobs);
    for (unsigned i = 0; i < lane->thread_count; i++) {
        int result = create_thread(lane, &threads->threads[i]);
        if (result != 0)
            return FAIL(ERR_BUSY, "lane %s: no thread to be had: %s", lane->name,
                        strerrordesc_np(result));
        threads->started_count++;
    }
    return OK;
}

enum err lane_new(struct io *io, const char *name, unsigned thread_count, struct lane **out_lane)
{
    assert(thread_count >= 1);
    assert(thread_count <= LANE_THREADS_MAX);
    AUTO(lane) lane = mem_new(struct lane);
    lane->backend = io->backend;
    lane->name = mem_format("%s", name);
    lane->thread_count = thread_count;
    if (io->backend->lane_submit == NULL)
        TRY(start_threads(lane));
    *out_lane = TAKE(lane);
    return OK;
}

void lane_free(struct lane *lane)
{
    if (lane == NULL)
        return;
    if (lane->threads != NULL)
        stop_threads(lane->threads);
    assert(lane_depth(lane) == 0);
    mem_free(lane->name);
    mem_free(lane);
}

enum err lane_run(struct io *io, struct lane *lane, lane_fn *fn, void *argument)
{
    assert(fn != NULL);
    assert(lane->backend == io->backend);
    if (io_canceled(io))
        return ERR_CANCELED;
    unsigned depth = atomic_fetch_add_explicit(&lane->depth, 1, memory_order_relaxed);
    if (depth >= LANE_QUEUE_MAX) {
        atomic_fetch_sub_explicit(&lane->depth, 1, memory_order_relaxed);
        return FAIL(ERR_BUSY, "lane %s: queue is full depth=%u", lane->name, depth);
    }
    struct lane_job job = {.lane = lane,
                           .fn = fn,
                           .argument = argument,
                           .io = io,
                           .waiter = io_self(io),
                           .request_id = log_request(),
                           .message = {.arrive = lane_job_arrive}};
    struct lane_threads *threads = lane->threads;
    if (threads == NULL) {
        io->backend->lane_submit(io, &job);
    } else {
        pthread_mutex_lock(&threads->mutex);
        assert(!threads->stop);
        list_push_back(&threads->jobs, &job.node);
        pthread_cond_signal(&threads->job_or_stop);
        pthread_mutex_unlock(&threads->mutex);
    }
    while (!job.done)
        (void)scheduler_park(io, IO_NEVER, false); /* only a wake ends it */
    return OK;
}

bool lane_is_current(const struct lane *lane)
{
    const struct lane_threads *threads = lane->threads;
    if (threads == NULL)
        return lane->running;
    pthread_t self = pthread_self();
    for (unsigned i = 0; i < lane->thread_count; i++) {
        if (pthread_equal(threads->threads[i], self))
            return true;
    }
    return false;
}

unsigned lane_depth(const struct lane *lane)
{
    return atomic_load_explicit(&lane->depth, memory_order_relaxed);
}
