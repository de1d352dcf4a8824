/* The rule for slow clients: while we wait for them, bytes move at 1 KiB/s at least, averaged over
 * a window. Time in which the client waits for us does not count. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { HTTP_PACE_BYTES_PER_S_MIN = 1024 };

struct http_pace {
    uint64_t window_ns;
    uint64_t waited_ns; /* of the present window */
    uint64_t bytes;     /* moved in it */
};

/* How much longer to wait until the window is full. */
static inline uint64_t http_pace_rest_ns(const struct http_pace *pace)
{
    return pace->waited_ns < pace->window_ns ? pace->window_ns - pace->waited_ns : 0;
}

/* `bytes` moved after `waited_ns`. False: the window is full and too little moved in it. */
static inline bool http_pace_move(struct http_pace *pace, uint64_t waited_ns, uint64_t bytes)
{
    pace->waited_ns += waited_ns;
    pace->bytes += bytes;
    if (pace->waited_ns < pace->window_ns)
        return true;
    uint64_t window_ms = pace->window_ns / 1000000;
    bool enough = pace->bytes >= window_ms * HTTP_PACE_BYTES_PER_S_MIN / 1000;
    pace->waited_ns = 0;
    pace->bytes = 0;
    return enough;
}
