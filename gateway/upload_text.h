/* Upload ids as clients see them.
 *
 *     hex( check u64 | id xor check u64 )     check = XXH3-64 of a format byte and the id
 *
 * Opaque and stable, not secret: an id is used together with its bucket and key. What was not made
 * here fails the check and is answered NoSuchUpload without a look-up. */
#pragma once
#include "base/slice.h"
#include <stdbool.h>
#include <stdint.h>

enum { UPLOAD_TEXT_CHARS = 32 };

struct upload_text {
    char text[UPLOAD_TEXT_CHARS + 1]; /* NUL-terminated */
};

/* `id` is not 0. */
struct upload_text upload_text_of(uint64_t id);
/* False when `text` is none of ours. */
bool upload_text_parse(struct slice text, uint64_t *out_id);
