/* Persistent ordered map: a change makes a new root and leaves the old one as it was, sharing all
 * nodes but those on the path. So a snapshot, a point to roll back to and a checkpoint are each one
 * more reference to a root.
 *
 * NULL is the empty map. Nodes are reference-counted without atomics: the owner's lock guards every
 * function that takes or gives a reference; reading a root one holds needs no lock. A treap (Seidel
 * and Aragon, 1996) with the hash of the key as priority: the shape depends on the keys alone, so
 * equal seeds give equal runs, and the depth is logarithmic. */
#pragma once
#include "base/slice.h"

struct treap;

struct treap *treap_ref(struct treap *root);
void treap_unref(struct treap *root);

/* These take the reference to `root` and return one to the new root. */
struct treap *treap_put(struct treap *root, struct slice key, struct slice value);
struct treap *treap_delete(struct treap *root, struct slice key);
/* [from, to) */
struct treap *treap_delete_range(struct treap *root, struct slice from, struct slice to);

/* Nodes are borrowed from the root; NULL when there is none. */
const struct treap *treap_find(const struct treap *root, struct slice key);
/* First key >= `key`. */
const struct treap *treap_at_or_after(const struct treap *root, struct slice key);
/* First key > `key`. */
const struct treap *treap_after(const struct treap *root, struct slice key);
/* Last key < `key`. */
const struct treap *treap_before(const struct treap *root, struct slice key);
struct slice treap_key(const struct treap *node);
struct slice treap_value(const struct treap *node);
/* Bytes of all keys and values. */
uint64_t treap_bytes(const struct treap *root);
