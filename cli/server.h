/* `shale server DIR`: every role in one process. */
#pragma once
#include "options.h"

/* Runs until SIGTERM or SIGINT; returns the exit status: 0 after an orderly end, 1 after a
 * failure that was logged. */
int server_main(const struct server_options *options);
