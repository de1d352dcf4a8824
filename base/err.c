/* Texts of errors, and the place where each is raised. */
#include "base/err.h"
#include "base/log.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

const char *err_text(enum err err)
{
    switch (err) {
    case OK:
        return "ok";
#define X(name, number, text)                                                                      \
    case name:                                                                                     \
        return text;
        ERR_LIST(X)
#undef X
    }
    return "unknown error";
}

/* The last two components of a path: the folder tells client.c from client.c. */
static const char *short_path(const char *path)
{
    const char *last = path;
    const char *previous = path;
    for (const char *at = path; *at != '\0'; at++) {
        if (*at == '/') {
            previous = last;
            last = at + 1;
        }
    }
    return previous;
}

enum err err_raise(enum err err, const char *file, int line, const char *format, ...)
{
    assert(err != OK);
    if (!log_enabled(LOG_DEBUG))
        return err;
    char cause[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(cause, sizeof cause, format, arguments); /* a long cause may be cut */
    va_end(arguments);
    log_write(LOG_DEBUG, "%s: %s at=%s:%d", err_text(err), cause, short_path(file), line);
    return err;
}
