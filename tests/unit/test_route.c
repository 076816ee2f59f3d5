#include "inbound/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

struct row {
    const char *name;
    const char *method;
    const char *target;
    enum route_class class;
    enum reject why;
};

static const struct row rows[] = {
    {"our own health page", "GET", "/health", ROUTE_HEALTH, REJECT_NONE},
    {"health takes no PUT", "PUT", "/health", ROUTE_REFUSED, REJECT_NOT_RELAYED},
    {"health with a query is not ours", "GET", "/health?x", ROUTE_REFUSED, REJECT_NOT_RELAYED},
    {"a transaction", "PUT", "/_matrix/federation/v1/send/1700000000001", ROUTE_TRANSACTION, 0},
    {"a transaction with a trailing slash", "PUT", "/_matrix/federation/v1/send/1/",
     ROUTE_TRANSACTION, 0},
    {"a transaction with an empty id", "PUT", "/_matrix/federation/v1/send/", ROUTE_TRANSACTION, 0},
    {"a transaction with an encoded id", "PUT", "/_matrix/federation/v1/send/%41%2fb",
     ROUTE_TRANSACTION, 0},
    {"an encoded letter in send", "PUT", "/_matrix/federation/v1/%73end/1", ROUTE_TRANSACTION, 0},
    {"an encoded slash after send", "PUT", "/_matrix/federation/v1/send%2F1", ROUTE_TRANSACTION, 0},
    {"a transaction with a query", "PUT", "/_matrix/federation/v1/send/1?a=../b", ROUTE_TRANSACTION,
     0},
    {"no id and no slash", "PUT", "/_matrix/federation/v1/send", ROUTE_TRANSACTION, 0},
    {"send_join is not a transaction", "PUT", "/_matrix/federation/v1/send_join/!r/$e",
     ROUTE_FEDERATION, 0},
    {"an encoded slash inside a segment", "GET", "/_matrix/federation/v1/event/%2Fx",
     ROUTE_FEDERATION, 0},
    {"keys", "GET", "/_matrix/key/v2/server", ROUTE_KEY, 0},
    {"media", "GET", "/_matrix/media/v3/download/a/b", ROUTE_MEDIA, 0},
    {"the client API", "GET", "/_matrix/client/versions", ROUTE_REFUSED, REJECT_NOT_RELAYED},
    {"the admin API", "GET", "/_synapse/admin/v1/register", ROUTE_REFUSED, REJECT_NOT_RELAYED},
    {"the federation folder itself", "GET", "/_matrix/federation", ROUTE_REFUSED,
     REJECT_NOT_RELAYED},
    {"a dot-dot segment", "GET", "/_matrix/federation/../client/x", ROUTE_REFUSED, REJECT_BAD_PATH},
    {"a dot-dot segment at the end", "GET", "/_matrix/federation/..", ROUTE_REFUSED,
     REJECT_BAD_PATH},
    {"a dot segment", "GET", "/_matrix/./federation/v1/version", ROUTE_REFUSED, REJECT_BAD_PATH},
    {"an empty segment", "GET", "/_matrix//federation/v1/version", ROUTE_REFUSED, REJECT_BAD_PATH},
    {"an empty segment before the last", "GET", "/_matrix/federation/v1/send/1//", ROUTE_REFUSED,
     REJECT_BAD_PATH},
    {"a backslash", "GET", "/_matrix/federation\\x", ROUTE_REFUSED, REJECT_BAD_PATH},
    {"a byte above ASCII", "GET", "/_matrix/federation/v1/\xc3\xa9", ROUTE_REFUSED,
     REJECT_BAD_PATH},
    {"no slash in front", "OPTIONS", "*", ROUTE_REFUSED, REJECT_NOT_RELAYED},
    {"nothing", "GET", "", ROUTE_REFUSED, REJECT_NOT_RELAYED},
};

static void every_target_goes_where_limits_md_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum reject why = REJECT_NONE;
        enum route_class class =
            route_classify(&why, span_str(rows[i].method), span_str(rows[i].target));
        if (class != rows[i].class || why != rows[i].why) {
            print_error("row failed: %s\n", rows[i].name);
        }
        assert_int_equal(class, rows[i].class);
        assert_int_equal(why, rows[i].why);
    }
}

static void hosts_match_with_or_without_port(void **state)
{
    (void)state;
    assert_true(route_host_matches(SPAN_LIT("a.example"), SPAN_LIT("a.example")));
    assert_true(route_host_matches(SPAN_LIT("a.example"), SPAN_LIT("A.Example:8448")));
    assert_true(route_host_matches(SPAN_LIT("a.example:1"), SPAN_LIT("a.example:1")));
    assert_true(route_host_matches(SPAN_LIT("[::1]"), SPAN_LIT("[::1]:8448")));
    assert_false(route_host_matches(SPAN_LIT("a.example:1"), SPAN_LIT("a.example:2")));
    assert_false(route_host_matches(SPAN_LIT("a.example:1"), SPAN_LIT("a.example")));
    assert_false(route_host_matches(SPAN_LIT("a.example"), SPAN_LIT("xa.example")));
    assert_false(route_host_matches(SPAN_LIT("a.example"), SPAN_LIT("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_target_goes_where_limits_md_says),
        cmocka_unit_test(hosts_match_with_or_without_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
