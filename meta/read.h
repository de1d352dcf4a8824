/* What the read functions of the state share. */
#pragma once
#include "kv/kv.h"
#include "rows.h"
#include "state.h"

/* One row; from memory when lane is NULL. ERR_NOT_FOUND, ERR_WOULD_BLOCK. */
static inline enum err read_row(struct lane *lane, struct state *state, const struct row_key *key,
                                struct bytes *out_value)
{
    struct kv *kv = state_kv(state);
    return lane == NULL ? kv_try_get(kv, row_key_slice(key), out_value)
                        : kv_get(lane, kv, row_key_slice(key), out_value);
}

/* All keys that start with `prefix`, at one point in time. The iterator is on none of them yet. */
static inline struct kv_iterator *read_prefix(struct lane *lane, struct state *state,
                                              struct kv_snapshot *snapshot,
                                              const struct row_key *prefix)
{
    struct row_key end = *prefix;
    row_key_next_prefix(&end);
    return kv_iterator_new(lane, state_kv(state), snapshot, row_key_slice(prefix),
                           row_key_slice(&end));
}

/* Room for one element more in an array that grows; the number of elements is bounded by the
 * caller. */
#define READ_GROW(array, count, capacity)                                                          \
    do {                                                                                           \
        if ((count) == (capacity)) {                                                               \
            (capacity) = (capacity) == 0 ? 16 : (capacity)*2;                                      \
            (array) = mem_resize((array), (capacity) * sizeof *(array));                           \
        }                                                                                          \
    } while (0)
