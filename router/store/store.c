#include "store/store.h"

#include "proto/check.h"
#include "store/store_write.h"

#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
    READERS_MAX = 512,  /* threads and their spares; LMDB's default is 126 */
    RESERVE_PAGES = 16, /* what a commit may need beyond the records it was counted for */
};

struct store {
    MDB_env *env;
    MDB_dbi dbi;
    size_t map_pages;
    size_t page_size; /* bytes */
    atomic_bool failed;
};

struct store_reader {
    MDB_txn *txn; /* reset while not open */
    MDB_dbi dbi;
    bool is_open;
    struct metrics *metrics;
};

struct store_txn {
    struct store *store;
    struct metrics *metrics;
    enum store_txn_mode mode;
    MDB_txn *all;
    MDB_txn *ticket;  /* `all` or a child of it, NULL between tickets */
    enum err error;   /* sticky, of the running ticket */
    bool has_changed; /* the running ticket, something */
    bool is_spoilt;
    pthread_t thread;
};

static MDB_val key_value(const struct store_key *key)
{
    /* LMDB's interface has no const; it does not write through keys. */
    return (MDB_val){STORE_KEY_SIZE, (void *)(uintptr_t)key->bytes};
}

static struct store_key version_key(void)
{
    struct store_key key;

    store_key_make(&key, STORE_META, &SPAN_LIT("schema"), 1);
    return key;
}

/* The version is a decimal text, so that any later version can be told apart and named. */
static enum err check_version(struct store *store, MDB_txn *txn)
{
    char text[] = {'0' + STORE_SCHEMA_VERSION, '\0'};
    struct store_key key = version_key();
    MDB_val at = key_value(&key);
    MDB_val found;
    struct span version;
    int rc = mdb_get(txn, store->dbi, &at, &found);

    if (rc == MDB_NOTFOUND) {
        MDB_stat stat;
        rc = mdb_stat(txn, store->dbi, &stat);
        if (rc == 0 && stat.ms_entries != 0) {
            return err_raise(ERR_CONFIG, "the store has records but no schema version");
        }
        uint8_t record[RECORD_CHECKSUM_SIZE + 1] = {0};
        record_seal(record, span_of(text, 1));
        record[RECORD_CHECKSUM_SIZE] = (uint8_t)text[0];
        MDB_val value = {sizeof record, record};
        rc = rc == 0 ? mdb_put(txn, store->dbi, &at, &value, 0) : rc;
        return rc == 0 ? ERR_OK : err_raise(ERR_IO, "schema version: %s", mdb_strerror(rc));
    }
    if (rc != 0) {
        return err_raise(ERR_IO, "schema version: %s", mdb_strerror(rc));
    }
    if (!record_open(&version, span_of(found.mv_data, found.mv_size))) {
        return err_raise(ERR_CONFIG, "the store's schema version does not match its checksum");
    }
    if (!span_equal(version, span_of(text, 1))) {
        return err_raise(ERR_CONFIG, "the store's schema version is \"%.*s\", known is \"%s\"",
                         (int)(version.size < 20 ? version.size : 20), version.data, text);
    }
    return ERR_OK;
}

static enum err open_database(struct store *store)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);

    if (rc != 0) {
        return err_raise(ERR_IO, "mdb_txn_begin: %s", mdb_strerror(rc));
    }
    rc = mdb_dbi_open(txn, NULL, 0, &store->dbi);
    enum err result = rc == 0 ? check_version(store, txn)
                              : err_raise(ERR_IO, "mdb_dbi_open: %s", mdb_strerror(rc));
    if (result != ERR_OK) {
        mdb_txn_abort(txn);
        return result;
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? ERR_OK : err_raise(ERR_IO, "mdb_txn_commit: %s", mdb_strerror(rc));
}

static enum err open_environment(struct store *store, const char *dir, size_t map_bytes)
{
    MDB_envinfo info;
    MDB_stat stat;
    int rc = mdb_env_create(&store->env);

    if (rc == 0) {
        rc = mdb_env_set_mapsize(store->env, map_bytes);
    }
    if (rc == 0) {
        rc = mdb_env_set_maxreaders(store->env, READERS_MAX);
    }
    if (rc == 0) {
        rc = mdb_env_open(store->env, dir, MDB_NOTLS, 0600);
    }
    if (rc != 0 || mdb_env_info(store->env, &info) != 0 || mdb_env_stat(store->env, &stat) != 0) {
        return err_raise(ERR_IO, "mdb_env_open: %s", mdb_strerror(rc));
    }
    store->page_size = stat.ms_psize;
    store->map_pages = info.me_mapsize / stat.ms_psize;
    return ERR_OK;
}

static void close_guarded(struct store **store)
{
    store_close(*store);
}

enum err store_open(struct store **out, const char *dir, size_t map_bytes)
{
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return err_raise(ERR_IO, "mkdir: errno %d", errno);
    }
    AUTO(close_guarded) struct store *store = calloc(1, sizeof *store);
    CHECK(store != NULL);
    enum err result = open_environment(store, dir, map_bytes);
    if (result == ERR_OK) {
        result = open_database(store);
    }
    if (result == ERR_OK) {
        *out = TAKE(store);
    }
    return result;
}

void store_close(struct store *store)
{
    if (store != NULL) {
        mdb_env_close(store->env);
        free(store);
    }
}

bool store_failed(const struct store *store)
{
    return atomic_load_explicit(&store->failed, memory_order_acquire);
}

enum err store_reader_new(struct store_reader **out, struct store *store, struct metrics *metrics)
{
    struct store_reader *reader = calloc(1, sizeof *reader);

    CHECK(reader != NULL);
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &reader->txn);
    if (rc != 0) {
        free(reader);
        return err_raise(ERR_IO, "mdb_txn_begin: %s", mdb_strerror(rc));
    }
    mdb_txn_reset(reader->txn);
    reader->dbi = store->dbi;
    reader->metrics = metrics;
    *out = reader;
    return ERR_OK;
}

void store_reader_free(struct store_reader *reader)
{
    if (reader != NULL) {
        mdb_txn_abort(reader->txn);
        free(reader);
    }
}

enum err store_reader_begin(struct store_reader *reader)
{
    CHECK(!reader->is_open);
    int rc = mdb_txn_renew(reader->txn);
    if (rc != 0) {
        return err_raise(ERR_IO, "mdb_txn_renew: %s", mdb_strerror(rc));
    }
    reader->is_open = true;
    return ERR_OK;
}

void store_reader_end(struct store_reader *reader)
{
    CHECK(reader->is_open);
    mdb_txn_reset(reader->txn);
    reader->is_open = false;
}

bool store_reader_is_open(const struct store_reader *reader)
{
    return reader->is_open;
}

static enum err get(struct span *out, MDB_txn *txn, MDB_dbi dbi, const struct store_key *key,
                    struct metrics *metrics)
{
    MDB_val at = key_value(key);
    MDB_val found;
    int rc = mdb_get(txn, dbi, &at, &found);

    if (rc == MDB_NOTFOUND) {
        return ERR_NOT_FOUND;
    }
    if (rc != 0) {
        return err_raise(ERR_IO, "mdb_get: %s", mdb_strerror(rc));
    }
    if (!record_open(out, span_of(found.mv_data, found.mv_size))) {
        metrics_add(metrics, COUNTER_store_corrupt_total, 1);
        return err_raise(ERR_CORRUPT, "a record of kind '%c' does not match its checksum",
                         key->bytes[0]);
    }
    return ERR_OK;
}

enum err store_get(struct span *out_value, struct store_reader *reader, const struct store_key *key)
{
    CHECK(reader->is_open);
    return get(out_value, reader->txn, reader->dbi, key, reader->metrics);
}

/* A full map is not a full disk: what did not fit is refused, the rest goes on. */
static bool is_full(int rc)
{
    return rc == MDB_MAP_FULL || rc == MDB_TXN_FULL;
}

/* A full disk or an I/O error leaves nothing to trust: no more writes until a restart. */
static enum err fail_for_good(struct store *store, const char *what, int rc)
{
    atomic_store_explicit(&store->failed, true, memory_order_release);
    return err_raise(ERR_IO, "%s: %s; the store takes no more writes", what, mdb_strerror(rc));
}

static enum err error_of(struct store *store, const char *what, int rc)
{
    return is_full(rc) ? err_raise(ERR_FULL, "%s: %s", what, mdb_strerror(rc))
                       : fail_for_good(store, what, rc);
}

enum err store_txn_begin(struct store_txn **out, struct store *store, enum store_txn_mode mode,
                         struct metrics *metrics)
{
    if (store_failed(store)) {
        return ERR_IO;
    }
    struct store_txn *txn = calloc(1, sizeof *txn);
    CHECK(txn != NULL);
    *txn = (struct store_txn){
        .store = store, .metrics = metrics, .mode = mode, .thread = pthread_self()};
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn->all);
    if (rc != 0) {
        free(txn);
        return fail_for_good(store, "mdb_txn_begin", rc);
    }
    *out = txn;
    return ERR_OK;
}

bool store_txn_is_spoilt(const struct store_txn *txn)
{
    return txn->is_spoilt;
}

enum err store_txn_ticket_begin(struct store_txn *txn)
{
    CHECK(txn->ticket == NULL && !txn->is_spoilt);
    if (store_failed(txn->store)) {
        return ERR_IO;
    }
    txn->error = ERR_OK;
    txn->has_changed = false;
    if (txn->mode == STORE_TXN_TOGETHER) {
        txn->ticket = txn->all;
        return ERR_OK;
    }
    int rc = mdb_txn_begin(txn->store->env, txn->all, 0, &txn->ticket);
    return rc == 0 ? ERR_OK : fail_for_good(txn->store, "mdb_txn_begin", rc);
}

enum err store_txn_ticket_end(struct store_txn *txn, enum err outcome)
{
    CHECK(txn->ticket != NULL);
    enum err result = txn->error != ERR_OK ? txn->error : outcome;
    MDB_txn *ticket = TAKE(txn->ticket);

    if (txn->mode == STORE_TXN_TOGETHER) {
        txn->is_spoilt = txn->is_spoilt || (result != ERR_OK && txn->has_changed);
        return result;
    }
    if (result != ERR_OK) {
        mdb_txn_abort(ticket);
        return result;
    }
    int rc = mdb_txn_commit(ticket);
    return rc == 0 ? ERR_OK : error_of(txn->store, "mdb_txn_commit", rc);
}

enum err store_txn_commit(struct store_txn *txn)
{
    struct store *store = txn->store;
    CHECK(txn->ticket == NULL);
    int rc = mdb_txn_commit(txn->all);

    free(txn);
    return rc == 0 ? ERR_OK : error_of(store, "mdb_txn_commit", rc);
}

void store_txn_abort(struct store_txn *txn)
{
    if (txn->ticket != NULL && txn->ticket != txn->all) {
        mdb_txn_abort(txn->ticket);
    }
    mdb_txn_abort(txn->all);
    free(txn);
}

/* Only the thread that began it, and only inside a ticket. */
static void check_caller(const struct store_txn *txn)
{
    CHECK(txn->ticket != NULL && pthread_equal(txn->thread, pthread_self()) != 0);
}

enum err store_txn_get(struct span *out_value, struct store_txn *txn, const struct store_key *key)
{
    check_caller(txn);
    if (txn->error != ERR_OK) {
        return txn->error;
    }
    return get(out_value, txn->ticket, txn->store->dbi, key, txn->metrics);
}

/* False if there is none. */
static bool find_next(MDB_cursor *cursor, struct store_key *key)
{
    MDB_val at = key_value(key);
    MDB_val value;

    if (mdb_cursor_get(cursor, &at, &value, MDB_SET_RANGE) != 0) {
        return false;
    }
    bool is_itself =
        at.mv_size == sizeof key->bytes && memcmp(at.mv_data, key->bytes, sizeof key->bytes) == 0;
    if (is_itself && mdb_cursor_get(cursor, &at, &value, MDB_NEXT) != 0) {
        return false;
    }
    if (at.mv_size != sizeof key->bytes ||
        memcmp(at.mv_data, key->bytes, 1) != 0) { /* of another kind */
        return false;
    }
    memcpy(key->bytes, at.mv_data, sizeof key->bytes);
    return true;
}

enum err store_txn_next(struct span *out_value, struct store_txn *txn, struct store_key *key)
{
    MDB_cursor *cursor;

    check_caller(txn);
    if (txn->error != ERR_OK) {
        return txn->error;
    }
    int rc = mdb_cursor_open(txn->ticket, txn->store->dbi, &cursor);
    if (rc != 0) {
        txn->error = error_of(txn->store, "mdb_cursor_open", rc);
        return txn->error;
    }
    bool is_there = find_next(cursor, key);
    mdb_cursor_close(cursor);
    return is_there ? store_txn_get(out_value, txn, key) : ERR_NOT_FOUND;
}

/* Pages taken from the end of the map, less those that are free again: LMDB's own high-water mark
 * never sinks, so without the free ones a store once full would refuse for ever. */
static bool is_nearly_full(struct store_txn *txn)
{
    const struct store *store = txn->store;
    MDB_stat stat;
    size_t used;

    if (mdb_stat(txn->ticket, store->dbi, &stat) != 0) {
        return true;
    }
    used = stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages + RESERVE_PAGES;
    return used > store->map_pages / 100 * STORE_FULL_PERCENT;
}

void store_txn_put(struct store_txn *txn, const struct store_key *key, struct span value)
{
    MDB_val at = key_value(key);
    MDB_val old;

    check_caller(txn);
    CHECK(value.size <= RECORD_PAYLOAD_MAX);
    if (txn->error != ERR_OK) {
        return;
    }
    if (is_nearly_full(txn) && mdb_get(txn->ticket, txn->store->dbi, &at, &old) != 0) {
        txn->error = ERR_FULL; /* counted by the journal, not logged: it may last */
        return;
    }
    MDB_val room = {RECORD_CHECKSUM_SIZE + value.size, NULL};
    int rc = mdb_put(txn->ticket, txn->store->dbi, &at, &room, MDB_RESERVE);
    txn->has_changed = true; /* after an error LMDB takes no more in this transaction, either */
    if (rc != 0) {
        txn->error = error_of(txn->store, "mdb_put", rc);
        return;
    }
    uint8_t *to = room.mv_data;
    record_seal(to, value);
    if (value.size != 0) {
        memcpy(to + RECORD_CHECKSUM_SIZE, value.data, value.size);
    }
}

void store_txn_delete(struct store_txn *txn, const struct store_key *key)
{
    MDB_val at = key_value(key);

    check_caller(txn);
    if (txn->error != ERR_OK) {
        return;
    }
    int rc = mdb_del(txn->ticket, txn->store->dbi, &at, NULL);
    txn->has_changed = true;
    if (rc != 0 && rc != MDB_NOTFOUND) {
        txn->error = error_of(txn->store, "mdb_del", rc);
    }
}

enum err store_txn_error(const struct store_txn *txn)
{
    return txn->error;
}
