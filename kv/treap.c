/* Path-copying treap. The recursion is as deep as the tree: logarithmic, see treap.h. */
#include "treap.h"
#include "base/hash.h"
#include "base/mem.h"
#include <assert.h>

/* Key and value, shared by all copies of a node. */
struct entry {
    uint32_t references;
    uint64_t priority;
    size_t key_bytes;
    size_t value_bytes;
    uint8_t data[]; /* key, value */
};

struct treap {
    uint32_t references;
    uint64_t bytes; /* of this subtree */
    struct entry *entry;
    struct treap *left;
    struct treap *right;
};

static struct entry *entry_new(struct slice key, struct slice value)
{
    struct entry *entry = mem_alloc(sizeof *entry + key.bytes + value.bytes);
    entry->references = 1;
    entry->priority = hash64_of(key);
    entry->key_bytes = key.bytes;
    entry->value_bytes = value.bytes;
    if (key.bytes > 0)
        memcpy(entry->data, key.data, key.bytes);
    if (value.bytes > 0)
        memcpy(entry->data + key.bytes, value.data, value.bytes);
    return entry;
}

static void entry_unref(struct entry *entry)
{
    assert(entry->references > 0);
    if (--entry->references == 0)
        mem_free(entry);
}

struct slice treap_key(const struct treap *node)
{
    return slice_of(node->entry->data, node->entry->key_bytes);
}

struct slice treap_value(const struct treap *node)
{
    return slice_of(node->entry->data + node->entry->key_bytes, node->entry->value_bytes);
}

uint64_t treap_bytes(const struct treap *root)
{
    return root == NULL ? 0 : root->bytes;
}

struct treap *treap_ref(struct treap *root)
{
    if (root != NULL)
        root->references++;
    return root;
}

void treap_unref(struct treap *root)
{
    if (root == NULL)
        return;
    assert(root->references > 0);
    if (--root->references > 0)
        return;
    treap_unref(root->left);
    treap_unref(root->right);
    entry_unref(root->entry);
    mem_free(root);
}

/* Takes the references to all three. */
static struct treap *node_new(struct entry *entry, struct treap *left, struct treap *right)
{
    struct treap *node = mem_new(struct treap);
    *node = (struct treap){
        .references = 1,
        .bytes = entry->key_bytes + entry->value_bytes + treap_bytes(left) + treap_bytes(right),
        .entry = entry,
        .left = left,
        .right = right,
    };
    return node;
}

/* A copy of `node` with other children, whose references are taken. */
static struct treap *with_children(const struct treap *node, struct treap *left,
                                   struct treap *right)
{
    node->entry->references++;
    return node_new(node->entry, left, right);
}

/* Keys < `key` and keys >= `key`, as two new roots. */
static void split(const struct treap *node, struct slice key, struct treap **out_left,
                  struct treap **out_right)
{
    if (node == NULL) {
        *out_left = NULL;
        *out_right = NULL;
        return;
    }
    struct treap *inner = NULL;
    if (slice_compare(treap_key(node), key) < 0) {
        split(node->right, key, &inner, out_right);
        *out_left = with_children(node, treap_ref(node->left), inner);
    } else {
        split(node->left, key, out_left, &inner);
        *out_right = with_children(node, inner, treap_ref(node->right));
    }
}

/* Takes both references; all keys of `left` are below those of `right`. */
static struct treap *merge(struct treap *left, struct treap *right)
{
    if (left == NULL || right == NULL)
        return left == NULL ? right : left;
    struct treap *top = NULL;
    if (left->entry->priority >= right->entry->priority) {
        top = with_children(left, treap_ref(left->left), merge(treap_ref(left->right), right));
        treap_unref(left);
    } else {
        top = with_children(right, merge(left, treap_ref(right->left)), treap_ref(right->right));
        treap_unref(right);
    }
    return top;
}

/* Takes the reference to `entry`. */
static struct treap *put(const struct treap *node, struct entry *entry)
{
    struct slice key = slice_of(entry->data, entry->key_bytes);
    /* A key that is there already has the same priority, hence is not below this node. */
    if (node == NULL || entry->priority > node->entry->priority) {
        struct treap *left = NULL;
        struct treap *right = NULL;
        split(node, key, &left, &right);
        return node_new(entry, left, right);
    }
    int order = slice_compare(key, treap_key(node));
    if (order == 0)
        return node_new(entry, treap_ref(node->left), treap_ref(node->right));
    if (order < 0)
        return with_children(node, put(node->left, entry), treap_ref(node->right));
    return with_children(node, treap_ref(node->left), put(node->right, entry));
}

struct treap *treap_put(struct treap *root, struct slice key, struct slice value)
{
    struct treap *changed = put(root, entry_new(key, value));
    treap_unref(root);
    return changed;
}

/* `key` is there. */
static struct treap *without(const struct treap *node, struct slice key)
{
    int order = slice_compare(key, treap_key(node));
    if (order == 0)
        return merge(treap_ref(node->left), treap_ref(node->right));
    if (order < 0)
        return with_children(node, without(node->left, key), treap_ref(node->right));
    return with_children(node, treap_ref(node->left), without(node->right, key));
}

struct treap *treap_delete(struct treap *root, struct slice key)
{
    if (treap_find(root, key) == NULL)
        return root;
    struct treap *changed = without(root, key);
    treap_unref(root);
    return changed;
}

struct treap *treap_delete_range(struct treap *root, struct slice from, struct slice to)
{
    assert(slice_compare(from, to) <= 0);
    struct treap *below = NULL;
    struct treap *rest = NULL;
    struct treap *within = NULL;
    struct treap *above = NULL;
    split(root, from, &below, &rest);
    split(rest, to, &within, &above);
    treap_unref(root);
    treap_unref(rest);
    treap_unref(within);
    return merge(below, above);
}

const struct treap *treap_at_or_after(const struct treap *root, struct slice key)
{
    const struct treap *best = NULL;
    for (const struct treap *node = root; node != NULL;) {
        if (slice_compare(treap_key(node), key) >= 0) {
            best = node;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    return best;
}

const struct treap *treap_find(const struct treap *root, struct slice key)
{
    const struct treap *node = treap_at_or_after(root, key);
    return node != NULL && slice_equal(treap_key(node), key) ? node : NULL;
}

const struct treap *treap_after(const struct treap *root, struct slice key)
{
    const struct treap *best = NULL;
    for (const struct treap *node = root; node != NULL;) {
        if (slice_compare(treap_key(node), key) > 0) {
            best = node;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    return best;
}

const struct treap *treap_before(const struct treap *root, struct slice key)
{
    const struct treap *best = NULL;
    for (const struct treap *node = root; node != NULL;) {
        if (slice_compare(treap_key(node), key) < 0) {
            best = node;
            node = node->right;
        } else {
            node = node->left;
        }
    }
    return best;
}
