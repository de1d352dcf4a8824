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

enum err apply_drive_register(struct change *change, const struct command_drive *command)
{
    struct row_key key = drive_key(&command->drive);
    struct drive_row row = {.node_id = command->node_id, .capacity_bytes = command->capacity_bytes};
    CHANGE_WRITE(change, &key, drive_row, &row);
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
            if (memcmp(&command->slots[i], &command->slots[j], sizeof command->slots[i]) == 0)
                return FAIL(ERR_INVALID, "volume with a drive in two slots");
        struct row_key key = drive_key(&command->slots[i]);
        enum err err = change_has(change, &key);
        if (err != OK)
            return err == ERR_NOT_FOUND ? FAIL(ERR_INVALID, "volume on an unknown drive") : err;
    }
    return OK;
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
    struct row_key key = row_key_1(TABLE_VOLUME, row.volume.id);
    CHANGE_WRITE(change, &key, volume_row, &row);
    result->kind = RESULT_VOLUME;
    result->volume = row.volume;
    return OK;
}

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
