/* Drives and scrub on the admin listener:
 *
 *   GET  /drives                  what there is, and how it is
 *   POST /drives/drain?id=ID      move what it holds to others
 *   POST /drives/undrain?id=ID    no more
 *   GET  /scrub                   how far it is
 *   POST /scrub                   a pass at full speed over all drives
 */
#pragma once
#include "cli/node.h"

/* False: the path is another's. `node` NULL: it does not serve yet. On reactor 0. */
bool admin_storage_serve(struct io *io, struct node *node, struct exchange *exchange);
