/* What the files of the client share. */
#pragma once
#include "entry.h"
#include "server_calls.h"
#include "state.h"

/* Propose the command and decode its result. The error is the server's, or the verdict, with
 * *out_result filled. */
enum err client_propose(struct io *io, struct meta_client *client, const struct command *command,
                        struct result *out_result);
/* The same for commands that answer nothing but a verdict. */
enum err client_command(struct io *io, struct meta_client *client, const struct command *command);
enum err client_read(struct io *io, struct meta_client *client, meta_read_fn *fn, void *argument,
                     bool memory_first);
