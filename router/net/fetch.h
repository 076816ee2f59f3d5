/* One-off GET requests to other servers over TLS, whole answers in memory (libcurl). */
#pragma once

#include "base/err.h"
#include "base/metrics.h"
#include "net/dns.h"
#include "net/http.h"
#include "net/loop.h"
#include "proto/own.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct fetch;
struct fetcher;

/* `dns` is borrowed; it may be NULL if every fetch is internal or has a connect_to. */
MUST_CHECK enum err fetcher_new(struct fetcher **out, struct loop *loop, struct dns *dns);
void fetcher_free(struct fetcher *fetcher); /* no fetch may be left */

enum {
    FETCH_DIALS_MAX = 8,        /* addresses of one fetch, or of those that share a fetch_dials */
    FETCH_HEAD_MAX = 64 * 1024, /* bytes of an answer's headers, with those before it */
};

/* Addresses that were dialled: none is dialled twice, whatever the port. */
struct fetch_dials {
    size_t n;
    struct in6_addr list[FETCH_DIALS_MAX];
};

struct fetch_request {
    const char *url;                   /* https://, or http:// if is_internal */
    const struct http_header *headers; /* go to whoever a redirect leads to, too */
    size_t n_headers;
    uint32_t timeout_ms; /* in all */
    uint32_t max_bytes;  /* of the body */
    /* Where to connect, a name or an address without brackets, the certificate being checked for
     * the URL's host; NULL: as the URL says. Not for redirects. */
    const char *dial_host;
    uint16_t dial_port;
    const char *connect_to; /* "host:port" to dial in place of all that, redirects too, for tests */
    struct fetch_dials *dials; /* borrowed, shared with other fetches; NULL: its own */
    const char *ca_file;       /* PEM; NULL: the system's */
    uint32_t max_redirects;    /* 0: a 3xx is the answer */
    bool is_internal;          /* any address may be dialled, and the system looks the host up */
    /* Asked for an address that is not public, as dialled; NULL: refused. */
    bool (*allow_address)(void *arg, const struct in6_addr *address);
    void *allow_arg;
};

/* Spans are valid for the call. */
struct fetch_answer {
    /* FETCH_FAILURE_NONE with a status and a body; or NO_ADDRESS, NOT_ALLOWED, UNREACHABLE, TLS,
     * TIMEOUT, TOO_LARGE (max_bytes, FETCH_HEAD_MAX), CLOSED or REDIRECT. */
    enum fetch_failure failure;
    struct span detail; /* what the TLS library says, or an address that may not be dialled */
    int status;         /* 0: none */
    struct span body;
    bool was_connected;                 /* somebody was there, however it went on */
    struct span cache_control, expires; /* headers; empty if there are none, or too long */
};

/* The request is copied, allow_arg borrowed. `done` runs once, from the loop. ERR_CONFIG: cannot be
 * sent, `done` never comes. */
MUST_CHECK enum err fetch_start(struct fetch **out, struct fetcher *fetcher,
                                const struct fetch_request *request,
                                void (*done)(void *arg, const struct fetch_answer *answer),
                                void *arg);
void fetch_cancel(struct fetch *fetch); /* `done` does not come; nothing happens for NULL */
