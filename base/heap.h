/* The two ways heap memory is obtained inside base: all others go through base/mem.h. */
#pragma once
#include <stddef.h>

/* Report that memory is out and stop the process. */
_Noreturn void heap_exhausted(size_t bytes);
/* `bytes` bytes (a multiple of `align_bytes`), not zeroed; release with free. Never NULL. */
void *heap_aligned(size_t align_bytes, size_t bytes);
