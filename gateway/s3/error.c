/* The table of S3 errors, and the failures that answers are made from. */
#include "s3/error.h"
#include "base/log.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct error_row {
    const char *code;
    uint16_t status;
    const char *message;
};

static const struct error_row error_rows[] = {
#define X(name, code, status, message) [name] = {code, status, message},
    S3_ERROR_LIST(X)
#undef X
};

static const struct error_row *error_row(enum s3_error error)
{
    assert(error != S3_OK);
    assert((size_t)error < sizeof error_rows / sizeof error_rows[0]);
    return &error_rows[error];
}

const char *s3_error_code(enum s3_error error)
{
    return error_row(error)->code;
}

uint16_t s3_error_status(enum s3_error error)
{
    return error_row(error)->status;
}

const char *s3_error_message(enum s3_error error)
{
    return error_row(error)->message;
}

void s3_failure_deinit(struct s3_failure *failure)
{
    bytes_deinit(&failure->message);
    for (uint32_t i = 0; i < failure->detail_count; i++)
        bytes_deinit(&failure->details[i].text);
    *failure = (struct s3_failure){0};
}

void s3_failure_add(struct s3_failure *failure, const char *element, struct slice text)
{
    if (failure == NULL || failure->detail_count == S3_FAILURE_DETAILS_MAX)
        return;
    struct s3_failure_detail *detail = &failure->details[failure->detail_count++];
    *detail = (struct s3_failure_detail){.element = element,
                                         .text = {.max = S3_FAILURE_DETAIL_BYTES_MAX}};
    bytes_append(&detail->text, slice_first(text, S3_FAILURE_DETAIL_BYTES_MAX));
}

struct slice s3_failure_message(const struct s3_failure *failure, enum s3_error error)
{
    if (failure != NULL && failure->message.bytes > 0)
        return bytes_slice(&failure->message);
    return slice_of_text(s3_error_message(error));
}

static void log_cause(enum s3_error error, const char *file, int line, const char *cause)
{
    const char *base = strrchr(file, '/');
    log_debug("%s code=%s at=%s:%d", cause, s3_error_code(error), base == NULL ? file : base + 1,
              line);
}

enum s3_error s3_error_raise(enum s3_error error, const char *file, int line, const char *format,
                             ...)
{
    assert(error != S3_OK);
    if (!log_enabled(LOG_DEBUG))
        return error;
    char cause[S3_FAILURE_MESSAGE_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(cause, sizeof cause, format, args);
    va_end(args);
    log_cause(error, file, line, cause);
    return error;
}

enum s3_error s3_failure_raise(struct s3_failure *failure, enum s3_error error, const char *file,
                               int line, const char *format, ...)
{
    assert(error != S3_OK);
    char cause[S3_FAILURE_MESSAGE_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(cause, sizeof cause, format, args);
    va_end(args);
    log_cause(error, file, line, cause);
    if (failure != NULL) {
        s3_failure_deinit(failure);
        failure->message.max = S3_FAILURE_MESSAGE_BYTES_MAX;
        bytes_append_text(&failure->message, cause);
    }
    return error;
}

enum s3_error s3_fail_argument(struct s3_failure *failure, const char *name, struct slice value,
                               const char *message)
{
    enum s3_error error = S3_FAIL_SAY(failure, S3_INVALID_ARGUMENT, "%s", message);
    s3_failure_add(failure, "ArgumentName", slice_of_text(name));
    s3_failure_add(failure, "ArgumentValue", value);
    return error;
}
