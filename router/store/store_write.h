/* The write side of the store, for the journal alone. */
#pragma once

#include "store/store.h"

/* How the tickets of one commit are kept apart. */
enum store_txn_mode {
    STORE_TXN_TOGETHER, /* not: one that fails after a change, which is rare, spoils them all */
    STORE_TXN_NESTED,   /* each in a nested transaction, whose end takes LMDB the longer the more
                           pages the commit has changed already */
};

/* A commit of many tickets. ERR_IO once the store has failed. */
MUST_CHECK enum err store_txn_begin(struct store_txn **out, struct store *store,
                                    enum store_txn_mode mode, struct metrics *metrics);

/* It has to be aborted, and all tickets tried again in a nested one. */
bool store_txn_is_spoilt(const struct store_txn *txn);

/* Between them store_txn_* changes belong to one ticket. _end keeps them if `outcome` and the
 * transaction's own error are ERR_OK, else undoes them or is spoilt, and says which it was. */
MUST_CHECK enum err store_txn_ticket_begin(struct store_txn *txn);
MUST_CHECK enum err store_txn_ticket_end(struct store_txn *txn, enum err outcome);

/* Frees the transaction. ERR_FULL: it did not fit; any other error closes the store for good. */
MUST_CHECK enum err store_txn_commit(struct store_txn *txn);
void store_txn_abort(struct store_txn *txn);
