#include "net/http_client.h"

#include "net_rig.h"

/* What a call told its caller, and how the caller behaves. */
struct seen {
    struct loop *loop;
    struct http_call *call; /* NULL once it is over */
    struct span source;     /* still to be sent, piece by piece */
    struct writer body;
    struct timer resume;
    uint64_t content_length;
    unsigned n_heads, n_ends, n_failures, n_drained, n_pieces;
    unsigned status;
    enum http_call_failure failure;
    char test_header[64];
    bool has_content_length;
    bool pauses, cancels_at_head, cancels_at_body;
};

static void on_head(void *arg, const struct http_head *head)
{
    struct seen *seen = arg;
    struct span value = http_header_find(head, SPAN_LIT("x-test"));

    seen->n_heads++;
    seen->status = head->status;
    seen->has_content_length = head->has_content_length;
    seen->content_length = head->content_length;
    snprintf(seen->test_header, sizeof seen->test_header, "%.*s", (int)value.size, value.data);
    if (seen->cancels_at_head) {
        http_call_cancel(TAKE(seen->call));
    }
}

static void on_body(void *arg, struct span bytes)
{
    struct seen *seen = arg;

    seen->n_pieces++;
    writer_bytes(&seen->body, bytes);
    if (seen->cancels_at_body) {
        http_call_cancel(TAKE(seen->call));
    } else if (seen->pauses) {
        http_call_pause(seen->call);
        timer_start(&seen->resume, 1);
    }
}

static void on_resume(void *arg)
{
    struct seen *seen = arg;

    if (seen->call != NULL) {
        http_call_resume(seen->call);
    }
}

static void on_end(void *arg)
{
    struct seen *seen = arg;

    seen->n_ends++;
    seen->call = NULL;
}

static void on_failed(void *arg, enum http_call_failure failure)
{
    struct seen *seen = arg;

    seen->n_failures++;
    seen->failure = failure;
    seen->call = NULL;
}

static void send_more(struct seen *seen)
{
    while (seen->source.size > 0 && http_call_output_size(seen->call) < OUTPUT_ENOUGH) {
        size_t n = seen->source.size < PIECE ? seen->source.size : PIECE;
        http_call_body(seen->call, span_of(seen->source.data, n));
        seen->source = span_skip(seen->source, n);
        if (seen->source.size == 0) {
            http_call_body_end(seen->call);
        }
    }
}

static void on_drained(void *arg)
{
    struct seen *seen = arg;

    seen->n_drained++;
    send_more(seen);
}

static const struct http_call_ops call_ops = {on_head, on_body, on_end, on_failed, on_drained};

static void seen_init(struct seen *seen, struct loop *loop)
{
    *seen = (struct seen){.loop = loop};
    writer_init(&seen->body, RECORD_MAX);
    timer_init(&seen->resume, loop, on_resume, seen);
}

static void seen_fini(struct seen *seen)
{
    timer_fini(&seen->resume);
    writer_fini(&seen->body);
}

static bool is_over(const struct seen *seen)
{
    return seen->n_ends + seen->n_failures > 0;
}

static struct http_head head_of(const char *method, const char *target)
{
    return (struct http_head){.method = span_str(method), .target = span_str(target)};
}

static const struct http_pool_limits short_limits = {
    .connect_ms = 60,
    .queue_ms = 60,
    .head_ms = 60,
    .body_ms = 60,
    .write_ms = 60,
    .idle_ms = 60,
};

static struct http_pool *pool_to(struct loop *loop, uint16_t port, uint32_t max_connections,
                                 const struct http_pool_limits *limits)
{
    const struct http_pool_options options = {
        .host = "127.0.0.1", .port = port, .max_connections = max_connections, .limits = limits};
    struct http_pool *pool;

    assert_int_equal(http_pool_new(&pool, loop, &options), ERR_OK);
    return pool;
}

/* A server of ours and a pool to it. */
struct pair {
    struct rig rig;
    struct http_pool *pool;
    struct seen seen;
};

static void pair_init(struct pair *pair)
{
    rig_init(&pair->rig, NULL);
    pair->pool = pool_to(pair->rig.loop, rig_port(&pair->rig), 1, NULL);
    seen_init(&pair->seen, pair->rig.loop);
}

static void pair_fini(struct pair *pair)
{
    seen_fini(&pair->seen);
    http_pool_free(pair->pool);
    rig_fini(&pair->rig);
}

static void call(struct pair *pair, const struct http_head *head)
{
    assert_int_equal(http_call_start(&pair->seen.call, pair->pool, head, &call_ops, &pair->seen),
                     ERR_OK);
}

static void a_call_is_answered_and_its_connection_used_again(void **state)
{
    struct http_head get = head_of("GET", "/a?b=%2f");
    struct pair pair;

    (void)state;
    pair_init(&pair);
    for (unsigned i = 1; i <= 3; i++) {
        call(&pair, &get);
        assert_int_equal(pair.seen.n_ends, i - 1); /* nothing from inside */
        RUN_UNTIL(pair.rig.loop, pair.seen.n_ends == i);
        assert_int_equal(pair.seen.status, 200);
        assert_int_equal(pair.seen.content_length, 12);
        assert_int_equal(http_pool_n_connections(pair.pool), 1);
        assert_int_equal(http_listener_n_connections(pair.rig.listener), 1);
    }
    assert_true(
        span_equal(writer_span(&pair.seen.body), SPAN_LIT("GET /a?b=%2fGET /a?b=%2fGET /a?b=%2f")));
    pair_fini(&pair);
}

static void a_whole_body_of_a_megabyte_goes_and_comes_back_with_pauses(void **state)
{
    char *bytes = make_bytes(MEGABYTE);
    struct http_head put = head_of("PUT", "/");
    struct pair pair;

    (void)state;
    for (int i = 0; i < 2; i++) {
        pair_init(&pair);
        pair.rig.answer = i == 0 ? ANSWER_ECHO : ANSWER_CHUNKED;
        pair.rig.pauses = pair.seen.pauses = true;
        assert_int_equal(http_call_start_with_body(&pair.seen.call, pair.pool, &put,
                                                   span_of(bytes, MEGABYTE), &call_ops, &pair.seen),
                         ERR_OK);
        RUN_UNTIL(pair.rig.loop, is_over(&pair.seen));
        assert_int_equal(pair.seen.n_ends, 1);
        assert_true(span_equal(writer_span(&pair.rig.body), span_of(bytes, MEGABYTE)));
        assert_true(span_equal(writer_span(&pair.seen.body), span_of(bytes, MEGABYTE)));
        assert_true(pair.rig.n_pauses > 5 && pair.seen.n_pieces > 5);
        assert_int_equal(pair.seen.has_content_length, i == 0);
        pair_fini(&pair);
    }
    free(bytes);
}

static void a_body_may_be_streamed_with_or_without_its_length(void **state)
{
    char *bytes = make_bytes(MEGABYTE);
    struct pair pair;

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct http_head put = head_of("PUT", "/");
        size_t size = i < 2 ? MEGABYTE : 5;

        put.has_content_length = i % 2 == 0;
        put.content_length = size;
        put.chunked = i % 2 == 1;
        pair_init(&pair);
        pair.rig.pauses = i < 2;
        pair.seen.source = span_of(bytes, size);
        call(&pair, &put);
        send_more(&pair.seen);
        RUN_UNTIL(pair.rig.loop, is_over(&pair.seen));
        assert_int_equal(pair.seen.n_ends, 1);
        assert_true(i >= 2 || pair.seen.n_drained > 1);
        assert_true(span_equal(writer_span(&pair.seen.body), span_of(bytes, size)));
        assert_int_equal(http_pool_n_connections(pair.pool), 1);
        pair_fini(&pair);
    }
    free(bytes);
}

static void calls_over_the_limit_wait_for_a_connection(void **state)
{
    enum { N = 6 };
    struct http_head get = head_of("GET", "/");
    struct seen seen[N];
    struct pair pair;

    (void)state;
    pair_init(&pair);
    for (int i = 0; i < N; i++) {
        seen_init(&seen[i], pair.rig.loop);
        assert_int_equal(http_call_start(&seen[i].call, pair.pool, &get, &call_ops, &seen[i]),
                         ERR_OK);
        assert_true(http_pool_n_connections(pair.pool) <= 1);
    }
    for (int i = 0; i < N; i++) {
        RUN_UNTIL(pair.rig.loop, is_over(&seen[i]));
        assert_int_equal(seen[i].n_ends, 1);
        seen_fini(&seen[i]);
    }
    assert_true(http_pool_n_connections(pair.pool) <= 1);
    pair_fini(&pair);
}

static void a_call_may_be_cancelled_from_its_own_callbacks(void **state)
{
    struct http_head get = head_of("GET", "/");
    struct pair pair;

    (void)state;
    for (int i = 0; i < 2; i++) {
        pair_init(&pair);
        pair.seen.cancels_at_head = i == 0;
        pair.seen.cancels_at_body = i == 1;
        call(&pair, &get);
        RUN_UNTIL(pair.rig.loop, pair.seen.call == NULL);
        run_for(pair.rig.loop, 10);
        assert_int_equal(pair.seen.n_heads, 1);
        assert_int_equal(pair.seen.n_ends + pair.seen.n_failures, 0);
        assert_int_equal(http_pool_n_connections(pair.pool), 0);
        pair_fini(&pair);
    }
}

static void a_call_may_be_cancelled_while_it_waits_and_others_go_on(void **state)
{
    struct http_head get = head_of("GET", "/");
    struct http_call *queued;
    struct seen other;
    struct pair pair;

    (void)state;
    pair_init(&pair);
    seen_init(&other, pair.rig.loop);
    pair.rig.answer = ANSWER_HOLD;
    call(&pair, &get);
    assert_int_equal(http_call_start(&queued, pair.pool, &get, &call_ops, NULL), ERR_OK);
    assert_int_equal(http_call_start(&other.call, pair.pool, &get, &call_ops, &other), ERR_OK);
    http_call_cancel(queued);
    RUN_UNTIL(pair.rig.loop, pair.rig.n_ends == 1);
    http_call_cancel(TAKE(pair.seen.call));
    RUN_UNTIL(pair.rig.loop, pair.rig.n_ends == 2); /* the other's */
    assert_int_equal(pair.rig.n_aborts, 1);
    rig_answer(&pair.rig, ANSWER_ECHO);
    RUN_UNTIL(pair.rig.loop, is_over(&other));
    assert_int_equal(other.n_ends, 1);
    assert_int_equal(pair.seen.n_ends + pair.seen.n_failures, 0);
    seen_fini(&other);
    pair_fini(&pair);
}

static void nothing_that_could_break_the_framing_is_sent(void **state)
{
    static const struct {
        struct span method, target, name, value;
    } rows[] = {
        {SPAN_INIT("GET"), SPAN_INIT("/"), SPAN_INIT("X"), SPAN_INIT("a\r\nY: b")},
        {SPAN_INIT("GET"), SPAN_INIT("/"), SPAN_INIT("X"), SPAN_INIT("a\nb")},
        {SPAN_INIT("GET"), SPAN_INIT("/"), SPAN_INIT("X"), SPAN_INIT("a\0b")},
        {SPAN_INIT("GET"), SPAN_INIT("/"), SPAN_INIT("X: y\r\nZ"), SPAN_INIT("a")},
        {SPAN_INIT("GET"), SPAN_INIT("/"), SPAN_INIT(""), SPAN_INIT("a")},
        {SPAN_INIT("GET"), SPAN_INIT("/ HTTP/1.1\r\nX: y"), SPAN_INIT("X"), SPAN_INIT("a")},
        {SPAN_INIT("GET"), SPAN_INIT("/a b"), SPAN_INIT("X"), SPAN_INIT("a")},
        {SPAN_INIT("GET"), SPAN_INIT(""), SPAN_INIT("X"), SPAN_INIT("a")},
        {SPAN_INIT("GE T"), SPAN_INIT("/"), SPAN_INIT("X"), SPAN_INIT("a")},
        {SPAN_INIT(""), SPAN_INIT("/"), SPAN_INIT("X"), SPAN_INIT("a")},
    };
    struct pair pair;

    (void)state;
    pair_init(&pair);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct http_header header = {rows[i].name, rows[i].value};
        const struct http_head head = {
            .method = rows[i].method, .target = rows[i].target, .headers = &header, .n_headers = 1};
        assert_int_equal(http_call_start(&pair.seen.call, pair.pool, &head, &call_ops, &pair.seen),
                         ERR_CONFIG);
    }
    run_for(pair.rig.loop, 10);
    assert_int_equal(http_pool_n_connections(pair.pool), 0);
    pair_fini(&pair);
}

/* An upstream that says just what the test wants. */
struct canned {
    struct loop *loop;
    int listener;
    uint16_t port;
    struct http_pool *pool;
    struct seen seen;
    struct writer request;
};

static void canned_init(struct canned *canned, const struct http_pool_limits *limits)
{
    *canned = (struct canned){.listener = -1};
    assert_int_equal(loop_new(&canned->loop), ERR_OK);
    canned->listener = raw_listen(&canned->port);
    canned->pool = pool_to(canned->loop, canned->port, 1, limits);
    seen_init(&canned->seen, canned->loop);
    writer_init(&canned->request, RECORD_MAX);
}

static void canned_fini(struct canned *canned)
{
    writer_fini(&canned->request);
    seen_fini(&canned->seen);
    http_pool_free(canned->pool);
    close(canned->listener);
    loop_free(canned->loop);
}

static void canned_call(struct canned *canned, const char *method)
{
    struct http_head head = head_of(method, "/");

    assert_int_equal(
        http_call_start(&canned->seen.call, canned->pool, &head, &call_ops, &canned->seen), ERR_OK);
}

static void the_request_is_written_anew(void **state)
{
    static const struct http_header headers[] = {
        {SPAN_INIT("Host"), SPAN_INIT("a.test")},
        {SPAN_INIT("content-length"), SPAN_INIT("99")},
        {SPAN_INIT("Transfer-Encoding"), SPAN_INIT("gzip")},
        {SPAN_INIT("Connection"), SPAN_INIT("close")},
        {SPAN_INIT("Expect"), SPAN_INIT("100-continue")},
        {SPAN_INIT("X-Other"), SPAN_INIT("kept \xc3\xa4")},
    };
    struct http_head head = head_of("POST", "/x?y=%2F");
    struct canned canned;
    int fd;

    (void)state;
    canned_init(&canned, NULL);
    head.headers = headers;
    head.n_headers = sizeof headers / sizeof headers[0];
    assert_int_equal(http_call_start_with_body(&canned.seen.call, canned.pool, &head,
                                               SPAN_LIT("body"), &call_ops, &canned.seen),
                     ERR_OK);
    fd = raw_accept(canned.loop, canned.listener);
    raw_read_until(&canned.request, canned.loop, fd, "body");
    assert_true(span_equal(writer_span(&canned.request),
                           SPAN_LIT("POST /x?y=%2F HTTP/1.1\r\nHost: a.test\r\n"
                                    "X-Other: kept \xc3\xa4\r\nContent-Length: 4\r\n\r\nbody")));
    raw_send(canned.loop, fd, SPAN_LIT("HTTP/1.1 204 No Content\r\n\r\n"));
    RUN_UNTIL(canned.loop, is_over(&canned.seen));
    writer_reset(&canned.request);
    canned_call(&canned, "PUT");
    raw_read_until(&canned.request, canned.loop, fd, "\r\n\r\n");
    assert_true(has_text(&canned.request, "\r\nHost: 127.0.0.1:"));
    assert_true(has_text(&canned.request, "\r\nContent-Length: 0\r\n"));
    raw_send(canned.loop, fd, SPAN_LIT("HTTP/1.1 204 No Content\r\n\r\n"));
    RUN_UNTIL(canned.loop, canned.seen.n_ends == 2);
    close(fd);
    canned_fini(&canned);
}

struct answer_row {
    const char *what;
    const char *method;
    struct span bytes;
    bool closes; /* after them */
    unsigned status;
    const char *body;
    size_t n_connections; /* left in the pool */
};

static const struct answer_row answer_rows[] = {
    {"a length", "GET", SPAN_INIT("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), false, 200,
     "abc", 1},
    {"chunks", "GET",
     SPAN_INIT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n"
               "Trailer: x\r\n\r\n"),
     false, 200, "abcd", 1},
    {"up to the close", "GET", SPAN_INIT("HTTP/1.1 200 OK\r\n\r\nabc"), true, 200, "abc", 0},
    {"HTTP/1.0", "GET", SPAN_INIT("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"), false, 200,
     "abc", 0},
    {"Connection: close", "GET",
     SPAN_INIT("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 3\r\n\r\nabc"), false,
     200, "abc", 0},
    {"HEAD", "HEAD", SPAN_INIT("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), false, 200, "", 1},
    {"HEAD, chunked", "HEAD", SPAN_INIT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
     false, 200, "", 1},
    {"204", "GET", SPAN_INIT("HTTP/1.1 204 No Content\r\n\r\n"), false, 204, "", 1},
    {"304 with a length", "GET",
     SPAN_INIT("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"), false, 304, "", 1},
    {"interim answers", "GET",
     SPAN_INIT("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Test: no\r\n\r\n"
               "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
     false, 200, "abc", 1},
    {"an empty body", "GET", SPAN_INIT("HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n"), false, 500,
     "", 1},
    {"more than one answer", "GET",
     SPAN_INIT("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n"), false,
     200, "abc", 0},
};

static void answers_of_every_framing_are_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * sizeof answer_rows / sizeof answer_rows[0]; i++) {
        const struct answer_row *row = &answer_rows[i / 2];
        size_t piece = i % 2 == 0 ? row->bytes.size : 1; /* at once, and byte by byte */
        struct canned canned;
        int fd;

        canned_init(&canned, NULL);
        canned_call(&canned, row->method);
        fd = raw_accept(canned.loop, canned.listener);
        raw_read_until(&canned.request, canned.loop, fd, "\r\n\r\n");
        for (size_t at = 0; at < row->bytes.size; at += piece) {
            raw_send(canned.loop, fd, span_of(row->bytes.data + at, piece));
        }
        if (row->closes) {
            close(fd);
        }
        RUN_UNTIL(canned.loop, is_over(&canned.seen));
        run_for(canned.loop, 5);
        if (canned.seen.n_heads != 1 || canned.seen.n_ends != 1 ||
            canned.seen.status != row->status || canned.seen.test_header[0] != '\0' ||
            !span_equal(writer_span(&canned.seen.body), span_str(row->body)) ||
            http_pool_n_connections(canned.pool) != row->n_connections) {
            fail_msg("%s: %u heads, %u ends, status %u, %zu connections, body %.*s", row->what,
                     canned.seen.n_heads, canned.seen.n_ends, canned.seen.status,
                     http_pool_n_connections(canned.pool), (int)canned.seen.body.size,
                     canned.seen.body.data);
        }
        if (!row->closes) {
            close(fd);
        }
        canned_fini(&canned);
    }
}

struct failure_row {
    const char *what;
    struct span bytes;
    bool closes;
    enum http_call_failure failure;
};

#define OK "HTTP/1.1 200 OK\r\n"

static const struct failure_row failure_rows[] = {
    {"nothing", SPAN_INIT(""), true, HTTP_CALL_CUT_BEFORE_HEAD},
    {"half a head", SPAN_INIT("HTTP/1.1 200 OK\r\nX"), true, HTTP_CALL_CUT_BEFORE_HEAD},
    {"only an interim answer", SPAN_INIT("HTTP/1.1 100 Continue\r\n\r\n"), true,
     HTTP_CALL_CUT_BEFORE_HEAD},
    {"half a body", SPAN_INIT(OK "Content-Length: 3\r\n\r\nab"), true, HTTP_CALL_CUT},
    {"chunks without an end", SPAN_INIT(OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), true,
     HTTP_CALL_CUT},
    {"no HTTP", SPAN_INIT("SSH-2.0-OpenSSH\r\n"), false, HTTP_CALL_MALFORMED},
    {"another version", SPAN_INIT("HTTP/2.0 200 OK\r\n\r\n"), false, HTTP_CALL_MALFORMED},
    {"TE and CL", SPAN_INIT(OK "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc"), false,
     HTTP_CALL_MALFORMED},
    {"two CLs", SPAN_INIT(OK "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"), false,
     HTTP_CALL_MALFORMED},
    {"a TE that is not chunked", SPAN_INIT(OK "Transfer-Encoding: gzip\r\n\r\nabc"), false,
     HTTP_CALL_MALFORMED},
    {"TE on HTTP/1.0", SPAN_INIT("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), false,
     HTTP_CALL_MALFORMED},
    {"bare line feeds", SPAN_INIT("HTTP/1.1 200 OK\nContent-Length: 0\n\n"), false,
     HTTP_CALL_MALFORMED},
    {"101", SPAN_INIT("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), false,
     HTTP_CALL_MALFORMED},
    {"interim answers without end",
     SPAN_INIT("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\n"
               "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\n"
               "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\n"),
     false, HTTP_CALL_MALFORMED},
    {"an interim answer with a body in chunks",
     SPAN_INIT("HTTP/1.1 199 E\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"), false,
     HTTP_CALL_MALFORMED},
    {"an interim answer with a length", SPAN_INIT("HTTP/1.1 199 E\r\nContent-Length: 1\r\n\r\na"),
     false, HTTP_CALL_MALFORMED},
    {"no head in time", SPAN_INIT(""), false, HTTP_CALL_TIMEOUT},
    {"half a head and no more", SPAN_INIT("HTTP/1.1 200 OK\r\nX"), false, HTTP_CALL_TIMEOUT},
    {"half a body and no more", SPAN_INIT(OK "Content-Length: 3\r\n\r\nab"), false,
     HTTP_CALL_TIMEOUT},
};

static void answers_that_are_none_fail_the_call_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof failure_rows / sizeof failure_rows[0]; i++) {
        const struct failure_row *row = &failure_rows[i];
        struct canned canned;
        int fd;

        canned_init(&canned, row->failure == HTTP_CALL_TIMEOUT ? &short_limits : NULL);
        canned_call(&canned, "GET");
        fd = raw_accept(canned.loop, canned.listener);
        raw_read_until(&canned.request, canned.loop, fd, "\r\n\r\n");
        raw_send(canned.loop, fd, row->bytes);
        if (row->closes) {
            close(fd);
        }
        RUN_UNTIL(canned.loop, is_over(&canned.seen));
        run_for(canned.loop, 5);
        if (canned.seen.n_failures != 1 || canned.seen.failure != row->failure ||
            http_pool_n_connections(canned.pool) != 0) {
            fail_msg("%s: %u failures, %s", row->what, canned.seen.n_failures,
                     http_call_failure_label(canned.seen.failure));
        }
        if (!row->closes) {
            close(fd);
        }
        canned_fini(&canned);
    }
}

static void an_early_answer_to_a_long_body_is_heard(void **state)
{
    static const struct span early =
        SPAN_INIT("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    char *bytes = make_bytes((size_t)8 * MEGABYTE);
    struct http_head put = head_of("PUT", "/");
    struct canned canned;
    int fd;

    (void)state;
    canned_init(&canned, NULL);
    assert_int_equal(http_call_start_with_body(&canned.seen.call, canned.pool, &put,
                                               span_of(bytes, (size_t)8 * MEGABYTE), &call_ops,
                                               &canned.seen),
                     ERR_OK);
    fd = raw_accept(canned.loop, canned.listener);
    raw_read_until(&canned.request, canned.loop, fd, "\r\n\r\n");
    CHECK(send(fd, early.data, early.size, 0) == (ssize_t)early.size);
    close(fd); /* with input unread: a reset */
    RUN_UNTIL(canned.loop, is_over(&canned.seen));
    assert_int_equal(canned.seen.n_ends, 1);
    assert_int_equal(canned.seen.status, 413);
    RUN_UNTIL(canned.loop, http_pool_n_connections(canned.pool) == 0);
    free(bytes);
    canned_fini(&canned);
}

/* Answers one call, and leaves the connection in the pool. */
static int serve_one(struct canned *canned)
{
    int fd;

    canned_call(canned, "GET");
    fd = raw_accept(canned->loop, canned->listener);
    raw_read_until(&canned->request, canned->loop, fd, "\r\n\r\n");
    raw_send(canned->loop, fd, SPAN_LIT(OK "Content-Length: 0\r\n\r\n"));
    RUN_UNTIL(canned->loop, canned->seen.n_ends == 1);
    assert_int_equal(http_pool_n_connections(canned->pool), 1);
    writer_reset(&canned->request);
    return fd;
}

/* A call on a connection whose end we have not heard of yet; gives the one it is tried again on. */
static int retry_one(struct canned *canned)
{
    struct http_head post = head_of("POST", "/");
    int fd;

    close(serve_one(canned));
    assert_int_equal(http_call_start_with_body(&canned->seen.call, canned->pool, &post,
                                               SPAN_LIT("body"), &call_ops, &canned->seen),
                     ERR_OK);
    fd = raw_accept(canned->loop, canned->listener);
    raw_read_until(&canned->request, canned->loop, fd, "body");
    assert_int_equal(canned->seen.n_failures, 0);
    return fd;
}

static void a_call_on_a_connection_that_was_just_closed_is_tried_again(void **state)
{
    struct canned canned;
    int fd;

    (void)state;
    canned_init(&canned, NULL);
    fd = retry_one(&canned);
    raw_send(canned.loop, fd, SPAN_LIT(OK "Content-Length: 0\r\n\r\n"));
    RUN_UNTIL(canned.loop, canned.seen.n_ends == 2);
    close(fd);
    canned_fini(&canned);
}

static void it_is_tried_again_only_once(void **state)
{
    struct canned canned;

    (void)state;
    canned_init(&canned, NULL);
    close(retry_one(&canned));
    RUN_UNTIL(canned.loop, canned.seen.n_failures == 1);
    assert_int_equal(canned.seen.failure, HTTP_CALL_CUT_BEFORE_HEAD);
    canned_fini(&canned);
}

static void a_streamed_body_is_never_sent_twice(void **state)
{
    struct http_head post = head_of("POST", "/");
    struct canned canned;

    (void)state;
    canned_init(&canned, NULL);
    close(serve_one(&canned));
    post.chunked = true;
    canned.seen.source = SPAN_LIT("body");
    assert_int_equal(
        http_call_start(&canned.seen.call, canned.pool, &post, &call_ops, &canned.seen), ERR_OK);
    send_more(&canned.seen);
    RUN_UNTIL(canned.loop, canned.seen.n_failures == 1);
    assert_int_equal(canned.seen.failure, HTTP_CALL_CUT_BEFORE_HEAD);
    canned_fini(&canned);
}

static void idle_connections_go_when_their_time_or_their_peer_has_gone(void **state)
{
    struct canned canned;
    int fd;

    (void)state;
    for (int i = 0; i < 3; i++) {
        canned_init(&canned, i == 0 ? &short_limits : NULL);
        fd = serve_one(&canned);
        if (i == 1) {
            close(fd);
        } else if (i == 2) {
            raw_send(canned.loop, fd, SPAN_LIT("HTTP/1.1 200 OK\r\n\r\n")); /* unasked */
        }
        RUN_UNTIL(canned.loop, http_pool_n_connections(canned.pool) == 0);
        if (i != 1) {
            close(fd);
        }
        canned_fini(&canned);
    }
}

static void nobody_there_is_told_apart(void **state)
{
    struct http_head get = head_of("GET", "/");
    struct canned canned;

    (void)state;
    canned_init(&canned, NULL);
    close(canned.listener);
    canned.listener = -1;
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(
            http_call_start(&canned.seen.call, canned.pool, &get, &call_ops, &canned.seen), ERR_OK);
        assert_int_equal(canned.seen.n_failures, i - 1);
        RUN_UNTIL(canned.loop, canned.seen.n_failures == i);
        assert_int_equal(canned.seen.failure, HTTP_CALL_REFUSED);
    }
    canned_fini(&canned);
}

static void a_call_that_gets_no_connection_in_time_is_refused(void **state)
{
    struct http_head get = head_of("GET", "/");
    struct http_pool_limits limits = http_pool_limits_default;
    struct canned canned;
    struct seen second;

    (void)state;
    limits.queue_ms = 50;
    canned_init(&canned, &limits);
    seen_init(&second, canned.loop);
    canned_call(&canned, "GET");
    assert_int_equal(http_call_start(&second.call, canned.pool, &get, &call_ops, &second), ERR_OK);
    RUN_UNTIL(canned.loop, is_over(&second));
    assert_int_equal(second.failure, HTTP_CALL_REFUSED);
    assert_int_equal(canned.seen.n_failures, 0);
    http_call_cancel(canned.seen.call);
    seen_fini(&second);
    canned_fini(&canned);
}

static void a_name_is_looked_up_and_all_its_addresses_tried(void **state)
{
    struct http_head get = head_of("GET", "/");
    struct pair pair;

    (void)state;
    pair_init(&pair);
    http_pool_free(pair.pool);
    /* ::1 too, perhaps, and first, and nobody listens there. */
    assert_int_equal(http_pool_new(&pair.pool, pair.rig.loop,
                                   &(struct http_pool_options){.host = "localhost",
                                                               .port = rig_port(&pair.rig),
                                                               .max_connections = 1}),
                     ERR_OK);
    call(&pair, &get);
    RUN_UNTIL(pair.rig.loop, is_over(&pair.seen));
    assert_int_equal(pair.seen.n_ends, 1);
    pair_fini(&pair);
}

static void a_name_that_does_not_exist_is_refused(void **state)
{
    struct http_head get = head_of("GET", "/");
    struct pair pair;

    (void)state;
    pair_init(&pair);
    http_pool_free(pair.pool);
    /* No name may have a label of more than 63 characters, so nobody need be asked. */
    assert_int_equal(
        http_pool_new(
            &pair.pool, pair.rig.loop,
            &(struct http_pool_options){
                .host = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                        ".invalid",
                .port = 80,
                .max_connections = 1}),
        ERR_OK);
    call(&pair, &get);
    RUN_UNTIL(pair.rig.loop, is_over(&pair.seen));
    assert_int_equal(pair.seen.failure, HTTP_CALL_REFUSED);
    pair_fini(&pair);
}

static void hop_by_hop_headers_are_known(void **state)
{
    static const struct http_header headers[] = {
        {SPAN_INIT("Connection"), SPAN_INIT("close, X-Private")},
        {SPAN_INIT("connection"), SPAN_INIT(" x-other ")},
    };
    const struct http_head head = {.headers = headers, .n_headers = 2};

    (void)state;
    assert_true(http_header_is_hop_by_hop(SPAN_LIT("TRANSFER-encoding")));
    assert_true(http_header_is_hop_by_hop(SPAN_LIT("te")));
    assert_false(http_header_is_hop_by_hop(SPAN_LIT("Authorization")));
    assert_true(http_head_is_hop_by_hop(&head, SPAN_LIT("x-private")));
    assert_true(http_head_is_hop_by_hop(&head, SPAN_LIT("X-Other")));
    assert_true(http_head_is_hop_by_hop(&head, SPAN_LIT("Upgrade")));
    assert_false(http_head_is_hop_by_hop(&head, SPAN_LIT("X-Oth")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_answered_and_its_connection_used_again),
        cmocka_unit_test(a_whole_body_of_a_megabyte_goes_and_comes_back_with_pauses),
        cmocka_unit_test(a_body_may_be_streamed_with_or_without_its_length),
        cmocka_unit_test(calls_over_the_limit_wait_for_a_connection),
        cmocka_unit_test(a_call_may_be_cancelled_from_its_own_callbacks),
        cmocka_unit_test(a_call_may_be_cancelled_while_it_waits_and_others_go_on),
        cmocka_unit_test(nothing_that_could_break_the_framing_is_sent),
        cmocka_unit_test(the_request_is_written_anew),
        cmocka_unit_test(answers_of_every_framing_are_understood),
        cmocka_unit_test(answers_that_are_none_fail_the_call_once),
        cmocka_unit_test(an_early_answer_to_a_long_body_is_heard),
        cmocka_unit_test(a_call_on_a_connection_that_was_just_closed_is_tried_again),
        cmocka_unit_test(it_is_tried_again_only_once),
        cmocka_unit_test(a_streamed_body_is_never_sent_twice),
        cmocka_unit_test(idle_connections_go_when_their_time_or_their_peer_has_gone),
        cmocka_unit_test(nobody_there_is_told_apart),
        cmocka_unit_test(a_call_that_gets_no_connection_in_time_is_refused),
        cmocka_unit_test(a_name_is_looked_up_and_all_its_addresses_tried),
        cmocka_unit_test(a_name_that_does_not_exist_is_refused),
        cmocka_unit_test(hop_by_hop_headers_are_known),
    };

    return cmocka_run_group_tests_name("http_client", tests, NULL, NULL);
}
