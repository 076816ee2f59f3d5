#include "proto/batch.h"

#include "proto/span_index.h"
#include "proto/writer.h"

#include "data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

enum { ARENA_CAP = 64 << 20 };

#define HASH  "dlh1:df9f509a924bae6a78095ed37895106c"
#define OTHER "dlh1:69c171c09bdd8e700c7b824315290fdd"
#define EDU(id, sender, claims, messages)                                                          \
    "{\"content\":{\"io.freshet.device_lists\":" claims ",\"message_id\":\"" id                    \
    "\",\"messages\":" messages ",\"sender\":\"" sender                                            \
    "\",\"type\":\"t\"},\"edu_type\":\"m.direct_to_device\"}"

static bool build(struct batches *out, struct arena *arena, struct span text)
{
    struct transaction transaction;
    const struct json_value *root = NULL;

    assert_int_equal(json_parse(&root, arena, text), JSON_OK);
    assert_int_equal(transaction_decode(&transaction, arena, root, SPAN_LIT("b.example")),
                     REJECT_NONE);
    return batches_build(out, arena, &transaction, SPAN_LIT("a.example"));
}

#define CLAIM_HASH  "{\"@alice:a.example\":{\"hash\":\"" HASH "\"}}"
#define CLAIM_OTHER "{\"@alice:a.example\":{\"hash\":\"" OTHER "\"}}"

/* By hand: clang-format would wrap each literal into a column of its own. */
/* clang-format off */
static const struct span mixed = SPAN_INIT(
    "{\"edus\":["
    EDU("1", "@x:b.example", CLAIM_HASH,
        "{\"@alice:a.example\":{\"D\":{\"org.matrix.msgid\":\"m1\"},\"E\":{}},"
        "\"@carol:a.example\":{\"*\":{}}}") ","
    EDU("2", "@x:b.example", CLAIM_OTHER,
        "{\"@alice:a.example\":{\"D\":{\"org.matrix.msgid\":\"m2\"}},"
        "\"@carol:a.example\":{},\"@far:away.example\":{\"D\":{}},\"nobody\":{}}") ","
    EDU("3", "@x:b.example", CLAIM_HASH,
        "{\"@alice:a.example\":{\"F\":{\"org.matrix.msgid\":\"m3\"}}}") ","
    EDU("4", "@y:b.example", CLAIM_HASH, "{\"@alice:a.example\":{\"D\":7}}") ","
    EDU("5", "@x:b.example", "7", "{\"@alice:a.example\":{\"D\":{}}}") ","
    EDU("6", "@x:spoofed.example", "{}", "{\"@dave:a.example\":{\"D\":{}}}")
    "]}");
/* clang-format on */

static void messages_are_grouped_by_recipient_sender_and_claim(void **state)
{
    struct arena arena;
    struct batches batches;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    assert_true(build(&batches, &arena, mixed));
    assert_int_equal(batches.n, 2);
    assert_int_equal(batches.n_not_hosted, 1);
    assert_int_equal(batches.n_odd_identifier, 1);
    assert_int_equal(batches.n_unusable, 1);
    const struct batch *alice = &batches.batches[0];
    assert_true(span_equal(alice->user_id, SPAN_LIT("@alice:a.example")));
    assert_int_equal(alice->n_offers, 4);
    const struct offer *first = &alice->offers[0];
    assert_true(first->claim_result == CLAIM_USABLE && first->claim.has_hash);
    assert_int_equal(first->n_message_ids, 2);
    assert_true(span_equal(first->message_ids[1], SPAN_LIT("3")));
    assert_int_equal(first->n_messages, 3);
    assert_true(span_equal(first->messages[0].device_id, SPAN_LIT("D")));
    assert_true(span_equal(first->messages[0].msgid, SPAN_LIT("m1")));
    assert_int_equal(first->messages[1].msgid.size, 0);
    assert_true(span_equal(first->messages[2].device_id, SPAN_LIT("F")));
    assert_true(span_equal(alice->offers[1].message_ids[0], SPAN_LIT("2")));
    assert_true(span_equal(alice->offers[2].sender, SPAN_LIT("@y:b.example")));
    assert_int_equal(alice->offers[3].claim_result, CLAIM_UNUSABLE);
    const struct batch *carol = &batches.batches[1];
    assert_true(span_equal(carol->user_id, SPAN_LIT("@carol:a.example")));
    assert_true(span_equal(carol->offers[0].messages[0].device_id, SPAN_LIT("*")));
    arena_fini(&arena);
}

static void a_transaction_without_messages_has_no_batches(void **state)
{
    struct arena arena;
    struct batches batches;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    assert_true(build(&batches, &arena, SPAN_LIT("{\"edus\":[]}")));
    assert_int_equal(batches.n, 0);
    arena_fini(&arena);
}

static void write_user(struct writer *out, size_t number, size_t n)
{
    writer_bytes(out, SPAN_LIT("\"@u"));
    writer_u64(out, n - number); /* falling, so that no order helps */
    writer_bytes(out, SPAN_LIT(":a.example\":{\"stream_id\":"));
    writer_u64(out, number);
    writer_bytes(out, number + 1 < n ? SPAN_LIT("},") : SPAN_LIT("}"));
}

/* One EDU with n recipients, each with a claim; the claims double as messages of one device. */
static void write_large(struct writer *out, size_t n)
{
    writer_bytes(out, SPAN_LIT("{\"edus\":[{\"content\":{\"io.freshet.device_lists\":{"));
    for (size_t i = 0; i < n; i++) {
        write_user(out, i, n);
    }
    writer_bytes(out, SPAN_LIT("},\"message_id\":\"i\",\"messages\":{"));
    for (size_t i = 0; i < n; i++) {
        write_user(out, i, n);
    }
    writer_bytes(out, SPAN_LIT("},\"sender\":\"@x:b.example\",\"type\":\"t\"},"
                               "\"edu_type\":\"m.direct_to_device\"}]}"));
}

static void every_one_of_many_recipients_gets_its_own_claim(void **state)
{
    enum { N = 12000 };
    struct arena arena;
    struct batches batches;
    struct writer text;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    writer_init(&text, 4 << 20);
    write_large(&text, N);
    clock_t started = clock();
    assert_true(build(&batches, &arena, writer_span(&text)));
    /* Some 10 ms; anything quadratic takes seconds. */
    assert_true(clock() - started < CLOCKS_PER_SEC);
    assert_int_equal(batches.n, N);
    for (uint32_t i = 0; i < N; i++) {
        const struct batch *batch = &batches.batches[i];
        assert_int_equal(batch->n_offers, 1);
        assert_int_equal(batch->offers[0].claim_result, CLAIM_USABLE);
        assert_int_equal(batch->offers[0].claim.stream_id, i);
        assert_int_equal(batch->offers[0].n_messages, 1);
    }
    writer_fini(&text);
    arena_fini(&arena);
}

static void a_full_arena_builds_nothing(void **state)
{
    struct arena arena;
    struct transaction transaction;
    struct batches batches;
    const struct json_value *root = NULL;
    bool is_built = false;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    assert_int_equal(json_parse(&root, &arena, mixed), JSON_OK);
    assert_int_equal(transaction_decode(&transaction, &arena, root, SPAN_LIT("b.example")),
                     REJECT_NONE);
    for (size_t cap = 0; !is_built; cap += 64) {
        struct arena small;
        arena_init(&small, cap);
        is_built = batches_build(&batches, &small, &transaction, SPAN_LIT("a.example"));
        assert_true(is_built || cap < 1 << 16);
        arena_fini(&small);
    }
    arena_fini(&arena);
}

static void an_index_numbers_names_in_order_of_appearance(void **state)
{
    struct arena arena;
    struct span_index names = {0};

    (void)state;
    arena_init(&arena, ARENA_CAP);
    assert_int_equal(span_index_find(&names, SPAN_LIT("a")), SPAN_INDEX_NONE);
    for (size_t round = 0; round < 3; round++) {
        assert_true(span_index_reset(&names, &arena, round == 1 ? 100 : 3));
        assert_int_equal(span_index_find(&names, SPAN_LIT("a")), SPAN_INDEX_NONE);
        assert_int_equal(span_index_put(&names, SPAN_LIT("a")), 0);
        assert_int_equal(span_index_put(&names, SPAN_LIT("")), 1);
        assert_int_equal(span_index_put(&names, SPAN_LIT("a")), 0);
        assert_int_equal(span_index_put(&names, SPAN_LIT("b")), 2);
        assert_int_equal(span_index_find(&names, SPAN_LIT("")), 1);
        assert_int_equal(span_index_find(&names, SPAN_LIT("c")), SPAN_INDEX_NONE);
    }
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_grouped_by_recipient_sender_and_claim),
        cmocka_unit_test(a_transaction_without_messages_has_no_batches),
        cmocka_unit_test(every_one_of_many_recipients_gets_its_own_claim),
        cmocka_unit_test(a_full_arena_builds_nothing),
        cmocka_unit_test(an_index_numbers_names_in_order_of_appearance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
