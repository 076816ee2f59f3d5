/* An HTTP server, 1.1 and 2: what a handler sees is the same for both, and everything is bounded.
 */
#pragma once

#include "base/err.h"
#include "net/http.h"
#include "net/loop.h"
#include "proto/own.h"
#include "proto/reject.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct http_listener;
struct http_transport;
struct tls_context;

/* One request in flight. It is over, and not to be touched any more, once http_respond_end,
 * http_respond_reject or http_respond_cut has been called, or on_abort has: no callback follows. */
struct http_exchange {
    void *user;                             /* for the handler's own use; NULL at first */
    void *arg;                              /* the listener's */
    const struct http_transport *transport; /* what carries it; for net/ alone */
};

/* Any of them may respond, even end the response. A response that ends before the request did
 * closes the connection. */
struct http_server_ops {
    /* The head stays valid until the exchange is over. */
    void (*on_head)(struct http_exchange *ex, const struct http_head *head);
    void (*on_body)(struct http_exchange *ex, struct span bytes); /* valid for the call */
    void (*on_end)(struct http_exchange *ex);
    void (*on_drained)(struct http_exchange *ex); /* all output was handed to the kernel */
    void (*on_abort)(struct http_exchange *ex);   /* the peer is gone, or too slow */
    /* May be NULL. Counts what the server itself refused, before or after on_head. */
    void (*on_refused)(void *arg, enum reject why);
};

/* Starts the response; headers are copied. Framing and Connection headers among them are left out:
 * the server writes its own. content_length -1: chunked, or up to the close for HTTP/1.0. */
void http_respond_head(struct http_exchange *ex, unsigned status, const struct http_header *headers,
                       size_t n_headers, int64_t content_length);
/* Copied; dropped where the response has no body (HEAD, 204, 304). */
void http_respond_body(struct http_exchange *ex, struct span bytes);
void http_respond_end(struct http_exchange *ex);

/* A whole response with its body. */
void http_respond(struct http_exchange *ex, unsigned status, const struct http_header *headers,
                  size_t n_headers, struct span body);

/* Answers with the row's status and a Matrix error, then closes; only cuts if a response had begun.
 */
void http_respond_reject(struct http_exchange *ex, enum reject why);

/* Closes at once, so that the peer sees the response is incomplete. */
void http_respond_cut(struct http_exchange *ex);

/* Stops reading from the peer; LOOP_SCRATCH_SIZE bytes of body and on_end may still come. While
 * paused the peer's time for the body does not run. */
void http_read_pause(struct http_exchange *ex);
void http_read_resume(struct http_exchange *ex);

/* Bytes of response that wait for the peer. Above HTTP_OUTPUT_MAX the connection is cut; one of
 * HTTP/2 already when those of all its streams are a quarter of that. */
size_t http_output_size(const struct http_exchange *ex);

/* True if enough waits: pause the source, go on at on_drained. */
bool http_output_is_full(const struct http_exchange *ex);
enum { HTTP_OUTPUT_MAX = 32 << 20 };

/* The response, not begun yet, will say Connection: close; in HTTP/2 no request follows those that
 * are under way. */
void http_close_after(struct http_exchange *ex);

/* Whether the certificate that the peer was shown has the host's name ("host:port" too); true in
 * cleartext. */
bool http_tls_covers(const struct http_exchange *ex, struct span host);

/* The one that a PROXY header said, else the socket's. IPv4 as ::ffff:a.b.c.d; :: on a Unix socket.
 */
struct in6_addr http_peer_address(const struct http_exchange *ex);

/* What the operator's numbers are; all in ms unless said. Source: limits.md, "HTTP/1.1". */
struct http_limits {
    uint32_t tls_ms;     /* from accept to the end of the handshake */
    uint32_t headers_ms; /* from accept, later from a request's first byte */
    uint32_t body_ms;    /* and as long as the body would take at body_bytes_per_s */
    uint32_t body_bytes_per_s;
    uint32_t idle_ms;
    uint32_t write_ms;     /* without progress */
    uint32_t requests_max; /* of one connection */
};
extern const struct http_limits http_limits_default;

enum {
    /* A handshake costs about 1 ms with RSA 2048, so that one network takes a twentieth of a core.
     */
    HANDSHAKES_PER_S = 50,
    /* At once: a provider with hundreds of homeservers behind one network comes back after our
     * restart. */
    HANDSHAKES_BURST = 500,
};

struct http_listener_options {
    const char *address;   /* "0.0.0.0", "::1" */
    uint16_t port;         /* 0: any free one */
    const char *unix_path; /* instead of both; what stood there is removed; mode 0660 */
    bool reuseport;
    bool only_http1;                  /* in cleartext; with TLS, ALPN offers both */
    struct tls_context *tls;          /* NULL: cleartext; the listener holds a reference */
    const struct http_limits *limits; /* NULL: the default; copied */
    /* Whether a peer may begin with a PROXY header; NULL: none may. Others are closed when their
     * network begins more TLS handshakes than HANDSHAKES_BURST and HANDSHAKES_PER_S. */
    bool (*is_trusted_proxy)(void *trust, const struct in6_addr *address);
    void *trust;
};

MUST_CHECK enum err http_listener_open(struct http_listener **out, struct loop *loop,
                                       const struct http_listener_options *options,
                                       const struct http_server_ops *ops, void *arg);
uint16_t http_listener_port(const struct http_listener *listener);
size_t http_listener_n_connections(const struct http_listener *listener);

/* For connections that are accepted from then on. */
void http_listener_set_tls(struct http_listener *listener, struct tls_context *tls);

/* Accepts no more, closes what is idle, and every other connection after its response. */
void http_listener_drain(struct http_listener *listener);

/* Cuts what is left, with on_abort for each request in flight. */
void http_listener_free(struct http_listener *listener);
