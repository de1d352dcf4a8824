/* Heap memory that is either there or ends the process. */
#include "base/mem.h"
#include "heap.h"
#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void heap_exhausted(size_t bytes)
{
    /* Not through the log: its sink may want memory as well. */
    fprintf(stderr, "out of memory bytes=%zu\n", bytes);
    abort();
}

void *heap_aligned(size_t align_bytes, size_t bytes)
{
    assert(bytes > 0);
    assert(bytes % align_bytes == 0);
    void *memory = aligned_alloc(align_bytes, bytes);
    if (memory == NULL)
        heap_exhausted(bytes);
    return memory;
}

void *mem_alloc(size_t bytes)
{
    return mem_alloc_array(1, bytes);
}

void *mem_alloc_array(size_t count, size_t bytes)
{
    size_t total = 0;
    if (__builtin_mul_overflow(count, bytes, &total))
        heap_exhausted(SIZE_MAX);
    void *memory = calloc(1, total == 0 ? 1 : total);
    if (memory == NULL)
        heap_exhausted(total);
    return memory;
}

void *mem_resize(void *pointer, size_t bytes)
{
    /* realloc to 0 frees: keep at least one byte so that the result is never NULL. */
    void *memory = realloc(pointer, bytes == 0 ? 1 : bytes);
    if (memory == NULL)
        heap_exhausted(bytes);
    return memory;
}

void *mem_copy(const void *data, size_t bytes)
{
    assert(bytes < SIZE_MAX);
    char *copy = malloc(bytes + 1);
    if (copy == NULL)
        heap_exhausted(bytes);
    if (bytes > 0)
        memcpy(copy, data, bytes);
    copy[bytes] = '\0';
    return copy;
}

char *mem_format(const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0)
        heap_exhausted(0);
    return text;
}

void mem_free(void *pointer)
{
    free(pointer);
}

void mem_auto_string(char **pointer)
{
    mem_free(*pointer);
}
