#include "inbound/relay.h"

#include "base/clock.h"
#include "inbound/forward.h"
#include "proto/check.h"
#include "proto/verdict.h"

static void over(struct relay *relay, enum reject why)
{
    struct http_exchange *exchange = TAKE(relay->exchange);

    if (why != REJECT_NONE) {
        http_respond_reject(exchange, why);
    }
    relay->ops->on_over(relay->arg, why);
}

static void pass_head(struct relay *relay, const struct http_head *answer)
{
    http_respond_head(relay->exchange, answer->status, answer->headers, answer->n_headers,
                      answer->has_content_length ? (int64_t)answer->content_length : -1);
}

static void pass_body(struct relay *relay, struct span bytes)
{
    http_respond_body(relay->exchange, bytes);
    if (relay->call != NULL && http_output_size(relay->exchange) > RELAY_WAITING_MAX) {
        http_call_pause(relay->call);
    }
}

/* The answer is not to be held any more: what was goes first. */
static void stop_holding(struct relay *relay)
{
    relay->holds = false;
    pass_head(relay, &relay->answer);
    pass_body(relay, writer_span(&relay->held));
    writer_fini(&relay->held);
}

static void on_head(void *arg, const struct http_head *head)
{
    struct relay *relay = arg;

    metrics_observe_since(relay->metrics, HISTOGRAM_upstream_seconds, relay->started_us);
    if (!forward_answer(&relay->answer, relay->arena, head)) {
        http_call_cancel(TAKE(relay->call));
        over(relay, REJECT_UPSTREAM_FAILED);
        return;
    }
    if (relay->ops->on_status != NULL) {
        relay->ops->on_status(relay->arg);
    }
    if (!relay->holds) {
        pass_head(relay, &relay->answer);
    }
}

static void on_body(void *arg, struct span bytes)
{
    struct relay *relay = arg;

    if (relay->holds && bytes.size > relay->held.max - relay->held.size) {
        stop_holding(relay);
    }
    if (relay->holds) {
        writer_bytes(&relay->held, bytes);
    } else {
        pass_body(relay, bytes);
    }
}

static void on_end(void *arg)
{
    struct relay *relay = arg;

    relay->call = NULL;
    if (relay->holds) {
        relay->ops->on_held(relay->arg);
        return;
    }
    http_respond_end(relay->exchange);
    over(relay, REJECT_NONE);
}

static enum reject reject_for(enum http_call_failure failure)
{
    if (failure == HTTP_CALL_REFUSED) {
        return REJECT_UPSTREAM_UNREACHABLE;
    }
    return failure == HTTP_CALL_TIMEOUT ? REJECT_UPSTREAM_TIMEOUT : REJECT_UPSTREAM_FAILED;
}

static void on_failed(void *arg, enum http_call_failure failure)
{
    struct relay *relay = arg;

    relay->call = NULL;
    if (failure == HTTP_CALL_REFUSED && relay->has_body &&
        clock_monotonic_us() < relay->patience_end_us) {
        timer_start(&relay->retry, RELAY_RETRY_MS);
        return;
    }
    over(relay, reject_for(failure));
}

static void on_drained(void *arg)
{
    struct relay *relay = arg;

    http_read_resume(relay->exchange);
}

/* False if the request cannot be sent at all. */
static bool try_now(struct relay *relay)
{
    static const struct http_call_ops whole_ops = {on_head, on_body, on_end, on_failed, NULL};
    static const struct http_call_ops streamed_ops = {on_head, on_body, on_end, on_failed,
                                                      on_drained};
    enum err result;

    if (relay->has_body && relay->body.data != NULL) {
        result = http_call_start_with_body(&relay->call, relay->pool, &relay->request, relay->body,
                                           &whole_ops, relay);
    } else {
        result = http_call_start(&relay->call, relay->pool, &relay->request,
                                 relay->has_body ? &whole_ops : &streamed_ops, relay);
    }
    return result == ERR_OK;
}

static void on_retry(void *arg)
{
    struct relay *relay = arg;

    if (!try_now(relay)) {
        over(relay, REJECT_BAD_HTTP);
    }
}

bool relay_start(struct relay *relay, const struct relay_options *options)
{
    bool streams = options->body == NULL &&
                   (options->request->chunked ||
                    (options->request->has_content_length && options->request->content_length > 0));

    *relay = (struct relay){
        .ops = options->ops,
        .arg = options->arg,
        .metrics = options->metrics,
        .arena = options->arena,
        .exchange = options->exchange,
        .pool = options->pool,
        .request = *options->request,
        .has_body = !streams,
        .holds = options->holds,
        .started_us = clock_monotonic_us(),
    };
    if (options->body != NULL) {
        relay->body = options->body->size > 0 ? *options->body : span_of("", 0);
    }
    relay->patience_end_us = relay->started_us + options->patience_s * UINT64_C(1000000);
    writer_init(&relay->held, REPLY_BODY_SIZE_MAX);
    timer_init(&relay->retry, options->loop, on_retry, relay);
    return try_now(relay);
}

void relay_body(struct relay *relay, struct span bytes)
{
    if (relay->call == NULL) {
        return;
    }
    http_call_body(relay->call, bytes);
    if (http_call_output_size(relay->call) > RELAY_WAITING_MAX) {
        http_read_pause(relay->exchange);
    }
}

void relay_body_end(struct relay *relay)
{
    if (relay->call != NULL && !relay->has_body) {
        http_call_body_end(relay->call);
    }
}

void relay_drained(struct relay *relay)
{
    if (relay->call != NULL) {
        http_call_resume(relay->call);
    }
}

void relay_fini(struct relay *relay)
{
    if (relay->call != NULL) {
        http_call_cancel(TAKE(relay->call));
    }
    timer_fini(&relay->retry);
    writer_fini(&relay->held);
}
