#include "admin/endpoint.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define USERS "/admin/v1/servers/a.example/users/"
#define A64   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void a_target_means_one_endpoint_or_none(void **state)
{
    (void)state;
    static const struct {
        const char *target;
        enum endpoint endpoint;
    } rows[] = {
        {"/livez", ENDPOINT_LIVEZ},
        {"/readyz?verbose", ENDPOINT_READYZ},
        {"/metrics", ENDPOINT_METRICS},
        {"/", ENDPOINT_NONE},
        {"", ENDPOINT_NONE},
        {"livez", ENDPOINT_NONE},
        {"/livez/", ENDPOINT_NONE},
        {"//livez", ENDPOINT_NONE},
        {"/Livez", ENDPOINT_NONE},
        {"/%6civez", ENDPOINT_NONE},
        {USERS "@alice:a.example/devices", ENDPOINT_DEVICES},
        {USERS "%40alice%3Aa.example/devices", ENDPOINT_DEVICES},
        {USERS "%40alice%3aa.example/devices?x=/y", ENDPOINT_DEVICES},
        {USERS "@a%2Fb:a.example/devices", ENDPOINT_DEVICES},
        {USERS "@a/b:a.example/devices", ENDPOINT_NONE},
        {USERS "@alice:a.example/devices/", ENDPOINT_NONE},
        {USERS "@alice:a.example/device", ENDPOINT_NONE},
        {USERS "@alice:a.example", ENDPOINT_NONE},
        {USERS "alice/devices", ENDPOINT_NONE},
        {USERS "/devices", ENDPOINT_NONE},
        {USERS "@alice:a.example%/devices", ENDPOINT_NONE},
        {USERS "@alice:a.example%4/devices", ENDPOINT_NONE},
        {USERS "@alice:a.example%zz/devices", ENDPOINT_NONE},
        {USERS "@ali%00ce:a.example/devices", ENDPOINT_NONE},
        {USERS "@" A64 A64 A64 A64 ":a.example/devices", ENDPOINT_NONE},
        {"/admin/v1/servers/a%20b/users/@alice:a.example/devices", ENDPOINT_NONE},
        {"/admin/v1/servers//users/@alice:a.example/devices", ENDPOINT_NONE},
        {"/admin/v1/servers/a.example/user/@alice:a.example/devices", ENDPOINT_NONE},
        {"/admin/v2/servers/a.example/users/@alice:a.example/devices", ENDPOINT_NONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct endpoint_target found;
        endpoint_find(&found, span_str(rows[i].target));
        if (found.endpoint != rows[i].endpoint) {
            print_error("'%s' means %d\n", rows[i].target, (int)found.endpoint);
            fail();
        }
    }
}

static void names_in_the_path_are_decoded(void **state)
{
    (void)state;
    struct endpoint_target found;

    endpoint_find(&found, SPAN_LIT("/admin/v1/servers/%5B%3A%3A1%5D%3A8448/users/"
                                   "%40a%2Fb%20%25%3A%5b::1%5d:8448/devices"));
    assert_int_equal(found.endpoint, ENDPOINT_DEVICES);
    assert_true(span_equal(found.server, SPAN_LIT("[::1]:8448")));
    assert_true(span_equal(found.user, SPAN_LIT("@a/b %:[::1]:8448")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_means_one_endpoint_or_none),
        cmocka_unit_test(names_in_the_path_are_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
