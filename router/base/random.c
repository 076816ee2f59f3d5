#include "base/random.h"

#include "proto/check.h"

#include <errno.h>
#include <sys/random.h>

void random_bytes(void *out, size_t size)
{
    char *at = out;

    while (size > 0) {
        ssize_t n = getrandom(at, size, 0);
        CHECK(n > 0 || errno == EINTR);
        if (n > 0) {
            at += n;
            size -= (size_t)n;
        }
    }
}
