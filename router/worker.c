#include "worker.h"

#include "base/log.h"
#include "inbound/inbound.h"
#include "inbound/key_sweep.h"
#include "net/http_pools.h"
#include "net/mailbox.h"
#include "proto/check.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    GAUGES_MS = 500,            /* between two looks at what is open */
    DRAINED_MS = 20,            /* between two looks whether all is gone */
    UPSTREAM_CONNECTIONS = 256, /* of one worker to one upstream */
    FLOOD = 16 << 20, /* bytes of requests at once, after which free memory is given back */
};

struct worker {
    struct worker_options options;
    struct settings *settings; /* of the hosted servers in force */
    struct loop *loop;
    struct mailbox *box;
    struct http_pools *pools;
    struct lists *lists;
    struct list_reader *reader;
    struct second_looks *second_looks;
    struct judged *judged;
    struct gates *gates;
    struct keyring *keyring;
    struct key_sweep *key_sweep; /* of the first worker alone */
    struct inbound *inbound;
    struct http_listener *listener;
    struct timer gauges, drained;
    pthread_t thread;
    char *ca_file, *dns_servers; /* of the first configuration: borrowed for good; NULL: none */
    bool is_closing;
    bool was_flooded; /* and its memory was not given back yet */
};

struct order {
    struct mail mail;
    enum { ORDER_RELOAD, ORDER_DRAIN, ORDER_STOP } what;
    struct settings *settings; /* ORDER_RELOAD: a reference */
};

/* What a set of hosted servers is made of. */
struct hosted_memory {
    struct settings *settings; /* a reference */
    struct hosted_server *servers;
    struct hosted_upstream *upstreams; /* of all */
};

static void release_hosted(void *arg)
{
    struct hosted_memory *memory = arg;

    settings_unref(memory->settings);
    free(memory->servers);
    free(memory->upstreams);
    free(memory);
}

static struct http_pool *pool_for(struct worker *worker, const struct config *config,
                                  const struct config_address *address)
{
    struct http_pool_limits limits = http_pool_limits_default;

    limits.head_ms = limits.body_ms = config->upstream.idle_s * 1000;
    const struct http_pool_options options = {.host = address->host,
                                              .port = address->port,
                                              .max_connections = UPSTREAM_CONNECTIONS,
                                              .limits = &limits};
    return http_pools_get(worker->pools, &options);
}

/* False if a pool cannot be made. */
static bool fill_upstreams(struct worker *worker, const struct config *config,
                           const struct config_server *from, struct hosted_upstream *to)
{
    for (size_t i = 0; i < from->n_upstreams; i++) {
        to[i] = (struct hosted_upstream){.host = from->upstreams[i].host,
                                         .port = from->upstreams[i].port,
                                         .pool = pool_for(worker, config, &from->upstreams[i])};
        if (to[i].pool == NULL) {
            return false;
        }
    }
    return true;
}

static bool fill_servers(struct worker *worker, struct hosted_memory *memory)
{
    const struct config *config = memory->settings->config;
    struct hosted_upstream *upstreams = memory->upstreams;

    for (size_t i = 0; i < config->n_servers; i++) {
        const struct config_server *from = &config->servers[i];
        const struct signing_key *key = &memory->settings->keys[i];
        memory->servers[i] = (struct hosted_server){
            .name = span_str(from->name),
            .hosts = from->hosts,
            .n_hosts = from->n_hosts,
            .upstreams = upstreams,
            .n_upstreams = from->n_upstreams,
            .authenticates_upstream = from->authenticate == AUTHENTICATE_UPSTREAM,
            .refuses_spoofed_sender = from->spoofed_sender == SPOOFED_SENDER_REFUSE,
            .key = key->key_id.size > 0 ? key : NULL,
        };
        if (!fill_upstreams(worker, config, from, upstreams)) {
            return false;
        }
        upstreams += from->n_upstreams;
    }
    return true;
}

/* NULL if a pool cannot be made. */
static struct hosted *hosted_from(struct worker *worker, struct settings *settings)
{
    const struct config *config = settings->config;
    struct hosted_memory *memory = calloc(1, sizeof *memory);
    size_t n_upstreams = 0;

    for (size_t i = 0; i < config->n_servers; i++) {
        n_upstreams += config->servers[i].n_upstreams;
    }
    CHECK(memory != NULL && config->n_servers > 0 && n_upstreams > 0); /* config_load's promise */
    memory->settings = settings_ref(settings);
    memory->servers = calloc(config->n_servers, sizeof *memory->servers);
    memory->upstreams = calloc(n_upstreams, sizeof *memory->upstreams);
    CHECK(memory->servers != NULL && memory->upstreams != NULL);
    if (!fill_servers(worker, memory)) {
        release_hosted(memory);
        return NULL;
    }
    return hosted_new(memory->servers, config->n_servers, release_hosted, memory);
}

static bool is_trusted_proxy(void *arg, const struct in6_addr *address)
{
    const struct settings *settings = arg;

    return config_networks_contain(&settings->config->trusted_proxies, address);
}

/* False if a pool cannot be made. */
static bool settings_for_inbound(struct worker *worker, struct settings *settings,
                                 struct inbound_settings *out)
{
    const struct config *config = settings->config;

    *out = (struct inbound_settings){
        .hosted = hosted_from(worker, settings),
        .is_trusted_proxy = is_trusted_proxy,
        .arg = settings,
        .max_age_s = config->lists.max_age_s,
        .wait_ms = config->lists.wait_ms,
        .settle_ms = config->lists.settle_ms,
        .patience_s = config->upstream.patience_s,
        .budgets = budget_limits_for(config->in_flight.request_bytes, worker->options.n_workers,
                                     config->n_servers),
    };
    return out->hosted != NULL;
}

/* This worker's share of what the operator allows in all. */
static uint32_t fetches_per_s(const struct worker *worker, const struct settings *settings)
{
    uint32_t n = (uint32_t)worker->options.n_workers;

    return (settings->config->keys.fetches_per_s + n - 1) / n;
}

static bool allow_address(void *arg, const struct in6_addr *address)
{
    const struct worker *worker = arg;
    const struct config *config = worker->settings->config;

    return config_networks_contain(&config->federation_client.allow_addresses, address);
}

static bool upstream_of(void *arg, struct span server, const char **host, uint16_t *port)
{
    const struct worker *worker = arg;
    const struct hosted_server *hosted = hosted_by_name(inbound_hosted(worker->inbound), server);

    if (hosted == NULL) {
        return false;
    }
    *host = hosted->upstreams[0].host;
    *port = hosted->upstreams[0].port;
    return true;
}

static bool source_of(void *arg, struct span server, struct read_source *out)
{
    const struct worker *worker = arg;
    const struct hosted_server *hosted = hosted_by_name(inbound_hosted(worker->inbound), server);

    if (hosted == NULL) {
        return false;
    }
    *out = (struct read_source){.pool = hosted->upstreams[0].pool,
                                .key = hosted->key,
                                .reads_per_s = worker->settings->config->lists.reads_per_s};
    return true;
}

static void reload(struct worker *worker, struct settings *settings)
{
    struct inbound_settings next;

    if (!settings_for_inbound(worker, settings, &next)) {
        log_event(LOG_ERROR, "reload_failed", F_U64("worker", worker->options.index),
                  F_STR("why", "no pool for an upstream"));
        settings_unref(settings);
        return;
    }
    inbound_set(worker->inbound, &next);
    http_listener_set_tls(worker->listener, settings->tls);
    settings_unref(worker->settings);
    worker->settings = settings;
    keyring_set_budget(worker->keyring, fetches_per_s(worker, settings));
}

static void on_order(void *arg, struct mail *mail)
{
    struct worker *worker = arg;
    struct order *order = LIST_ENTRY(mail, struct order, mail);

    if (worker->is_closing) {
        settings_unref(order->settings);
    } else if (order->what == ORDER_RELOAD) {
        reload(worker, order->settings);
    } else if (order->what == ORDER_DRAIN) {
        http_listener_drain(worker->listener);
        timer_start(&worker->drained, 0);
    } else {
        loop_stop(worker->loop);
    }
    free(order);
}

/* After a flood the C library keeps what it took, for the next one. Everybody else on the machine
 * would rather have it. */
static void give_memory_back(struct worker *worker)
{
    uint64_t peak = inbound_take_peak(worker->inbound);

    if (peak >= FLOOD) {
        worker->was_flooded = true;
    } else if (worker->was_flooded && peak < FLOOD / 4) {
        worker->was_flooded = false;
        malloc_trim(0);
    }
}

static void on_gauges(void *arg)
{
    struct worker *worker = arg;
    struct metrics *metrics = worker->options.metrics;

    metrics_gauge_set(metrics, GAUGE_connections,
                      (int64_t)http_listener_n_connections(worker->listener));
    metrics_gauge_set(metrics, GAUGE_upstream_connections,
                      (int64_t)http_pools_n_connections(worker->pools));
    give_memory_back(worker);
    timer_start(&worker->gauges, GAUGES_MS);
}

static void on_drained_tick(void *arg)
{
    struct worker *worker = arg;

    if (http_listener_n_connections(worker->listener) > 0) {
        timer_start(&worker->drained, DRAINED_MS);
    } else {
        worker->options.on_drained(worker->options.arg);
    }
}

static bool may_say_who_connects(void *trust, const struct in6_addr *address)
{
    const struct worker *worker = trust;

    return is_trusted_proxy(worker->settings, address);
}

static enum err open_listener(struct worker *worker)
{
    const struct worker_options *options = &worker->options;
    const struct http_listener_options listener = {
        .address = worker->settings->config->listen.federation.address.host,
        .port = options->port,
        .reuseport = true,
        .tls = worker->settings->tls,
        .is_trusted_proxy = may_say_who_connects,
        .trust = worker,
    };

    return http_listener_open(&worker->listener, worker->loop, &listener, &inbound_ops,
                              worker->inbound);
}

static enum err make_lists(struct worker *worker)
{
    const struct worker_options *options = &worker->options;
    enum err err = lists_new(&worker->lists, options->store, options->journal, options->list_marks,
                             options->metrics);

    if (err != ERR_OK) {
        return err;
    }
    const struct list_reader_options reader = {
        .loop = worker->loop,
        .lists = worker->lists,
        .metrics = options->metrics,
        .ring = options->read_ring,
        .index = options->index,
        .source_of = source_of,
        .arg = worker,
    };
    err = list_reader_new(&worker->reader, &reader);
    if (err != ERR_OK) {
        return err;
    }
    worker->second_looks = second_looks_new(worker->loop, worker->reader, options->metrics);
    return ERR_OK;
}

static enum err make_keyring(struct worker *worker)
{
    const struct worker_options *options = &worker->options;
    const struct keyring_options keyring = {
        .loop = worker->loop,
        .store = options->store,
        .journal = options->journal,
        .metrics = options->metrics,
        .ring = options->key_ring,
        .index = options->index,
        .ca_file = worker->ca_file,
        .dns_servers = worker->dns_servers,
        .fetches_per_s = fetches_per_s(worker, worker->settings),
        .allow_address = allow_address,
        .upstream_of = upstream_of,
        .arg = worker,
    };

    if (options->index == 0) {
        worker->key_sweep =
            key_sweep_new(worker->loop, options->journal, KEY_SWEEP_MS, KEY_SWEEP_NEXT_MS);
    }
    return keyring_new(&worker->keyring, &keyring);
}

static enum err make_inbound(struct worker *worker)
{
    const struct inbound_parts parts = {
        .loop = worker->loop,
        .metrics = worker->options.metrics,
        .keyring = worker->keyring,
        .lists = worker->lists,
        .reader = worker->reader,
        .second_looks = worker->second_looks,
        .gates = worker->gates,
        .judged = worker->judged,
    };
    struct inbound_settings settings;

    if (!settings_for_inbound(worker, worker->settings, &settings)) {
        return ERR_CONFIG;
    }
    worker->inbound = inbound_new(&parts, &settings);
    return open_listener(worker);
}

static enum err make_parts(struct worker *worker)
{
    enum err err = loop_new(&worker->loop);

    if (err != ERR_OK) {
        return err;
    }
    timer_init(&worker->gauges, worker->loop, on_gauges, worker);
    timer_init(&worker->drained, worker->loop, on_drained_tick, worker);
    worker->pools = http_pools_new(worker->loop);
    worker->judged = judged_new();
    worker->gates = gates_new(worker->loop);
    err = mailbox_new(&worker->box, worker->loop, on_order, worker);
    if (err == ERR_OK) {
        err = make_lists(worker);
    }
    if (err == ERR_OK) {
        err = make_keyring(worker);
    }
    return err == ERR_OK ? make_inbound(worker) : err;
}

static char *copy_of(const char *text)
{
    char *copy = text == NULL ? NULL : strdup(text);

    CHECK(text == NULL || copy != NULL);
    return copy;
}

enum err worker_new(struct worker **out, const struct worker_options *options)
{
    struct worker *worker = calloc(1, sizeof *worker);

    CHECK(worker != NULL);
    worker->options = *options;
    worker->options.settings = NULL; /* may be gone after a reload */
    worker->settings = settings_ref(options->settings);
    worker->ca_file = copy_of(options->settings->config->federation_client.ca_file);
    worker->dns_servers = copy_of(options->settings->config->federation_client.dns_servers);
    enum err err = make_parts(worker);
    if (err != ERR_OK) {
        worker_free(worker);
        return err;
    }
    *out = worker;
    return ERR_OK;
}

uint16_t worker_port(const struct worker *worker)
{
    return http_listener_port(worker->listener);
}

static void *run(void *arg)
{
    struct worker *worker = arg;

    on_gauges(worker);
    loop_run(worker->loop);
    return NULL;
}

enum err worker_start(struct worker *worker)
{
    int failed = pthread_create(&worker->thread, NULL, run, worker);

    return failed == 0 ? ERR_OK : err_raise(ERR_IO, "pthread_create: %s", strerrordesc_np(failed));
}

static void post(struct worker *worker, struct order order)
{
    struct order *copy = malloc(sizeof *copy);

    CHECK(copy != NULL);
    *copy = order;
    mailbox_post(worker->box, &copy->mail);
}

void worker_reload(struct worker *worker, struct settings *settings)
{
    post(worker, (struct order){.what = ORDER_RELOAD, .settings = settings_ref(settings)});
}

void worker_drain(struct worker *worker)
{
    post(worker, (struct order){.what = ORDER_DRAIN});
}

void worker_stop(struct worker *worker)
{
    post(worker, (struct order){.what = ORDER_STOP});
}

void worker_join(struct worker *worker)
{
    CHECK(pthread_join(worker->thread, NULL) == 0);
}

void worker_free(struct worker *worker)
{
    if (worker == NULL) {
        return;
    }
    worker->is_closing = true;
    if (worker->listener != NULL) {
        http_listener_free(worker->listener);
    }
    if (worker->second_looks != NULL) {
        second_looks_free(worker->second_looks);
    }
    list_reader_free(worker->reader);
    keyring_free(worker->keyring);
    key_sweep_free(worker->key_sweep);
    inbound_free(worker->inbound);
    judged_free(worker->judged);
    gates_free(worker->gates);
    lists_free(worker->lists);
    mailbox_free(worker->box);
    http_pools_free(worker->pools);
    timer_fini(&worker->gauges);
    timer_fini(&worker->drained);
    if (worker->loop != NULL) {
        loop_free(worker->loop);
    }
    settings_unref(worker->settings);
    free(worker->ca_file);
    free(worker->dns_servers);
    free(worker);
}
