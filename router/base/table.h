/* A hash table from byte strings, which may be a peer's choice, to pointers. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"

#include <stddef.h>
#include <stdint.h>

struct table_entry;

/* Keys are copied; values belong to the caller. No cap of its own: the caller checks n. */
struct table {
    struct table_entry **slots;
    size_t n_slots; /* a power of two */
    size_t n;       /* entries */
    uint64_t seed;  /* random, so that nobody can choose keys that collide */
};

void table_init(struct table *table);
void table_fini(struct table *table); /* frees the keys, not the values */

/* NULL if there is none. */
void *table_get(const struct table *table, struct span key);

/* The value that stood there before, or NULL. `value` is not NULL. */
void *table_put(struct table *table, struct span key, void *value);

/* The value, which is the caller's again, or NULL. */
void *table_remove(struct table *table, struct span key);

struct table_iter {
    const struct table *table;
    size_t slot;
    struct table_entry *next;
};

/* In no order. The entry just returned may be removed; nothing may be put meanwhile. */
struct table_iter table_iterate(const struct table *table);
/* NULL at the end. `key` may be NULL; it lives as long as the entry. */
void *table_next(struct table_iter *iter, struct span *key);
