/* See expand.h. */
#include "expand.h"

#include "base/slice.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct expansion {
    enum err (*take)(void *context, const char *text);
    void *context;
    uint32_t left; /* strings that may still come */
    char text[EXPAND_BYTES_MAX + 1];
};

struct range {
    uint64_t from, to;
    int width;
    const char *rest; /* behind the closing brace */
};

static enum err parse_range(const char *open, struct range *out)
{
    const char *dots = strstr(open, "...");
    const char *close = strchr(open, '}');
    if (dots == NULL || close == NULL || close < dots)
        return FAIL(ERR_INVALID, "a range is {FROM...TO}");
    struct slice from = slice_of(open + 1, (size_t)(dots - open - 1));
    struct slice to = slice_of(dots + 3, (size_t)(close - dots - 3));
    TRY(text_parse_u64(from, UINT32_MAX, &out->from));
    TRY(text_parse_u64(to, UINT32_MAX, &out->to));
    if (out->from > out->to)
        return FAIL(ERR_INVALID, "range from=%" PRIu64 " to=%" PRIu64, out->from, out->to);
    out->width = from.bytes > 1 && from.data[0] == '0' ? (int)from.bytes : 0;
    out->rest = close + 1;
    return OK;
}

/* `bytes` of the text are done. */
static enum err expand_from(struct expansion *expansion, size_t bytes, const char *pattern)
{
    size_t plain = strcspn(pattern, "{");
    if (plain > EXPAND_BYTES_MAX - bytes)
        return FAIL(ERR_INVALID, "longer than bytes=%d", EXPAND_BYTES_MAX);
    memcpy(expansion->text + bytes, pattern, plain);
    bytes += plain;
    expansion->text[bytes] = '\0';
    if (pattern[plain] == '\0') {
        if (expansion->left-- == 0)
            return FAIL(ERR_INVALID, "too many");
        return expansion->take(expansion->context, expansion->text);
    }
    struct range range;
    TRY(parse_range(pattern + plain, &range));
    for (uint64_t number = range.from; number <= range.to; number++) {
        size_t room = sizeof expansion->text - bytes;
        int written = snprintf(expansion->text + bytes, room, "%0*" PRIu64, range.width, number);
        if ((size_t)written >= room)
            return FAIL(ERR_INVALID, "longer than bytes=%d", EXPAND_BYTES_MAX);
        TRY(expand_from(expansion, bytes + (size_t)written, range.rest));
    }
    return OK;
}

enum err expand_ranges(const char *pattern, uint32_t max,
                       enum err (*take)(void *context, const char *text), void *context)
{
    struct expansion expansion = {.take = take, .context = context, .left = max};
    return expand_from(&expansion, 0, pattern);
}
