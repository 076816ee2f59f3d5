#include "proto/span_index.h"

#include "proto/check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SLOTS_MIN = 32 };

static size_t slots_for(size_t n_max)
{
    size_t n_slots = SLOTS_MIN;

    while (n_slots < 2 * n_max) {
        n_slots *= 2;
    }
    return n_slots;
}

bool span_index_reset(struct span_index *index, struct arena *arena, size_t n_max)
{
    size_t n_slots = slots_for(n_max);

    CHECK(n_max <= INT32_MAX);
    if (n_slots > index->slots_had || n_max > index->names_had) {
        *index = (struct span_index){.names_had = n_slots / 2, .slots_had = n_slots};
        index->names = arena_calloc(arena, index->names_had, sizeof *index->names);
        index->slots = arena_calloc(arena, n_slots, sizeof *index->slots);
        if (index->names == NULL || index->slots == NULL) {
            *index = (struct span_index){0};
            return false;
        }
    }
    index->n = 0;
    index->n_max = (uint32_t)n_max;
    index->mask = n_slots - 1;
    memset(index->slots, 0, n_slots * sizeof *index->slots);
    /* An address is random enough that nobody can choose names that collide, and nothing but the
     * order in memory depends on it. */
    index->hash_seed = (uint64_t)(uintptr_t)index->slots;
    return true;
}

/* The slot that the name is in, or the free one where it belongs. *tag is the slot's upper half. */
static size_t find_slot(uint64_t *tag, const struct span_index *index, struct span name)
{
    uint64_t hash = XXH3_64bits_withSeed(name.data, name.size, index->hash_seed);
    size_t at = (size_t)hash & index->mask;

    *tag = hash & ~(uint64_t)UINT32_MAX;
    while (index->slots[at] != 0) {
        uint64_t slot = index->slots[at];
        if ((slot & ~(uint64_t)UINT32_MAX) == *tag &&
            span_equal(index->names[(uint32_t)slot - 1], name)) {
            break;
        }
        at = (at + 1) & index->mask;
    }
    return at;
}

uint32_t span_index_put(struct span_index *index, struct span name)
{
    uint64_t tag = 0;

    CHECK(index->slots != NULL);
    size_t at = find_slot(&tag, index, name);
    if (index->slots[at] == 0) {
        CHECK(index->n < index->n_max);
        index->names[index->n++] = name;
        index->slots[at] = tag | index->n;
    }
    return (uint32_t)index->slots[at] - 1;
}

uint32_t span_index_find(const struct span_index *index, struct span name)
{
    uint64_t tag = 0;

    if (index->n == 0) {
        return SPAN_INDEX_NONE;
    }
    size_t at = find_slot(&tag, index, name);
    return index->slots[at] == 0 ? SPAN_INDEX_NONE : (uint32_t)index->slots[at] - 1;
}
