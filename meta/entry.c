/* Encoding of entries, commands and results. */
#include "entry.h"
#include <assert.h>

/* --- entries --- */

static void walk_header(struct codec *codec, struct entry_header *header)
{
    codec_version(codec, ENTRY_VERSION);
    codec_number(codec, &header->wall_ms, UINT64_MAX);
    codec_number(codec, &header->session, UINT64_MAX);
    codec_number(codec, &header->sequence, UINT64_MAX);
    codec_number(codec, &header->done_below, UINT64_MAX);
}

void entry_header_encode(struct bytes *out, const struct entry_header *header)
{
    struct entry_header copy = *header;
    struct codec codec = codec_writer(out);
    walk_header(&codec, &copy);
}

enum err entry_decode(struct slice entry, struct entry_header *out_header,
                      struct slice *out_command)
{
    struct codec codec = codec_reader(entry);
    walk_header(&codec, out_header);
    *out_command = codec.in.rest;
    codec.in.rest = slice_of(NULL, 0);
    return codec_finish(&codec, "entry header");
}

/* --- commands --- */

/* Reading: an array of `count` elements that the command owns. */
static void *command_array(struct codec *codec, struct command *command, uint32_t count,
                           size_t bytes, void *written)
{
    if (!codec_reading(codec))
        return written;
    assert(command->memory == NULL);
    command->memory = mem_alloc_array(count, bytes);
    return command->memory;
}

static void walk_key(struct codec *codec, struct slice *key)
{
    codec_slice(codec, key, META_KEY_BYTES_MAX);
    if (codec_reading(codec) && (key->bytes == 0 || slice_find(*key, 0) < key->bytes))
        codec_fail(codec);
}

static void walk_conditions(struct codec *codec, struct write_conditions *conditions)
{
    CODEC_NUMBER(codec, conditions->kind, CONDITION_STAMP);
    if (conditions->kind == CONDITION_ETAG)
        codec_etag(codec, &conditions->etag);
    if (conditions->kind == CONDITION_STAMP)
        codec_number(codec, &conditions->stamp, UINT64_MAX);
    codec_number(codec, &conditions->modified_ms, UINT64_MAX);
    CODEC_NUMBER(codec, conditions->has_bytes, 1);
    if (conditions->has_bytes)
        codec_number(codec, &conditions->bytes, UINT64_MAX);
}

static void walk_use(struct codec *codec, struct block_use *use)
{
    codec_block_ref(codec, &use->ref);
    codec_number(codec, &use->lease_from, UINT64_MAX);
    codec_number(codec, &use->lease_to, UINT64_MAX);
}

static void walk_bucket(struct codec *codec, struct command_bucket *bucket)
{
    codec_slice(codec, &bucket->name, META_BUCKET_NAME_BYTES_MAX);
    codec_slice(codec, &bucket->owner, OWNER_BYTES_MAX);
    codec_slice(codec, &bucket->region, OWNER_BYTES_MAX);
    codec_number(codec, &bucket->id, UINT64_MAX);
    codec_number(codec, &bucket->attempt, UINT64_MAX);
    codec_number(codec, &bucket->group, UINT64_MAX);
    struct slice texts[] = {bucket->name, bucket->owner, bucket->region};
    for (size_t i = 0; codec_reading(codec) && i < sizeof texts / sizeof texts[0]; i++)
        if (slice_find(texts[i], 0) < texts[i].bytes)
            codec_fail(codec);
}

static void walk_put(struct codec *codec, struct command *command)
{
    struct command_put *put = &command->put;
    codec_number(codec, &put->bucket_id, UINT64_MAX);
    walk_key(codec, &put->key);
    walk_conditions(codec, &put->conditions);
    codec_number(codec, &put->bytes, UINT64_MAX);
    codec_etag(codec, &put->etag);
    codec_checksum(codec, &put->checksum);
    codec_slice(codec, &put->attributes, META_ATTRIBUTES_BYTES_MAX);
    codec_slice(codec, &put->tags, META_TAGS_BYTES_MAX);
    codec_slice(codec, &put->inline_bytes, META_INLINE_BYTES_MAX);
    codec_number(codec, &put->intent, UINT64_MAX);
    codec_number(codec, &put->upload_id, UINT64_MAX);
    CODEC_NUMBER(codec, put->part_number, META_PARTS_MAX);
    codec_count(codec, &put->use_count, META_OBJECT_BLOCKS_MAX, BLOCK_REF_BYTES + 2);
    put->uses = command_array(codec, command, put->use_count, sizeof *put->uses, put->uses);
    for (uint32_t i = 0; i < put->use_count; i++)
        walk_use(codec, &put->uses[i]);
}

static void walk_copy(struct codec *codec, struct command_copy *copy)
{
    codec_number(codec, &copy->source_bucket_id, UINT64_MAX);
    walk_key(codec, &copy->source_key);
    codec_number(codec, &copy->source_stamp, UINT64_MAX);
    codec_number(codec, &copy->bucket_id, UINT64_MAX);
    walk_key(codec, &copy->key);
    walk_conditions(codec, &copy->conditions);
    codec_checksum(codec, &copy->checksum);
    codec_slice(codec, &copy->attributes, META_ATTRIBUTES_BYTES_MAX);
    CODEC_NUMBER(codec, copy->replace_tags, 1);
    codec_slice(codec, &copy->tags, META_TAGS_BYTES_MAX);
}

static void walk_delete(struct codec *codec, struct command_delete *delete)
{
    codec_number(codec, &delete->bucket_id, UINT64_MAX);
    walk_key(codec, &delete->key);
    walk_conditions(codec, &delete->conditions);
}

static void walk_upload(struct codec *codec, struct command_upload *upload)
{
    codec_number(codec, &upload->bucket_id, UINT64_MAX);
    walk_key(codec, &upload->key);
    codec_number(codec, &upload->upload_id, UINT64_MAX);
    codec_slice(codec, &upload->attributes, META_ATTRIBUTES_BYTES_MAX);
    codec_slice(codec, &upload->tags, META_TAGS_BYTES_MAX);
    CODEC_NUMBER(codec, upload->checksum_algorithm, UINT8_MAX);
    CODEC_NUMBER(codec, upload->checksum_type, UINT8_MAX);
}

static void walk_tag(struct codec *codec, struct command_tag *tag)
{
    codec_number(codec, &tag->bucket_id, UINT64_MAX);
    walk_key(codec, &tag->key);
    codec_slice(codec, &tag->tags, META_TAGS_BYTES_MAX);
}

static void walk_config(struct codec *codec, struct command_config *config)
{
    codec_number(codec, &config->bucket_id, UINT64_MAX);
    CODEC_NUMBER(codec, config->kind, BUCKET_CONFIG_KIND_MAX);
    codec_slice(codec, &config->value, META_BUCKET_CONFIG_BYTES_MAX);
    if (codec_reading(codec) && config->kind == 0)
        codec_fail(codec);
}

static void walk_complete(struct codec *codec, struct command *command)
{
    struct command_complete *complete = &command->complete;
    codec_number(codec, &complete->bucket_id, UINT64_MAX);
    walk_key(codec, &complete->key);
    codec_number(codec, &complete->upload_id, UINT64_MAX);
    walk_conditions(codec, &complete->conditions);
    codec_etag(codec, &complete->etag);
    codec_checksum(codec, &complete->checksum);
    codec_count(codec, &complete->part_count, META_PARTS_MAX, 2);
    complete->parts = command_array(codec, command, complete->part_count, sizeof *complete->parts,
                                    complete->parts);
    for (uint32_t i = 0; i < complete->part_count; i++) {
        CODEC_NUMBER(codec, complete->parts[i].number, META_PARTS_MAX);
        codec_number(codec, &complete->parts[i].id, UINT64_MAX);
    }
}

static void walk_volume(struct codec *codec, struct command_volume *volume)
{
    CODEC_NUMBER(codec, volume->data_shards, META_SHARDS_MAX);
    CODEC_NUMBER(codec, volume->parity_shards, META_SHARDS_MAX);
    size_t slots = (size_t)volume->data_shards + volume->parity_shards;
    if (slots > META_SHARDS_MAX)
        codec_fail(codec);
    else
        codec_raw(codec, volume->slots, slots * sizeof volume->slots[0]);
}

static void walk_lease(struct codec *codec, struct command_lease *lease)
{
    codec_number(codec, &lease->volume, UINT64_MAX);
    codec_number(codec, &lease->from, UINT64_MAX);
    codec_number(codec, &lease->to, UINT64_MAX);
    codec_u64(codec, &lease->holder);
    codec_u64(codec, &lease->boot);
}

static void walk_free_done(struct codec *codec, struct command *command)
{
    struct command_free_done *done = &command->free_done;
    codec_count(codec, &done->count, FREE_DONE_MAX, 1);
    done->positions =
        command_array(codec, command, done->count, sizeof *done->positions, done->positions);
    for (uint32_t i = 0; i < done->count; i++)
        codec_number(codec, &done->positions[i], UINT64_MAX);
}

static void walk_drive(struct codec *codec, struct drive_record *drive)
{
    codec_raw(codec, drive->id.bytes, sizeof drive->id.bytes);
    codec_u64(codec, &drive->node_id);
    codec_number(codec, &drive->capacity_bytes, UINT64_MAX);
    codec_number(codec, &drive->mount_counter, UINT64_MAX);
    codec_u64(codec, &drive->boot);
}

static void walk_repair(struct codec *codec, struct command_repair *repair)
{
    codec_number(codec, &repair->volume, UINT64_MAX);
    codec_number(codec, &repair->repair, UINT64_MAX);
    CODEC_NUMBER(codec, repair->slots, (1u << META_SHARDS_MAX) - 1);
    for (unsigned slot = 0; slot < META_SHARDS_MAX; slot++)
        if ((repair->slots >> slot & 1) != 0)
            codec_raw(codec, repair->drives[slot].bytes, sizeof repair->drives[slot].bytes);
}

static void walk_repaired(struct codec *codec, struct command *command)
{
    struct command_repaired *repaired = &command->repaired;
    codec_count(codec, &repaired->count, BLOCKS_REPAIRED_MAX, 3);
    repaired->blocks =
        command_array(codec, command, repaired->count, sizeof *repaired->blocks, repaired->blocks);
    for (uint32_t i = 0; i < repaired->count; i++) {
        codec_number(codec, &repaired->blocks[i].id.volume, UINT64_MAX);
        codec_number(codec, &repaired->blocks[i].id.sequence, UINT64_MAX);
        CODEC_NUMBER(codec, repaired->blocks[i].missing, UINT32_MAX);
    }
}

static void walk_identity(struct codec *codec, struct identity *identity)
{
    codec_text(codec, identity->access_key, sizeof identity->access_key);
    codec_text(codec, identity->secret_key, sizeof identity->secret_key);
    CODEC_NUMBER(codec, identity->root, 1);
}

/* A type that is not listed is an entry of a later release. */
static void walk_fields(struct codec *codec, struct command *command)
{
    switch (command->type) {
    case COMMAND_OPEN_SESSION:
        codec_u64(codec, &command->session.holder);
        codec_u64(codec, &command->session.boot);
        return;
    case COMMAND_TICK:
        codec_number(codec, &command->tick.tick_ms, UINT64_MAX);
        return;
    case COMMAND_BUCKET_TAKE:
    case COMMAND_BUCKET_SETTLE:
    case COMMAND_BUCKET_MARK:
    case COMMAND_BUCKET_FORGET:
    case COMMAND_BUCKET_OPEN:
    case COMMAND_BUCKET_CLOSE:
        walk_bucket(codec, &command->bucket);
        return;
    case COMMAND_IDENTITY_PUT:
        walk_identity(codec, &command->identity);
        return;
    case COMMAND_DRIVE_REGISTER:
        walk_drive(codec, &command->drive);
        return;
    case COMMAND_DRIVE_STANDING:
    case COMMAND_DRIVE_FORGET:
        codec_raw(codec, command->drive.id.bytes, sizeof command->drive.id.bytes);
        CODEC_NUMBER(codec, command->drive.standing, DRIVE_LOST);
        return;
    case COMMAND_REPAIR_START:
    case COMMAND_REPAIR_DONE:
    case COMMAND_REPAIR_CANCEL:
        walk_repair(codec, &command->repair);
        return;
    case COMMAND_BLOCKS_REPAIRED:
        walk_repaired(codec, command);
        return;
    case COMMAND_VOLUME_CREATE:
        walk_volume(codec, &command->volume);
        return;
    case COMMAND_LEASE_OPEN:
    case COMMAND_LEASE_CLOSING:
    case COMMAND_LEASE_CLOSED:
    case COMMAND_LEASE_REFUSE:
        walk_lease(codec, &command->lease);
        return;
    case COMMAND_OBJECT_PUT:
    case COMMAND_PART_PUT:
        walk_put(codec, command);
        return;
    case COMMAND_OBJECT_COPY:
        walk_copy(codec, &command->copy);
        return;
    case COMMAND_OBJECT_DELETE:
        walk_delete(codec, &command->delete);
        return;
    case COMMAND_UPLOAD_CREATE:
    case COMMAND_UPLOAD_ABORT:
        walk_upload(codec, &command->upload);
        return;
    case COMMAND_UPLOAD_COMPLETE:
        walk_complete(codec, command);
        return;
    case COMMAND_OBJECT_TAG:
        walk_tag(codec, &command->tag);
        return;
    case COMMAND_BUCKET_CONFIG:
        walk_config(codec, &command->config);
        return;
    case COMMAND_BLOCK_STAGE:
        codec_number(codec, &command->stage.bucket_id, UINT64_MAX);
        codec_number(codec, &command->stage.intent, UINT64_MAX);
        walk_use(codec, &command->stage.use);
        return;
    case COMMAND_INTENT_DROP:
    case COMMAND_INTENT_RENEW:
        codec_number(codec, &command->intent, UINT64_MAX);
        return;
    case COMMAND_FREE_DONE:
        walk_free_done(codec, command);
        return;
    case COMMAND_EXPAND:
        return;
    }
    codec->other_version = true;
    codec_fail(codec);
}

enum err command_encode(struct bytes *out, const struct command *command)
{
    struct command copy = *command;
    struct codec codec = codec_writer(out);
    codec_version(&codec, ENTRY_VERSION);
    CODEC_NUMBER(&codec, copy.type, UINT8_MAX);
    walk_fields(&codec, &copy);
    return codec_finish(&codec, "command");
}

enum err command_decode(struct slice bytes, struct command *out_command)
{
    *out_command = (struct command){0};
    struct codec codec = codec_reader(bytes);
    codec_version(&codec, ENTRY_VERSION);
    CODEC_NUMBER(&codec, out_command->type, UINT8_MAX);
    if (!codec.in.failed)
        walk_fields(&codec, out_command);
    enum err err = codec_finish(&codec, "command");
    if (err != OK)
        command_deinit(out_command);
    return err;
}

void command_deinit(struct command *command)
{
    mem_free(command->memory);
    *command = (struct command){0};
}

/* --- results --- */

static void walk_result_bucket(struct codec *codec, struct bucket_row *row)
{
    CODEC_NUMBER(codec, row->state, BUCKET_DELETING);
    codec_number(codec, &row->attempt, UINT64_MAX);
    codec_number(codec, &row->bucket.id, UINT64_MAX);
    codec_number(codec, &row->bucket.created_ms, UINT64_MAX);
    codec_number(codec, &row->bucket.group, UINT64_MAX);
    codec_text(codec, row->bucket.name, sizeof row->bucket.name);
    codec_text(codec, row->bucket.owner, sizeof row->bucket.owner);
    codec_text(codec, row->bucket.region, sizeof row->bucket.region);
}

static void walk_result_lease(struct codec *codec, struct lease *lease)
{
    codec_number(codec, &lease->volume, UINT64_MAX);
    codec_number(codec, &lease->from, UINT64_MAX);
    codec_number(codec, &lease->to, UINT64_MAX);
    codec_number(codec, &lease->epoch, UINT64_MAX);
    CODEC_NUMBER(codec, lease->data_shards, META_SHARDS_MAX);
    CODEC_NUMBER(codec, lease->parity_shards, META_SHARDS_MAX);
}

static void walk_result(struct codec *codec, struct result *result)
{
    codec_version(codec, ENTRY_VERSION);
    CODEC_NUMBER(codec, result->outcome, RESULT_SESSION_CLOSED);
    CODEC_NUMBER(codec, result->err, UINT8_MAX);
    CODEC_NUMBER(codec, result->kind, RESULT_LEASE);
    switch (result->kind) {
    case RESULT_NOTHING:
        return;
    case RESULT_STAMP:
        codec_number(codec, &result->written.stamp, UINT64_MAX);
        codec_number(codec, &result->written.modified_ms, UINT64_MAX);
        return;
    case RESULT_DELETED:
        CODEC_NUMBER(codec, result->deleted, 1);
        return;
    case RESULT_BUCKET:
        walk_result_bucket(codec, &result->bucket);
        return;
    case RESULT_VOLUME:
        codec_volume(codec, &result->volume);
        return;
    case RESULT_LEASE:
        walk_result_lease(codec, &result->lease);
        return;
    }
}

void result_encode(struct bytes *out, const struct result *result)
{
    struct result copy = *result;
    struct codec codec = codec_writer(out);
    walk_result(&codec, &copy);
}

enum err result_decode(struct slice bytes, struct result *out_result)
{
    *out_result = (struct result){0};
    struct codec codec = codec_reader(bytes);
    walk_result(&codec, out_result);
    if (out_result->outcome == 0)
        codec_fail(&codec);
    return codec_finish(&codec, "result");
}
