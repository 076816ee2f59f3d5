#include "bench/report.h"

#include "proto/writer.h"

#include <inttypes.h>
#include <stdio.h>

struct quantile {
    const char *name;
    uint32_t millionths;
};

static const struct quantile quantiles[] = {
    {"p50", 500000},
    {"p90", 900000},
    {"p99", 990000},
    {"p99.9", 999000},
};

enum { N_QUANTILES = sizeof quantiles / sizeof quantiles[0], LINE_MAX_SIZE = 64 * 1024 };

static const double ns_per_s = 1e9;
static const double ns_per_us = 1e3;
static const double bytes_per_mb = 1e6;

static double per_s(uint64_t n, uint64_t elapsed_ns)
{
    return elapsed_ns == 0 ? 0 : (double)n * ns_per_s / (double)elapsed_ns;
}

static double share(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0 : (double)part / (double)whole;
}

/* ---- for people */

static void print_latency(const char *name, const struct histogram *h)
{
    printf("  %-9s", name);
    for (size_t i = 0; i < N_QUANTILES; i++) {
        printf("  %s %.1f", quantiles[i].name,
               (double)histogram_quantile(h, quantiles[i].millionths) / ns_per_us);
    }
    printf("  max %.1f us\n", (double)h->max / ns_per_us);
}

static void print_setting(const struct report *p)
{
    printf("%s, %s%s to %s: %" PRIu32 " connections", p->shape, p->is_http2 ? "h2" : "http/1.1",
           p->is_tls ? " with TLS" : "", p->target, p->n_connections);
    if (p->is_http2) {
        printf(" of %" PRIu32 " streams", p->n_streams);
    }
    if (p->n_calls_max != 0) {
        printf(", a new one after %" PRIu32 " requests", p->n_calls_max);
    }
    if (p->rate != 0) {
        printf(", %" PRIu64 " requests/s", p->rate);
    }
    printf("\n  %" PRIu32 " origins, %" PRIu32 " signed transactions of %.0f bytes, claims %" PRIu32
           " %% fresh %" PRIu32 " %% stale\n",
           p->n_origins, p->traffic->n, share(p->traffic->body_bytes, p->traffic->n),
           p->fresh_percent, p->stale_percent);
    printf("  primed with %" PRIu64 " transactions, %" PRIu64 " keys served, %" PRIu64
           " lists pushed\n",
           p->n_primed, p->n_keys_served, p->n_lists_pushed);
}

static void print_troubles(const struct run_result *r)
{
    if (run_is_flawless(r)) {
        return;
    }
    printf("  NOT FLAWLESS: %" PRIu64 " of %" PRIu64 " answered, %" PRIu64 " lost, %" PRIu64
           " never begun, %" PRIu64 " with wrong verdicts; statuses",
           r->n_answered, r->n_sent, r->n_lost, r->n_unsent, r->n_wrong);
    for (size_t i = 1; i < sizeof r->statuses / sizeof r->statuses[0]; i++) {
        printf(" %zuxx %" PRIu64, i, r->statuses[i]);
    }
    printf("\n");
}

void report_table(const struct report *p)
{
    const struct run_result *r = p->result;

    print_setting(p);
    printf("  %.0f requests/s, %.1f MB/s out, %.1f MB/s in, %" PRIu64 " in %.2f s\n",
           per_s(r->n_measured, r->elapsed_ns),
           per_s(r->request_body_bytes, r->elapsed_ns) / bytes_per_mb,
           per_s(r->answer_body_bytes, r->elapsed_ns) / bytes_per_mb, r->n_measured,
           (double)r->elapsed_ns / ns_per_s);
    print_latency("latency", &r->latency);
    print_latency("service", &r->service);
    printf("  verdicts: fresh %" PRIu64 " of %" PRIu64 ", stale %" PRIu64 " of %" PRIu64
           ", unknown %" PRIu64 "\n",
           r->n_fresh, r->n_fresh_owed, r->n_stale, r->n_stale_owed, r->n_unknown);
    printf("  this program used %.0f %% of a core", 100 * share(r->own.cpu_ns, r->elapsed_ns));
    if (r->watched.rss_bytes != 0) {
        printf("; the watched one %.0f %%, %.1f us per request, %.1f MB resident",
               100 * share(r->watched.cpu_ns, r->elapsed_ns),
               share(r->watched.cpu_ns, r->n_measured) / ns_per_us,
               (double)r->watched.rss_bytes / bytes_per_mb);
    }
    printf("\n");
    print_troubles(r);
}

/* ---- for machines */

static void name_member(struct writer *out, const char *name)
{
    if (out->size > 0 && out->data[out->size - 1] != '{') {
        writer_char(out, ',');
    }
    writer_json_string(out, span_str(name));
    writer_char(out, ':');
}

static void write_number(struct writer *out, const char *name, uint64_t value)
{
    name_member(out, name);
    writer_u64(out, value);
}

static void write_text(struct writer *out, const char *name, const char *value)
{
    name_member(out, name);
    writer_json_string(out, span_str(value));
}

static void write_bool(struct writer *out, const char *name, bool value)
{
    name_member(out, name);
    writer_bytes(out, value ? SPAN_LIT("true") : SPAN_LIT("false"));
}

static void write_latency(struct writer *out, const char *name, const struct histogram *h)
{
    name_member(out, name);
    writer_char(out, '{');
    for (size_t i = 0; i < N_QUANTILES; i++) {
        write_number(out, quantiles[i].name, histogram_quantile(h, quantiles[i].millionths));
    }
    write_number(out, "max", h->max);
    writer_char(out, '}');
}

static void write_setting(struct writer *out, const struct report *p)
{
    name_member(out, "setting");
    writer_char(out, '{');
    write_text(out, "shape", p->shape);
    write_text(out, "target", p->target);
    write_bool(out, "h2", p->is_http2);
    write_bool(out, "tls", p->is_tls);
    write_number(out, "connections", p->n_connections);
    write_number(out, "streams", p->n_streams);
    write_number(out, "requests_per_connection", p->n_calls_max);
    write_number(out, "rate", p->rate);
    write_number(out, "origins", p->n_origins);
    write_number(out, "users", p->n_users);
    write_number(out, "devices", p->n_devices);
    write_number(out, "fresh_percent", p->fresh_percent);
    write_number(out, "stale_percent", p->stale_percent);
    write_number(out, "signed_transactions", p->traffic->n);
    write_number(out, "body_bytes_mean", p->traffic->body_bytes / p->traffic->n);
    writer_char(out, '}');
}

static void write_measured(struct writer *out, const struct run_result *r)
{
    name_member(out, "measured");
    writer_char(out, '{');
    write_number(out, "elapsed_ns", r->elapsed_ns);
    write_number(out, "requests", r->n_measured);
    write_number(out, "requests_per_s", (uint64_t)per_s(r->n_measured, r->elapsed_ns));
    write_number(out, "non_2xx", r->n_refused);
    write_number(out, "request_body_bytes", r->request_body_bytes);
    write_number(out, "answer_body_bytes", r->answer_body_bytes);
    write_latency(out, "latency_ns", &r->latency);
    write_latency(out, "service_ns", &r->service);
    write_number(out, "own_cpu_ns", r->own.cpu_ns);
    write_number(out, "watched_cpu_ns", r->watched.cpu_ns);
    write_number(out, "watched_rss_bytes", r->watched.rss_bytes);
    writer_char(out, '}');
}

static void write_totals(struct writer *out, const struct report *p)
{
    const struct run_result *r = p->result;

    name_member(out, "total");
    writer_char(out, '{');
    write_number(out, "primed", p->n_primed);
    write_number(out, "keys_served", p->n_keys_served);
    write_number(out, "lists_pushed", p->n_lists_pushed);
    write_number(out, "sent", r->n_sent);
    write_number(out, "answered", r->n_answered);
    write_number(out, "answered_2xx", r->statuses[2]);
    write_number(out, "answered_4xx", r->statuses[4]);
    write_number(out, "answered_5xx", r->statuses[5]);
    write_number(out, "lost", r->n_lost);
    write_number(out, "never_begun", r->n_unsent);
    write_number(out, "connects", r->n_connects);
    writer_char(out, '}');
}

static void write_verdicts(struct writer *out, const struct run_result *r)
{
    name_member(out, "verdicts");
    writer_char(out, '{');
    write_number(out, "fresh_owed", r->n_fresh_owed);
    write_number(out, "fresh", r->n_fresh);
    write_number(out, "stale_owed", r->n_stale_owed);
    write_number(out, "stale", r->n_stale);
    write_number(out, "unknown", r->n_unknown);
    write_number(out, "wrong_answers", r->n_wrong);
    writer_char(out, '}');
}

void report_json(const struct report *p)
{
    struct writer out;

    writer_init(&out, LINE_MAX_SIZE);
    writer_char(&out, '{');
    write_setting(&out, p);
    write_measured(&out, p->result);
    write_totals(&out, p);
    write_verdicts(&out, p->result);
    write_bool(&out, "flawless", run_is_flawless(p->result));
    writer_char(&out, '}');
    printf("%.*s\n", (int)out.size, out.data);
    writer_fini(&out);
}
