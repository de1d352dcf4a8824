/* fsck and extract over erasure-coded drives without metadata, in the simulator. */
#include "cli/offline.h"
#include "records.h"

enum { BIG_BYTES = 3 << 20, TEXT_BYTES_MAX = 1 << 20 };

/* What a run printed and wrote. */
struct result {
    struct bytes out, errors, object;
};

static void result_deinit(struct result *result)
{
    bytes_deinit(&result->out);
    bytes_deinit(&result->errors);
    bytes_deinit(&result->object);
    *result = (struct result){.out = {.max = TEXT_BYTES_MAX},
                              .errors = {.max = TEXT_BYTES_MAX},
                              .object = {.max = 64 << 20}};
}

static void print(void *context, struct slice text)
{
    bytes_append(&((struct result *)context)->out, text);
}

static void complain(void *context, struct slice text)
{
    bytes_append(&((struct result *)context)->errors, text);
}

static enum err take(struct io *io, void *context, struct buf *buf, size_t offset, size_t bytes)
{
    (void)io;
    bytes_append(&((struct result *)context)->object, buf_slice(buf, offset, bytes));
    return OK;
}

static bool contains(const struct bytes *text, const char *wanted)
{
    return text->bytes > 0 && memmem(text->data, text->bytes, wanted, strlen(wanted)) != NULL;
}

static struct offline_options options_of(const struct record_set *set, struct result *result)
{
    result_deinit(result);
    return (struct offline_options){.directories = set->paths,
                                    .directory_count = set->count,
                                    .no_metadata = true,
                                    .scratch = "/scratch",
                                    .print = print,
                                    .complain = complain,
                                    .context = result};
}

static enum offline_status fsck(const struct record_set *set, struct result *result)
{
    struct fsck_options options = {.offline = options_of(set, result)};
    return fsck_run(set->io, &options);
}

static enum offline_status extract(const struct record_set *set, struct extract_options options,
                                   struct result *result)
{
    options.offline = options_of(set, result);
    options.bucket = SLICE_LITERAL("bucket");
    options.key = SLICE_LITERAL("key");
    options.write = take;
    return extract_run(set->io, &options);
}

/* The object's bytes are those of blocks `first`, `first` + 1, ... */
static bool has_blocks(const struct result *result, uint64_t first, const uint32_t *bytes,
                       unsigned count)
{
    size_t at = 0;
    for (unsigned i = 0; i < count; i++) {
        AUTO(buf) content = set_content(first + i, bytes[i]);
        if (result->object.bytes < at + bytes[i] ||
            memcmp(result->object.data + at, content->data, bytes[i]) != 0)
            return false;
        at += bytes[i];
    }
    return at == result->object.bytes;
}

static struct block_hint hint_of(uint64_t write, uint32_t ordinal)
{
    struct block_hint hint = {.bucket_id = 1,
                              .bucket_name = SLICE_LITERAL("bucket"),
                              .key = SLICE_LITERAL("key"),
                              .ordinal = ordinal};
    if (ordinal > 0)
        hint.write_id = (struct block_id){SET_VOLUME, write};
    return hint;
}

static void put(struct record_set *set, uint64_t sequence, uint32_t bytes, uint32_t skip,
                struct block_hint hint)
{
    (void)set_put_block(set, sequence, bytes, skip, &hint);
}

static void clear_disk(struct record_set *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        CHECK(io_remove_tree(set->io, set->paths[i]) == OK);
    set_free(set);
}

static void look_at_degrees(struct io *io, void *argument)
{
    (void)argument;
    struct result result = {.out = {.max = 1}};
    struct record_set *set = set_new(io, 2, 1);
    put(set, 1, 100000, 0, hint_of(1, 0));
    CHECK(fsck(set, &result) == OFFLINE_WHOLE);
    CHECK(contains(&result.out, "result=\"everything is whole\" exit=0"));
    put(set, 2, 100000, 1, hint_of(2, 0));
    CHECK(fsck(set, &result) == OFFLINE_DAMAGED);
    CHECK(contains(&result.out, "block block=5-2 state=degraded data_shards=2 parity_shards=1 "
                                "missing=0 spare=0 object=bucket/key ordinal=0"));
    put(set, 3, 100000, 6, hint_of(3, 0));
    CHECK(fsck(set, &result) == OFFLINE_LOST);
    CHECK(contains(&result.out, "block block=5-3 state=lost data_shards=2 parity_shards=1 "
                                "missing=1,2 object=bucket/key ordinal=0"));
    CHECK(contains(&result.out, "blocks=3 whole=1 degraded=1 lost=1"));
    result_deinit(&result);
    clear_disk(set);
}

static void take_a_put(struct io *io, void *argument)
{
    (void)argument;
    struct result result = {.out = {.max = 1}};
    const uint32_t bytes[] = {BIG_BYTES, BIG_BYTES, 777};
    struct record_set *set = set_new(io, 4, 2);
    for (uint32_t i = 0; i < 3; i++)
        put(set, 10 + i, bytes[i], 0x11, hint_of(10, i));
    CHECK(extract(set, (struct extract_options){.list = false}, &result) == OFFLINE_WHOLE);
    CHECK(has_blocks(&result, 10, bytes, 3));
    result_deinit(&result);
    clear_disk(set);
}

static void take_the_newest(struct io *io, void *argument)
{
    (void)argument;
    struct result result = {.out = {.max = 1}};
    const uint32_t bytes[] = {5000, 6000};
    struct record_set *set = set_new(io, 1, 1);
    put(set, 20, bytes[0], 0, hint_of(20, 0));
    put(set, 21, bytes[1], 0, hint_of(21, 0));
    CHECK(extract(set, (struct extract_options){.list = false}, &result) == OFFLINE_WHOLE);
    CHECK(has_blocks(&result, 21, bytes + 1, 1));
    CHECK(contains(&result.errors, "more than one write"));
    struct extract_options older = {.write_volume = SET_VOLUME, .write_sequence = 20};
    CHECK(extract(set, older, &result) == OFFLINE_WHOLE);
    CHECK(has_blocks(&result, 20, bytes, 1));
    CHECK(extract(set, (struct extract_options){.list = true}, &result) == OFFLINE_WHOLE);
    CHECK(contains(&result.out, "write_id=5-20") && contains(&result.out, "write_id=5-21"));
    CHECK(result.object.bytes == 0);
    result_deinit(&result);
    clear_disk(set);
}

static struct block_hint part_of(uint64_t upload, uint32_t number)
{
    struct block_hint hint = hint_of(0, 0);
    hint.upload_id = upload;
    hint.part_number = number;
    return hint;
}

static void take_an_upload(struct io *io, void *argument)
{
    (void)argument;
    struct result result = {.out = {.max = 1}};
    const uint32_t bytes[] = {5000, 6000, 7000};
    struct record_set *set = set_new(io, 2, 2);
    /* In any order; part 2 was uploaded twice. */
    put(set, 32, bytes[2], 0, part_of(9, 3));
    put(set, 29, 100, 0, part_of(9, 2));
    put(set, 30, bytes[0], 1, part_of(9, 1));
    put(set, 31, bytes[1], 2, part_of(9, 2));
    CHECK(extract(set, (struct extract_options){.upload_id = 9}, &result) == OFFLINE_WHOLE);
    CHECK(has_blocks(&result, 30, bytes, 3));
    CHECK(extract(set, (struct extract_options){.upload_id = 8}, &result) == OFFLINE_LOST);
    result_deinit(&result);
    clear_disk(set);
}

static void lose_a_block(struct io *io, void *argument)
{
    (void)argument;
    struct result result = {.out = {.max = 1}};
    const uint32_t bytes[] = {5000, 6000, 7000};
    struct record_set *set = set_new(io, 2, 1);
    for (uint32_t i = 0; i < 3; i++)
        put(set, 40 + i, bytes[i], i == 1 ? 3 : 0, hint_of(40, i));
    CHECK(extract(set, (struct extract_options){.list = false}, &result) == OFFLINE_LOST);
    CHECK(result.object.bytes == 0);
    CHECK(contains(&result.errors, "lost: bytes 5000 to 10999 (block 5-41)"));
    CHECK(extract(set, (struct extract_options){.holes = true}, &result) == OFFLINE_LOST);
    CHECK(result.object.bytes == 18000);
    static const uint8_t zeros[6000];
    CHECK(memcmp(result.object.data + 5000, zeros, sizeof zeros) == 0);
    AUTO(buf) last = set_content(42, bytes[2]);
    CHECK(memcmp(result.object.data + 11000, last->data, bytes[2]) == 0);
    result_deinit(&result);
    clear_disk(set);
}

static const struct {
    const char *name;
    void (*body)(struct io *io, void *argument);
} bodies[] = {
    {"blocks are whole, degraded or lost", look_at_degrees},
    {"a put of several blocks is joined", take_a_put},
    {"the newest write is taken, others can be chosen", take_the_newest},
    {"parts are joined by number", take_an_upload},
    {"a lost block is told, and zeros only when asked for", lose_a_block},
};

static void drop_line(void *context, enum log_level level, const char *line)
{
    (void)context, (void)level, (void)line;
}

static void records_alone_give_objects_back(void **state)
{
    (void)state;
    log_set_sink(drop_line, NULL); /* what is refused here is wanted */
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        fprintf(stderr, "%s\n", bodies[i].name);
        struct sim *sim = sim_new(&(struct sim_options){.seed = 1});
        struct sim_machine *machine = sim_machine_new(sim, 1);
        set_run_machine(sim, machine, bodies[i].body, NULL);
        sim_stop(machine);
        sim_free(sim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_alone_give_objects_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
