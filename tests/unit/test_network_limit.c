#include "base/network_limit.h"

#include "proto/check.h"

#include <arpa/inet.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { SETS = 1024, PER_S = 50, BURST = 500, SECOND = 1000000, START = 1000 * SECOND /* us */ };

static struct in6_addr parse(const char *text)
{
    struct in6_addr address;

    CHECK(inet_pton(AF_INET6, text, &address) == 1);
    return address;
}

/* How many of `n` at once are let through. */
static unsigned take(struct network_limit *limit, const char *text, unsigned n, uint64_t now_us)
{
    struct in6_addr address = parse(text);
    unsigned n_taken = 0;

    for (unsigned i = 0; i < n; i++) {
        n_taken += network_limit_take(limit, &address, now_us) ? 1 : 0;
    }
    return n_taken;
}

static void a_network_has_a_burst_and_then_so_many_a_second(void **state)
{
    struct network_limit *limit = network_limit_new(SETS, PER_S, BURST);
    const char *peer = "::ffff:192.0.2.1";
    uint64_t now_us = START;

    (void)state;
    assert_int_equal(take(limit, peer, BURST + 1, now_us), BURST);
    assert_int_equal(take(limit, peer, 1, now_us), 0);
    now_us += SECOND;
    assert_int_equal(take(limit, peer, BURST, now_us), PER_S);
    now_us += (uint64_t)SECOND * BURST / PER_S + 1;
    assert_int_equal(take(limit, peer, BURST + 1, now_us), BURST);
    network_limit_free(limit);
}

static void a_network_is_a_24_or_a_48(void **state)
{
    static const struct {
        const char *spent, *other;
        bool is_same;
    } rows[] = {
        {"::ffff:192.0.2.1", "::ffff:192.0.2.255", true},
        {"::ffff:192.0.2.1", "::ffff:192.0.3.1", false},
        {"2001:db8:1::1", "2001:db8:1:ffff::2", true},
        {"2001:db8:1::1", "2001:db8:2::1", false},
        {"2001:db8:1::1", "::ffff:192.0.2.1", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct network_limit *limit = network_limit_new(SETS, PER_S, BURST);
        assert_int_equal(take(limit, rows[i].spent, BURST, START), BURST);
        if (take(limit, rows[i].other, 1, START) != (rows[i].is_same ? 0 : 1)) {
            fail_msg("row failed: %s, %s", rows[i].spent, rows[i].other);
        }
        network_limit_free(limit);
    }
}

/* With far more networks than slots, what is let through at once stays within what the slots hold;
 * and after a pause anybody is let through again. */
static void many_networks_do_not_get_a_burst_each(void **state)
{
    enum { NETWORKS = 4 * SETS * NETWORK_LIMIT_WAYS };
    struct network_limit *limit = network_limit_new(SETS, PER_S, BURST);
    uint64_t n_taken = 0;
    char text[INET6_ADDRSTRLEN];

    (void)state;
    for (unsigned i = 0; i < NETWORKS; i++) {
        snprintf(text, sizeof text, "2001:db8:%x::1", i);
        n_taken += take(limit, text, BURST, START);
    }
    assert_true(n_taken <= (uint64_t)SETS * NETWORK_LIMIT_WAYS * BURST);
    assert_true(n_taken > (uint64_t)SETS * BURST);
    assert_int_equal(take(limit, "2001:db9::1", 1, START + SECOND), 1);
    network_limit_free(limit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_has_a_burst_and_then_so_many_a_second),
        cmocka_unit_test(a_network_is_a_24_or_a_48),
        cmocka_unit_test(many_networks_do_not_get_a_burst_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
