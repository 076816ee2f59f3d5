/* Any document as a transaction: refused under a row, or its batches hold each judged recipient
 * once, and verdicts about them make an answer that is JSON again. */
#include "proto/batch.h"
#include "proto/check.h"
#include "proto/names.h"
#include "proto/transaction.h"
#include "proto/verdict.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    ARENA_CAP = 16 << 20,
    OUTPUT_MAX = 2 << 20,
    JUDGEMENTS_MAX = 1000,
};

/* Verdicts of all kinds about the offers. */
static size_t judge(struct judgement *out, const struct batches *batches)
{
    size_t n = 0;

    for (uint32_t i = 0; i < batches->n; i++) {
        const struct batch *batch = &batches->batches[i];
        for (uint32_t j = 0; j < batch->n_offers && n < JUDGEMENTS_MAX; j++) {
            out[n] = (struct judgement){
                .user_id = batch->user_id,
                .offer = &batch->offers[j],
                .verdict = (enum verdict)((n + 2) % VERDICT_COUNT),
                .has_current = n % 2 == 0,
            };
            n++;
        }
    }
    return n;
}

/* The document, or NULL if it is JSON but over a limit. */
static const struct json_value *parse(struct arena *arena, struct span text)
{
    const struct json_value *root = NULL;
    enum json_error error = json_parse(&root, arena, text);

    CHECK(error != JSON_MALFORMED);
    return error == JSON_OK ? root : NULL;
}

static void check_members(const struct json_value *after, const struct json_value *before, size_t n)
{
    size_t n_rows = json_size(json_get(after, SPAN_LIT(NAME_VERDICTS)));

    CHECK(json_size(after) == json_size(before) + 1);
    CHECK(n_rows > 0 && n_rows <= n);
}

static void check_reply(struct arena *arena, const struct judgement *judgements, size_t n,
                        struct span body)
{
    struct writer out;

    writer_init(&out, OUTPUT_MAX);
    if (reply_encode(&out, body, judgements, n)) {
        const struct json_value *after = parse(arena, writer_span(&out));
        const struct json_value *before = parse(arena, body);
        if (after != NULL && before != NULL) {
            check_members(after, before, n);
        }
    }
    writer_fini(&out);
}

static size_t count_recipients(const struct transaction *transaction)
{
    size_t n = 0;

    for (uint32_t i = 0; i < transaction->n_edus; i++) {
        const struct edu *edu = &transaction->edus[i];
        CHECK(edu->type < EDU_TYPE_COUNT && edu->unjudged < UNJUDGED_COUNT);
        if (edu->type == EDU_TO_DEVICE && edu->unjudged == UNJUDGED_NONE) {
            n += json_size(edu->messages);
        }
    }
    return n;
}

static void check_batches(const struct batches *batches, const struct transaction *transaction)
{
    size_t n = batches->n_not_hosted + batches->n_odd_identifier;

    for (uint32_t i = 0; i < batches->n; i++) {
        CHECK(batches->batches[i].n_offers > 0);
        for (uint32_t j = 0; j < batches->batches[i].n_offers; j++) {
            n += batches->batches[i].offers[j].n_message_ids;
        }
    }
    CHECK(n == count_recipients(transaction));
}

static void check_transaction(struct arena *arena, const struct json_value *root, struct span text)
{
    struct judgement *judgements = arena_calloc(arena, JUDGEMENTS_MAX, sizeof *judgements);
    struct transaction transaction;
    struct batches batches;
    struct span origin = json_get_string(root, SPAN_LIT("origin"));

    enum reject why = transaction_decode(&transaction, arena, root, origin);
    if (why != REJECT_NONE) {
        CHECK(why < REJECT_COUNT && reject_row(why)->status >= 400);
        return;
    }
    CHECK(transaction.n_edus <= TRANSACTION_EDUS_MAX);
    CHECK(transaction.n_pdus <= TRANSACTION_PDUS_MAX);
    if (judgements != NULL && batches_build(&batches, arena, &transaction, SPAN_LIT("a.example"))) {
        check_batches(&batches, &transaction);
        size_t n = judge(judgements, &batches);
        check_reply(arena, judgements, n, SPAN_LIT("{\"pdus\":{}}"));
        check_reply(arena, judgements, n, text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct offer offer = {.claim_result = CLAIM_USABLE};
    const struct judgement judgement = {.offer = &offer, .verdict = VERDICT_STALE};
    struct span text = span_of(data, size);
    struct arena arena;
    const struct json_value *root = NULL;

    arena_init(&arena, ARENA_CAP);
    if (json_parse(&root, &arena, text) == JSON_OK) {
        check_transaction(&arena, root, text);
    }
    check_reply(&arena, &judgement, 1, text);
    arena_fini(&arena);
    return 0;
}
