/* What the runtime costs: fiber switch and spawn, a call to another reactor, durable appends.
 *
 * usage: bench_runtime [DIRECTORY]     (default /tmp; the file made there is removed)
 *
 * Printed for people, never a test: shared machines make the numbers vary by a factor of two. */
#include "base/mem.h"
#include "runtime/runtime.h"
#include "runtime/sync.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    SWITCHES = 2000000,
    SPAWNS = 1000000,
    SPAWNS_WAITING = 200000,
    CALLS = 50000,
    APPENDS = 2000,
    APPEND_BYTES = 4096,
    FIBERS = 32,
};

struct bench {
    const char *directory;
    struct file *file;
    struct buf *buf;
    uint64_t append_count;
    uint64_t append_next;
};

static void report(const char *what, uint64_t start_ns, uint64_t end_ns, uint64_t count,
                   uint64_t unit_ns, const char *unit)
{
    double each = (double)(end_ns - start_ns) / (double)count / (double)unit_ns;
    (void)printf("%-44s %10.1f %s\n", what, each, unit);
}

/* --- fibers --- */

struct player {
    struct player *partner;
    struct fiber *fiber; /* NULL before its start and after its end */
    bool ended;
};

static void wake_and_park(struct io *io, void *argument)
{
    struct player *player = argument;
    struct player *partner = player->partner;
    player->fiber = io_self(io);
    for (unsigned i = 0; i < SWITCHES / 2 && !partner->ended; i++) {
        if (partner->fiber != NULL)
            io_wake(io, partner->fiber);
        (void)io_park(io, 0); /* woken by the partner */
    }
    player->fiber = NULL;
    player->ended = true;
    if (partner->fiber != NULL)
        io_wake(io, partner->fiber);
}

static void nothing(struct io *io, void *argument)
{
    (void)io;
    (void)argument;
}

static void wait_once(struct io *io, void *argument)
{
    (void)argument;
    (void)io_park(io, io_now_ns(io) + 1);
}

static void bench_fibers(struct io *io)
{
    uint64_t start_ns = io_now_ns(io);
    for (unsigned i = 0; i < SPAWNS; i++)
        (void)io_spawn(io, nothing, NULL);
    report("spawn of a fiber that never waits", start_ns, io_now_ns(io), SPAWNS, 1, "ns");

    struct fiber_group group;
    fiber_group_init(&group);
    struct player white = {0};
    struct player black = {.partner = &white};
    white.partner = &black;
    start_ns = io_now_ns(io);
    (void)fiber_group_spawn(io, &group, wake_and_park, &white);
    (void)fiber_group_spawn(io, &group, wake_and_park, &black);
    fiber_group_wait(io, &group);
    report("wake, park, switch to the other", start_ns, io_now_ns(io), SWITCHES, 1, "ns");

    start_ns = io_now_ns(io);
    for (unsigned i = 0; i < SPAWNS_WAITING; i += 1000) {
        for (unsigned j = 0; j < 1000; j++)
            (void)fiber_group_spawn(io, &group, wait_once, NULL);
        fiber_group_wait(io, &group);
    }
    report("spawn, wait with a timer, end", start_ns, io_now_ns(io), SPAWNS_WAITING, 1, "ns");
}

/* --- calls --- */

static void call_often(struct io *io, void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < CALLS / FIBERS; i++)
        io_call(io, io_reactor(io, 1), nothing, NULL);
}

static void bench_calls(struct io *io)
{
    uint64_t start_ns = io_now_ns(io);
    for (unsigned i = 0; i < CALLS; i++)
        io_call(io, io_reactor(io, 1), nothing, NULL);
    report("call to another reactor, 1 fiber", start_ns, io_now_ns(io), CALLS, 1000, "us");
    struct fiber_group group;
    fiber_group_init(&group);
    start_ns = io_now_ns(io);
    for (unsigned i = 0; i < FIBERS; i++)
        (void)fiber_group_spawn(io, &group, call_often, NULL);
    fiber_group_wait(io, &group);
    report("call to another reactor, 32 fibers", start_ns, io_now_ns(io), CALLS, 1000, "us");
}

/* --- appends --- */

static void append(struct io *io, void *argument)
{
    struct bench *bench = argument;
    struct io_part part = {.buf = bench->buf, .bytes = APPEND_BYTES};
    while (bench->append_next < bench->append_count) {
        uint64_t offset = bench->append_next++ * APPEND_BYTES;
        if (io_write(io, bench->file, &part, 1, offset, WRITE_DURABLE) != OK)
            (void)printf("append failed offset=%" PRIu64 "\n", offset);
    }
}

static void bench_appends_by(struct io *io, struct bench *bench, unsigned fibers)
{
    bench->append_next = 0;
    struct fiber_group group;
    fiber_group_init(&group);
    uint64_t start_ns = io_now_ns(io);
    for (unsigned i = 0; i < fibers; i++)
        (void)fiber_group_spawn(io, &group, append, bench);
    fiber_group_wait(io, &group);
    char what[64];
    (void)snprintf(what, sizeof what, "durable append of 4 KiB, %u fibers", fibers);
    uint64_t end_ns = io_now_ns(io);
    report(what, start_ns, end_ns, bench->append_count, 1000, "us");
    (void)printf("%-44s %10.0f a second\n", "",
                 (double)bench->append_count * 1e9 / (double)(end_ns - start_ns));
}

static enum err bench_appends(struct io *io, struct bench *bench)
{
    AUTO_STRING path = mem_format("%s/bench_runtime.data", bench->directory);
    AUTO(file) file = NULL;
    AUTO(buf) buf = buf_new(IO_TRANSFER_BYTES_MAX);
    TRY(io_open(io, path, FILE_WRITE | FILE_CREATE | FILE_DIRECT, &file));
    memset(buf->data, 0, IO_TRANSFER_BYTES_MAX);
    /* Into extents that were written before, as the log does. */
    struct io_part zeros = {.buf = buf, .bytes = IO_TRANSFER_BYTES_MAX};
    uint64_t file_bytes = UINT64_C(8) * APPENDS * APPEND_BYTES;
    for (uint64_t at = 0; at < file_bytes; at += IO_TRANSFER_BYTES_MAX)
        TRY(io_write(io, file, &zeros, 1, at, 0));
    TRY(io_sync(io, file));
    memset(buf->data, 'a', APPEND_BYTES);
    bench->file = file;
    bench->buf = buf;
    (void)printf("%s\n", file_is_direct(file) ? "O_DIRECT" : "buffered: O_DIRECT is refused");
    bench->append_count = APPENDS;
    bench_appends_by(io, bench, 1);
    bench->append_count = UINT64_C(8) * APPENDS;
    bench_appends_by(io, bench, FIBERS);
    return io_unlink(io, path);
}

static void run_all(struct io *io, void *argument)
{
    bench_fibers(io);
    bench_calls(io);
    enum err result = bench_appends(io, argument);
    if (result != OK)
        (void)printf("appends: %s\n", err_text(result));
}

int main(int argument_count, char **arguments)
{
    struct bench bench = {.directory = argument_count > 1 ? arguments[1] : "/tmp"};
    struct runtime_options options = {.reactor_count = 2};
    AUTO(runtime) runtime = NULL;
    if (runtime_new(&options, &runtime) != OK)
        return 1;
    runtime_run(runtime, run_all, &bench);
    return 0;
}
