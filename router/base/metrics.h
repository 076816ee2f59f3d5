/* Counters, gauges and histograms: each thread writes its own, whoever asks puts them together. */
#pragma once

#include "proto/reject.h"
#include "proto/transaction.h"
#include "proto/verdict.h"
#include "proto/writer.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum request_class {
    REQUEST_CLASS_SEND,
    REQUEST_CLASS_KEY,
    REQUEST_CLASS_FEDERATION,
    REQUEST_CLASS_MEDIA,
    REQUEST_CLASS_HEALTH,
    REQUEST_CLASS_OTHER,
    REQUEST_CLASS_COUNT
};

enum claim_kind {
    CLAIM_KIND_NONE,
    CLAIM_KIND_HASH,
    CLAIM_KIND_STREAM,
    CLAIM_KIND_UNUSABLE,
    CLAIM_KIND_COUNT
};

/* Of a key fetch or a list read. */
enum fetch_result {
    FETCH_RESULT_OK,
    FETCH_RESULT_FAILED,
    FETCH_RESULT_BUDGET,
    FETCH_RESULT_CHANGED,
    FETCH_RESULT_NETWORK,
    FETCH_RESULT_COUNT
};

/* Why another server's keys, or the way to it, could not be had. */
enum fetch_failure {
    FETCH_FAILURE_NONE,
    FETCH_FAILURE_NAME,        /* it is not in lower case, which nobody is asked about */
    FETCH_FAILURE_NO_SERVICE,  /* it says so itself, by SRV or an impossible port */
    FETCH_FAILURE_NO_ADDRESS,  /* DNS knows none, or does not answer */
    FETCH_FAILURE_NOT_ALLOWED, /* all its addresses are private or reserved */
    FETCH_FAILURE_UNREACHABLE, /* nobody took the connection */
    FETCH_FAILURE_TLS,
    FETCH_FAILURE_TIMEOUT,
    FETCH_FAILURE_TOO_LARGE,
    FETCH_FAILURE_CLOSED,   /* it broke off, or did not speak HTTP */
    FETCH_FAILURE_REDIRECT, /* to what is no https URL of a server name */
    FETCH_FAILURE_STATUS,   /* not 200 */
    FETCH_FAILURE_DOCUMENT, /* it is not what was asked for, or not signed by itself */
    FETCH_FAILURE_NO_VALID_KEY,
    FETCH_FAILURE_COUNT
};

const char *fetch_failure_label(unsigned value); /* NULL for none, which nobody counts */

/* What bytes in flight are charged to. */
enum budget { BUDGET_PROCESS, BUDGET_ADDRESS, BUDGET_SERVER, BUDGET_ORIGIN, BUDGET_COUNT };

enum counter {
#define COUNTER(name, prose) COUNTER_##name,
#define COUNTER_BY(name, label, n, label_of, prose)
#define GAUGE(name, prose)
#define GAUGE_BY_WORKER(name, prose)
#define HISTOGRAM(name, prose)
#include "base/metrics.def"
#undef COUNTER
    COUNTER_COUNT
};

enum counter_by {
#define COUNTER(name, prose)
#undef COUNTER_BY
#define COUNTER_BY(name, label, n, label_of, prose) COUNTER_BY_##name,
#include "base/metrics.def"
#undef COUNTER_BY
    COUNTER_BY_COUNT
};

enum gauge {
#define COUNTER_BY(name, label, n, label_of, prose)
#undef GAUGE
#undef GAUGE_BY_WORKER
#define GAUGE(name, prose)           GAUGE_##name,
#define GAUGE_BY_WORKER(name, prose) GAUGE_##name,
#include "base/metrics.def"
#undef GAUGE
#undef GAUGE_BY_WORKER
    GAUGE_COUNT
};

enum histogram {
#define GAUGE(name, prose)
#define GAUGE_BY_WORKER(name, prose)
#undef HISTOGRAM
#define HISTOGRAM(name, prose) HISTOGRAM_##name,
#include "base/metrics.def"
#undef HISTOGRAM
    HISTOGRAM_COUNT
};

/* Where each labelled counter's values stand among all of them. */
enum counter_cell {
#define HISTOGRAM(name, prose)
#undef COUNTER_BY
#define COUNTER_BY(name, label, n, label_of, prose)                                                \
    COUNTER_CELL_##name, COUNTER_CELL_END_##name = COUNTER_CELL_##name + (int)(n) - 1,
#include "base/metrics.def"
#undef COUNTER
#undef COUNTER_BY
#undef GAUGE
#undef GAUGE_BY_WORKER
#undef HISTOGRAM
    COUNTER_CELL_COUNT
};

enum { METRICS_N_BUCKETS = 16 /* the last has no upper bound */ };

struct metrics_histogram {
    atomic_uint_fast64_t buckets[METRICS_N_BUCKETS]; /* each without those below it */
    atomic_uint_fast64_t sum_ns;
};

/* One thread writes, any may read. */
struct metrics {
    atomic_uint_fast64_t counters[COUNTER_COUNT];
    atomic_uint_fast64_t cells[COUNTER_CELL_COUNT];
    atomic_int_fast64_t gauges[GAUGE_COUNT];
    struct metrics_histogram histograms[HISTOGRAM_COUNT];
    int worker; /* from 0; -1: the thread is none, and its gauges by worker are not shown */
};

/* All zero, and of no worker. */
void metrics_init(struct metrics *metrics);

/* Before any other thread reads. */
void metrics_set_worker(struct metrics *metrics, int worker);

void metrics_add(struct metrics *metrics, enum counter counter, uint64_t n);
void metrics_add_by(struct metrics *metrics, enum counter_by counter, unsigned value, uint64_t n);
void metrics_gauge_set(struct metrics *metrics, enum gauge gauge, int64_t value);
void metrics_observe(struct metrics *metrics, enum histogram histogram, double seconds);

/* The time since then, as clock_monotonic_us told it. */
void metrics_observe_since(struct metrics *metrics, enum histogram histogram, uint64_t start_us);

/* The sum over the threads, or each worker's own value, in Prometheus' text format. */
void metrics_write(struct writer *out, struct metrics *const *threads, size_t n_threads);

/* One row of metrics.def, for the documentation. */
struct metrics_row {
    const char *name;  /* without "freshet_" */
    const char *type;  /* "counter", "gauge", "histogram" */
    const char *label; /* NULL if it has none */
    const char *prose;
};

/* NULL from the last row on. In the order of metrics.def. */
const struct metrics_row *metrics_row(size_t index);

/* docs/metrics.md. */
void metrics_write_docs(struct writer *out);
