#include "inbound/keyring.h"

#include "dns_stub.h"
#include "inbound/key_fetch.h"
#include "inbound/key_record.h"
#include "net/tls.h"
#include "net_rig.h"
#include "proto/base64.h"
#include "proto/well_known.h"
#include "store_dir.h"
#include "tls_files.h"

#include <arpa/inet.h>

enum {
    N_KEYRINGS = 2,
    N_WAITS = 6,
    MAP_BYTES = 128 << 20,
    QUEUE_MAX = 1 << 16,
    BUDGET = 100,
    DAY_MS = 24 * 3600 * 1000,
};

#define KEY_ID     SPAN_LIT("ed25519:1")
#define BANNED_ID  SPAN_LIT("ed25519:2")
#define KEY_PATH   "/_matrix/key/v2/server"
#define WELL_KNOWN "/.well-known/matrix/server"

/* What is asked at first, and after a redirect. */
#define FIRST "a.test " WELL_KNOWN "\n"
#define AGAIN "b.test " WELL_KNOWN "\n"

#define DELEGATES(to) "{\"m.server\":\"" to "\"}"

static const uint8_t seed[ED25519_KEY_SIZE] = {1, 2, 3};
static const uint8_t other_seed[ED25519_KEY_SIZE] = {4, 5, 6};

/* What the homeservers of a test answer with. */
enum document {
    DOCUMENT_GOOD,
    DOCUMENT_OTHER_KEY,
    DOCUMENT_OTHER_NAME,
    DOCUMENT_UNSIGNED,
    DOCUMENT_TOO_LARGE,
    DOCUMENT_ANNOUNCED, /* as too large, and no byte of it comes */
    DOCUMENT_EXPIRED,
    DOCUMENT_STATUS,
    DOCUMENT_REDIRECT,
    DOCUMENT_HOLD,
    DOCUMENT_BANNED, /* with a banned key beside */
};

/* A peer that is every homeserver there is, on one port. */
struct fixture {
    uint8_t key[ED25519_KEY_SIZE], other_key[ED25519_KEY_SIZE]; /* of the seeds */
    struct tls_files files;
    struct tls_context *tls;
    struct loop *loop;
    struct http_listener *listener, *upstream;
    struct store_dir dir;
    struct metrics metrics, journal_metrics;
    struct store *store;
    struct journal *journal;
    struct ask_ring *ring;
    struct keyring_options options;
    struct keyring *keyrings[N_KEYRINGS];
    struct key_wait waits[N_WAITS];
    unsigned n_done;
    const char *ca_file;
    struct dns_stub dns; /* knows no name */
    char connect_to[32];
    bool dials_as_named;

    const char *name; /* the server whose document there is; NULL: whoever the Host names */
    enum document document;
    int64_t valid_until_ts;
    const char *well_known; /* NULL: 404 */
    unsigned n_redirects;   /* before the .well-known */
    bool allows_loopback;
    unsigned n_asked; /* about addresses */
    bool is_hosted;
    struct writer log; /* "HOST TARGET\n" for each head */
    struct http_exchange *held;
};

/* A key of small order. */
static const struct span banned_key =
    SPAN_INIT(",\"ed25519:2\":{\"key\":\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}");

/* `more` are members of verify_keys. */
static void write_members(struct writer *out, const uint8_t *from_seed, struct span name,
                          int64_t valid_until_ts, struct span more)
{
    uint8_t key[ED25519_KEY_SIZE];

    ed25519_public_key(key, from_seed);
    writer_bytes(out, SPAN_LIT("\"server_name\":\""));
    writer_bytes(out, name);
    writer_bytes(out, SPAN_LIT("\",\"valid_until_ts\":"));
    writer_i64(out, valid_until_ts);
    writer_bytes(out, SPAN_LIT(",\"verify_keys\":{\"ed25519:1\":{\"key\":\""));
    base64_encode(out, key, sizeof key);
    writer_bytes(out, SPAN_LIT("\"}"));
    writer_bytes(out, more);
    writer_bytes(out, SPAN_LIT("}}"));
}

static void write_document_with(struct writer *out, const uint8_t *from_seed, struct span name,
                                int64_t valid_until_ts, struct span more)
{
    uint8_t signature[ED25519_SIGNATURE_SIZE];
    struct writer members;

    writer_init(&members, RECORD_MAX);
    writer_char(&members, '{');
    write_members(&members, from_seed, name, valid_until_ts, more);
    ed25519_sign(signature, from_seed, writer_span(&members));
    writer_bytes(out, SPAN_LIT("{\"signatures\":{\""));
    writer_bytes(out, name);
    writer_bytes(out, SPAN_LIT("\":{\"ed25519:1\":\""));
    base64_encode(out, signature, sizeof signature);
    writer_bytes(out, SPAN_LIT("\"}},"));
    writer_bytes(out, span_skip(writer_span(&members), 1));
    writer_fini(&members);
}

static void write_document(struct writer *out, const uint8_t *from_seed, struct span name,
                           int64_t valid_until_ts)
{
    write_document_with(out, from_seed, name, valid_until_ts, (struct span){0});
}

static void write_odd_document(struct writer *out, const struct fixture *f, struct span name)
{
    switch (f->document) {
    case DOCUMENT_OTHER_KEY:
        write_document(out, other_seed, name, f->valid_until_ts);
        break;
    case DOCUMENT_OTHER_NAME:
        write_document(out, seed, SPAN_LIT("evil.test"), f->valid_until_ts);
        break;
    case DOCUMENT_UNSIGNED:
        writer_char(out, '{');
        write_members(out, seed, name, f->valid_until_ts, (struct span){0});
        break;
    case DOCUMENT_TOO_LARGE:
        write_document(out, seed, name, f->valid_until_ts);
        while (out->size <= KEY_DOCUMENT_SIZE_MAX) {
            writer_char(out, ' ');
        }
        break;
    case DOCUMENT_EXPIRED:
        write_document(out, seed, name, clock_ms() - 1000);
        break;
    case DOCUMENT_BANNED:
        write_document_with(out, seed, name, f->valid_until_ts, banned_key);
        break;
    case DOCUMENT_GOOD:
    case DOCUMENT_ANNOUNCED:
    case DOCUMENT_STATUS:
    case DOCUMENT_REDIRECT:
    case DOCUMENT_HOLD:
        write_document(out, seed, name, f->valid_until_ts);
        break;
    }
}

static void redirect(struct http_exchange *ex, const char *to)
{
    const struct http_header location = {SPAN_LIT("Location"), span_str(to)};

    http_respond(ex, 302, &location, 1, SPAN_LIT(""));
}

static void answer_document(struct fixture *f, struct http_exchange *ex, struct span host)
{
    struct writer body;

    writer_init(&body, RECORD_MAX);
    write_odd_document(&body, f, f->name != NULL ? span_str(f->name) : host);
    if (f->document == DOCUMENT_HOLD) {
        f->held = ex;
    } else if (f->document == DOCUMENT_ANNOUNCED) {
        f->held = ex;
        http_respond_head(ex, 200, NULL, 0, KEY_DOCUMENT_SIZE_MAX + 1);
    } else if (f->document == DOCUMENT_REDIRECT) {
        f->document = DOCUMENT_GOOD;
        redirect(ex, "https://a.test/" KEY_PATH);
    } else {
        http_respond(ex, f->document == DOCUMENT_STATUS ? 404 : 200, NULL, 0, writer_span(&body));
    }
    writer_fini(&body);
}

static void answer_well_known(struct fixture *f, struct http_exchange *ex)
{
    if (f->n_redirects > 0) {
        f->n_redirects--;
        redirect(ex, "https://b.test" WELL_KNOWN);
    } else if (f->well_known == NULL) {
        http_respond(ex, 404, NULL, 0, SPAN_LIT("{\"m.server\":\"evil.test\"}"));
    } else {
        http_respond(ex, 200, NULL, 0, span_str(f->well_known));
    }
}

static void on_head(struct http_exchange *ex, const struct http_head *head)
{
    struct fixture *f = ex->arg;
    struct span host = http_header_find(head, SPAN_LIT("Host"));

    writer_bytes(&f->log, host);
    writer_char(&f->log, ' ');
    writer_bytes(&f->log, head->target);
    writer_char(&f->log, '\n');
    if (span_equal(head->target, SPAN_LIT(WELL_KNOWN))) {
        answer_well_known(f, ex);
    } else {
        answer_document(f, ex, host);
    }
}

static void on_body(struct http_exchange *ex, struct span bytes)
{
    (void)ex;
    (void)bytes;
}

static void on_end(struct http_exchange *ex)
{
    (void)ex;
}

static void on_abort(struct http_exchange *ex)
{
    struct fixture *f = ex->arg;

    f->held = NULL;
}

static const struct http_server_ops ops = {.on_head = on_head,
                                           .on_body = on_body,
                                           .on_end = on_end,
                                           .on_drained = on_end,
                                           .on_abort = on_abort};

static bool allow_address(void *arg, const struct in6_addr *address)
{
    struct fixture *f = arg;

    f->n_asked++;
    return f->allows_loopback && address->s6_addr[12] == 127;
}

static bool upstream_of(void *arg, struct span server, const char **host, uint16_t *port)
{
    struct fixture *f = arg;

    *host = "127.0.0.1";
    *port = http_listener_port(f->upstream);
    return f->is_hosted && span_equal(server, SPAN_LIT("hosted.test"));
}

static void open_listeners(struct fixture *f)
{
    assert_int_equal(
        tls_server_new(&f->tls, &(struct tls_certificate){f->files.chain, f->files.key}, 1),
        ERR_OK);
    assert_int_equal(
        http_listener_open(&f->listener, f->loop,
                           &(struct http_listener_options){.address = "127.0.0.1", .tls = f->tls},
                           &ops, f),
        ERR_OK);
    assert_int_equal(http_listener_open(&f->upstream, f->loop,
                                        &(struct http_listener_options){.address = "127.0.0.1"},
                                        &ops, f),
                     ERR_OK);
    snprintf(f->connect_to, sizeof f->connect_to, "127.0.0.1:%u", http_listener_port(f->listener));
}

static void open_keyrings(struct fixture *f)
{
    f->ring = ask_ring_new(N_KEYRINGS);
    f->options = (struct keyring_options){
        .loop = f->loop,
        .store = f->store,
        .journal = f->journal,
        .metrics = &f->metrics,
        .ring = f->ring,
        .ca_file = f->ca_file,
        .connect_to = f->dials_as_named ? NULL : f->connect_to,
        .dns_servers = f->dns.address,
        .fetches_per_s = BUDGET,
        .allow_address = allow_address,
        .upstream_of = upstream_of,
        .arg = f,
    };
    for (size_t i = 0; i < N_KEYRINGS; i++) {
        f->options.index = i;
        assert_int_equal(keyring_new(&f->keyrings[i], &f->options), ERR_OK);
    }
}

static void close_keyrings(struct fixture *f)
{
    for (size_t i = 0; i < N_KEYRINGS; i++) {
        keyring_free(TAKE(f->keyrings[i]));
    }
    ask_ring_free(TAKE(f->ring));
}

static void start_journal(struct fixture *f)
{
    assert_int_equal(journal_start(&f->journal, f->store, &f->journal_metrics, QUEUE_MAX), ERR_OK);
}

/* As a restart of the process does; what was submitted is committed before. */
static void restart(struct fixture *f)
{
    close_keyrings(f);
    journal_stop(f->journal);
    start_journal(f);
    open_keyrings(f);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    CHECK(f != NULL);
    ed25519_public_key(f->key, seed);
    ed25519_public_key(f->other_key, other_seed);
    tls_files_make(&f->files, "DNS:a.test,DNS:b.test,DNS:delegated.test,IP:127.0.0.1");
    writer_init(&f->log, RECORD_MAX);
    f->valid_until_ts = clock_ms() + DAY_MS;
    f->allows_loopback = true;
    f->ca_file = f->files.chain;
    assert_int_equal(loop_new(&f->loop), ERR_OK);
    store_dir_make(&f->dir);
    assert_int_equal(store_open(&f->store, f->dir.path, MAP_BYTES), ERR_OK);
    start_journal(f);
    open_listeners(f);
    dns_stub_start(&f->dns, NULL);
    open_keyrings(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close_keyrings(f);
    dns_stub_stop(&f->dns);
    http_listener_free(f->listener);
    http_listener_free(f->upstream);
    loop_free(f->loop);
    tls_context_free(f->tls);
    journal_stop(f->journal);
    store_close(f->store);
    store_dir_remove(&f->dir);
    tls_files_remove(&f->files);
    writer_fini(&f->log);
    free(f);
    return 0;
}

static void on_done(void *arg)
{
    ((struct fixture *)arg)->n_done++;
}

static void refresh(struct fixture *f, size_t keyring, const char *server)
{
    unsigned n_before = f->n_done;

    keyring_refresh(f->keyrings[keyring], &f->waits[0], span_str(server), NULL, on_done, f);
    assert_int_equal(f->n_done, n_before); /* nothing from inside */
    RUN_UNTIL(f->loop, f->n_done > n_before);
    assert_int_equal(f->n_done, n_before + 1);
}

/* The seed whose public key the keyring has; NULL: none. */
static const uint8_t *seed_of(struct fixture *f, size_t keyring, const char *server, int64_t now_ms)
{
    uint8_t got[ED25519_KEY_SIZE];

    if (keyring_get(f->keyrings[keyring], got, span_str(server), KEY_ID, now_ms) != KEY_USABLE) {
        return NULL;
    }
    if (memcmp(got, f->key, sizeof got) == 0) {
        return seed;
    }
    assert_memory_equal(got, f->other_key, sizeof got);
    return other_seed;
}

static bool has_key(struct fixture *f, size_t keyring, const char *server)
{
    return seed_of(f, keyring, server, clock_ms()) == seed;
}

/* How the key that is not the seed's stands. */
static enum key_standing standing_of(struct fixture *f, size_t keyring, const char *server,
                                     int64_t now_ms)
{
    uint8_t got[ED25519_KEY_SIZE];

    return keyring_get(f->keyrings[keyring], got, span_str(server), BANNED_ID, now_ms);
}

static uint64_t counted(struct fixture *f, enum fetch_result result)
{
    return atomic_load(&f->metrics.cells[COUNTER_CELL_key_fetches_total + (int)result]);
}

static uint64_t n_failures(struct fixture *f, enum fetch_failure why)
{
    return atomic_load(&f->metrics.cells[COUNTER_CELL_key_fetch_failures_total + (int)why]);
}

static void assert_counted(struct fixture *f, uint64_t ok, uint64_t failed, uint64_t budget)
{
    assert_int_equal(counted(f, FETCH_RESULT_OK), ok);
    assert_int_equal(counted(f, FETCH_RESULT_FAILED), failed);
    assert_int_equal(counted(f, FETCH_RESULT_BUDGET), budget);
}

static void assert_log(struct fixture *f, const char *expected)
{
    if (!span_equal(writer_span(&f->log), span_str(expected))) {
        fail_msg("asked:\n%.*sand not:\n%s", (int)f->log.size, f->log.data, expected);
    }
    writer_reset(&f->log);
}

static void one_fetch_is_for_all_who_ask(void **state)
{
    struct fixture *f = *state;

    assert_false(has_key(f, 0, "a.test:8448"));
    for (size_t i = 0; i < N_WAITS; i++) {
        keyring_refresh(f->keyrings[i % N_KEYRINGS], &f->waits[i], SPAN_LIT("a.test:8448"), NULL,
                        on_done, f);
    }
    RUN_UNTIL(f->loop, f->n_done == N_WAITS);
    assert_log(f, "a.test:8448 " KEY_PATH "\n");
    assert_counted(f, 1, 0, 0);
    for (size_t i = 0; i < N_KEYRINGS; i++) {
        assert_true(has_key(f, i, "a.test:8448"));
        assert_false(has_key(f, i, "a.test"));
        assert_false(has_key(f, i, "b.test:8448"));
        assert_int_equal(standing_of(f, i, "a.test:8448", clock_ms()), KEY_UNKNOWN);
    }
}

static void those_who_ask_while_it_runs_wait_for_it(void **state)
{
    struct fixture *f = *state;

    f->document = DOCUMENT_HOLD;
    keyring_refresh(f->keyrings[0], &f->waits[0], SPAN_LIT("a.test:1"), NULL, on_done, f);
    RUN_UNTIL(f->loop, f->held != NULL);
    keyring_refresh(f->keyrings[1], &f->waits[1], SPAN_LIT("a.test:1"), NULL, on_done, f);
    run_for(f->loop, 20);
    assert_int_equal(f->n_done, 0);
    f->document = DOCUMENT_GOOD;
    answer_document(f, f->held, SPAN_LIT("a.test:1"));
    RUN_UNTIL(f->loop, f->n_done == 2);
    assert_true(has_key(f, 0, "a.test:1") && has_key(f, 1, "a.test:1"));
    assert_counted(f, 1, 0, 0);
}

static void what_was_fetched_outlives_the_process(void **state)
{
    struct fixture *f = *state;

    refresh(f, 0, "a.test:8448");
    restart(f);
    assert_true(has_key(f, 0, "a.test:8448"));
    assert_true(has_key(f, 1, "a.test:8448"));
    assert_false(has_key(f, 1, "b.test:8448"));
    assert_counted(f, 1, 0, 0);
}

static void without_the_journal_memory_has_the_keys(void **state)
{
    struct fixture *f = *state;
    struct journal *full;

    close_keyrings(f);
    assert_int_equal(journal_start(&full, f->store, &f->journal_metrics, 1), ERR_OK);
    struct journal *journal = f->journal;
    f->journal = full;
    open_keyrings(f);
    refresh(f, 0, "a.test:8448");
    assert_true(has_key(f, 0, "a.test:8448"));
    close_keyrings(f);
    journal_stop(full);
    f->journal = journal;
    open_keyrings(f);
    assert_false(has_key(f, 0, "a.test:8448"));
}

static void a_server_is_asked_once_in_a_while(void **state)
{
    struct fixture *f = *state;

    refresh(f, 0, "a.test:8448");
    f->document = DOCUMENT_OTHER_KEY;
    refresh(f, 0, "a.test:8448");
    refresh(f, 1, "a.test:8448");
    assert_log(f, "a.test:8448 " KEY_PATH "\n");
    assert_true(has_key(f, 0, "a.test:8448") && has_key(f, 1, "a.test:8448"));
    f->document = DOCUMENT_STATUS;
    refresh(f, 0, "b.test:8448");
    f->document = DOCUMENT_GOOD;
    refresh(f, 1, "b.test:8448");
    assert_log(f, "b.test:8448 " KEY_PATH "\n");
    assert_false(has_key(f, 0, "b.test:8448") || has_key(f, 1, "b.test:8448"));
    assert_counted(f, 1, 1, 0);
}

static void a_newer_key_replaces_the_cached_one_wherever_it_was(void **state)
{
    struct fixture *f = *state;

    refresh(f, 0, "a.test:8448");
    refresh(f, 1, "a.test:8448");
    restart(f); /* forgets that it was asked lately */
    assert_true(has_key(f, 0, "a.test:8448") && has_key(f, 1, "a.test:8448"));
    f->document = DOCUMENT_OTHER_KEY;
    refresh(f, 0, "a.test:8448");
    refresh(f, 1, "a.test:8448");
    for (size_t i = 0; i < N_KEYRINGS; i++) {
        assert_ptr_equal(seed_of(f, i, "a.test:8448", clock_ms()), other_seed);
    }
    restart(f);
    assert_ptr_equal(seed_of(f, 0, "a.test:8448", clock_ms()), other_seed);
}

static void after_a_failure_the_old_key_stands(void **state)
{
    struct fixture *f = *state;

    refresh(f, 0, "a.test:8448");
    restart(f);
    f->document = DOCUMENT_STATUS;
    refresh(f, 0, "a.test:8448");
    refresh(f, 1, "a.test:8448");
    assert_true(has_key(f, 0, "a.test:8448") && has_key(f, 1, "a.test:8448"));
    assert_counted(f, 1, 1, 0);
}

static void without_budget_nothing_is_fetched(void **state)
{
    struct fixture *f = *state;

    refresh(f, 0, "a.test:8448");
    writer_reset(&f->log);
    for (size_t i = 0; i < N_KEYRINGS; i++) {
        keyring_set_budget(f->keyrings[i], 0);
    }
    refresh(f, 0, "a.test:8448"); /* lately: the budget is not the reason */
    assert_counted(f, 1, 0, 0);
    refresh(f, 0, "b.test:8448");
    assert_counted(f, 1, 0, 1);
    assert_log(f, "");
    assert_false(has_key(f, 0, "b.test:8448"));
    for (size_t i = 0; i < N_KEYRINGS; i++) {
        keyring_set_budget(f->keyrings[i], 1);
    }
    refresh(f, 0, "b.test:8448"); /* what was not begun was not tried */
    assert_true(has_key(f, 0, "b.test:8448"));
    assert_counted(f, 2, 0, 1);
}

static struct in6_addr address_named(const char *text)
{
    struct in6_addr address;

    assert_int_equal(inet_pton(AF_INET6, text, &address), 1);
    return address;
}

/* For a client, and whether its network was over its share. */
static bool is_over_network(struct fixture *f, const char *server, const struct in6_addr *client)
{
    unsigned n_before = f->n_done;

    keyring_refresh(f->keyrings[0], &f->waits[0], span_str(server), client, on_done, f);
    RUN_UNTIL(f->loop, f->n_done > n_before);
    return f->waits[0].is_over_network;
}

static void a_network_has_its_share_of_the_fetches_and_others_have_theirs(void **state)
{
    /* So few that a network's share fills more slowly than fetches are made, however slow a
     * sanitizer makes them. */
    enum { FEW = 8, N = FEW / KEYRING_NETWORK_BURST_PART * N_KEYRINGS };
    struct fixture *f = *state;
    struct in6_addr noisy = address_named("::ffff:192.0.2.1");
    struct in6_addr other = address_named("::ffff:198.51.100.1");
    char server[32] = "";
    unsigned n_begun = 0;

    f->document = DOCUMENT_STATUS;
    for (size_t i = 0; i < N_KEYRINGS; i++) {
        keyring_set_budget(f->keyrings[i], FEW);
    }
    for (bool is_over = false; !is_over; n_begun += !is_over) {
        snprintf(server, sizeof server, "a.test:%u", n_begun + 1);
        is_over = is_over_network(f, server, &noisy);
        assert_true(n_begun < 4 * N); /* each network is limited at all */
    }
    assert_true(n_begun >= N / N_KEYRINGS);
    assert_counted(f, 0, n_begun, 0);
    assert_int_equal(counted(f, FETCH_RESULT_NETWORK), 1);
    assert_false(is_over_network(f, server, &other)); /* what was not begun was not tried */
    assert_false(is_over_network(f, "b.test:1", NULL));
    assert_false(is_over_network(f, "b.test:2", &in6addr_any));
    assert_false(is_over_network(f, "a.test:1", &noisy)); /* asked lately: costs nothing */
    assert_counted(f, 0, n_begun + 3, 0);
    assert_int_equal(counted(f, FETCH_RESULT_NETWORK), 1);
}

static void what_is_not_the_servers_document_is_no_key(void **state)
{
    static const struct {
        const char *name;
        enum document document;
        enum fetch_failure failure;
        uint64_t n; /* of that failure, by then */
    } rows[] = {
        {"of another server", DOCUMENT_OTHER_NAME, FETCH_FAILURE_DOCUMENT, 1},
        {"unsigned", DOCUMENT_UNSIGNED, FETCH_FAILURE_DOCUMENT, 2},
        {"too large", DOCUMENT_TOO_LARGE, FETCH_FAILURE_TOO_LARGE, 1},
        {"announced as too large", DOCUMENT_ANNOUNCED, FETCH_FAILURE_TOO_LARGE, 2},
        {"expired", DOCUMENT_EXPIRED, FETCH_FAILURE_NO_VALID_KEY, 1},
        {"with another status", DOCUMENT_STATUS, FETCH_FAILURE_STATUS, 1},
        {"elsewhere", DOCUMENT_REDIRECT, FETCH_FAILURE_STATUS, 2},
    };
    struct fixture *f = *state;
    char server[32];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(server, sizeof server, "a.test:%zu", i + 1);
        f->document = rows[i].document;
        refresh(f, 0, server);
        if (has_key(f, 0, server) || has_key(f, 1, server) || has_key(f, 0, "evil.test") ||
            counted(f, FETCH_RESULT_FAILED) != i + 1 ||
            n_failures(f, rows[i].failure) != rows[i].n) {
            fail_msg("row failed: %s", rows[i].name);
        }
    }
    assert_int_equal(count_text(&f->log, KEY_PATH), sizeof rows / sizeof rows[0]);
}

static void a_key_ends_with_its_document_or_after_a_week(void **state)
{
    struct fixture *f = *state;

    f->valid_until_ts = clock_ms() + DAY_MS;
    refresh(f, 0, "a.test:1");
    assert_ptr_equal(seed_of(f, 0, "a.test:1", f->valid_until_ts), seed);
    assert_null(seed_of(f, 0, "a.test:1", f->valid_until_ts + 1));
    f->valid_until_ts = clock_ms() + 30LL * DAY_MS;
    int64_t before_ms = clock_ms();
    refresh(f, 0, "a.test:2");
    assert_ptr_equal(seed_of(f, 0, "a.test:2", before_ms + KEYRING_VALID_S * 1000LL), seed);
    assert_null(seed_of(f, 0, "a.test:2", clock_ms() + KEYRING_VALID_S * 1000LL + 1));
    restart(f);
    assert_null(seed_of(f, 0, "a.test:1", clock_ms() + 2LL * DAY_MS));
    assert_ptr_equal(seed_of(f, 0, "a.test:2", clock_ms() + 2LL * DAY_MS), seed);
}

static void a_banned_key_is_known_as_banned_as_long_as_its_document(void **state)
{
    struct fixture *f = *state;

    f->document = DOCUMENT_BANNED;
    assert_int_equal(standing_of(f, 0, "a.test:1", clock_ms()), KEY_UNKNOWN);
    refresh(f, 0, "a.test:1");
    refresh(f, 1, "a.test:1");
    for (int restarts = 0; restarts < 2; restarts++) {
        for (size_t i = 0; i < N_KEYRINGS; i++) {
            assert_true(has_key(f, i, "a.test:1"));
            assert_int_equal(standing_of(f, i, "a.test:1", f->valid_until_ts), KEY_BANNED);
            assert_int_equal(standing_of(f, i, "a.test:1", f->valid_until_ts + 1), KEY_UNKNOWN);
        }
        restart(f);
    }
    f->document = DOCUMENT_GOOD;
    refresh(f, 0, "a.test:1");
    assert_int_equal(standing_of(f, 0, "a.test:1", clock_ms()), KEY_UNKNOWN);
}

static void a_server_is_found_as_the_specification_says(void **state)
{
    static const struct {
        const char *server;
        const char *well_known; /* NULL: there is none */
        const char *asked;
        unsigned n_redirects;
        bool is_found;
    } rows[] = {
        {"a.test:1", DELEGATES("b.test"), "a.test:1 " KEY_PATH "\n", 0, true},
        {"127.0.0.1", DELEGATES("b.test"), "127.0.0.1 " KEY_PATH "\n", 0, true},
        {"127.0.0.1:2", NULL, "127.0.0.1:2 " KEY_PATH "\n", 0, true},
        {"[::1]", NULL, "", 0, false}, /* not in the certificate, but no .well-known either */
        {"a.test", NULL, FIRST "a.test " KEY_PATH "\n", 0, true},
        {"a.test", DELEGATES("delegated.test"), FIRST "delegated.test " KEY_PATH "\n", 0, true},
        {"a.test", DELEGATES("delegated.test:443"), FIRST "delegated.test:443 " KEY_PATH "\n", 0,
         true},
        {"a.test", DELEGATES("127.0.0.1"), FIRST "127.0.0.1 " KEY_PATH "\n", 0, true},
        {"a.test", DELEGATES("c.test"), FIRST, 0, false}, /* not in the certificate */
        {"a.test", DELEGATES("no server name"), FIRST "a.test " KEY_PATH "\n", 0, true},
        {"a.test", DELEGATES("b.test/x?"), FIRST "a.test " KEY_PATH "\n", 0, true},
        {"a.test", "{\"m.server\":7}", FIRST "a.test " KEY_PATH "\n", 0, true},
        {"a.test", "[\"m.server\"]", FIRST "a.test " KEY_PATH "\n", 0, true},
        {"a.test", "<html>", FIRST "a.test " KEY_PATH "\n", 0, true},
        {"a.test", DELEGATES("delegated.test"), FIRST AGAIN AGAIN "delegated.test " KEY_PATH "\n",
         2, true},
        {"a.test", DELEGATES("delegated.test"),
         FIRST AGAIN AGAIN AGAIN AGAIN AGAIN "a.test " KEY_PATH "\n", DISCOVERY_REDIRECTS_MAX + 1,
         true},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t n_before = counted(f, FETCH_RESULT_OK);
        f->name = rows[i].server;
        f->well_known = rows[i].well_known;
        f->n_redirects = rows[i].n_redirects;
        close_keyrings(f); /* forgets that it was asked lately */
        open_keyrings(f);
        refresh(f, 0, rows[i].server);
        assert_log(f, rows[i].asked);
        if ((counted(f, FETCH_RESULT_OK) > n_before) != rows[i].is_found) {
            fail_msg("row failed: %s, %s", rows[i].server, rows[i].well_known);
        }
    }
}

static void a_well_known_that_is_too_long_is_none(void **state)
{
    struct fixture *f = *state;
    struct writer text;

    writer_init(&text, RECORD_MAX);
    writer_bytes(&text, SPAN_LIT("{\"m.server\":\"b.test\"}"));
    while (text.size <= WELL_KNOWN_SIZE_MAX) {
        writer_char(&text, ' ');
    }
    writer_char(&text, '\0');
    f->well_known = text.data;
    refresh(f, 0, "a.test");
    assert_log(f, "a.test " WELL_KNOWN "\na.test " KEY_PATH "\n");
    writer_fini(&text);
}

static void a_hosted_server_is_asked_upstream(void **state)
{
    struct fixture *f = *state;

    f->is_hosted = true;
    f->allows_loopback = false;
    refresh(f, 0, "hosted.test");
    assert_log(f, "hosted.test " KEY_PATH "\n");
    assert_true(has_key(f, 0, "hosted.test"));
    assert_int_equal(f->n_asked, 0);
    f->is_hosted = false;
    restart(f);
    refresh(f, 0, "hosted.test");
    assert_log(f, "");
}

static void an_address_that_is_not_allowed_is_not_dialled(void **state)
{
    struct fixture *f = *state;

    f->allows_loopback = false;
    refresh(f, 0, "a.test:8448");
    assert_int_equal(f->n_asked, 1);
    refresh(f, 0, "a.test"); /* for its .well-known too */
    assert_int_equal(f->n_asked, 3);
    assert_int_equal(http_listener_n_connections(f->listener), 0);
    assert_log(f, "");
    assert_counted(f, 0, 2, 0);
    assert_int_equal(n_failures(f, FETCH_FAILURE_NOT_ALLOWED), 2);
}

static void who_cancels_is_not_told(void **state)
{
    struct fixture *f = *state;

    f->document = DOCUMENT_HOLD;
    for (size_t i = 0; i < 3; i++) {
        keyring_refresh(f->keyrings[i % N_KEYRINGS], &f->waits[i], SPAN_LIT("a.test:1"), NULL,
                        on_done, f);
    }
    keyring_cancel(f->keyrings[0], &f->waits[0]); /* before it was asked */
    RUN_UNTIL(f->loop, f->held != NULL);
    keyring_cancel(f->keyrings[1], &f->waits[1]);
    memset(f->waits, 0xff, 2 * sizeof f->waits[0]);
    f->document = DOCUMENT_GOOD;
    answer_document(f, f->held, SPAN_LIT("a.test:1"));
    RUN_UNTIL(f->loop, f->n_done == 1);
    run_for(f->loop, 20);
    assert_int_equal(f->n_done, 1);
    assert_true(has_key(f, 0, "a.test:1"));
    keyring_cancel(f->keyrings[0], &f->waits[2]); /* nothing is left to cancel */
}

static void fetches_that_run_end_with_the_keyring(void **state)
{
    struct fixture *f = *state;

    f->document = DOCUMENT_HOLD;
    keyring_refresh(f->keyrings[0], &f->waits[0], SPAN_LIT("a.test:1"), NULL, on_done, f);
    keyring_refresh(f->keyrings[1], &f->waits[1], SPAN_LIT("a.test:1"), NULL, on_done, f);
    RUN_UNTIL(f->loop, f->held != NULL);
    keyring_cancel(f->keyrings[0], &f->waits[0]);
    keyring_cancel(f->keyrings[1], &f->waits[1]);
    close_keyrings(f);
    RUN_UNTIL(f->loop, f->held == NULL); /* the connection was closed */
    assert_int_equal(f->n_done, 0);
}

static void a_question_that_was_not_read_ends_with_the_keyring(void **state)
{
    struct fixture *f = *state;

    keyring_refresh(f->keyrings[0], &f->waits[0], SPAN_LIT("a.test:1"), NULL, on_done, f);
    keyring_refresh(f->keyrings[1], &f->waits[1], SPAN_LIT("b.test:1"), NULL, on_done, f);
    keyring_cancel(f->keyrings[0], &f->waits[0]);
    keyring_cancel(f->keyrings[1], &f->waits[1]);
    close_keyrings(f);
    run_for(f->loop, 20);
    assert_log(f, "");
}

/* A record of one server with that many keys, all the same. */
static void encode_record(struct writer *out, const char *server, uint32_t n_keys,
                          const uint8_t key[ED25519_KEY_SIZE])
{
    static const char long_id[KEY_RECORD_ID_MAX] = "ed25519:";
    struct key_record record = {.server = span_str(server), .n_keys = n_keys};

    for (uint32_t i = 0; i < n_keys; i++) {
        record.keys[i].key_id = i == 0 ? KEY_ID : span_of(long_id, sizeof long_id);
        record.keys[i].valid_until_ms = INT64_MAX;
        memcpy(record.keys[i].key, key, ED25519_KEY_SIZE);
    }
    writer_reset(out);
    key_record_encode(out, &record);
    CHECK(!out->failed);
}

static enum err put_raw(struct store_txn *txn, void *arg)
{
    const struct span *value = arg;
    const struct span server = SPAN_LIT("a.test:1");
    struct store_key key;

    store_key_make(&key, STORE_KEY, &server, 1);
    store_txn_put(txn, &key, *value);
    return ERR_OK;
}

static void put_done(void *arg, enum err result)
{
    (void)arg;
    assert_int_equal(result, ERR_OK);
}

static void put(struct fixture *f, struct span value)
{
    struct ticket ticket = {.bytes = 1, .apply = put_raw, .done = put_done, .arg = &value};

    assert_int_equal(journal_submit(f->journal, &ticket), ERR_OK);
    restart(f);
}

static void a_stored_record_is_believed_only_if_it_is_that_servers(void **state)
{
    struct fixture *f = *state;
    struct writer w;

    writer_init(&w, KEY_RECORD_MAX);
    encode_record(&w, "a.test:1", 1, f->key);
    put(f, writer_span(&w));
    assert_true(has_key(f, 0, "a.test:1"));
    put(f, span_of(w.data, w.size - 1));
    assert_false(has_key(f, 0, "a.test:1"));
    put(f, SPAN_LIT(""));
    assert_false(has_key(f, 0, "a.test:1"));
    encode_record(&w, "b.test:1", 1, f->key);
    put(f, writer_span(&w));
    assert_false(has_key(f, 0, "a.test:1"));
    assert_false(has_key(f, 0, "b.test:1"));
    writer_fini(&w);
}

/* s0.test and so on. */
struct servers {
    uint32_t n;
    uint32_t n_keys; /* of each */
    const uint8_t *key;
};

static void name_server(char out[32], uint32_t i)
{
    snprintf(out, 32, "s%u.test", i);
}

static enum err put_servers(struct store_txn *txn, void *arg)
{
    const struct servers *servers = arg;
    char name[32];
    struct store_key key;
    struct writer w;

    writer_init(&w, KEY_RECORD_MAX);
    for (uint32_t i = 0; i < servers->n; i++) {
        name_server(name, i);
        encode_record(&w, name, servers->n_keys, servers->key);
        store_key_make(&key, STORE_KEY, &(struct span){name, strlen(name)}, 1);
        store_txn_put(txn, &key, writer_span(&w));
    }
    writer_fini(&w);
    return store_txn_error(txn);
}

static void store_servers(struct fixture *f, struct servers servers)
{
    struct ticket ticket = {.bytes = 1, .apply = put_servers, .done = put_done, .arg = &servers};

    assert_int_equal(journal_submit(f->journal, &ticket), ERR_OK);
    journal_stop(f->journal);
    start_journal(f);
}

static size_t record_size(uint32_t n_keys)
{
    static const uint8_t key[ED25519_KEY_SIZE];
    struct writer w;
    char name[32];

    name_server(name, 1000);
    writer_init(&w, KEY_RECORD_MAX);
    encode_record(&w, name, n_keys, key);
    size_t size = w.size;
    writer_fini(&w);
    return size;
}

/* What is in memory hides what the store has meanwhile, which tells whether it was dropped. */
static void memory_is_bounded_and_what_was_dropped_comes_back(void **state)
{
    struct fixture *f = *state;
    const struct servers rows[] = {
        {KEYRING_SERVERS_MAX, 1, f->key},
        {(uint32_t)(KEYRING_BYTES_MAX / record_size(KEY_DOCUMENT_KEYS_MAX)), KEY_DOCUMENT_KEYS_MAX,
         f->key},
    };
    char name[32];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t n_more = rows[i].n + 20; /* the shorter names leave room for a few more */
        restart(f);
        store_servers(f, (struct servers){n_more, rows[i].n_keys, f->key});
        assert_true(has_key(f, 0, "s0.test"));
        store_servers(f, (struct servers){1, rows[i].n_keys, f->other_key});
        for (uint32_t k = 1; k < rows[i].n; k++) {
            name_server(name, k);
            assert_true(has_key(f, 0, name));
        }
        assert_true(has_key(f, 0, "s0.test"));
        for (uint32_t k = rows[i].n; k < n_more; k++) {
            name_server(name, k);
            assert_true(has_key(f, 0, name));
        }
        assert_ptr_equal(seed_of(f, 0, "s0.test", 0), other_seed);
    }
}

static void only_so_many_fetches_run_at_once(void **state)
{
    enum { N = 600 };
    struct fixture *f = *state;
    struct key_wait *waits = calloc(N, sizeof *waits);
    char name[32];
    uint16_t port;
    int silent = raw_listen(&port);

    CHECK(waits != NULL);
    snprintf(f->connect_to, sizeof f->connect_to, "127.0.0.1:%u", port);
    for (size_t i = 0; i < N; i++) {
        keyring_set_budget(f->keyrings[i % N_KEYRINGS], N);
        snprintf(name, sizeof name, "a.test:%zu", i + 1);
        keyring_refresh(f->keyrings[0], &waits[i], span_str(name), NULL, on_done, f);
    }
    RUN_UNTIL(f->loop, f->n_done == N - N_KEYRINGS * KEYRING_FETCHES_MAX);
    assert_counted(f, 0, 0, f->n_done);
    for (size_t i = 0; i < N; i++) {
        keyring_cancel(f->keyrings[0], &waits[i]);
    }
    close_keyrings(f);
    free(waits);
    close(silent);
}

/* Port 8448 of an address that no other program is likely to use. */
static void the_port_is_8448_if_none_is_said(void **state)
{
    struct fixture *f = *state;
    struct tls_files files;
    struct tls_context *tls;
    struct http_listener *listener;
    char address[32];
    char names[40];

    snprintf(address, sizeof address, "127.%d.%d.8", getpid() / 250 % 250, getpid() % 250);
    snprintf(names, sizeof names, "IP:%s", address);
    tls_files_make(&files, names);
    assert_int_equal(tls_server_new(&tls, &(struct tls_certificate){files.chain, files.key}, 1),
                     ERR_OK);
    assert_int_equal(
        http_listener_open(&listener, f->loop,
                           &(struct http_listener_options){
                               .address = address, .port = 8448, .tls = tls, .reuseport = true},
                           &ops, f),
        ERR_OK);
    close_keyrings(f);
    f->ca_file = files.chain;
    f->dials_as_named = true;
    open_keyrings(f);
    refresh(f, 0, address);
    assert_true(has_key(f, 0, address));
    http_listener_free(listener);
    tls_context_free(tls);
    tls_files_remove(&files);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_fetch_is_for_all_who_ask),
        TEST(those_who_ask_while_it_runs_wait_for_it),
        TEST(what_was_fetched_outlives_the_process),
        TEST(without_the_journal_memory_has_the_keys),
        TEST(a_server_is_asked_once_in_a_while),
        TEST(a_newer_key_replaces_the_cached_one_wherever_it_was),
        TEST(after_a_failure_the_old_key_stands),
        TEST(without_budget_nothing_is_fetched),
        TEST(a_network_has_its_share_of_the_fetches_and_others_have_theirs),
        TEST(what_is_not_the_servers_document_is_no_key),
        TEST(a_key_ends_with_its_document_or_after_a_week),
        TEST(a_banned_key_is_known_as_banned_as_long_as_its_document),
        TEST(a_server_is_found_as_the_specification_says),
        TEST(a_well_known_that_is_too_long_is_none),
        TEST(a_hosted_server_is_asked_upstream),
        TEST(an_address_that_is_not_allowed_is_not_dialled),
        TEST(who_cancels_is_not_told),
        TEST(fetches_that_run_end_with_the_keyring),
        TEST(a_question_that_was_not_read_ends_with_the_keyring),
        TEST(a_stored_record_is_believed_only_if_it_is_that_servers),
        TEST(memory_is_bounded_and_what_was_dropped_comes_back),
        TEST(only_so_many_fetches_run_at_once),
        TEST(the_port_is_8448_if_none_is_said),
    };

    return cmocka_run_group_tests_name("keyring", tests, NULL, NULL);
}
