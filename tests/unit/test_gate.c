#include "inbound/gate.h"

#include "net_rig.h"

enum { N_WAITERS = 40, TICK_MS = 5 };

struct fixture {
    struct loop *loop;
    struct gates *gates;
    struct http_pool *pool, *other;
};

struct waiter {
    struct gate_wait wait;
    struct fixture *f;
    int *order; /* how many went before */
    int went;   /* 0: not yet; else which it was */
    bool refused_once;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const struct http_pool_options a = {.host = "127.0.0.1", .port = 1, .max_connections = 1};
    const struct http_pool_options b = {.host = "127.0.0.1", .port = 2, .max_connections = 1};

    CHECK(f != NULL);
    assert_int_equal(loop_new(&f->loop), ERR_OK);
    f->gates = gates_new(f->loop);
    assert_int_equal(http_pool_new(&f->pool, f->loop, &a), ERR_OK);
    assert_int_equal(http_pool_new(&f->other, f->loop, &b), ERR_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    gates_free(f->gates);
    http_pool_free(f->pool);
    http_pool_free(f->other);
    loop_free(f->loop);
    free(f);
    return 0;
}

static void went(void *arg)
{
    struct waiter *waiter = arg;

    if (waiter->refused_once) {
        waiter->refused_once = false;
        gate_enter(waiter->f->gates, &waiter->wait, waiter->f->pool, 0, true);
        return;
    }
    waiter->went = ++*waiter->order;
}

static void enter(struct fixture *f, struct waiter *waiter, int *order, size_t size)
{
    *waiter = (struct waiter){.f = f, .order = order, .wait = {.on_go = went, .arg = waiter}};
    gate_enter(f->gates, &waiter->wait, f->pool, size, false);
}

static void a_gate_closes_for_one_upstream_alone(void **state)
{
    struct fixture *f = *state;
    struct waiter waiter;
    int order = 0;

    assert_true(gates_are_open(f->gates, f->pool));
    enter(f, &waiter, &order, 0);
    assert_false(gates_are_open(f->gates, f->pool));
    assert_true(gates_are_open(f->gates, f->other));
    assert_int_equal(gates_n_waiting(f->gates), 1);
    assert_int_equal(order, 0);
    RUN_UNTIL(f->loop, order == 1);
    assert_int_equal(gates_n_waiting(f->gates), 0);
    RUN_UNTIL(f->loop, gates_are_open(f->gates, f->pool));
}

static void one_at_a_time_finds_out_and_small_ones_first(void **state)
{
    struct fixture *f = *state;
    struct waiter large;
    struct waiter small[2];
    int order = 0;

    enter(f, &large, &order, GATE_SMALL + 1);
    enter(f, &small[0], &order, GATE_SMALL);
    enter(f, &small[1], &order, 0);
    RUN_UNTIL(f->loop, order == 1);
    assert_int_equal(small[0].went, 1);
    run_for(f->loop, GATE_PROBE_MS / 2);
    assert_int_equal(order, 1);
    RUN_UNTIL(f->loop, order == 3);
    assert_int_equal(small[1].went, 2);
    assert_int_equal(large.went, 3);
}

static void after_an_answer_twice_as_many_go_each_time(void **state)
{
    struct fixture *f = *state;
    struct waiter waiters[N_WAITERS];
    int order = 0;
    int before = 0;
    int largest = 0;

    for (size_t i = 0; i < N_WAITERS; i++) {
        enter(f, &waiters[i], &order, 0);
    }
    gates_answered(f->gates, f->pool);
    gates_answered(f->gates, f->pool); /* once is enough */
    assert_int_equal(order, 0);
    while (order < N_WAITERS) {
        loop_run_for(f->loop, TICK_MS);
        largest = order - before > largest ? order - before : largest;
        before = order;
    }
    assert_in_range(largest, 5, N_WAITERS - 1); /* more at once as it goes on, never all */
    for (int i = 0; i < N_WAITERS; i++) {
        assert_int_equal(waiters[i].went, i + 1); /* in the order of their coming */
    }
    RUN_UNTIL(f->loop, gates_are_open(f->gates, f->pool));
}

static void who_is_refused_is_the_next_to_try_and_the_start_is_over(void **state)
{
    struct fixture *f = *state;
    struct waiter waiters[N_WAITERS];
    int order = 0;

    for (size_t i = 0; i < N_WAITERS; i++) {
        enter(f, &waiters[i], &order, 0);
    }
    waiters[0].refused_once = true;
    gates_answered(f->gates, f->pool);
    RUN_UNTIL(f->loop, !waiters[0].refused_once);
    assert_int_equal(gates_n_waiting(f->gates), N_WAITERS);
    RUN_UNTIL(f->loop, waiters[0].went == 1);
    assert_true(order <= 3); /* probing, no slow start */
    for (size_t i = 0; i < N_WAITERS; i++) {
        gate_leave(&waiters[i].wait);
        gate_leave(&waiters[i].wait);
    }
    assert_int_equal(gates_n_waiting(f->gates), 0);
}

int main(void)
{
#define GATE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        GATE_TEST(a_gate_closes_for_one_upstream_alone),
        GATE_TEST(one_at_a_time_finds_out_and_small_ones_first),
        GATE_TEST(after_an_answer_twice_as_many_go_each_time),
        GATE_TEST(who_is_refused_is_the_next_to_try_and_the_start_is_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
