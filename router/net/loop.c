#include "net/loop.h"

#include "net/timer_queues.h"
#include "proto/check.h"

#include <event2/event.h>

#include <signal.h>
#include <stdlib.h>

struct loop {
    struct event_base *base;
    struct event *tasks_due; /* made active by hand while `tasks` is not empty */
    struct event *wake;      /* ends loop_run_for */
    struct list tasks;
    struct list at_exit;
    struct timer_queues timers;
    char scratch[LOOP_SCRATCH_SIZE];
};

static struct timeval timeval_of_ms(uint64_t ms)
{
    return (struct timeval){.tv_sec = (time_t)(ms / 1000),
                            .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
}

/* Only those that wait now: a task that defers itself must not hold up the sockets. */
static void run_tasks(struct loop *loop)
{
    struct list now;
    struct link *link;

    list_init(&now);
    while ((link = list_take_first(&loop->tasks)) != NULL) {
        list_append(&now, link);
    }
    while ((link = list_take_first(&now)) != NULL) {
        struct loop_task *task = LIST_ENTRY(link, struct loop_task, link);
        task->run(task);
    }
}

static void on_tasks_due(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run_tasks(arg);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
}

static struct event_base *base_new(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;

    if (config != NULL && event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0) {
        base = event_base_new_with_config(config);
    }
    if (config != NULL) {
        event_config_free(config);
    }
    return base;
}

enum err loop_new(struct loop **out)
{
    struct loop *loop = calloc(1, sizeof *loop);

    CHECK(loop != NULL);
    signal(SIGPIPE, SIG_IGN);
    list_init(&loop->tasks);
    list_init(&loop->at_exit);
    loop->base = base_new();
    if (loop->base == NULL) {
        free(loop);
        return err_raise(ERR_IO, "event_base_new_with_config failed");
    }
    timer_queues_init(&loop->timers, loop->base);
    loop->tasks_due = event_new(loop->base, -1, 0, on_tasks_due, loop);
    loop->wake = event_new(loop->base, -1, 0, on_wake, loop);
    CHECK(loop->tasks_due != NULL && loop->wake != NULL);
    *out = loop;
    return ERR_OK;
}

void loop_free(struct loop *loop)
{
    struct link *link;

    if (loop == NULL) {
        return;
    }
    while ((link = list_take_first(&loop->at_exit)) != NULL) {
        struct loop_task *task = LIST_ENTRY(link, struct loop_task, link);
        task->run(task);
    }
    while (!list_is_empty(&loop->tasks)) {
        run_tasks(loop);
    }
    timer_queues_fini(&loop->timers);
    event_free(loop->tasks_due);
    event_free(loop->wake);
    event_base_free(loop->base);
    free(loop);
}

void loop_run(struct loop *loop)
{
    CHECK(event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY) >= 0);
}

void loop_stop(struct loop *loop)
{
    CHECK(event_base_loopbreak(loop->base) == 0);
}

void loop_run_for(struct loop *loop, uint32_t ms)
{
    const struct timeval delay = timeval_of_ms(ms);

    CHECK(event_add(loop->wake, &delay) == 0);
    CHECK(event_base_loop(loop->base, EVLOOP_ONCE) >= 0);
    CHECK(event_del(loop->wake) == 0);
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
    if (!link_is_linked(&task->link)) {
        list_append(&loop->tasks, &task->link);
    }
    event_active(loop->tasks_due, EV_TIMEOUT, 0);
}

void loop_task_cancel(struct loop_task *task)
{
    list_remove(&task->link);
}

void loop_at_exit(struct loop *loop, struct loop_task *task)
{
    list_append(&loop->at_exit, &task->link);
}

struct event_base *loop_base(struct loop *loop)
{
    return loop->base;
}

struct timer_queues *loop_timer_queues(struct loop *loop)
{
    return &loop->timers;
}

char *loop_scratch(struct loop *loop)
{
    return loop->scratch;
}
