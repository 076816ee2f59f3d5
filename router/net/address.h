/* Which addresses may be dialled because a name out there says so. */
#pragma once

#include <netinet/in.h>

#include <stdbool.h>

struct sockaddr;

/* IPv4 becomes ::ffff:a.b.c.d; :: for any other family. */
struct in6_addr address_of(const struct sockaddr *address);

/* False for loopback, private, link-local, shared, documentation, multicast and other special
 * ranges, also inside IPv4-mapped, NAT64 (64:ff9b::/96) and 6to4 addresses. Source: the default of
 * Synapse's ip_range_blacklist. */
bool address_is_public(const struct in6_addr *address);
