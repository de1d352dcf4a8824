/* Blocks: which are referred to, by whom, and which are given up.
 *
 *     unwritten --(stage, put)--> live --(last reference dropped)--> free --(punched)--> gone
 *         \--(lease closed, nothing refers to it)--> never
 *
 * A block is live while it has a referrer row; the entry that drops the last one puts it on the
 * free list (I22). A block that nothing refers to can become live under an open lease only, so
 * once the object role refuses the lease it never will (I23). */
#include "apply.h"
#include <inttypes.h>

enum { INTENTS_DROPPED_PER_TICK = 8 };

/* --- closed leases --- */

/* Closed ranges of a volume, neighbours merged: key (volume, from), value to. */
static enum err closed_range(struct change *change, uint64_t volume, uint64_t sequence,
                             uint64_t *out_from, uint64_t *out_to)
{
    struct row_key prefix = row_key_1(TABLE_CLOSED, volume);
    struct row_key key = row_key_2(TABLE_CLOSED, volume, sequence);
    struct row_key found;
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    TRY(change_get_before(change, &prefix, &key, &found, &value));
    uint64_t numbers[2];
    TRY(change_check(change,
                     row_key_read_numbers(row_key_slice(&found), TABLE_CLOSED, 2, numbers)));
    TRY(change_check(change, number_row_decode(bytes_slice(&value), out_to)));
    *out_from = numbers[1];
    return OK;
}

enum err apply_lease_refuse(struct change *change, const struct command_lease *command)
{
    uint64_t from = command->from;
    uint64_t to = command->to;
    if (from >= to || to - from > LEASE_SEQUENCES)
        return FAIL(ERR_INVALID, "lease of %" PRIu64 "..%" PRIu64, from, to);
    uint64_t left_from = 0;
    uint64_t left_to = 0;
    enum err err = closed_range(change, command->volume, from, &left_from, &left_to);
    if (err == OK && left_to >= to)
        return OK;
    if (err == OK && left_to >= from)
        from = left_from;
    else if (err != OK && err != ERR_NOT_FOUND)
        return err;
    struct row_key right = row_key_2(TABLE_CLOSED, command->volume, to);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    err = CHANGE_READ(change, &right, number_row, &value, &to);
    if (err == OK)
        change_delete(change, &right);
    else if (err != ERR_NOT_FOUND)
        return err;
    struct row_key key = row_key_2(TABLE_CLOSED, command->volume, from);
    CHANGE_WRITE(change, &key, number_row, to);
    return OK;
}

/* The block may become live: its lease covers it and is not closed, and it was not written
 * before (I18). */
static enum err use_check(struct change *change, const struct block_use *use)
{
    struct block_id id = use->ref.id;
    bool covered = use->lease_from <= id.sequence && id.sequence < use->lease_to &&
                   use->lease_to - use->lease_from <= LEASE_SEQUENCES;
    if (!covered || id.volume == 0)
        return FAIL(ERR_STALE_EPOCH, "block is not of the lease it names");
    uint64_t from = 0;
    uint64_t to = 0;
    enum err err = closed_range(change, id.volume, id.sequence, &from, &to);
    if (err == OK && id.sequence < to)
        return FAIL(ERR_STALE_EPOCH, "lease is closed volume=%" PRIu64 " sequence=%" PRIu64,
                    id.volume, id.sequence);
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    struct row_key referrers = row_key_2(TABLE_REFERRER, id.volume, id.sequence);
    if (!change_empty(change, &referrers)) {
        TRY(change->broken);
        return FAIL(ERR_STALE_EPOCH, "block is in use");
    }
    return OK;
}

/* --- references --- */

static void reference_add(struct change *change, const struct block_ref *ref, uint64_t bucket_id,
                          struct slice key, struct referrer owner)
{
    struct row_key row_key = row_key_referrer(ref->id, owner);
    struct referrer_row row = {.bytes = ref->bytes,
                               .missing = ref->missing,
                               .hash = ref->hash,
                               .bucket_id = bucket_id,
                               .key = key};
    CHANGE_WRITE(change, &row_key, referrer_row, &row);
}

/* A block that becomes live with shards missing is first in the queue of repair. */
static void repair_add(struct change *change, const struct block_ref *ref)
{
    if (ref->missing == 0)
        return;
    struct row_key key = row_key_2(TABLE_REPAIR, ref->id.volume, ref->id.sequence);
    CHANGE_WRITE(change, &key, number_row, ref->missing);
}

static enum err reference_drop(struct change *change, const struct block_ref *ref,
                               struct referrer owner)
{
    struct block_id id = ref->id;
    struct row_key own = row_key_referrer(id, owner);
    change_delete(change, &own);
    struct row_key all = row_key_2(TABLE_REFERRER, id.volume, id.sequence);
    bool last = change_empty(change, &all);
    TRY(change->broken);
    if (last) {
        struct row_key free = row_key_1(TABLE_FREE, ++change->applied.free_position);
        CHANGE_WRITE(change, &free, block_id_row, id);
    }
    if (last && ref->missing != 0) {
        struct row_key repair = row_key_2(TABLE_REPAIR, id.volume, id.sequence);
        change_delete(change, &repair);
    }
    return OK;
}

enum err blocks_share(struct change *change, struct slice blocks, uint64_t bucket_id,
                      struct slice key, struct referrer owner)
{
    for (uint32_t i = 0; i < row_block_count(blocks); i++) {
        struct block_ref ref = row_block(blocks, i);
        reference_add(change, &ref, bucket_id, key, owner);
    }
    return change->broken;
}

enum err blocks_unlink(struct change *change, struct slice blocks, struct referrer owner)
{
    for (uint32_t i = 0; i < row_block_count(blocks); i++) {
        struct block_ref ref = row_block(blocks, i);
        TRY(reference_drop(change, &ref, owner));
    }
    return OK;
}

void blocks_encode(struct bytes *out, const struct command_put *command)
{
    for (uint32_t i = 0; i < command->use_count; i++) {
        uint8_t *at = bytes_extend(out, BLOCK_REF_BYTES);
        if (at != NULL)
            block_ref_store(at, &command->uses[i].ref);
    }
}

enum err put_check(const struct command_put *command)
{
    uint64_t bytes = command->inline_bytes.bytes;
    if (bytes > 0 && command->use_count > 0)
        return FAIL(ERR_INVALID, "put with bytes and blocks");
    for (uint32_t i = 0; i < command->use_count; i++) {
        const struct block_ref *ref = &command->uses[i].ref;
        if (ref->bytes == 0 || ref->bytes > META_BLOCK_BYTES_MAX)
            return FAIL(ERR_INVALID, "block of bytes=%u", ref->bytes);
        bytes += ref->bytes;
        for (uint32_t j = 0; j < i; j++)
            if (block_id_equal(ref->id, command->uses[j].ref.id))
                return FAIL(ERR_INVALID, "block named twice");
    }
    if (bytes != command->bytes)
        return FAIL(ERR_INVALID, "put bytes=%" PRIu64 " has=%" PRIu64, command->bytes, bytes);
    return OK;
}

/* --- intents: blocks of objects still being written (CLUSTER.md C2.3 W4b) --- */

static enum err intent_read(struct change *change, uint64_t intent, struct intent_row *out_row)
{
    struct row_key key = row_key_1(TABLE_INTENT, intent);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    enum err err = CHANGE_READ(change, &key, intent_row, &value, out_row);
    if (err == ERR_NOT_FOUND)
        return FAIL(ERR_STALE_EPOCH, "intent=%" PRIu64 " is gone", intent);
    return err;
}

enum err apply_block_stage(struct change *change, const struct command_stage *command,
                           struct result *result)
{
    uint64_t intent = command->intent;
    struct intent_row row = {.bucket_id = command->bucket_id};
    if (intent == 0) {
        if (change->applied.intent_count == INTENTS_MAX)
            return FAIL(ERR_BUSY, "intents open=%u", INTENTS_MAX);
        change->applied.intent_count++;
        intent = change_stamp(change);
    } else {
        TRY(intent_read(change, intent, &row));
    }
    if (row.block_count == META_OBJECT_BLOCKS_MAX)
        return FAIL(ERR_LIMIT, "intent of blocks=%u", row.block_count);
    TRY(use_check(change, &command->use));
    row.block_count++;
    row.renewed_ms = change->applied.clock_ms;
    struct row_key key = row_key_1(TABLE_INTENT, intent);
    CHANGE_WRITE(change, &key, intent_row, &row);
    const struct block_ref *ref = &command->use.ref;
    struct row_key block = row_key_3(TABLE_INTENT_BLOCK, intent, ref->id.volume, ref->id.sequence);
    CHANGE_WRITE(change, &block, block_row, ref);
    reference_add(change, ref, command->bucket_id, slice_of(NULL, 0),
                  (struct referrer){.kind = REFERRER_INTENT, .id = intent});
    repair_add(change, ref);
    result_stamp(result, intent, change->wall_ms);
    return OK;
}

/* The intent ends, and with it its claim on the blocks that are still its own. */
static enum err intent_end(struct change *change, uint64_t intent)
{
    struct row_key prefix = row_key_1(TABLE_INTENT_BLOCK, intent);
    struct referrer owner = {.kind = REFERRER_INTENT, .id = intent};
    struct change_scan scan;
    change_scan_init(&scan, change, &prefix);
    while (change_scan_next(&scan)) {
        struct block_ref ref;
        if (change_check(change, block_row_decode(scan.value, &ref)) != OK)
            break;
        change_delete_at(change, scan.key);
        if (reference_drop(change, &ref, owner) != OK)
            break;
    }
    change_scan_deinit(&scan);
    TRY(change->broken);
    struct row_key key = row_key_1(TABLE_INTENT, intent);
    change_delete(change, &key);
    change->applied.intent_count--;
    return OK;
}

enum err apply_intent_drop(struct change *change, uint64_t intent)
{
    struct intent_row row;
    enum err err = intent_read(change, intent, &row);
    if (err == ERR_STALE_EPOCH)
        return OK;
    TRY(err);
    return intent_end(change, intent);
}

enum err apply_intent_renew(struct change *change, uint64_t intent)
{
    struct intent_row row;
    TRY(intent_read(change, intent, &row));
    row.renewed_ms = change->applied.clock_ms;
    struct row_key key = row_key_1(TABLE_INTENT, intent);
    CHANGE_WRITE(change, &key, intent_row, &row);
    return OK;
}

enum err intents_expire(struct change *change)
{
    struct row_key prefix = row_key_table(TABLE_INTENT);
    struct change_scan scan;
    change_scan_init(&scan, change, &prefix);
    for (uint32_t dropped = 0; dropped < INTENTS_DROPPED_PER_TICK && change_scan_next(&scan);) {
        uint64_t intent = 0;
        struct intent_row row;
        if (change_check(change, row_key_read_numbers(scan.key, TABLE_INTENT, 1, &intent)) != OK ||
            change_check(change, intent_row_decode(scan.value, &row)) != OK)
            break;
        if (change->applied.clock_ms - row.renewed_ms < INTENT_IDLE_MS)
            continue;
        if (intent_end(change, intent) != OK)
            break;
        dropped++;
    }
    change_scan_deinit(&scan);
    return change->broken;
}

static enum err block_claim_new(struct change *change, const struct block_use *use)
{
    TRY(use_check(change, use));
    repair_add(change, &use->ref);
    return OK;
}

/* A block staged under `intent` passes to the owner; any other is new. */
static enum err block_claim(struct change *change, const struct block_use *use, uint64_t intent)
{
    if (intent == 0)
        return block_claim_new(change, use);
    struct block_id id = use->ref.id;
    struct row_key key = row_key_3(TABLE_INTENT_BLOCK, intent, id.volume, id.sequence);
    AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
    struct block_ref staged;
    enum err err = CHANGE_READ(change, &key, block_row, &value, &staged);
    if (err == ERR_NOT_FOUND)
        return block_claim_new(change, use);
    TRY(err);
    if (staged.bytes != use->ref.bytes || !hash128_equal(&staged.hash, &use->ref.hash))
        return FAIL(ERR_INVALID, "block differs from what was staged");
    change_delete(change, &key);
    struct row_key referrer =
        row_key_referrer(id, (struct referrer){.kind = REFERRER_INTENT, .id = intent});
    change_delete(change, &referrer);
    return OK;
}

enum err blocks_claim(struct change *change, const struct command_put *command,
                      struct referrer owner)
{
    if (command->intent != 0) {
        struct intent_row row;
        TRY(intent_read(change, command->intent, &row));
        if (row.bucket_id != command->bucket_id)
            return FAIL(ERR_STALE_EPOCH, "intent is of another bucket");
    }
    for (uint32_t i = 0; i < command->use_count; i++) {
        TRY(block_claim(change, &command->uses[i], command->intent));
        reference_add(change, &command->uses[i].ref, command->bucket_id, command->key, owner);
    }
    return command->intent == 0 ? OK : intent_end(change, command->intent);
}

enum err apply_blocks_repaired(struct change *change, const struct command_repaired *command)
{
    for (uint32_t i = 0; i < command->count; i++) {
        const struct block_ref *ref = &command->blocks[i];
        struct row_key key = row_key_2(TABLE_REPAIR, ref->id.volume, ref->id.sequence);
        AUTO_VALUE(bytes) value = {.max = ROW_VALUE_BYTES_MAX};
        uint64_t missing = 0;
        enum err err = CHANGE_READ(change, &key, number_row, &value, &missing);
        if (err == ERR_NOT_FOUND)
            continue;
        TRY(err);
        missing &= ~(uint64_t)ref->missing;
        if (missing == 0)
            change_delete(change, &key);
        else
            CHANGE_WRITE(change, &key, number_row, missing);
    }
    return OK;
}

enum err apply_free_done(struct change *change, const struct command_free_done *command)
{
    for (uint32_t i = 0; i < command->count; i++) {
        struct row_key key = row_key_1(TABLE_FREE, command->positions[i]);
        change_delete(change, &key);
    }
    return OK;
}
