/* See pair.h. */
#include "pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <gnutls/x509.h>

#include <cmocka.h>

enum { DAY_S = 24 * 3600 };

static char *text_of(gnutls_datum_t *datum)
{
    char *text = strndup((const char *)datum->data, datum->size);
    gnutls_free(datum->data);
    return text;
}

static gnutls_x509_privkey_t make_key(enum pair_key kind)
{
    static const gnutls_pk_algorithm_t algorithms[] = {GNUTLS_PK_ECDSA, GNUTLS_PK_RSA,
                                                       GNUTLS_PK_EDDSA_ED25519};
    static const unsigned bits[] = {GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 2048,
                                    GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_ED25519)};
    gnutls_x509_privkey_t key;
    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(gnutls_x509_privkey_generate(key, algorithms[kind], bits[kind], 0), 0);
    return key;
}

static char *make_certificate(const struct pair_wish *wish, gnutls_x509_privkey_t key)
{
    const uint8_t serial[] = {(uint8_t)(wish->serial >> 24 & 0x7f), (uint8_t)(wish->serial >> 16),
                              (uint8_t)(wish->serial >> 8), (uint8_t)wish->serial};
    time_t begins = time(NULL) + wish->begins_s;
    gnutls_x509_crt_t crt;
    gnutls_datum_t text;
    assert_int_equal(gnutls_x509_crt_init(&crt), 0);
    assert_int_equal(gnutls_x509_crt_set_version(crt, 3), 0);
    assert_int_equal(gnutls_x509_crt_set_key(crt, key), 0);
    assert_int_equal(gnutls_x509_crt_set_dn(crt, "CN=localhost", NULL), 0);
    assert_int_equal(gnutls_x509_crt_set_serial(crt, serial, sizeof serial), 0);
    assert_int_equal(gnutls_x509_crt_set_activation_time(crt, begins), 0);
    assert_int_equal(gnutls_x509_crt_set_expiration_time(
                         crt, begins + (wish->lasts_s == 0 ? DAY_S : wish->lasts_s)),
                     0);
    gnutls_digest_algorithm_t digest =
        wish->key == PAIR_ED25519 ? GNUTLS_DIG_SHA512 : GNUTLS_DIG_SHA256;
    assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, digest, 0), 0);
    assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &text), 0);
    gnutls_x509_crt_deinit(crt);
    return text_of(&text);
}

struct pair pair_make(const struct pair_wish *wish)
{
    gnutls_x509_privkey_t key = make_key(wish->key);
    struct pair pair = {.certificate = make_certificate(wish, key)};
    gnutls_datum_t text;
    assert_int_equal(
        gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &text),
        0);
    pair.key = text_of(&text);
    assert_int_equal(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, "passphrase",
                                                       GNUTLS_PKCS_PBES2_AES_128, &text),
                     0);
    pair.key_encrypted = text_of(&text);
    gnutls_x509_privkey_deinit(key);
    return pair;
}

void pair_free(struct pair *pair)
{
    free(pair->certificate);
    free(pair->key);
    free(pair->key_encrypted);
    *pair = (struct pair){0};
}

void pair_write(const char *path, const char *text)
{
    char new_path[512];
    (void)snprintf(new_path, sizeof new_path, "%s.new", path);
    FILE *file = fopen(new_path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(new_path, path), 0);
}
