/* The policy of a browser's upload: what the one who signed it lets a form say.
 *
 * Source: S3 API Reference, "Browser-Based Uploads Using POST", "POST Policy".
 *
 *     {"expiration": "2026-01-01T00:00:00Z", "conditions": [
 *         {"bucket": "photos"}, ["eq", "$acl", "private"], ["starts-with", "$key", "user/"],
 *         ["content-length-range", 0, 1048576]]}
 *
 * Every field of the form but those that cannot be (the signature, the policy itself) and those
 * that mean nothing (x-ignore-*) must be named by a condition, and so must the bucket, whose value
 * is that of the address. Names and operations compare without letter case, values with it. */
#pragma once
#include "base/own.h"
#include "base/slice.h"
#include "s3/error.h"
#include "s3/form.h"
#include <stdint.h>

struct s3_post_policy;

/* The value of the form's field `policy`: base64 of the document. It may escape `$` as `\$`, and
 * `\v`, which JSON lacks ("POST Policy", "Character Escaping"). S3_INVALID_POLICY_DOCUMENT. */
enum s3_error s3_post_policy_new(struct slice base64, struct s3_failure *failure,
                                 struct s3_post_policy **out_policy);
void s3_post_policy_free(struct s3_post_policy *policy);
DEFINE_AUTO(s3_post_policy, s3_post_policy_free)

/* Whether the policy allows the form, whose fields are complete, to be sent to `bucket` at
 * `now_ms`. S3_ACCESS_DENIED: expired, a condition fails, or a field without one. */
enum s3_error s3_post_policy_check(const struct s3_post_policy *policy, const struct s3_form *form,
                                   struct slice bucket, uint64_t now_ms,
                                   struct s3_failure *failure);
/* How long the file may be: all content-length-range conditions together, else 0..UINT64_MAX. */
void s3_post_policy_range(const struct s3_post_policy *policy, uint64_t *out_min,
                          uint64_t *out_max);
