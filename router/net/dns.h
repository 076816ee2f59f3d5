/* DNS on a loop: addresses and SRV records (c-ares). */
#pragma once

#include "base/err.h"
#include "net/loop.h"
#include "proto/own.h"
#include "proto/srv.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

struct dns;
struct dns_query;

enum { DNS_ADDRESSES_MAX = 8 /* of one host; the rest is left out */ };

struct dns_addresses {
    size_t n;                                /* 0: there is none, or no answer */
    struct in6_addr list[DNS_ADDRESSES_MAX]; /* each once; IPv4 is ::ffff:a.b.c.d */
};

/* `servers` is "127.0.0.1:53,[::1]:53"; NULL: the system's. ERR_CONFIG: it is no such list. */
MUST_CHECK enum err dns_new(struct dns **out, struct loop *loop, const char *servers);
void dns_free(struct dns *dns); /* no query may be left */

/* A and AAAA. The host is taken as it is, without the system's search domains; the system's hosts
 * file counts. `done` runs once, from the loop, at the latest after timeout_ms, and the answer is
 * valid for the call. */
void dns_find_addresses(struct dns_query **out, struct dns *dns, const char *host,
                        uint32_t timeout_ms,
                        void (*done)(void *arg, const struct dns_addresses *addresses), void *arg);

/* Likewise. NULL: there was no answer; without records: there is none of that name. */
void dns_find_srv(struct dns_query **out, struct dns *dns, const char *name, uint32_t timeout_ms,
                  void (*done)(void *arg, const struct srv_answer *answer), void *arg);

void dns_cancel(struct dns_query *query); /* `done` does not come */
