#include "inbound/steps.h"

#include "base/clock.h"
#include "proto/check.h"

static enum step_result step_read(struct exchange *ex)
{
    return ex->body_is_whole && !budget_is_waiting(&ex->budget) ? STEP_NEXT : STEP_WAIT;
}

/* Nobody spends an origin's budget but itself: so only now, and only if it was verified here. */
static enum step_result step_charge(struct exchange *ex)
{
    bool is_verified = ex->unjudged == UNJUDGED_NONE && !ex->server->authenticates_upstream;

    if (budget_is_waiting(&ex->budget)) {
        return STEP_WAIT;
    }
    if (is_verified && ex->budget.accounts[BUDGET_ORIGIN] == NULL &&
        !budget_move_to_origin(&ex->budget, ex->origin)) {
        return STEP_WAIT;
    }
    return STEP_NEXT;
}

/* A count by value, of the transaction's EDUs. Where the operator says so, one that names a sender
 * who is not the origin's is refused with its transaction. */
static enum reject judge_edus(struct exchange *ex)
{
    struct metrics *metrics = ex->inbound->parts.metrics;
    enum reject why = REJECT_NONE;

    for (uint32_t i = 0; i < ex->transaction.n_edus; i++) {
        const struct edu *edu = &ex->transaction.edus[i];
        metrics_add_by(metrics, COUNTER_BY_edus_total, edu->type, 1);
        if (edu->unjudged != UNJUDGED_NONE) {
            exchange_count_unjudged(ex, edu->unjudged, 1);
        }
        if (edu->unjudged == UNJUDGED_SPOOFED_SENDER && ex->server->refuses_spoofed_sender) {
            why = REJECT_SPOOFED_SENDER;
        }
    }
    return why;
}

static enum step_result step_decode(struct exchange *ex)
{
    enum reject why = REJECT_NONE;

    if (ex->unjudged == UNJUDGED_NONE) {
        why = exchange_parse(ex, &ex->unjudged);
    }
    if (why == REJECT_NONE && ex->unjudged == UNJUDGED_NONE) {
        why = transaction_decode(&ex->transaction, &ex->document, ex->root, ex->origin);
        ex->unjudged = ex->transaction.unjudged;
    }
    if (why == REJECT_NONE && ex->unjudged == UNJUDGED_NONE) {
        why = judge_edus(ex);
    }
    if (ex->unjudged == UNJUDGED_NONE && lists_failed(ex->inbound->parts.lists)) {
        ex->unjudged = UNJUDGED_STORE_FAILED;
    }
    if (why != REJECT_NONE) {
        return exchange_reject(ex, why);
    }
    if (ex->unjudged != UNJUDGED_NONE) {
        exchange_count_unjudged(ex, ex->unjudged, 1);
    }
    return STEP_NEXT;
}

static enum claim_kind kind_of(const struct offer *offer)
{
    if (offer->claim_result == CLAIM_USABLE) {
        return offer->claim.has_hash ? CLAIM_KIND_HASH : CLAIM_KIND_STREAM;
    }
    return offer->claim_result == CLAIM_UNUSABLE ? CLAIM_KIND_UNUSABLE : CLAIM_KIND_NONE;
}

static void count_batches(struct exchange *ex)
{
    struct metrics *metrics = ex->inbound->parts.metrics;

    metrics_add(metrics, COUNTER_batches_total, ex->batches.n);
    for (uint32_t i = 0; i < ex->batches.n; i++) {
        const struct batch *batch = &ex->batches.batches[i];
        for (uint32_t j = 0; j < batch->n_offers; j++) {
            metrics_add(metrics, COUNTER_messages_total, batch->offers[j].n_messages);
            metrics_add_by(metrics, COUNTER_BY_claims_total, kind_of(&batch->offers[j]), 1);
        }
    }
    exchange_count_unjudged(ex, UNJUDGED_NOT_HOSTED, ex->batches.n_not_hosted);
    exchange_count_unjudged(ex, UNJUDGED_ODD_IDENTIFIER, ex->batches.n_odd_identifier);
    exchange_count_unjudged(ex, UNJUDGED_UNUSABLE_CLAIM, ex->batches.n_unusable);
}

static enum step_result step_batch(struct exchange *ex)
{
    if (ex->unjudged != UNJUDGED_NONE) {
        return STEP_NEXT;
    }
    if (batches_build(&ex->batches, &ex->document, &ex->transaction, ex->server->name)) {
        count_batches(ex);
    } else {
        ex->batches = (struct batches){0};
        exchange_count_unjudged(ex, UNJUDGED_PARSE_BUDGET, 1);
    }
    return STEP_NEXT;
}

/* What may wait of it for a peer that reads slowly. It comes whatever the budgets say: connections
 * upstream bound it. */
static void charge_answer(struct exchange *ex)
{
    const struct http_head *answer = &ex->relay.answer;
    uint64_t max = ex->relay.holds ? REPLY_BODY_SIZE_MAX : RELAY_WAITING_MAX;
    bool is_shorter = answer->has_content_length && answer->content_length < max;

    if (!span_equal(ex->head->method, SPAN_LIT("HEAD"))) {
        (void)budget_charge_now(&ex->budget, is_shorter ? answer->content_length : max);
    }
}

static void on_stream_status(void *arg)
{
    charge_answer(arg);
}

static void on_status(void *arg)
{
    struct exchange *ex = arg;

    charge_answer(ex);
    if (ex->relay.answer.status == 200) {
        metrics_add(ex->inbound->parts.metrics, COUNTER_transactions_accepted_total, 1);
    }
    judging_status_came(ex);
}

static void on_held(void *arg)
{
    struct exchange *ex = arg;

    ex->relay_state = RELAY_HELD;
    exchange_run(ex);
}

/* Counts a refusal too: it was the relay that answered. */
static void on_over(void *arg, enum reject why)
{
    struct exchange *ex = arg;

    if (why != REJECT_NONE) {
        metrics_add_by(ex->inbound->parts.metrics, COUNTER_BY_refused_total, why, 1);
    }
    exchange_free(ex);
}

/* What a homeserver may be asked twice: it deduplicates transactions, and reads change nothing. A
 * claim of one-time keys uses them up. */
static bool is_resendable(const struct exchange *ex)
{
    static const struct span query = SPAN_INIT("/_matrix/federation/v1/user/keys/query");
    struct span method = ex->head->method;

    return span_equal(method, SPAN_LIT("GET")) || span_equal(method, SPAN_LIT("HEAD")) ||
           span_equal(method, SPAN_LIT("PUT")) ||
           (span_equal(method, SPAN_LIT("POST")) && span_starts_with(ex->head->target, query));
}

static enum step_result start_relay(struct exchange *ex, const struct span *body, bool holds)
{
    static const struct relay_ops transaction_ops = {on_status, on_held, on_over};
    static const struct relay_ops stream_ops = {on_stream_status, on_held, on_over};
    const struct inbound_parts *parts = &ex->inbound->parts;
    struct http_head request;

    if (!forward_request(&request, &ex->arena, ex->head, &ex->peer, holds)) {
        return exchange_reject(ex, REJECT_OVER_PROCESS_BUDGET);
    }
    ex->relay_state = RELAY_RUNNING;
    const struct relay_options options = {
        .ops = body != NULL ? &transaction_ops : &stream_ops,
        .arg = ex,
        .loop = parts->loop,
        .gates = parts->gates,
        .metrics = parts->metrics,
        .arena = &ex->arena,
        .exchange = ex->http,
        .pool = hosted_upstream_for(ex->server, ex->origin)->pool,
        .request = &request,
        .body = body,
        .is_resendable = is_resendable(ex),
        .holds = holds,
        .patience_s = ex->inbound->settings.patience_s,
    };
    return relay_start(&ex->relay, &options) ? STEP_WAIT : exchange_reject(ex, REJECT_BAD_HTTP);
}

static enum step_result step_relay(struct exchange *ex)
{
    if (ex->relay_state == RELAY_NOT_STARTED) {
        struct span body = writer_span(&ex->body);
        if (ex->judging == NULL) {
            exchange_forget_document(ex);
        }
        return start_relay(ex, &body, judging_wants_answer(ex));
    }
    return ex->relay_state == RELAY_HELD ? STEP_NEXT : STEP_WAIT;
}

static void respond(struct exchange *ex, struct span body)
{
    const struct http_head *answer = &ex->relay.answer;

    http_respond(ex->http, answer->status, answer->headers, answer->n_headers, body);
    exchange_free(ex);
}

/* The held answer, with the verdicts if it is a 200 that can carry them. */
static enum step_result step_reply(struct exchange *ex)
{
    struct span held = writer_span(&ex->relay.held);
    bool is_200 = ex->relay.answer.status == 200;
    struct writer body;
    size_t n;

    if (is_200 && !judging_is_done(ex)) {
        return STEP_WAIT;
    }
    judging_settle(ex);
    const struct judgement *verdicts = judging_verdicts(ex, &n);
    writer_init(&body, REPLY_BODY_SIZE_MAX + VERDICTS_SIZE_MAX + 1024);
    bool has_verdicts = is_200 && reply_encode(&body, held, verdicts, n);
    respond(ex, has_verdicts ? writer_span(&body) : held);
    writer_fini(&body);
    return STEP_DONE;
}

/* What came of the body while its bytes were waited for. */
static void relay_kept(struct exchange *ex)
{
    if (ex->body.size > 0) {
        relay_body(&ex->relay, writer_span(&ex->body));
    }
    writer_fini(&ex->body);
    if (ex->body_is_whole) {
        relay_body_end(&ex->relay);
    }
}

static enum step_result step_stream(struct exchange *ex)
{
    if (ex->relay_state != RELAY_NOT_STARTED || budget_is_waiting(&ex->budget)) {
        return STEP_WAIT;
    }
    enum step_result result = start_relay(ex, NULL, false);
    if (result == STEP_WAIT) {
        relay_kept(ex);
    }
    return result;
}

const struct step transaction_steps[] = {
    {"read", step_read},
    {"authenticate", step_authenticate},
    {"charge", step_charge},
    {"decode", step_decode},
    {"batch", step_batch},
    {"judge", step_judge},
    {"relay", step_relay},
    {"reply", step_reply},
    {NULL, NULL},
};

const struct step stream_steps[] = {{"stream", step_stream}, {NULL, NULL}};
