/* Random operations against a plain model: what is stored, listed, live, free and never (I21,
 * I22), and that the same entries give the same state (I10), also after a crash between them
 * (I9). */
#include "fixture.h"

FIXTURE_SERVER

enum {
    OPERATIONS = 2500,
    CHECK_EVERY = 250,
    BUCKETS = 3,
    KEYS = 40,
    UPLOADS = 6,
    PART_NUMBERS = 5,
    INTENTS = 3,
    BLOCKS_MAX = 20000,
    OBJECT_BLOCKS = 16,
};

struct model_blocks {
    uint32_t indexes[OBJECT_BLOCKS]; /* into model.blocks */
    uint32_t count;
};
struct model_object {
    bool exists;
    uint64_t stamp, bytes, modified_ms;
    uint8_t mark; /* first byte of the ETag, and every byte of an inline object */
    uint8_t tag;  /* the one byte of its tags, 0: it has none */
    enum object_layout layout;
    uint64_t upload_id;
    struct model_blocks blocks;
};
struct model_part {
    uint64_t id; /* 0: none */
    struct model_blocks blocks;
};
struct model_upload {
    uint64_t id; /* 0: none */
    uint32_t bucket, key;
    uint8_t tag;
    struct model_part parts[PART_NUMBERS];
};
struct model_intent {
    uint64_t id;
    uint32_t bucket;
    struct model_blocks blocks;
};
struct model_block {
    struct block_ref ref;
    struct lease lease;
    bool used, lease_closed, listed, done;
};

struct model {
    struct world world;
    uint64_t random;
    struct slice keys[KEYS];
    uint8_t key_bytes[KEYS][8];
    uint64_t buckets[BUCKETS];                        /* id, 0: none */
    uint8_t configs[BUCKETS][BUCKET_CONFIG_KIND_MAX]; /* the one byte of the value, 0: none */
    struct model_object objects[BUCKETS][KEYS];
    struct model_upload uploads[UPLOADS];
    struct model_intent intents[INTENTS];
    struct model_block blocks[BLOCKS_MAX];
    uint32_t block_count;
    struct lease lease;
    uint64_t lease_next;
};

static uint64_t draw(void *context, uint64_t bound)
{
    struct model *model = context;
    model->random ^= model->random << 13;
    model->random ^= model->random >> 7;
    model->random ^= model->random << 17;
    return model->random % bound;
}

static uint32_t pick(struct model *model, uint32_t bound)
{
    return (uint32_t)draw(model, bound);
}

/* The tags, or the configuration, that a byte of the model stands for. */
static struct slice value_of(const uint8_t *byte)
{
    return slice_of(byte, *byte == 0 ? 0 : 1);
}

static struct slice bucket_name(uint32_t bucket)
{
    static const char *const names[BUCKETS] = {"alpha", "beta", "gamma"};
    return slice_of_text(names[bucket]);
}

/* Distinct keys over a small alphabet, so that prefixes and delimiters meet. */
static void make_keys(struct model *model)
{
    static const uint8_t alphabet[] = {'a', 'b', '/', 0xff, 1};
    for (uint32_t i = 0; i < KEYS;) {
        uint32_t bytes = 1 + pick(model, 6);
        for (uint32_t j = 0; j < bytes; j++)
            model->key_bytes[i][j] = alphabet[pick(model, sizeof alphabet)];
        model->keys[i] = slice_of(model->key_bytes[i], bytes);
        bool is_new = true;
        for (uint32_t j = 0; j < i; j++)
            is_new = is_new && !slice_equal(model->keys[i], model->keys[j]);
        i += is_new;
    }
}

/* --- blocks --- */

static uint32_t block_new(struct model *model)
{
    assert_true(model->block_count < BLOCKS_MAX);
    uint32_t index = model->block_count++;
    uint64_t sequence = model->lease_next++;
    model->blocks[index] = (struct model_block){
        .ref = {.id = {.volume = model->lease.volume, .sequence = sequence},
                .hash = {.bytes = {(uint8_t)pick(model, 256)}},
                .bytes = 1 + pick(model, 1000),
                .missing = pick(model, 4)},
        .lease = model->lease,
    };
    return index;
}

static void use_blocks(struct model *model, const struct model_blocks *blocks)
{
    for (uint32_t i = 0; i < blocks->count; i++)
        model->blocks[blocks->indexes[i]].used = true;
}

static void lease_renew(struct model *model)
{
    assert_int_equal(
        meta_lease_open(NULL, model->world.client, model->world.volume.id, 1, 1, &model->lease),
        OK);
    model->lease_next = model->lease.from;
}

static void do_lease_close(struct model *model)
{
    struct lease closed = model->lease;
    assert_int_equal(meta_lease_close(NULL, model->world.client, &closed), OK);
    assert_int_equal(meta_lease_close(NULL, model->world.client, &closed), OK);
    for (uint32_t i = 0; i < model->block_count; i++)
        if (model->blocks[i].lease.from == closed.from)
            model->blocks[i].lease_closed = true;
    /* A put under it is lost work. */
    for (uint32_t b = 0; b < BUCKETS && model->buckets[b] != 0; b++) {
        struct block_ref ref = {.id = {.volume = closed.volume, .sequence = closed.from + 60000},
                                .bytes = 1};
        struct object_put put = {.bucket_id = model->buckets[b],
                                 .key = model->keys[0],
                                 .bytes = 1,
                                 .blocks = &ref,
                                 .leases = &closed,
                                 .block_count = 1};
        struct object_written written;
        assert_int_equal(meta_object_put(NULL, model->world.client, &put, &written),
                         ERR_STALE_EPOCH);
    }
    lease_renew(model);
}

/* --- objects --- */

/* Blocks of a put: some fresh, or those of an intent and then fresh ones. */
static void put_blocks(struct model *model, struct object_put *put, struct model_blocks *blocks,
                       struct block_ref *refs, struct lease *leases, struct model_intent *intent)
{
    if (intent != NULL) {
        put->intent = intent->id;
        *blocks = intent->blocks;
        if (blocks->count > 0 && pick(model, 4) == 0)
            blocks->count--; /* left out: given up */
    }
    uint32_t fresh = 1 + pick(model, 2);
    for (uint32_t i = 0; i < fresh && blocks->count < OBJECT_BLOCKS; i++)
        blocks->indexes[blocks->count++] = block_new(model);
    put->bytes = 0;
    for (uint32_t i = 0; i < blocks->count; i++) {
        refs[i] = model->blocks[blocks->indexes[i]].ref;
        leases[i] = model->blocks[blocks->indexes[i]].lease;
        put->bytes += refs[i].bytes;
    }
    put->blocks = refs;
    put->leases = leases;
    put->block_count = blocks->count;
}

static struct model_intent *intent_of(struct model *model, uint32_t bucket)
{
    struct model_intent *intent = &model->intents[pick(model, INTENTS)];
    return intent->id != 0 && intent->bucket == bucket ? intent : NULL;
}

static void do_put(struct model *model, uint32_t bucket, uint32_t key)
{
    struct model_object *object = &model->objects[bucket][key];
    uint8_t mark = (uint8_t)pick(model, 256);
    uint8_t inline_bytes[64];
    memset(inline_bytes, mark, sizeof inline_bytes);
    struct object_put put = {
        .bucket_id = model->buckets[bucket],
        .key = model->keys[key],
        .etag = {.md5 = {mark}},
        .conditions = {.kind = pick(model, 4) == 0 ? CONDITION_ABSENT : CONDITION_NONE}};
    struct model_object made = {.exists = true, .mark = mark, .tag = (uint8_t)pick(model, 3)};
    put.tags = value_of(&made.tag);
    struct block_ref refs[OBJECT_BLOCKS];
    struct lease leases[OBJECT_BLOCKS];
    struct model_intent *intent = NULL;
    if (pick(model, 2) == 0) {
        made.layout = LAYOUT_INLINE;
        put.bytes = pick(model, sizeof inline_bytes);
        put.inline_bytes = slice_of(inline_bytes, put.bytes);
    } else {
        made.layout = LAYOUT_BLOCKS;
        intent = intent_of(model, bucket);
        put_blocks(model, &put, &made.blocks, refs, leases, intent);
    }
    struct object_written written;
    enum err err = meta_object_put(NULL, model->world.client, &put, &written);
    if (model->buckets[bucket] == 0) {
        assert_int_equal(err, ERR_NOT_FOUND);
        return;
    }
    if (put.conditions.kind == CONDITION_ABSENT && object->exists) {
        assert_int_equal(err, ERR_PRECONDITION);
        return;
    }
    assert_int_equal(err, OK);
    assert_true(written.modified_ms >= object->modified_ms);
    use_blocks(model, &made.blocks);
    if (intent != NULL)
        intent->id = 0;
    made.bytes = put.bytes;
    made.stamp = written.stamp;
    made.modified_ms = written.modified_ms;
    *object = made;
}

static void do_copy(struct model *model, uint32_t from_bucket, uint32_t from_key, uint32_t bucket,
                    uint32_t key)
{
    struct model_object source = model->objects[from_bucket][from_key];
    uint8_t tag = (uint8_t)pick(model, 3);
    struct object_copy copy = {.source_bucket_id = model->buckets[from_bucket],
                               .source_key = model->keys[from_key],
                               .source_stamp = source.stamp,
                               .bucket_id = model->buckets[bucket],
                               .key = model->keys[key],
                               .replace_tags = pick(model, 2) == 0,
                               .tags = value_of(&tag)};
    struct object_written written;
    enum err err = meta_object_copy(NULL, model->world.client, &copy, &written);
    if (model->buckets[bucket] == 0) {
        assert_int_equal(err, ERR_NOT_FOUND);
        return;
    }
    if (!source.exists) {
        assert_int_equal(err, ERR_STALE);
        return;
    }
    assert_int_equal(err, OK);
    model->objects[bucket][key] = source;
    model->objects[bucket][key].stamp = written.stamp;
    model->objects[bucket][key].modified_ms = written.modified_ms;
    model->objects[bucket][key].upload_id = 0;
    if (copy.replace_tags)
        model->objects[bucket][key].tag = tag;
}

static void do_tag(struct model *model, uint32_t bucket, uint32_t key)
{
    struct model_object *object = &model->objects[bucket][key];
    uint8_t tag = (uint8_t)pick(model, 3);
    enum err err = meta_object_tag(NULL, model->world.client, model->buckets[bucket],
                                   model->keys[key], value_of(&tag));
    assert_int_equal(err, object->exists ? OK : ERR_NOT_FOUND);
    if (object->exists)
        object->tag = tag;
}

static void do_delete(struct model *model, uint32_t bucket, uint32_t key)
{
    bool deleted = false;
    struct write_conditions none = {0};
    enum err err = meta_object_delete(NULL, model->world.client, model->buckets[bucket],
                                      model->keys[key], &none, &deleted);
    if (model->buckets[bucket] == 0) {
        assert_int_equal(err, ERR_NOT_FOUND);
        return;
    }
    assert_int_equal(err, OK);
    assert_true(deleted == model->objects[bucket][key].exists);
    model->objects[bucket][key] = (struct model_object){0};
}

/* --- multipart --- */

static void do_upload_create(struct model *model, uint32_t bucket, uint32_t key)
{
    struct model_upload *upload = &model->uploads[pick(model, UPLOADS)];
    if (upload->id != 0 || model->buckets[bucket] == 0)
        return;
    *upload = (struct model_upload){.bucket = bucket, .key = key};
    upload->tag = (uint8_t)pick(model, 3);
    struct upload_create create = {.bucket_id = model->buckets[bucket],
                                   .key = model->keys[key],
                                   .attributes = SLICE_LITERAL("attributes"),
                                   .tags = value_of(&upload->tag)};
    assert_int_equal(meta_upload_create(NULL, model->world.client, &create, &upload->id), OK);
}

static void do_part_put(struct model *model)
{
    struct model_upload *upload = &model->uploads[pick(model, UPLOADS)];
    if (upload->id == 0)
        return;
    uint32_t number = 1 + pick(model, PART_NUMBERS);
    struct object_put put = {.bucket_id = model->buckets[upload->bucket],
                             .key = model->keys[upload->key]};
    struct model_part part = {0};
    struct block_ref refs[OBJECT_BLOCKS];
    struct lease leases[OBJECT_BLOCKS];
    if (pick(model, 8) != 0) { /* else an empty part */
        put_blocks(model, &put, &part.blocks, refs, leases, NULL);
    }
    struct object_written written;
    assert_int_equal(meta_part_put(NULL, model->world.client, upload->id, number, &put, &written),
                     OK);
    use_blocks(model, &part.blocks);
    part.id = written.stamp;
    upload->parts[number - 1] = part;
}

static void do_complete(struct model *model)
{
    struct model_upload *upload = &model->uploads[pick(model, UPLOADS)];
    if (upload->id == 0)
        return;
    struct model_object made = {.exists = true,
                                .mark = (uint8_t)pick(model, 256),
                                .tag = upload->tag,
                                .layout = LAYOUT_PARTS,
                                .upload_id = upload->id};
    struct part parts[PART_NUMBERS];
    struct upload_complete complete = {.bucket_id = model->buckets[upload->bucket],
                                       .key = model->keys[upload->key],
                                       .upload_id = upload->id,
                                       .parts = parts,
                                       .etag = {.md5 = {made.mark}, .part_count = 1}};
    for (uint32_t i = 0; i < PART_NUMBERS; i++) {
        const struct model_part *part = &upload->parts[i];
        if (part->id == 0 || pick(model, 4) == 0)
            continue;
        parts[complete.part_count++] = (struct part){.number = i + 1, .id = part->id};
        for (uint32_t j = 0; j < part->blocks.count; j++) {
            uint32_t index = part->blocks.indexes[j];
            made.blocks.indexes[made.blocks.count++] = index;
            made.bytes += model->blocks[index].ref.bytes;
        }
    }
    if (complete.part_count == 0)
        return;
    struct object_written written;
    if (pick(model, 8) == 0) { /* a part that was replaced */
        parts[0].id++;
        assert_int_equal(meta_upload_complete(NULL, model->world.client, &complete, &written),
                         ERR_INVALID);
        parts[0].id--;
    }
    assert_int_equal(meta_upload_complete(NULL, model->world.client, &complete, &written), OK);
    struct object_written again;
    assert_int_equal(meta_upload_complete(NULL, model->world.client, &complete, &again), OK);
    assert_int_equal(again.stamp, written.stamp);
    made.stamp = written.stamp;
    made.modified_ms = written.modified_ms;
    model->objects[upload->bucket][upload->key] = made;
    upload->id = 0;
}

static void do_abort(struct model *model)
{
    struct model_upload *upload = &model->uploads[pick(model, UPLOADS)];
    if (upload->id == 0)
        return;
    uint64_t bucket_id = model->buckets[upload->bucket];
    struct slice key = model->keys[upload->key];
    assert_int_equal(meta_upload_abort(NULL, model->world.client, bucket_id, key, upload->id), OK);
    assert_int_equal(meta_upload_abort(NULL, model->world.client, bucket_id, key, upload->id),
                     ERR_NOT_FOUND);
    upload->id = 0;
}

/* --- intents, buckets, collection --- */

static void do_stage(struct model *model, uint32_t bucket)
{
    struct model_intent *intent = &model->intents[pick(model, INTENTS)];
    if (intent->id == 0)
        *intent = (struct model_intent){.bucket = bucket};
    if (intent->blocks.count == OBJECT_BLOCKS - 3 || model->buckets[bucket] == 0)
        return;
    uint32_t index = block_new(model);
    assert_int_equal(meta_block_stage(NULL, model->world.client, model->buckets[intent->bucket],
                                      &model->lease, &model->blocks[index].ref, &intent->id),
                     OK);
    model->blocks[index].used = true;
    intent->blocks.indexes[intent->blocks.count++] = index;
}

static void do_drop(struct model *model)
{
    struct model_intent *intent = &model->intents[pick(model, INTENTS)];
    assert_int_equal(meta_intent_drop(NULL, model->world.client, intent->id), OK);
    intent->id = 0;
}

/* Everybody's intent runs out. */
static void do_expire(struct model *model)
{
    for (unsigned i = 0; i <= INTENT_IDLE_MS / TICK_STEP_MS_MAX; i++)
        server_tick(model->world.server, TICK_STEP_MS_MAX);
    for (uint32_t i = 0; i < INTENTS; i++)
        model->intents[i].id = 0;
    server_open_session(model->world.server);
}

static void check_configs_gone(struct model *model, uint64_t bucket_id)
{
    for (int kind = 1; kind <= BUCKET_CONFIG_KIND_MAX; kind++) {
        AUTO_VALUE(bytes) value = {.max = META_BUCKET_CONFIG_BYTES_MAX};
        assert_int_equal(meta_bucket_config_find(NULL, model->world.client, bucket_id,
                                                 (enum bucket_config_kind)kind, &value),
                         ERR_NOT_FOUND);
    }
}

static void do_bucket(struct model *model, uint32_t bucket)
{
    struct bucket made;
    enum err err = OK;
    if (model->buckets[bucket] == 0) {
        err = meta_bucket_create(NULL, model->world.client, bucket_name(bucket),
                                 SLICE_LITERAL("owner"), SLICE_LITERAL("region"), &made);
        assert_int_equal(err, OK);
        model->buckets[bucket] = made.id;
        return;
    }
    err = meta_bucket_create(NULL, model->world.client, bucket_name(bucket), SLICE_LITERAL("other"),
                             SLICE_LITERAL(""), &made);
    assert_int_equal(err, ERR_EXISTS);
    assert_int_equal(made.id, model->buckets[bucket]);
    bool empty = true;
    for (uint32_t i = 0; i < KEYS; i++)
        empty = empty && !model->objects[bucket][i].exists;
    err = meta_bucket_delete(NULL, model->world.client, bucket_name(bucket));
    assert_int_equal(err, empty ? OK : ERR_NOT_EMPTY);
    if (!empty)
        return;
    check_configs_gone(model, model->buckets[bucket]);
    model->buckets[bucket] = 0;
    memset(model->configs[bucket], 0, sizeof model->configs[bucket]);
    for (uint32_t i = 0; i < UPLOADS; i++)
        if (model->uploads[i].bucket == bucket)
            model->uploads[i].id = 0;
    for (uint32_t i = 0; i < INTENTS; i++) {
        if (model->intents[i].bucket != bucket)
            continue;
        assert_int_equal(meta_intent_drop(NULL, model->world.client, model->intents[i].id), OK);
        model->intents[i].id = 0;
    }
}

static void do_config(struct model *model, uint32_t bucket)
{
    int kind = 1 + (int)pick(model, BUCKET_CONFIG_KIND_MAX);
    uint8_t value = (uint8_t)pick(model, 3);
    enum err err = meta_bucket_config_put(NULL, model->world.client, model->buckets[bucket],
                                          (enum bucket_config_kind)kind, value_of(&value));
    assert_int_equal(err, model->buckets[bucket] == 0 ? ERR_NOT_FOUND : OK);
    if (err == OK)
        model->configs[bucket][kind - 1] = value;
}

static void do_empty_bucket(struct model *model, uint32_t bucket)
{
    for (uint32_t i = 0; i < KEYS && model->buckets[bucket] != 0; i++)
        do_delete(model, bucket, i);
}

/* --- checks --- */

static void mark_live(const struct model_blocks *blocks, bool *live)
{
    for (uint32_t i = 0; i < blocks->count; i++)
        live[blocks->indexes[i]] = true;
}

static void model_live(const struct model *model, bool *live)
{
    for (uint32_t b = 0; b < BUCKETS; b++)
        for (uint32_t k = 0; k < KEYS; k++)
            if (model->objects[b][k].exists)
                mark_live(&model->objects[b][k].blocks, live);
    for (uint32_t i = 0; i < UPLOADS; i++)
        for (uint32_t p = 0; p < PART_NUMBERS && model->uploads[i].id != 0; p++)
            if (model->uploads[i].parts[p].id != 0)
                mark_live(&model->uploads[i].parts[p].blocks, live);
    for (uint32_t i = 0; i < INTENTS; i++)
        if (model->intents[i].id != 0)
            mark_live(&model->intents[i].blocks, live);
}

static struct model_block *block_find(struct model *model, struct block_id id)
{
    for (uint32_t i = 0; i < model->block_count; i++)
        if (block_id_equal(model->blocks[i].ref.id, id))
            return &model->blocks[i];
    fail_msg("the free list names a block that was never written");
    return NULL;
}

/* Live, free and never are disjoint and complete (I22); some free ones are then done. */
static void check_blocks(struct model *model)
{
    bool *live = mem_alloc(BLOCKS_MAX);
    model_live(model, live);
    for (uint32_t i = 0; i < model->block_count; i++)
        model->blocks[i].listed = false;
    AUTO(free_page) page = NULL;
    assert_int_equal(meta_free_list(NULL, model->world.client, 0, UINT32_MAX, &page), OK);
    uint64_t last = 0;
    for (uint32_t i = 0; i < page->count; i++) {
        struct model_block *block = block_find(model, page->entries[i].block);
        assert_false(block->listed);
        assert_true(page->entries[i].position > last);
        last = page->entries[i].position;
        block->listed = true;
    }
    for (uint32_t i = 0; i < model->block_count; i++) {
        const struct model_block *block = &model->blocks[i];
        enum block_status status;
        assert_int_equal(meta_block_status(NULL, model->world.client, &block->ref.id, 1, &status),
                         OK);
        assert_int_equal(status, live[i]               ? BLOCK_LIVE
                                 : block->lease_closed ? BLOCK_NEVER
                                                       : BLOCK_UNKNOWN);
        assert_int_equal(block->listed, block->used && !live[i] && !block->done);
    }
    uint32_t done = page->count == 0 ? 0 : pick(model, page->count);
    uint64_t *positions = mem_alloc_array(done, sizeof *positions);
    for (uint32_t i = 0; i < done; i++) {
        positions[i] = page->entries[i].position;
        block_find(model, page->entries[i].block)->done = true;
    }
    assert_int_equal(meta_free_done(NULL, model->world.client, positions, done), OK);
    mem_free(positions);
    mem_free(live);
}

static void check_extents(struct model *model, const struct model_object *expected,
                          const struct object *object)
{
    uint64_t offset = 0;
    uint32_t index = 0;
    for (; index < expected->blocks.count && pick(model, 3) == 0; index++)
        offset += model->blocks[expected->blocks.indexes[index]].ref.bytes;
    uint64_t at = offset;
    while (index < expected->blocks.count) { /* pages of two */
        AUTO(extent_page) page = NULL;
        assert_int_equal(meta_object_extents(NULL, model->world.client, object, at, 2, &page), OK);
        assert_true(page->count > 0);
        for (uint32_t i = 0; i < page->count; i++) {
            assert_int_equal(page->extents[i].offset, at);
            assert_true(block_ref_equal(&page->extents[i].ref,
                                        &model->blocks[expected->blocks.indexes[index++]].ref));
            at += page->extents[i].ref.bytes;
        }
    }
    assert_int_equal(at, expected->bytes);
}

static void check_object(struct model *model, uint32_t bucket, uint32_t key)
{
    const struct model_object *expected = &model->objects[bucket][key];
    AUTO(object) object = NULL;
    enum err err = meta_object_find(NULL, model->world.client, model->buckets[bucket],
                                    model->keys[key], true, &object);
    assert_int_equal(err, expected->exists ? OK : ERR_NOT_FOUND);
    if (!expected->exists)
        return;
    assert_int_equal(object->stamp, expected->stamp);
    assert_int_equal(object->bytes, expected->bytes);
    assert_int_equal(object->etag.md5[0], expected->mark);
    assert_int_equal(object->layout, expected->layout);
    assert_int_equal(object->upload_id, expected->upload_id);
    assert_int_equal(object->modified_ms, expected->modified_ms);
    assert_true(slice_equal(object->tags, value_of(&expected->tag)));
    if (object->layout != LAYOUT_INLINE) {
        check_extents(model, expected, object);
        return;
    }
    assert_int_equal(object->inline_bytes.bytes, expected->bytes);
    for (size_t i = 0; i < object->inline_bytes.bytes; i++)
        assert_int_equal(object->inline_bytes.data[i], expected->mark);
}

static void check_configs(struct model *model, uint32_t bucket)
{
    for (int kind = 1; kind <= BUCKET_CONFIG_KIND_MAX; kind++) {
        const uint8_t *expected = &model->configs[bucket][kind - 1];
        AUTO_VALUE(bytes) value = {.max = META_BUCKET_CONFIG_BYTES_MAX};
        enum err err = meta_bucket_config_find(NULL, model->world.client, model->buckets[bucket],
                                               (enum bucket_config_kind)kind, &value);
        assert_int_equal(err, *expected == 0 ? ERR_NOT_FOUND : OK);
        assert_true(slice_equal(bytes_slice(&value), value_of(expected)));
    }
}

/* --- listing --- */

struct expected_entry {
    struct slice key;
    bool is_prefix;
};

static struct slice common_of(const struct list_query *query, struct slice key)
{
    for (size_t at = query->prefix.bytes;
         query->delimiter.bytes > 0 && at + query->delimiter.bytes <= key.bytes; at++)
        if (slice_equal(slice_of(key.data + at, query->delimiter.bytes), query->delimiter))
            return slice_first(key, at + query->delimiter.bytes);
    return slice_of(NULL, 0);
}

static int order_keys(const void *a, const void *b)
{
    const struct slice *first = a;
    const struct slice *second = b;
    return slice_compare(*first, *second);
}

/* All entries that the query may show, after `after`, in order, by brute force. */
static uint32_t expected_list(const struct model *model, uint32_t bucket,
                              const struct list_query *query, struct expected_entry *entries)
{
    struct slice sorted[KEYS];
    uint32_t sorted_count = 0;
    for (uint32_t i = 0; i < KEYS; i++)
        if (model->objects[bucket][i].exists)
            sorted[sorted_count++] = model->keys[i];
    qsort(sorted, sorted_count, sizeof sorted[0], order_keys);
    struct slice after_common = slice_starts_with(query->after, query->prefix)
                                    ? common_of(query, query->after)
                                    : slice_of(NULL, 0);
    bool after_is_prefix = after_common.bytes > 0 && after_common.bytes == query->after.bytes;
    uint32_t count = 0;
    for (uint32_t i = 0; i < sorted_count; i++) {
        if (!slice_starts_with(sorted[i], query->prefix))
            continue;
        if (query->after.bytes > 0 && slice_compare(sorted[i], query->after) <= 0)
            continue;
        if (after_is_prefix && slice_starts_with(sorted[i], query->after))
            continue;
        struct slice common = common_of(query, sorted[i]);
        if (common.bytes > 0 && count > 0 && entries[count - 1].is_prefix &&
            slice_equal(entries[count - 1].key, common))
            continue;
        entries[count++] = (struct expected_entry){.key = common.bytes > 0 ? common : sorted[i],
                                                   .is_prefix = common.bytes > 0};
    }
    return count;
}

static void check_list(struct model *model, uint32_t bucket)
{
    static const char *const delimiters[] = {"", "/", "a", "ab", "\xff", "\xff/"};
    struct slice prefix = slice_first(model->keys[pick(model, KEYS)], pick(model, 3));
    struct slice after = slice_first(model->keys[pick(model, KEYS)], pick(model, 7));
    struct list_query query = {.bucket_id = model->buckets[bucket],
                               .prefix = prefix,
                               .delimiter = slice_of_text(delimiters[pick(model, 6)]),
                               .after = after,
                               .max = pick(model, 8)};
    uint8_t after_copy[8];
    for (;;) { /* page after page to the end */
        struct expected_entry expected[KEYS];
        uint32_t count = expected_list(model, bucket, &query, expected);
        AUTO(list_page) page = NULL;
        assert_int_equal(meta_object_list(NULL, model->world.client, &query, &page), OK);
        assert_int_equal(page->count, count < query.max ? count : query.max);
        assert_int_equal(page->truncated, query.max > 0 && count > query.max);
        for (uint32_t i = 0; i < page->count; i++) {
            assert_true(slice_equal(page->entries[i].key, expected[i].key));
            assert_int_equal(page->entries[i].is_prefix, expected[i].is_prefix);
        }
        if (!page->truncated)
            return;
        struct slice last = page->entries[page->count - 1].key;
        memcpy(after_copy, last.data, last.bytes);
        query.after = slice_of(after_copy, last.bytes);
    }
}

static void check_all(struct model *model)
{
    (void)world_expand(&model->world);
    check_blocks(model);
    for (uint32_t b = 0; b < BUCKETS; b++) {
        if (model->buckets[b] == 0)
            continue;
        check_configs(model, b);
        for (uint32_t k = 0; k < KEYS; k++)
            check_object(model, b, k);
        for (uint32_t i = 0; i < 20; i++)
            check_list(model, b);
    }
}

/* --- replay --- */

static void apply_log(struct meta_group *server, struct kv *kv, uint64_t up_to,
                      struct state_position *out_position)
{
    AUTO(state) state = NULL;
    assert_int_equal(state_open(the_lane(), kv, &state), OK);
    for (uint64_t index = state_position(state).index + 1; index <= up_to; index++) {
        AUTO_VALUE(bytes) answer = {.max = RESULT_BYTES_MAX};
        const struct recorded *entry = &server->log[index - 1];
        assert_int_equal(
            state_apply(the_lane(), state, index, 1, slice_of(entry->data, entry->bytes), &answer),
            OK);
        if (index % 97 == 0)
            assert_int_equal(kv_flush(the_lane(), kv), OK);
    }
    *out_position = state_position(state);
}

static void stores_equal(struct kv *a, struct kv *b)
{
    AUTO(kv_iterator)
    left = kv_iterator_new(the_lane(), a, NULL, slice_of(NULL, 0), slice_of(NULL, 0));
    AUTO(kv_iterator)
    right = kv_iterator_new(the_lane(), b, NULL, slice_of(NULL, 0), slice_of(NULL, 0));
    kv_iterator_seek(left, slice_of(NULL, 0));
    kv_iterator_seek(right, slice_of(NULL, 0));
    for (; kv_iterator_valid(left); kv_iterator_next(left), kv_iterator_next(right)) {
        assert_true(kv_iterator_valid(right));
        assert_true(slice_equal(kv_iterator_key(left), kv_iterator_key(right)));
        assert_true(slice_equal(kv_iterator_value(left), kv_iterator_value(right)));
    }
    assert_false(kv_iterator_valid(right));
}

/* A replica that crashes on its way, each time back to some state since its last flush, ends as
 * the one that never did. */
static void check_replay(struct model *model)
{
    struct meta_group *server = model->world.server;
    AUTO(kv_memory_world) other = kv_memory_world_new();
    struct state_position position = {0};
    for (uint64_t up_to = 0; up_to < server->log_count;) {
        up_to += 1 + draw(model, server->log_count / 4);
        if (up_to > server->log_count)
            up_to = server->log_count;
        AUTO(kv) kv = store_open(other, "other");
        apply_log(server, kv, up_to, &position);
        kv_close(TAKE(kv));
        if (up_to < server->log_count)
            kv_memory_crash(other, draw, model);
    }
    assert_int_equal(position.index, server->log_count);
    assert_int_equal(position.hash, state_position(server->state).hash);
    AUTO(kv) kv = store_open(other, "other");
    stores_equal(server->kv, kv);
}

/* --- the run --- */

static void step(struct model *model)
{
    uint32_t bucket = pick(model, BUCKETS);
    uint32_t key = pick(model, KEYS);
    uint32_t dice = pick(model, 1000);
    if (dice < 300)
        do_put(model, bucket, key);
    else if (dice < 420)
        do_copy(model, pick(model, BUCKETS), pick(model, KEYS), bucket, key);
    else if (dice < 440)
        do_copy(model, bucket, key, bucket, key);
    else if (dice < 540)
        do_delete(model, bucket, key);
    else if (dice < 560)
        do_tag(model, bucket, key);
    else if (dice < 620)
        do_upload_create(model, bucket, key);
    else if (dice < 770)
        do_part_put(model);
    else if (dice < 820)
        do_complete(model);
    else if (dice < 840)
        do_abort(model);
    else if (dice < 920)
        do_stage(model, bucket);
    else if (dice < 930)
        do_config(model, bucket);
    else if (dice < 950)
        do_drop(model);
    else if (dice < 953)
        do_expire(model);
    else if (dice < 975)
        do_lease_close(model);
    else if (dice < 995)
        do_bucket(model, bucket);
    else
        do_empty_bucket(model, bucket);
}

static void run_seed(uint64_t seed)
{
    struct model *model = mem_new(struct model);
    model->random = seed * 0x9e3779b97f4a7c15 + 1;
    world_init(&model->world);
    make_keys(model);
    lease_renew(model);
    for (uint32_t b = 0; b < BUCKETS; b++)
        do_bucket(model, b);
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        step(model);
        if (i % CHECK_EVERY == CHECK_EVERY - 1)
            check_all(model);
    }
    check_replay(model);
    world_deinit(&model->world);
    mem_free(model);
}

static void random_operations_match_the_model(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 4; seed++)
        run_seed(seed);
}

int main(int argc, char **argv)
{
    if (argc == 2) { /* one seed of a failure */
        run_seed(strtoull(argv[1], NULL, 10));
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_match_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
