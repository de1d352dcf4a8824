/* Text conversions used everywhere: numbers, hex, base64, ids. Strict: no signs, spaces or
 * overflow. */
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/slice.h"
#include <stdint.h>

/* Decimal digits only, at least one; ERR_INVALID otherwise or above `max`. */
enum err text_parse_u64(struct slice text, uint64_t max, uint64_t *out_value);
/* Lower-case hex. `out` gets 2 * bytes characters and a NUL. */
void text_hex(struct slice data, char *out);
/* Either case; `text` must be exactly 2 * bytes characters. */
enum err text_parse_hex(struct slice text, void *out, size_t bytes);
/* Standard alphabet with padding (RFC 4648 §4). */
void text_base64(struct bytes *out, struct slice data);
/* Strict decoding; *out_bytes is set to the decoded length, at most `max`. */
enum err text_parse_base64(struct slice text, uint8_t *out, size_t max, size_t *out_bytes);
