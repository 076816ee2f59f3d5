/* What a process has used, from /proc. */
#pragma once

#include <stdint.h>

struct usage {
    uint64_t cpu_ns;    /* of all its threads that live */
    uint64_t rss_bytes; /* now */
};

/* All zero for a process that is not there. */
void usage_of(struct usage *out, uint64_t pid);
