/* Systematic Reed-Solomon code over GF(2^8): k data units give m parity units, any k of the k + m
 * give back the others.
 *
 * A slot is the index of a unit within its stripe: data 0..k-1, then parity k..k+m-1. The generator
 * is a Cauchy matrix (Blömer et al., "An XOR-Based Erasure-Resilient Coding Scheme", 1995) scaled
 * so that the first parity row and the first column are all ones: parity 0 is the XOR of the data,
 * and with k = 1 each parity unit is a copy. The matrix is part of the stored format.
 *
 * Each byte position of a stripe is a code word of its own, so all functions also work on the same
 * range of positions of each unit. A data unit that ends early counts as zero from there on. */
#pragma once
#include "base/err.h"
#include "base/own.h"
#include "base/slice.h"
#include <stdint.h>

enum {
    CODEC_DATA_SHARDS_MAX = 16,
    CODEC_PARITY_SHARDS_MAX = 8,
    CODEC_SHARDS_MAX = CODEC_DATA_SHARDS_MAX + CODEC_PARITY_SHARDS_MAX,
    CODEC_UNIT_BYTES_MAX = 64 << 20,
};

/* Immutable after its making: shared freely between threads. */
struct codec;

/* Where a unit is written to. */
struct codec_output {
    uint8_t *data; /* may be NULL when bytes is 0 */
    size_t bytes;  /* at most CODEC_UNIT_BYTES_MAX */
};

/* ERR_INVALID unless data_shards is 1..16 and parity_shards 0..8. */
enum err codec_new(unsigned data_shards, unsigned parity_shards, struct codec **out_codec);
void codec_free(struct codec *codec);
DEFINE_AUTO(codec, codec_free)

/* Compute the parity of one stripe.
 *
 * data    one slice per data slot; lengths may differ.
 * parity  one output per parity slot, overlapping no input; filled over its whole length, which
 *         must be that of the longest data unit. */
void codec_encode(const struct codec *codec, const struct slice *data,
                  const struct codec_output *parity);

/* Compute missing units from k others.
 *
 * present  bit per slot: the slots that `units` (indexed by slot) holds. Of more than k the lowest
 *          k are used. A data unit that is empty by the layout is present without having been read.
 * wanted   bit per slot: the slots to compute; none of them present.
 * outputs  indexed by slot; those of wanted slots are filled over their whole length.
 * ERR_INVALID  fewer than k slots present, a slot beyond k + m, none wanted or one that is
 *              present, a parity unit shorter than an output (unlike data, it does not end in
 *              zeros). */
enum err codec_reconstruct(const struct codec *codec, uint32_t present, const struct slice *units,
                           uint32_t wanted, const struct codec_output *outputs);
