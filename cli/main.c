/* The one executable: picks the role. */
#include "meta.h"
#include "offline_main.h"
#include "options.h"
#include "server.h"

#include <stdio.h>
#include <string.h>

static const char usage[] = "usage: shale server [FLAGS] DIR   (shale server --help)\n"
                            "       shale fsck [FLAGS] DIR...          (shale fsck --help)\n"
                            "       shale extract [FLAGS] DIR... BUCKET/KEY\n"
                            "       shale meta recover [--accept-loss] DIR...\n"
                            "       shale --version\n";

static int run_server(int argc, char **argv)
{
    struct server_options options;
    if (server_options_parse(argc, argv, &options) != OK)
        return 2;
    if (options.help) {
        fputs(server_options_help, stdout);
        return 0;
    }
    return server_main(&options);
}

int main(int argc, char **argv)
{
    const char *role = argc > 1 ? argv[1] : "";
    if (strcmp(role, "server") == 0)
        return run_server(argc - 2, argv + 2);
    if (strcmp(role, "fsck") == 0)
        return fsck_main(argc - 2, argv + 2);
    if (strcmp(role, "extract") == 0)
        return extract_main(argc - 2, argv + 2);
    if (strcmp(role, "meta") == 0)
        return meta_main(argc - 2, argv + 2);
    if (strcmp(role, "--version") == 0) {
        puts("shale " SHALE_VERSION);
        return 0;
    }
    if (strcmp(role, "--help") == 0 || strcmp(role, "help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    fprintf(stderr, "shale: unknown role '%s'\n%s", role, usage);
    return 2;
}
