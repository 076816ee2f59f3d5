#include "serve.h"

#include "admin/admin_server.h"
#include "base/clock.h"
#include "base/log.h"
#include "certificates.h"
#include "net/mailbox.h"
#include "net/signals.h"
#include "proto/check.h"
#include "worker.h"

#include <malloc.h>
#include <signal.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    STORE_MAP_BYTES_LOG2 = 34,    /* 16 GiB of address space; the file grows as it is used */
    JOURNAL_BYTES_MAX = 64 << 20, /* of changes that wait for the next commit */
    PROBLEMS_MAX = 64 << 10,      /* bytes of what is wrong with a configuration */
    MAPPED_FROM = 300 << 10,      /* bytes; such a piece of memory is mapped for itself */
    TRIMMED_FROM = 4 << 20,       /* bytes; what a worker keeps free is given back in worker.c */
    SWEEP_MS = 500,               /* between two looks at what was replaced */
};

/* Settings that are not in force any more, but may be in use. */
struct replaced {
    struct replaced *next;
    struct settings *settings; /* a reference */
};

/* What main and its workers are made of. */
struct daemon {
    const char *config_path;
    struct settings *settings; /* in force */
    struct replaced *replaced; /* the last first */
    struct timer sweep;        /* runs while there are any */
    struct loop *loop;
    struct mailbox *box;
    struct signals *signals;
    struct store *store;
    struct journal *journal;
    struct list_marks *list_marks;
    struct lists *lists;
    struct ask_ring *key_ring, *read_ring;
    struct admin_server *admin;
    struct timer deadline;
    atomic_bool is_draining;
    size_t n_workers, n_started, n_drained;
    struct worker **workers;
    size_t n_metrics;
    struct metrics **metrics; /* of the workers, of main, of the journal */
};

static struct metrics *main_metrics(const struct daemon *d)
{
    return d->metrics[d->n_workers];
}

static struct metrics *journal_metrics(const struct daemon *d)
{
    return d->metrics[d->n_workers + 1];
}

/* A worker's word that nothing of it is left. */
static void on_mail(void *arg, struct mail *mail)
{
    struct daemon *d = arg;

    free(mail);
    if (++d->n_drained == d->n_workers) {
        loop_stop(d->loop);
    }
}

static void on_drained(void *arg)
{
    struct daemon *d = arg;
    struct mail *mail = calloc(1, sizeof *mail);

    CHECK(mail != NULL);
    mailbox_post(d->box, mail);
}

static void on_deadline(void *arg)
{
    struct daemon *d = arg;

    log_event(LOG_WARN, "drain_timeout", F_U64("workers_left", d->n_workers - d->n_drained));
    loop_stop(d->loop);
}

/* A second one does not wait any more. */
static void drain(struct daemon *d, int number)
{
    if (atomic_exchange(&d->is_draining, true)) {
        loop_stop(d->loop);
        return;
    }
    log_event(LOG_INFO, "draining", F_STR("signal", sigabbrev_np(number)));
    for (size_t i = 0; i < d->n_workers; i++) {
        worker_drain(d->workers[i]);
    }
    timer_start(&d->deadline, SERVE_DRAIN_MS);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_address(const struct config_address *a, const struct config_address *b)
{
    return same_text(a->host, b->host) && a->port == b->port;
}

/* What is only read at the start. */
static bool needs_restart(const struct config *a, const struct config *b)
{
    return !same_text(a->data_dir, b->data_dir) || a->workers != b->workers ||
           !same_address(&a->listen.federation.address, &b->listen.federation.address) ||
           !same_address(&a->listen.operations, &b->listen.operations) ||
           !same_text(a->listen.admin_socket, b->listen.admin_socket) ||
           !same_text(a->federation_client.ca_file, b->federation_client.ca_file) ||
           !same_text(a->federation_client.dns_servers, b->federation_client.dns_servers);
}

/* A line of the log for each line of the text. */
static void log_problems(const char *event, struct span text)
{
    while (text.size > 0) {
        const char *end = memchr(text.data, '\n', text.size);
        size_t n = end == NULL ? text.size : (size_t)(end - text.data);
        log_event(LOG_ERROR, event, F_SPAN("problem", span_of(text.data, n)));
        text = span_skip(text, n + 1);
    }
}

static void count_configurations(const struct daemon *d)
{
    int64_t n = 1;

    for (const struct replaced *at = d->replaced; at != NULL; at = at->next) {
        n++;
    }
    metrics_gauge_set(main_metrics(d), GAUGE_configurations, n);
}

static void free_replaced(struct replaced **at)
{
    struct replaced *replaced = *at;

    *at = replaced->next;
    settings_unref(replaced->settings);
    free(replaced);
}

/* Main frees what was replaced, for the last worker that used it would be busy with that for 30 ms
 * (2,000 certificates) while its requests wait. And main gives back what is free: glibc keeps it
 * where something above it is in use. */
static void on_sweep(void *arg)
{
    struct daemon *d = arg;
    struct replaced **at = &d->replaced;
    bool is_any_freed = false;

    while (*at != NULL) {
        if (settings_are_unused((*at)->settings)) {
            free_replaced(at);
            is_any_freed = true;
        } else {
            at = &(*at)->next;
        }
    }
    if (is_any_freed) {
        (void)malloc_trim(0);
        count_configurations(d);
    }
    if (d->replaced != NULL) {
        timer_start(&d->sweep, SWEEP_MS);
    }
}

static void replace(struct daemon *d, struct settings *next)
{
    struct replaced *replaced = calloc(1, sizeof *replaced);

    CHECK(replaced != NULL);
    replaced->settings = d->settings;
    replaced->next = d->replaced;
    d->replaced = replaced;
    d->settings = next;
    count_configurations(d);
    timer_start(&d->sweep, SWEEP_MS);
}

static void reload(struct daemon *d)
{
    AUTO(writer_fini) struct writer problems;
    struct settings *next = NULL;

    on_sweep(d); /* with one reload after another there may be no time between them */
    writer_init(&problems, PROBLEMS_MAX);
    if (settings_load(&next, d->config_path, &problems) != ERR_OK) {
        log_problems("reload_problem", writer_span(&problems));
        log_event(LOG_ERROR, "reload_failed", F_STR("config", d->config_path),
                  F_STR("in_force", "the configuration before"));
        return;
    }
    if (needs_restart(d->settings->config, next->config)) {
        log_event(LOG_WARN, "reload_incomplete",
                  F_STR("why", "data_dir, workers, the addresses under listen, and "
                               "federation_client's ca_file and dns_servers are only read at the "
                               "start: restart for those"));
    }
    for (size_t i = 0; i < d->n_workers; i++) {
        worker_reload(d->workers[i], next);
    }
    replace(d, next);
    certificates_announce(next->tls, main_metrics(d));
    log_event(LOG_INFO, "reloaded", F_U64("servers", next->config->n_servers));
}

static void on_signal(void *arg, int number)
{
    struct daemon *d = arg;

    if (number == SIGHUP) {
        reload(d);
    } else {
        drain(d, number);
    }
}

static bool is_hosted(void *arg, struct span server)
{
    const struct daemon *d = arg;
    const struct config *config = d->settings->config;

    for (size_t i = 0; i < config->n_servers; i++) {
        if (span_equal(span_str(config->servers[i].name), server)) {
            return true;
        }
    }
    return false;
}

static void make_metrics(struct daemon *d)
{
    long n_cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t wanted = d->settings->config->workers;

    d->n_workers = wanted > 0 ? wanted : n_cores > 0 ? (size_t)n_cores : 1;
    d->n_metrics = d->n_workers + 2;
    d->metrics = calloc(d->n_metrics, sizeof(void *));
    d->workers = calloc(d->n_workers, sizeof(void *));
    CHECK(d->metrics != NULL && d->workers != NULL);
    for (size_t i = 0; i < d->n_metrics; i++) {
        d->metrics[i] = calloc(1, sizeof *d->metrics[i]);
        CHECK(d->metrics[i] != NULL);
        metrics_init(d->metrics[i]);
        if (i < d->n_workers) {
            metrics_set_worker(d->metrics[i], (int)i);
        }
    }
}

static enum err open_store(struct daemon *d)
{
    d->list_marks = list_marks_new();
    enum err err =
        store_open(&d->store, d->settings->config->data_dir, (size_t)1 << STORE_MAP_BYTES_LOG2);

    if (err == ERR_OK) {
        err = journal_start(&d->journal, d->store, journal_metrics(d), JOURNAL_BYTES_MAX);
    }
    return err != ERR_OK
               ? err
               : lists_new(&d->lists, d->store, d->journal, d->list_marks, main_metrics(d));
}

static enum err make_workers(struct daemon *d)
{
    const struct config *config = d->settings->config;
    struct worker_options options = {
        .n_workers = d->n_workers,
        .settings = d->settings,
        .store = d->store,
        .journal = d->journal,
        .list_marks = d->list_marks,
        .key_ring = d->key_ring,
        .read_ring = d->read_ring,
        .port = config->listen.federation.address.port,
        .on_drained = on_drained,
        .arg = d,
    };

    for (size_t i = 0; i < d->n_workers; i++) {
        options.index = i;
        options.metrics = d->metrics[i];
        enum err err = worker_new(&d->workers[i], &options);
        if (err != ERR_OK) {
            return err;
        }
        options.port = worker_port(d->workers[i]);
    }
    log_event(LOG_INFO, "listening", F_STR("listener", "federation"),
              F_STR("address", config->listen.federation.address.host), F_U64("port", options.port),
              F_BOOL("tls", d->settings->tls != NULL), F_U64("workers", d->n_workers));
    return ERR_OK;
}

static enum err make_admin(struct daemon *d)
{
    const struct config *config = d->settings->config;
    const struct admin_server_options options = {
        .loop = d->loop,
        .operations_host = config->listen.operations.host,
        .operations_port = config->listen.operations.port,
        .admin_socket = config->listen.admin_socket,
    };
    const struct admin_context context = {
        .store = d->store,
        .lists = d->lists,
        .metrics = main_metrics(d),
        .all_metrics = d->metrics,
        .n_metrics = d->n_metrics,
        .is_draining = &d->is_draining,
        .is_hosted = is_hosted,
        .arg = d,
    };

    return admin_server_new(&d->admin, &options, &context);
}

static enum err make_parts(struct daemon *d)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    enum err err = loop_new(&d->loop);

    if (err == ERR_OK) {
        timer_init(&d->deadline, d->loop, on_deadline, d);
        timer_init(&d->sweep, d->loop, on_sweep, d);
        err = mailbox_new(&d->box, d->loop, on_mail, d);
    }
    if (err == ERR_OK) {
        err = signals_new(&d->signals, d->loop, numbers, sizeof numbers / sizeof numbers[0],
                          on_signal, d);
    }
    make_metrics(d);
    count_configurations(d);
    certificates_announce(d->settings->tls, main_metrics(d));
    d->key_ring = ask_ring_new(d->n_workers);
    d->read_ring = ask_ring_new(d->n_workers);
    if (err == ERR_OK) {
        err = open_store(d);
    }
    if (err == ERR_OK) {
        err = make_workers(d);
    }
    return err == ERR_OK ? make_admin(d) : err;
}

static enum err start_workers(struct daemon *d)
{
    for (; d->n_started < d->n_workers; d->n_started++) {
        enum err err = worker_start(d->workers[d->n_started]);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* The journal ends after the last who asks it, and before what its tickets tell is gone. */
static void end(struct daemon *d)
{
    for (size_t i = 0; i < d->n_started; i++) {
        worker_stop(d->workers[i]);
    }
    for (size_t i = 0; i < d->n_started; i++) {
        worker_join(d->workers[i]);
    }
    if (d->journal != NULL) {
        journal_stop(d->journal);
    }
    admin_server_free(d->admin);
    for (size_t i = 0; d->workers != NULL && i < d->n_workers; i++) {
        worker_free(d->workers[i]);
    }
    ask_ring_free(d->key_ring);
    ask_ring_free(d->read_ring);
    lists_free(d->lists);
    list_marks_free(d->list_marks);
    store_close(d->store);
    signals_free(d->signals);
    mailbox_free(d->box);
    timer_fini(&d->deadline);
    timer_fini(&d->sweep);
    if (d->loop != NULL) {
        loop_free(d->loop);
    }
    for (size_t i = 0; d->metrics != NULL && i < d->n_metrics; i++) {
        free(d->metrics[i]);
    }
    free(d->metrics);
    free(d->workers);
    while (d->replaced != NULL) {
        free_replaced(&d->replaced);
    }
    settings_unref(d->settings);
}

/* Left to itself glibc gives up its largest free pieces as soon as they are free, to map and clear
 * them again for the next request, and at other times grows the size from which it does so. */
static void set_up_malloc(void)
{
    /* Of no effect on a sanitizer's malloc. There is no other thread yet. */
    (void)mallopt(M_MMAP_THRESHOLD, MAPPED_FROM);  /* NOLINT(concurrency-mt-unsafe) */
    (void)mallopt(M_TRIM_THRESHOLD, TRIMMED_FROM); /* NOLINT(concurrency-mt-unsafe) */
}

int serve(const char *config_path)
{
    AUTO(writer_fini) struct writer problems;
    struct daemon d = {.config_path = config_path};

    writer_init(&problems, PROBLEMS_MAX);
    set_up_malloc();
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is a failed write, which the store handles */
    if (sodium_init() < 0) {
        fputs("freshet: libsodium cannot be initialised\n", stderr);
        return 1;
    }
    if (settings_load(&d.settings, config_path, &problems) != ERR_OK) {
        fwrite(problems.data, 1, problems.size, stderr);
        return 1;
    }
    enum err err = make_parts(&d);
    if (err == ERR_OK) {
        err = start_workers(&d);
    }
    if (err == ERR_OK) {
        log_event(LOG_INFO, "started", F_STR("version", FRESHET_VERSION),
                  F_U64("servers", d.settings->config->n_servers));
        loop_run(d.loop);
    }
    end(&d);
    log_event(LOG_INFO, "stopped", F_BOOL("well", err == ERR_OK));
    return err == ERR_OK ? 0 : 1;
}
