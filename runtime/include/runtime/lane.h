/* Executors for code that may block a thread (RocksDB). A lane with one thread runs its jobs one
 * after the other; with more it is a small pool. Under the simulator jobs are events of the virtual
 * clock.
 *
 * A function that may block takes `struct lane *lane` first and asserts lane_is_current. Lane code
 * gets no io: it neither waits on fibers nor reads clocks. */
#pragma once
#include "runtime/io.h"

struct lane;
typedef void lane_fn(struct lane *lane, void *argument);

enum { LANE_QUEUE_MAX = 16384 };

/* `thread_count` 1..16. `io` is the reactor that creates it; any reactor of the process may use it.
 */
enum err lane_new(struct io *io, const char *name, unsigned thread_count, struct lane **out_lane);
/* Runs what is queued, then ends the threads. Blocks until they ended: call it at shutdown only. */
void lane_free(struct lane *lane);
DEFINE_AUTO(lane, lane_free)
/* Queue fn and wait until it ran. The wait is not ended by deadline or cancel, because fn works on
 * the caller's memory. ERR_BUSY: LANE_QUEUE_MAX jobs wait; fn did not and will not run.
 * ERR_CANCELED only before it was queued. */
enum err lane_run(struct io *io, struct lane *lane, lane_fn *fn, void *argument);
/* True on a thread of this lane, while a job runs. */
bool lane_is_current(const struct lane *lane);
/* Jobs queued or running. */
unsigned lane_depth(const struct lane *lane);
