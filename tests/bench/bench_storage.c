/* How fast blocks go to one drive and come back, and what that costs: run by hand.
 *
 * bench_storage DIRECTORY [SECONDS]
 *
 * DIRECTORY must be empty; it is formatted. One reactor, RocksDB index, a metadata service in
 * memory. Prints for each block size and number of fibers: operations and MB a second,
 * latency, and processor time of the process for an operation (contents are made once, so it
 * is the storage's own). */
#include "base/log.h"
#include "base/mem.h"
#include "fake_meta.h"
#include "runtime/runtime.h"
#include "runtime/sync.h"
#include "storaged/client.h"
#include "storaged/server.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { FIBERS_MAX = 64, BLOCKS_MAX = 20000, SAMPLES_MAX = 1 << 20 };

struct bench {
    const char *directory;
    double seconds;
    struct meta_group *server;
    struct metrics *metrics;
    struct buf_pool *pool;
    struct storage *storage;
    struct storage_client *client;
    struct buf *contents;
    uint32_t bytes;
    uint64_t deadline_ns;
    struct block_ref blocks[BLOCKS_MAX];
    uint32_t block_count;
    uint32_t next_read;
    bool reads;
    uint64_t samples[SAMPLES_MAX];
    uint32_t sample_count;
};

static void check(enum err err, const char *what)
{
    if (err == OK)
        return;
    fprintf(stderr, "%s: %s\n", what, err_text(err));
    exit(1);
}

static void write_one(struct io *io, struct bench *bench)
{
    struct block_hint hint = {.bucket_name = SLICE_LITERAL("bench"), .key = SLICE_LITERAL("key")};
    AUTO(block_writer) writer = NULL;
    check(block_writer_open(io, bench->client, &hint, bench->bytes, &writer), "open");
    check(block_writer_append(io, writer, bench->contents, 0, bench->bytes), "append");
    struct block_ref ref;
    struct lease lease;
    check(block_writer_finish(io, writer, &ref, &lease), "finish");
    if (bench->block_count < BLOCKS_MAX)
        bench->blocks[bench->block_count++] = ref;
}

static void read_one(struct io *io, struct bench *bench)
{
    const struct block_ref *ref = &bench->blocks[bench->next_read++ % bench->block_count];
    AUTO(buf) buf = NULL;
    size_t at = 0;
    check(block_read(io, bench->client, ref, 0, ref->bytes, bench->pool, &buf, &at), "read");
}

static void worker(struct io *io, void *argument)
{
    struct bench *bench = argument;
    while (io_now_ns(io) < bench->deadline_ns) {
        uint64_t start_ns = io_now_ns(io);
        if (bench->reads)
            read_one(io, bench);
        else
            write_one(io, bench);
        if (bench->sample_count < SAMPLES_MAX)
            bench->samples[bench->sample_count++] = io_now_ns(io) - start_ns;
        if (bench->reads)
            (void)io_yield(io); /* reads from memory need not wait */
    }
}

static double cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return 1e6 * (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void round_of(struct io *io, struct bench *bench, bool reads, uint32_t bytes,
                     unsigned fibers)
{
    bench->reads = reads;
    bench->bytes = bytes;
    bench->sample_count = 0;
    if (!reads)
        bench->block_count = 0;
    uint64_t start_ns = io_now_ns(io);
    double cpu = cpu_us();
    bench->deadline_ns = start_ns + (uint64_t)(bench->seconds * 1e9);
    struct fiber_group group;
    fiber_group_init(&group);
    for (unsigned i = 0; i < fibers; i++)
        check(fiber_group_spawn(io, &group, worker, bench), "spawn");
    fiber_group_wait(io, &group);
    double seconds = (double)(io_now_ns(io) - start_ns) / 1e9;
    cpu = cpu_us() - cpu;
    qsort(bench->samples, bench->sample_count, sizeof bench->samples[0], compare);
    uint32_t n = bench->sample_count;
    printf("%-5s %7u bytes %3u fibers: %8.0f /s %7.1f MB/s  p50 %6.0f us  p99 %7.0f us  cpu %6.1f "
           "us\n",
           reads ? "read" : "write", bytes, fibers, n / seconds, n * (double)bytes / seconds / 1e6,
           (double)bench->samples[n / 2] / 1e3, (double)bench->samples[n - 1 - n / 100] / 1e3,
           cpu / n);
    fflush(stdout);
}

static void run(struct io *io, void *argument)
{
    struct bench *bench = argument;
    struct storage_options options = {.directories = &bench->directory,
                                      .directory_count = 1,
                                      .kv = kv_provider_rocks(),
                                      .metrics = bench->metrics,
                                      .checks_mounts = true};
    check(storage_open(io, &options, &bench->storage), "open");
    AUTO(meta_client) meta = meta_client_new(bench->server);
    check(storage_start(io, bench->storage, meta), "start");
    bench->client = storage_client_new(bench->storage);
    static const uint32_t sizes[] = {64 << 10, 1 << 20, 16 << 20};
    static const unsigned fibers[] = {1, 16};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (unsigned j = 0; j < sizeof fibers / sizeof fibers[0]; j++) {
            round_of(io, bench, false, sizes[i], fibers[j]);
            if (sizes[i] <= BLOCK_READ_BYTES_MAX)
                round_of(io, bench, true, sizes[i], fibers[j]);
        }
    }
    storage_client_free(bench->client);
    storage_stop(io, bench->storage);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bench_storage DIRECTORY [SECONDS]\n");
        return 2;
    }
    struct bench *bench = mem_new(struct bench);
    bench->directory = argv[1];
    bench->seconds = argc > 2 ? strtod(argv[2], NULL) : 3;
    bench->server = fake_meta_new();
    bench->metrics = metrics_new();
    bench->pool = buf_pool_new(256 << 20);
    bench->contents = buf_new(16 << 20);
    for (size_t i = 0; i < bench->contents->capacity; i++)
        bench->contents->data[i] = (uint8_t)(i * 2654435761u >> 13);
    struct runtime_options options = {.reactor_count = 1};
    struct runtime *runtime = NULL;
    check(runtime_new(&options, &runtime), "runtime");
    runtime_run(runtime, run, bench);
    runtime_free(runtime);
    buf_unref(bench->contents);
    buf_pool_free(bench->pool);
    metrics_free(bench->metrics);
    fake_meta_free(bench->server);
    mem_free(bench);
    return 0;
}
