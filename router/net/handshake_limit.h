/* How many TLS handshakes a network may begin: a token bucket for each /24 of IPv4 and /48 of IPv6,
 * in a table of fixed size. One thread's. */
#pragma once

#include "proto/own.h"

#include <netinet/in.h>

#include <stdbool.h>
#include <stdint.h>

enum {
    /* A handshake costs about 1 ms with RSA 2048, so that one network takes a twentieth of a core.
     */
    HANDSHAKES_PER_S = 50,
    /* At once: a provider with hundreds of homeservers behind one network comes back after our
     * restart. */
    HANDSHAKES_BURST = 500,
    HANDSHAKE_SETS = 1024, /* of HANDSHAKE_WAYS networks each; 224 KiB in all */
    HANDSHAKE_WAYS = 4,
};

struct handshake_limit;

struct handshake_limit *handshake_limit_new(void);
void handshake_limit_free(struct handshake_limit *limit); /* NULL is fine */

/* False: over the limit. In a full set a new network takes the place and what is left of the one
 * that has most left: who comes from many networks does not get a burst for each. */
MUST_CHECK bool handshake_limit_take(struct handshake_limit *limit, const struct in6_addr *address,
                                     uint64_t now_us);
