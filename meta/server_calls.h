/* What the client in this process calls on the group: a command to be made durable and applied
 * exactly once, or a read at a linearizable point. Generic over commands; their meaning is in
 * entry.h and state.h. */
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/slice.h"
#include "runtime/lane.h"

struct meta_group;
struct state;

/* Propose an encoded command (without session header: the group's own session adds it), wait
 * until it is durable on a quorum, applied and confirmed; its encoded result is appended to
 * *out_result. From any reactor. A change of leader within the process is not seen. The command
 * is copied or sent before the call returns; on ERR_OUTCOME_UNKNOWN it may take effect later. */
enum err meta_group_propose(struct io *io, struct meta_group *group, struct slice command,
                            struct bytes *out_result);

/* `lane` NULL: answer from memory or return ERR_WOULD_BLOCK; else on a lane, may block. May be
 * called twice: it starts over. Results go through `argument`. */
typedef enum err meta_read_fn(struct lane *lane, struct state *state, void *argument);
/* Wait for a linearizable point (ReadIndex; free while the process holds a quorum), then run fn:
 * first on this reactor from memory, then, if that would block, on the read lanes.
 * `memory_first` false goes to the lanes at once (scans). */
enum err meta_group_read(struct io *io, struct meta_group *group, meta_read_fn *fn, void *argument,
                         bool memory_first);
