/* Intrusive lists. */
#include "base/list.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int value;
    struct list_node node;
};

static void expect(const struct list *list, const int *values, uint32_t count)
{
    assert_int_equal(list->count, count);
    uint32_t i = 0;
    LIST_EACH(struct item, item, list, node)
    {
        assert_true(i < count);
        assert_int_equal(item->value, values[i++]);
    }
    assert_int_equal(i, count);
}

static void order_is_that_of_insertion(void **state)
{
    (void)state;
    struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};
    struct list list;
    list_init(&list);
    expect(&list, NULL, 0);
    assert_null(list_first(&list));
    assert_null(list_pop_front(&list));
    list_push_back(&list, &items[1].node);
    list_push_back(&list, &items[3].node);
    list_push_front(&list, &items[0].node);
    list_insert_before(&list, &items[3].node, &items[2].node);
    expect(&list, (const int[]){0, 1, 2, 3}, 4);
    list_remove(&list, &items[2].node);
    assert_false(list_linked(&items[2].node));
    expect(&list, (const int[]){0, 1, 3}, 3);
    assert_ptr_equal(list_pop_front(&list), &items[0].node);
    expect(&list, (const int[]){1, 3}, 2);
}

static void an_item_may_be_removed_while_walking(void **state)
{
    (void)state;
    struct item items[5];
    struct list list;
    list_init(&list);
    for (int i = 0; i < 5; i++) {
        items[i] = (struct item){.value = i};
        list_push_back(&list, &items[i].node);
    }
    LIST_EACH(struct item, item, &list, node)
    {
        if (item->value % 2 == 0)
            list_remove(&list, &item->node);
    }
    expect(&list, (const int[]){1, 3}, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_that_of_insertion),
        cmocka_unit_test(an_item_may_be_removed_while_walking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
