/* Range headers: eight bytes of object size, then the header. What is resolved lies inside the
 * object, and where copies accept a range, reads resolve it to the same one. */
#include "base/encode.h"
#include "s3/range.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void assert_inside(struct range range, uint64_t object_bytes)
{
    assert(range.bytes > 0);
    assert(range.offset < object_bytes);
    assert(range.bytes <= object_bytes - range.offset);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 8)
        return 0;
    uint64_t object_bytes = load_u64(data);
    struct slice header = slice_of(data + 8, bytes - 8);
    struct range read = {0}, copy = {0};
    enum range_outcome outcome = range_resolve(header, object_bytes, &read);
    if (outcome == RANGE_SATISFIABLE) {
        assert_inside(read, object_bytes);
        AUTO_VALUE(bytes) text = {.max = 128};
        range_append_content_range(&text, read, object_bytes);
        assert(!text.overflow);
    }
    if (range_copy_source(header, object_bytes, NULL, &copy) == S3_OK) {
        assert_inside(copy, object_bytes);
        assert(outcome == RANGE_SATISFIABLE);
        assert(copy.offset == read.offset && copy.bytes == read.bytes);
    }
    (void)range_if_range_holds(header, SLICE_LITERAL("0123"), object_bytes);
    return 0;
}
