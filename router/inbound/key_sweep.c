#include "inbound/key_sweep.h"

#include "base/clock.h"
#include "inbound/key_record.h"
#include "proto/check.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct key_sweep {
    struct journal *journal;
    struct timer timer;
    uint64_t round_ms, next_ms;
    struct ticket ticket;
    atomic_bool is_running; /* the ticket is the journal's */
    /* The journal thread's while it runs: */
    struct store_key at; /* the last one looked at */
    bool is_round_over;
};

static const struct store_key first_key = {{STORE_KEY}};

static bool has_ended(struct span bytes, int64_t now_ms)
{
    struct key_record record;

    if (!key_record_decode(&record, bytes)) {
        return true; /* of no use either */
    }
    for (uint32_t i = 0; i < record.n_keys; i++) {
        if (record.keys[i].valid_until_ms >= now_ms) {
            return false;
        }
    }
    return true;
}

static enum err apply(struct store_txn *txn, void *arg)
{
    struct key_sweep *sweep = arg;
    int64_t now_ms = clock_ms();
    struct span bytes;

    for (int i = 0; i < KEY_SWEEP_RECORDS; i++) {
        enum err result = store_txn_next(&bytes, txn, &sweep->at);
        if (result == ERR_NOT_FOUND) {
            sweep->at = first_key;
            sweep->is_round_over = true;
            return ERR_OK;
        }
        if (result == ERR_CORRUPT || (result == ERR_OK && has_ended(bytes, now_ms))) {
            store_txn_delete(txn, &sweep->at);
        } else if (result != ERR_OK) {
            return result;
        }
    }
    return ERR_OK;
}

static void on_done(void *arg, enum err result)
{
    struct key_sweep *sweep = arg;

    (void)result; /* what was not deleted is met again in the next round */
    atomic_store(&sweep->is_running, false);
}

static void on_timer(void *arg)
{
    struct key_sweep *sweep = arg;

    timer_start(&sweep->timer, sweep->next_ms);
    if (atomic_load(&sweep->is_running)) {
        return;
    }
    if (sweep->is_round_over) {
        sweep->is_round_over = false;
        timer_start(&sweep->timer, sweep->round_ms);
        return;
    }
    atomic_store(&sweep->is_running, true);
    sweep->ticket =
        (struct ticket){.bytes = sizeof *sweep, .apply = apply, .done = on_done, .arg = sweep};
    if (journal_submit(sweep->journal, &sweep->ticket) != ERR_OK) {
        atomic_store(&sweep->is_running, false);
    }
}

struct key_sweep *key_sweep_new(struct loop *loop, struct journal *journal, uint64_t round_ms,
                                uint64_t next_ms)
{
    struct key_sweep *sweep = calloc(1, sizeof *sweep);

    CHECK(sweep != NULL);
    sweep->journal = journal;
    sweep->round_ms = round_ms;
    sweep->next_ms = next_ms;
    sweep->at = first_key;
    timer_init(&sweep->timer, loop, on_timer, sweep);
    timer_start(&sweep->timer, next_ms);
    return sweep;
}

void key_sweep_free(struct key_sweep *sweep)
{
    if (sweep != NULL) {
        timer_fini(&sweep->timer);
        free(sweep);
    }
}
