/* Reads for the repair of volumes: drives, leases of a volume, blocks and what they miss. */
#include "read.h"

enum err state_drive_list(struct lane *lane, struct state *state, struct drive_page **out_page)
{
    AUTO(drive_page) page = mem_new(struct drive_page);
    uint32_t capacity = 0;
    struct row_key prefix = row_key_table(TABLE_DRIVE);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, NULL, &prefix);
    kv_iterator_seek(iterator, row_key_slice(&prefix));
    for (; kv_iterator_valid(iterator); kv_iterator_next(iterator)) {
        struct slice key = kv_iterator_key(iterator);
        struct drive_row row;
        struct drive_record drive;
        if (key.bytes != 1 + sizeof drive.id.bytes)
            return FAIL(ERR_CORRUPT, "drive key of bytes=%zu", key.bytes);
        TRY(drive_row_decode(kv_iterator_value(iterator), &row));
        drive = (struct drive_record){.node_id = row.node_id,
                                      .capacity_bytes = row.capacity_bytes,
                                      .mount_counter = row.mount_counter,
                                      .boot = row.boot,
                                      .standing = row.standing};
        memcpy(drive.id.bytes, key.data + 1, sizeof drive.id.bytes);
        READ_GROW(page->drives, page->count, capacity);
        page->drives[page->count++] = drive;
    }
    TRY(kv_iterator_error(iterator));
    *out_page = TAKE(page);
    return OK;
}

enum err state_lease_list(struct lane *lane, struct state *state, uint64_t volume, uint32_t max,
                          struct lease_found *out_leases, uint32_t *out_count)
{
    uint32_t count = 0;
    struct row_key prefix = row_key_1(TABLE_LEASE, volume);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, NULL, &prefix);
    kv_iterator_seek(iterator, row_key_slice(&prefix));
    for (; kv_iterator_valid(iterator) && count < max; kv_iterator_next(iterator)) {
        uint64_t numbers[2];
        struct lease_row row;
        TRY(row_key_read_numbers(kv_iterator_key(iterator), TABLE_LEASE, 2, numbers));
        TRY(lease_row_decode(kv_iterator_value(iterator), &row));
        out_leases[count++] =
            (struct lease_found){.volume = numbers[0], .from = numbers[1], .to = row.to};
    }
    TRY(kv_iterator_error(iterator));
    *out_count = count;
    return OK;
}

/* --- blocks --- */

static enum err missing_now(struct lane *lane, struct state *state, struct kv_snapshot *snapshot,
                            struct block_id id, uint32_t *out_missing)
{
    struct row_key key = row_key_2(TABLE_REPAIR, id.volume, id.sequence);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, snapshot, &key);
    kv_iterator_seek(iterator, row_key_slice(&key));
    uint64_t missing = 0;
    if (kv_iterator_valid(iterator))
        TRY(number_row_decode(kv_iterator_value(iterator), &missing));
    *out_missing = (uint32_t)missing;
    return kv_iterator_error(iterator);
}

/* The block of a referrer row. */
static enum err referred_block(struct slice key, struct slice value, struct block_ref *out_ref)
{
    struct decoder in = decoder_of(key);
    struct referrer_row row;
    TRY(referrer_row_decode(value, &row));
    (void)decode_key_u8(&in);
    out_ref->id.volume = decode_key_u64(&in);
    out_ref->id.sequence = decode_key_u64(&in);
    out_ref->bytes = row.bytes;
    out_ref->hash = row.hash;
    out_ref->missing = 0;
    return in.failed ? FAIL(ERR_CORRUPT, "referrer key") : OK;
}

enum err state_volume_blocks(struct lane *lane, struct state *state, uint64_t volume, uint64_t from,
                             uint32_t max, struct block_page **out_page)
{
    AUTO(block_page) page = mem_new(struct block_page);
    uint32_t capacity = 0;
    struct row_key prefix = row_key_1(TABLE_REFERRER, volume);
    struct row_key start = row_key_2(TABLE_REFERRER, volume, from);
    AUTO(kv_snapshot) snapshot = kv_snapshot_new(state_kv(state));
    AUTO(kv_iterator) iterator = read_prefix(lane, state, snapshot, &prefix);
    kv_iterator_seek(iterator, row_key_slice(&start));
    for (; kv_iterator_valid(iterator); kv_iterator_next(iterator)) {
        struct block_ref ref;
        TRY(referred_block(kv_iterator_key(iterator), kv_iterator_value(iterator), &ref));
        if (page->count > 0 && block_id_equal(page->blocks[page->count - 1].id, ref.id))
            continue; /* another referrer of the same block */
        if (page->count == max) {
            page->truncated = true;
            break;
        }
        TRY(missing_now(lane, state, snapshot, ref.id, &ref.missing));
        READ_GROW(page->blocks, page->count, capacity);
        page->blocks[page->count++] = ref;
    }
    TRY(kv_iterator_error(iterator));
    *out_page = TAKE(page);
    return OK;
}

static enum err find_block(struct lane *lane, struct state *state, struct kv_snapshot *snapshot,
                           struct block_id id, struct block_ref *out_ref)
{
    struct row_key prefix = row_key_2(TABLE_REFERRER, id.volume, id.sequence);
    AUTO(kv_iterator) iterator = read_prefix(lane, state, snapshot, &prefix);
    kv_iterator_seek(iterator, row_key_slice(&prefix));
    *out_ref = (struct block_ref){.id = id};
    if (kv_iterator_valid(iterator))
        TRY(referred_block(kv_iterator_key(iterator), kv_iterator_value(iterator), out_ref));
    return kv_iterator_error(iterator);
}

enum err state_block_find(struct lane *lane, struct state *state, const struct block_id *ids,
                          uint32_t count, struct block_ref *out_refs)
{
    AUTO(kv_snapshot) snapshot = kv_snapshot_new(state_kv(state));
    for (uint32_t i = 0; i < count; i++) {
        TRY(find_block(lane, state, snapshot, ids[i], &out_refs[i]));
        TRY(missing_now(lane, state, snapshot, ids[i], &out_refs[i].missing));
    }
    return OK;
}

enum err state_repair_list(struct lane *lane, struct state *state, struct block_id from,
                           uint32_t max, struct block_page **out_page)
{
    AUTO(block_page) page = mem_new(struct block_page);
    uint32_t capacity = 0;
    struct row_key prefix = row_key_table(TABLE_REPAIR);
    struct row_key start = row_key_2(TABLE_REPAIR, from.volume, from.sequence);
    AUTO(kv_snapshot) snapshot = kv_snapshot_new(state_kv(state));
    AUTO(kv_iterator) iterator = read_prefix(lane, state, snapshot, &prefix);
    kv_iterator_seek(iterator, row_key_slice(&start));
    for (; kv_iterator_valid(iterator); kv_iterator_next(iterator)) {
        uint64_t numbers[2];
        uint64_t missing = 0;
        struct block_ref ref;
        if (page->count == max) {
            page->truncated = true;
            break;
        }
        TRY(row_key_read_numbers(kv_iterator_key(iterator), TABLE_REPAIR, 2, numbers));
        TRY(number_row_decode(kv_iterator_value(iterator), &missing));
        TRY(find_block(lane, state, snapshot, (struct block_id){numbers[0], numbers[1]}, &ref));
        ref.missing = (uint32_t)missing;
        READ_GROW(page->blocks, page->count, capacity);
        page->blocks[page->count++] = ref;
    }
    TRY(kv_iterator_error(iterator));
    *out_page = TAKE(page);
    return OK;
}
