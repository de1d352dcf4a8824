/* The persistent map against a sorted array. */
#include "treap.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 60, ROUNDS = 20000, KEPT = 16 };

/* Key i is the two bytes {i, i}; its value is a number, -1 when it is not there. */
struct model {
    int values[KEYS];
};

static struct slice key_of(uint8_t *room, int i)
{
    room[0] = room[1] = (uint8_t)(i * 4);
    return slice_of(room, 2);
}

static void check_node(const struct treap *node, const struct model *model, int i)
{
    uint8_t room[2];
    if (i < 0 || i >= KEYS) {
        assert_null(node);
        return;
    }
    assert_non_null(node);
    assert_true(slice_equal(treap_key(node), key_of(room, i)));
    assert_true(slice_equal(treap_value(node), slice_of(&model->values[i], sizeof(int))));
}

static void check(const struct treap *root, const struct model *model)
{
    uint8_t room[2];
    uint64_t bytes = 0;
    for (int i = 0; i < KEYS; i++) {
        int before = i - 1, at = i, after = i + 1;
        while (before >= 0 && model->values[before] < 0)
            before--;
        while (at < KEYS && model->values[at] < 0)
            at++;
        while (after < KEYS && model->values[after] < 0)
            after++;
        struct slice key = key_of(room, i);
        check_node(treap_before(root, key), model, before);
        uint8_t other[2];
        check_node(treap_at_or_after(root, key_of(other, i)), model, at);
        check_node(treap_after(root, key_of(other, i)), model, after);
        check_node(treap_find(root, key_of(other, i)), model, at == i ? i : -1);
        bytes += model->values[i] < 0 ? 0 : 2 + sizeof(int);
    }
    assert_int_equal(treap_bytes(root), bytes);
}

static void every_state_stays_as_it_was(void **state)
{
    (void)state;
    struct model model, kept_models[KEPT];
    struct treap *root = NULL, *kept[KEPT] = {0};
    uint8_t a[2], b[2];
    for (int i = 0; i < KEYS; i++)
        model.values[i] = -1;
    for (int i = 0; i < KEPT; i++)
        kept_models[i] = model;
    srandom(7);
    for (int round = 0; round < ROUNDS; round++) {
        int i = (int)(random() % KEYS), j = i + (int)(random() % 6), dice = (int)(random() % 10);
        if (dice < 6) {
            model.values[i] = round;
            root = treap_put(root, key_of(a, i), slice_of(&round, sizeof round));
        } else if (dice < 9) {
            model.values[i] = -1;
            root = treap_delete(root, key_of(a, i));
        } else if (j < KEYS) {
            for (int gone = i; gone < j; gone++)
                model.values[gone] = -1;
            root = treap_delete_range(root, key_of(a, i), key_of(b, j));
        }
        if (round % 50 == 0) {
            int slot = (int)(random() % KEPT);
            check(kept[slot], &kept_models[slot]);
            treap_unref(kept[slot]);
            kept[slot] = treap_ref(root);
            kept_models[slot] = model;
            check(root, &model);
        }
    }
    for (int i = 0; i < KEPT; i++) {
        check(kept[i], &kept_models[i]);
        treap_unref(kept[i]);
    }
    treap_unref(root);
}

static void rising_keys_do_not_make_a_deep_tree(void **state)
{
    (void)state;
    struct treap *root = NULL;
    for (uint32_t i = 0; i < 100000; i++) {
        uint32_t big = __builtin_bswap32(i);
        root = treap_put(root, slice_of(&big, sizeof big), slice_of(NULL, 0));
    }
    uint32_t expected = 0;
    for (const struct treap *node = treap_at_or_after(root, slice_of(NULL, 0)); node != NULL;
         node = treap_after(root, treap_key(node))) {
        uint32_t big = __builtin_bswap32(expected++);
        assert_true(slice_equal(treap_key(node), slice_of(&big, sizeof big)));
    }
    assert_int_equal(expected, 100000);
    treap_unref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_stays_as_it_was),
        cmocka_unit_test(rising_keys_do_not_make_a_deep_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
