/* See sim_drives.h. */
#include "sim_drives.h"

#include "base/mem.h"
#include "meta/client.h"
#include "runtime/sync.h"

enum {
    FLIPS_MAX = 8,
    FLIP_SHRINK_BITS = 8,
    NAMES_BYTES_MAX = 1 << 20,
    WHOLE_SECONDS = 5,    /* without a word of the opposite */
    MEND_SECONDS = 3600,  /* at most */
    SETTLE_SECONDS = 120, /* replicas and the collection */
    BLOCKS_PAGE = 1024,
};

/* --- places --- */

void drives_name(struct world *world)
{
    world->voter = world->drive_count;
    for (unsigned i = 0; i < world->drive_count; i++) {
        char *directory = world->drives[i].directory;
        if (world->drive_count == 1)
            snprintf(directory, DIRECTORY_BYTES_MAX, "/data");
        else
            snprintf(directory, DIRECTORY_BYTES_MAX, "/d%u", i + 1);
    }
}

/* Of two drives the one with the voter is what the metadata stands on; of four, two that go at once
 * end the quorum. */
unsigned drives_hurt_max(const struct world *world)
{
    static const unsigned char max[DRIVES_MAX + 1] = {0, 0, 1, 1, 1, 2, 2, 2, 2};
    return max[world->drive_count] + (world->drive_count == 4 && world->auto_recover);
}

static unsigned hurt_count(const struct world *world)
{
    unsigned count = 0;
    for (unsigned i = 0; i < world->drive_count; i++)
        count += world->drives[i].hurt;
    return count;
}

bool drives_are_hurt(const struct world *world)
{
    return hurt_count(world) > 0;
}

/* A drive that may be hurt now, or NULL. One that is hurt may be hit again. */
static struct drive_place *choose_victim(struct world *world)
{
    bool again = hurt_count(world) >= drives_hurt_max(world);
    struct drive_place *candidates[DRIVES_MAX];
    unsigned count = 0;
    for (unsigned i = 0; i < world->drive_count; i++) {
        struct drive_place *drive = &world->drives[i];
        bool stands_alone = world->drive_count == 2 && (world->voter == i || world->voter > 1);
        if (!stands_alone && !drive->away && drive->hurt == again)
            candidates[count++] = drive;
    }
    return count == 0 ? NULL : candidates[draw(world, count)];
}

static void note_hurt(struct world *world, struct drive_place *drive, const char *how)
{
    drive->hurt = true;
    world->hurts++;
    if (world->verbose)
        fprintf(stderr, "--- %s %s\n", drive->directory, how);
}

static char *away_path(const struct drive_place *drive)
{
    return mem_format("/away%s", drive->directory + 1);
}

static void pull(struct world *world, struct drive_place *drive)
{
    AUTO_STRING path = away_path(drive);
    if (sim_move_directory(world->machine, drive->directory, path) == OK)
        drive->away = true;
}

void drives_put_back(struct world *world)
{
    for (unsigned i = 0; i < world->drive_count; i++) {
        struct drive_place *drive = &world->drives[i];
        AUTO_STRING path = away_path(drive);
        if (drive->away && sim_move_directory(world->machine, path, drive->directory) != OK)
            die(world, "drive cannot be put back", drive->directory);
        drive->away = false;
    }
}

static void empty(struct world *world, struct drive_place *drive)
{
    AUTO_STRING path = mem_format("/gone%llu", (unsigned long long)world->hurts);
    if (sim_move_directory(world->machine, drive->directory, path) != OK)
        return; /* a drive that was never made */
    if (sim_copy_directory(world->machine, "/empty", world->machine, drive->directory) != OK)
        die(world, "drive cannot be emptied", drive->directory);
}

/* --- while the node is off --- */

struct hands {
    struct world *world;
    const struct drive_place *drive;
    char path[IO_PATH_BYTES_MAX];
    uint64_t bytes; /* of the file; 0: none was found */
    bool done;
};

static bool hands_done(void *context)
{
    return ((struct hands *)context)->done;
}

/* Run a fiber on the machine while no node does. */
static void run_hands(struct world *world, fiber_fn *fn, struct hands *hands)
{
    hands->world = world;
    if (sim_spawn(world->machine, 0, fn, hands) != OK ||
        !sim_run(world->sim, hands_done, hands, sim_now_ns(world->sim) + 60 * IO_NS_PER_S))
        die(world, "hands do not end", "");
    sim_stop(world->machine);
    sim_power_on(world->machine);
}

static void make_empty(struct io *io, void *argument)
{
    struct hands *hands = argument;
    if (io_make_directory(io, "/empty") != OK || io_sync_directory(io, "/") != OK)
        die(hands->world, "no directory", "");
    hands->done = true;
}

void drives_prepare(struct world *world)
{
    struct hands hands = {.drive = NULL};
    if (world->drive_count > 1)
        run_hands(world, make_empty, &hands);
}

static void choose_file(struct io *io, struct hands *hands)
{
    static const char *const parts[] = {"/segments", "/meta/log", ""};
    struct world *world = hands->world;
    const char *part = parts[draw(world, 3)];
    char directory[IO_PATH_BYTES_MAX / 2];
    AUTO_VALUE(bytes) names = {.max = NAMES_BYTES_MAX};
    snprintf(directory, sizeof directory, "%s%s", hands->drive->directory, part);
    if (io_list_directory(io, directory, &names) != OK || names.bytes == 0)
        return;
    const char *name = (const char *)names.data;
    const char *end = name + names.bytes;
    for (uint64_t skip = draw(world, 16); skip > 0; skip--) {
        name += strlen(name) + 1;
        if (name == end)
            name = (const char *)names.data;
    }
    struct file_info info;
    snprintf(hands->path, sizeof hands->path, "%s/%s", directory, name);
    if (io_stat(io, hands->path, &info) == OK && !info.is_directory)
        hands->bytes = info.bytes;
}

static void choose_file_fiber(struct io *io, void *argument)
{
    struct hands *hands = argument;
    choose_file(io, hands);
    hands->done = true;
}

/* Most of what files hold lies at their beginning. */
static void flip(struct world *world, struct drive_place *drive)
{
    struct hands hands = {.drive = drive};
    run_hands(world, choose_file_fiber, &hands);
    if (hands.bytes == 0)
        return;
    uint64_t area = (hands.bytes >> draw(world, FLIP_SHRINK_BITS)) + 1;
    uint64_t count = 1 + draw(world, FLIPS_MAX);
    for (uint64_t i = 0; i < count; i++)
        (void)sim_flip_bit(world->machine, hands.path, draw(world, area) * 8 + draw(world, 8));
    if (world->verbose)
        fprintf(stderr, "--- %u flips in %s\n", (unsigned)count, hands.path);
}

void drives_hurt_while_off(struct world *world)
{
    struct drive_place *drive = choose_victim(world);
    if (drive == NULL || !world->bucket_made)
        return;
    switch (draw(world, 3)) {
    case 0:
        note_hurt(world, drive, "is away for a life");
        pull(world, drive);
        break;
    case 1:
        note_hurt(world, drive, "is empty");
        empty(world, drive);
        break;
    default: /* the rest of the draw */
        note_hurt(world, drive, "has flipped bits");
        flip(world, drive);
        break;
    }
}

void drives_take_away(struct world *world)
{
    static const unsigned char parity[DRIVES_MAX + 1] = {0, 0, 1, 1, 2, 2, 2, 2, 2};
    for (unsigned taken = 0; taken < parity[world->drive_count];) {
        struct drive_place *drive = &world->drives[draw(world, world->drive_count)];
        if (drive->away || (world->drive_count == 2 && drive == &world->drives[world->voter]))
            continue;
        pull(world, drive);
        if (world->verbose)
            fprintf(stderr, "--- %s is taken away\n", drive->directory);
        taken++;
    }
}

/* --- while it runs --- */

/* Below the drive's directory. */
static const struct drive_fault {
    const char *name;
    struct sim_fault fault;
} drive_faults[] = {
    {"fails to read", {.read_fails = true}},        {"fails to write", {.write_fails = true}},
    {"fails to sync", {.sync_fails = true}},        {"is full", {.full = true}},
    {"is slow", {.latency_ns = 50 * IO_NS_PER_MS}}, {"hangs", {.latency_ns = 3 * IO_NS_PER_S}},
};
enum { DRIVE_FAULT_COUNT = sizeof drive_faults / sizeof drive_faults[0] };

/* False: nothing may be hurt now. */
static bool strike(struct world *world)
{
    static const char *const parts[] = {"", "/segments", "/meta"};
    struct drive_place *drive = choose_victim(world);
    if (drive == NULL)
        return false;
    uint64_t kind = draw(world, DRIVE_FAULT_COUNT + (world->bucket_made ? 3 : 0));
    if (kind < DRIVE_FAULT_COUNT) {
        AUTO_STRING prefix = mem_format("%s%s", drive->directory, parts[draw(world, 3)]);
        struct sim_fault fault = drive_faults[kind].fault;
        fault.prefix = prefix;
        note_hurt(world, drive, drive_faults[kind].name);
        sim_set_fault(world->machine, &fault);
    } else if (kind == DRIVE_FAULT_COUNT) {
        note_hurt(world, drive, "is pulled");
        pull(world, drive);
    } else {
        note_hurt(world, drive, "is emptied");
        empty(world, drive);
    }
    return true;
}

void drives_hurt_while_running(struct world *world, uint64_t life_events, uint64_t until_ns)
{
    for (unsigned strikes = 1 + (unsigned)draw(world, 2); strikes > 0; strikes--) {
        run_until(world, draw(world, life_events), until_ns);
        if (world->ended || !strike(world))
            break;
        run_until(world, draw(world, 2) == 0 ? draw(world, 100) : draw(world, life_events),
                  until_ns);
        if (draw(world, 2) == 0)
            sim_clear_faults(world->machine);
    }
    run_until(world, draw(world, life_events), until_ns);
}

/* --- whole again --- */

static unsigned find_place(const struct world *world, const struct drive_status *drives,
                           uint32_t count, const uint8_t id[16])
{
    for (uint32_t k = 0; k < count; k++) {
        for (unsigned i = 0; i < world->drive_count; i++) {
            if (memcmp(drives[k].id.bytes, id, 16) == 0 &&
                strcmp(drives[k].directory, world->drives[i].directory) == 0)
                return i;
        }
    }
    return world->drive_count;
}

void drives_note_voter(struct io *io, struct world *world)
{
    struct drive_status drives[STORAGE_DRIVES_MAX];
    struct meta_group_status *meta = mem_new(struct meta_group_status);
    uint32_t count = storage_drives(io, node_storage(world->node), drives, STORAGE_DRIVES_MAX);
    meta_group_status(io, node_meta(world->node), meta);
    for (uint32_t i = 0; i < meta->replica_count && count <= STORAGE_DRIVES_MAX; i++) {
        if (meta->replicas[i].id != 0 && meta->replicas[i].id == meta->leader)
            world->voter = find_place(world, drives, count, meta->replicas[i].drive);
    }
    mem_free(meta);
}

static int64_t gauge(const struct world *world, const char *name)
{
    return gauge_value(metrics_gauge(world->metrics, name, NULL, ""));
}

/* What is not whole, or NULL. */
static const char *find_wound(struct io *io, struct world *world)
{
    static const char *const gauges[] = {"shale_blocks_degraded", "shale_blocks_unreadable",
                                         "shale_volumes_repairing", "shale_repair_queue",
                                         "shale_voters_missing"};
    struct drive_status drives[STORAGE_DRIVES_MAX];
    uint32_t count = storage_drives(io, node_storage(world->node), drives, STORAGE_DRIVES_MAX);
    if (count != world->drive_count)
        return "the number of drives";
    for (uint32_t i = 0; i < count; i++) {
        if (drives[i].state != DRIVE_STATE_OK)
            return drive_state_text(drives[i].state);
    }
    for (unsigned i = 0; i < sizeof gauges / sizeof gauges[0]; i++) {
        if (gauge(world, gauges[i]) != 0)
            return gauges[i];
    }
    struct meta_group_status *meta = mem_new(struct meta_group_status);
    meta_group_status(io, node_meta(world->node), meta);
    bool all = meta->voters == meta->voters_wanted && meta->voters_missing == 0 &&
               meta->learners == (world->drive_count == 2) && !meta->read_only;
    mem_free(meta);
    return all ? NULL : "the replicas of the metadata";
}

static void wait_until_whole(struct io *io, struct world *world)
{
    unsigned good = 0;
    const char *wound = NULL;
    for (unsigned i = 0; good < WHOLE_SECONDS; i++) {
        if (io_sleep_ms(io, 1000) != OK)
            return;
        wound = find_wound(io, world);
        good = wound == NULL ? good + 1 : 0;
        if (i == MEND_SECONDS)
            die(world, "does not become whole", wound);
    }
}

static bool scrub_runs(struct io *io, struct world *world)
{
    struct scrub_status scrub[STORAGE_DRIVES_MAX];
    uint32_t count = storage_scrub_state(io, node_storage(world->node), scrub, STORAGE_DRIVES_MAX);
    bool runs = false;
    for (uint32_t i = 0; i < count; i++)
        runs = runs || scrub[i].running;
    return runs;
}

void drives_become_whole(struct io *io, struct world *world)
{
    wait_until_whole(io, world);
    if (io_canceled(io))
        return;
    (void)storage_scrub(io, node_storage(world->node)); /* only reads: nothing to wait for */
    for (unsigned i = 0; scrub_runs(io, world); i++) {
        if (io_sleep_ms(io, 1000) != OK)
            return;
        if (i == MEND_SECONDS)
            die(world, "scrub does not end", "");
    }
    wait_until_whole(io, world);
    if (io_canceled(io))
        return;
    for (unsigned i = 0; i < world->drive_count; i++)
        world->drives[i].hurt = false;
    world->mended++;
}

/* --- audit --- */

static uint64_t count_blocks(struct io *io, struct world *world, struct meta_client *meta,
                             uint64_t volume)
{
    uint64_t count = 0;
    uint64_t from = 0;
    for (bool more = true; more;) {
        AUTO(block_page) page = NULL;
        if (meta_volume_blocks(io, meta, volume, from, BLOCKS_PAGE, &page) != OK)
            die(world, "blocks are not listed", "");
        count += page->count;
        more = page->truncated;
        if (more)
            from = page->blocks[page->count - 1].id.sequence + 1;
    }
    return count;
}

/* Of the blocks that the metadata names, with all their shards. */
static uint64_t count_wanted(struct io *io, struct world *world, uint64_t *out_blocks)
{
    uint64_t records = 0;
    struct meta_client *meta = meta_client_new(node_meta(world->node));
    AUTO(volume_page) volumes = NULL;
    if (meta_volume_list(io, meta, &volumes) != OK)
        die(world, "volumes are not listed", "");
    *out_blocks = 0;
    for (uint32_t i = 0; i < volumes->count; i++) {
        const struct volume *volume = &volumes->volumes[i];
        uint64_t blocks = count_blocks(io, world, meta, volume->id);
        *out_blocks += blocks;
        records += blocks * (volume->data_shards + volume->parity_shards);
    }
    meta_client_free(meta);
    return records;
}

static uint64_t count_records(struct io *io, struct world *world)
{
    struct drive_status drives[STORAGE_DRIVES_MAX];
    uint32_t count = storage_drives(io, node_storage(world->node), drives, STORAGE_DRIVES_MAX);
    uint64_t records = 0;
    if (count != world->drive_count)
        die(world, "drive is not there", "");
    for (uint32_t i = 0; i < count; i++) {
        if (drives[i].fenced)
            die(world, "drive is fenced", drives[i].directory);
        records += drives[i].record_count;
    }
    return records;
}

static bool states_agree(const struct meta_group_status *meta)
{
    for (uint32_t i = 0; i < meta->replica_count; i++) {
        const struct meta_replica_status *replica = &meta->replicas[i];
        if (replica->id != 0 && !replica->failed && replica->applied != meta->applied)
            return false;
    }
    return true;
}

static void compare_replicas(struct io *io, struct world *world)
{
    struct meta_group_status *meta = mem_new(struct meta_group_status);
    meta_group_status(io, node_meta(world->node), meta);
    for (unsigned i = 0; !states_agree(meta); i++) {
        if (i == SETTLE_SECONDS)
            die(world, "replica stays behind", "");
        (void)io_sleep_ms(io, 1000); /* never canceled here */
        meta_group_status(io, node_meta(world->node), meta);
    }
    uint64_t hash = 0;
    for (uint32_t i = 0; i < meta->replica_count; i++) {
        const struct meta_replica_status *replica = &meta->replicas[i];
        if (replica->id == 0)
            continue;
        if (replica->failed)
            die(world, "replica failed", "");
        if (hash != 0 && replica->state_hash != hash)
            die(world, "states of replicas differ", "");
        hash = replica->state_hash;
    }
    mem_free(meta);
}

void drives_audit(struct io *io, struct world *world, uint64_t blocks)
{
    uint64_t wanted = blocks;
    if (world->drive_count > 1) {
        uint64_t named = 0;
        wanted = count_wanted(io, world, &named);
        if (named != blocks) {
            fprintf(stderr, "sim_node: blocks named=%llu wanted=%llu\n", (unsigned long long)named,
                    (unsigned long long)blocks);
            die(world, "blocks that no object needs, or lost ones", "");
        }
        compare_replicas(io, world);
    }
    uint64_t records = count_records(io, world);
    if (records != wanted) {
        fprintf(stderr, "sim_node: records=%llu wanted=%llu\n", (unsigned long long)records,
                (unsigned long long)wanted);
        die(world, "orphans, or records lost", "");
    }
}
