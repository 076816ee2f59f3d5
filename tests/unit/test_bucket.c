#include "base/bucket.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const uint64_t second = 1000000; /* in microseconds */

static unsigned drain(struct bucket *bucket, uint64_t now_us)
{
    unsigned n = 0;

    while (bucket_take(bucket, now_us)) {
        n++;
    }
    return n;
}

struct row {
    const char *name;
    uint32_t per_s, burst;
    uint64_t later_us; /* after it was drained at one hour */
    unsigned want;
};

static const struct row rows[] = {
    {"nothing comes back in no time", 10, 5, 0, 0},
    {"a token takes its share of a second", 10, 5, second / 10, 1},
    {"a us too early there is none", 10, 5, second / 10 - 1, 0},
    {"no more than the burst gathers", 10, 5, 3600ULL * second, 5},
    {"a clock that jumps by centuries overflows nothing", 4000000000U, 4000, UINT64_MAX / 2, 4000},
    {"0 per second gives its burst and then nothing", 0, 5, 3600ULL * second, 0},
};

static void a_bucket_gives_its_burst_and_then_its_rate(void **state)
{
    uint64_t start = 3600ULL * second;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bucket bucket;
        bucket_init(&bucket, rows[i].per_s, rows[i].burst);
        unsigned first = drain(&bucket, start);
        unsigned later = drain(&bucket, start + rows[i].later_us);
        if (first != rows[i].burst || later != rows[i].want) {
            print_error("row failed: %s\n", rows[i].name);
        }
        assert_int_equal(first, rows[i].burst);
        assert_int_equal(later, rows[i].want);
    }
}

static void time_that_goes_back_fills_nothing(void **state)
{
    struct bucket bucket;

    (void)state;
    bucket_init(&bucket, 1, 1);
    assert_true(bucket_take(&bucket, 10 * second));
    assert_false(bucket_take(&bucket, 5 * second));
    assert_false(bucket_take(&bucket, 10 * second + second / 2));
    assert_true(bucket_take(&bucket, 11 * second));
}

static void it_says_how_long_a_token_takes(void **state)
{
    struct bucket bucket;

    (void)state;
    bucket_init(&bucket, 4, 1);
    assert_int_equal(bucket_wait_us(&bucket, second), 0);
    assert_true(bucket_take(&bucket, second));
    assert_int_equal(bucket_wait_us(&bucket, second), second / 4);
    bucket_init(&bucket, 0, 0);
    assert_true(bucket_wait_us(&bucket, second) == UINT64_MAX);
}

static void several_are_taken_all_or_none(void **state)
{
    struct bucket bucket;

    (void)state;
    bucket_init(&bucket, 1, 5);
    assert_false(bucket_take_n(&bucket, 6, second));
    assert_true(bucket_take_n(&bucket, 5, second));
    assert_false(bucket_take(&bucket, second));
}

static void it_says_how_many_tokens_there_are_and_takes_none(void **state)
{
    struct bucket bucket;

    (void)state;
    bucket_init(&bucket, 4, 3);
    assert_int_equal(bucket_tokens(&bucket, second), 3);
    assert_true(bucket_take_n(&bucket, 3, second));
    assert_int_equal(bucket_tokens(&bucket, second + second / 4 - 1), 0);
    assert_int_equal(bucket_tokens(&bucket, second + second / 4), 1);
    assert_int_equal(bucket_tokens(&bucket, 9 * second), 3);
    assert_true(bucket_take(&bucket, 9 * second));
    assert_int_equal(bucket_tokens(&bucket, 9 * second), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_gives_its_burst_and_then_its_rate),
        cmocka_unit_test(time_that_goes_back_fills_nothing),
        cmocka_unit_test(it_says_how_long_a_token_takes),
        cmocka_unit_test(several_are_taken_all_or_none),
        cmocka_unit_test(it_says_how_many_tokens_there_are_and_takes_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
