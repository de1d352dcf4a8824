/* One line per event: fixed text first, then key=value. error: an operator must act; warn: we
 * coped, say how; info: a state change; debug: causes raised by FAIL. Never secrets, never payload.
 *
 * The sink and its context (request id) are the only thread-local state in Shale; the scheduler
 * sets the context at each fiber switch. The default sink writes to standard error. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

typedef void log_sink_fn(void *context, enum log_level level, const char *line);

/* Lines above `level` are dropped; process-wide, default LOG_INFO. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);
/* Replace the sink of all threads (call before starting threads); NULL restores standard error. */
void log_set_sink(log_sink_fn *sink, void *context);
/* Request id put at the end of each line of this thread; 0 = none. */
void log_set_request(uint64_t request_id);
uint64_t log_request(void);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_enabled(LOG_DEBUG))                                                                \
            log_write(LOG_DEBUG, __VA_ARGS__);                                                     \
    } while (0)
