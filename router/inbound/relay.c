#include "inbound/relay.h"

#include "base/clock.h"
#include "inbound/forward.h"
#include "proto/check.h"
#include "proto/verdict.h"

#include <stdint.h>

static void over(struct relay *relay, enum reject why)
{
    gate_leave(&relay->wait);
    timer_stop(&relay->timer);
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
    if (relay->call != NULL && http_output_is_full(relay->exchange)) {
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

    timer_stop(&relay->timer);
    gates_answered(relay->gates, relay->pool);
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

/* What came of a streamed body before there was a connection. */
static void send_taken(struct relay *relay)
{
    http_call_body(relay->call, writer_span(&relay->taken));
    writer_fini(&relay->taken);
    if (relay->body_ended) {
        http_call_body_end(relay->call);
    }
}

static void on_drained(void *arg)
{
    struct relay *relay = arg;

    if (!relay->is_connected) {
        relay->is_connected = true;
        send_taken(relay);
    }
    if (!relay->body_ended) {
        http_read_resume(relay->exchange);
    }
}

static void wait_at_gate(struct relay *relay, bool is_first);

static bool may_try_again(struct relay *relay, enum http_call_failure failure)
{
    if (clock_monotonic_us() >= relay->patience_end_us) {
        return false;
    }
    if (failure == HTTP_CALL_REFUSED) {
        return relay->body_is != RELAY_BODY_STREAMED || !relay->is_connected;
    }
    return failure == HTTP_CALL_CUT_BEFORE_HEAD && relay->is_resendable &&
           relay->body_is != RELAY_BODY_STREAMED && relay->n_resends < RELAY_RESENDS_MAX;
}

static void on_failed(void *arg, enum http_call_failure failure)
{
    struct relay *relay = arg;

    relay->call = NULL;
    relay->last_failure = reject_for(failure);
    if (!may_try_again(relay, failure)) {
        over(relay, relay->last_failure);
    } else if (failure == HTTP_CALL_REFUSED) {
        wait_at_gate(relay, true);
    } else { /* by itself: a request that is cut off each time is not to hold up others */
        relay->is_resending = true;
        timer_start(&relay->timer, (uint64_t)RELAY_RESEND_MS << relay->n_resends++);
    }
}

/* False if the request cannot be sent at all. */
static bool try_now(struct relay *relay)
{
    static const struct http_call_ops whole_ops = {on_head, on_body, on_end, on_failed, NULL};
    static const struct http_call_ops streamed_ops = {on_head, on_body, on_end, on_failed,
                                                      on_drained};

    if (relay->body_is == RELAY_BODY_WHOLE) {
        return http_call_start_with_body(&relay->call, relay->pool, &relay->request, relay->body,
                                         &whole_ops, relay) == ERR_OK;
    }
    return http_call_start(&relay->call, relay->pool, &relay->request,
                           relay->body_is == RELAY_BODY_NONE ? &whole_ops : &streamed_ops,
                           relay) == ERR_OK;
}

static void start_timer(struct relay *relay, uint64_t end_us)
{
    uint64_t now_us = clock_monotonic_us();

    timer_start(&relay->timer, end_us > now_us ? (end_us - now_us) / 1000 + 1 : 0);
}

static void on_go(void *arg)
{
    struct relay *relay = arg;

    start_timer(relay, relay->started_us + RELAY_HELD_MS * UINT64_C(1000));
    if (!try_now(relay)) {
        over(relay, REJECT_BAD_HTTP);
    }
}

static void wait_at_gate(struct relay *relay, bool is_first)
{
    size_t size = relay->body_is == RELAY_BODY_STREAMED ? SIZE_MAX : relay->body.size;

    start_timer(relay, relay->patience_end_us);
    gate_enter(relay->gates, &relay->wait, relay->pool, size, is_first);
}

/* With a body that is at hand or streamed. */
static bool go(struct relay *relay)
{
    if (!gates_are_open(relay->gates, relay->pool) && relay->patience_end_us > relay->started_us) {
        wait_at_gate(relay, false);
        return true;
    }
    return try_now(relay);
}

static void resend(struct relay *relay)
{
    start_timer(relay, relay->started_us + RELAY_HELD_MS * UINT64_C(1000));
    if (!go(relay)) {
        over(relay, REJECT_BAD_HTTP);
    }
}

/* The end of patience at the gate, or of the time that what was held has in all; or the time to
 * send again what was cut off. */
static void on_timer(void *arg)
{
    struct relay *relay = arg;

    if (relay->is_resending) {
        relay->is_resending = false;
        resend(relay);
    } else if (relay->call != NULL) {
        http_call_cancel(TAKE(relay->call));
        over(relay, REJECT_UPSTREAM_TIMEOUT);
    } else {
        over(relay, relay->last_failure);
    }
}

static enum relay_body body_of(const struct relay_options *options)
{
    const struct http_head *request = options->request;
    bool has_length = request->has_content_length && request->content_length > 0;

    if (options->body != NULL) {
        return RELAY_BODY_WHOLE;
    }
    if (!request->chunked && !has_length) {
        return RELAY_BODY_NONE;
    }
    return !request->chunked && request->content_length <= RELAY_WHOLE_MAX ? RELAY_BODY_COMING
                                                                           : RELAY_BODY_STREAMED;
}

bool relay_start(struct relay *relay, const struct relay_options *options)
{
    *relay = (struct relay){
        .ops = options->ops,
        .arg = options->arg,
        .gates = options->gates,
        .metrics = options->metrics,
        .arena = options->arena,
        .exchange = options->exchange,
        .pool = options->pool,
        .request = *options->request,
        .body_is = body_of(options),
        .is_resendable = options->is_resendable,
        .holds = options->holds,
        .wait = {.on_go = on_go, .arg = relay},
        .last_failure = REJECT_UPSTREAM_UNREACHABLE,
        .started_us = clock_monotonic_us(),
    };
    if (options->body != NULL) {
        relay->body = *options->body;
    }
    relay->patience_end_us = relay->started_us + options->patience_s * UINT64_C(1000000);
    writer_init(&relay->held, REPLY_BODY_SIZE_MAX);
    writer_init(&relay->taken, RELAY_WHOLE_MAX + LOOP_SCRATCH_SIZE);
    timer_init(&relay->timer, options->loop, on_timer, relay);
    if (relay->body_is == RELAY_BODY_COMING) {
        return true;
    }
    return go(relay);
}

void relay_body(struct relay *relay, struct span bytes)
{
    if (relay->body_is == RELAY_BODY_COMING || !relay->is_connected) {
        writer_bytes(&relay->taken, bytes);
        CHECK(!relay->taken.failed); /* announced, or read when the exchange was paused */
        /* Until then reading goes on: that is how we hear that the peer has gone. */
        if (relay->taken.size > RELAY_WAITING_MAX) {
            http_read_pause(relay->exchange);
        }
        return;
    }
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
    relay->body_ended = true;
    if (relay->body_is == RELAY_BODY_COMING) {
        relay->body_is = RELAY_BODY_WHOLE;
        relay->body = writer_span(&relay->taken);
        if (!go(relay)) {
            over(relay, REJECT_BAD_HTTP);
        }
    } else if (relay->body_is == RELAY_BODY_STREAMED && relay->is_connected &&
               relay->call != NULL) {
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
    gate_leave(&relay->wait);
    timer_fini(&relay->timer);
    writer_fini(&relay->held);
    writer_fini(&relay->taken);
}
