/* See vacant.h. */
#include "vacant.h"

#include "base/mem.h"

#include <stdio.h>

enum { NAMES_BYTES_MAX = 1 << 20 };

/* Errors count as "not vacant": whoever uses the directory says what is wrong. */
static bool is_vacant(struct io *io, const char *directory)
{
    AUTO_VALUE(bytes) names = {.max = NAMES_BYTES_MAX};
    enum err err = io_list_directory(io, directory, &names);
    return err == ERR_NOT_FOUND || (err == OK && names.bytes == 0);
}

uint32_t vacant_drop(struct io *io, char **directories, uint32_t count)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_vacant(io, directories[i])) {
            directories[left++] = directories[i];
            continue;
        }
        fprintf(stderr, "shale: %s is empty and left out\n", directories[i]);
        mem_free(directories[i]);
    }
    return left;
}
