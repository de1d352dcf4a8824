/* State machine of the aws-chunked decoder. */
#include "s3/chunked.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "chain.h"
#include "s3/name.h"
#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

/* LINE -> PAYLOAD -> CHUNK_END -> CHUNK_CR -> CHUNK_LF -> LINE ... -> (size 0)
 *      -> without trailer: LAST_CR -> LAST_LF -> DONE
 *      -> with trailer:    TRAILER -> TRAILER_DONE [-> EXTRA_LF] -> DONE */
enum state {
    STATE_LINE,
    STATE_PAYLOAD,
    STATE_CHUNK_END, /* payload complete, signature not yet judged: happens before the next byte */
    STATE_CHUNK_CR,
    STATE_CHUNK_LF,
    STATE_LAST_CR,
    STATE_LAST_LF,
    STATE_TRAILER,
    STATE_TRAILER_DONE, /* minio-go ends an unsigned trailer with one more CRLF */
    STATE_EXTRA_LF,
    STATE_DONE,
    STATE_FAILED,
};

struct trailer {
    struct slice name;  /* lower case, into announced_text */
    struct slice value; /* into trailer_text */
    bool was_sent;
};

struct s3_chunked {
    enum s3_chunked_mode mode;
    enum state state;
    enum s3_error error; /* of STATE_FAILED */
    struct s3_chunk_signing signing;
    EVP_MD_CTX *hash;
    uint8_t claimed[32];       /* signature in the line of the current chunk */
    uint64_t chunk_left;       /* payload bytes of the current chunk still to come */
    uint64_t last_chunk_bytes; /* 0 before the first */
    uint64_t payload_bytes;    /* of all chunks so far */
    bool has_decoded_bytes;
    uint64_t decoded_bytes;
    uint8_t line[S3_CHUNK_LINE_BYTES_MAX];
    uint32_t line_bytes;
    uint8_t trailer_text[S3_TRAILER_BYTES_MAX]; /* lines as sent */
    uint32_t trailer_bytes;
    uint32_t trailer_line_start;
    bool trailer_verified;       /* x-amz-trailer-signature was seen and matches */
    struct bytes trailer_signed; /* name:value\n of the trailers, in wire order */
    struct bytes announced_text;
    struct trailer trailers[S3_TRAILERS_MAX];
    uint32_t trailer_count;
};

static bool has_signatures(const struct s3_chunked *chunked)
{
    return chunked->mode != S3_CHUNKED_UNSIGNED_TRAILER;
}

static bool has_trailer(const struct s3_chunked *chunked)
{
    return chunked->mode != S3_CHUNKED_SIGNED;
}

static void hash_start(struct s3_chunked *chunked)
{
    int ok = EVP_DigestInit_ex(chunked->hash, EVP_sha256(), NULL);
    assert(ok == 1);
}

static enum s3_error announce(struct s3_chunked *chunked, struct slice names,
                              struct s3_failure *failure)
{
    chunked->announced_text.max = names.bytes + 1;
    for (size_t i = 0; i < names.bytes; i++) {
        uint8_t c = names.data[i];
        bytes_append_byte(&chunked->announced_text,
                          c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c);
    }
    struct slice rest = bytes_slice(&chunked->announced_text);
    if (rest.bytes > 0 && !has_trailer(chunked))
        return S3_FAIL(S3_INVALID_REQUEST, "trailer announced in a mode without");
    while (rest.bytes > 0) {
        struct slice item = slice_first(rest, slice_find(rest, ','));
        struct slice name = slice_trim(item);
        rest = slice_skip(rest, item.bytes + 1);
        if (!s3_header_name_valid(name) || chunked->trailer_count == S3_TRAILERS_MAX)
            return s3_fail_argument(failure, "x-amz-trailer", names,
                                    "The value of x-amz-trailer is not valid.");
        chunked->trailers[chunked->trailer_count++].name = name;
    }
    return S3_OK;
}

enum s3_error s3_chunked_new(const struct s3_chunked_options *options, struct s3_failure *failure,
                             struct s3_chunked **out_chunked)
{
    assert((options->signing != NULL) == (options->mode != S3_CHUNKED_UNSIGNED_TRAILER));
    if (options->has_decoded_bytes && options->decoded_bytes > S3_BODY_BYTES_MAX)
        return S3_FAIL(S3_ENTITY_TOO_LARGE, "decoded_bytes=%llu",
                       (unsigned long long)options->decoded_bytes);
    AUTO(s3_chunked) chunked = mem_new(struct s3_chunked);
    chunked->mode = options->mode;
    chunked->has_decoded_bytes = options->has_decoded_bytes;
    chunked->decoded_bytes = options->decoded_bytes;
    chunked->trailer_signed.max = 2 * S3_TRAILER_BYTES_MAX;
    if (options->signing != NULL) {
        chunked->signing = *options->signing;
        chunked->hash = EVP_MD_CTX_new();
        assert(chunked->hash != NULL);
    }
    TRY(announce(chunked, options->trailer_names, failure));
    *out_chunked = TAKE(chunked);
    return S3_OK;
}

void s3_chunked_free(struct s3_chunked *chunked)
{
    if (chunked == NULL)
        return;
    EVP_MD_CTX_free(chunked->hash);
    bytes_deinit(&chunked->trailer_signed);
    bytes_deinit(&chunked->announced_text);
    explicit_bzero(&chunked->signing, sizeof chunked->signing);
    mem_free(chunked);
}

/* Framing that cannot be read, or that ends early. */
static enum s3_error broken(struct s3_failure *failure, const char *cause)
{
    log_debug("aws-chunked: %s", cause);
    return S3_FAIL_SAY(failure, S3_INCOMPLETE_BODY, "The request body terminated unexpectedly");
}

/* Judge `expected` against what the client sent, and let the chain go on from it. */
static enum s3_error judge(struct s3_chunked *chunked, const uint8_t expected[32],
                           const uint8_t claimed[32])
{
    if (CRYPTO_memcmp(expected, claimed, 32) != 0)
        return S3_FAIL(S3_SIGNATURE_DOES_NOT_MATCH, "chunk signature payload_bytes=%llu",
                       (unsigned long long)chunked->payload_bytes);
    memcpy(chunked->signing.previous, expected, 32);
    return S3_OK;
}

static enum s3_error end_chunk(struct s3_chunked *chunked)
{
    uint8_t digest[32];
    uint8_t expected[32];
    unsigned digest_bytes = 0;
    if (!has_signatures(chunked))
        return S3_OK;
    int ok = EVP_DigestFinal_ex(chunked->hash, digest, &digest_bytes);
    assert(ok == 1);
    assert(digest_bytes == sizeof digest);
    chain_chunk(&chunked->signing, digest, expected);
    return judge(chunked, expected, chunked->claimed);
}

static enum s3_error parse_size(struct slice digits, struct s3_failure *failure, uint64_t *out_size)
{
    uint64_t size = 0;
    if (digits.bytes == 0 || digits.bytes > 16)
        return broken(failure, "chunk size is missing or too long");
    for (size_t i = 0; i < digits.bytes; i++) {
        uint8_t c = digits.data[i];
        uint8_t lower = c | 0x20;
        if (c >= '0' && c <= '9')
            size = size << 4 | (uint64_t)(c - '0');
        else if (lower >= 'a' && lower <= 'f')
            size = size << 4 | (uint64_t)(lower - 'a' + 10);
        else
            return broken(failure, "chunk size is not hexadecimal");
    }
    *out_size = size;
    return S3_OK;
}

static enum s3_error check_size(const struct s3_chunked *chunked, uint64_t size,
                                struct s3_failure *failure)
{
    if (chunked->has_decoded_bytes && size > chunked->decoded_bytes - chunked->payload_bytes)
        return S3_FAIL(S3_INCOMPLETE_BODY, "longer than x-amz-decoded-content-length");
    if (size > S3_BODY_BYTES_MAX - chunked->payload_bytes)
        return S3_FAIL(S3_ENTITY_TOO_LARGE, "payload above the limit");
    if (has_signatures(chunked) && size > S3_CHUNK_SIGNED_BYTES_MAX)
        return S3_FAIL_SAY(failure, S3_INVALID_CHUNK_SIZE, "The chunk size is above the limit.");
    /* S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload
     * in Multiple Chunks". */
    if (size > 0 && chunked->last_chunk_bytes > 0 && chunked->last_chunk_bytes < S3_CHUNK_BYTES_MIN)
        return S3_FAIL(S3_INVALID_CHUNK_SIZE, "chunk bytes=%llu",
                       (unsigned long long)chunked->last_chunk_bytes);
    return S3_OK;
}

/* size[;chunk-signature=64hex], without its CRLF. */
static enum s3_error parse_line(struct s3_chunked *chunked, struct slice line,
                                struct s3_failure *failure)
{
    static const struct slice extension = {(const uint8_t *)";chunk-signature=", 17};
    struct slice digits = slice_first(line, slice_find(line, ';'));
    struct slice rest = slice_skip(line, digits.bytes);
    uint64_t size = 0;
    TRY(parse_size(digits, failure, &size));
    if (has_signatures(chunked)) {
        if (!slice_starts_with(rest, extension) ||
            text_parse_hex(slice_skip(rest, extension.bytes), chunked->claimed, 32) != OK)
            return broken(failure, "chunk line without signature");
        hash_start(chunked);
    } else if (rest.bytes > 0) {
        return broken(failure, "chunk extension in an unsigned body");
    }
    TRY(check_size(chunked, size, failure));
    chunked->chunk_left = size;
    chunked->last_chunk_bytes = size;
    if (size > 0) {
        chunked->state = STATE_PAYLOAD;
        return S3_OK;
    }
    chunked->state = has_trailer(chunked) ? STATE_TRAILER : STATE_LAST_CR;
    return end_chunk(chunked);
}

static enum s3_error take_line_byte(struct s3_chunked *chunked, uint8_t byte,
                                    struct s3_failure *failure)
{
    if (byte != '\n') {
        if (chunked->line_bytes == sizeof chunked->line)
            return broken(failure, "chunk line above the limit");
        chunked->line[chunked->line_bytes++] = byte;
        return S3_OK;
    }
    uint32_t bytes = chunked->line_bytes;
    chunked->line_bytes = 0;
    if (bytes == 0 || chunked->line[bytes - 1] != '\r')
        return broken(failure, "chunk line does not end with CRLF");
    return parse_line(chunked, slice_of(chunked->line, bytes - 1), failure);
}

static struct trailer *find_trailer(struct s3_chunked *chunked, struct slice name)
{
    for (uint32_t i = 0; i < chunked->trailer_count; i++) {
        if (slice_equal_nocase(chunked->trailers[i].name, name))
            return &chunked->trailers[i];
    }
    return NULL;
}

static enum s3_error check_all_sent(const struct s3_chunked *chunked)
{
    for (uint32_t i = 0; i < chunked->trailer_count; i++) {
        if (!chunked->trailers[i].was_sent)
            return S3_FAIL(S3_MALFORMED_TRAILER, "announced trailer is missing");
    }
    return S3_OK;
}

static enum s3_error verify_trailer(struct s3_chunked *chunked, struct slice claimed_hex,
                                    struct s3_failure *failure)
{
    uint8_t claimed[32];
    uint8_t expected[32];
    TRY(check_all_sent(chunked));
    if (text_parse_hex(claimed_hex, claimed, sizeof claimed) != OK)
        return broken(failure, "trailer signature is not hexadecimal");
    chain_trailer(&chunked->signing, bytes_slice(&chunked->trailer_signed), expected);
    TRY(judge(chunked, expected, claimed));
    chunked->trailer_verified = true;
    return S3_OK;
}

static enum s3_error take_trailer(struct s3_chunked *chunked, struct slice line,
                                  struct s3_failure *failure)
{
    size_t colon = slice_find(line, ':');
    struct slice name = slice_first(line, colon);
    struct slice value = slice_trim(slice_skip(line, colon + 1));
    bool is_signature = slice_equal_nocase(name, SLICE_LITERAL("x-amz-trailer-signature"));
    if (colon == line.bytes || chunked->trailer_verified)
        return S3_FAIL(S3_MALFORMED_TRAILER, "trailer line is malformed or behind the signature");
    if (is_signature && has_signatures(chunked))
        return verify_trailer(chunked, value, failure);
    if (!s3_header_value_valid(value))
        return broken(failure, "trailer holds a control byte");
    struct trailer *trailer = find_trailer(chunked, name);
    if (trailer == NULL && has_signatures(chunked) && chunked->trailer_signed.bytes > 0)
        return broken(failure, "another line where the trailer's signature belongs");
    if (trailer == NULL || trailer->was_sent)
        return S3_FAIL(S3_MALFORMED_TRAILER, "trailer is not announced or repeated");
    trailer->value = value;
    trailer->was_sent = true;
    bytes_append(&chunked->trailer_signed, trailer->name);
    bytes_append_byte(&chunked->trailer_signed, ':');
    bytes_append(&chunked->trailer_signed, value);
    bytes_append_byte(&chunked->trailer_signed, '\n');
    assert(!chunked->trailer_signed.overflow);
    return S3_OK;
}

static enum s3_error end_trailer(struct s3_chunked *chunked)
{
    TRY(check_all_sent(chunked));
    chunked->state = STATE_TRAILER_DONE;
    return S3_OK;
}

/* Lines end with CRLF, or with LF alone and an empty line before the signature, as minio-go writes
 * them. */
static enum s3_error take_trailer_byte(struct s3_chunked *chunked, uint8_t byte,
                                       struct s3_failure *failure)
{
    if (chunked->trailer_bytes == sizeof chunked->trailer_text)
        return S3_FAIL(S3_MALFORMED_TRAILER, "trailer above the limit");
    chunked->trailer_text[chunked->trailer_bytes++] = byte;
    if (byte != '\n')
        return S3_OK;
    uint32_t start = chunked->trailer_line_start;
    struct slice line = slice_of(chunked->trailer_text + start, chunked->trailer_bytes - start - 1);
    chunked->trailer_line_start = chunked->trailer_bytes;
    if (line.bytes > 0 && line.data[line.bytes - 1] == '\r')
        line.bytes--;
    if (line.bytes > 0)
        return take_trailer(chunked, line, failure);
    if (has_signatures(chunked) && !chunked->trailer_verified)
        return S3_OK;
    return end_trailer(chunked);
}

static enum s3_error expect(struct s3_chunked *chunked, uint8_t byte, uint8_t expected,
                            enum state next, struct s3_failure *failure)
{
    if (byte != expected)
        return broken(failure, "chunk is longer than its size says");
    chunked->state = next;
    return S3_OK;
}

static enum s3_error take_byte(struct s3_chunked *chunked, uint8_t byte, struct s3_failure *failure)
{
    switch (chunked->state) {
    case STATE_LINE:
        return take_line_byte(chunked, byte, failure);
    case STATE_CHUNK_CR:
        return expect(chunked, byte, '\r', STATE_CHUNK_LF, failure);
    case STATE_CHUNK_LF:
        return expect(chunked, byte, '\n', STATE_LINE, failure);
    case STATE_LAST_CR:
        return expect(chunked, byte, '\r', STATE_LAST_LF, failure);
    case STATE_LAST_LF:
        return expect(chunked, byte, '\n', STATE_DONE, failure);
    case STATE_TRAILER:
        return take_trailer_byte(chunked, byte, failure);
    case STATE_TRAILER_DONE:
        return expect(chunked, byte, '\r', STATE_EXTRA_LF, failure);
    case STATE_EXTRA_LF:
        return expect(chunked, byte, '\n', STATE_DONE, failure);
    case STATE_DONE:
        return S3_FAIL(S3_INVALID_REQUEST, "bytes behind the end of the body");
    case STATE_PAYLOAD:
    case STATE_CHUNK_END:
    case STATE_FAILED:
        break;
    }
    assert(false);
    return S3_INTERNAL_ERROR;
}

/* The run of payload at the front of the input. */
static struct slice take_payload(struct s3_chunked *chunked, struct slice *input)
{
    struct slice run = *input;
    if (run.bytes > chunked->chunk_left)
        run = slice_first(run, (size_t)chunked->chunk_left);
    if (has_signatures(chunked)) {
        int ok = EVP_DigestUpdate(chunked->hash, run.data, run.bytes);
        assert(ok == 1);
    }
    *input = slice_skip(*input, run.bytes);
    chunked->chunk_left -= run.bytes;
    chunked->payload_bytes += run.bytes;
    if (chunked->chunk_left == 0)
        chunked->state = STATE_CHUNK_END;
    return run;
}

static enum s3_error advance(struct s3_chunked *chunked, struct slice *input,
                             struct slice *out_payload, struct s3_failure *failure)
{
    *out_payload = slice_of(NULL, 0);
    for (;;) {
        if (chunked->state == STATE_CHUNK_END) {
            TRY(end_chunk(chunked));
            chunked->state = STATE_CHUNK_CR;
        }
        if (input->bytes == 0)
            return S3_OK;
        if (chunked->state == STATE_PAYLOAD) {
            *out_payload = take_payload(chunked, input);
            return S3_OK;
        }
        TRY(take_byte(chunked, input->data[0], failure));
        *input = slice_skip(*input, 1);
    }
}

/* An error is final. */
static enum s3_error remember(struct s3_chunked *chunked, enum s3_error error)
{
    if (error != S3_OK) {
        chunked->state = STATE_FAILED;
        chunked->error = error;
    }
    return error;
}

enum s3_error s3_chunked_next(struct s3_chunked *chunked, struct slice *input,
                              struct slice *out_payload, struct s3_failure *failure)
{
    if (chunked->state == STATE_FAILED)
        return chunked->error;
    return remember(chunked, advance(chunked, input, out_payload, failure));
}

enum s3_error s3_chunked_finish(struct s3_chunked *chunked, struct s3_failure *failure)
{
    struct slice none = {0};
    struct slice payload = {0};
    TRY(s3_chunked_next(chunked, &none, &payload, failure));
    bool at_end = chunked->state == STATE_DONE || chunked->state == STATE_TRAILER_DONE;
    bool complete = !chunked->has_decoded_bytes || chunked->payload_bytes == chunked->decoded_bytes;
    if (!at_end)
        return remember(chunked, broken(failure, "body ends within the framing"));
    if (!complete)
        return remember(chunked, S3_FAIL(S3_INCOMPLETE_BODY, "shorter than announced"));
    return S3_OK;
}

uint64_t s3_chunked_payload_bytes(const struct s3_chunked *chunked)
{
    return chunked->payload_bytes;
}

struct slice s3_chunked_trailer(const struct s3_chunked *chunked, const char *name)
{
    for (uint32_t i = 0; i < chunked->trailer_count; i++) {
        const struct trailer *trailer = &chunked->trailers[i];
        if (trailer->was_sent && slice_equal_text(trailer->name, name))
            return trailer->value;
    }
    return (struct slice){0};
}

uint32_t s3_chunked_trailer_count(const struct s3_chunked *chunked)
{
    return chunked->trailer_count;
}

void s3_chunked_trailer_at(const struct s3_chunked *chunked, uint32_t index, struct slice *out_name,
                           struct slice *out_value)
{
    assert(index < chunked->trailer_count);
    *out_name = chunked->trailers[index].name;
    *out_value = chunked->trailers[index].value;
}
