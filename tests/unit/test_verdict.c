#include "proto/verdict.h"

#include "data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { OUTPUT_MAX = 2 << 20 };

#define ZEROS "dlh1:00000000000000000000000000000000"

static const struct offer by_hash = {
    .sender = SPAN_INIT("@bob:b.example"),
    .claim_result = CLAIM_USABLE,
    .claim = {.has_hash = true},
};

static struct judgement judgement_of(const struct offer *offer, enum verdict verdict)
{
    return (struct judgement){.user_id = SPAN_LIT("@alice:a.example"),
                              .offer = offer,
                              .verdict = verdict,
                              .has_current = true};
}

static void check_reply(const struct judgement *judgements, size_t n, struct span body,
                        const char *expected)
{
    struct writer out;

    writer_init(&out, OUTPUT_MAX);
    assert_int_equal(reply_encode(&out, body, judgements, n), expected != NULL);
    if (expected != NULL && !span_equal(writer_span(&out), span_str(expected))) {
        fail_msg("got %.*s", (int)out.size, out.data);
    }
    writer_fini(&out);
}

#define FRESH                                                                                      \
    "\"io.freshet.verdicts\":[{\"user_id\":\"@alice:a.example\",\"sender\":\"@bob:b.example\","    \
    "\"verdict\":\"fresh\",\"claimed\":\"" ZEROS "\"}]"

struct body_row {
    struct span body;
    const char *expected; /* NULL: it stays as it is */
};

static const struct body_row body_rows[] = {
    {SPAN_INIT("{}"), "{" FRESH "}"},
    {SPAN_INIT(" { } \n"), " { " FRESH "} \n"},
    {SPAN_INIT("{\"pdus\":{\"$e\":{\"error\":\"}\"}},\"z\":1.50}"),
     "{\"pdus\":{\"$e\":{\"error\":\"}\"}},\"z\":1.50," FRESH "}"},
    {SPAN_INIT(""), NULL},
    {SPAN_INIT("[]"), NULL},
    {SPAN_INIT("{oops"), NULL},
    {SPAN_INIT("{}{}"), NULL},
    {SPAN_INIT("\"}\""), NULL},
    {SPAN_INIT("{\"io.freshet.verdicts\":[]}"), NULL},
    {SPAN_INIT("{\"io.freshet.verdict\\u0073\":[]}"), NULL},
};

static void verdicts_go_into_plain_objects_only(void **state)
{
    const struct judgement fresh = judgement_of(&by_hash, VERDICT_FRESH);

    (void)state;
    for (size_t i = 0; i < sizeof body_rows / sizeof body_rows[0]; i++) {
        check_reply(&fresh, 1, body_rows[i].body, body_rows[i].expected);
    }
}

static void only_usable_claims_of_the_edu_level_are_answered(void **state)
{
    struct offer offer = by_hash;
    const struct judgement judgement = judgement_of(&offer, VERDICT_FRESH);

    (void)state;
    check_reply(NULL, 0, SPAN_LIT("{}"), NULL);
    offer.claim.per_device = true;
    check_reply(&judgement, 1, SPAN_LIT("{}"), NULL);
    offer = by_hash;
    offer.claim_result = CLAIM_UNUSABLE;
    check_reply(&judgement, 1, SPAN_LIT("{}"), NULL);
    offer.claim_result = CLAIM_NONE;
    check_reply(&judgement, 1, SPAN_LIT("{}"), NULL);
    offer = by_hash;
    offer.claim.has_hash = false;
    offer.claim.has_stream = true;
    offer.claim.stream_id = 123;
    check_reply(&judgement, 1, SPAN_LIT("{}"),
                "{\"io.freshet.verdicts\":[{\"user_id\":\"@alice:a.example\",\"sender\":"
                "\"@bob:b.example\",\"verdict\":\"fresh\",\"claimed_stream_id\":123}]}");
}

static void a_stale_verdict_comes_first_and_carries_ids_and_the_current_hash(void **state)
{
    struct span ids[] = {SPAN_LIT("i\"1"), SPAN_LIT("")};
    struct message messages[] = {{.msgid = SPAN_LIT("m1")}, {.msgid = {0}}};
    struct offer stale = by_hash;
    struct offer unknown = by_hash;

    (void)state;
    stale.message_ids = unknown.message_ids = ids;
    stale.n_message_ids = unknown.n_message_ids = 2;
    stale.messages = messages;
    stale.n_messages = 2;
    const struct judgement both[] = {judgement_of(&unknown, VERDICT_UNKNOWN),
                                     judgement_of(&stale, VERDICT_STALE)};
    check_reply(both, 2, SPAN_LIT("{}"),
                "{\"io.freshet.verdicts\":[{\"user_id\":\"@alice:a.example\",\"sender\":"
                "\"@bob:b.example\",\"verdict\":\"stale\",\"claimed\":\"" ZEROS
                "\",\"current\":\"" ZEROS "\",\"message_ids\":[\"i\\\"1\"],\"msgids\":[\"m1\"]},"
                "{\"user_id\":\"@alice:a.example\",\"sender\":\"@bob:b.example\",\"verdict\":"
                "\"unknown\",\"claimed\":\"" ZEROS "\"}]}");
}

/* The array of the reply to n equal judgements. */
static const struct json_value *reply_rows(struct arena *arena, struct writer *out,
                                           const struct judgement *judgements, size_t n)
{
    const struct json_value *root = NULL;

    writer_reset(out);
    assert_true(reply_encode(out, SPAN_LIT("{}"), judgements, n));
    assert_true(out->size <= VERDICTS_SIZE_MAX + strlen("{\"io.freshet.verdicts\":}"));
    assert_int_equal(json_parse(&root, arena, writer_span(out)), JSON_OK);
    return json_get(root, SPAN_LIT("io.freshet.verdicts"));
}

static void what_is_echoed_is_bounded(void **state)
{
    static struct message messages[400];
    static struct judgement judgements[1000];
    char longest[65];
    struct offer offer = by_hash;
    struct arena arena;
    struct writer out;
    const struct json_value *row;
    size_t n_with_ids = 0;

    (void)state;
    arena_init(&arena, 8 << 20);
    writer_init(&out, OUTPUT_MAX);
    memset(longest, 'x', sizeof longest);
    for (size_t i = 0; i < 400; i++) {
        messages[i].msgid = span_of(longest, i == 0 ? 65 : 64);
    }
    offer.messages = messages;
    offer.n_messages = 400;
    for (size_t i = 0; i < 1000; i++) {
        judgements[i] = judgement_of(&offer, VERDICT_STALE);
    }
    struct json_iter one = json_iterate(reply_rows(&arena, &out, judgements, 1));
    assert_true(json_next(&one, NULL, &row));
    assert_int_equal(json_size(json_get(row, SPAN_LIT("msgids"))), 250);
    assert_memory_equal(json_string(json_iterate(json_get(row, SPAN_LIT("msgids"))).at).data,
                        longest, 64);
    const struct json_value *rows = reply_rows(&arena, &out, judgements, 1000);
    struct json_iter many = json_iterate(rows);
    while (json_next(&many, NULL, &row)) {
        n_with_ids += json_get(row, SPAN_LIT("msgids")) != NULL;
    }
    assert_int_equal(n_with_ids, 3);
    assert_true(json_size(rows) > 50 && json_size(rows) < 1000);
    writer_fini(&out);
    arena_fini(&arena);
}

static void a_writer_without_room_leaves_the_body_unchanged(void **state)
{
    const struct judgement fresh = judgement_of(&by_hash, VERDICT_FRESH);
    struct writer out;

    (void)state;
    writer_init(&out, 32);
    assert_false(reply_encode(&out, SPAN_LIT("{}"), &fresh, 1));
    writer_fini(&out);
}

static void a_body_that_is_too_large_passes_unchanged(void **state)
{
    const struct judgement fresh = judgement_of(&by_hash, VERDICT_FRESH);
    char *body = malloc(REPLY_BODY_SIZE_MAX + 1);

    (void)state;
    assert_non_null(body);
    memset(body, ' ', REPLY_BODY_SIZE_MAX + 1);
    body[0] = '{';
    body[1] = '}';
    check_reply(&fresh, 1, span_of(body, REPLY_BODY_SIZE_MAX + 1), NULL);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_go_into_plain_objects_only),
        cmocka_unit_test(only_usable_claims_of_the_edu_level_are_answered),
        cmocka_unit_test(a_stale_verdict_comes_first_and_carries_ids_and_the_current_hash),
        cmocka_unit_test(what_is_echoed_is_bounded),
        cmocka_unit_test(a_writer_without_room_leaves_the_body_unchanged),
        cmocka_unit_test(a_body_that_is_too_large_passes_unchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
