#include "proto/arena.h"
#include "proto/base64.h"
#include "proto/writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void the_cap_is_hard_and_a_reset_gives_it_back(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena, 100000);
    assert_non_null(arena_alloc(&arena, 60000));
    assert_null(arena_alloc(&arena, 60000));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_calloc(&arena, SIZE_MAX / 2, 3));
    arena_reset(&arena);
    size_t n_mallocs = arena.n_mallocs;
    assert_non_null(arena_alloc(&arena, 60000));
    assert_int_equal(arena.n_mallocs, n_mallocs);
    arena_fini(&arena);
}

static void the_newest_allocation_grows_in_place(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena, 4096);
    char *first = arena_alloc(&arena, 16);
    (void)snprintf(first, 16, "0123456789abcde");
    assert_ptr_equal(arena_realloc(&arena, first, 16, 64), first);
    assert_non_null(arena_alloc(&arena, 1));
    char *moved = arena_realloc(&arena, first, 64, 128);
    assert_true(moved != first);
    assert_string_equal(moved, "0123456789abcde");
    assert_null(arena_realloc(&arena, moved, 128, 1 << 20));
    assert_null(arena_realloc(&arena, moved, 128, SIZE_MAX - 1));
    arena_fini(&arena);
}

static void a_copy_of_nothing_has_data(void **state)
{
    static const char large[1000];
    struct arena arena;

    (void)state;
    arena_init(&arena, 64);
    assert_non_null(arena_copy(&arena, (struct span){0}).data);
    assert_null(arena_copy(&arena, span_of(large, sizeof large)).data);
    arena_fini(&arena);
}

static void room_in_a_writer_is_not_moved_again(void **state)
{
    struct writer w;

    (void)state;
    writer_init(&w, 1000);
    writer_reserve(&w, 1001); /* more than it may ever have */
    assert_null(w.data);
    writer_reserve(&w, 1000);
    const char *room = w.data;
    for (int i = 0; i < 100; i++) {
        writer_bytes(&w, SPAN_LIT("0123456789"));
        writer_reserve(&w, 10);
    }
    assert_true(!w.failed && w.size == 1000 && w.data == room);
    writer_fini(&w);
}

static void the_first_failure_of_a_writer_sticks(void **state)
{
    struct writer w;

    (void)state;
    writer_init(&w, 5);
    writer_bytes(&w, SPAN_LIT("123456"));
    writer_char(&w, 'x');
    assert_true(w.failed && w.size == 0);
    writer_reset(&w);
    writer_i64(&w, -1234);
    assert_true(!w.failed && span_equal(writer_span(&w), SPAN_LIT("-1234")));
    writer_fini(&w);
}

static void numbers_are_written_to_their_ends(void **state)
{
    struct writer w;

    (void)state;
    writer_init(&w, 100);
    writer_i64(&w, INT64_MIN);
    writer_char(&w, ' ');
    writer_u64(&w, UINT64_MAX);
    assert_true(span_equal(writer_span(&w), SPAN_LIT("-9223372036854775808 18446744073709551615")));
    writer_fini(&w);
}

static void strings_have_the_shortest_escapes(void **state)
{
    struct writer w;

    (void)state;
    writer_init(&w, 100);
    writer_json_string(&w, SPAN_LIT("a\b\t\n\f\r\"\\/\x01\x1f\x7f\0z"));
    assert_true(span_equal(writer_span(&w),
                           SPAN_LIT("\"a\\b\\t\\n\\f\\r\\\"\\\\/\\u0001\\u001f\x7f\\u0000z\"")));
    writer_fini(&w);
}

static void base64_takes_what_honest_servers_write(void **state)
{
    static const struct {
        const char *name;
        const char *text;
        bool accepted;
        size_t n;
    } rows[] = {
        {"empty", "", true, 0},
        {"one byte", "YQ", true, 1},
        {"one byte, padded", "YQ==", true, 1},
        {"half padded", "YQ=", false, 0},
        {"padding alone", "====", false, 0},
        {"two bytes, padded", "YWI=", true, 2},
        {"left-over bits", "YR", true, 1},
        {"one digit", "Y", false, 0},
        {"URL-safe", "-_-_", true, 3},
        {"white space", "YQ ", false, 0},
        {"too long for its place", "AAAAAAAAAAAAAAAA", false, 0},
    };
    uint8_t out[8];
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool accepted = base64_decode(out, sizeof out, &n, span_str(rows[i].text));
        if (accepted != rows[i].accepted || (accepted && n != rows[i].n)) {
            fail_msg("row failed: %s", rows[i].name);
        }
    }
}

static void base64_comes_back(void **state)
{
    uint8_t bytes[64];
    uint8_t back[64];
    struct writer w;
    size_t n = 0;

    (void)state;
    writer_init(&w, 100);
    for (size_t size = 0; size <= sizeof bytes; size++) {
        memset(bytes, (int)(size * 37), sizeof bytes);
        writer_reset(&w);
        base64_encode(&w, bytes, size);
        assert_true(base64_decode(back, sizeof back, &n, writer_span(&w)));
        assert_int_equal(n, size);
        assert_memory_equal(back, bytes, size);
    }
    writer_fini(&w);
}

static void case_is_ignored_of_ascii_letters_alone(void **state)
{
    static const struct {
        const char *name;
        struct span a, b;
        bool is_equal;
    } rows[] = {
        {"nothing", SPAN_INIT(""), SPAN_INIT(""), true},
        {"all letters", SPAN_INIT("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
         SPAN_INIT("abcdefghijklmnopqrstuvwxyz"), true},
        {"the same", SPAN_INIT("x-Matrix 1\xff"), SPAN_INIT("X-mATRIX 1\xff"), true},
        {"another size", SPAN_INIT("host"), SPAN_INIT("hosts"), false},
        {"the last byte differs", SPAN_INIT("hosT"), SPAN_INIT("hosu"), false},
        {"the first byte differs", SPAN_INIT("host"), SPAN_INIT("gost"), false},
        {"after a NUL", SPAN_INIT("a\0b"), SPAN_INIT("a\0c"), false},
        {"after a NUL, only the case", SPAN_INIT("a\0b"), SPAN_INIT("A\0B"), true},
        {"a NUL at the start", SPAN_INIT("\0b"), SPAN_INIT("\0c"), false},
        {"before the letters", SPAN_INIT("@"), SPAN_INIT("`"), false},
        {"after the letters", SPAN_INIT("["), SPAN_INIT("{"), false},
        {"Latin-1", SPAN_INIT("\xc4"), SPAN_INIT("\xe4"), false},
        {"UTF-8", SPAN_INIT("\xc3\x84"), SPAN_INIT("\xc3\xa4"), false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (span_equal_nocase(rows[i].a, rows[i].b) != rows[i].is_equal ||
            span_equal_nocase(rows[i].b, rows[i].a) != rows[i].is_equal) {
            fail_msg("row failed: %s", rows[i].name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cap_is_hard_and_a_reset_gives_it_back),
        cmocka_unit_test(the_newest_allocation_grows_in_place),
        cmocka_unit_test(a_copy_of_nothing_has_data),
        cmocka_unit_test(room_in_a_writer_is_not_moved_again),
        cmocka_unit_test(the_first_failure_of_a_writer_sticks),
        cmocka_unit_test(numbers_are_written_to_their_ends),
        cmocka_unit_test(strings_have_the_shortest_escapes),
        cmocka_unit_test(base64_takes_what_honest_servers_write),
        cmocka_unit_test(base64_comes_back),
        cmocka_unit_test(case_is_ignored_of_ascii_letters_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
