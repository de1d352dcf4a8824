/* See offline_main.h. */
#include "offline_main.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/offline.h"
#include "expand.h"
#include "meta/types.h"
#include "runtime/runtime.h"
#include "runtime/sync.h"
#include "vacant.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

const char fsck_help[] =
    "usage: shale fsck [FLAGS] DIR...\n"
    "\n"
    "Check the drives of a host whose server does not run. Nothing is written to them. Every\n"
    "record is read and compared with its checksums, blocks of erasure-coded volumes are decoded,\n"
    "and what the metadata names is looked for. Give all drives of the host: shards on others\n"
    "count as missing.\n"
    "\n"
    "  --json          each line is a JSON object\n"
    "  --all           print every damaged place and block, not only the first 1000 of a kind\n"
    "  --no-decode     do not read blocks of more than one data shard again to compare their hash\n"
    "  --no-metadata   judge by the records alone\n"
    "  --memory MIB    for the table of shards, 56 bytes each (default 1024)\n"
    "  --tmp DIR       where a copy of the metadata fits (default $TMPDIR or /tmp)\n"
    "\n"
    "Exit status: 0 everything is whole, 1 damaged and everything can be reconstructed, 2 "
    "something\n"
    "is lost, 3 it could not look.\n";

const char extract_help[] =
    "usage: shale extract [FLAGS] DIR... BUCKET/KEY\n"
    "\n"
    "Get one object out of the drives of a host whose server does not run, checked; nothing is\n"
    "written to them. Where the metadata cannot be read the blocks are found by their records.\n"
    "\n"
    "  -o FILE                     where to (default: the last part of the key; - is standard "
    "output)\n"
    "  --list                      only print what there is\n"
    "  --holes                     zeros where bytes are lost (exit status 2)\n"
    "  --no-metadata               go by the records\n"
    "  --upload-id N               this multipart upload, by the records\n"
    "  --write-id VOLUME-SEQUENCE  this write, by the records\n"
    "  --memory MIB, --tmp DIR     as for shale fsck\n"
    "\n"
    "Exit status: 0 all of it was written, 2 it or a part of it is lost, 3 it could not look.\n";

enum { ARGUMENTS_MAX = 64 };

struct offline_main {
    struct offline_options offline;
    struct fsck_options fsck;
    struct extract_options extract;
    bool is_extract;
    bool help;
    const char *arguments[ARGUMENTS_MAX]; /* that are no flags */
    uint32_t argument_count;
    char *directories[META_SHARDS_MAX];
    const char *temporary;
    const char *output;
    char *output_new; /* written first; renamed when the object is whole */
    char *scratch;
    bool terminal;
    uint64_t shown_ns;
    struct io *io;
    struct file *file; /* NULL: standard output */
    uint64_t file_offset;
    sigset_t signals;
    int signal_fd;
    struct fiber *worker;
    struct poller *poller;
    bool done;
    int status;
};

/* --- flags --- */

static enum err set_number(const char *name, const char *value, uint64_t max, uint64_t *out)
{
    if (text_parse_u64(slice_of_text(value), max, out) == OK && *out > 0)
        return OK;
    fprintf(stderr, "shale: %s '%s': expected a number from 1\n", name, value);
    return ERR_INVALID;
}

static enum err set_write_id(struct offline_main *main, const char *value)
{
    struct slice text = slice_of_text(value);
    size_t dash = slice_find(text, '-');
    if (text_parse_u64(slice_first(text, dash), UINT64_MAX, &main->extract.write_volume) == OK &&
        text_parse_u64(slice_skip(text, dash + 1), UINT64_MAX, &main->extract.write_sequence) == OK)
        return OK;
    fprintf(stderr, "shale: --write-id '%s': expected VOLUME-SEQUENCE\n", value);
    return ERR_INVALID;
}

/* False: not one of this role. */
static bool set_switch(struct offline_main *main, const char *name)
{
    struct {
        const char *name;
        bool extract, fsck;
        bool *value;
    } const switches[] = {
        {"--help", true, true, &main->help},
        {"--no-metadata", true, true, &main->offline.no_metadata},
        {"--json", false, true, &main->fsck.json},
        {"--all", false, true, &main->fsck.all},
        {"--no-decode", false, true, &main->fsck.no_decode},
        {"--list", true, false, &main->extract.list},
        {"--holes", true, false, &main->extract.holes},
    };
    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        bool ours = main->is_extract ? switches[i].extract : switches[i].fsck;
        if (ours && strcmp(name, switches[i].name) == 0) {
            *switches[i].value = true;
            return true;
        }
    }
    return false;
}

static enum err set_value(struct offline_main *main, const char *name, const char *value)
{
    uint64_t mib = 0;
    if (strcmp(name, "--memory") == 0) {
        TRY(set_number(name, value, 1 << 20, &mib));
        main->offline.memory_bytes = mib << 20;
        return OK;
    }
    if (strcmp(name, "--tmp") == 0) {
        main->temporary = value;
        return OK;
    }
    if (main->is_extract && strcmp(name, "-o") == 0) {
        main->output = value;
        return OK;
    }
    if (main->is_extract && strcmp(name, "--upload-id") == 0)
        return set_number(name, value, UINT64_MAX, &main->extract.upload_id);
    return set_write_id(main, value);
}

static bool takes_value(const struct offline_main *main, const char *name)
{
    static const char *const both[] = {"--memory", "--tmp"};
    static const char *const extract[] = {"-o", "--upload-id", "--write-id"};
    for (size_t i = 0; i < sizeof both / sizeof both[0]; i++)
        if (strcmp(name, both[i]) == 0)
            return true;
    for (size_t i = 0; main->is_extract && i < sizeof extract / sizeof extract[0]; i++)
        if (strcmp(name, extract[i]) == 0)
            return true;
    return false;
}

static enum err complain_usage(const struct offline_main *main, const char *text,
                               const char *argument)
{
    fprintf(stderr, "shale: %s%s; shale %s --help\n", text, argument,
            main->is_extract ? "extract" : "fsck");
    return ERR_INVALID;
}

static enum err parse(struct offline_main *main, int argc, char **argv)
{
    for (int at = 0; at < argc; at++) {
        const char *argument = argv[at];
        if (argument[0] != '-' || argument[1] == '\0') {
            if (main->argument_count == ARGUMENTS_MAX)
                return complain_usage(main, "too many arguments", "");
            main->arguments[main->argument_count++] = argument;
        } else if (takes_value(main, argument)) {
            if (at + 1 == argc)
                return complain_usage(main, "a value is missing behind ", argument);
            TRY(set_value(main, argument, argv[++at]));
        } else if (!set_switch(main, argument)) {
            return complain_usage(main, "unknown flag ", argument);
        }
    }
    return OK;
}

/* The last argument of extract is BUCKET/KEY. */
static enum err take_object(struct offline_main *main)
{
    if (main->argument_count < 2)
        return complain_usage(main, "give directories and BUCKET/KEY", "");
    const char *name = main->arguments[--main->argument_count];
    const char *slash = strchr(name, '/');
    if (slash == NULL || slash == name || slash[1] == '\0')
        return complain_usage(main, "not BUCKET/KEY: ", name);
    main->extract.bucket = slice_of(name, (size_t)(slash - name));
    main->extract.key = slice_of_text(slash + 1);
    const char *last = strrchr(name, '/') + 1;
    if (main->output == NULL && (last[0] == '\0' || strcmp(last, "..") == 0))
        return complain_usage(main, "give a file with -o for ", name);
    if (main->output == NULL)
        main->output = last;
    return OK;
}

static enum err take_directory(void *context, const char *text)
{
    struct offline_main *main = context;
    if (main->offline.directory_count == META_SHARDS_MAX)
        return complain_usage(main, "more than 24 directories", "");
    main->directories[main->offline.directory_count++] = mem_format("%s", text);
    return OK;
}

static enum err check(struct offline_main *main)
{
    if (main->is_extract)
        TRY(take_object(main));
    if (main->argument_count == 0)
        return complain_usage(main, "give the directories of a host's drives", "");
    for (uint32_t i = 0; i < main->argument_count; i++)
        if (expand_ranges(main->arguments[i], META_SHARDS_MAX, take_directory, main) != OK)
            return complain_usage(main, "cannot be used as directories: ", main->arguments[i]);
    main->offline.directories = (const char *const *)main->directories;
    if (main->temporary == NULL)
        main->temporary = getenv("TMPDIR");
    if (main->temporary == NULL || main->temporary[0] == '\0')
        main->temporary = "/tmp";
    return OK;
}

/* --- terminal and files --- */

static void clear_progress(struct offline_main *main)
{
    if (main->shown_ns != 0)
        fputs("\r\033[K", stderr);
    main->shown_ns = 0;
}

static void print(void *context, struct slice text)
{
    clear_progress(context);
    fwrite(text.data, 1, text.bytes, stdout);
}

static void complain(void *context, struct slice text)
{
    clear_progress(context);
    fprintf(stderr, "shale: %.*s", SLICE_PRINT(text));
}

static void progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct offline_main *main = context;
    uint64_t now_ns = io_now_ns(main->io);
    if (!main->terminal || now_ns < main->shown_ns + IO_NS_PER_S / 5)
        return;
    main->shown_ns = now_ns;
    fprintf(stderr, "\rread %.1f of %.1f GiB\033[K", (double)done_bytes / (1 << 30),
            (double)total_bytes / (1 << 30));
}

static enum err write_bytes(struct io *io, void *context, struct buf *buf, size_t offset,
                            size_t bytes)
{
    struct offline_main *main = context;
    while (bytes > 0) {
        size_t count = bytes < IO_TRANSFER_BYTES_MAX ? bytes : IO_TRANSFER_BYTES_MAX;
        struct io_part part = {.buf = buf, .offset = offset, .bytes = count};
        if (main->file != NULL)
            TRY(io_write(io, main->file, &part, 1, main->file_offset, 0));
        else if (fwrite(buf->data + offset, 1, count, stdout) < count)
            return FAIL(ERR_IO, "standard output");
        main->file_offset += count;
        offset += count;
        bytes -= count;
    }
    return OK;
}

static enum err open_output(struct io *io, struct offline_main *main)
{
    if (main->extract.list || strcmp(main->output, "-") == 0)
        return OK;
    main->output_new = mem_format("%s.partial", main->output);
    enum err err =
        io_open(io, main->output_new, FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE, &main->file);
    if (err != OK)
        fprintf(stderr, "shale: %s cannot be made: %s\n", main->output_new, err_text(err));
    return err;
}

/* Under its name only when the bytes are what was asked for. */
static void close_output(struct io *io, struct offline_main *main)
{
    if (main->file == NULL) {
        if (fflush(stdout) != 0)
            main->status = OFFLINE_REFUSED;
        return;
    }
    bool keep = main->status == OFFLINE_WHOLE ||
                (main->status == OFFLINE_LOST && main->extract.holes && main->file_offset > 0);
    enum err err = keep ? io_sync(io, main->file) : OK;
    file_close(TAKE(main->file));
    if (err == OK)
        err =
            keep ? io_rename(io, main->output_new, main->output) : io_unlink(io, main->output_new);
    if (err == OK)
        return;
    fprintf(stderr, "shale: %s: %s\n", main->output, err_text(err));
    main->status = OFFLINE_REFUSED;
}

/* --- the fibers --- */

static void work_fiber(struct io *io, void *argument)
{
    struct offline_main *main = argument;
    main->worker = io_self(io);
    main->offline.directory_count =
        vacant_drop(io, main->directories, main->offline.directory_count);
    if (main->offline.directory_count == 0) {
        fprintf(stderr, "shale: no directory is left\n");
        main->status = OFFLINE_REFUSED;
    } else if (main->is_extract) {
        main->extract.offline = main->offline;
        main->extract.write = write_bytes;
        main->status = (int)extract_run(io, &main->extract);
    } else {
        main->fsck.offline = main->offline;
        main->status = (int)fsck_run(io, &main->fsck);
    }
    main->worker = NULL;
    main->done = true;
    poller_wake(io, main->poller);
}

/* The copy of the metadata must not stay behind: it holds secrets. */
static void make_scratch(struct io *io, struct offline_main *main)
{
    uint8_t random[8];
    char hex[2 * sizeof random + 1];
    io_random(io, random, sizeof random);
    text_hex(slice_of(random, sizeof random), hex);
    main->scratch = mem_format("%s/shale-%s", main->temporary, hex);
    main->offline.scratch = main->scratch;
}

static void run(struct io *io, struct offline_main *main)
{
    struct fiber_group group;
    fiber_group_init(&group);
    enum err err = io_make_directory(io, main->scratch);
    if (err != OK) {
        fprintf(stderr, "shale: %s cannot be made: %s; give --tmp DIR\n", main->scratch,
                err_text(err));
        return;
    }
    if (fiber_group_spawn(io, &group, work_fiber, main) != OK)
        return;
    while (!main->done) {
        err = poller_wait(io, main->poller, io_now_ns(io) + 3600 * IO_NS_PER_S);
        struct signalfd_siginfo taken;
        if (err == OK && !main->done && read(main->signal_fd, &taken, sizeof taken) > 0 &&
            main->worker != NULL)
            io_cancel(io, main->worker);
    }
    fiber_group_wait(io, &group);
    clear_progress(main);
    err = io_remove_tree(io, main->scratch);
    if (err != OK)
        fprintf(stderr, "shale: %s cannot be removed: %s\n", main->scratch, err_text(err));
}

static void main_fiber(struct io *io, void *argument)
{
    struct offline_main *main = argument;
    main->io = io;
    make_scratch(io, main);
    if (main->is_extract && open_output(io, main) != OK)
        return;
    if (poller_new(io, main->signal_fd, &main->poller) == OK) {
        run(io, main);
        poller_free(io, main->poller);
    }
    if (main->is_extract)
        close_output(io, main);
}

static void run_all(struct offline_main *main)
{
    struct runtime *runtime = NULL;
    struct runtime_options options = {.reactor_count = 1};
    main->offline.kv = kv_provider_rocks();
    main->offline.print = print;
    main->offline.complain = complain;
    main->offline.progress = progress;
    main->offline.context = main;
    main->terminal = isatty(STDERR_FILENO) == 1;
    log_set_level(LOG_ERROR);
    sigemptyset(&main->signals);
    sigaddset(&main->signals, SIGTERM);
    sigaddset(&main->signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &main->signals, NULL);
    main->signal_fd = signalfd(-1, &main->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (main->signal_fd >= 0 && runtime_new(&options, &runtime) == OK) {
        runtime_run(runtime, main_fiber, main);
        runtime_free(runtime);
    } else {
        fprintf(stderr, "shale: io_uring or signalfd is refused here\n");
    }
    if (main->signal_fd >= 0)
        close(main->signal_fd);
    mem_free(main->output_new);
    mem_free(main->scratch);
}

static int run_role(int argc, char **argv, bool is_extract)
{
    struct offline_main *main = mem_new(struct offline_main);
    main->is_extract = is_extract;
    main->status = OFFLINE_REFUSED;
    enum err err = parse(main, argc, argv);
    if (err == OK && main->help) {
        fputs(is_extract ? extract_help : fsck_help, stdout);
        main->status = 0;
    } else if (err == OK && check(main) == OK) {
        run_all(main);
    }
    int status = main->status;
    for (uint32_t i = 0; i < main->offline.directory_count; i++)
        mem_free(main->directories[i]);
    mem_free(main);
    return status;
}

int fsck_main(int argc, char **argv)
{
    return run_role(argc, argv, false);
}

int extract_main(int argc, char **argv)
{
    return run_role(argc, argv, true);
}
