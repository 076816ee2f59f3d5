#include "lists/lists.h"

#include "proto/check.h"

#include <stdlib.h>

struct lists {
    const struct store *store;
    struct store_reader *reader;
    struct journal *journal;
};

/* An update on its way through the journal; it owns its bytes. */
struct pending {
    struct ticket ticket;
    struct list_update update;
    void (*done)(void *arg, enum err result);
    void *arg;
    char bytes[];
};

enum err lists_new(struct lists **out, struct store *store, struct journal *journal,
                   struct metrics *metrics)
{
    struct lists *lists = calloc(1, sizeof *lists);

    CHECK(lists != NULL);
    enum err result = store_reader_new(&lists->reader, store, metrics);
    if (result != ERR_OK) {
        free(lists);
        return result;
    }
    lists->store = store;
    lists->journal = journal;
    *out = lists;
    return ERR_OK;
}

void lists_free(struct lists *lists)
{
    if (lists != NULL) {
        store_reader_free(lists->reader);
        free(lists);
    }
}

bool lists_failed(const struct lists *lists)
{
    return store_failed(lists->store);
}

static struct store_key key_of(struct span server, struct span user_id)
{
    const struct span parts[] = {server, user_id};
    struct store_key key;

    store_key_make(&key, STORE_LIST, parts, 2);
    return key;
}

/* A damaged record was counted where it was found; what it said is read again from its source. */
static enum err none_if_damaged(enum err result)
{
    return result == ERR_CORRUPT ? ERR_NOT_FOUND : result;
}

enum err lists_get(struct device_list *out, struct lists *lists, struct arena *arena,
                   struct span server, struct span user_id)
{
    struct store_key key = key_of(server, user_id);
    struct span record = {0};
    enum err result = store_reader_begin(lists->reader);

    if (result != ERR_OK) {
        return result;
    }
    result = store_get(&record, lists->reader, &key);
    if (result == ERR_OK) {
        record = arena_copy(arena, record);
    }
    store_reader_end(lists->reader);
    if (result != ERR_OK) {
        return none_if_damaged(result);
    }
    if (record.data == NULL) {
        return ERR_NO_MEMORY;
    }
    return device_list_decode(out, record) ? ERR_OK : ERR_NOT_FOUND;
}

static enum err store_list(struct store_txn *txn, const struct store_key *key,
                           const struct device_list *list)
{
    struct writer w;

    writer_init(&w, DEVICE_LIST_RECORD_MAX);
    device_list_encode(&w, list);
    enum err result = w.failed ? err_raise(ERR_FULL, "a device list is too long to store") : ERR_OK;
    if (result == ERR_OK) {
        store_txn_put(txn, key, writer_span(&w));
    }
    writer_fini(&w);
    return result;
}

static enum err apply_pending(struct store_txn *txn, void *arg)
{
    const struct pending *pending = arg;
    struct store_key key = key_of(pending->update.server, pending->update.user_id);
    struct span record;
    struct device_list old;
    struct device_list next;
    enum err result = none_if_damaged(store_txn_get(&record, txn, &key));

    if (result != ERR_OK && result != ERR_NOT_FOUND) {
        return result;
    }
    bool had_one = result == ERR_OK && device_list_decode(&old, record);
    if (device_list_apply(&next, had_one ? &old : NULL, &pending->update) == LIST_KEPT) {
        return ERR_OK;
    }
    return store_list(txn, &key, &next);
}

static void pending_done(void *arg, enum err result)
{
    struct pending *pending = arg;

    if (pending->done != NULL) {
        pending->done(pending->arg, result);
    }
    free(pending);
}

/* Copies the bytes to *at, which moves on. */
static struct span put_bytes(char **at, struct span bytes)
{
    struct span copy = span_of(*at, bytes.size);

    if (bytes.size != 0) {
        memcpy(*at, bytes.data, bytes.size);
        *at += bytes.size;
    }
    return copy;
}

enum err lists_submit_update(struct lists *lists, const struct list_update *update,
                             void (*done)(void *arg, enum err result), void *arg)
{
    size_t size =
        sizeof(struct pending) + update->server.size + update->user_id.size + update->devices.size;
    struct pending *pending = malloc(size);

    CHECK(pending != NULL);
    *pending = (struct pending){.update = *update, .done = done, .arg = arg};
    char *at = pending->bytes;
    pending->update.server = put_bytes(&at, update->server);
    pending->update.user_id = put_bytes(&at, update->user_id);
    pending->update.devices = put_bytes(&at, update->devices);
    pending->ticket = (struct ticket){
        .bytes = size, .apply = apply_pending, .done = pending_done, .arg = pending};
    enum err result = journal_submit(lists->journal, &pending->ticket);
    if (result != ERR_OK) {
        free(pending);
    }
    return result;
}
