/* The admin listener's handler: /health/live, /health/ready, /metrics. */
#pragma once
#include "cli/node.h"

struct admin {
    struct metrics *metrics;
    struct node *node; /* NULL until it serves */
};

/* An http_handler_fn; `context` is the struct admin. */
void admin_serve(struct io *io, void *context, struct exchange *exchange);
