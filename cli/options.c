/* See options.h. */
#include "options.h"

#include "base/slice.h"
#include "base/text.h"
#include "erasure/codec.h"
#include "expand.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char server_options_help[] =
    "usage: shale server [FLAGS] DIR...       ('/mnt/d{1...6}' stands for six directories)\n"
    "\n"
    "  --address HOST:PORT         S3 (default 127.0.0.1:9000; port 0 = any free one, printed)\n"
    "  --admin-address HOST:PORT   /health/live, /health/ready, /metrics (default 127.0.0.1:9001)\n"
    "  --tls-cert FILE             serve S3 over HTTPS with this certificate and its chain (PEM)\n"
    "  --tls-key FILE              its private key (PEM, not encrypted). Both are loaded again on\n"
    "                              SIGHUP and when they change\n"
    "  --domain NAME               base of virtual-host style; may be repeated or comma-separated\n"
    "  --region NAME               accept only signatures for this region (default: any)\n"
    "  --refuse-unsigned-payload   refuse UNSIGNED-PAYLOAD over plain HTTP\n"
    "  --redundancy K+M            data and parity shards of new blocks (default: by the number "
    "of\n"
    "                              drives: 1+0, 1+1, 2+1, 2+2, 3+2, from six on 4+2)\n"
    "  --accept-loss               start although more drives are missing than the redundancy "
    "bears\n"
    "  --auto-recover              go on by itself where `shale meta recover` loses nothing\n"
    "  --reactors N                threads that serve (default: one per processor)\n"
    "  --body-memory MIB           memory for bodies in flight (default 256)\n"
    "  --log-level LEVEL           error, warn, info or debug (default info)\n"
    "\n"
    "Each flag is also an environment variable: --admin-address is SHALE_ADMIN_ADDRESS. The root\n"
    "credentials come from SHALE_ROOT_USER and SHALE_ROOT_PASSWORD only; without them random ones\n"
    "are made at the first start and their file is printed.\n";

enum { FLAG_NAME_BYTES_MAX = 64 };

/* One flag: how its text becomes an option. `value` is NULL for a flag without argument. */
struct flag {
    const char *name;
    bool takes_value;
    enum err (*set)(struct server_options *options, const char *name, const char *value);
};

static enum err complain(const char *name, const char *value, const char *wanted)
{
    fprintf(stderr, "shale: --%s '%s': expected %s\n", name, value, wanted);
    return ERR_INVALID;
}

static enum err set_address(struct server_options *options, const char *name, const char *value)
{
    (void)name;
    options->address = value;
    return OK;
}

static enum err set_admin_address(struct server_options *options, const char *name,
                                  const char *value)
{
    (void)name;
    options->admin_address = value;
    return OK;
}

static enum err set_tls_cert(struct server_options *options, const char *name, const char *value)
{
    if (value[0] == '\0')
        return complain(name, value, "a file in PEM form");
    options->tls_cert = value;
    return OK;
}

static enum err set_tls_key(struct server_options *options, const char *name, const char *value)
{
    if (value[0] == '\0')
        return complain(name, value, "a file in PEM form");
    options->tls_key = value;
    return OK;
}

static enum err set_region(struct server_options *options, const char *name, const char *value)
{
    if (value[0] == '\0' || strlen(value) > 64)
        return complain(name, value, "a region name of 1 to 64 characters");
    options->region = value;
    return OK;
}

/* `value` may be a list; the pieces are cut in place in a copy that lives as long as the
 * process. */
static enum err set_domain(struct server_options *options, const char *name, const char *value)
{
    char *rest = strdup(value); /* argv and environ stay untouched */
    char *save = NULL;
    for (char *piece = strtok_r(rest, ",", &save); piece != NULL;
         piece = strtok_r(NULL, ",", &save)) {
        if (options->domain_count == OPTIONS_DOMAINS_MAX)
            return complain(name, value, "at most 16 domains");
        options->domains[options->domain_count++] = piece;
    }
    return OK;
}

static enum err set_redundancy(struct server_options *options, const char *name, const char *value)
{
    struct slice text = slice_of_text(value);
    size_t plus = slice_find(text, '+');
    uint64_t data = 0;
    uint64_t parity = 0;
    if (plus == text.bytes ||
        text_parse_u64(slice_first(text, plus), CODEC_DATA_SHARDS_MAX, &data) != OK ||
        text_parse_u64(slice_skip(text, plus + 1), CODEC_PARITY_SHARDS_MAX, &parity) != OK ||
        data == 0 || data + parity > OPTIONS_DIRECTORIES_MAX)
        return complain(name, value, "K+M with K from 1 to 16 and M from 0 to 8");
    options->data_shards = (uint8_t)data;
    options->parity_shards = (uint8_t)parity;
    return OK;
}

static enum err set_accept_loss(struct server_options *options, const char *name, const char *value)
{
    (void)name;
    (void)value;
    options->accept_loss = true;
    return OK;
}

static enum err set_auto_recover(struct server_options *options, const char *name,
                                 const char *value)
{
    (void)name;
    (void)value;
    options->auto_recover = true;
    return OK;
}

static enum err set_reactors(struct server_options *options, const char *name, const char *value)
{
    uint64_t count = 0;
    if (text_parse_u64(slice_of_text(value), 64, &count) != OK || count == 0)
        return complain(name, value, "a number from 1 to 64");
    options->reactor_count = (uint32_t)count;
    return OK;
}

static enum err set_body_memory(struct server_options *options, const char *name, const char *value)
{
    if (text_parse_u64(slice_of_text(value), 1 << 20, &options->body_budget_mib) != OK ||
        options->body_budget_mib < 32)
        return complain(name, value, "a number of MiB, at least 32");
    return OK;
}

static enum err set_log_level(struct server_options *options, const char *name, const char *value)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(value, names[i]) == 0) {
            options->log_level = (enum log_level)i;
            return OK;
        }
    }
    return complain(name, value, "error, warn, info or debug");
}

static enum err set_refuse_unsigned(struct server_options *options, const char *name,
                                    const char *value)
{
    (void)name;
    (void)value;
    options->refuse_unsigned_payload = true;
    return OK;
}

static enum err set_help(struct server_options *options, const char *name, const char *value)
{
    (void)name;
    (void)value;
    options->help = true;
    return OK;
}

static const struct flag flags[] = {
    {"address", true, set_address},
    {"admin-address", true, set_admin_address},
    {"tls-cert", true, set_tls_cert},
    {"tls-key", true, set_tls_key},
    {"domain", true, set_domain},
    {"region", true, set_region},
    {"refuse-unsigned-payload", false, set_refuse_unsigned},
    {"redundancy", true, set_redundancy},
    {"accept-loss", false, set_accept_loss},
    {"auto-recover", false, set_auto_recover},
    {"reactors", true, set_reactors},
    {"body-memory", true, set_body_memory},
    {"log-level", true, set_log_level},
    {"help", false, set_help},
};
enum { FLAG_COUNT = sizeof flags / sizeof flags[0] };

/* admin-address -> SHALE_ADMIN_ADDRESS */
static const char *from_environment(const char *name)
{
    char variable[FLAG_NAME_BYTES_MAX] = "SHALE_";
    size_t at = strlen(variable);
    for (const char *c = name; *c != '\0' && at + 1 < sizeof variable; c++)
        variable[at++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    variable[at] = '\0';
    return getenv(variable);
}

static enum err read_environment(struct server_options *options)
{
    for (unsigned i = 0; i < FLAG_COUNT; i++) {
        const char *value = from_environment(flags[i].name);
        if (value == NULL || value[0] == '\0' || flags[i].set == set_help)
            continue;
        if (!flags[i].takes_value && strcmp(value, "0") == 0)
            continue;
        TRY(flags[i].set(options, flags[i].name, value));
    }
    options->root_user = getenv("SHALE_ROOT_USER");
    options->root_password = getenv("SHALE_ROOT_PASSWORD");
    return OK;
}

/* Handle argv[*at], which starts with "--"; moves *at over a separate value. */
static enum err read_flag(struct server_options *options, int argc, char **argv, int *at)
{
    const char *text = argv[*at] + 2;
    size_t name_bytes = strcspn(text, "=");
    for (unsigned i = 0; i < FLAG_COUNT; i++) {
        const struct flag *flag = &flags[i];
        if (strlen(flag->name) != name_bytes || memcmp(flag->name, text, name_bytes) != 0)
            continue;
        const char *value = text[name_bytes] == '=' ? text + name_bytes + 1 : NULL;
        if (!flag->takes_value && value != NULL)
            return complain(flag->name, value, "no value");
        if (flag->takes_value && value == NULL) {
            if (*at + 1 == argc) {
                fprintf(stderr, "shale: --%s needs a value\n", flag->name);
                return ERR_INVALID;
            }
            value = argv[++*at];
        }
        return flag->set(options, flag->name, value);
    }
    fprintf(stderr, "shale: unknown flag '%s'; shale server --help lists them\n", argv[*at]);
    return ERR_INVALID;
}

/* Kept as long as the process. */
static enum err add_directory(void *context, const char *directory)
{
    struct server_options *options = context;
    options->directories[options->directory_count++] = strdup(directory);
    return OK;
}

static enum err add_directories(struct server_options *options, const char *pattern)
{
    uint32_t room = OPTIONS_DIRECTORIES_MAX - options->directory_count;
    if (expand_ranges(pattern, room, add_directory, options) == OK)
        return OK;
    fprintf(stderr,
            "shale: '%s': expected a directory or directories as in /mnt/d{1...6}, at most %d\n",
            pattern, OPTIONS_DIRECTORIES_MAX);
    return ERR_INVALID;
}

enum err server_options_parse(int argc, char **argv, struct server_options *out_options)
{
    struct server_options options = {
        .address = "127.0.0.1:9000",
        .admin_address = "127.0.0.1:9001",
        .log_level = LOG_INFO,
    };
    TRY(read_environment(&options));
    for (int at = 0; at < argc; at++) {
        if (strncmp(argv[at], "--", 2) == 0 && argv[at][2] != '\0') {
            TRY(read_flag(&options, argc, argv, &at));
            continue;
        }
        TRY(add_directories(&options, argv[at]));
    }
    if (options.directory_count == 0 && !options.help) {
        fprintf(stderr, "shale: give one directory or more: shale server DIR...\n");
        return ERR_INVALID;
    }
    if ((options.tls_cert == NULL) != (options.tls_key == NULL)) {
        fprintf(stderr, "shale: --tls-cert and --tls-key go together: give both or none\n");
        return ERR_INVALID;
    }
    *out_options = options;
    return OK;
}
