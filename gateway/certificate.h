/* The certificate and private key that a TLS listener shows. Immutable once parsed and shared by
 * reference count between reactors: GnuTLS works on it from the middle of a handshake to its end,
 * while a newer one may be in place already. */
#pragma once
#include "base/err.h"
#include "base/own.h"
#include "base/slice.h"
#include <gnutls/abstract.h>
#include <stdint.h>

enum {
    CERTIFICATE_FILE_BYTES_MAX = 64 << 10,
    CERTIFICATE_CHAIN_COUNT_MAX = 10,
    CERTIFICATE_SERIAL_TEXT_BYTES = 65,
};

struct certificate;

/* Parse the chain (leaf first, or in any order) and the key, both PEM, and check that they belong
 * together. ERR_INVALID: `out_why` says what is wrong with which file, static text. */
enum err certificate_parse(struct slice chain_pem, struct slice key_pem,
                           struct certificate **out_certificate, const char **out_why);
/* From any thread. */
struct certificate *certificate_ref(struct certificate *certificate);
void certificate_unref(struct certificate *certificate);
DEFINE_AUTO(certificate, certificate_unref)

/* Of the leaf, seconds since 1970. */
int64_t certificate_begins_s(const struct certificate *certificate);
int64_t certificate_expires_s(const struct certificate *certificate);
/* Of the leaf, lower case hex. */
const char *certificate_serial(const struct certificate *certificate);

/* What GnuTLS takes; lives as long as the certificate. */
gnutls_pcert_st *certificate_chain(struct certificate *certificate, unsigned *out_count);
gnutls_privkey_t certificate_key(const struct certificate *certificate);
