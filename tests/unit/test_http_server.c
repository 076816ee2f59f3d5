#include "net/http_server.h"

#include "net/stream.h"
#include "net/tls.h"
#include "net_rig.h"
#include "tls_files.h"

#include <malloc.h>
#include <sys/un.h>

/* Short, for the tests that wait for one of them. */
static const struct http_limits short_limits = {
    .tls_ms = 150,
    .headers_ms = 150,
    .body_ms = 150,
    .body_bytes_per_s = 1 << 20,
    .idle_ms = 150,
    .write_ms = 150,
    .requests_max = 100,
};

static const struct http_listener_options short_options = {.address = "127.0.0.1",
                                                           .limits = &short_limits};

/* Sends the bytes on a new connection and reads until the server closes. */
static void exchange(struct writer *out, struct rig *rig, struct span bytes)
{
    int fd = raw_connect(rig_port(rig));

    writer_init(out, RECORD_MAX);
    raw_send(rig->loop, fd, bytes);
    raw_read_to_end(out, rig->loop, fd);
    close(fd);
}

struct bad_row {
    const char *what;
    struct span bytes;
    unsigned status;
    unsigned n_heads; /* requests that still reach the handler */
};

#define BAD(what, status, text) {what, SPAN_INIT(text), status, 0}

#define H "Host: a.test\r\n"

static const struct bad_row bad_rows[] = {
    BAD("no Host", 400, "GET / HTTP/1.1\r\n\r\n"),
    BAD("two Hosts", 400, "GET / HTTP/1.1\r\n" H H "\r\n"),
    BAD("two Hosts, different", 400, "GET / HTTP/1.1\r\n" H "Host: b.test\r\n\r\n"),
    BAD("an empty Host", 400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    BAD("a Host with a space", 400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    BAD("HTTP/0.9", 400, "GET /\r\n\r\n"),
    BAD("HTTP/2.0", 400, "GET / HTTP/2.0\r\n" H "\r\n"),
    BAD("HTTP/1.2", 400, "GET / HTTP/1.2\r\n" H "\r\n"),
    BAD("half of the HTTP/2 preface", 400, "PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n"),
    BAD("a TLS hello", 400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    BAD("bare line feeds", 400, "GET / HTTP/1.1\nHost: a.test\n\n"),
    BAD("a folded header", 400, "GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n"),
    BAD("a space before the colon", 400, "GET / HTTP/1.1\r\nHost : a.test\r\n\r\n"),
    BAD("a NUL in a value", 400, "GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n"),
    BAD("a bare CR in a value", 400, "GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n"),
    BAD("a name that is no token", 400, "GET / HTTP/1.1\r\n" H "X(y: a\r\n\r\n"),
    BAD("absolute-form with another authority", 400, "GET http://b.test/ HTTP/1.1\r\n" H "\r\n"),
    BAD("absolute-form of another scheme", 400, "GET ftp://a.test/ HTTP/1.1\r\n" H "\r\n"),
    BAD("absolute-form with a user", 400, "GET http://u@a.test/ HTTP/1.1\r\n" H "\r\n"),
    BAD("absolute-form without a path", 400, "GET http://a.test?x HTTP/1.1\r\n" H "\r\n"),
    BAD("a fragment", 400, "GET /a#b HTTP/1.1\r\n" H "\r\n"),
    BAD("an asterisk with GET", 400, "GET * HTTP/1.1\r\n" H "\r\n"),
    BAD("a relative target", 400, "GET a/b HTTP/1.1\r\n" H "\r\n"),
    BAD("CL and TE", 400,
        "POST / HTTP/1.1\r\n" H "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\nGET /smuggled HTTP/1.1\r\n" H "\r\n"),
    BAD("TE and CL", 400,
        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n"
        "0\r\n\r\nGET /smuggled HTTP/1.1\r\n" H "\r\n"),
    BAD("two CLs", 400,
        "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc"),
    BAD("two equal CLs", 400,
        "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    BAD("a list of CLs", 400, "POST / HTTP/1.1\r\n" H "Content-Length: 3, 3\r\n\r\nabc"),
    BAD("a CL with a sign", 400, "POST / HTTP/1.1\r\n" H "Content-Length: +3\r\n\r\nabc"),
    BAD("a negative CL", 400, "POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n"),
    BAD("a hexadecimal CL", 400, "POST / HTTP/1.1\r\n" H "Content-Length: 0x3\r\n\r\nabc"),
    BAD("a CL beyond 64 bits", 400,
        "POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551619\r\n\r\nabc"),
    BAD("an empty CL", 400, "POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"),
    BAD("TE on HTTP/1.0", 400,
        "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    BAD("TE: gzip, chunked", 400,
        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    BAD("TE: chunked, chunked", 400,
        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    BAD("TE: identity", 400, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n"),
    BAD("TE: xchunked", 400,
        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    BAD("two TEs", 400,
        "POST / HTTP/1.1\r\n" H
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    BAD("an underscore twin of TE", 400,
        "POST / HTTP/1.1\r\n" H "Transfer_Encoding: chunked\r\n\r\n"),
    BAD("an underscore twin of CL", 400,
        "POST / HTTP/1.1\r\n" H "Content_Length: 3\r\nContent-Length: 0\r\n\r\n"),
    BAD("Upgrade", 501, "GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
    BAD("CONNECT", 501, "CONNECT a.test:443 HTTP/1.1\r\n" H "\r\n"),
    BAD("TRACE", 501, "TRACE / HTTP/1.1\r\n" H "\r\n"),
    BAD("an unknown method", 400, "FOO / HTTP/1.1\r\n" H "\r\n"),
    BAD("another expectation", 417,
        "POST / HTTP/1.1\r\n" H "Expect: 200-ok\r\nContent-Length: 1\r\n\r\n"),
    {"a chunk size with a sign",
     SPAN_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n"),
     400, 1},
    {"a hexadecimal prefix in a chunk size",
     SPAN_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"),
     400, 1},
    {"a chunk longer than it says",
     SPAN_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"),
     400, 1},
    {"a chunk that ends with a bare line feed",
     SPAN_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n"), 400, 1},
    {"a chunk size beyond 64 bits",
     SPAN_INIT("POST / HTTP/1.1\r\n" H
               "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n"),
     400, 1},
    {"a Content-Length among the trailers",
     SPAN_INIT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
               "3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n"),
     400, 1},
};

static void whatever_could_be_read_in_two_ways_is_refused_and_the_connection_closed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_rows / sizeof bad_rows[0]; i++) {
        const struct bad_row *row = &bad_rows[i];
        struct writer answer;
        struct rig rig;
        char status_line[32];

        rig_init(&rig, NULL);
        exchange(&answer, &rig, row->bytes);
        snprintf(status_line, sizeof status_line, "HTTP/1.1 %u ", row->status);
        if (!span_starts_with(writer_span(&answer), span_str(status_line)) ||
            rig.n_heads != row->n_heads || rig.n_ends != 0 || rig.n_aborts != row->n_heads ||
            rig.n_refused != 1) {
            fail_msg("%s: %u heads, %u ends, answer %.*s", row->what, rig.n_heads, rig.n_ends,
                     (int)answer.size, answer.data);
        }
        assert_true(has_text(&answer, "Connection: close\r\n"));
        assert_true(has_text(&answer, "\r\n\r\n{\"errcode\":\"M_"));
        assert_false(has_text(&answer, "smuggled"));
        writer_fini(&answer);
        rig_fini(&rig);
    }
}

struct good_row {
    const char *what;
    struct span bytes;
    const char *log;
    const char *body; /* of the last answer */
};

#define CLOSE "Connection: close\r\n"

static const struct good_row good_rows[] = {
    {"a simple GET", SPAN_INIT("GET /a?b=c%2fd HTTP/1.1\r\n" H CLOSE "\r\n"), "GET /a?b=c%2fd\n",
     "GET /a?b=c%2fd"},
    {"empty lines before it", SPAN_INIT("\r\n\r\nGET / HTTP/1.1\r\n" H CLOSE "\r\n"), "GET /\n",
     "GET /"},
    {"HTTP/1.0 closes", SPAN_INIT("GET / HTTP/1.0\r\n" H "Connection: keep-alive\r\n\r\n"),
     "GET /\n", "GET /"},
    {"absolute-form with the same authority",
     SPAN_INIT("GET HTTP://A.test/x HTTP/1.1\r\n" H CLOSE "\r\n"), "GET /x\n", "GET /x"},
    {"OPTIONS *", SPAN_INIT("OPTIONS * HTTP/1.1\r\n" H CLOSE "\r\n"), "OPTIONS *\n", "OPTIONS *"},
    {"a body of known length",
     SPAN_INIT("PUT / HTTP/1.1\r\n" H CLOSE "Content-Length: 3 \r\n\r\nabc"), "PUT /\n", "abc"},
    {"a chunked body with extensions and trailers",
     SPAN_INIT("PUT / HTTP/1.1\r\n" H CLOSE "Transfer-Encoding: Chunked\r\n\r\n"
               "3;a=b;c=\"d\"\r\nabc\r\n0002\r\nde\r\n0\r\nX-Trailer: y\r\n\r\n"),
     "PUT /\n", "abcde"},
    {"values with tabs and 8-bit bytes",
     SPAN_INIT("GET / HTTP/1.1\r\n" H CLOSE "X:\t a\tb \xc3\xa4 \r\nY:\r\n\r\n"), "GET /\n",
     "GET /"},
    {"three in one piece",
     SPAN_INIT("GET /1 HTTP/1.1\r\n" H "\r\nPUT /2 HTTP/1.1\r\n" H
               "Content-Length: 2\r\n\r\nhiGET /3 HTTP/1.1\r\n" H CLOSE "\r\n"),
     "GET /1\nPUT /2\nGET /3\n", "GET /3"},
};

static void check_good(const struct good_row *row, struct rig *rig, const struct writer *answer)
{
    struct writer expected;

    writer_init(&expected, 1024);
    writer_bytes(&expected, SPAN_LIT("\r\n\r\n"));
    writer_bytes(&expected, span_str(row->body));
    struct span end = span_skip(writer_span(answer), answer->size - expected.size);
    if (!span_equal(writer_span(&rig->log), span_str(row->log)) ||
        !span_starts_with(writer_span(answer), SPAN_LIT("HTTP/1.1 200 OK\r\n")) ||
        !span_equal(end, writer_span(&expected))) {
        fail_msg("%s: saw %.*s, answered %.*s", row->what, (int)rig->log.size, rig->log.data,
                 (int)answer->size, answer->data);
    }
    writer_fini(&expected);
}

static void ordinary_requests_are_answered_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good_rows / sizeof good_rows[0]; i++) {
        struct writer answer;
        struct rig rig;

        rig_init(&rig, NULL);
        exchange(&answer, &rig, good_rows[i].bytes);
        check_good(&good_rows[i], &rig, &answer);
        assert_int_equal(rig.n_refused, 0);
        assert_int_equal(rig.n_aborts, 0);
        writer_fini(&answer);
        rig_fini(&rig);
    }
}

static void requests_may_come_byte_by_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good_rows / sizeof good_rows[0]; i++) {
        struct writer answer;
        struct rig rig;
        int fd;

        rig_init(&rig, NULL);
        fd = raw_connect(rig_port(&rig));
        for (size_t at = 0; at < good_rows[i].bytes.size; at++) {
            raw_send(rig.loop, fd, span_of(good_rows[i].bytes.data + at, 1));
        }
        writer_init(&answer, RECORD_MAX);
        raw_read_to_end(&answer, rig.loop, fd);
        check_good(&good_rows[i], &rig, &answer);
        writer_fini(&answer);
        close(fd);
        rig_fini(&rig);
    }
}

enum { FILLER_SIZE = 64 * 1024 };

struct size_row {
    const char *what;
    size_t target_size, n_headers, value_size;
    unsigned status;
};

static const struct size_row size_rows[] = {
    {"a target of 8 KiB", HTTP_TARGET_MAX, 0, 0, 200},
    {"a target longer by one", HTTP_TARGET_MAX + 1, 0, 0, 414},
    {"100 headers", 1, 98, 10, 200},
    {"101 headers", 1, 99, 10, 431},
    {"30 KiB of headers", 1, 1, 30720, 200},
    {"more than 32 KiB of headers", 1, 1, 33792, 431},
    {"many headers of more than 32 KiB", 1, 90, 400, 431},
};

static void targets_and_headers_have_the_sizes_of_the_limits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof size_rows / sizeof size_rows[0]; i++) {
        const struct size_row *row = &size_rows[i];
        char *filler = make_bytes(FILLER_SIZE);
        struct writer request;
        struct writer answer;
        struct rig rig;

        rig_init(&rig, NULL);
        memset(filler, 'x', FILLER_SIZE);
        writer_init(&request, MEGABYTE);
        writer_bytes(&request, SPAN_LIT("GET /"));
        writer_bytes(&request, span_of(filler, row->target_size - 1));
        writer_bytes(&request, SPAN_LIT(" HTTP/1.1\r\n" H CLOSE)); /* two of the headers */
        for (size_t n = 0; n < row->n_headers; n++) {
            writer_bytes(&request, SPAN_LIT("X: "));
            writer_bytes(&request, span_of(filler, row->value_size));
            writer_bytes(&request, SPAN_LIT("\r\n"));
        }
        writer_bytes(&request, SPAN_LIT("\r\n"));
        exchange(&answer, &rig, writer_span(&request));
        if (answer.size < 12 || strtoul(answer.data + 9, NULL, 10) != row->status) {
            fail_msg("%s: %.*s", row->what, (int)answer.size, answer.data);
        }
        assert_int_equal(rig.n_heads, row->status == 200 ? 1 : 0);
        writer_fini(&request);
        writer_fini(&answer);
        free(filler);
        rig_fini(&rig);
    }
}

static void spaces_without_end_are_cut_off_too(void **state)
{
    char *spaces = make_bytes(MEGABYTE);
    struct writer answer;
    struct rig rig;
    int fd;

    (void)state;
    memset(spaces, ' ', MEGABYTE);
    rig_init(&rig, NULL);
    fd = raw_connect(rig_port(&rig));
    raw_send(rig.loop, fd, SPAN_LIT("GET / HTTP/1.1\r\n" H "X: "));
    raw_send(rig.loop, fd, span_of(spaces, 100000));
    writer_init(&answer, RECORD_MAX);
    raw_read_to_end(&answer, rig.loop, fd);
    assert_true(has_text(&answer, "HTTP/1.1 431 "));
    assert_int_equal(rig.n_heads, 0);
    close(fd);
    writer_fini(&answer);
    free(spaces);
    rig_fini(&rig);
}

static void chunk_extensions_and_trailers_are_bounded(void **state)
{
    static const struct span pieces[] = {SPAN_INIT("1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n"),
                                         SPAN_INIT("X-Trailer: aaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct writer request;
        struct writer answer;
        struct rig rig;

        rig_init(&rig, NULL);
        writer_init(&request, MEGABYTE);
        writer_bytes(&request,
                     SPAN_LIT("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"));
        writer_bytes(&request, i == 0 ? SPAN_LIT("") : SPAN_LIT("0\r\n"));
        for (size_t n = 0; n < 1000; n++) {
            writer_bytes(&request, pieces[i]);
        }
        exchange(&answer, &rig, writer_span(&request));
        assert_true(has_text(&answer, i == 0 ? "HTTP/1.1 400 " : "HTTP/1.1 431 "));
        assert_int_equal(rig.n_aborts, 1);
        assert_int_equal(rig.n_ends, 0);
        writer_fini(&request);
        writer_fini(&answer);
        rig_fini(&rig);
    }
}

static void a_pipelined_request_waits_until_the_one_before_is_answered(void **state)
{
    struct writer answer;
    struct rig rig;
    int fd;

    (void)state;
    rig_init(&rig, NULL);
    rig.answer = ANSWER_HOLD;
    writer_init(&answer, RECORD_MAX);
    fd = raw_connect(rig_port(&rig));
    for (int i = 0; i < 3; i++) {
        raw_send(rig.loop, fd, SPAN_LIT("GET /x HTTP/1.1\r\n" H "\r\n"));
    }
    for (unsigned i = 1; i <= 3; i++) {
        RUN_UNTIL(rig.loop, rig.n_ends == i);
        run_for(rig.loop, 20);
        assert_int_equal(rig.n_heads, i);
        rig_answer(&rig, ANSWER_ECHO);
    }
    RUN_UNTIL(rig.loop, (raw_read(&answer, fd), count_text(&answer, "200 OK") == 3));
    assert_int_equal(http_listener_n_connections(rig.listener), 1);
    close(fd);
    RUN_UNTIL(rig.loop, http_listener_n_connections(rig.listener) == 0);
    writer_fini(&answer);
    rig_fini(&rig);
}

static void what_a_peer_pipelines_is_bounded(void **state)
{
    static const struct span one = SPAN_INIT("GET /1234 HTTP/1.1\r\nHost: a.test\r\nX:\r\n\r\n");
    char *request = make_bytes(MEGABYTE);
    struct rig rig;
    size_t sent = 0;
    /* Else the kernel alone may take all of it: up to 4 MiB here. */
    const int send_buffer = 64 << 10;
    int fd;

    (void)state;
    for (size_t at = 0; at + one.size <= MEGABYTE; at += one.size) {
        memcpy(request + at, one.data, one.size);
    }
    rig_init(&rig, NULL);
    rig.answer = ANSWER_HOLD;
    fd = raw_connect(rig_port(&rig));
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer), 0);
    for (int i = 0; i < 1000; i++) {
        ssize_t n = send(fd, request + sent % 4000, 4000, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        loop_run_for(rig.loop, 0);
    }
    /* All the kernel would take, and not all that we had. */
    assert_int_equal(rig.n_heads, 1);
    assert_true(sent < (size_t)4000 * 1000);
    close(fd);
    free(request);
    rig_fini(&rig);
}

static void a_large_body_passes_both_ways_with_pauses(void **state)
{
    char *bytes = make_bytes(MEGABYTE);
    struct writer answer;
    struct rig rig;
    int fd;

    (void)state;
    rig_init(&rig, NULL);
    rig.pauses = true;
    rig.answer = ANSWER_CHUNKED;
    fd = raw_connect(rig_port(&rig));
    raw_send(rig.loop, fd,
             SPAN_LIT("PUT / HTTP/1.1\r\n" H CLOSE "Content-Length: 1048576\r\n\r\n"));
    raw_send(rig.loop, fd, span_of(bytes, MEGABYTE));
    RUN_UNTIL(rig.loop, rig.n_ends == 1);
    assert_true(rig.n_pauses > 5);
    assert_true(span_equal(writer_span(&rig.body), span_of(bytes, MEGABYTE)));
    run_for(rig.loop, 50); /* nobody reads: the handler must not get rid of it all */
    writer_init(&answer, RECORD_MAX);
    raw_read_to_end(&answer, rig.loop, fd);
    assert_true(answer.size > MEGABYTE);
    assert_true(has_text(&answer, "Transfer-Encoding: chunked\r\n"));
    assert_true(has_text(&answer, "\r\n0\r\n\r\n"));
    close(fd);
    writer_fini(&answer);
    free(bytes);
    rig_fini(&rig);
}

static void a_peer_that_goes_in_the_middle_is_told_of_once(void **state)
{
    static const struct span starts[] = {
        SPAN_INIT("PUT / HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc"),
        SPAN_INIT("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nabc"),
        SPAN_INIT("GET / HTTP/1.1\r\n" H "\r\n"), /* here while it waits for its answer */
    };

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        const struct linger reset = {.l_onoff = 1};
        struct rig rig;
        int fd;

        rig_init(&rig, NULL);
        rig.answer = ANSWER_HOLD;
        fd = raw_connect(rig_port(&rig));
        raw_send(rig.loop, fd, starts[i % 3]);
        RUN_UNTIL(rig.loop, rig.exchange != NULL);
        if (i >= 3) {
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        }
        close(fd);
        RUN_UNTIL(rig.loop, rig.n_aborts == 1);
        assert_int_equal(http_listener_n_connections(rig.listener), 0);
        run_for(rig.loop, 5);
        assert_int_equal(rig.n_aborts, 1);
        assert_int_equal(rig.n_refused, 0);
        rig_fini(&rig);
    }
}

struct wait_row {
    const char *what;
    struct span bytes;
    const char *answer; /* "" if the connection just closes */
    unsigned n_aborts;
};

static const struct wait_row wait_rows[] = {
    {"not a byte", SPAN_INIT(""), "", 0},
    {"half a head", SPAN_INIT("GET / HTTP/1.1\r\nHo"), "HTTP/1.1 408 ", 0},
    {"half a body", SPAN_INIT("PUT / HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc"),
     "HTTP/1.1 408 ", 1},
    {"a chunk and no more",
     SPAN_INIT("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
     "HTTP/1.1 408 ", 1},
    {"idle after an answer", SPAN_INIT("GET / HTTP/1.1\r\n" H "\r\n"), "HTTP/1.1 200 ", 0},
    {"half a head after an answer", SPAN_INIT("GET / HTTP/1.1\r\n" H "\r\nGET"), "HTTP/1.1 408 ",
     0},
};

static void a_peer_that_takes_too_long_is_closed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wait_rows / sizeof wait_rows[0]; i++) {
        struct writer answer;
        struct rig rig;

        rig_init(&rig, &short_options);
        exchange(&answer, &rig, wait_rows[i].bytes);
        if (answer.size > 0 ? !has_text(&answer, wait_rows[i].answer)
                            : wait_rows[i].answer[0] != '\0') {
            fail_msg("%s: %.*s", wait_rows[i].what, (int)answer.size, answer.data);
        }
        assert_int_equal(rig.n_aborts, wait_rows[i].n_aborts);
        writer_fini(&answer);
        rig_fini(&rig);
    }
}

static void the_time_for_a_body_does_not_run_while_we_do_not_read(void **state)
{
    struct writer answer;
    struct rig rig;
    int fd;

    (void)state;
    rig_init(&rig, &short_options);
    writer_init(&answer, RECORD_MAX);
    fd = raw_connect(rig_port(&rig));
    raw_send(rig.loop, fd, SPAN_LIT("PUT / HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\na"));
    RUN_UNTIL(rig.loop, rig.n_bytes == 1);
    http_read_pause(rig.exchange);
    run_for(rig.loop, 300);
    assert_int_equal(rig.n_aborts, 0);
    http_read_resume(rig.exchange);
    raw_send(rig.loop, fd, SPAN_LIT("bcd"));
    raw_read_until(&answer, rig.loop, fd, "\r\n\r\nabcd");
    close(fd);
    writer_fini(&answer);
    rig_fini(&rig);
}

static void a_peer_that_does_not_read_its_answer_is_cut(void **state)
{
    struct rig rig;
    int fd;

    (void)state;
    rig_init(&rig, &short_options);
    rig.answer = ANSWER_HOLD;
    fd = raw_connect(rig_port(&rig));
    raw_send(rig.loop, fd, SPAN_LIT("GET / HTTP/1.1\r\n" H "\r\n"));
    RUN_UNTIL(rig.loop, rig.n_ends == 1);
    char *bytes = make_bytes((size_t)16 * MEGABYTE);
    http_respond_head(rig.exchange, 200, NULL, 0, -1);
    http_respond_body(rig.exchange, span_of(bytes, (size_t)16 * MEGABYTE));
    assert_true(http_output_size(rig.exchange) >= (size_t)16 * MEGABYTE);
    RUN_UNTIL(rig.loop, rig.n_aborts == 1);
    assert_int_equal(rig.n_refused, 1);
    assert_int_equal(rig.refused, REJECT_TIMEOUT);
    free(bytes);
    close(fd);
    rig_fini(&rig);
}

static void a_peer_that_is_answered_beyond_the_cap_is_cut(void **state)
{
    struct rig rig;
    int fd;

    (void)state;
    rig_init(&rig, NULL);
    rig.answer = ANSWER_HOLD;
    fd = raw_connect(rig_port(&rig));
    raw_send(rig.loop, fd, SPAN_LIT("GET / HTTP/1.1\r\n" H "\r\n"));
    RUN_UNTIL(rig.loop, rig.n_ends == 1);
    char *bytes = make_bytes((size_t)16 * MEGABYTE);
    http_respond_head(rig.exchange, 200, NULL, 0, -1);
    for (int i = 0; i < 3; i++) {
        http_respond_body(rig.exchange, span_of(bytes, (size_t)16 * MEGABYTE));
    }
    assert_int_equal(rig.n_aborts, 0); /* not from inside */
    RUN_UNTIL(rig.loop, rig.n_aborts == 1);
    free(bytes);
    close(fd);
    rig_fini(&rig);
}

struct response_row {
    const char *what;
    enum answer answer;
    struct span request;
    const char *has, *has_not;
    const char *end;
};

static const struct response_row response_rows[] = {
    {"HEAD", ANSWER_ECHO, SPAN_INIT("HEAD /x HTTP/1.1\r\n" H CLOSE "\r\n"), "Content-Length: 7\r\n",
     "HEAD /x", "\r\n\r\n"},
    {"HEAD, length unknown", ANSWER_CHUNKED, SPAN_INIT("HEAD /x HTTP/1.1\r\n" H CLOSE "\r\n"),
     "200 OK", "chunked", "\r\n\r\n"},
    {"204", ANSWER_204, SPAN_INIT("GET / HTTP/1.1\r\n" H CLOSE "\r\n"), "204 No Content\r\n",
     "Content-Length", "\r\n\r\n"},
    {"chunked", ANSWER_CHUNKED, SPAN_INIT("GET /x HTTP/1.1\r\n" H CLOSE "\r\n"),
     "Transfer-Encoding: chunked\r\n", "Content-Length", "\r\n\r\n6\r\nGET /x\r\n0\r\n\r\n"},
    {"length unknown for HTTP/1.0", ANSWER_CHUNKED, SPAN_INIT("GET /x HTTP/1.0\r\n" H "\r\n"),
     "Connection: close\r\n", "chunked", "\r\n\r\nGET /x"},
    {"framing headers of the handler's are dropped", ANSWER_ECHO,
     SPAN_INIT("GET /x HTTP/1.1\r\n" H CLOSE "\r\n"), "Content-Length: 6\r\n",
     "Content-Length: 1\r\n", "\r\n\r\nGET /x"},
    {"an early answer closes", ANSWER_EARLY,
     SPAN_INIT("PUT /x HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nab"), "Connection: close\r\n",
     "Continue", "\r\n\r\nearly"},
    {"a rejection closes", ANSWER_REJECT,
     SPAN_INIT("GET /x HTTP/1.1\r\n" H "\r\nGET /y HTTP/1.1\r\n" H "\r\n"),
     "HTTP/1.1 404 Not Found\r\n", "/y",
     "\r\n\r\n{\"errcode\":\"M_UNRECOGNIZED\",\"error\":\"Unrecognized request\"}"},
    {"a rejection of HEAD has no body", ANSWER_REJECT, SPAN_INIT("HEAD /x HTTP/1.1\r\n" H "\r\n"),
     "HTTP/1.1 404 ", "errcode", "\r\n\r\n"},
    {"a header cannot carry another", ANSWER_INJECT, SPAN_INIT("GET /x HTTP/1.1\r\n" H "\r\n"),
     "HTTP/1.1 500 ", "Injected", "\r\n\r\n"},
    {"a body that breaks off is cut", ANSWER_SHORT, SPAN_INIT("GET /x HTTP/1.1\r\n" H "\r\n"), "",
     "GET /x", ""},
};

static void responses_are_framed_by_the_server_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof response_rows / sizeof response_rows[0]; i++) {
        const struct response_row *row = &response_rows[i];
        size_t end_size = strlen(row->end);
        struct writer answer;
        struct rig rig;

        rig_init(&rig, NULL);
        rig.answer = row->answer;
        exchange(&answer, &rig, row->request);
        if ((row->has[0] != '\0' && !has_text(&answer, row->has)) ||
            has_text(&answer, row->has_not) || answer.size < end_size ||
            (end_size > 0 &&
             memcmp(answer.data + answer.size - end_size, row->end, end_size) != 0)) {
            fail_msg("%s: %.*s", row->what, (int)answer.size, answer.data);
        }
        writer_fini(&answer);
        rig_fini(&rig);
    }
}

static void an_answer_without_a_body_leaves_the_connection_usable(void **state)
{
    struct writer answer;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    exchange(&answer, &rig,
             SPAN_LIT("HEAD /1 HTTP/1.1\r\n" H "\r\nGET /2 HTTP/1.1\r\n" H CLOSE "\r\n"));
    assert_int_equal(count_text(&answer, "200 OK"), 2);
    assert_int_equal(rig.n_ends, 2);
    writer_fini(&answer);
    rig_fini(&rig);
}

static void an_early_answer_to_a_long_body_is_not_lost(void **state)
{
    char *bytes = make_bytes(MEGABYTE);
    struct writer answer;
    struct rig rig;
    int fd;

    (void)state;
    rig_init(&rig, NULL);
    rig.answer = ANSWER_REJECT;
    fd = raw_connect(rig_port(&rig));
    raw_send(rig.loop, fd, SPAN_LIT("PUT / HTTP/1.1\r\n" H "Content-Length: 1000000\r\n\r\n"));
    raw_send(rig.loop, fd, span_of(bytes, 500000));
    writer_init(&answer, RECORD_MAX);
    raw_read_to_end(&answer, rig.loop, fd);
    assert_true(has_text(&answer, "HTTP/1.1 404 "));
    assert_int_equal(rig.n_bytes, 0);
    writer_fini(&answer);
    free(bytes);
    close(fd);
    rig_fini(&rig);
}

static void an_expectation_is_met_once_and_only_if_the_body_is_wanted(void **state)
{
    struct writer answer;
    struct rig rig;
    int fd;

    (void)state;
    rig_init(&rig, NULL);
    writer_init(&answer, RECORD_MAX);
    fd = raw_connect(rig_port(&rig));
    raw_send(rig.loop, fd,
             SPAN_LIT("PUT / HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n"));
    raw_read_until(&answer, rig.loop, fd, "HTTP/1.1 100 Continue\r\n\r\n");
    raw_send(rig.loop, fd, SPAN_LIT("ab"));
    raw_read_until(&answer, rig.loop, fd, "\r\n\r\nab");
    assert_int_equal(count_text(&answer, "100 Continue"), 1);
    rig.answer = ANSWER_REJECT;
    raw_send(rig.loop, fd,
             SPAN_LIT("PUT / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
    raw_read_to_end(&answer, rig.loop, fd);
    assert_int_equal(count_text(&answer, "100 Continue"), 1);
    assert_true(has_text(&answer, "HTTP/1.1 404 "));
    close(fd);
    writer_fini(&answer);
    rig_fini(&rig);
}

static void a_connection_ends_after_its_share_of_requests(void **state)
{
    struct http_limits limits = http_limits_default;
    struct writer answer;
    struct rig rig;

    (void)state;
    limits.requests_max = 3;
    rig_init(&rig, &(struct http_listener_options){.address = "127.0.0.1", .limits = &limits});
    exchange(&answer, &rig,
             SPAN_LIT("GET /1 HTTP/1.1\r\n" H "\r\nGET /2 HTTP/1.1\r\n" H
                      "\r\nGET /3 HTTP/1.1\r\n" H "\r\nGET /4 HTTP/1.1\r\n" H "\r\n"));
    assert_int_equal(count_text(&answer, "200 OK"), 3);
    assert_int_equal(count_text(&answer, "Connection: close"), 1);
    assert_int_equal(rig.n_heads, 3);
    writer_fini(&answer);
    rig_fini(&rig);
}

static void draining_lets_requests_in_flight_end_and_closes_the_rest(void **state)
{
    struct writer answer;
    struct rig rig;
    int idle;
    int busy;

    (void)state;
    rig_init(&rig, NULL);
    rig.answer = ANSWER_HOLD;
    writer_init(&answer, RECORD_MAX);
    idle = raw_connect(rig_port(&rig));
    busy = raw_connect(rig_port(&rig));
    raw_send(rig.loop, busy, SPAN_LIT("GET / HTTP/1.1\r\n" H "\r\n"));
    RUN_UNTIL(rig.loop, rig.n_ends == 1);
    http_listener_drain(rig.listener);
    raw_read_to_end(&answer, rig.loop, idle);
    assert_int_equal(answer.size, 0);
    assert_int_equal(http_listener_n_connections(rig.listener), 1);
    rig_answer(&rig, ANSWER_ECHO);
    raw_read_to_end(&answer, rig.loop, busy);
    assert_true(has_text(&answer, "Connection: close\r\n"));
    assert_int_equal(http_listener_n_connections(rig.listener), 0);
    close(idle);
    close(busy);
    writer_fini(&answer);
    rig_fini(&rig);
}

static void freeing_a_listener_aborts_what_is_in_flight(void **state)
{
    struct rig rig;
    int fd;

    (void)state;
    rig_init(&rig, NULL);
    rig.answer = ANSWER_HOLD;
    fd = raw_connect(rig_port(&rig));
    raw_send(rig.loop, fd, SPAN_LIT("GET / HTTP/1.1\r\n" H "\r\n"));
    RUN_UNTIL(rig.loop, rig.n_ends == 1);
    http_listener_free(rig.listener);
    assert_int_equal(rig.n_aborts, 1);
    rig.listener = NULL;
    close(fd);
    rig_fini(&rig);
}

static void the_peers_address_is_known(void **state)
{
    static const uint8_t expected[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
    struct writer answer;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    exchange(&answer, &rig, SPAN_LIT("GET / HTTP/1.0\r\n" H "\r\n"));
    assert_memory_equal(&rig.peer, expected, sizeof expected);
    writer_fini(&answer);
    rig_fini(&rig);
}

static void a_unix_socket_serves_too(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/freshet-unix-XXXXXX";
    struct writer answer;
    struct rig rig;
    int fd;

    (void)state;
    CHECK(mkdtemp(dir) != NULL);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", dir);
    rig_init(&rig, &(struct http_listener_options){.unix_path = address.sun_path});
    writer_init(&answer, RECORD_MAX);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    raw_send(rig.loop, fd, SPAN_LIT("GET /u HTTP/1.0\r\n" H "\r\n"));
    raw_read_to_end(&answer, rig.loop, fd);
    assert_true(has_text(&answer, "\r\n\r\nGET /u"));
    close(fd);
    writer_fini(&answer);
    rig_fini(&rig);
    assert_int_equal(access(address.sun_path, F_OK), -1);
    rmdir(dir);
}

static void addresses_that_are_none_are_refused(void **state)
{
    const struct http_listener_options bad = {.address = "nowhere"};
    struct http_listener *listener;
    struct loop *loop;

    (void)state;
    assert_int_equal(loop_new(&loop), ERR_OK);
    assert_int_equal(http_listener_open(&listener, loop, &bad, &rig_ops, NULL), ERR_CONFIG);
    loop_free(loop);
}

/* A TLS client made of our own stream. */
struct tls_peer {
    struct stream *stream;
    struct writer got;
    bool is_ready, is_closed, pauses;
    enum stream_end why;
    struct timer resume;
};

static void peer_on_ready(void *arg)
{
    ((struct tls_peer *)arg)->is_ready = true;
}

static void peer_on_bytes(void *arg, struct span bytes)
{
    struct tls_peer *peer = arg;

    writer_bytes(&peer->got, bytes);
    if (peer->pauses) {
        stream_pause(peer->stream);
        timer_start(&peer->resume, 1);
    }
}

static void peer_on_resume(void *arg)
{
    stream_resume(((struct tls_peer *)arg)->stream);
}

static void peer_on_drained(void *arg)
{
    (void)arg;
}

static void peer_on_closed(void *arg, enum stream_end why)
{
    struct tls_peer *peer = arg;

    peer->is_closed = true;
    peer->why = why;
}

static const struct stream_ops peer_ops = {peer_on_ready, peer_on_bytes, peer_on_drained,
                                           peer_on_closed};

struct tls_fixture {
    struct tls_files files, other;
    struct tls_context *server, *client;
    struct rig rig;
    struct tls_peer peer;
};

static void tls_setup(struct tls_fixture *f, const struct http_limits *limits)
{
    tls_files_make(&f->files, "DNS:a.test");
    tls_files_make(&f->other, "DNS:*.b.test");
    const struct tls_certificate list[] = {{f->files.chain, f->files.key},
                                           {f->other.chain, f->other.key}};
    assert_int_equal(tls_server_new(&f->server, list, 2), ERR_OK);
    assert_int_equal(tls_client_new(&f->client, f->files.chain), ERR_OK);
    rig_init(&f->rig, &(struct http_listener_options){
                          .address = "127.0.0.1", .tls = f->server, .limits = limits});
    f->peer = (struct tls_peer){.is_ready = false};
    writer_init(&f->peer.got, RECORD_MAX);
    timer_init(&f->peer.resume, f->rig.loop, peer_on_resume, &f->peer);
}

static void tls_connect(struct tls_fixture *f, const char *name)
{
    struct sockaddr_in address = on_loopback(rig_port(&f->rig));
    const struct stream_options options = {.ops = &peer_ops,
                                           .arg = &f->peer,
                                           .tls = f->client,
                                           .tls_name = name,
                                           .ready_ms = PATIENCE_MS,
                                           .write_ms = PATIENCE_MS,
                                           .output_max = RECORD_MAX};

    f->peer.stream =
        stream_connect(f->rig.loop, (struct sockaddr *)&address, sizeof address, &options);
}

static void tls_teardown(struct tls_fixture *f)
{
    if (f->peer.stream != NULL) {
        stream_cut(f->peer.stream);
    }
    timer_fini(&f->peer.resume);
    writer_fini(&f->peer.got);
    rig_fini(&f->rig);
    tls_context_free(f->server);
    tls_context_free(f->client);
    tls_files_remove(&f->files);
    tls_files_remove(&f->other);
}

static void a_large_body_passes_both_ways_over_tls(void **state)
{
    char *bytes = make_bytes(MEGABYTE);
    struct tls_fixture f;

    (void)state;
    tls_setup(&f, NULL);
    f.rig.pauses = f.peer.pauses = true;
    f.rig.answer = ANSWER_CHUNKED;
    tls_connect(&f, "a.test");
    stream_write(f.peer.stream,
                 SPAN_LIT("PUT / HTTP/1.1\r\n" H CLOSE "Content-Length: 1048576\r\n\r\n"));
    stream_write(f.peer.stream, span_of(bytes, MEGABYTE));
    RUN_UNTIL(f.rig.loop, f.peer.is_closed);
    assert_int_equal(f.peer.why, STREAM_END_EOF);
    assert_true(span_equal(writer_span(&f.rig.body), span_of(bytes, MEGABYTE)));
    assert_true(f.peer.got.size > MEGABYTE);
    assert_true(has_text(&f.peer.got, "\r\n0\r\n\r\n"));
    free(bytes);
    tls_teardown(&f);
}

static void the_wrong_name_or_authority_ends_a_handshake(void **state)
{
    /* The second certificate is chosen by its name, and this client does not trust it. */
    static const char *const names[] = {"c.test", "x.b.test"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct tls_fixture f;

        tls_setup(&f, NULL);
        tls_connect(&f, names[i]);
        RUN_UNTIL(f.rig.loop, f.peer.is_closed);
        assert_int_equal(f.peer.why, STREAM_END_REFUSED);
        assert_false(f.peer.is_ready);
        RUN_UNTIL(f.rig.loop, http_listener_n_connections(f.rig.listener) == 0);
        tls_teardown(&f);
    }
}

static void a_certificate_is_chosen_by_name(void **state)
{
    struct tls_fixture f;

    (void)state;
    tls_setup(&f, NULL);
    tls_context_free(f.client);
    assert_int_equal(tls_client_new(&f.client, f.other.chain), ERR_OK);
    tls_connect(&f, "x.b.test");
    RUN_UNTIL(f.rig.loop, f.peer.is_ready);
    tls_teardown(&f);
}

static void a_peer_that_never_shakes_hands_is_closed(void **state)
{
    static const struct {
        struct span start;
        enum reject why;
    } rows[] = {{SPAN_INIT(""), REJECT_TIMEOUT},
                {SPAN_INIT("\x16\x03\x01"), REJECT_TIMEOUT},
                {SPAN_INIT("GET / HTTP/1.1\r\n" H "\r\n"), REJECT_TLS}};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct tls_fixture f;
        struct writer answer;

        tls_setup(&f, &short_limits);
        exchange(&answer, &f.rig, rows[i].start);
        assert_int_equal(http_listener_n_connections(f.rig.listener), 0);
        assert_int_equal(f.rig.n_refused, 1);
        assert_int_equal(f.rig.refused, rows[i].why);
        assert_int_equal(f.rig.n_heads, 0);
        writer_fini(&answer);
        tls_teardown(&f);
    }
}

static void files_that_are_no_certificates_are_refused(void **state)
{
    struct tls_context *context;
    struct tls_files a;
    struct tls_files b;

    (void)state;
    tls_files_make(&a, "DNS:a.test");
    tls_files_make(&b, "DNS:b.test");
    const struct tls_certificate rows[] = {
        {a.chain, b.key}, {a.key, a.key}, {a.chain, a.chain}, {"/nowhere", a.key}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(tls_server_new(&context, &rows[i], 1), ERR_TLS);
    }
    assert_int_equal(tls_client_new(&context, "/nowhere"), ERR_TLS);
    tls_files_remove(&a);
    tls_files_remove(&b);
}

/* The figure is only one of our own malloc: sanitizers have another. */
static void an_idle_connection_holds_no_buffers(void **state)
{
    enum { N = 200, BYTES_EACH = 2500 };
    static int fds[N];
    struct writer answer;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    writer_init(&answer, RECORD_MAX);
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < N; i++) {
        fds[i] = raw_connect(rig_port(&rig));
        raw_send(rig.loop, fds[i], SPAN_LIT("PUT / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc"));
    }
    RUN_UNTIL(rig.loop, rig.n_ends == N);
    run_for(rig.loop, 20);
    size_t each = (mallinfo2().uordblks - before) / N;
    assert_true(each < BYTES_EACH);
    for (int i = 0; i < N; i++) {
        close(fds[i]);
    }
    writer_fini(&answer);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_could_be_read_in_two_ways_is_refused_and_the_connection_closed),
        cmocka_unit_test(ordinary_requests_are_answered_in_order),
        cmocka_unit_test(requests_may_come_byte_by_byte),
        cmocka_unit_test(targets_and_headers_have_the_sizes_of_the_limits),
        cmocka_unit_test(spaces_without_end_are_cut_off_too),
        cmocka_unit_test(chunk_extensions_and_trailers_are_bounded),
        cmocka_unit_test(a_pipelined_request_waits_until_the_one_before_is_answered),
        cmocka_unit_test(what_a_peer_pipelines_is_bounded),
        cmocka_unit_test(a_large_body_passes_both_ways_with_pauses),
        cmocka_unit_test(a_peer_that_goes_in_the_middle_is_told_of_once),
        cmocka_unit_test(a_peer_that_takes_too_long_is_closed),
        cmocka_unit_test(the_time_for_a_body_does_not_run_while_we_do_not_read),
        cmocka_unit_test(a_peer_that_does_not_read_its_answer_is_cut),
        cmocka_unit_test(a_peer_that_is_answered_beyond_the_cap_is_cut),
        cmocka_unit_test(responses_are_framed_by_the_server_alone),
        cmocka_unit_test(an_answer_without_a_body_leaves_the_connection_usable),
        cmocka_unit_test(an_early_answer_to_a_long_body_is_not_lost),
        cmocka_unit_test(an_expectation_is_met_once_and_only_if_the_body_is_wanted),
        cmocka_unit_test(a_connection_ends_after_its_share_of_requests),
        cmocka_unit_test(draining_lets_requests_in_flight_end_and_closes_the_rest),
        cmocka_unit_test(freeing_a_listener_aborts_what_is_in_flight),
        cmocka_unit_test(the_peers_address_is_known),
        cmocka_unit_test(a_unix_socket_serves_too),
        cmocka_unit_test(addresses_that_are_none_are_refused),
        cmocka_unit_test(a_large_body_passes_both_ways_over_tls),
        cmocka_unit_test(the_wrong_name_or_authority_ends_a_handshake),
        cmocka_unit_test(a_certificate_is_chosen_by_name),
        cmocka_unit_test(a_peer_that_never_shakes_hands_is_closed),
        cmocka_unit_test(files_that_are_no_certificates_are_refused),
        cmocka_unit_test(an_idle_connection_holds_no_buffers),
    };

    return cmocka_run_group_tests_name("http_server", tests, NULL, NULL);
}
