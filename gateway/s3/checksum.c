/* See s3/checksum.h. */
#include "s3/checksum.h"
#include "base/crc.h"
#include "base/mem.h"
#include "base/text.h"
#include <assert.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <xxhash.h>

enum { DIGEST_PIECE_BYTES = 16 << 10 }; /* small enough to stay in the first-level cache */

static const struct algorithm {
    const char *name;
    const char *header;
    const char *element;
    size_t bytes;
    uint32_t digest;
} algorithms[CHECKSUM_ALGORITHM_COUNT] = {
    [CHECKSUM_CRC32] = {"CRC32", "x-amz-checksum-crc32", "ChecksumCRC32", 4, DIGEST_CRC32},
    [CHECKSUM_CRC32C] = {"CRC32C", "x-amz-checksum-crc32c", "ChecksumCRC32C", 4, DIGEST_CRC32C},
    [CHECKSUM_CRC64NVME] = {"CRC64NVME", "x-amz-checksum-crc64nvme", "ChecksumCRC64NVME", 8,
                            DIGEST_CRC64NVME},
    [CHECKSUM_SHA1] = {"SHA1", "x-amz-checksum-sha1", "ChecksumSHA1", DIGEST_SHA1_BYTES,
                       DIGEST_SHA1},
    [CHECKSUM_SHA256] = {"SHA256", "x-amz-checksum-sha256", "ChecksumSHA256", DIGEST_SHA256_BYTES,
                         DIGEST_SHA256},
    [CHECKSUM_SHA512] = {"SHA512", "x-amz-checksum-sha512", "ChecksumSHA512", DIGEST_SHA512_BYTES,
                         DIGEST_SHA512},
    [CHECKSUM_MD5] = {"MD5", "x-amz-checksum-md5", "ChecksumMD5", DIGEST_MD5_BYTES, DIGEST_MD5},
    [CHECKSUM_XXHASH64] = {"XXHASH64", "x-amz-checksum-xxhash64", "ChecksumXXHASH64", 8,
                           DIGEST_XXHASH64},
    [CHECKSUM_XXHASH3] = {"XXHASH3", "x-amz-checksum-xxhash3", "ChecksumXXHASH3", 8,
                          DIGEST_XXHASH3},
    [CHECKSUM_XXHASH128] = {"XXHASH128", "x-amz-checksum-xxhash128", "ChecksumXXHASH128",
                            DIGEST_XXHASH128_BYTES, DIGEST_XXHASH128},
};

const char checksum_unsupported_message[] =
    "Checksum algorithm provided is unsupported. Please try again with any of the valid types: "
    "[CRC32, CRC32C, CRC64NVME, MD5, SHA1, SHA256, SHA512, XXHASH128, XXHASH3, XXHASH64]";

static const struct algorithm *algorithm_of(enum checksum_algorithm algorithm)
{
    assert((unsigned)algorithm < CHECKSUM_ALGORITHM_COUNT);
    return &algorithms[algorithm];
}

const char *checksum_name(enum checksum_algorithm algorithm)
{
    return algorithm_of(algorithm)->name;
}

const char *checksum_header(enum checksum_algorithm algorithm)
{
    return algorithm_of(algorithm)->header;
}

const char *checksum_element(enum checksum_algorithm algorithm)
{
    return algorithm_of(algorithm)->element;
}

size_t checksum_bytes(enum checksum_algorithm algorithm)
{
    return algorithm_of(algorithm)->bytes;
}

uint32_t digest_bit(enum checksum_algorithm algorithm)
{
    return algorithm_of(algorithm)->digest;
}

enum checksum_algorithm checksum_by_name(struct slice name)
{
    for (int i = CHECKSUM_NONE + 1; i < CHECKSUM_ALGORITHM_COUNT; i++)
        if (slice_equal_nocase(name, slice_of_text(algorithms[i].name)))
            return (enum checksum_algorithm)i;
    return CHECKSUM_NONE;
}

enum checksum_algorithm checksum_by_header(struct slice header)
{
    for (int i = CHECKSUM_NONE + 1; i < CHECKSUM_ALGORITHM_COUNT; i++)
        if (slice_equal_nocase(header, slice_of_text(algorithms[i].header)))
            return (enum checksum_algorithm)i;
    return CHECKSUM_NONE;
}

enum checksum_algorithm checksum_by_element(struct slice element)
{
    for (int i = CHECKSUM_NONE + 1; i < CHECKSUM_ALGORITHM_COUNT; i++)
        if (slice_equal_text(element, algorithms[i].element))
            return (enum checksum_algorithm)i;
    return CHECKSUM_NONE;
}

const char *checksum_type_name(enum checksum_type type)
{
    return type == CHECKSUM_COMPOSITE ? "COMPOSITE" : "FULL_OBJECT";
}

bool checksum_type_by_name(struct slice text, enum checksum_type *out_type)
{
    static const enum checksum_type types[] = {CHECKSUM_FULL_OBJECT, CHECKSUM_COMPOSITE};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (slice_equal_nocase(text, slice_of_text(checksum_type_name(types[i])))) {
            *out_type = types[i];
            return true;
        }
    return false;
}

enum checksum_type checksum_type_default(enum checksum_algorithm algorithm)
{
    bool full = algorithm == CHECKSUM_CRC64NVME || algorithm == CHECKSUM_NONE;
    return full ? CHECKSUM_FULL_OBJECT : CHECKSUM_COMPOSITE;
}

bool checksum_type_allowed(enum checksum_algorithm algorithm, enum checksum_type type)
{
    switch (algorithm) {
    case CHECKSUM_CRC32:
    case CHECKSUM_CRC32C:
        return true;
    case CHECKSUM_NONE:
    case CHECKSUM_CRC64NVME:
        return type == CHECKSUM_FULL_OBJECT;
    case CHECKSUM_SHA1:
    case CHECKSUM_SHA256:
    case CHECKSUM_SHA512:
    case CHECKSUM_MD5:
    case CHECKSUM_XXHASH64:
    case CHECKSUM_XXHASH3:
    case CHECKSUM_XXHASH128:
        return type == CHECKSUM_COMPOSITE;
    }
    return false;
}

bool checksum_parse(enum checksum_algorithm algorithm, struct slice text,
                    struct checksum *out_checksum)
{
    assert(algorithm != CHECKSUM_NONE);
    struct checksum checksum = {.algorithm = algorithm, .type = CHECKSUM_FULL_OBJECT};
    size_t dash = slice_find(text, '-'); /* not a character of base64 */
    if (dash < text.bytes) {
        struct slice count_text = slice_skip(text, dash + 1);
        uint64_t count;
        if (slice_starts_with(count_text, SLICE_LITERAL("0")) ||
            text_parse_u64(count_text, CHECKSUM_PART_COUNT_MAX, &count) != OK)
            return false;
        checksum.type = CHECKSUM_COMPOSITE;
        checksum.part_count = (uint32_t)count;
    }
    size_t bytes;
    if (text_parse_base64(slice_first(text, dash), checksum.value, CHECKSUM_BYTES_MAX, &bytes) !=
            OK ||
        bytes != checksum_bytes(algorithm))
        return false;
    *out_checksum = checksum;
    return true;
}

void checksum_append(struct bytes *out, const struct checksum *checksum)
{
    assert(checksum->algorithm != CHECKSUM_NONE);
    assert((checksum->type == CHECKSUM_COMPOSITE) == (checksum->part_count > 0));
    text_base64(out, slice_of(checksum->value, checksum_bytes(checksum->algorithm)));
    if (checksum->type == CHECKSUM_COMPOSITE)
        bytes_append_format(out, "-%" PRIu32, checksum->part_count);
}

bool checksum_equal(const struct checksum *a, const struct checksum *b)
{
    return a->algorithm == b->algorithm && a->type == b->type && a->part_count == b->part_count &&
           memcmp(a->value, b->value, checksum_bytes(a->algorithm)) == 0;
}

/* Digests */

struct digest_methods {
    EVP_MD *md5;
    EVP_MD *sha1;
    EVP_MD *sha256;
    EVP_MD *sha512;
};

static EVP_MD *fetch_method(const char *name)
{
    EVP_MD *method = EVP_MD_fetch(NULL, name, NULL);
    assert(method != NULL); /* an OpenSSL without it cannot serve S3 at all */
    return method;
}

struct digest_methods *digest_methods_new(void)
{
    struct digest_methods *methods = mem_new(struct digest_methods);
    *methods = (struct digest_methods){
        .md5 = fetch_method("MD5"),
        .sha1 = fetch_method("SHA1"),
        .sha256 = fetch_method("SHA256"),
        .sha512 = fetch_method("SHA512"),
    };
    return methods;
}

void digest_methods_free(struct digest_methods *methods)
{
    if (methods == NULL)
        return;
    EVP_MD_free(methods->md5);
    EVP_MD_free(methods->sha1);
    EVP_MD_free(methods->sha256);
    EVP_MD_free(methods->sha512);
    mem_free(methods);
}

struct digest {
    uint32_t set;
    bool finished;
    uint64_t total_bytes;
    EVP_MD_CTX *md5; /* NULL when not in the set */
    EVP_MD_CTX *sha1;
    EVP_MD_CTX *sha256;
    EVP_MD_CTX *sha512;
    XXH64_state_t *xxhash64; /* likewise */
    XXH3_state_t *xxhash3;
    XXH3_state_t *xxhash128;
    uint32_t crc32;
    uint32_t crc32c;
    uint64_t crc64nvme;
};

/* OpenSSL's digest calls fail only on misuse or without memory, which stops the process anyway. */
static EVP_MD_CTX *hash_start(const EVP_MD *method, bool wanted)
{
    if (!wanted)
        return NULL;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert(context != NULL);
    int started = EVP_DigestInit_ex2(context, method, NULL);
    assert(started == 1);
    return context;
}

static void hash_update(EVP_MD_CTX *context, struct slice data)
{
    if (context == NULL)
        return;
    int updated = EVP_DigestUpdate(context, data.data, data.bytes);
    assert(updated == 1);
}

static void hash_finish(EVP_MD_CTX *context, uint8_t *out, size_t bytes)
{
    if (context == NULL)
        return;
    unsigned written = 0;
    int finished = EVP_DigestFinal_ex(context, out, &written);
    assert(finished == 1);
    assert(written == bytes);
}

static void xxhash_start(struct digest *digest)
{
    if (digest->set & DIGEST_XXHASH64) {
        digest->xxhash64 = XXH64_createState();
        assert(digest->xxhash64 != NULL);
        XXH64_reset(digest->xxhash64, 0);
    }
    if (digest->set & DIGEST_XXHASH3) {
        digest->xxhash3 = XXH3_createState();
        assert(digest->xxhash3 != NULL);
        XXH3_64bits_reset(digest->xxhash3);
    }
    if (digest->set & DIGEST_XXHASH128) {
        digest->xxhash128 = XXH3_createState();
        assert(digest->xxhash128 != NULL);
        XXH3_128bits_reset(digest->xxhash128);
    }
}

static void xxhash_update(struct digest *digest, struct slice piece)
{
    if (digest->xxhash64 != NULL)
        XXH64_update(digest->xxhash64, piece.data, piece.bytes);
    if (digest->xxhash3 != NULL)
        XXH3_64bits_update(digest->xxhash3, piece.data, piece.bytes);
    if (digest->xxhash128 != NULL)
        XXH3_128bits_update(digest->xxhash128, piece.data, piece.bytes);
}

static void xxhash_finish(const struct digest *digest, struct digest_values *out_values)
{
    if (digest->xxhash64 != NULL)
        out_values->xxhash64 = XXH64_digest(digest->xxhash64);
    if (digest->xxhash3 != NULL)
        out_values->xxhash3 = XXH3_64bits_digest(digest->xxhash3);
    if (digest->xxhash128 != NULL) {
        XXH128_canonical_t canonical;
        static_assert(sizeof canonical.digest == DIGEST_XXHASH128_BYTES);
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(digest->xxhash128));
        memcpy(out_values->xxhash128, canonical.digest, sizeof canonical.digest);
    }
}

struct digest *digest_new(const struct digest_methods *methods, uint32_t set)
{
    assert(methods != NULL);
    assert(set <= DIGEST_SET_MAX);
    struct digest *digest = mem_new(struct digest);
    *digest = (struct digest){
        .set = set,
        .md5 = hash_start(methods->md5, set & DIGEST_MD5),
        .sha1 = hash_start(methods->sha1, set & DIGEST_SHA1),
        .sha256 = hash_start(methods->sha256, set & DIGEST_SHA256),
        .sha512 = hash_start(methods->sha512, set & DIGEST_SHA512),
    };
    xxhash_start(digest);
    return digest;
}

void digest_free(struct digest *digest)
{
    if (digest == NULL)
        return;
    EVP_MD_CTX_free(digest->md5);
    EVP_MD_CTX_free(digest->sha1);
    EVP_MD_CTX_free(digest->sha256);
    EVP_MD_CTX_free(digest->sha512);
    XXH64_freeState(digest->xxhash64);
    XXH3_freeState(digest->xxhash3);
    XXH3_freeState(digest->xxhash128);
    mem_free(digest);
}

static void digest_piece(struct digest *digest, struct slice piece)
{
    hash_update(digest->md5, piece);
    hash_update(digest->sha1, piece);
    hash_update(digest->sha256, piece);
    hash_update(digest->sha512, piece);
    xxhash_update(digest, piece);
    if (digest->set & DIGEST_CRC32)
        digest->crc32 = crc32_update(digest->crc32, piece);
    if (digest->set & DIGEST_CRC32C)
        digest->crc32c = crc32c_update(digest->crc32c, piece);
    if (digest->set & DIGEST_CRC64NVME)
        digest->crc64nvme = crc64nvme_update(digest->crc64nvme, piece);
}

void digest_update(struct digest *digest, struct slice data)
{
    assert(!digest->finished);
    digest->total_bytes += data.bytes;
    for (; data.bytes > 0; data = slice_skip(data, DIGEST_PIECE_BYTES))
        digest_piece(digest, slice_first(data, DIGEST_PIECE_BYTES));
}

void digest_finish(struct digest *digest, struct digest_values *out_values)
{
    assert(!digest->finished);
    digest->finished = true;
    *out_values = (struct digest_values){
        .set = digest->set,
        .crc32 = digest->crc32,
        .crc32c = digest->crc32c,
        .crc64nvme = digest->crc64nvme,
    };
    hash_finish(digest->md5, out_values->md5, DIGEST_MD5_BYTES);
    hash_finish(digest->sha1, out_values->sha1, DIGEST_SHA1_BYTES);
    hash_finish(digest->sha256, out_values->sha256, DIGEST_SHA256_BYTES);
    hash_finish(digest->sha512, out_values->sha512, DIGEST_SHA512_BYTES);
    xxhash_finish(digest, out_values);
}

uint64_t digest_total_bytes(const struct digest *digest)
{
    return digest->total_bytes;
}

/* S3 sends numbers in network order. */
static void store_big_endian(uint8_t *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static uint64_t load_big_endian(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

struct checksum digest_checksum(const struct digest_values *values,
                                enum checksum_algorithm algorithm)
{
    assert((values->set & digest_bit(algorithm)) != 0);
    struct checksum checksum = {.algorithm = algorithm, .type = CHECKSUM_FULL_OBJECT};
    switch (algorithm) {
    case CHECKSUM_NONE:
        break;
    case CHECKSUM_CRC32:
        store_big_endian(checksum.value, values->crc32, 4);
        break;
    case CHECKSUM_CRC32C:
        store_big_endian(checksum.value, values->crc32c, 4);
        break;
    case CHECKSUM_CRC64NVME:
        store_big_endian(checksum.value, values->crc64nvme, 8);
        break;
    case CHECKSUM_SHA1:
        memcpy(checksum.value, values->sha1, DIGEST_SHA1_BYTES);
        break;
    case CHECKSUM_SHA256:
        memcpy(checksum.value, values->sha256, DIGEST_SHA256_BYTES);
        break;
    case CHECKSUM_SHA512:
        memcpy(checksum.value, values->sha512, DIGEST_SHA512_BYTES);
        break;
    case CHECKSUM_MD5:
        memcpy(checksum.value, values->md5, DIGEST_MD5_BYTES);
        break;
    case CHECKSUM_XXHASH64:
        store_big_endian(checksum.value, values->xxhash64, 8);
        break;
    case CHECKSUM_XXHASH3:
        store_big_endian(checksum.value, values->xxhash3, 8);
        break;
    case CHECKSUM_XXHASH128:
        memcpy(checksum.value, values->xxhash128, DIGEST_XXHASH128_BYTES);
        break;
    }
    return checksum;
}

bool digest_matches(const struct digest_values *values, const struct checksum *expected)
{
    struct checksum computed = digest_checksum(values, expected->algorithm);
    return expected->type == CHECKSUM_FULL_OBJECT &&
           CRYPTO_memcmp(computed.value, expected->value, checksum_bytes(expected->algorithm)) == 0;
}

static void digest_once(const struct digest_methods *methods, uint32_t set, struct slice data,
                        struct digest_values *out_values)
{
    AUTO(digest) digest = digest_new(methods, set);
    digest_update(digest, data);
    digest_finish(digest, out_values);
}

void digest_md5(const struct digest_methods *methods, struct slice data,
                uint8_t out_md5[DIGEST_MD5_BYTES])
{
    struct digest_values values;
    digest_once(methods, DIGEST_MD5, data, &values);
    memcpy(out_md5, values.md5, DIGEST_MD5_BYTES);
}

void digest_sha256(const struct digest_methods *methods, struct slice data,
                   uint8_t out_sha256[DIGEST_SHA256_BYTES])
{
    struct digest_values values;
    digest_once(methods, DIGEST_SHA256, data, &values);
    memcpy(out_sha256, values.sha256, DIGEST_SHA256_BYTES);
}

/* Multipart uploads */

struct etag etag_of_md5(const uint8_t md5[DIGEST_MD5_BYTES])
{
    struct etag etag = {0};
    text_hex(slice_of(md5, DIGEST_MD5_BYTES), etag.text);
    return etag;
}

struct multipart_digest {
    enum checksum_algorithm algorithm;
    enum checksum_type type;
    uint32_t part_count;
    uint64_t crc;             /* FULL_OBJECT: of all parts so far */
    struct digest *etag;      /* MD5 over the parts' MD5s */
    struct digest *composite; /* COMPOSITE: over the parts' checksums; else NULL */
};

struct multipart_digest *multipart_digest_new(const struct digest_methods *methods,
                                              enum checksum_algorithm algorithm,
                                              enum checksum_type type)
{
    assert(checksum_type_allowed(algorithm, type));
    struct multipart_digest *multipart = mem_new(struct multipart_digest);
    *multipart = (struct multipart_digest){
        .algorithm = algorithm,
        .type = type,
        .etag = digest_new(methods, DIGEST_MD5),
        .composite = type == CHECKSUM_COMPOSITE ? digest_new(methods, digest_bit(algorithm)) : NULL,
    };
    return multipart;
}

void multipart_digest_free(struct multipart_digest *multipart)
{
    if (multipart == NULL)
        return;
    digest_free(multipart->etag);
    digest_free(multipart->composite);
    mem_free(multipart);
}

/* The CRC of what came before followed by the part. */
static uint64_t combine_crc(const struct multipart_digest *multipart, uint64_t part_crc,
                            uint64_t part_bytes)
{
    switch (multipart->algorithm) {
    case CHECKSUM_CRC32:
        return crc32_combine((uint32_t)multipart->crc, (uint32_t)part_crc, part_bytes);
    case CHECKSUM_CRC32C:
        return crc32c_combine((uint32_t)multipart->crc, (uint32_t)part_crc, part_bytes);
    case CHECKSUM_CRC64NVME:
        return crc64nvme_combine(multipart->crc, part_crc, part_bytes);
    case CHECKSUM_NONE:
    case CHECKSUM_SHA1:
    case CHECKSUM_SHA256:
    case CHECKSUM_SHA512:
    case CHECKSUM_MD5:
    case CHECKSUM_XXHASH64:
    case CHECKSUM_XXHASH3:
    case CHECKSUM_XXHASH128:
        break;
    }
    assert(false && "only a CRC can be combined");
    return 0;
}

void multipart_digest_add(struct multipart_digest *multipart, const uint8_t md5[DIGEST_MD5_BYTES],
                          const struct checksum *checksum, uint64_t part_bytes)
{
    assert(multipart->part_count < CHECKSUM_PART_COUNT_MAX);
    multipart->part_count++;
    digest_update(multipart->etag, slice_of(md5, DIGEST_MD5_BYTES));
    if (multipart->algorithm == CHECKSUM_NONE)
        return;
    assert(checksum->algorithm == multipart->algorithm);
    assert(checksum->type == CHECKSUM_FULL_OBJECT);
    size_t bytes = checksum_bytes(checksum->algorithm);
    if (multipart->type == CHECKSUM_COMPOSITE)
        digest_update(multipart->composite, slice_of(checksum->value, bytes));
    else
        multipart->crc =
            combine_crc(multipart, load_big_endian(checksum->value, bytes), part_bytes);
}

void multipart_digest_finish(struct multipart_digest *multipart, struct etag *out_etag,
                             struct checksum *out_checksum)
{
    assert(multipart->part_count > 0);
    struct digest_values values;
    digest_finish(multipart->etag, &values);
    struct etag md5 = etag_of_md5(values.md5);
    int written = snprintf(out_etag->text, sizeof out_etag->text, "%.*s-%" PRIu32,
                           2 * DIGEST_MD5_BYTES, md5.text, multipart->part_count);
    assert(written > 0 && (size_t)written < sizeof out_etag->text);

    if (multipart->type == CHECKSUM_COMPOSITE) {
        digest_finish(multipart->composite, &values);
        *out_checksum = digest_checksum(&values, multipart->algorithm);
        out_checksum->type = CHECKSUM_COMPOSITE;
        out_checksum->part_count = multipart->part_count;
        return;
    }
    *out_checksum = (struct checksum){.algorithm = multipart->algorithm};
    store_big_endian(out_checksum->value, multipart->crc, checksum_bytes(multipart->algorithm));
}
