#include "net/http_connection.h"

#include "base/clock.h"
#include "net/h2_connection.h"
#include "proto/check.h"

#include <stdlib.h>

enum {
    /* Bytes taken before a head is whole, with the spaces and line ends no limit of ours counts. */
    HEAD_BYTES_MAX = HTTP_TARGET_MAX + HTTP_HEADER_BYTES_MAX + 8 * 1024,
    EXTENSION_BYTES_MAX = 256,    /* in all. Source: limits.md, "HTTP/1.1" */
    TRAILER_BYTES_MAX = 8 * 1024, /* dropped */
    STOP_PARSING = HPE_USER,
};

/* What an HTTP/2 connection begins with if there is no ALPN to say so; no HTTP/1.1 request does.
 * Source: RFC 9113 3.4. */
static const struct span preface = SPAN_INIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

static void free_memory(struct loop_task *task)
{
    struct http_connection *c = LIST_ENTRY(task, struct http_connection, task);

    head_builder_free(c->builder);
    free(c->left);
    free(c);
}

/* The memory goes later, for we may be inside one of its callbacks. */
static void leave(struct http_connection *c)
{
    c->state = HTTP_CONNECTION_CLOSED;
    timer_fini(&c->timer);
    http_listener_remove(c->listener, &c->served);
    loop_defer(c->listener->loop, &c->task);
}

static void abort_exchange(struct http_connection *c)
{
    if (c->has_exchange) {
        c->has_exchange = false;
        c->listener->ops->on_abort(&c->exchange);
    }
}

void http_connection_abort(struct http_connection *c)
{
    if (c->state != HTTP_CONNECTION_CLOSED) {
        stream_cut(c->stream);
        leave(c);
        abort_exchange(c);
    }
}

void http_connection_finish(struct http_connection *c)
{
    CHECK(!c->has_exchange && c->state != HTTP_CONNECTION_CLOSED);
    stream_finish(c->stream);
    leave(c);
}

void http_connection_refuse(struct http_connection *c, enum reject why)
{
    struct writer body;
    struct writer head;

    writer_init(&body, HTTP_ERROR_BODY_MAX);
    http_write_error(&body, why);
    const struct head_framing framing = {
        .has_content_length = true, .content_length = body.size, .closes = true};
    writer_init(&head, 1024);
    head_write_response(&head, (unsigned)reject_row(why)->status, &http_error_type, 1, &framing);
    CHECK(!head.failed);
    stream_write(c->stream, writer_span(&head));
    if (!span_equal(c->head.method, SPAN_LIT("HEAD"))) {
        stream_write(c->stream, writer_span(&body));
    }
    writer_fini(&head);
    writer_fini(&body);
    http_connection_finish(c);
}

/* What the server itself finds wrong, at whatever point. */
static void refuse(struct http_connection *c, enum reject why)
{
    bool may_answer = !c->has_response;
    const struct http_listener *listener = c->listener;

    abort_exchange(c);
    if (may_answer) {
        http_connection_refuse(c, why);
    } else {
        http_connection_abort(c);
    }
    http_listener_count_refused(listener, why);
}

/* The time a peer has for its body, by the size it has or, chunked, has reached. */
static uint64_t body_allowed_us(const struct http_connection *c)
{
    return http_body_allowed_us(
        &c->listener->limits, c->head.has_content_length ? c->head.content_length : c->body_bytes);
}

static uint64_t body_used_us(const struct http_connection *c)
{
    return c->body_used_us + (c->is_paused ? 0 : clock_monotonic_us() - c->body_since_us);
}

static void start_body_timer(struct http_connection *c)
{
    uint64_t allowed = body_allowed_us(c);
    uint64_t used = body_used_us(c);

    timer_start(&c->timer, allowed > used ? (allowed - used) / 1000 + 1 : 1);
}

static void on_timer(void *arg)
{
    struct http_connection *c = arg;

    if (c->state == HTTP_CONNECTION_BODY && body_used_us(c) < body_allowed_us(c)) {
        start_body_timer(c);
    } else if (c->state == HTTP_CONNECTION_IDLE) {
        http_connection_finish(c);
    } else {
        refuse(c, REJECT_TIMEOUT);
    }
}

void http_connection_pause(struct http_connection *c, bool is_paused)
{
    if (c->is_paused == is_paused) {
        return;
    }
    if (is_paused) {
        c->body_used_us = body_used_us(c);
        c->is_paused = true;
        stream_pause(c->stream);
    } else {
        c->is_paused = false;
        c->body_since_us = clock_monotonic_us();
        http_connection_continue(c);
        stream_resume(c->stream);
    }
    if (c->state == HTTP_CONNECTION_BODY && is_paused) {
        timer_stop(&c->timer);
    } else if (c->state == HTTP_CONNECTION_BODY) {
        start_body_timer(c);
    }
}

void http_connection_continue(struct http_connection *c)
{
    if (c->wants_continue && !c->is_paused && !c->has_response && !c->request_is_whole) {
        c->wants_continue = false;
        stream_write(c->stream, SPAN_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
    }
}

static struct http_connection *of_parser(llhttp_t *parser)
{
    return parser->data;
}

static int stop(struct http_connection *c, enum reject why)
{
    c->why = why;
    return STOP_PARSING;
}

static int on_url(llhttp_t *parser, const char *at, size_t size)
{
    struct http_connection *c = of_parser(parser);

    return head_add_target(c->builder, span_of(at, size)) ? 0 : stop(c, REJECT_URI_TOO_LONG);
}

static int on_trailer(struct http_connection *c, size_t size)
{
    c->trailer_bytes += size;
    return c->trailer_bytes > TRAILER_BYTES_MAX ? stop(c, REJECT_HEADERS_TOO_LARGE) : 0;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t size)
{
    struct http_connection *c = of_parser(parser);

    if (c->state != HTTP_CONNECTION_HEAD) {
        return on_trailer(c, size);
    }
    return head_add_name(c->builder, span_of(at, size)) ? 0 : stop(c, REJECT_HEADERS_TOO_LARGE);
}

static int on_header_field_complete(llhttp_t *parser)
{
    struct http_connection *c = of_parser(parser);

    if (c->state == HTTP_CONNECTION_HEAD) {
        head_end_name(c->builder);
    }
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t size)
{
    struct http_connection *c = of_parser(parser);

    if (c->state != HTTP_CONNECTION_HEAD) {
        return on_trailer(c, size);
    }
    return head_add_value(c->builder, span_of(at, size)) ? 0 : stop(c, REJECT_HEADERS_TOO_LARGE);
}

static int on_chunk_extension(llhttp_t *parser, const char *at, size_t size)
{
    struct http_connection *c = of_parser(parser);

    (void)at;
    c->extension_bytes += size + 1; /* with the ';' or '=' before it */
    return c->extension_bytes > EXTENSION_BYTES_MAX ? stop(c, REJECT_BAD_HTTP) : 0;
}

static void begin_exchange(struct http_connection *c, unsigned version)
{
    const struct http_head *head = &c->head;

    c->n_requests++;
    c->has_exchange = true;
    c->exchange =
        (struct http_exchange){.arg = c->listener->arg, .transport = &http_connection_transport};
    c->state = HTTP_CONNECTION_BODY;
    c->request_is_whole = !head->chunked && head->content_length == 0;
    c->wants_continue = version == 11 && http_header_find(head, SPAN_LIT("expect")).data != NULL;
    c->closes = version == 10 || c->listener->is_draining ||
                c->n_requests >= c->listener->limits.requests_max ||
                http_head_connection_has(head, SPAN_LIT("close"));
    c->has_response = false;
    c->body_bytes = c->body_used_us = 0;
    c->body_since_us = clock_monotonic_us();
    c->extension_bytes = c->trailer_bytes = 0;
    start_body_timer(c);
}

static int on_headers_complete(llhttp_t *parser)
{
    struct http_connection *c = of_parser(parser);
    unsigned version = parser->http_major * 10U + parser->http_minor;

    c->head =
        (struct http_head){.method = span_str(llhttp_method_name((llhttp_method_t)parser->method))};
    head_finish(c->builder, &c->head);
    enum reject why = head_judge_request(&c->head, version);
    if (why != REJECT_NONE) {
        return stop(c, why);
    }
    begin_exchange(c, version);
    c->listener->ops->on_head(&c->exchange, &c->head);
    if (c->has_exchange) {
        http_connection_continue(c);
    }
    return c->state == HTTP_CONNECTION_CLOSED ? STOP_PARSING : 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t size)
{
    struct http_connection *c = of_parser(parser);

    c->body_bytes += size;
    if (c->has_exchange) {
        c->listener->ops->on_body(&c->exchange, span_of(at, size));
    }
    return c->state == HTTP_CONNECTION_CLOSED ? STOP_PARSING : 0;
}

static int on_message_complete(llhttp_t *parser)
{
    (void)parser;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_chunk_extension_name = on_chunk_extension,
    .on_chunk_extension_value = on_chunk_extension,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

static void begin_head(struct http_connection *c)
{
    llhttp_init(&c->parser, HTTP_REQUEST, &settings);
    c->parser.data = c;
    c->builder = head_builder_new();
    c->head = (struct http_head){.method = {NULL, 0}};
    c->head_bytes = 0;
    c->why = REJECT_NONE;
    c->has_response = false;
    if (c->state == HTTP_CONNECTION_IDLE) {
        c->state = HTTP_CONNECTION_HEAD;
        if (c->n_requests > 0) {
            timer_start(&c->timer, c->listener->limits.headers_ms);
        }
    }
}

static void on_message_end(struct http_connection *c)
{
    c->request_is_whole = true;
    if (c->has_exchange) {
        c->state = HTTP_CONNECTION_WAITING;
        timer_stop(&c->timer);
        c->is_paused = false;
        stream_resume(c->stream); /* to hear it if the peer goes */
        c->listener->ops->on_end(&c->exchange);
    }
}

/* Takes bytes up to the end of one message; says how many. */
static size_t parse(struct http_connection *c, struct span bytes)
{
    if (c->state == HTTP_CONNECTION_IDLE) {
        begin_head(c);
    }
    c->head_bytes += c->state == HTTP_CONNECTION_HEAD ? bytes.size : 0;
    llhttp_errno_t result = llhttp_execute(&c->parser, bytes.data, bytes.size);
    if (c->state == HTTP_CONNECTION_CLOSED) {
        return bytes.size;
    }
    if (result == HPE_PAUSED) {
        size_t n = (size_t)(llhttp_get_error_pos(&c->parser) - bytes.data);
        on_message_end(c);
        return n;
    }
    if (result != HPE_OK) {
        refuse(c, c->why == REJECT_NONE ? REJECT_BAD_HTTP : c->why);
    } else if (c->state == HTTP_CONNECTION_HEAD && c->head_bytes > HEAD_BYTES_MAX) {
        refuse(c, REJECT_HEADERS_TOO_LARGE);
    }
    return bytes.size;
}

static bool can_parse(const struct http_connection *c)
{
    return c->state == HTTP_CONNECTION_IDLE || c->state == HTTP_CONNECTION_HEAD ||
           c->state == HTTP_CONNECTION_BODY;
}

/* Bytes of the next request are kept, and so that there are not too many of them reading stops. It
 * goes on until then, since that is how we hear that the peer has gone. */
static void keep(struct http_connection *c, struct span bytes)
{
    size_t old = c->left_size - c->left_at;
    char *left = malloc(old + bytes.size);

    CHECK(left != NULL);
    if (old > 0) {
        memcpy(left, c->left + c->left_at, old);
    }
    memcpy(left + old, bytes.data, bytes.size);
    free(c->left);
    c->left = left;
    c->left_at = 0;
    c->left_size = old + bytes.size;
    if (c->left_size >= LOOP_SCRATCH_SIZE) {
        stream_pause(c->stream);
    }
}

static void take(struct http_connection *c, struct span bytes)
{
    while (bytes.size > 0 && can_parse(c)) {
        bytes = span_skip(bytes, parse(c, bytes));
    }
    if (bytes.size > 0 && c->state != HTTP_CONNECTION_CLOSED) {
        keep(c, bytes);
    }
}

/* The connection goes on without us. */
static struct h2_connection *become_http2(struct http_connection *c)
{
    struct h2_connection *h2 = h2_connection_accept(c->listener, c->stream, c->peer, c->is_proxy);

    leave(c);
    return h2;
}

static void on_bytes(void *arg, struct span bytes)
{
    struct http_connection *c = arg;
    size_t n = 0;

    while (c->may_be_http2 && n < bytes.size && c->preface_size < preface.size) {
        if (bytes.data[n] == preface.data[c->preface_size]) {
            n++;
            c->preface_size++;
        } else {
            c->may_be_http2 = false;
            take(c, span_of(preface.data, c->preface_size));
        }
    }
    if (c->may_be_http2 && c->preface_size < preface.size) {
        return;
    }
    bytes = span_skip(bytes, n);
    if (c->may_be_http2) {
        struct h2_connection *h2 = become_http2(c);
        h2_connection_bytes(h2, preface);
        h2_connection_bytes(h2, bytes);
        return;
    }
    take(c, bytes);
}

static void parse_left(struct http_connection *c)
{
    while (c->left != NULL && can_parse(c)) {
        c->left_at += parse(c, span_of(c->left + c->left_at, c->left_size - c->left_at));
        if (c->left_at == c->left_size) {
            free(c->left);
            c->left = NULL;
            c->left_at = c->left_size = 0;
        }
    }
}

static void next_request(struct http_connection *c)
{
    c->state = HTTP_CONNECTION_IDLE;
    if (c->listener->is_draining) {
        http_connection_finish(c);
        return;
    }
    timer_start(&c->timer, c->listener->limits.idle_ms);
    c->is_paused = false;
    stream_resume(c->stream);
    parse_left(c);
}

void http_connection_response_ended(struct http_connection *c)
{
    c->has_exchange = false;
    if (c->closes || !c->request_is_whole) {
        http_connection_finish(c);
        return;
    }
    c->state = HTTP_CONNECTION_FLUSHING;
    timer_stop(&c->timer);
    head_builder_free(c->builder);
    c->builder = NULL;
}

static void on_ready(void *arg)
{
    struct http_connection *c = arg;

    if (stream_is_http2(c->stream)) {
        (void)become_http2(c);
        return;
    }
    c->may_be_http2 = c->listener->tls == NULL && !c->listener->only_http1;
    timer_start(&c->timer, c->listener->limits.headers_ms);
}

static void on_drained(void *arg)
{
    struct http_connection *c = arg;

    if (c->state == HTTP_CONNECTION_FLUSHING) {
        next_request(c);
    } else if (c->has_exchange && c->has_response) {
        c->listener->ops->on_drained(&c->exchange);
    }
}

static void count_end(const struct http_connection *c, enum stream_end why)
{
    if (why == STREAM_END_TIMEOUT) {
        http_listener_count_refused(c->listener, REJECT_TIMEOUT);
    } else if (why == STREAM_END_TLS) {
        http_listener_count_refused(c->listener, REJECT_TLS);
    }
}

static void on_closed(void *arg, enum stream_end why)
{
    struct http_connection *c = arg;

    count_end(c, why);
    if (why == STREAM_END_EOF && !c->has_exchange) {
        http_connection_finish(c);
    } else {
        http_connection_abort(c);
    }
}

static bool on_client(void *arg, const struct in6_addr *client)
{
    struct http_connection *c = arg;

    if (client == NULL) {
        http_listener_count_refused(c->listener, REJECT_PROXY_HEADER);
        return false;
    }
    c->peer = *client;
    return http_listener_admits(c->listener, client);
}

static const struct stream_ops stream_ops = {on_ready, on_bytes, on_drained, on_closed};

static struct http_connection *of_served(struct http_served *served)
{
    return LIST_ENTRY(served, struct http_connection, served);
}

static void drain(struct http_served *served)
{
    struct http_connection *c = of_served(served);

    c->closes = true;
    if (c->state == HTTP_CONNECTION_IDLE) {
        http_connection_finish(c);
    }
}

static void abort_served(struct http_served *served)
{
    http_connection_abort(of_served(served));
}

void http_connection_accept(struct http_listener *listener, int fd, struct in6_addr peer)
{
    struct http_connection *c = calloc(1, sizeof *c);
    bool is_proxy = http_listener_trusts(listener, &peer);
    const struct stream_options options = {
        .ops = &stream_ops,
        .arg = c,
        .tls = listener->tls,
        .ready_ms = listener->limits.tls_ms,
        .write_ms = listener->limits.write_ms,
        .output_max = HTTP_OUTPUT_MAX,
        .on_client = is_proxy ? on_client : NULL,
    };

    CHECK(c != NULL);
    c->served = (struct http_served){.drain = drain, .abort = abort_served};
    c->listener = listener;
    c->peer = peer;
    c->is_proxy = is_proxy;
    c->task.run = free_memory;
    timer_init(&c->timer, listener->loop, on_timer, c);
    c->stream = stream_accept(listener->loop, fd, &options);
    http_listener_add(listener, &c->served);
}
