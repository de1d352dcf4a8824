/* Continuation tokens: where a listing goes on, opaque to clients.
 *
 *     base64( format u8 (1) | check u64 | name )     check = XXH3-64 of format and name
 *
 * They hold no state of the server, so they never expire; the check only tells clients' mistakes
 * from names. */
#pragma once
#include "base/bytes.h"
#include "base/slice.h"
#include <stdbool.h>

enum {
    LISTING_TOKEN_NAME_BYTES_MAX = 1024,
    LISTING_TOKEN_CHARS_MAX = (1 + 8 + LISTING_TOKEN_NAME_BYTES_MAX + 2) / 3 * 4,
};

/* Append the token for going on behind `name` (1..LISTING_TOKEN_NAME_BYTES_MAX bytes). */
void listing_token_append(struct bytes *out, struct slice name);
/* Append the name to `out`; false, and nothing is appended, when `text` is no token. */
bool listing_token_parse(struct slice text, struct bytes *out);
