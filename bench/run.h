/* One run of load: connections that send transactions in turn, and what came of it. */
#pragma once

#include "bench/client.h"
#include "bench/histogram.h"
#include "bench/traffic.h"
#include "bench/usage.h"

#include <stdbool.h>
#include <stdint.h>

struct run_options {
    struct client_options client; /* but for what the run sets: ops, arg, epoll_fd, scratch */
    const struct traffic *traffic;
    uint32_t n_connections;
    uint64_t rate;        /* requests/s, evenly spaced; 0: a new one as soon as one is answered */
    uint64_t n_requests;  /* at most; 0: no end */
    uint64_t warmup_ns;   /* what is begun before its end is sent but not measured */
    uint64_t duration_ns; /* of what is measured; 0: no end */
    uint64_t timeout_ns;  /* of one request; and how long the end is waited for */
    uint64_t watched_pid; /* the measured server, for its CPU time; 0: none */
    bool expects_verdicts;
};

struct run_result {
    /* Of the requests measured. A latency begins when the request should have begun, whether or
     * not a connection was free (so nothing is omitted while the server stalls); a service time
     * when it did begin. ns. */
    struct histogram latency;
    struct histogram service;
    uint64_t n_measured; /* answered with a 2xx */
    uint64_t n_refused;  /* answered otherwise */
    uint64_t request_body_bytes, answer_body_bytes;
    uint64_t elapsed_ns;
    struct usage own, watched; /* CPU time in elapsed_ns; resident memory at its end */

    /* Of the whole run. */
    uint64_t n_sent, n_answered, n_lost, n_unsent, n_connects;
    uint64_t statuses[6]; /* by their first digit; 0: anything else */
    uint64_t n_fresh_owed, n_stale_owed;
    uint64_t n_fresh, n_stale, n_unknown;
    uint64_t n_wrong; /* answers whose verdicts are not what they should be */
};

/* The options must make it end some time. */
void run(struct run_result *out, const struct run_options *options);

/* Whether every request was answered with a 2xx and the verdicts it should have. */
bool run_is_flawless(const struct run_result *result);
