/* No accepted mutation of a signed request means something else to a handler (R20 in miniature). */
#include "base/bytes.h"
#include "base/mem.h"
#include "head_text.h"
#include "parsed.h"
#include "s3/signer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define T0 UINT64_C(1369353600000)
#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define BASIC "host: h\nx-amz-date: 20130524T000000Z\nx-amz-content-sha256: UNSIGNED-PAYLOAD\n"

enum { ROUNDS = 10000, LINES_MAX = 16 };
enum form { BY_HEADER, BY_QUERY, BY_QUERY_V2 };

static const char *const domains[] = {"s3.test"};
static const struct s3_config config = {.domains = domains, .domain_count = 1};

static const struct {
    enum form form;
    const char *head;
    const char *resource; /* version 2 */
} bases[] = {
    {BY_HEADER, "PUT /abc/k HTTP/1.1\n" BASIC "x-amz-meta-a: 1, 2\ncontent-type: text/plain\n", ""},
    {BY_HEADER, "GET /abc?list-type=2&prefix=a%2Fb&delimiter=%2F&max-keys=2 HTTP/1.1\n" BASIC, ""},
    {BY_HEADER,
     "DELETE /k//..%2Fx%20y?versionId=v HTTP/1.1\nhost: abc.s3.test\n"
     "x-amz-date: 20130524T000000Z\nx-amz-content-sha256: UNSIGNED-PAYLOAD\n",
     ""},
    {BY_HEADER, "PUT /abc/k HTTP/1.1\n" BASIC "x-amz-copy-source: def/g%2Fh\n", ""},
    {BY_QUERY, "PUT /abc/k?x-amz-acl=private HTTP/1.1\nhost: h\n", ""},
    {BY_QUERY, "GET /abc/k?response-content-type=a%2Fb HTTP/1.1\nhost: h\nx-amz-meta-b: x\n", ""},
    {BY_QUERY_V2, "PUT /abc/k?uploadId=u&partNumber=1 HTTP/1.1\nhost: h\nx-amz-meta-b: x\n",
     "/abc/k?partNumber=1&uploadId=u"},
};

/* xorshift64*: reproducible. */
static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)(random_state * UINT64_C(2685821657736338717) >> 33) % limit;
}

/* A head as lines that a mutation may rewrite: [0] method, [1] target, then names and values. */
struct draft {
    struct bytes method;
    struct bytes target;
    struct bytes names[LINES_MAX];
    struct bytes values[LINES_MAX];
    uint32_t count;
};

static void draft_deinit(struct draft *draft)
{
    bytes_deinit(&draft->method);
    bytes_deinit(&draft->target);
    for (uint32_t i = 0; i < LINES_MAX; i++) {
        bytes_deinit(&draft->names[i]);
        bytes_deinit(&draft->values[i]);
    }
}

static struct bytes copy_of(struct slice text)
{
    struct bytes copy = {.max = 32768};
    bytes_append(&copy, text);
    return copy;
}

static void draft_add(struct draft *draft, struct slice name, struct slice value)
{
    if (draft->count == LINES_MAX)
        return;
    draft->names[draft->count] = copy_of(name);
    draft->values[draft->count++] = copy_of(value);
}

static struct draft draft_of(const struct s3_head *head)
{
    struct draft draft = {.method = copy_of(head->method), .target = copy_of(head->target)};
    for (uint32_t i = 0; i < head->header_count; i++)
        draft_add(&draft, head->headers[i].name, head->headers[i].value);
    return draft;
}

static struct s3_head draft_head(const struct draft *draft, struct s3_header *headers)
{
    for (uint32_t i = 0; i < draft->count; i++)
        headers[i] = (struct s3_header){bytes_slice(&draft->names[i]),
                                        slice_trim(bytes_slice(&draft->values[i]))};
    return (struct s3_head){.method = bytes_slice(&draft->method),
                            .target = bytes_slice(&draft->target),
                            .version = SLICE_LITERAL("HTTP/1.1"),
                            .headers = headers,
                            .header_count = draft->count};
}

static struct draft signed_draft(size_t base)
{
    struct s3_signer signer = {.access_key = SLICE_LITERAL("AKIA"),
                               .secret = SLICE_LITERAL(SECRET),
                               .region = SLICE_LITERAL("us-east-1"),
                               .now_ms = T0};
    struct head_text text;
    AUTO_VALUE(bytes) made = {.max = 32768};
    head_text_init(&text, bases[base].head);
    switch (bases[base].form) {
    case BY_HEADER:
        s3_signer_authorize(&signer, &text.head, &made, NULL);
        text.headers[text.head.header_count++] =
            (struct s3_header){SLICE_LITERAL("Authorization"), bytes_slice(&made)};
        break;
    case BY_QUERY:
        s3_signer_presign(&signer, &text.head, 60, &made);
        text.head.target = bytes_slice(&made);
        break;
    case BY_QUERY_V2:
        s3_signer_presign_v2(&signer, &text.head, slice_of_text(bases[base].resource),
                             T0 / 1000 + 60, &made);
        text.head.target = bytes_slice(&made);
        break;
    }
    return draft_of(&text.head);
}

static void flip_byte(struct bytes *text)
{
    static const char interesting[] = "%&=?/+. ,;:aA0x-\t\n";
    if (text->bytes == 0)
        return;
    uint8_t *at = &text->data[random_below((uint32_t)text->bytes)];
    switch (random_below(3)) {
    case 0:
        *at = (uint8_t)interesting[random_below(sizeof interesting - 1)];
        break;
    case 1:
        *at ^= 0x20;
        break;
    case 2:
        *at ^= (uint8_t)(1 << random_below(8));
        break;
    }
}

/* Insert, or with `escape` write one byte as its percent escape. */
static void rewrite_byte(struct bytes *text, bool escape)
{
    static const char *const pieces[] = {
        "/",         "%2F", "%00", "&", "=", "?", "acl", "&acl", " ", ",", "&x-amz-acl=public-read",
        "&prefix=z", "..",  "%"};
    if (text->bytes == 0)
        return;
    size_t at = random_below((uint32_t)text->bytes);
    struct bytes copy = {.max = 32768};
    bytes_append(&copy, slice_first(bytes_slice(text), at));
    if (escape)
        bytes_append_format(&copy, random_below(2) ? "%%%02x" : "%%%02X", text->data[at]);
    else
        bytes_append_text(&copy, pieces[random_below(sizeof pieces / sizeof pieces[0])]);
    bytes_append(&copy, slice_skip(bytes_slice(text), at + escape));
    bytes_deinit(text);
    *text = copy;
}

static struct bytes *random_text(struct draft *draft)
{
    uint32_t which = random_below(2 * draft->count + 6);
    if (which < draft->count)
        return &draft->names[which];
    if (which < 2 * draft->count)
        return &draft->values[which - draft->count];
    return which == 2 * draft->count ? &draft->method : &draft->target;
}

static void mutate_headers(struct draft *draft)
{
    static const char *const names[] = {"x-amz-copy-source", "X-Amz-Meta-Z", "host",
                                        "x-amz-acl",         "X-AMZ-META-A", "x-amz-meta-b"};
    uint32_t i = random_below(draft->count);
    struct bytes name = draft->names[i];
    struct bytes value = draft->values[i];
    switch (random_below(4)) {
    case 0:
        draft_add(draft, slice_of_text(names[random_below(sizeof names / sizeof names[0])]),
                  SLICE_LITERAL("2"));
        break;
    case 1:
        draft_add(draft, bytes_slice(&name), bytes_slice(&value));
        break;
    case 2: /* remove */
        bytes_deinit(&draft->names[i]);
        bytes_deinit(&draft->values[i]);
        draft->count--;
        draft->names[i] = draft->names[draft->count];
        draft->values[i] = draft->values[draft->count];
        draft->names[draft->count] = (struct bytes){0};
        draft->values[draft->count] = (struct bytes){0};
        break;
    case 3: /* swap with the first */
        draft->names[i] = draft->names[0];
        draft->values[i] = draft->values[0];
        draft->names[0] = name;
        draft->values[0] = value;
        break;
    }
}

static void mutate(struct draft *draft)
{
    for (uint32_t steps = 1 + random_below(2); steps > 0 && draft->count > 0; steps--) {
        switch (random_below(4)) {
        case 0:
            flip_byte(random_text(draft));
            break;
        case 1:
            rewrite_byte(random_text(draft), true);
            break;
        case 2:
            rewrite_byte(random_text(draft), false);
            break;
        case 3:
            mutate_headers(draft);
            break;
        }
    }
}

static struct s3_request *accept(const struct s3_head *head)
{
    AUTO(s3_request) request = NULL;
    struct s3_framing framing;
    if (s3_head_check(head, NULL, &framing) != S3_OK ||
        s3_request_new(head, &config, NULL, &request) != S3_OK ||
        s3_request_credential(request)->kind == S3_AUTH_ANONYMOUS)
        return NULL;
    /* The access key is not signed itself: it selects the secret. */
    bool known = slice_equal_text(s3_request_credential(request)->access_key, "AKIA");
    struct slice secret = slice_of_text(known ? SECRET : NULL);
    if (s3_auth_verify(request, secret, NULL, T0, NULL) != S3_OK)
        return NULL;
    return TAKE(request);
}

/* Equal but for the length of runs of white space, which the algorithm collapses. */
static bool same_value(struct slice a, struct slice b)
{
    size_t i = 0;
    size_t j = 0;
    while (i < a.bytes && j < b.bytes) {
        bool a_space = a.data[i] == ' ' || a.data[i] == '\t';
        bool b_space = b.data[j] == ' ' || b.data[j] == '\t';
        if (a_space != b_space || (!a_space && a.data[i] != b.data[j]))
            return false;
        for (i++; a_space && i < a.bytes && (a.data[i] == ' ' || a.data[i] == '\t'); i++)
            ;
        for (j++; b_space && j < b.bytes && (b.data[j] == ' ' || b.data[j] == '\t'); j++)
            ;
    }
    return i == a.bytes && j == b.bytes;
}

/* Every x-amz-* header and every signed one of `a` has the same value in `b`. */
static bool headers_within(const struct s3_request *a, const struct s3_request *b)
{
    for (uint32_t i = 0; i < a->header_count; i++) {
        const struct view_header *header = &a->headers[i];
        AUTO_STRING name = slice_to_text(header->name);
        bool matters =
            header->is_signed || slice_starts_with(header->name, SLICE_LITERAL("x-amz-"));
        /* Version 2 binds the host by the bucket alone. */
        if (matters &&
            (view_find(b, name) == NULL || !same_value(s3_request_header(b, name), header->value)))
            return false;
    }
    return true;
}

static bool is_v2_listing(struct slice name)
{
    return slice_equal_text(name, "prefix");
}

static bool query_within(const struct s3_request *a, const struct s3_request *b)
{
    for (uint32_t i = 0; i < a->query_count; i++) {
        const struct s3_pair *pair = &a->query[i];
        AUTO_STRING name = slice_to_text(pair->name);
        const struct s3_pair *other = query_find(b, name);
        if (a->credential.kind == S3_AUTH_V2_QUERY &&
            (is_v2_listing(pair->name) || slice_starts_with(pair->name, SLICE_LITERAL("x-"))))
            continue;
        /* The signature may be spelt in capitals. */
        if (slice_equal_nocase(pair->name, SLICE_LITERAL("x-amz-signature")))
            continue;
        if (other == NULL || !slice_equal(other->value, pair->value))
            return false;
    }
    return true;
}

static bool same_meaning(const struct s3_request *a, const struct s3_request *b)
{
    return a->method == b->method && a->operation == b->operation &&
           slice_equal(a->bucket, b->bucket) && slice_equal(a->key, b->key) &&
           a->payload.mode == b->payload.mode &&
           slice_equal(a->credential.access_key, b->credential.access_key) &&
           headers_within(a, b) && headers_within(b, a) && query_within(a, b) && query_within(b, a);
}

static void an_accepted_mutation_means_the_same(void **state)
{
    (void)state;
    uint32_t accepted = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct s3_header headers[LINES_MAX];
        struct s3_header mutated_headers[LINES_MAX];
        random_state = round * UINT64_C(0x9e3779b97f4a7c15) + 1;
        AUTO_VALUE(draft) draft = signed_draft(round % (sizeof bases / sizeof bases[0]));
        AUTO_VALUE(draft) mutated = signed_draft(round % (sizeof bases / sizeof bases[0]));
        struct s3_head head = draft_head(&draft, headers);
        AUTO(s3_request) original = accept(&head);
        assert_non_null(original);
        mutate(&mutated);
        struct s3_head mutated_head = draft_head(&mutated, mutated_headers);
        AUTO(s3_request) request = accept(&mutated_head);
        accepted += request != NULL;
        if (request != NULL && !same_meaning(original, request))
            fail_msg("round %u: %.*s", round, SLICE_PRINT(mutated_head.target));
    }
    /* Most mutations break the signature, harmless ones (order, letter case, escapes) do not. */
    assert_true(accepted > ROUNDS / 100);
    assert_true(accepted < ROUNDS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_accepted_mutation_means_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
