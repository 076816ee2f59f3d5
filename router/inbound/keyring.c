#include "inbound/keyring.h"

#include "base/bucket.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/network_limit.h"
#include "base/table.h"
#include "inbound/key_attempts.h"
#include "inbound/key_fetch.h"
#include "inbound/key_record.h"
#include "proto/check.h"
#include "proto/ident.h"
#include "proto/writer.h"

#include <stdlib.h>

struct keyring {
    struct keyring_options options;
    struct ask_port *port;
    struct store_reader *reader;
    struct dns *dns;
    struct fetcher *fetcher;
    struct discovery *discovery;
    struct key_fetch_options fetch_options;
    struct table memory; /* of struct kept, by server */
    size_t memory_bytes;
    struct key_attempts attempts; /* for the servers whose owner this is */
    size_t n_fetches;
    struct bucket budget;
    struct network_limit *networks;
};

/* What one keyring asks another: a client's address, :: for none, and behind it a server's name. */
enum { CLIENT_SIZE = sizeof(struct in6_addr) };

/* The first byte of an answer; behind it the record, if there is one. */
enum { ANSWER_PLAIN, ANSWER_OVER_NETWORK };

/* An encoded record that decodes. */
struct kept {
    size_t size;
    char bytes[];
};

/* An asker of a fetch that runs. */
struct waiting {
    struct link link;
    struct asker asker;
};

/* A record on its way to the store; it owns its bytes. */
struct pending {
    struct ticket ticket;
    size_t size;
    char bytes[];
};

static struct span kept_bytes(const struct kept *kept)
{
    return kept == NULL ? (struct span){0} : span_of(kept->bytes, kept->size);
}

static void forget_all(struct keyring *keyring)
{
    struct table_iter iter = table_iterate(&keyring->memory);
    struct kept *kept;

    while ((kept = table_next(&iter, NULL)) != NULL) {
        free(kept);
    }
    table_fini(&keyring->memory);
    table_init(&keyring->memory);
    keyring->memory_bytes = 0;
}

static void forget(struct keyring *keyring, struct span server)
{
    struct kept *kept = table_remove(&keyring->memory, server);

    if (kept != NULL) {
        keyring->memory_bytes -= kept->size;
        free(kept);
    }
}

/* At a cap everything goes: what is in use soon comes back from the store. */
static struct kept *remember(struct keyring *keyring, struct span server, struct span record)
{
    struct kept *kept = malloc(sizeof *kept + record.size);

    CHECK(kept != NULL);
    kept->size = record.size;
    memcpy(kept->bytes, record.data, record.size);
    forget(keyring, server);
    if (keyring->memory.n >= KEYRING_SERVERS_MAX ||
        keyring->memory_bytes + record.size > KEYRING_BYTES_MAX) {
        forget_all(keyring);
    }
    CHECK(table_put(&keyring->memory, server, kept) == NULL);
    keyring->memory_bytes += kept->size;
    return kept;
}

static struct store_key store_key_of(struct span server)
{
    struct store_key key;

    store_key_make(&key, STORE_KEY, &server, 1);
    return key;
}

/* NULL if there is none; a damaged one counts as none. */
static struct kept *load(struct keyring *keyring, struct span server)
{
    struct store_key key = store_key_of(server);
    struct key_record record;
    struct kept *kept = NULL;
    struct span bytes;

    if (store_reader_begin(keyring->reader) != ERR_OK) {
        return NULL;
    }
    if (store_get(&bytes, keyring->reader, &key) == ERR_OK && key_record_decode(&record, bytes) &&
        span_equal(record.server, server)) {
        kept = remember(keyring, server, bytes);
    }
    store_reader_end(keyring->reader);
    return kept;
}

static struct kept *find(struct keyring *keyring, struct span server)
{
    struct kept *kept = table_get(&keyring->memory, server);

    return kept != NULL ? kept : load(keyring, server);
}

enum key_standing keyring_get(struct keyring *keyring, uint8_t out_key[ED25519_KEY_SIZE],
                              struct span server, struct span key_id, int64_t now_ms)
{
    const struct kept *kept = find(keyring, server);
    struct key_record record;

    if (kept == NULL) {
        return KEY_UNKNOWN;
    }
    CHECK(key_record_decode(&record, kept_bytes(kept)));
    const struct key_record_key *key = key_record_find(&record, key_id, now_ms);
    if (key == NULL) {
        return KEY_UNKNOWN;
    }
    if (key->is_banned) {
        return KEY_BANNED;
    }
    memcpy(out_key, key->key, sizeof key->key);
    return KEY_USABLE;
}

static enum err apply_pending(struct store_txn *txn, void *arg)
{
    const struct pending *pending = arg;
    struct span bytes = span_of(pending->bytes, pending->size);
    struct key_record record;

    CHECK(key_record_decode(&record, bytes));
    struct store_key key = store_key_of(record.server);
    store_txn_put(txn, &key, bytes);
    return ERR_OK;
}

static void pending_done(void *arg, enum err result)
{
    (void)result; /* counted by the journal; memory has the keys */
    free(arg);
}

static void submit(struct keyring *keyring, struct span record)
{
    size_t size = sizeof(struct pending) + record.size;
    struct pending *pending = malloc(size);

    CHECK(pending != NULL);
    *pending = (struct pending){
        .ticket = {.bytes = size, .apply = apply_pending, .done = pending_done, .arg = pending},
        .size = record.size};
    memcpy(pending->bytes, record.data, record.size);
    if (journal_submit(keyring->options.journal, &pending->ticket) != ERR_OK) {
        free(pending);
    }
}

static void count(struct keyring *keyring, enum fetch_result result)
{
    metrics_add_by(keyring->options.metrics, COUNTER_BY_key_fetches_total, result, 1);
}

static void answer_as(struct keyring *keyring, struct asker asker, struct span server, char kind)
{
    AUTO(writer_fini) struct writer w;

    writer_init(&w, 1 + KEY_RECORD_MAX);
    writer_char(&w, kind);
    writer_bytes(&w, kept_bytes(find(keyring, server)));
    CHECK(!w.failed);
    ask_answer(keyring->port, asker, writer_span(&w));
}

static void answer(struct keyring *keyring, struct asker asker, struct span server)
{
    answer_as(keyring, asker, server, ANSWER_PLAIN);
}

static void add_waiting(struct key_attempt *attempt, struct asker asker)
{
    struct waiting *waiting = calloc(1, sizeof *waiting);

    CHECK(waiting != NULL);
    waiting->asker = asker;
    list_append(&attempt->waiting, &waiting->link);
}

static struct waiting *take_waiting(struct key_attempt *attempt)
{
    struct link *link = list_take_first(&attempt->waiting);

    return link == NULL ? NULL : LIST_ENTRY(link, struct waiting, link);
}

static void answer_waiting(struct keyring *keyring, struct key_attempt *attempt)
{
    struct waiting *waiting;

    while ((waiting = take_waiting(attempt)) != NULL) {
        answer(keyring, waiting->asker, key_attempt_server(attempt));
        free(waiting);
    }
}

static void keep(struct keyring *keyring, const struct key_record *record)
{
    AUTO(writer_fini) struct writer w;

    writer_init(&w, KEY_RECORD_MAX);
    key_record_encode(&w, record);
    CHECK(!w.failed);
    remember(keyring, record->server, writer_span(&w));
    submit(keyring, writer_span(&w));
}

static void attempt_end(struct key_attempt *attempt, const struct key_record *record)
{
    struct keyring *keyring = attempt->owner;

    attempt->fetch = NULL;
    attempt->is_running = false;
    keyring->n_fetches--;
    count(keyring, record != NULL ? FETCH_RESULT_OK : FETCH_RESULT_FAILED);
    if (record != NULL) {
        keep(keyring, record);
    }
    answer_waiting(keyring, attempt);
}

static void on_fetched(void *arg, const struct key_record *record)
{
    attempt_end(arg, record);
}

/* False: the budget does not allow it. */
static bool begin_fetch(struct keyring *keyring, struct asker asker, struct span server,
                        uint64_t now_us)
{
    struct key_attempt *attempt = NULL;

    if (keyring->n_fetches < KEYRING_FETCHES_MAX && bucket_take(&keyring->budget, now_us)) {
        attempt = key_attempts_begin(&keyring->attempts, server, now_us);
    }
    if (attempt == NULL) {
        return false;
    }
    attempt->owner = keyring;
    keyring->n_fetches++;
    add_waiting(attempt, asker);
    if (key_fetch_start(&attempt->fetch, &keyring->fetch_options, server, on_fetched, attempt) !=
        ERR_OK) {
        attempt_end(attempt, NULL);
    }
    return true;
}

/* Whom nobody knows is not limited: it is a trusted proxy that does not say whom it stands for. */
static bool network_may_fetch(struct keyring *keyring, const struct in6_addr *client,
                              uint64_t now_us)
{
    return IN6_IS_ADDR_UNSPECIFIED(client) || network_limit_take(keyring->networks, client, now_us);
}

static void on_question(void *arg, struct asker asker, struct span question)
{
    struct keyring *keyring = arg;
    uint64_t now_us = clock_monotonic_us();
    struct span server = span_skip(question, CLIENT_SIZE);
    struct in6_addr client;

    memcpy(&client, question.data, sizeof client);
    struct key_attempt *attempt = key_attempts_find(&keyring->attempts, server, now_us);

    if (attempt != NULL && attempt->is_running) {
        add_waiting(attempt, asker);
    } else if (attempt != NULL) {
        answer(keyring, asker, server);
    } else if (!network_may_fetch(keyring, &client, now_us)) {
        count(keyring, FETCH_RESULT_NETWORK);
        answer_as(keyring, asker, server, ANSWER_OVER_NETWORK);
    } else if (!begin_fetch(keyring, asker, server, now_us)) {
        count(keyring, FETCH_RESULT_BUDGET);
        answer(keyring, asker, server);
    }
}

static void on_answer(void *arg, struct span bytes)
{
    struct key_wait *wait = arg;
    struct key_record record;
    struct span encoded = span_skip(bytes, 1);

    if (key_record_decode(&record, encoded)) {
        remember(wait->keyring, record.server, encoded);
    }
    wait->is_over_network = bytes.data[0] == ANSWER_OVER_NETWORK;
    wait->on_done(wait->arg);
}

void keyring_refresh(struct keyring *keyring, struct key_wait *wait, struct span server,
                     const struct in6_addr *client, void (*on_done)(void *arg), void *arg)
{
    char question[CLIENT_SIZE + IDENT_MAX];

    CHECK(server.size <= IDENT_MAX);
    memcpy(question, client != NULL ? client : &in6addr_any, CLIENT_SIZE);
    memcpy(question + CLIENT_SIZE, server.data, server.size);
    wait->keyring = keyring;
    wait->on_done = on_done;
    wait->arg = arg;
    wait->is_over_network = false;
    ask_start(keyring->port, &wait->ask, server, span_of(question, CLIENT_SIZE + server.size),
              on_answer, wait);
}

void keyring_cancel(struct keyring *keyring, struct key_wait *wait)
{
    ask_cancel(keyring->port, &wait->ask);
}

static uint32_t part_of(uint32_t n, uint32_t divisor)
{
    return n / divisor > 0 ? n / divisor : 1;
}

void keyring_set_budget(struct keyring *keyring, uint32_t fetches_per_s)
{
    uint32_t per_s = part_of(fetches_per_s, KEYRING_NETWORK_PART);
    uint32_t burst = part_of(fetches_per_s, KEYRING_NETWORK_BURST_PART);

    bucket_init(&keyring->budget, fetches_per_s, fetches_per_s);
    network_limit_free(keyring->networks);
    keyring->networks = network_limit_new(KEYRING_NETWORK_SETS, per_s, burst);
}

static enum err make_client(struct keyring *keyring)
{
    const struct keyring_options *options = &keyring->options;
    enum err result = dns_new(&keyring->dns, options->loop, options->dns_servers);

    if (result == ERR_OK) {
        result = fetcher_new(&keyring->fetcher, options->loop, keyring->dns);
    }
    if (result == ERR_OK) {
        keyring->discovery =
            discovery_new(&(struct discovery_options){.loop = options->loop,
                                                      .dns = keyring->dns,
                                                      .fetcher = keyring->fetcher,
                                                      .ca_file = options->ca_file,
                                                      .connect_to = options->connect_to,
                                                      .allow_address = options->allow_address,
                                                      .arg = options->arg});
    }
    return result;
}

static void init_fetch_options(struct keyring *keyring)
{
    const struct keyring_options *options = &keyring->options;

    keyring->fetch_options = (struct key_fetch_options){
        .discovery = keyring->discovery,
        .fetcher = keyring->fetcher,
        .timeout_ms = KEYRING_FETCH_MS,
        .max_valid_ms = (int64_t)KEYRING_VALID_S * 1000,
        .metrics = options->metrics,
        .upstream_of = options->upstream_of,
        .arg = options->arg,
    };
}

enum err keyring_new(struct keyring **out, const struct keyring_options *options)
{
    struct keyring *keyring = calloc(1, sizeof *keyring);

    CHECK(keyring != NULL);
    keyring->options = *options;
    table_init(&keyring->memory);
    key_attempts_init(&keyring->attempts, KEYRING_ATTEMPTS_MAX,
                      (uint64_t)KEYRING_REFETCH_S * 1000 * 1000);
    keyring_set_budget(keyring, options->fetches_per_s);
    enum err result = store_reader_new(&keyring->reader, options->store, options->metrics);
    if (result == ERR_OK) {
        result = make_client(keyring);
    }
    if (result == ERR_OK) {
        result = ask_port_new(&keyring->port, options->ring, options->index, options->loop,
                              on_question, keyring);
    }
    if (result != ERR_OK) {
        keyring_free(keyring);
        return result;
    }
    init_fetch_options(keyring);
    *out = keyring;
    return ERR_OK;
}

/* Nobody is answered: the ports of the others may be gone. */
static void cancel_fetch(struct key_attempt *attempt)
{
    struct waiting *waiting;

    key_fetch_cancel(TAKE(attempt->fetch));
    attempt->is_running = false;
    while ((waiting = take_waiting(attempt)) != NULL) {
        free(waiting);
    }
}

static void cancel_fetches(struct keyring *keyring)
{
    struct table_iter iter = table_iterate(&keyring->attempts.by_server);
    struct key_attempt *attempt;

    while ((attempt = table_next(&iter, NULL)) != NULL) {
        if (attempt->is_running) {
            cancel_fetch(attempt);
        }
    }
}

void keyring_free(struct keyring *keyring)
{
    if (keyring == NULL) {
        return;
    }
    ask_port_free(keyring->port);
    cancel_fetches(keyring);
    key_attempts_fini(&keyring->attempts);
    discovery_free(keyring->discovery);
    fetcher_free(keyring->fetcher);
    dns_free(keyring->dns);
    store_reader_free(keyring->reader);
    forget_all(keyring);
    table_fini(&keyring->memory);
    network_limit_free(keyring->networks);
    free(keyring);
}
