#include "bench/histogram.h"

static uint32_t bucket_of(uint64_t value)
{
    uint32_t shift = 0;

    while (value >> shift >= HISTOGRAM_EXACT) {
        shift++;
    }
    if (shift > HISTOGRAM_DOUBLINGS) {
        return HISTOGRAM_SIZE - 1;
    }
    /* From the second doubling on the lower half of the steps would repeat the one before. */
    return shift * HISTOGRAM_STEPS + (uint32_t)(value >> shift);
}

static uint64_t largest_in(uint32_t bucket)
{
    if (bucket < HISTOGRAM_EXACT) {
        return bucket;
    }
    uint32_t shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t step = bucket - shift * HISTOGRAM_STEPS;

    return ((step + 1) << shift) - 1;
}

void histogram_record(struct histogram *h, uint64_t value)
{
    h->counts[bucket_of(value)]++;
    h->n++;
    if (value > h->max) {
        h->max = value;
    }
}

void histogram_add(struct histogram *into, const struct histogram *from)
{
    for (uint32_t i = 0; i < HISTOGRAM_SIZE; i++) {
        into->counts[i] += from->counts[i];
    }
    into->n += from->n;
    if (from->max > into->max) {
        into->max = from->max;
    }
}

/* n * millionths / HISTOGRAM_SCALE, rounded up; n may be large. */
static uint64_t rank_of(uint64_t n, uint32_t millionths)
{
    uint64_t whole = n / HISTOGRAM_SCALE * millionths;
    uint64_t rest = n % HISTOGRAM_SCALE * millionths;
    uint64_t rank = whole + (rest + HISTOGRAM_SCALE - 1) / HISTOGRAM_SCALE;

    return rank == 0 ? 1 : rank;
}

uint64_t histogram_quantile(const struct histogram *h, uint32_t millionths)
{
    uint64_t rank = rank_of(h->n, millionths);
    uint64_t seen = 0;

    for (uint32_t i = 0; i < HISTOGRAM_SIZE && h->n > 0; i++) {
        seen += h->counts[i];
        if (seen >= rank) {
            uint64_t largest = largest_in(i);
            return largest < h->max && i < HISTOGRAM_SIZE - 1 ? largest : h->max;
        }
    }
    return h->max;
}
