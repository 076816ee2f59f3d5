#include "inbound/exchange.h"

#include "base/clock.h"
#include "lists/judge.h"
#include "proto/check.h"

#include <string.h>

/* The list of one recipient, read for this transaction. */
struct recipient_read {
    struct list_read read;
    struct exchange *ex;
    const struct batch *batch;
    size_t first; /* of the batch's judgements */
    bool is_running;
};

struct judging {
    struct span payer;          /* whose budget reads are */
    struct judgement *verdicts; /* one for each usable claim, batch by batch */
    bool *needs_second;         /* by verdict */
    size_t n;
    struct recipient_read *reads;
    size_t n_reads;
    size_t n_running;
    bool has_settled;
    bool is_late; /* lists.wait_ms is over */
    struct timer wait;
};

/* Whoever was not verified here could spend a victim's budget in its name. The data is NULL if the
 * arena is full. */
static struct span find_payer(struct exchange *ex)
{
    static const struct span prefix = SPAN_INIT("address "); /* no server is named so */
    char text[8 + sizeof ex->client.s6_addr];

    if (!ex->server->authenticates_upstream) {
        return ex->origin;
    }
    memcpy(text, prefix.data, prefix.size);
    memcpy(text + prefix.size, ex->client.s6_addr, sizeof ex->client.s6_addr);
    return arena_copy(&ex->document, span_of(text, sizeof text));
}

static struct list_read_request request_for(const struct exchange *ex, struct span user_id)
{
    return (struct list_read_request){
        .server = ex->server->name, .user_id = user_id, .origin = ex->judging->payer};
}

static void set_verdict(struct judgement *judgement, enum verdict verdict,
                        const struct dlh *current)
{
    judgement->verdict = verdict;
    judgement->has_current = current != NULL;
    if (current != NULL) {
        judgement->current = *current;
    }
}

static struct judged_claim judged_claim_of(const struct exchange *ex,
                                           const struct judgement *judgement)
{
    return (struct judged_claim){.server = ex->server->name,
                                 .user_id = judgement->user_id,
                                 .origin = ex->judging->payer,
                                 .claim = &judgement->offer->claim,
                                 .list = &judgement->current};
}

/* True for a claim that was read for before and is what it was then. */
static bool is_repeated(const struct exchange *ex, const struct judgement *judgement)
{
    struct judged_claim claim = judged_claim_of(ex, judgement);

    return judgement->has_current && judged_before(ex->inbound->parts.judged, &claim);
}

/* Each claim about this recipient that the stored list could not settle. */
static void judge_after_read(struct recipient_read *self, const struct device_list *after)
{
    struct judging *judging = self->ex->judging;

    for (size_t i = self->first;
         i < judging->n && span_equal(judging->verdicts[i].user_id, self->batch->user_id); i++) {
        struct judgement *judgement = &judging->verdicts[i];
        if (judgement->verdict == VERDICT_UNKNOWN) {
            enum verdict verdict =
                judge_read(&judging->needs_second[i], after, &judgement->offer->claim);
            set_verdict(judgement, verdict, &after->current);
            struct judged_claim claim = judged_claim_of(self->ex, judgement);
            if (verdict != VERDICT_FRESH) {
                judged_remember(self->ex->inbound->parts.judged, &claim);
            }
        }
    }
}

static void on_read(void *arg, const struct device_list *after)
{
    struct recipient_read *self = arg;
    struct judging *judging = self->ex->judging;

    self->is_running = false;
    judging->n_running--;
    if (after != NULL) {
        judge_after_read(self, after);
    }
    if (judging->n_running == 0) {
        judging_settle(self->ex);
        exchange_run(self->ex);
    }
}

static void start_read(struct exchange *ex, const struct batch *batch, size_t first, bool may_wait)
{
    struct judging *judging = ex->judging;
    struct list_read_request request = request_for(ex, batch->user_id);

    request.may_wait = may_wait;
    if (ex->server->key == NULL) {
        return;
    }
    if (judging->n_reads == READS_MAX) {
        metrics_add_by(ex->inbound->parts.metrics, COUNTER_BY_list_reads_total, FETCH_RESULT_BUDGET,
                       1);
        return;
    }
    struct recipient_read *self = &judging->reads[judging->n_reads++];
    *self = (struct recipient_read){.ex = ex, .batch = batch, .first = first, .is_running = true};
    judging->n_running++;
    list_read_start(ex->inbound->parts.reader, &self->read, &request, on_read, self);
}

/* What is known of one recipient's list, from memory and, only if that is not enough, the store. */
struct known_list {
    struct list_glance glance;
    struct device_list list;
    bool has_glance, has_looked, has_list;
};

static enum judge_need judge_known(struct judgement *judgement, struct exchange *ex,
                                   struct known_list *known, int64_t now_ms)
{
    const struct claim *claim = &judgement->offer->claim;
    int64_t max_age_ms = (int64_t)ex->inbound->settings.max_age_s * 1000;
    enum judge_need need;

    if (known->has_glance && judge_glance(&known->glance, claim, now_ms, max_age_ms)) {
        set_verdict(judgement, VERDICT_FRESH, &known->glance.current);
        return JUDGE_DONE;
    }
    if (!known->has_looked) {
        known->has_looked = true;
        known->has_list = lists_get(&known->list, ex->inbound->parts.lists, &ex->document,
                                    ex->server->name, judgement->user_id) == ERR_OK;
    }
    const struct device_list *list = known->has_list ? &known->list : NULL;
    enum verdict verdict = judge_cached(&need, list, claim, now_ms, max_age_ms);
    set_verdict(judgement, verdict, list == NULL ? NULL : &list->current);
    return need;
}

/* What the stored list says of each usable claim in the batch. */
static void judge_batch(struct exchange *ex, const struct batch *batch, int64_t now_ms)
{
    struct judging *judging = ex->judging;
    struct known_list known;
    size_t first = judging->n;
    bool needs_read = false;
    bool is_new = false;

    for (uint32_t i = 0; i < batch->n_offers; i++) {
        const struct offer *offer = &batch->offers[i];
        if (offer->claim_result != CLAIM_USABLE) {
            continue;
        }
        if (judging->n == first) {
            known.has_looked = false;
            known.has_glance = lists_glance(&known.glance, ex->inbound->parts.lists,
                                            ex->server->name, batch->user_id);
        }
        struct judgement *judgement = &judging->verdicts[judging->n++];
        *judgement = (struct judgement){.user_id = batch->user_id, .offer = offer};
        enum judge_need need = judge_known(judgement, ex, &known, now_ms);
        needs_read = needs_read || need == JUDGE_READ;
        is_new = is_new || (need == JUDGE_READ && !is_repeated(ex, judgement));
    }
    if (needs_read) {
        start_read(ex, batch, first, !is_new);
    }
}

static size_t count_claims(const struct batches *batches)
{
    size_t n = 0;

    for (uint32_t i = 0; i < batches->n; i++) {
        for (uint32_t j = 0; j < batches->batches[i].n_offers; j++) {
            n += batches->batches[i].offers[j].claim_result == CLAIM_USABLE;
        }
    }
    return n;
}

static void on_late(void *arg)
{
    struct exchange *ex = arg;

    ex->judging->is_late = true;
    exchange_run(ex);
}

static bool judging_init(struct exchange *ex, size_t n_claims)
{
    struct judging *judging = arena_calloc(&ex->document, 1, sizeof *judging);
    size_t n_reads = ex->batches.n < READS_MAX ? ex->batches.n : READS_MAX;

    if (judging == NULL) {
        return false;
    }
    judging->verdicts = arena_calloc(&ex->document, n_claims, sizeof *judging->verdicts);
    judging->needs_second = arena_calloc(&ex->document, n_claims, sizeof *judging->needs_second);
    judging->reads = arena_calloc(&ex->document, n_reads, sizeof *judging->reads);
    judging->payer = find_payer(ex);
    if (judging->verdicts == NULL || judging->needs_second == NULL || judging->reads == NULL ||
        judging->payer.data == NULL) {
        return false;
    }
    ex->judging = judging;
    return true;
}

enum step_result step_judge(struct exchange *ex)
{
    size_t n_claims = count_claims(&ex->batches);

    if (n_claims == 0) {
        return STEP_NEXT;
    }
    if (!judging_init(ex, n_claims)) {
        exchange_count_unjudged(ex, UNJUDGED_PARSE_BUDGET, 1);
        return STEP_NEXT;
    }
    int64_t now_ms = clock_ms();
    for (uint32_t i = 0; i < ex->batches.n; i++) {
        judge_batch(ex, &ex->batches.batches[i], now_ms);
    }
    if (ex->judging->n_running == 0) {
        judging_settle(ex);
    }
    return STEP_NEXT;
}

bool judging_wants_answer(const struct exchange *ex)
{
    const struct judging *judging = ex->judging;

    for (size_t i = 0; judging != NULL && i < judging->n; i++) {
        if (!judging->verdicts[i].offer->claim.per_device) {
            return true;
        }
    }
    return false;
}

void judging_status_came(struct exchange *ex)
{
    struct judging *judging = ex->judging;

    if (judging != NULL && judging->n_running > 0) {
        timer_init(&judging->wait, ex->inbound->parts.loop, on_late, ex);
        timer_start(&judging->wait, ex->inbound->settings.wait_ms);
    }
}

bool judging_is_done(const struct exchange *ex)
{
    const struct judging *judging = ex->judging;

    return judging == NULL || judging->n_running == 0 || judging->is_late;
}

void judging_settle(struct exchange *ex)
{
    struct judging *judging = ex->judging;
    const struct inbound_parts *parts = &ex->inbound->parts;

    if (judging == NULL || judging->has_settled) {
        return;
    }
    judging->has_settled = true;
    metrics_observe_since(parts->metrics, HISTOGRAM_verdict_seconds, ex->whole_us);
    for (size_t i = 0; i < judging->n; i++) {
        const struct judgement *judgement = &judging->verdicts[i];
        struct list_read_request request = request_for(ex, judgement->user_id);
        metrics_add_by(parts->metrics, COUNTER_BY_verdicts_total, judgement->verdict, 1);
        if (judging->needs_second[i]) {
            second_looks_add(parts->second_looks, &request, &judgement->offer->claim,
                             ex->inbound->settings.settle_ms);
        }
    }
}

const struct judgement *judging_verdicts(const struct exchange *ex, size_t *n)
{
    *n = ex->judging == NULL ? 0 : ex->judging->n;
    return ex->judging == NULL ? NULL : ex->judging->verdicts;
}

void judging_fini(struct exchange *ex)
{
    struct judging *judging = ex->judging;

    if (judging == NULL) {
        return;
    }
    for (size_t i = 0; i < judging->n_reads; i++) {
        if (judging->reads[i].is_running) {
            list_read_cancel(ex->inbound->parts.reader, &judging->reads[i].read);
        }
    }
    timer_fini(&judging->wait);
}
