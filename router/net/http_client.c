#include "net/http_client.h"

#include "net/http_call.h"
#include "proto/check.h"

#include <stdio.h>
#include <stdlib.h>

const struct http_pool_limits http_pool_limits_default = {
    .connect_ms = 5000,
    .queue_ms = 30000,
    .head_ms = 120000,
    .body_ms = 60000,
    .write_ms = 30000,
    .idle_ms = 60000,
};

const char *http_call_failure_label(enum http_call_failure failure)
{
    static const char *const labels[HTTP_CALL_FAILURE_COUNT] = {
        [HTTP_CALL_REFUSED] = "refused",
        [HTTP_CALL_CUT_BEFORE_HEAD] = "cut_before_head",
        [HTTP_CALL_CUT] = "cut",
        [HTTP_CALL_TIMEOUT] = "timeout",
        [HTTP_CALL_MALFORMED] = "malformed",
    };

    CHECK(failure < HTTP_CALL_FAILURE_COUNT);
    return labels[failure];
}

static void free_call(struct loop_task *task)
{
    struct http_call *call = LIST_ENTRY(task, struct http_call, task);

    writer_fini(&call->request);
    writer_fini(&call->waiting);
    free(call);
}

void http_call_retire(struct http_call *call)
{
    CHECK(!call->is_over && call->upstream == NULL);
    call->is_over = true;
    list_remove(&call->link);
    timer_fini(&call->timer);
    loop_defer(call->pool->loop, &call->task);
}

void http_call_fail(struct http_call *call, enum http_call_failure failure)
{
    http_call_retire(call);
    call->ops->on_failed(call->arg, failure);
}

void http_pool_dispatch(struct http_pool *pool)
{
    struct link *waiting;

    while ((waiting = list_first(&pool->queue)) != NULL) {
        struct http_call *call = LIST_ENTRY(waiting, struct http_call, link);
        struct link *idle = list_first(&pool->idle);
        if (idle == NULL && pool->n_connections >= pool->max_connections) {
            return;
        }
        if (idle == NULL && pool->addresses.n == 0) {
            resolver_start(pool->resolver);
            return;
        }
        list_remove(waiting);
        if (idle != NULL) {
            http_upstream_attach(LIST_ENTRY(idle, struct http_upstream, link), call);
        } else {
            http_upstream_open(pool, call);
        }
    }
}

static void on_answer(void *arg, const struct resolve_answer *answer)
{
    struct http_pool *pool = arg;
    struct list failed;
    struct link *link;

    pool->addresses = *answer;
    pool->next_address = 0;
    if (answer->n > 0) {
        http_pool_dispatch(pool);
        return;
    }
    list_init(&failed); /* those that wait now; a callback may start more */
    while ((link = list_take_first(&pool->queue)) != NULL) {
        list_append(&failed, link);
    }
    while ((link = list_take_first(&failed)) != NULL) {
        http_call_fail(LIST_ENTRY(link, struct http_call, link), HTTP_CALL_REFUSED);
    }
}

enum err http_pool_new(struct http_pool **out, struct loop *loop,
                       const struct http_pool_options *options)
{
    struct http_pool *pool = calloc(1, sizeof *pool);
    bool is_ipv6 = strchr(options->host, ':') != NULL;
    char host[300];

    CHECK(pool != NULL && options->max_connections > 0);
    pool->loop = loop;
    pool->limits = options->limits != NULL ? *options->limits : http_pool_limits_default;
    pool->max_connections = options->max_connections;
    list_init(&pool->idle);
    list_init(&pool->busy);
    list_init(&pool->queue);
    pool->is_numeric = resolve_numeric(&pool->addresses, options->host, options->port);
    snprintf(host, sizeof host, is_ipv6 ? "[%s]:%u" : "%s:%u", options->host, options->port);
    enum err err =
        resolver_new(&pool->resolver, loop, options->host, options->port, on_answer, pool);
    if (err != ERR_OK) {
        free(pool);
        return err;
    }
    pool->host_header = strdup(host);
    CHECK(pool->host_header != NULL);
    *out = pool;
    return ERR_OK;
}

void http_pool_free(struct http_pool *pool)
{
    struct link *link;

    if (pool == NULL) {
        return;
    }
    CHECK(list_is_empty(&pool->queue) && list_is_empty(&pool->busy));
    while ((link = list_first(&pool->idle)) != NULL) {
        http_upstream_close(LIST_ENTRY(link, struct http_upstream, link));
    }
    resolver_free(pool->resolver);
    free(pool->host_header);
    free(pool);
}

size_t http_pool_n_connections(const struct http_pool *pool)
{
    return pool->n_connections;
}

static void on_timeout(void *arg)
{
    struct http_call *call = arg;
    struct http_pool *pool = call->pool;

    if (call->upstream == NULL) {
        http_call_fail(call, HTTP_CALL_REFUSED);
        return;
    }
    http_upstream_close(call->upstream);
    call->upstream = NULL;
    http_call_fail(call, HTTP_CALL_TIMEOUT);
    http_pool_dispatch(pool);
}

static struct http_call *call_new(struct http_pool *pool, const struct http_head *head,
                                  const struct http_call_ops *ops, void *arg)
{
    struct http_call *call = calloc(1, sizeof *call);

    CHECK(call != NULL);
    *call = (struct http_call){
        .pool = pool,
        .ops = ops,
        .arg = arg,
        .is_head_method = span_equal(head->method, SPAN_LIT("HEAD")),
        .is_chunked = !head->has_content_length && head->chunked,
        .body_left = head->has_content_length ? head->content_length : 0,
    };
    call->task.run = free_call;
    writer_init(&call->request, HTTP_TARGET_MAX + 2 * HTTP_HEADER_BYTES_MAX);
    writer_reserve(&call->request, HTTP_HEAD_USUAL);
    writer_init(&call->waiting, HTTP_CALL_OUTPUT_MAX);
    head_write_request(&call->request, head, span_str(pool->host_header));
    call->request_is_whole = !call->is_chunked && call->body_left == 0;
    call->body_was_whole = call->request_is_whole;
    return call;
}

static bool is_connected(const struct http_call *call)
{
    return call->upstream != NULL && call->upstream->is_ready;
}

static enum err start(struct http_call **out, struct http_call *call)
{
    struct http_pool *pool = call->pool;

    if (call->request.failed) {
        free_call(&call->task);
        return err_raise(ERR_CONFIG, "a request's head cannot be sent as it is");
    }
    timer_init(&call->timer, pool->loop, on_timeout, call);
    list_append(&pool->queue, &call->link);
    *out = call;
    http_pool_dispatch(pool);
    if (!is_connected(call)) {
        timer_start(&call->timer, pool->limits.queue_ms);
    }
    return ERR_OK;
}

enum err http_call_start(struct http_call **out, struct http_pool *pool,
                         const struct http_head *head, const struct http_call_ops *ops, void *arg)
{
    return start(out, call_new(pool, head, ops, arg));
}

enum err http_call_start_with_body(struct http_call **out, struct http_pool *pool,
                                   const struct http_head *head, struct span body,
                                   const struct http_call_ops *ops, void *arg)
{
    struct http_head framed = *head;

    framed.has_content_length = true;
    framed.content_length = body.size;
    framed.chunked = false;
    struct http_call *call = call_new(pool, &framed, ops, arg);
    call->body = body;
    call->body_left = 0;
    call->request_is_whole = call->body_was_whole = true;
    return start(out, call);
}

static void give(struct http_call *call, struct span bytes)
{
    if (is_connected(call)) {
        stream_write(call->upstream->stream, bytes);
    } else {
        writer_bytes(&call->waiting, bytes);
    }
}

void http_call_go_on(struct http_call *call)
{
    if (call->request_is_whole) {
        if (!call->has_head && stream_output_size(call->upstream->stream) == 0) {
            timer_start(&call->timer, call->pool->limits.head_ms);
        }
    } else if (call->ops->on_drained != NULL) {
        call->ops->on_drained(call->arg);
    }
}

void http_call_body(struct http_call *call, struct span bytes)
{
    char size_line[20];

    CHECK(!call->is_over && !call->request_is_whole);
    if (bytes.size == 0) {
        return;
    }
    if (call->is_chunked) {
        int n = snprintf(size_line, sizeof size_line, "%zx\r\n", bytes.size);
        give(call, span_of(size_line, (size_t)n));
    } else {
        CHECK(bytes.size <= call->body_left);
        call->body_left -= bytes.size;
    }
    give(call, bytes);
    if (call->is_chunked) {
        give(call, SPAN_LIT("\r\n"));
    }
}

void http_call_body_end(struct http_call *call)
{
    CHECK(!call->is_over && call->body_left == 0);
    if (call->request_is_whole) {
        return;
    }
    call->request_is_whole = true;
    if (call->is_chunked) {
        give(call, SPAN_LIT("0\r\n\r\n"));
    } else if (is_connected(call)) {
        http_call_go_on(call);
    }
}

size_t http_call_output_size(const struct http_call *call)
{
    CHECK(!call->is_over);
    return is_connected(call) ? stream_output_size(call->upstream->stream) : call->waiting.size;
}

void http_call_pause(struct http_call *call)
{
    CHECK(!call->is_over);
    call->is_paused = true;
    if (call->upstream != NULL) {
        stream_pause(call->upstream->stream);
    }
    if (call->has_head) {
        timer_stop(&call->timer);
    }
}

void http_call_resume(struct http_call *call)
{
    CHECK(!call->is_over);
    call->is_paused = false;
    if (call->upstream != NULL) {
        stream_resume(call->upstream->stream);
    }
    if (call->has_head) {
        timer_start(&call->timer, call->pool->limits.body_ms);
    }
}

void http_call_cancel(struct http_call *call)
{
    struct http_pool *pool = call->pool;
    struct http_upstream *upstream = call->upstream;

    CHECK(!call->is_over);
    call->upstream = NULL;
    if (upstream != NULL) {
        http_upstream_close(upstream);
    }
    http_call_retire(call);
    http_pool_dispatch(pool);
}
