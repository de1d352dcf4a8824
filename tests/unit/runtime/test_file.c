/* Files and names under the io_uring back end. */
#include "base/log.h"
#include "base/mem.h"
#include "runtime/sync.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

/* Each test works in a directory of its own below the build's. */
struct place {
    char directory[64];
    unsigned flags; /* of the files */
    struct fiber *fiber;
    struct file *file;
    struct buf *buf;
    enum err result;
};

static int make_place(void **state)
{
    struct place *place = mem_new(struct place);
    (void)snprintf(place->directory, sizeof place->directory, "test_file.XXXXXX");
    if (mkdtemp(place->directory) == NULL)
        return -1;
    *state = place;
    return 0;
}

static void remove_place(struct io *io, void *argument)
{
    struct place *place = argument;
    assert_int_equal(io_remove_tree(io, place->directory), OK);
    struct file_info info = {0};
    assert_int_equal(io_stat(io, place->directory, &info), ERR_NOT_FOUND);
    assert_int_equal(io_remove_tree(io, place->directory), OK); /* nothing there */
}

static int clear_place(void **state)
{
    run_program(1, remove_place, *state);
    mem_free(*state);
    return 0;
}

static char *path_in(const struct place *place, const char *name)
{
    return mem_format("%s/%s", place->directory, name);
}

static struct file *open_in(struct io *io, const struct place *place, const char *name,
                            unsigned flags)
{
    AUTO_STRING path = path_in(place, name);
    struct file *file = NULL;
    assert_int_equal(io_open(io, path, flags, &file), OK);
    assert_string_equal(file_path(file), path);
    return file;
}

static void fill(struct buf *buf, uint32_t seed)
{
    uint32_t value = seed * 2654435761u + 1;
    for (size_t i = 0; i < buf->capacity; i++) {
        value = value * 1664525u + 1013904223u;
        buf->data[i] = (uint8_t)(value >> 24);
    }
}

/* --- read and write --- */

static void write_and_read(struct io *io, void *argument)
{
    const struct place *place = argument;
    enum { PART = 64 << 10, TOTAL = 3 * PART };
    AUTO(file) file = open_in(io, place, "data", FILE_WRITE | FILE_CREATE | place->flags);
    AUTO(buf) written = buf_new(TOTAL);
    AUTO(buf) read = buf_new(TOTAL);
    fill(written, 1);
    struct io_part parts[] = {{.buf = written, .offset = 0, .bytes = PART},
                              {.buf = written, .offset = PART, .bytes = PART},
                              {.buf = written, .offset = 2 * PART, .bytes = PART}};
    assert_int_equal(io_write(io, file, parts, 3, 4096, WRITE_DURABLE), OK);
    assert_int_equal(io_write(io, file, parts, 1, 4096, 0), OK);
    assert_int_equal(io_sync(io, file), OK);
    size_t got = 0;
    assert_int_equal(io_read(io, file, read, 0, TOTAL, 4096, &got), OK);
    assert_int_equal(got, TOTAL);
    assert_memory_equal(read->data, written->data, TOTAL);
    assert_int_equal(io_read(io, file, read, 4096, TOTAL - 4096, 4096 + 2 * PART, &got), OK);
    assert_int_equal(got, PART); /* the file ends there */
    assert_memory_equal(read->data + 4096, written->data + 2 * PART, PART);
    assert_int_equal(io_read(io, file, read, 0, PART, 4096 + TOTAL, &got), OK);
    assert_int_equal(got, 0);
    struct file_info info = {0};
    assert_int_equal(io_file_info(io, file, &info), OK);
    assert_int_equal(info.bytes, 4096 + TOTAL);
    assert_false(info.is_directory);
}

static void buffered_file_returns_what_was_written(void **state)
{
    run_program(1, write_and_read, *state);
}

static void direct_file_returns_what_was_written(void **state)
{
    ((struct place *)*state)->flags = FILE_DIRECT;
    run_program(1, write_and_read, *state);
}

static void write_unaligned(struct io *io, void *argument)
{
    const struct place *place = argument;
    AUTO(buf) buf = buf_new(8192);
    AUTO(buf) read = buf_new(8192);
    fill(buf, 2);
    {
        AUTO(file) file = open_in(io, place, "odd", FILE_WRITE | FILE_CREATE | FILE_RANDOM);
        struct io_part parts[] = {{.buf = buf, .offset = 1, .bytes = 5},
                                  {.buf = buf, .offset = 6, .bytes = 4999}};
        assert_int_equal(io_write(io, file, parts, 2, 3, WRITE_DURABLE), OK);
    }
    AUTO(file) direct = open_in(io, place, "odd", FILE_DIRECT);
    size_t got = 0;
    assert_int_equal(io_read(io, direct, read, 0, 8192, 0, &got), OK);
    assert_int_equal(got, 5007); /* a direct read stops at an end that is not aligned */
    assert_memory_equal(read->data + 3, buf->data + 1, 5004);
    assert_int_equal(read->data[0] | read->data[1] | read->data[2], 0);
}

static void unaligned_parts_land_one_behind_the_other(void **state)
{
    run_program(1, write_unaligned, *state);
}

/* --- O_DIRECT refused --- */

static unsigned warnings;

static void count_warnings(void *context, enum log_level level, const char *line)
{
    (void)context;
    if (level == LOG_WARN && strstr(line, "refuses O_DIRECT") != NULL)
        warnings++;
}

/* procfs has regular files without O_DIRECT, so has every kernel's tmpfs before 6.6. */
static void open_refused(struct io *io, void *argument)
{
    (void)argument;
    AUTO(buf) buf = buf_new(4096);
    for (int i = 0; i < 3; i++) {
        AUTO(file) file = NULL;
        assert_int_equal(io_open(io, "/proc/self/status", FILE_DIRECT, &file), OK);
        assert_false(file_is_direct(file));
        size_t got = 0;
        assert_int_equal(io_read(io, file, buf, 0, 4096, 0, &got), OK);
        assert_true(got > 0);
        assert_memory_equal(buf->data, "Name:", 5);
    }
}

static void refused_direct_open_goes_on_buffered_and_says_so_once(void **state)
{
    (void)state;
    warnings = 0;
    log_set_sink(count_warnings, NULL);
    run_program(1, open_refused, NULL);
    log_set_sink(NULL, NULL);
    assert_int_equal(warnings, 1);
}

/* --- space --- */

static void change_extents(struct io *io, void *argument)
{
    const struct place *place = argument;
    AUTO(file) file = open_in(io, place, "extents", FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE);
    assert_int_equal(io_allocate(io, file, 0, 1 << 20), OK);
    struct file_info info = {0};
    assert_int_equal(io_file_info(io, file, &info), OK);
    assert_int_equal(info.bytes, 1 << 20);
    assert_true(info.allocated_bytes >= 1 << 20);

    AUTO(buf) buf = buf_new(64 << 10);
    fill(buf, 3);
    struct io_part part = {.buf = buf, .bytes = 64 << 10};
    assert_int_equal(io_write(io, file, &part, 1, 0, 0), OK);
    assert_int_equal(io_punch(io, file, 4096, 16 << 10), OK);
    AUTO(buf) read = buf_new(64 << 10);
    size_t got = 0;
    assert_int_equal(io_read(io, file, read, 0, 64 << 10, 0, &got), OK);
    memset(buf->data + 4096, 0, 16 << 10);
    assert_memory_equal(read->data, buf->data, 64 << 10);
    struct file_info punched = {0};
    assert_int_equal(io_file_info(io, file, &punched), OK);
    assert_int_equal(punched.bytes, 1 << 20);
    assert_true(punched.allocated_bytes < info.allocated_bytes);

    assert_int_equal(io_truncate(io, file, 100), OK);
    assert_int_equal(io_file_info(io, file, &info), OK);
    assert_int_equal(info.bytes, 100);
    struct space_info space = {0};
    assert_int_equal(io_space(io, place->directory, &space), OK);
    assert_true(space.total_bytes > space.free_bytes);
    assert_int_equal(space.device, info.device);
}

static void allocate_punch_truncate_change_the_extents(void **state)
{
    run_program(1, change_extents, *state);
}

/* --- errors --- */

static void expect_open(struct io *io, const char *path, unsigned flags, enum err expected)
{
    struct file *file = NULL;
    assert_int_equal(io_open(io, path, flags, &file), expected);
    assert_null(file);
}

static void open_wrongly(struct io *io, void *argument)
{
    const struct place *place = argument;
    AUTO_STRING missing = path_in(place, "missing");
    AUTO_STRING there = path_in(place, "there");
    AUTO_STRING fifo = path_in(place, "fifo");
    char long_path[IO_PATH_BYTES_MAX + 2] = {0};
    memset(long_path, 'x', sizeof long_path - 1);
    file_close(open_in(io, place, "there", FILE_WRITE | FILE_CREATE));
    assert_int_equal(mkfifo(fifo, 0600), 0);
    expect_open(io, missing, 0, ERR_NOT_FOUND);
    expect_open(io, there, FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE, ERR_EXISTS);
    expect_open(io, place->directory, 0, ERR_INVALID);
    expect_open(io, there, FILE_DIRECTORY, ERR_INVALID);
    expect_open(io, long_path, 0, ERR_INVALID);
    expect_open(io, "", 0, ERR_INVALID);
    expect_open(io, fifo, 0, ERR_INVALID); /* and without waiting for a writer */
    struct stat status = {0};
    assert_int_equal(stat(there, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void open_tells_its_errors_apart(void **state)
{
    run_program(1, open_wrongly, *state);
}

static void write_to_full_device(struct io *io, void *argument)
{
    const struct place *place = argument;
    AUTO(file) file = open_in(io, place, "full", FILE_WRITE | FILE_CREATE);
    assert_int_equal(io_allocate(io, file, 0, UINT64_C(1) << 50), ERR_LIMIT);
    /* More than the file system has, less than a file may have. */
    struct space_info space = {0};
    assert_int_equal(io_space(io, place->directory, &space), OK);
    if (space.total_bytes < UINT64_C(1) << 42)
        assert_int_equal(io_allocate(io, file, 0, space.total_bytes + (1 << 20)), ERR_NO_SPACE);
}

static void allocation_beyond_the_device_has_no_space(void **state)
{
    run_program(1, write_to_full_device, *state);
}

/* --- names --- */

static void change_names(struct io *io, void *argument)
{
    const struct place *place = argument;
    AUTO_STRING a = path_in(place, "a");
    AUTO_STRING b = path_in(place, "b");
    AUTO_STRING directory = path_in(place, "d");
    AUTO_STRING deep = path_in(place, "d/e");
    file_close(open_in(io, place, "a", FILE_WRITE | FILE_CREATE));
    assert_int_equal(io_make_directory(io, directory), OK);
    assert_int_equal(io_make_directory(io, directory), ERR_EXISTS);
    assert_int_equal(io_make_directory(io, deep), OK);
    assert_int_equal(io_sync_directory(io, place->directory), OK);
    AUTO_VALUE(bytes) names = {.max = 8};
    bytes_append_text(&names, "head");
    assert_int_equal(io_list_directory(io, place->directory, &names), OK);
    assert_int_equal(names.bytes, 8);
    assert_memory_equal(names.data, "heada\0d\0", 8);
    assert_int_equal(io_list_directory(io, place->directory, &names), ERR_LIMIT);
    assert_int_equal(names.bytes, 8);
    assert_false(names.overflow);
    assert_int_equal(io_rename(io, a, b), OK);
    assert_int_equal(io_rename(io, a, b), ERR_NOT_FOUND);
    struct file_info info = {0};
    assert_int_equal(io_stat(io, b, &info), OK);
    assert_int_equal(io_stat(io, directory, &info), OK);
    assert_true(info.is_directory);
    assert_int_equal(io_unlink(io, directory), ERR_INVALID);
    assert_int_equal(io_unlink(io, b), OK);
    assert_int_equal(io_unlink(io, b), ERR_NOT_FOUND);
}

static void names_are_made_listed_renamed_and_removed(void **state)
{
    run_program(1, change_names, *state);
}

static void remove_trees(struct io *io, void *argument)
{
    const struct place *place = argument;
    AUTO_STRING outside = path_in(place, "outside");
    AUTO_STRING tree = path_in(place, "tree");
    AUTO_STRING link_in_tree = path_in(place, "tree/link");
    file_close(open_in(io, place, "outside", FILE_WRITE | FILE_CREATE));
    assert_int_equal(io_make_directory(io, tree), OK);
    assert_int_equal(symlink(place->directory, link_in_tree), 0);
    AUTO_STRING path = mem_format("%s", tree);
    for (int depth = 1; depth < 8; depth++) {
        char *deeper = mem_format("%s/x", path);
        mem_free(path);
        path = deeper;
        assert_int_equal(io_make_directory(io, path), OK);
        AUTO_STRING file = mem_format("%s/f", path);
        file_close(
            open_in(io, place, file + strlen(place->directory) + 1, FILE_WRITE | FILE_CREATE));
    }
    assert_int_equal(io_remove_tree(io, tree), OK);
    struct file_info info = {0};
    assert_int_equal(io_stat(io, tree, &info), ERR_NOT_FOUND);
    assert_int_equal(io_stat(io, outside, &info), OK); /* links are removed, not followed */
}

static void remove_tree_ends_at_links(void **state)
{
    run_program(1, remove_trees, *state);
}

/* --- lock --- */

static void lock_here(struct io *io, void *argument)
{
    struct place *place = argument;
    AUTO(file) file = open_in(io, place, "lock", FILE_WRITE | FILE_CREATE);
    place->result = io_lock(io, file);
}

static void file_locked_by_another_process_is_refused(void **state)
{
    struct place *place = *state;
    AUTO_STRING path = path_in(place, "lock");
    int locked[2];
    int release[2];
    assert_int_equal(pipe(locked), 0);
    assert_int_equal(pipe(release), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    char byte = 0;
    if (child == 0) {
        int fd = open(path, O_RDWR | O_CREAT, 0600);
        bool ok = fd >= 0 && flock(fd, LOCK_EX) == 0 && write(locked[1], "x", 1) == 1 &&
                  read(release[0], &byte, 1) == 1;
        _exit(ok ? 0 : 1);
    }
    assert_int_equal(read(locked[0], &byte, 1), 1);
    run_program(1, lock_here, place);
    assert_int_equal(place->result, ERR_LOCKED);
    assert_int_equal(write(release[1], "x", 1), 1);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    run_program(1, lock_here, place); /* the other process ended */
    assert_int_equal(place->result, OK);
    run_program(1, lock_here, place); /* closed since */
    assert_int_equal(place->result, OK);
    for (int i = 0; i < 2; i++) {
        (void)close(locked[i]);
        (void)close(release[i]);
    }
}

/* --- waits that end early --- */

static void abandon_write(struct io *io, void *argument)
{
    struct place *place = argument;
    struct buf_pool *pool = buf_pool_new(IO_TRANSFER_BYTES_MAX);
    struct buf *buf = NULL;
    assert_int_equal(buf_pool_get(pool, IO_TRANSFER_BYTES_MAX, &buf), OK);
    memset(buf->data, 'w', IO_TRANSFER_BYTES_MAX);
    struct file *file = open_in(io, place, "slow", FILE_WRITE | FILE_CREATE | FILE_DIRECT);
    struct io_part part = {.buf = buf, .bytes = IO_TRANSFER_BYTES_MAX};
    uint64_t former_ns = io_set_deadline(io, io_now_ns(io) + 1);
    assert_int_equal(io_write(io, file, &part, 1, 0, WRITE_DURABLE), ERR_TIMEOUT);
    assert_int_equal(io_write(io, file, &part, 1, 0, WRITE_DURABLE), ERR_TIMEOUT);
    (void)io_set_deadline(io, former_ns);
    /* Given up by us; the operation holds both. */
    file_close(file);
    buf_unref(buf);
    assert_true(buf_pool_used_bytes(pool) > 0);
    for (int i = 0; i < 10000 && buf_pool_used_bytes(pool) > 0; i++)
        assert_int_equal(io_sleep_ms(io, 1), OK);
    assert_int_equal(buf_pool_used_bytes(pool), 0);
    buf_pool_free(pool);
    AUTO_STRING path = path_in(place, "slow");
    struct file_info info = {0};
    assert_int_equal(io_stat(io, path, &info), OK);
    assert_int_equal(info.bytes, IO_TRANSFER_BYTES_MAX); /* it finished all the same */
}

static void abandoned_write_keeps_file_and_buffer_until_it_ends(void **state)
{
    run_program(1, abandon_write, *state);
}

static void abandon_and_return(struct io *io, void *argument)
{
    struct place *place = argument;
    AUTO(file) file = open_in(io, place, "late", FILE_WRITE | FILE_CREATE | FILE_DIRECT);
    AUTO(buf) buf = buf_new(IO_TRANSFER_BYTES_MAX);
    memset(buf->data, 'l', IO_TRANSFER_BYTES_MAX);
    struct io_part part = {.buf = buf, .bytes = IO_TRANSFER_BYTES_MAX};
    (void)io_set_deadline(io, io_now_ns(io) + 1);
    assert_int_equal(io_write(io, file, &part, 1, 0, WRITE_DURABLE), ERR_TIMEOUT);
}

static void run_returns_after_abandoned_operations_ended(void **state)
{
    run_program(2, abandon_and_return, *state);
}

static void abandon_names(struct io *io, void *argument)
{
    struct place *place = argument;
    AUTO_STRING path = path_in(place, "opened");
    struct file *file = NULL;
    unsigned late = 0;
    for (int i = 0; i < 100; i++) {
        (void)io_set_deadline(io, io_now_ns(io) + 1);
        enum err result = io_open(io, path, FILE_WRITE | FILE_CREATE, &file);
        late += result == ERR_TIMEOUT;
        if (result == OK)
            file_close(file);
        AUTO_VALUE(bytes) names = {.max = 4096};
        (void)io_list_directory(io, place->directory, &names); /* may time out too */
    }
    assert_true(late > 0);
}

static void abandoned_open_closes_what_it_opened(void **state)
{
    run_program(1, abandon_names, *state); /* runtime_free asserts that no file is open */
}

static void write_until_canceled(struct io *io, void *argument)
{
    struct place *place = argument;
    place->fiber = io_self(io);
    struct io_part part = {.buf = place->buf, .bytes = place->buf->capacity};
    place->result = io_write(io, place->file, &part, 1, 0, WRITE_DURABLE);
    place->fiber = NULL;
}

static void cancel_write(struct io *io, void *argument)
{
    struct place *place = argument;
    AUTO(file) file = open_in(io, place, "canceled", FILE_WRITE | FILE_CREATE | FILE_DIRECT);
    AUTO(buf) buf = buf_new(IO_TRANSFER_BYTES_MAX);
    memset(buf->data, 'c', IO_TRANSFER_BYTES_MAX);
    place->file = file;
    place->buf = buf;
    assert_int_equal(io_spawn(io, write_until_canceled, place), OK);
    io_cancel(io, place->fiber);
    assert_int_equal(io_yield(io), OK);
    assert_null(place->fiber);
    assert_int_equal(place->result, ERR_CANCELED);
}

static void cancel_ends_the_wait_for_a_write(void **state)
{
    run_program(1, cancel_write, *state);
}

/* --- many at once --- */

enum { WRITERS = UNDER_TSAN ? 300 : 5000 };

struct writer {
    struct file *file;
    unsigned index;
    struct fiber_group *group;
};

static void write_block(struct io *io, void *argument)
{
    struct writer writer = *(struct writer *)argument;
    AUTO(buf) buf = buf_new(4096);
    fill(buf, writer.index);
    struct io_part parts[] = {{.buf = buf, .bytes = 1024},
                              {.buf = buf, .offset = 1024, .bytes = 3072}};
    uint64_t offset = writer.index * UINT64_C(4096);
    assert_int_equal(io_write(io, writer.file, parts, 2, offset, 0), OK);
    AUTO(buf) read = buf_new(4096);
    size_t got = 0;
    assert_int_equal(io_read(io, writer.file, read, 0, 4096, offset, &got), OK);
    assert_int_equal(got, 4096);
    assert_memory_equal(read->data, buf->data, 4096);
}

static void write_many(struct io *io, void *argument)
{
    struct place *place = argument;
    AUTO(file) file = open_in(io, place, "many", FILE_WRITE | FILE_CREATE);
    struct fiber_group group;
    fiber_group_init(&group);
    for (unsigned i = 0; i < WRITERS; i++) {
        struct writer writer = {.file = file, .index = i};
        assert_int_equal(fiber_group_spawn(io, &group, write_block, &writer), OK);
    }
    fiber_group_wait(io, &group);
}

static void more_operations_than_the_ring_holds_all_complete(void **state)
{
    run_program(1, write_many, *state);
}

static void yield_until_done(struct io *io, void *argument)
{
    const bool *done = argument;
    while (!*done)
        assert_int_equal(io_yield(io), OK);
}

static void write_beside_yielders(struct io *io, void *argument)
{
    struct place *place = argument;
    AUTO(file) file = open_in(io, place, "fair", FILE_WRITE | FILE_CREATE);
    AUTO(buf) buf = buf_new(4096);
    memset(buf->data, 'f', 4096);
    struct io_part part = {.buf = buf, .bytes = 4096};
    bool done = false;
    struct fiber_group group;
    fiber_group_init(&group);
    for (int i = 0; i < 300; i++)
        assert_int_equal(fiber_group_spawn(io, &group, yield_until_done, &done), OK);
    assert_int_equal(io_write(io, file, &part, 1, 0, WRITE_DURABLE), OK);
    assert_int_equal(io_sleep_ms(io, 1), OK);
    done = true;
    fiber_group_wait(io, &group);
}

static void busy_fibers_do_not_hold_up_completions_and_timers(void **state)
{
    run_program(1, write_beside_yielders, *state);
}

/* --- files across reactors --- */

static void close_elsewhere(struct io *io, void *argument)
{
    struct place *place = argument;
    AUTO(buf) buf = buf_new(4096);
    memset(buf->data, 's', 4096);
    struct io_part part = {.buf = buf, .bytes = 4096};
    assert_int_equal(io_write(io, place->file, &part, 1, 0, 0), OK);
    file_close(TAKE(place->file));
}

static void open_here(struct io *io, void *argument)
{
    struct place *place = argument;
    place->file = open_in(io, place, "shared", FILE_WRITE | FILE_CREATE);
    io_call(io, io_reactor(io, 1), close_elsewhere, place);
    assert_null(place->file);
}

static void file_is_used_and_closed_on_another_reactor(void **state)
{
    run_program(2, open_here, *state);
}

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, clear_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_PLACE(buffered_file_returns_what_was_written),
        IN_PLACE(direct_file_returns_what_was_written),
        IN_PLACE(unaligned_parts_land_one_behind_the_other),
        IN_PLACE(refused_direct_open_goes_on_buffered_and_says_so_once),
        IN_PLACE(allocate_punch_truncate_change_the_extents),
        IN_PLACE(open_tells_its_errors_apart),
        IN_PLACE(allocation_beyond_the_device_has_no_space),
        IN_PLACE(names_are_made_listed_renamed_and_removed),
        IN_PLACE(remove_tree_ends_at_links),
        IN_PLACE(file_locked_by_another_process_is_refused),
        IN_PLACE(abandoned_write_keeps_file_and_buffer_until_it_ends),
        IN_PLACE(run_returns_after_abandoned_operations_ended),
        IN_PLACE(abandoned_open_closes_what_it_opened),
        IN_PLACE(cancel_ends_the_wait_for_a_write),
        IN_PLACE(more_operations_than_the_ring_holds_all_complete),
        IN_PLACE(busy_fibers_do_not_hold_up_completions_and_timers),
        IN_PLACE(file_is_used_and_closed_on_another_reactor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
