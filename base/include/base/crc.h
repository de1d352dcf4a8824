/* CRC checksums. Each *_update takes the finished value of the bytes so far (0 for none) and
 * gives the finished value with `data` appended, so calls chain without a separate state. */
#pragma once
#include "base/slice.h"
#include <stdint.h>

/* CRC-32C (Castagnoli, RFC 3720 B.4): guards everything stored. */
uint32_t crc32c_update(uint32_t crc, struct slice data);
/* CRC-32 (IEEE 802.3, as zlib): S3 x-amz-checksum-crc32. */
uint32_t crc32_update(uint32_t crc, struct slice data);
/* CRC-64/NVME (reflected 0x9a6c9329ac4bc9b5; check value of "123456789" is 0xae8b14860a799888):
 * S3 x-amz-checksum-crc64nvme. */
uint64_t crc64nvme_update(uint64_t crc, struct slice data);

/* The checksum of A followed by B from those of A and of B, where B is `b_bytes` long: S3's
 * full-object checksums of multipart uploads. */
uint32_t crc32c_combine(uint32_t a, uint32_t b, uint64_t b_bytes);
uint32_t crc32_combine(uint32_t a, uint32_t b, uint64_t b_bytes);
uint64_t crc64nvme_combine(uint64_t a, uint64_t b, uint64_t b_bytes);
