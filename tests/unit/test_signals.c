#include "net/signals.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "net_rig.h"

enum { N_NUMBERS = 64, N_TIMES = 3 };

struct fixture {
    struct loop *loop;
    struct signals *signals;
    unsigned n[N_NUMBERS + 1]; /* by number */
    pthread_t thread;          /* where callbacks ran */
};

static void on_signal(void *arg, int number)
{
    struct fixture *f = arg;

    assert_in_range(number, 1, N_NUMBERS);
    f->n[number]++;
    f->thread = pthread_self();
}

static void fixture_init(struct fixture *f)
{
    const int numbers[] = {SIGUSR1, SIGUSR2, SIGRTMIN};

    *f = (struct fixture){0};
    assert_int_equal(loop_new(&f->loop), ERR_OK);
    assert_int_equal(signals_new(&f->signals, f->loop, numbers, 3, on_signal, f), ERR_OK);
}

static void fixture_fini(struct fixture *f)
{
    signals_free(f->signals);
    loop_free(f->loop);
}

static void a_signal_is_an_event_of_the_loop(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    raise(SIGUSR1);
    assert_int_equal(f.n[SIGUSR1], 0); /* nothing before the loop runs */
    RUN_UNTIL(f.loop, f.n[SIGUSR1] == 1);
    assert_true(pthread_equal(f.thread, pthread_self()));
    raise(SIGUSR1);
    raise(SIGUSR2);
    RUN_UNTIL(f.loop, f.n[SIGUSR1] == 2 && f.n[SIGUSR2] == 1);
    run_for(f.loop, 10);
    assert_int_equal(f.n[SIGUSR1], 2);
    assert_int_equal(f.n[SIGUSR2], 1);
    fixture_fini(&f);
}

/* The kernel counts real-time signals; others that are pending already are one. */
static void each_signal_that_came_is_told(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    for (int i = 0; i < N_TIMES; i++) {
        raise(SIGRTMIN);
    }
    RUN_UNTIL(f.loop, f.n[SIGRTMIN] == N_TIMES);
    run_for(f.loop, 10);
    assert_int_equal(f.n[SIGRTMIN], N_TIMES);
    fixture_fini(&f);
}

/* Returns NULL if the signals asked for, and no others, are blocked in this thread. */
static void *signal_from_thread(void *arg)
{
    sigset_t set;

    (void)pthread_sigmask(SIG_BLOCK, NULL, &set);
    kill(getpid(), SIGUSR2);
    return sigismember(&set, SIGUSR1) == 1 && sigismember(&set, SIGUSR2) == 1 &&
                   sigismember(&set, SIGHUP) == 0 && sigismember(&set, SIGSEGV) == 0
               ? NULL
               : arg;
}

static void threads_that_are_started_later_leave_signals_to_the_loop(void **state)
{
    pthread_t thread;
    struct fixture f;
    void *wrong;

    (void)state;
    fixture_init(&f);
    assert_int_equal(pthread_create(&thread, NULL, signal_from_thread, &f), 0);
    RUN_UNTIL(f.loop, f.n[SIGUSR2] == 1);
    assert_true(pthread_equal(f.thread, pthread_self()));
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_null(wrong);
    fixture_fini(&f);
}

static void signals_stay_blocked_when_they_are_not_heard_any_more(void **state)
{
    const struct timespec at_once = {0};
    struct fixture f;
    sigset_t set;

    (void)state;
    fixture_init(&f);
    fixture_fini(&f);
    raise(SIGUSR1); /* would be the end of us */
    assert_int_equal(f.n[SIGUSR1], 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    assert_int_equal(sigtimedwait(&set, NULL, &at_once), SIGUSR1);
    signals_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_is_an_event_of_the_loop),
        cmocka_unit_test(each_signal_that_came_is_told),
        cmocka_unit_test(threads_that_are_started_later_leave_signals_to_the_loop),
        cmocka_unit_test(signals_stay_blocked_when_they_are_not_heard_any_more),
    };

    return cmocka_run_group_tests_name("signals", tests, NULL, NULL);
}
