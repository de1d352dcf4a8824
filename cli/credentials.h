/* The root identity: a row of the metadata; the file in the first directory is a copy for its
 * owner to read. */
#pragma once
#include "meta/client.h"

enum { CREDENTIALS_PATH_BYTES_MAX = IO_PATH_BYTES_MAX };

/* Make the stored root identity what `user` and `password` say, or, when they are NULL, keep
 * it, or make a random one when there is none. A random one is written to
 * `<directory>/root-credentials` (0600), again when the file is missing or says something else.
 *
 * out_path  CREDENTIALS_PATH_BYTES_MAX characters: the file, or "" when the operator gave the
 * credentials. */
enum err credentials_establish(struct io *io, struct meta_client *meta, const char *directory,
                               const char *user, const char *password,
                               struct identity *out_identity, char *out_path);
/* Access key 3..128 and secret 8..128 printable ASCII characters without spaces. ERR_INVALID
 * says what is wrong in the log. */
enum err credentials_check(const char *user, const char *password);
