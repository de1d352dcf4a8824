/* Target 3 of the fuzz list: a browser's upload. The form parser gives the same result for any
 * split of its input, and whatever the form calls its policy is judged without harm.
 *
 * Input: seed of the split, bytes of the Content-Type (0: one with boundary `b`), the Content-Type,
 * the body. */
#include "base/bytes.h"
#include "s3/form.h"
#include "s3/post_policy.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { HEADER_BYTES = 2, OUT_BYTES_MAX = 4 << 20 };

struct result {
    enum s3_error error;
    struct bytes fields;
    struct bytes content;
};

static void result_deinit(struct result *result)
{
    bytes_deinit(&result->fields);
    bytes_deinit(&result->content);
}

/* Pieces of 1 to `seed` % 67 + 1 bytes, or everything at once for seed 0. */
static size_t piece_bytes(uint8_t seed, size_t index, size_t left)
{
    if (seed == 0)
        return left;
    size_t piece = (seed * 31u + index * 17u) % (seed % 67u + 1u) + 1u;
    return piece < left ? piece : left;
}

static void describe(const struct s3_form *form, struct bytes *out)
{
    for (uint32_t i = 0; i < s3_form_field_count(form); i++) {
        struct slice name;
        struct slice value;
        s3_form_field_at(form, i, &name, &value);
        assert(name.bytes > 0);
        assert(value.data != NULL);
        bytes_append(out, name);
        bytes_append_byte(out, '\0');
        bytes_append(out, value);
        bytes_append_byte(out, '\0');
    }
}

static void judge(const struct s3_form *form)
{
    AUTO(s3_post_policy) policy = NULL;
    uint64_t min = 0;
    uint64_t max = 0;
    if (s3_post_policy_new(s3_form_field(form, "policy"), NULL, &policy) != S3_OK)
        return;
    s3_post_policy_range(policy, &min, &max);
    enum s3_error error = s3_post_policy_check(policy, form, SLICE_LITERAL("bucket"), 0, NULL);
    assert(error == S3_OK || error == S3_ACCESS_DENIED);
}

static enum s3_error feed(struct s3_form *form, struct slice body, uint8_t seed,
                          struct result *result)
{
    for (size_t index = 0; body.bytes > 0; index++) {
        struct slice piece = slice_first(body, piece_bytes(seed, index, body.bytes));
        enum s3_form_event event = S3_FORM_MORE;
        body = slice_skip(body, piece.bytes);
        do {
            struct slice content;
            TRY(s3_form_next(form, &piece, &event, &content, NULL));
            assert((content.bytes > 0) == (event == S3_FORM_CONTENT));
            bytes_append(&result->content, content);
            if (event == S3_FORM_FILE) {
                describe(form, &result->fields);
                judge(form);
            }
        } while (event == S3_FORM_FILE || event == S3_FORM_CONTENT);
        assert(event == S3_FORM_END || piece.bytes == 0);
    }
    return s3_form_finish(form, NULL);
}

static struct result parse(struct slice type, struct slice body, uint8_t seed)
{
    struct result result = {.fields = {.max = OUT_BYTES_MAX}, .content = {.max = OUT_BYTES_MAX}};
    AUTO(s3_form) form = NULL;
    result.error = s3_form_new(type, NULL, &form);
    if (result.error == S3_OK)
        result.error = feed(form, body, seed, &result);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < HEADER_BYTES)
        return 0;
    struct slice rest = slice_of(data + HEADER_BYTES, bytes - HEADER_BYTES);
    struct slice type = slice_first(rest, data[1]);
    struct slice body = slice_skip(rest, type.bytes);
    if (type.bytes == 0)
        type = SLICE_LITERAL("multipart/form-data; boundary=b");
    AUTO_VALUE(result) whole = parse(type, body, 0);
    AUTO_VALUE(result) pieces = parse(type, body, data[0]);
    AUTO_VALUE(result) single = parse(type, body, 67);
    assert(whole.error == pieces.error);
    assert(whole.error == single.error);
    assert(slice_equal(bytes_slice(&whole.fields), bytes_slice(&pieces.fields)));
    assert(slice_equal(bytes_slice(&whole.fields), bytes_slice(&single.fields)));
    assert(slice_equal(bytes_slice(&whole.content), bytes_slice(&pieces.content)));
    assert(slice_equal(bytes_slice(&whole.content), bytes_slice(&single.content)));
    return 0;
}
