#include "inbound/inbound.h"

#include "base/clock.h"
#include "inbound/steps.h"
#include "proto/check.h"

#include <stdlib.h>

struct inbound *inbound_new(const struct inbound_parts *parts,
                            const struct inbound_settings *settings)
{
    struct inbound *inbound = calloc(1, sizeof *inbound);

    CHECK(inbound != NULL);
    inbound->parts = *parts;
    inbound->settings = *settings;
    return inbound;
}

void inbound_set(struct inbound *inbound, const struct inbound_settings *settings)
{
    hosted_unref(inbound->settings.hosted);
    inbound->settings = *settings;
}

void inbound_free(struct inbound *inbound)
{
    if (inbound != NULL) {
        hosted_unref(inbound->settings.hosted);
        free(inbound);
    }
}

const struct hosted *inbound_hosted(const struct inbound *inbound)
{
    return inbound->settings.hosted;
}

static void count_refused(struct inbound *inbound, enum reject why)
{
    metrics_add_by(inbound->parts.metrics, COUNTER_BY_refused_total, why, 1);
}

void exchange_count_unjudged(struct exchange *ex, enum unjudged why, uint64_t n)
{
    metrics_add_by(ex->inbound->parts.metrics, COUNTER_BY_unjudged_total, why, n);
}

/* For a step that waited: the loop calls us, not the step itself. */
void exchange_run(struct exchange *ex)
{
    while (true) {
        enum step_result result = ex->steps->run(ex);
        if (result != STEP_NEXT) {
            return;
        }
        ex->steps++;
    }
}

enum step_result exchange_reject(struct exchange *ex, enum reject why)
{
    count_refused(ex->inbound, why);
    http_respond_reject(ex->http, why);
    exchange_free(ex);
    return STEP_DONE;
}

void exchange_free(struct exchange *ex)
{
    const struct inbound_parts *parts = &ex->inbound->parts;

    metrics_observe_since(parts->metrics, HISTOGRAM_request_seconds, ex->began_us);
    metrics_gauge_add(parts->metrics, GAUGE_queue_bytes, -(int64_t)ex->body.size);
    if (ex->key_state == KEY_FETCHING) {
        keyring_cancel(parts->keyring, &ex->key_wait);
    }
    judging_fini(ex);
    if (ex->relay_state != RELAY_NOT_STARTED) {
        relay_fini(&ex->relay);
    }
    writer_fini(&ex->body);
    arena_fini(&ex->arena);
    hosted_unref(ex->hosted);
    free(ex);
}

static struct exchange *exchange_new(struct http_exchange *http, const struct http_head *head,
                                     enum route_class class)
{
    struct inbound *inbound = http->arg;
    struct exchange *ex = calloc(1, sizeof *ex);

    CHECK(ex != NULL);
    ex->inbound = inbound;
    ex->http = http;
    ex->head = head;
    ex->class = class;
    ex->began_us = clock_monotonic_us();
    ex->hosted = hosted_ref(inbound->settings.hosted);
    ex->steps = class == ROUTE_TRANSACTION ? transaction_steps : stream_steps;
    arena_init(&ex->arena, EXCHANGE_ARENA_MAX);
    writer_init(&ex->body, BODY_MAX);
    http->user = ex;
    return ex;
}

/* What can be said of a transaction before its body is there. */
static enum reject judge_transaction_head(const struct http_head *head)
{
    struct span coding = http_header_find(head, SPAN_LIT("Content-Encoding"));
    size_t n = http_header_count(head, SPAN_LIT("Content-Encoding"));

    if (n > 1 || (n == 1 && !span_equal_nocase(coding, SPAN_LIT("identity")))) {
        return REJECT_CONTENT_ENCODING;
    }
    if (head->has_content_length && head->content_length > BODY_MAX) {
        return REJECT_BODY_TOO_LARGE;
    }
    return REJECT_NONE;
}

static enum request_class class_of(enum route_class class)
{
    static const enum request_class classes[] = {
        [ROUTE_HEALTH] = REQUEST_CLASS_HEALTH,         [ROUTE_TRANSACTION] = REQUEST_CLASS_SEND,
        [ROUTE_FEDERATION] = REQUEST_CLASS_FEDERATION, [ROUTE_KEY] = REQUEST_CLASS_KEY,
        [ROUTE_MEDIA] = REQUEST_CLASS_MEDIA,           [ROUTE_REFUSED] = REQUEST_CLASS_OTHER,
    };

    return classes[class];
}

static void respond_health(struct http_exchange *http)
{
    static const struct http_header type = {SPAN_INIT("Content-Type"), SPAN_INIT("text/plain")};

    http_respond(http, 200, &type, 1, SPAN_LIT("OK\n"));
}

static void on_head(struct http_exchange *http, const struct http_head *head)
{
    struct inbound *inbound = http->arg;
    enum reject why;
    enum route_class class = route_classify(&why, head->method, head->target);

    metrics_add_by(inbound->parts.metrics, COUNTER_BY_requests_total, class_of(class), 1);
    if (class == ROUTE_HEALTH) {
        respond_health(http);
        return;
    }
    if (class == ROUTE_REFUSED) {
        count_refused(inbound, why);
        http_respond_reject(http, why);
        return;
    }
    struct exchange *ex = exchange_new(http, head, class);
    why = identify(ex);
    if (why == REJECT_NONE && class == ROUTE_TRANSACTION) {
        why = judge_transaction_head(head);
    }
    if (why != REJECT_NONE) {
        (void)exchange_reject(ex, why);
        return;
    }
    exchange_run(ex);
}

static void on_body(struct http_exchange *http, struct span bytes)
{
    struct exchange *ex = http->user;

    if (ex->class != ROUTE_TRANSACTION) {
        relay_body(&ex->relay, bytes);
        return;
    }
    writer_bytes(&ex->body, bytes);
    if (ex->body.failed) {
        (void)exchange_reject(ex, REJECT_BODY_TOO_LARGE);
        return;
    }
    metrics_gauge_add(ex->inbound->parts.metrics, GAUGE_queue_bytes, (int64_t)bytes.size);
}

static void on_end(struct http_exchange *http)
{
    struct exchange *ex = http->user;

    if (ex->class != ROUTE_TRANSACTION) {
        relay_body_end(&ex->relay);
        return;
    }
    ex->body_is_whole = true;
    ex->whole_us = clock_monotonic_us();
    metrics_add(ex->inbound->parts.metrics, COUNTER_transactions_total, 1);
    exchange_run(ex);
}

static void on_drained(struct http_exchange *http)
{
    struct exchange *ex = http->user;

    if (ex->relay_state == RELAY_RUNNING) {
        relay_drained(&ex->relay);
    }
}

static void on_abort(struct http_exchange *http)
{
    exchange_free(http->user);
}

static void on_refused(void *arg, enum reject why)
{
    count_refused(arg, why);
}

const struct http_server_ops inbound_ops = {
    .on_head = on_head,
    .on_body = on_body,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_abort = on_abort,
    .on_refused = on_refused,
};
