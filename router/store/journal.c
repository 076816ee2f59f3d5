#include "store/journal.h"

#include "base/clock.h"
#include "proto/check.h"
#include "store/store_write.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

/* The fields below the lock belong to it. */
struct journal {
    struct store *store;
    struct metrics *metrics; /* written by the journal thread alone */
    size_t max_bytes;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct ticket *first;
    struct ticket **last; /* where the next one is hung */
    size_t n_bytes;       /* of accepted tickets that are not done */
    uint64_t n_refused;   /* since the journal thread last counted them */
    bool is_stopping;
};

struct sweep {
    struct ticket *first; /* NULL: stopping and nothing left */
    size_t n_bytes;       /* held at that moment */
    uint64_t n_refused;
};

static struct sweep wait_for_tickets(struct journal *journal)
{
    CHECK(pthread_mutex_lock(&journal->lock) == 0);
    while (journal->first == NULL && !journal->is_stopping) {
        CHECK(pthread_cond_wait(&journal->filled, &journal->lock) == 0);
    }
    struct sweep sweep = {journal->first, journal->n_bytes, journal->n_refused};
    journal->first = NULL;
    journal->last = &journal->first;
    journal->n_refused = 0;
    CHECK(pthread_mutex_unlock(&journal->lock) == 0);
    return sweep;
}

static enum err apply(struct store_txn *txn, struct ticket *ticket)
{
    enum err result = store_txn_ticket_begin(txn);

    if (result != ERR_OK) {
        return result;
    }
    return store_txn_ticket_end(txn, ticket->apply(txn, ticket->arg));
}

static enum err apply_in(struct store_txn **txn, struct journal *journal, struct ticket *first,
                         enum store_txn_mode mode)
{
    enum err result = store_txn_begin(txn, journal->store, mode, journal->metrics);

    for (struct ticket *ticket = first;
         ticket != NULL && result == ERR_OK && !store_txn_is_spoilt(*txn); ticket = ticket->next) {
        ticket->result = apply(*txn, ticket);
        result = store_failed(journal->store) ? ERR_IO : ERR_OK;
    }
    return result;
}

/* ERR_OK if the changes of those with result ERR_OK are on disk. */
static enum err apply_all(struct journal *journal, struct ticket *first)
{
    struct store_txn *txn = NULL;
    enum err result = apply_in(&txn, journal, first, STORE_TXN_TOGETHER);

    if (result == ERR_OK && store_txn_is_spoilt(txn)) {
        store_txn_abort(TAKE(txn));
        result = apply_in(&txn, journal, first, STORE_TXN_NESTED);
    }
    if (txn == NULL) {
        return result;
    }
    if (result != ERR_OK) {
        store_txn_abort(txn);
        return result;
    }
    return store_txn_commit(txn);
}

static void release(struct journal *journal, size_t n_bytes)
{
    CHECK(pthread_mutex_lock(&journal->lock) == 0);
    journal->n_bytes -= n_bytes;
    size_t left = journal->n_bytes;
    CHECK(pthread_mutex_unlock(&journal->lock) == 0);
    metrics_gauge_set(journal->metrics, GAUGE_journal_bytes, (int64_t)left);
}

static void complete_all(struct journal *journal, struct ticket *first, enum err commit)
{
    size_t n_bytes = 0;

    while (first != NULL) {
        struct ticket *ticket = first;
        enum err result = commit != ERR_OK ? commit : ticket->result;
        first = ticket->next; /* `done` may free the ticket */
        n_bytes += ticket->bytes;
        metrics_add(
            journal->metrics,
            result == ERR_OK ? COUNTER_journal_records_total : COUNTER_journal_refused_total, 1);
        ticket->done(ticket->arg, result);
    }
    release(journal, n_bytes);
}

static void *run(void *arg)
{
    struct journal *journal = arg;
    struct sweep sweep;

    for (sweep = wait_for_tickets(journal); sweep.first != NULL;
         sweep = wait_for_tickets(journal)) {
        uint64_t began_us = clock_monotonic_us();
        metrics_add(journal->metrics, COUNTER_journal_refused_total, sweep.n_refused);
        metrics_gauge_set(journal->metrics, GAUGE_journal_bytes, (int64_t)sweep.n_bytes);
        enum err commit = apply_all(journal, sweep.first);
        metrics_observe_since(journal->metrics, HISTOGRAM_journal_seconds, began_us);
        metrics_add(journal->metrics, COUNTER_journal_commits_total, commit == ERR_OK ? 1 : 0);
        metrics_gauge_set(journal->metrics, GAUGE_store_failed, store_failed(journal->store));
        complete_all(journal, sweep.first, commit);
    }
    metrics_add(journal->metrics, COUNTER_journal_refused_total, sweep.n_refused);
    return NULL;
}

enum err journal_start(struct journal **out, struct store *store, struct metrics *metrics,
                       size_t max_bytes)
{
    struct journal *journal = calloc(1, sizeof *journal);

    CHECK(journal != NULL);
    *journal = (struct journal){.store = store, .metrics = metrics, .max_bytes = max_bytes};
    journal->last = &journal->first;
    CHECK(pthread_mutex_init(&journal->lock, NULL) == 0);
    CHECK(pthread_cond_init(&journal->filled, NULL) == 0);
    int rc = pthread_create(&journal->thread, NULL, run, journal);
    if (rc != 0) {
        CHECK(pthread_cond_destroy(&journal->filled) == 0);
        CHECK(pthread_mutex_destroy(&journal->lock) == 0);
        free(journal);
        return err_raise(ERR_IO, "pthread_create: errno %d", rc);
    }
    *out = journal;
    return ERR_OK;
}

enum err journal_submit(struct journal *journal, struct ticket *ticket)
{
    enum err result = store_failed(journal->store) ? ERR_IO : ERR_OK;

    CHECK(pthread_mutex_lock(&journal->lock) == 0);
    CHECK(!journal->is_stopping);
    if (result == ERR_OK && ticket->bytes > journal->max_bytes - journal->n_bytes) {
        result = ERR_FULL;
    }
    if (result == ERR_OK) {
        ticket->next = NULL;
        ticket->result = ERR_OK;
        *journal->last = ticket;
        journal->last = &ticket->next;
        journal->n_bytes += ticket->bytes;
        CHECK(pthread_cond_signal(&journal->filled) == 0);
    } else {
        journal->n_refused++;
    }
    CHECK(pthread_mutex_unlock(&journal->lock) == 0);
    return result;
}

void journal_stop(struct journal *journal)
{
    if (journal == NULL) {
        return;
    }
    CHECK(pthread_mutex_lock(&journal->lock) == 0);
    journal->is_stopping = true;
    CHECK(pthread_cond_signal(&journal->filled) == 0);
    CHECK(pthread_mutex_unlock(&journal->lock) == 0);
    CHECK(pthread_join(journal->thread, NULL) == 0);
    CHECK(pthread_cond_destroy(&journal->filled) == 0);
    CHECK(pthread_mutex_destroy(&journal->lock) == 0);
    free(journal);
}
