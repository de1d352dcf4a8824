/* Certificates and keys for tests of TLS, made on the spot. */
#pragma once
#include <stdint.h>

enum pair_key { PAIR_P256, PAIR_RSA, PAIR_ED25519 };

struct pair_wish {
    uint32_t serial;
    enum pair_key key;
    int64_t begins_s; /* from now */
    int64_t lasts_s;  /* 0 = a day */
};

/* PEM texts (free). */
struct pair {
    char *certificate;
    char *key;           /* PKCS #8 */
    char *key_encrypted; /* the same with a passphrase */
};

struct pair pair_make(const struct pair_wish *wish);
void pair_free(struct pair *pair);
/* Replace a file: write beside it, rename. */
void pair_write(const char *path, const char *text);
