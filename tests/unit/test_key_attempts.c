#include "inbound/key_attempts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { MAX = 3, LATELY_US = 1000 };

#define A SPAN_LIT("a.example")
#define B SPAN_LIT("b.example")
#define C SPAN_LIT("c.example")
#define D SPAN_LIT("d.example")

static struct key_attempt *begin(struct key_attempts *attempts, struct span server, uint64_t now_us)
{
    struct key_attempt *attempt = key_attempts_begin(attempts, server, now_us);

    assert_non_null(attempt);
    assert_true(attempt->is_running);
    assert_true(span_equal(key_attempt_server(attempt), server));
    return attempt;
}

static void an_attempt_is_remembered_for_a_while(void **state)
{
    struct key_attempts attempts;

    (void)state;
    key_attempts_init(&attempts, MAX, LATELY_US);
    struct key_attempt *a = begin(&attempts, A, 5000);
    assert_ptr_equal(key_attempts_find(&attempts, A, 5000), a);
    a->is_running = false;
    assert_ptr_equal(key_attempts_find(&attempts, A, 5999), a);
    assert_null(key_attempts_find(&attempts, B, 5999));
    assert_null(key_attempts_find(&attempts, A, 6000));
    begin(&attempts, A, 6000)->is_running = false;
    assert_non_null(key_attempts_find(&attempts, A, 6999));
    key_attempts_fini(&attempts);
}

static void one_that_runs_is_kept_however_old(void **state)
{
    struct key_attempts attempts;

    (void)state;
    key_attempts_init(&attempts, MAX, LATELY_US);
    struct key_attempt *a = begin(&attempts, A, 0);
    begin(&attempts, B, 1)->is_running = false;
    assert_ptr_equal(key_attempts_find(&attempts, A, 9000), a);
    a->is_running = false;
    assert_null(key_attempts_find(&attempts, A, 9000));
    assert_null(key_attempts_find(&attempts, B, 9000));
    key_attempts_fini(&attempts);
}

static void when_full_of_young_ones_none_begins(void **state)
{
    struct key_attempts attempts;

    (void)state;
    key_attempts_init(&attempts, MAX, LATELY_US);
    begin(&attempts, A, 0)->is_running = false;
    begin(&attempts, B, 500)->is_running = false;
    begin(&attempts, C, 900)->is_running = false;
    assert_null(key_attempts_begin(&attempts, D, 999));
    begin(&attempts, D, 1000)->is_running = false;
    assert_null(key_attempts_begin(&attempts, A, 1001));
    assert_non_null(key_attempts_find(&attempts, B, 1001));
    key_attempts_fini(&attempts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_attempt_is_remembered_for_a_while),
        cmocka_unit_test(one_that_runs_is_kept_however_old),
        cmocka_unit_test(when_full_of_young_ones_none_begins),
    };

    return cmocka_run_group_tests_name("key_attempts", tests, NULL, NULL);
}
