/* Runs a fuzz target over the files of the folders given: the corpus as a regression test, for
 * compilers without libFuzzer. */
#include "base/mem.h"
#include <assert.h>
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { INPUT_BYTES_MAX = 1 << 20 };

static void replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return; /* a folder, or gone since it was listed */
    uint8_t *data = mem_alloc(INPUT_BYTES_MAX);
    size_t bytes = fread(data, 1, INPUT_BYTES_MAX, file);
    /* An exact allocation, so that the sanitizer sees one byte too far. */
    uint8_t *exact = mem_copy(data, bytes);
    mem_free(data);
    fclose(file);
    LLVMFuzzerTestOneInput(exact, bytes);
    mem_free(exact);
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        DIR *directory = opendir(argv[i]);
        if (directory == NULL) {
            fprintf(stderr, "cannot open %s\n", argv[i]);
            return 1;
        }
        for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
            if (entry->d_name[0] == '.')
                continue;
            AUTO_STRING path = mem_format("%s/%s", argv[i], entry->d_name);
            replay_file(path);
            count++;
        }
        closedir(directory);
    }
    printf("replayed %u inputs\n", count);
    return 0;
}
