/* Owner of buckets, objects and uploads as answers show it: S3's canonical user id and display name
 * are one and the same here, made from the access key. Everything in a bucket belongs to its owner
 * (S3 Object Ownership, bucket owner enforced). */
#pragma once
#include "context.h"

enum { OWNER_ID_BYTES_MAX = 64 };

struct owner {
    char id[OWNER_ID_BYTES_MAX + 1];
};

/* The one who signed the request: its access key, or the SHA-256 of one that is longer than an
 * id. */
struct owner owner_of_request(const struct context *context);
/* Whether the bucket belongs to the one who signed. All buckets are root's, also those that root
 * made under an earlier access key. */
bool owner_has(const struct context *context, const struct bucket *bucket);
/* <name><ID/><DisplayName/></name>: Owner, Initiator. */
void owner_element(struct xml_writer *xml, const char *name, const char *id);
