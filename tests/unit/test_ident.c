#include "proto/ident.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct row {
    struct span text;
    bool is_valid;
};

static const struct row server_names[] = {
    {SPAN_INIT("matrix.org"), true},
    {SPAN_INIT("a.example"), true},
    {SPAN_INIT("a.example:8448"), true},
    {SPAN_INIT("[::1]:8448"), true},
    {SPAN_INIT("8448"), true},
    {SPAN_INIT("matrix.org:8888"), true},
    {SPAN_INIT("1.2.3.4"), true},
    {SPAN_INIT("1.2.3.4:1234"), true},
    {SPAN_INIT("[1234:5678::abcd]"), true},
    {SPAN_INIT("[1234:5678::abcd]:5678"), true},
    {SPAN_INIT("[::1.2.3.4]"), true},
    {SPAN_INIT(""), false},
    {SPAN_INIT(":8448"), false},
    {SPAN_INIT("a.example:"), false},
    {SPAN_INIT("a.example:123456"), false},
    {SPAN_INIT("a.example:12a"), false},
    {SPAN_INIT("a.example:-1"), false},
    {SPAN_INIT("a_b.example"), false},
    {SPAN_INIT("a.example/"), false},
    {SPAN_INIT("a.example@b"), false},
    {SPAN_INIT("a.example "), false},
    {SPAN_INIT("\xc3\xa9.example"), false},
    {SPAN_INIT("[::1"), false},
    {SPAN_INIT("[]"), false},
    {SPAN_INIT("[:]"), false},
    {SPAN_INIT("[::1]x"), false},
    {SPAN_INIT("["), false},
    {SPAN_INIT("a\0b"), false},
};

static const struct row user_ids[] = {
    {SPAN_INIT("@alice:a.example"), true},
    {SPAN_INIT("@alice:a.example:8448"), true},
    {SPAN_INIT("@alice:[::1]:8448"), true},
    {SPAN_INIT("@:a.example"), true},
    {SPAN_INIT("@\xc3\x89 historical!:a.example"), true},
    {SPAN_INIT(""), false},
    {SPAN_INIT("@"), false},
    {SPAN_INIT("@alice"), false},
    {SPAN_INIT("@alice:"), false},
    {SPAN_INIT("alice:a.example"), false},
    {SPAN_INIT("@al\0ice:a.example"), false},
    {SPAN_INIT("@alice:a.example/x"), false},
};

static void server_names_follow_the_grammar(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof server_names / sizeof server_names[0]; i++) {
        if (server_name_is_valid(server_names[i].text) != server_names[i].is_valid) {
            fail_msg("row failed: %s", server_names[i].text.data);
        }
    }
}

static void user_ids_split_at_the_first_colon(void **state)
{
    struct user_id id;

    (void)state;
    for (size_t i = 0; i < sizeof user_ids / sizeof user_ids[0]; i++) {
        if (user_id_parse(&id, user_ids[i].text) != user_ids[i].is_valid) {
            fail_msg("row failed: %s", user_ids[i].text.data);
        }
    }
    assert_true(user_id_parse(&id, SPAN_LIT("@alice:[::1]:8448")));
    assert_true(span_equal(id.whole, SPAN_LIT("@alice:[::1]:8448")));
    assert_true(span_equal(id.localpart, SPAN_LIT("alice")));
    assert_true(span_equal(id.server, SPAN_LIT("[::1]:8448")));
}

static void whose_a_user_id_is_agrees_with_its_parts(void **state)
{
    size_t n_of = 0;

    (void)state;
    for (size_t i = 0; i < sizeof user_ids / sizeof user_ids[0]; i++) {
        for (size_t j = 0; j < sizeof server_names / sizeof server_names[0]; j++) {
            struct user_id id;
            struct span server = server_names[j].text;
            if (!server_names[j].is_valid) {
                continue;
            }
            bool is_of = user_id_parse(&id, user_ids[i].text) && span_equal(id.server, server);
            assert_int_equal(user_id_is_of(user_ids[i].text, server), is_of);
            n_of += is_of;
        }
    }
    assert_int_equal(n_of, 5);
}

static void identifiers_end_at_255_bytes(void **state)
{
    char text[IDENT_MAX + 1];
    struct user_id id;

    (void)state;
    memset(text, 'a', sizeof text);
    assert_true(server_name_is_valid(span_of(text, IDENT_MAX)));
    assert_false(server_name_is_valid(span_of(text, IDENT_MAX + 1)));
    text[0] = '@';
    text[2] = ':';
    assert_true(user_id_parse(&id, span_of(text, IDENT_MAX)));
    assert_false(user_id_parse(&id, span_of(text, IDENT_MAX + 1)));
    assert_true(user_id_is_of(span_of(text, IDENT_MAX), span_of(text + 3, IDENT_MAX - 3)));
    assert_false(user_id_is_of(span_of(text, IDENT_MAX + 1), span_of(text + 3, IDENT_MAX - 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(server_names_follow_the_grammar),
        cmocka_unit_test(user_ids_split_at_the_first_colon),
        cmocka_unit_test(whose_a_user_id_is_agrees_with_its_parts),
        cmocka_unit_test(identifiers_end_at_255_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
