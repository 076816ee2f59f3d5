#include "net/loop.h"

#include "base/clock.h"
#include "net/mailbox.h"
#include "net/timer_queues.h"
#include "net_rig.h"

#include <pthread.h>

enum { N_THREADS = 4, N_MAILS = 2000 };

static void count(void *arg)
{
    ++*(unsigned *)arg;
}

static void timers_expire_once_in_order_and_can_be_stopped(void **state)
{
    struct loop *loop;
    struct timer early;
    struct timer late;
    struct timer stopped;
    unsigned n_early = 0;
    unsigned n_late = 0;
    unsigned n_stopped = 0;

    (void)state;
    assert_int_equal(loop_new(&loop), ERR_OK);
    timer_init(&early, loop, count, &n_early);
    timer_init(&late, loop, count, &n_late);
    timer_init(&stopped, loop, count, &n_stopped);
    timer_start(&late, 40);
    timer_start(&early, 5);
    timer_start(&stopped, 1);
    timer_stop(&stopped);
    assert_false(timer_is_running(&stopped));
    RUN_UNTIL(loop, n_early == 1);
    assert_int_equal(n_late, 0);
    RUN_UNTIL(loop, n_late == 1);
    run_for(loop, 30);
    assert_int_equal(n_early, 1);
    assert_int_equal(n_stopped, 0);
    timer_fini(&early);
    timer_fini(&late);
    timer_fini(&stopped);
    loop_free(loop);
}

enum { N_TIMERS = 200, N_LENGTHS = 2 * TIMER_QUEUES_MAX };

struct counted_timer {
    struct timer timer;
    uint64_t ms, started_us, expired_us; /* expired_us 0: not */
    unsigned n_expired;
};

/* Starts itself anew the first time, and stops the one after it. */
static void on_counted(void *arg)
{
    struct counted_timer *self = arg;

    self->expired_us = clock_monotonic_us();
    if (++self->n_expired == 1) {
        timer_stop(&self[1].timer);
        timer_start(&self->timer, self->ms);
    }
}

/* More lengths than there are queues, so that some have an event of their own. */
static void timers_of_any_length_may_be_started_and_stopped_by_others(void **state)
{
    static struct counted_timer timers[N_TIMERS + 1];
    struct loop *loop;
    unsigned n_running = N_TIMERS;

    (void)state;
    assert_int_equal(loop_new(&loop), ERR_OK);
    for (size_t i = 0; i < N_TIMERS; i++) {
        timers[i] = (struct counted_timer){.ms = 1 + i / 2 % N_LENGTHS};
        timer_init(&timers[i].timer, loop, on_counted, &timers[i]);
        timers[i].started_us = clock_monotonic_us();
        timer_start(&timers[i].timer, i % 2 == 0 ? timers[i].ms : timers[i].ms + 10000);
    }
    while (n_running > 0) {
        loop_run_for(loop, 5);
        n_running = 0;
        for (size_t i = 0; i < N_TIMERS; i++) {
            n_running += timer_is_running(&timers[i].timer);
        }
    }
    for (size_t i = 0; i < N_TIMERS; i++) {
        assert_int_equal(timers[i].n_expired, i % 2 == 0 ? 2 : 0); /* the odd ones were stopped */
        /* Those with an event of their own count from when the loop woke. */
        uint64_t taken_us = timers[i].expired_us - timers[i].started_us;
        assert_true(i % 2 != 0 || taken_us + 5000 >= 2000 * timers[i].ms);
        timer_fini(&timers[i].timer);
    }
    loop_free(loop);
}

struct counted_task {
    struct loop_task task;
    struct loop *loop;
    unsigned n_runs, n_wanted;
};

static void run_counted(struct loop_task *task)
{
    struct counted_task *counted = LIST_ENTRY(task, struct counted_task, task);

    if (++counted->n_runs < counted->n_wanted) {
        loop_defer(counted->loop, task);
    }
}

static void deferred_work_runs_once_from_the_loop_and_may_defer_itself(void **state)
{
    struct counted_task task = {.task = {.run = run_counted}, .n_wanted = 1};
    struct counted_task again = {.task = {.run = run_counted}, .n_wanted = 5};
    struct counted_task cancelled = {.task = {.run = run_counted}, .n_wanted = 1};
    struct counted_task last = {.task = {.run = run_counted}, .n_wanted = 1};
    struct loop *loop;

    (void)state;
    assert_int_equal(loop_new(&loop), ERR_OK);
    task.loop = again.loop = cancelled.loop = last.loop = loop;
    loop_defer(loop, &task.task);
    loop_defer(loop, &task.task);
    loop_defer(loop, &again.task);
    loop_defer(loop, &cancelled.task);
    loop_task_cancel(&cancelled.task);
    loop_at_exit(loop, &last.task);
    assert_int_equal(task.n_runs, 0);
    RUN_UNTIL(loop, again.n_runs == 5);
    assert_int_equal(task.n_runs, 1);
    assert_int_equal(cancelled.n_runs, 0);
    assert_int_equal(last.n_runs, 0);
    loop_free(loop);
    assert_int_equal(last.n_runs, 1);
}

struct numbered_mail {
    struct mail mail;
    unsigned sender, number;
};

struct inbox {
    struct loop *loop;
    struct mailbox *box;
    unsigned n, n_by[N_THREADS];
};

struct sender {
    struct inbox *inbox;
    unsigned id;
};

static void *post_many(void *arg)
{
    const struct sender *sender = arg;

    for (unsigned i = 0; i < N_MAILS; i++) {
        struct numbered_mail *mail = calloc(1, sizeof *mail);
        CHECK(mail != NULL);
        mail->sender = sender->id;
        mail->number = i;
        mailbox_post(sender->inbox->box, &mail->mail);
    }
    return NULL;
}

static void on_mail(void *arg, struct mail *mail)
{
    struct inbox *inbox = arg;
    struct numbered_mail *numbered = (struct numbered_mail *)mail;

    assert_int_equal(numbered->number, inbox->n_by[numbered->sender]);
    inbox->n_by[numbered->sender]++;
    if (++inbox->n == N_THREADS * N_MAILS) {
        loop_stop(inbox->loop);
    }
    free(numbered);
}

static void mails_of_many_threads_arrive_each_once_and_in_each_ones_order(void **state)
{
    struct inbox inbox = {.n = 0};
    struct sender senders[N_THREADS];
    pthread_t threads[N_THREADS];

    (void)state;
    assert_int_equal(loop_new(&inbox.loop), ERR_OK);
    assert_int_equal(mailbox_new(&inbox.box, inbox.loop, on_mail, &inbox), ERR_OK);
    for (unsigned i = 0; i < N_THREADS; i++) {
        senders[i] = (struct sender){&inbox, i};
        CHECK(pthread_create(&threads[i], NULL, post_many, &senders[i]) == 0);
    }
    loop_run(inbox.loop);
    for (unsigned i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(inbox.n_by[i], N_MAILS);
    }
    mailbox_free(inbox.box);
    loop_free(inbox.loop);
}

static void free_numbered(struct mail *mail)
{
    free(mail);
}

static void mail_that_was_never_read_is_still_handed_over(void **state)
{
    struct inbox inbox = {.n = 0};
    struct numbered_mail *mail = calloc(1, sizeof *mail);

    (void)state;
    CHECK(mail != NULL);
    mail->mail.handle = free_numbered;
    assert_int_equal(loop_new(&inbox.loop), ERR_OK);
    assert_int_equal(mailbox_new(&inbox.box, inbox.loop, NULL, NULL), ERR_OK);
    mailbox_post(inbox.box, &mail->mail);
    mailbox_free(inbox.box);
    loop_free(inbox.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_expire_once_in_order_and_can_be_stopped),
        cmocka_unit_test(timers_of_any_length_may_be_started_and_stopped_by_others),
        cmocka_unit_test(deferred_work_runs_once_from_the_loop_and_may_defer_itself),
        cmocka_unit_test(mails_of_many_threads_arrive_each_once_and_in_each_ones_order),
        cmocka_unit_test(mail_that_was_never_read_is_still_handed_over),
    };

    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
