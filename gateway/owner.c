/* See owner.h. */
#include "owner.h"

#include "base/text.h"

static_assert(sizeof(struct owner) == sizeof(((struct bucket *)NULL)->owner));
static_assert(OWNER_ID_BYTES_MAX == 2 * DIGEST_SHA256_BYTES);

struct owner owner_of_request(const struct context *context)
{
    struct owner owner = {0};
    struct slice key = slice_of_text(context->identity.access_key);
    if (key.bytes <= OWNER_ID_BYTES_MAX) {
        memcpy(owner.id, key.data, key.bytes);
        return owner;
    }
    uint8_t hash[DIGEST_SHA256_BYTES];
    digest_sha256(context->gateway->methods, key, hash);
    text_hex(slice_of(hash, sizeof hash), owner.id);
    return owner;
}

bool owner_has(const struct context *context, const struct bucket *bucket)
{
    struct owner owner = owner_of_request(context);
    return context->identity.root || strcmp(owner.id, bucket->owner) == 0;
}

void owner_element(struct xml_writer *xml, const char *name, const char *id)
{
    xml_open(xml, name);
    xml_element_text(xml, "ID", id);
    xml_element_text(xml, "DisplayName", id);
    xml_close(xml);
}
