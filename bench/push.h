/* Gives every simulated user's list to a router, through its admin socket. */
#pragma once

#include "bench/lists.h"

#include <stdint.h>

/* The list of version - 1, if there is one, and then that of `version`, so that a claim of the
 * former is stale. To be done once in a router's life: a list that was true twice in the past is
 * never called stale. Dies if one is refused. Returns how many were pushed. */
uint64_t push_lists(const char *socket_path, const struct lists *lists, uint32_t version);
