#include "proto/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ARENA_CAP = 32 << 20 };

struct row {
    const char *name;
    struct span text;
    enum json_error error;
};

static const struct row rows[] = {
    {"an object", SPAN_INIT("{\"a\":[1,{}]}"), JSON_OK},
    {"a fraction, an exponent and a negative zero", SPAN_INIT("[1.5,1E5,-0.0]"), JSON_OK},
    {"nothing", SPAN_INIT(""), JSON_MALFORMED},
    {"trailing bytes", SPAN_INIT("{}x"), JSON_MALFORMED},
    {"a trailing comma", SPAN_INIT("[1,]"), JSON_MALFORMED},
    {"a leading zero", SPAN_INIT("[01]"), JSON_MALFORMED},
    {"a lone surrogate", SPAN_INIT("[\"\\ud800\"]"), JSON_MALFORMED},
    {"invalid UTF-8", SPAN_INIT("[\"\xff\"]"), JSON_MALFORMED},
    {"an overlong encoding", SPAN_INIT("[\"\xc0\xaf\"]"), JSON_MALFORMED},
    {"a byte order mark", SPAN_INIT("\xef\xbb\xbf{}"), JSON_MALFORMED},
    {"NaN", SPAN_INIT("[NaN]"), JSON_MALFORMED},
    {"a comment", SPAN_INIT("[]/**/"), JSON_MALFORMED},
    {"a control character in a string", SPAN_INIT("[\"\n\"]"), JSON_MALFORMED},
    {"white space around everything", SPAN_INIT(" \t\r\n{ \"a\" : [ 1 , 2 ] } \n"), JSON_OK},
    {"white space that is none in JSON", SPAN_INIT("[\f1]"), JSON_MALFORMED},
    {"a NUL byte after the document", SPAN_INIT("[]\0"), JSON_MALFORMED},
    {"a string alone", SPAN_INIT("\"a\""), JSON_OK},
    {"two values", SPAN_INIT("1 2"), JSON_MALFORMED},
    {"a comma before the first member", SPAN_INIT("{,\"a\":1}"), JSON_MALFORMED},
    {"a name alone", SPAN_INIT("{\"a\"}"), JSON_MALFORMED},
    {"a name that is a number", SPAN_INIT("{1:1}"), JSON_MALFORMED},
    {"a name without a value", SPAN_INIT("{\"a\":}"), JSON_MALFORMED},
    {"an array closed as an object", SPAN_INIT("[{\"a\":1]}"), JSON_MALFORMED},
    {"an array that is not closed", SPAN_INIT("[[]"), JSON_MALFORMED},
    {"a string that is not closed", SPAN_INIT("[\"abc"), JSON_MALFORMED},
    {"an escape that is cut off", SPAN_INIT("\"\\"), JSON_MALFORMED},
    {"an unknown escape", SPAN_INIT("\"\\v\""), JSON_MALFORMED},
    {"an escape with three digits", SPAN_INIT("\"\\u123\""), JSON_MALFORMED},
    {"an escape with a wrong digit", SPAN_INIT("\"\\u12g4\""), JSON_MALFORMED},
    {"a low surrogate first", SPAN_INIT("\"\\udc00\\ud800\""), JSON_MALFORMED},
    {"a high surrogate before another", SPAN_INIT("\"\\ud800\\udbff\""), JSON_MALFORMED},
    {"a high surrogate before a letter", SPAN_INIT("\"\\ud800\\u0041\""), JSON_MALFORMED},
    {"a surrogate in UTF-8", SPAN_INIT("\"\xed\xa0\x80\""), JSON_MALFORMED},
    {"a character over U+10FFFF", SPAN_INIT("\"\xf4\x90\x80\x80\""), JSON_MALFORMED},
    {"a character that is cut off", SPAN_INIT("\"\xe2\x82\""), JSON_MALFORMED},
    {"an overlong encoding of three bytes", SPAN_INIT("\"\xe0\x9f\xbf\""), JSON_MALFORMED},
    {"a fraction without digits", SPAN_INIT("[1.]"), JSON_MALFORMED},
    {"a number that begins with its fraction", SPAN_INIT("[.5]"), JSON_MALFORMED},
    {"an exponent without digits", SPAN_INIT("[1e+]"), JSON_MALFORMED},
    {"a minus alone", SPAN_INIT("-"), JSON_MALFORMED},
    {"a plus", SPAN_INIT("+1"), JSON_MALFORMED},
    {"a literal that is cut off", SPAN_INIT("tru"), JSON_MALFORMED},
    {"a literal that goes on", SPAN_INIT("[nullx]"), JSON_MALFORMED},
};

/* What a string means, and whether it is a view of the text. */
static const struct {
    struct span text;
    struct span meaning;
    bool is_view;
} strings[] = {
    {SPAN_INIT("\"\""), SPAN_INIT(""), true},
    {SPAN_INIT("\"abc\""), SPAN_INIT("abc"), true},
    {SPAN_INIT("\"\x7f\xc2\x80\xef\xbf\xbf\xf4\x8f\xbf\xbf\""),
     SPAN_INIT("\x7f\xc2\x80\xef\xbf\xbf\xf4\x8f\xbf\xbf"), true},
    {SPAN_INIT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), SPAN_INIT("\"\\/\b\f\n\r\t"), false},
    {SPAN_INIT("\"\\u0000\\u007F\\u0080\\u07ff\""), SPAN_INIT("\0\x7f\xc2\x80\xdf\xbf"), false},
    {SPAN_INIT("\"\\u0800\\ud7FF\\uE000\\uffff\""),
     SPAN_INIT("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"), false},
    {SPAN_INIT("\"\\ud800\\udc00\\uDBFF\\uDFFF\""), SPAN_INIT("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"),
     false},
    {SPAN_INIT("\"before\\u0041\xc3\xa9\\nafter\""), SPAN_INIT("beforeA\xc3\xa9\nafter"), false},
};

static enum json_error parse(const struct json_value **out, struct arena *arena, struct span text)
{
    arena_reset(arena);
    return json_parse(out, arena, text);
}

static void every_text_is_what_the_row_says(void **state)
{
    const struct json_value *root;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum json_error got = parse(&root, *state, rows[i].text);
        if (got != rows[i].error) {
            fail_msg("row failed: %s", rows[i].name);
        }
    }
}

static void depth_and_count_are_bounded(void **state)
{
    static char deep[2 * 300];
    static char wide[2 * (JSON_MAX_VALUES + 2)];
    const struct json_value *root;

    for (size_t depth = 1; depth <= 300; depth++) {
        memset(deep, '[', depth);
        memset(deep + depth, ']', depth);
        assert_int_equal(parse(&root, *state, span_of(deep, 2 * depth)),
                         depth <= JSON_MAX_DEPTH ? JSON_OK : JSON_TOO_DEEP);
    }
    for (size_t n = JSON_MAX_VALUES - 1; n <= JSON_MAX_VALUES; n++) {
        memset(wide, ',', 2 * n + 1);
        for (size_t i = 0; i < n; i++) {
            wide[1 + 2 * i] = '1';
        }
        wide[0] = '[';
        wide[2 * n] = ']';
        assert_int_equal(parse(&root, *state, span_of(wide, 2 * n + 1)),
                         n < JSON_MAX_VALUES ? JSON_OK : JSON_TOO_MANY);
    }
}

static size_t put(char *text, size_t at, struct span bytes)
{
    memcpy(text + at, bytes.data, bytes.size);
    return at + bytes.size;
}

static bool is_object_at(size_t level)
{
    return level % 3 != 0;
}

static void what_is_malformed_is_so_however_deep(void **state)
{
    enum { LEVELS = 1000 };
    static char text[LEVELS * (sizeof "{\"a\":" + 1)];
    const struct json_value *root;
    size_t n = 0;

    for (size_t i = 0; i < LEVELS; i++) {
        n = put(text, n, is_object_at(i) ? SPAN_LIT("{\"a\":") : SPAN_LIT("["));
    }
    n = put(text, n, SPAN_LIT("1"));
    for (size_t i = LEVELS; i > 0; i--) {
        n = put(text, n, is_object_at(i - 1) ? SPAN_LIT("}") : SPAN_LIT("]"));
    }
    assert_int_equal(parse(&root, *state, span_of(text, n)), JSON_TOO_DEEP);
    assert_int_equal(parse(&root, *state, span_of(text, n - 1)), JSON_MALFORMED);
    for (size_t i = n - LEVELS; i < n; i++) {
        char right = text[i];
        text[i] = right == '}' ? ']' : '}';
        assert_int_equal(parse(&root, *state, span_of(text, n)), JSON_MALFORMED);
        text[i] = right;
    }
}

/* Of documents as large as a body may be. */
static void memory_is_bounded_by_the_number_of_values(void **state)
{
    enum { N_STRINGS = 2 << 20, ENOUGH = 8 << 20 /* bytes */ };
    const size_t half = (size_t)6 << 20;
    char *text = malloc(2 * half);
    struct arena arena;
    const struct json_value *root;
    size_t n = 0;

    (void)state;
    assert_non_null(text);
    memset(text, '[', half);
    memset(text + half, ']', half);
    arena_init(&arena, ENOUGH);
    assert_int_equal(parse(&root, &arena, span_of(text, 2 * half)), JSON_TOO_MANY);
    assert_int_equal(parse(&root, &arena, span_of(text, 2 * half - 1)), JSON_MALFORMED);
    n = put(text, n, SPAN_LIT("["));
    for (size_t i = 0; i < N_STRINGS; i++) {
        n = put(text, n, SPAN_LIT("\"\\n\","));
    }
    n = put(text, n, SPAN_LIT("1]"));
    assert_int_equal(parse(&root, &arena, span_of(text, n)), JSON_TOO_MANY);
    assert_int_equal(parse(&root, &arena, span_of(text, n - 1)), JSON_MALFORMED);
    arena_fini(&arena);
    free(text);
}

static void siblings_of_deep_values_do_not_add_to_the_depth(void **state)
{
    static char text[1000 * 5 + 2];
    const char rows_of_lists[5] = {'[', '[', ']', ']', ','};
    const struct json_value *root;

    memset(text, 0, sizeof text);
    text[0] = '[';
    for (size_t i = 0; i < 1000; i++) {
        memmove(text + 1 + 5 * i, rows_of_lists, 5);
    }
    text[5000] = ']';
    assert_int_equal(parse(&root, *state, span_of(text, 5001)), JSON_OK);
    assert_int_equal(json_size(root), 1000);
}

static void strings_mean_what_the_row_says(void **state)
{
    const struct json_value *root;

    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        struct span text = strings[i].text;
        assert_int_equal(parse(&root, *state, text), JSON_OK);
        struct span got = json_string(root);
        bool is_view = got.data > text.data && got.data < text.data + text.size;
        if (!span_equal(got, strings[i].meaning) || is_view != strings[i].is_view) {
            fail_msg("row failed: %s", text.data);
        }
    }
}

/* Whatever the words and blocks in which strings are looked through; no byte beyond is read. */
static void every_byte_counts_wherever_it_stands(void **state)
{
    enum { SIZE = 200 };
    const struct json_value *root;

    for (size_t size = 2; size < SIZE; size++) {
        char *text = malloc(size);
        assert_non_null(text);
        memset(text, 'x', size);
        text[0] = text[size - 1] = '"';
        assert_int_equal(parse(&root, *state, span_of(text, size)), JSON_OK);
        assert_int_equal(json_string(root).size, size - 2);
        assert_int_equal(parse(&root, *state, span_of(text, size - 1)), JSON_MALFORMED);
        for (int byte = 0; size > 2 && byte < 256; byte++) {
            size_t at = 1 + ((size_t)byte * 7 + size) % (size - 2);
            text[at] = (char)byte;
            bool is_plain = byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
            assert_int_equal(parse(&root, *state, span_of(text, size)),
                             is_plain ? JSON_OK : JSON_MALFORMED);
            text[at] = 'x';
        }
        free(text);
    }
}

static const struct {
    struct span text;
    bool is_sorted, throughout;
} orders[] = {
    {SPAN_INIT("{}"), true, true},
    {SPAN_INIT("1"), true, true},
    {SPAN_INIT("{\"a\":1,\"b\":2}"), true, true},
    {SPAN_INIT("{\"b\":1,\"a\":2}"), false, false},
    {SPAN_INIT("{\"a\":1,\"a\":2}"), false, false},
    {SPAN_INIT("{\"\":1,\"\":2}"), false, false},
    {SPAN_INIT("{\"a\":1,\"c\":2,\"b\":3}"), false, false},
    {SPAN_INIT("{\"ab\":1,\"abc\":2,\"abcdefgh\":3,\"abcdefghi\":4}"), true, true},
    {SPAN_INIT("{\"abcdefghi\":1,\"abcdefgh\":2}"), false, false},
    {SPAN_INIT("{\"abcdefgh1\":1,\"abcdefgh2\":2}"), true, true},
    {SPAN_INIT("{\"abcdefgh2\":1,\"abcdefgh1\":2}"), false, false},
    {SPAN_INIT("{\"abcdefgh1\":1,\"abcdefgh1\":2}"), false, false},
    {SPAN_INIT("{\"abcde\":1,\"abcdf\":2}"), true, true},
    {SPAN_INIT("{\"a\":1,\"a\\u0000\":2}"), true, true},
    {SPAN_INIT("{\"a\\u0000\":1,\"a\":2}"), false, false},
    {SPAN_INIT("{\"z\":1,\"\xc3\xa9\":2}"), true, true},
    {SPAN_INIT("{\"\\u00e9\":1,\"z\":2}"), false, false},
    {SPAN_INIT("{\"a\":{\"y\":1,\"x\":2},\"b\":2}"), true, false},
    {SPAN_INIT("{\"a\":[[{\"y\":1,\"y\":2}]],\"b\":2}"), true, false},
    {SPAN_INIT("[{\"a\":1},{\"b\":1,\"a\":1},{\"a\":1}]"), true, false},
    {SPAN_INIT("{\"b\":{\"a\":1,\"c\":2},\"a\":{}}"), false, false},
    {SPAN_INIT("{\"b\":{\"z\":{}},\"c\":{\"a\":{}}}"), true, true},
};

static const struct {
    struct span text;
    bool is_canonical;
} spellings[] = {
    {SPAN_INIT("{\"a\":[1,true,null,\"x\"],\"b\":{\"\":-1.50E+1}}"), true},
    {SPAN_INIT("\"\\b\\t\\n\\f\\r\\\"\\\\\\u001f\xc3\xa9\""), true},
    {SPAN_INIT("{\"\\n\":1,\"A\":2}"), true},
    {SPAN_INIT("{\"a\": 1}"), false},
    {SPAN_INIT("{ }"), false},
    {SPAN_INIT("[]\n"), false},
    {SPAN_INIT(" 1"), false},
    {SPAN_INIT("{\"b\":1,\"a\":1}"), false},
    {SPAN_INIT("[{\"a\":1,\"a\":1}]"), false},
    {SPAN_INIT("\"\\/\""), false},
    {SPAN_INIT("\"\\u000a\""), false},
    {SPAN_INIT("\"\\u001F\""), false},
    {SPAN_INIT("\"\\u0041\""), false},
    {SPAN_INIT("\"\\u00e9\""), false},
    {SPAN_INIT("{\"\\u0061\":1}"), false},
};

static void a_canonical_text_is_noted(void **state)
{
    const struct json_value *root;

    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        assert_int_equal(parse(&root, *state, spellings[i].text), JSON_OK);
        if (json_is_canonical(root) != spellings[i].is_canonical) {
            fail_msg("row failed: %s", spellings[i].text.data);
        }
    }
}

static void the_order_of_names_is_noted(void **state)
{
    const struct json_value *root;

    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        assert_int_equal(parse(&root, *state, orders[i].text), JSON_OK);
        if (json_is_sorted(root) != orders[i].is_sorted ||
            json_is_sorted_throughout(root) != orders[i].throughout) {
            fail_msg("row failed: %s", orders[i].text.data);
        }
    }
}

static void an_arena_too_small_is_no_room(void **state)
{
    struct arena arena;
    const struct json_value *root;

    (void)state;
    arena_init(&arena, 64);
    assert_int_equal(json_parse(&root, &arena, SPAN_LIT("[1,2,3,4,5,6,7,8,9]")), JSON_NO_ROOM);
    arena_fini(&arena);
}

static void members_are_found_and_iterated_in_order(void **state)
{
    const struct json_value *root;
    const struct json_value *value;
    struct span name;
    char seen[8] = "";
    size_t n = 0;

    assert_int_equal(parse(&root, *state, SPAN_LIT("{\"a\":[1,[2]],\"b\":\"x\\u0000y\",\"c\":-7}")),
                     JSON_OK);
    struct json_iter iter = json_iterate(root);
    while (json_next(&iter, &name, &value)) {
        seen[n++] = name.data[0];
    }
    assert_string_equal(seen, "abc");
    assert_true(span_equal(json_get_string(root, SPAN_LIT("b")), SPAN_LIT("x\0y")));
    assert_null(json_get_string(root, SPAN_LIT("a")).data);
    assert_null(json_get(root, SPAN_LIT("d")));
    assert_null(json_get(NULL, SPAN_LIT("d")));
    assert_false(json_next(&(struct json_iter){0}, &name, &value));
    assert_int_equal(json_type(json_get(root, SPAN_LIT("c"))), JSON_NUMBER);
}

static void only_plain_integers_in_range_are_integers(void **state)
{
    static const struct {
        struct span text;
        bool is_integer;
        int64_t value;
    } numbers[] = {
        {SPAN_INIT("0"), true, 0},
        {SPAN_INIT("-1"), true, -1},
        {SPAN_INIT("9007199254740991"), true, INT64_C(9007199254740991)},
        {SPAN_INIT("-9007199254740991"), true, -INT64_C(9007199254740991)},
        {SPAN_INIT("9007199254740992"), false, 0},
        {SPAN_INIT("99999999999999999999999"), false, 0},
        {SPAN_INIT("-0"), false, 0},
        {SPAN_INIT("1.0"), false, 0},
        {SPAN_INIT("1e3"), false, 0},
        {SPAN_INIT("\"1\""), false, 0},
        {SPAN_INIT("null"), false, 0},
    };
    const struct json_value *root;

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        int64_t value = 0;
        assert_int_equal(parse(&root, *state, numbers[i].text), JSON_OK);
        if (json_integer(&value, root) != numbers[i].is_integer || value != numbers[i].value) {
            fail_msg("row failed: %s", numbers[i].text.data);
        }
    }
}

static void a_name_given_twice_is_seen_in_its_own_object_only(void **state)
{
    const struct json_value *root;

    assert_int_equal(parse(&root, *state, SPAN_LIT("{\"a\":1,\"b\":2,\"\\u0061\":3}")), JSON_OK);
    assert_true(json_has_duplicate(root));
    assert_int_equal(parse(&root, *state, SPAN_LIT("{\"a\":{\"x\":1,\"x\":1},\"b\":2}")), JSON_OK);
    assert_false(json_has_duplicate(root));
    assert_false(json_has_duplicate(NULL));
}

static int set_up(void **state)
{
    static struct arena arena;

    arena_init(&arena, ARENA_CAP);
    *state = &arena;
    return 0;
}

static int tear_down(void **state)
{
    arena_fini(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_text_is_what_the_row_says),
        cmocka_unit_test(depth_and_count_are_bounded),
        cmocka_unit_test(what_is_malformed_is_so_however_deep),
        cmocka_unit_test(memory_is_bounded_by_the_number_of_values),
        cmocka_unit_test(siblings_of_deep_values_do_not_add_to_the_depth),
        cmocka_unit_test(strings_mean_what_the_row_says),
        cmocka_unit_test(every_byte_counts_wherever_it_stands),
        cmocka_unit_test(the_order_of_names_is_noted),
        cmocka_unit_test(a_canonical_text_is_noted),
        cmocka_unit_test(an_arena_too_small_is_no_room),
        cmocka_unit_test(members_are_found_and_iterated_in_order),
        cmocka_unit_test(only_plain_integers_in_range_are_integers),
        cmocka_unit_test(a_name_given_twice_is_seen_in_its_own_object_only),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
