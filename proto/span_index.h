/* Numbers names in order of their first appearance, in O(1) each whatever the names are. */
#pragma once

#include "proto/arena.h"
#include "proto/own.h"
#include "proto/span.h"

#include <stddef.h>
#include <stdint.h>

enum { SPAN_INDEX_NONE = INT32_MAX };

/* All zero is an index of no capacity. Borrows the names. */
struct span_index {
    struct span *names; /* by number */
    uint64_t *slots;    /* a number + 1 and, above it, half of the hash; 0 is free */
    uint32_t n;
    uint32_t n_max;   /* names that may be put since the last reset */
    size_t mask;      /* slots in use - 1 */
    size_t names_had; /* names there is memory for */
    size_t slots_had; /* slots there is memory for */
    uint64_t hash_seed;
};

/* Empties it and makes room for n_max names, in the memory it has if that is enough. False if the
 * arena is full. n_max may be chosen by a peer but is below 2^31. */
MUST_CHECK bool span_index_reset(struct span_index *index, struct arena *arena, size_t n_max);

/* The number of the name; a new name gets the number that `n` was. */
uint32_t span_index_put(struct span_index *index, struct span name);

/* SPAN_INDEX_NONE if it was not put. */
uint32_t span_index_find(const struct span_index *index, struct span name);
