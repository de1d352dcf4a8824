/* Typed calls: objects and multipart uploads. */
#include "apply.h"
#include "calls.h"
#include <assert.h>

/* --- checks before anything is proposed --- */

static enum err check_key(struct slice key)
{
    if (key.bytes == 0 || key.bytes > META_KEY_BYTES_MAX || slice_find(key, 0) < key.bytes)
        return FAIL(ERR_INVALID, "key bytes=%zu", key.bytes);
    return OK;
}

static enum err check_attributes(struct slice attributes, struct slice tags)
{
    if (attributes.bytes > META_ATTRIBUTES_BYTES_MAX)
        return FAIL(ERR_LIMIT, "attributes bytes=%zu", attributes.bytes);
    if (tags.bytes > META_TAGS_BYTES_MAX)
        return FAIL(ERR_LIMIT, "tags bytes=%zu", tags.bytes);
    return OK;
}

static enum err check_sums(const struct object_etag *etag, const struct object_checksum *checksum)
{
    if (etag->part_count > META_PARTS_MAX || checksum->bytes > META_CHECKSUM_BYTES_MAX)
        return FAIL(ERR_INVALID, "etag or checksum");
    return OK;
}

/* An ETag of more parts than can exist is no version's: the condition cannot hold, and the entry
 * could not carry it. */
static enum err check_conditions(const struct write_conditions *conditions)
{
    if (conditions->kind == CONDITION_ETAG && conditions->etag.part_count > META_PARTS_MAX)
        return FAIL(ERR_PRECONDITION, "no such etag can exist");
    return OK;
}

static enum err check_put(const struct object_put *put)
{
    TRY(check_key(put->key));
    TRY(check_attributes(put->attributes, put->tags));
    TRY(check_sums(&put->etag, &put->checksum));
    TRY(check_conditions(&put->conditions));
    if (put->inline_bytes.bytes > META_INLINE_BYTES_MAX)
        return FAIL(ERR_LIMIT, "inline bytes=%zu", put->inline_bytes.bytes);
    if (put->block_count > META_OBJECT_BLOCKS_MAX)
        return FAIL(ERR_LIMIT, "blocks=%u", put->block_count);
    for (uint32_t i = 0; i < put->block_count; i++)
        if (put->leases[i].volume != put->blocks[i].id.volume)
            return FAIL(ERR_INVALID, "lease of another volume");
    return OK;
}

/* --- put, copy, tag, delete --- */

static enum err propose_written(struct io *io, struct meta_client *client,
                                const struct command *command, struct object_written *out_written)
{
    struct result result;
    TRY(client_propose(io, client, command, &result));
    *out_written = result.written;
    return OK;
}

static enum err propose_put(struct io *io, struct meta_client *client, struct command *command,
                            const struct object_put *put, struct object_written *out_written)
{
    command->put.uses = mem_alloc_array(put->block_count, sizeof *command->put.uses);
    for (uint32_t i = 0; i < put->block_count; i++)
        command->put.uses[i] = (struct block_use){.ref = put->blocks[i],
                                                  .lease_from = put->leases[i].from,
                                                  .lease_to = put->leases[i].to};
    command->put.use_count = put->block_count;
    enum err err = put_check(&command->put);
    if (err == OK)
        err = propose_written(io, client, command, out_written);
    mem_free(command->put.uses);
    return err;
}

static struct command put_command(enum command_type type, const struct object_put *put)
{
    return (struct command){
        .type = type,
        .put = {.bucket_id = put->bucket_id,
                .key = put->key,
                .bytes = put->bytes,
                .etag = put->etag,
                .checksum = put->checksum,
                .inline_bytes = put->inline_bytes,
                .intent = put->intent},
    };
}

enum err meta_object_put(struct io *io, struct meta_client *client, const struct object_put *put,
                         struct object_written *out_written)
{
    TRY(check_put(put));
    struct command command = put_command(COMMAND_OBJECT_PUT, put);
    command.put.conditions = put->conditions;
    command.put.attributes = put->attributes;
    command.put.tags = put->tags;
    return propose_put(io, client, &command, put, out_written);
}

enum err meta_object_copy(struct io *io, struct meta_client *client, const struct object_copy *copy,
                          struct object_written *out_written)
{
    TRY(check_key(copy->source_key));
    TRY(check_key(copy->key));
    TRY(check_attributes(copy->attributes, copy->tags));
    TRY(check_sums(&(struct object_etag){0}, &copy->checksum));
    TRY(check_conditions(&copy->conditions));
    struct command command = {
        .type = COMMAND_OBJECT_COPY,
        .copy = {.source_bucket_id = copy->source_bucket_id,
                 .source_key = copy->source_key,
                 .source_stamp = copy->source_stamp,
                 .bucket_id = copy->bucket_id,
                 .key = copy->key,
                 .conditions = copy->conditions,
                 .checksum = copy->checksum,
                 .attributes = copy->attributes,
                 .replace_tags = copy->replace_tags,
                 .tags = copy->tags},
    };
    return propose_written(io, client, &command, out_written);
}

enum err meta_object_tag(struct io *io, struct meta_client *client, uint64_t bucket_id,
                         struct slice key, struct slice tags)
{
    TRY(check_key(key));
    TRY(check_attributes(slice_of(NULL, 0), tags));
    struct command command = {
        .type = COMMAND_OBJECT_TAG,
        .tag = {.bucket_id = bucket_id, .key = key, .tags = tags},
    };
    return client_command(io, client, &command);
}

enum err meta_object_delete(struct io *io, struct meta_client *client, uint64_t bucket_id,
                            struct slice key, const struct write_conditions *conditions,
                            bool *out_deleted)
{
    TRY(check_key(key));
    TRY(check_conditions(conditions));
    struct command command = {
        .type = COMMAND_OBJECT_DELETE,
        .delete = {.bucket_id = bucket_id, .key = key, .conditions = *conditions},
    };
    struct result result;
    TRY(client_propose(io, client, &command, &result));
    *out_deleted = result.deleted;
    return OK;
}

/* --- reads --- */

struct object_find {
    uint64_t bucket_id;
    struct slice key;
    uint64_t upload_id;
    bool inline_too;
    struct object *object;
    struct upload *upload;
};

static enum err object_find_read(struct lane *lane, struct state *state, void *argument)
{
    struct object_find *find = argument;
    return state_object_find(lane, state, find->bucket_id, find->key, find->inline_too,
                             &find->object);
}

enum err meta_object_find(struct io *io, struct meta_client *client, uint64_t bucket_id,
                          struct slice key, bool inline_too, struct object **out_object)
{
    struct object_find find = {.bucket_id = bucket_id, .key = key, .inline_too = inline_too};
    TRY(client_read(io, client, object_find_read, &find, true));
    *out_object = find.object;
    return OK;
}

struct object_pages {
    const struct object *object;
    uint64_t offset;
    uint32_t after, max;
    struct extent_page *extents;
    struct part_page *parts;
};

static enum err object_extents_read(struct lane *lane, struct state *state, void *argument)
{
    struct object_pages *pages = argument;
    return state_object_extents(lane, state, pages->object, pages->offset, pages->max,
                                &pages->extents);
}

static enum err object_parts_read(struct lane *lane, struct state *state, void *argument)
{
    struct object_pages *pages = argument;
    return state_object_parts(lane, state, pages->object, pages->after, pages->max, &pages->parts);
}

/* The object has its blocks with it. */
static struct extent_page *extents_of_blocks(const struct object *object, uint64_t offset,
                                             uint32_t max)
{
    struct extent_page *page = mem_new(struct extent_page);
    page->extents = mem_alloc_array(object->block_count, sizeof *page->extents);
    uint64_t at = 0;
    for (uint32_t i = 0; i < object->block_count && page->count < max; i++) {
        struct extent extent = {.offset = at, .ref = object->blocks[i]};
        at += extent.ref.bytes;
        if (at > offset)
            page->extents[page->count++] = extent;
    }
    return page;
}

enum err meta_object_extents(struct io *io, struct meta_client *client, const struct object *object,
                             uint64_t offset, uint32_t max, struct extent_page **out_page)
{
    if (object->layout != LAYOUT_PARTS) {
        *out_page = extents_of_blocks(object, offset, max);
        return OK;
    }
    struct object_pages pages = {.object = object, .offset = offset, .max = max};
    TRY(client_read(io, client, object_extents_read, &pages, false));
    *out_page = pages.extents;
    return OK;
}

enum err meta_object_parts(struct io *io, struct meta_client *client, const struct object *object,
                           uint32_t after, uint32_t max, struct part_page **out_page)
{
    if (object->layout != LAYOUT_PARTS) {
        *out_page = mem_new(struct part_page);
        return OK;
    }
    struct object_pages pages = {.object = object, .after = after, .max = max};
    TRY(client_read(io, client, object_parts_read, &pages, false));
    *out_page = pages.parts;
    return OK;
}

struct list_read {
    const struct list_query *query;
    bool uploads;
    struct list_page *page;
};

static enum err list_read(struct lane *lane, struct state *state, void *argument)
{
    struct list_read *list = argument;
    return state_list(lane, state, list->query, list->uploads, &list->page);
}

static enum err client_list(struct io *io, struct meta_client *client,
                            const struct list_query *query, bool uploads,
                            struct list_page **out_page)
{
    if (query->max > META_LIST_MAX)
        return FAIL(ERR_INVALID, "list max=%u", query->max);
    struct list_read list = {.query = query, .uploads = uploads};
    TRY(client_read(io, client, list_read, &list, false));
    *out_page = list.page;
    return OK;
}

enum err meta_object_list(struct io *io, struct meta_client *client, const struct list_query *query,
                          struct list_page **out_page)
{
    return client_list(io, client, query, false, out_page);
}

enum err meta_upload_list(struct io *io, struct meta_client *client, const struct list_query *query,
                          struct list_page **out_page)
{
    return client_list(io, client, query, true, out_page);
}

/* --- multipart --- */

enum err meta_upload_create(struct io *io, struct meta_client *client,
                            const struct upload_create *create, uint64_t *out_upload_id)
{
    TRY(check_key(create->key));
    TRY(check_attributes(create->attributes, create->tags));
    struct command command = {
        .type = COMMAND_UPLOAD_CREATE,
        .upload = {.bucket_id = create->bucket_id,
                   .key = create->key,
                   .attributes = create->attributes,
                   .tags = create->tags,
                   .checksum_algorithm = create->checksum_algorithm,
                   .checksum_type = create->checksum_type},
    };
    struct object_written written;
    TRY(propose_written(io, client, &command, &written));
    *out_upload_id = written.stamp;
    return OK;
}

static enum err upload_find_read(struct lane *lane, struct state *state, void *argument)
{
    struct object_find *find = argument;
    return state_upload_find(lane, state, find->bucket_id, find->key, find->upload_id,
                             &find->upload);
}

enum err meta_upload_find(struct io *io, struct meta_client *client, uint64_t bucket_id,
                          struct slice key, uint64_t upload_id, struct upload **out_upload)
{
    struct object_find find = {.bucket_id = bucket_id, .key = key, .upload_id = upload_id};
    TRY(client_read(io, client, upload_find_read, &find, true));
    *out_upload = find.upload;
    return OK;
}

enum err meta_part_put(struct io *io, struct meta_client *client, uint64_t upload_id,
                       uint32_t part_number, const struct object_put *put,
                       struct object_written *out_written)
{
    TRY(check_put(put));
    if (part_number == 0 || part_number > META_PARTS_MAX)
        return FAIL(ERR_INVALID, "part number=%u", part_number);
    struct command command = put_command(COMMAND_PART_PUT, put);
    command.put.upload_id = upload_id;
    command.put.part_number = part_number;
    return propose_put(io, client, &command, put, out_written);
}

struct part_list {
    uint64_t bucket_id, upload_id;
    struct slice key;
    uint32_t after, max;
    struct part_page *page;
};

static enum err part_list_read(struct lane *lane, struct state *state, void *argument)
{
    struct part_list *list = argument;
    return state_part_list(lane, state, list->bucket_id, list->key, list->upload_id, list->after,
                           list->max, &list->page);
}

enum err meta_part_list(struct io *io, struct meta_client *client, uint64_t bucket_id,
                        struct slice key, uint64_t upload_id, uint32_t after, uint32_t max,
                        struct part_page **out_page)
{
    if (max == 0 || max > META_PARTS_MAX)
        return FAIL(ERR_INVALID, "part list max=%u", max);
    struct part_list list = {
        .bucket_id = bucket_id, .upload_id = upload_id, .key = key, .after = after, .max = max};
    TRY(client_read(io, client, part_list_read, &list, false));
    *out_page = list.page;
    return OK;
}

enum err meta_upload_complete(struct io *io, struct meta_client *client,
                              const struct upload_complete *complete,
                              struct object_written *out_written)
{
    TRY(check_key(complete->key));
    TRY(check_sums(&complete->etag, &complete->checksum));
    TRY(check_conditions(&complete->conditions));
    if (complete->part_count == 0 || complete->part_count > META_PARTS_MAX)
        return FAIL(ERR_INVALID, "complete of parts=%u", complete->part_count);
    struct command command = {
        .type = COMMAND_UPLOAD_COMPLETE,
        .complete = {.bucket_id = complete->bucket_id,
                     .key = complete->key,
                     .upload_id = complete->upload_id,
                     .conditions = complete->conditions,
                     .part_count = complete->part_count,
                     .etag = complete->etag,
                     .checksum = complete->checksum},
    };
    struct part_name *parts = mem_alloc_array(complete->part_count, sizeof *parts);
    for (uint32_t i = 0; i < complete->part_count; i++) {
        uint32_t number = complete->parts[i].number;
        /* 0 is refused in apply; a larger number than there can be is refused as well. */
        parts[i] = (struct part_name){.number = number > META_PARTS_MAX ? 0 : number,
                                      .id = complete->parts[i].id};
    }
    command.complete.parts = parts;
    enum err err = propose_written(io, client, &command, out_written);
    mem_free(parts);
    return err;
}

enum err meta_upload_abort(struct io *io, struct meta_client *client, uint64_t bucket_id,
                           struct slice key, uint64_t upload_id)
{
    TRY(check_key(key));
    struct command command = {
        .type = COMMAND_UPLOAD_ABORT,
        .upload = {.bucket_id = bucket_id, .key = key, .upload_id = upload_id},
    };
    return client_command(io, client, &command);
}
