/* The running timers of a loop: those of one length in one queue, in the order in which they
 * expire, so that starting and stopping one is a matter of a few pointers. */
#pragma once

#include "base/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event;
struct event_base;

enum {
    TIMER_QUEUES_MAX = 32 /* lengths at a time; a timer of yet another one has its own event */
};

struct timer_queue {
    uint64_t ms;
    struct list timers;
    struct event *event; /* pending while is_armed, at the first one's time or before */
    bool is_armed;
};

struct timer_queues {
    struct event_base *base;
    uint64_t tick_us; /* of the clock that timers are started by */
    size_t n;
    struct timer_queue list[TIMER_QUEUES_MAX];
};

void timer_queues_init(struct timer_queues *queues, struct event_base *base);
void timer_queues_fini(struct timer_queues *queues); /* no timer may run any more */
