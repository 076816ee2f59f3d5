/* What a proxy cannot do without: the system calls that carry a transaction and its answer, TLS for
 * them, and the memory of a connection. */
#include "bench/pki.h"
#include "bench/tool.h"

#include "proto/check.h"

#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>

enum {
    ROUNDS = 7,
    PIECE = 64 * 1024, /* bytes of one read or write, as the router's */
    SIZE_MAX_BYTES = 16 << 20,
    N_CONNECTIONS = 200, /* whose memory is measured */
    PATH_SIZE = 512,
    NO_CPU = 4096,
};

struct setting {
    uint64_t request, reply; /* bytes */
    uint64_t round_ms;
    char *bytes; /* as many as the larger of the two */
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

/* ns of one, the median of the rounds; `run` returns the ns that count. */
static double measure(const struct setting *s, uint64_t (*run)(const struct setting *s, void *arg),
                      void *arg)
{
    double ns[ROUNDS];

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t end = now_ns() + s->round_ms * 1000000;
        uint64_t sum = 0;
        uint64_t n = 0;
        while (n == 0 || now_ns() < end) {
            sum += run(s, arg);
            n++;
        }
        ns[round] = (double)sum / (double)n;
    }
    qsort(ns, ROUNDS, sizeof ns[0], compare);
    return ns[ROUNDS / 2];
}

/* ---- system calls */

struct pair {
    int near, far;
};

static struct pair pair_open(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    const int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pair pair = {.near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};

    if (listener < 0 || pair.near < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 ||
        connect(pair.near, (struct sockaddr *)&address, sizeof address) != 0) {
        die_of_errno("a loopback connection");
    }
    pair.far = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (pair.far < 0) {
        die_of_errno("accept");
    }
    setsockopt(pair.near, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(pair.far, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    close(listener);
    return pair;
}

static void take(int from, size_t size)
{
    static char taken[PIECE];

    while (size > 0) {
        ssize_t n = recv(from, taken, size, 0);
        CHECK(n > 0);
        size -= (size_t)n;
    }
}

/* As many bytes through the kernel, piece by piece. */
static void pass(const struct pair *pair, const char *bytes, uint64_t size)
{
    while (size > 0) {
        size_t piece = size < PIECE ? (size_t)size : PIECE;
        ssize_t sent = send(pair->near, bytes, piece, 0);
        CHECK(sent > 0);
        take(pair->far, (size_t)sent);
        size -= (uint64_t)sent;
    }
}

/* A proxy reads the request and the reply once, and writes both once: so does this, in one thread.
 */
static uint64_t run_sockets(const struct setting *s, void *arg)
{
    const struct pair *pair = arg;
    const struct pair back = {pair->far, pair->near};
    uint64_t start = now_ns();

    pass(pair, s->bytes, s->request);
    pass(&back, s->bytes, s->reply);
    return now_ns() - start;
}

/* ---- TLS */

struct tls_pair {
    SSL *client, *server;
};

/* Read-ahead and released buffers as the router has them. */
static SSL_CTX *server_context(const char *folder)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    char chain[PATH_SIZE];
    char key[PATH_SIZE];

    CHECK(ctx != NULL);
    snprintf(chain, sizeof chain, "%s/server.chain.pem", folder);
    snprintf(key, sizeof key, "%s/server.key.pem", folder);
    CHECK(SSL_CTX_use_certificate_chain_file(ctx, chain) == 1 &&
          SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1 &&
          SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") == 1);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ctx, 1);
    return ctx;
}

static struct tls_pair tls_pair_open(SSL_CTX *client, SSL_CTX *server)
{
    struct tls_pair pair = {SSL_new(client), SSL_new(server)};
    BIO *up = BIO_new(BIO_s_mem());
    BIO *down = BIO_new(BIO_s_mem());

    CHECK(pair.client != NULL && pair.server != NULL && up != NULL && down != NULL);
    CHECK(BIO_up_ref(up) == 1 && BIO_up_ref(down) == 1);
    SSL_set_bio(pair.client, down, up);
    SSL_set_bio(pair.server, up, down);
    SSL_set_connect_state(pair.client);
    SSL_set_accept_state(pair.server);
    while (SSL_is_init_finished(pair.client) == 0 || SSL_is_init_finished(pair.server) == 0) {
        (void)SSL_do_handshake(pair.client);
        (void)SSL_do_handshake(pair.server);
    }
    return pair;
}

static void tls_write(SSL *ssl, const char *bytes, uint64_t size)
{
    size_t n = 0;

    CHECK(size == 0 || (SSL_write_ex(ssl, bytes, size, &n) == 1 && n == size));
}

static void tls_read(SSL *ssl, uint64_t size)
{
    static char taken[PIECE];

    for (size_t n = 0; size > 0; size -= n) {
        CHECK(SSL_read_ex(ssl, taken, sizeof taken, &n) == 1 && n <= size);
    }
}

/* What the server does: decrypt the request, encrypt the reply. */
static uint64_t run_tls(const struct setting *s, void *arg)
{
    struct tls_pair *pair = arg;

    tls_write(pair->client, s->bytes, s->request);
    uint64_t start = now_ns();
    tls_read(pair->server, s->request);
    tls_write(pair->server, s->bytes, s->reply);
    uint64_t taken = now_ns() - start;
    tls_read(pair->client, s->reply);
    return taken;
}

/* ---- memory */

static size_t bytes_in_use(void)
{
    return mallinfo2().uordblks;
}

/* Of a server's side that has had one exchange. */
static double tls_bytes(const struct setting *s, SSL_CTX *client, SSL_CTX *server)
{
    static SSL *kept[N_CONNECTIONS];
    size_t before = bytes_in_use();

    for (size_t i = 0; i < N_CONNECTIONS; i++) {
        struct tls_pair pair = tls_pair_open(client, server);
        (void)run_tls(s, &pair);
        SSL_set_bio(pair.server, NULL, NULL);
        SSL_free(pair.client);
        kept[i] = pair.server;
    }
    double each = (double)(bytes_in_use() - before) / N_CONNECTIONS;
    for (size_t i = 0; i < N_CONNECTIONS; i++) {
        SSL_free(kept[i]);
    }
    return each;
}

static double h2_bytes(void)
{
    static nghttp2_session *kept[N_CONNECTIONS];
    nghttp2_session_callbacks *callbacks;

    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    size_t before = bytes_in_use();
    for (size_t i = 0; i < N_CONNECTIONS; i++) {
        CHECK(nghttp2_session_server_new(&kept[i], callbacks, NULL) == 0);
    }
    double each = (double)(bytes_in_use() - before) / N_CONNECTIONS;
    for (size_t i = 0; i < N_CONNECTIONS; i++) {
        nghttp2_session_del(kept[i]);
    }
    nghttp2_session_callbacks_del(callbacks);
    return each;
}

/* ---- */

static void remove_pki(const char *folder)
{
    static const char *const names[] = {"ca.pem", "ca.key.pem", "server.chain.pem",
                                        "server.key.pem"};
    char path[PATH_SIZE];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void run(const struct setting *s)
{
    char folder[] = "/tmp/freshet-floor-XXXXXX";

    if (mkdtemp(folder) == NULL) {
        die_of_errno("/tmp");
    }
    pki_create(folder, "a.example");
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    SSL_CTX *server = server_context(folder);
    CHECK(client != NULL);
    remove_pki(folder);
    struct pair sockets = pair_open();
    struct tls_pair tls = tls_pair_open(client, server);
    double sockets_ns = measure(s, run_sockets, &sockets);
    double tls_ns = measure(s, run_tls, &tls);
    double of_tls = tls_bytes(s, client, server);
    printf("{\"sockets_ns\":%.0f,\"tls_ns\":%.0f,\"tls_bytes\":%.0f,\"h2_bytes\":%.0f}\n",
           sockets_ns, tls_ns, of_tls, h2_bytes());
    SSL_free(tls.client);
    SSL_free(tls.server);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
    close(sockets.near);
    close(sockets.far);
}

int main(int argc, char **argv)
{
    struct setting s = {.request = 2600, .reply = 400, .round_ms = 60};
    uint64_t cpu = NO_CPU;
    const struct option_row rows[] = {
        {"request", OPTION_NUMBER, {.number = &s.request}, 1, SIZE_MAX_BYTES, "bytes (2600)"},
        {"reply", OPTION_NUMBER, {.number = &s.reply}, 1, SIZE_MAX_BYTES, "bytes (400)"},
        {"round-ms", OPTION_NUMBER, {.number = &s.round_ms}, 1, 60000, "7 times each (60)"},
        {"cpu", OPTION_NUMBER, {.number = &cpu}, 0, NO_CPU - 1, "core to stay on (none)"},
    };

    options_read(rows, sizeof rows / sizeof rows[0],
                 "The least that carrying a transaction costs: an object with ns and bytes.", argc,
                 argv);
    if (cpu != NO_CPU) {
        pin_to_cpu(cpu);
    }
    s.bytes = calloc(1, (size_t)(s.request > s.reply ? s.request : s.reply));
    CHECK(s.bytes != NULL);
    run(&s);
    free(s.bytes);
    return 0;
}
