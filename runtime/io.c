/* The front of `struct io`: arguments are checked, operations and messages are made, fibers wait.
 */
#include "runtime/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "scheduler.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum {
    DIRECT_ALIGN_BYTES = 4096,
    OPERATION_POOL_MAX = 256,        /* free ones kept */
    TREE_DEPTH_MAX = 8,              /* directories within each other in io_remove_tree */
    TREE_NAMES_BYTES_MAX = 64 << 20, /* names of one directory in it */
};

uint64_t io_wall_ms(struct io *io)
{
    return io->backend->wall_ms(io);
}

void io_random(struct io *io, void *out, size_t bytes)
{
    assert(out != NULL);
    io->backend->random(io, out, bytes);
}

unsigned io_reactor_index(struct io *io)
{
    return io->index;
}

unsigned io_reactor_count(struct io *io)
{
    return io->reactor_count;
}

struct io *io_reactor(struct io *io, unsigned index)
{
    assert(index < io->reactor_count);
    return index == io->index ? io : io->backend->reactor(io, index);
}

/* --- other reactors --- */

/* A message that becomes a fiber. */
struct post {
    struct io_message message;
    struct list_node node; /* in io->posts when no fiber was free */
    fiber_fn *fn;
    void *argument;
    uint64_t request_id;
    bool is_call; /* lives in a struct call, not on the heap */
};

struct call {
    struct post post;
    struct io *from;
    struct fiber *waiter;
    fiber_fn *fn;
    void *argument;
    bool done;
};

/* False when no fiber is free: the post stays the caller's. */
static bool post_start(struct io *io, struct post *post)
{
    uint64_t outer_request = log_request();
    bool is_call = post->is_call; /* a call may be gone when its fiber has run */
    log_set_request(post->request_id);
    enum err result = io_spawn(io, post->fn, post->argument);
    log_set_request(outer_request);
    if (result != OK)
        return false;
    if (!is_call) {
        mem_free(post);
        atomic_fetch_add_explicit(&io->arrived_count, 1, memory_order_release);
    }
    return true;
}

static void post_arrive(struct io *io, struct io_message *message)
{
    struct post *post = CONTAINER_OF(message, struct post, message);
    if (!list_empty(&io->posts) || !post_start(io, post))
        list_push_back(&io->posts, &post->node);
}

void scheduler_start_posts(struct io *io)
{
    while (!list_empty(&io->posts) && io->fibers.count < FIBERS_PER_REACTOR_MAX) {
        struct list_node *node = list_pop_front(&io->posts);
        if (post_start(io, CONTAINER_OF(node, struct post, node)))
            continue;
        list_push_front(&io->posts, node); /* no stack to be had: at a later turn */
        break;
    }
}

void io_post(struct io *target, fiber_fn *fn, void *argument)
{
    assert(fn != NULL);
    struct post *post = mem_new(struct post);
    *post = (struct post){.message = {.arrive = post_arrive},
                          .fn = fn,
                          .argument = argument,
                          .request_id = log_request()};
    atomic_fetch_add_explicit(&target->posted_count, 1, memory_order_relaxed);
    target->backend->deliver(target, &post->message);
}

static void call_return(struct io *io, struct io_message *message)
{
    struct call *call = CONTAINER_OF(message, struct call, post.message);
    call->done = true;
    io_wake(io, call->waiter);
}

static void call_body(struct io *io, void *argument)
{
    struct call *call = argument;
    call->fn(io, call->argument);
    call->post.message = (struct io_message){.arrive = call_return};
    call->from->backend->deliver(call->from, &call->post.message);
}

void io_call(struct io *io, struct io *target, fiber_fn *fn, void *argument)
{
    assert(fn != NULL);
    if (io == target) {
        fn(io, argument);
        return;
    }
    struct call call = {.post = {.message = {.arrive = post_arrive},
                                 .fn = call_body,
                                 .argument = &call,
                                 .request_id = log_request(),
                                 .is_call = true},
                        .from = io,
                        .waiter = io_self(io),
                        .fn = fn,
                        .argument = argument};
    target->backend->deliver(target, &call.post.message);
    while (!call.done)
        (void)scheduler_park(io, IO_NEVER, false); /* only a wake ends it */
}

/* --- files as objects --- */

void file_init(struct file *file, const struct io_backend *backend, const char *path,
               unsigned flags, bool direct)
{
    file->backend = backend;
    file->flags = flags;
    file->path = mem_format("%s", path);
    atomic_init(&file->references, 1);
    atomic_init(&file->direct, direct);
}

void file_deinit(struct file *file)
{
    mem_free(file->path);
    file->path = NULL;
}

struct file *file_ref(struct file *file)
{
    uint32_t former = atomic_fetch_add_explicit(&file->references, 1, memory_order_relaxed);
    assert(former > 0);
    return file;
}

void file_close(struct file *file)
{
    if (file == NULL)
        return;
    uint32_t former = atomic_fetch_sub_explicit(&file->references, 1, memory_order_acq_rel);
    assert(former > 0);
    if (former == 1)
        file->backend->file_release(file);
}

bool file_is_direct(const struct file *file)
{
    return atomic_load_explicit(&file->direct, memory_order_relaxed);
}

const char *file_path(const struct file *file)
{
    return file->path;
}

/* --- operations --- */

/* Only this reactor writes the count; release, so that who reads 0 sees all it did. */
static void operation_count_add(struct io *io, int difference)
{
    uint32_t count = atomic_load_explicit(&io->operation_count, memory_order_relaxed);
    assert(count > 0 || difference > 0);
    atomic_store_explicit(&io->operation_count, count + (uint32_t)difference, memory_order_release);
}

static void operation_release(struct io_operation *operation)
{
    struct io *io = operation->io;
    for (unsigned i = 0; i < operation->part_count; i++)
        buf_unref(operation->parts[i].buf);
    file_close(operation->file);
    file_close(operation->out_file);
    mem_free(operation->path);
    mem_free(operation->path_to);
    bytes_deinit(&operation->names);
    operation_count_add(io, -1);
    if (io->free_operation_count >= OPERATION_POOL_MAX) {
        mem_free(operation);
        return;
    }
    operation->next = io->free_operations;
    io->free_operations = operation;
    io->free_operation_count++;
}

DEFINE_AUTO(io_operation, operation_release)

void scheduler_free_operations(struct io *io)
{
    assert(atomic_load(&io->operation_count) == 0);
    while (io->free_operations != NULL) {
        struct io_operation *operation = io->free_operations;
        io->free_operations = operation->next;
        mem_free(operation);
    }
}

static enum err operation_new(struct io *io, enum io_kind kind, struct file *file,
                              struct io_operation **out_operation)
{
    struct fiber *fiber = io_self(io);
    if (fiber->canceled)
        return ERR_CANCELED;
    if (scheduler_deadline(io, 0) <= io->now_ns)
        return ERR_TIMEOUT;
    uint32_t count = atomic_load_explicit(&io->operation_count, memory_order_relaxed);
    if (count >= OPERATIONS_PER_REACTOR_MAX)
        return FAIL(ERR_BUSY, "operation limit reached count=%u", count);
    struct io_operation *operation = io->free_operations;
    if (operation != NULL) {
        io->free_operations = operation->next;
        io->free_operation_count--;
    } else {
        operation = mem_new(struct io_operation);
    }
    operation_count_add(io, 1);
    *operation = (struct io_operation){.io = io, .kind = kind};
    if (file != NULL)
        operation->file = file_ref(file);
    *out_operation = operation;
    return OK;
}

static enum err path_check(const char *path)
{
    assert(path != NULL);
    size_t bytes = strlen(path);
    if (bytes == 0)
        return FAIL(ERR_INVALID, "path is empty");
    if (bytes > IO_PATH_BYTES_MAX)
        return FAIL(ERR_INVALID, "path is too long bytes=%zu", bytes);
    return OK;
}

static enum err operation_new_path(struct io *io, enum io_kind kind, const char *path,
                                   struct io_operation **out_operation)
{
    TRY(path_check(path));
    TRY(operation_new(io, kind, NULL, out_operation));
    (*out_operation)->path = mem_format("%s", path);
    return OK;
}

/* Submit and wait. When the wait ends early *operation becomes NULL: the back end has it alone. */
static enum err operation_run(struct io *io, struct io_operation **operation)
{
    struct io_operation *running = *operation;
    uint64_t deadline_ns = scheduler_deadline(io, 0);
    running->waiter = io_self(io);
    io->backend->submit(io, running);
    while (!running->complete) {
        enum err result = scheduler_park(io, deadline_ns, true);
        if (result == OK || running->complete)
            continue;
        running->waiter = NULL;
        *operation = NULL;
        return result;
    }
    return running->result;
}

void io_operation_complete(struct io_operation *operation, enum err result)
{
    assert(!operation->complete);
    operation->complete = true;
    operation->result = result;
    if (operation->waiter != NULL)
        io_wake(operation->io, operation->waiter);
    else
        operation_release(operation);
}

/* --- files --- */

enum err io_open(struct io *io, const char *path, unsigned flags, struct file **out_file)
{
    assert((flags & FILE_EXCLUSIVE) == 0 || (flags & FILE_CREATE) != 0);
    assert((flags & FILE_CREATE) == 0 || (flags & FILE_WRITE) != 0);
    assert((flags & FILE_DIRECTORY) == 0 || flags == FILE_DIRECTORY);
    AUTO(io_operation) operation = NULL;
    TRY(operation_new_path(io, IO_OPEN, path, &operation));
    operation->flags = flags;
    TRY(operation_run(io, &operation));
    assert(operation->out_file != NULL);
    *out_file = TAKE(operation->out_file);
    return OK;
}

static void assert_direct_aligned(const struct file *file, uint64_t value)
{
    if ((file->flags & FILE_DIRECT) != 0)
        assert(value % DIRECT_ALIGN_BYTES == 0);
}

enum err io_read(struct io *io, struct file *file, struct buf *buf, size_t buf_offset, size_t bytes,
                 uint64_t offset, size_t *out_bytes)
{
    assert(bytes > 0);
    assert(bytes <= IO_TRANSFER_BYTES_MAX);
    assert(buf_offset <= buf->capacity);
    assert(bytes <= buf->capacity - buf_offset);
    assert(offset <= INT64_MAX - bytes);
    assert_direct_aligned(file, offset);
    assert_direct_aligned(file, bytes);
    assert_direct_aligned(file, buf_offset);
    AUTO(io_operation) operation = NULL;
    TRY(operation_new(io, IO_READ, file, &operation));
    operation->parts[0] =
        (struct io_part){.buf = buf_ref(buf), .offset = buf_offset, .bytes = bytes};
    operation->part_count = 1;
    operation->offset = offset;
    operation->bytes = bytes;
    TRY(operation_run(io, &operation));
    assert(operation->out_bytes <= bytes);
    *out_bytes = operation->out_bytes;
    return OK;
}

enum err io_write(struct io *io, struct file *file, const struct io_part *parts,
                  unsigned part_count, uint64_t offset, unsigned flags)
{
    assert((file->flags & FILE_WRITE) != 0);
    assert(part_count > 0);
    assert(part_count <= IO_PARTS_MAX);
    assert_direct_aligned(file, offset);
    AUTO(io_operation) operation = NULL;
    TRY(operation_new(io, IO_WRITE, file, &operation));
    operation->offset = offset;
    operation->flags = flags;
    for (unsigned i = 0; i < part_count; i++) {
        const struct io_part *part = &parts[i];
        assert(part->bytes > 0);
        assert(part->offset <= part->buf->capacity);
        assert(part->bytes <= part->buf->capacity - part->offset);
        assert_direct_aligned(file, part->offset);
        assert_direct_aligned(file, part->bytes);
        operation->parts[i] = *part;
        (void)buf_ref(part->buf); /* returns its argument */
        operation->part_count++;
        operation->bytes += part->bytes;
    }
    assert(operation->bytes <= IO_TRANSFER_BYTES_MAX);
    assert(offset <= INT64_MAX - operation->bytes);
    return operation_run(io, &operation);
}

enum err io_sync(struct io *io, struct file *file)
{
    AUTO(io_operation) operation = NULL;
    TRY(operation_new(io, IO_SYNC, file, &operation));
    return operation_run(io, &operation);
}

static enum err range_run(struct io *io, enum io_kind kind, struct file *file, uint64_t offset,
                          uint64_t bytes)
{
    assert((file->flags & FILE_WRITE) != 0);
    assert(offset <= INT64_MAX);
    assert(bytes <= INT64_MAX - offset);
    AUTO(io_operation) operation = NULL;
    TRY(operation_new(io, kind, file, &operation));
    operation->offset = offset;
    operation->bytes = bytes;
    return operation_run(io, &operation);
}

enum err io_allocate(struct io *io, struct file *file, uint64_t offset, uint64_t bytes)
{
    assert(bytes > 0);
    return range_run(io, IO_ALLOCATE, file, offset, bytes);
}

enum err io_punch(struct io *io, struct file *file, uint64_t offset, uint64_t bytes)
{
    assert(bytes > 0);
    return range_run(io, IO_PUNCH, file, offset, bytes);
}

enum err io_truncate(struct io *io, struct file *file, uint64_t bytes)
{
    return range_run(io, IO_TRUNCATE, file, 0, bytes);
}

enum err io_lock(struct io *io, struct file *file)
{
    AUTO(io_operation) operation = NULL;
    TRY(operation_new(io, IO_LOCK, file, &operation));
    return operation_run(io, &operation);
}

enum err io_file_info(struct io *io, struct file *file, struct file_info *out_info)
{
    AUTO(io_operation) operation = NULL;
    TRY(operation_new(io, IO_FILE_INFO, file, &operation));
    TRY(operation_run(io, &operation));
    *out_info = operation->out_info;
    return OK;
}

/* --- names --- */

static enum err stat_run(struct io *io, const char *path, unsigned flags,
                         struct file_info *out_info)
{
    AUTO(io_operation) operation = NULL;
    TRY(operation_new_path(io, IO_STAT, path, &operation));
    operation->flags = flags;
    TRY(operation_run(io, &operation));
    *out_info = operation->out_info;
    return OK;
}

enum err io_stat(struct io *io, const char *path, struct file_info *out_info)
{
    return stat_run(io, path, 0, out_info);
}

static enum err path_run(struct io *io, enum io_kind kind, const char *path)
{
    AUTO(io_operation) operation = NULL;
    TRY(operation_new_path(io, kind, path, &operation));
    return operation_run(io, &operation);
}

enum err io_make_directory(struct io *io, const char *path)
{
    return path_run(io, IO_MAKE_DIRECTORY, path);
}

enum err io_unlink(struct io *io, const char *path)
{
    return path_run(io, IO_UNLINK, path);
}

enum err io_rename(struct io *io, const char *from, const char *to)
{
    TRY(path_check(to));
    AUTO(io_operation) operation = NULL;
    TRY(operation_new_path(io, IO_RENAME, from, &operation));
    operation->path_to = mem_format("%s", to);
    return operation_run(io, &operation);
}

enum err io_list_directory(struct io *io, const char *path, struct bytes *out_names)
{
    assert(out_names->bytes <= out_names->max);
    AUTO(io_operation) operation = NULL;
    TRY(operation_new_path(io, IO_LIST_DIRECTORY, path, &operation));
    size_t room = out_names->max - out_names->bytes;
    operation->names.max = room > 0 ? room : 1; /* no name fits in 1, and 0 is not a maximum */
    TRY(operation_run(io, &operation));
    if (operation->names.bytes > 0)
        bytes_append(out_names, bytes_slice(&operation->names));
    assert(!out_names->overflow);
    return OK;
}

enum err io_space(struct io *io, const char *path, struct space_info *out_space)
{
    AUTO(io_operation) operation = NULL;
    TRY(operation_new_path(io, IO_SPACE, path, &operation));
    TRY(operation_run(io, &operation));
    *out_space = operation->out_space;
    return OK;
}

enum err io_sync_directory(struct io *io, const char *path)
{
    AUTO(file) directory = NULL;
    TRY(io_open(io, path, FILE_DIRECTORY, &directory));
    return io_sync(io, directory);
}

enum err io_sync_parent(struct io *io, const char *path)
{
    const char *slash = strrchr(path, '/');
    AUTO_STRING parent = slash == NULL
                             ? mem_format(".")
                             : mem_format("%.*s", slash == path ? 1 : (int)(slash - path), path);
    return io_sync_directory(io, parent);
}

static enum err remove_entry(struct io *io, const char *path, unsigned depth);

static enum err remove_entry_if_there(struct io *io, const char *path, unsigned depth)
{
    enum err result = remove_entry(io, path, depth);
    return result == ERR_NOT_FOUND ? OK : result;
}

/* The directory itself stays. Recursion is bounded by TREE_DEPTH_MAX. */
static enum err remove_contents(struct io *io, const char *path, unsigned depth)
{
    if (depth == TREE_DEPTH_MAX)
        return FAIL(ERR_LIMIT, "directory tree is too deep path=%s", path);
    AUTO_VALUE(bytes) names = {.max = TREE_NAMES_BYTES_MAX};
    TRY(io_list_directory(io, path, &names));
    for (size_t at = 0; at < names.bytes;) {
        const char *name = (const char *)names.data + at;
        at += strlen(name) + 1;
        AUTO_STRING child = mem_format("%s/%s", path, name);
        TRY(remove_entry_if_there(io, child, depth + 1));
    }
    return OK;
}

static enum err remove_entry(struct io *io, const char *path, unsigned depth)
{
    struct file_info info = {0};
    TRY(stat_run(io, path, STAT_NO_FOLLOW, &info));
    if (!info.is_directory)
        return io_unlink(io, path);
    TRY(remove_contents(io, path, depth));
    return path_run(io, IO_REMOVE_DIRECTORY, path);
}

enum err io_remove_tree(struct io *io, const char *path)
{
    return remove_entry_if_there(io, path, 0);
}
