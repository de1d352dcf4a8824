/* See gateway/gateway.h: the way of every request. */
#include "gateway/gateway.h"

#include "base/hash.h"
#include "base/mem.h"
#include "context.h"
#include "cross_origin.h"
#include "dispatch.h"
#include "request_metrics.h"
#include "s3/body.h"
#include "s3/sigv4.h"

#include <openssl/crypto.h>

enum {
    IDENTITY_CACHE_SLOTS = 64,
    REQUESTS_MAX_DEFAULT = 1000,
};
#define IDENTITY_CACHE_NS (5 * IO_NS_PER_S)
#define BODY_BUDGET_BYTES_DEFAULT ((size_t)256 << 20)

/* A look-up of an access key, found or not, good for IDENTITY_CACHE_NS. */
struct cached_identity {
    struct identity identity;
    uint64_t valid_until_ns; /* 0: empty */
};

/* What only one reactor touches; `active` is read by others for metrics. */
struct gateway_reactor {
    struct s3_signing_cache signing;
    struct cached_identity identities[IDENTITY_CACHE_SLOTS];
    _Atomic uint32_t active;
};

static void record(struct io *io, const struct context *context, enum s3_error error)
{
    const struct exchange *exchange = context->exchange;
    struct request_outcome outcome = {
        .operation = context->request == NULL ? S3_OP_NONE : s3_request_operation(context->request),
        .error = error,
        .ns = io_now_ns(io) - exchange->started_ns,
        .received_bytes = exchange->body_bytes_read,
        .sent_bytes = exchange->body_bytes_sent,
    };
    request_metrics_end(context->gateway->requests, &outcome);
}

struct gateway *gateway_new(struct io *io, const struct gateway_options *options)
{
    body_library_init();
    struct gateway *gateway = mem_new(struct gateway);
    gateway->options = *options;
    if (gateway->options.requests_max == 0)
        gateway->options.requests_max = REQUESTS_MAX_DEFAULT;
    if (gateway->options.body_budget_bytes == 0)
        gateway->options.body_budget_bytes = BODY_BUDGET_BYTES_DEFAULT;
    gateway->pool = buf_pool_new(gateway->options.body_budget_bytes);
    gateway->methods = digest_methods_new();
    gateway->requests = request_metrics_new(options->metrics);
    gateway->reactor_count = io_reactor_count(io);
    gateway->reactors = mem_alloc_array(gateway->reactor_count, sizeof *gateway->reactors);
    return gateway;
}

void gateway_free(struct gateway *gateway)
{
    if (gateway == NULL)
        return;
    for (unsigned i = 0; i < gateway->reactor_count; i++) {
        assert(gateway->reactors[i].active == 0);
        s3_signing_cache_deinit(&gateway->reactors[i].signing);
        OPENSSL_cleanse(gateway->reactors[i].identities, sizeof gateway->reactors[i].identities);
    }
    mem_free(gateway->reactors);
    request_metrics_free(gateway->requests);
    digest_methods_free(gateway->methods);
    buf_pool_free(gateway->pool);
    mem_free(gateway);
}

uint32_t gateway_active(const struct gateway *gateway)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < gateway->reactor_count; i++)
        count += gateway->reactors[i].active;
    return count;
}

size_t gateway_body_bytes(const struct gateway *gateway)
{
    return buf_pool_used_bytes(gateway->pool);
}

/* The identity of an access key; one without a secret when there is none. */
static enum s3_error find_identity(struct io *io, struct gateway *gateway, struct slice access_key,
                                   struct identity *out_identity)
{
    struct gateway_reactor *reactor = &gateway->reactors[io_reactor_index(io)];
    struct cached_identity *slot =
        &reactor->identities[hash64_of(access_key) % IDENTITY_CACHE_SLOTS];
    if (slot->valid_until_ns > io_now_ns(io) &&
        slice_equal_text(access_key, slot->identity.access_key)) {
        *out_identity = slot->identity;
        return S3_OK;
    }
    enum err err = meta_identity_find(io, gateway->options.meta, access_key, out_identity);
    if (err == ERR_NOT_FOUND) {
        /* Not cached: an attacker could fill the cache with names. */
        memset(out_identity, 0, sizeof *out_identity);
        return S3_OK;
    }
    TRY(s3_error_from(err, "identity lookup"));
    slot->identity = *out_identity;
    slot->valid_until_ns = io_now_ns(io) + IDENTITY_CACHE_NS;
    return S3_OK;
}

enum s3_error context_authenticate(struct io *io, struct context *context)
{
    const struct s3_credential *credential = s3_request_credential(context->request);
    if (credential->kind == S3_AUTH_ANONYMOUS) {
        TRY(s3_request_accept_anonymous(context->request, &context->failure));
        return S3_FAIL(S3_ACCESS_DENIED, "anonymous request");
    }
    if (credential->session_token.bytes > 0)
        return S3_FAIL(S3_INVALID_TOKEN, "session tokens are not issued by this server");
    TRY(find_identity(io, context->gateway, credential->access_key, &context->identity));
    bool known = context->identity.secret_key[0] != '\0';
    struct slice secret = known ? slice_of_text(context->identity.secret_key) : slice_of(NULL, 0);
    struct gateway_reactor *reactor = &context->gateway->reactors[io_reactor_index(io)];
    return s3_auth_verify(context->request, secret, &reactor->signing, io_wall_ms(io),
                          &context->failure);
}

/* Below the reserve deletes and reads go on, and what was begun may be completed. */
static enum s3_error check_space(struct context *context)
{
    static const enum s3_operation growing[] = {
        S3_OP_CREATE_BUCKET,           S3_OP_PUT_OBJECT,  S3_OP_COPY_OBJECT,
        S3_OP_CREATE_MULTIPART_UPLOAD, S3_OP_POST_OBJECT, S3_OP_UPLOAD_PART,
        S3_OP_UPLOAD_PART_COPY,
    };
    for (unsigned i = 0; i < sizeof growing / sizeof growing[0]; i++)
        if (s3_request_operation(context->request) == growing[i])
            return s3_error_from(storage_check_space(context->gateway->options.storage), "space");
    return S3_OK;
}

/* A preflight has no signature, and a form has it in its body. */
static enum s3_error admit(struct io *io, struct context *context)
{
    if (s3_request_method(context->request) == S3_OPTIONS)
        return S3_OK;
    cross_origin_prepare(io, context);
    cross_origin_headers(context);
    if (s3_request_operation(context->request) == S3_OP_POST_OBJECT)
        return S3_OK;
    return context_authenticate(io, context);
}

static enum s3_error handle(struct io *io, struct context *context)
{
    const struct gateway_options *options = &context->gateway->options;
    if (options->ready != NULL && !options->ready(options->ready_context))
        return S3_FAIL(S3_SERVICE_UNAVAILABLE, "not ready");
    TRY(s3_request_new(&context->exchange->head, &options->s3, &context->failure,
                       &context->request));
    TRY(admit(io, context));
    operation_fn *operation = dispatch_find(s3_request_operation(context->request));
    if (operation == NULL)
        return S3_FAIL_SAY(&context->failure, S3_NOT_IMPLEMENTED, "%s is not implemented.",
                           s3_operation_name(s3_request_operation(context->request)));
    TRY(check_space(context));
    return operation(io, context);
}

static void context_deinit(struct context *context)
{
    s3_request_free(context->request);
    s3_failure_deinit(&context->failure);
    bytes_deinit(&context->scratch);
    cors_grant_deinit(&context->cors);
    bytes_deinit(&context->cors_rules);
    OPENSSL_cleanse(&context->identity, sizeof context->identity);
}

static void drop_intents(struct io *io, struct context *context)
{
    for (uint32_t i = 0; i < context->abandoned_intent_count; i++)
        (void)meta_intent_drop(io, context->gateway->options.meta,
                               context->abandoned_intents[i]); /* else it expires */
}

void gateway_serve(struct io *io, struct gateway *gateway, struct exchange *exchange)
{
    struct gateway_reactor *reactor = &gateway->reactors[io_reactor_index(io)];
    struct context context = {
        .gateway = gateway,
        .exchange = exchange,
        .scratch = {.max = CONTEXT_SCRATCH_BYTES_MAX},
    };
    io_set_request(io, exchange->request_id);
    request_metrics_begin(gateway->requests);
    enum s3_error error = S3_OK;
    if (reactor->active++ >= gateway->options.requests_max)
        error = S3_FAIL(S3_SLOW_DOWN, "too many requests");
    else
        error = handle(io, &context);
    if (error != S3_OK)
        error_answer(io, &context, error);
    drop_intents(io, &context);
    record(io, &context, error);
    context_deinit(&context);
    reactor->active--;
}
