/* One-off GET requests to other servers over TLS, whole answers in memory (libcurl). */
#pragma once

#include "base/err.h"
#include "net/http.h"
#include "net/loop.h"
#include "proto/own.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct fetch;
struct fetcher;

MUST_CHECK enum err fetcher_new(struct fetcher **out, struct loop *loop);
void fetcher_free(struct fetcher *fetcher); /* no fetch may be left */

struct fetch_request {
    const char *url; /* https:// or http:// */
    const struct http_header *headers;
    size_t n_headers;
    uint32_t timeout_ms;    /* in all */
    uint32_t max_bytes;     /* of the body */
    const char *connect_to; /* "host:port" to dial instead, the name being checked as it stands in
                               the URL; NULL: as the URL says */
    const char *ca_file;    /* PEM; NULL: the system's */
    uint32_t max_redirects; /* 0: a 3xx is the answer */
    bool allow_private;     /* any address may be dialled */
    /* Asked for an address that is not public, as dialled; NULL: refused. */
    bool (*allow_address)(void *arg, const struct in6_addr *address);
    void *allow_arg;
};

/* The request is copied, allow_arg borrowed. `done` runs once, from the loop: ERR_OK with a status
 * and a body, valid for the call; or ERR_TIMEOUT, ERR_FULL (max_bytes), ERR_TLS, ERR_CLOSED (no
 * connection, or no usable answer). ERR_CONFIG: cannot be sent, `done` never comes. */
MUST_CHECK enum err
fetch_start(struct fetch **out, struct fetcher *fetcher, const struct fetch_request *request,
            void (*done)(void *arg, enum err result, int status, struct span body), void *arg);
void fetch_cancel(struct fetch *fetch); /* `done` does not come */
