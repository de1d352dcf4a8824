/* What the tests of kv share. kv asks the runtime one question, whether the caller is on the lane;
 * a test answers it itself by defining lane_is_current with FIXTURE_LANE. */
#pragma once
#include "base/mem.h"
#include "kv/kv.h"
#include "kv/memory.h"
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURE_LANE                                                                               \
    bool lane_is_current(const struct lane *lane)                                                  \
    {                                                                                              \
        return lane == the_lane();                                                                 \
    }

static inline struct lane *the_lane(void)
{
    static char place;
    return (struct lane *)(void *)&place;
}

static inline int remove_entry(const char *path, const struct stat *status, int type,
                               struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

/* A fresh directory for stores; release with directory_remove. */
static inline char *directory_new(void)
{
    const char *parent = getenv("TMPDIR");
    char *path = mem_format("%s/shale-kv-XXXXXX", parent == NULL ? "/tmp" : parent);
    assert_non_null(mkdtemp(path));
    return path;
}

static inline void directory_remove(char *path)
{
    assert_int_equal(nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
    mem_free(path);
}

static inline void put(struct kv *kv, struct slice key, struct slice value)
{
    AUTO(kv_batch) batch = kv_batch_new(kv);
    kv_batch_put(batch, key, value);
    assert_int_equal(kv_write(the_lane(), kv, batch), OK);
}

static inline void put_text(struct kv *kv, const char *key, const char *value)
{
    put(kv, slice_of_text(key), slice_of_text(value));
}

static inline void holds(struct kv *kv, const char *key, const char *value)
{
    AUTO_VALUE(bytes) found = {.max = KV_VALUE_BYTES_MAX};
    assert_int_equal(kv_get(the_lane(), kv, slice_of_text(key), &found),
                     value == NULL ? ERR_NOT_FOUND : OK);
    assert_true(slice_equal_text(bytes_slice(&found), value));
}
