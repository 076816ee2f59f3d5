#include "proto/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

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
        cmocka_unit_test(siblings_of_deep_values_do_not_add_to_the_depth),
        cmocka_unit_test(an_arena_too_small_is_no_room),
        cmocka_unit_test(members_are_found_and_iterated_in_order),
        cmocka_unit_test(only_plain_integers_in_range_are_integers),
        cmocka_unit_test(a_name_given_twice_is_seen_in_its_own_object_only),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
