/* Files of the Raft log: how segments come to be, are found again and go.
 *
 * A segment is made under the name "preparing": filled with zeros, given its header, synced,
 * and only then renamed, so that a named segment is always whole. */
#pragma once
#include "log_state.h"
#include "runtime/io.h"

struct log_file {
    struct file *file;
    uint64_t number;
    uint64_t offset; /* of the next batch */
    uint32_t references;
};
struct log_file *log_file_ref(struct log_file *file);
void log_file_unref(struct log_file *file);

/* Make segment `number`, durably. ERR_NO_SPACE: nothing is left behind that matters. */
enum err log_file_prepare(struct io *io, const char *directory, const uint8_t log_id[LOG_ID_BYTES],
                          uint64_t number, uint64_t bytes, struct log_file **out_file);
enum err log_file_delete(struct io *io, const char *directory, uint64_t number);
/* Read the stream of one batch and check it. ERR_COMPACTED: the segment is gone. */
enum err log_file_read_batch(struct io *io, const char *directory,
                             const uint8_t log_id[LOG_ID_BYTES], const struct log_span *span,
                             struct bytes *stream);

struct log_found {
    struct log_file **spares; /* unused segments by number; the array is the caller's */
    uint32_t spare_count;
    uint64_t number_next;
};
/* Read everything into `state` (empty), delete what a crash left over, and make what was kept
 * durable: it may have been read from a cache. With `accept_loss` the log ends at damage as at a
 * torn write. Errors: see meta_log_open. */
enum err log_files_recover(struct io *io, const char *directory, const uint8_t log_id[LOG_ID_BYTES],
                           uint64_t segment_bytes, bool accept_loss, struct log_state *state,
                           struct log_found *out_found);
