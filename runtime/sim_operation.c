/* What each operation on a simulated file or name does, and which faults strike it. */
#include "base/hash.h"
#include "base/mem.h"
#include "sim_machine.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define DISK_NS_MIN_DEFAULT (20 * UINT64_C(1000))
#define DISK_NS_MAX_DEFAULT (2 * IO_NS_PER_MS)
#define SPIKE_NS_MAX (2 * IO_NS_PER_S)

/* An open file of one life of a machine. */
struct sim_handle {
    struct file file;
    struct sim_node *node;
    uint64_t life;
};

static struct sim_handle *handle_of(struct file *file)
{
    return CONTAINER_OF(file, struct sim_handle, file);
}

void sim_handle_release(struct file *file)
{
    struct sim_handle *handle = handle_of(file);
    sim_node_unlock(handle->node, handle);
    sim_node_release(handle->node);
    file_deinit(file);
    mem_free(handle);
}

static void count(struct sim_machine *machine, enum sim_fault_class fault)
{
    machine->sim->faults.counts[fault]++;
}

static bool strikes(struct sim_machine *machine, uint32_t ppm, enum sim_fault_class fault)
{
    bool hits = sim_random_hits(&machine->fault_random, ppm);
    if (hits)
        count(machine, fault);
    return hits;
}

static bool has_prefix(const char *path, const char *prefix)
{
    return path != NULL && strncmp(path, prefix, strlen(prefix)) == 0;
}

/* All directed faults on the operation's paths together. */
static struct sim_fault directed_fault(const struct sim_machine *machine,
                                       const struct io_operation *operation)
{
    struct sim_fault sum = {.prefix = ""};
    const char *path = operation->file != NULL ? operation->file->path : operation->path;
    for (unsigned i = 0; i < machine->fault_count; i++) {
        const struct sim_fault *fault = &machine->faults[i];
        if (!has_prefix(path, fault->prefix) && !has_prefix(operation->path_to, fault->prefix))
            continue;
        sum.read_fails |= fault->read_fails;
        sum.write_fails |= fault->write_fails;
        sum.sync_fails |= fault->sync_fails;
        sum.full |= fault->full;
        sum.sync_ignored |= fault->sync_ignored;
        sum.durable_ignored |= fault->durable_ignored;
        sum.latency_ns += fault->latency_ns;
    }
    return sum;
}

/* --- submitting --- */

static uint64_t draw_latency(struct sim_machine *machine, const struct io_operation *operation)
{
    const struct sim_options *options = &machine->sim->options;
    uint64_t min = options->disk_ns_min != 0 ? options->disk_ns_min : DISK_NS_MIN_DEFAULT;
    uint64_t max = options->disk_ns_max != 0 ? options->disk_ns_max : DISK_NS_MAX_DEFAULT;
    uint64_t latency_ns = sim_random_between(&machine->latency_random, min, max > min ? max : min);
    if (sim_random_hits(&machine->latency_random, options->latency_spike_ppm)) {
        count(machine, SIM_FAULT_LATENCY_SPIKE);
        latency_ns += sim_random_below(&machine->latency_random, SPIKE_NS_MAX);
    }
    uint64_t added_ns = directed_fault(machine, operation).latency_ns;
    if (added_ns > 0)
        count(machine, SIM_FAULT_SLOW_DISK);
    return latency_ns + added_ns;
}

void sim_operation_submit(struct io *io, struct io_operation *operation)
{
    struct sim_machine *machine = sim_machine_of(io);
    assert(machine->on);
    if (operation->file != NULL)
        assert(handle_of(operation->file)->life == machine->life);
    if (operation->kind == IO_SYNC) {
        /* Only what was complete when the sync began is covered. */
        const struct sim_file *file = sim_node_file(handle_of(operation->file)->node);
        operation->backend_value =
            file != NULL ? sim_file_sequence(file) : sim_disk_sequence(machine->disk);
    }
    list_push_back(&machine->operations, &operation->node);
    sim_push_event(machine, SIM_EVENT_OPERATION, io->index, operation,
                   machine->sim->now_ns + draw_latency(machine, operation));
}

/* --- carrying out --- */

static bool creates_file(struct sim_machine *machine, const struct io_operation *operation)
{
    struct file_info info;
    return (operation->flags & FILE_CREATE) != 0 &&
           sim_disk_stat(machine->disk, operation->path, &info) == ERR_NOT_FOUND;
}

static enum err run_open(struct sim_machine *machine, struct io_operation *operation)
{
    AUTO(sim_node) node = NULL;
    TRY(sim_disk_open(machine->disk, operation->path, operation->flags, &node));
    struct sim_handle *handle = mem_new(struct sim_handle);
    file_init(&handle->file, &sim_backend, operation->path, operation->flags,
              (operation->flags & FILE_DIRECT) != 0);
    handle->life = machine->life;
    handle->node = TAKE(node);
    operation->out_file = &handle->file;
    return OK;
}

/* Another place of the same file, of equal alignment in its page, or `offset` when there is
 * none. */
static uint64_t misdirect(struct sim_machine *machine, const struct sim_file *file, uint64_t offset,
                          uint64_t bytes)
{
    uint64_t in_page = offset % SIM_PAGE_BYTES;
    uint64_t file_bytes = sim_file_bytes(file);
    if (file_bytes < in_page + bytes)
        return offset;
    uint64_t places = (file_bytes - in_page - bytes) / SIM_PAGE_BYTES + 1;
    return in_page + SIM_PAGE_BYTES * sim_random_below(&machine->fault_random, places);
}

static void flip_within(struct sim_machine *machine, struct sim_file *file, uint64_t offset,
                        uint64_t bytes)
{
    uint64_t file_bytes = sim_file_bytes(file);
    if (offset >= file_bytes)
        return;
    if (bytes > file_bytes - offset)
        bytes = file_bytes - offset;
    if (!strikes(machine, machine->sim->options.flip_ppm, SIM_FAULT_FLIP))
        return;
    uint64_t bit = offset * 8 + sim_random_below(&machine->fault_random, bytes * 8);
    (void)sim_file_flip(file, bit); /* within the file, so it cannot fail */
}

static enum err run_read(struct sim_machine *machine, struct io_operation *operation,
                         const struct sim_fault *fault)
{
    const struct sim_options *options = &machine->sim->options;
    struct sim_file *file = sim_node_file(handle_of(operation->file)->node);
    if (strikes(machine, fault->read_fails ? UINT32_MAX : options->read_error_ppm,
                SIM_FAULT_READ_ERROR))
        return FAIL(ERR_IO, "simulated read error path=%s", operation->file->path);
    uint64_t offset = operation->offset;
    flip_within(machine, file, offset, operation->bytes);
    if (sim_random_hits(&machine->fault_random, options->misdirected_read_ppm))
        offset = misdirect(machine, file, offset, operation->bytes);
    if (offset != operation->offset)
        count(machine, SIM_FAULT_MISDIRECTED_READ);
    struct io_part *part = &operation->parts[0];
    operation->out_bytes = sim_file_read(file, offset, part->buf->data + part->offset, part->bytes);
    sim_trace(machine->sim, operation->out_bytes);
    return OK;
}

/* Write the parts; `random` non-NULL: only a drawn half of their sectors, not durable. */
static void write_parts(struct sim_machine *machine, const struct io_operation *operation,
                        uint64_t offset, bool durable, struct sim_random *random)
{
    struct sim_file *file = sim_node_file(handle_of(operation->file)->node);
    for (unsigned i = 0; i < operation->part_count; i++) {
        const struct io_part *part = &operation->parts[i];
        const uint8_t *data = part->buf->data + part->offset;
        sim_trace(machine->sim, hash64_of(slice_of(data, part->bytes)));
        size_t step = random != NULL ? SIM_SECTOR_BYTES : part->bytes;
        for (size_t done = 0; done < part->bytes; done += step) {
            size_t bytes = part->bytes - done < step ? part->bytes - done : step;
            if (random == NULL || sim_random_below(random, 2) == 0)
                sim_file_write(file, offset + done, data + done, bytes, durable);
        }
        offset += part->bytes;
    }
}

/* F20 and F22: the drive says OK. True when the write is dealt with. */
static bool write_goes_astray(struct sim_machine *machine, struct io_operation *operation,
                              bool durable)
{
    const struct sim_options *options = &machine->sim->options;
    struct sim_file *file = sim_node_file(handle_of(operation->file)->node);
    if (strikes(machine, options->phantom_write_ppm, SIM_FAULT_PHANTOM_WRITE)) {
        /* The file system's own blocks are another write: the length is right. */
        (void)sim_file_allocate(file, operation->offset, operation->bytes); /* space was checked */
        return true;
    }
    if (!sim_random_hits(&machine->fault_random, options->misdirected_write_ppm))
        return false;
    uint64_t offset = misdirect(machine, file, operation->offset, operation->bytes);
    if (offset == operation->offset || sim_file_check_space(file, offset, operation->bytes) != OK)
        return false;
    count(machine, SIM_FAULT_MISDIRECTED_WRITE);
    write_parts(machine, operation, offset, durable, NULL);
    return true;
}

static enum err check_space(struct sim_machine *machine, const struct io_operation *operation,
                            const struct sim_fault *fault)
{
    const struct sim_file *file = sim_node_file(handle_of(operation->file)->node);
    enum err result = sim_file_check_space(file, operation->offset, operation->bytes);
    if (result == OK && fault->full &&
        sim_file_needs_blocks(file, operation->offset, operation->bytes))
        result = FAIL(ERR_NO_SPACE, "simulated full disk path=%s", operation->file->path);
    if (result == ERR_NO_SPACE)
        count(machine, SIM_FAULT_NO_SPACE);
    return result;
}

static enum err run_write(struct sim_machine *machine, struct io_operation *operation,
                          const struct sim_fault *fault)
{
    const struct sim_options *options = &machine->sim->options;
    bool durable = (operation->flags & WRITE_DURABLE) != 0;
    TRY(check_space(machine, operation, fault));
    if (strikes(machine, fault->write_fails ? UINT32_MAX : options->write_error_ppm,
                SIM_FAULT_WRITE_ERROR)) {
        write_parts(machine, operation, operation->offset, false, &machine->fault_random);
        return FAIL(ERR_IO, "simulated write error path=%s", operation->file->path);
    }
    if (durable && fault->sync_fails) {
        count(machine, SIM_FAULT_SYNC_ERROR);
        write_parts(machine, operation, operation->offset, false, NULL);
        return FAIL(ERR_IO, "simulated error of a durable write path=%s", operation->file->path);
    }
    if (durable && fault->durable_ignored) {
        count(machine, SIM_FAULT_IGNORED_SYNC);
        durable = false;
    }
    if (!write_goes_astray(machine, operation, durable))
        write_parts(machine, operation, operation->offset, durable, NULL);
    return OK;
}

static enum err run_sync(struct sim_machine *machine, struct io_operation *operation,
                         const struct sim_fault *fault)
{
    const struct sim_options *options = &machine->sim->options;
    struct sim_node *node = handle_of(operation->file)->node;
    struct sim_file *file = sim_node_file(node);
    if (strikes(machine, fault->sync_fails ? UINT32_MAX : options->sync_error_ppm,
                SIM_FAULT_SYNC_ERROR)) {
        if (file != NULL)
            sim_file_lose_writes(file);
        return FAIL(ERR_IO, "simulated sync error path=%s", operation->file->path);
    }
    if (fault->sync_ignored)
        count(machine, SIM_FAULT_IGNORED_SYNC);
    else if (file != NULL)
        sim_file_sync(file, operation->backend_value);
    else
        sim_disk_sync_directory(machine->disk, node, operation->backend_value);
    return OK;
}

static enum err run_allocate(struct sim_machine *machine, struct io_operation *operation,
                             const struct sim_fault *fault)
{
    TRY(check_space(machine, operation, fault));
    struct sim_file *file = sim_node_file(handle_of(operation->file)->node);
    return sim_file_allocate(file, operation->offset, operation->bytes);
}

/* F25: nothing that changes the file system succeeds. */
static bool changes_file_system(struct sim_machine *machine, const struct io_operation *operation)
{
    switch (operation->kind) {
    case IO_OPEN:
        return creates_file(machine, operation);
    case IO_ALLOCATE:
    case IO_PUNCH:
    case IO_TRUNCATE:
    case IO_MAKE_DIRECTORY:
    case IO_RENAME:
    case IO_UNLINK:
    case IO_REMOVE_DIRECTORY:
        return true;
    case IO_WRITE: /* in run_write, since half of it may be done */
    case IO_READ:
    case IO_SYNC:
    case IO_LOCK:
    case IO_FILE_INFO:
    case IO_STAT:
    case IO_LIST_DIRECTORY:
    case IO_SPACE:
        return false;
    }
    assert(false && "operation of no kind");
    return false;
}

static enum err run_operation(struct sim_machine *machine, struct io_operation *operation,
                              const struct sim_fault *fault)
{
    struct sim_disk *disk = machine->disk;
    struct sim_handle *handle = operation->file != NULL ? handle_of(operation->file) : NULL;
    switch (operation->kind) {
    case IO_OPEN:
        return run_open(machine, operation);
    case IO_READ:
        return run_read(machine, operation, fault);
    case IO_WRITE:
        return run_write(machine, operation, fault);
    case IO_SYNC:
        return run_sync(machine, operation, fault);
    case IO_ALLOCATE:
        return run_allocate(machine, operation, fault);
    case IO_PUNCH:
        sim_file_punch(sim_node_file(handle->node), operation->offset, operation->bytes);
        return OK;
    case IO_TRUNCATE:
        return sim_file_truncate(sim_node_file(handle->node), operation->bytes);
    case IO_LOCK:
        return sim_node_lock(handle->node, handle);
    case IO_FILE_INFO:
        sim_node_info(handle->node, &operation->out_info);
        return OK;
    case IO_STAT:
        return sim_disk_stat(disk, operation->path, &operation->out_info);
    case IO_MAKE_DIRECTORY:
        return sim_disk_make_directory(disk, operation->path);
    case IO_RENAME:
        return sim_disk_rename(disk, operation->path, operation->path_to);
    case IO_UNLINK:
        return sim_disk_unlink(disk, operation->path);
    case IO_REMOVE_DIRECTORY:
        return sim_disk_remove_directory(disk, operation->path);
    case IO_LIST_DIRECTORY:
        return sim_disk_list(disk, operation->path, &operation->names);
    case IO_SPACE:
        return sim_disk_space(disk, operation->path, &operation->out_space);
    }
    assert(false && "operation of no kind");
    return ERR_INVALID;
}

void sim_operation_finish(struct sim_machine *machine, struct io_operation *operation)
{
    if (list_first(&machine->operations) != &operation->node)
        count(machine, SIM_FAULT_REORDERED_COMPLETION);
    list_remove(&machine->operations, &operation->node);
    const struct sim_fault fault = directed_fault(machine, operation);
    sim_trace(machine->sim, operation->kind);
    sim_trace(machine->sim, operation->offset);
    sim_trace(machine->sim, operation->bytes);
    enum err result;
    if (fault.write_fails && changes_file_system(machine, operation)) {
        count(machine, SIM_FAULT_WRITE_ERROR);
        result = FAIL(ERR_IO, "simulated read-only file system");
    } else {
        result = run_operation(machine, operation, &fault);
    }
    sim_trace(machine->sim, result);
    io_operation_complete(operation, result);
}

/* --- power cut --- */

/* What an operation that nobody was answered may have done. */
static void run_unanswered(struct sim_machine *machine, struct io_operation *operation)
{
    static const struct sim_fault none = {.prefix = ""};
    switch (operation->kind) {
    case IO_WRITE:
        if (check_space(machine, operation, &none) == OK)
            write_parts(machine, operation, operation->offset, false, NULL);
        return;
    case IO_OPEN:
    case IO_ALLOCATE:
    case IO_PUNCH:
    case IO_TRUNCATE:
    case IO_MAKE_DIRECTORY:
    case IO_RENAME:
    case IO_UNLINK:
    case IO_REMOVE_DIRECTORY:
        (void)run_operation(machine, operation, &none); /* nobody is left to tell */
        return;
    case IO_SYNC: /* what it had done so far is among what the crash draws */
    case IO_READ:
    case IO_LOCK:
    case IO_FILE_INFO:
    case IO_STAT:
    case IO_LIST_DIRECTORY:
    case IO_SPACE:
        return;
    }
}

void sim_operations_cut(struct sim_machine *machine)
{
    struct sim_random *random = &machine->crash_random;
    while (!list_empty(&machine->operations)) {
        uint64_t skip = sim_random_below(random, machine->operations.count);
        struct list_node *node = list_first(&machine->operations);
        while (skip-- > 0)
            node = node->next;
        struct io_operation *operation = CONTAINER_OF(node, struct io_operation, node);
        list_remove(&machine->operations, node);
        count(machine, SIM_FAULT_IN_FLIGHT);
        if (sim_random_below(random, 2) == 0)
            run_unanswered(machine, operation);
        io_operation_complete(operation, ERR_CANCELED);
    }
}
