#include "base/table.h"

#include "base/random.h"
#include "proto/check.h"

#include <stdlib.h>
#include <xxhash.h>

enum { FIRST_SLOTS = 16 };

struct table_entry {
    struct table_entry *next;
    uint64_t hash;
    void *value;
    size_t size;
    char key[];
};

void table_init(struct table *table)
{
    *table = (struct table){.n_slots = FIRST_SLOTS};
    table->slots = calloc(table->n_slots, sizeof(struct table_entry *));
    CHECK(table->slots != NULL);
    random_bytes(&table->seed, sizeof table->seed);
}

void table_fini(struct table *table)
{
    for (size_t i = 0; i < table->n_slots; i++) {
        while (table->slots[i] != NULL) {
            struct table_entry *entry = table->slots[i];
            table->slots[i] = entry->next;
            free(entry);
        }
    }
    free(table->slots);
    *table = (struct table){0};
}

static uint64_t hash_of(const struct table *table, struct span key)
{
    return XXH3_64bits_withSeed(key.size == 0 ? "" : key.data, key.size, table->seed);
}

/* The pointer that points to the entry, or to the NULL where its chain ends. */
static struct table_entry **find(const struct table *table, struct span key, uint64_t hash)
{
    struct table_entry **at = &table->slots[hash & (table->n_slots - 1)];

    while (*at != NULL &&
           ((*at)->hash != hash || !span_equal(span_of((*at)->key, (*at)->size), key))) {
        at = &(*at)->next;
    }
    return at;
}

void *table_get(const struct table *table, struct span key)
{
    const struct table_entry *entry = *find(table, key, hash_of(table, key));

    return entry == NULL ? NULL : entry->value;
}

static void grow(struct table *table)
{
    size_t n_slots = table->n_slots * 2;
    struct table_entry **slots = calloc(n_slots, sizeof(struct table_entry *));

    CHECK(slots != NULL);
    for (size_t i = 0; i < table->n_slots; i++) {
        while (table->slots[i] != NULL) {
            struct table_entry *entry = table->slots[i];
            struct table_entry **to = &slots[entry->hash & (n_slots - 1)];
            table->slots[i] = entry->next;
            entry->next = *to;
            *to = entry;
        }
    }
    free(table->slots);
    table->slots = slots;
    table->n_slots = n_slots;
}

static struct table_entry *entry_new(struct span key, uint64_t hash, void *value)
{
    struct table_entry *entry = malloc(sizeof *entry + key.size);

    CHECK(entry != NULL);
    *entry = (struct table_entry){.hash = hash, .value = value, .size = key.size};
    if (key.size != 0) {
        memcpy(entry->key, key.data, key.size);
    }
    return entry;
}

void *table_put(struct table *table, struct span key, void *value)
{
    uint64_t hash = hash_of(table, key);
    struct table_entry **at = find(table, key, hash);

    CHECK(value != NULL);
    if (*at != NULL) {
        void *old = (*at)->value;
        (*at)->value = value;
        return old;
    }
    *at = entry_new(key, hash, value);
    table->n++;
    if (table->n > table->n_slots) {
        grow(table);
    }
    return NULL;
}

void *table_remove(struct table *table, struct span key)
{
    struct table_entry **at = find(table, key, hash_of(table, key));
    struct table_entry *entry = *at;

    if (entry == NULL) {
        return NULL;
    }
    void *value = entry->value;
    *at = entry->next;
    table->n--;
    free(entry);
    return value;
}

struct table_iter table_iterate(const struct table *table)
{
    return (struct table_iter){.table = table};
}

void *table_next(struct table_iter *iter, struct span *key)
{
    while (iter->next == NULL && iter->slot < iter->table->n_slots) {
        iter->next = iter->table->slots[iter->slot++];
    }
    struct table_entry *entry = iter->next;
    if (entry == NULL) {
        return NULL;
    }
    iter->next = entry->next;
    if (key != NULL) {
        *key = span_of(entry->key, entry->size);
    }
    return entry->value;
}
