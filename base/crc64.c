/* CRC-64/NVME: eight table look-ups for eight bytes, or folding by carry-less multiplication.
 *
 * Reflected form: the lowest bit of a register is its highest power of x. */
#include "crc64.h"
#include "base/crc.h"
#include "base/encode.h"

/* Tables for slicing by eight: TABLES[t][b] is byte b followed by t zero bytes, modulo the
 * polynomial. An entry is the sum of those of its bits, and bit i of table t is
 * x^(64 + 8t + 7 - i) mod P: these 64 numbers make the tables constant expressions, with nothing
 * generated and nothing to initialise. */
#define BIT(byte, i, power) (((byte) >> (i)&1) != 0 ? UINT64_C(power) : 0)

#define ENTRY0(b)                                                                                  \
    (BIT(b, 0, 0x7f6ef0c830358979) ^ BIT(b, 1, 0xfedde190606b12f2) ^                               \
     BIT(b, 2, 0xc962e5739841b68f) ^ BIT(b, 3, 0xa61cecb46814fe75) ^                               \
     BIT(b, 4, 0x78e0ff3b88be6f81) ^ BIT(b, 5, 0xf1c1fe77117cdf02) ^                               \
     BIT(b, 6, 0xd75adabd7a6e2d6f) ^ BIT(b, 7, 0x9a6c9329ac4bc9b5))
#define ENTRY1(b)                                                                                  \
    (BIT(b, 0, 0x8776a97d73bddf69) ^ BIT(b, 1, 0x3a3474a9bfec2db9) ^                               \
     BIT(b, 2, 0x7468e9537fd85b72) ^ BIT(b, 3, 0xe8d1d2a6ffb0b6e4) ^                               \
     BIT(b, 4, 0xe57a831ea7f6fea3) ^ BIT(b, 5, 0xfe2c206e177a6e2d) ^                               \
     BIT(b, 6, 0xc881668f76634f31) ^ BIT(b, 7, 0xa5dbeb4db4510d09))
#define ENTRY2(b)                                                                                  \
    (BIT(b, 0, 0xff6e4e1f4e4038be) ^ BIT(b, 1, 0xca05ba6dc417e217) ^                               \
     BIT(b, 2, 0xa0d25288d0b85745) ^ BIT(b, 3, 0x757d8342f9e73de1) ^                               \
     BIT(b, 4, 0xeafb0685f3ce7bc2) ^ BIT(b, 5, 0xe12f2b58bf0b64ef) ^                               \
     BIT(b, 6, 0xf68770e226815ab5) ^ BIT(b, 7, 0xd9d7c79715952601))
#define ENTRY3(b)                                                                                  \
    (BIT(b, 0, 0x8211147cbaf96306) ^ BIT(b, 1, 0x30fb0eaa2d655567) ^                               \
     BIT(b, 2, 0x61f61d545acaaace) ^ BIT(b, 3, 0xc3ec3aa8b595559c) ^                               \
     BIT(b, 4, 0xb301530233bd3853) ^ BIT(b, 5, 0x52db80573fede3cd) ^                               \
     BIT(b, 6, 0xa5b700ae7fdbc79a) ^ BIT(b, 7, 0x7fb7270fa7201c5f))
#define ENTRY4(b)                                                                                  \
    (BIT(b, 0, 0x373d15f784905d1e) ^ BIT(b, 1, 0x6e7a2bef0920ba3c) ^                               \
     BIT(b, 2, 0xdcf457de12417478) ^ BIT(b, 3, 0x8d3189ef7c157b9b) ^                               \
     BIT(b, 4, 0x2eba358da0bd645d) ^ BIT(b, 5, 0x5d746b1b417ac8ba) ^                               \
     BIT(b, 6, 0xbae8d63682f59174) ^ BIT(b, 7, 0x41088a3e5d7cb183))
#define ENTRY5(b)                                                                                  \
    (BIT(b, 0, 0xe9742a79ef04a5d4) ^ BIT(b, 1, 0xe63172a0869ed8c3) ^                               \
     BIT(b, 2, 0xf8bbc31255aa22ed) ^ BIT(b, 3, 0xc5aea077f3c3d6b1) ^                               \
     BIT(b, 4, 0xbf8466bcbf103e09) ^ BIT(b, 5, 0x4bd1eb2a26b7ef79) ^                               \
     BIT(b, 6, 0x97a3d6544d6fdef2) ^ BIT(b, 7, 0x1b9e8afbc2482e8f))
#define ENTRY6(b)                                                                                  \
    (BIT(b, 0, 0xfc5d27f6bf353971) ^ BIT(b, 1, 0xcc6369be26fde189) ^                               \
     BIT(b, 2, 0xac1ff52f156c5079) ^ BIT(b, 3, 0x6ce6cc0d724f3399) ^                               \
     BIT(b, 4, 0xd9cd981ae49e6732) ^ BIT(b, 5, 0x8742166691ab5d0f) ^                               \
     BIT(b, 6, 0x3a5d0a9e7bc12975) ^ BIT(b, 7, 0x74ba153cf78252ea))
#define ENTRY7(b)                                                                                  \
    (BIT(b, 0, 0x21e9761e252621ac) ^ BIT(b, 1, 0x43d2ec3c4a4c4358) ^                               \
     BIT(b, 2, 0x87a5d878949886b0) ^ BIT(b, 3, 0x3b9296a271a69e0b) ^                               \
     BIT(b, 4, 0x77252d44e34d3c16) ^ BIT(b, 5, 0xee4a5a89c69a782c) ^                               \
     BIT(b, 6, 0xe84d9340d5a36333) ^ BIT(b, 7, 0xe44200d2f3d1550d))

#define ROW4(entry, b) entry(b), entry((b) + 1), entry((b) + 2), entry((b) + 3)
#define ROW16(entry, b)                                                                            \
    ROW4(entry, b), ROW4(entry, (b) + 4), ROW4(entry, (b) + 8), ROW4(entry, (b) + 12)
#define ROW64(entry, b)                                                                            \
    ROW16(entry, b), ROW16(entry, (b) + 16), ROW16(entry, (b) + 32), ROW16(entry, (b) + 48)
#define TABLE(entry)                                                                               \
    {                                                                                              \
        ROW64(entry, 0), ROW64(entry, 64), ROW64(entry, 128), ROW64(entry, 192)                    \
    }

static const uint64_t TABLES[8][256] = {
    TABLE(ENTRY0), TABLE(ENTRY1), TABLE(ENTRY2), TABLE(ENTRY3),
    TABLE(ENTRY4), TABLE(ENTRY5), TABLE(ENTRY6), TABLE(ENTRY7),
};

uint64_t crc64_table(uint64_t state, struct slice data)
{
    for (; data.bytes >= 8; data = slice_skip(data, 8)) {
        uint64_t word = state ^ load_u64(data.data);
        state = 0;
        for (int t = 0; t < 8; t++)
            state ^= TABLES[7 - t][word >> (8 * t) & 0xff];
    }
    for (size_t i = 0; i < data.bytes; i++)
        state = TABLES[0][(state ^ data.data[i]) & 0xff] ^ state >> 8;
    return state;
}

#if defined(__x86_64__)
#include <immintrin.h>

enum { LANE_BYTES = 16, LANE_COUNT = 4, STRIDE_BYTES = LANE_BYTES * LANE_COUNT };

/* The register advanced by as many bits as the keys were made for. The product of two reflected
 * 64-bit values stands one bit too low in 128, so to move by d bits the low half (the earlier
 * bytes) is multiplied by x^(d + 63) and the high half by x^(d - 1). */
__attribute__((target("pclmul,sse2"))) static __m128i fold(__m128i lane, __m128i keys)
{
    return _mm_xor_si128(_mm_clmulepi64_si128(lane, keys, 0x00),
                         _mm_clmulepi64_si128(lane, keys, 0x11));
}

__attribute__((target("pclmul,sse2"))) static __m128i load(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

__attribute__((target("pclmul,sse2"))) static uint64_t fold_all(uint64_t state, struct slice data)
{
    const __m128i by_stride = _mm_set_epi64x((long long)0x62242240ace5045a, /* x^511 mod P */
                                             (long long)0xc32cdb31e18a84a); /* x^575 mod P */
    const __m128i by_lane = _mm_set_epi64x((long long)0x21e9761e252621ac,   /* x^127 mod P */
                                           (long long)0xeadc41fd2ba3d420);  /* x^191 mod P */
    __m128i lanes[LANE_COUNT];
    for (int i = 0; i < LANE_COUNT; i++)
        lanes[i] = load(data.data + LANE_BYTES * i);
    lanes[0] = _mm_xor_si128(lanes[0], _mm_set_epi64x(0, (long long)state));
    data = slice_skip(data, STRIDE_BYTES);
    for (; data.bytes >= STRIDE_BYTES; data = slice_skip(data, STRIDE_BYTES)) {
        for (int i = 0; i < LANE_COUNT; i++)
            lanes[i] = _mm_xor_si128(fold(lanes[i], by_stride), load(data.data + LANE_BYTES * i));
    }
    __m128i sum = lanes[0];
    for (int i = 1; i < LANE_COUNT; i++)
        sum = _mm_xor_si128(fold(sum, by_lane), lanes[i]);
    for (; data.bytes >= LANE_BYTES; data = slice_skip(data, LANE_BYTES))
        sum = _mm_xor_si128(fold(sum, by_lane), load(data.data));
    /* What is left is 16 bytes equivalent to all that came before: the table reduces them. */
    uint8_t rest[LANE_BYTES];
    _mm_storeu_si128((__m128i *)(void *)rest, sum);
    return crc64_table(crc64_table(0, slice_of(rest, sizeof rest)), data);
}

uint64_t crc64_folding(uint64_t state, struct slice data)
{
    if (data.bytes < 2 * STRIDE_BYTES || !__builtin_cpu_supports("pclmul"))
        return crc64_table(state, data);
    return fold_all(state, data);
}
#else
uint64_t crc64_folding(uint64_t state, struct slice data)
{
    return crc64_table(state, data);
}
#endif

uint64_t crc64nvme_update(uint64_t crc, struct slice data)
{
    return ~crc64_folding(~crc, data);
}
