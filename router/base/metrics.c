#include "base/metrics.h"

#include "base/clock.h"
#include "proto/check.h"
#include "proto/claim.h"

/* Upper bounds in us, from what a verdict costs to what an upstream may take. */
static const uint64_t bounds_us[METRICS_N_BUCKETS - 1] = {
    50,    100,    250,    500,     1000,    2500,     5000,    10000,
    25000, 100000, 250000, 1000000, 2500000, 10000000, 60000000};

static const char *request_class_label(unsigned value)
{
    static const char *const labels[] = {"send", "key", "federation", "media", "health", "other"};

    return labels[value];
}

static const char *claim_kind_label(unsigned value)
{
    static const struct {
        enum claim_result result;
        struct claim claim;
    } kinds[CLAIM_KIND_COUNT] = {
        [CLAIM_KIND_NONE] = {.result = CLAIM_NONE},
        [CLAIM_KIND_HASH] = {.result = CLAIM_USABLE, .claim = {.has_hash = true}},
        [CLAIM_KIND_STREAM] = {.result = CLAIM_USABLE, .claim = {.has_stream = true}},
        [CLAIM_KIND_UNUSABLE] = {.result = CLAIM_UNUSABLE},
    };

    return claim_label(kinds[value].result, &kinds[value].claim);
}

static const char *fetch_result_label(unsigned value)
{
    static const char *const labels[] = {"ok", "failed", "budget", "changed", "network"};

    return labels[value];
}

const char *fetch_failure_label(unsigned value)
{
    static const char *const labels[FETCH_FAILURE_COUNT] = {
        [FETCH_FAILURE_NAME] = "name",
        [FETCH_FAILURE_NO_SERVICE] = "no_service",
        [FETCH_FAILURE_NO_ADDRESS] = "no_address",
        [FETCH_FAILURE_NOT_ALLOWED] = "not_allowed",
        [FETCH_FAILURE_UNREACHABLE] = "unreachable",
        [FETCH_FAILURE_TLS] = "tls",
        [FETCH_FAILURE_TIMEOUT] = "timeout",
        [FETCH_FAILURE_TOO_LARGE] = "too_large",
        [FETCH_FAILURE_CLOSED] = "closed",
        [FETCH_FAILURE_REDIRECT] = "redirect",
        [FETCH_FAILURE_STATUS] = "status",
        [FETCH_FAILURE_DOCUMENT] = "document",
        [FETCH_FAILURE_NO_VALID_KEY] = "no_valid_key",
    };

    return labels[value];
}

static const char *budget_label(unsigned value)
{
    static const char *const labels[] = {"process", "address", "server", "origin"};

    return labels[value];
}

static const char *metric_edu_label(unsigned value)
{
    return edu_type_label((enum edu_type)value);
}

static const char *metric_verdict_label(unsigned value)
{
    return verdict_label((enum verdict)value);
}

/* NULL for "no reason", which nobody counts. */
static const char *refused_label(unsigned value)
{
    return value == REJECT_NONE ? NULL : reject_row((enum reject)value)->label;
}

static const char *metric_unjudged_label(unsigned value)
{
    return value == UNJUDGED_NONE ? NULL : unjudged_label((enum unjudged)value);
}

struct family {
    struct metrics_row row;
    enum {
        FAMILY_COUNTER,
        FAMILY_COUNTER_BY,
        FAMILY_GAUGE,
        FAMILY_GAUGE_BY_WORKER,
        FAMILY_HISTOGRAM,
    } kind;
    unsigned index;    /* of its enum */
    unsigned cell;     /* FAMILY_COUNTER_BY: the first of its cells */
    unsigned n_values; /* FAMILY_COUNTER_BY */
    const char *(*label_of)(unsigned value);
};

static const struct family families[] = {
#define COUNTER(name, prose)                                                                       \
    {{#name, "counter", NULL, prose}, FAMILY_COUNTER, COUNTER_##name, 0, 0, NULL},
#define COUNTER_BY(name, label, n, label_of, prose)                                                \
    {{#name, "counter", #label, prose},                                                            \
     FAMILY_COUNTER_BY,                                                                            \
     COUNTER_BY_##name,                                                                            \
     COUNTER_CELL_##name,                                                                          \
     (unsigned)(n),                                                                                \
     label_of},
#define GAUGE(name, prose) {{#name, "gauge", NULL, prose}, FAMILY_GAUGE, GAUGE_##name, 0, 0, NULL},
#define GAUGE_BY_WORKER(name, prose)                                                               \
    {{#name, "gauge", "worker", prose}, FAMILY_GAUGE_BY_WORKER, GAUGE_##name, 0, 0, NULL},
#define HISTOGRAM(name, prose)                                                                     \
    {{#name, "histogram", NULL, prose}, FAMILY_HISTOGRAM, HISTOGRAM_##name, 0, 0, NULL},
#include "base/metrics.def"
#undef COUNTER
#undef COUNTER_BY
#undef GAUGE
#undef GAUGE_BY_WORKER
#undef HISTOGRAM
};

enum { N_FAMILIES = sizeof families / sizeof families[0] };

struct cells {
    unsigned first, n;
};

static const struct cells cells_by[COUNTER_BY_COUNT] = {
#define COUNTER(name, prose)
#define COUNTER_BY(name, label, n, label_of, prose)                                                \
    [COUNTER_BY_##name] = {COUNTER_CELL_##name, (unsigned)(n)},
#define GAUGE(name, prose)
#define GAUGE_BY_WORKER(name, prose)
#define HISTOGRAM(name, prose)
#include "base/metrics.def"
#undef COUNTER
#undef COUNTER_BY
#undef GAUGE
#undef GAUGE_BY_WORKER
#undef HISTOGRAM
};

void metrics_init(struct metrics *metrics)
{
    memset(metrics, 0, sizeof *metrics);
    metrics->worker = -1;
}

void metrics_set_worker(struct metrics *metrics, int worker)
{
    CHECK(worker >= 0);
    metrics->worker = worker;
}

/* One writer: a load and a store are enough, and need no lock prefix. */
static void add(atomic_uint_fast64_t *cell, uint64_t n)
{
    uint64_t old = atomic_load_explicit(cell, memory_order_relaxed);

    atomic_store_explicit(cell, old + n, memory_order_relaxed);
}

void metrics_add(struct metrics *metrics, enum counter counter, uint64_t n)
{
    CHECK(counter < COUNTER_COUNT);
    add(&metrics->counters[counter], n);
}

void metrics_add_by(struct metrics *metrics, enum counter_by counter, unsigned value, uint64_t n)
{
    CHECK(counter < COUNTER_BY_COUNT && value < cells_by[counter].n);
    add(&metrics->cells[cells_by[counter].first + value], n);
}

void metrics_gauge_set(struct metrics *metrics, enum gauge gauge, int64_t value)
{
    CHECK(gauge < GAUGE_COUNT);
    atomic_store_explicit(&metrics->gauges[gauge], value, memory_order_relaxed);
}

void metrics_observe(struct metrics *metrics, enum histogram histogram, double seconds)
{
    CHECK(histogram < HISTOGRAM_COUNT);
    struct metrics_histogram *h = &metrics->histograms[histogram];
    uint64_t ns = seconds > 0 ? (uint64_t)(seconds * 1e9) : 0;
    size_t bucket = 0;

    while (bucket < METRICS_N_BUCKETS - 1 && ns > bounds_us[bucket] * 1000) {
        bucket++;
    }
    add(&h->buckets[bucket], 1);
    add(&h->sum_ns, ns);
}

void metrics_observe_since(struct metrics *metrics, enum histogram histogram, uint64_t start_us)
{
    metrics_observe(metrics, histogram, (double)(clock_monotonic_us() - start_us) / 1e6);
}

static void write_str(struct writer *out, const char *text)
{
    writer_bytes(out, span_str(text));
}

/* Decimal seconds, all nine digits: Prometheus has no other unit. */
static void write_seconds(struct writer *out, uint64_t ns)
{
    char digits[9];

    writer_u64(out, ns / 1000000000);
    ns %= 1000000000;
    for (size_t i = sizeof digits; i > 0; i--) {
        digits[i - 1] = (char)('0' + ns % 10);
        ns /= 10;
    }
    writer_char(out, '.');
    writer_bytes(out, span_of(digits, sizeof digits));
}

static void write_name(struct writer *out, const struct family *family, const char *suffix)
{
    write_str(out, "freshet_");
    write_str(out, family->row.name);
    write_str(out, suffix);
}

static void write_sample(struct writer *out, const struct family *family, const char *suffix,
                         uint64_t value)
{
    write_name(out, family, suffix);
    writer_char(out, ' ');
    writer_u64(out, value);
    writer_char(out, '\n');
}

/* Labels come from enum names, which are upper case. */
static void write_lower(struct writer *out, const char *text)
{
    for (; *text != '\0'; text++) {
        writer_char(out, ascii_lower(*text));
    }
}

static void write_counter(struct writer *out, const struct family *family,
                          struct metrics *const *threads, size_t n_threads)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < n_threads; i++) {
        sum += atomic_load_explicit(&threads[i]->counters[family->index], memory_order_relaxed);
    }
    write_sample(out, family, "", sum);
}

static void write_cell(struct writer *out, const struct family *family, unsigned value,
                       uint64_t sum)
{
    const char *label = family->label_of(value);

    if (label == NULL) {
        return;
    }
    write_name(out, family, "{");
    write_str(out, family->row.label);
    write_str(out, "=\"");
    write_lower(out, label);
    write_str(out, "\"} ");
    writer_u64(out, sum);
    writer_char(out, '\n');
}

static void write_cells(struct writer *out, const struct family *family,
                        struct metrics *const *threads, size_t n_threads)
{
    for (unsigned value = 0; value < family->n_values; value++) {
        uint64_t sum = 0;
        for (size_t i = 0; i < n_threads; i++) {
            sum += atomic_load_explicit(&threads[i]->cells[family->cell + value],
                                        memory_order_relaxed);
        }
        write_cell(out, family, value, sum);
    }
}

static void write_gauge(struct writer *out, const struct family *family,
                        struct metrics *const *threads, size_t n_threads)
{
    int64_t sum = 0;

    for (size_t i = 0; i < n_threads; i++) {
        sum += atomic_load_explicit(&threads[i]->gauges[family->index], memory_order_relaxed);
    }
    write_name(out, family, " ");
    writer_i64(out, sum);
    writer_char(out, '\n');
}

static void write_gauges_by_worker(struct writer *out, const struct family *family,
                                   struct metrics *const *threads, size_t n_threads)
{
    for (size_t i = 0; i < n_threads; i++) {
        if (threads[i]->worker >= 0) {
            write_name(out, family, "{worker=\"");
            writer_i64(out, threads[i]->worker);
            write_str(out, "\"} ");
            writer_i64(out, atomic_load_explicit(&threads[i]->gauges[family->index],
                                                 memory_order_relaxed));
            writer_char(out, '\n');
        }
    }
}

static void write_bucket(struct writer *out, const struct family *family, size_t bucket,
                         uint64_t count)
{
    write_name(out, family, "_bucket{le=\"");
    if (bucket < METRICS_N_BUCKETS - 1) {
        write_seconds(out, bounds_us[bucket] * 1000);
    } else {
        write_str(out, "+Inf");
    }
    write_str(out, "\"} ");
    writer_u64(out, count);
    writer_char(out, '\n');
}

static void write_histogram(struct writer *out, const struct family *family,
                            struct metrics *const *threads, size_t n_threads)
{
    uint64_t count = 0;
    uint64_t sum_ns = 0;

    for (size_t i = 0; i < n_threads; i++) {
        sum_ns += atomic_load_explicit(&threads[i]->histograms[family->index].sum_ns,
                                       memory_order_relaxed);
    }
    for (size_t bucket = 0; bucket < METRICS_N_BUCKETS; bucket++) {
        for (size_t i = 0; i < n_threads; i++) {
            count += atomic_load_explicit(&threads[i]->histograms[family->index].buckets[bucket],
                                          memory_order_relaxed);
        }
        write_bucket(out, family, bucket, count);
    }
    write_name(out, family, "_sum ");
    write_seconds(out, sum_ns);
    writer_char(out, '\n');
    write_sample(out, family, "_count", count);
}

static void write_head(struct writer *out, const struct family *family)
{
    write_str(out, "# HELP ");
    write_name(out, family, " ");
    write_str(out, family->row.prose);
    write_str(out, "\n# TYPE ");
    write_name(out, family, " ");
    write_str(out, family->row.type);
    writer_char(out, '\n');
}

void metrics_write(struct writer *out, struct metrics *const *threads, size_t n_threads)
{
    static void (*const write_kind[])(struct writer *, const struct family *,
                                      struct metrics *const *, size_t) = {
        [FAMILY_COUNTER] = write_counter,     [FAMILY_COUNTER_BY] = write_cells,
        [FAMILY_GAUGE] = write_gauge,         [FAMILY_GAUGE_BY_WORKER] = write_gauges_by_worker,
        [FAMILY_HISTOGRAM] = write_histogram,
    };

    for (size_t i = 0; i < N_FAMILIES; i++) {
        write_head(out, &families[i]);
        write_kind[families[i].kind](out, &families[i], threads, n_threads);
    }
}

const struct metrics_row *metrics_row(size_t index)
{
    return index < N_FAMILIES ? &families[index].row : NULL;
}

static void write_doc_values(struct writer *out, const struct family *family)
{
    const char *before = "";

    write_str(out, family->row.label);
    write_str(out, ": ");
    for (unsigned value = 0; value < family->n_values; value++) {
        const char *label = family->label_of(value);
        if (label != NULL) {
            write_str(out, before);
            write_lower(out, label);
            before = ", ";
        }
    }
}

static void write_doc(struct writer *out, const struct family *family)
{
    write_str(out, "| `");
    write_name(out, family, "` | ");
    write_str(out, family->row.type);
    write_str(out, " | ");
    if (family->kind == FAMILY_COUNTER_BY) {
        write_doc_values(out, family);
    } else if (family->row.label != NULL) {
        write_str(out, family->row.label);
    }
    write_str(out, " | ");
    write_str(out, family->row.prose);
    write_str(out, " |\n");
}

void metrics_write_docs(struct writer *out)
{
    write_str(out, "# Metrics\n\nGenerated by `freshet docs metrics` from "
                   "`router/base/metrics.def`. Histograms are in seconds.\n\n"
                   "| name | type | labels | what it says |\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < N_FAMILIES; i++) {
        write_doc(out, &families[i]);
    }
}
