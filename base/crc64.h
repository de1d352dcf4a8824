/* The two ways to compute CRC-64/NVME, apart so that tests can hold them against each other.
 *
 * Both work on the raw register: the caller inverts before and after (base/crc.h). */
#pragma once
#include "base/slice.h"
#include <stdint.h>

#define CRC64_NVME_POLYNOMIAL UINT64_C(0x9a6c9329ac4bc9b5) /* reflected */

uint64_t crc64_table(uint64_t state, struct slice data);
/* By carry-less multiplication; the table where the processor has none. */
uint64_t crc64_folding(uint64_t state, struct slice data);
