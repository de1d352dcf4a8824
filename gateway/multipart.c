/* See multipart.h. */
#include "multipart.h"

#include "base/text.h"
#include "upload_text.h"

#include <inttypes.h>

enum s3_error multipart_missing(struct context *context)
{
    struct slice text = s3_request_query(context->request, "uploadId");
    s3_failure_add(&context->failure, "UploadId", text);
    return S3_FAIL(S3_NO_SUCH_UPLOAD, "upload=%.*s", SLICE_PRINT(text));
}

enum s3_error multipart_id(struct context *context, uint64_t *out_upload_id)
{
    if (!upload_text_parse(s3_request_query(context->request, "uploadId"), out_upload_id))
        return multipart_missing(context);
    return S3_OK;
}

enum s3_error multipart_find(struct io *io, struct context *context, struct upload **out_upload)
{
    uint64_t id;
    TRY(multipart_id(context, &id));
    enum err err = meta_upload_find(io, context->gateway->options.meta, context->bucket.id,
                                    s3_request_key(context->request), id, out_upload);
    if (err == ERR_NOT_FOUND)
        return multipart_missing(context);
    return s3_error_from(err, "upload lookup");
}

enum s3_error multipart_part_number(struct context *context, uint32_t *out_number)
{
    uint64_t number;
    struct slice text = s3_request_query(context->request, "partNumber");
    if (text_parse_u64(text, META_PARTS_MAX, &number) != OK || number == 0)
        return s3_fail_argument(&context->failure, "partNumber", text,
                                "Part number must be an integer between 1 and 10000, inclusive.");
    *out_number = (uint32_t)number;
    return S3_OK;
}

struct algorithm_text multipart_algorithm_text(enum checksum_algorithm algorithm)
{
    struct algorithm_text lower = {0};
    const char *name = checksum_name(algorithm);
    for (size_t i = 0; name[i] != '\0' && i + 1 < sizeof lower.text; i++)
        lower.text[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] - 'A' + 'a' : name[i]);
    return lower;
}
