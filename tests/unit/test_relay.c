#include "inbound/relay.h"

#include "relay_rig.h"

static void bodies_are_streamed_both_ways(void **state)
{
    char *bytes = make_bytes(MEGABYTE);
    struct writer request;
    struct front f;

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct writer got = record();
        front_init(&f, KIND_STREAMED, true, NULL);
        f.rig.answer = i < 2 ? ANSWER_ECHO : ANSWER_CHUNKED;
        f.rig.pauses = true;
        message(&request, PUT, span_of(bytes, MEGABYTE), i % 2 == 1);
        int peer = connect_peer(&f);
        raw_send(f.loop, peer, writer_span(&request));
        raw_read_to_end(&got, f.loop, peer);
        assert_true(span_equal(writer_span(&f.rig.body), span_of(bytes, MEGABYTE)));
        assert_true(has_text(&got, "HTTP/1.1 200 OK\r\n"));
        assert_body(&got, span_of(bytes, MEGABYTE));
        assert_true(f.n_over == 1 && f.why == REJECT_NONE && f.n_statuses == 1);
        assert_in_range(f.request_waiting, 1, WAITING_MAX);
        close(peer);
        writer_fini(&got);
        writer_fini(&request);
        front_fini(&f);
    }
    free(bytes);
}

static unsigned n_observed(const struct front *f)
{
    unsigned n = 0;

    for (int i = 0; i < METRICS_N_BUCKETS; i++) {
        n += (unsigned)atomic_load(&f->metrics.histograms[HISTOGRAM_upstream_seconds].buckets[i]);
    }
    return n;
}

static void each_kind_of_request_arrives_and_is_answered(void **state)
{
    struct front f;

    (void)state;
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        struct writer got = record();
        front_init(&f, kind, false, NULL);
        int peer = ask(&f);
        int up = take(&f);
        assert_int_equal(n_observed(&f), 0);
        raw_send(f.loop, up, SPAN_LIT(OK "Keep-Alive: a\r\nContent-Length: 2\r\n\r\nhi"));
        raw_read_to_end(&got, f.loop, peer);
        assert_true(has_text(&got, "X-Up: stream\r\n") && !has_text(&got, "Keep-Alive"));
        assert_body(&got, SPAN_LIT("hi"));
        assert_true(f.n_over == 1 && f.why == REJECT_NONE && f.n_statuses == 1);
        assert_int_equal(n_observed(&f), 1);
        close(up);
        close(peer);
        writer_fini(&got);
        front_fini(&f);
    }
}

static void an_answer_to_head_keeps_its_length(void **state)
{
    struct writer got = record();
    struct front f;

    (void)state;
    front_init(&f, KIND_BODYLESS, false, NULL);
    int peer = connect_peer(&f);
    raw_send(f.loop, peer, SPAN_LIT("HEAD /h HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    int up = take(&f);
    raw_send(f.loop, up, SPAN_LIT(OK "Content-Length: 500\r\n\r\n"));
    raw_read_to_end(&got, f.loop, peer);
    assert_true(has_text(&got, "Content-Length: 500\r\n"));
    assert_int_equal(after_head(&got).size, 0);
    assert_true(f.n_over == 1 && f.why == REJECT_NONE);
    close(up);
    close(peer);
    writer_fini(&got);
    front_fini(&f);
}

/* ... and when it has caught up, the connection is as good as before. */
static void an_upstream_that_does_not_read_slows_the_peer(void **state)
{
    char *bytes = make_bytes(BIG);
    struct writer request;
    struct front f;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct writer got = record();
        struct writer answer = record();
        front_init(&f, KIND_STREAMED, false, NULL);
        struct span rest = message(&request, PUT_AGAIN, span_of(bytes, BIG), i == 1);
        int peer = connect_peer(&f);
        send_until_paused(&f, &rest, peer, &f.request_waiting);
        assert_true(f.exchange != NULL && f.n_taken < BIG);
        assert_in_range(f.request_waiting, RELAY_WAITING_MAX, WAITING_MAX);
        int up = raw_accept(f.loop, f.upstream);
        read_while_sending(&f, &got, up, BIG, &rest, peer);
        raw_read_until(&got, f.loop, up, i == 1 ? "\r\n0\r\n\r\n" : "\r\n\r\n");
        RUN_UNTIL(f.loop, (drain(&got, up), after_head(&got).size >= BIG));
        assert_body(&got, span_of(bytes, BIG));
        assert_in_range(f.request_waiting, RELAY_WAITING_MAX, WAITING_MAX);
        raw_send(f.loop, up, SPAN_LIT(OK "Content-Length: 5\r\n\r\nfirst"));
        raw_read_until(&answer, f.loop, peer, "first");
        raw_send(f.loop, peer, SPAN_LIT(GET));
        writer_reset(&got);
        raw_read_until(&got, f.loop, up, "GET /g");
        raw_send(f.loop, up, SPAN_LIT(OK "Content-Length: 6\r\n\r\nsecond"));
        raw_read_until(&answer, f.loop, peer, "second");
        assert_true(f.n_over == 2 && f.why == REJECT_NONE);
        close(up);
        close(peer);
        writer_fini(&got);
        writer_fini(&answer);
        writer_fini(&request);
        front_fini(&f);
    }
    free(bytes);
}

/* Has the pool's one connection taken by somebody else. */
static struct http_call *occupy(struct front *f)
{
    static const struct http_call_ops none = {0};
    const struct http_head get = {.method = SPAN_LIT("GET"), .target = SPAN_LIT("/")};
    struct http_call *call;

    assert_int_equal(http_call_start(&call, f->pool, &get, &none, NULL), ERR_OK);
    return call;
}

static void a_request_that_waits_for_a_connection_slows_the_peer(void **state)
{
    char *bytes = make_bytes(BIG);
    struct writer got = record();
    struct writer request;
    struct front f;

    (void)state;
    front_init(&f, KIND_STREAMED, false, NULL);
    struct http_call *other = occupy(&f);
    int others = raw_accept(f.loop, f.upstream);
    struct span rest = message(&request, PUT, span_of(bytes, BIG), false);
    int peer = connect_peer(&f);
    send_a_while(&f, &rest, peer);
    assert_non_null(f.exchange);
    assert_in_range(f.n_taken, RELAY_WAITING_MAX, WAITING_MAX);
    http_call_cancel(other);
    int up = raw_accept(f.loop, f.upstream);
    read_while_sending(&f, &got, up, BIG, &rest, peer);
    RUN_UNTIL(f.loop, (drain(&got, up), after_head(&got).size >= BIG));
    assert_body(&got, span_of(bytes, BIG));
    raw_send(f.loop, up, SPAN_LIT(OK "Content-Length: 0\r\n\r\n"));
    RUN_UNTIL(f.loop, is_over(&f));
    assert_int_equal(f.why, REJECT_NONE);
    close(others);
    close(up);
    close(peer);
    writer_fini(&got);
    writer_fini(&request);
    front_fini(&f);
    free(bytes);
}

static void a_peer_that_does_not_read_slows_the_upstream(void **state)
{
    char *bytes = make_bytes(BIG);
    struct writer answer;
    struct front f;

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct writer got = record();
        front_init(&f, KIND_WHOLE, false, NULL);
        f.holds = i >= 2; /* up to a limit, and then all of that waits too */
        size_t most = WAITING_MAX + (f.holds ? REPLY_BODY_SIZE_MAX : 0);
        int peer = ask(&f);
        int up = take(&f);
        struct span rest = message(&answer, OK, span_of(bytes, BIG), i % 2 == 1);
        send_until_paused(&f, &rest, up, &f.answer_waiting);
        assert_non_null(f.exchange);
        assert_in_range(f.answer_waiting, RELAY_WAITING_MAX, most);
        read_while_sending(&f, &got, peer, BIG, &rest, up);
        raw_read_to_end(&got, f.loop, peer);
        assert_body(&got, span_of(bytes, BIG));
        assert_in_range(f.answer_waiting, RELAY_WAITING_MAX, most);
        assert_true(f.n_over == 1 && f.n_held == 0 && f.why == REJECT_NONE);
        close(up);
        close(peer);
        writer_fini(&got);
        writer_fini(&answer);
        front_fini(&f);
    }
    free(bytes);
}

static void a_held_answer_reaches_nobody_before_it_is_whole(void **state)
{
    struct writer got = record();
    struct front f;

    (void)state;
    front_init(&f, KIND_WHOLE, false, NULL);
    f.holds = true;
    int peer = ask(&f);
    int up = take(&f);
    raw_send(f.loop, up,
             SPAN_LIT("HTTP/1.1 207 Multi\r\nX-Up: stream\r\nContent-Length: 8\r\n\r\n"));
    RUN_UNTIL(f.loop, f.n_statuses == 1);
    raw_send(f.loop, up, SPAN_LIT("half"));
    run_for(f.loop, 20);
    assert_true(raw_read(&got, peer) && got.size == 0);
    assert_false(is_over(&f));
    raw_send(f.loop, up, SPAN_LIT("held"));
    RUN_UNTIL(f.loop, is_over(&f));
    raw_read_to_end(&got, f.loop, peer);
    assert_true(f.n_held == 1 && f.n_over == 0 && f.n_statuses == 1);
    assert_true(has_text(&got, "HTTP/1.1 207") && has_text(&got, "X-Up: stream\r\n"));
    assert_body(&got, SPAN_LIT("halfheld"));
    close(up);
    close(peer);
    writer_fini(&got);
    front_fini(&f);
}

static void only_an_answer_too_long_to_be_held_passes_and_whole(void **state)
{
    static const struct {
        size_t size;
        bool is_chunked, is_held;
    } rows[] = {
        {0, false, true},
        {0, true, true},
        {REPLY_BODY_SIZE_MAX, false, true},
        {REPLY_BODY_SIZE_MAX, true, true},
        {REPLY_BODY_SIZE_MAX + 1, false, false},
        {REPLY_BODY_SIZE_MAX + 1, true, false},
        {REPLY_BODY_SIZE_MAX + MEGABYTE, true, false},
    };
    char *bytes = make_bytes(BIG);
    struct writer answer;
    struct front f;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct span body = span_of(bytes, rows[i].size);
        struct writer got = record();
        front_init(&f, KIND_WHOLE, false, NULL);
        f.holds = true;
        int peer = ask(&f);
        int up = take(&f);
        struct span rest = message(&answer, OK, body, rows[i].is_chunked);
        read_while_sending(&f, &got, peer, body.size, &rest, up);
        RUN_UNTIL(f.loop, (send_some(&f, &rest, up), drain(&got, peer), is_over(&f)));
        raw_read_to_end(&got, f.loop, peer);
        assert_body(&got, body);
        assert_true(has_text(&got, "X-Up: stream\r\n"));
        assert_int_equal(f.n_held, rows[i].is_held);
        assert_int_equal(f.n_over, !rows[i].is_held);
        assert_int_equal(f.why, REJECT_NONE);
        close(up);
        close(peer);
        writer_fini(&got);
        writer_fini(&answer);
        front_fini(&f);
    }
    free(bytes);
}

static void a_homeserver_that_comes_back_gets_the_request_once(void **state)
{
    struct front f;

    (void)state;
    for (enum kind kind = KIND_BODYLESS; kind < KIND_COUNT; kind++) {
        struct writer got = record();
        struct writer answer = record();
        front_init(&f, kind, false, NULL);
        f.patience_s = 10;
        stop_listening(&f);
        int peer = ask(&f);
        run_for(f.loop, SOME_RETRIES_MS);
        assert_false(is_over(&f));
        assert_int_equal(listen(f.upstream, 16), 0);
        int up = raw_accept(f.loop, f.upstream);
        raw_read_until(&got, f.loop, up, kind == KIND_BODYLESS ? "\r\n\r\n" : "body");
        run_for(f.loop, SOME_RETRIES_MS);
        (void)raw_read(&got, up);
        assert_int_equal(count_text(&got, "HTTP/1.1"), 1);
        assert_int_equal(accept4(f.upstream, NULL, NULL, 0), -1);
        raw_send(f.loop, up, SPAN_LIT(OK "Content-Length: 2\r\n\r\nhi"));
        raw_read_to_end(&answer, f.loop, peer);
        assert_body(&answer, SPAN_LIT("hi"));
        assert_true(f.n_over == 1 && f.why == REJECT_NONE && f.n_statuses == 1);
        close(up);
        close(peer);
        writer_fini(&got);
        writer_fini(&answer);
        front_fini(&f);
    }
}

static void a_homeserver_that_stays_away_is_not_waited_for_longer_than_said(void **state)
{
    static const struct {
        enum kind kind;
        uint32_t patience_s, least_ms, most_ms;
    } rows[] = {
        {KIND_WHOLE, 0, 0, 900},       {KIND_BODYLESS, 0, 0, 900}, {KIND_STREAMED, 0, 0, 900},
        {KIND_STREAMED, 1, 990, 4000}, {KIND_WHOLE, 1, 990, 4000}, {KIND_BODYLESS, 1, 990, 4000},
    };
    struct front f;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct writer got = record();
        front_init(&f, rows[i].kind, false, NULL);
        f.patience_s = rows[i].patience_s;
        stop_listening(&f);
        uint64_t began_us = clock_monotonic_us();
        int peer = ask(&f);
        RUN_UNTIL(f.loop, is_over(&f));
        uint64_t ms = (clock_monotonic_us() - began_us) / 1000;
        raw_read_to_end(&got, f.loop, peer);
        assert_true(has_text(&got, "HTTP/1.1 502"));
        assert_true(f.n_over == 1 && f.why == REJECT_UPSTREAM_UNREACHABLE && f.n_statuses == 0);
        assert_in_range(ms, rows[i].least_ms, rows[i].most_ms);
        close(peer);
        writer_fini(&got);
        front_fini(&f);
    }
}

struct failure {
    const char *what;
    const char *answer; /* of the upstream */
    const char *status; /* that the peer sees; NULL: the answer, cut */
    enum reject why;
    bool holds, stays; /* the upstream keeps the connection open and says no more */
};

#define HALF OK "Content-Length: 8\r\n\r\nhalf"

static const struct failure failures[] = {
    {.what = "cut before the head", .answer = "", .status = "502", .why = REJECT_UPSTREAM_FAILED},
    {.what = "cut in the head", .answer = OK, .status = "502", .why = REJECT_UPSTREAM_FAILED},
    {.what = "cut in the body", .answer = HALF, .why = REJECT_UPSTREAM_FAILED},
    {.what = "cut in a held body",
     .answer = HALF,
     .status = "502",
     .why = REJECT_UPSTREAM_FAILED,
     .holds = true},
    {.what = "no HTTP",
     .answer = "rubbish\r\n\r\n",
     .status = "502",
     .why = REJECT_UPSTREAM_FAILED,
     .stays = true},
    {.what = "two lengths",
     .answer = OK "Content-Length: 1\r\nContent-Length: 2\r\n\r\na",
     .status = "502",
     .why = REJECT_UPSTREAM_FAILED,
     .stays = true},
    {.what = "no chunk",
     .answer = OK "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nrubbish",
     .why = REJECT_UPSTREAM_FAILED,
     .stays = true},
    {.what = "no chunk, held",
     .answer = OK "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nrubbish",
     .status = "502",
     .why = REJECT_UPSTREAM_FAILED,
     .holds = true,
     .stays = true},
    {.what = "silence",
     .answer = "",
     .status = "504",
     .why = REJECT_UPSTREAM_TIMEOUT,
     .stays = true},
    {.what = "silence in the body", .answer = HALF, .why = REJECT_UPSTREAM_TIMEOUT, .stays = true},
    {.what = "silence in a held body",
     .answer = HALF,
     .status = "504",
     .why = REJECT_UPSTREAM_TIMEOUT,
     .holds = true,
     .stays = true},
};

static void run_failure(const struct failure *row, enum kind kind)
{
    struct http_pool_limits limits = http_pool_limits_default;
    struct writer got = record();
    struct front f;

    if (row->why == REJECT_UPSTREAM_TIMEOUT) {
        *(row->answer[0] == '\0' ? &limits.head_ms : &limits.body_ms) = SHORT_MS;
    }
    front_init(&f, kind, false, &limits);
    f.holds = row->holds;
    f.patience_s = 10; /* is of no use: it may have got the request */
    int peer = ask(&f);
    int up = take(&f);
    raw_send(f.loop, up, span_str(row->answer));
    if (!row->stays) {
        close(up);
    }
    RUN_UNTIL(f.loop, is_over(&f));
    raw_read_to_end(&got, f.loop, peer);
    bool is_told = row->status != NULL
                       ? memcmp(got.data, "HTTP/1.1 ", 9) == 0 &&
                             memcmp(got.data + 9, row->status, 3) == 0 && !has_text(&got, "half")
                       : !has_text(&got, "502") && !has_text(&got, "0\r\n\r\n");
    if (!is_told || f.n_over != 1 || f.n_held != 0 || f.why != row->why || f.n_aborts != 0) {
        fail_msg("%s, kind %d: %d\n%.*s", row->what, (int)kind, (int)f.why, (int)got.size,
                 got.data);
    }
    assert_int_equal(http_pool_n_connections(f.pool), 0);
    if (row->stays) {
        close(up);
    }
    close(peer);
    writer_fini(&got);
    front_fini(&f);
}

static void each_failure_of_the_upstream_has_its_answer(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
            run_failure(&failures[i], kind);
        }
    }
}

static void an_answers_head_that_is_too_large_for_us_is_a_failure(void **state)
{
    char *bytes = make_bytes(LARGE_HEADER);
    struct front f;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct writer got = record();
        front_init(&f, KIND_WHOLE, false, NULL);
        f.arena_cap = SMALL_ARENA;
        f.holds = i == 1;
        int peer = ask(&f);
        int up = take(&f);
        raw_send(f.loop, up, SPAN_LIT(OK "X-Large: "));
        raw_send(f.loop, up, span_of(bytes, LARGE_HEADER));
        raw_send(f.loop, up, SPAN_LIT("\r\nContent-Length: 4\r\n\r\nbody"));
        raw_read_to_end(&got, f.loop, peer);
        assert_true(has_text(&got, "HTTP/1.1 502"));
        assert_true(f.n_over == 1 && f.why == REJECT_UPSTREAM_FAILED && f.n_statuses == 0);
        assert_int_equal(http_pool_n_connections(f.pool), 0);
        close(up);
        close(peer);
        writer_fini(&got);
        front_fini(&f);
    }
    free(bytes);
}

static void a_request_that_cannot_be_sent_is_said_at_once(void **state)
{
    struct front f;

    (void)state;
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        struct writer got = record();
        front_init(&f, kind, false, NULL);
        f.spoils_head = true;
        f.patience_s = 10;
        int peer = ask(&f);
        raw_read_to_end(&got, f.loop, peer);
        assert_true(has_text(&got, "HTTP/1.1 400"));
        run_for(f.loop, GATE_PROBE_MS + 50);
        assert_false(is_over(&f));
        assert_int_equal(f.n_aborts, 0);
        assert_int_equal(accept4(f.upstream, NULL, NULL, 0), -1);
        close(peer);
        writer_fini(&got);
        front_fini(&f);
    }
}

static void an_answer_before_the_bodys_end_is_passed_on(void **state)
{
    struct writer got = record();
    struct writer request = record();
    struct front f;

    (void)state;
    front_init(&f, KIND_STREAMED, false, NULL);
    int peer = connect_peer(&f);
    raw_send(f.loop, peer, SPAN_LIT(PUT_AGAIN "Content-Length: 300000\r\n\r\nbegin"));
    int up = raw_accept(f.loop, f.upstream);
    raw_read_until(&request, f.loop, up, "begin");
    raw_send(f.loop, up, SPAN_LIT("HTTP/1.1 413 Large\r\nContent-Length: 5\r\n\r\nearly"));
    raw_read_until(&got, f.loop, peer, "early");
    assert_true(has_text(&got, "HTTP/1.1 413") && has_text(&got, "Connection: close\r\n"));
    assert_true(f.n_over == 1 && f.why == REJECT_NONE);
    raw_send(f.loop, peer, SPAN_LIT("more of the body"));
    raw_read_to_end(&got, f.loop, peer);
    assert_int_equal(f.n_over + f.n_aborts, 1);
    assert_int_equal(http_pool_n_connections(f.pool), 0);
    close(up);
    close(peer);
    writer_fini(&got);
    writer_fini(&request);
    front_fini(&f);
}

static void an_answer_may_begin_while_the_body_goes_on(void **state)
{
    struct writer got = record();
    struct writer request = record();
    struct front f;

    (void)state;
    front_init(&f, KIND_STREAMED, false, NULL);
    int peer = connect_peer(&f);
    raw_send(f.loop, peer, SPAN_LIT(PUT_AGAIN "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"));
    int up = raw_accept(f.loop, f.upstream);
    raw_read_until(&request, f.loop, up, "body");
    raw_send(f.loop, up, SPAN_LIT(OK "Content-Length: 8\r\n\r\nhalf"));
    raw_read_until(&got, f.loop, peer, "half");
    raw_send(f.loop, peer, SPAN_LIT("4\r\nrest\r\n0\r\n\r\n"));
    raw_read_until(&request, f.loop, up, "4\r\nbody\r\n4\r\nrest\r\n0\r\n\r\n");
    assert_false(is_over(&f));
    raw_send(f.loop, up, SPAN_LIT("done"));
    raw_read_until(&got, f.loop, peer, "halfdone");
    assert_true(f.n_over == 1 && f.why == REJECT_NONE && f.n_statuses == 1);
    assert_int_equal(http_pool_n_connections(f.pool), 1); /* as good as before */
    close(up);
    close(peer);
    writer_fini(&got);
    writer_fini(&request);
    front_fini(&f);
}

/* How far a request has come when its peer goes. */
enum stage {
    STAGE_BETWEEN_TRIES,
    STAGE_IN_QUEUE,
    STAGE_IN_QUEUE_PAUSED,
    STAGE_HALF_BODY,
    STAGE_BODY_PAUSED,
    STAGE_NO_HEAD,
    STAGE_HALF_ANSWER,
    STAGE_HALF_HELD,
    STAGE_ANSWER_PAUSED,
    STAGE_COUNT
};

static enum kind kind_at(enum stage stage)
{
    return stage == STAGE_HALF_BODY || stage == STAGE_BODY_PAUSED || stage == STAGE_IN_QUEUE_PAUSED
               ? KIND_STREAMED
               : KIND_WHOLE;
}

/* The peer's socket; that of the upstream, or -1, in *up. */
static int bring_to(struct front *f, int *up, enum stage stage, struct span large)
{
    if (stage == STAGE_HALF_BODY || stage == STAGE_BODY_PAUSED) {
        int peer = connect_peer(f);
        raw_send(f->loop, peer, SPAN_LIT(PUT "Content-Length: 99999999\r\n\r\nbody"));
        *up = raw_accept(f->loop, f->upstream);
        if (stage == STAGE_BODY_PAUSED) {
            send_until_paused(f, &large, peer, &f->request_waiting);
        }
        return peer;
    }
    if (stage == STAGE_IN_QUEUE_PAUSED) {
        struct writer request;
        struct span rest = message(&request, PUT, span_of(large.data, RELAY_WAITING_MAX + 1), true);
        int peer = connect_peer(f);
        send_a_while(f, &rest, peer);
        writer_fini(&request);
        return peer;
    }
    int peer = ask(f);
    if (stage == STAGE_BETWEEN_TRIES || stage == STAGE_IN_QUEUE) {
        RUN_UNTIL(f->loop, f->exchange != NULL);
        run_for(f->loop, 20);
        return peer;
    }
    *up = take(f);
    if (stage == STAGE_HALF_ANSWER || stage == STAGE_HALF_HELD) {
        raw_send(f->loop, *up, SPAN_LIT(HALF));
        RUN_UNTIL(f->loop, f->n_statuses == 1);
    } else if (stage == STAGE_ANSWER_PAUSED) {
        raw_send(f->loop, *up, SPAN_LIT(OK "Content-Length: 99999999\r\n\r\n"));
        send_until_paused(f, &large, *up, &f->answer_waiting);
    }
    return peer;
}

static void run_stage(enum stage stage, struct span large)
{
    struct writer got = record();
    struct http_call *other = NULL;
    struct front f;
    int up = -1;
    int others = -1;

    front_init(&f, kind_at(stage), false, NULL);
    f.holds = stage == STAGE_HALF_HELD;
    f.patience_s = 10;
    if (stage == STAGE_BETWEEN_TRIES) {
        stop_listening(&f);
    } else if (stage == STAGE_IN_QUEUE || stage == STAGE_IN_QUEUE_PAUSED) {
        other = occupy(&f);
        others = raw_accept(f.loop, f.upstream);
    }
    close(bring_to(&f, &up, stage, large));
    if (up >= 0) { /* it hears of it, when it has read what was there */
        raw_read_to_end(&got, f.loop, up);
        close(up);
    }
    RUN_UNTIL(f.loop, f.n_aborts == 1);
    if (other != NULL) {
        http_call_cancel(other);
        close(others);
    }
    run_for(f.loop, 20);
    assert_int_equal(http_pool_n_connections(f.pool), 0);
    assert_int_equal(f.n_aborts, 1);
    assert_false(is_over(&f));
    writer_fini(&got);
    front_fini(&f);
}

static void a_peer_may_go_at_every_stage(void **state)
{
    char *bytes = make_bytes(BIG);

    (void)state;
    for (enum stage stage = 0; stage < STAGE_COUNT; stage++) {
        run_stage(stage, span_of(bytes, BIG));
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_are_streamed_both_ways),
        cmocka_unit_test(each_kind_of_request_arrives_and_is_answered),
        cmocka_unit_test(an_answer_to_head_keeps_its_length),
        cmocka_unit_test(an_upstream_that_does_not_read_slows_the_peer),
        cmocka_unit_test(a_request_that_waits_for_a_connection_slows_the_peer),
        cmocka_unit_test(a_peer_that_does_not_read_slows_the_upstream),
        cmocka_unit_test(a_held_answer_reaches_nobody_before_it_is_whole),
        cmocka_unit_test(only_an_answer_too_long_to_be_held_passes_and_whole),
        cmocka_unit_test(a_homeserver_that_comes_back_gets_the_request_once),
        cmocka_unit_test(a_homeserver_that_stays_away_is_not_waited_for_longer_than_said),
        cmocka_unit_test(each_failure_of_the_upstream_has_its_answer),
        cmocka_unit_test(an_answers_head_that_is_too_large_for_us_is_a_failure),
        cmocka_unit_test(a_request_that_cannot_be_sent_is_said_at_once),
        cmocka_unit_test(an_answer_before_the_bodys_end_is_passed_on),
        cmocka_unit_test(an_answer_may_begin_while_the_body_goes_on),
        cmocka_unit_test(a_peer_may_go_at_every_stage),
    };

    return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
