/* The one error type of Shale, and the two words that raise and pass errors.
 *
 * A function that can fail returns `enum err`; ignoring the result does not compile. FAIL raises an
 * error and logs its cause once at debug level; TRY returns early. There is no goto and no errno
 * beyond the call that set it. */
#pragma once

#ifdef NDEBUG
#error "assertions stay on in every build"
#endif

/* Numbers travel in replies between daemons: append only, never renumber. */
#define ERR_LIST(X)                                                                                \
    X(ERR_IO, 1, "disk or network failed")                                                         \
    X(ERR_CORRUPT, 2, "stored bytes fail a checksum or contradict each other")                     \
    X(ERR_NO_SPACE, 3, "no space left")                                                            \
    X(ERR_NOT_FOUND, 4, "not found")                                                               \
    X(ERR_EXISTS, 5, "exists already")                                                             \
    X(ERR_BUSY, 6, "a limit on memory, queue or concurrency is reached")                           \
    X(ERR_TIMEOUT, 7, "deadline passed")                                                           \
    X(ERR_CANCELED, 8, "canceled")                                                                 \
    X(ERR_INVALID, 9, "malformed input")                                                           \
    X(ERR_UNSUPPORTED, 10, "format or version not understood by this release")                     \
    X(ERR_FENCED, 11, "drive is fenced after an error")                                            \
    X(ERR_NOT_LEADER, 12, "replica is not the leader")                                             \
    X(ERR_MOVED, 13, "key range is served by another group or generation")                         \
    X(ERR_STALE_EPOCH, 14, "volume epoch or incarnation is not current")                           \
    X(ERR_OUTCOME_UNKNOWN, 15, "it is not known whether the change took effect")                   \
    X(ERR_CLOSED, 16, "peer is gone")                                                              \
    X(ERR_LIMIT, 17, "larger than a documented limit")                                             \
    X(ERR_PRECONDITION, 18, "a condition of the request does not hold")                            \
    X(ERR_COMPACTED, 19, "position was compacted into a snapshot")                                 \
    X(ERR_WOULD_BLOCK, 20, "the answer is not in memory")                                          \
    X(ERR_NOT_EMPTY, 21, "not empty")                                                              \
    X(ERR_LOCKED, 22, "in use by another process")                                                 \
    X(ERR_MISMATCH, 23, "belongs to another cluster, drive or generation")                         \
    X(ERR_STALE, 24, "request is older than what was already seen")

/* Release 14 of the formatter takes the attribute for the enum's name. */
/* clang-format off */
enum [[nodiscard]] err {
    OK = 0,
#define X(name, number, text) name = number,
    ERR_LIST(X)
#undef X
};
/* clang-format on */

/* Short English text of `err`, static; "ok" for OK, "unknown error" for a number of a later
 * release. */
const char *err_text(enum err err);

/* Used by FAIL: log the cause at debug level and return `err` (never OK). */
enum err err_raise(enum err err, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#define FAIL(code, ...) err_raise((code), __FILE__, __LINE__, __VA_ARGS__)
#define TRY(call)                                                                                  \
    do {                                                                                           \
        __auto_type try_ = (call);                                                                 \
        if (try_ != 0)                                                                             \
            return try_;                                                                           \
    } while (0)
