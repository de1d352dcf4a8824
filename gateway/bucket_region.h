/* The region that answers name for a bucket: where S3 thinks it is. Shale is one place; the name is
 * what the client gave at creation. */
#pragma once
#include "context.h"

/* Never empty: a bucket without a location constraint is in us-east-1, as in S3. */
const char *bucket_region(const struct bucket *bucket);
