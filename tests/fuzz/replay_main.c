/* Runs a fuzz target over every file of a corpus folder, where libFuzzer is not linked in. */
#include "proto/check.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 1 << 20 /* bytes */ };

static void replay(const char *folder, const char *name, uint8_t *buffer)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rbe");
    CHECK(file != NULL);
    size_t size = fread(buffer, 1, INPUT_MAX, file);
    fclose(file);
    LLVMFuzzerTestOneInput(buffer, size);
}

int main(int argc, char **argv)
{
    struct dirent **entries = NULL;
    uint8_t *buffer = malloc(INPUT_MAX);
    int n = argc == 2 ? scandir(argv[1], &entries, NULL, alphasort) : -1;
    int n_replayed = 0;

    CHECK(buffer != NULL);
    for (int i = 0; i < n; i++) {
        if (entries[i]->d_type == DT_REG) {
            replay(argv[1], entries[i]->d_name, buffer);
            n_replayed++;
        }
        free(entries[i]);
    }
    free(entries);
    free(buffer);
    printf("%d inputs replayed\n", n_replayed);
    return n_replayed > 0 ? 0 : 1;
}
