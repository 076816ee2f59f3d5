/* Which addresses may be dialled because a name out there says so. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"

#include <netinet/in.h>

#include <stdbool.h>

struct sockaddr;

/* IPv4 becomes ::ffff:a.b.c.d; :: for any other family. */
struct in6_addr address_of(const struct sockaddr *address);

/* "192.0.2.1" also for ::ffff:192.0.2.1; "2001:db8::1". */
struct span address_text(char out[INET6_ADDRSTRLEN], const struct in6_addr *address);

/* True if the text is an IPv4 or IPv6 address, without brackets. Of the many ways to write the
 * former only a.b.c.d counts. */
MUST_CHECK bool address_parse(struct in6_addr *out, const char *text);

/* False for loopback, private, link-local, shared, documentation, multicast and other special
 * ranges, also inside IPv4-mapped, NAT64 (64:ff9b::/96) and 6to4 addresses, for all of Teredo and
 * for what lies outside 2000::/3. Source: the default of Synapse's ip_range_blacklist; IANA's
 * registries of special addresses and of IPv6 address space. */
bool address_is_public(const struct in6_addr *address);
