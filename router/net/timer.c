#include "base/clock.h"
#include "net/loop.h"
#include "net/timer_queues.h"
#include "proto/check.h"

#include <event2/event.h>

void timer_queues_init(struct timer_queues *queues, struct event_base *base)
{
    *queues = (struct timer_queues){.base = base, .tick_us = clock_coarse_tick_us()};
}

void timer_queues_fini(struct timer_queues *queues)
{
    for (size_t i = 0; i < queues->n; i++) {
        CHECK(list_is_empty(&queues->list[i].timers));
        event_free(queues->list[i].event);
    }
}

static struct timer *first_timer(struct timer_queue *queue)
{
    struct link *first = list_first(&queue->timers);

    return first == NULL ? NULL : LIST_ENTRY(first, struct timer, link);
}

static void add_event(struct event *event, uint64_t us)
{
    const struct timeval delay = {.tv_sec = (time_t)(us / 1000000),
                                  .tv_usec = (suseconds_t)(us % 1000000)};

    CHECK(event_add(event, &delay) == 0);
}

static void arm(struct timer_queue *queue, uint64_t us)
{
    add_event(queue->event, us);
    queue->is_armed = true;
}

static void expire(struct timer *timer)
{
    timer->on_expired(timer->arg);
}

static void on_queue_due(evutil_socket_t fd, short what, void *arg)
{
    struct timer_queue *queue = arg;
    uint64_t now_us = clock_monotonic_us();
    struct timer *timer;

    (void)fd;
    (void)what;
    queue->is_armed = true; /* so that nobody arms it meanwhile */
    while ((timer = first_timer(queue)) != NULL && timer->due_us <= now_us) {
        list_remove(&timer->link);
        expire(timer);
    }
    queue->is_armed = false;
    if (timer != NULL) {
        arm(queue, timer->due_us - now_us);
    }
}

static void on_own_event_due(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    expire(arg);
}

static struct timer_queue *new_queue(struct timer_queues *queues)
{
    struct timer_queue *queue = &queues->list[queues->n++];

    list_init(&queue->timers);
    queue->event = event_new(queues->base, -1, 0, on_queue_due, queue);
    CHECK(queue->event != NULL);
    return queue;
}

/* NULL if there are too many lengths. */
static struct timer_queue *queue_of(struct timer_queues *queues, uint64_t ms)
{
    struct timer_queue *unused = NULL;

    for (size_t i = 0; i < queues->n; i++) {
        struct timer_queue *queue = &queues->list[i];
        if (queue->ms == ms) {
            return queue;
        }
        if (unused == NULL && list_is_empty(&queue->timers) && !queue->is_armed) {
            unused = queue;
        }
    }
    if (unused == NULL && queues->n < TIMER_QUEUES_MAX) {
        unused = new_queue(queues);
    }
    if (unused != NULL) {
        unused->ms = ms;
    }
    return unused;
}

void timer_init(struct timer *timer, struct loop *loop, void (*on_expired)(void *arg), void *arg)
{
    *timer = (struct timer){.loop = loop, .on_expired = on_expired, .arg = arg};
}

void timer_fini(struct timer *timer)
{
    list_remove(&timer->link);
    if (timer->event != NULL) {
        event_free(timer->event);
        timer->event = NULL;
    }
}

static void start_own_event(struct timer *timer, uint64_t ms)
{
    if (timer->event == NULL) {
        struct event_base *base = loop_base(timer->loop);
        timer->event = event_new(base, -1, 0, on_own_event_due, timer);
        CHECK(timer->event != NULL);
    }
    add_event(timer->event, ms * 1000);
}

void timer_start(struct timer *timer, uint64_t ms)
{
    struct timer_queues *queues = loop_timer_queues(timer->loop);
    uint64_t due_us = clock_coarse_us() + queues->tick_us + ms * 1000; /* it may be a tick behind */

    if (link_is_linked(&timer->link) && timer->due_us == due_us) {
        return;
    }
    timer_stop(timer);
    struct timer_queue *queue = queue_of(queues, ms);
    if (queue == NULL) {
        start_own_event(timer, ms);
        return;
    }
    timer->due_us = due_us;
    list_append(&queue->timers, &timer->link);
    if (!queue->is_armed) {
        arm(queue, ms * 1000);
    }
}

void timer_stop(struct timer *timer)
{
    list_remove(&timer->link);
    if (timer->event != NULL) {
        CHECK(event_del(timer->event) == 0);
    }
}

bool timer_is_running(const struct timer *timer)
{
    return link_is_linked(&timer->link) ||
           (timer->event != NULL && event_pending(timer->event, EV_TIMEOUT, NULL) != 0);
}
