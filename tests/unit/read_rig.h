/* What the tests of list reads share: a scripted homeserver, a store, and two workers' readers on
 * one loop, one of which owns the server. */
#pragma once

#include "lists/lists.h"
#include "lists/reader.h"
#include "net/http_server.h"
#include "store/journal.h"

#include "lists_build.h"
#include "net_rig.h"
#include "store_dir.h"

#include <stdatomic.h>

enum {
    N_WORKERS = 2,
    HELD_MAX = 64,
    TOO_MANY_DEVICES = DLH_DEVICES_MAX + 1,
    MAP_BYTES = 8 << 20,
    JOURNAL_QUEUE_MAX = 1 << 20,
    LIST_ARENA_CAP = 1 << 20,
};

#define SIGNING_KEY_LINE "ed25519 r1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA0"

enum homeserver_mode {
    MODE_LIST,       /* the user asked for, with one device */
    MODE_HOLD,       /* nothing by itself */
    MODE_STATUS_500, /* with a list, which does not count */
    MODE_NOT_JSON,
    MODE_OTHER_SHAPE,
    MODE_OTHER_USER,
    MODE_TOO_LARGE, /* the head says so, and no body follows */
    MODE_TOO_LARGE_CHUNKED,
    MODE_TOO_MANY_DEVICES,
    MODE_CUT,
};

struct worker {
    struct metrics metrics;
    struct lists *lists;
    struct list_reader *reader;
};

struct read_rig {
    struct store_dir dir;
    struct metrics journal_metrics;
    struct store *store;
    struct journal *journal;
    struct list_marks *marks;
    struct loop *loop;
    struct http_listener *listener;
    struct http_pool *pool;
    struct ask_ring *ring;
    struct worker workers[N_WORKERS];
    /* What source_of says. */
    struct signing_key key;
    bool is_hosted, has_key;
    uint32_t reads_per_s;
    /* The homeserver. */
    enum homeserver_mode mode;
    const char *device;
    int64_t position;
    unsigned n_requests, n_aborts;
    struct http_exchange *held[HELD_MAX];
    size_t n_held;
    struct writer method, target, host, authorization; /* of the latest request */
};

static inline void keep(struct writer *out, struct span bytes)
{
    writer_reset(out);
    writer_bytes(out, bytes);
}

static inline int hex_value(char c)
{
    return c <= '9' ? c - '0' : c - 'A' + 10;
}

/* The last segment of the target, unescaped. */
static inline void write_user_asked_for(struct writer *out, const struct writer *target)
{
    const char *at = memrchr(target->data, '/', target->size);
    const char *end = target->data + target->size;

    for (at++; at < end; at++) {
        if (*at == '%') {
            writer_char(out, (char)(hex_value(at[1]) * 16 + hex_value(at[2])));
            at += 2;
        } else {
            writer_char(out, *at);
        }
    }
}

/* Keys of zeros, like those of lists_build.h. */
static inline void write_device(struct writer *out, const char *device)
{
    static const char *const algorithms[] = {"curve25519", "ed25519"};

    writer_bytes(out, SPAN_LIT("{\"device_id\":\""));
    writer_bytes(out, span_str(device));
    writer_bytes(out, SPAN_LIT("\",\"keys\":{\"keys\":{"));
    for (size_t i = 0; i < 2; i++) {
        writer_bytes(out, i == 0 ? SPAN_LIT("\"") : SPAN_LIT(",\""));
        writer_bytes(out, span_str(algorithms[i]));
        writer_char(out, ':');
        writer_bytes(out, span_str(device));
        writer_bytes(out, SPAN_LIT("\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\""));
    }
    writer_bytes(out, SPAN_LIT("}}}"));
}

static inline void write_list(struct writer *out, const struct read_rig *rig, struct span user_id,
                              unsigned n_devices)
{
    char id[32];

    writer_bytes(out, SPAN_LIT("{\"user_id\":"));
    writer_json_string(out, user_id);
    writer_bytes(out, SPAN_LIT(",\"stream_id\":"));
    writer_i64(out, rig->position);
    writer_bytes(out, SPAN_LIT(",\"devices\":["));
    for (unsigned i = 0; i < n_devices; i++) {
        snprintf(id, sizeof id, "%s%.0u", rig->device, i); /* 0 is left out */
        if (i > 0) {
            writer_char(out, ',');
        }
        write_device(out, id);
    }
    writer_bytes(out, SPAN_LIT("]}"));
}

static inline void respond_list(struct http_exchange *ex, const struct read_rig *rig,
                                const struct writer *target)
{
    AUTO(writer_fini) struct writer user;
    AUTO(writer_fini) struct writer body;

    writer_init(&user, RECORD_MAX);
    writer_init(&body, RECORD_MAX);
    write_user_asked_for(&user, target);
    struct span user_id =
        rig->mode == MODE_OTHER_USER ? SPAN_LIT("@eve:a.example") : writer_span(&user);
    write_list(&body, rig, user_id, rig->mode == MODE_TOO_MANY_DEVICES ? TOO_MANY_DEVICES : 1);
    http_respond(ex, rig->mode == MODE_STATUS_500 ? 500 : 200, NULL, 0, writer_span(&body));
}

/* A whole list, and white space after it. */
static inline void respond_too_large(struct http_exchange *ex, const struct read_rig *rig)
{
    AUTO(writer_fini) struct writer body;

    writer_init(&body, RECORD_MAX);
    write_list(&body, rig, LISTS_USER, 1);
    while (body.size <= LIST_READ_BODY_MAX) {
        writer_char(&body, ' ');
    }
    http_respond_head(ex, 200, NULL, 0, -1);
    http_respond_body(ex, writer_span(&body));
    http_respond_end(ex);
}

static inline void respond(struct http_exchange *ex, const struct read_rig *rig)
{
    struct writer *target = TAKE(ex->user);

    if (rig->mode == MODE_NOT_JSON) {
        http_respond(ex, 200, NULL, 0, SPAN_LIT("<html>"));
    } else if (rig->mode == MODE_OTHER_SHAPE) {
        http_respond(ex, 200, NULL, 0, SPAN_LIT("{\"user_id\":\"@alice:a.example\"}"));
    } else if (rig->mode == MODE_TOO_LARGE) {
        http_respond_head(ex, 200, NULL, 0, LIST_READ_BODY_MAX + 1);
    } else if (rig->mode == MODE_TOO_LARGE_CHUNKED) {
        respond_too_large(ex, rig);
    } else if (rig->mode == MODE_CUT) {
        http_respond_head(ex, 200, NULL, 0, 1000);
        http_respond_body(ex, SPAN_LIT("{\"user_id\":"));
    } else {
        respond_list(ex, rig, target);
    }
    writer_fini(target);
    free(target);
}

static inline void homeserver_on_head(struct http_exchange *ex, const struct http_head *head)
{
    struct read_rig *rig = ex->arg;
    struct writer *target = calloc(1, sizeof *target);

    CHECK(target != NULL);
    writer_init(target, RECORD_MAX);
    writer_bytes(target, head->target);
    ex->user = target;
    rig->n_requests++;
    keep(&rig->method, head->method);
    keep(&rig->target, head->target);
    keep(&rig->host, http_header_find(head, SPAN_LIT("Host")));
    keep(&rig->authorization, http_header_find(head, SPAN_LIT("Authorization")));
}

static inline void homeserver_on_body(struct http_exchange *ex, struct span bytes)
{
    (void)ex;
    (void)bytes;
}

static inline void homeserver_on_end(struct http_exchange *ex)
{
    struct read_rig *rig = ex->arg;

    if (rig->mode != MODE_HOLD) {
        respond(ex, rig);
        return;
    }
    CHECK(rig->n_held < HELD_MAX);
    rig->held[rig->n_held++] = ex;
}

static inline void homeserver_on_abort(struct http_exchange *ex)
{
    struct read_rig *rig = ex->arg;
    size_t kept = 0;

    for (size_t i = 0; i < rig->n_held; i++) {
        if (rig->held[i] != ex) {
            rig->held[kept++] = rig->held[i];
        }
    }
    rig->n_held = kept;
    rig->n_aborts++;
    if (ex->user != NULL) {
        writer_fini(ex->user);
        free(ex->user);
    }
}

/* The beginning of the answer is on its way. */
static inline void homeserver_on_drained(struct http_exchange *ex)
{
    const struct read_rig *rig = ex->arg;

    if (rig->mode == MODE_CUT && ex->user == NULL) {
        http_respond_cut(ex);
    }
}

static const struct http_server_ops homeserver_ops = {
    .on_head = homeserver_on_head,
    .on_body = homeserver_on_body,
    .on_end = homeserver_on_end,
    .on_drained = homeserver_on_drained,
    .on_abort = homeserver_on_abort,
};

/* The lists that are held, as they are now; those to come are held still. */
static inline void homeserver_release(struct read_rig *rig)
{
    size_t n = rig->n_held;

    rig->n_held = 0;
    for (size_t i = 0; i < n; i++) {
        respond(rig->held[i], rig);
    }
}

static inline bool read_rig_source_of(void *arg, struct span server, struct read_source *out)
{
    const struct read_rig *rig = arg;

    if (!rig->is_hosted || !span_equal(server, LISTS_SERVER)) {
        return false;
    }
    *out = (struct read_source){
        .pool = rig->pool, .key = rig->has_key ? &rig->key : NULL, .reads_per_s = rig->reads_per_s};
    return true;
}

static inline void worker_init(struct read_rig *rig, size_t index)
{
    struct worker *worker = &rig->workers[index];
    const struct list_reader_options options = {.loop = rig->loop,
                                                .metrics = &worker->metrics,
                                                .ring = rig->ring,
                                                .index = index,
                                                .source_of = read_rig_source_of,
                                                .arg = rig};
    struct list_reader_options with_lists = options;

    metrics_init(&worker->metrics);
    assert_int_equal(
        lists_new(&worker->lists, rig->store, rig->journal, rig->marks, &worker->metrics), ERR_OK);
    with_lists.lists = worker->lists;
    assert_int_equal(list_reader_new(&worker->reader, &with_lists), ERR_OK);
}

static inline void read_rig_open_homeserver(struct read_rig *rig)
{
    const struct http_listener_options listen = {.address = "127.0.0.1"};

    assert_int_equal(http_listener_open(&rig->listener, rig->loop, &listen, &homeserver_ops, rig),
                     ERR_OK);
    const struct http_pool_options options = {.host = "127.0.0.1",
                                              .port = http_listener_port(rig->listener),
                                              .max_connections = HELD_MAX};
    assert_int_equal(http_pool_new(&rig->pool, rig->loop, &options), ERR_OK);
}

/* A cmocka setup. */
static inline int read_rig_setup(void **state)
{
    struct read_rig *rig = calloc(1, sizeof *rig);

    CHECK(rig != NULL && signing_key_parse(&rig->key, SPAN_LIT(SIGNING_KEY_LINE)));
    rig->is_hosted = rig->has_key = true;
    rig->reads_per_s = 1000;
    rig->device = "A";
    rig->position = 10;
    writer_init(&rig->method, RECORD_MAX);
    writer_init(&rig->target, RECORD_MAX);
    writer_init(&rig->host, RECORD_MAX);
    writer_init(&rig->authorization, RECORD_MAX);
    rig->marks = list_marks_new();
    store_dir_make(&rig->dir);
    assert_int_equal(store_open(&rig->store, rig->dir.path, MAP_BYTES), ERR_OK);
    assert_int_equal(
        journal_start(&rig->journal, rig->store, &rig->journal_metrics, JOURNAL_QUEUE_MAX), ERR_OK);
    assert_int_equal(loop_new(&rig->loop), ERR_OK);
    rig->ring = ask_ring_new(N_WORKERS);
    read_rig_open_homeserver(rig);
    for (size_t i = 0; i < N_WORKERS; i++) {
        worker_init(rig, i);
    }
    *state = rig;
    return 0;
}

/* Also in the middle of a read. */
static inline void read_rig_free_readers(struct read_rig *rig)
{
    for (size_t i = 0; i < N_WORKERS; i++) {
        list_reader_free(TAKE(rig->workers[i].reader));
    }
}

static inline int read_rig_teardown(void **state)
{
    struct read_rig *rig = *state;

    read_rig_free_readers(rig);
    for (size_t i = 0; i < N_WORKERS; i++) {
        lists_free(rig->workers[i].lists);
    }
    http_pool_free(rig->pool);
    http_listener_free(rig->listener);
    ask_ring_free(rig->ring);
    loop_free(rig->loop);
    journal_stop(rig->journal);
    list_marks_free(rig->marks);
    store_close(rig->store);
    store_dir_remove(&rig->dir);
    writer_fini(&rig->method);
    writer_fini(&rig->target);
    writer_fini(&rig->host);
    writer_fini(&rig->authorization);
    free(rig);
    return 0;
}

/* Of both workers. */
static inline unsigned n_counted(struct read_rig *rig, unsigned cell)
{
    uint64_t n = 0;

    for (size_t i = 0; i < N_WORKERS; i++) {
        n += atomic_load(&rig->workers[i].metrics.cells[cell]);
    }
    return (unsigned)n;
}

static inline unsigned n_reads(struct read_rig *rig, enum fetch_result result)
{
    return n_counted(rig, COUNTER_CELL_list_reads_total + (unsigned)result);
}

/* False if there is none, or another. */
static inline bool stored_is(struct read_rig *rig, const char *device)
{
    struct arena arena;
    struct device_list list;
    struct dlh hash = hash_of(device);

    arena_init(&arena, LIST_ARENA_CAP);
    bool is_it =
        lists_get(&list, rig->workers[0].lists, &arena, LISTS_SERVER, LISTS_USER) == ERR_OK &&
        memcmp(&list.current, &hash, sizeof hash) == 0;
    arena_fini(&arena);
    return is_it;
}

/* One who asks, and what was heard. */
struct asked {
    struct list_read read;
    struct device_list after; /* its spans are gone */
    struct span user_id;
    unsigned n_done;
    bool had_list, names_are_right;
};

static inline void asked_on_done(void *arg, const struct device_list *after)
{
    struct asked *asked = arg;

    asked->n_done++;
    asked->had_list = after != NULL;
    if (after != NULL) {
        asked->after = *after;
        asked->names_are_right = span_equal(after->server, LISTS_SERVER) &&
                                 span_equal(after->user_id, asked->user_id) &&
                                 after->devices.data == NULL;
    }
}

static inline struct list_read_request request_for(struct span user_id)
{
    return (struct list_read_request){
        .server = LISTS_SERVER, .user_id = user_id, .origin = SPAN_LIT("b.example")};
}

static inline void ask_with(struct read_rig *rig, size_t worker, struct asked *asked,
                            const struct list_read_request *request)
{
    *asked = (struct asked){.user_id = request->user_id};
    list_read_start(rig->workers[worker].reader, &asked->read, request, asked_on_done, asked);
}

static inline void ask_for(struct read_rig *rig, size_t worker, struct asked *asked)
{
    struct list_read_request request = request_for(LISTS_USER);

    ask_with(rig, worker, asked, &request);
}
