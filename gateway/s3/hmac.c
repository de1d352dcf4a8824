/* HMAC and SHA-256 by libcrypto.
 *
 * HMAC-SHA256 is put together here (RFC 2104) from SHA256_Init, Update and Final: the calls that
 * replace them look their method up and allocate each time, which cost more than the hashing of a
 * request's few hundred bytes. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "hmac.h"
#include "base/err.h"
#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <string.h>

enum { INNER_PAD = 0x36, OUTER_PAD = 0x5c };

/* H(first || second) */
static void sha256_of_two(struct slice first, struct slice second, uint8_t out[32])
{
    SHA256_CTX hash;
    int done = SHA256_Init(&hash);
    done &= SHA256_Update(&hash, first.data, first.bytes);
    done &= SHA256_Update(&hash, second.data, second.bytes);
    done &= SHA256_Final(out, &hash);
    OPENSSL_cleanse(&hash, sizeof hash);
    assert(done == 1);
}

void sha256_of(struct slice data, uint8_t out[32])
{
    sha256_of_two(data, slice_of(NULL, 0), out);
}

static void pad_key(const uint8_t key[SHA256_CBLOCK], uint8_t pad, uint8_t out[SHA256_CBLOCK])
{
    for (size_t i = 0; i < SHA256_CBLOCK; i++)
        out[i] = key[i] ^ pad;
}

void hmac_sha256(struct slice key, struct slice data, uint8_t out[32])
{
    uint8_t block[SHA256_CBLOCK] = {0};
    uint8_t padded[SHA256_CBLOCK];
    uint8_t inner[32];
    if (key.bytes > sizeof block)
        sha256_of(key, block);
    else if (key.bytes > 0)
        memcpy(block, key.data, key.bytes);
    pad_key(block, INNER_PAD, padded);
    sha256_of_two(slice_of(padded, sizeof padded), data, inner);
    pad_key(block, OUTER_PAD, padded);
    sha256_of_two(slice_of(padded, sizeof padded), slice_of(inner, sizeof inner), out);
    OPENSSL_cleanse(block, sizeof block);
    OPENSSL_cleanse(padded, sizeof padded);
}

void hmac_sha1(struct slice key, struct slice data, uint8_t out[20])
{
    static const uint8_t none[1] = {0};
    unsigned bytes = 0;
    /* A NULL key would mean "the key of the last call". */
    const uint8_t *done = HMAC(EVP_sha1(), key.data == NULL ? none : key.data, (int)key.bytes,
                               data.data == NULL ? none : data.data, data.bytes, out, &bytes);
    assert(done != NULL);
    assert(bytes == 20);
}
