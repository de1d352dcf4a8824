/* A request head written as text, one header a line:
 *
 *     struct head_text text;
 *     head_text_init(&text, "GET /bucket HTTP/1.1\n"
 *                           "host: s3.example.com\n");
 *
 * The head points into the text. */
#pragma once
#include "base/slice.h"
#include "s3/head.h"
#include <assert.h>

struct head_text {
    struct s3_head head;
    struct s3_header headers[S3_HEADERS_MAX + 8];
};

static inline struct slice head_text_line(struct slice *rest)
{
    struct slice line = slice_first(*rest, slice_find(*rest, '\n'));
    *rest = slice_skip(*rest, line.bytes + 1);
    return line;
}

static inline void head_text_init(struct head_text *text, const char *source)
{
    *text = (struct head_text){0};
    struct slice rest = slice_of_text(source);
    struct slice line = head_text_line(&rest);
    text->head.method = slice_first(line, slice_find(line, ' '));
    line = slice_skip(line, text->head.method.bytes + 1);
    text->head.target = slice_first(line, slice_find(line, ' '));
    text->head.version = slice_skip(line, text->head.target.bytes + 1);
    text->head.headers = text->headers;
    while (rest.bytes > 0) {
        line = head_text_line(&rest);
        struct s3_header *header = &text->headers[text->head.header_count++];
        header->name = slice_first(line, slice_find(line, ':'));
        header->value = slice_trim(slice_skip(line, header->name.bytes + 1));
        assert(text->head.header_count <= S3_HEADERS_MAX + 8);
    }
}
