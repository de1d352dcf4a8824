/* HMAC and SHA-256 by libcrypto. */
#include "hmac.h"
#include "base/err.h"
#include <assert.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

static void hmac(const EVP_MD *md, struct slice key, struct slice data, uint8_t *out,
                 unsigned expected_bytes)
{
    static const uint8_t none[1] = {0};
    unsigned bytes = 0;
    /* A NULL key would mean "the key of the last call". */
    const uint8_t *done = HMAC(md, key.data == NULL ? none : key.data, (int)key.bytes,
                               data.data == NULL ? none : data.data, data.bytes, out, &bytes);
    assert(done != NULL);
    assert(bytes == expected_bytes);
}

void hmac_sha256(struct slice key, struct slice data, uint8_t out[32])
{
    hmac(EVP_sha256(), key, data, out, 32);
}

void hmac_sha1(struct slice key, struct slice data, uint8_t out[20])
{
    hmac(EVP_sha1(), key, data, out, 20);
}

void sha256_of(struct slice data, uint8_t out[32])
{
    const uint8_t *done = SHA256(data.data, data.bytes, out);
    assert(done != NULL);
}
