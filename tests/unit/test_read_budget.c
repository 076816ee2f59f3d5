#include "lists/read_budget.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const uint64_t second = 1000000; /* in microseconds */

static int setup(void **state)
{
    struct read_budget *budget = calloc(1, sizeof *budget);

    assert_non_null(budget);
    read_budget_init(budget);
    *state = budget;
    return 0;
}

static int teardown(void **state)
{
    struct read_budget *budget = *state;

    read_budget_fini(budget);
    free(budget);
    return 0;
}

static bool take_as(struct read_budget *budget, struct span origin, uint32_t reads_per_s,
                    uint64_t now_us)
{
    const struct list_read_request request = {
        .server = SPAN_LIT("a.example"), .user_id = SPAN_LIT("@u:a.example"), .origin = origin};

    return read_budget_take(budget, &request, reads_per_s, now_us);
}

/* How often it succeeds. */
static unsigned take_n(struct read_budget *budget, const char *origin, uint32_t reads_per_s,
                       uint64_t now_us)
{
    unsigned n = 0;

    while (n < 100 && take_as(budget, span_str(origin), reads_per_s, now_us)) {
        n++;
    }
    return n;
}

struct row {
    const char *name;
    uint32_t reads_per_s;
    unsigned want[3]; /* of three origins, one after the other */
    unsigned want_later;
    uint32_t later_ms; /* then the first once more */
};

static const struct row rows[] = {
    {"a half each, and nothing for the third", 8, {4, 4, 0}, 0, 0},
    {"an odd number", 5, {2, 2, 1}, 0, 0},
    {"a share is at least one", 1, {1, 0, 0}, 0, 0},
    {"no rate counts as one", 0, {1, 0, 0}, 0, 999},
    {"no rate counts as one, a second later", 0, {1, 0, 0}, 1, 1000},
    {"the server's tokens come back", 8, {4, 4, 0}, 1, 250},
    {"no more than the share comes back", 8, {4, 4, 0}, 4, 60000},
};

static void an_origin_has_its_share_of_the_servers_budget(void **state)
{
    static const char *const origins[] = {"b.example", "c.example", "d.example"};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct read_budget budget;
        unsigned got[4];
        read_budget_init(&budget);
        for (size_t j = 0; j < 3; j++) {
            got[j] = take_n(&budget, origins[j], rows[i].reads_per_s, second);
        }
        got[3] = take_n(&budget, origins[0], rows[i].reads_per_s,
                        second + rows[i].later_ms * UINT64_C(1000));
        read_budget_fini(&budget);
        if (memcmp(got, rows[i].want, sizeof rows[i].want) != 0 || got[3] != rows[i].want_later) {
            print_error("row failed: %s: %u %u %u, %u\n", rows[i].name, got[0], got[1], got[2],
                        got[3]);
        }
        assert_memory_equal(got, rows[i].want, sizeof rows[i].want);
        assert_int_equal(got[3], rows[i].want_later);
    }
}

static void each_server_has_a_budget_of_its_own(void **state)
{
    struct read_budget *budget = *state;
    struct list_read_request other = {.server = SPAN_LIT("other.example"),
                                      .user_id = SPAN_LIT("@u:other.example"),
                                      .origin = SPAN_LIT("b.example")};

    assert_int_equal(take_n(budget, "b.example", 1, second), 1);
    assert_true(read_budget_take(budget, &other, 1, second));
    assert_false(read_budget_take(budget, &other, 1, second));
}

static void what_may_wait_is_refused_below_half(void **state)
{
    struct read_budget *budget = *state;
    struct list_read_request request = {.server = SPAN_LIT("a.example"),
                                        .user_id = SPAN_LIT("@u:a.example"),
                                        .origin = SPAN_LIT("c.example"),
                                        .may_wait = true};

    assert_int_equal(take_n(budget, "b.example", 8, second), 4);
    assert_true(read_budget_take(budget, &request, 8, second)); /* half was there */
    assert_false(read_budget_take(budget, &request, 8, second));
    assert_true(read_budget_take(budget, &request, 8, second + second / 8));
    request.may_wait = false;
    assert_true(read_budget_take(budget, &request, 8, second + second / 8));
}

static void another_rate_makes_the_buckets_anew(void **state)
{
    struct read_budget *budget = *state;

    assert_int_equal(take_n(budget, "b.example", 2, second), 1);
    assert_int_equal(take_n(budget, "b.example", 20, second), 10);
    assert_int_equal(take_n(budget, "c.example", 20, second), 10);
    assert_int_equal(take_n(budget, "d.example", 20, second), 0);
}

/* A name for each n. */
static bool take_as_number(struct read_budget *budget, unsigned n, uint64_t now_us)
{
    char name[32];

    snprintf(name, sizeof name, "n%u.example", n);
    return take_as(budget, span_str(name), 40000, now_us);
}

static void origins_without_end_take_no_memory_without_end(void **state)
{
    struct read_budget *budget = *state;

    for (unsigned i = 0; i < READ_BUDGET_MAX; i++) {
        assert_true(take_as_number(budget, i, second));
    }
    assert_int_equal(budget->shares.n, READ_BUDGET_MAX);
    assert_true(
        take_as_number(budget, READ_BUDGET_MAX, second)); /* none is full: all are dropped */
    assert_int_equal(budget->shares.n, 1);
    for (unsigned i = 0; i < READ_BUDGET_MAX - 1; i++) {
        assert_true(take_as_number(budget, i, second));
    }
    assert_true(take_as_number(budget, 0, 2 * second));
    assert_true(take_as_number(budget, READ_BUDGET_MAX + 1, 2 * second));
    assert_int_equal(budget->shares.n, 2); /* what had filled up is gone, what had not is there */
}

static void who_gets_nothing_costs_nothing(void **state)
{
    struct read_budget *budget = *state;

    assert_int_equal(take_n(budget, "b.example", 1, second), 1);
    assert_int_equal(take_n(budget, "c.example", 1, second), 0);
    assert_int_equal(budget->shares.n, 1);
}

int main(void)
{
#define BUDGET_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_origin_has_its_share_of_the_servers_budget),
        BUDGET_TEST(each_server_has_a_budget_of_its_own),
        BUDGET_TEST(what_may_wait_is_refused_below_half),
        BUDGET_TEST(another_rate_makes_the_buckets_anew),
        BUDGET_TEST(origins_without_end_take_no_memory_without_end),
        BUDGET_TEST(who_gets_nothing_costs_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
