/* Intrusive doubly linked list with a sentinel. The list never allocates; a node is in one list at
 * most.
 *
 *     struct item { struct list_node node; int value; };
 *     struct list items; list_init(&items);
 *     list_push_back(&items, &item->node);
 *     LIST_EACH (struct item, item, &items, node) { ... removing `item` itself is allowed ... } */
#pragma once
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct list_node {
    struct list_node *next;
    struct list_node *previous; /* both NULL while in no list */
};

struct list {
    struct list_node head;
    uint32_t count;
};

#define CONTAINER_OF(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline void list_init(struct list *list)
{
    list->head.next = list->head.previous = &list->head;
    list->count = 0;
}

static inline bool list_empty(const struct list *list)
{
    return list->count == 0;
}

static inline bool list_linked(const struct list_node *node)
{
    return node->next != NULL;
}

static inline void list_insert_before(struct list *list, struct list_node *at,
                                      struct list_node *node)
{
    assert(!list_linked(node));
    node->next = at;
    node->previous = at->previous;
    at->previous->next = node;
    at->previous = node;
    list->count++;
}

static inline void list_push_back(struct list *list, struct list_node *node)
{
    list_insert_before(list, &list->head, node);
}

static inline void list_push_front(struct list *list, struct list_node *node)
{
    list_insert_before(list, list->head.next, node);
}

static inline void list_remove(struct list *list, struct list_node *node)
{
    assert(list_linked(node));
    assert(list->count > 0);
    node->next->previous = node->previous;
    node->previous->next = node->next;
    node->next = node->previous = NULL;
    list->count--;
}

/* The first node, or NULL. */
static inline struct list_node *list_first(const struct list *list)
{
    return list->count == 0 ? NULL : list->head.next;
}

/* Remove and return the first node, or NULL. */
static inline struct list_node *list_pop_front(struct list *list)
{
    struct list_node *node = list_first(list);
    if (node != NULL)
        list_remove(list, node);
    return node;
}

#define LIST_EACH(type, name, list, member)                                                        \
    for (struct list_node *name##_node = (list)->head.next, *name##_next = name##_node->next;      \
         name##_node != &(list)->head; name##_node = name##_next, name##_next = name##_node->next) \
        for (type *name = CONTAINER_OF(name##_node, type, member); name != NULL; name = NULL)
