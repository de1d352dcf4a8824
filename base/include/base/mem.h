/* Heap memory. Running out stops the process, so callers have no failure branch. What a client can
 * make grow does not come from here but from a pool with a budget (base/buf.h,
 * runtime/budget.h). */
#pragma once
#include <stddef.h>

/* `bytes` zeroed bytes, at least one; release with mem_free. */
void *mem_alloc(size_t bytes);
/* `count` zeroed elements of `bytes` each; the product is checked. */
void *mem_alloc_array(size_t count, size_t bytes);
/* Grow or shrink; new bytes are not zeroed. `pointer` may be NULL. */
void *mem_resize(void *pointer, size_t bytes);
/* Copy of `bytes` bytes at `data`, with a NUL behind that is not counted. */
void *mem_copy(const void *data, size_t bytes);
/* printf into a fresh string; release with mem_free. */
char *mem_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
void mem_free(void *pointer);

#define mem_new(type) ((type *)mem_alloc(sizeof(type)))

/* A char pointer that owns: AUTO_STRING name = mem_format(...); */
void mem_auto_string(char **pointer);
#define AUTO_STRING __attribute__((cleanup(mem_auto_string))) char *
