/* Incremental parser of the body of a browser's upload: multipart/form-data with named fields, one
 * file, and what stands behind it.
 *
 * Sources: RFC 7578, RFC 2046 §5.1; S3 API Reference, "Browser-Based Uploads Using POST", "POST
 * Object" and "POST Policy".
 *
 *     body  = [preamble CRLF] delimiter part* file part* close
 *     part  = header lines CRLF content CRLF "--" boundary
 *     close = "--"
 *
 * Fields are those in front of the part called `file`; `${filename}` in them stands for the name of
 * the file without its folders. Parts behind the file are ignored, a second file is an error.
 * Content passes through as it arrives: nothing may be committed before S3_FORM_END, which is
 * given when the closing boundary was seen; what follows it is not looked at. The result depends on
 * the bytes only, never on how they were split. */
#pragma once
#include "base/own.h"
#include "base/slice.h"
#include "s3/error.h"
#include <stdint.h>

enum {
    S3_FORM_BOUNDARY_BYTES_MAX = 70,       /* RFC 2046 §5.1.1 */
    S3_FORM_BYTES_MAX = 20 << 10,          /* of all but the content of the file */
    S3_FORM_EXPANDED_BYTES_MAX = 64 << 10, /* of all values, `${filename}` replaced */
    S3_FORM_FIELDS_MAX = 64,
};

struct s3_form;

/* content_type  of the request, borrowed until return
 * S3_PRECONDITION_FAILED     not multipart/form-data
 * S3_MALFORMED_POST_REQUEST  the boundary is missing or not one */
enum s3_error s3_form_new(struct slice content_type, struct s3_failure *failure,
                          struct s3_form **out_form);
void s3_form_free(struct s3_form *form);
DEFINE_AUTO(s3_form, s3_form_free)

enum s3_form_event {
    S3_FORM_MORE,    /* the input is used up */
    S3_FORM_FILE,    /* once: the fields are complete, the content of the file follows */
    S3_FORM_CONTENT, /* a run of it */
    S3_FORM_END,     /* the closing boundary was seen; given again by later calls */
};

/* Consume from the front of `*input` up to the next event. `*out_content` of S3_FORM_CONTENT is not
 * empty and points into the input or into the form; it is good until the next call. An error is
 * final.
 *
 * S3_MALFORMED_POST_REQUEST                    not the grammar above, or too much behind the file
 * S3_MAX_POST_PRE_DATA_LENGTH_EXCEEDED         too much in front of the file, or too many fields
 * S3_INCORRECT_NUMBER_OF_FILES_IN_POST_REQUEST no file, or a second one
 * S3_INVALID_ARGUMENT                          a field that is there twice */
enum s3_error s3_form_next(struct s3_form *form, struct slice *input, enum s3_form_event *out_event,
                           struct slice *out_content, struct s3_failure *failure);
/* The body has ended. S3_MALFORMED_POST_REQUEST: before its closing boundary. */
enum s3_error s3_form_finish(struct s3_form *form, struct s3_failure *failure);

/* The shortest end of a body behind the content of its file. */
uint32_t s3_form_close_bytes(const struct s3_form *form);

/* After S3_FORM_FILE; what they return lives as long as the form. */

/* Value of the field called `name` (lower case), data NULL when absent. */
struct slice s3_form_field(const struct s3_form *form, const char *name);
uint32_t s3_form_field_count(const struct s3_form *form);
/* `out_name` in lower case; names are distinct. */
void s3_form_field_at(const struct s3_form *form, uint32_t index, struct slice *out_name,
                      struct slice *out_value);
