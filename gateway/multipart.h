/* What the operations on multipart uploads have in common. */
#pragma once
#include "context.h"

/* The upload that the query of the request names, in context->bucket. S3_NO_SUCH_UPLOAD. */
enum s3_error multipart_find(struct io *io, struct context *context, struct upload **out_upload);
/* The number behind ?uploadId=. S3_NO_SUCH_UPLOAD: none of ours. */
enum s3_error multipart_id(struct context *context, uint64_t *out_upload_id);
/* S3_NO_SUCH_UPLOAD with the id that was asked for. */
enum s3_error multipart_missing(struct context *context);
/* partNumber, 1..META_PARTS_MAX. S3_INVALID_ARGUMENT. */
enum s3_error multipart_part_number(struct context *context, uint32_t *out_number);

/* Every part keeps a checksum of one algorithm, so that the whole object gets one: the upload's, or
 * when its creator named none S3's default, of which answers about the upload do not speak. */
static inline bool multipart_checksum_asked(const struct upload *upload)
{
    return upload->checksum_algorithm != CHECKSUM_NONE;
}
static inline enum checksum_algorithm multipart_algorithm(const struct upload *upload)
{
    return multipart_checksum_asked(upload) ? (enum checksum_algorithm)upload->checksum_algorithm
                                            : CHECKSUM_CRC64NVME;
}
static inline enum checksum_type multipart_type(const struct upload *upload)
{
    return multipart_checksum_asked(upload) ? (enum checksum_type)upload->checksum_type
                                            : CHECKSUM_FULL_OBJECT;
}

/* "crc32", as S3 writes it in messages. `algorithm` is not NONE. */
struct algorithm_text {
    char text[16];
};
struct algorithm_text multipart_algorithm_text(enum checksum_algorithm algorithm);
