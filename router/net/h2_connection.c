#include "net/h2_connection.h"

#include "base/clock.h"
#include "proto/check.h"

#include <stdlib.h>

enum {
    /* Bytes given to the socket at once: what comes later may still overtake the rest. */
    WIRE_MAX = 64 * 1024,
    /* Frames other than DATA that wait for the socket before we read no more of what causes them.
     */
    QUEUED_MAX = 128,
    REST_MS = 1000,  /* without a request, until memory is given back */
    GOAWAY_SIZE = 8, /* bytes. Source: RFC 9113 6.8 */
    ACKS_MAX = 64,   /* that wait for the socket. Source: limits.md, "HTTP/2" */
};

static void free_memory(struct loop_task *task)
{
    struct h2_connection *c = LIST_ENTRY(task, struct h2_connection, task);

    nghttp2_session_del(c->session);
    h2_frames_fini(&c->frames);
    free(c);
}

/* The memory goes later, for we may be inside one of its callbacks. */
static void leave_listener(struct h2_connection *c)
{
    c->is_closed = true;
    timer_fini(&c->idle);
    timer_fini(&c->block);
    loop_task_cancel(&c->kick);
    http_listener_remove(c->listener, &c->served);
    loop_defer(c->listener->loop, &c->task);
}

static void free_streams(struct h2_connection *c)
{
    struct link *link;

    while ((link = list_first(&c->streams)) != NULL) {
        h2_stream_free(LIST_ENTRY(link, struct h2_stream, link));
    }
}

static void abort_connection(struct h2_connection *c)
{
    if (!c->is_closed) {
        stream_cut(c->stream);
        leave_listener(c);
        free_streams(c);
    }
}

static void finish(struct h2_connection *c)
{
    stream_finish(c->stream);
    leave_listener(c);
    free_streams(c);
}

/* Written by hand: the library may be in no state to, and would first send what it has queued. */
static void write_goaway(struct h2_connection *c, uint32_t code)
{
    uint32_t last = (uint32_t)nghttp2_session_get_last_proc_stream_id(c->session);
    const uint8_t frame[H2_FRAME_HEAD_SIZE + GOAWAY_SIZE] = {
        0,
        0,
        GOAWAY_SIZE,
        NGHTTP2_GOAWAY,
        0,
        0,
        0,
        0,
        0,
        (uint8_t)(last >> 24),
        (uint8_t)(last >> 16),
        (uint8_t)(last >> 8),
        (uint8_t)last,
        (uint8_t)(code >> 24),
        (uint8_t)(code >> 16),
        (uint8_t)(code >> 8),
        (uint8_t)code,
    };

    stream_write(c->stream, span_of(frame, sizeof frame));
}

static void end_broken(struct h2_connection *c)
{
    const struct http_listener *listener = c->listener;
    enum reject why = c->broken;

    write_goaway(c, c->broken_code);
    finish(c);
    http_listener_count_refused(listener, why);
}

void h2_connection_break(struct h2_connection *c, enum reject why, uint32_t code)
{
    if (c->broken == REJECT_NONE) {
        c->broken = why;
        c->broken_code = code;
        h2_connection_kick(c);
    }
}

void h2_connection_idle(struct h2_connection *c)
{
    uint32_t idle_ms = c->listener->limits.idle_ms;
    uint32_t first_ms = idle_ms < REST_MS ? idle_ms : REST_MS;

    c->idle_left_ms = idle_ms - first_ms;
    timer_start(&c->idle, first_ms);
}

void h2_connection_kick(struct h2_connection *c)
{
    loop_defer(c->listener->loop, &c->kick);
}

void h2_connection_leave(struct h2_connection *c)
{
    if (!c->is_leaving) {
        c->is_leaving = true;
        CHECK(nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
                                    nghttp2_session_get_last_proc_stream_id(c->session),
                                    NGHTTP2_NO_ERROR, NULL, 0) == 0);
        h2_connection_kick(c);
    }
}

static void tell_drained(struct h2_connection *c)
{
    struct link *link = list_first(&c->streams);

    for (; link != NULL; link = list_next(&c->streams, link)) {
        struct h2_stream *s = LIST_ENTRY(link, struct h2_stream, link);
        if (s->is_drained && s->has_exchange && s->output_size == 0) {
            s->is_drained = false;
            c->listener->ops->on_drained(&s->exchange);
        }
    }
}

/* Sends as much as the socket should have at once. */
static void send_some(struct h2_connection *c)
{
    ssize_t n = 1;

    while (n > 0 && c->broken == REJECT_NONE && stream_output_size(c->stream) < WIRE_MAX) {
        const uint8_t *bytes;
        n = nghttp2_session_mem_send(c->session, &bytes);
        if (n > 0) {
            stream_write(c->stream, span_of(bytes, (size_t)n));
        }
    }
    if (n < 0) {
        h2_connection_break(c, REJECT_BAD_HTTP, NGHTTP2_INTERNAL_ERROR);
    }
}

/* After whatever may have changed something. */
static void go_on(struct h2_connection *c)
{
    send_some(c);
    if (c->broken != REJECT_NONE) {
        end_broken(c);
        return;
    }
    if (!nghttp2_session_want_read(c->session) && !nghttp2_session_want_write(c->session)) {
        finish(c);
        return;
    }
    if (nghttp2_session_get_outbound_queue_size(c->session) > QUEUED_MAX) {
        stream_pause(c->stream);
    } else {
        stream_resume(c->stream);
    }
}

static void on_kick(struct loop_task *task)
{
    struct h2_connection *c = LIST_ENTRY(task, struct h2_connection, kick);

    go_on(c);
    if (!c->is_closed) {
        tell_drained(c);
    }
}

static void found(struct h2_connection *c, enum h2_found what)
{
    if (what == H2_FOUND_FLOOD) {
        h2_connection_break(c, REJECT_H2_FLOOD, NGHTTP2_ENHANCE_YOUR_CALM);
    } else if (what == H2_FOUND_RESETS) {
        h2_connection_break(c, REJECT_H2_RESETS, NGHTTP2_ENHANCE_YOUR_CALM);
    } else if (what == H2_FOUND_BIG_BLOCK) {
        h2_connection_break(c, REJECT_HEADERS_TOO_LARGE, NGHTTP2_ENHANCE_YOUR_CALM);
    }
}

static void give_to_library(struct h2_connection *c, struct span bytes)
{
    ssize_t n = nghttp2_session_mem_recv(c->session, (const uint8_t *)bytes.data, bytes.size);

    if (n == NGHTTP2_ERR_FLOODED) {
        h2_connection_break(c, REJECT_H2_FLOOD, NGHTTP2_ENHANCE_YOUR_CALM);
    } else if (n < 0) {
        h2_connection_break(c, REJECT_BAD_HTTP, NGHTTP2_PROTOCOL_ERROR);
    }
}

static void watch_block(struct h2_connection *c)
{
    bool runs = timer_is_running(&c->block);

    if (c->frames.in_block && !runs) {
        timer_start(&c->block, c->listener->limits.headers_ms);
    } else if (!c->frames.in_block && runs) {
        timer_stop(&c->block);
    }
}

/* Frame by frame, with what each causes sent at once, so that all is counted as it comes. */
void h2_connection_bytes(struct h2_connection *c, struct span bytes)
{
    bool has_preface = c->frames.preface_left == 0;

    while (bytes.size > 0 && !c->is_closed) {
        enum h2_found what;
        bool output_waits = c->output_size > 0 || stream_output_size(c->stream) > 0;
        size_t n = h2_frames_take(&what, &c->frames, bytes, output_waits, clock_monotonic_us());
        found(c, what);
        if (c->broken == REJECT_NONE) {
            give_to_library(c, span_of(bytes.data, n));
        }
        if (c->broken != REJECT_NONE || what == H2_FOUND_FRAME_END) {
            go_on(c);
        }
        bytes = span_skip(bytes, n);
    }
    if (c->is_closed) {
        return;
    }
    if (!has_preface && c->frames.preface_left == 0 && c->n_streams == 0) {
        h2_connection_idle(c);
    }
    watch_block(c);
    h2_connection_kick(c);
}

static void on_bytes(void *arg, struct span bytes)
{
    h2_connection_bytes(arg, bytes);
}

static void on_ready(void *arg)
{
    (void)arg; /* it was before we took over */
}

static void on_drained(void *arg)
{
    struct h2_connection *c = arg;

    on_kick(&c->kick);
}

static void on_closed(void *arg, enum stream_end why)
{
    struct h2_connection *c = arg;

    if (why == STREAM_END_TIMEOUT) {
        http_listener_count_refused(c->listener, REJECT_TIMEOUT);
    }
    if (why == STREAM_END_EOF && c->n_streams == 0) {
        finish(c);
    } else {
        abort_connection(c);
    }
}

static const struct stream_ops stream_ops = {on_ready, on_bytes, on_drained, on_closed};

static void on_idle(void *arg)
{
    struct h2_connection *c = arg;

    if (c->frames.preface_left > 0) {
        finish(c);
    } else if (c->idle_left_ms > 0) {
        if (!nghttp2_session_want_write(c->session)) {
            h2_memory_rest(&c->memory);
        }
        timer_start(&c->idle, c->idle_left_ms);
        c->idle_left_ms = 0;
    } else {
        h2_connection_leave(c);
    }
}

static void on_block_timeout(void *arg)
{
    h2_connection_break(arg, REJECT_TIMEOUT, NGHTTP2_ENHANCE_YOUR_CALM);
}

static struct h2_connection *of_served(struct http_served *served)
{
    return LIST_ENTRY(served, struct h2_connection, served);
}

static void drain(struct http_served *served)
{
    h2_connection_leave(of_served(served));
}

static void abort_served(struct http_served *served)
{
    abort_connection(of_served(served));
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_connection *c = arg;

    (void)session;
    if (frame->hd.type == NGHTTP2_RST_STREAM &&
        !h2_frames_count(&c->frames, H2_RESETS_SENT, clock_monotonic_us())) {
        h2_connection_break(c, REJECT_H2_RESETS, NGHTTP2_ENHANCE_YOUR_CALM);
    } else if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR &&
               !c->has_fault) {
        http_listener_count_refused(c->listener, REJECT_BAD_HTTP);
    } else if (frame->hd.type == NGHTTP2_DATA) {
        h2_frames_sent_data(&c->frames);
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
            h2_stream_answered(c, frame->hd.stream_id);
        }
    }
    return 0;
}

static nghttp2_option *options_new(void)
{
    nghttp2_option *option;

    CHECK(nghttp2_option_new(&option) == 0);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_outbound_ack(option, ACKS_MAX);
    nghttp2_option_set_max_reserved_remote_streams(option, 0);
    /* Our answers' few headers are not worth the memory of each idle connection. */
    nghttp2_option_set_max_deflate_dynamic_table_size(option, 0);
    return option;
}

static void submit_settings(struct h2_connection *c)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, H2_HEADER_TABLE},
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, H2_STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_HEADER_BYTES_MAX},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };

    CHECK(nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings,
                                  sizeof settings / sizeof settings[0]) == 0);
    CHECK(nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0,
                                                H2_CONNECTION_WINDOW) == 0);
}

static void session_new(struct h2_connection *c)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option = options_new();
    nghttp2_mem memory;

    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    h2_stream_set_callbacks(callbacks);
    h2_memory_init(&memory, &c->memory);
    CHECK(nghttp2_session_server_new3(&c->session, callbacks, c, option, &memory) == 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    submit_settings(c);
}

/* A proxy that ends TLS and speaks cleartext to us says what its client said. */
static unsigned schemes_of(const struct http_listener *listener, bool is_proxy)
{
    if (listener->tls != NULL) {
        return H2_SCHEME_HTTPS;
    }
    return is_proxy ? H2_SCHEME_HTTP | H2_SCHEME_HTTPS : H2_SCHEME_HTTP;
}

struct h2_connection *h2_connection_accept(struct http_listener *listener, struct stream *stream,
                                           struct in6_addr peer, bool is_proxy)
{
    struct h2_connection *c = calloc(1, sizeof *c);

    CHECK(c != NULL);
    c->served = (struct http_served){.drain = drain, .abort = abort_served};
    c->task.run = free_memory;
    c->kick.run = on_kick;
    c->listener = listener;
    c->stream = stream;
    c->peer = peer;
    c->schemes = schemes_of(listener, is_proxy);
    list_init(&c->streams);
    h2_frames_init(&c->frames);
    timer_init(&c->idle, listener->loop, on_idle, c);
    timer_init(&c->block, listener->loop, on_block_timeout, c);
    session_new(c);
    stream_hand_over(stream, &stream_ops, c);
    http_listener_add(listener, &c->served);
    timer_start(&c->idle, listener->limits.headers_ms);
    h2_connection_kick(c);
    return c;
}
