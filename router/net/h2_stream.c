#include "net/h2_connection.h"

#include "base/clock.h"
#include "proto/check.h"

#include <stdlib.h>

/* A peer has this long to see by itself that it is answered: some take a reset for a failure. */
enum { LINGER_MS = 500 };

static struct h2_stream *find(struct h2_connection *c, int32_t id)
{
    return nghttp2_session_get_stream_user_data(c->session, id);
}

static uint64_t body_used_us(const struct h2_stream *s)
{
    return s->body_used_us + (s->is_paused ? 0 : clock_monotonic_us() - s->body_since_us);
}

static uint64_t body_allowed_us(const struct h2_stream *s)
{
    const struct http_limits *limits = &s->connection->listener->limits;

    return http_body_allowed_us(limits, s->head.has_content_length ? s->head.content_length
                                                                   : s->body_bytes);
}

static void start_body_timer(struct h2_stream *s)
{
    uint64_t allowed = body_allowed_us(s);
    uint64_t used = body_used_us(s);

    timer_start(&s->body_timer, allowed > used ? (allowed - used) / 1000 + 1 : 1);
}

/* The peer cannot send while others of its bodies, which we do not read, fill the connection. */
static bool is_held_up_by_others(const struct h2_stream *s)
{
    return s->connection->unconsumed - s->unconsumed > H2_CONNECTION_WINDOW / 2;
}

static void on_body_timer(void *arg)
{
    struct h2_stream *s = arg;

    if (!s->has_exchange) { /* answered, and still sending. Source: RFC 9113 8.1 */
        h2_stream_reset(s, NGHTTP2_NO_ERROR);
        return;
    }
    if (is_held_up_by_others(s)) {
        s->body_used_us = 0;
        s->body_since_us = clock_monotonic_us();
    }
    if (body_used_us(s) < body_allowed_us(s)) {
        start_body_timer(s);
    } else if (!s->has_response) {
        s->has_exchange = false;
        s->connection->listener->ops->on_abort(&s->exchange);
        h2_respond_error(s, REJECT_TIMEOUT);
        http_listener_count_refused(s->connection->listener, REJECT_TIMEOUT);
    } else {
        h2_stream_refuse(s, REJECT_TIMEOUT, NGHTTP2_CANCEL);
    }
}

static struct h2_stream *stream_new(struct h2_connection *c, int32_t id)
{
    struct h2_stream *s = calloc(1, sizeof *s);

    CHECK(s != NULL);
    s->connection = c;
    s->id = id;
    s->fields = h2_head_new();
    timer_init(&s->body_timer, c->listener->loop, on_body_timer, s);
    timer_init(&s->write_timer, c->listener->loop, h2_output_stalled, s);
    list_append(&c->streams, &s->link);
    c->n_streams++;
    timer_stop(&c->idle);
    return s;
}

static void consume(struct h2_stream *s)
{
    struct h2_connection *c = s->connection;

    /* A stream that is not to come any more needs no window of its own. */
    if (s->has_exchange && !s->request_is_whole) {
        CHECK(nghttp2_session_consume(c->session, s->id, s->unconsumed) == 0);
    } else {
        CHECK(nghttp2_session_consume_connection(c->session, s->unconsumed) == 0);
    }
    c->unconsumed -= s->unconsumed;
    s->unconsumed = 0;
    h2_connection_kick(c);
}

void h2_stream_free(struct h2_stream *s)
{
    struct h2_connection *c = s->connection;
    bool aborts = s->has_exchange;

    s->has_exchange = false;
    list_remove(&s->link);
    c->n_streams--;
    c->unconsumed -= s->unconsumed;
    timer_fini(&s->body_timer);
    timer_fini(&s->write_timer);
    h2_output_free(s);
    if (aborts) {
        c->listener->ops->on_abort(&s->exchange);
    }
    h2_head_free(s->fields);
    free(s);
}

void h2_stream_forget(struct h2_stream *s)
{
    s->has_exchange = false;
    timer_stop(&s->body_timer);
    if (s->unconsumed > 0) {
        consume(s);
    }
    h2_head_free(TAKE(s->fields));
    s->head = (struct http_head){.method = {NULL, 0}};
}

void h2_stream_answered(struct h2_connection *c, int32_t id)
{
    struct h2_stream *s = find(c, id);

    if (s != NULL && !s->request_is_whole) {
        timer_start(&s->body_timer, LINGER_MS);
    }
}

void h2_stream_reset(struct h2_stream *s, uint32_t code)
{
    CHECK(nghttp2_submit_rst_stream(s->connection->session, NGHTTP2_FLAG_NONE, s->id, code) == 0);
    h2_connection_kick(s->connection);
}

void h2_stream_refuse(struct h2_stream *s, enum reject why, uint32_t code)
{
    struct h2_connection *c = s->connection;

    if (s->has_exchange) {
        s->has_exchange = false;
        c->listener->ops->on_abort(&s->exchange);
    }
    h2_stream_reset(s, code);
    http_listener_count_refused(c->listener, why);
}

void h2_stream_pause(struct h2_stream *s, bool is_paused)
{
    bool was_paused = s->is_paused;

    if (is_paused == was_paused) {
        return;
    }
    if (is_paused) {
        s->body_used_us = body_used_us(s);
        timer_stop(&s->body_timer);
    }
    s->is_paused = is_paused;
    if (!is_paused) {
        s->body_since_us = clock_monotonic_us();
        consume(s);
        h2_respond_continue(s);
        if (!s->request_is_whole) {
            start_body_timer(s);
        }
    }
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_connection *c = arg;

    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        struct h2_stream *s = stream_new(c, frame->hd.stream_id);
        CHECK(nghttp2_session_set_stream_user_data(session, s->id, s) == 0);
        c->n_requests++;
        if (c->n_requests >= c->listener->limits.requests_max) {
            h2_connection_leave(c);
        }
    }
    return 0;
}

static struct span span_of_rcbuf(nghttp2_rcbuf *buffer)
{
    nghttp2_vec bytes = nghttp2_rcbuf_get_buf(buffer);

    return span_of(bytes.base, bytes.len);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *arg)
{
    struct h2_connection *c = arg;
    struct h2_stream *s = find(c, frame->hd.stream_id);

    (void)session;
    (void)flags;
    if (s != NULL && s->fields != NULL && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        h2_head_add(s->fields, span_of_rcbuf(name), span_of_rcbuf(value));
    }
    return 0; /* trailers are dropped */
}

/* Else the library would only leave the field out. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             nghttp2_rcbuf *name, nghttp2_rcbuf *value, uint8_t flags, void *arg)
{
    (void)session;
    (void)frame;
    (void)name;
    (void)value;
    (void)flags;
    (void)arg;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int code,
                            void *arg)
{
    struct h2_connection *c = arg;

    (void)session;
    (void)frame;
    c->has_fault = true;
    http_listener_count_refused(c->listener, code == NGHTTP2_ERR_REFUSED_STREAM ? REJECT_H2_STREAMS
                                                                                : REJECT_BAD_HTTP);
    return 0;
}

static void end_request(struct h2_stream *s)
{
    s->request_is_whole = true;
    timer_stop(&s->body_timer);
    if (s->has_exchange) {
        s->connection->listener->ops->on_end(&s->exchange);
    }
}

static void begin_exchange(struct h2_stream *s, bool ends)
{
    struct h2_connection *c = s->connection;

    s->has_exchange = true;
    s->exchange = (struct http_exchange){.arg = c->listener->arg, .transport = &h2_transport};
    s->request_is_whole = ends;
    s->wants_continue = http_header_find(&s->head, SPAN_LIT("expect")).data != NULL;
    s->body_since_us = clock_monotonic_us();
    c->listener->ops->on_head(&s->exchange, &s->head);
    if (ends) {
        end_request(s);
        return;
    }
    h2_respond_continue(s);
    if (s->has_exchange && !s->is_paused) {
        start_body_timer(s);
    }
}

static void on_head_whole(struct h2_stream *s, bool ends)
{
    enum reject why = h2_head_finish(s->fields, &s->head, s->connection->schemes, ends);

    if (why == REJECT_NONE) {
        begin_exchange(s, ends);
    } else if (why == REJECT_BAD_HTTP || span_equal(s->head.method, SPAN_LIT("CONNECT"))) {
        h2_stream_refuse(s, why, NGHTTP2_PROTOCOL_ERROR);
    } else {
        s->request_is_whole = ends;
        h2_respond_error(s, why);
        http_listener_count_refused(s->connection->listener, why);
    }
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_connection *c = arg;
    bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    struct h2_stream *s = find(c, frame->hd.stream_id);

    (void)session;
    if (s == NULL || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        on_head_whole(s, ends);
    } else if (ends) {
        end_request(s);
    } else if (frame->hd.type == NGHTTP2_DATA && frame->hd.length > 0 &&
               frame->hd.length == frame->data.padlen &&
               !h2_frames_count(&c->frames, H2_EMPTY_DATA, clock_monotonic_us())) {
        h2_connection_break(c, REJECT_H2_FLOOD, NGHTTP2_ENHANCE_YOUR_CALM);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                   size_t size, void *arg)
{
    struct h2_connection *c = arg;
    struct h2_stream *s = find(c, id);

    (void)flags;
    if (s == NULL) {
        return nghttp2_session_consume_connection(session, size);
    }
    s->body_bytes += size;
    s->unconsumed += size;
    c->unconsumed += size;
    if (s->has_exchange) {
        c->listener->ops->on_body(&s->exchange, span_of(bytes, size));
    }
    if (s->unconsumed > 0 && (!s->has_exchange || !s->is_paused)) {
        consume(s);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct h2_connection *c = arg;
    struct h2_stream *s = find(c, id);

    (void)code;
    if (s == NULL) {
        return 0;
    }
    size_t unconsumed = s->unconsumed;
    h2_stream_free(s);
    if (c->n_streams == 0) {
        h2_connection_idle(c);
    }
    return unconsumed == 0 ? 0 : nghttp2_session_consume_connection(session, unconsumed);
}

void h2_stream_set_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback2(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}
