/* A browser's upload as a request: handlers read its fields as the headers of a PutObject. */
#include "base/mem.h"
#include "parsed.h"
#include "s3/name.h"
#include <assert.h>

/* Which fields are headers: these and x-amz-*, without those of the signature. */
static const char *const header_fields[] = {
    "cache-control", "content-disposition", "content-encoding", "content-language",
    "content-md5",   "content-type",        "expires",
};
static const char *const signature_fields[] = {
    "x-amz-algorithm", "x-amz-credential",     "x-amz-date",
    "x-amz-signature", "x-amz-security-token", "x-amz-content-sha256",
};

enum s3_error form_require(const struct s3_form *form, const char *name, struct s3_failure *failure)
{
    char lower[32] = {0};
    for (size_t i = 0; name[i] != '\0'; i++) {
        assert(i + 1 < sizeof lower);
        lower[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
    }
    if (s3_form_field(form, lower).data != NULL)
        return S3_OK;
    AUTO_STRING message = mem_format("Bucket POST must contain a field named '%s'.  If it is "
                                     "specified, please check the order of the fields.",
                                     name);
    return s3_fail_argument(failure, name, slice_of_text(""), message);
}

static bool is_one_of(struct slice name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_equal_text(name, names[i]))
            return true;
    }
    return false;
}

static bool is_header(struct slice name)
{
    if (slice_starts_with(name, SLICE_LITERAL("x-amz-")))
        return !is_one_of(name, signature_fields,
                          sizeof signature_fields / sizeof signature_fields[0]);
    return is_one_of(name, header_fields, sizeof header_fields / sizeof header_fields[0]);
}

/* The view of the head goes: nobody signed it. Host stays, for the Location of the answer. */
static void keep_host(struct s3_request *request)
{
    const struct view_header *host = view_find(request, "host");
    struct view_header kept = host == NULL ? (struct view_header){0} : *host;
    request->header_count = 0;
    request->query_count = 0;
    if (host != NULL)
        request->headers[request->header_count++] = kept;
}

static void add_header(struct s3_request *request, struct slice name, struct slice value)
{
    assert(request->header_count < S3_HEADERS_MAX);
    request->headers[request->header_count++] =
        (struct view_header){.name = name, .value = value, .is_signed = true};
}

static void view_form(struct s3_request *request, const struct s3_form *form)
{
    struct slice acl = s3_form_field(form, "acl");
    bool has_acl_header = s3_form_field(form, "x-amz-acl").data != NULL;
    keep_host(request);
    for (uint32_t i = 0; i < s3_form_field_count(form); i++) {
        struct slice name;
        struct slice value;
        s3_form_field_at(form, i, &name, &value);
        if (is_header(name))
            add_header(request, name, value);
    }
    if (acl.data != NULL && !has_acl_header)
        add_header(request, SLICE_LITERAL("x-amz-acl"), acl);
}

static enum s3_error take_key(struct s3_request *request, const struct s3_form *form,
                              struct s3_failure *failure)
{
    TRY(form_require(form, "key", failure));
    struct slice key = s3_form_field(form, "key");
    if (key.bytes == 0)
        return s3_fail_argument(failure, "key", key, "User key must have a length greater than 0.");
    TRY(s3_key_check(key));
    request->key = key;
    return S3_OK;
}

enum s3_error s3_request_take_form(struct s3_request *request, struct s3_form *form,
                                   struct s3_failure *failure)
{
    assert(request->form == NULL);
    assert(!request->is_verified);
    request->form = form;
    TRY(check_repeated(request, failure));
    TRY(take_key(request, form, failure));
    TRY(credential_parse_form(request, form, failure));
    view_form(request, form);
    /* The signature does not cover the file. */
    request->payload = (struct s3_payload){.mode = S3_PAYLOAD_UNSIGNED};
    return S3_OK;
}

const struct s3_form *s3_request_form(const struct s3_request *request)
{
    assert(request->is_verified);
    assert(request->form != NULL);
    return request->form;
}
