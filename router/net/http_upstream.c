#include "net/http_call.h"

#include "proto/check.h"

#include <stdlib.h>

enum {
    INFORMATIONAL_MAX = 8, /* 1xx before the answer proper; more are an attack */
    STOP_PARSING = HPE_USER,
};

static void free_memory(struct loop_task *task)
{
    struct http_upstream *u = LIST_ENTRY(task, struct http_upstream, task);

    head_builder_free(u->builder);
    free(u);
}

static void leave(struct http_upstream *u)
{
    u->is_closed = true;
    u->call = NULL;
    u->pool->n_connections--;
    list_remove(&u->link);
    timer_fini(&u->idle);
    loop_defer(u->pool->loop, &u->task);
}

void http_upstream_close(struct http_upstream *u)
{
    if (!u->is_closed) {
        stream_cut(u->stream);
        leave(u);
    }
}

static void finish(struct http_upstream *u)
{
    stream_finish(u->stream);
    leave(u);
}

static void on_idle_timeout(void *arg)
{
    finish(arg);
}

static void begin_message(struct http_upstream *u)
{
    head_builder_free(TAKE(u->builder));
    u->head = (struct http_head){.status = 0};
    u->is_final = false;
}

/* Only now: requests that are given up before their answers begin may be many. */
static int on_message_begin(llhttp_t *parser)
{
    struct http_upstream *u = parser->data;

    u->builder = head_builder_new();
    return 0;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t size)
{
    struct http_upstream *u = parser->data;

    if (u->is_final) {
        return 0; /* a trailer */
    }
    return head_add_name(u->builder, span_of(at, size)) ? 0 : STOP_PARSING;
}

static int on_header_field_complete(llhttp_t *parser)
{
    struct http_upstream *u = parser->data;

    if (!u->is_final) {
        head_end_name(u->builder);
    }
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t size)
{
    struct http_upstream *u = parser->data;

    if (u->is_final) {
        return 0;
    }
    return head_add_value(u->builder, span_of(at, size)) ? 0 : STOP_PARSING;
}

static void start_body_timer(struct http_call *call)
{
    timer_start(&call->timer, call->pool->limits.body_ms);
}

static int begin_response(struct http_upstream *u)
{
    struct http_call *call = u->call;
    bool is_head_method = call->is_head_method;

    u->is_final = true;
    if (u->head.status == 204) {
        u->head.has_content_length = false;
    }
    call->has_head = true;
    if (!call->is_paused) {
        start_body_timer(call);
    }
    call->ops->on_head(call->arg, &u->head);
    if (u->call == NULL) {
        return STOP_PARSING;
    }
    return is_head_method ? 1 : 0; /* 1: llhttp expects no body */
}

static int on_headers_complete(llhttp_t *parser)
{
    struct http_upstream *u = parser->data;

    u->head.status = parser->status_code;
    head_finish(u->builder, &u->head);
    if (!head_judge_response(&u->head, parser->http_major * 10U + parser->http_minor)) {
        return STOP_PARSING;
    }
    if (u->head.status >= 200) {
        return begin_response(u);
    }
    u->n_informational++;
    /* llhttp knows that some of them have no body, but not that none has. Source: RFC 9110 6.4.1.
     */
    bool has_body = u->head.chunked || u->head.content_length > 0;
    return u->head.status < 100 || has_body || u->n_informational > INFORMATIONAL_MAX ? STOP_PARSING
                                                                                      : 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t size)
{
    struct http_upstream *u = parser->data;

    if (!u->call->is_paused) {
        start_body_timer(u->call);
    }
    u->call->ops->on_body(u->call->arg, span_of(at, size));
    return u->call == NULL ? STOP_PARSING : 0;
}

static int on_message_complete(llhttp_t *parser)
{
    struct http_upstream *u = parser->data;

    if (!u->is_final) {
        begin_message(u);
        return 0;
    }
    u->is_complete = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_message_begin = on_message_begin,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

static bool is_reusable(const struct http_upstream *u)
{
    const struct http_call *call = u->call;

    return call->request_is_whole && stream_output_size(u->stream) == 0 &&
           u->parser.http_major == 1 && u->parser.http_minor == 1 &&
           !http_head_connection_has(&u->head, SPAN_LIT("close"));
}

static void become_idle(struct http_upstream *u)
{
    head_builder_free(u->builder);
    u->builder = NULL;
    list_remove(&u->link);
    list_prepend(&u->pool->idle, &u->link);
    timer_start(&u->idle, u->pool->limits.idle_ms);
    stream_resume(u->stream);
}

/* `may_reuse`: and nothing came after it. */
static void end_response(struct http_upstream *u, bool may_reuse)
{
    struct http_call *call = u->call;
    struct http_pool *pool = u->pool;
    bool reuses = may_reuse && is_reusable(u);

    u->call = NULL;
    call->upstream = NULL;
    if (reuses) {
        become_idle(u);
    } else if (stream_output_size(u->stream) == 0) {
        finish(u);
    } else {
        http_upstream_close(u); /* it answered without the rest of a body, which is borrowed */
    }
    http_call_retire(call);
    call->ops->on_end(call->arg);
    http_pool_dispatch(pool);
}

static void fail(struct http_upstream *u, enum http_call_failure failure)
{
    struct http_call *call = u->call;
    struct http_pool *pool = u->pool;

    http_upstream_close(u);
    if (call != NULL) {
        call->upstream = NULL;
        http_call_fail(call, failure);
    }
    http_pool_dispatch(pool);
}

static void on_bytes(void *arg, struct span bytes)
{
    struct http_upstream *u = arg;

    if (u->call == NULL) {
        fail(u, HTTP_CALL_MALFORMED); /* an answer to nothing */
        return;
    }
    u->has_bytes = true;
    llhttp_errno_t result = llhttp_execute(&u->parser, bytes.data, bytes.size);
    if (u->is_closed) {
        return;
    }
    if (result == HPE_PAUSED && u->is_complete) {
        bool has_rest = llhttp_get_error_pos(&u->parser) != bytes.data + bytes.size;
        end_response(u, !has_rest);
    } else if (result != HPE_OK) {
        fail(u, HTTP_CALL_MALFORMED);
    }
}

static void send_request(struct http_upstream *u)
{
    struct http_call *call = u->call;

    u->is_ready = true;
    if (call->waiting.failed) {
        fail(u, HTTP_CALL_REFUSED); /* more body than we hold for a caller */
        return;
    }
    stream_write(u->stream, writer_span(&call->request));
    stream_write(u->stream, writer_span(&call->waiting));
    writer_reset(&call->waiting);
    stream_write_borrowed(u->stream, call->body);
}

static void on_ready(void *arg)
{
    struct http_upstream *u = arg;

    u->call->n_refused = 0;
    send_request(u);
}

static void on_drained(void *arg)
{
    struct http_upstream *u = arg;

    if (u->call != NULL) {
        http_call_go_on(u->call);
    }
}

/* A kept-alive connection may be closed by the other end just as we use it again: it does not have
 * the request then. */
static bool may_retry(const struct http_upstream *u)
{
    return u->call->body_was_whole && !u->call->was_retried && u->n_calls > 1 && !u->has_bytes;
}

static void on_refused(struct http_upstream *u)
{
    struct http_call *call = u->call;
    struct http_pool *pool = u->pool;

    if (++call->n_refused >= pool->addresses.n) {
        pool->addresses.n = pool->is_numeric ? 1 : 0; /* to be looked up again */
        fail(u, HTTP_CALL_REFUSED);
        return;
    }
    pool->next_address++;
    http_upstream_close(u);
    call->upstream = NULL;
    http_upstream_open(pool, call);
}

static void retry(struct http_upstream *u)
{
    struct http_call *call = u->call;
    struct http_pool *pool = u->pool;

    http_upstream_close(u);
    call->upstream = NULL;
    call->was_retried = true;
    if (pool->addresses.n > 0) {
        http_upstream_open(pool, call);
    } else {
        timer_start(&call->timer, pool->limits.queue_ms);
        list_prepend(&pool->queue, &call->link);
        http_pool_dispatch(pool);
    }
}

static void on_closed(void *arg, enum stream_end why)
{
    struct http_upstream *u = arg;

    if (u->call == NULL) {
        fail(u, HTTP_CALL_CUT);
        return;
    }
    if (why == STREAM_END_REFUSED) {
        on_refused(u);
        return;
    }
    if (why == STREAM_END_EOF && u->call->has_head) {
        llhttp_finish(&u->parser); /* the end of a body that has no other */
        if (u->is_complete) {
            end_response(u, false);
            return;
        }
    }
    if (why != STREAM_END_TIMEOUT && may_retry(u)) {
        retry(u);
        return;
    }
    fail(u, why == STREAM_END_TIMEOUT ? HTTP_CALL_TIMEOUT
            : u->call->has_head       ? HTTP_CALL_CUT
                                      : HTTP_CALL_CUT_BEFORE_HEAD);
}

static const struct stream_ops stream_ops = {on_ready, on_bytes, on_drained, on_closed};

void http_upstream_attach(struct http_upstream *u, struct http_call *call)
{
    timer_stop(&u->idle);
    timer_stop(&call->timer);
    list_remove(&u->link);
    list_append(&u->pool->busy, &u->link);
    u->call = call;
    call->upstream = u;
    u->n_calls++;
    u->n_informational = 0;
    u->has_bytes = u->is_complete = false;
    begin_message(u);
    llhttp_init(&u->parser, HTTP_RESPONSE, &settings);
    u->parser.data = u;
    if (call->is_paused) {
        stream_pause(u->stream);
    }
    if (u->is_ready) {
        send_request(u);
    }
}

void http_upstream_open(struct http_pool *pool, struct http_call *call)
{
    struct http_upstream *u = calloc(1, sizeof *u);
    const struct stream_options options = {
        .ops = &stream_ops,
        .arg = u,
        .ready_ms = pool->limits.connect_ms,
        .write_ms = pool->limits.write_ms,
        .output_max = HTTP_CALL_OUTPUT_MAX,
    };
    size_t at = pool->next_address % pool->addresses.n;

    CHECK(u != NULL);
    u->pool = pool;
    u->task.run = free_memory;
    timer_init(&u->idle, pool->loop, on_idle_timeout, u);
    /* sockaddr_storage may be seen as any sockaddr. */
    const void *address = &pool->addresses.addresses[at];
    u->stream = stream_connect(pool->loop, address, pool->addresses.sizes[at], &options);
    pool->n_connections++;
    http_upstream_attach(u, call);
}
