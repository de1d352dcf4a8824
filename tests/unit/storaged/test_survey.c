/* What a survey says of drives whose records were taken away, changed or never finished. */
#include "records.h"
#include "storaged/survey.h"

static struct sim *sim;
static struct sim_machine *machine;

static void drop_line(void *context, enum log_level level, const char *line)
{
    (void)context, (void)level, (void)line;
}

static int make_machine(void **state)
{
    (void)state;
    log_set_sink(drop_line, NULL); /* what is refused here is wanted */
    sim = sim_new(&(struct sim_options){.seed = 1});
    machine = sim_machine_new(sim, 1);
    return 0;
}

static int free_machine(void **state)
{
    (void)state;
    sim_stop(machine);
    sim_free(sim);
    return 0;
}

static void run(void (*body)(struct io *io, void *argument), void *argument)
{
    set_run_machine(sim, machine, body, argument);
}

static const struct block_hint hint = {
    .bucket_id = 3, .bucket_name = SLICE_LITERAL("bucket"), .key = SLICE_LITERAL("a/key")};

struct findings {
    uint32_t damage_count;
    uint64_t offset; /* of the last one */
    char what[96];
    char file[96];
};

static void on_damage(void *context, const struct survey_damage *damage)
{
    struct findings *findings = context;
    findings->damage_count++;
    findings->offset = damage->offset;
    snprintf(findings->what, sizeof findings->what, "%s", damage->what);
    snprintf(findings->file, sizeof findings->file, "%s", damage->file);
}

static enum err open_survey(struct io *io, const struct record_set *set, uint32_t count,
                            struct survey_options *options, struct survey **out_survey)
{
    const char *bad = NULL;
    options->directories = set->paths;
    options->directory_count = count;
    return survey_open(io, options, &bad, out_survey);
}

/* Survey all drives of the set. */
static struct survey *survey_all(struct io *io, const struct record_set *set, bool headers_only,
                                 struct findings *findings)
{
    struct survey *survey = NULL;
    struct survey_options options = {
        .headers_only = headers_only, .on_damage = on_damage, .context = findings};
    *findings = (struct findings){.damage_count = 0};
    CHECK(open_survey(io, set, set->count, &options, &survey) == OK);
    CHECK(survey_scan(io, survey) == OK);
    return survey;
}

/* --- blocks of every shape --- */

struct shape {
    const char *name;
    uint8_t data_shards, parity_shards;
    uint32_t bytes;
    uint32_t skipped; /* slots never written */
    uint32_t flipped; /* slots with a byte of the payload changed */
    enum survey_state state;
    uint32_t spare;
    uint32_t damage_count;
};
static const struct shape shapes[] = {
    {"one drive", 1, 0, 100, 0, 0, SURVEY_WHOLE, 0, 0},
    {"one drive, damaged", 1, 0, 100, 0, 1, SURVEY_LOST, 0, 1},
    {"one drive, streamed", 1, 0, 3 << 20, 0, 0, SURVEY_WHOLE, 0, 0},
    {"one drive, streamed and damaged", 1, 0, 3 << 20, 0, 1, SURVEY_LOST, 0, 1},
    {"mirror", 1, 1, 200000, 0, 0, SURVEY_WHOLE, 1, 0},
    {"mirror, one damaged", 1, 1, 200000, 0, 1, SURVEY_DEGRADED, 0, 1},
    {"mirror, one damaged and one away", 1, 1, 200000, 2, 1, SURVEY_LOST, 0, 1},
    {"2+1", 2, 1, 1000000, 0, 0, SURVEY_WHOLE, 1, 0},
    {"2+1, first away", 2, 1, 1000000, 1, 0, SURVEY_DEGRADED, 0, 0},
    {"2+1, parity damaged", 2, 1, 1000000, 0, 4, SURVEY_DEGRADED, 0, 1},
    {"2+1, two away", 2, 1, 1000000, 3, 0, SURVEY_LOST, 0, 0},
    {"2+2, short", 2, 2, 5000, 1, 2, SURVEY_DEGRADED, 0, 1},
    {"3+2, empty data slot away", 3, 2, 4096, 4, 0, SURVEY_DEGRADED, 2, 0},
    {"4+2", 4, 2, 5000000, 0, 0, SURVEY_WHOLE, 2, 0},
    {"4+2, one of each", 4, 2, 5000000, 1, 8, SURVEY_DEGRADED, 0, 1},
    {"4+2, both parities away", 4, 2, 5000000, 48, 0, SURVEY_DEGRADED, 0, 0},
    {"4+2, three gone", 4, 2, 5000000, 9, 16, SURVEY_LOST, 0, 1},
    {"16+8", 16, 8, 1 << 20, 0x0000ff, 0, SURVEY_DEGRADED, 0, 0},
    {"16+8, nine gone", 16, 8, 1 << 20, 0x0001ff, 0, SURVEY_LOST, 0, 0},
};

static void check_content(struct io *io, struct survey *survey, const struct survey_block *block,
                          const struct block_ref *ref)
{
    AUTO(buf) content = set_content(ref->id.sequence, ref->bytes);
    AUTO(buf) found = NULL;
    CHECK(survey_read(io, survey, block, ref, &found) == OK);
    CHECK(memcmp(found->data, content->data, ref->bytes) == 0);
}

static void check_shape(struct io *io, const struct record_set *set, const struct shape *shape,
                        const struct block_ref *ref, bool headers_only)
{
    struct findings findings;
    struct survey *survey = survey_all(io, set, headers_only, &findings);
    struct survey_block block;
    CHECK(survey_find(survey, ref->id, &block));
    struct survey_verdict verdict = survey_judge(&block, ref);
    if (headers_only) { /* damage of payloads shows when they are read */
        AUTO(buf) buf = NULL;
        enum err err = survey_read(io, survey, &block, ref, &buf);
        CHECK((err == OK) == (shape->state != SURVEY_LOST));
    } else {
        CHECK(verdict.state == shape->state);
        CHECK(verdict.spare == shape->spare);
        CHECK(verdict.missing == shape->skipped);
        CHECK(block.bad == shape->flipped);
        CHECK(findings.damage_count == shape->damage_count);
    }
    if (shape->state != SURVEY_LOST)
        check_content(io, survey, &block, ref);
    survey_close(survey);
}

static void try_shape(struct io *io, void *argument)
{
    const struct shape *shape = argument;
    struct record_set *set = set_new(io, shape->data_shards, shape->parity_shards);
    struct block_ref ref = set_put_block(set, 1, shape->bytes, shape->skipped, &hint);
    /* One behind it: else a damaged record looks like a write that a crash cut off. */
    (void)set_put_block(set, 2, 50000, 0, &hint);
    for (uint32_t slot = 0; slot < set->count; slot++)
        if ((shape->flipped >> slot & 1) != 0)
            set_flip(set, slot, SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES + 17);
    check_shape(io, set, shape, &ref, false);
    for (uint32_t slot = 0; slot < set->count; slot++)
        set_seal(set, slot);
    check_shape(io, set, shape, &ref, false);
    check_shape(io, set, shape, &ref, true);
    set_free(set);
}

static void blocks_are_judged_and_read_from_any_shards(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        void *unused = NULL;
        struct shape shape = shapes[i];
        if (i > 0)
            make_machine(&unused);
        run(try_shape, &shape);
        if (i + 1 < sizeof shapes / sizeof shapes[0])
            free_machine(&unused);
    }
}

/* --- damage of everything but payload --- */

static void expect_damage(const struct findings *findings, const char *file, uint64_t offset)
{
    if (findings->damage_count == 1 && findings->offset == offset &&
        strcmp(findings->file, file) == 0)
        return;
    fprintf(stderr, "damage: %u, last %s at %llu: %s\n", findings->damage_count, findings->file,
            (unsigned long long)findings->offset, findings->what);
    abort();
}

#define SEGMENT_1 "/drive-0/segments/0000000000000001.seg"

static void rot_a_header(struct io *io, void *argument)
{
    (void)argument;
    struct findings findings;
    struct survey_block block;
    struct record_set *set = set_new(io, 1, 0);
    struct block_ref ref = set_put_block(set, 1, 9000, 0, &hint);
    set_seal(set, 0);
    set_flip(set, 0, SEGMENT_HEADER_BYTES + 100);
    for (int headers_only = 0; headers_only < 2; headers_only++) {
        struct survey *survey = survey_all(io, set, headers_only != 0, &findings);
        expect_damage(&findings, SEGMENT_1, SEGMENT_HEADER_BYTES);
        CHECK(survey_find(survey, ref.id, &block));
        CHECK(survey_judge(&block, &ref).state == SURVEY_LOST);
        CHECK(block.bad == 1);
        survey_close(survey);
    }
    set_free(set);
}

static void a_rotten_header_is_known_by_the_trailer(void **state)
{
    (void)state;
    run(rot_a_header, NULL);
}

static void rot_both_segment_headers(struct io *io, void *argument)
{
    (void)argument;
    struct findings findings;
    struct survey_block block;
    struct record_set *set = set_new(io, 1, 0);
    struct block_ref ref = set_put_block(set, 1, 9000, 0, &hint);
    set_flip(set, 0, 20);
    set_flip(set, 0, 4096 + 20);
    struct survey *survey = survey_all(io, set, false, &findings);
    expect_damage(&findings, SEGMENT_1, 0);
    CHECK(survey_find(survey, ref.id, &block));
    check_content(io, survey, &block, &ref);
    survey_close(survey);
    set_free(set);
}

static void records_name_a_segment_without_headers(void **state)
{
    (void)state;
    run(rot_both_segment_headers, NULL);
}

static void rot_the_superblock(struct io *io, void *argument)
{
    (void)argument;
    struct findings findings;
    struct survey_block block;
    struct record_set *set = set_new(io, 1, 1);
    struct block_ref ref = set_put_block(set, 1, 9000, 2, &hint);
    AUTO(file) file = NULL;
    CHECK(io_open(io, "/drive-0/superblock", FILE_WRITE, &file) == OK);
    uint8_t zeros[RECORD_ALIGN_BYTES] = {0};
    for (uint32_t copy = 0; copy < SUPERBLOCK_COPIES; copy++) {
        set_write(set, file, zeros, sizeof zeros, (uint64_t)copy * SUPERBLOCK_COPY_BYTES);
        struct survey *survey = survey_all(io, set, false, &findings);
        CHECK(findings.damage_count == copy + 1);
        CHECK(survey_find(survey, ref.id, &block));
        check_content(io, survey, &block, &ref);
        survey_close(survey);
    }
    set_free(set);
}

static void a_drive_is_known_by_its_segments_when_its_superblock_is_gone(void **state)
{
    (void)state;
    run(rot_the_superblock, NULL);
}

static void tear_the_last_record(struct io *io, void *argument)
{
    (void)argument;
    struct findings findings;
    struct survey_block block;
    struct record_set *set = set_new(io, 1, 0);
    struct block_ref ref = set_put_block(set, 1, 9000, 0, &hint);
    set_flip(set, 0, SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES);
    struct survey *survey = survey_all(io, set, false, &findings);
    CHECK(findings.damage_count == 0);
    CHECK(survey_find(survey, ref.id, &block));
    CHECK(block.torn);
    CHECK(survey_judge(&block, NULL).state == SURVEY_LOST);
    survey_close(survey);
    set_free(set);
}

static void the_torn_end_of_an_open_segment_is_no_damage(void **state)
{
    (void)state;
    run(tear_the_last_record, NULL);
}

static void name_other_bytes(struct io *io, void *argument)
{
    (void)argument;
    struct findings findings;
    struct survey_block block;
    for (uint8_t data_shards = 1; data_shards <= 2; data_shards++) {
        struct record_set *set = set_new(io, data_shards, 1);
        struct block_ref ref = set_put_block(set, 1, 9000, 0, &hint);
        struct survey *survey = survey_all(io, set, false, &findings);
        AUTO(buf) buf = NULL;
        ref.hash.bytes[0] ^= 1;
        CHECK(survey_find(survey, ref.id, &block));
        CHECK(survey_read(io, survey, &block, &ref, &buf) == ERR_CORRUPT);
        ref.hash.bytes[0] ^= 1;
        ref.bytes++;
        CHECK(survey_judge(&block, &ref).state == SURVEY_LOST);
        survey_close(survey);
        set_free(set);
        for (unsigned i = 0; i < 3; i++) {
            char path[16];
            snprintf(path, sizeof path, "/drive-%u", i);
            CHECK(io_remove_tree(io, path) == OK);
        }
    }
}

static void bytes_that_the_metadata_does_not_name_are_refused(void **state)
{
    (void)state;
    run(name_other_bytes, NULL);
}

/* --- the survey as a whole --- */

static void look_twice(struct io *io, void *argument)
{
    (void)argument;
    struct findings findings;
    struct record_set *set = set_new(io, 2, 1);
    (void)set_put_block(set, 1, 100000, 0, &hint);
    AUTO_VALUE(bytes) before = {.max = 1 << 20};
    AUTO_VALUE(bytes) after = {.max = 1 << 20};
    sim_describe_disk(machine, &before);
    survey_close(survey_all(io, set, false, &findings));
    sim_describe_disk(machine, &after);
    CHECK(slice_equal(bytes_slice(&before), bytes_slice(&after)));
    set_free(set);
}

static void nothing_is_written(void **state)
{
    (void)state;
    run(look_twice, NULL);
}

static void hold_the_lock(struct io *io, void *argument)
{
    (void)argument;
    struct survey *survey = NULL;
    struct survey_options options = {.memory_bytes = 0};
    struct record_set *set = set_new(io, 2, 1);
    AUTO(file) file = NULL;
    CHECK(io_open(io, "/drive-1/superblock", FILE_WRITE, &file) == OK);
    CHECK(io_lock(io, file) == OK);
    CHECK(open_survey(io, set, 3, &options, &survey) == ERR_LOCKED);
    file_close(TAKE(file));
    CHECK(open_survey(io, set, 3, &options, &survey) == OK);
    survey_close(survey);
    set->paths[2] = set->paths[0];
    CHECK(open_survey(io, set, 3, &options, &survey) != OK);
    set->paths[2] = "/nothing";
    CHECK(open_survey(io, set, 3, &options, &survey) == ERR_NOT_FOUND);
    set_free(set);
}

static void drives_in_use_or_given_twice_are_refused(void **state)
{
    (void)state;
    run(hold_the_lock, NULL);
}

static void leave_a_drive_out(struct io *io, void *argument)
{
    (void)argument;
    struct survey *survey = NULL;
    struct survey_options options = {.memory_bytes = 0};
    struct survey_block block;
    struct drive_id id;
    const char *path = NULL;
    struct record_set *set = set_new(io, 2, 1);
    struct block_ref ref = set_put_block(set, 1, 100000, 0, &hint);
    CHECK(open_survey(io, set, 2, &options, &survey) == OK);
    CHECK(survey_scan(io, survey) == OK);
    CHECK(survey_absent(survey, &id, &path, 1) == 1);
    CHECK(strcmp(path, "/drive-2") == 0);
    CHECK(survey_find(survey, ref.id, &block));
    CHECK(survey_judge(&block, &ref).missing == 4);
    check_content(io, survey, &block, &ref);
    survey_close(survey);
    set_free(set);
}

static void drives_that_were_not_given_are_named(void **state)
{
    (void)state;
    run(leave_a_drive_out, NULL);
}

static void fill_the_table(struct io *io, void *argument)
{
    (void)argument;
    struct survey *survey = NULL;
    struct survey_options options = {.memory_bytes = 3 * 56};
    struct record_set *set = set_new(io, 1, 0);
    for (uint64_t i = 1; i <= 3; i++)
        (void)set_put_block(set, i, 100, 0, &hint);
    CHECK(open_survey(io, set, 1, &options, &survey) == OK);
    CHECK(survey_scan(io, survey) == OK);
    survey_close(survey);
    (void)set_put_block(set, 4, 100, 0, &hint);
    CHECK(open_survey(io, set, 1, &options, &survey) == OK);
    CHECK(survey_scan(io, survey) == ERR_LIMIT);
    survey_close(survey);
    set_free(set);
}

static void the_table_has_a_limit(void **state)
{
    (void)state;
    run(fill_the_table, NULL);
}

static void read_from_a_dead_drive(struct io *io, void *argument)
{
    (void)argument;
    struct findings findings;
    struct survey_block block;
    struct record_set *set = set_new(io, 2, 1);
    struct block_ref ref = set_put_block(set, 1, 100000, 0, &hint);
    sim_set_fault(machine, &(struct sim_fault){.prefix = "/drive-0/segments", .read_fails = true});
    struct survey *survey = survey_all(io, set, false, &findings);
    CHECK(findings.damage_count > 0);
    CHECK(survey_find(survey, ref.id, &block));
    check_content(io, survey, &block, &ref);
    survey_close(survey);
    sim_clear_faults(machine);
    set_free(set);
}

static void what_cannot_be_read_is_damage_and_no_error(void **state)
{
    (void)state;
    run(read_from_a_dead_drive, NULL);
}

static void ask_for_the_hint(struct io *io, void *argument)
{
    (void)argument;
    struct findings findings;
    struct survey_block block;
    struct block_hint found;
    struct record_set *set = set_new(io, 2, 1);
    struct block_hint own = hint;
    own.upload_id = 77;
    own.part_number = 3;
    (void)set_put_block(set, 1, 3 << 20, 0, &own);
    struct survey *survey = survey_all(io, set, false, &findings);
    uint64_t cursor = 0;
    AUTO(buf) buf = NULL;
    CHECK(survey_next(survey, &cursor, &block));
    CHECK(survey_hint(io, survey, &block, &buf, &found) == OK);
    CHECK(slice_equal_text(found.key, "a/key"));
    CHECK(found.upload_id == 77 && found.part_number == 3);
    CHECK(!survey_next(survey, &cursor, &block));
    survey_close(survey);
    set_free(set);
}

static void records_say_whose_they_are(void **state)
{
    (void)state;
    run(ask_for_the_hint, NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_machine, free_machine)
    const struct CMUnitTest tests[] = {
        TEST(blocks_are_judged_and_read_from_any_shards),
        TEST(a_rotten_header_is_known_by_the_trailer),
        TEST(records_name_a_segment_without_headers),
        TEST(a_drive_is_known_by_its_segments_when_its_superblock_is_gone),
        TEST(the_torn_end_of_an_open_segment_is_no_damage),
        TEST(bytes_that_the_metadata_does_not_name_are_refused),
        TEST(nothing_is_written),
        TEST(drives_in_use_or_given_twice_are_refused),
        TEST(drives_that_were_not_given_are_named),
        TEST(the_table_has_a_limit),
        TEST(what_cannot_be_read_is_damage_and_no_error),
        TEST(records_say_whose_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
