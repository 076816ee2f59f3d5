/* Sends signed transactions of thousands of simulated homeservers and measures the answers. */
#include "bench/key_server.h"
#include "bench/push.h"
#include "bench/report.h"
#include "bench/run.h"
#include "bench/tool.h"

#include "base/clock.h"
#include "proto/check.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ssl.h>

enum {
    NO_CPU = 4096,
    OPTIONS_MAX = 64,
    PRIMING_CONNECTIONS = 16,
    PERCENT = 100,
    USERS_MAX = 1000000000,
    SERVERS_MAX = 100000,
};

static const uint64_t ms_ns = 1000000;
static const uint64_t second_ns = 1000000000;

struct settings {
    const char *make_pki, *pki;
    const char *target, *server_name, *protocol, *shape, *push, *ciphers;
    bool tls, json, no_verdicts, no_prime;
    uint64_t connections, streams, per_connection, sources;
    uint64_t rate, requests, warmup_ms, duration_ms, timeout_ms;
    uint64_t origins, key_port, users, devices, version, fresh, stale, memory_mb;
    uint64_t cpu, pid, servers;
};

static const struct settings defaults = {
    .server_name = "a.example",
    .protocol = "http/1.1",
    .shape = "edu2k",
    .connections = 32,
    .streams = 8,
    .warmup_ms = 1000,
    .duration_ms = 5000,
    .timeout_ms = 30000,
    .origins = 1000,
    .users = 1000,
    .devices = 5,
    .memory_mb = 256,
    .cpu = NO_CPU,
    .servers = 1,
};

/* Each adds its rows behind the n there are. */
static void add_reach(struct option_row *rows, size_t *n, struct settings *s)
{
    const struct option_row added[] = {
        {NULL, OPTION_HEADING, {NULL}, 0, 0, "Certificates:"},
        {"make-pki",
         OPTION_TEXT,
         {.text = &s->make_pki},
         0,
         0,
         "FOLDER: write ca.pem, server.chain.pem and server.key.pem there, and end"},
        {"pki",
         OPTION_TEXT,
         {.text = &s->pki},
         0,
         0,
         "FOLDER of --make-pki: serve the origins' keys, over TLS (else nobody does)"},
        {"key-port",
         OPTION_NUMBER,
         {.number = &s->key_port},
         0,
         UINT16_MAX,
         "for that, and in the origins' names; 0: any free one"},
        {NULL, OPTION_HEADING, {NULL}, 0, 0, "Target:"},
        {"target", OPTION_TEXT, {.text = &s->target}, 0, 0, "IPV4:PORT or [IPV6]:PORT; required"},
        {"server-name",
         OPTION_TEXT,
         {.text = &s->server_name},
         0,
         0,
         "the hosted server's: destination, Host, SNI"},
        {"servers",
         OPTION_NUMBER,
         {.number = &s->servers},
         1,
         SERVERS_MAX,
         "hosted; * in the name stands for 0, 1, ...; a connection is for one of them"},
        {"protocol", OPTION_TEXT, {.text = &s->protocol}, 0, 0, "http/1.1 or h2"},
        {"tls", OPTION_FLAG, {.flag = &s->tls}, 0, 0, "with TLS; certificates are not checked"},
        {"ciphers",
         OPTION_TEXT,
         {.text = &s->ciphers},
         0,
         0,
         "TLS 1.3 suites, such as TLS_AES_128_GCM_SHA256 (OpenSSL's)"},
    };

    memcpy(rows + *n, added, sizeof added);
    *n += sizeof added / sizeof added[0];
}

static void add_load(struct option_row *rows, size_t *n, struct settings *s)
{
    const uint64_t ms_max = 7ULL * 24 * 3600 * 1000;
    const struct option_row added[] = {
        {NULL, OPTION_HEADING, {NULL}, 0, 0, "Load:"},
        {"connections", OPTION_NUMBER, {.number = &s->connections}, 1, 1000000, "at once"},
        {"streams",
         OPTION_NUMBER,
         {.number = &s->streams},
         1,
         CLIENT_STREAMS_MAX,
         "at once on each connection (h2)"},
        {"per-connection",
         OPTION_NUMBER,
         {.number = &s->per_connection},
         0,
         UINT32_MAX,
         "requests, then a new connection; 0: keep it"},
        {"sources",
         OPTION_NUMBER,
         {.number = &s->sources},
         0,
         65000,
         "loopback addresses to connect from in turn; 0: as the system likes"},
        {"rate",
         OPTION_NUMBER,
         {.number = &s->rate},
         0,
         100000000,
         "requests/s, whatever the answers do; 0: one after another"},
        {"requests",
         OPTION_NUMBER,
         {.number = &s->requests},
         0,
         UINT64_MAX,
         "at most, warm-up included; 0: no end"},
        {"warmup-ms", OPTION_NUMBER, {.number = &s->warmup_ms}, 0, ms_max, "not measured"},
        {"duration-ms",
         OPTION_NUMBER,
         {.number = &s->duration_ms},
         0,
         ms_max,
         "measured; 0: until --requests are done"},
        {"timeout-ms", OPTION_NUMBER, {.number = &s->timeout_ms}, 1, ms_max, "of one request"},
    };

    memcpy(rows + *n, added, sizeof added);
    *n += sizeof added / sizeof added[0];
}

static void add_transactions(struct option_row *rows, size_t *n, struct settings *s)
{
    const struct option_row added[] = {
        {NULL, OPTION_HEADING, {NULL}, 0, 0, "Transactions:"},
        {"shape",
         OPTION_TEXT,
         {.text = &s->shape},
         0,
         0,
         "edu2k, edu10, edu100, full, dendrite, storm"},
        {"origins", OPTION_NUMBER, {.number = &s->origins}, 1, ORIGINS_MAX, "simulated senders"},
        {"memory-mb",
         OPTION_NUMBER,
         {.number = &s->memory_mb},
         1,
         1000000,
         "of transactions signed ahead; they are sent over and over"},
        {"users", OPTION_NUMBER, {.number = &s->users}, 1, USERS_MAX, "hosted, that receive"},
        {"devices",
         OPTION_NUMBER,
         {.number = &s->devices},
         0,
         LISTS_DEVICES_MAX,
         "of each user in version 0 of the lists"},
        {"list-version",
         OPTION_NUMBER,
         {.number = &s->version},
         0,
         LISTS_VERSIONS_MAX,
         "that is current"},
        {"fresh",
         OPTION_NUMBER,
         {.number = &s->fresh},
         0,
         PERCENT,
         "percent of the transactions claim that version"},
        {"stale",
         OPTION_NUMBER,
         {.number = &s->stale},
         0,
         PERCENT,
         "percent claim the one before; the rest claim nothing"},
        {"push",
         OPTION_TEXT,
         {.text = &s->push},
         0,
         0,
         "SOCKET of a router's admin listener: push the lists first"},
        {"no-verdicts",
         OPTION_FLAG,
         {.flag = &s->no_verdicts},
         0,
         0,
         "the target gives none, whatever is claimed"},
        {"no-prime",
         OPTION_FLAG,
         {.flag = &s->no_prime},
         0,
         0,
         "without one transaction of each origin ahead, by which its key is fetched"},
    };

    memcpy(rows + *n, added, sizeof added);
    *n += sizeof added / sizeof added[0];
}

static void add_measuring(struct option_row *rows, size_t *n, struct settings *s)
{
    const struct option_row added[] = {
        {NULL, OPTION_HEADING, {NULL}, 0, 0, "Measuring:"},
        {"cpu", OPTION_NUMBER, {.number = &s->cpu}, 0, NO_CPU - 1, "core to stay on (none)"},
        {"pid",
         OPTION_NUMBER,
         {.number = &s->pid},
         0,
         INT32_MAX,
         "of the measured server, for its CPU time and memory"},
        {"json", OPTION_FLAG, {.flag = &s->json}, 0, 0, "one object instead of a table"},
    };

    memcpy(rows + *n, added, sizeof added);
    *n += sizeof added / sizeof added[0];
}

static struct settings read_settings(int argc, char **argv)
{
    struct settings s = defaults;
    struct option_row rows[OPTIONS_MAX];
    size_t n = 0;

    add_reach(rows, &n, &s);
    add_load(rows, &n, &s);
    add_transactions(rows, &n, &s);
    add_measuring(rows, &n, &s);
    CHECK(n <= OPTIONS_MAX);
    options_read(rows, n,
                 "Sends signed transactions and measures the answers: bench/README.md.\n"
                 "Status 0: every request was answered as it should be; 1: not; 2: called wrongly.",
                 argc, argv);
    return s;
}

static void check_settings(const struct settings *s)
{
    if (s->target == NULL) {
        die("--target is missing");
    }
    if (s->fresh + s->stale > PERCENT) {
        die("--fresh and --stale are more than 100 percent");
    }
    if (s->stale > 0 && s->version == 0) {
        die("--stale needs a --list-version above 0");
    }
    if (s->servers > 1 && (strchr(s->server_name, '*') == NULL || s->connections < s->servers)) {
        die("--servers needs a * in --server-name, and as many --connections");
    }
    if (s->servers > 1 && s->push != NULL) {
        die("--push is for one server");
    }
    if (s->duration_ms == 0 && s->requests == 0) {
        die("--duration-ms 0 needs --requests");
    }
}

static SSL_CTX *make_tls(const struct settings *s, bool is_http2)
{
    static const unsigned char h2[] = "\x02h2";
    static const unsigned char http1[] = "\x08http/1.1";
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());

    CHECK(tls != NULL);
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    CHECK(SSL_CTX_set_alpn_protos(tls, is_http2 ? h2 : http1,
                                  (unsigned)(is_http2 ? sizeof h2 : sizeof http1) - 1) == 0);
    if (s->ciphers != NULL && SSL_CTX_set_ciphersuites(tls, s->ciphers) != 1) {
        die("--ciphers: %s is not for TLS 1.3", s->ciphers);
    }
    return tls;
}

static struct client_options client_options(const struct settings *s, const char *const *servers)
{
    static const char *const protocols[] = {"http/1.1", "h2", NULL};
    struct client_options options = {
        .is_http2 = option_choice("protocol", s->protocol, protocols) == 1,
        .n_calls_max = (uint32_t)s->per_connection,
    };

    options.n_streams = options.is_http2 ? (uint32_t)s->streams : 1;
    options.servers = servers;
    options.n_servers = (uint32_t)s->servers;
    options.target.n_sources = (uint32_t)s->sources;
    options.target.tls = s->tls ? make_tls(s, options.is_http2) : NULL;
    if (!wire_target_parse(&options.target, s->target)) {
        die("--target: %s is not an address and a port", s->target);
    }
    return options;
}

/* Returns how many were sent, all to the first server. A router that has all keys by now fetches
 * none during the run. */
static uint64_t prime(const struct traffic_options *traffic_options,
                      const struct client_options *client, uint64_t timeout_ns)
{
    struct traffic primers;
    struct run_result *result = malloc(sizeof *result);

    CHECK(result != NULL);
    struct traffic_options for_first = *traffic_options;
    for_first.n_servers = 1;
    traffic_init_primers(&primers, &for_first);
    struct run_options options = {
        .client = *client,
        .traffic = &primers,
        .n_connections = PRIMING_CONNECTIONS,
        .n_requests = primers.n,
        .timeout_ns = timeout_ns,
    };
    options.client.n_streams = 1;
    options.client.n_servers = 1;
    run(result, &options);
    uint64_t n = result->n_sent;
    if (!run_is_flawless(result)) {
        fprintf(stderr, "priming: %u of %u transactions were answered with a 2xx\n",
                (unsigned)result->statuses[2], (unsigned)primers.n);
    }
    traffic_fini(&primers);
    free(result);
    return n;
}

struct world {
    struct pki *pki;
    struct key_server *keys;
    struct origins origins;
    struct traffic_options traffic_options;
    struct traffic traffic;
    const char **servers; /* names of all, s->servers of them */
    struct lists *lists;  /* of each */
};

/* The name of server `number`, to be freed. */
static char *name_server(const char *pattern, uint64_t number)
{
    const char *star = strchr(pattern, '*');
    char *name = NULL;
    int n = star == NULL ? asprintf(&name, "%s", pattern)
                         : asprintf(&name, "%.*s%" PRIu64 "%s", (int)(star - pattern), pattern,
                                    number, star + 1);

    CHECK(n > 0);
    return name;
}

static void make_servers(struct world *world, const struct settings *s)
{
    world->servers = calloc(s->servers, sizeof *world->servers);
    world->lists = calloc(s->servers, sizeof *world->lists);
    CHECK(world->servers != NULL && world->lists != NULL);
    for (uint64_t i = 0; i < s->servers; i++) {
        world->servers[i] = name_server(s->server_name, i);
        world->lists[i] =
            (struct lists){span_str(world->servers[i]), (uint32_t)s->users, (uint32_t)s->devices};
    }
}

static void make_world(struct world *world, const struct settings *s)
{
    uint16_t key_port = (uint16_t)s->key_port;

    *world = (struct world){0};
    make_servers(world, s);
    if (s->pki != NULL) {
        world->pki = pki_open(s->pki);
        world->keys = key_server_listen(&key_port, world->pki);
    }
    origins_init(&world->origins, (uint32_t)s->origins, key_port == 0 ? 8448 : key_port);
    if (world->keys != NULL) {
        key_server_start(world->keys, &world->origins);
    }
    world->traffic_options = (struct traffic_options){
        .shape = (enum shape)option_choice("shape", s->shape, shape_names),
        .origins = &world->origins,
        .lists = world->lists,
        .n_servers = (uint32_t)s->servers,
        .version = (uint32_t)s->version,
        .fresh_percent = (uint32_t)s->fresh,
        .stale_percent = (uint32_t)s->stale,
        .run_id = (uint64_t)clock_ms() << 20 | (now_ns() & 0xfffff),
    };
    traffic_init(&world->traffic, &world->traffic_options,
                 s->requests != 0 ? s->requests : UINT64_MAX, (size_t)s->memory_mb << 20);
}

static void end_world(struct world *world)
{
    key_server_stop(world->keys);
    pki_close(world->pki);
    traffic_fini(&world->traffic);
    origins_fini(&world->origins);
    for (uint32_t i = 0; i < world->traffic_options.n_servers; i++) {
        free((char *)(uintptr_t)world->servers[i]);
    }
    free(world->servers);
    free(world->lists);
}

static struct report describe(const struct settings *s, const struct run_options *options,
                              const struct run_result *result)
{
    return (struct report){
        .shape = s->shape,
        .target = s->target,
        .is_http2 = options->client.is_http2,
        .is_tls = s->tls,
        .n_connections = options->n_connections,
        .n_streams = options->client.n_streams,
        .n_calls_max = options->client.n_calls_max,
        .n_origins = (uint32_t)s->origins,
        .n_users = (uint32_t)s->users,
        .n_devices = (uint32_t)s->devices,
        .fresh_percent = (uint32_t)s->fresh,
        .stale_percent = (uint32_t)s->stale,
        .rate = options->rate,
        .traffic = options->traffic,
        .result = result,
    };
}

static bool measure(const struct settings *s, const struct world *world)
{
    struct run_result *result = malloc(sizeof *result);
    struct run_options options = {
        .client = client_options(s, world->servers),
        .traffic = &world->traffic,
        .n_connections = (uint32_t)s->connections,
        .rate = s->rate,
        .n_requests = s->requests,
        .warmup_ns = s->warmup_ms * ms_ns,
        .duration_ns = s->duration_ms * ms_ns,
        .timeout_ns = s->timeout_ms * ms_ns,
        .watched_pid = s->pid,
        .expects_verdicts = !s->no_verdicts,
    };

    CHECK(result != NULL);
    struct report report = describe(s, &options, result);
    report.n_lists_pushed =
        s->push == NULL ? 0 : push_lists(s->push, world->lists, (uint32_t)s->version);
    report.n_primed =
        s->no_prime ? 0 : prime(&world->traffic_options, &options.client, 60 * second_ns);
    run(result, &options);
    report.n_keys_served = world->keys == NULL ? 0 : key_server_count(world->keys);
    if (s->json) {
        report_json(&report);
    } else {
        report_table(&report);
    }
    bool is_flawless = run_is_flawless(result);
    free(result);
    SSL_CTX_free(options.client.target.tls);
    return is_flawless;
}

int main(int argc, char **argv)
{
    struct settings s = read_settings(argc, argv);
    struct world world;

    if (s.make_pki != NULL) {
        pki_create(s.make_pki, s.server_name);
        return 0;
    }
    check_settings(&s);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    raise_file_limit();
    if (s.cpu != NO_CPU) {
        pin_to_cpu(s.cpu);
    }
    be_punctual();
    make_world(&world, &s);
    bool is_flawless = measure(&s, &world);
    end_world(&world);
    return is_flawless ? 0 : 1;
}
