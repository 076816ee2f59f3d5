#include "certificates.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/check.h"

#include <stdlib.h>
#include <time.h>

enum { DATE_SIZE = 16 /* bytes: "2026-12-31" */ };

static bool are_wanted(const struct config *config)
{
    return config->listen.federation.n_certificates > 0 ||
           config->listen.federation.certificate_folder != NULL;
}

static struct tls_identities *load(const struct config *config, struct writer *problems)
{
    size_t n = config->listen.federation.n_certificates;
    struct tls_certificate *list = calloc(n + 1, sizeof *list);

    CHECK(list != NULL);
    for (size_t i = 0; i < n; i++) {
        const struct config_certificate *from = &config->listen.federation.certificates[i];
        list[i] = (struct tls_certificate){from->chain, from->key};
    }
    const struct tls_sources sources = {
        .list = list, .n = n, .folder = config->listen.federation.certificate_folder};
    struct tls_identities *identities = tls_identities_load(&sources, problems);
    free(list);
    return identities;
}

enum err certificates_load(struct tls_context **out, const struct config *config,
                           struct writer *problems)
{
    size_t before = problems->size;

    if (!are_wanted(config)) {
        *out = NULL;
        return ERR_OK;
    }
    struct tls_identities *identities = load(config, problems);
    if (problems->size > before || problems->failed) {
        tls_identities_free(identities);
        return ERR_CONFIG;
    }
    *out = tls_server_with(identities);
    return ERR_OK;
}

static void write_date(char out[DATE_SIZE], int64_t unix_s)
{
    struct tm when;
    time_t at = (time_t)unix_s;

    if (gmtime_r(&at, &when) == NULL || strftime(out, DATE_SIZE, "%Y-%m-%d", &when) == 0) {
        out[0] = '\0';
    }
}

void certificates_announce(const struct tls_context *tls, struct metrics *metrics)
{
    const struct tls_identities *all = tls == NULL ? NULL : tls_context_identities(tls);
    int64_t now_s = clock_ms() / 1000;

    metrics_gauge_set(metrics, GAUGE_certificate_expiry_seconds,
                      all == NULL ? 0 : tls_identities_expire_s(all));
    for (size_t i = 0; all != NULL && i < tls_identities_n(all); i++) {
        const struct tls_identity *identity = tls_identities_at(all, i);
        char date[DATE_SIZE];
        write_date(date, identity->expires_s);
        if (identity->expires_s <= now_s) {
            log_event(LOG_WARN, "certificate_expired", F_STR("file", identity->chain_file),
                      F_STR("on", date));
        } else if (identity->expires_s - now_s < CERTIFICATES_WARN_S) {
            log_event(LOG_WARN, "certificate_expires", F_STR("file", identity->chain_file),
                      F_STR("on", date));
        }
    }
}

static void say(struct writer *w, const char *a, const char *b, const char *c)
{
    writer_bytes(w, span_str(a));
    writer_bytes(w, span_str(b));
    writer_bytes(w, span_str(c));
}

/* Each line as a problem. */
static bool describe_problems(struct writer *w, struct span text)
{
    bool is_well = text.size == 0;

    while (text.size > 0) {
        const char *end = memchr(text.data, '\n', text.size);
        size_t n = end == NULL ? text.size : (size_t)(end - text.data);
        say(w, "  PROBLEM: ", "", "");
        writer_bytes(w, span_of(text.data, n));
        writer_char(w, '\n');
        text = span_skip(text, n + 1);
    }
    return is_well;
}

static void describe_identity(struct writer *w, const struct tls_identity *identity, int64_t now_s)
{
    char date[DATE_SIZE];

    write_date(date, identity->expires_s);
    say(w, "  ", identity->chain_file, identity->expires_s <= now_s ? ": EXPIRED " : ": until ");
    say(w, date,
        identity->expires_s > now_s && identity->expires_s - now_s < CERTIFICATES_WARN_S ? " (soon)"
                                                                                         : "",
        ":");
    for (size_t i = 0; i < identity->n_names; i++) {
        writer_char(w, ' ');
        writer_bytes(w, identity->names[i]);
    }
    writer_char(w, '\n');
}

/* False if none of the server's hosts is covered: every request for it would be refused. */
static bool describe_hosts(struct writer *w, const struct tls_identities *all,
                           const struct config_server *server)
{
    size_t n_covered = 0;

    for (size_t i = 0; i < server->n_hosts; i++) {
        if (tls_identities_find(all, tls_host_name(span_str(server->hosts[i]))) != NULL) {
            n_covered++;
        } else {
            say(w, "  no certificate covers ", server->hosts[i], "");
            say(w, ", a host of ", server->name, "\n");
        }
    }
    if (n_covered == 0) {
        say(w, "  PROBLEM: no certificate covers any host of ", server->name, "\n");
    }
    return n_covered > 0;
}

bool certificates_describe(struct writer *w, const struct config *config)
{
    AUTO(writer_fini) struct writer problems;
    int64_t now_s = clock_ms() / 1000;

    writer_init(&problems, w->max);
    if (!are_wanted(config)) {
        return true;
    }
    struct tls_identities *all = load(config, &problems);
    say(w, "certificates:\n", "", "");
    for (size_t i = 0; i < tls_identities_n(all); i++) {
        describe_identity(w, tls_identities_at(all, i), now_s);
    }
    bool is_well = describe_problems(w, writer_span(&problems));
    for (size_t i = 0; i < config->n_servers; i++) {
        is_well = describe_hosts(w, all, &config->servers[i]) && is_well;
    }
    tls_identities_free(all);
    return is_well;
}
