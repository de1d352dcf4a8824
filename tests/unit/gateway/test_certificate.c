/* Certificates and keys from files. */
#include "base/mem.h"
#include "certificate.h"
#include "pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void good_pairs_are_taken(void **state)
{
    (void)state;
    for (enum pair_key kind = PAIR_P256; kind <= PAIR_ED25519; kind++) {
        struct pair pair =
            pair_make(&(struct pair_wish){.serial = 0x1234abc, .key = kind, .lasts_s = 1000});
        AUTO(certificate) certificate = NULL;
        const char *why = "";
        if (certificate_parse(slice_of_text(pair.certificate), slice_of_text(pair.key),
                              &certificate, &why) != OK)
            fail_msg("kind %d: %s", (int)kind, why);
        assert_string_equal(certificate_serial(certificate), "01234abc");
        int64_t rest_s = certificate_expires_s(certificate) - time(NULL);
        assert_in_range(rest_s, 900, 1000);
        assert_true(certificate_begins_s(certificate) <= time(NULL));
        unsigned count = 0;
        assert_non_null(certificate_chain(certificate, &count));
        assert_int_equal(count, 1);
        assert_non_null(certificate_key(certificate));
        certificate_unref(certificate_ref(certificate));
        pair_free(&pair);
    }
}

static void bad_pairs_are_refused_with_their_reason(void **state)
{
    (void)state;
    struct pair one = pair_make(&(struct pair_wish){.serial = 1});
    struct pair two = pair_make(&(struct pair_wish){.serial = 2});
    AUTO_STRING cut_certificate = mem_format("%.100s", one.certificate);
    AUTO_STRING cut_key = mem_format("%.60s", one.key);
    AUTO_STRING both = mem_format("%s%s", one.key, one.certificate);
    AUTO_STRING legacy = mem_format("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
                                    "DEK-Info: AES-128-CBC,00\n\nAAAA\n"
                                    "-----END EC PRIVATE KEY-----\n");
    const struct {
        const char *name;
        const char *certificate;
        const char *key;
        const char *why; /* part of it; NULL: taken */
    } cases[] = {
        {"one file with both", both, both, NULL},
        {"empty certificate", "", one.key, "no chain of certificates"},
        {"a key for a certificate", one.key, one.key, "no chain of certificates"},
        {"no PEM", "certificate", one.key, "no chain of certificates"},
        {"cut certificate", cut_certificate, one.key, "no chain of certificates"},
        {"empty key", one.certificate, "", "no private key"},
        {"a certificate for a key", one.certificate, one.certificate, "no private key"},
        {"cut key", one.certificate, cut_key, "no private key"},
        {"encrypted key", one.certificate, one.key_encrypted, "encrypted"},
        {"key encrypted in the old way", one.certificate, legacy, "encrypted"},
        {"the key of another", one.certificate, two.key, "does not belong"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO(certificate) certificate = NULL;
        const char *why = "";
        enum err err = certificate_parse(slice_of_text(cases[i].certificate),
                                         slice_of_text(cases[i].key), &certificate, &why);
        if (err != (cases[i].why == NULL ? OK : ERR_INVALID))
            fail_msg("%s: %s %s", cases[i].name, err_text(err), why);
        if (cases[i].why != NULL && strstr(why, cases[i].why) == NULL)
            fail_msg("%s: %s", cases[i].name, why);
    }
    pair_free(&one);
    pair_free(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_pairs_are_taken),
        cmocka_unit_test(bad_pairs_are_refused_with_their_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
