/* How often a network may do what costs us: a token bucket for each /24 of IPv4 and /48 of IPv6, in
 * a table of fixed size. One thread's. */
#pragma once

#include "proto/own.h"

#include <netinet/in.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NETWORK_LIMIT_WAYS = 4, /* networks of a set, 56 bytes each */
};

struct network_limit;

/* Of n_sets sets of networks, each network with so many at once and so many a second. */
struct network_limit *network_limit_new(size_t n_sets, uint32_t per_s, uint32_t burst);
void network_limit_free(struct network_limit *limit); /* NULL is fine */

/* False: over the limit. In a full set a new network takes the place and what is left of the one
 * that has most left: who comes from many networks does not get a burst for each. */
MUST_CHECK bool network_limit_take(struct network_limit *limit, const struct in6_addr *address,
                                   uint64_t now_us);
