#include "net/http_listener.h"

#include "net/http_connection.h"

#include "base/clock.h"
#include "base/network_limit.h"
#include "net/address.h"
#include "net/tls.h"
#include "proto/check.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BACKLOG = 1024,        /* connections; the kernel's somaxconn caps it */
    ACCEPTS_AT_ONCE = 32,  /* before others have their turn */
    RETRY_MS = 100,        /* of accept, when descriptors have run out */
    HANDSHAKE_SETS = 1024, /* of networks; 224 KiB in all */
};

const struct http_limits http_limits_default = {
    .tls_ms = 5000,
    .headers_ms = 10000,
    .body_ms = 10000,
    .body_bytes_per_s = 64 * 1024,
    .idle_ms = 60000,
    .write_ms = 30000,
    .requests_max = 10000,
};

union any_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};

bool http_listener_trusts(const struct http_listener *listener, const struct in6_addr *peer)
{
    return listener->is_trusted_proxy != NULL && listener->is_trusted_proxy(listener->trust, peer);
}

bool http_listener_admits(struct http_listener *listener, const struct in6_addr *peer)
{
    if (listener->tls == NULL || http_listener_trusts(listener, peer) ||
        network_limit_take(listener->handshakes, peer, clock_monotonic_us())) {
        return true;
    }
    http_listener_count_refused(listener, REJECT_HANDSHAKES);
    return false;
}

static void accept_peer(struct http_listener *listener, int fd, struct in6_addr peer)
{
    if (http_listener_admits(listener, &peer)) {
        http_connection_accept(listener, fd, peer);
    } else {
        close(fd);
    }
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
    struct http_listener *listener = arg;

    (void)what;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        union any_address address = {.any = {.sa_family = AF_UNSPEC}};
        socklen_t size = sizeof address;
        int peer = accept4(fd, &address.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (peer >= 0) {
            accept_peer(listener, peer, address_of(&address.any));
        } else if (errno == EAGAIN) {
            return;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            event_del(listener->acceptable);
            timer_start(&listener->retry, RETRY_MS);
            return;
        }
    }
}

static void on_retry(void *arg)
{
    struct http_listener *listener = arg;

    CHECK(event_add(listener->acceptable, NULL) == 0);
}

static socklen_t parse_address(union any_address *out, const char *text, uint16_t port)
{
    *out = (union any_address){.any = {.sa_family = AF_UNSPEC}};
    if (inet_pton(AF_INET, text, &out->in.sin_addr) == 1) {
        out->in.sin_family = AF_INET;
        out->in.sin_port = htons(port);
        return sizeof out->in;
    }
    if (inet_pton(AF_INET6, text, &out->in6.sin6_addr) == 1) {
        out->in6.sin6_family = AF_INET6;
        out->in6.sin6_port = htons(port);
        return sizeof out->in6;
    }
    return 0;
}

static socklen_t unix_address(union any_address *out, const char *path)
{
    *out = (union any_address){.any = {.sa_family = AF_UNIX}};
    if (strlen(path) >= sizeof out->un.sun_path) {
        return 0;
    }
    memcpy(out->un.sun_path, path, strlen(path));
    return sizeof out->un;
}

/* -1, and errno says why. */
static int listen_at(const union any_address *address, socklen_t size, bool reuseport)
{
    const int on = 1;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->any.sa_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    if ((reuseport && address->any.sa_family != AF_UNIX &&
         setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) ||
        bind(fd, &address->any, size) != 0 || listen(fd, BACKLOG) != 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

static enum err open_socket(struct http_listener *listener,
                            const struct http_listener_options *options)
{
    union any_address address;
    const char *shown = options->unix_path != NULL ? options->unix_path : options->address;
    socklen_t size = options->unix_path != NULL
                         ? unix_address(&address, options->unix_path)
                         : parse_address(&address, options->address, options->port);

    if (size == 0) {
        return err_raise(ERR_CONFIG, "not an address to listen on: %s", shown);
    }
    if (options->unix_path != NULL) {
        unlink(options->unix_path);
    }
    listener->fd = listen_at(&address, size, options->reuseport);
    if (listener->fd < 0 ||
        (options->unix_path != NULL &&
         chmod(options->unix_path, S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP) != 0)) {
        return err_raise(ERR_CONFIG, "cannot listen on %s: %s", shown, strerrordesc_np(errno));
    }
    CHECK(getsockname(listener->fd, &address.any, &(socklen_t){sizeof address}) == 0);
    listener->port = address.any.sa_family == AF_INET    ? ntohs(address.in.sin_port)
                     : address.any.sa_family == AF_INET6 ? ntohs(address.in6.sin6_port)
                                                         : 0;
    return ERR_OK;
}

enum err http_listener_open(struct http_listener **out, struct loop *loop,
                            const struct http_listener_options *options,
                            const struct http_server_ops *ops, void *arg)
{
    struct http_listener *listener = calloc(1, sizeof *listener);

    CHECK(listener != NULL);
    *listener = (struct http_listener){
        .loop = loop,
        .ops = ops,
        .arg = arg,
        .limits = options->limits != NULL ? *options->limits : http_limits_default,
        .tls = tls_context_ref(options->tls),
        .is_trusted_proxy = options->is_trusted_proxy,
        .trust = options->trust,
        .only_http1 = options->only_http1,
        .handshakes = network_limit_new(HANDSHAKE_SETS, HANDSHAKES_PER_S, HANDSHAKES_BURST),
        .unix_path = options->unix_path == NULL ? NULL : strdup(options->unix_path),
        .fd = -1,
    };
    list_init(&listener->connections);
    timer_init(&listener->retry, loop, on_retry, listener);
    enum err err = open_socket(listener, options);
    if (err != ERR_OK) {
        http_listener_free(listener);
        return err;
    }
    listener->acceptable =
        event_new(loop_base(loop), listener->fd, EV_READ | EV_PERSIST, on_acceptable, listener);
    CHECK(listener->acceptable != NULL && event_add(listener->acceptable, NULL) == 0);
    *out = listener;
    return ERR_OK;
}

uint16_t http_listener_port(const struct http_listener *listener)
{
    return listener->port;
}

size_t http_listener_n_connections(const struct http_listener *listener)
{
    return listener->n_connections;
}

void http_listener_set_tls(struct http_listener *listener, struct tls_context *tls)
{
    tls_context_ref(tls);
    tls_context_free(listener->tls);
    listener->tls = tls;
}

void http_listener_add(struct http_listener *listener, struct http_served *served)
{
    list_append(&listener->connections, &served->link);
    listener->n_connections++;
}

void http_listener_remove(struct http_listener *listener, struct http_served *served)
{
    list_remove(&served->link);
    listener->n_connections--;
}

uint64_t http_body_allowed_us(const struct http_limits *limits, uint64_t size)
{
    return limits->body_ms * UINT64_C(1000) + size / limits->body_bytes_per_s * UINT64_C(1000000) +
           size % limits->body_bytes_per_s * UINT64_C(1000000) / limits->body_bytes_per_s;
}

void http_listener_count_refused(const struct http_listener *listener, enum reject why)
{
    if (listener->ops->on_refused != NULL) {
        listener->ops->on_refused(listener->arg, why);
    }
}

static void stop_accepting(struct http_listener *listener)
{
    timer_fini(&listener->retry);
    if (listener->acceptable != NULL) {
        event_free(listener->acceptable);
        listener->acceptable = NULL;
    }
    if (listener->fd >= 0) {
        close(listener->fd);
        listener->fd = -1;
        if (listener->unix_path != NULL) {
            unlink(listener->unix_path);
        }
    }
}

void http_listener_drain(struct http_listener *listener)
{
    struct link *link = list_first(&listener->connections);

    listener->is_draining = true;
    stop_accepting(listener);
    while (link != NULL) {
        struct link *next = list_next(&listener->connections, link);
        struct http_served *served = LIST_ENTRY(link, struct http_served, link);
        served->drain(served);
        link = next;
    }
}

void http_listener_free(struct http_listener *listener)
{
    struct link *link;

    if (listener == NULL) {
        return;
    }
    stop_accepting(listener);
    while ((link = list_first(&listener->connections)) != NULL) {
        struct http_served *served = LIST_ENTRY(link, struct http_served, link);
        served->abort(served);
    }
    tls_context_free(listener->tls);
    network_limit_free(listener->handshakes);
    free(listener->unix_path);
    free(listener);
}
