/* DeleteObjects: up to 1000 keys, each with its own outcome. */
#include "deletion.h"
#include "operations.h"
#include "runtime/sync.h"
#include "xml_body.h"

enum { DELETERS = 16 }; /* fibers a request; the metadata commits what they wait for together */

struct batch {
    struct context *context;
    const struct body_delete *body;
    enum s3_error outcomes[BODY_DELETE_COUNT_MAX];
    uint32_t next; /* to be taken by the next free fiber */
};

static enum s3_error delete_one(struct io *io, struct context *context,
                                const struct body_delete_object *object)
{
    struct delete_condition condition;
    TRY(delete_condition_parse(object->etag, object->last_modified_time, slice_of(NULL, 0), NULL,
                               &condition));
    condition.has_size = object->has_size;
    condition.size = object->size;
    struct slice version = object->version_id.bytes > 0 ? object->version_id : slice_of(NULL, 0);
    return delete_key(io, context, object->key, version, &condition);
}

static void run_deleter(struct io *io, void *argument)
{
    struct batch *batch = argument;
    while (batch->next < batch->body->object_count) {
        uint32_t i = batch->next++;
        batch->outcomes[i] = delete_one(io, batch->context, &batch->body->objects[i]);
    }
}

static void run_batch(struct io *io, struct batch *batch)
{
    struct fiber_group deleters;
    fiber_group_init(&deleters);
    for (int i = 1; i < DELETERS && batch->next < batch->body->object_count; i++)
        if (fiber_group_spawn(io, &deleters, run_deleter, batch) != OK)
            break; /* fewer fibers do it too */
    run_deleter(io, batch);
    fiber_group_wait(io, &deleters);
}

static void write_outcome(struct xml_writer *xml, const struct body_delete_object *object,
                          enum s3_error error)
{
    xml_open(xml, error == S3_OK ? "Deleted" : "Error");
    xml_element(xml, "Key", object->key);
    if (object->version_id.bytes > 0)
        xml_element(xml, "VersionId", object->version_id);
    if (error != S3_OK) {
        xml_element_text(xml, "Code", s3_error_code(error));
        xml_element_text(xml, "Message", s3_error_message(error));
    }
    xml_close(xml);
}

static enum s3_error answer(struct io *io, const struct batch *batch)
{
    AUTO_VALUE(bytes) document = {.max = CONTEXT_DOCUMENT_BYTES_MAX};
    struct xml_writer xml = xml_document(&document, "DeleteResult", true);
    for (uint32_t i = 0; i < batch->body->object_count; i++)
        if (batch->outcomes[i] != S3_OK || !batch->body->quiet)
            write_outcome(&xml, &batch->body->objects[i], batch->outcomes[i]);
    xml_finish(&xml);
    return context_respond_xml(io, batch->context, 200, &document);
}

/* A list of deletions must not be a damaged one: S3 asks for a digest of it. The signed hash of the
 * body is as good. */
static enum s3_error require_digest(struct context *context)
{
    const struct s3_request *request = context->request;
    bool has = s3_request_payload(request)->mode != S3_PAYLOAD_UNSIGNED ||
               s3_request_header(request, "content-md5").data != NULL;
    for (int i = CHECKSUM_NONE + 1; i < CHECKSUM_ALGORITHM_COUNT && !has; i++)
        has = s3_request_header(request, checksum_header((enum checksum_algorithm)i)).data != NULL;
    if (has)
        return S3_OK;
    return S3_FAIL_SAY(&context->failure, S3_INVALID_REQUEST,
                       "Missing required header for this request: Content-MD5 OR "
                       "x-amz-checksum-*");
}

enum s3_error op_delete_objects(struct io *io, struct context *context)
{
    TRY(context_bucket(io, context));
    TRY(require_digest(context));
    AUTO(body_parser) parser = NULL;
    const struct body *body;
    TRY(xml_body_read(io, context, BODY_DELETE, &parser, &body));
    struct batch batch = {.context = context, .body = &body->delete};
    run_batch(io, &batch);
    return answer(io, &batch);
}
