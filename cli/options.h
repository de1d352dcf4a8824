/* Flags of `shale server`; each is also a SHALE_* environment variable (--admin-address =
 * SHALE_ADMIN_ADDRESS), and a flag wins. */
#pragma once
#include "base/err.h"
#include "base/log.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    OPTIONS_DIRECTORIES_MAX = 24,
    OPTIONS_DOMAINS_MAX = 16,
};

struct server_options {
    const char *address;       /* S3 */
    const char *admin_address; /* health and metrics */
    const char *tls_cert;      /* PEM files: S3 over HTTPS; both or NULL */
    const char *tls_key;
    const char *root_user;
    const char *root_password;
    const char *region;
    const char *domains[OPTIONS_DOMAINS_MAX];
    uint32_t domain_count;
    const char *directories[OPTIONS_DIRECTORIES_MAX];
    uint32_t directory_count;
    uint8_t data_shards, parity_shards; /* of new blocks; 0 and 0 = by the number of drives */
    bool accept_loss;
    bool auto_recover;
    uint32_t reactor_count; /* 0 = one per processor */
    uint64_t body_budget_mib;
    bool refuse_unsigned_payload;
    enum log_level log_level;
    bool help; /* print server_options_help and exit 0 */
};

/* Strings point into argv and the environment. ERR_INVALID after one line on standard error
 * that says what to do. */
enum err server_options_parse(int argc, char **argv, struct server_options *out_options);
extern const char server_options_help[];
