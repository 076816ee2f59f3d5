#include "proto/transaction.h"

#include "proto/duplicate.h"
#include "proto/writer.h"

#include "data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ARENA_CAP = 8 << 20 };

#define ORIGIN "b.example"
#define IN(edus)                                                                                   \
    "{\"edus\":[" edus "],\"origin\":\"" ORIGIN "\",\"origin_server_ts\":1,\"pdus\":[]}"
#define EDU(type, content) "{\"content\":" content ",\"edu_type\":\"" type "\"}"
#define TO_DEVICE(sender, messages)                                                                \
    EDU("m.direct_to_device", "{\"message_id\":\"id\",\"messages\":" messages                      \
                              ",\"sender\":\"" sender "\",\"type\":\"m.room.encrypted\"}")
#define ONE "{\"@a:a.example\":{\"DEV\":{}}}"

static enum reject decode(struct transaction *out, struct arena *arena, struct span text)
{
    const struct json_value *root = NULL;

    assert_int_equal(json_parse(&root, arena, text), JSON_OK);
    return transaction_decode(out, arena, root, SPAN_LIT(ORIGIN));
}

struct reject_case {
    const char *name;
    struct span text;
    enum reject why;
};

static const struct reject_case reject_cases[] = {
    {"nothing in it", SPAN_INIT(IN("")), REJECT_NONE},
    {"no EDUs, no origin", SPAN_INIT("{\"pdus\":[]}"), REJECT_NONE},
    {"an array", SPAN_INIT("[]"), REJECT_NOT_JSON},
    {"a string", SPAN_INIT("\"x\""), REJECT_NOT_JSON},
    {"another origin", SPAN_INIT("{\"origin\":\"c.example\",\"pdus\":[]}"), REJECT_ORIGIN_MISMATCH},
    {"an origin that is no string", SPAN_INIT("{\"origin\":1}"), REJECT_ORIGIN_MISMATCH},
    {"a key twice", SPAN_INIT("{\"pdus\":[],\"pdus\":[]}"), REJECT_DUPLICATE_KEY},
    {"a key twice, once escaped, apart",
     SPAN_INIT("{\"origin\":\"" ORIGIN "\",\"edus\":[],\"orig\\u0069n\":\"" ORIGIN "\"}"),
     REJECT_DUPLICATE_KEY},
    {"a key of an EDU twice", SPAN_INIT(IN("{\"content\":{},\"edu_type\":\"m.x\",\"content\":{}}")),
     REJECT_DUPLICATE_KEY},
    {"a key twice in an EDU of an odd type", SPAN_INIT(IN("{\"edu_type\":7,\"x\":1,\"x\":1}")),
     REJECT_DUPLICATE_KEY},
};

static void what_is_provably_wrong_is_refused_under_its_row(void **state)
{
    struct arena arena;
    struct transaction transaction;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    for (size_t i = 0; i < sizeof reject_cases / sizeof reject_cases[0]; i++) {
        if (decode(&transaction, &arena, reject_cases[i].text) != reject_cases[i].why) {
            fail_msg("row failed: %s", reject_cases[i].name);
        }
    }
    arena_fini(&arena);
}

struct edu_case {
    const char *name;
    struct span text;
    enum edu_type type;
    enum unjudged unjudged;
};

static const struct edu_case edu_cases[] = {
    {"a to-device EDU", SPAN_INIT(IN(TO_DEVICE("@x:b.example", ONE))), EDU_TO_DEVICE,
     UNJUDGED_NONE},
    {"a sender of a historical grammar", SPAN_INIT(IN(TO_DEVICE("@X y!:b.example", ONE))),
     EDU_TO_DEVICE, UNJUDGED_NONE},
    {"a sender of another server", SPAN_INIT(IN(TO_DEVICE("@x:c.example", ONE))), EDU_TO_DEVICE,
     UNJUDGED_SPOOFED_SENDER},
    {"a sender of the origin at another port", SPAN_INIT(IN(TO_DEVICE("@x:b.example:1", ONE))),
     EDU_TO_DEVICE, UNJUDGED_SPOOFED_SENDER},
    {"a sender that is no user id", SPAN_INIT(IN(TO_DEVICE("x", ONE))), EDU_TO_DEVICE,
     UNJUDGED_ODD_IDENTIFIER},
    {"messages that are no object", SPAN_INIT(IN(TO_DEVICE("@x:b.example", "[]"))), EDU_TO_DEVICE,
     UNJUDGED_ODD_SHAPE},
    {"a recipient's messages that are no object",
     SPAN_INIT(IN(TO_DEVICE("@x:b.example", "{\"@a:a.example\":[]}"))), EDU_TO_DEVICE,
     UNJUDGED_ODD_SHAPE},
    {"a device's content that is no object",
     SPAN_INIT(IN(TO_DEVICE("@x:b.example", "{\"@a:a.example\":{\"D\":1}}"))), EDU_TO_DEVICE,
     UNJUDGED_NONE},
    {"a recipient twice",
     SPAN_INIT(IN(TO_DEVICE("@x:b.example", "{\"@a:a.example\":{},\"@a:a.example\":{}}"))),
     EDU_TO_DEVICE, UNJUDGED_DUPLICATE_INSIDE},
    {"a key twice deep inside a message",
     SPAN_INIT(
         IN(TO_DEVICE("@x:b.example", "{\"@a:a.example\":{\"D\":[{\"b\":1,\"a\":1,\"b\":1}]}}"))),
     EDU_TO_DEVICE, UNJUDGED_DUPLICATE_INSIDE},
    {"keys in no order, none twice",
     SPAN_INIT(
         IN(TO_DEVICE("@x:b.example", "{\"@a:a.example\":{\"D\":[{\"b\":1,\"a\":1,\"c\":1}]}}"))),
     EDU_TO_DEVICE, UNJUDGED_NONE},
    {"no sender",
     SPAN_INIT(
         IN(EDU("m.direct_to_device", "{\"message_id\":\"i\",\"messages\":{},\"type\":\"t\"}"))),
     EDU_TO_DEVICE, UNJUDGED_ODD_SHAPE},
    {"no content", SPAN_INIT(IN("{\"edu_type\":\"m.direct_to_device\"}")), EDU_TO_DEVICE,
     UNJUDGED_ODD_SHAPE},
    {"content that is no object", SPAN_INIT(IN(EDU("m.direct_to_device", "\"x\""))), EDU_TO_DEVICE,
     UNJUDGED_ODD_SHAPE},
    {"a list update", SPAN_INIT(IN(EDU("m.device_list_update", "{\"user_id\":\"@x:b.example\"}"))),
     EDU_DEVICE_LIST_UPDATE, UNJUDGED_NONE},
    {"a list update of another server",
     SPAN_INIT(IN(EDU("m.device_list_update", "{\"user_id\":\"@x:c.example\"}"))),
     EDU_DEVICE_LIST_UPDATE, UNJUDGED_SPOOFED_SENDER},
    {"a list update of nobody", SPAN_INIT(IN(EDU("m.device_list_update", "{}"))),
     EDU_DEVICE_LIST_UPDATE, UNJUDGED_ODD_SHAPE},
    {"new signing keys of another server",
     SPAN_INIT(IN(EDU("m.signing_key_update", "{\"user_id\":\"@x:c.example\"}"))),
     EDU_SIGNING_KEY_UPDATE, UNJUDGED_SPOOFED_SENDER},
    {"typing", SPAN_INIT(IN(EDU("m.typing", "{\"a\":1,\"a\":2}"))), EDU_TYPING, UNJUDGED_NONE},
    {"a receipt", SPAN_INIT(IN(EDU("m.receipt", "{}"))), EDU_RECEIPT, UNJUDGED_NONE},
    {"presence", SPAN_INIT(IN(EDU("m.presence", "{}"))), EDU_PRESENCE, UNJUDGED_NONE},
    {"an unknown type", SPAN_INIT(IN(EDU("org.example", "{}"))), EDU_OTHER, UNJUDGED_NONE},
    {"an empty type", SPAN_INIT(IN(EDU("", "{}"))), EDU_OTHER, UNJUDGED_NONE},
    {"a type that is no string", SPAN_INIT(IN("{\"content\":{},\"edu_type\":9}")), EDU_OTHER,
     UNJUDGED_ODD_SHAPE},
    {"an EDU that is no object", SPAN_INIT(IN("7")), EDU_OTHER, UNJUDGED_ODD_SHAPE},
};

static void what_is_merely_odd_is_marked(void **state)
{
    struct arena arena;
    struct transaction transaction;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    for (size_t i = 0; i < sizeof edu_cases / sizeof edu_cases[0]; i++) {
        if (decode(&transaction, &arena, edu_cases[i].text) != REJECT_NONE ||
            transaction.n_edus != 1 || transaction.edus[0].type != edu_cases[i].type ||
            transaction.edus[0].unjudged != edu_cases[i].unjudged) {
            fail_msg("row failed: %s", edu_cases[i].name);
        }
    }
    assert_int_equal(decode(&transaction, &arena, SPAN_LIT("{\"edus\":{}}")), REJECT_NONE);
    assert_int_equal(transaction.unjudged, UNJUDGED_ODD_SHAPE);
    arena_fini(&arena);
}

static void a_to_device_edu_gives_its_parts(void **state)
{
    struct arena arena;
    struct transaction transaction;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    assert_int_equal(decode(&transaction, &arena, SPAN_LIT(IN(TO_DEVICE("@x:b.example", ONE)))),
                     REJECT_NONE);
    const struct edu *edu = &transaction.edus[0];
    assert_true(span_equal(transaction.origin, SPAN_LIT(ORIGIN)));
    assert_true(span_equal(edu->sender, SPAN_LIT("@x:b.example")));
    assert_true(span_equal(edu->message_id, SPAN_LIT("id")));
    assert_true(span_equal(edu->message_type, SPAN_LIT("m.room.encrypted")));
    assert_int_equal(json_size(edu->messages), 1);
    assert_string_equal(edu_type_label(edu->type), "to_device");
    arena_fini(&arena);
}

static enum reject decode_counts(struct arena *arena, size_t n_pdus, size_t n_edus)
{
    struct transaction transaction;
    struct writer text;

    writer_init(&text, 1 << 16);
    writer_bytes(&text, SPAN_LIT("{\"edus\":["));
    for (size_t i = 0; i < n_edus; i++) {
        writer_bytes(&text, i == 0 ? SPAN_LIT("{}") : SPAN_LIT(",{}"));
    }
    writer_bytes(&text, SPAN_LIT("],\"pdus\":["));
    for (size_t i = 0; i < n_pdus; i++) {
        writer_bytes(&text, i == 0 ? SPAN_LIT("{}") : SPAN_LIT(",{}"));
    }
    writer_bytes(&text, SPAN_LIT("]}"));
    enum reject why = decode(&transaction, arena, writer_span(&text));
    assert_true(why != REJECT_NONE ||
                (transaction.n_pdus == n_pdus && transaction.n_edus == n_edus));
    writer_fini(&text);
    return why;
}

static void fifty_pdus_and_a_hundred_edus_pass_and_no_more(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    assert_int_equal(decode_counts(&arena, 50, 100), REJECT_NONE);
    assert_int_equal(decode_counts(&arena, 51, 0), REJECT_TOO_MANY_PDUS);
    assert_int_equal(decode_counts(&arena, 0, 101), REJECT_TOO_MANY_EDUS);
    arena_fini(&arena);
}

static void without_memory_everything_is_left_unjudged(void **state)
{
    struct arena arena;
    struct arena full;
    struct transaction transaction;
    const struct json_value *root = NULL;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    arena_init(&full, 0);
    assert_int_equal(json_parse(&root, &arena, SPAN_LIT(IN(TO_DEVICE("@x:b.example", ONE)))),
                     JSON_OK);
    assert_int_equal(transaction_decode(&transaction, &full, root, SPAN_LIT(ORIGIN)), REJECT_NONE);
    assert_int_equal(transaction.unjudged, UNJUDGED_PARSE_BUDGET);
    assert_int_equal(transaction.n_edus, 0);
    assert_int_equal(json_parse(&root, &arena, SPAN_LIT("{\"pdus\":[],\"edus\":[]}")), JSON_OK);
    assert_int_equal(transaction_decode(&transaction, &full, root, SPAN_LIT(ORIGIN)), REJECT_NONE);
    assert_int_equal(transaction.unjudged, UNJUDGED_PARSE_BUDGET);
    arena_fini(&full);
    arena_fini(&arena);
}

/* Writes {"n":1, ...} with names in falling order, the last one again at the end if asked. */
static void write_falling(struct writer *out, size_t n, bool repeat)
{
    writer_char(out, '{');
    for (size_t i = n; i > 0; i--) {
        writer_char(out, '"');
        writer_u64(out, 100000 + i);
        writer_bytes(out, SPAN_LIT("\":1,"));
    }
    writer_bytes(out, repeat ? SPAN_LIT("\"100001\":1}") : SPAN_LIT("\"x\":1}"));
}

static void large_objects_out_of_order_are_searched_too(void **state)
{
    static const size_t sizes[] = {1, 2, 15, 16, 17, 1000, 40000};
    struct arena arena;
    struct duplicate_scratch scratch = {.arena = &arena};
    struct writer text;

    (void)state;
    arena_init(&arena, 32 << 20);
    writer_init(&text, 1 << 20);
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
        const struct json_value *root = NULL;
        writer_reset(&text);
        write_falling(&text, sizes[i / 2], i % 2 == 1);
        assert_int_equal(json_parse(&root, &arena, writer_span(&text)), JSON_OK);
        assert_int_equal(duplicate_inside(&scratch, root),
                         i % 2 == 1 ? DUPLICATE_FOUND : DUPLICATE_NONE);
    }
    writer_fini(&text);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_provably_wrong_is_refused_under_its_row),
        cmocka_unit_test(what_is_merely_odd_is_marked),
        cmocka_unit_test(a_to_device_edu_gives_its_parts),
        cmocka_unit_test(fifty_pdus_and_a_hundred_edus_pass_and_no_more),
        cmocka_unit_test(without_memory_everything_is_left_unjudged),
        cmocka_unit_test(large_objects_out_of_order_are_searched_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
