#include "bench/histogram.h"

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct histogram *empty(void **state)
{
    struct histogram *h = *state;

    memset(h, 0, sizeof *h);
    return h;
}

static int set_up(void **state)
{
    *state = test_malloc(2 * sizeof(struct histogram));
    return 0;
}

static int tear_down(void **state)
{
    test_free(*state);
    return 0;
}

static void one_value_is_given_back_to_three_digits(void **state)
{
    struct histogram *h = empty(state);
    uint64_t largest = 1ULL << 41;

    for (uint64_t value = 0; value < largest; value += 1 + value / 7) {
        memset(h, 0, sizeof *h);
        histogram_record(h, value);
        histogram_record(h, largest); /* so that the maximum caps nothing */
        uint64_t got = histogram_quantile(h, 500000);
        if (got < value || got - value > value / 1024) {
            print_error("%llu came back as %llu\n", (unsigned long long)value,
                        (unsigned long long)got);
        }
        assert_in_range(got, value, value + value / 1024);
    }
}

struct row {
    uint32_t millionths;
    uint64_t want; /* of the values 1 to 1,000 */
};

static const struct row rows[] = {
    {0, 1},        {1, 1},        {1000, 1},     {1001, 2},      {500000, 500},
    {900000, 900}, {990000, 990}, {999000, 999}, {999001, 1000}, {1000000, 1000},
};

static void quantiles_are_ranks(void **state)
{
    struct histogram *h = empty(state);

    for (uint64_t value = 1000; value > 0; value--) {
        histogram_record(h, value);
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t got = histogram_quantile(h, rows[i].millionths);
        if (got != rows[i].want) {
            print_error("row failed: %u millionths\n", (unsigned)rows[i].millionths);
        }
        assert_int_equal(got, rows[i].want);
    }
}

static void no_quantile_passes_the_largest_value(void **state)
{
    struct histogram *h = empty(state);

    histogram_record(h, 1000001);
    assert_int_equal(histogram_quantile(h, 500000), 1000001);
    assert_int_equal(histogram_quantile(h, HISTOGRAM_SCALE), 1000001);
}

static void an_empty_one_has_no_latency(void **state)
{
    assert_int_equal(histogram_quantile(empty(state), 990000), 0);
}

static void what_is_too_long_counts_and_its_maximum_is_exact(void **state)
{
    struct histogram *h = empty(state);

    histogram_record(h, 5);
    histogram_record(h, UINT64_MAX);
    histogram_record(h, UINT64_MAX - 1);
    assert_int_equal(h->n, 3);
    assert_int_equal(h->max, UINT64_MAX);
    assert_int_equal(histogram_quantile(h, 300000), 5);
    assert_true(histogram_quantile(h, 990000) == UINT64_MAX);
}

static void two_together_are_as_one(void **state)
{
    struct histogram *a = empty(state);
    struct histogram *b = a + 1;

    memset(b, 0, sizeof *b);
    for (uint64_t value = 1; value <= 1000; value++) {
        histogram_record(value % 3 == 0 ? a : b, value);
    }
    histogram_add(a, b);
    assert_int_equal(a->n, 1000);
    assert_int_equal(a->max, 1000);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(histogram_quantile(a, rows[i].millionths), rows[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_value_is_given_back_to_three_digits),
        cmocka_unit_test(quantiles_are_ranks),
        cmocka_unit_test(no_quantile_passes_the_largest_value),
        cmocka_unit_test(an_empty_one_has_no_latency),
        cmocka_unit_test(what_is_too_long_counts_and_its_maximum_is_exact),
        cmocka_unit_test(two_together_are_as_one),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
