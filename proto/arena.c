#include "proto/arena.h"

#include "proto/check.h"

#include <stdint.h>
#include <stdlib.h>

enum {
    BLOCK_MIN = 16 * 1024, /* bytes of a block's payload, unless one allocation needs more */
    ALIGNMENT = alignof(max_align_t),
};

struct arena_block {
    alignas(max_align_t) struct arena_block *older;
    size_t size; /* bytes of payload */
    size_t used;
};

static char *payload(struct arena_block *block)
{
    return (char *)(block + 1);
}

static size_t aligned(size_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

void arena_init(struct arena *arena, size_t cap_bytes)
{
    *arena = (struct arena){.cap = cap_bytes};
}

static void free_older(struct arena_block *block)
{
    while (block != NULL) {
        struct arena_block *older = block->older;
        free(block);
        block = older;
    }
}

void arena_fini(struct arena *arena)
{
    free_older(arena->blocks);
    *arena = (struct arena){0};
}

void arena_reset(struct arena *arena)
{
    arena->used = 0;
    if (arena->blocks != NULL) {
        free_older(arena->blocks->older);
        arena->blocks->older = NULL;
        arena->blocks->used = 0;
    }
}

static void add_block(struct arena *arena, size_t at_least)
{
    size_t size = at_least > BLOCK_MIN ? at_least : BLOCK_MIN;
    struct arena_block *block = malloc(sizeof *block + size);

    CHECK(block != NULL);
    *block = (struct arena_block){.older = arena->blocks, .size = size};
    arena->blocks = block;
    arena->n_mallocs++;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    if (size > arena->cap || aligned(size) > arena->cap - arena->used) {
        return NULL;
    }
    size_t need = size == 0 ? ALIGNMENT : aligned(size);
    if (arena->blocks == NULL || arena->blocks->size - arena->blocks->used < need) {
        add_block(arena, need);
    }
    void *out = payload(arena->blocks) + arena->blocks->used;
    arena->blocks->used += need;
    arena->used += need < arena->cap - arena->used ? need : arena->cap - arena->used;
    return out;
}

void *arena_calloc(struct arena *arena, size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size) {
        return NULL;
    }
    void *out = arena_alloc(arena, count * size);
    return out == NULL ? NULL : memset(out, 0, count * size);
}

void *arena_realloc(struct arena *arena, void *old, size_t old_size, size_t size)
{
    struct arena_block *block = arena->blocks;
    size_t had = aligned(old_size);
    size_t need = aligned(size);
    bool is_newest =
        old != NULL && block != NULL && (char *)old + had == payload(block) + block->used;

    if (need < size) { /* so near to SIZE_MAX that padding it wraps around */
        return NULL;
    }
    if (old != NULL && need <= had) {
        return old;
    }
    if (is_newest && need - had <= block->size - block->used &&
        need - had <= arena->cap - arena->used) {
        block->used += need - had;
        arena->used += need - had;
        return old;
    }
    void *out = arena_alloc(arena, size);
    if (out != NULL && old != NULL) {
        memcpy(out, old, old_size);
    }
    return out;
}

struct span arena_copy(struct arena *arena, struct span bytes)
{
    char *copy = arena_alloc(arena, bytes.size);

    if (copy == NULL) {
        return (struct span){0};
    }
    if (bytes.size != 0) {
        memcpy(copy, bytes.data, bytes.size);
    }
    return span_of(copy, bytes.size);
}
