/* Request bodies: the first byte picks the kind, the rest is the body. However the body is
 * split, the parser must give the same result, and whatever it accepts must keep the promises of
 * s3/body.h. */
#include "base/bytes.h"
#include "s3/body.h"
#include <assert.h>
#include <inttypes.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A text of the slice that cannot be confused with its neighbours. */
static void print_slice(struct bytes *out, struct slice slice)
{
    bytes_append_format(out, "%zu:", slice.bytes);
    bytes_append(out, slice);
}

static void print_tags(struct bytes *out, const struct body_tagging *tagging)
{
    for (uint32_t i = 0; i < tagging->tag_count; i++) {
        print_slice(out, tagging->tags[i].key);
        print_slice(out, tagging->tags[i].value);
    }
    (void)tags_check(tagging->tags, tagging->tag_count, TAG_BUCKET_COUNT_MAX, NULL);
}

static void print_delete(struct bytes *out, const struct body_delete *delete)
{
    assert(delete->object_count >= 1 && delete->object_count <= BODY_DELETE_COUNT_MAX);
    bytes_append_format(out, "quiet=%d ", delete->quiet);
    for (uint32_t i = 0; i < delete->object_count; i++) {
        const struct body_delete_object *object = &delete->objects[i];
        assert(object->key.bytes >= 1 && object->key.bytes <= BODY_TEXT_BYTES_MAX);
        print_slice(out, object->key);
        print_slice(out, object->version_id);
        print_slice(out, object->etag);
        print_slice(out, object->last_modified_time);
        bytes_append_format(out, "%d %" PRIu64, object->has_size, object->size);
    }
}

static void print_complete(struct bytes *out, const struct body_complete_multipart *complete)
{
    assert(complete->part_count >= 1 && complete->part_count <= BODY_PART_COUNT_MAX);
    bytes_append_format(out, "ascending=%d ", complete->ascending);
    for (uint32_t i = 0; i < complete->part_count; i++) {
        const struct body_part *part = &complete->parts[i];
        assert(part->part_number >= 1);
        bytes_append_format(out, "%" PRIu32 " ", part->part_number);
        print_slice(out, part->etag);
        if (part->checksum.algorithm != CHECKSUM_NONE)
            checksum_append(out, &part->checksum);
    }
}

static void print_policy(struct bytes *out, const struct body_access_control_policy *policy)
{
    assert(policy->owner_id.bytes > 0);
    assert(policy->grant_count <= BODY_GRANT_COUNT_MAX);
    print_slice(out, policy->owner_id);
    bytes_append_format(out, "%d ", body_acl_is_owner_only(policy));
    for (uint32_t i = 0; i < policy->grant_count; i++) {
        assert(policy->grants[i].grantee.bytes > 0);
        bytes_append_format(out, "%d %d", policy->grants[i].type, policy->grants[i].permission);
        print_slice(out, policy->grants[i].grantee);
    }
}

/* What is accepted comes back from its encoding, field by field, and can be asked. */
static void check_rules(const struct body_cors *cors)
{
    AUTO_VALUE(bytes) stored = {.max = body_bytes_max(BODY_CORS)};
    cors_encode(&stored, cors->fields, cors->field_count);
    assert(!stored.overflow);
    struct cors_reader reader;
    enum err err = cors_read(bytes_slice(&stored), &reader);
    assert(err == OK);
    uint64_t count = reader.left;
    struct cors_field field;
    while (cors_next(&reader, &field))
        count--;
    assert(count == 0);
    struct cors_question question = {.origin = field.text, .method = SLICE_LITERAL("GET")};
    struct cors_grant grant = {0};
    (void)cors_ask(bytes_slice(&stored), &question, &grant);
    cors_grant_deinit(&grant);
}

static void print_cors(struct bytes *out, const struct body_cors *cors)
{
    assert(cors->field_count > 0);
    for (uint32_t i = 0; i < cors->field_count; i++) {
        bytes_append_format(out, "%d ", cors->fields[i].kind);
        print_slice(out, cors->fields[i].text);
    }
    if (cors_check(cors->fields, cors->field_count, NULL) == S3_OK)
        check_rules(cors);
}

static void print_body(struct bytes *out, const struct body *body)
{
    switch (body->kind) {
    case BODY_DELETE:
        return print_delete(out, &body->delete);
    case BODY_COMPLETE_MULTIPART:
        return print_complete(out, &body->complete);
    case BODY_CREATE_BUCKET:
        print_slice(out, body->create_bucket.location_constraint);
        return print_tags(out, &body->create_bucket.tagging);
    case BODY_ACCESS_CONTROL_POLICY:
        return print_policy(out, &body->access_control_policy);
    case BODY_TAGGING:
        return print_tags(out, &body->tagging);
    case BODY_CORS:
        return print_cors(out, &body->cors);
    }
}

/* Parse in steps of `step` bytes and print the result. */
static void parse(enum body_kind kind, struct slice text, size_t step, struct bytes *out)
{
    AUTO(body_parser) parser = body_parser_new(kind, NULL);
    enum s3_error error = S3_OK;
    for (; text.bytes > 0 && error == S3_OK; text = slice_skip(text, step))
        error = body_parser_feed(parser, slice_first(text, step));
    const struct body *body = NULL;
    if (error == S3_OK)
        error = body_parser_finish(parser, &body);
    if (error == S3_OK)
        print_body(out, body);
    else
        bytes_append_text(out, s3_error_code(error));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const size_t steps[] = {1, 3, 1000, 4097};
    if (bytes == 0)
        return 0;
    enum body_kind kind = (enum body_kind)(data[0] % BODY_KIND_COUNT);
    struct slice text = slice_of(data + 1, bytes - 1);
    AUTO_VALUE(bytes) whole = {.max = 64 << 20};
    parse(kind, text, bytes, &whole);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        AUTO_VALUE(bytes) split = {.max = 64 << 20};
        parse(kind, text, steps[i], &split);
        assert(slice_equal(bytes_slice(&split), bytes_slice(&whole)));
    }
    assert(!whole.overflow);
    return 0;
}
