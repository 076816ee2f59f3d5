#include "net/http_connection.h"

#include "base/err.h"
#include "proto/check.h"

#include <stdio.h>

/* Bytes that may wait for the peer before their source should. */
enum { OUTPUT_ENOUGH = 256 * 1024 };

/* The exchange ends here by the handler's will: it hears no more of it. */
static void cut(struct http_connection *c)
{
    c->has_exchange = false;
    http_connection_abort(c);
}

static const struct http_connection *live_const(const struct http_exchange *ex)
{
    const struct http_connection *c = LIST_ENTRY_CONST(ex, struct http_connection, exchange);

    CHECK(c->has_exchange);
    return c;
}

static struct http_connection *live(struct http_exchange *ex)
{
    struct http_connection *c = LIST_ENTRY(ex, struct http_connection, exchange);

    CHECK(c->has_exchange);
    return c;
}

static struct head_framing frame(struct http_connection *c, unsigned status, int64_t content_length)
{
    bool is_http10 = c->parser.http_major == 1 && c->parser.http_minor == 0;

    c->answer = http_answer_body(c->head.method, status, content_length);
    c->response_is_chunked = content_length < 0 && c->answer.is_sent && !is_http10;
    c->closes = c->closes || !c->request_is_whole || c->listener->is_draining;
    return (struct head_framing){.has_content_length = c->answer.has_length,
                                 .chunked = c->response_is_chunked,
                                 .closes = c->closes,
                                 .content_length = c->answer.left};
}

static void respond_head(struct http_exchange *ex, unsigned status,
                         const struct http_header *headers, size_t n_headers,
                         int64_t content_length)
{
    struct http_connection *c = live(ex);
    struct writer head;

    CHECK(!c->has_response);
    const struct head_framing framing = frame(c, status, content_length);
    c->has_response = true;
    writer_init(&head, (size_t)2 * HTTP_HEADER_BYTES_MAX);
    head_write_response(&head, status, headers, n_headers, &framing);
    if (head.failed) {
        (void)err_raise(ERR_FULL, "a response's headers cannot be sent as they are");
        static const struct http_header none[1];
        writer_reset(&head);
        c->closes = true;
        c->response_is_chunked = false;
        c->answer = (struct http_answer_body){0};
        head_write_response(&head, 500, none, 0,
                            &(struct head_framing){.has_content_length = true, .closes = true});
    }
    stream_write(c->stream, writer_span(&head));
    writer_fini(&head);
}

static void respond_body(struct http_exchange *ex, struct span bytes)
{
    struct http_connection *c = live(ex);
    char size_line[20];

    CHECK(c->has_response);
    if (!http_answer_take(&c->answer, bytes)) {
        return;
    }
    if (c->response_is_chunked) {
        int n = snprintf(size_line, sizeof size_line, "%zx\r\n", bytes.size);
        stream_write(c->stream, span_of(size_line, (size_t)n));
    }
    stream_write(c->stream, bytes);
    if (c->response_is_chunked) {
        stream_write(c->stream, SPAN_LIT("\r\n"));
    }
}

static void respond_end(struct http_exchange *ex)
{
    struct http_connection *c = live(ex);

    CHECK(c->has_response);
    if (http_answer_is_short(&c->answer)) {
        cut(c);
        return;
    }
    if (c->response_is_chunked) {
        stream_write(c->stream, SPAN_LIT("0\r\n\r\n"));
    }
    http_connection_response_ended(c);
}

static void respond_reject(struct http_exchange *ex, enum reject why)
{
    struct http_connection *c = live(ex);

    if (c->has_response) {
        cut(c);
        return;
    }
    c->has_exchange = false;
    http_connection_refuse(c, why);
}

static void respond_cut(struct http_exchange *ex)
{
    cut(live(ex));
}

static void read_pause(struct http_exchange *ex, bool is_paused)
{
    http_connection_pause(live(ex), is_paused);
}

static size_t output_size(const struct http_exchange *ex)
{
    return stream_output_size(live_const(ex)->stream);
}

static bool output_is_full(const struct http_exchange *ex)
{
    return output_size(ex) > OUTPUT_ENOUGH;
}

static void close_after(struct http_exchange *ex)
{
    live(ex)->closes = true;
}

static struct in6_addr peer_address(const struct http_exchange *ex)
{
    return live_const(ex)->peer;
}

static bool tls_covers(const struct http_exchange *ex, struct span host)
{
    return stream_tls_covers(live_const(ex)->stream, host);
}

const struct http_transport http_connection_transport = {
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
