/* Heap memory and scope-bound ownership. */
#include "base/mem.h"
#include "base/own.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void fresh_memory_is_zero(void **state)
{
    (void)state;
    static const char zero[300];
    AUTO_STRING a = mem_alloc(sizeof zero);
    AUTO_STRING b = mem_alloc_array(100, 3);
    assert_memory_equal(a, zero, sizeof zero);
    assert_memory_equal(b, zero, sizeof zero);
    AUTO_STRING nothing = mem_alloc(0);
    assert_non_null(nothing);
}

static void resize_keeps_what_was_there(void **state)
{
    (void)state;
    char *text = mem_resize(NULL, 4);
    memcpy(text, "abc", 4);
    text = mem_resize(text, 100000);
    assert_string_equal(text, "abc");
    text = mem_resize(text, 0);
    assert_non_null(text);
    mem_free(text);
}

static void a_copy_ends_with_nul(void **state)
{
    (void)state;
    AUTO_STRING copy = mem_copy("abcdef", 3);
    assert_string_equal(copy, "abc");
    AUTO_STRING empty = mem_copy(NULL, 0);
    assert_string_equal(empty, "");
    AUTO_STRING text = mem_format("%s-%d", "x", 7);
    assert_string_equal(text, "x-7");
}

struct thing {
    int *released;
};

static void thing_free(struct thing *thing)
{
    (*thing->released)++;
}
DEFINE_AUTO(thing, thing_free)

static void the_scope_releases_what_was_not_taken(void **state)
{
    (void)state;
    int released = 0;
    struct thing thing = {.released = &released};
    struct thing *kept = NULL;
    {
        AUTO(thing) owner = &thing;
        AUTO(thing) none = NULL;
        assert_null(none);
        kept = TAKE(owner);
        assert_null(owner);
    }
    assert_int_equal(released, 0);
    {
        AUTO(thing) owner = kept;
        assert_ptr_equal(owner, &thing);
    }
    assert_int_equal(released, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_memory_is_zero),
        cmocka_unit_test(resize_keeps_what_was_there),
        cmocka_unit_test(a_copy_ends_with_nul),
        cmocka_unit_test(the_scope_releases_what_was_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
