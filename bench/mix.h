/* Numbers that look random and are the same in every run. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The next of a sequence. Source: Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
 * Generators", SplitMix64. */
static inline uint64_t mix_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static inline void mix_fill(void *out, size_t size, uint64_t *state)
{
    char *at = out;

    while (size > 0) {
        uint64_t word = mix_next(state);
        size_t n = size < sizeof word ? size : sizeof word;
        memcpy(at, &word, n);
        at += n;
        size -= n;
    }
}
