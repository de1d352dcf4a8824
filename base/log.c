/* One line per event to one sink. */
#include "base/log.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE_BYTES_MAX = 2048,
    REQUEST_BYTES_MAX = 32, /* " request=" and 16 digits */
};

static _Atomic int level_max = LOG_INFO;
static log_sink_fn *sink; /* NULL: standard error; set before threads start */
static void *sink_context;
static _Thread_local uint64_t request;

void log_set_level(enum log_level level)
{
    assert(level <= LOG_DEBUG);
    atomic_store_explicit(&level_max, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&level_max, memory_order_relaxed);
}

void log_set_sink(log_sink_fn *new_sink, void *context)
{
    sink = new_sink;
    sink_context = context;
}

void log_set_request(uint64_t request_id)
{
    request = request_id;
}

uint64_t log_request(void)
{
    return request;
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_ERROR:
        return "error";
    case LOG_WARN:
        return "warn ";
    case LOG_INFO:
        return "info ";
    case LOG_DEBUG:
        return "debug";
    }
    return "?    ";
}

/* The only reader of a clock in base: the time goes nowhere but into the line, and the simulator
 * replaces this sink. */
static void standard_error_sink(enum log_level level, const char *line)
{
    struct timespec now = {0};
    struct tm utc = {0};
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    (void)gmtime_r(&now.tv_sec, &utc);         /* zero shows as 1900: still a line */
    char stamp[32];
    size_t stamp_bytes = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    stamp[stamp_bytes] = '\0';
    char out[LINE_BYTES_MAX + 64];
    int bytes = snprintf(out, sizeof out, "%s.%06ldZ %s %s\n", stamp, now.tv_nsec / 1000,
                         level_name(level), line);
    assert(bytes > 0);
    assert((size_t)bytes < sizeof out);
    ssize_t written = write(STDERR_FILENO, out, (size_t)bytes);
    (void)written; /* there is nowhere to report it to */
}

/* Bytes of outside origin must not forge lines or terminal sequences. */
static void blank_control_characters(char *line)
{
    for (char *at = line; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    }
}

void log_write(enum log_level level, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    int saved_errno = errno; /* callers log between a system call and their look at errno */
    char line[LINE_BYTES_MAX];
    size_t room = sizeof line - REQUEST_BYTES_MAX;
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(line, room, format, arguments);
    va_end(arguments);
    if (wanted < 0)
        line[0] = '\0';
    size_t used = strlen(line);
    if (wanted > 0 && (size_t)wanted >= room)
        memcpy(line + used - 3, "...", 3);
    blank_control_characters(line);
    if (request != 0)
        (void)snprintf(line + used, sizeof line - used, " request=%016" PRIx64, request);
    if (sink != NULL)
        sink(sink_context, level, line);
    else
        standard_error_sink(level, line);
    errno = saved_errno;
}
