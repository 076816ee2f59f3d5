/* How many reads a hosted server is asked for, and how many of them one origin may cause.
 * Source: limits.md, "Budgets". */
#pragma once

#include "base/table.h"
#include "lists/reader.h"
#include "proto/own.h"

#include <stdbool.h>
#include <stdint.h>

enum { READ_BUDGET_MAX = 10000 /* buckets of each kind */ };

struct read_budget {
    struct table servers; /* struct bucket, by server name */
    struct table shares;  /* struct bucket, by server and origin */
};

void read_budget_init(struct read_budget *budget);
void read_budget_fini(struct read_budget *budget);

/* True if the read may be done: its token is taken. reads_per_s, at least 1, is what the server's
 * bucket gains and holds; an origin's share is half of that, and at least 1. One that may wait
 * leaves half of the server's bucket to those that may not. */
MUST_CHECK bool read_budget_take(struct read_budget *budget,
                                 const struct list_read_request *request, uint32_t reads_per_s,
                                 uint64_t now_us);
