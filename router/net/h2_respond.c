#include "net/h2_connection.h"

#include "base/err.h"
#include "proto/check.h"

#include <event2/buffer.h>

#include <stdio.h>
#include <stdlib.h>

static const struct h2_stream *live_const(const struct http_exchange *ex)
{
    const struct h2_stream *s = LIST_ENTRY_CONST(ex, struct h2_stream, exchange);

    CHECK(s->has_exchange);
    return s;
}

static struct h2_stream *live(struct http_exchange *ex)
{
    struct h2_stream *s = LIST_ENTRY(ex, struct h2_stream, exchange);

    CHECK(s->has_exchange);
    return s;
}

/* A response is on its way, and this is when the peer has taken some of it. */
static void watch_progress(struct h2_stream *s)
{
    if (s->output_size > 0) {
        timer_start(&s->write_timer, s->connection->listener->limits.write_ms);
    } else {
        timer_stop(&s->write_timer);
    }
}

void h2_output_stalled(void *arg)
{
    struct h2_stream *s = arg;
    nghttp2_session *session = s->connection->session;

    if (nghttp2_session_get_stream_remote_window_size(session, s->id) > 0 &&
        nghttp2_session_get_remote_window_size(session) > 0) {
        watch_progress(s); /* others had their turn; the socket is watched by the stream */
        return;
    }
    h2_connection_break(s->connection, REJECT_TIMEOUT, NGHTTP2_ENHANCE_YOUR_CALM);
}

void h2_output_free(struct h2_stream *s)
{
    s->connection->output_size -= s->output_size;
    s->output_size = 0;
    if (s->output != NULL) {
        evbuffer_free(TAKE(s->output));
    }
}

/* NOLINTNEXTLINE(readability-function-size): the library says what the parameters are. */
static ssize_t read_output(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t size,
                           uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct h2_stream *s = source->ptr;
    size_t n = s->output_size < size ? s->output_size : size;

    (void)session;
    (void)id;
    (void)arg;
    if (n == 0 && !s->response_ended) {
        s->is_waiting = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > 0) {
        CHECK(evbuffer_remove(s->output, buffer, n) == (int)n);
        s->output_size -= n;
        s->connection->output_size -= n;
        watch_progress(s);
    }
    if (s->output_size == 0) {
        s->is_drained = true;
        h2_output_free(s);
        h2_connection_kick(s->connection);
    }
    if (s->output_size == 0 && s->response_ended) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

/* nghttp2_nv is not const, though the library copies what it points to. */
static uint8_t *unconst(const char *bytes)
{
    return (uint8_t *)(uintptr_t)bytes;
}

static nghttp2_nv field(struct span name, struct span value)
{
    return (nghttp2_nv){.name = unconst(name.data),
                        .namelen = name.size,
                        .value = unconst(value.data),
                        .valuelen = value.size,
                        .flags = NGHTTP2_NV_FLAG_NONE};
}

/* The fields of a response, and the bytes of its names in lower case. */
struct fields {
    nghttp2_nv *list;
    size_t n;
    char *names;
    size_t names_size;
    char status[4], length[24];
};

static bool is_dropped(struct span name)
{
    return http_header_is_hop_by_hop(name) || span_equal_nocase(name, SPAN_LIT("content-length")) ||
           span_equal_nocase(name, SPAN_LIT("expect")) || span_equal_nocase(name, SPAN_LIT("host"));
}

static struct span lower_name(struct fields *f, struct span name)
{
    char *at = f->names + f->names_size;

    f->names_size += name.size;
    return span_lower(at, name);
}

static size_t names_size(const struct http_header *headers, size_t n)
{
    size_t size = 0;

    for (size_t i = 0; i < n; i++) {
        size += headers[i].name.size;
    }
    return size;
}

/* False if a header cannot be sent as it is. */
static bool fields_add(struct fields *f, const struct http_header *headers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (is_dropped(headers[i].name)) {
            continue;
        }
        if (!http_name_is_valid(headers[i].name) || !http_value_is_valid(headers[i].value)) {
            return false;
        }
        f->list[f->n++] = field(lower_name(f, headers[i].name), headers[i].value);
    }
    return true;
}

static void fields_init(struct fields *f, unsigned status, const struct http_header *headers,
                        size_t n_headers)
{
    *f = (struct fields){.list = calloc(n_headers + 2, sizeof *f->list),
                         .names = malloc(names_size(headers, n_headers) + 1)};
    CHECK(f->list != NULL && f->names != NULL);
    snprintf(f->status, sizeof f->status, "%03u", status % 1000);
    f->list[f->n++] = field(SPAN_LIT(":status"), span_of(f->status, 3));
}

static void fields_fini(struct fields *f)
{
    free(f->list);
    free(f->names);
}

static void submit(struct h2_stream *s, const struct fields *f)
{
    const nghttp2_data_provider provider = {.source = {.ptr = s}, .read_callback = read_output};

    s->has_response = true;
    CHECK(nghttp2_submit_response(s->connection->session, s->id, f->list, f->n, &provider) == 0);
    h2_connection_kick(s->connection);
}

static void respond_head(struct http_exchange *ex, unsigned status,
                         const struct http_header *headers, size_t n_headers,
                         int64_t content_length)
{
    struct h2_stream *s = live(ex);
    struct fields f;

    CHECK(!s->has_response);
    s->answer = http_answer_body(s->head.method, status, content_length);
    fields_init(&f, status, headers, n_headers);
    if (!fields_add(&f, headers, n_headers)) {
        (void)err_raise(ERR_FULL, "a response's headers cannot be sent as they are");
        fields_fini(&f);
        fields_init(&f, 500, NULL, 0);
        s->answer = (struct http_answer_body){.has_length = true};
    }
    if (s->answer.has_length) {
        int n = snprintf(f.length, sizeof f.length, "%llu", (unsigned long long)s->answer.left);
        f.list[f.n++] = field(SPAN_LIT("content-length"), span_of(f.length, (size_t)n));
    }
    submit(s, &f);
    fields_fini(&f);
}

static void write_output(struct h2_stream *s, struct span bytes)
{
    struct h2_connection *c = s->connection;

    if (s->output == NULL) {
        s->output = evbuffer_new();
        CHECK(s->output != NULL);
    }
    CHECK(evbuffer_add(s->output, bytes.data, bytes.size) == 0);
    s->output_size += bytes.size;
    c->output_size += bytes.size;
    if (!timer_is_running(&s->write_timer)) {
        watch_progress(s);
    }
    if (c->output_size > H2_OUTPUT_CUT) {
        h2_connection_break(c, REJECT_H2_FLOOD, NGHTTP2_ENHANCE_YOUR_CALM);
    }
}

static void more_output(struct h2_stream *s)
{
    if (s->is_waiting) {
        s->is_waiting = false;
        CHECK(nghttp2_session_resume_data(s->connection->session, s->id) == 0);
    }
    h2_connection_kick(s->connection);
}

static void respond_body(struct http_exchange *ex, struct span bytes)
{
    struct h2_stream *s = live(ex);

    CHECK(s->has_response);
    if (http_answer_take(&s->answer, bytes)) {
        write_output(s, bytes);
        more_output(s);
    }
}

static void respond_end(struct http_exchange *ex)
{
    struct h2_stream *s = live(ex);

    CHECK(s->has_response);
    if (http_answer_is_short(&s->answer)) {
        h2_stream_reset(s, NGHTTP2_INTERNAL_ERROR);
    }
    s->response_ended = true;
    more_output(s);
    h2_stream_forget(s);
}

void h2_respond_error(struct h2_stream *s, enum reject why)
{
    struct writer body;
    struct fields f;
    unsigned status = (unsigned)reject_row(why)->status;
    bool has_body = http_may_have_body(s->head.method, status);

    writer_init(&body, HTTP_ERROR_BODY_MAX);
    http_write_error(&body, why);
    fields_init(&f, status, &http_error_type, 1);
    CHECK(fields_add(&f, &http_error_type, 1));
    int n = snprintf(f.length, sizeof f.length, "%zu", body.size);
    f.list[f.n++] = field(SPAN_LIT("content-length"), span_of(f.length, (size_t)n));
    submit(s, &f);
    if (has_body) {
        write_output(s, writer_span(&body));
    }
    s->response_ended = true;
    h2_stream_forget(s);
    fields_fini(&f);
    writer_fini(&body);
}

static void respond_cut(struct http_exchange *ex)
{
    struct h2_stream *s = live(ex);

    h2_stream_reset(s, NGHTTP2_INTERNAL_ERROR);
    h2_stream_forget(s);
}

static void respond_reject(struct http_exchange *ex, enum reject why)
{
    struct h2_stream *s = live(ex);

    if (s->has_response) {
        respond_cut(ex);
    } else {
        h2_respond_error(s, why);
    }
}

void h2_respond_continue(struct h2_stream *s)
{
    const nghttp2_nv status = field(SPAN_LIT(":status"), SPAN_LIT("100"));

    if (s->has_exchange && s->wants_continue && !s->is_paused && !s->has_response &&
        !s->request_is_whole) {
        s->wants_continue = false;
        CHECK(nghttp2_submit_headers(s->connection->session, NGHTTP2_FLAG_NONE, s->id, NULL,
                                     &status, 1, NULL) == 0);
        h2_connection_kick(s->connection);
    }
}

static void read_pause(struct http_exchange *ex, bool is_paused)
{
    h2_stream_pause(live(ex), is_paused);
}

static size_t output_size(const struct http_exchange *ex)
{
    return live_const(ex)->output_size;
}

static bool output_is_full(const struct http_exchange *ex)
{
    const struct h2_stream *s = live_const(ex);

    return s->output_size + LOOP_SCRATCH_SIZE > H2_STREAM_OUTPUT_MAX ||
           s->connection->output_size + LOOP_SCRATCH_SIZE > H2_OUTPUT_MAX;
}

static void close_after(struct http_exchange *ex)
{
    h2_connection_leave(live(ex)->connection);
}

static struct in6_addr peer_address(const struct http_exchange *ex)
{
    return live_const(ex)->connection->peer;
}

static bool tls_covers(const struct http_exchange *ex, struct span host)
{
    return stream_tls_covers(live_const(ex)->connection->stream, host);
}

const struct http_transport h2_transport = {
    .respond_head = respond_head,
    .respond_body = respond_body,
    .respond_end = respond_end,
    .respond_reject = respond_reject,
    .respond_cut = respond_cut,
    .read_pause = read_pause,
    .output_size = output_size,
    .output_is_full = output_is_full,
    .close_after = close_after,
    .peer_address = peer_address,
    .tls_covers = tls_covers,
};
