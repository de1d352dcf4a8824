/* A reactor's loop over its ring: submit, complete, deliver messages, run fibers, sleep. */
#include "uring.h"
#include "base/log.h"
#include "base/mem.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    SETUP_ATTEMPTS = 5, /* io_uring_queue_init fails now and then under memory pressure */
    SETUP_PAUSE_US = 10000,
    ENTER_PAUSE_US = 1000,
    ENTER_FAILURES_MAX = 10000, /* 10 s in a row */
    TRANSFER_ATTEMPTS_MAX = 64, /* in a row without a byte moved */
    SLEEP_S_MAX = 60,
    DIRECT_ALIGN_BYTES = 4096,
};

/* The two low bits of a completion's user data tell what the rest points to. */
enum tag { TAG_OPERATION, TAG_POLLER, TAG_WAKE, TAG_IGNORED };
enum { TAG_MASK = 3 };

static void set_user_data(struct io_uring_sqe *sqe, const void *pointer, enum tag tag)
{
    assert(((uintptr_t)pointer & TAG_MASK) == 0);
    io_uring_sqe_set_data64(sqe, (uintptr_t)pointer | (unsigned)tag);
}

/* --- the ring's life --- */

static int setup_once(struct uring_reactor *reactor)
{
    /* From the cheapest completion delivery to what every kernel with io_uring has. */
    static const unsigned choices[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED,
        IORING_SETUP_COOP_TASKRUN,
        0,
    };
    int result = -EINVAL;
    for (unsigned i = 0; i < sizeof choices / sizeof *choices && result == -EINVAL; i++) {
        struct io_uring_params params = {.flags = choices[i] | IORING_SETUP_CQSIZE,
                                         .cq_entries = COMPLETION_ENTRIES};
        result = io_uring_queue_init_params(SUBMISSION_ENTRIES, &reactor->ring, &params);
        reactor->ring_disabled = (choices[i] & IORING_SETUP_R_DISABLED) != 0;
    }
    return result;
}

static enum err setup_ring(struct uring_reactor *reactor)
{
    int result = setup_once(reactor);
    for (unsigned i = 1; i < SETUP_ATTEMPTS && (result == -ENOMEM || result == -EAGAIN); i++) {
        usleep(SETUP_PAUSE_US);
        result = setup_once(reactor);
    }
    if (result == 0) {
        reactor->ring_made = true;
        return OK;
    }
    if (result == -ENOSYS || result == -EPERM || result == -EACCES) {
        log_error("io_uring is refused (%s): check /proc/sys/kernel/io_uring_disabled, and in a "
                  "container its seccomp profile (the default one of Docker and containerd forbids "
                  "io_uring)",
                  strerrordesc_np(-result));
        return ERR_UNSUPPORTED;
    }
    log_error("io_uring cannot be set up: %s", strerrordesc_np(-result));
    return result == -EINVAL ? ERR_UNSUPPORTED : ERR_BUSY;
}

enum err reactor_init(struct uring_reactor *reactor, struct runtime *runtime, unsigned index)
{
    reactor->runtime = runtime;
    reactor->wake_fd = -1;
    list_init(&reactor->backlog);
    list_init(&reactor->freed_pollers);
    scheduler_init(&reactor->io, &uring_backend, index, runtime->reactor_count);
    TRY(setup_ring(reactor));
    reactor->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (reactor->wake_fd < 0)
        return error_of_errno(errno, "eventfd", "");
    return OK;
}

void reactor_deinit(struct uring_reactor *reactor)
{
    assert(reactor->in_flight == 0);
    assert(list_empty(&reactor->backlog));
    assert(atomic_load(&reactor->poller_count) == 0);
    if (reactor->wake_fd >= 0)
        (void)close(reactor->wake_fd); /* an eventfd has nothing to lose */
    if (reactor->ring_made)
        io_uring_queue_exit(&reactor->ring);
    scheduler_deinit(&reactor->io);
}

void reactor_adopt_thread(struct uring_reactor *reactor)
{
    if (!reactor->ring_disabled)
        return;
    /* liburing 2.3 declares io_uring_enable_rings without exporting it. */
    long result = syscall(__NR_io_uring_register, reactor->ring.ring_fd,
                          IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    assert(result == 0);
    reactor->ring_disabled = false;
}

/* --- submission --- */

/* Hand what is prepared to the kernel. False when it took nothing, for now. */
static bool submit_prepared(struct uring_reactor *reactor)
{
    int result = io_uring_submit(&reactor->ring);
    if (result >= 0)
        return result > 0;
    assert(result == -EAGAIN || result == -EBUSY || result == -ENOMEM || result == -EINTR);
    return false;
}

/* NULL when the ring has no room now. */
static struct io_uring_sqe *get_sqe(struct uring_reactor *reactor)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&reactor->ring);
    if (sqe == NULL && submit_prepared(reactor))
        sqe = io_uring_get_sqe(&reactor->ring);
    return sqe;
}

static void prepare_read(struct io_uring_sqe *sqe, struct io_operation *operation)
{
    const struct io_part *part = &operation->parts[0];
    size_t done = operation->out_bytes;
    io_uring_prep_read(sqe, uring_file_of(operation->file)->fd,
                       part->buf->data + part->offset + done, (unsigned)(part->bytes - done),
                       operation->offset + done);
}

/* The parts behind the first `done` bytes. Returns how many. */
static unsigned fill_iovecs(const struct io_operation *operation, size_t done, struct iovec *out)
{
    unsigned count = 0;
    for (unsigned i = 0; i < operation->part_count; i++) {
        const struct io_part *part = &operation->parts[i];
        if (done >= part->bytes) {
            done -= part->bytes;
            continue;
        }
        out[count++] = (struct iovec){.iov_base = part->buf->data + part->offset + done,
                                      .iov_len = part->bytes - done};
        done = 0;
    }
    return count;
}

static void prepare_write(struct io_uring_sqe *sqe, struct io_operation *operation)
{
    struct iovec first[IO_PARTS_MAX];
    int fd = uring_file_of(operation->file)->fd;
    size_t done = operation->out_bytes;
    unsigned count = fill_iovecs(operation, done, first);
    assert(count > 0);
    if (count == 1) {
        io_uring_prep_write(sqe, fd, first[0].iov_base, (unsigned)first[0].iov_len,
                            operation->offset + done);
    } else {
        /* Must live until the submission, at the end of the turn. */
        if (operation->backend_data == NULL)
            operation->backend_data = mem_alloc_array(IO_PARTS_MAX, sizeof(struct iovec));
        memcpy(operation->backend_data, first, count * sizeof *first);
        io_uring_prep_writev(sqe, fd, operation->backend_data, count, operation->offset + done);
    }
    sqe->rw_flags = (operation->flags & WRITE_DURABLE) != 0 ? RWF_DSYNC : 0;
}

static void prepare(struct io_uring_sqe *sqe, struct io_operation *operation)
{
    const struct uring_file *file = uring_file_of(operation->file);
    switch (operation->kind) {
    case IO_READ:
        prepare_read(sqe, operation);
        break;
    case IO_WRITE:
        prepare_write(sqe, operation);
        break;
    case IO_SYNC:
        io_uring_prep_fsync(sqe, file->fd,
                            (file->file.flags & FILE_DIRECTORY) != 0 ? 0 : IORING_FSYNC_DATASYNC);
        break;
    case IO_ALLOCATE:
        io_uring_prep_fallocate(sqe, file->fd, 0, (off_t)operation->offset,
                                (off_t)operation->bytes);
        break;
    case IO_PUNCH:
        io_uring_prep_fallocate(sqe, file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)operation->offset, (off_t)operation->bytes);
        break;
    case IO_OPEN:
    case IO_TRUNCATE:
    case IO_LOCK:
    case IO_FILE_INFO:
    case IO_STAT:
    case IO_MAKE_DIRECTORY:
    case IO_RENAME:
    case IO_UNLINK:
    case IO_REMOVE_DIRECTORY:
    case IO_LIST_DIRECTORY:
    case IO_SPACE:
        assert(false && "an operation of the offload threads came to the ring");
    }
    /* A repeated attempt may block, so it goes to a worker at once. */
    if (operation->backend_value > 0)
        io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
    set_user_data(sqe, operation, TAG_OPERATION);
}

static bool try_start(struct uring_reactor *reactor, struct io_operation *operation)
{
    if (reactor->in_flight >= IN_FLIGHT_MAX)
        return false;
    struct io_uring_sqe *sqe = get_sqe(reactor);
    if (sqe == NULL)
        return false;
    prepare(sqe, operation);
    reactor->in_flight++;
    return true;
}

static void start(struct uring_reactor *reactor, struct io_operation *operation)
{
    if (!list_empty(&reactor->backlog) || !try_start(reactor, operation))
        list_push_back(&reactor->backlog, &operation->node);
}

static void start_backlog(struct uring_reactor *reactor)
{
    while (!list_empty(&reactor->backlog)) {
        struct list_node *node = list_first(&reactor->backlog);
        list_remove(&reactor->backlog, node);
        if (try_start(reactor, CONTAINER_OF(node, struct io_operation, node)))
            continue;
        list_push_front(&reactor->backlog, node);
        break;
    }
}

static void uring_submit(struct io *io, struct io_operation *operation)
{
    struct uring_reactor *reactor = reactor_of(io);
    switch (operation->kind) {
    case IO_READ:
    case IO_WRITE:
    case IO_SYNC:
    case IO_ALLOCATE:
    case IO_PUNCH:
        start(reactor, operation);
        break;
    case IO_OPEN:
    case IO_TRUNCATE:
    case IO_LOCK:
    case IO_FILE_INFO:
    case IO_STAT:
    case IO_MAKE_DIRECTORY:
    case IO_RENAME:
    case IO_UNLINK:
    case IO_REMOVE_DIRECTORY:
    case IO_LIST_DIRECTORY:
    case IO_SPACE:
        offload_submit(&reactor->runtime->offload, operation);
        break;
    }
}

/* --- completion --- */

static const char *call_name(enum io_kind kind)
{
    switch (kind) {
    case IO_READ:
        return "read";
    case IO_WRITE:
        return "write";
    case IO_SYNC:
        return "fsync";
    case IO_ALLOCATE:
        return "fallocate";
    case IO_PUNCH:
        return "punch";
    case IO_OPEN:
    case IO_TRUNCATE:
    case IO_LOCK:
    case IO_FILE_INFO:
    case IO_STAT:
    case IO_MAKE_DIRECTORY:
    case IO_RENAME:
    case IO_UNLINK:
    case IO_REMOVE_DIRECTORY:
    case IO_LIST_DIRECTORY:
    case IO_SPACE:
        break;
    }
    return "?";
}

static void finish(struct io_operation *operation, enum err result)
{
    mem_free(operation->backend_data);
    operation->backend_data = NULL;
    io_operation_complete(operation, result);
}

static void finish_errno(struct io_operation *operation, int number)
{
    const char *path = operation->file->path;
    enum err result = error_of_errno(number, call_name(operation->kind), path);
    /* Whatever the reason, what was written before may be lost: nothing but ERR_IO is safe. */
    if (operation->kind == IO_SYNC && result != OK && result != ERR_IO)
        result = FAIL(ERR_IO, "fsync failed path=%s errno=%d", path, number);
    finish(operation, result);
}

/* An attempt moved nothing: once more, unless there were too many. */
static void retry(struct uring_reactor *reactor, struct io_operation *operation, int number)
{
    if (++operation->backend_value >= TRANSFER_ATTEMPTS_MAX)
        finish_errno(operation, number);
    else
        start(reactor, operation);
}

static void transfer_failed(struct uring_reactor *reactor, struct io_operation *operation,
                            int number)
{
    bool direct = (operation->file->flags & FILE_DIRECT) != 0;
    bool transient = number == EINTR || number == EAGAIN;
    /* Arguments of a direct file are aligned, so EINVAL means that the file system cannot. */
    bool refused = number == EINVAL && direct && operation->backend_value == 0;
    if (refused)
        offload_make_buffered(uring_file_of(operation->file));
    if (transient || refused)
        retry(reactor, operation, number);
    else
        finish_errno(operation, number);
}

static void read_completed(struct uring_reactor *reactor, struct io_operation *operation,
                           size_t got)
{
    operation->out_bytes += got;
    bool at_end = got == 0;
    /* Only the end of the file cuts a direct read in the midst of a block. */
    if (file_is_direct(operation->file) && operation->out_bytes % DIRECT_ALIGN_BYTES != 0)
        at_end = true;
    if (at_end || operation->out_bytes == operation->bytes) {
        finish(operation, OK);
        return;
    }
    operation->backend_value = 0;
    start(reactor, operation);
}

static void write_completed(struct uring_reactor *reactor, struct io_operation *operation,
                            size_t put)
{
    if (file_is_direct(operation->file))
        put -= put % DIRECT_ALIGN_BYTES; /* the rest of the block is written again */
    operation->out_bytes += put;
    if (operation->out_bytes == operation->bytes) {
        finish(operation, OK);
    } else if (put == 0) {
        retry(reactor, operation, EIO);
    } else {
        operation->backend_value = 0;
        start(reactor, operation);
    }
}

static void operation_completed(struct uring_reactor *reactor, struct io_operation *operation,
                                int result)
{
    assert(reactor->in_flight > 0);
    reactor->in_flight--;
    bool transfer = operation->kind == IO_READ || operation->kind == IO_WRITE;
    bool allocation = operation->kind == IO_ALLOCATE || operation->kind == IO_PUNCH;
    if (transfer && result < 0)
        transfer_failed(reactor, operation, -result);
    else if (operation->kind == IO_READ)
        read_completed(reactor, operation, (size_t)result);
    else if (operation->kind == IO_WRITE)
        write_completed(reactor, operation, (size_t)result);
    else if (allocation && (result == -EINTR || result == -EAGAIN))
        retry(reactor, operation, -result);
    else
        finish_errno(operation, result < 0 ? -result : 0);
}

static void poller_completed(struct poller *poller, int result);
static void disarm_freed(struct uring_reactor *reactor);

static void completed(struct uring_reactor *reactor, uint64_t user_data, int result)
{
    if (user_data == LIBURING_UDATA_TIMEOUT)
        return;
    void *pointer = (void *)(uintptr_t)(user_data & ~(uint64_t)TAG_MASK);
    switch ((enum tag)(user_data & TAG_MASK)) {
    case TAG_OPERATION:
        operation_completed(reactor, pointer, result);
        break;
    case TAG_POLLER:
        poller_completed(pointer, result);
        break;
    case TAG_WAKE:
        reactor->wake_armed = false;
        break;
    case TAG_IGNORED:
        break;
    }
}

/* Handle what is in the completion queue now; handling may submit, but never looks at the queue. */
static void reap(struct uring_reactor *reactor)
{
    struct io_uring_cqe *cqes[64];
    unsigned count = 0;
    while ((count = io_uring_peek_batch_cqe(&reactor->ring, cqes, 64)) > 0) {
        for (unsigned i = 0; i < count; i++)
            completed(reactor, cqes[i]->user_data, cqes[i]->res);
        io_uring_cq_advance(&reactor->ring, count);
    }
}

/* --- messages --- */

static void wake(struct uring_reactor *reactor)
{
    if (!atomic_exchange(&reactor->sleeping, false))
        return; /* another sender does it */
    uint64_t one = 1;
    ssize_t written = write(reactor->wake_fd, &one, sizeof one);
    assert(written == sizeof one);
}

void uring_deliver(struct io *target, struct io_message *message)
{
    struct uring_reactor *reactor = reactor_of(target);
    message->next = atomic_load_explicit(&reactor->inbox, memory_order_relaxed);
    /* Sequentially consistent with `sleeping`: either the reactor sees the message before it
     * sleeps, or the sender sees that it sleeps. */
    while (!atomic_compare_exchange_weak(&reactor->inbox, &message->next, message)) {
    }
    if (atomic_load(&reactor->sleeping))
        wake(reactor);
}

static void take_messages(struct uring_reactor *reactor)
{
    if (atomic_load_explicit(&reactor->inbox, memory_order_relaxed) == NULL)
        return;
    struct io_message *newest_first =
        atomic_exchange_explicit(&reactor->inbox, NULL, memory_order_acquire);
    struct io_message *oldest_first = NULL;
    while (newest_first != NULL) {
        struct io_message *message = newest_first;
        newest_first = message->next;
        message->next = oldest_first;
        oldest_first = message;
    }
    while (oldest_first != NULL) {
        struct io_message *message = oldest_first;
        oldest_first = message->next; /* arriving may end the message's life */
        message->arrive(&reactor->io, message);
    }
}

static void arm_wake(struct uring_reactor *reactor)
{
    if (reactor->wake_armed)
        return;
    struct io_uring_sqe *sqe = get_sqe(reactor);
    if (sqe == NULL)
        return; /* the caller does not sleep without it */
    io_uring_prep_read(sqe, reactor->wake_fd, &reactor->wake_value, sizeof reactor->wake_value, 0);
    set_user_data(sqe, NULL, TAG_WAKE);
    reactor->wake_armed = true;
}

/* --- the loop --- */

static uint64_t uring_now_ns(struct io *io)
{
    (void)io;
    struct timespec now = {0};
    int result = clock_gettime(CLOCK_MONOTONIC, &now);
    assert(result == 0);
    return (uint64_t)now.tv_sec * IO_NS_PER_S + (uint64_t)now.tv_nsec + 1;
}

static void check_enter(struct uring_reactor *reactor, int result)
{
    if (result >= 0 || result == -ETIME || result == -EINTR) {
        reactor->enter_failures = 0;
        return;
    }
    /* The kernel is short of memory or wants its completions taken first: both pass. */
    assert(result == -EAGAIN || result == -EBUSY || result == -ENOMEM || result == -EBADR);
    reactor->enter_failures++;
    assert(reactor->enter_failures < ENTER_FAILURES_MAX);
    usleep(ENTER_PAUSE_US);
}

static void enter_and_sleep(struct uring_reactor *reactor, uint64_t until_ns)
{
    uint64_t now_ns = reactor->io.now_ns;
    uint64_t sleep_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    if (sleep_ns > SLEEP_S_MAX * IO_NS_PER_S)
        sleep_ns = SLEEP_S_MAX * IO_NS_PER_S;
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(sleep_ns / IO_NS_PER_S),
                                        .tv_nsec = (int64_t)(sleep_ns % IO_NS_PER_S)};
    struct io_uring_cqe *cqe = NULL;
    int result = io_uring_submit_and_wait_timeout(&reactor->ring, &cqe, 1, &timeout, NULL);
    check_enter(reactor, result);
}

bool reactor_work(struct uring_reactor *reactor)
{
    reap(reactor);
    take_messages(reactor);
    start_backlog(reactor);
    disarm_freed(reactor);
    return scheduler_turn(&reactor->io, FIBERS_PER_TURN);
}

void reactor_rest(struct uring_reactor *reactor, bool more, uint64_t until_ns)
{
    arm_wake(reactor);
    bool sleeps = false;
    if (!more && reactor->wake_armed && list_empty(&reactor->freed_pollers)) {
        atomic_store(&reactor->sleeping, true);
        sleeps = atomic_load(&reactor->inbox) == NULL;
    }
    if (sleeps) {
        uint64_t timer_ns = scheduler_next_timer_ns(&reactor->io);
        enter_and_sleep(reactor, timer_ns < until_ns ? timer_ns : until_ns);
    } else {
        check_enter(reactor, io_uring_submit_and_get_events(&reactor->ring));
    }
    atomic_store(&reactor->sleeping, false);
}

/* --- the rest of the back end --- */

static uint64_t uring_wall_ms(struct io *io)
{
    (void)io;
    struct timespec now = {0};
    int result = clock_gettime(CLOCK_REALTIME, &now);
    assert(result == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / IO_NS_PER_MS;
}

static void uring_random(struct io *io, void *out, size_t bytes)
{
    (void)io;
    for (size_t done = 0; done < bytes;) {
        ssize_t got = getrandom((uint8_t *)out + done, bytes - done, 0);
        assert(got > 0 || errno == EINTR);
        if (got > 0)
            done += (size_t)got;
    }
}

static struct io *uring_reactor_io(struct io *io, unsigned index)
{
    return &reactor_of(io)->runtime->reactors[index].io;
}

const struct io_backend uring_backend = {
    .now_ns = uring_now_ns,
    .wall_ms = uring_wall_ms,
    .random = uring_random,
    .reactor = uring_reactor_io,
    .submit = uring_submit,
    .file_release = offload_close,
    .deliver = uring_deliver,
};

/* --- pollers --- */

struct poller {
    struct uring_reactor *reactor;
    struct list_node node; /* in freed_pollers */
    int fd;
    struct fiber *waiter;
    bool armed;    /* a one-shot poll is in the ring */
    bool readable; /* it fired */
    bool woken;
    bool freed; /* by its owner, while armed */
};

enum err poller_new(struct io *io, int fd, struct poller **out_poller)
{
    assert(fd >= 0);
    if (io->backend != &uring_backend)
        return FAIL(ERR_UNSUPPORTED, "no pollers in the simulator");
    struct uring_reactor *reactor = reactor_of(io);
    unsigned count = atomic_load_explicit(&reactor->poller_count, memory_order_relaxed);
    if (count >= POLLERS_MAX)
        return FAIL(ERR_BUSY, "poller limit reached count=%u", count);
    atomic_store_explicit(&reactor->poller_count, count + 1, memory_order_relaxed);
    struct poller *poller = mem_new(struct poller);
    poller->reactor = reactor;
    poller->fd = fd;
    *out_poller = poller;
    return OK;
}

static void poller_destroy(struct poller *poller)
{
    struct uring_reactor *reactor = poller->reactor;
    unsigned count = atomic_load_explicit(&reactor->poller_count, memory_order_relaxed);
    assert(count > 0);
    atomic_store_explicit(&reactor->poller_count, count - 1, memory_order_release);
    if (list_linked(&poller->node))
        list_remove(&reactor->freed_pollers, &poller->node);
    mem_free(poller);
}

static void poller_completed(struct poller *poller, int result)
{
    assert(poller->armed);
    poller->armed = false;
    if (poller->freed) {
        poller_destroy(poller);
        return;
    }
    /* An error of the poll, too, is for the owner of the fd to find when it uses it. */
    if (result != -ECANCELED)
        poller->readable = true;
    if (poller->waiter != NULL)
        io_wake(&poller->reactor->io, poller->waiter);
}

void poller_free(struct io *io, struct poller *poller)
{
    if (poller == NULL)
        return;
    assert(&poller->reactor->io == io);
    assert(poller->waiter == NULL);
    assert(!poller->freed);
    if (!poller->armed) {
        poller_destroy(poller);
        return;
    }
    poller->freed = true; /* poller_completed destroys it */
    list_push_back(&poller->reactor->freed_pollers, &poller->node);
}

static void disarm_freed(struct uring_reactor *reactor)
{
    while (!list_empty(&reactor->freed_pollers)) {
        struct io_uring_sqe *sqe = get_sqe(reactor);
        if (sqe == NULL)
            return; /* next round */
        struct list_node *node = list_pop_front(&reactor->freed_pollers);
        const struct poller *poller = CONTAINER_OF(node, struct poller, node);
        io_uring_prep_poll_remove(sqe, (uintptr_t)poller | TAG_POLLER);
        set_user_data(sqe, NULL, TAG_IGNORED);
    }
}

static bool poller_arm(struct poller *poller)
{
    if (poller->armed)
        return true;
    struct io_uring_sqe *sqe = get_sqe(poller->reactor);
    if (sqe == NULL)
        return false;
    io_uring_prep_poll_add(sqe, poller->fd, POLLIN);
    set_user_data(sqe, poller, TAG_POLLER);
    poller->armed = true;
    return true;
}

/* A poll that fired while nobody waited may be outdated. */
static bool is_readable_now(int fd)
{
    struct pollfd request = {.fd = fd, .events = POLLIN};
    return poll(&request, 1, 0) != 0;
}

static enum err poller_park(struct io *io, struct poller *poller, uint64_t deadline_ns)
{
    while (!poller->woken && !poller->readable) {
        enum err result = OK;
        /* With no time left, or no room in the ring, it still is a place where others run. */
        if (!poller_arm(poller) || deadline_ns <= io->now_ns)
            result = io_yield(io);
        if (result == OK)
            result = scheduler_park(io, deadline_ns, true);
        if (result != OK && !poller->woken && !poller->readable)
            return result;
    }
    return OK;
}

enum err poller_wait(struct io *io, struct poller *poller, uint64_t deadline_ns)
{
    assert(&poller->reactor->io == io);
    assert(poller->waiter == NULL);
    if (io_canceled(io))
        return ERR_CANCELED;
    if (poller->readable)
        poller->readable = is_readable_now(poller->fd);
    poller->waiter = io_self(io);
    enum err result = poller_park(io, poller, scheduler_deadline(io, deadline_ns));
    poller->waiter = NULL;
    poller->woken = false;
    poller->readable = false;
    return result;
}

void poller_wake(struct io *io, struct poller *poller)
{
    assert(&poller->reactor->io == io);
    poller->woken = true;
    if (poller->waiter != NULL)
        io_wake(io, poller->waiter);
}
