/* What the tests of the relay share: a server that relays to a socket of the test's, and what they
 * do at both ends. */
#pragma once

#include "inbound/forward.h"
#include "inbound/relay.h"
#include "proto/verdict.h"

#include "net_rig.h"

enum {
    BIG = 6 * MEGABYTE, /* more than the kernel takes to send, and WAITING_MAX */
    /* What may wait above RELAY_WAITING_MAX: what was read already when the source was paused. */
    WAITING_MAX = RELAY_WAITING_MAX + 2 * LOOP_SCRATCH_SIZE,
    ARENA_CAP = 1 << 20,
    SMALL_ARENA = 2048,       /* enough for a request of ours */
    SMALL_BUFFER = 64 * 1024, /* bytes in the kernel, for a socket of ours */
    RECORDED_MAX = 2 * BIG,
    LARGE_HEADER = 2 * SMALL_ARENA,
    SOME_RETRIES_MS = 2 * GATE_PROBE_MS,
    A_WHILE_MS = 100, /* in which what can go on does */
    SHORT_MS = 60,    /* an upstream's time */
};

/* What is known of a request's body when it is relayed. */
enum kind { KIND_BODYLESS, KIND_WHOLE, KIND_STREAMED, KIND_COUNT };

/* A server that relays one request at a time to an upstream, which is a socket of the test's or,
 * with to_rig, the server of a rig. */
struct front {
    struct rig rig;
    struct loop *loop;
    struct http_listener *listener;
    int upstream; /* bound, and perhaps listening */
    struct http_pool *pool;
    struct gates *gates;
    struct metrics metrics;
    /* How requests are relayed. */
    enum kind kind;
    bool holds, spoils_head, is_resendable;
    uint32_t patience_s;
    size_t arena_cap;
    /* The one in flight. */
    struct http_exchange *exchange; /* NULL: none */
    struct arena arena;
    struct http_head request;
    struct writer body;
    struct relay relay;
    /* What came of them. */
    unsigned n_statuses, n_held, n_over, n_aborts;
    enum reject why;
    size_t n_taken;                         /* bytes of bodies that came from peers */
    size_t request_waiting, answer_waiting; /* the most there was, in bytes */
};

static inline void finish(struct front *f)
{
    f->exchange = NULL;
    relay_fini(&f->relay);
    arena_fini(&f->arena);
}

static inline void on_status(void *arg)
{
    struct front *f = arg;

    f->n_statuses++;
    assert_true(f->relay.answer.status >= 200);
}

static inline void on_held(void *arg)
{
    struct front *f = arg;
    const struct http_head *answer = &f->relay.answer;

    f->n_held++;
    http_respond(f->exchange, answer->status, answer->headers, answer->n_headers,
                 writer_span(&f->relay.held));
    finish(f);
}

static inline void on_over(void *arg, enum reject why)
{
    struct front *f = arg;

    f->n_over++;
    f->why = why;
    finish(f);
}

static const struct relay_ops relay_ops = {on_status, on_held, on_over};

static inline void start_relay(struct front *f)
{
    static const struct http_header evil = {SPAN_INIT("X-Evil"), SPAN_INIT("a\nb")};
    struct span body = writer_span(&f->body);
    const struct relay_options options = {
        .ops = &relay_ops,
        .arg = f,
        .loop = f->loop,
        .gates = f->gates,
        .metrics = &f->metrics,
        .arena = &f->arena,
        .exchange = f->exchange,
        .pool = f->pool,
        .request = &f->request,
        .body = f->kind == KIND_WHOLE ? &body : NULL,
        .is_resendable = f->is_resendable,
        .holds = f->holds,
        .patience_s = f->patience_s,
    };

    if (f->spoils_head) {
        f->request.headers = &evil;
        f->request.n_headers = 1;
    }
    if (!relay_start(&f->relay, &options)) {
        http_respond_reject(f->exchange, REJECT_BAD_HTTP);
        finish(f);
    }
}

static inline void front_on_head(struct http_exchange *ex, const struct http_head *head)
{
    struct front *f = ex->arg;
    const struct forward_peer peer = {.address = http_peer_address(ex)};

    assert_null(f->exchange);
    f->exchange = ex;
    arena_init(&f->arena, f->arena_cap);
    writer_reset(&f->body);
    assert_true(forward_request(&f->request, &f->arena, head, &peer, f->holds));
    if (f->kind != KIND_WHOLE) {
        start_relay(f);
    }
}

static inline void front_on_body(struct http_exchange *ex, struct span bytes)
{
    struct front *f = ex->arg;

    f->n_taken += bytes.size;
    if (f->kind == KIND_WHOLE) {
        writer_bytes(&f->body, bytes);
        return;
    }
    relay_body(&f->relay, bytes);
    size_t waiting = f->relay.call == NULL ? 0 : http_call_output_size(f->relay.call);
    f->request_waiting = waiting > f->request_waiting ? waiting : f->request_waiting;
}

static inline void front_on_end(struct http_exchange *ex)
{
    struct front *f = ex->arg;

    if (f->kind == KIND_WHOLE) {
        start_relay(f);
    } else {
        relay_body_end(&f->relay);
    }
}

static inline void front_on_drained(struct http_exchange *ex)
{
    struct front *f = ex->arg;

    relay_drained(&f->relay);
}

static inline void front_on_abort(struct http_exchange *ex)
{
    struct front *f = ex->arg;

    f->n_aborts++;
    finish(f);
}

static const struct http_server_ops front_ops = {
    .on_head = front_on_head,
    .on_body = front_on_body,
    .on_end = front_on_end,
    .on_drained = front_on_drained,
    .on_abort = front_on_abort,
};

/* Those of a listener are those of what it accepts. */
static inline void make_buffers_small(int fd)
{
    const int size = SMALL_BUFFER;

    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
}

static inline int connect_peer(const struct front *f)
{
    int fd = raw_connect(http_listener_port(f->listener));

    make_buffers_small(fd);
    return fd;
}

static inline void front_init(struct front *f, enum kind kind, bool to_rig,
                              const struct http_pool_limits *limits)
{
    const struct http_listener_options listen_to = {.address = "127.0.0.1"};
    struct http_pool_options options = {
        .host = "127.0.0.1", .max_connections = 1, .limits = limits};

    *f = (struct front){.kind = kind, .patience_s = 0, .arena_cap = ARENA_CAP};
    rig_init(&f->rig, NULL);
    f->loop = f->rig.loop;
    writer_init(&f->body, RECORD_MAX);
    metrics_init(&f->metrics);
    f->upstream = raw_listen(&options.port);
    make_buffers_small(f->upstream);
    options.port = to_rig ? rig_port(&f->rig) : options.port;
    f->gates = gates_new(f->loop);
    assert_int_equal(http_pool_new(&f->pool, f->loop, &options), ERR_OK);
    assert_int_equal(http_listener_open(&f->listener, f->loop, &listen_to, &front_ops, f), ERR_OK);
}

static inline void front_fini(struct front *f)
{
    http_listener_free(f->listener);
    assert_null(f->exchange);
    gates_free(f->gates);
    http_pool_free(f->pool);
    close(f->upstream);
    writer_fini(&f->body);
    rig_fini(&f->rig);
}

/* Connections to the upstream are refused, until it listens again: the port stays its own. */
static inline void stop_listening(struct front *f)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    const int on = 1;

    CHECK(getsockname(f->upstream, (struct sockaddr *)&address, &size) == 0);
    close(f->upstream);
    f->upstream = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(f->upstream >= 0);
    CHECK(setsockopt(f->upstream, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    CHECK(bind(f->upstream, (struct sockaddr *)&address, sizeof address) == 0);
}

static inline bool is_over(const struct front *f)
{
    return f->n_held + f->n_over > 0;
}

/* Also watches what waits for the peer. */
static inline bool send_some(struct front *f, struct span *rest, int fd)
{
    if (rest->size > 0) {
        ssize_t n = send(fd, rest->data, rest->size, MSG_NOSIGNAL);
        *rest = span_skip(*rest, n > 0 ? (size_t)n : 0);
    }
    size_t waiting = f->exchange == NULL ? 0 : http_output_size(f->exchange);
    f->answer_waiting = waiting > f->answer_waiting ? waiting : f->answer_waiting;
    return rest->size == 0;
}

static inline void send_a_while(struct front *f, struct span *rest, int fd)
{
    for (int i = 0; i < A_WHILE_MS; i++) {
        send_some(f, rest, fd);
        run_for(f->loop, 1);
    }
}

/* Until that many bytes wait in us that their source is paused, and whatever goes after that. */
static inline void send_until_paused(struct front *f, struct span *rest, int fd,
                                     const size_t *waiting)
{
    RUN_UNTIL(f->loop, (send_some(f, rest, fd), *waiting > RELAY_WAITING_MAX));
    send_a_while(f, rest, fd);
}

/* All there is to read now; false at the end. */
static inline bool drain(struct writer *out, int fd)
{
    size_t before;

    do {
        before = out->size;
        if (!raw_read(out, fd)) {
            return false;
        }
    } while (out->size > before);
    return true;
}

/* Reads at `fd` until that many bytes are there, while the rest of something is sent. */
static inline void read_while_sending(struct front *f, struct writer *out, int fd, size_t size,
                                      struct span *rest, int from)
{
    RUN_UNTIL(f->loop, (send_some(f, rest, from), drain(out, fd), out->size >= size));
}

static inline struct writer record(void)
{
    struct writer w;

    writer_init(&w, RECORDED_MAX);
    return w;
}

/* A head and then that body. */
static inline struct span message(struct writer *out, const char *start, struct span body,
                                  bool is_chunked)
{
    char framing[64];

    *out = record();
    writer_bytes(out, span_str(start));
    snprintf(framing, sizeof framing,
             is_chunked ? "Transfer-Encoding: chunked\r\n\r\n%zx\r\n"
                        : "Content-Length: %zu\r\n\r\n",
             body.size);
    writer_bytes(out, span_str(framing));
    writer_bytes(out, body);
    if (is_chunked) {
        writer_bytes(out, SPAN_LIT("\r\n0\r\n\r\n"));
    }
    assert_false(out->failed);
    return writer_span(out);
}

/* The bytes of a message after its head. */
static inline struct span after_head(const struct writer *w)
{
    const char *end = memmem(w->data, w->size, "\r\n\r\n", 4);

    assert_non_null(end);
    return span_skip(writer_span(w), (size_t)(end - w->data) + 4);
}

/* Of a message with its length or chunked. */
static inline void body_of(struct writer *out, const struct writer *w)
{
    struct span rest = after_head(w);

    *out = record();
    if (memmem(w->data, (size_t)(rest.data - w->data), "chunked\r\n", 9) == NULL) {
        writer_bytes(out, rest);
        return;
    }
    while (rest.size > 0) {
        const char *line_end = memmem(rest.data, rest.size, "\r\n", 2);
        assert_non_null(line_end);
        size_t size = strtoul(rest.data, NULL, 16);
        rest = span_skip(rest, (size_t)(line_end - rest.data) + 2);
        assert_true(size + 2 <= rest.size);
        writer_bytes(out, span_of(rest.data, size));
        rest = span_skip(rest, size + 2);
    }
}

static inline void assert_body(const struct writer *w, struct span expected)
{
    struct writer body;

    body_of(&body, w);
    assert_int_equal(body.size, expected.size);
    assert_true(span_equal(writer_span(&body), expected));
    writer_fini(&body);
}

#define PUT       "PUT /p HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n"
#define PUT_AGAIN "PUT /p HTTP/1.1\r\nHost: a.example\r\n"
#define GET       "GET /g HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
#define OK        "HTTP/1.1 200 OK\r\nX-Up: stream\r\n"

/* A peer that has sent a request of that kind, the body being "body"; its socket. */
static inline int ask(struct front *f)
{
    static const char *const requests[KIND_COUNT] = {
        [KIND_BODYLESS] = GET,
        [KIND_WHOLE] = PUT "Content-Length: 4\r\n\r\nbody",
        [KIND_STREAMED] = PUT "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    };
    int peer = connect_peer(f);

    raw_send(f->loop, peer, span_str(requests[f->kind]));
    return peer;
}

/* Takes that request; the upstream's end of the connection. */
static inline int take(struct front *f)
{
    static const char *const ends[KIND_COUNT] = {"\r\n\r\n", "\r\n\r\nbody", "\r\n0\r\n\r\n"};
    struct writer got = record();
    int fd = raw_accept(f->loop, f->upstream);

    raw_read_until(&got, f->loop, fd, ends[f->kind]);
    writer_fini(&got);
    return fd;
}
