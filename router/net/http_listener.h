/* What a listener and its connections know of each other. For net/ alone. */
#pragma once

#include "base/list.h"
#include "net/http_server.h"

/* A connection as its listener has it, whichever HTTP it speaks. */
struct http_served {
    struct link link;
    void (*drain)(struct http_served *served); /* as http_listener_drain says */
    void (*abort)(struct http_served *served); /* closes at once, with on_abort where it is due */
};

struct http_listener {
    struct loop *loop;
    const struct http_server_ops *ops;
    void *arg;
    struct http_limits limits;
    struct tls_context *tls; /* a reference; NULL: cleartext */
    bool (*is_trusted_proxy)(void *trust, const struct in6_addr *address);
    void *trust;
    bool only_http1;
    struct network_limit *handshakes;
    char *unix_path;
    int fd;
    struct event *acceptable;
    struct timer retry; /* of accept, when descriptors have run out */
    struct list connections;
    size_t n_connections;
    uint16_t port;
    bool is_draining;
};

void http_listener_add(struct http_listener *listener, struct http_served *served);
void http_listener_remove(struct http_listener *listener, struct http_served *served);

/* Whether it may begin with a PROXY header. */
bool http_listener_trusts(const struct http_listener *listener, const struct in6_addr *peer);
/* False, and counted: too many handshakes from its network. Once for each connection whose peer is
 * known. */
MUST_CHECK bool http_listener_admits(struct http_listener *listener, const struct in6_addr *peer);
/* How long a peer may take for a body of that size, or one that has reached it. */
uint64_t http_body_allowed_us(const struct http_limits *limits, uint64_t size);

void http_listener_count_refused(const struct http_listener *listener, enum reject why);
