/* The rest of the cluster role: identities, drives, volumes, leases. */
#include "apply.h"
#include <inttypes.h>

/* The root identity is the one that the root row names. When it moves, the former one ends: its
 * keys were replaced. */
enum err apply_identity_put(struct change *change, const struct identity *command)
{
    struct slice access_key = slice_of_text(command->access_key);
    if (access_key.bytes == 0 || command->secret_key[0] == '\0')
        return FAIL(ERR_INVALID, "identity without keys");
    struct row_key root = row_key_table(TABLE_ROOT);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct slice former = {0};
    enum err err = change_get(change, &root, &value);
    if (err == OK)
        err = change_check(change, bytes_row_decode(bytes_slice(&value), &former));
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    if (command->root) {
        if (former.bytes > 0 && !slice_equal(former, access_key)) {
            struct row_key old = row_key_bytes(TABLE_IDENTITY, former);
            change_delete(change, &old);
        }
        CHANGE_WRITE(change, &root, bytes_row, access_key);
    }
    struct row_key key = row_key_bytes(TABLE_IDENTITY, access_key);
    struct identity_row row = {.secret_key = slice_of_text(command->secret_key)};
    CHANGE_WRITE(change, &key, identity_row, &row);
    return OK;
}

static struct row_key drive_key(const struct drive_id *drive)
{
    return row_key_bytes(TABLE_DRIVE, slice_of(drive->bytes, sizeof drive->bytes));
}

static enum err drive_read(struct change *change, const struct drive_id *drive,
                           struct drive_row *out_row)
{
    struct row_key key = drive_key(drive);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    return CHANGE_READ(change, &key, drive_row, &value, out_row);
}

/* Each open of a drive raises its counter, so a counter that does not grow is that of a copy which
 * missed what happened since. */
enum err apply_drive_register(struct change *change, const struct drive_record *command)
{
    struct row_key key = drive_key(&command->id);
    struct drive_row former = {.standing = DRIVE_IN_SERVICE};
    enum err err = drive_read(change, &command->id, &former);
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    bool same = command->mount_counter == former.mount_counter && command->boot == former.boot;
    if (err == OK && !same && command->mount_counter <= former.mount_counter)
        return FAIL(ERR_STALE, "older copy of a drive counter=%" PRIu64 " seen=%" PRIu64,
                    command->mount_counter, former.mount_counter);
    struct drive_row row = {.node_id = command->node_id,
                            .capacity_bytes = command->capacity_bytes,
                            .mount_counter = command->mount_counter,
                            .boot = command->boot,
                            .standing =
                                former.standing == DRIVE_LOST ? DRIVE_IN_SERVICE : former.standing};
    CHANGE_WRITE(change, &key, drive_row, &row);
    return OK;
}

enum err apply_drive_standing(struct change *change, const struct drive_record *command)
{
    struct row_key key = drive_key(&command->id);
    struct drive_row row;
    if (command->standing == 0)
        return FAIL(ERR_INVALID, "drive without a standing");
    TRY(drive_read(change, &command->id, &row));
    row.standing = command->standing;
    CHANGE_WRITE(change, &key, drive_row, &row);
    return OK;
}

static unsigned volume_slots(const struct volume *volume)
{
    return (unsigned)volume->data_shards + volume->parity_shards;
}

/* In a slot, or on the way to one. */
static bool volume_names(const struct volume *volume, const struct drive_id *drive)
{
    bool names = false;
    for (unsigned slot = 0; slot < volume_slots(volume); slot++) {
        bool moves = (volume->repair.slots >> slot & 1) != 0;
        names = names || drive_id_equal(&volume->slots[slot], drive) ||
                (moves && drive_id_equal(&volume->repair.drives[slot], drive));
    }
    return names;
}

enum err apply_drive_forget(struct change *change, const struct drive_record *command)
{
    struct row_key key = drive_key(&command->id);
    struct drive_row row;
    enum err err = drive_read(change, &command->id, &row);
    if (err == ERR_NOT_FOUND)
        return OK;
    TRY(err);
    if (row.standing != DRIVE_LOST)
        return FAIL(ERR_NOT_EMPTY, "drive is in service");
    struct row_key prefix = row_key_table(TABLE_VOLUME);
    struct change_scan scan;
    bool named = false;
    change_scan_init(&scan, change, &prefix);
    while (!named && change_scan_next(&scan)) {
        struct volume_row volume;
        if (change_check(change, volume_row_decode(scan.value, &volume)) != OK)
            break;
        named = volume_names(&volume.volume, &command->id);
    }
    change_scan_deinit(&scan);
    TRY(change->broken);
    if (named)
        return FAIL(ERR_NOT_EMPTY, "a volume has a slot on the drive");
    change_delete(change, &key);
    return OK;
}

/* Slots are on known, distinct drives (I25). */
static enum err slots_check(struct change *change, const struct command_volume *command)
{
    uint32_t slots = (uint32_t)command->data_shards + command->parity_shards;
    if (command->data_shards == 0 || slots > META_SHARDS_MAX)
        return FAIL(ERR_INVALID, "volume of %u slots", slots);
    for (uint32_t i = 0; i < slots; i++) {
        for (uint32_t j = 0; j < i; j++)
            if (drive_id_equal(&command->slots[i], &command->slots[j]))
                return FAIL(ERR_INVALID, "volume with a drive in two slots");
        struct drive_row row;
        enum err err = drive_read(change, &command->slots[i], &row);
        if (err != OK)
            return err == ERR_NOT_FOUND ? FAIL(ERR_INVALID, "volume on an unknown drive") : err;
    }
    return OK;
}

static void volume_write(struct change *change, const struct volume_row *row, struct result *result)
{
    struct row_key key = row_key_1(TABLE_VOLUME, row->volume.id);
    CHANGE_WRITE(change, &key, volume_row, row);
    result->kind = RESULT_VOLUME;
    result->volume = row->volume;
}

enum err apply_volume_create(struct change *change, const struct command_volume *command,
                             struct result *result)
{
    TRY(slots_check(change, command));
    struct volume_row row = {
        .volume = {.id = ++change->applied.volume_id,
                   .epoch = 1,
                   .state = VOLUME_OPEN,
                   .data_shards = command->data_shards,
                   .parity_shards = command->parity_shards},
    };
    memcpy(row.volume.slots, command->slots, sizeof row.volume.slots);
    for (unsigned slot = 0; slot < volume_slots(&row.volume); slot++)
        row.volume.slot_epochs[slot] = row.volume.epoch;
    volume_write(change, &row, result);
    return OK;
}

/* --- repair (CLUSTER.md C2.6) --- */

static enum err volume_read(struct change *change, uint64_t volume, struct volume_row *out_row)
{
    struct row_key key = row_key_1(TABLE_VOLUME, volume);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    return CHANGE_READ(change, &key, volume_row, &value, out_row);
}

/* Each drive is known, in service, and nowhere else in the volume (I25). */
static enum err targets_check(struct change *change, const struct volume *volume,
                              const struct command_repair *command)
{
    if (command->slots == 0 || command->slots >> volume_slots(volume) != 0)
        return FAIL(ERR_INVALID, "repair of slots that do not exist");
    for (unsigned slot = 0; slot < volume_slots(volume); slot++) {
        if ((command->slots >> slot & 1) == 0)
            continue;
        const struct drive_id *drive = &command->drives[slot];
        for (unsigned other = 0; other < volume_slots(volume); other++) {
            bool moves = (command->slots >> other & 1) != 0;
            if ((!moves && drive_id_equal(&volume->slots[other], drive)) ||
                (moves && other != slot && drive_id_equal(&command->drives[other], drive)))
                return FAIL(ERR_INVALID, "volume with a drive in two slots");
        }
        struct drive_row row;
        enum err err = drive_read(change, drive, &row);
        if (err == ERR_NOT_FOUND || (err == OK && row.standing != DRIVE_IN_SERVICE))
            return FAIL(ERR_INVALID, "repair to a drive that is not in service");
        TRY(err);
    }
    return OK;
}

enum err apply_repair_start(struct change *change, const struct command_repair *command,
                            struct result *result)
{
    struct volume_row row;
    TRY(volume_read(change, command->volume, &row));
    struct volume *volume = &row.volume;
    if (volume->repair.id != 0)
        return FAIL(ERR_BUSY, "volume=%" PRIu64 " is in repair", command->volume);
    TRY(targets_check(change, volume, command));
    volume->epoch++;
    volume->state = VOLUME_REPAIRING;
    volume->repair = (struct volume_repair){
        .id = change_stamp(change), .epoch = volume->epoch, .slots = command->slots};
    memcpy(volume->repair.drives, command->drives, sizeof volume->repair.drives);
    volume_write(change, &row, result);
    return OK;
}

static void repair_end(struct change *change, struct volume_row *row, struct result *result)
{
    row->volume.epoch++;
    row->volume.state = VOLUME_OPEN;
    row->volume.repair = (struct volume_repair){.id = 0};
    volume_write(change, row, result);
}

static enum err repair_read(struct change *change, const struct command_repair *command,
                            struct volume_row *out_row)
{
    TRY(volume_read(change, command->volume, out_row));
    if (command->repair == 0 || out_row->volume.repair.id != command->repair)
        return FAIL(ERR_STALE, "repair=%" PRIu64 " is not the volume's", command->repair);
    return OK;
}

/* While a lease is not closed a block may become live that the repair has not seen (I20). */
enum err apply_repair_done(struct change *change, const struct command_repair *command,
                           struct result *result)
{
    struct volume_row row;
    TRY(repair_read(change, command, &row));
    struct row_key leases = row_key_1(TABLE_LEASE, command->volume);
    bool closed = change_empty(change, &leases);
    TRY(change->broken);
    if (!closed)
        return FAIL(ERR_NOT_EMPTY, "volume=%" PRIu64 " has leases", command->volume);
    struct volume *volume = &row.volume;
    for (unsigned slot = 0; slot < volume_slots(volume); slot++) {
        if ((volume->repair.slots >> slot & 1) == 0)
            continue;
        volume->slots[slot] = volume->repair.drives[slot];
        volume->slot_epochs[slot] = volume->repair.epoch;
    }
    repair_end(change, &row, result);
    return OK;
}

enum err apply_repair_cancel(struct change *change, const struct command_repair *command,
                             struct result *result)
{
    struct volume_row row;
    TRY(repair_read(change, command, &row));
    repair_end(change, &row, result);
    return OK;
}

/* --- leases --- */

/* Leases of a volume are consecutive ranges of its sequences, never given twice (I18). */
enum err apply_lease_open(struct change *change, const struct command_lease *command,
                          struct result *result)
{
    struct row_key key = row_key_1(TABLE_VOLUME, command->volume);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct volume_row volume;
    enum err err = CHANGE_READ(change, &key, volume_row, &value, &volume);
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    if (err == ERR_NOT_FOUND || volume.volume.state != VOLUME_OPEN ||
        volume.next_sequence > UINT64_MAX - LEASE_SEQUENCES)
        return FAIL(ERR_STALE_EPOCH, "volume=%" PRIu64 " is not open", command->volume);
    struct lease lease = {.volume = command->volume,
                          .from = volume.next_sequence,
                          .to = volume.next_sequence + LEASE_SEQUENCES,
                          .epoch = volume.volume.epoch,
                          .data_shards = volume.volume.data_shards,
                          .parity_shards = volume.volume.parity_shards};
    volume.next_sequence = lease.to;
    CHANGE_WRITE(change, &key, volume_row, &volume);
    struct lease_row row = {.state = LEASE_OPEN,
                            .to = lease.to,
                            .epoch = lease.epoch,
                            .holder = command->holder,
                            .boot = command->boot};
    struct row_key lease_key = row_key_2(TABLE_LEASE, lease.volume, lease.from);
    CHANGE_WRITE(change, &lease_key, lease_row, &row);
    result->kind = RESULT_LEASE;
    result->lease = lease;
    return OK;
}

/* A lease without a row is closed: result kind RESULT_NOTHING, nothing is left to do. */
enum err apply_lease_closing(struct change *change, const struct command_lease *command,
                             struct result *result)
{
    struct row_key key = row_key_2(TABLE_LEASE, command->volume, command->from);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct lease_row row;
    enum err err = CHANGE_READ(change, &key, lease_row, &value, &row);
    if (err == ERR_NOT_FOUND)
        return OK;
    TRY(err);
    row.state = LEASE_CLOSING;
    CHANGE_WRITE(change, &key, lease_row, &row);
    result->kind = RESULT_LEASE;
    result->lease = (struct lease){
        .volume = command->volume, .from = command->from, .to = row.to, .epoch = row.epoch};
    return OK;
}

enum err apply_lease_closed(struct change *change, const struct command_lease *command)
{
    struct row_key key = row_key_2(TABLE_LEASE, command->volume, command->from);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct lease_row row;
    enum err err = CHANGE_READ(change, &key, lease_row, &value, &row);
    if (err == ERR_NOT_FOUND)
        return OK;
    TRY(err);
    if (row.state != LEASE_CLOSING)
        return FAIL(ERR_INVALID, "lease is not closing");
    change_delete(change, &key);
    return OK;
}
