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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_document_has_the_form_the_row_says),
        cmocka_unit_test(the_deepest_document_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
