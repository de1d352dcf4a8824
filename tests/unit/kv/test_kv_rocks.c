/* What only RocksDB can show: killed processes, damaged files, values that are not in memory. */
#include "base/log.h"
#include "fixture.h"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

FIXTURE_LANE

static void ignore_line(void *context, enum log_level level, const char *line)
{
    (void)context, (void)level, (void)line;
}

static struct kv *open_store(const char *path, const struct kv_options *options)
{
    struct kv *kv = NULL;
    assert_int_equal(kv_open(kv_provider_rocks(), the_lane(), path, options, &kv), OK);
    return kv;
}

enum { WINDOW = 100 };

static const struct kv_options small = {.create = true, .write_buffer_bytes = 64 << 10};

/* Batch n puts "number" = n and row n, and deletes row n - WINDOW: after any prefix exactly the
 * last WINDOW rows are there. After each flush the number is reported. Never returns. */
static void write_until_killed(const char *path, int report)
{
    struct kv *kv = NULL;
    if (kv_open(kv_provider_rocks(), the_lane(), path, &small, &kv) != OK)
        _exit(1);
    struct kv_batch *batch = kv_batch_new(kv);
    for (uint32_t number = 1;; number++) {
        uint32_t key = __builtin_bswap32(number), old = __builtin_bswap32(number - WINDOW);
        uint8_t value[300];
        memset(value, (int)number, sizeof value);
        kv_batch_clear(batch);
        kv_batch_put(batch, SLICE_LITERAL("number"), slice_of(&number, sizeof number));
        kv_batch_put(batch, slice_of(&key, sizeof key), slice_of(value, sizeof value));
        if (number > WINDOW)
            kv_batch_delete(batch, slice_of(&old, sizeof old));
        if (kv_write(the_lane(), kv, batch) != OK)
            _exit(2);
        if (number % 700 != 0)
            continue;
        if (kv_flush(the_lane(), kv) != OK)
            _exit(3);
        if (write(report, &number, sizeof number) != sizeof number)
            _exit(4);
    }
}

static uint32_t number_of(struct kv *kv)
{
    AUTO_VALUE(bytes) value = {.max = 100};
    uint32_t number = 0;
    if (kv_get(the_lane(), kv, SLICE_LITERAL("number"), &value) == OK)
        memcpy(&number, value.data, sizeof number);
    return number;
}

static void check_prefix(struct kv *kv, uint32_t number)
{
    uint32_t expected = number > WINDOW ? number - WINDOW + 1 : 1;
    AUTO(kv_iterator) rows =
        kv_iterator_new(the_lane(), kv, NULL, slice_of(NULL, 0), SLICE_LITERAL("number"));
    for (kv_iterator_seek(rows, slice_of(NULL, 0)); kv_iterator_valid(rows);
         kv_iterator_next(rows)) {
        uint32_t key = __builtin_bswap32(expected);
        assert_true(slice_equal(kv_iterator_key(rows), slice_of(&key, sizeof key)));
        assert_int_equal(kv_iterator_value(rows).data[299], expected & 0xff);
        expected++;
    }
    assert_int_equal(kv_iterator_error(rows), OK);
    assert_int_equal(expected, number + 1);
}

/* First of the tests: the children must not inherit a RocksDB that has lost its threads. The parent
 * looks at the stores only when all are dead. */
static void a_killed_process_leaves_a_prefix_that_holds_its_last_flush(void **state)
{
    (void)state;
    enum { CHILDREN = 4 };
    char *directory = directory_new();
    char *paths[CHILDREN];
    uint32_t flushed[CHILDREN] = {0};
    for (int i = 0; i < CHILDREN; i++) {
        int ends[2];
        paths[i] = mem_format("%s/%d", directory, i);
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0)
            write_until_killed(paths[i], ends[1]);
        close(ends[1]);
        for (int j = 0; j < 4; j++)
            assert_int_equal(read(ends[0], &flushed[i], sizeof flushed[i]), sizeof flushed[i]);
        usleep((useconds_t)(i * 1700)); /* die at some point between two flushes */
        assert_int_equal(kill(child, SIGKILL), 0);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        while (read(ends[0], &flushed[i], sizeof flushed[i]) > 0)
            continue;
        close(ends[0]);
    }
    for (int i = 0; i < CHILDREN; i++) {
        struct kv *kv = open_store(paths[i], &small);
        uint32_t number = number_of(kv);
        assert_true(number >= flushed[i]);
        check_prefix(kv, number);
        assert_int_equal(kv_verify(the_lane(), kv), OK);
        kv_close(kv);
        mem_free(paths[i]);
    }
    directory_remove(directory);
}

static void closing_does_not_flush(void **state)
{
    (void)state;
    char *directory = directory_new();
    struct kv *kv = open_store(directory, &small);
    put_text(kv, "a", "flushed");
    assert_int_equal(kv_flush(the_lane(), kv), OK);
    put_text(kv, "a", "not flushed");
    kv_close(kv);
    kv = open_store(directory, &small);
    holds(kv, "a", "flushed");
    kv_close(kv);
    directory_remove(directory);
}

static void what_is_not_in_memory_would_block(void **state)
{
    (void)state;
    static const size_t sizes[] = {100, 100000}; /* in a table; in a blob file */
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *directory = directory_new();
        const struct kv_options options = {.create = true, .blob_bytes_min = 4096};
        uint8_t *value = mem_alloc(sizes[i]);
        struct kv *kv = open_store(directory, &options);
        put(kv, SLICE_LITERAL("a"), slice_of(value, sizes[i]));
        assert_int_equal(kv_flush(the_lane(), kv), OK);
        kv_close(kv);
        kv = open_store(directory, &options);
        AUTO_VALUE(bytes) found = {.max = KV_VALUE_BYTES_MAX};
        assert_int_equal(kv_try_get(kv, SLICE_LITERAL("a"), &found), ERR_WOULD_BLOCK);
        assert_int_equal(kv_get(the_lane(), kv, SLICE_LITERAL("a"), &found), OK);
        bytes_clear(&found);
        assert_int_equal(kv_try_get(kv, SLICE_LITERAL("a"), &found), OK);
        assert_true(slice_equal(bytes_slice(&found), slice_of(value, sizes[i])));
        /* Waiting on the disk was no failure. */
        put_text(kv, "b", "1");
        kv_close(kv);
        mem_free(value);
        directory_remove(directory);
    }
}

/* --- what opening makes durable --- */

static char synced_path[4096]; /* of the newest fsync by this program or RocksDB */

/* In front of the C library's: says what was synced. */
int fsync(int file)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t bytes = readlink(link, synced_path, sizeof synced_path - 1);
    synced_path[bytes < 0 ? 0 : bytes] = '\0';
    return (int)syscall(SYS_fsync, file);
}

static void the_name_of_a_store_is_durable(void **state)
{
    (void)state;
    char *directory = directory_new();
    AUTO_STRING path = mem_format("%s/store", directory);
    AUTO_STRING copy = mem_format("%s/copy", directory);
    struct kv *kv = open_store(path, &small);
    assert_string_equal(synced_path, directory);
    synced_path[0] = '\0';
    assert_int_equal(kv_checkpoint(the_lane(), kv, copy), OK);
    assert_string_equal(synced_path, directory);
    kv_close(kv);
    directory_remove(directory);
}

/* Invert a byte in the middle of each file with this suffix. */
static void damage(const char *directory, const char *suffix)
{
    DIR *entries = opendir(directory);
    int count = 0;
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        const char *dot = strrchr(entry->d_name, '.');
        if (dot == NULL || strcmp(dot, suffix) != 0)
            continue;
        AUTO_STRING path = mem_format("%s/%s", directory, entry->d_name);
        int file = open(path, O_RDWR | O_CLOEXEC);
        off_t middle = lseek(file, 0, SEEK_END) / 2;
        uint8_t byte = 0;
        assert_int_equal(pread(file, &byte, 1, middle), 1);
        byte = (uint8_t)~byte;
        assert_int_equal(pwrite(file, &byte, 1, middle), 1);
        close(file);
        count++;
    }
    closedir(entries);
    assert_true(count > 0);
}

static void damage_is_found_and_ends_writing(void **state)
{
    (void)state;
    static const struct {
        const char *suffix;
        size_t value_bytes;
    } cases[] = {{".sst", 1000}, {".blob", 50000}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *directory = directory_new();
        const struct kv_options options = {.create = true, .blob_bytes_min = 4096};
        uint8_t *value = mem_alloc(cases[i].value_bytes);
        struct kv *kv = open_store(directory, &options);
        for (uint32_t key = 0; key < 100; key++)
            put(kv, slice_of(&key, sizeof key), slice_of(value, cases[i].value_bytes));
        assert_int_equal(kv_flush(the_lane(), kv), OK);
        kv_close(kv);
        damage(directory, cases[i].suffix);
        log_set_sink(ignore_line, NULL);
        kv = open_store(directory, &options);
        put_text(kv, "still", "works");
        assert_int_equal(kv_verify(the_lane(), kv), ERR_CORRUPT);
        AUTO(kv_batch) batch = kv_batch_new(kv);
        kv_batch_put(batch, SLICE_LITERAL("a"), SLICE_LITERAL("1"));
        assert_int_equal(kv_write(the_lane(), kv, batch), ERR_CORRUPT);
        assert_int_equal(kv_flush(the_lane(), kv), ERR_CORRUPT);
        kv_batch_free(TAKE(batch));
        kv_close(kv);
        log_set_sink(NULL, NULL);
        mem_free(value);
        directory_remove(directory);
    }
}

static void a_store_that_lost_its_head_is_not_made_anew(void **state)
{
    (void)state;
    char *directory = directory_new();
    struct kv *kv = open_store(directory, &small);
    put_text(kv, "a", "1");
    assert_int_equal(kv_flush(the_lane(), kv), OK);
    kv_close(kv);
    AUTO_STRING current = mem_format("%s/CURRENT", directory);
    assert_int_equal(unlink(current), 0);
    log_set_sink(ignore_line, NULL);
    kv = NULL;
    assert_int_equal(kv_open(kv_provider_rocks(), the_lane(), directory, &small, &kv), ERR_CORRUPT);
    log_set_sink(NULL, NULL);
    assert_null(kv);
    directory_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_process_leaves_a_prefix_that_holds_its_last_flush),
        cmocka_unit_test(closing_does_not_flush),
        cmocka_unit_test(what_is_not_in_memory_would_block),
        cmocka_unit_test(the_name_of_a_store_is_durable),
        cmocka_unit_test(damage_is_found_and_ends_writing),
        cmocka_unit_test(a_store_that_lost_its_head_is_not_made_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
