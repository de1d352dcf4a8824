/* The head of a request as libmicrohttpd 0.9.75 left it in its memory, copied into ours and checked
 * for what the library's lenient parser hides.
 *
 * The library parses in place: it writes NULs over the colons, the line ends and the spaces of the
 * request line, and its strings point into the bytes as they came. So the strings of a well-formed
 * head lie one behind the other without gaps:
 *
 *     GET 0 /target 0 HTTP/1.1 0 0 Host 0 ' ' example 0 0 Accept 0 ' ' text 0 0 0 0
 *     method  target  version      name     value         name     value        end
 *
 * Each leniency leaves a gap or an overlap there: a folded line (the library appends it to the
 * name, so that a folded Transfer-Encoding vanishes), a bare LF as line end, a NUL in the target or
 * a value (cut), several spaces in the request line. Behind a proxy that reads such a head in
 * another way they are request smuggling (RFC 9112 §11.2, §5.2, §2.2), so they are refused. */
#pragma once
#include "s3/head.h"

struct http_line {
    struct slice name;
    struct slice value;
};

struct http_raw_head {
    struct slice method;
    struct slice target;     /* a copy: the library splits the query in place */
    const char *target_wire; /* where it was */
    struct slice version;
    size_t bytes; /* of the head, with its last line end */
    uint32_t line_count;
    struct http_line lines[S3_HEADERS_MAX + 1]; /* one more, for s3_head_check to refuse */
};

/* False: the strings do not lie as those of a well-formed head do. */
bool http_head_is_plain(const struct http_raw_head *raw);
/* Copy all strings but the target; `out_head` points into the memory returned (mem_free) and to
 * raw->target. Values lose the spaces around them. */
void *http_head_copy(const struct http_raw_head *raw, struct s3_head *out_head);
