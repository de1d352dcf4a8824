/* Drives that leave, slots that move, blocks with missing shards. */
#include "fixture.h"

FIXTURE_SERVER

static enum err register_drive(struct world *world, uint8_t number, uint64_t counter, uint64_t boot)
{
    struct drive_record drive = {.id = drive_of(number),
                                 .node_id = 1,
                                 .capacity_bytes = 1 << 30,
                                 .mount_counter = counter,
                                 .boot = boot};
    return meta_drive_register(NULL, world->client, &drive);
}

static struct drive_record find_drive(struct world *world, uint8_t number)
{
    AUTO(drive_page) page = NULL;
    struct drive_id id = drive_of(number);
    assert_int_equal(meta_drive_list(NULL, world->client, &page), OK);
    for (uint32_t i = 0; i < page->count; i++)
        if (drive_id_equal(&page->drives[i].id, &id))
            return page->drives[i];
    return (struct drive_record){.standing = 0};
}

static void older_copies_of_a_drive_are_refused(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    assert_int_equal(register_drive(&world, 5, 3, 70), OK);
    assert_int_equal(register_drive(&world, 5, 3, 70), OK); /* the same start again */
    assert_int_equal(register_drive(&world, 5, 3, 71), ERR_STALE);
    assert_int_equal(register_drive(&world, 5, 2, 72), ERR_STALE);
    assert_int_equal(register_drive(&world, 5, 4, 72), OK);
    assert_int_equal(find_drive(&world, 5).mount_counter, 4);
    world_deinit(&world);
}

static void a_lost_drive_that_registers_is_in_service_again(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct drive_id drive = drive_of(5);
    assert_int_equal(meta_drive_set_standing(NULL, world.client, &drive, DRIVE_LOST),
                     ERR_NOT_FOUND);
    assert_int_equal(register_drive(&world, 5, 1, 1), OK);
    assert_int_equal(meta_drive_forget(NULL, world.client, &drive), ERR_NOT_EMPTY);
    assert_int_equal(meta_drive_set_standing(NULL, world.client, &drive, DRIVE_DRAINING), OK);
    assert_int_equal(register_drive(&world, 5, 2, 2), OK);
    assert_int_equal(find_drive(&world, 5).standing, DRIVE_DRAINING);
    assert_int_equal(meta_drive_set_standing(NULL, world.client, &drive, DRIVE_LOST), OK);
    assert_int_equal(register_drive(&world, 5, 3, 3), OK);
    assert_int_equal(find_drive(&world, 5).standing, DRIVE_IN_SERVICE);
    assert_int_equal(meta_drive_set_standing(NULL, world.client, &drive, DRIVE_LOST), OK);
    assert_int_equal(meta_drive_forget(NULL, world.client, &drive), OK);
    assert_int_equal(find_drive(&world, 5).standing, 0);
    assert_int_equal(meta_drive_forget(NULL, world.client, &drive), OK);
    drive = drive_of(1); /* has a slot of the volume */
    assert_int_equal(meta_drive_set_standing(NULL, world.client, &drive, DRIVE_LOST), OK);
    assert_int_equal(meta_drive_forget(NULL, world.client, &drive), ERR_NOT_EMPTY);
    world_deinit(&world);
}

static void a_slot_moves_only_after_all_leases_are_closed(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct drive_id to[META_SHARDS_MAX] = {[1] = drive_of(3)};
    struct volume volume;
    assert_int_equal(register_drive(&world, 3, 1, 1), OK);
    assert_int_equal(meta_repair_start(NULL, world.client, world.volume.id, 2, to, &volume), OK);
    assert_int_equal(volume.epoch, world.volume.epoch + 1);
    assert_int_equal(volume.repair.epoch, volume.epoch);
    assert_int_equal(volume.state, VOLUME_REPAIRING);
    uint64_t repair = volume.repair.id;
    struct lease lease;
    assert_int_equal(meta_lease_open(NULL, world.client, world.volume.id, 1, 1, &lease),
                     ERR_STALE_EPOCH);
    assert_int_equal(meta_repair_start(NULL, world.client, world.volume.id, 2, to, &volume),
                     ERR_BUSY);
    assert_int_equal(meta_repair_done(NULL, world.client, world.volume.id, repair, &volume),
                     ERR_NOT_EMPTY);
    assert_int_equal(meta_lease_close_volume(NULL, world.client, world.volume.id), OK);
    assert_int_equal(meta_repair_done(NULL, world.client, world.volume.id, repair + 1, &volume),
                     ERR_STALE);
    assert_int_equal(meta_repair_done(NULL, world.client, world.volume.id, repair, &volume), OK);
    assert_int_equal(volume.state, VOLUME_OPEN);
    assert_int_equal(volume.epoch, world.volume.epoch + 2);
    assert_true(drive_id_equal(&volume.slots[1], &to[1]));
    assert_int_equal(volume.slot_epochs[0], world.volume.epoch);
    assert_int_equal(volume.slot_epochs[1], world.volume.epoch + 1);
    assert_int_equal(meta_repair_done(NULL, world.client, world.volume.id, repair, &volume),
                     ERR_STALE);
    assert_int_equal(meta_lease_open(NULL, world.client, world.volume.id, 1, 1, &lease), OK);
    world_deinit(&world);
}

static void a_repair_that_is_cancelled_leaves_the_slots(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct drive_id to[META_SHARDS_MAX] = {[0] = drive_of(3)};
    struct drive_id third = drive_of(3);
    struct volume volume;
    assert_int_equal(register_drive(&world, 3, 1, 1), OK);
    assert_int_equal(meta_repair_start(NULL, world.client, world.volume.id, 1, to, &volume), OK);
    uint64_t repair = volume.repair.id;
    assert_int_equal(meta_drive_set_standing(NULL, world.client, &third, DRIVE_LOST), OK);
    assert_int_equal(meta_drive_forget(NULL, world.client, &third), ERR_NOT_EMPTY);
    assert_int_equal(meta_repair_cancel(NULL, world.client, world.volume.id, repair, &volume), OK);
    assert_memory_equal(volume.slots, world.volume.slots, sizeof volume.slots);
    assert_int_equal(meta_repair_done(NULL, world.client, world.volume.id, repair, &volume),
                     ERR_STALE);
    assert_int_equal(meta_drive_forget(NULL, world.client, &third), OK);
    world_deinit(&world);
}

static void slots_move_to_drives_in_service_that_the_volume_does_not_have(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct drive_id drain = drive_of(4);
    assert_int_equal(register_drive(&world, 3, 1, 1), OK);
    assert_int_equal(register_drive(&world, 4, 1, 1), OK);
    assert_int_equal(meta_drive_set_standing(NULL, world.client, &drain, DRIVE_DRAINING), OK);
    const struct {
        uint32_t slots;
        uint8_t drives[2];
        enum err err;
    } cases[] = {
        {0, {3, 3}, ERR_INVALID}, {4, {3, 3}, ERR_INVALID}, {1, {2, 0}, ERR_INVALID},
        {3, {3, 3}, ERR_INVALID}, {1, {9, 0}, ERR_INVALID}, {1, {4, 0}, ERR_INVALID},
        {3, {2, 3}, OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct drive_id to[META_SHARDS_MAX] = {drive_of(cases[i].drives[0]),
                                               drive_of(cases[i].drives[1])};
        struct volume volume;
        assert_int_equal(
            meta_repair_start(NULL, world.client, world.volume.id, cases[i].slots, to, &volume),
            cases[i].err);
    }
    world_deinit(&world);
}

static uint32_t repair_count(struct world *world, struct block_ref *out_first)
{
    AUTO(block_page) page = NULL;
    assert_int_equal(meta_repair_list(NULL, world->client, (struct block_id){0, 0}, 100, &page),
                     OK);
    if (page->count > 0)
        *out_first = page->blocks[0];
    return page->count;
}

static enum err put_block(struct world *world, const char *key, const struct block_ref *ref)
{
    struct object_put put = {.bucket_id = world->bucket_id,
                             .key = slice_of_text(key),
                             .bytes = ref->bytes,
                             .blocks = ref,
                             .leases = &world->lease,
                             .block_count = 1};
    struct object_written written;
    return meta_object_put(NULL, world->client, &put, &written);
}

static void blocks_with_missing_shards_wait_for_repair(void **unused)
{
    (void)unused;
    struct world world;
    world_init(&world);
    struct block_ref whole = block_next(&world, 100);
    struct block_ref short_of_one = block_next(&world, 200);
    struct block_ref gone = block_next(&world, 300);
    struct block_ref first = {.bytes = 0};
    whole.missing = 0;
    short_of_one.missing = 2;
    gone.missing = 1;
    assert_int_equal(put_block(&world, "whole", &whole), OK);
    assert_int_equal(put_block(&world, "short", &short_of_one), OK);
    assert_int_equal(put_block(&world, "gone", &gone), OK);
    assert_int_equal(repair_count(&world, &first), 2);
    assert_true(block_ref_equal(&first, &short_of_one));
    bool deleted = false;
    assert_int_equal(meta_object_delete(NULL, world.client, world.bucket_id, SLICE_LITERAL("gone"),
                                        &(struct write_conditions){.kind = 0}, &deleted),
                     OK);
    assert_int_equal(repair_count(&world, &first), 1);

    AUTO(block_page) page = NULL;
    assert_int_equal(meta_volume_blocks(NULL, world.client, world.volume.id, 0, 1, &page), OK);
    assert_int_equal(page->count, 1);
    assert_true(page->truncated);
    assert_true(block_ref_equal(&page->blocks[0], &whole));
    struct block_ref refs[2];
    assert_int_equal(
        meta_block_find(NULL, world.client, (struct block_id[]){short_of_one.id, gone.id}, 2, refs),
        OK);
    assert_true(block_ref_equal(&refs[0], &short_of_one));
    assert_int_equal(refs[1].bytes, 0);

    struct block_ref repaired = short_of_one;
    repaired.missing = 1; /* another slot */
    assert_int_equal(meta_blocks_repaired(NULL, world.client, &repaired, 1), OK);
    assert_int_equal(repair_count(&world, &first), 1);
    assert_int_equal(meta_blocks_repaired(NULL, world.client, &short_of_one, 1), OK);
    assert_int_equal(repair_count(&world, &first), 0);
    assert_int_equal(meta_block_find(NULL, world.client, &short_of_one.id, 1, refs), OK);
    assert_int_equal(refs[0].missing, 0);
    world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(older_copies_of_a_drive_are_refused),
        cmocka_unit_test(a_lost_drive_that_registers_is_in_service_again),
        cmocka_unit_test(a_slot_moves_only_after_all_leases_are_closed),
        cmocka_unit_test(a_repair_that_is_cancelled_leaves_the_slots),
        cmocka_unit_test(slots_move_to_drives_in_service_that_the_volume_does_not_have),
        cmocka_unit_test(blocks_with_missing_shards_wait_for_repair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
