#include "proto/canonical.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ARENA_CAP = 1 << 20, OUTPUT_MAX = 1 << 16 };

struct row {
    const char *name;
    struct span text;
    struct span canonical;
    bool has_odd_number;
};

static const struct row rows[] = {
    {"an empty object", SPAN_INIT(" { } "), SPAN_INIT("{}"), false},
    {"names are sorted by code point, not by UTF-16 unit",
     SPAN_INIT("{\"\xf0\x90\x80\x80\":1,\"\xef\xbf\xbd\":2,\"b\":3,\"a\":4,\"\":5}"),
     SPAN_INIT("{\"\":5,\"a\":4,\"b\":3,\"\xef\xbf\xbd\":2,\"\xf0\x90\x80\x80\":1}"), false},
    {"inner objects are sorted, arrays are not",
     SPAN_INIT("[3,{\"b\":[2,1],\"a\":null},true,false]"),
     SPAN_INIT("[3,{\"a\":null,\"b\":[2,1]},true,false]"), false},
    {"of a name given twice the last stands", SPAN_INIT("{\"b\":0,\"a\":1,\"\\u0061\":{},\"a\":2}"),
     SPAN_INIT("{\"a\":2,\"b\":0}"), false},
    {"escapes are the shortest", SPAN_INIT("\"\\u00e9\\/\\u0008\\u001F\\u007f\\ud83d\\ude00\""),
     SPAN_INIT("\"\xc3\xa9/\\b\\u001f\x7f\xf0\x9f\x98\x80\""), false},
    {"a big integer is no odd number", SPAN_INIT("123456789012345678901234567890"),
     SPAN_INIT("123456789012345678901234567890"), false},
    {"a fraction deep inside", SPAN_INIT("[[[{\"a\":1.50}]]]"), SPAN_INIT("[[[{\"a\":1.50}]]]"),
     true},
    {"an exponent", SPAN_INIT("[1e5]"), SPAN_INIT("[1e5]"), true},
    {"a negative zero", SPAN_INIT("-0"), SPAN_INIT("-0"), true},
    {"a negative fraction of zero", SPAN_INIT("[-0.0]"), SPAN_INIT("[-0.0]"), true},
};

static void every_document_has_the_form_the_row_says(void **state)
{
    struct arena arena;
    struct writer w;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    writer_init(&w, OUTPUT_MAX);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct json_value *root;
        arena_reset(&arena);
        writer_reset(&w);
        assert_int_equal(json_parse(&root, &arena, rows[i].text), JSON_OK);
        if (!canonical_encode(&w, &arena, root) ||
            !span_equal(writer_span(&w), rows[i].canonical) ||
            canonical_has_odd_number(root) != rows[i].has_odd_number) {
            fail_msg("row failed: %s", rows[i].name);
        }
    }
    writer_fini(&w);
    arena_fini(&arena);
}

static void the_deepest_document_is_written(void **state)
{
    char text[2 * JSON_MAX_DEPTH];
    const struct json_value *root;
    struct arena arena;
    struct writer w;

    (void)state;
    memset(text, '[', JSON_MAX_DEPTH);
    memset(text + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH);
    arena_init(&arena, ARENA_CAP);
    writer_init(&w, sizeof text);
    assert_int_equal(json_parse(&root, &arena, span_of(text, sizeof text)), JSON_OK);
    assert_true(canonical_encode(&w, &arena, root));
    assert_true(span_equal(writer_span(&w), span_of(text, sizeof text)));
    assert_false(canonical_has_odd_number(root));
    writer_fini(&w);
    writer_init(&w, sizeof text - 1);
    assert_false(canonical_encode(&w, &arena, root));
    writer_fini(&w);
    arena_fini(&arena);
}

struct check_row {
    const char *name;
    struct span text;
    enum canonical answer;
};

static const struct check_row check_rows[] = {
    {"empty containers", SPAN_INIT("[{},[],\"\"]"), CANONICAL_YES},
    {"a bare literal", SPAN_INIT("false"), CANONICAL_YES},
    {"any number token", SPAN_INIT("[0,-0,1.50,-1E+5,2e-07,12345678901234567890123]"),
     CANONICAL_YES},
    {"every kind of escape", SPAN_INIT("\"\\b\\t\\n\\f\\r\\\"\\\\\\u0000\\u001f/\x7f\""),
     CANONICAL_YES},
    {"characters of two, three and four bytes",
     SPAN_INIT("\"\xc2\x80\xef\xbf\xbf\xf4\x8f\xbf\xbf\""), CANONICAL_YES},
    {"names in the order of what they mean",
     SPAN_INIT("{\"\\u0001\":1,\"\\n\":2,\"\\\"\":3,\"A\":4}"), CANONICAL_YES},
    {"names in the order of their spelling", SPAN_INIT("{\"A\":4,\"\\n\":2}"), CANONICAL_NO},
    {"a name before its own beginning", SPAN_INIT("{\"ab\":1,\"a\":2}"), CANONICAL_NO},
    {"a name given twice", SPAN_INIT("{\"a\":1,\"a\":1}"), CANONICAL_NO},
    {"the empty name given twice", SPAN_INIT("{\"\":1,\"\":1}"), CANONICAL_NO},
    {"the order of an inner object", SPAN_INIT("[{\"a\":{\"c\":1,\"b\":1}}]"), CANONICAL_NO},
    {"nothing", SPAN_INIT(""), CANONICAL_NO},
    {"white space inside", SPAN_INIT("[1, 2]"), CANONICAL_NO},
    {"white space after", SPAN_INIT("{}\n"), CANONICAL_NO},
    {"an escaped slash", SPAN_INIT("\"\\/\""), CANONICAL_NO},
    {"a long escape with a short form", SPAN_INIT("\"\\u000a\""), CANONICAL_NO},
    {"an upper-case escape", SPAN_INIT("\"\\u001F\""), CANONICAL_NO},
    {"an escape that is not needed", SPAN_INIT("\"\\u0041\""), CANONICAL_NO},
    {"an escape cut short", SPAN_INIT("\"\\u00"), CANONICAL_NO},
    {"a raw control character after eight plain ones", SPAN_INIT("\"abcdefgh\x1f\""), CANONICAL_NO},
    {"a raw control character among eight", SPAN_INIT("\"abc\0efghij\""), CANONICAL_NO},
    {"an overlong encoding", SPAN_INIT("\"\xc1\xbf\""), CANONICAL_NO},
    {"an encoded surrogate", SPAN_INIT("\"\xed\xa0\x80\""), CANONICAL_NO},
    {"above U+10FFFF", SPAN_INIT("\"\xf4\x90\x80\x80\""), CANONICAL_NO},
    {"a character cut short", SPAN_INIT("\"\xf0\x9f\x98\""), CANONICAL_NO},
    {"a string without its end", SPAN_INIT("\"abc"), CANONICAL_NO},
    {"a string that ends in a multi-byte character", SPAN_INIT("\"\xc3\xa9"), CANONICAL_NO},
    {"a trailing comma", SPAN_INIT("[1,]"), CANONICAL_NO},
    {"a leading comma", SPAN_INIT("{,\"a\":1}"), CANONICAL_NO},
    {"a name without a value", SPAN_INIT("{\"a\"}"), CANONICAL_NO},
    {"brackets that do not match", SPAN_INIT("[1}"), CANONICAL_NO},
    {"a container without its end", SPAN_INIT("[[]"), CANONICAL_NO},
    {"a leading zero", SPAN_INIT("[01]"), CANONICAL_NO},
    {"a number without digits", SPAN_INIT("[-]"), CANONICAL_NO},
    {"an exponent without digits", SPAN_INIT("[1e+]"), CANONICAL_NO},
    {"a literal misspelled", SPAN_INIT("nul"), CANONICAL_NO},
};

static void the_check_says_what_the_row_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof check_rows / sizeof check_rows[0]; i++) {
        if (canonical_check(check_rows[i].text) != check_rows[i].answer) {
            fail_msg("row failed: %s", check_rows[i].name);
        }
    }
}

static void every_canonical_form_passes_the_check_and_no_other_spelling(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool is_form = span_equal(rows[i].text, rows[i].canonical);
        if (canonical_check(rows[i].canonical) != CANONICAL_YES ||
            (canonical_check(rows[i].text) == CANONICAL_YES) != is_form) {
            fail_msg("row failed: %s", rows[i].name);
        }
    }
}

static void the_check_stops_one_below_the_deepest(void **state)
{
    char text[2 * (JSON_MAX_DEPTH + 1)];

    (void)state;
    memset(text, '[', JSON_MAX_DEPTH + 1);
    memset(text + JSON_MAX_DEPTH + 1, ']', JSON_MAX_DEPTH + 1);
    assert_int_equal(canonical_check(span_of(text + 1, sizeof text - 2)), CANONICAL_YES);
    assert_int_equal(canonical_check(span_of(text, sizeof text)), CANONICAL_TOO_DEEP);
}

static void a_special_byte_is_seen_at_every_place_of_a_word(void **state)
{
    static const char specials[] = {0x00, 0x1f, '"', '\\', (char)0x80, (char)0xff};
    char text[2 + 24];

    (void)state;
    for (size_t at = 1; at <= 24; at++) {
        for (size_t i = 0; i < sizeof specials; i++) {
            memset(text, '~', sizeof text);
            text[0] = text[sizeof text - 1] = '"';
            assert_int_equal(canonical_check(span_of(text, sizeof text)), CANONICAL_YES);
            text[at] = specials[i];
            assert_int_equal(canonical_check(span_of(text, sizeof text)), CANONICAL_NO);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_document_has_the_form_the_row_says),
        cmocka_unit_test(the_deepest_document_is_written),
        cmocka_unit_test(the_check_says_what_the_row_says),
        cmocka_unit_test(every_canonical_form_passes_the_check_and_no_other_spelling),
        cmocka_unit_test(the_check_stops_one_below_the_deepest),
        cmocka_unit_test(a_special_byte_is_seen_at_every_place_of_a_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
