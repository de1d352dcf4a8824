/* See meta.h. */
#include "meta.h"

#include "base/log.h"
#include "base/mem.h"
#include "expand.h"
#include "meta/group.h"
#include "runtime/runtime.h"
#include "vacant.h"

#include <stdio.h>
#include <string.h>

const char meta_help[] =
    "usage: shale meta recover [--accept-loss] DIR...\n"
    "\n"
    "Let the metadata go on from one replica when a majority of the voters is gone. The server\n"
    "must not run. Give the directories of all drives that are left. The replica with the newest\n"
    "whole log becomes the only voter and keeps its log to the end; the others are put aside as\n"
    "DIR/meta.old-ID and made anew by the next start.\n"
    "\n"
    "  --accept-loss   also when acknowledged changes may be missing, or when every log is "
    "damaged:\n"
    "                  then what is in front of the damage is kept\n"
    "\n"
    "Exit status: 0 done, 1 refused or failed, and nothing was changed that is needed to try "
    "again;\n"
    "2 wrong arguments.\n";

struct meta_run {
    struct meta_recover_options options;
    char *directories[META_DRIVES_MAX]; /* of the drives */
    char *paths[META_DRIVES_MAX];       /* of the replicas; NULL before the locks */
    struct file *locks[META_DRIVES_MAX];
    enum err err;
};

static enum err take_directory(void *context, const char *text)
{
    struct meta_run *run = context;
    uint32_t at = run->options.count;
    if (at == META_DRIVES_MAX)
        return ERR_LIMIT;
    run->directories[at] = mem_format("%s", text);
    run->options.count++;
    return OK;
}

static bool parse(struct meta_run *run, int argc, char **argv)
{
    for (int at = 0; at < argc; at++) {
        if (strcmp(argv[at], "--accept-loss") == 0)
            run->options.accept_loss = true;
        else if (argv[at][0] == '-' ||
                 expand_ranges(argv[at], META_DRIVES_MAX, take_directory, run) != OK)
            return false;
    }
    return run->options.count > 0;
}

static void print(void *context, const char *line)
{
    (void)context;
    printf("%s\n", line);
}

/* As a server does: none runs beside this. */
static enum err lock_drives(struct io *io, struct meta_run *run)
{
    for (uint32_t i = 0; i < run->options.count; i++) {
        AUTO_STRING path = mem_format("%s/superblock", run->directories[i]);
        enum err err = io_open(io, path, FILE_WRITE, &run->locks[i]);
        if (err == OK)
            err = io_lock(io, run->locks[i]);
        if (err == OK)
            continue;
        fprintf(stderr, "shale: %s: %s\n", run->directories[i],
                err == ERR_NOT_FOUND ? "not a drive of Shale" : err_text(err));
        return err;
    }
    return OK;
}

static void recover_fiber(struct io *io, void *argument)
{
    struct meta_run *run = argument;
    run->options.count = vacant_drop(io, run->directories, run->options.count);
    for (uint32_t i = 0; i < run->options.count; i++)
        run->paths[i] = mem_format("%s/meta", run->directories[i]);
    run->err = lock_drives(io, run);
    if (run->err == OK) {
        run->options.directories = (const char *const *)run->paths;
        run->err = meta_recover(io, &run->options);
        if (run->err != OK)
            fprintf(stderr, "shale: not recovered: %s\n", err_text(run->err));
    }
    for (uint32_t i = 0; i < run->options.count; i++)
        file_close(run->locks[i]);
}

static void run_recover(struct meta_run *run)
{
    struct runtime *runtime = NULL;
    struct runtime_options options = {.reactor_count = 1};
    run->err = ERR_IO;
    run->options.kv = kv_provider_rocks();
    run->options.report = print;
    log_set_level(LOG_WARN);
    if (runtime_new(&options, &runtime) != OK) {
        fprintf(stderr, "shale: io_uring is refused here\n");
        return;
    }
    runtime_run(runtime, recover_fiber, run);
    runtime_free(runtime);
}

int meta_main(int argc, char **argv)
{
    if (argc > 0 && strcmp(argv[argc - 1], "--help") == 0) {
        fputs(meta_help, stdout);
        return 0;
    }
    struct meta_run *run = mem_new(struct meta_run);
    int status = 2;
    if (argc < 2 || strcmp(argv[0], "recover") != 0 || !parse(run, argc - 1, argv + 1)) {
        fputs(meta_help, stderr);
    } else {
        run_recover(run);
        status = run->err == OK ? 0 : 1;
    }
    for (uint32_t i = 0; i < run->options.count; i++) {
        mem_free(run->directories[i]);
        mem_free(run->paths[i]);
    }
    mem_free(run);
    return status;
}
