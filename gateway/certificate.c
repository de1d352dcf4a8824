/* See certificate.h. */
#include "certificate.h"

#include "base/mem.h"

#include <assert.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <string.h>

enum {
    SERIAL_BYTES_MAX = 20, /* RFC 5280 §4.1.2.2 */
    KEY_ID_BYTES = 32,
};
static_assert(CERTIFICATE_SERIAL_TEXT_BYTES > 2 * SERIAL_BYTES_MAX);

struct certificate {
    _Atomic unsigned references;
    gnutls_pcert_st chain[CERTIFICATE_CHAIN_COUNT_MAX];
    unsigned chain_count;
    gnutls_privkey_t key;
    int64_t begins_s;
    int64_t expires_s;
    char serial[CERTIFICATE_SERIAL_TEXT_BYTES];
};

static gnutls_datum_t datum_of(struct slice bytes)
{
    /* The library takes a pointer to what it may change, and changes nothing. */
    return (gnutls_datum_t){.data = (unsigned char *)(uintptr_t)bytes.data,
                            .size = (unsigned)bytes.bytes};
}

static const char *parse_chain(struct slice pem, struct certificate *certificate)
{
    gnutls_datum_t datum = datum_of(pem);
    unsigned count = CERTIFICATE_CHAIN_COUNT_MAX;
    int code = gnutls_pcert_list_import_x509_raw(certificate->chain, &count, &datum,
                                                 GNUTLS_X509_FMT_PEM, GNUTLS_X509_CRT_LIST_SORT);
    if (code == GNUTLS_E_SHORT_MEMORY_BUFFER)
        return "the certificate file holds more than 10 certificates";
    if (code < 0 || count == 0)
        return "the certificate file holds no chain of certificates in PEM form";
    certificate->chain_count = count;
    return NULL;
}

static bool is_encrypted(struct slice pem)
{
    static const char *const marks[] = {"BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"};
    for (unsigned i = 0; i < 2; i++) {
        if (memmem(pem.data, pem.bytes, marks[i], strlen(marks[i])) != NULL)
            return true;
    }
    return false;
}

/* `out_id` identifies the public key. */
static const char *parse_key(struct slice pem, struct certificate *certificate,
                             uint8_t out_id[KEY_ID_BYTES])
{
    if (is_encrypted(pem))
        return "the key file is encrypted; store it without a passphrase, readable only by the "
               "server (openssl pkey -in OLD -out NEW)";
    gnutls_datum_t datum = datum_of(pem);
    size_t id_bytes = KEY_ID_BYTES;
    gnutls_x509_privkey_t key;
    if (gnutls_x509_privkey_init(&key) != 0)
        return "no memory";
    if (gnutls_x509_privkey_import2(key, &datum, GNUTLS_X509_FMT_PEM, NULL, 0) != 0 ||
        gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, out_id, &id_bytes) != 0) {
        gnutls_x509_privkey_deinit(key);
        return "the key file holds no private key in PEM form";
    }
    assert(id_bytes == KEY_ID_BYTES);
    if (gnutls_privkey_init(&certificate->key) != 0 ||
        gnutls_privkey_import_x509(certificate->key, key, GNUTLS_PRIVKEY_IMPORT_AUTO_RELEASE) !=
            0) {
        gnutls_x509_privkey_deinit(key);
        return "the key is of a kind that is not supported";
    }
    return NULL;
}

static void serial_text(const uint8_t *serial, size_t bytes, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes; i++) {
        *out++ = digits[serial[i] >> 4];
        *out++ = digits[serial[i] & 15];
    }
    *out = 0;
}

static const char *read_leaf(struct certificate *certificate, const uint8_t key_id[KEY_ID_BYTES])
{
    gnutls_x509_crt_t leaf = NULL;
    if (gnutls_pcert_export_x509(&certificate->chain[0], &leaf) != 0)
        return "the certificate cannot be read";
    uint8_t leaf_id[KEY_ID_BYTES];
    size_t id_bytes = sizeof leaf_id;
    uint8_t serial[SERIAL_BYTES_MAX + 1] = {0}; /* a positive number may begin with a zero */
    size_t serial_bytes = sizeof serial;
    bool read =
        gnutls_x509_crt_get_key_id(leaf, GNUTLS_KEYID_USE_SHA256, leaf_id, &id_bytes) == 0 &&
        gnutls_x509_crt_get_serial(leaf, serial, &serial_bytes) == 0;
    certificate->begins_s = gnutls_x509_crt_get_activation_time(leaf);
    certificate->expires_s = gnutls_x509_crt_get_expiration_time(leaf);
    gnutls_x509_crt_deinit(leaf);
    if (!read || id_bytes != KEY_ID_BYTES)
        return "the certificate cannot be read";
    serial_text(serial, serial_bytes, certificate->serial);
    if (memcmp(leaf_id, key_id, KEY_ID_BYTES) != 0)
        return "the key does not belong to the certificate";
    return NULL;
}

enum err certificate_parse(struct slice chain_pem, struct slice key_pem,
                           struct certificate **out_certificate, const char **out_why)
{
    assert(chain_pem.bytes <= CERTIFICATE_FILE_BYTES_MAX);
    assert(key_pem.bytes <= CERTIFICATE_FILE_BYTES_MAX);
    AUTO(certificate) certificate = mem_new(struct certificate);
    atomic_init(&certificate->references, 1);
    uint8_t key_id[KEY_ID_BYTES];
    const char *why = parse_chain(chain_pem, certificate);
    if (why == NULL)
        why = parse_key(key_pem, certificate, key_id);
    if (why == NULL)
        why = read_leaf(certificate, key_id);
    if (why != NULL) {
        *out_why = why;
        return ERR_INVALID;
    }
    *out_certificate = TAKE(certificate);
    return OK;
}

struct certificate *certificate_ref(struct certificate *certificate)
{
    unsigned before = atomic_fetch_add_explicit(&certificate->references, 1, memory_order_relaxed);
    assert(before > 0);
    return certificate;
}

void certificate_unref(struct certificate *certificate)
{
    if (certificate == NULL)
        return;
    unsigned before = atomic_fetch_sub_explicit(&certificate->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1)
        return;
    for (unsigned i = 0; i < certificate->chain_count; i++)
        gnutls_pcert_deinit(&certificate->chain[i]);
    if (certificate->key != NULL)
        gnutls_privkey_deinit(certificate->key);
    mem_free(certificate);
}

int64_t certificate_begins_s(const struct certificate *certificate)
{
    return certificate->begins_s;
}

int64_t certificate_expires_s(const struct certificate *certificate)
{
    return certificate->expires_s;
}

const char *certificate_serial(const struct certificate *certificate)
{
    return certificate->serial;
}

gnutls_pcert_st *certificate_chain(struct certificate *certificate, unsigned *out_count)
{
    *out_count = certificate->chain_count;
    return certificate->chain;
}

gnutls_privkey_t certificate_key(const struct certificate *certificate)
{
    return certificate->key;
}
