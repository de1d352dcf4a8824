/* See bucket_region.h. */
#include "bucket_region.h"

const char *bucket_region(const struct bucket *bucket)
{
    return bucket->region[0] == '\0' ? "us-east-1" : bucket->region;
}
