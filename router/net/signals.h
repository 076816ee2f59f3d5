/* Signals as events of a loop. */
#pragma once

#include "base/err.h"
#include "net/loop.h"
#include "proto/own.h"

#include <stddef.h>

struct signals;

/* Blocks the signals in this thread, and so in those it starts from now on; on_signal runs on the
 * loop, once for each that came. */
MUST_CHECK enum err signals_new(struct signals **out, struct loop *loop, const int *numbers,
                                size_t n, void (*on_signal)(void *arg, int number), void *arg);
void signals_free(struct signals *signals); /* they stay blocked; NULL is fine */
