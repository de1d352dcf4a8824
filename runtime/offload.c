/* Calls that may block a thread: opens, names, closes. A small pool runs them for all reactors. */
#include "base/log.h"
#include "base/mem.h"
#include "uring.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { INTERRUPTS_MAX = 100 };

enum err error_of_errno(int number, const char *call, const char *path)
{
    enum err err = ERR_IO;
    switch (number) {
    case 0:
        return OK;
    case ENOENT:
        err = ERR_NOT_FOUND;
        break;
    case EEXIST:
        err = ERR_EXISTS;
        break;
    case ENOTEMPTY:
        err = ERR_NOT_EMPTY;
        break;
    case ENOSPC:
    case EDQUOT:
        err = ERR_NO_SPACE;
        break;
    case EFBIG:
        err = ERR_LIMIT;
        break;
    case EINVAL:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENOTDIR:
    case ENXIO:
        err = ERR_INVALID;
        break;
    case EOPNOTSUPP:
    case ENOSYS:
        err = ERR_UNSUPPORTED;
        break;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        err = ERR_BUSY;
        break;
    default: /* EIO, EROFS, EACCES and what no file system should say */
        log_warn("io: %s failed path=%s cause=\"%s\"", call, path, strerrordesc_np(number));
        break;
    }
    return FAIL(err, "%s failed path=%s cause=\"%s\"", call, path, strerrordesc_np(number));
}

/* 0 or the errno of a call that said -1. */
static int number_of(int result)
{
    return result == 0 ? 0 : errno;
}

/* --- open --- */

static void say_once(struct offload *offload, uint64_t device, const char *path)
{
    bool said = false;
    pthread_mutex_lock(&offload->mutex);
    for (unsigned i = 0; i < offload->said_count; i++)
        said = said || offload->said_devices[i] == device;
    if (!said && offload->said_count < FILE_SYSTEMS_SAID_MAX)
        offload->said_devices[offload->said_count++] = device;
    else
        said = true;
    pthread_mutex_unlock(&offload->mutex);
    if (!said)
        log_warn("io: file system refuses O_DIRECT, going on buffered path=%s", path);
}

void offload_make_buffered(struct uring_file *file)
{
    if (!atomic_exchange_explicit(&file->file.direct, false, memory_order_relaxed))
        return;                        /* another transfer found out first */
    (void)fcntl(file->fd, F_SETFL, 0); /* clears O_DIRECT; the retry shows whether it helped */
    struct stat status = {0};
    if (fstat(file->fd, &status) == 0)
        say_once(file->offload, status.st_dev, file->file.path);
}

/* O_DIRECT is set after the open, since open(O_CREAT | O_EXCL | O_DIRECT) leaves the file behind
 * when it is refused. O_NONBLOCK, which kept open from waiting for the other end of a fifo, goes.
 */
static enum err set_status_flags(struct offload *offload, int fd, const char *path, unsigned flags,
                                 const struct stat *status, bool *out_direct)
{
    *out_direct = (flags & FILE_DIRECT) != 0;
    if (*out_direct && fcntl(fd, F_SETFL, O_DIRECT) == 0)
        return OK;
    if (*out_direct)
        say_once(offload, status->st_dev, path);
    *out_direct = false;
    return error_of_errno(number_of(fcntl(fd, F_SETFL, 0)), "fcntl", path);
}

static enum err check_kind(const char *path, unsigned flags, const struct stat *status)
{
    bool wants_directory = (flags & FILE_DIRECTORY) != 0;
    if (wants_directory ? !S_ISDIR(status->st_mode) : !S_ISREG(status->st_mode))
        return FAIL(ERR_INVALID, "not a %s path=%s", wants_directory ? "directory" : "file", path);
    return OK;
}

static enum err prepare_fd(struct offload *offload, int fd, const char *path, unsigned flags,
                           bool *out_direct)
{
    struct stat status = {0};
    TRY(error_of_errno(number_of(fstat(fd, &status)), "fstat", path));
    TRY(check_kind(path, flags, &status));
    TRY(set_status_flags(offload, fd, path, flags, &status, out_direct));
    if ((flags & FILE_RANDOM) != 0)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); /* advice */
    return OK;
}

static int open_flags(unsigned flags)
{
    int result = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    result |= (flags & FILE_WRITE) != 0 ? O_RDWR : O_RDONLY;
    result |= (flags & FILE_CREATE) != 0 ? O_CREAT : 0;
    result |= (flags & FILE_EXCLUSIVE) != 0 ? O_EXCL : 0;
    return result;
}

static enum err run_open(struct offload *offload, struct io_operation *operation)
{
    const char *path = operation->path;
    int fd = -1;
    for (unsigned i = 0; i < INTERRUPTS_MAX; i++) {
        fd = open(path, open_flags(operation->flags), 0600);
        if (fd >= 0 || errno != EINTR)
            break;
    }
    if (fd < 0)
        return error_of_errno(errno, "open", path);
    bool direct = false;
    enum err result = prepare_fd(offload, fd, path, operation->flags, &direct);
    if (result != OK) {
        (void)close(fd); /* nothing was written */
        return result;
    }
    struct uring_file *file = mem_new(struct uring_file);
    file->offload = offload;
    file->fd = fd;
    file_init(&file->file, &uring_backend, path, operation->flags, direct);
    atomic_fetch_add_explicit(&offload->file_count, 1, memory_order_relaxed);
    operation->out_file = &file->file;
    return OK;
}

/* --- open files --- */

static void info_of_status(const struct stat *status, struct file_info *out_info)
{
    *out_info = (struct file_info){.bytes = (uint64_t)status->st_size,
                                   .allocated_bytes = (uint64_t)status->st_blocks * 512,
                                   .device = status->st_dev,
                                   .inode = status->st_ino,
                                   .is_directory = S_ISDIR(status->st_mode)};
}

static enum err run_file_info(struct io_operation *operation)
{
    struct stat status = {0};
    int number = number_of(fstat(uring_file_of(operation->file)->fd, &status));
    TRY(error_of_errno(number, "fstat", operation->file->path));
    info_of_status(&status, &operation->out_info);
    return OK;
}

static enum err run_truncate(struct io_operation *operation)
{
    int fd = uring_file_of(operation->file)->fd;
    int number = EINTR;
    for (unsigned i = 0; i < INTERRUPTS_MAX && number == EINTR; i++)
        number = number_of(ftruncate(fd, (off_t)operation->bytes));
    return error_of_errno(number, "ftruncate", operation->file->path);
}

static enum err run_lock(struct io_operation *operation)
{
    int number = number_of(flock(uring_file_of(operation->file)->fd, LOCK_EX | LOCK_NB));
    if (number == EWOULDBLOCK)
        return FAIL(ERR_LOCKED, "locked by another process path=%s", operation->file->path);
    return error_of_errno(number, "flock", operation->file->path);
}

/* --- names --- */

static enum err run_stat(struct io_operation *operation)
{
    struct stat status = {0};
    bool no_follow = (operation->flags & STAT_NO_FOLLOW) != 0;
    int result = no_follow ? lstat(operation->path, &status) : stat(operation->path, &status);
    TRY(error_of_errno(number_of(result), "stat", operation->path));
    info_of_status(&status, &operation->out_info);
    return OK;
}

static enum err run_space(struct io_operation *operation)
{
    struct stat status = {0};
    struct statvfs space = {0};
    TRY(error_of_errno(number_of(stat(operation->path, &status)), "stat", operation->path));
    TRY(error_of_errno(number_of(statvfs(operation->path, &space)), "statvfs", operation->path));
    operation->out_space = (struct space_info){.total_bytes = space.f_blocks * space.f_frsize,
                                               .free_bytes = space.f_bavail * space.f_frsize,
                                               .device = status.st_dev};
    return OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Append the names in `found`, each with its NUL, to `out` in byte order. */
static void sort_names(const struct bytes *found, size_t count, struct bytes *out)
{
    if (count == 0)
        return;
    const char **names = (const char **)mem_alloc_array(count, sizeof *names);
    const char *at = (const char *)found->data;
    for (size_t i = 0; i < count; i++) {
        names[i] = at;
        at += strlen(at) + 1;
    }
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++)
        bytes_append(out, slice_of(names[i], strlen(names[i]) + 1));
    mem_free(names);
}

static enum err collect_names(DIR *directory, const char *path, struct bytes *found,
                              size_t *out_count)
{
    size_t count = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL)
            break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        bytes_append(found, slice_of(entry->d_name, strlen(entry->d_name) + 1));
        if (found->overflow)
            return FAIL(ERR_LIMIT, "names do not fit path=%s max=%zu", path, found->max);
        count++;
    }
    *out_count = count;
    return error_of_errno(errno, "readdir", path);
}

static enum err run_list_directory(struct io_operation *operation)
{
    DIR *directory = opendir(operation->path);
    if (directory == NULL)
        return error_of_errno(errno, "opendir", operation->path);
    AUTO_VALUE(bytes) found = {.max = operation->names.max};
    size_t count = 0;
    enum err result = collect_names(directory, operation->path, &found, &count);
    (void)closedir(directory); /* read only */
    TRY(result);
    sort_names(&found, count, &operation->names);
    return OK;
}

/* --- the pool --- */

static enum err run_operation(struct offload *offload, struct io_operation *operation)
{
    const char *path = operation->path;
    switch (operation->kind) {
    case IO_OPEN:
        return run_open(offload, operation);
    case IO_TRUNCATE:
        return run_truncate(operation);
    case IO_LOCK:
        return run_lock(operation);
    case IO_FILE_INFO:
        return run_file_info(operation);
    case IO_STAT:
        return run_stat(operation);
    case IO_MAKE_DIRECTORY:
        return error_of_errno(number_of(mkdir(path, 0700)), "mkdir", path);
    case IO_RENAME:
        return error_of_errno(number_of(rename(path, operation->path_to)), "rename", path);
    case IO_UNLINK:
        return error_of_errno(number_of(unlink(path)), "unlink", path);
    case IO_REMOVE_DIRECTORY:
        return error_of_errno(number_of(rmdir(path)), "rmdir", path);
    case IO_LIST_DIRECTORY:
        return run_list_directory(operation);
    case IO_SPACE:
        return run_space(operation);
    case IO_READ:
    case IO_WRITE:
    case IO_SYNC:
    case IO_ALLOCATE:
    case IO_PUNCH:
        break; /* the ring's */
    }
    assert(false && "an operation of the ring came to the offload threads");
    return ERR_UNSUPPORTED;
}

static void operation_arrive(struct io *io, struct io_message *message)
{
    (void)io; /* the operation knows it */
    struct io_operation *operation = CONTAINER_OF(message, struct io_operation, message);
    io_operation_complete(operation, operation->result);
}

/* On an offload thread. */
static void operation_job(struct io *none, struct io_message *message)
{
    (void)none;
    struct io_operation *operation = CONTAINER_OF(message, struct io_operation, message);
    struct io *io = operation->io;
    operation->result = run_operation(&reactor_of(io)->runtime->offload, operation);
    operation->message = (struct io_message){.arrive = operation_arrive};
    uring_deliver(io, &operation->message);
}

/* On an offload thread. */
static void close_job(struct io *none, struct io_message *message)
{
    (void)none;
    struct uring_file *file = CONTAINER_OF(message, struct uring_file, close_message);
    struct offload *offload = file->offload;
    /* Durability was the business of an explicit sync, so there is nobody to tell. */
    if (close(file->fd) != 0)
        log_warn("io: close failed path=%s cause=\"%s\"", file->file.path, strerrordesc_np(errno));
    file_deinit(&file->file);
    mem_free(file);
    atomic_fetch_sub_explicit(&offload->file_count, 1, memory_order_relaxed);
}

static void push_job(struct offload *offload, struct io_message *message)
{
    message->next = NULL;
    pthread_mutex_lock(&offload->mutex);
    assert(!offload->stop);
    if (offload->last == NULL)
        offload->first = message;
    else
        offload->last->next = message;
    offload->last = message;
    pthread_cond_signal(&offload->job_or_stop);
    pthread_mutex_unlock(&offload->mutex);
}

void offload_submit(struct offload *offload, struct io_operation *operation)
{
    operation->message.arrive = operation_job;
    push_job(offload, &operation->message);
}

void offload_close(struct file *file)
{
    struct uring_file *closing = uring_file_of(file);
    closing->close_message.arrive = close_job;
    push_job(closing->offload, &closing->close_message);
}

static struct io_message *pop_job(struct offload *offload)
{
    pthread_mutex_lock(&offload->mutex);
    while (offload->first == NULL && !offload->stop)
        pthread_cond_wait(&offload->job_or_stop, &offload->mutex);
    struct io_message *message = offload->first;
    if (message != NULL)
        offload->first = message->next;
    if (offload->first == NULL)
        offload->last = NULL;
    pthread_mutex_unlock(&offload->mutex);
    return message;
}

static void *offload_thread(void *argument)
{
    struct offload *offload = argument;
    struct io_message *message = NULL;
    while ((message = pop_job(offload)) != NULL)
        message->arrive(NULL, message);
    return NULL;
}

enum err offload_init(struct offload *offload)
{
    pthread_mutex_init(&offload->mutex, NULL);
    pthread_cond_init(&offload->job_or_stop, NULL);
    sigset_t all;
    sigset_t former;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &former);
    int number = 0;
    while (number == 0 && offload->thread_count < OFFLOAD_THREADS) {
        pthread_t *thread = &offload->threads[offload->thread_count];
        number = pthread_create(thread, NULL, offload_thread, offload);
        if (number == 0) {
            (void)pthread_setname_np(*thread, "offload"); /* for people with a debugger only */
            offload->thread_count++;
        }
    }
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    if (number != 0)
        return FAIL(ERR_BUSY, "no thread to be had: %s", strerrordesc_np(number));
    return OK;
}

void offload_deinit(struct offload *offload)
{
    pthread_mutex_lock(&offload->mutex);
    offload->stop = true;
    pthread_cond_broadcast(&offload->job_or_stop);
    pthread_mutex_unlock(&offload->mutex);
    for (unsigned i = 0; i < offload->thread_count; i++) {
        int result = pthread_join(offload->threads[i], NULL);
        assert(result == 0);
    }
    assert(atomic_load(&offload->file_count) == 0);
    pthread_cond_destroy(&offload->job_or_stop);
    pthread_mutex_destroy(&offload->mutex);
}
