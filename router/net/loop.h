/* One thread's event loop: timers, work put off until the present callback has returned. */
#pragma once

#include "base/err.h"
#include "base/list.h"
#include "proto/own.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event;
struct event_base;
struct loop;
struct timer_queues;

/* Bytes of the buffer that all of a loop's connections read into, so that an idle connection holds
 * none. What a callback gets from it is gone when the callback returns. */
enum { LOOP_SCRATCH_SIZE = 64 * 1024 };

/* Has the process ignore SIGPIPE: OpenSSL writes to sockets without MSG_NOSIGNAL. */
MUST_CHECK enum err loop_new(struct loop **out);

/* Everything that was made on the loop must be gone, except connections that were given up to be
 * closed after their output: those are closed now. */
void loop_free(struct loop *loop);

void loop_run(struct loop *loop);  /* until loop_stop */
void loop_stop(struct loop *loop); /* by the loop's own thread; others post a mail */

/* Waits for events for at most `ms` and handles those that came. For tests. */
void loop_run_for(struct loop *loop, uint32_t ms);

/* All its own. */
struct timer {
    struct loop *loop;
    void (*on_expired)(void *arg);
    void *arg;
    struct link link; /* of the timers of that length */
    uint64_t due_us;
    struct event *event; /* where there were too many lengths for that; NULL: none yet */
};

void timer_init(struct timer *timer, struct loop *loop, void (*on_expired)(void *arg), void *arg);
void timer_fini(struct timer *timer);               /* nothing happens to one that is all zero */
void timer_start(struct timer *timer, uint64_t ms); /* one shot; starts a running one anew; cheap,
                                                       where few lengths are in use */
void timer_stop(struct timer *timer);
bool timer_is_running(const struct timer *timer);

/* Work that runs soon, from the loop itself and not from inside the present callback. */
struct loop_task {
    struct link link;
    void (*run)(struct loop_task *task);
};

void loop_defer(struct loop *loop, struct loop_task *task); /* once, however often it is called */
void loop_task_cancel(struct loop_task *task);

/* The task runs when the loop is freed, unless it was cancelled before. */
void loop_at_exit(struct loop *loop, struct loop_task *task);

/* For net/ alone. */
struct event_base *loop_base(struct loop *loop);
struct timer_queues *loop_timer_queues(struct loop *loop);
char *loop_scratch(struct loop *loop); /* LOOP_SCRATCH_SIZE bytes */
