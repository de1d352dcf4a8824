/* Identity and log of a replica that nobody runs, read without changing a byte. */
#pragma once
#include "log_scan.h"
#include "meta/offline.h"

struct offline_log {
    char *directory; /* of the log */
    uint8_t log_id[LOG_ID_BYTES];
    struct log_state state;
    struct meta_offline_log found;
};
void offline_log_deinit(struct offline_log *log);
/* As meta_offline_check; `replica` is the replica's directory. */
enum err offline_log_load(struct io *io, const char *replica, struct offline_log *out_log);
