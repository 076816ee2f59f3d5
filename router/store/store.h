/* The store: an LMDB environment that many threads read and the journal thread alone writes. */
#pragma once

#include "base/err.h"
#include "base/metrics.h"
#include "proto/own.h"
#include "proto/span.h"
#include "store/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    STORE_SCHEMA_VERSION = 1,
    STORE_FULL_PERCENT = 90, /* of the map; above it new records are refused */
};

struct store;

/* Creates the directory if need be. A schema version that this program does not know is
 * ERR_CONFIG: nothing is read or changed. */
MUST_CHECK enum err store_open(struct store **out, const char *dir, size_t map_bytes);
void store_close(struct store *store); /* after every reader and the journal; NULL is fine */

/* True after an I/O error or a full disk: no more writes until a restart. Any thread. */
bool store_failed(const struct store *store);

/* Reading. One per thread; between begin and end it sees one state of the store. `metrics` is that
 * thread's own. */
struct store_reader;

MUST_CHECK enum err store_reader_new(struct store_reader **out, struct store *store,
                                     struct metrics *metrics);
void store_reader_free(struct store_reader *reader);
MUST_CHECK enum err store_reader_begin(struct store_reader *reader);
void store_reader_end(struct store_reader *reader); /* before the callback that began it returns */
bool store_reader_is_open(const struct store_reader *reader);

/* ERR_NOT_FOUND; ERR_CORRUPT for a checksum that does not match, counted and best taken as not
 * found. The value lives until store_reader_end. */
MUST_CHECK enum err store_get(struct span *out_value, struct store_reader *reader,
                              const struct store_key *key);

/* Writing: on the journal thread only, inside a journal's apply. Sticky: after a first error the
 * calls do nothing and the ticket's changes are undone. */
struct store_txn;

/* As store_get; the value lives until the next change in this transaction. */
MUST_CHECK enum err store_txn_get(struct span *out_value, struct store_txn *txn,
                                  const struct store_key *key);
/* The record that follows *key among those of its kind, in the order of keys, which becomes *key;
 * one that is all zero but the kind comes before all. ERR_NOT_FOUND at the end; ERR_CORRUPT as
 * store_txn_get, with *key moved on. */
MUST_CHECK enum err store_txn_next(struct span *out_value, struct store_txn *txn,
                                   struct store_key *key);
/* A record that is not there yet is ERR_FULL above STORE_FULL_PERCENT of the map. */
void store_txn_put(struct store_txn *txn, const struct store_key *key, struct span value);
void store_txn_delete(struct store_txn *txn, const struct store_key *key); /* if it is there */
enum err store_txn_error(const struct store_txn *txn);
