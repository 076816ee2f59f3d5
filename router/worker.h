/* A thread with its own event loop, listener and connections. */
#pragma once

#include "base/err.h"
#include "base/metrics.h"
#include "net/ask.h"
#include "proto/own.h"
#include "settings.h"
#include "store/journal.h"
#include "store/store.h"

#include <stddef.h>
#include <stdint.h>

struct worker;

/* Borrowed for the worker's life. */
struct worker_options {
    size_t index, n_workers;
    struct settings *settings; /* the worker takes a reference of its own */
    struct store *store;
    struct journal *journal;
    struct list_marks *list_marks;
    struct metrics *metrics;       /* the worker's own */
    struct ask_ring *key_ring;     /* with n_workers ports */
    struct ask_ring *read_ring;    /* with n_workers ports */
    uint16_t port;                 /* 0: any free one */
    void (*on_drained)(void *arg); /* on the worker's thread, once, after worker_drain */
    void *arg;
};

/* Listens, but answers nobody before worker_start. All workers are made before the first starts. */
MUST_CHECK enum err worker_new(struct worker **out, const struct worker_options *options);
uint16_t worker_port(const struct worker *worker);
MUST_CHECK enum err worker_start(struct worker *worker);

/* From any thread; acted on soon. */
void worker_reload(struct worker *worker, struct settings *settings); /* takes a reference */
void worker_drain(struct worker *worker); /* accepts no more; on_drained when nothing is left */
void worker_stop(struct worker *worker);  /* ends the loop, whatever is left */

void worker_join(struct worker *worker); /* after worker_stop */

/* After every worker was joined, and after journal_stop. NULL is fine. */
void worker_free(struct worker *worker);
