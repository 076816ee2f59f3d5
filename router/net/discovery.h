/* Where a Matrix server is to be reached: .well-known, SRV records, port 8448.
 * Source: server-server API, "Resolving server names". */
#pragma once

#include "base/err.h"
#include "net/fetch.h"
#include "net/loop.h"
#include "proto/ident.h"
#include "proto/own.h"
#include "proto/span.h"
#include "proto/srv.h"
#include "proto/writer.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DISCOVERY_MS = 6000, /* that it takes at most */
    DISCOVERY_WELL_KNOWN_MS = 4000,
    DISCOVERY_REDIRECTS_MAX = 5,
    DISCOVERY_NAMES_MAX = 10000, /* remembered */
};

/* A port of a host. The host is a DNS name, or an address without brackets. */
struct server_place {
    char host[IDENT_MAX + 1];
    uint16_t port;
};

struct server_route {
    char host_header[IDENT_MAX + 1]; /* a server name, perhaps with a port */
    char tls_name[IDENT_MAX + 1];    /* the certificate's and, unless it is an address, SNI's; an
                                        address has no brackets */
    bool is_address;                 /* tls_name is one */
    size_t n;                        /* at least 1 */
    struct server_place places[SRV_RECORDS_MAX]; /* to be tried in this order */
};

struct discovery;

/* All borrowed. */
struct discovery_options {
    struct loop *loop;
    struct dns *dns;
    struct fetcher *fetcher;
    /* As in struct fetch_request. */
    const char *ca_file, *connect_to;
    bool (*allow_address)(void *arg, const struct in6_addr *address);
    void *arg;
    /* For tests: monotonic, NULL: the clock's; 0: DISCOVERY_NAMES_MAX. */
    uint64_t (*now_us)(void *arg);
    size_t max_names;
};

struct discovery *discovery_new(const struct discovery_options *options);
void discovery_free(struct discovery *discovery); /* no wait may be left */

/* Inside something of the caller's that lives until on_done or discovery_cancel. */
struct discovery_wait {
    struct link link;
    struct loop_task task;
    struct discovery *discovery;
    char name[IDENT_MAX + 1];
    void (*on_done)(void *arg, const struct server_route *route);
    void *arg;
};

/* `server` is a valid server name, and copied. on_done runs once, from the loop, within
 * DISCOVERY_MS and a little; the route is valid for the call, NULL: the server says that there is
 * none. What was found is remembered as long as it may be, and asked for once however many wait. */
void discovery_find(struct discovery *discovery, struct discovery_wait *wait, struct span server,
                    void (*on_done)(void *arg, const struct server_route *route), void *arg);
void discovery_cancel(struct discovery_wait *wait); /* on_done does not come */

/* "https://NAME" and the path, then NUL. */
void server_route_write_url(struct writer *out, const struct server_route *route, struct span path);

/* Sets what of a request follows from one of the route's places and from the options; the URL, the
 * Host header and the limits are the caller's. The route is borrowed until the fetch is started. */
void discovery_fill_request(struct fetch_request *out, const struct discovery *discovery,
                            const struct server_route *route, size_t place);

size_t discovery_n_names(const struct discovery *discovery);

/* How long a .well-known is kept, in s. lifetime_s: as http_lifetime_s; chance: 0 to 255, for the
 * jitter. Source: the specification (24 h, at most 48); Synapse (at least 5 min, 10 % jitter). */
uint64_t discovery_keep_s(int64_t lifetime_s, uint8_t chance);

/* How long it is remembered that there is none. is_certain: somebody said so; else it was the
 * n_failures-th failure in a row, the first being 1. At most 1 h. */
uint64_t discovery_keep_failure_s(bool is_certain, unsigned n_failures, uint8_t chance);
