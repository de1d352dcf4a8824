/* Keys and values of the tables. */
#include "rows.h"
#include <assert.h>

/* --- keys --- */

static void key_append(struct row_key *key, const void *data, size_t bytes)
{
    assert(bytes <= sizeof key->data - key->bytes);
    if (bytes > 0)
        memcpy(key->data + key->bytes, data, bytes);
    key->bytes += bytes;
}

static void key_append_u64(struct row_key *key, uint64_t value)
{
    uint64_t big = __builtin_bswap64(value);
    key_append(key, &big, sizeof big);
}

static struct row_key key_of(enum row_table table)
{
    struct row_key key;
    key.bytes = 1;
    key.data[0] = (uint8_t)table;
    return key;
}

struct row_key row_key_numbers(enum row_table table, unsigned count, uint64_t a, uint64_t b,
                               uint64_t c)
{
    assert(count <= 3);
    struct row_key key = key_of(table);
    const uint64_t numbers[3] = {a, b, c};
    for (unsigned i = 0; i < count; i++)
        key_append_u64(&key, numbers[i]);
    return key;
}

struct row_key row_key_bytes(enum row_table table, struct slice bytes)
{
    struct row_key key = key_of(table);
    key_append(&key, bytes.data, bytes.bytes);
    return key;
}

struct row_key row_key_name_prefix(enum row_table table, uint64_t bucket_id, struct slice prefix)
{
    struct row_key key = row_key_1(table, bucket_id);
    key_append(&key, prefix.data, prefix.bytes);
    return key;
}

struct row_key row_key_bucket_config(uint64_t bucket_id, enum bucket_config_kind kind)
{
    struct row_key key = row_key_1(TABLE_BUCKET_CONFIG, bucket_id);
    uint8_t byte = (uint8_t)kind;
    key_append(&key, &byte, 1);
    return key;
}

struct row_key row_key_current(uint64_t bucket_id, struct slice name)
{
    struct row_key key = row_key_name_prefix(TABLE_CURRENT, bucket_id, name);
    key_append(&key, "", 1);
    return key;
}

struct row_key row_key_upload(uint64_t bucket_id, struct slice name, uint64_t upload_id)
{
    struct row_key key = row_key_name_prefix(TABLE_UPLOAD, bucket_id, name);
    key_append(&key, "", 1);
    key_append_u64(&key, upload_id);
    return key;
}

struct row_key row_key_part(uint64_t upload_id, uint32_t number)
{
    struct row_key key = row_key_1(TABLE_PART, upload_id);
    uint32_t big = __builtin_bswap32(number);
    key_append(&key, &big, sizeof big);
    return key;
}

struct row_key row_key_referrer(struct block_id block, struct referrer referrer)
{
    struct row_key key = row_key_2(TABLE_REFERRER, block.volume, block.sequence);
    uint8_t kind = (uint8_t)referrer.kind;
    key_append(&key, &kind, 1);
    key_append_u64(&key, referrer.id);
    return key;
}

void row_key_next_prefix(struct row_key *key)
{
    while (key->data[key->bytes - 1] == 0xff) {
        key->bytes--;
        assert(key->bytes > 0); /* no table has the tag 0xff */
    }
    key->data[key->bytes - 1]++;
}

enum err row_key_read_numbers(struct slice key, enum row_table table, unsigned count,
                              uint64_t *out_numbers)
{
    struct decoder in = decoder_of(key);
    if (decode_key_u8(&in) != table)
        return FAIL(ERR_CORRUPT, "row key of another table");
    for (unsigned i = 0; i < count; i++)
        out_numbers[i] = decode_key_u64(&in);
    return decode_finish(&in, "row key");
}

enum err row_key_read_name(struct slice key, enum row_table table, struct slice *out_name,
                           uint64_t *out_upload_id)
{
    struct decoder in = decoder_of(key);
    if (decode_key_u8(&in) != table)
        return FAIL(ERR_CORRUPT, "row key of another table");
    (void)decode_key_u64(&in);
    *out_name = decode_raw(&in, slice_find(in.rest, 0));
    if (decode_key_u8(&in) != 0)
        return FAIL(ERR_CORRUPT, "row key without its end");
    if (out_upload_id != NULL)
        *out_upload_id = decode_key_u64(&in);
    return decode_finish(&in, "row key");
}

enum err row_key_read_part(struct slice key, uint32_t *out_number)
{
    struct decoder in = decoder_of(key);
    if (decode_key_u8(&in) != TABLE_PART)
        return FAIL(ERR_CORRUPT, "row key of another table");
    (void)decode_key_u64(&in);
    *out_number = decode_key_u32(&in);
    return decode_finish(&in, "part key");
}

/* --- values --- */

static void walk_applied_row(struct codec *codec, struct applied_row *row)
{
    codec_u64(codec, &row->index);
    codec_u64(codec, &row->term);
    codec_u64(codec, &row->hash);
    codec_u64(codec, &row->tick_ms);
    codec_u64(codec, &row->clock_ms);
    codec_u64(codec, &row->stamp);
    codec_u64(codec, &row->bucket_id);
    codec_u64(codec, &row->volume_id);
    codec_u64(codec, &row->free_position);
    codec_u64(codec, &row->intent_count);
}

static void walk_session_row(struct codec *codec, struct session_row *row)
{
    codec_u64(codec, &row->holder);
    codec_u64(codec, &row->boot);
    codec_number(codec, &row->clock_ms, UINT64_MAX);
}

static void walk_result_row(struct codec *codec, struct result_row *row)
{
    codec_number(codec, &row->done_below, UINT64_MAX);
    codec_number(codec, &row->clock_ms, UINT64_MAX);
    codec_slice(codec, &row->result, ROW_VALUE_BYTES_MAX);
}

static void walk_bucket_row(struct codec *codec, struct bucket_row *row)
{
    CODEC_NUMBER(codec, row->state, BUCKET_DELETING);
    codec_number(codec, &row->attempt, UINT64_MAX);
    codec_number(codec, &row->bucket.id, UINT64_MAX);
    codec_number(codec, &row->bucket.created_ms, UINT64_MAX);
    codec_number(codec, &row->bucket.group, UINT64_MAX);
    codec_text(codec, row->bucket.name, sizeof row->bucket.name);
    codec_text(codec, row->bucket.owner, sizeof row->bucket.owner);
    codec_text(codec, row->bucket.region, sizeof row->bucket.region);
    if (codec_reading(codec) && row->state == 0)
        codec_fail(codec);
}

static void walk_bucket_open_row(struct codec *codec, struct bucket_open_row *row)
{
    CODEC_NUMBER(codec, row->open, 1);
    codec_number(codec, &row->attempt, UINT64_MAX);
}

static void walk_identity_row(struct codec *codec, struct identity_row *row)
{
    codec_slice(codec, &row->secret_key, 128);
}

static void walk_drive_row(struct codec *codec, struct drive_row *row)
{
    codec_u64(codec, &row->node_id);
    codec_number(codec, &row->capacity_bytes, UINT64_MAX);
    codec_number(codec, &row->mount_counter, UINT64_MAX);
    codec_u64(codec, &row->boot);
    CODEC_NUMBER(codec, row->standing, DRIVE_LOST);
    if (codec_reading(codec) && row->standing == 0)
        codec_fail(codec);
}

static void walk_volume_row(struct codec *codec, struct volume_row *row)
{
    codec_number(codec, &row->next_sequence, UINT64_MAX);
    codec_volume(codec, &row->volume);
}

static void walk_lease_row(struct codec *codec, struct lease_row *row)
{
    CODEC_NUMBER(codec, row->state, LEASE_CLOSING);
    codec_number(codec, &row->to, UINT64_MAX);
    codec_number(codec, &row->epoch, UINT64_MAX);
    codec_u64(codec, &row->holder);
    codec_u64(codec, &row->boot);
}

static void walk_blocks(struct codec *codec, struct slice *blocks)
{
    codec_slice(codec, blocks, (size_t)META_OBJECT_BLOCKS_MAX * BLOCK_REF_BYTES);
    if (codec_reading(codec) && blocks->bytes % BLOCK_REF_BYTES != 0)
        codec_fail(codec);
}

static void walk_version_head(struct codec *codec, struct version_row *row)
{
    codec_number(codec, &row->stamp, UINT64_MAX);
    codec_number(codec, &row->modified_ms, UINT64_MAX);
    codec_number(codec, &row->bytes, UINT64_MAX);
    codec_etag(codec, &row->etag);
    codec_checksum(codec, &row->checksum);
}

static void walk_version_row(struct codec *codec, struct version_row *row)
{
    walk_version_head(codec, row);
    CODEC_NUMBER(codec, row->layout, LAYOUT_PARTS);
    codec_number(codec, &row->origin_session, UINT64_MAX);
    codec_number(codec, &row->origin_sequence, UINT64_MAX);
    codec_number(codec, &row->upload_id, UINT64_MAX);
    codec_number(codec, &row->manifest, UINT64_MAX);
    codec_number(codec, &row->write_id.volume, UINT64_MAX);
    codec_number(codec, &row->write_id.sequence, UINT64_MAX);
    codec_slice(codec, &row->attributes, META_ATTRIBUTES_BYTES_MAX);
    codec_slice(codec, &row->tags, META_TAGS_BYTES_MAX);
    walk_blocks(codec, &row->blocks);
    if (codec_reading(codec) && row->layout == 0)
        codec_fail(codec);
}

static void walk_upload_row(struct codec *codec, struct upload_row *row)
{
    codec_number(codec, &row->created_ms, UINT64_MAX);
    CODEC_NUMBER(codec, row->checksum_algorithm, UINT8_MAX);
    CODEC_NUMBER(codec, row->checksum_type, UINT8_MAX);
    codec_slice(codec, &row->attributes, META_ATTRIBUTES_BYTES_MAX);
    codec_slice(codec, &row->tags, META_TAGS_BYTES_MAX);
}

static void walk_part(struct codec *codec, struct part *part)
{
    CODEC_NUMBER(codec, part->number, META_PARTS_MAX);
    codec_number(codec, &part->id, UINT64_MAX);
    codec_number(codec, &part->bytes, UINT64_MAX);
    codec_number(codec, &part->modified_ms, UINT64_MAX);
    codec_etag(codec, &part->etag);
    codec_checksum(codec, &part->checksum);
}

static void walk_part_row(struct codec *codec, struct part_row *row)
{
    walk_part(codec, &row->part);
    walk_blocks(codec, &row->blocks);
}

static void walk_manifest_row(struct codec *codec, struct manifest_row *row)
{
    codec_count(codec, &row->count, MANIFEST_SEGMENT_PARTS, 16);
    for (uint32_t i = 0; i < row->count; i++)
        walk_part(codec, &row->parts[i]);
}

static void walk_referrer_row(struct codec *codec, struct referrer_row *row)
{
    CODEC_NUMBER(codec, row->bytes, META_BLOCK_BYTES_MAX);
    CODEC_NUMBER(codec, row->missing, UINT32_MAX);
    codec_raw(codec, row->hash.bytes, sizeof row->hash.bytes);
    codec_number(codec, &row->bucket_id, UINT64_MAX);
    codec_slice(codec, &row->key, META_KEY_BYTES_MAX);
}

static void walk_intent_row(struct codec *codec, struct intent_row *row)
{
    codec_number(codec, &row->bucket_id, UINT64_MAX);
    codec_number(codec, &row->renewed_ms, UINT64_MAX);
    CODEC_NUMBER(codec, row->block_count, META_OBJECT_BLOCKS_MAX);
}

static void walk_job_row(struct codec *codec, struct job_row *row)
{
    CODEC_NUMBER(codec, row->kind, JOB_UPLOADS);
    codec_number(codec, &row->id, UINT64_MAX);
    CODEC_NUMBER(codec, row->cursor, META_PARTS_MAX);
    codec_slice(codec, &row->kept, META_PARTS_MAX / 8 + 1);
    bool has_bits = row->kind == JOB_LEFTOVER;
    if (codec_reading(codec) && (row->kind == 0 || has_bits != (row->kept.bytes > 0)))
        codec_fail(codec);
}

/* The writer walks a copy, because a walk may set fields. */
#define DEFINE_ROW(type)                                                                           \
    void type##_encode(struct bytes *out, const struct type *row)                                  \
    {                                                                                              \
        struct type copy = *row;                                                                   \
        struct codec codec = codec_writer(out);                                                    \
        codec_version(&codec, ROW_VERSION);                                                        \
        walk_##type(&codec, &copy);                                                                \
    }                                                                                              \
    enum err type##_decode(struct slice value, struct type *out_row)                               \
    {                                                                                              \
        *out_row = (struct type){0};                                                               \
        struct codec codec = codec_reader(value);                                                  \
        codec_version(&codec, ROW_VERSION);                                                        \
        walk_##type(&codec, out_row);                                                              \
        return codec_finish(&codec, #type);                                                        \
    }
ROW_TYPES(DEFINE_ROW)

enum err version_row_decode_head(struct slice value, struct version_row *out_row)
{
    *out_row = (struct version_row){0};
    struct codec codec = codec_reader(value);
    codec_version(&codec, ROW_VERSION);
    walk_version_head(&codec, out_row);
    codec.in.rest = slice_of(NULL, 0);
    return codec_finish(&codec, "version_row");
}

void block_row_encode(struct bytes *out, const struct block_ref *ref)
{
    struct block_ref copy = *ref;
    struct codec codec = codec_writer(out);
    codec_version(&codec, ROW_VERSION);
    codec_block_ref(&codec, &copy);
}

enum err block_row_decode(struct slice value, struct block_ref *out_ref)
{
    struct codec codec = codec_reader(value);
    codec_version(&codec, ROW_VERSION);
    codec_block_ref(&codec, out_ref);
    return codec_finish(&codec, "block row");
}

void block_id_row_encode(struct bytes *out, struct block_id id)
{
    struct codec codec = codec_writer(out);
    codec_version(&codec, ROW_VERSION);
    codec_u64(&codec, &id.volume);
    codec_u64(&codec, &id.sequence);
}

enum err block_id_row_decode(struct slice value, struct block_id *out_id)
{
    struct codec codec = codec_reader(value);
    codec_version(&codec, ROW_VERSION);
    codec_u64(&codec, &out_id->volume);
    codec_u64(&codec, &out_id->sequence);
    return codec_finish(&codec, "block id row");
}

void number_row_encode(struct bytes *out, uint64_t number)
{
    struct codec codec = codec_writer(out);
    codec_version(&codec, ROW_VERSION);
    codec_number(&codec, &number, UINT64_MAX);
}

enum err number_row_decode(struct slice value, uint64_t *out_number)
{
    struct codec codec = codec_reader(value);
    codec_version(&codec, ROW_VERSION);
    codec_number(&codec, out_number, UINT64_MAX);
    return codec_finish(&codec, "number row");
}

void bytes_row_encode(struct bytes *out, struct slice bytes)
{
    encode_u8(out, ROW_VERSION);
    encode_raw(out, bytes);
}

enum err bytes_row_decode(struct slice value, struct slice *out_bytes)
{
    if (value.bytes == 0)
        return FAIL(ERR_CORRUPT, "bytes row: empty");
    if (value.data[0] != ROW_VERSION)
        return FAIL(ERR_UNSUPPORTED, "bytes row: version=%u", value.data[0]);
    *out_bytes = slice_skip(value, 1);
    return OK;
}
