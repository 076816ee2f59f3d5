#include "bench/wire.h"

#include "proto/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

/* Sources are in networks of their own (/24), since limits of handshakes go by network. */
enum { FIRST_SOURCE = 0x7f010001 /* 127.1.0.1 */, SOURCE_STEP = 256, HOST_MAX = 64 };

bool wire_target_parse(struct wire_target *out, const char *text)
{
    const char *colon = strrchr(text, ':');
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    char host[HOST_MAX] = "";

    if (colon == NULL || (size_t)(colon - text) >= sizeof host) {
        return false;
    }
    memcpy(host, text, (size_t)(colon - text));
    long port = strtol(colon + 1, NULL, 10);
    if (port <= 0 || port > UINT16_MAX) {
        return false;
    }
    v4.sin_port = v6.sin6_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(&out->address, &v4, sizeof v4);
        out->address_size = sizeof v4;
        return true;
    }
    if (host[0] != '[' || host[strlen(host) - 1] != ']') {
        return false;
    }
    host[strlen(host) - 1] = '\0';
    memcpy(&out->address, &v6, sizeof v6);
    out->address_size = sizeof v6;
    if (inet_pton(AF_INET6, host + 1, &v6.sin6_addr) != 1) {
        return false;
    }
    memcpy(&out->address, &v6, sizeof v6);
    return true;
}

static bool bind_source(int fd, const struct wire_target *target, uint32_t number)
{
    const int on = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};

    if (target->n_sources == 0) {
        return true;
    }
    source.sin_addr.s_addr = htonl(FIRST_SOURCE + number % target->n_sources * SOURCE_STEP);
    /* The port is chosen at connect, so that one may serve many destinations. */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    return bind(fd, (const struct sockaddr *)&source, sizeof source) == 0;
}

static bool start_tls(struct wire *wire, const struct wire_target *target, const char *server)
{
    if (target->tls == NULL) {
        return true;
    }
    char *name = (char *)(uintptr_t)server; /* OpenSSL only reads it */
    wire->ssl = SSL_new(target->tls);
    CHECK(wire->ssl != NULL);
    SSL_set_connect_state(wire->ssl);
    return SSL_set_fd(wire->ssl, wire->fd) == 1 && SSL_set_tlsext_host_name(wire->ssl, name) == 1;
}

bool wire_open(struct wire *wire, const struct wire_target *target, const char *name,
               uint32_t number, int epoll_fd, void *what)
{
    const int on = 1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = what};

    *wire = (struct wire){.state = WIRE_CONNECTING};
    wire->fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (wire->fd < 0) {
        wire->state = WIRE_SHUT;
        return false;
    }
    setsockopt(wire->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    bool is_begun =
        bind_source(wire->fd, target, number) && start_tls(wire, target, name) &&
        (connect(wire->fd, (const struct sockaddr *)&target->address, target->address_size) == 0 ||
         errno == EINPROGRESS) &&
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wire->fd, &event) == 0;
    if (!is_begun) {
        wire_close(wire);
    }
    return is_begun;
}

void wire_close(struct wire *wire)
{
    if (wire->state != WIRE_SHUT) {
        SSL_free(wire->ssl);
        close(wire->fd);
        *wire = (struct wire){0};
    }
}

static enum wire_result result_of(const struct wire *wire, int n)
{
    int why = SSL_get_error(wire->ssl, n);

    ERR_clear_error();
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? WIRE_AGAIN : WIRE_CLOSED;
}

static enum wire_result connected(const struct wire *wire)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    int error = 0;
    socklen_t error_size = sizeof error;

    if (getsockopt(wire->fd, SOL_SOCKET, SO_ERROR, &error, &error_size) != 0 || error != 0) {
        return WIRE_CLOSED;
    }
    return getpeername(wire->fd, (struct sockaddr *)&peer, &size) == 0 ? WIRE_OK : WIRE_AGAIN;
}

enum wire_result wire_advance(struct wire *wire)
{
    enum wire_result result = WIRE_OK;

    if (wire->state == WIRE_CONNECTING) {
        result = connected(wire);
        if (result == WIRE_OK) {
            wire->state = wire->ssl != NULL ? WIRE_SHAKING : WIRE_OPEN;
        }
    }
    if (wire->state == WIRE_SHAKING) {
        int n = SSL_do_handshake(wire->ssl);
        result = n == 1 ? WIRE_OK : result_of(wire, n);
        if (result == WIRE_OK) {
            wire->state = WIRE_OPEN;
        }
    }
    return result;
}

enum wire_result wire_read(size_t *n, struct wire *wire, void *data, size_t size)
{
    *n = 0;
    if (wire->ssl != NULL) {
        int got = SSL_read_ex(wire->ssl, data, size, n);
        return got == 1 ? WIRE_OK : result_of(wire, got);
    }
    ssize_t got = recv(wire->fd, data, size, 0);
    if (got <= 0) {
        return got < 0 && errno == EAGAIN ? WIRE_AGAIN : WIRE_CLOSED;
    }
    *n = (size_t)got;
    return WIRE_OK;
}

enum wire_result wire_write(size_t *n, struct wire *wire, const void *data, size_t size)
{
    *n = 0;
    if (wire->ssl != NULL) {
        int put = SSL_write_ex(wire->ssl, data, size, n);
        return put == 1 ? WIRE_OK : result_of(wire, put);
    }
    ssize_t put = send(wire->fd, data, size, MSG_NOSIGNAL);
    if (put < 0) {
        return errno == EAGAIN ? WIRE_AGAIN : WIRE_CLOSED;
    }
    *n = (size_t)put;
    return WIRE_OK;
}
