/* HMAC and SHA-256 over libcrypto, which cannot fail but for lack of memory. */
#pragma once
#include "base/slice.h"
#include <stdint.h>

void hmac_sha256(struct slice key, struct slice data, uint8_t out[32]);
void hmac_sha1(struct slice key, struct slice data, uint8_t out[20]);
void sha256_of(struct slice data, uint8_t out[32]);
