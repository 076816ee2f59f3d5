#include "inbound/forward.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/writer.h"

enum {
    CAP = 1 << 20, /* bytes of an arena that is never full */
    TEXT_MAX = 4096,
    N_MAX = 32, /* headers of a row */
};

/* Headers from "Name: value\n" lines, pointing into the text. */
static struct http_head head_from(struct http_header headers[N_MAX], const char *lines)
{
    size_t n = 0;

    while (*lines != '\0') {
        const char *colon = strchr(lines, ':');
        const char *end = strchr(lines, '\n');
        assert_true(colon != NULL && end != NULL && n < N_MAX);
        headers[n].name = span_of(lines, (size_t)(colon - lines));
        headers[n].value = http_trim(span_of(colon + 1, (size_t)(end - colon - 1)));
        n++;
        lines = end + 1;
    }
    return (struct http_head){.method = SPAN_LIT("PUT"),
                              .target = SPAN_LIT("/a%2Fb?c=%41"),
                              .headers = headers,
                              .n_headers = n,
                              .has_content_length = true,
                              .content_length = 17};
}

static void write_headers(char text[TEXT_MAX], const struct http_head *head)
{
    struct writer w;

    writer_init(&w, TEXT_MAX - 1);
    for (size_t i = 0; i < head->n_headers; i++) {
        writer_bytes(&w, head->headers[i].name);
        writer_bytes(&w, SPAN_LIT(": "));
        writer_bytes(&w, head->headers[i].value);
        writer_char(&w, '\n');
    }
    assert_false(w.failed);
    snprintf(text, TEXT_MAX, "%.*s", (int)w.size, w.data == NULL ? "" : w.data);
    writer_fini(&w);
}

static struct forward_peer peer_at(const char *address, bool is_trusted)
{
    struct forward_peer peer = {.is_trusted = is_trusted};

    assert_int_equal(inet_pton(AF_INET6, address, &peer.address), 1);
    return peer;
}

struct row {
    const char *what;
    const char *peer; /* as IPv6; NULL: 192.0.2.1 */
    const char *headers;
    const char *expected;
    bool is_trusted, reads_answer;
};

#define FROM_PEER "X-Forwarded-For: 192.0.2.1\n"

static const struct row request_rows[] = {
    {.what = "no header at all", .headers = "", .expected = FROM_PEER},
    {.what = "what the homeserver is to see stays, in order, byte for byte",
     .headers = "hOST: a.example\nAuthorization: X-Matrix a\nauthorization: X-Matrix b\n"
                "X-Odd: \"a, b\";  c\t\xc3\xa9\xff\nX-Empty:\nContent-Type: application/json\n"
                "Accept-Encoding: gzip\nContent-Encoding: identity\nX-Odd: again\n",
     .expected = "hOST: a.example\nAuthorization: X-Matrix a\nauthorization: X-Matrix b\n"
                 "X-Odd: \"a, b\";  c\t\xc3\xa9\xff\nX-Empty: \nContent-Type: application/json\n"
                 "Accept-Encoding: gzip\nContent-Encoding: identity\nX-Odd: again\n" FROM_PEER},
    {.what = "hop-by-hop headers, in any case",
     .headers = "Connection: keep-alive\nKeep-Alive: timeout=5\nTE: trailers\ntrailer: X-T\n"
                "TRANSFER-ENCODING: chunked\nUpgrade: h2c\nProxy-Authenticate: Basic\n"
                "proxy-Authorization: Basic YQ==\nProxy-Connection: close\nX-Stays: a\n",
     .expected = "X-Stays: a\n" FROM_PEER},
    {.what = "what Connection names, wherever it stands",
     .headers = "X-Before: a\nConnection: close, X-before\nX-After: b\nx-stays: c\n"
                "connection: \t X-AFTER ,, Accept-Language\naccept-language: d\nX-Aft: e\n",
     .expected = "x-stays: c\nX-Aft: e\n" FROM_PEER},
    {.what = "what Connection names but the request's meaning depends on",
     .headers = "Connection: Host, authorization, Content-Type, CONTENT-ENCODING, X-A\n"
                "Host: a.example\nAuthorization: X-Matrix a\nContent-Type: application/json\n"
                "content-encoding: gzip\nX-A: a\n",
     .expected = "Host: a.example\nAuthorization: X-Matrix a\nContent-Type: application/json\n"
                 "content-encoding: gzip\n" FROM_PEER},
    {.what = "a stranger's word on who it is",
     .headers = "X-Forwarded-For: 10.0.0.1\nx-forwarded-for: 10.0.0.2\nX-Forwarded-Proto: https\n"
                "X-Forwarded-Host: b.example\nX-FORWARDED-PORT: 1\nX-Real-IP: 10.0.0.3\n"
                "Forwarded: for=10.0.0.4\nX-Forward: a\nForwarded-X: b\n",
     .expected = "X-Forward: a\nForwarded-X: b\n" FROM_PEER},
    {.what = "a trusted proxy's word on who it is, several of them joined and added to",
     .headers = "X-Forwarded-For: 10.0.0.1, 10.0.0.2\nX-A: a\nX-Forwarded-Proto: https\n"
                "x-forwarded-for: 10.0.0.3\nX-Forwarded-Host: b.example\nX-Real-IP: 10.0.0.4\n"
                "Forwarded: for=10.0.0.5\nX-Forwarded-Port: 1\n",
     .expected = "X-A: a\nX-Forwarded-Proto: https\nX-Forwarded-Host: b.example\n"
                 "X-Real-IP: 10.0.0.4\nForwarded: for=10.0.0.5\nX-Forwarded-Port: 1\n"
                 "X-Forwarded-For: 10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.1\n",
     .is_trusted = true},
    {.what = "a trusted proxy that says nothing",
     .headers = "X-Forwarded-For:\nX-A: a\n",
     .expected = "X-A: a\n" FROM_PEER,
     .is_trusted = true},
    {.what = "Connection does not take away a trusted proxy's word",
     .headers = "Connection: X-Forwarded-For\nX-Forwarded-For: 10.0.0.1\n",
     .expected = "X-Forwarded-For: 10.0.0.1, 192.0.2.1\n",
     .is_trusted = true},
    {.what = "IPv6",
     .peer = "2001:db8:0:0:0:0:0:1",
     .headers = "X-Forwarded-For: 10.0.0.1\n",
     .expected = "X-Forwarded-For: 2001:db8::1\n"},
    {.what = "IPv6, and the longest there is",
     .peer = "2001:1111:2222:3333:4444:5555:6666:7777",
     .headers = "X-Forwarded-For: 10.0.0.1\n",
     .expected = "X-Forwarded-For: 10.0.0.1, 2001:1111:2222:3333:4444:5555:6666:7777\n",
     .is_trusted = true},
    {.what = "IPv4 mapped into IPv6",
     .peer = "::ffff:203.0.113.254",
     .headers = "",
     .expected = "X-Forwarded-For: 203.0.113.254\n"},
    {.what = "an answer that has to be read",
     .headers = "Accept: */*\nAccept-Encoding: gzip\naccept-encoding: br\nAccept-Language: de\n",
     .expected = "Accept: */*\nAccept-Language: de\n" FROM_PEER,
     .reads_answer = true},
};

static void run_request_row(const struct row *row)
{
    struct http_header headers[N_MAX];
    struct http_head head = head_from(headers, row->headers);
    struct forward_peer peer =
        peer_at(row->peer != NULL ? row->peer : "::ffff:192.0.2.1", row->is_trusted);
    struct http_head out;
    struct arena arena;
    char text[TEXT_MAX];

    arena_init(&arena, CAP);
    assert_true(forward_request(&out, &arena, &head, &peer, row->reads_answer));
    write_headers(text, &out);
    if (strcmp(text, row->expected) != 0) {
        print_error("%s\n", row->what);
    }
    assert_string_equal(text, row->expected);
    assert_true(span_equal(out.method, head.method) && span_equal(out.target, head.target));
    assert_true(out.has_content_length && !out.chunked && out.content_length == 17);
    arena_fini(&arena);
}

static void a_request_goes_on_without_what_is_the_connections(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof request_rows / sizeof request_rows[0]; i++) {
        run_request_row(&request_rows[i]);
    }
}

static void the_request_given_is_left_as_it_was(void **state)
{
    static const char lines[] = "Connection: X-A\nX-A: a\nX-Forwarded-For: b\nX-B: c\n";
    struct forward_peer peer = peer_at("::1", true);
    struct http_header headers[N_MAX];
    struct http_head head = head_from(headers, lines);
    struct http_head out;
    struct arena arena;
    char text[TEXT_MAX];

    (void)state;
    arena_init(&arena, CAP);
    head.has_content_length = false;
    head.chunked = true;
    assert_true(forward_request(&out, &arena, &head, &peer, true));
    assert_true(out.chunked && !out.has_content_length);
    write_headers(text, &head);
    assert_string_equal(text, lines);
    arena_fini(&arena);
}

static const char answer_lines[] =
    "Date: today\nConnection: close, X-Private\nx-private: a\nKeep-Alive: timeout=5\n"
    "Content-Type: application/json\nX-Empty:\nSet-Cookie: a=b\nUpgrade: h2c\nSet-Cookie: c=d\n"
    "X-Forwarded-For: e\nContent-Encoding: gzip\n";

static const char answer_expected[] =
    "Date: today\nContent-Type: application/json\nX-Empty: \nSet-Cookie: a=b\nSet-Cookie: c=d\n"
    "X-Forwarded-For: e\nContent-Encoding: gzip\n";

static void an_answer_outlives_the_head_it_came_in(void **state)
{
    struct http_header headers[N_MAX];
    char lines[sizeof answer_lines];
    struct http_head head;
    struct http_head out;
    struct arena arena;
    char text[TEXT_MAX];

    (void)state;
    arena_init(&arena, CAP);
    memcpy(lines, answer_lines, sizeof lines);
    head = head_from(headers, lines);
    head.status = 207;
    assert_true(forward_answer(&out, &arena, &head));
    memset(lines, '#', sizeof lines - 1);
    memset(headers, 0, sizeof headers);
    write_headers(text, &out);
    assert_string_equal(text, answer_expected);
    assert_int_equal(out.status, 207);
    assert_true(out.has_content_length && out.content_length == 17);
    arena_fini(&arena);
}

/* Whether there was enough room. */
static bool forward_within(size_t cap, bool is_answer)
{
    struct forward_peer peer = peer_at("::1", true);
    struct http_header headers[N_MAX];
    struct http_head head = head_from(headers, answer_lines);
    struct http_head out;
    struct arena arena;

    arena_init(&arena, cap);
    bool is_done = is_answer ? forward_answer(&out, &arena, &head)
                             : forward_request(&out, &arena, &head, &peer, true);
    assert_true(arena.used <= cap);
    arena_fini(&arena);
    return is_done;
}

static void a_full_arena_is_said(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        size_t cap = 0;
        while (cap < CAP && !forward_within(cap, i == 1)) {
            cap++;
        }
        assert_in_range(cap, N_MAX, TEXT_MAX);
        assert_true(forward_within(cap + 1, i == 1));
    }
}

/* Any mixture of these is a head. */
static const struct span names[] = {
    SPAN_INIT("Host"),
    SPAN_INIT("HOST"),
    SPAN_INIT("Authorization"),
    SPAN_INIT("Connection"),
    SPAN_INIT("cOnnection"),
    SPAN_INIT("Keep-Alive"),
    SPAN_INIT("TE"),
    SPAN_INIT("te"),
    SPAN_INIT("Trailer"),
    SPAN_INIT("Transfer-Encoding"),
    SPAN_INIT("transfer-ENCODING"),
    SPAN_INIT("Upgrade"),
    SPAN_INIT("Proxy-Authenticate"),
    SPAN_INIT("Proxy-Authorization"),
    SPAN_INIT("Proxy-Connection"),
    SPAN_INIT("X-Forwarded-For"),
    SPAN_INIT("x-forwarded-proto"),
    SPAN_INIT("X-Real-IP"),
    SPAN_INIT("Content-Type"),
    SPAN_INIT("Content-Length"),
    SPAN_INIT("Accept-Encoding"),
    SPAN_INIT("X-A"),
    SPAN_INIT("x-a"),
    SPAN_INIT("T"),
};

static const struct span values[] = {
    SPAN_INIT(""),         SPAN_INIT("close"),      SPAN_INIT("x-a"),
    SPAN_INIT("X-A , te"), SPAN_INIT(",,Host, T,"), SPAN_INIT("content-length"),
    SPAN_INIT("10.0.0.1"), SPAN_INIT("Connection"), SPAN_INIT("X-Forwarded-For, Content-Type"),
};

/* xorshift64: the same heads in every run. */
static size_t next_below(uint64_t *random, size_t limit)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return (size_t)(*random % limit);
}

static struct http_head random_head(struct http_header headers[N_MAX], uint64_t *random)
{
    struct http_head head = {.method = SPAN_LIT("GET"), .headers = headers};

    head.n_headers = next_below(random, N_MAX);
    for (size_t i = 0; i < head.n_headers; i++) {
        headers[i].name = names[next_below(random, sizeof names / sizeof names[0])];
        headers[i].value = values[next_below(random, sizeof values / sizeof values[0])];
    }
    return head;
}

static bool is_same(const struct http_header *a, const struct http_header *b)
{
    return span_equal(a->name, b->name) && span_equal(a->value, b->value);
}

/* What came out was in the head, in the same order, and is no one connection's. */
static void assert_relayable(const struct http_head *out, size_t n, const struct http_head *head)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        struct span name = out->headers[i].name;
        assert_false(http_header_is_hop_by_hop(name));
        assert_true(!http_head_is_hop_by_hop(head, name) ||
                    span_equal_nocase(name, SPAN_LIT("Host")) ||
                    span_equal_nocase(name, SPAN_LIT("Authorization")) ||
                    span_equal_nocase(name, SPAN_LIT("Content-Type")));
        while (at < head->n_headers && !is_same(&head->headers[at], &out->headers[i])) {
            at++;
        }
        assert_true(at++ < head->n_headers);
    }
}

static void no_mixture_of_headers_lets_a_hop_by_hop_one_through(void **state)
{
    struct forward_peer peer = peer_at("::ffff:192.0.2.1", false);
    uint64_t random = 0x9e3779b97f4a7c15;
    struct http_header headers[N_MAX];
    struct http_head out;
    struct arena arena;

    (void)state;
    arena_init(&arena, CAP);
    for (int i = 0; i < 20000; i++) {
        struct http_head head = random_head(headers, &random);
        peer.is_trusted = next_below(&random, 2) == 0;
        assert_true(forward_request(&out, &arena, &head, &peer, next_below(&random, 2) == 0));
        assert_relayable(&out, out.n_headers - 1, &head);
        assert_int_equal(http_header_count(&out, SPAN_LIT("X-Forwarded-For")), 1);
        assert_true(span_equal(out.headers[out.n_headers - 1].name, SPAN_LIT("X-Forwarded-For")));
        assert_true(forward_answer(&out, &arena, &head));
        assert_relayable(&out, out.n_headers, &head);
        arena_reset(&arena);
    }
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_goes_on_without_what_is_the_connections),
        cmocka_unit_test(the_request_given_is_left_as_it_was),
        cmocka_unit_test(an_answer_outlives_the_head_it_came_in),
        cmocka_unit_test(a_full_arena_is_said),
        cmocka_unit_test(no_mixture_of_headers_lets_a_hop_by_hop_one_through),
    };

    return cmocka_run_group_tests_name("forward", tests, NULL, NULL);
}
