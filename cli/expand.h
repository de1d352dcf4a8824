/* Number ranges in arguments: /mnt/d{1...6} stands for /mnt/d1 to /mnt/d6. */
#pragma once
#include "base/err.h"
#include <stdint.h>

enum { EXPAND_BYTES_MAX = 4096 };

/* Call `take` with every string that `pattern` stands for, in order: each {FROM...TO} (decimal,
 * FROM <= TO, leading zeros of FROM are the width) takes all its values, the last one fastest. A
 * pattern without a range stands for itself. ERR_INVALID: malformed range, a string longer than
 * EXPAND_BYTES_MAX, or more than `max` strings; the first error of `take` ends it. */
enum err expand_ranges(const char *pattern, uint32_t max,
                       enum err (*take)(void *context, const char *text), void *context);
