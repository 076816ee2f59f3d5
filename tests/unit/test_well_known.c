#include "proto/well_known.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ARENA_CAP = 1 << 20, NOW_S = 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */ };

static void a_document_delegates_to_a_server_name_or_is_none(void **state)
{
    static const struct {
        const char *body;
        const char *name; /* NULL: none */
    } rows[] = {
        {"{\"m.server\":\"a.test\"}", "a.test"},
        {" {\"x\":1, \"m.server\" : \"a.test:443\"} ", "a.test:443"},
        {"{\"m.server\":\"[::1]:8448\"}", "[::1]:8448"},
        {"{\"m.server\":\"a\\u002etest\"}", "a.test"},
        {"{\"m.server\":\"\"}", NULL},
        {"{\"m.server\":\"a test\"}", NULL},
        {"{\"m.server\":\"https://a.test\"}", NULL},
        {"{\"m.server\":\"a.test/\"}", NULL},
        {"{\"m.server\":\"a.test\\u0000\"}", NULL},
        {"{\"m.server\":[\"a.test\"]}", NULL},
        {"{\"m.server\":\"a.test\",\"m.server\":\"a.test\"}", NULL},
        {"{\"M.server\":\"a.test\"}", NULL},
        {"\"a.test\"", NULL},
        {"{\"m.server\":\"a.test\"", NULL},
        {"", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct arena arena;
        struct span name;
        arena_init(&arena, ARENA_CAP);
        bool is_usable = well_known_decode(&name, &arena, span_str(rows[i].body));
        if (is_usable != (rows[i].name != NULL) ||
            (is_usable && !span_equal(name, span_str(rows[i].name)))) {
            fail_msg("%s", rows[i].body);
        }
        arena_fini(&arena);
    }
}

static void a_document_of_more_than_50_kib_is_none(void **state)
{
    static const char start[] = "{\"m.server\":\"a.test\"}";
    static char body[WELL_KNOWN_SIZE_MAX + 1];
    struct span name;

    (void)state;
    memset(body, ' ', sizeof body);
    memcpy(body, start, sizeof start - 1);
    for (size_t extra = 0; extra < 2; extra++) {
        struct arena arena;
        arena_init(&arena, ARENA_CAP);
        bool is_usable =
            well_known_decode(&name, &arena, span_of(body, WELL_KNOWN_SIZE_MAX + extra));
        assert_int_equal(is_usable, extra == 0);
        arena_fini(&arena);
    }
}

static void headers_say_how_long(void **state)
{
    static const struct {
        const char *cache_control, *expires;
        int64_t seconds;
    } rows[] = {
        {"", "", -1},
        {"public", "", -1},
        {"max-age=60", "", 60},
        {"public, MAX-AGE=60", "", 60},
        {"max-age=\"60\"", "", 60},
        {" max-age=0 ", "", 0},
        {"max-age=x", "", 0},
        {"max-age=-1", "", 0},
        {"max-age=99999999999999999999999", "", 1000000000},
        {"x-max-age=60", "", -1},
        {"s-maxage=60", "", -1},
        {"max-age=60, no-store", "", 0},
        {"no-cache", "Sun, 06 Nov 2094 08:49:37 GMT", 0},
        {"max-age=5", "Sun, 06 Nov 2094 08:49:37 GMT", 5},
        {"", "Sun, 06 Nov 1994 08:49:38 GMT", 1},
        {"public", "Sun, 06 Nov 1994 08:49:38 GMT", 1},
        {"", "Sun, 06 Nov 1994 08:49:37 GMT", 0},
        {"", "Sun, 06 Nov 1994 08:49:36 GMT", 0},
        {"", "Mon, 07 Nov 1994 08:49:37 GMT", 86400},
        {"", "Fri, 01 Mar 1996 08:49:37 GMT", 41558400}, /* after a leap day */
        {"", "Sun, 06 Nov 1995 08:49:37 GMT", 31536000}, /* the weekday is not read */
        {"", "0", 0},
        {"", "Sunday, 06-Nov-95 08:49:37 GMT", 0},
        {"", "Sun, 06 Nov 1995 08:49:37 CET", 0},
        {"", "Sun, 06 Foo 1995 08:49:37 GMT", 0},
        {"", "Sun, 06 Nov 1995 24:49:37 GMT", 0},
        {"", "Sun, 00 Nov 1995 08:49:37 GMT", 0},
        {"", "Sun, a6 Nov 1995 08:49:37 GMT", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t got =
            http_lifetime_s(span_str(rows[i].cache_control), span_str(rows[i].expires), NOW_S);
        if (got != rows[i].seconds) {
            fail_msg("%s | %s: %lld", rows[i].cache_control, rows[i].expires, (long long)got);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_document_delegates_to_a_server_name_or_is_none),
        cmocka_unit_test(a_document_of_more_than_50_kib_is_none),
        cmocka_unit_test(headers_say_how_long),
    };

    return cmocka_run_group_tests_name("well_known", tests, NULL, NULL);
}
