/* Memory that is given out piece by piece and freed all at once, up to a hard cap. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"

#include <stdalign.h>
#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used;                /* bytes handed out, with padding */
    size_t cap;                 /* bytes that may be handed out in all */
    size_t n_mallocs;           /* blocks fetched from malloc since init, for tests */
};

void arena_init(struct arena *arena, size_t cap_bytes);
void arena_fini(struct arena *arena);

/* Frees everything handed out but keeps one block for the next user. */
void arena_reset(struct arena *arena);

/* Aligned to max_align_t, not zeroed. NULL when the cap would be exceeded: sizes may be chosen by
 * a peer, so the caller turns NULL into a refusal or into "unjudged". */
MUST_CHECK void *arena_alloc(struct arena *arena, size_t size);
MUST_CHECK void *arena_calloc(struct arena *arena, size_t count, size_t size);

/* Grows the newest allocation in place where possible, else copies. NULL over the cap. */
MUST_CHECK void *arena_realloc(struct arena *arena, void *old, size_t old_size, size_t size);

/* Copies the bytes; data is NULL over the cap (and never otherwise, even for an empty span). */
struct span arena_copy(struct arena *arena, struct span bytes);
