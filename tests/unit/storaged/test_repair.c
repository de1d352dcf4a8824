/* Redundancy that comes back: emptied drives, drives that drain, leave and return, damaged
 * shards, blocks written short, while clients read, write and delete and the power fails at
 * any event.
 *
 * At the end every live block is whole: it is read with any m drives taken away (I13, I15,
 * I20), and nothing else is left on the drives (I23, I24). */
#include "drives_test.h"
#include "rebuild.h"
#include "record_check.h"
#include "repair.h"
#include "volumes.h"

enum { DRIVES_MAX = 10, WORKERS = 4, KNOWN_MAX = 3000 };

static int64_t gauge_of(struct node *node, const char *name)
{
    return gauge_value(metrics_gauge(node->metrics, name, NULL, ""));
}

static bool drives_serve(struct io *io, struct node *node)
{
    struct drive_status status[STORAGE_DRIVES_MAX];
    uint32_t count = storage_drives(io, node->storage, status, STORAGE_DRIVES_MAX);
    bool serve = true;
    for (uint32_t i = 0; i < count; i++)
        serve =
            serve && (status[i].state == DRIVE_STATE_OK || status[i].state == DRIVE_STATE_DRAINING);
    return serve;
}

static bool is_whole(struct node *node)
{
    return gauge_of(node, "shale_blocks_degraded") == 0 &&
           gauge_of(node, "shale_volumes_repairing") == 0 &&
           gauge_of(node, "shale_repair_queue") == 0;
}

/* The gauges are as of the last look, so twice. */
static bool await_whole(struct io *io, struct node *node, unsigned seconds)
{
    unsigned whole = 0;
    for (unsigned i = 0; i < seconds && whole < 5 && !io_canceled(io); i++) {
        if (io_sleep_ms(io, 1000) != OK)
            return false;
        whole = is_whole(node) ? whole + 1 : 0;
    }
    return whole >= 5;
}

static void require_whole(struct io *io, struct node *node)
{
    assert_true(await_whole(io, node, 600));
    assert_int_equal(gauge_of(node, "shale_blocks_unreadable"), 0);
}

/* --- reading with drives taken away --- */

struct removal {
    struct node *node; /* stopped */
    const struct known_block *blocks;
    uint32_t count;
};

static void move_away(struct io *io, const char *directory, bool back)
{
    AUTO_STRING away = mem_format("/away%s", directory);
    assert_int_equal(io_rename(io, back ? away : directory, back ? directory : away), OK);
}

static void describe_block(struct io *io, struct node *node, const struct block_ref *ref)
{
    AUTO(volume_entry) entry = NULL;
    assert_int_equal(volumes_find(io, node->storage, ref->id.volume, &entry), OK);
    const struct volume *volume = &entry->volume;
    fprintf(stderr, "block %llu-%llu bytes %u missing %#x profile %u+%u epoch %llu state %d\n",
            (unsigned long long)ref->id.volume, (unsigned long long)ref->id.sequence, ref->bytes,
            ref->missing, volume->data_shards, volume->parity_shards,
            (unsigned long long)volume->epoch, (int)volume->state);
    for (unsigned slot = 0; slot < volume_slots(entry); slot++) {
        struct drive *drive = entry->drives[slot];
        struct place place = {.epoch = 0};
        enum err err =
            rebuild_find(io, drive, volume, ref, slot, volume->slot_epochs[slot], &place);
        struct index_record record = {
            .key = {ref->id, (uint8_t)slot}, place.segment, place.offset, place.bytes};
        fprintf(
            stderr,
            "  slot %u %s epoch %llu: %s, place epoch %llu segment %llu offset %llu bad %d: %s\n",
            slot, drive == NULL ? "-" : drive->directory,
            (unsigned long long)volume->slot_epochs[slot], err_text(err),
            (unsigned long long)place.epoch, (unsigned long long)place.segment,
            (unsigned long long)place.offset, place.bad,
            err == OK ? err_text(record_check(io, drive, &record)) : "");
    }
}

static void read_without(struct io *io, const struct removal *removal, unsigned a, unsigned b)
{
    struct node *node = removal->node;
    (void)io_make_directory(io, "/away");
    move_away(io, node->directories[a], false);
    if (a != b)
        move_away(io, node->directories[b], false);
    assert_int_equal(node_start(io, node), OK);
    for (uint32_t i = 0; i < removal->count; i++) {
        if (removal->blocks[i].deleted)
            continue;
        enum err err = check_block(io, node->client, &removal->blocks[i], node->pool);
        if (err != OK)
            describe_block(io, node, &removal->blocks[i].ref);
        assert_int_equal(err, OK);
    }
    node_stop(io, node);
    move_away(io, node->directories[a], true);
    if (a != b)
        move_away(io, node->directories[b], true);
}

static void read_without_some(struct io *io, const struct removal *removal, unsigned pairs)
{
    unsigned drives = removal->node->directory_count;
    for (unsigned i = 0; i < pairs; i++) {
        unsigned a = (unsigned)node_draw(removal->node, drives);
        unsigned b = (unsigned)(a + 1 + node_draw(removal->node, drives - 1)) % drives;
        read_without(io, removal, a, b);
    }
}

static void read_many_without_some(struct io *io, struct node *node, unsigned pairs)
{
    struct removal removal = {.node = node, .blocks = many_of(node)->blocks, .count = BLOCKS};
    read_without_some(io, &removal, pairs);
}

/* What is on the drives is what the live blocks need. */
static void require_nothing_else(struct io *io, struct node *node, const struct known_block *blocks,
                                 uint32_t count)
{
    uint64_t wanted = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct volume *volume = fake_meta_volume(node->server, blocks[i].ref.id.volume);
        if (!blocks[i].deleted)
            wanted += (uint64_t)volume->data_shards + volume->parity_shards;
    }
    assert_int_equal(io_sleep_ms(io, 70000), OK); /* leases that nobody uses are closed */
    assert_int_equal(storage_collect(io, node->storage), OK);
    struct drive_status status[STORAGE_DRIVES_MAX];
    uint32_t drives = storage_drives(io, node->storage, status, STORAGE_DRIVES_MAX);
    uint64_t records = 0;
    for (uint32_t i = 0; i < drives; i++)
        records += status[i].record_count;
    assert_int_equal(records, wanted);
}

/* --- emptied drives --- */

static void empty_one(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    struct drive_id old = status_at(io, node, "/d2").id;
    empty_directory(io, "/d2");
    assert_int_equal(io_sleep_ms(io, 2000), OK);
    require_whole(io, node);
    assert_true(counter_value(node->storage->repair->blocks) > 0);
    read_blocks(io, node);
    /* The old one is of no interest any more. */
    assert_int_equal(io_sleep_ms(io, 65000), OK);
    assert_int_equal(fake_meta_standing(node->server, &old), 0);
    require_nothing_else(io, node, many_of(node)->blocks, BLOCKS);
    node_stop(io, node);
    read_many_without_some(io, node, 4);
}

static void an_emptied_drive_is_rebuilt(void **state)
{
    (void)state;
    for (uint32_t drives = 6; drives <= 8; drives += 2) {
        struct many *many = many_new(drives, drives);
        node_run(&many->node, empty_one);
        many_free(many);
    }
}

static void empty_two(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    empty_directory(io, "/d1");
    empty_directory(io, "/d4");
    assert_int_equal(io_sleep_ms(io, 2000), OK);
    require_whole(io, node);
    empty_directory(io, "/d0");
    empty_directory(io, "/d3");
    assert_int_equal(io_sleep_ms(io, 2000), OK);
    require_whole(io, node);
    read_blocks(io, node);
    node_stop(io, node);
    read_many_without_some(io, node, 4);
}

static void two_emptied_at_once_are_rebuilt_and_two_more_after_that(void **state)
{
    (void)state;
    struct many *many = many_new(11, 6);
    node_run(&many->node, empty_two);
    many_free(many);
}

static void empty_a_copy(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    empty_directory(io, "/d1");
    assert_int_equal(io_sleep_ms(io, 2000), OK);
    require_whole(io, node);
    node_stop(io, node);
    struct removal removal = {.node = node, .blocks = many_of(node)->blocks, .count = BLOCKS};
    read_without(io, &removal, 0, 0);
    read_without(io, &removal, 1, 1);
}

static void copies_are_rebuilt(void **state)
{
    (void)state;
    struct many *many = many_new(12, 2);
    node_run(&many->node, empty_a_copy);
    many_free(many);
    many = many_new(12, 3);
    node_run(&many->node, empty_a_copy);
    many_free(many);
}

/* --- drives that drain --- */

static void drain_one(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    struct drive_id id = status_at(io, node, "/d1").id;
    assert_int_equal(storage_drain(io, node->storage, &id, true), OK);
    assert_int_equal(status_at(io, node, "/d1").state, DRIVE_STATE_DRAINING);
    require_whole(io, node);
    assert_int_equal(status_at(io, node, "/d1").slots, 0);
    read_blocks(io, node);
    require_nothing_else(io, node, many_of(node)->blocks, BLOCKS);
    assert_int_equal(status_at(io, node, "/d1").record_count, 0);
    /* It can be taken away and its loss is none. */
    assert_int_equal(io_rename(io, "/d1", "/gone"), OK);
    node->directories[1] = node->directories[--node->directory_count];
    assert_int_equal(io_sleep_ms(io, 700000), OK);
    read_blocks(io, node);
    node_stop(io, node);
    read_many_without_some(io, node, 3);
}

static void a_drained_drive_is_empty_in_the_end(void **state)
{
    (void)state;
    struct many *many = many_new(21, 8);
    node_run(&many->node, drain_one);
    many_free(many);
}

/* --- drives that leave and return --- */

static void leave_and_return(struct io *io, struct node *node)
{
    node->out_s = 40;
    node->out_no_spare_s = 20;
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    struct drive_id id = status_at(io, node, "/d3").id;
    node_stop(io, node);
    assert_int_equal(io_rename(io, "/d3", "/far"), OK);
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(io_sleep_ms(io, 30000), OK);
    assert_int_equal(fake_meta_standing(node->server, &id), DRIVE_IN_SERVICE);
    assert_int_equal(io_sleep_ms(io, 20000), OK);
    assert_int_equal(fake_meta_standing(node->server, &id), DRIVE_LOST);
    require_whole(io, node);
    /* It is not waited for, and does not count against the next loss. */
    node_stop(io, node);
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(io_rename(io, "/far", "/d3"), OK);
    assert_int_equal(io_sleep_ms(io, 3000), OK);
    assert_int_equal(status_at(io, node, "/d3").state, DRIVE_STATE_OK);
    assert_int_equal(fake_meta_standing(node->server, &id), DRIVE_IN_SERVICE);
    read_blocks(io, node);
    require_nothing_else(io, node, many_of(node)->blocks, BLOCKS);
    node_stop(io, node);
    read_many_without_some(io, node, 3);
}

static void a_drive_that_returns_after_its_rebuild_is_cleaned(void **state)
{
    (void)state;
    struct many *many = many_new(31, 7);
    node_run(&many->node, leave_and_return);
    many_free(many);
}

static void return_in_time(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    node_stop(io, node);
    assert_int_equal(io_rename(io, "/d3", "/far"), OK);
    assert_int_equal(node_start(io, node), OK);
    assert_int_equal(io_sleep_ms(io, 3000), OK);
    assert_int_equal(gauge_of(node, "shale_blocks_degraded"), BLOCKS);
    assert_int_equal(io_rename(io, "/far", "/d3"), OK);
    assert_int_equal(io_sleep_ms(io, 10000), OK);
    assert_true(is_whole(node));
    assert_int_equal(counter_value(node->storage->repair->blocks), 0);
    node_stop(io, node);
}

static void a_drive_that_returns_in_time_costs_nothing(void **state)
{
    (void)state;
    struct many *many = many_new(32, 6);
    node_run(&many->node, return_in_time);
    many_free(many);
}

/* --- single shards --- */

static void write_short_and_mend(struct io *io, struct node *node)
{
    struct many *many = many_of(node);
    assert_int_equal(node_start(io, node), OK);
    sim_set_fault(node->machine, &(struct sim_fault){.prefix = "/d3/segments", .full = true});
    write_blocks(io, node);
    uint32_t missing = 0;
    for (unsigned i = 0; i < BLOCKS; i++)
        missing += many->blocks[i].ref.missing != 0;
    assert_true(missing > 0);
    assert_int_equal(io_sleep_ms(io, 5000), OK);
    assert_int_equal(gauge_of(node, "shale_blocks_degraded"), missing);
    sim_clear_faults(node->machine);
    require_whole(io, node);
    node_stop(io, node);
    read_many_without_some(io, node, 5);
}

static void blocks_written_short_are_completed(void **state)
{
    (void)state;
    struct many *many = many_new(41, 6);
    node_run(&many->node, write_short_and_mend);
    many_free(many);
}

static void start_write_stop(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    node_stop(io, node);
}

static void read_damaged(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    for (unsigned i = 0; i < 4; i++) {
        read_blocks(io, node);
        assert_int_equal(io_sleep_ms(io, 5000), OK);
    }
    require_whole(io, node);
    assert_true(counter_value(node->storage->repair->blocks) > 0);
    /* A read that is late may be decoded also when all is whole; none meets damage. */
    uint64_t corrupt = counter_value(node->storage->corrupt_cells);
    assert_true(corrupt > 0);
    read_blocks(io, node);
    assert_int_equal(counter_value(node->storage->corrupt_cells), corrupt);
    require_nothing_else(io, node, many_of(node)->blocks, BLOCKS);
    node_stop(io, node);
    /* As the segments tell it. */
    kv_memory_world_free(node->world);
    node->world = kv_memory_world_new();
    assert_int_equal(node_start(io, node), OK);
    read_blocks(io, node);
    assert_int_equal(counter_value(node->storage->corrupt_cells), corrupt);
    node_stop(io, node);
}

static void damage(struct node *node, const char *directory, unsigned flips)
{
    for (unsigned done = 0; done < flips;) {
        AUTO_STRING path = mem_format("%s/segments/%016llx.seg", directory,
                                      (unsigned long long)(1 + node_draw(node, 2)));
        done += sim_flip_bit(node->machine, path, node_draw(node, UINT64_C(3) << 23)) == OK;
    }
}

static void shards_that_reads_find_damaged_are_written_again(void **state)
{
    (void)state;
    struct many *many = many_new(42, 6);
    node_run(&many->node, start_write_stop);
    damage(&many->node, "/d3", 80);
    node_run(&many->node, read_damaged);
    many_free(many);
}

/* --- targets that fail --- */

static void fail_target(struct io *io, struct node *node)
{
    assert_int_equal(node_start(io, node), OK);
    write_blocks(io, node);
    empty_directory(io, "/d2");
    /* The new drive at its place and one other are the only targets; the first fails soon. */
    assert_int_equal(io_sleep_ms(io, 1000 + node_draw(node, 1500)), OK);
    sim_set_fault(node->machine,
                  &(struct sim_fault){.prefix = "/d2/segments", .write_fails = true});
    assert_int_equal(io_sleep_ms(io, 5000), OK);
    sim_clear_faults(node->machine);
    require_whole(io, node);
    read_blocks(io, node);
    node_stop(io, node);
    assert_int_equal(node_start(io, node), OK);
    require_whole(io, node);
    require_nothing_else(io, node, many_of(node)->blocks, BLOCKS);
    node_stop(io, node);
    read_many_without_some(io, node, 3);
}

static void another_target_is_taken_when_one_fails(void **state)
{
    (void)state;
    for (uint64_t seed = 51; seed < 53; seed++) {
        struct many *many = many_new(seed, 8);
        many->node.out_s = 30;
        many->node.out_no_spare_s = 10;
        node_run(&many->node, fail_target);
        many_free(many);
    }
}

/* --- lives --- */

struct life {
    struct node node; /* first */
    struct known_block known[KNOWN_MAX];
    uint32_t known_count;
    uint64_t next_seed;
    bool running;
    bool settling;
    bool ended;
    bool flipped; /* bits, and no scrub since */
    struct fiber_group workers;
    const char *violation;
};

static void violate(struct life *life, const char *what)
{
    if (life->violation == NULL)
        life->violation = what;
    life->running = false;
}

static uint64_t draw(struct life *life, uint64_t bound)
{
    return sim_draw(life->node.sim, bound);
}

static void live_write(struct io *io, struct life *life)
{
    static const uint32_t bytes_max[8] = {4096,  1 << 20, 3 << 20, 90000,
                                          90000, 90000,   90000,   90000};
    if (life->known_count == KNOWN_MAX)
        return;
    struct known_block block = {.seed = ++life->next_seed};
    uint32_t bytes = (uint32_t)(1 + draw(life, bytes_max[draw(life, 8)]));
    struct block_hint hint = {.bucket_id = 7, .key = SLICE_LITERAL("key")};
    AUTO(block_writer) writer = NULL;
    struct lease lease;
    AUTO(buf) buf = buf_new(bytes);
    fill_content(block.seed, 0, buf->data, bytes);
    bool declared = draw(life, 2) == 0;
    enum err err = block_writer_open(io, life->node.client, &hint, declared ? bytes : 0, &writer);
    if (err == OK)
        err = block_writer_append(io, writer, buf, 0, bytes);
    if (err == OK)
        err = block_writer_finish(io, writer, &block.ref, &lease);
    if (err == OK && draw(life, 4) == 0)
        err = io_sleep_ms(io, draw(life, 5000));
    if (err != OK || draw(life, 8) == 0)
        return; /* the drives are in trouble, or the client left */
    if (life->known_count == KNOWN_MAX)
        return; /* another worker was faster */
    if (!fake_meta_commit(life->node.server, &block.ref, &lease))
        violate(life, "lease of a running writer was closed");
    else
        life->known[life->known_count++] = block;
}

static void live_read(struct io *io, struct life *life)
{
    struct read_guard guard;
    if (life->known_count == 0)
        return;
    read_guard_begin(io, life->node.client, &guard);
    const struct known_block *block = &life->known[draw(life, life->known_count)];
    enum err err = block->deleted ? OK : check_block(io, life->node.client, block, life->node.pool);
    if (err != OK && err != ERR_CANCELED) {
        fprintf(stderr, "block %llu-%llu: %s\n", (unsigned long long)block->ref.id.volume,
                (unsigned long long)block->ref.id.sequence, err_text(err));
        violate(life, "acknowledged block cannot be read");
    }
    read_guard_end(io, life->node.client, &guard);
}

static void live_delete(struct life *life)
{
    if (life->known_count == 0)
        return;
    struct known_block *block = &life->known[draw(life, life->known_count)];
    if (block->deleted)
        return;
    block->deleted = true;
    fake_meta_delete(life->node.server, block->ref.id);
}

static void worker(struct io *io, void *argument)
{
    struct life *life = argument;
    while (life->running && !io_canceled(io)) {
        switch (draw(life, 8)) {
        case 0:
        case 1:
        case 2:
            live_write(io, life);
            break;
        case 3:
            live_delete(life);
            break;
        case 4:
            (void)io_sleep_ms(io, draw(life, 3000));
            break;
        case 5:
            if (draw(life, 8) == 0)
                (void)storage_collect(io, life->node.storage);
            break;
        default: /* a number, not an enum */
            live_read(io, life);
        }
        (void)io_sleep_ms(io, draw(life, 50));
    }
}

static const char *any_drive(struct life *life)
{
    return life->node.directories[draw(life, life->node.directory_count)];
}

static void undrain_all(struct io *io, struct life *life)
{
    struct drive_status status[STORAGE_DRIVES_MAX];
    uint32_t count = storage_drives(io, life->node.storage, status, STORAGE_DRIVES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (status[i].state == DRIVE_STATE_DRAINING)
            (void)storage_drain(io, life->node.storage, &status[i].id, false);
    }
}

static void try_empty(struct io *io, const char *directory)
{
    if (io_remove_tree(io, directory) == OK && io_make_directory(io, directory) == OK)
        (void)io_sync_directory(io, "/");
}

static void flip_some(struct life *life)
{
    const char *directory = any_drive(life);
    life->flipped = true;
    for (unsigned tries = 0; tries < 200; tries++) {
        AUTO_STRING path = mem_format("%s/segments/%016llx.seg", directory,
                                      (unsigned long long)(1 + draw(life, 6)));
        (void)sim_flip_bit(life->node.machine, path, draw(life, UINT64_C(6) << 23));
    }
}

static void scrub_all(struct io *io, struct life *life)
{
    struct scrub_status status[STORAGE_DRIVES_MAX];
    bool running = true;
    assert_int_equal(storage_scrub(io, life->node.storage), OK);
    while (running) {
        if (io_sleep_ms(io, 500) != OK)
            return;
        running = false;
        uint32_t count = storage_scrub_state(io, life->node.storage, status, STORAGE_DRIVES_MAX);
        for (uint32_t i = 0; i < count; i++)
            running = running || status[i].running;
    }
    if (await_whole(io, &life->node, 300))
        life->flipped = false;
}

static void make_trouble(struct io *io, struct life *life)
{
    struct node *node = &life->node;
    switch (draw(life, 6)) {
    case 0:
        try_empty(io, any_drive(life));
        break;
    case 1:
        try_empty(io, any_drive(life));
        (void)io_sleep_ms(io, draw(life, 3000));
        try_empty(io, any_drive(life));
        break;
    case 2: {
        struct drive_id id = status_at(io, node, any_drive(life)).id;
        if (node->directory_count > 6) /* else there is nowhere to go */
            (void)storage_drain(io, node->storage, &id, true);
        break;
    }
    case 3:
        /* Writes fail; what is there comes back with the next life. */
        sim_set_fault(node->machine,
                      &(struct sim_fault){.prefix = any_drive(life), .write_fails = true});
        (void)io_sleep_ms(io, 1000 + draw(life, 4000));
        sim_clear_faults(node->machine);
        break;
    case 4:
        flip_some(life);
        break;
    default: /* a number, not an enum */
        sim_set_fault(node->machine, &(struct sim_fault){.prefix = any_drive(life), .full = true});
        (void)io_sleep_ms(io, 1000 + draw(life, 4000));
        sim_clear_faults(node->machine);
    }
}

/* Never more at once than the redundancy bears: only when all is whole. */
static void nemesis(struct io *io, void *argument)
{
    struct life *life = argument;
    while (life->running && !io_canceled(io)) {
        if (io_sleep_ms(io, 1000 + draw(life, 4000)) != OK)
            return;
        if (!await_whole(io, &life->node, 300) || !drives_serve(io, &life->node))
            continue;
        if (life->flipped)
            scrub_all(io, life);
        if (life->flipped)
            continue;
        undrain_all(io, life);
        make_trouble(io, life);
    }
}

static void describe(struct io *io, struct node *node)
{
    static const char *const gauges[] = {"shale_blocks_degraded", "shale_volumes_repairing",
                                         "shale_repair_queue", "shale_blocks_unreadable"};
    for (unsigned i = 0; i < sizeof gauges / sizeof gauges[0]; i++)
        fprintf(stderr, "%s %d\n", gauges[i], (int)gauge_of(node, gauges[i]));
    struct drive_status status[STORAGE_DRIVES_MAX];
    uint32_t count = storage_drives(io, node->storage, status, STORAGE_DRIVES_MAX);
    for (uint32_t i = 0; i < count; i++)
        fprintf(stderr, "%s: %s slots %u standing %d\n", status[i].directory,
                drive_state_text(status[i].state), status[i].slots,
                (int)fake_meta_standing(node->server, &status[i].id));
}

static void settle(struct io *io, struct life *life)
{
    struct node *node = &life->node;
    undrain_all(io, life);
    scrub_all(io, life);
    if (!await_whole(io, node, 1200)) {
        describe(io, node);
        violate(life, "does not get whole");
    } else if (gauge_of(node, "shale_blocks_unreadable") != 0)
        violate(life, "counts blocks as unreadable");
    else
        require_nothing_else(io, node, life->known, life->known_count);
}

static void life_fiber(struct io *io, void *argument)
{
    struct life *life = argument;
    enum err err = node_start(io, &life->node);
    fiber_group_init(&life->workers);
    life->running = err == OK && !life->settling;
    for (unsigned i = 0; life->running && i < WORKERS; i++)
        (void)fiber_group_spawn(io, &life->workers, worker, life);
    if (life->running)
        (void)fiber_group_spawn(io, &life->workers, nemesis, life);
    if (err == OK && life->settling)
        settle(io, life);
    fiber_group_wait(io, &life->workers);
    if (life->node.storage != NULL)
        node_stop(io, &life->node);
    if (err != OK && err != ERR_CANCELED)
        violate(life, err_text(err));
    life->ended = true;
}

struct event_goal {
    struct life *life;
    uint64_t count;
};

static bool reached(void *context)
{
    const struct event_goal *goal = context;
    return goal->life->ended || sim_event_count(goal->life->node.sim) >= goal->count;
}

static bool has_ended(void *context)
{
    return ((struct life *)context)->ended;
}

static void live(struct life *life, uint64_t events)
{
    struct node *node = &life->node;
    life->ended = false;
    assert_int_equal(sim_spawn(node->machine, 0, life_fiber, life), OK);
    if (life->settling) {
        assert_true(
            sim_run(node->sim, has_ended, life, sim_now_ns(node->sim) + 36000 * IO_NS_PER_S));
        return;
    }
    struct event_goal goal = {.life = life, .count = sim_event_count(node->sim) + events};
    (void)sim_run(node->sim, reached, &goal, UINT64_MAX);
    life->running = false;
    if (draw(life, 3) == 0) {
        sim_kill(node->machine);
    } else {
        sim_power_cut(node->machine);
        kv_memory_crash(node->world, node_draw, node);
    }
    sim_clear_faults(node->machine);
    sim_power_on(node->machine);
}

static void audit(struct io *io, struct node *node)
{
    struct life *life = (struct life *)(void *)node;
    struct removal removal = {.node = node, .blocks = life->known, .count = life->known_count};
    read_without_some(io, &removal, 3);
}

static void require_no_violation(const struct life *life, uint64_t seed, unsigned number)
{
    if (life->violation == NULL)
        return;
    fprintf(stderr, "seed=%llu life=%u: %s\n", (unsigned long long)seed, number, life->violation);
    abort();
}

static void run_lives(uint64_t seed, uint32_t drives, unsigned lives)
{
    struct life *life = mem_new(struct life);
    node_init(&life->node, &(struct sim_options){.seed = seed, .latency_spike_ppm = 100}, drives);
    life->node.checks_mounts = true;
    life->node.out_s = 60;
    life->node.out_no_spare_s = 30;
    log_set_sink(drop_line, NULL);
    for (unsigned i = 0; i < lives; i++) {
        live(life, draw(life, 4) == 0 ? draw(life, 3000) : draw(life, 30000));
        require_no_violation(life, seed, i);
    }
    life->settling = true;
    live(life, 0);
    require_no_violation(life, seed, lives);
    node_run(&life->node, audit);
    node_deinit(&life->node);
    mem_free(life);
}

static unsigned seeds(unsigned fallback)
{
    const char *text = getenv("SHALE_TEST_SEEDS");
    return text == NULL ? fallback : (unsigned)strtoul(text, NULL, 10);
}

static uint64_t first_seed(void)
{
    const char *text = getenv("SHALE_TEST_FIRST_SEED");
    return text == NULL ? 1 : strtoull(text, NULL, 10);
}

static void nothing_is_lost_while_drives_come_and_go_and_the_power_fails(void **state)
{
    (void)state;
    uint64_t first = first_seed();
    for (uint64_t seed = first; seed < first + seeds(1); seed++) {
        if (seeds(0) > 0)
            fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        run_lives(seed, 6 + (uint32_t)(seed % 3), 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_emptied_drive_is_rebuilt),
        cmocka_unit_test(two_emptied_at_once_are_rebuilt_and_two_more_after_that),
        cmocka_unit_test(copies_are_rebuilt),
        cmocka_unit_test(a_drained_drive_is_empty_in_the_end),
        cmocka_unit_test(a_drive_that_returns_after_its_rebuild_is_cleaned),
        cmocka_unit_test(a_drive_that_returns_in_time_costs_nothing),
        cmocka_unit_test(blocks_written_short_are_completed),
        cmocka_unit_test(shards_that_reads_find_damaged_are_written_again),
        cmocka_unit_test(another_target_is_taken_when_one_fails),
        cmocka_unit_test(nothing_is_lost_while_drives_come_and_go_and_the_power_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
