/* The write side of the store, for the journal alone. */
#pragma once

#include "store/store.h"

/* A commit of many tickets; each ticket is a nested transaction, all or nothing. ERR_IO once the
 * store has failed. */
MUST_CHECK enum err store_txn_begin(struct store_txn **out, struct store *store,
                                    struct metrics *metrics);

/* Between them store_txn_* changes belong to one ticket. _end keeps them if `outcome` and the
 * transaction's own error are ERR_OK, else undoes them, and says which it was. */
MUST_CHECK enum err store_txn_ticket_begin(struct store_txn *txn);
MUST_CHECK enum err store_txn_ticket_end(struct store_txn *txn, enum err outcome);

/* Frees the transaction. ERR_FULL: it did not fit; any other error closes the store for good. */
MUST_CHECK enum err store_txn_commit(struct store_txn *txn);
void store_txn_abort(struct store_txn *txn);
