/* Scope-bound ownership.
 *
 * A local that owns is declared `AUTO(type) name = ...;` and released when its scope ends. TAKE
 * moves it out. DEFINE_AUTO(type, release) stands once in the header of each owning type. A
 * release never waits and never fails; releasing NULL is a no-op. */
#pragma once
#include <stddef.h>

#define DEFINE_AUTO(type, release)                                                                 \
    static inline void auto_##type(struct type **pointer)                                          \
    {                                                                                              \
        if (*pointer != NULL)                                                                      \
            release(*pointer);                                                                     \
    }
#define AUTO(type) __attribute__((cleanup(auto_##type))) struct type *
#define TAKE(pointer)                                                                              \
    __extension__({                                                                                \
        __auto_type taken_ = (pointer);                                                            \
        (pointer) = NULL;                                                                          \
        taken_;                                                                                    \
    })

/* For structs held by value that own memory: AUTO_VALUE(bytes) b = {...}; calls
 * bytes_deinit(&b). */
#define AUTO_VALUE(type) __attribute__((cleanup(type##_deinit))) struct type
