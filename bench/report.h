/* What a run has shown, for people and for machines. */
#pragma once

#include "bench/run.h"

#include <stdbool.h>
#include <stdint.h>

struct report {
    const char *shape;
    const char *target;
    bool is_http2, is_tls;
    uint32_t n_connections, n_streams, n_calls_max, n_origins, n_users, n_devices;
    uint32_t fresh_percent, stale_percent;
    uint64_t rate;
    const struct traffic *traffic;
    uint64_t n_primed, n_keys_served, n_lists_pushed;
    const struct run_result *result;
};

void report_table(const struct report *p);

/* One line, one object; times in ns, sizes in bytes. */
void report_json(const struct report *p);
