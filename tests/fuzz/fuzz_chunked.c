/* Target 4 of the fuzz list: the aws-chunked decoder gives the same result for any split of its
 * input.
 *
 * Input: mode, flags, announced length, seed of the split, then the body. Flag 1: a length was
 * announced; flag 2: the body is not raw but a list of runs, from which a validly signed body is
 * built. */
#include "base/bytes.h"
#include "s3/chunked.h"
#include "s3/signer.h"
#include "s3/sigv4.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { FLAG_LENGTH = 1, FLAG_BUILD = 2, HEADER_BYTES = 4, OUT_BYTES_MAX = 4 << 20 };

struct result {
    enum s3_error error;
    struct bytes payload;
    struct bytes trailer;
};

static void result_deinit(struct result *result)
{
    bytes_deinit(&result->payload);
    bytes_deinit(&result->trailer);
}

static struct s3_chunk_signing start_of_chain(void)
{
    struct s3_chunk_signing signing = {.date = "20130524T000000Z",
                                       .scope = "20130524/us-east-1/s3/aws4_request"};
    s3_signing_key_derive(SLICE_LITERAL("secret"), SLICE_LITERAL("20130524"),
                          SLICE_LITERAL("us-east-1"), signing.key);
    return signing;
}

/* Pieces of 1 to `seed` % 67 + 1 bytes, or everything at once for seed 0. */
static size_t piece_bytes(uint8_t seed, size_t index, size_t left)
{
    if (seed == 0)
        return left;
    size_t piece = (seed * 31u + index * 17u) % (seed % 67u + 1u) + 1u;
    return piece < left ? piece : left;
}

static enum s3_error feed(struct s3_chunked *chunked, struct slice body, uint8_t seed,
                          struct bytes *out)
{
    for (size_t index = 0; body.bytes > 0; index++) {
        struct slice piece = slice_first(body, piece_bytes(seed, index, body.bytes));
        struct slice payload = {0};
        body = slice_skip(body, piece.bytes);
        do {
            TRY(s3_chunked_next(chunked, &piece, &payload, NULL));
            bytes_append(out, payload);
        } while (payload.bytes > 0);
        assert(piece.bytes == 0);
    }
    return s3_chunked_finish(chunked, NULL);
}

static struct result decode(const struct s3_chunked_options *options, struct slice body,
                            uint8_t seed)
{
    struct result result = {.payload = {.max = OUT_BYTES_MAX}, .trailer = {.max = 1 << 16}};
    AUTO(s3_chunked) chunked = NULL;
    result.error = s3_chunked_new(options, NULL, &chunked);
    if (result.error != S3_OK)
        return result;
    result.error = feed(chunked, body, seed, &result.payload);
    if (result.error != S3_OK)
        return result;
    assert(s3_chunked_payload_bytes(chunked) == result.payload.bytes);
    for (uint32_t i = 0; i < s3_chunked_trailer_count(chunked); i++) {
        struct slice name;
        struct slice value;
        s3_chunked_trailer_at(chunked, i, &name, &value);
        bytes_append(&result.trailer, name);
        bytes_append(&result.trailer, value);
    }
    return result;
}

/* Chunks of the lengths that the bytes of `runs` give, then the trailer. */
static void build(const struct s3_chunked_options *options, struct slice runs, struct bytes *body)
{
    struct s3_chunk_signing signing = start_of_chain();
    struct s3_chunk_signing *chain = options->signing == NULL ? NULL : &signing;
    const struct s3_header trailer = {SLICE_LITERAL("x-a"), SLICE_LITERAL("1")};
    uint8_t filled[S3_CHUNK_BYTES_MIN];
    while (runs.bytes > 1) {
        struct slice run = slice_first(slice_skip(runs, 1), runs.data[0] + 1u);
        runs = slice_skip(runs, run.bytes + 1);
        /* All chunks but the last have a least size: repeat the run up to it. */
        bool is_last = runs.bytes <= 1;
        for (size_t i = 0; i < sizeof filled; i++)
            filled[i] = run.data[i % run.bytes];
        if (!is_last)
            run = slice_of(filled, sizeof filled);
        s3_signer_chunk(chain, run, body);
    }
    s3_signer_chunk(chain, SLICE_LITERAL(""), body);
    if (options->mode == S3_CHUNKED_SIGNED)
        bytes_append_text(body, "\r\n");
    else
        s3_signer_trailer(chain, &trailer, 1, body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < HEADER_BYTES)
        return 0;
    struct s3_chunk_signing signing = start_of_chain();
    enum s3_chunked_mode mode = (enum s3_chunked_mode)(data[0] % 3 + 1);
    struct s3_chunked_options options = {
        .mode = mode,
        .signing = mode == S3_CHUNKED_UNSIGNED_TRAILER ? NULL : &signing,
        .has_decoded_bytes = (data[1] & FLAG_LENGTH) != 0,
        .decoded_bytes = (data[1] & FLAG_LENGTH) != 0 ? data[2] : 0,
        .trailer_names = mode == S3_CHUNKED_SIGNED ? slice_of(NULL, 0) : SLICE_LITERAL("x-a"),
    };
    struct slice rest = slice_of(data + HEADER_BYTES, bytes - HEADER_BYTES);
    bool is_built = (data[1] & FLAG_BUILD) != 0 && !options.has_decoded_bytes;
    AUTO_VALUE(bytes) body = {.max = OUT_BYTES_MAX};
    if (is_built)
        build(&options, rest, &body);
    else
        bytes_append(&body, rest);
    if (body.overflow)
        return 0;
    AUTO_VALUE(result) whole = decode(&options, bytes_slice(&body), 0);
    AUTO_VALUE(result) pieces = decode(&options, bytes_slice(&body), data[3]);
    AUTO_VALUE(result) single = decode(&options, bytes_slice(&body), 67);
    assert(!is_built || whole.error == S3_OK);
    assert(whole.error == pieces.error);
    assert(whole.error == single.error);
    assert(slice_equal(bytes_slice(&whole.payload), bytes_slice(&pieces.payload)));
    assert(slice_equal(bytes_slice(&whole.payload), bytes_slice(&single.payload)));
    assert(slice_equal(bytes_slice(&whole.trailer), bytes_slice(&pieces.trailer)));
    return 0;
}
