/* The texts that signatures cover, computed from the parsed request. */
#pragma once
#include "parsed.h"

/* A head cannot expand beyond this: every byte of the target at most threefold, the rest as
 * sent. */
enum { CANONICAL_BYTES_MAX = 3 * S3_TARGET_BYTES_MAX + 2 * S3_HEAD_BYTES_MAX };

/* Canonical request of version 4 ("Create a canonical request"). */
void canonical_v4(const struct s3_request *request, struct bytes *out);
/* String to sign of version 2, query form ("Signing and authenticating REST requests"). */
void canonical_v2(const struct s3_request *request, struct bytes *out);
/* True when version 2 signs the query parameter: subresources and response-*. */
bool canonical_v2_signs(struct slice name);
