/* Reed-Solomon over ISA-L: small matrices here, the work on the bytes there. */
#include "erasure/codec.h"
#include "base/mem.h"
#include <assert.h>
#include <isa-l/erasure_code.h>

enum { TABLE_BYTES = 32 }; /* what ISA-L expands each coefficient to */

struct codec {
    unsigned data_shards;
    unsigned parity_shards;
    /* The generator's rows below its identity part. */
    uint8_t parity[CODEC_PARITY_SHARDS_MAX][CODEC_DATA_SHARDS_MAX];
};

/* Linear combinations of `columns` inputs, one per row. */
struct combination {
    unsigned rows;
    unsigned columns;
    uint8_t coefficient[CODEC_PARITY_SHARDS_MAX][CODEC_DATA_SHARDS_MAX];
    struct codec_output output[CODEC_PARITY_SHARDS_MAX];
    struct slice input[CODEC_DATA_SHARDS_MAX];
};

static uint8_t divide(uint8_t a, uint8_t b)
{
    assert(b != 0);
    return gf_mul(a, gf_inv(b));
}

/* 1 / (x_row + y_column) with x_row = k + row and y_column = column, all distinct. Scaling rows and
 * columns of a Cauchy matrix keeps every square part of it invertible. */
static uint8_t scaled_cauchy(unsigned data_shards, unsigned row, unsigned column)
{
    uint8_t entry = gf_inv((uint8_t)((data_shards + row) ^ column));
    uint8_t above = gf_inv((uint8_t)(data_shards ^ column));
    uint8_t first = divide(gf_inv((uint8_t)(data_shards + row)), gf_inv((uint8_t)data_shards));
    return divide(divide(entry, above), first);
}

enum err codec_new(unsigned data_shards, unsigned parity_shards, struct codec **out_codec)
{
    if (data_shards < 1 || data_shards > CODEC_DATA_SHARDS_MAX ||
        parity_shards > CODEC_PARITY_SHARDS_MAX)
        return FAIL(ERR_INVALID, "no such code data_shards=%u parity_shards=%u", data_shards,
                    parity_shards);
    struct codec *codec = mem_new(struct codec);
    codec->data_shards = data_shards;
    codec->parity_shards = parity_shards;
    for (unsigned row = 0; row < parity_shards; row++) {
        for (unsigned column = 0; column < data_shards; column++)
            codec->parity[row][column] = scaled_cauchy(data_shards, row, column);
    }
    *out_codec = codec;
    return OK;
}

void codec_free(struct codec *codec)
{
    mem_free(codec);
}

/* ISA-L takes pointers to non-const and only reads through them. */
static uint8_t *unconst(const uint8_t *data)
{
    return (uint8_t *)(uintptr_t)data;
}

/* Compute the positions from `from` up to where the next input or output ends, with only the inputs
 * and outputs that reach so far. Returns where it stopped, which is `from` when no output is
 * left. */
static size_t combine_piece(const struct combination *combination, size_t from)
{
    uint8_t *inputs[CODEC_DATA_SHARDS_MAX];
    uint8_t *outputs[CODEC_PARITY_SHARDS_MAX];
    uint8_t coefficients[CODEC_PARITY_SHARDS_MAX * CODEC_DATA_SHARDS_MAX];
    uint8_t tables[sizeof coefficients * TABLE_BYTES];
    unsigned rows = 0, columns = 0, used = 0;
    size_t to = SIZE_MAX;
    for (unsigned column = 0; column < combination->columns; column++) {
        struct slice input = combination->input[column];
        if (input.bytes <= from)
            continue;
        inputs[columns++] = unconst(input.data) + from;
        to = input.bytes < to ? input.bytes : to;
    }
    for (unsigned row = 0; row < combination->rows; row++) {
        struct codec_output output = combination->output[row];
        if (output.bytes <= from)
            continue;
        outputs[rows++] = output.data + from;
        to = output.bytes < to ? output.bytes : to;
        for (unsigned column = 0; column < combination->columns; column++) {
            if (combination->input[column].bytes > from)
                coefficients[used++] = combination->coefficient[row][column];
        }
    }
    if (rows == 0)
        return from;
    if (columns == 0) {
        for (unsigned row = 0; row < rows; row++)
            memset(outputs[row], 0, to - from);
        return to;
    }
    ec_init_tables((int)columns, (int)rows, coefficients, tables);
    ec_encode_data((int)(to - from), (int)columns, (int)rows, tables, inputs, outputs);
    return to;
}

static void combine(const struct combination *combination)
{
    size_t at = 0;
    for (size_t next = combine_piece(combination, at); next > at;) {
        at = next;
        next = combine_piece(combination, at);
    }
}

void codec_encode(const struct codec *codec, const struct slice *data,
                  const struct codec_output *parity)
{
    struct combination combination = {.rows = codec->parity_shards, .columns = codec->data_shards};
    size_t longest_bytes = 0;
    for (unsigned slot = 0; slot < codec->data_shards; slot++) {
        assert(data[slot].bytes <= CODEC_UNIT_BYTES_MAX);
        longest_bytes = data[slot].bytes > longest_bytes ? data[slot].bytes : longest_bytes;
        combination.input[slot] = data[slot];
    }
    for (unsigned row = 0; row < codec->parity_shards; row++) {
        assert(parity[row].bytes == longest_bytes);
        combination.output[row] = parity[row];
        memcpy(combination.coefficient[row], codec->parity[row], sizeof codec->parity[row]);
    }
    combine(&combination);
}

static enum err check_masks(const struct codec *codec, uint32_t present, uint32_t wanted)
{
    uint32_t all = (UINT32_C(1) << (codec->data_shards + codec->parity_shards)) - 1;
    if (((present | wanted) & ~all) != 0)
        return FAIL(ERR_INVALID, "slot beyond the code present=%x wanted=%x", present, wanted);
    if (wanted == 0 || (wanted & present) != 0)
        return FAIL(ERR_INVALID, "nothing to reconstruct present=%x wanted=%x", present, wanted);
    if ((unsigned)__builtin_popcount(present) < codec->data_shards)
        return FAIL(ERR_INVALID, "too few units present=%x data_shards=%u", present,
                    codec->data_shards);
    return OK;
}

static enum err check_lengths(const struct codec *codec, const struct slice *units,
                              const unsigned *slots, const struct combination *combination)
{
    size_t longest_bytes = 0;
    for (unsigned row = 0; row < combination->rows; row++) {
        size_t bytes = combination->output[row].bytes;
        longest_bytes = bytes > longest_bytes ? bytes : longest_bytes;
    }
    if (longest_bytes > CODEC_UNIT_BYTES_MAX)
        return FAIL(ERR_INVALID, "unit too long bytes=%zu", longest_bytes);
    for (unsigned i = 0; i < codec->data_shards; i++) {
        if (slots[i] >= codec->data_shards && units[slots[i]].bytes < longest_bytes)
            return FAIL(ERR_INVALID, "parity too short slot=%u bytes=%zu of=%zu", slots[i],
                        units[slots[i]].bytes, longest_bytes);
    }
    return OK;
}

/* data = inverse x (the units of `slots`): the rows of the generator for these slots, inverted. */
static void invert(const struct codec *codec, const unsigned *slots, uint8_t *out_inverse)
{
    unsigned k = codec->data_shards;
    uint8_t rows[CODEC_DATA_SHARDS_MAX * CODEC_DATA_SHARDS_MAX] = {0};
    for (unsigned i = 0; i < k; i++) {
        if (slots[i] < k)
            rows[i * k + slots[i]] = 1;
        else
            memcpy(rows + i * k, codec->parity[slots[i] - k], k);
    }
    int result = gf_invert_matrix(rows, out_inverse, (int)k);
    assert(result == 0); /* any k rows are independent: the property of the Cauchy matrix */
}

/* The coefficients that give `slot` from the units that `inverse` was made for. */
static void unit_row(const struct codec *codec, const uint8_t *inverse, unsigned slot,
                     uint8_t *out_row)
{
    unsigned k = codec->data_shards;
    if (slot < k) {
        memcpy(out_row, inverse + slot * k, k);
        return;
    }
    for (unsigned column = 0; column < k; column++) {
        out_row[column] = 0;
        for (unsigned i = 0; i < k; i++)
            out_row[column] ^= gf_mul(codec->parity[slot - k][i], inverse[i * k + column]);
    }
}

enum err codec_reconstruct(const struct codec *codec, uint32_t present, const struct slice *units,
                           uint32_t wanted, const struct codec_output *outputs)
{
    TRY(check_masks(codec, present, wanted));
    struct combination combination = {.columns = codec->data_shards};
    unsigned slots[CODEC_DATA_SHARDS_MAX];
    for (unsigned i = 0; i < codec->data_shards; i++) {
        slots[i] = (unsigned)__builtin_ctz(present);
        present &= present - 1;
        combination.input[i] = units[slots[i]];
    }
    uint8_t inverse[CODEC_DATA_SHARDS_MAX * CODEC_DATA_SHARDS_MAX];
    invert(codec, slots, inverse);
    for (; wanted != 0; wanted &= wanted - 1) {
        unsigned slot = (unsigned)__builtin_ctz(wanted);
        assert(combination.rows < CODEC_PARITY_SHARDS_MAX); /* at most m are missing */
        combination.output[combination.rows] = outputs[slot];
        unit_row(codec, inverse, slot, combination.coefficient[combination.rows]);
        combination.rows++;
    }
    TRY(check_lengths(codec, units, slots, &combination));
    combine(&combination);
    return OK;
}
