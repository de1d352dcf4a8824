/* CRC-32 and CRC-32C over ISA-L, and the combination of checksums. */
#include "base/crc.h"
#include "crc64.h"
#include <isa-l/crc.h>

#define CRC32C_POLYNOMIAL UINT64_C(0x82f63b78) /* reflected */
#define CRC32_POLYNOMIAL UINT64_C(0xedb88320)  /* reflected */

uint32_t crc32c_update(uint32_t crc, struct slice data)
{
    /* ISA-L's function takes an int and works on the raw register. */
    static const size_t piece_bytes_max = 1 << 30;
    uint32_t state = ~crc;
    while (data.bytes > 0) {
        struct slice piece = slice_first(data, piece_bytes_max);
        /* Its parameter is not const, but it only reads. */
        unsigned char *start = (unsigned char *)(uintptr_t)piece.data;
        state = crc32_iscsi(start, (int)piece.bytes, state);
        data = slice_skip(data, piece.bytes);
    }
    return ~state;
}

uint32_t crc32_update(uint32_t crc, struct slice data)
{
    /* This one inverts by itself. */
    return data.bytes == 0 ? crc : crc32_gzip_refl(crc, data.data, data.bytes);
}

/* A reflected CRC of `width` bits as arithmetic on polynomials modulo `polynomial`: the highest
 * bit is x^0, the lowest x^(width - 1). */
struct field {
    uint64_t polynomial;
    int width;
};

static uint64_t field_one(struct field field)
{
    return UINT64_C(1) << (field.width - 1);
}

static uint64_t field_multiply(struct field field, uint64_t a, uint64_t b)
{
    uint64_t product = 0;
    for (uint64_t bit = field_one(field); bit != 0; bit >>= 1) {
        if ((a & bit) != 0)
            product ^= b;
        b = b >> 1 ^ ((b & 1) != 0 ? field.polynomial : 0);
    }
    return product;
}

/* crc(A B) = crc(A) * x^(8 |B|) + crc(B): the inversions before and after cancel out. */
static uint64_t field_combine(struct field field, uint64_t a, uint64_t b, uint64_t b_bytes)
{
    uint64_t square = field_one(field) >> 8; /* x^8: one byte */
    for (; b_bytes > 0; b_bytes >>= 1) {
        if ((b_bytes & 1) != 0)
            a = field_multiply(field, a, square);
        square = field_multiply(field, square, square);
    }
    return a ^ b;
}

uint32_t crc32c_combine(uint32_t a, uint32_t b, uint64_t b_bytes)
{
    struct field field = {.polynomial = CRC32C_POLYNOMIAL, .width = 32};
    return (uint32_t)field_combine(field, a, b, b_bytes);
}

uint32_t crc32_combine(uint32_t a, uint32_t b, uint64_t b_bytes)
{
    struct field field = {.polynomial = CRC32_POLYNOMIAL, .width = 32};
    return (uint32_t)field_combine(field, a, b, b_bytes);
}

uint64_t crc64nvme_combine(uint64_t a, uint64_t b, uint64_t b_bytes)
{
    struct field field = {.polynomial = CRC64_NVME_POLYNOMIAL, .width = 64};
    return field_combine(field, a, b, b_bytes);
}
