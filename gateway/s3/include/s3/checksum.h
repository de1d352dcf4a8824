/* S3's additional checksums (x-amz-checksum-*), the digests computed over a body, and what a
 * multipart upload makes of the digests of its parts.
 *
 * A checksum of the whole object is FULL_OBJECT; the checksum of the parts' checksums is
 * COMPOSITE and has the part count behind it: "base64-N". CRC64NVME is only FULL_OBJECT, CRC32
 * and CRC32C of a multipart upload are COMPOSITE unless it asks for FULL_OBJECT, all others are
 * only COMPOSITE (S3 User Guide, Checking object integrity). Objects put in one
 * request have FULL_OBJECT checksums of any algorithm. */
#pragma once
#include "base/bytes.h"
#include "base/own.h"
#include "base/slice.h"
#include "s3/error.h"
#include <stdbool.h>
#include <stdint.h>

/* The numbers are stored in object metadata: append only. */
enum checksum_algorithm {
    CHECKSUM_NONE = 0,
    CHECKSUM_CRC32 = 1,
    CHECKSUM_CRC32C = 2,
    CHECKSUM_CRC64NVME = 3,
    CHECKSUM_SHA1 = 4,
    CHECKSUM_SHA256 = 5,
    CHECKSUM_SHA512 = 6,
    CHECKSUM_MD5 = 7,
    CHECKSUM_XXHASH64 = 8,
    CHECKSUM_XXHASH3 = 9, /* of 64 bits */
    CHECKSUM_XXHASH128 = 10,
};
enum checksum_type { CHECKSUM_FULL_OBJECT = 0, CHECKSUM_COMPOSITE = 1 };

enum {
    CHECKSUM_ALGORITHM_COUNT = 11, /* with NONE */
    CHECKSUM_BYTES_MAX = 64,
    CHECKSUM_TEXT_BYTES_MAX = 88 + 6, /* base64 of 64 bytes and "-10000" */
    CHECKSUM_PART_COUNT_MAX = 10000,
};

struct checksum {
    enum checksum_algorithm algorithm;
    enum checksum_type type;
    uint32_t part_count; /* COMPOSITE: 1..CHECKSUM_PART_COUNT_MAX; else 0 */
    uint8_t value[CHECKSUM_BYTES_MAX];
};

/* "CRC32" as in x-amz-checksum-algorithm; NULL for NONE. */
const char *checksum_name(enum checksum_algorithm algorithm);
/* What an answer says to an algorithm that checksum_by_name does not know. */
extern const char checksum_unsupported_message[];
/* "x-amz-checksum-crc32"; NULL for NONE. */
const char *checksum_header(enum checksum_algorithm algorithm);
/* "ChecksumCRC32", the XML element; NULL for NONE. */
const char *checksum_element(enum checksum_algorithm algorithm);
/* Length of the binary digest, 4..CHECKSUM_BYTES_MAX; 0 for NONE. */
size_t checksum_bytes(enum checksum_algorithm algorithm);
/* Inverses; names and headers compare without case, elements exactly. NONE when unknown. */
enum checksum_algorithm checksum_by_name(struct slice name);
enum checksum_algorithm checksum_by_header(struct slice header);
enum checksum_algorithm checksum_by_element(struct slice element);

/* "COMPOSITE", "FULL_OBJECT". */
const char *checksum_type_name(enum checksum_type type);
/* False when `text` is neither (any case). */
bool checksum_type_by_name(struct slice text, enum checksum_type *out_type);
/* The type of a multipart upload that names only its algorithm. */
enum checksum_type checksum_type_default(enum checksum_algorithm algorithm);
/* Whether a multipart upload may combine the two. */
bool checksum_type_allowed(enum checksum_algorithm algorithm, enum checksum_type type);

/* Parse base64 of exactly the algorithm's length, or that with "-N" behind it (COMPOSITE).
 * `algorithm` is not NONE. False when malformed; which S3 error that is depends on where the
 * text came from. */
bool checksum_parse(enum checksum_algorithm algorithm, struct slice text,
                    struct checksum *out_checksum);
/* Append the text that checksum_parse reads. */
void checksum_append(struct bytes *out, const struct checksum *checksum);
/* Same algorithm, type, part count and digest. */
bool checksum_equal(const struct checksum *a, const struct checksum *b);

/* Digests of a stream of bytes: any set of them, each slice walked once in pieces that stay in
 * cache. */
enum digest_bits {
    DIGEST_MD5 = 1,
    DIGEST_SHA256 = 2,
    DIGEST_SHA1 = 4,
    DIGEST_CRC32 = 8,
    DIGEST_CRC32C = 16,
    DIGEST_CRC64NVME = 32,
    DIGEST_SHA512 = 64,
    DIGEST_XXHASH64 = 128,
    DIGEST_XXHASH3 = 256,
    DIGEST_XXHASH128 = 512,
};
enum {
    DIGEST_SET_MAX = 2 * DIGEST_XXHASH128 - 1,
    DIGEST_MD5_BYTES = 16,
    DIGEST_SHA1_BYTES = 20,
    DIGEST_SHA256_BYTES = 32,
    DIGEST_SHA512_BYTES = 64,
    DIGEST_XXHASH128_BYTES = 16,
};

/* The hash implementations, fetched once: EVP_MD_fetch walks locked tables. One per process or
 * reactor, made by the owner of the gateway, read-only afterwards, outlives every digest made
 * with it. */
struct digest_methods;
struct digest_methods *digest_methods_new(void);
void digest_methods_free(struct digest_methods *methods);
DEFINE_AUTO(digest_methods, digest_methods_free)

struct digest_values {
    uint32_t set; /* the digest_bits that were computed; other fields are zero */
    uint32_t crc32;
    uint32_t crc32c;
    uint64_t crc64nvme;
    uint8_t md5[DIGEST_MD5_BYTES];
    uint8_t sha1[DIGEST_SHA1_BYTES];
    uint8_t sha256[DIGEST_SHA256_BYTES];
    uint8_t sha512[DIGEST_SHA512_BYTES];
    uint64_t xxhash64;
    uint64_t xxhash3;
    uint8_t xxhash128[DIGEST_XXHASH128_BYTES];
};

/* The bit that computes `algorithm`; 0 for NONE. */
uint32_t digest_bit(enum checksum_algorithm algorithm);

struct digest;
/* `set` is a union of digest_bits, may be 0. Not shared between threads. */
struct digest *digest_new(const struct digest_methods *methods, uint32_t set);
void digest_free(struct digest *digest);
void digest_update(struct digest *digest, struct slice data);
/* The values of all bytes given; once, nothing may follow. */
void digest_finish(struct digest *digest, struct digest_values *out_values);
/* Bytes given so far. */
uint64_t digest_total_bytes(const struct digest *digest);
DEFINE_AUTO(digest, digest_free)

/* The value of `algorithm` as a FULL_OBJECT checksum; it must be in values->set. */
struct checksum digest_checksum(const struct digest_values *values,
                                enum checksum_algorithm algorithm);
/* Whether the computed digest is the one the client sent, in constant time. */
bool digest_matches(const struct digest_values *values, const struct checksum *expected);
/* MD5 of `data` in one call, e.g. for Content-MD5 of a small body. */
void digest_md5(const struct digest_methods *methods, struct slice data,
                uint8_t out_md5[DIGEST_MD5_BYTES]);
/* SHA-256 of `data` in one call. */
void digest_sha256(const struct digest_methods *methods, struct slice data,
                   uint8_t out_sha256[DIGEST_SHA256_BYTES]);

/* Entity tags, without quotes: 32 hex digits, or those and "-N" for a multipart upload. */
enum { ETAG_TEXT_BYTES_MAX = 2 * DIGEST_MD5_BYTES + 6 };
struct etag {
    char text[ETAG_TEXT_BYTES_MAX + 1]; /* NUL-terminated */
};
static inline struct slice etag_slice(const struct etag *etag)
{
    return slice_of_text(etag->text);
}
struct etag etag_of_md5(const uint8_t md5[DIGEST_MD5_BYTES]);

/* Folds the parts of a multipart upload, in their order, into the object's ETag and checksum. */
struct multipart_digest;
/* algorithm and type as checksum_type_allowed permits; NONE computes the ETag only. */
struct multipart_digest *multipart_digest_new(const struct digest_methods *methods,
                                              enum checksum_algorithm algorithm,
                                              enum checksum_type type);
void multipart_digest_free(struct multipart_digest *multipart);
/* Add the next part, at most CHECKSUM_PART_COUNT_MAX of them. `checksum` is the part's own
 * (FULL_OBJECT) of the upload's algorithm, ignored when that is NONE. */
void multipart_digest_add(struct multipart_digest *multipart, const uint8_t md5[DIGEST_MD5_BYTES],
                          const struct checksum *checksum, uint64_t part_bytes);
/* After at least one part; once. out_checksum->algorithm is NONE when that was asked for. */
void multipart_digest_finish(struct multipart_digest *multipart, struct etag *out_etag,
                             struct checksum *out_checksum);
DEFINE_AUTO(multipart_digest, multipart_digest_free)
