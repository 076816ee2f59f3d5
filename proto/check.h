/* CHECK aborts on a bug, in release builds too; it is never for input. */
#pragma once

#include "proto/own.h"

NORETURN void check_failed(const char *expression, const char *file, int line);

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            check_failed(#cond, __FILE__, __LINE__);                                               \
        }                                                                                          \
    } while (0)
