#include "net/dns.h"

#include "dns_stub.h"
#include "net_rig.h"

#include <arpa/nameser.h>

struct fixture {
    struct loop *loop;
    struct dns_stub stub;
    struct dns *dns;
    struct dns_query *query;
    unsigned n_done, n_done_when_late;
    struct dns_addresses addresses;
    struct srv_answer srv;
    bool has_srv;
};

static const struct dns_row zone[] = {
    {"four.test", ns_t_a, "192.0.2.1"},
    {"four.test", ns_t_a, "192.0.2.2"},
    {"four.test", ns_t_a, "192.0.2.1"},
    {"six.test", ns_t_aaaa, "2001:db8::1"},
    {"both.test", ns_t_a, "192.0.2.1"},
    {"both.test", ns_t_aaaa, "2001:db8::1"},
    {"both.test", ns_t_aaaa, "::ffff:192.0.2.1"},
    {"half.test", ns_t_a, "192.0.2.1"},
    {"half.test", ns_t_aaaa, ""},
    {"silent.test", ns_t_a, ""},
    {"silent.test", ns_t_aaaa, ""},
    {"silent.test", ns_t_srv, ""},
    {"many.test", ns_t_aaaa, "2001:db8::1"},
    {"many.test", ns_t_aaaa, "2001:db8::2"},
    {"many.test", ns_t_aaaa, "2001:db8::3"},
    {"many.test", ns_t_aaaa, "2001:db8::4"},
    {"many.test", ns_t_aaaa, "2001:db8::5"},
    {"many.test", ns_t_a, "192.0.2.1"},
    {"service.test", ns_t_srv, "1 2 3 target.test"},
    {NULL, 0, NULL},
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    CHECK(f != NULL);
    dns_stub_start(&f->stub, zone);
    assert_int_equal(loop_new(&f->loop), ERR_OK);
    assert_int_equal(dns_new(&f->dns, f->loop, f->stub.address), ERR_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    dns_free(f->dns);
    loop_free(f->loop);
    dns_stub_stop(&f->stub);
    free(f);
    return 0;
}

static void on_addresses(void *arg, const struct dns_addresses *addresses)
{
    struct fixture *f = arg;

    f->n_done++;
    f->addresses = *addresses;
}

static void on_srv(void *arg, const struct srv_answer *answer)
{
    struct fixture *f = arg;

    f->n_done++;
    f->has_srv = answer != NULL;
    if (answer != NULL) {
        f->srv = *answer;
    }
}

static uint64_t find(struct fixture *f, const char *host, uint32_t timeout_ms)
{
    unsigned n_before = f->n_done;
    uint64_t began_us = clock_monotonic_us();

    dns_find_addresses(&f->query, f->dns, host, timeout_ms, on_addresses, f);
    assert_int_equal(f->n_done, n_before); /* nothing from inside */
    RUN_UNTIL(f->loop, f->n_done > n_before);
    return (clock_monotonic_us() - began_us) / 1000;
}

static void addresses_of_both_families_are_found_each_once(void **state)
{
    static const struct {
        const char *host;
        size_t n;
    } rows[] = {
        {"four.test", 2},    {"six.test", 1},   {"both.test", 2}, {"many.test", 5}, {"no.test", 0},
        {"service.test", 0}, {"FOUR.test.", 2}, {"", 0},          {"a..test", 0},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        find(f, rows[i].host, PATIENCE_MS);
        if (f->addresses.n != rows[i].n) {
            fail_msg("row failed: %s, %zu", rows[i].host, f->addresses.n);
        }
    }
}

static void on_late(void *arg)
{
    struct fixture *f = arg;

    f->n_done_when_late = f->n_done;
}

/* Both timers are the loop's, so that they expire in order on a slow machine, too. */
static void nobody_waits_for_the_other_family_when_the_time_is_up(void **state)
{
    struct fixture *f = *state;
    struct timer timer;

    timer_init(&timer, f->loop, on_late, f);
    timer_start(&timer, 200);
    find(f, "half.test", 100);
    RUN_UNTIL(f->loop, !timer_is_running(&timer));
    assert_int_equal(f->n_done_when_late, 1);
    timer_fini(&timer);
}

static void a_family_that_does_not_answer_is_not_waited_for_long(void **state)
{
    struct fixture *f = *state;
    uint64_t took_ms = find(f, "half.test", PATIENCE_MS);

    assert_int_equal(f->addresses.n, 1);
    assert_in_range(took_ms, 200, 2500);
}

static void silence_ends_in_time(void **state)
{
    struct fixture *f = *state;

    assert_in_range(find(f, "silent.test", 100), 90, 2000);
    assert_int_equal(f->addresses.n, 0);
    dns_find_srv(&f->query, f->dns, "silent.test", 100, on_srv, f);
    RUN_UNTIL(f->loop, f->n_done == 2);
    assert_false(f->has_srv);
}

static void records_none_and_no_answer_are_told_apart(void **state)
{
    struct fixture *f = *state;

    dns_find_srv(&f->query, f->dns, "service.test", PATIENCE_MS, on_srv, f);
    RUN_UNTIL(f->loop, f->n_done == 1);
    assert_true(f->has_srv);
    assert_int_equal(f->srv.n, 1);
    assert_string_equal(f->srv.records[0].target, "target.test");
    assert_int_equal(f->srv.ttl_s, atomic_load(&f->stub.ttl_s));
    for (unsigned i = 0; i < 2; i++) {
        dns_find_srv(&f->query, f->dns, i == 0 ? "no.test" : "four.test", PATIENCE_MS, on_srv, f);
        RUN_UNTIL(f->loop, f->n_done == i + 2);
        assert_true(f->has_srv);
        assert_int_equal(f->srv.n, 0);
    }
}

/* What was cancelled may still be answered, or never: neither is told, and teardown frees it. */
static void who_cancels_is_not_told(void **state)
{
    static const char *const hosts[] = {"four.test", "silent.test", "a..test"};
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        dns_find_addresses(&f->query, f->dns, hosts[i], PATIENCE_MS, on_addresses, f);
        dns_cancel(f->query);
        dns_find_srv(&f->query, f->dns, hosts[i], PATIENCE_MS, on_srv, f);
        run_for(f->loop, 5);
        if (f->n_done == 0) {
            dns_cancel(f->query);
        }
        f->n_done = 0;
    }
    find(f, "six.test", PATIENCE_MS);
    assert_int_equal(f->n_done, 1);
}

static void a_list_of_servers_must_be_one(void **state)
{
    struct fixture *f = *state;
    struct dns *dns = NULL;

    assert_int_equal(dns_new(&dns, f->loop, "127.0.0.1:5353,[::1]:53"), ERR_OK);
    dns_free(dns);
    assert_int_equal(dns_new(&dns, f->loop, "dns.example"), ERR_CONFIG);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(addresses_of_both_families_are_found_each_once),
        TEST(a_family_that_does_not_answer_is_not_waited_for_long),
        TEST(nobody_waits_for_the_other_family_when_the_time_is_up),
        TEST(silence_ends_in_time),
        TEST(records_none_and_no_answer_are_told_apart),
        TEST(who_cancels_is_not_told),
        TEST(a_list_of_servers_must_be_one),
    };

    return cmocka_run_group_tests_name("dns", tests, NULL, NULL);
}
