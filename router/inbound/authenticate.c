#include "inbound/exchange.h"

#include "base/clock.h"
#include "proto/canonical.h"
#include "proto/check.h"

enum {
    /* No canonical form is longer than the body it is of; the rest is for the frame, whose target
     * is at most HTTP_TARGET_MAX bytes. */
    SIGNED_BYTES_MAX = BODY_MAX + 64 * 1024,
};

enum outcome {
    SIGNED_WELL,
    SIGNED_BADLY, /* every key was at hand, and no signature holds */
    NO_KEY,       /* that may sign, for one at least */
};

enum reject exchange_parse(struct exchange *ex, enum unjudged *unjudged)
{
    if (!ex->is_parsed && !budget_parse_begin(ex->inbound->budgets, ex->body.size)) {
        *unjudged = UNJUDGED_PARSE_BUDGET;
        return REJECT_NONE;
    }
    if (!ex->is_parsed) {
        ex->is_parsed = true;
        ex->parse_charged = ex->body.size;
        ex->parse_error = json_parse(&ex->root, &ex->document, writer_span(&ex->body));
    }
    *unjudged = UNJUDGED_NONE;
    switch (ex->parse_error) {
    case JSON_OK:
        return json_is_object(ex->root) ? REJECT_NONE : REJECT_NOT_JSON;
    case JSON_MALFORMED:
        return REJECT_NOT_JSON;
    case JSON_TOO_DEEP:
        *unjudged = UNJUDGED_TOO_DEEP;
        break;
    case JSON_TOO_MANY:
        *unjudged = UNJUDGED_TOO_MANY_VALUES;
        break;
    case JSON_NO_ROOM:
        *unjudged = UNJUDGED_PARSE_BUDGET;
        break;
    }
    return REJECT_NONE;
}

/* What was too much for a document may still be verified. */
static bool is_canonical_text(struct span body)
{
    return span_starts_with(body, SPAN_LIT("{")) && canonical_check(body) == CANONICAL_YES;
}

/* *out is the canonical form: the body's own bytes if they are it, else written to `re_encoded`.
 * Unless *unjudged says why there is none. */
static enum reject canonical_content(struct exchange *ex, struct span *out,
                                     struct writer *re_encoded, enum unjudged *unjudged)
{
    enum reject why = exchange_parse(ex, unjudged);

    *out = writer_span(&ex->body);
    if (why == REJECT_NONE && *unjudged != UNJUDGED_NONE && is_canonical_text(*out)) {
        *unjudged = UNJUDGED_NONE;
        return REJECT_NONE;
    }
    if (why != REJECT_NONE || *unjudged != UNJUDGED_NONE || json_is_canonical(ex->root)) {
        return why;
    }
    if (!canonical_encode(re_encoded, &ex->document, ex->root)) {
        *unjudged = UNJUDGED_PARSE_BUDGET;
    }
    *out = writer_span(re_encoded);
    return REJECT_NONE;
}

static enum outcome verify_all(struct exchange *ex, struct span content)
{
    const struct xmatrix_request request = {
        .method = ex->head->method,
        .uri = ex->head->target,
        .origin = ex->origin,
        .destination = ex->server->name,
        .content = content,
    };
    enum outcome outcome = SIGNED_BADLY;
    int64_t now_ms = clock_ms();
    struct writer signed_bytes;

    writer_init(&signed_bytes, SIGNED_BYTES_MAX);
    for (size_t i = 0; i < ex->n_xmatrix && outcome != SIGNED_WELL; i++) {
        uint8_t key[ED25519_KEY_SIZE];
        if (keyring_get(ex->inbound->parts.keyring, key, ex->origin, ex->xmatrix[i].key_id,
                        now_ms) != KEY_USABLE) {
            outcome = NO_KEY;
            continue;
        }
        if (signed_bytes.size == 0) {
            xmatrix_signed_bytes(&signed_bytes, &request);
        }
        CHECK(!signed_bytes.failed); /* the body and the target are bounded */
        if (ed25519_verify(key, ex->xmatrix[i].signature, writer_span(&signed_bytes))) {
            outcome = SIGNED_WELL;
        }
    }
    writer_fini(&signed_bytes);
    return outcome;
}

static bool names_banned_key(struct exchange *ex)
{
    int64_t now_ms = clock_ms();

    for (size_t i = 0; i < ex->n_xmatrix; i++) {
        uint8_t key[ED25519_KEY_SIZE];
        if (keyring_get(ex->inbound->parts.keyring, key, ex->origin, ex->xmatrix[i].key_id,
                        now_ms) == KEY_BANNED) {
            return true;
        }
    }
    return false;
}

static void on_key(void *arg)
{
    struct exchange *ex = arg;

    ex->key_state = KEY_TRIED;
    exchange_run(ex);
}

/* The keys at hand may have been replaced; the keyring knows how often that may be asked. */
static enum step_result fetch_keys(struct exchange *ex)
{
    ex->key_state = KEY_FETCHING;
    keyring_refresh(ex->inbound->parts.keyring, &ex->key_wait, ex->origin,
                    ex->has_client ? &ex->client : NULL, on_key, ex);
    return STEP_WAIT;
}

static enum step_result relay_unjudged(struct exchange *ex, enum unjudged why)
{
    ex->unjudged = why;
    return STEP_NEXT;
}

/* The signature does not hold, or a key is missing: what could still explain it? */
static enum step_result explain(struct exchange *ex, enum outcome outcome)
{
    enum unjudged unjudged;
    enum reject malformed = exchange_parse(ex, &unjudged);

    if (malformed != REJECT_NONE) {
        return exchange_reject(ex, malformed);
    }
    if (unjudged != UNJUDGED_NONE) {
        return relay_unjudged(ex, unjudged);
    }
    /* The signer's form of such a number may be another: only the homeserver can tell. */
    if (outcome == SIGNED_BADLY && canonical_has_odd_number(ex->root)) {
        return relay_unjudged(ex, UNJUDGED_ODD_NUMBER);
    }
    if (ex->key_state == KEY_NOT_TRIED) {
        return fetch_keys(ex);
    }
    if (outcome == SIGNED_BADLY) {
        return exchange_reject(ex, REJECT_BAD_SIGNATURE);
    }
    return relay_unjudged(ex,
                          ex->key_wait.is_over_network ? UNJUDGED_KEY_NETWORK : UNJUDGED_NO_KEY);
}

enum step_result step_authenticate(struct exchange *ex)
{
    enum outcome outcome = NO_KEY;
    enum unjudged unjudged;
    struct span content;
    struct writer re_encoded;

    if (ex->server->authenticates_upstream) {
        return STEP_NEXT;
    }
    if (ex->key_state == KEY_FETCHING) {
        return STEP_WAIT;
    }
    writer_init(&re_encoded, SIGNED_BYTES_MAX);
    enum reject malformed = canonical_content(ex, &content, &re_encoded, &unjudged);
    if (malformed == REJECT_NONE && unjudged == UNJUDGED_NONE) {
        outcome = verify_all(ex, content);
    }
    writer_fini(&re_encoded);
    if (malformed != REJECT_NONE) {
        return exchange_reject(ex, malformed);
    }
    if (outcome == SIGNED_WELL) {
        return STEP_NEXT;
    }
    /* Before what may leave it to the homeserver, which need not know of the ban. */
    if (names_banned_key(ex)) {
        return ex->key_state == KEY_NOT_TRIED ? fetch_keys(ex)
                                              : exchange_reject(ex, REJECT_BANNED_KEY);
    }
    return unjudged != UNJUDGED_NONE ? relay_unjudged(ex, unjudged) : explain(ex, outcome);
}
