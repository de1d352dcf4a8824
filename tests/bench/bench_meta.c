/* What a metadata command costs: proposals through log, apply and acknowledgement on a real
 * directory.
 *
 * usage: bench_meta [DIRECTORY [rocks|memory]]     (default: /tmp rocks; what is made there is
 * removed)
 *
 * Printed for people, never a test: shared machines make the numbers vary by a factor of two. */
#include "base/mem.h"
#include "kv/memory.h"
#include "meta/client.h"
#include "meta/group.h"
#include "runtime/runtime.h"
#include "runtime/sync.h"
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIBERS_MAX = 128, SAMPLES_MAX = 40000 };
#define RUN_NS (2 * IO_NS_PER_S)

struct bench {
    const char *directory;
    struct kv_provider *kv;
    struct meta_client *client;
    uint64_t bucket_id;
    uint32_t inline_bytes;
    uint64_t key_next;
    uint64_t until_ns;
    uint64_t *samples;
    uint32_t sample_count;
};

_Noreturn static void die(const char *what, enum err err)
{
    fprintf(stderr, "bench_meta: %s: %s\n", what, err_text(err));
    exit(1);
}

static void put_fiber(struct io *io, void *argument)
{
    struct bench *bench = argument;
    static const uint8_t payload[8192];
    while (io_now_ns(io) < bench->until_ns && bench->sample_count < SAMPLES_MAX) {
        char key[32];
        snprintf(key, sizeof key, "%016" PRIx64, ++bench->key_next * UINT64_C(0x9e3779b97f4a7c15));
        struct object_put put = {.bucket_id = bench->bucket_id,
                                 .key = slice_of_text(key),
                                 .bytes = bench->inline_bytes,
                                 .inline_bytes = slice_of(payload, bench->inline_bytes)};
        struct object_written written;
        uint64_t start_ns = io_now_ns(io);
        enum err err = meta_object_put(io, bench->client, &put, &written);
        if (err != OK)
            die("put", err);
        if (bench->sample_count < SAMPLES_MAX)
            bench->samples[bench->sample_count++] = io_now_ns(io) - start_ns;
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void measure(struct io *io, struct bench *bench, unsigned fibers, uint32_t inline_bytes)
{
    struct fiber_group group;
    fiber_group_init(&group);
    bench->inline_bytes = inline_bytes;
    bench->sample_count = 0;
    uint64_t start_ns = io_now_ns(io);
    bench->until_ns = start_ns + RUN_NS;
    for (unsigned i = 0; i < fibers; i++)
        if (fiber_group_spawn(io, &group, put_fiber, bench) != OK)
            die("fiber", ERR_BUSY);
    fiber_group_wait(io, &group);
    double seconds = (double)(io_now_ns(io) - start_ns) / (double)IO_NS_PER_S;
    uint32_t count = bench->sample_count;
    qsort(bench->samples, count, sizeof *bench->samples, compare);
    printf("%3u fibers %5u bytes: %8.0f /s   p50 %7.0f us   p99 %7.0f us\n", fibers, inline_bytes,
           count / seconds, (double)bench->samples[count / 2] / 1000,
           (double)bench->samples[(uint64_t)count * 99 / 100] / 1000);
    fflush(stdout);
}

static void bench_fiber(struct io *io, void *argument)
{
    static const unsigned fibers[] = {1, 8, 32, FIBERS_MAX};
    static const uint32_t sizes[] = {100, 4096};
    struct bench *bench = argument;
    AUTO(metrics) metrics = metrics_new();
    AUTO_STRING directory = mem_format("%s/meta", bench->directory);
    struct meta_group_options options = {
        .create = true, .group_id = 1, .kv = bench->kv, .metrics = metrics};
    struct meta_group_drive drive = {.directory = directory, .usable = true};
    struct meta_group *group = NULL;
    enum err err = meta_group_start(io, &options, &drive, 1, &group);
    if (err != OK)
        die("start", err);
    bench->client = meta_client_new(group);
    struct bucket bucket;
    err = meta_bucket_create(io, bench->client, SLICE_LITERAL("bench"), SLICE_LITERAL("me"),
                             SLICE_LITERAL(""), &bucket);
    if (err != OK)
        die("bucket", err);
    bench->bucket_id = bucket.id;
    (void)io_sleep_ms(io, 500); /* until the segments ahead are filled; nobody cancels */
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (size_t f = 0; f < sizeof fibers / sizeof fibers[0]; f++)
            measure(io, bench, fibers[f], sizes[s]);
    if (getenv("BENCH_METRICS") != NULL) {
        AUTO_VALUE(bytes) text = {.max = 1 << 20};
        metrics_render(metrics, &text);
        fwrite(text.data, 1, text.bytes, stdout);
    }
    meta_client_free(bench->client);
    meta_group_stop(io, group);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

int main(int argc, char **argv)
{
    AUTO_STRING path = mem_format("%s/bench-meta-XXXXXX", argc > 1 ? argv[1] : "/tmp");
    if (mkdtemp(path) == NULL)
        die(path, ERR_IO);
    struct kv_memory_world *world = kv_memory_world_new();
    struct bench bench = {.directory = path,
                          .kv = argc > 2 && strcmp(argv[2], "memory") == 0
                                    ? kv_memory_provider(world)
                                    : kv_provider_rocks(),
                          .samples = mem_alloc_array(SAMPLES_MAX, sizeof(uint64_t))};
    AUTO(runtime) runtime = NULL;
    enum err err = runtime_new(&(struct runtime_options){.reactor_count = 1}, &runtime);
    if (err != OK)
        die("runtime", err);
    runtime_run(runtime, bench_fiber, &bench);
    kv_memory_world_free(world);
    mem_free(bench.samples);
    return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : 1;
}
