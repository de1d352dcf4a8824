/* Log entries, results and rows of the state store: the first byte picks what the rest is.
 * Whatever is accepted is encoded again to the same bytes: there is one form of each value, so
 * that replicas agree on hashes. */
#include "entry.h"
#include "rows.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must_equal(const struct bytes *again, struct slice input)
{
    assert(!again->overflow);
    assert(slice_equal(bytes_slice(again), input));
}

static void try_entry(struct slice input)
{
    struct entry_header header;
    struct slice encoded;
    struct command command;
    if (entry_decode(input, &header, &encoded) != OK || command_decode(encoded, &command) != OK)
        return;
    AUTO_VALUE(bytes) again = {.max = 2 * ENTRY_BYTES_MAX};
    entry_header_encode(&again, &header);
    enum err err = command_encode(&again, &command);
    assert(err == OK);
    must_equal(&again, input);
    command_deinit(&command);
}

static void try_result(struct slice input)
{
    struct result result;
    if (result_decode(input, &result) != OK)
        return;
    AUTO_VALUE(bytes) again = {.max = 2 * RESULT_BYTES_MAX};
    result_encode(&again, &result);
    must_equal(&again, input);
}

#define DEFINE_TRY(type)                                                                           \
    static void try_##type(struct slice input)                                                     \
    {                                                                                              \
        struct type row;                                                                           \
        if (type##_decode(input, &row) != OK)                                                      \
            return;                                                                                \
        AUTO_VALUE(bytes) again = {.max = 2 * ROW_VALUE_BYTES_MAX};                                \
        type##_encode(&again, &row);                                                               \
        must_equal(&again, input);                                                                 \
    }
ROW_TYPES(DEFINE_TRY)

#define LIST_TRY(type) try_##type,
typedef void try_fn(struct slice input);
static try_fn *const kinds[] = {try_entry, try_result, ROW_TYPES(LIST_TRY)};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0 || bytes > ROW_VALUE_BYTES_MAX)
        return 0;
    kinds[data[0] % (sizeof kinds / sizeof kinds[0])](slice_of(data + 1, bytes - 1));
    struct version_row head;
    (void)version_row_decode_head(slice_of(data, bytes), &head);
    return 0;
}
