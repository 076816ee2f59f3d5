/* The one thread that writes the store: it takes every queued ticket, commits once, completes all.
 */
#pragma once

#include "base/err.h"
#include "base/metrics.h"
#include "proto/own.h"
#include "store/store.h"

#include <stddef.h>

struct journal;

/* One change of the store. Embedded in something of the caller's, which lives until `done`. */
struct ticket {
    struct ticket *next; /* the journal's */
    enum err result;     /* the journal's */
    size_t bytes;        /* what it holds in memory, charged to the queue's cap */
    /* On the journal thread, inside the write transaction: reads and changes records with
     * store_txn_*; all of a ticket's changes are kept or none. Called again if the first time was
     * undone because another ticket failed; not called once the store failed. */
    enum err (*apply)(struct store_txn *txn, void *arg);
    /* On the journal thread, after the commit has returned, exactly once for every ticket that was
     * accepted. ERR_OK means on disk. Callers post it to their own mailbox. */
    void (*done)(void *arg, enum err result);
    void *arg;
};

/* `metrics` becomes the journal thread's own. */
MUST_CHECK enum err journal_start(struct journal **out, struct store *store,
                                  struct metrics *metrics, size_t max_bytes);

/* Any thread. ERR_FULL over the byte cap and ERR_IO once the store has failed: the ticket was not
 * taken and `done` is not called. */
MUST_CHECK enum err journal_submit(struct journal *journal, struct ticket *ticket);

/* Commits what is queued, completes it and joins the thread. Nothing may be submitted any more. */
void journal_stop(struct journal *journal);
