/* See http_head.h. */
#include "http_head.h"

#include "base/mem.h"

#include <assert.h>

/* Where a string ends; its NUL is there. */
static const uint8_t *end_of(struct slice slice)
{
    return slice.data + slice.bytes;
}

static bool all_blank(const uint8_t *from, const uint8_t *to)
{
    for (const uint8_t *at = from; at < to; at++)
        if (*at != ' ' && *at != '\t')
            return false;
    return true;
}

bool http_head_is_plain(const struct http_raw_head *raw)
{
    const uint8_t *start = raw->method.data;
    const uint8_t *target = (const uint8_t *)raw->target_wire;
    if (end_of(raw->method) + 1 != target || target + raw->target.bytes + 1 != raw->version.data)
        return false;
    const uint8_t *line_end = end_of(raw->version) + 2;
    for (uint32_t i = 0; i < raw->line_count; i++) {
        const struct http_line *line = &raw->lines[i];
        const uint8_t *colon = end_of(line->name);
        if (line->name.data != line_end || line->value.data <= colon ||
            !all_blank(colon + 1, line->value.data))
            return false;
        line_end = end_of(line->value) + 2;
    }
    return line_end + 2 == start + raw->bytes;
}

static struct slice copy_into(uint8_t **cursor, struct slice slice)
{
    uint8_t *at = *cursor;
    if (slice.bytes > 0)
        memcpy(at, slice.data, slice.bytes);
    *cursor += slice.bytes;
    return slice_of(at, slice.bytes);
}

void *http_head_copy(const struct http_raw_head *raw, struct s3_head *out_head)
{
    assert(raw->line_count <= S3_HEADERS_MAX + 1);
    size_t bytes = raw->method.bytes + raw->version.bytes;
    for (uint32_t i = 0; i < raw->line_count; i++)
        bytes += raw->lines[i].name.bytes + raw->lines[i].value.bytes;
    size_t table_bytes = raw->line_count * sizeof(struct s3_header);
    uint8_t *memory = mem_alloc(table_bytes + bytes + 1);
    struct s3_header *headers = (struct s3_header *)(void *)memory;
    uint8_t *cursor = memory + table_bytes;
    for (uint32_t i = 0; i < raw->line_count; i++)
        headers[i] = (struct s3_header){
            .name = copy_into(&cursor, raw->lines[i].name),
            .value = slice_trim(copy_into(&cursor, raw->lines[i].value)),
        };
    *out_head = (struct s3_head){
        .method = copy_into(&cursor, raw->method),
        .target = raw->target,
        .version = copy_into(&cursor, raw->version),
        .headers = headers,
        .header_count = raw->line_count,
    };
    return memory;
}
