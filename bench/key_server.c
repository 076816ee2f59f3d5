#include "bench/key_server.h"

#include "bench/tool.h"
#include "proto/check.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

enum {
    BACKLOG = 4096,           /* connections the kernel may hold for us */
    REQUEST_MAX = 8 * 1024,   /* bytes */
    DOCUMENT_MAX = 64 * 1024, /* bytes */
    PATIENCE_S = 2,           /* for one read or write */
};

struct key_server {
    int fd;
    bool is_started;
    atomic_bool is_stopping;
    atomic_uint_fast64_t n_served;
    pthread_t thread;
    SSL_CTX *context;
    struct pki *pki;
    const struct origins *origins;
};

struct key_server *key_server_listen(uint16_t *port, struct pki *pki)
{
    const int on = 1;
    struct key_server *server = calloc(1, sizeof *server);
    struct sockaddr_in bound = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t size = sizeof bound;

    CHECK(server != NULL);
    server->pki = pki;
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(server->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (server->fd < 0 || bind(server->fd, (const struct sockaddr *)&bound, sizeof bound) != 0 ||
        listen(server->fd, BACKLOG) != 0 ||
        getsockname(server->fd, (struct sockaddr *)&bound, &size) != 0) {
        die_of_errno("--key-port");
    }
    server->context = SSL_CTX_new(TLS_server_method());
    CHECK(server->context != NULL);
    *port = ntohs(bound.sin_port);
    return server;
}

static bool read_request(SSL *ssl)
{
    char request[REQUEST_MAX];
    int n = 0;

    while (n < REQUEST_MAX) {
        int got = SSL_read(ssl, request + n, REQUEST_MAX - n);
        if (got <= 0) {
            return false;
        }
        n += got;
        if (memmem(request, (size_t)n, "\r\n\r\n", 4) != NULL) {
            return strncmp(request, "GET /_matrix/key/v2/server", 26) == 0;
        }
    }
    return false;
}

static bool write_answer(struct key_server *server, SSL *ssl, const struct origin *origin)
{
    struct writer body;
    struct writer answer;

    writer_init(&body, DOCUMENT_MAX);
    writer_init(&answer, DOCUMENT_MAX);
    origins_write_key_document(&body, server->origins, (uint32_t)(origin - server->origins->all));
    writer_bytes(&answer, SPAN_LIT("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                   "Connection: close\r\nContent-Length: "));
    writer_u64(&answer, body.size);
    writer_bytes(&answer, SPAN_LIT("\r\n\r\n"));
    writer_bytes(&answer, writer_span(&body));
    bool is_written = SSL_write(ssl, answer.data, (int)answer.size) == (int)answer.size;
    writer_fini(&body);
    writer_fini(&answer);
    return is_written;
}

static void serve_one(struct key_server *server, int fd)
{
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    struct sockaddr_in local = {0};
    socklen_t size = sizeof local;
    SSL *ssl = SSL_new(server->context);

    CHECK(ssl != NULL);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (getsockname(fd, (struct sockaddr *)&local, &size) == 0) {
        const struct origin *origin = origins_find(server->origins, local.sin_addr);
        pki_certify(server->pki, ssl, local.sin_addr);
        if (origin != NULL && SSL_set_fd(ssl, fd) == 1 && SSL_accept(ssl) == 1 &&
            read_request(ssl) && write_answer(server, ssl, origin)) {
            atomic_fetch_add_explicit(&server->n_served, 1, memory_order_relaxed);
            SSL_shutdown(ssl);
        }
    }
    SSL_free(ssl);
}

static void *serve(void *arg)
{
    struct key_server *server = arg;

    while (!atomic_load_explicit(&server->is_stopping, memory_order_acquire)) {
        int fd = accept(server->fd, NULL, NULL);
        if (fd >= 0) {
            serve_one(server, fd);
            close(fd);
        }
    }
    return NULL;
}

void key_server_start(struct key_server *server, const struct origins *origins)
{
    server->origins = origins;
    server->is_started = true;
    CHECK(pthread_create(&server->thread, NULL, serve, server) == 0);
}

uint64_t key_server_count(const struct key_server *server)
{
    return atomic_load_explicit(&server->n_served, memory_order_relaxed);
}

void key_server_stop(struct key_server *server)
{
    if (server == NULL) {
        return;
    }
    atomic_store_explicit(&server->is_stopping, true, memory_order_release);
    shutdown(server->fd, SHUT_RDWR);
    if (server->is_started) {
        pthread_join(server->thread, NULL);
    }
    close(server->fd);
    SSL_CTX_free(server->context);
    free(server);
}
