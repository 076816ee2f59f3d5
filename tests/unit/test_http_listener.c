#include "net_rig.h"

#include "net/tls.h"

#include "tls_files.h"

static const struct http_limits short_limits = {
    .tls_ms = 150,
    .headers_ms = 5000,
    .body_ms = 5000,
    .body_bytes_per_s = 64 * 1024,
    .idle_ms = 5000,
    .write_ms = 5000,
    .requests_max = 100,
};

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4        SIGNATURE "\x21\x11\x00\x0c\xcb\x00\x71\x05\x0a\x00\x00\x01\xd9\x03\x20\xfb"
#define V6                                                                                         \
    SIGNATURE "\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x05"                         \
              "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\xd9\x03\x20\xfb"
#define LOCAL   SIGNATURE "\x20\x00\x00\x00"
#define REQUEST "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"

static bool trusts_loopback(void *trust, const struct in6_addr *address)
{
    (void)trust;
    return IN6_IS_ADDR_V4MAPPED(address) && address->s6_addr[12] == 127;
}

static void open_rig(struct rig *rig, bool trusts, struct tls_context *tls)
{
    const struct http_listener_options options = {
        .address = "127.0.0.1",
        .tls = tls,
        .limits = &short_limits,
        .is_trusted_proxy = trusts ? trusts_loopback : NULL,
    };

    rig_init(rig, &options);
}

struct row {
    const char *what;
    struct span bytes;
    const char *peer;    /* NULL: no request arrives */
    enum reject refused; /* REJECT_NONE: nothing counted */
    bool is_trusted;
};

static const struct row rows[] = {
    {"IPv4", SPAN_INIT(V4 REQUEST), "::ffff:203.0.113.5", REJECT_NONE, true},
    {"IPv6", SPAN_INIT(V6 REQUEST), "2001:db8::5", REJECT_NONE, true},
    {"local", SPAN_INIT(LOCAL REQUEST), "::ffff:127.0.0.1", REJECT_NONE, true},
    {"no header", SPAN_INIT(REQUEST), "::ffff:127.0.0.1", REJECT_NONE, true},
    {"a line end, no header", SPAN_INIT("\r\n" REQUEST), "::ffff:127.0.0.1", REJECT_NONE, true},
    {"two line ends, no header", SPAN_INIT("\r\n\r\n" REQUEST), "::ffff:127.0.0.1", REJECT_NONE,
     true},
    {"a signature that is broken", SPAN_INIT("\r\n\r\n\0\r\nQUIX\n" REQUEST), NULL,
     REJECT_PROXY_HEADER, true},
    {"version 1", SPAN_INIT(SIGNATURE "\x11\x11\x00\x0c" REQUEST), NULL, REJECT_PROXY_HEADER, true},
    {"too large", SPAN_INIT(SIGNATURE "\x21\x11\x02\x09" REQUEST), NULL, REJECT_PROXY_HEADER, true},
    {"two headers", SPAN_INIT(V4 V4 REQUEST), NULL, REJECT_BAD_HTTP, true},
    {"a header of somebody else", SPAN_INIT(V4 REQUEST), NULL, REJECT_BAD_HTTP, false},
    {"nothing, from somebody else", SPAN_INIT(REQUEST), "::ffff:127.0.0.1", REJECT_NONE, false},
};

/* In pieces, each of which arrives alone. */
static void send_in_pieces(struct rig *rig, int fd, struct span bytes, size_t piece)
{
    while (bytes.size > 0) {
        size_t n = bytes.size < piece ? bytes.size : piece;
        if (!raw_send(rig->loop, fd, span_of(bytes.data, n))) {
            return;
        }
        bytes = span_skip(bytes, n);
    }
}

static bool is_as_expected(const struct rig *rig, const struct row *row)
{
    char text[INET6_ADDRSTRLEN] = "";

    if (rig->n_heads > 0) {
        inet_ntop(AF_INET6, &rig->peer, text, sizeof text);
    }
    return strcmp(text, row->peer == NULL ? "" : row->peer) == 0 &&
           rig->n_refused == (row->refused != REJECT_NONE) && rig->refused == row->refused;
}

static void check_row(const struct row *row, size_t piece)
{
    struct rig rig;

    open_rig(&rig, row->is_trusted, NULL);
    int fd = raw_connect(rig_port(&rig));
    send_in_pieces(&rig, fd, row->bytes, piece);
    RUN_UNTIL(rig.loop, rig.n_heads + rig.n_refused > 0);
    if (!is_as_expected(&rig, row)) {
        fail_msg("row failed, in pieces of %zu: %s", piece, row->what);
    }
    close(fd);
    rig_fini(&rig);
}

static void a_trusted_proxy_says_whose_connection_it_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_row(&rows[i], SIZE_MAX);
        check_row(&rows[i], 1);
    }
}

static void half_a_header_is_waited_for_as_long_as_tls(void **state)
{
    struct rig rig;
    struct writer got;

    (void)state;
    open_rig(&rig, true, NULL);
    writer_init(&got, RECORD_MAX);
    int fd = raw_connect(rig_port(&rig));
    assert_true(raw_send(rig.loop, fd, SPAN_LIT(SIGNATURE "\x21")));
    uint64_t began_us = clock_monotonic_us();
    raw_read_to_end(&got, rig.loop, fd);
    assert_true(clock_monotonic_us() - began_us < 3000000);
    assert_int_equal(got.size, 0);
    assert_int_equal(rig.n_heads, 0);
    writer_fini(&got);
    close(fd);
    rig_fini(&rig);
}

/* A load balancer that asks whether the port is open. */
static void a_proxy_that_only_connects_is_no_fault(void **state)
{
    struct rig rig;

    (void)state;
    open_rig(&rig, true, NULL);
    int fd = raw_connect(rig_port(&rig));
    RUN_UNTIL(rig.loop, http_listener_n_connections(rig.listener) == 1);
    close(fd);
    RUN_UNTIL(rig.loop, http_listener_n_connections(rig.listener) == 0);
    assert_int_equal(rig.n_refused, 0);
    rig_fini(&rig);
}

/* Connects and goes, so often; each is accepted. */
static void connect_many(struct rig *rig, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        int fd = raw_connect(rig_port(rig));
        if (i % 64 == 0) {
            run_for(rig->loop, 4);
        }
        close(fd);
    }
    run_for(rig->loop, 100);
}

static void handshakes_of_a_network_are_limited_but_not_a_proxys(void **state)
{
    static const struct {
        bool has_tls, trusts, is_limited;
    } cases[] = {{true, false, true}, {true, true, false}, {false, false, false}};
    struct tls_files files;

    (void)state;
    tls_files_make(&files, "DNS:a.test");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig rig;
        struct tls_context *tls = NULL;
        assert_int_equal(tls_server_new(&tls, &(struct tls_certificate){files.chain, files.key}, 1),
                         ERR_OK);
        open_rig(&rig, cases[i].trusts, cases[i].has_tls ? tls : NULL);
        tls_context_free(tls);
        connect_many(&rig, HANDSHAKES_BURST * 2);
        assert_int_equal(rig.n_refused > 0, cases[i].is_limited);
        assert_true(rig.n_refused <= HANDSHAKES_BURST);
        assert_int_equal(rig.refused, cases[i].is_limited ? REJECT_HANDSHAKES : REJECT_NONE);
        rig_fini(&rig);
    }
    tls_files_remove(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trusted_proxy_says_whose_connection_it_is),
        cmocka_unit_test(half_a_header_is_waited_for_as_long_as_tls),
        cmocka_unit_test(a_proxy_that_only_connects_is_no_fault),
        cmocka_unit_test(handshakes_of_a_network_are_limited_but_not_a_proxys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
