#include "lists/lists.h"

#include "base/list.h"
#include "base/table.h"
#include "proto/check.h"

#include <stdatomic.h>
#include <stdlib.h>

struct lists {
    const struct store *store;
    struct store_reader *reader;
    struct journal *journal;
    struct list_marks *marks;
    struct glances *glances;   /* of what was read from the store */
    struct list pending;       /* oldest first; the journal completes them in this order */
    struct table pending_last; /* by store_key: the newest that changes that list */
};

/* An update on its way through the journal; it owns its bytes, and belongs to the journal and to
 * the lists that it was submitted to. Constant but for the link and the flags. */
struct pending {
    struct ticket ticket;
    struct link link;
    atomic_uint n_owners;
    atomic_bool is_done; /* set by the journal thread */
    struct store_key key;
    struct list_update update;
    struct list_marks *marks;
    struct device_list after; /* as it leaves the list, if nobody else changes it meanwhile */
    void (*done)(void *arg, enum err result);
    void *arg;
    char bytes[];
};

static void pending_let_go(struct pending *pending)
{
    if (atomic_fetch_sub(&pending->n_owners, 1) == 1) {
        free(pending);
    }
}

static struct span span_of_key(const struct store_key *key)
{
    return span_of(key->bytes, sizeof key->bytes);
}

/* Forgets the oldest. */
static void drop_first(struct lists *lists, struct pending *pending)
{
    struct span key = span_of_key(&pending->key);

    if (table_get(&lists->pending_last, key) == pending) {
        table_remove(&lists->pending_last, key);
    }
    list_remove(&pending->link);
    pending_let_go(pending);
}

/* What is committed is in the store, where the next read finds it. */
static void drop_done(struct lists *lists, bool also_others)
{
    struct link *first;

    while ((first = list_first(&lists->pending)) != NULL) {
        struct pending *pending = LIST_ENTRY(first, struct pending, link);
        if (!also_others && !atomic_load(&pending->is_done)) {
            return;
        }
        drop_first(lists, pending);
    }
}

enum err lists_new(struct lists **out, struct store *store, struct journal *journal,
                   struct list_marks *marks, struct metrics *metrics)
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
    lists->marks = marks;
    lists->glances = glances_new(marks);
    list_init(&lists->pending);
    table_init(&lists->pending_last);
    *out = lists;
    return ERR_OK;
}

void lists_free(struct lists *lists)
{
    if (lists != NULL) {
        drop_done(lists, true);
        table_fini(&lists->pending_last);
        glances_free(lists->glances);
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

static enum err get_pending(struct device_list *out, struct arena *arena,
                            const struct pending *pending)
{
    *out = pending->after;
    out->server = arena_copy(arena, out->server);
    out->user_id = arena_copy(arena, out->user_id);
    out->devices = arena_copy(arena, out->devices);
    bool is_whole =
        out->server.data != NULL && out->user_id.data != NULL && out->devices.data != NULL;
    return is_whole ? ERR_OK : ERR_NO_MEMORY;
}

static enum err get_stored(struct device_list *out, struct lists *lists, struct arena *arena,
                           const struct store_key *key)
{
    struct span record = {0};
    enum err result = store_reader_begin(lists->reader);

    if (result != ERR_OK) {
        return result;
    }
    result = store_get(&record, lists->reader, key);
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

enum err lists_get(struct device_list *out, struct lists *lists, struct arena *arena,
                   struct span server, struct span user_id)
{
    struct store_key key = key_of(server, user_id);

    drop_done(lists, false);
    const struct pending *pending = table_get(&lists->pending_last, span_of_key(&key));
    if (pending != NULL) {
        return get_pending(out, arena, pending);
    }
    uint64_t mark = glances_mark(lists->glances, server, user_id);
    enum err result = get_stored(out, lists, arena, &key);
    if (result == ERR_OK) {
        glances_put(lists->glances, out, mark);
    }
    return result;
}

bool lists_glance(struct list_glance *out, const struct lists *lists, struct span server,
                  struct span user_id)
{
    return glances_get(out, lists->glances, server, user_id);
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

/* Whatever is asked for, a homeserver may answer with an empty list, also for users it does not
 * have: those are not to fill the disk. */
static bool is_worth_storing(const struct list_update *update, bool had_one)
{
    return had_one || update->source == LIST_SOURCE_PUSH || update->sum.n > 0;
}

static enum err apply_pending(struct store_txn *txn, void *arg)
{
    const struct pending *pending = arg;
    struct span record;
    struct device_list old;
    struct device_list next;
    enum err result = none_if_damaged(store_txn_get(&record, txn, &pending->key));

    if (result != ERR_OK && result != ERR_NOT_FOUND) {
        return result;
    }
    bool had_one = result == ERR_OK && device_list_decode(&old, record);
    if (!is_worth_storing(&pending->update, had_one) ||
        device_list_apply(&next, had_one ? &old : NULL, &pending->update) == LIST_KEPT) {
        return ERR_OK;
    }
    return store_list(txn, &pending->key, &next);
}

static void pending_done(void *arg, enum err result)
{
    struct pending *pending = arg;

    list_marks_changed(pending->marks, pending->update.server, pending->update.user_id);
    if (pending->done != NULL) {
        pending->done(pending->arg, result);
    }
    atomic_store(&pending->is_done, true);
    pending_let_go(pending);
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

static struct pending *pending_new(const struct list_update *update)
{
    size_t size =
        sizeof(struct pending) + update->server.size + update->user_id.size + update->devices.size;
    struct pending *pending = calloc(1, size);

    CHECK(pending != NULL);
    char *at = pending->bytes;
    pending->update = *update;
    pending->update.server = put_bytes(&at, update->server);
    pending->update.user_id = put_bytes(&at, update->user_id);
    pending->update.devices = put_bytes(&at, update->devices);
    pending->key = key_of(update->server, update->user_id);
    atomic_init(&pending->n_owners, 2);
    pending->ticket = (struct ticket){
        .bytes = size, .apply = apply_pending, .done = pending_done, .arg = pending};
    return pending;
}

/* False if the list stays as it is known, or cannot be told. */
static bool foresee(struct pending *pending, struct lists *lists)
{
    struct device_list old;
    struct arena arena;

    arena_init(&arena, DEVICE_LIST_RECORD_MAX);
    enum err known =
        lists_get(&old, lists, &arena, pending->update.server, pending->update.user_id);
    bool is_known = known == ERR_OK || known == ERR_NOT_FOUND;
    bool changes = is_known && is_worth_storing(&pending->update, known == ERR_OK) &&
                   device_list_apply(&pending->after, known == ERR_OK ? &old : NULL,
                                     &pending->update) == LIST_STORED;
    arena_fini(&arena);
    return changes;
}

enum err lists_submit_update(struct lists *lists, const struct list_update *update,
                             void (*done)(void *arg, enum err result), void *arg)
{
    struct pending *pending = pending_new(update);
    bool changes = foresee(pending, lists);

    pending->marks = lists->marks;
    pending->done = done;
    pending->arg = arg;
    enum err result = journal_submit(lists->journal, &pending->ticket);
    if (result != ERR_OK) {
        free(pending);
        return result;
    }
    list_append(&lists->pending, &pending->link);
    if (changes) {
        table_put(&lists->pending_last, span_of_key(&pending->key), pending);
        list_marks_changed(lists->marks, update->server, update->user_id);
    }
    return ERR_OK;
}
