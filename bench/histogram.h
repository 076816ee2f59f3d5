/* Latencies in a log-linear histogram: three significant digits, whatever their size. */
#pragma once

#include <stdint.h>

enum {
    HISTOGRAM_EXACT = 2048,    /* values below it have a bucket of their own */
    HISTOGRAM_STEPS = 1024,    /* buckets of each doubling above: an error of at most 1/1024 */
    HISTOGRAM_DOUBLINGS = 31,  /* up to 2^42 ns, 73 minutes; what is longer counts as that */
    HISTOGRAM_SCALE = 1000000, /* quantiles are given in millionths */
    HISTOGRAM_SIZE = HISTOGRAM_EXACT + HISTOGRAM_DOUBLINGS * HISTOGRAM_STEPS,
};

struct histogram {
    uint64_t counts[HISTOGRAM_SIZE];
    uint64_t n;
    uint64_t max; /* exact */
};

/* All zero is an empty one. Values are in ns, or in any other unit that is used throughout. */
void histogram_record(struct histogram *h, uint64_t value);
void histogram_add(struct histogram *into, const struct histogram *from);

/* The largest value that may be in the bucket below which, itself included, lie at least that many
 * millionths of all values (990000: p99), and never more than the largest one recorded. 0 if there
 * are none. */
uint64_t histogram_quantile(const struct histogram *h, uint32_t millionths);
