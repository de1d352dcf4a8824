/* What one entry reads and writes: its own writes over the store.
 *
 * An entry may read a row that it has written itself (a copy of a key onto itself, two blocks of
 * one list); the change answers such reads, and becomes one batch of at most one operation a
 * row. A trouble of the store (anything but a missing row) marks the change broken: the replica
 * must stop. Every other error is a verdict about the command and the same on every replica. */
#pragma once
#include "base/bytes.h"
#include "kv/kv.h"
#include "rows.h"

struct hasher;

/* Buckets that the store has as open, in memory for the next entries; 0: none. Affects no verdict:
 * whoever writes such a row drops it from here. */
enum { OPEN_BUCKETS_MAX = 16 };
struct open_buckets {
    uint64_t ids[OPEN_BUCKETS_MAX]; /* at id % OPEN_BUCKETS_MAX */
};

struct change_row {
    struct slice key;
    struct slice value;
    bool deleted;
};

struct change {
    struct lane *lane;
    struct kv *kv;
    struct open_buckets *open_buckets;
    enum err broken;
    bool keep; /* the writes stand although the verdict is an error */
    /* sorted by key; each row is one allocation */
    struct change_row **rows;
    uint32_t count, capacity;

    /* of the entry */
    uint64_t index, wall_ms, session, sequence;
    /* counters as the entry leaves them */
    struct applied_row applied;
};

void change_deinit(struct change *change);
/* Forget every write. */
void change_clear(struct change *change);

/* ERR_NOT_FOUND, or the change is broken. Appended to *out_value. */
enum err change_get(struct change *change, const struct row_key *key, struct bytes *out_value);
/* OK or ERR_NOT_FOUND, or broken. */
enum err change_has(struct change *change, const struct row_key *key);
void change_put(struct change *change, const struct row_key *key, const struct bytes *value);
void change_delete(struct change *change, const struct row_key *key);
void change_delete_at(struct change *change, struct slice key);
/* Marks the change broken when `err` is not OK, and passes it on: for rows that do not decode. */
enum err change_check(struct change *change, enum err err);

/* True when a row of `table` is written or deleted. */
bool change_has_table(const struct change *change, enum row_table table);
/* All rows in `batch`, and into `hasher`, in the order of keys. */
void change_write(const struct change *change, struct kv_batch *batch, struct hasher *hasher);

/* Rows whose keys start with a prefix, in order, as the change leaves them; rows may be written
 * while scanning. */
struct change_scan {
    struct change *change;
    struct row_key prefix;
    struct row_key last; /* bytes 0: not started */
    struct kv_iterator *iterator;
    struct slice key, value; /* of the present row, until the next call */
    struct bytes copy;
};
void change_scan_init(struct change_scan *scan, struct change *change,
                      const struct row_key *prefix);
/* Start behind `key` instead of at the first row. */
void change_scan_after(struct change_scan *scan, const struct row_key *key);
/* False at the end and when the change broke: check change->broken. */
bool change_scan_next(struct change_scan *scan);
void change_scan_deinit(struct change_scan *scan);
/* True when there is no such row; broken otherwise false. */
bool change_empty(struct change *change, const struct row_key *prefix);
/* The last row with this prefix and a key <= `key` in the store; writes of the change are not
 * seen. ERR_NOT_FOUND. */
enum err change_get_before(struct change *change, const struct row_key *prefix,
                           const struct row_key *key, struct row_key *out_key,
                           struct bytes *out_value);
