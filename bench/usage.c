#include "bench/usage.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PATH_SIZE = 320, LINE_SIZE = 256 };

static uint64_t cpu_of_thread(uint64_t pid, const char *thread)
{
    char path[PATH_SIZE];
    uint64_t ns = 0;

    snprintf(path, sizeof path, "/proc/%" PRIu64 "/task/%s/schedstat", pid, thread);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%" SCNu64, &ns) != 1) { /* NOLINT(cert-err34-c): the kernel's own */
            ns = 0;
        }
        fclose(file);
    }
    return ns;
}

static uint64_t rss_of(uint64_t pid)
{
    char path[PATH_SIZE];
    char line[LINE_SIZE];
    uint64_t kib = 0;

    snprintf(path, sizeof path, "/proc/%" PRIu64 "/status", pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmRSS: %" SCNu64, &kib) == 1) { /* NOLINT(cert-err34-c): likewise */
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib * 1024;
}

void usage_of(struct usage *out, uint64_t pid)
{
    char path[PATH_SIZE];

    *out = (struct usage){0};
    snprintf(path, sizeof path, "/proc/%" PRIu64 "/task", pid);
    DIR *threads = opendir(path);
    if (threads == NULL) {
        return;
    }
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): of a folder of our own */
    for (const struct dirent *entry; (entry = readdir(threads)) != NULL;) {
        if (entry->d_name[0] != '.') {
            out->cpu_ns += cpu_of_thread(pid, entry->d_name);
        }
    }
    closedir(threads);
    out->rss_bytes = rss_of(pid);
}
