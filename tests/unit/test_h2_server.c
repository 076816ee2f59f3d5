#include "net/http_server.h"

#include "net/h2_frames.h"
#include "net_rig.h"

#include <malloc.h>
#include <nghttp2/nghttp2.h>

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

enum { STREAMS = 400 };

/* A sound client: nghttp2 again, at the other end of a raw socket. */
struct peer {
    struct rig *rig;
    nghttp2_session *session;
    int fd;
    bool is_closed, holds_windows, holds_body;
    unsigned n_goaways;
    uint32_t goaway;
    struct span body; /* of the next requests */
    size_t body_sent;
    unsigned status[STREAMS], n_ended;
    uint32_t reset[STREAMS]; /* its code + 1 */
    struct writer answer;    /* of all streams, one after another */
};

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *arg)
{
    struct peer *peer = arg;
    nghttp2_vec bytes = nghttp2_rcbuf_get_buf(name);

    (void)session;
    (void)flags;
    if (span_equal(span_of(bytes.base, bytes.len), SPAN_LIT(":status"))) {
        bytes = nghttp2_rcbuf_get_buf(value);
        peer->status[frame->hd.stream_id] = (unsigned)strtoul((const char *)bytes.base, NULL, 10);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                   size_t size, void *arg)
{
    struct peer *peer = arg;

    (void)flags;
    writer_bytes(&peer->answer, span_of(bytes, size));
    return peer->holds_windows ? 0 : nghttp2_session_consume(session, id, size);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct peer *peer = arg;

    (void)session;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        peer->n_goaways++;
        peer->goaway = frame->goaway.error_code;
    } else if (frame->hd.type == NGHTTP2_RST_STREAM) {
        peer->reset[frame->hd.stream_id] = frame->rst_stream.error_code + 1;
    }
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct peer *peer = arg;

    (void)session;
    (void)id;
    (void)code;
    peer->n_ended++;
    return 0;
}

static void peer_init(struct peer *peer, struct rig *rig)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;

    *peer = (struct peer){.rig = rig, .fd = raw_connect(rig_port(rig))};
    writer_init(&peer->answer, RECORD_MAX);
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    assert_int_equal(nghttp2_option_new(&option), 0);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    assert_int_equal(nghttp2_session_client_new2(&peer->session, callbacks, peer, option), 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    assert_int_equal(nghttp2_submit_settings(peer->session, NGHTTP2_FLAG_NONE, NULL, 0), 0);
}

static void peer_fini(struct peer *peer)
{
    nghttp2_session_del(peer->session);
    writer_fini(&peer->answer);
    close(peer->fd);
}

/* Sends and takes what there is; true always, for RUN_UNTIL. */
static bool peer_run(struct peer *peer)
{
    const uint8_t *bytes;
    uint8_t piece[16384];
    ssize_t n;

    while (!peer->is_closed && (n = nghttp2_session_mem_send(peer->session, &bytes)) > 0) {
        peer->is_closed = !raw_send(peer->rig->loop, peer->fd, span_of(bytes, (size_t)n));
    }
    while ((n = recv(peer->fd, piece, sizeof piece, 0)) > 0) {
        assert_true(nghttp2_session_mem_recv(peer->session, piece, (size_t)n) == n);
    }
    peer->is_closed = peer->is_closed || n == 0 || errno != EAGAIN;
    return true;
}

#define PEER_UNTIL(peer, condition) RUN_UNTIL((peer)->rig->loop, (peer_run(peer), (condition)))

/* NOLINTNEXTLINE(readability-function-size): the library says what the parameters are. */
static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t size,
                         uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct peer *peer = arg;
    struct span rest = span_skip(peer->body, peer->body_sent);
    size_t n = rest.size < size ? rest.size : size;

    (void)session;
    (void)id;
    (void)source;
    if (n == 0 && peer->holds_body) {
        return NGHTTP2_ERR_DEFERRED;
    }
    memcpy(buffer, rest.data, n);
    peer->body_sent += n;
    if (n == rest.size && !peer->holds_body) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

/* nghttp2_nv is not const, though the library copies what it points to. */
static nghttp2_nv field(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value)};
}

/* With peer->body if that is there. */
static int32_t request(struct peer *peer, const char *method, const char *path)
{
    const nghttp2_nv fields[] = {field(":method", method), field(":path", path),
                                 field(":scheme", "http"), field(":authority", "a.test")};
    const nghttp2_data_provider provider = {.read_callback = read_body};

    peer->body_sent = 0;
    return nghttp2_submit_request(peer->session, NULL, fields, 4,
                                  peer->body.data != NULL ? &provider : NULL, NULL);
}

static void requests_of_one_connection_are_answered(void **state)
{
    struct peer peer;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    peer_init(&peer, &rig);
    for (int i = 0; i < 5; i++) {
        writer_reset(&peer.answer);
        int32_t id = request(&peer, "GET", "/a?b");
        PEER_UNTIL(&peer, peer.n_ended == (unsigned)i + 1);
        assert_int_equal(peer.status[id], 200);
        assert_true(span_equal(writer_span(&peer.answer), SPAN_LIT("GET /a?b")));
    }
    assert_int_equal(rig.n_aborts + rig.n_refused, 0);
    assert_int_equal(http_listener_n_connections(rig.listener), 1);
    peer_fini(&peer);
    RUN_UNTIL(rig.loop, http_listener_n_connections(rig.listener) == 0);
    rig_fini(&rig);
}

static void a_large_body_passes_both_ways_with_pauses(void **state)
{
    char *bytes = make_bytes((size_t)2 * MEGABYTE);
    struct peer peer;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    rig.answer = ANSWER_CHUNKED;
    rig.pauses = true;
    peer_init(&peer, &rig);
    peer.body = span_of(bytes, (size_t)2 * MEGABYTE);
    int32_t id = request(&peer, "PUT", "/");
    PEER_UNTIL(&peer, peer.n_ended == 1);
    assert_int_equal(peer.status[id], 200);
    assert_true(rig.n_pauses > 10);
    assert_true(span_equal(writer_span(&rig.body), peer.body));
    assert_true(span_equal(writer_span(&peer.answer), peer.body));
    peer_fini(&peer);
    free(bytes);
    rig_fini(&rig);
}

static void a_paused_exchange_gets_no_more_than_its_window(void **state)
{
    char *bytes = make_bytes(MEGABYTE);
    struct peer peer;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    rig.answer = ANSWER_HOLD;
    peer_init(&peer, &rig);
    peer.body = span_of(bytes, MEGABYTE);
    (void)request(&peer, "PUT", "/");
    PEER_UNTIL(&peer, rig.n_heads == 1);
    http_read_pause(rig.exchange);
    size_t before = rig.n_bytes;
    for (int i = 0; i < 50; i++) {
        peer_run(&peer);
        loop_run_for(rig.loop, 2);
    }
    assert_in_range(rig.n_bytes, 1, before + LOOP_SCRATCH_SIZE);
    http_read_resume(rig.exchange);
    PEER_UNTIL(&peer, rig.n_ends == 1);
    assert_true(span_equal(writer_span(&rig.body), peer.body));
    peer_fini(&peer);
    RUN_UNTIL(rig.loop, rig.n_aborts == 1);
    free(bytes);
    rig_fini(&rig);
}

static void an_answer_waits_for_the_peers_window(void **state)
{
    char *bytes = make_bytes(MEGABYTE);
    struct peer peer;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    rig.answer = ANSWER_HOLD;
    peer_init(&peer, &rig);
    peer.holds_windows = true;
    (void)request(&peer, "GET", "/");
    PEER_UNTIL(&peer, rig.n_ends == 1);
    http_respond_head(rig.exchange, 200, NULL, 0, -1);
    assert_false(http_output_is_full(rig.exchange));
    http_respond_body(rig.exchange, span_of(bytes, MEGABYTE));
    assert_true(http_output_is_full(rig.exchange));
    PEER_UNTIL(&peer, peer.answer.size == NGHTTP2_INITIAL_WINDOW_SIZE);
    assert_int_equal(http_output_size(rig.exchange), MEGABYTE - NGHTTP2_INITIAL_WINDOW_SIZE);
    assert_int_equal(nghttp2_session_consume(peer.session, 1, NGHTTP2_INITIAL_WINDOW_SIZE), 0);
    peer.holds_windows = false;
    PEER_UNTIL(&peer, http_output_size(rig.exchange) == 0);
    http_respond_end(rig.exchange);
    rig.exchange = NULL;
    PEER_UNTIL(&peer, peer.n_ended == 1);
    assert_true(span_equal(writer_span(&peer.answer), span_of(bytes, MEGABYTE)));
    peer_fini(&peer);
    free(bytes);
    rig_fini(&rig);
}

static void a_peer_that_takes_nothing_of_its_answer_is_closed(void **state)
{
    char *bytes = make_bytes(MEGABYTE);
    struct peer peer;
    struct rig rig;

    (void)state;
    rig_init(&rig, &short_options);
    rig.answer = ANSWER_HOLD;
    peer_init(&peer, &rig);
    peer.holds_windows = true;
    (void)request(&peer, "GET", "/");
    PEER_UNTIL(&peer, rig.n_ends == 1);
    http_respond_head(rig.exchange, 200, NULL, 0, -1);
    http_respond_body(rig.exchange, span_of(bytes, MEGABYTE));
    PEER_UNTIL(&peer, peer.is_closed);
    assert_int_equal(peer.goaway, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_int_equal(rig.n_aborts, 1);
    assert_int_equal(rig.n_refused, 1);
    assert_int_equal(rig.refused, REJECT_TIMEOUT);
    peer_fini(&peer);
    free(bytes);
    rig_fini(&rig);
}

/* Also where nothing is in flight any more. */
static void a_peer_that_leaves_an_ended_answer_is_closed(void **state)
{
    char *bytes = make_bytes(MEGABYTE);
    struct peer peer;
    struct rig rig;

    (void)state;
    rig_init(&rig, &short_options);
    rig.answer = ANSWER_HOLD;
    peer_init(&peer, &rig);
    peer.holds_windows = true;
    (void)request(&peer, "GET", "/");
    PEER_UNTIL(&peer, rig.n_ends == 1);
    http_respond(TAKE(rig.exchange), 200, NULL, 0, span_of(bytes, MEGABYTE));
    PEER_UNTIL(&peer, peer.is_closed);
    assert_int_equal(peer.goaway, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_int_equal(rig.refused, REJECT_TIMEOUT);
    peer_fini(&peer);
    free(bytes);
    rig_fini(&rig);
}

/* Source: limits.md, "HTTP/2". */
enum { STREAM_OUTPUT_MAX = 64 * 1024, CONNECTION_STREAMS = 100 };

/* A peer that leaves ended answers of that size, up to n of them; says how many there were before
 * it was closed. */
static unsigned leave_answers(struct peer *peer, struct span body, unsigned n)
{
    struct rig *rig = peer->rig;

    peer->holds_windows = true;
    for (unsigned i = 1; i <= n; i++) {
        (void)request(peer, "GET", "/");
        PEER_UNTIL(peer, rig->n_ends == i || peer->is_closed);
        if (peer->is_closed) {
            return i - 1;
        }
        size_t waiting = (i - 1) * body.size; /* and a window less, once that was sent */
        bool is_full = http_output_is_full(rig->exchange);
        if (is_full ? waiting < MEGABYTE - STREAM_OUTPUT_MAX
                    : waiting > MEGABYTE + NGHTTP2_INITIAL_WINDOW_SIZE) {
            fail_msg("answer %u of %zu bytes", i, body.size);
        }
        http_respond(TAKE(rig->exchange), 200, NULL, 0, body);
    }
    return n;
}

static void ended_answers_of_allowed_sizes_wait_for_the_peer(void **state)
{
    enum { SIZE = 60000 };
    char *bytes = make_bytes(SIZE);
    struct peer peer;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    rig.answer = ANSWER_HOLD;
    peer_init(&peer, &rig);
    assert_int_equal(leave_answers(&peer, span_of(bytes, SIZE), CONNECTION_STREAMS),
                     CONNECTION_STREAMS);
    PEER_UNTIL(&peer, peer.answer.size == NGHTTP2_INITIAL_WINDOW_SIZE);
    assert_int_equal(nghttp2_session_consume_connection(peer.session, peer.answer.size), 0);
    peer.holds_windows = false;
    PEER_UNTIL(&peer, peer.n_ended == CONNECTION_STREAMS);
    assert_int_equal(peer.answer.size, SIZE * CONNECTION_STREAMS);
    assert_int_equal(rig.n_refused, 0);
    peer_fini(&peer);
    free(bytes);
    rig_fini(&rig);
}

static void ended_answers_that_are_too_much_end_the_connection(void **state)
{
    enum { SIZE = 2 * STREAM_OUTPUT_MAX };
    char *bytes = make_bytes(SIZE);
    struct peer peer;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    rig.answer = ANSWER_HOLD;
    peer_init(&peer, &rig);
    unsigned n = leave_answers(&peer, span_of(bytes, SIZE), CONNECTION_STREAMS);
    assert_in_range(n * SIZE, MEGABYTE + CONNECTION_STREAMS * STREAM_OUTPUT_MAX,
                    MEGABYTE + CONNECTION_STREAMS * STREAM_OUTPUT_MAX + 2 * SIZE);
    assert_int_equal(peer.goaway, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_int_equal(rig.refused, REJECT_H2_FLOOD);
    peer_fini(&peer);
    free(bytes);
    rig_fini(&rig);
}

static void a_body_that_does_not_come_is_answered_so(void **state)
{
    struct peer peer;
    struct rig rig;

    (void)state;
    rig_init(&rig, &short_options);
    peer_init(&peer, &rig);
    peer.body = SPAN_LIT("half");
    peer.holds_body = true;
    int32_t id = request(&peer, "PUT", "/");
    PEER_UNTIL(&peer, peer.n_ended == 1);
    assert_int_equal(peer.status[id], 408);
    assert_int_equal(rig.n_aborts, 1);
    assert_int_equal(rig.refused, REJECT_TIMEOUT);
    peer_fini(&peer);
    rig_fini(&rig);
}

static void what_is_idle_is_closed(void **state)
{
    struct peer peer;
    struct rig rig;
    int fd;

    (void)state;
    rig_init(&rig, &short_options);
    peer_init(&peer, &rig);
    (void)request(&peer, "GET", "/");
    PEER_UNTIL(&peer, peer.is_closed);
    assert_int_equal(peer.n_goaways, 1);
    assert_int_equal(peer.goaway, NGHTTP2_NO_ERROR);
    assert_int_equal(peer.status[1], 200);
    fd = raw_connect(rig_port(&rig)); /* with half a preface */
    raw_send(rig.loop, fd, SPAN_LIT("PRI * HTTP/2.0\r\n\r\nSM"));
    RUN_UNTIL(rig.loop, http_listener_n_connections(rig.listener) == 1);
    RUN_UNTIL(rig.loop, http_listener_n_connections(rig.listener) == 0);
    close(fd);
    peer_fini(&peer);
    rig_fini(&rig);
}

static void a_header_block_that_stays_away_ends_the_connection(void **state)
{
    struct writer answer;
    struct rig rig;
    int fd;

    (void)state;
    rig_init(&rig, &short_options);
    rig.answer = ANSWER_HOLD;
    writer_init(&answer, RECORD_MAX);
    fd = raw_connect(rig_port(&rig));
    raw_send(rig.loop, fd,
             SPAN_LIT(NGHTTP2_CLIENT_MAGIC "\0\0\0\4\0\0\0\0\0"
                                           "\0\0\2\1\1\0\0\0\1\x82\x84"));
    raw_read_to_end(&answer, rig.loop, fd);
    assert_int_equal(rig.n_heads, 0);
    assert_int_equal(rig.refused, REJECT_TIMEOUT);
    close(fd);
    writer_fini(&answer);
    rig_fini(&rig);
}

static void a_connection_ends_after_its_share_of_requests(void **state)
{
    struct http_limits limits = http_limits_default;
    struct peer peer;
    struct rig rig;

    (void)state;
    limits.requests_max = 3;
    rig_init(&rig, &(struct http_listener_options){.address = "127.0.0.1", .limits = &limits});
    peer_init(&peer, &rig);
    for (unsigned i = 0; i < limits.requests_max; i++) {
        (void)request(&peer, "GET", "/");
        PEER_UNTIL(&peer, peer.n_ended == i + 1);
    }
    PEER_UNTIL(&peer, peer.is_closed);
    assert_int_equal(peer.goaway, NGHTTP2_NO_ERROR);
    assert_int_equal(peer.status[5], 200);
    assert_int_equal(rig.n_heads, 3);
    peer_fini(&peer);
    rig_fini(&rig);
}

static void draining_lets_requests_in_flight_end(void **state)
{
    struct peer busy;
    struct peer idle;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    rig.answer = ANSWER_HOLD;
    peer_init(&idle, &rig);
    peer_init(&busy, &rig);
    (void)request(&busy, "GET", "/");
    PEER_UNTIL(&busy, rig.n_ends == 1);
    PEER_UNTIL(&idle, http_listener_n_connections(rig.listener) == 2);
    run_for(rig.loop, 10);
    http_listener_drain(rig.listener);
    PEER_UNTIL(&idle, idle.is_closed);
    PEER_UNTIL(&busy, busy.n_goaways == 1);
    assert_false(busy.is_closed);
    rig_answer(&rig, ANSWER_ECHO);
    PEER_UNTIL(&busy, busy.is_closed);
    assert_int_equal(busy.status[1], 200);
    assert_int_equal(busy.goaway + idle.goaway, NGHTTP2_NO_ERROR);
    RUN_UNTIL(rig.loop, http_listener_n_connections(rig.listener) == 0);
    peer_fini(&busy);
    peer_fini(&idle);
    rig_fini(&rig);
}

static void freeing_a_listener_aborts_what_is_in_flight(void **state)
{
    struct peer peer;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    rig.answer = ANSWER_HOLD;
    peer_init(&peer, &rig);
    (void)request(&peer, "GET", "/");
    PEER_UNTIL(&peer, rig.n_ends == 1);
    http_listener_free(rig.listener);
    assert_int_equal(rig.n_aborts, 1);
    rig.listener = NULL;
    peer_fini(&peer);
    rig_fini(&rig);
}

struct answer_row {
    const char *what;
    enum answer answer;
    unsigned status;
    uint32_t reset; /* code + 1 */
    const char *body;
};

static const struct answer_row answer_rows[] = {
    {"a body with its length", ANSWER_ECHO, 200, 0, "GET /"},
    {"a body without", ANSWER_CHUNKED, 200, 0, "GET /"},
    {"before the end of the request", ANSWER_EARLY, 200, 0, "early"},
    {"no body", ANSWER_204, 204, 0, ""},
    {"a header with a line end", ANSWER_INJECT, 500, 0, ""},
    {"fewer bytes than announced", ANSWER_SHORT, 200, NGHTTP2_INTERNAL_ERROR + 1, NULL},
};

static void answers_are_framed_by_the_server_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answer_rows / sizeof answer_rows[0]; i++) {
        const struct answer_row *row = &answer_rows[i];
        struct peer peer;
        struct rig rig;

        rig_init(&rig, NULL);
        rig.answer = row->answer;
        peer_init(&peer, &rig);
        int32_t id = request(&peer, "GET", "/");
        PEER_UNTIL(&peer, peer.n_ended == 1);
        if ((row->reset == 0 && peer.status[id] != row->status) || peer.reset[id] != row->reset ||
            (row->body != NULL && !span_equal(writer_span(&peer.answer), span_str(row->body)))) {
            fail_msg("%s: status %u, reset %u, body %.*s", row->what, peer.status[id],
                     peer.reset[id], (int)peer.answer.size, peer.answer.data);
        }
        peer_fini(&peer);
        rig_fini(&rig);
    }
}

struct flood_row {
    const char *what;
    uint8_t type, flags;
    unsigned n; /* of them that are let pass at once */
    enum h2_found found;
};

static const struct flood_row flood_rows[] = {
    {"RST_STREAM", NGHTTP2_RST_STREAM, 0, 200, H2_FOUND_RESETS},
    {"empty DATA", NGHTTP2_DATA, 0, 100, H2_FOUND_FLOOD},
    {"SETTINGS", NGHTTP2_SETTINGS, 0, 50, H2_FOUND_FLOOD},
    {"PING", NGHTTP2_PING, 0, 100, H2_FOUND_FLOOD},
    {"PRIORITY", NGHTTP2_PRIORITY, 0, 100, H2_FOUND_FLOOD},
    {"a kind nobody knows", 0xbb, 0, 100, H2_FOUND_FLOOD},
    {"WINDOW_UPDATE", NGHTTP2_WINDOW_UPDATE, 0, 100, H2_FOUND_FLOOD},
};

/* Frames of that kind that pass, of at most 1000, `each_us` after one another. */
static unsigned count_passing(const struct flood_row *row, uint64_t each_us, bool output_waits)
{
    const uint8_t frame[] = {0, 0, 0, row->type, row->flags, 0, 0, 0, 1};
    struct h2_frames frames;
    enum h2_found found = H2_FOUND_NOTHING;
    unsigned n = 0;

    h2_frames_init(&frames);
    (void)h2_frames_take(&found, &frames, SPAN_LIT(NGHTTP2_CLIENT_MAGIC), false, 1);
    while (n < 1000) {
        struct span bytes = span_of(frame, sizeof frame);
        assert_int_equal(h2_frames_take(&found, &frames, bytes, output_waits, 1 + n * each_us),
                         sizeof frame);
        if (found != H2_FOUND_FRAME_END) {
            assert_int_equal(found, row->found);
            return n;
        }
        n++;
    }
    return n;
}

static void floods_end_where_the_limits_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof flood_rows / sizeof flood_rows[0]; i++) {
        const struct flood_row *row = &flood_rows[i];
        unsigned at_once = count_passing(row, 0, false);
        unsigned slowly = count_passing(row, 60000, false); /* 16 a second */
        if (at_once != row->n || slowly != 1000) {
            fail_msg("%s: %u at once, %u slowly", row->what, at_once, slowly);
        }
    }
    assert_int_equal(count_passing(&flood_rows[6], 0, true), 1000);
}

static void window_updates_are_earned_by_data(void **state)
{
    static const uint8_t frame[] = {0, 0, 0, NGHTTP2_WINDOW_UPDATE, 0, 0, 0, 0, 0};
    struct h2_frames frames;
    enum h2_found found;

    (void)state;
    h2_frames_init(&frames);
    (void)h2_frames_take(&found, &frames, SPAN_LIT(NGHTTP2_CLIENT_MAGIC), false, 1);
    for (int i = 0; i < 1000; i++) {
        h2_frames_sent_data(&frames);
        for (int n = 0; n < 2; n++) {
            (void)h2_frames_take(&found, &frames, span_of(frame, sizeof frame), false, 1);
            assert_int_equal(found, H2_FOUND_FRAME_END);
        }
    }
}

struct block_row {
    const char *what;
    const char *before; /* the block in the payload, and behind it */
    size_t before_size, padding;
    size_t n_fields, value_size;
    enum h2_found found;
    uint8_t flags;
};

#define BEFORE(text)    (text), sizeof(text) - 1
#define PADDED_PRIORITY (NGHTTP2_FLAG_PADDED | NGHTTP2_FLAG_PRIORITY)

/* Fields of "a" and as many bytes of value: 34 bytes and those each. */
static const struct block_row block_rows[] = {
    {"100 fields", BEFORE(""), 0, 100, 0, H2_FOUND_FRAME_END, 0},
    {"101 fields", BEFORE(""), 0, 101, 0, H2_FOUND_BIG_BLOCK, 0},
    {"32 KiB", BEFORE(""), 0, 64, 512 - 33, H2_FOUND_FRAME_END, 0},
    {"64 bytes more", BEFORE(""), 0, 64, 512 - 32, H2_FOUND_BIG_BLOCK, 0},
    {"100 padded", BEFORE("\5"), 5, 100, 0, H2_FOUND_FRAME_END, NGHTTP2_FLAG_PADDED},
    {"101 padded", BEFORE("\5"), 5, 101, 0, H2_FOUND_BIG_BLOCK, NGHTTP2_FLAG_PADDED},
    {"100 weighed", BEFORE("\0\0\0\0\1"), 0, 100, 0, H2_FOUND_FRAME_END, NGHTTP2_FLAG_PRIORITY},
    {"101 weighed", BEFORE("\0\0\0\0\1"), 0, 101, 0, H2_FOUND_BIG_BLOCK, NGHTTP2_FLAG_PRIORITY},
    {"100 of both", BEFORE("\3\0\0\0\0\1"), 3, 100, 0, H2_FOUND_FRAME_END, PADDED_PRIORITY},
    {"101 of both", BEFORE("\3\0\0\0\0\1"), 3, 101, 0, H2_FOUND_BIG_BLOCK, PADDED_PRIORITY},
    {"more padding than there is", BEFORE("\377"), 0, 20, 0, H2_FOUND_FRAME_END,
     NGHTTP2_FLAG_PADDED},
};

/* A literal that no table takes. Source: RFC 7541 6.2.2. */
static void write_field(struct writer *w, size_t value_size)
{
    writer_bytes(w, span_of("\0\1a", 3));
    if (value_size < 127) {
        writer_char(w, (char)value_size);
    } else {
        writer_char(w, 127);
        writer_char(w, (char)(0x80 | ((value_size - 127) & 0x7f)));
        writer_char(w, (char)((value_size - 127) >> 7));
    }
    for (size_t i = 0; i < value_size; i++) {
        writer_char(w, 'b');
    }
}

static void write_block(struct writer *out, const struct block_row *row)
{
    struct writer block;

    writer_init(&block, RECORD_MAX);
    writer_bytes(&block, span_of(row->before, row->before_size));
    for (size_t i = 0; i < row->n_fields; i++) {
        write_field(&block, row->value_size);
    }
    for (size_t i = 0; i < row->padding; i++) {
        writer_char(&block, '\x82'); /* a field, if it were no padding */
    }
    const uint8_t head[] = {(uint8_t)(block.size >> 16),
                            (uint8_t)(block.size >> 8),
                            (uint8_t)block.size,
                            NGHTTP2_HEADERS,
                            (uint8_t)(row->flags | NGHTTP2_FLAG_END_HEADERS),
                            0,
                            0,
                            0,
                            1};
    writer_bytes(out, span_of(head, sizeof head));
    writer_bytes(out, writer_span(&block));
    writer_fini(&block);
}

/* What is found of the block, in pieces of that size. */
static enum h2_found find_in_block(struct span bytes, size_t piece_size)
{
    enum h2_found found = H2_FOUND_NOTHING;
    struct h2_frames frames;

    h2_frames_init(&frames);
    (void)h2_frames_take(&found, &frames, SPAN_LIT(NGHTTP2_CLIENT_MAGIC), false, 1);
    while (bytes.size > 0 && found != H2_FOUND_BIG_BLOCK) {
        struct span piece = bytes;
        piece.size = piece.size < piece_size ? piece.size : piece_size;
        bytes = span_skip(bytes, h2_frames_take(&found, &frames, piece, false, 1));
    }
    h2_frames_fini(&frames);
    return found;
}

static void block_ends_as_its_row_says(const struct block_row *row)
{
    static const size_t piece_sizes[] = {SIZE_MAX, 1, 7, 1000};
    struct writer frame;

    writer_init(&frame, RECORD_MAX);
    write_block(&frame, row);
    for (size_t i = 0; i < sizeof piece_sizes / sizeof piece_sizes[0]; i++) {
        enum h2_found found = find_in_block(writer_span(&frame), piece_sizes[i]);
        if (found != row->found) {
            fail_msg("%s, by %zu: found %d", row->what, piece_sizes[i], (int)found);
        }
    }
    writer_fini(&frame);
}

static void header_blocks_end_where_the_limits_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof block_rows / sizeof block_rows[0]; i++) {
        block_ends_as_its_row_says(&block_rows[i]);
    }
}

/* The figure is only one of our own malloc: sanitizers have another. Both ends count, each with 10
 * KiB of the library; the client has its buffer of 16 KiB besides, the server pages that it gives
 * back. */
static void an_idle_connection_holds_little(void **state)
{
    enum { N = 50, BYTES_EACH = 42000 };
    static struct peer peers[N];
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (size_t i = 0; i < N; i++) {
        peer_init(&peers[i], &rig);
        (void)request(&peers[i], "GET", "/");
        PEER_UNTIL(&peers[i], peers[i].n_ended == 1);
    }
    run_for(rig.loop, 20);
    size_t each = (mallinfo2().uordblks + mallinfo2().hblkhd - before) / N;
    assert_int_equal(http_listener_n_connections(rig.listener), N);
    assert_in_range(each, 0, BYTES_EACH);
    for (size_t i = 0; i < N; i++) {
        peer_fini(&peers[i]);
    }
    rig_fini(&rig);
}

/* Long enough that the memory of a connection at rest was given back, and is used again. */
static void a_connection_at_rest_goes_on(void **state)
{
    struct peer peer;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL);
    peer_init(&peer, &rig);
    for (unsigned i = 0; i < 2; i++) {
        writer_reset(&peer.answer);
        (void)request(&peer, "GET", "/rested");
        PEER_UNTIL(&peer, peer.n_ended == i + 1);
        assert_true(span_equal(writer_span(&peer.answer), SPAN_LIT("GET /rested")));
        run_for(rig.loop, i == 0 ? 1100 : 0);
    }
    peer_fini(&peer);
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_of_one_connection_are_answered),
        cmocka_unit_test(a_large_body_passes_both_ways_with_pauses),
        cmocka_unit_test(a_paused_exchange_gets_no_more_than_its_window),
        cmocka_unit_test(an_answer_waits_for_the_peers_window),
        cmocka_unit_test(a_peer_that_takes_nothing_of_its_answer_is_closed),
        cmocka_unit_test(a_peer_that_leaves_an_ended_answer_is_closed),
        cmocka_unit_test(ended_answers_of_allowed_sizes_wait_for_the_peer),
        cmocka_unit_test(ended_answers_that_are_too_much_end_the_connection),
        cmocka_unit_test(a_body_that_does_not_come_is_answered_so),
        cmocka_unit_test(what_is_idle_is_closed),
        cmocka_unit_test(a_header_block_that_stays_away_ends_the_connection),
        cmocka_unit_test(a_connection_ends_after_its_share_of_requests),
        cmocka_unit_test(draining_lets_requests_in_flight_end),
        cmocka_unit_test(freeing_a_listener_aborts_what_is_in_flight),
        cmocka_unit_test(answers_are_framed_by_the_server_alone),
        cmocka_unit_test(floods_end_where_the_limits_say),
        cmocka_unit_test(window_updates_are_earned_by_data),
        cmocka_unit_test(header_blocks_end_where_the_limits_say),
        cmocka_unit_test(an_idle_connection_holds_little),
        cmocka_unit_test(a_connection_at_rest_goes_on),
    };

    return cmocka_run_group_tests_name("h2_server", tests, NULL, NULL);
}
