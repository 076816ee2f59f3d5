#include "lists/reader.h"

#include "base/clock.h"
#include "base/table.h"
#include "lists/read_budget.h"
#include "lists/read_call.h"
#include "proto/check.h"
#include "proto/ident.h"

#include <stdlib.h>

struct list_reader {
    struct list_reader_options options;
    struct ask_port *port;
    struct read_budget budget; /* of the servers that this port owns */
    struct table flights;      /* by server and user */
};

struct askers {
    struct asker *items;
    size_t n, room;
};

/* The reads of one list: one runs, and at most one waits for its end. */
struct flight {
    struct list_reader *reader;
    struct read_call *call; /* the one that runs */
    struct askers askers;   /* of the one that runs */
    struct askers next;     /* of the one that waits; none: none waits */
    struct span server, user_id;
    struct span key; /* server, NUL, user: a server name has no NUL */
    char bytes[];    /* of the key */
};

/* Between workers structs travel as they are, with the bytes of their names after them. */
static struct span take(struct span *rest, size_t size)
{
    CHECK(size <= rest->size);
    struct span taken = span_of(rest->data, size);
    *rest = span_skip(*rest, size);
    return taken;
}

static void encode_question(struct writer *out, const struct list_read_request *request)
{
    writer_bytes(out, span_of(request, sizeof *request));
    writer_bytes(out, request->server);
    writer_bytes(out, request->user_id);
    writer_bytes(out, request->origin);
}

static void decode_question(struct list_read_request *out, struct span rest)
{
    memcpy(out, take(&rest, sizeof *out).data, sizeof *out);
    out->server = take(&rest, out->server.size);
    out->user_id = take(&rest, out->user_id.size);
    out->origin = take(&rest, out->origin.size);
    CHECK(rest.size == 0);
}

static void encode_answer(struct writer *out, const struct device_list *after)
{
    struct device_list flat = *after;

    flat.devices = (struct span){0};
    writer_bytes(out, span_of(&flat, sizeof flat));
    writer_bytes(out, flat.server);
    writer_bytes(out, flat.user_id);
}

static void decode_answer(struct device_list *out, struct span rest)
{
    memcpy(out, take(&rest, sizeof *out).data, sizeof *out);
    out->server = take(&rest, out->server.size);
    out->user_id = take(&rest, out->user_id.size);
    CHECK(rest.size == 0);
}

static void add_asker(struct askers *askers, struct asker asker)
{
    if (askers->n == askers->room) {
        askers->room = askers->room == 0 ? 1 : askers->room * 2;
        askers->items = reallocarray(askers->items, askers->room, sizeof asker);
        CHECK(askers->items != NULL);
    }
    askers->items[askers->n++] = asker;
}

/* Everyone whose read has just ended. An empty answer tells nothing. */
static void answer_askers(const struct flight *flight, struct span answer)
{
    for (size_t i = 0; i < flight->askers.n; i++) {
        ask_answer(flight->reader->port, flight->askers.items[i], answer);
    }
}

static struct flight *flight_new(struct list_reader *reader, const struct list_read_request *what)
{
    size_t size = what->server.size + 1 + what->user_id.size;
    struct flight *flight = calloc(1, sizeof *flight + size);

    CHECK(flight != NULL);
    flight->reader = reader;
    memcpy(flight->bytes, what->server.data, what->server.size);
    memcpy(flight->bytes + what->server.size + 1, what->user_id.data, what->user_id.size);
    flight->key = span_of(flight->bytes, size);
    flight->server = span_of(flight->bytes, what->server.size);
    flight->user_id = span_skip(flight->key, what->server.size + 1);
    CHECK(table_put(&reader->flights, flight->key, flight) == NULL);
    return flight;
}

static void flight_free(struct flight *flight)
{
    table_remove(&flight->reader->flights, flight->key);
    free(flight->askers.items);
    free(flight->next.items);
    free(flight);
}

static struct flight *find_flight(const struct list_reader *reader,
                                  const struct list_read_request *what)
{
    AUTO(writer_fini) struct writer key;

    writer_init(&key, SIZE_MAX);
    writer_bytes(&key, what->server);
    writer_char(&key, '\0');
    writer_bytes(&key, what->user_id);
    return table_get(&reader->flights, writer_span(&key));
}

static void count(const struct list_reader *reader, enum fetch_result result)
{
    metrics_add_by(reader->options.metrics, COUNTER_BY_list_reads_total, result, 1);
}

/* Writes the answer to those who asked: the list as the update leaves it, or nothing if the known
 * one stands, since the read was of an older state or the list is pushed. */
static void take_in(const struct list_reader *reader, const struct list_update *update,
                    struct writer *answer)
{
    struct device_list old;
    struct device_list after;
    struct arena arena;

    arena_init(&arena, DEVICE_LIST_RECORD_MAX);
    enum err known =
        lists_get(&old, reader->options.lists, &arena, update->server, update->user_id);
    bool can_tell = known == ERR_OK || known == ERR_NOT_FOUND;
    if (can_tell &&
        device_list_apply(&after, known == ERR_OK ? &old : NULL, update) == LIST_STORED) {
        encode_answer(answer, &after);
    }
    bool is_changed = known == ERR_OK && answer->size > 0 &&
                      memcmp(&old.current, &after.current, sizeof old.current) != 0;
    count(reader, is_changed ? FETCH_RESULT_CHANGED : FETCH_RESULT_OK);
    arena_fini(&arena);
    /* A refusal is counted by the journal; what was read is true all the same. */
    enum err submitted = lists_submit_update(reader->options.lists, update, NULL, NULL);
    (void)submitted;
}

static bool find_source(struct read_source *out, const struct list_reader *reader,
                        struct span server)
{
    *out = (struct read_source){0};
    return reader->options.source_of(reader->options.arg, server, out) && out->key != NULL;
}

static void go_on(struct flight *flight);

static void on_read(void *arg, const struct list_update *update)
{
    struct flight *flight = arg;
    AUTO(writer_fini) struct writer answer;

    writer_init(&answer, SIZE_MAX);
    flight->call = NULL;
    if (update == NULL) {
        count(flight->reader, FETCH_RESULT_FAILED);
    } else {
        take_in(flight->reader, update, &answer);
    }
    answer_askers(flight, writer_span(&answer));
    go_on(flight);
}

static bool begin_read(struct flight *flight)
{
    struct list_reader *reader = flight->reader;
    struct read_source source;
    const struct read_call_options options = {.loop = reader->options.loop,
                                              .source = &source,
                                              .server = flight->server,
                                              .user_id = flight->user_id,
                                              .within_ms = LIST_READ_MS,
                                              .on_done = on_read,
                                              .arg = flight};

    if (!find_source(&source, reader, flight->server)) {
        return false;
    }
    if (read_call_start(&flight->call, &options) != ERR_OK) {
        count(reader, FETCH_RESULT_FAILED);
        return false;
    }
    return true;
}

/* Begins the read that waits, if one does. */
static void go_on(struct flight *flight)
{
    free(flight->askers.items);
    flight->askers = flight->next;
    flight->next = (struct askers){0};
    if (flight->askers.n > 0 && begin_read(flight)) {
        return;
    }
    answer_askers(flight, (struct span){0});
    flight_free(flight);
}

/* A read pays when it is queued, not when it begins: so whoever is over the budget hears it at
 * once. As many tokens are spent either way; reads that waited may begin closer together. */
static bool may_read(struct list_reader *reader, const struct list_read_request *request)
{
    struct read_source source;

    if (request->user_id.size > IDENT_MAX || !find_source(&source, reader, request->server)) {
        return false;
    }
    if (!read_budget_take(&reader->budget, request, source.reads_per_s, clock_monotonic_us())) {
        count(reader, FETCH_RESULT_BUDGET);
        return false;
    }
    return true;
}

/* A read that runs may have begun before the asker needed it, one that waits has not. */
static void on_question(void *arg, struct asker asker, struct span question)
{
    struct list_reader *reader = arg;
    struct list_read_request request;

    decode_question(&request, question);
    struct flight *flight = find_flight(reader, &request);
    if ((flight == NULL || flight->next.n == 0) && !may_read(reader, &request)) {
        ask_answer(reader->port, asker, (struct span){0});
        return;
    }
    if (flight == NULL) {
        flight = flight_new(reader, &request);
    }
    add_asker(&flight->next, asker);
    if (flight->call == NULL) {
        go_on(flight);
    }
}

enum err list_reader_new(struct list_reader **out, const struct list_reader_options *options)
{
    struct list_reader *reader = calloc(1, sizeof *reader);

    CHECK(reader != NULL);
    reader->options = *options;
    enum err result = ask_port_new(&reader->port, options->ring, options->index, options->loop,
                                   on_question, reader);
    if (result != ERR_OK) {
        free(reader);
        return result;
    }
    read_budget_init(&reader->budget);
    table_init(&reader->flights);
    *out = reader;
    return ERR_OK;
}

void list_reader_free(struct list_reader *reader)
{
    struct flight *flight;

    if (reader == NULL) {
        return;
    }
    struct table_iter iter = table_iterate(&reader->flights);
    while ((flight = table_next(&iter, NULL)) != NULL) {
        read_call_cancel(flight->call);
        flight_free(flight);
    }
    ask_port_free(reader->port);
    table_fini(&reader->flights);
    read_budget_fini(&reader->budget);
    free(reader);
}

static void on_answer(void *arg, struct span answer)
{
    struct list_read *read = arg;
    struct device_list after;

    if (answer.size == 0) {
        read->on_done(read->arg, NULL);
        return;
    }
    decode_answer(&after, answer);
    read->on_done(read->arg, &after);
}

void list_read_start(struct list_reader *reader, struct list_read *read,
                     const struct list_read_request *request,
                     void (*on_done)(void *arg, const struct device_list *after), void *arg)
{
    AUTO(writer_fini) struct writer question;

    writer_init(&question, SIZE_MAX);
    encode_question(&question, request);
    read->on_done = on_done;
    read->arg = arg;
    /* The server's name alone, so that its budget is in one place. */
    ask_start(reader->port, &read->ask, request->server, writer_span(&question), on_answer, read);
}

void list_read_cancel(struct list_reader *reader, struct list_read *read)
{
    ask_cancel(reader->port, &read->ask);
}
