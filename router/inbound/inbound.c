#include "inbound/inbound.h"

#include "base/clock.h"
#include "inbound/steps.h"
#include "proto/check.h"

#include <stdlib.h>

enum {
    RETRY_AFTER_S = BUDGET_WAIT_MS / 1000, /* what a 429 says: as long as it was waited for */
    HEADER_OVERHEAD = 32, /* bytes of a header, as HTTP/2 counts them. RFC 9113 6.5.2 */
    /* Bytes of a body that a peer may announce and have us set aside before it comes. */
    BODY_AT_ONCE = 256 << 10,
};

struct inbound *inbound_new(const struct inbound_parts *parts,
                            const struct inbound_settings *settings)
{
    struct inbound *inbound = calloc(1, sizeof *inbound);

    CHECK(inbound != NULL);
    inbound->parts = *parts;
    inbound->settings = *settings;
    inbound->budgets = budgets_new(parts->loop, parts->metrics, &settings->budgets);
    return inbound;
}

void inbound_set(struct inbound *inbound, const struct inbound_settings *settings)
{
    hosted_unref(inbound->settings.hosted);
    inbound->settings = *settings;
    budgets_set(inbound->budgets, &settings->budgets);
}

void inbound_free(struct inbound *inbound)
{
    if (inbound != NULL) {
        hosted_unref(inbound->settings.hosted);
        budgets_free(inbound->budgets);
        free(inbound);
    }
}

const struct hosted *inbound_hosted(const struct inbound *inbound)
{
    return inbound->settings.hosted;
}

uint64_t inbound_take_peak(struct inbound *inbound)
{
    return budgets_take_peak(inbound->budgets);
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

/* 429, with when to come back. Source: Matrix client-server API, "Rate limiting". */
static void respond_limited(struct http_exchange *http, const struct reject_row *row)
{
    struct writer body;
    struct writer seconds;

    writer_init(&body, 1024);
    writer_init(&seconds, 20);
    matrix_error_write_limited(&body, row->errcode, row->text, RETRY_AFTER_S);
    writer_u64(&seconds, RETRY_AFTER_S);
    CHECK(!body.failed && !seconds.failed);
    const struct http_header headers[] = {
        {SPAN_INIT("Content-Type"), SPAN_INIT("application/json")},
        {SPAN_INIT("Retry-After"), writer_span(&seconds)},
    };
    http_close_after(http);
    http_respond(http, (unsigned)row->status, headers, sizeof headers / sizeof headers[0],
                 writer_span(&body));
    writer_fini(&seconds);
    writer_fini(&body);
}

enum step_result exchange_reject(struct exchange *ex, enum reject why)
{
    const struct reject_row *row = reject_row(why);

    count_refused(ex->inbound, why);
    if (row->status == 429) {
        respond_limited(ex->http, row);
    } else {
        http_respond_reject(ex->http, why);
    }
    exchange_free(ex);
    return STEP_DONE;
}

void exchange_forget_document(struct exchange *ex)
{
    arena_fini(&ex->document);
    budget_parse_end(ex->inbound->budgets, ex->parse_charged);
    ex->parse_charged = 0;
    ex->root = NULL;
    ex->transaction = (struct transaction){0};
    ex->batches = (struct batches){0};
}

void exchange_free(struct exchange *ex)
{
    const struct inbound_parts *parts = &ex->inbound->parts;

    metrics_observe_since(parts->metrics, HISTOGRAM_request_seconds, ex->began_us);
    if (ex->key_state == KEY_FETCHING) {
        keyring_cancel(parts->keyring, &ex->key_wait);
    }
    judging_fini(ex);
    if (ex->relay_state != RELAY_NOT_STARTED) {
        relay_fini(&ex->relay);
    }
    writer_fini(&ex->body);
    exchange_forget_document(ex);
    arena_fini(&ex->arena);
    budget_close(&ex->budget);
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
    arena_init(&ex->document, EXCHANGE_ARENA_MAX);
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

static bool streams(const struct exchange *ex)
{
    return ex->class != ROUTE_TRANSACTION;
}

static uint64_t head_size(const struct http_head *head)
{
    uint64_t size = head->target.size;

    for (size_t i = 0; i < head->n_headers; i++) {
        size += head->headers[i].name.size + head->headers[i].value.size + HEADER_OVERHEAD;
    }
    return size;
}

/* Bytes of body that may come to be held. */
static uint64_t body_max(const struct exchange *ex)
{
    uint64_t max = streams(ex) ? RELAY_WAITING_MAX + BUDGET_STEP : BODY_MAX;
    bool is_shorter = !ex->head->chunked && ex->head->content_length < max;

    return is_shorter ? ex->head->content_length : max;
}

/* Reads on when it is charged. */
static void charge(struct exchange *ex, uint64_t n)
{
    ex->body_charged += n;
    if (!budget_charge(&ex->budget, n)) {
        http_read_pause(ex->http);
    }
}

/* How much of the body is to be charged before more of it is read: one read ahead of what is there;
 * for a stream at once all that its buffers may hold. */
static uint64_t charge_target(const struct exchange *ex)
{
    uint64_t max = body_max(ex);
    uint64_t n_steps = (ex->body.size + BUDGET_STEP - 1) / BUDGET_STEP + 1;
    uint64_t next = n_steps * BUDGET_STEP;

    return streams(ex) || next > max ? max : next;
}

static void charge_ahead(struct exchange *ex)
{
    uint64_t target = charge_target(ex);

    if (target > ex->body_charged) {
        charge(ex, target - ex->body_charged);
    }
}

/* For what came although reading was paused. False if that is too much. */
static bool charge_taken(struct exchange *ex)
{
    uint64_t paid = ex->body_charged - ex->budget.wants;
    uint64_t size = ex->body.size;

    if (size <= paid) {
        return true;
    }
    ex->body_charged = size > ex->body_charged ? size : ex->body_charged;
    return budget_charge_now(&ex->budget, size - paid);
}

/* What was charged for a body that turned out shorter. */
static void give_back(struct exchange *ex)
{
    if (!streams(ex) && ex->body_is_whole && ex->body_charged > ex->body.size) {
        budget_release(&ex->budget, ex->body_charged - ex->body.size);
        ex->body_charged = ex->body.size;
    }
}

static void on_charged(void *arg)
{
    struct exchange *ex = arg;

    if (!ex->body_is_whole) {
        charge_ahead(ex);
    }
    if (budget_is_waiting(&ex->budget)) {
        return;
    }
    give_back(ex);
    http_read_resume(ex->http);
    exchange_run(ex);
}

static void on_over_budget(void *arg, enum budget which)
{
    static const enum reject rows[BUDGET_COUNT] = {
        [BUDGET_PROCESS] = REJECT_OVER_PROCESS_BUDGET,
        [BUDGET_ADDRESS] = REJECT_OVER_ADDRESS_BUDGET,
        [BUDGET_SERVER] = REJECT_OVER_SERVER_BUDGET,
        [BUDGET_ORIGIN] = REJECT_OVER_ORIGIN_BUDGET,
    };

    (void)exchange_reject(arg, rows[which]);
}

/* False if the head alone is too much. */
static bool open_budget(struct exchange *ex)
{
    static const struct budget_ops ops = {on_charged, on_over_budget};
    const struct budget_parties parties = {
        .address = ex->has_client ? &ex->client : NULL,
        .server = ex->server->name,
        .is_large = body_max(ex) > BUDGET_STEP,
    };

    budget_open(&ex->budget, ex->inbound->budgets, &parties, &ops, ex);
    if (!budget_charge_now(&ex->budget, head_size(ex->head))) {
        return false;
    }
    charge(ex, charge_target(ex));
    return true;
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
    if (!open_budget(ex)) {
        (void)exchange_reject(ex, REJECT_OVER_PROCESS_BUDGET);
        return;
    }
    exchange_run(ex);
}

static void on_body(struct http_exchange *http, struct span bytes)
{
    struct exchange *ex = http->user;

    if (ex->relay_state != RELAY_NOT_STARTED) {
        relay_body(&ex->relay, bytes);
        return;
    }
    if (!ex->head->chunked && ex->head->content_length <= BODY_AT_ONCE) {
        writer_reserve(&ex->body, ex->head->content_length);
    }
    writer_bytes(&ex->body, bytes);
    if (ex->body.failed) {
        (void)exchange_reject(ex, REJECT_BODY_TOO_LARGE);
        return;
    }
    if (!charge_taken(ex)) {
        (void)exchange_reject(ex, REJECT_OVER_PROCESS_BUDGET);
    } else if (!budget_is_waiting(&ex->budget)) {
        charge_ahead(ex);
    }
}

static void on_end(struct http_exchange *http)
{
    struct exchange *ex = http->user;

    ex->body_is_whole = true;
    if (streams(ex)) {
        if (ex->relay_state != RELAY_NOT_STARTED) {
            relay_body_end(&ex->relay);
        }
        return;
    }
    ex->whole_us = clock_monotonic_us();
    metrics_add(ex->inbound->parts.metrics, COUNTER_transactions_total, 1);
    if (!budget_is_waiting(&ex->budget)) {
        give_back(ex);
    }
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
