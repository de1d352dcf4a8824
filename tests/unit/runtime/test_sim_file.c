/* Contents of simulated files: what a power cut may and may not leave. */
#include "sim_file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { ROUNDS = 10000, SECTORS = 64, VERSIONS_MAX = 64, OPERATIONS_MAX = 12 };

/* --- a model: which values may each sector have after a crash? --- */

struct version {
    uint64_t sequence;
    uint64_t stamp;
};

struct model_sector {
    struct version versions[VERSIONS_MAX];
    unsigned count;
    uint64_t floor; /* versions before the last one up to here are gone for good */
};

/* A truncate or punch that is not durable yet. */
struct model_cut {
    uint64_t sequence;
    unsigned first;
    unsigned end;
};

struct model {
    struct model_sector sectors[SECTORS];
    struct model_cut cuts[OPERATIONS_MAX];
    unsigned cut_count;
    uint64_t sequence;
};

static void model_set(struct model *model, unsigned first, unsigned end, uint64_t stamp)
{
    for (unsigned i = first; i < end; i++) {
        struct model_sector *sector = &model->sectors[i];
        assert_true(sector->count < VERSIONS_MAX);
        sector->versions[sector->count++] =
            (struct version){.sequence = model->sequence, .stamp = stamp};
    }
}

static void model_raise(struct model *model, unsigned first, unsigned end, uint64_t sequence)
{
    for (unsigned i = first; i < end; i++) {
        if (model->sectors[i].floor < sequence)
            model->sectors[i].floor = sequence;
    }
}

static void model_cuts_durable(struct model *model)
{
    for (unsigned i = 0; i < model->cut_count; i++)
        model_raise(model, model->cuts[i].first, model->cuts[i].end, model->cuts[i].sequence);
    model->cut_count = 0;
}

static bool model_allows(const struct model_sector *sector, uint64_t stamp)
{
    unsigned oldest = 0;
    for (unsigned i = 0; i < sector->count; i++) {
        if (sector->versions[i].sequence <= sector->floor)
            oldest = i;
    }
    for (unsigned i = oldest; i < sector->count; i++) {
        if (sector->versions[i].stamp == stamp)
            return true;
    }
    return false;
}

static void model_restart(struct model *model, const uint64_t stamps[SECTORS])
{
    *model = (struct model){0};
    for (unsigned i = 0; i < SECTORS; i++) {
        model->sectors[i].count = 1;
        model->sectors[i].versions[0].stamp = stamps[i];
    }
}

static void fill(uint8_t *data, unsigned sectors, uint64_t stamp)
{
    for (size_t at = 0; at < sectors * (size_t)SIM_SECTOR_BYTES; at += sizeof stamp)
        memcpy(data + at, &stamp, sizeof stamp);
}

/* The stamp of each sector, all of whose words must agree; 0 behind the end. */
static void read_stamps(const struct sim_file *file, uint64_t stamps[SECTORS])
{
    for (unsigned i = 0; i < SECTORS; i++) {
        uint64_t words[SIM_SECTOR_BYTES / sizeof(uint64_t)] = {0};
        (void)sim_file_read(file, i * SIM_SECTOR_BYTES, (uint8_t *)words, sizeof words);
        for (unsigned w = 1; w < sizeof words / sizeof words[0]; w++)
            assert_true(words[w] == words[0]);
        stamps[i] = words[0];
    }
}

static void random_operation(struct sim_file *file, struct model *model, struct sim_random *random,
                             uint64_t stamp)
{
    uint8_t data[SECTORS * SIM_SECTOR_BYTES];
    unsigned first = (unsigned)sim_random_below(random, SECTORS);
    unsigned count = 1 + (unsigned)sim_random_below(random, SECTORS - first);
    unsigned pages_first = (first + 7) / 8 * 8;
    unsigned pages_end = (first + count) / 8 * 8;
    bool durable = false;
    model->sequence++;
    switch (sim_random_below(random, 8)) {
    case 0:
        sim_file_sync(file, UINT64_MAX);
        model->cut_count = 0;
        model_raise(model, 0, SECTORS, model->sequence);
        return;
    case 1:
        assert_int_equal(sim_file_truncate(file, first * SIM_SECTOR_BYTES), OK);
        model_set(model, first, SECTORS, 0);
        model->cuts[model->cut_count++] =
            (struct model_cut){.sequence = model->sequence, .first = first, .end = SECTORS};
        return;
    case 2:
        if (pages_first >= pages_end)
            return;
        sim_file_punch(file, pages_first * SIM_SECTOR_BYTES,
                       (pages_end - pages_first) * SIM_SECTOR_BYTES);
        model_set(model, pages_first, pages_end, 0);
        model->cuts[model->cut_count++] =
            (struct model_cut){.sequence = model->sequence, .first = pages_first, .end = pages_end};
        return;
    case 3:
        assert_int_equal(
            sim_file_allocate(file, first * SIM_SECTOR_BYTES, count * SIM_SECTOR_BYTES), OK);
        return;
    case 4:
    case 5:
        durable = true;
        model_cuts_durable(model);
        break;
    }
    fill(data, count, stamp);
    sim_file_write(file, first * SIM_SECTOR_BYTES, data, count * SIM_SECTOR_BYTES, durable);
    model_set(model, first, first + count, stamp);
    if (durable)
        model_raise(model, first, first + count, model->sequence);
}

static void a_cut_leaves_what_was_durable_and_any_part_of_the_rest(void **state)
{
    (void)state;
    struct sim_space space = {.total_bytes = 1 << 20};
    AUTO(sim_file) file = sim_file_new(&space);
    struct sim_random random = sim_random_stream(1, 1);
    struct sim_fault_counts counts = {0};
    struct model model;
    uint64_t stamps[SECTORS] = {0};
    uint64_t stamp = 0;
    model_restart(&model, stamps);
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t operations = 1 + sim_random_below(&random, OPERATIONS_MAX);
        for (uint64_t i = 0; i < operations; i++)
            random_operation(file, &model, &random, ++stamp);
        read_stamps(file, stamps);
        for (unsigned i = 0; i < SECTORS; i++) {
            const struct model_sector *sector = &model.sectors[i];
            assert_true(stamps[i] == sector->versions[sector->count - 1].stamp);
        }
        sim_file_crash(file, &random, &counts);
        read_stamps(file, stamps);
        for (unsigned i = 0; i < SECTORS; i++)
            assert_true(model_allows(&model.sectors[i], stamps[i]));
        assert_true(space.used_bytes == sim_file_allocated_bytes(file));
        assert_true(sim_file_bytes(file) <= SECTORS * SIM_SECTOR_BYTES);
        model_restart(&model, stamps);
        if (round % 100 == 0) {
            uint64_t again[SECTORS];
            sim_file_crash(file, &random, &counts);
            read_stamps(file, again);
            assert_memory_equal(stamps, again, sizeof stamps);
        }
    }
    static const enum sim_fault_class wanted[] = {
        SIM_FAULT_LOST_WRITE, SIM_FAULT_TORN_WRITE,  SIM_FAULT_REORDERED_WRITE,
        SIM_FAULT_KEPT_WRITE, SIM_FAULT_LENGTH_ONLY, SIM_FAULT_LOST_CHANGE,
    };
    for (unsigned i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        assert_true(counts.counts[wanted[i]] > ROUNDS / 1000);
}

/* --- directed cases --- */

struct fixture {
    struct sim_space space;
    struct sim_file *file;
    struct sim_random random;
    struct sim_fault_counts counts;
};

static void setup(struct fixture *fixture, uint64_t seed)
{
    *fixture = (struct fixture){.space = {.total_bytes = 16 * SIM_PAGE_BYTES},
                                .random = sim_random_stream(seed, 2)};
    fixture->file = sim_file_new(&fixture->space);
}

static void teardown(struct fixture *fixture)
{
    sim_file_free(fixture->file);
    assert_int_equal(fixture->space.used_bytes, 0);
}

static void write_text(struct fixture *fixture, uint64_t offset, const char *text, bool durable)
{
    sim_file_write(fixture->file, offset, (const uint8_t *)text, strlen(text), durable);
}

static void crash(struct fixture *fixture)
{
    sim_file_crash(fixture->file, &fixture->random, &fixture->counts);
}

static bool holds(const struct fixture *fixture, const char *text)
{
    uint8_t data[64];
    size_t bytes = sim_file_read(fixture->file, 0, data, sizeof data);
    return bytes == strlen(text) && memcmp(data, text, bytes) == 0;
}

static void a_short_durable_write_takes_older_bytes_of_its_sector_with_it(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct fixture f;
        setup(&f, seed);
        write_text(&f, 0, "abc", false);
        write_text(&f, 3, "def", true);
        crash(&f);
        assert_true(holds(&f, "abcdef"));
        teardown(&f);
    }
}

static void a_later_unsynced_write_never_harms_bytes_around_it(void **state)
{
    (void)state;
    unsigned kept = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct fixture f;
        setup(&f, seed);
        write_text(&f, 0, "abcdef", true);
        write_text(&f, 2, "XY", false);
        crash(&f);
        assert_true(holds(&f, "abcdef") || holds(&f, "abXYef"));
        kept += holds(&f, "abXYef");
        teardown(&f);
    }
    assert_true(kept > 20);
    assert_true(kept < 180);
}

static void a_failed_sync_loses_writes_without_telling_later_syncs(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 1);
    write_text(&f, 0, "old", true);
    write_text(&f, 0, "new", false);
    sim_file_lose_writes(f.file);
    assert_true(holds(&f, "new"));
    sim_file_sync(f.file, UINT64_MAX);
    assert_true(holds(&f, "new"));
    crash(&f);
    assert_true(holds(&f, "old"));
    teardown(&f);
}

static void a_sync_covers_what_was_complete_when_it_began(void **state)
{
    (void)state;
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct fixture f;
        setup(&f, seed);
        write_text(&f, 0, "one", false);
        uint64_t began = sim_file_sequence(f.file);
        write_text(&f, 0, "two", false);
        sim_file_sync(f.file, began);
        crash(&f);
        assert_true(holds(&f, "one") || holds(&f, "two"));
        lost += holds(&f, "one");
        teardown(&f);
    }
    assert_true(lost > 10);
}

static void bytes_behind_a_shortened_end_read_as_zeros(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct fixture f;
        setup(&f, seed);
        write_text(&f, 0, "abcdef", seed % 2 == 0);
        assert_int_equal(sim_file_truncate(f.file, 2), OK);
        write_text(&f, 1000, "z", true); /* makes the truncate durable, but not the first write */
        crash(&f);
        uint8_t data[1001];
        assert_int_equal(sim_file_read(f.file, 0, data, sizeof data), 1001);
        for (unsigned i = 2; i < 1000; i++)
            assert_int_equal(data[i], 0);
        teardown(&f);
    }
}

static void a_durable_truncate_is_not_undone_by_an_older_write(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct fixture f;
        setup(&f, seed);
        write_text(&f, 1000, "abc", false);
        assert_int_equal(sim_file_truncate(f.file, 5), OK);
        write_text(&f, 0, "fives", true);
        if (seed % 2 == 0)
            sim_file_sync(f.file, UINT64_MAX);
        crash(&f);
        assert_true(holds(&f, "fives"));
        teardown(&f);
    }
}

static void what_follows_a_lost_truncate_is_lost_too(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct fixture f;
        setup(&f, seed);
        write_text(&f, 0, "oldold", true);
        assert_int_equal(sim_file_truncate(f.file, 0), OK);
        write_text(&f, 0, "new", false);
        crash(&f);
        static const uint8_t zeros[3] = {0};
        uint8_t data[8];
        size_t bytes = sim_file_read(f.file, 0, data, sizeof data);
        bool only_length = bytes == 3 && memcmp(data, zeros, 3) == 0;
        assert_true(holds(&f, "oldold") || holds(&f, "") || holds(&f, "new") || only_length);
        teardown(&f);
    }
}

static void space_is_counted_by_pages(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 1);
    assert_int_equal(sim_file_allocate(f.file, 100, 15 * SIM_PAGE_BYTES), OK);
    assert_int_equal(f.space.used_bytes, 16 * SIM_PAGE_BYTES);
    assert_int_equal(sim_file_bytes(f.file), 15 * SIM_PAGE_BYTES + 100);
    assert_int_equal(sim_file_allocate(f.file, 0, 17 * SIM_PAGE_BYTES), ERR_NO_SPACE);
    assert_int_equal(sim_file_check_space(f.file, 16 * SIM_PAGE_BYTES, 1), ERR_NO_SPACE);
    assert_int_equal(sim_file_check_space(f.file, 0, 16 * SIM_PAGE_BYTES), OK);
    sim_file_punch(f.file, 1, 2 * SIM_PAGE_BYTES);
    assert_int_equal(f.space.used_bytes, 15 * SIM_PAGE_BYTES);
    assert_true(sim_file_needs_blocks(f.file, 0, 2 * SIM_PAGE_BYTES));
    assert_int_equal(sim_file_truncate(f.file, 0), OK);
    assert_int_equal(f.space.used_bytes, 0);
    teardown(&f);
}

static void a_flipped_bit_stays(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 1);
    write_text(&f, 0, "abc", true);
    write_text(&f, 1, "b", false);
    assert_int_equal(sim_file_flip(f.file, 5), OK);
    assert_true(holds(&f, "Abc"));
    assert_int_equal(sim_file_flip(f.file, 3 * 8), ERR_INVALID);
    sim_file_lose_writes(f.file);
    crash(&f);
    assert_true(holds(&f, "Abc"));
    teardown(&f);
}

static void pending_changes_are_bounded(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 3);
    for (unsigned i = 0; i < SIM_PENDING_CHANGES_MAX + 10; i++)
        write_text(&f, i % SIM_PAGE_BYTES, "x", false);
    crash(&f);
    /* The first ones were written back, whatever was drawn for the rest. */
    assert_true(sim_file_bytes(f.file) >= 10);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_leaves_what_was_durable_and_any_part_of_the_rest),
        cmocka_unit_test(a_short_durable_write_takes_older_bytes_of_its_sector_with_it),
        cmocka_unit_test(a_later_unsynced_write_never_harms_bytes_around_it),
        cmocka_unit_test(a_failed_sync_loses_writes_without_telling_later_syncs),
        cmocka_unit_test(a_sync_covers_what_was_complete_when_it_began),
        cmocka_unit_test(bytes_behind_a_shortened_end_read_as_zeros),
        cmocka_unit_test(a_durable_truncate_is_not_undone_by_an_older_write),
        cmocka_unit_test(what_follows_a_lost_truncate_is_lost_too),
        cmocka_unit_test(space_is_counted_by_pages),
        cmocka_unit_test(a_flipped_bit_stays),
        cmocka_unit_test(pending_changes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
