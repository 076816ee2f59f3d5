/* A worker's way to the stored device lists. */
#pragma once

#include "base/err.h"
#include "lists/device_list.h"
#include "lists/glance.h"
#include "proto/arena.h"
#include "proto/own.h"
#include "store/journal.h"
#include "store/store.h"

#include <stdbool.h>

struct lists;

/* One per thread, all with the same marks; `metrics` is that thread's own. */
MUST_CHECK enum err lists_new(struct lists **out, struct store *store, struct journal *journal,
                              struct list_marks *marks, struct metrics *metrics);
void lists_free(struct lists *lists); /* updates submitted before are still stored */

/* True once the store has failed: what it holds is not brought up to date any more, so nothing may
 * be judged from it. */
bool lists_failed(const struct lists *lists);

/* The list as committed, or as this thread's updates will leave it that are still on their way:
 * what one request has read the next one knows, without waiting for the disk. Its spans live in the
 * arena, and no read transaction stays open. ERR_NOT_FOUND if none is known (a damaged record
 * counts as none); ERR_NO_MEMORY if the arena is full. */
MUST_CHECK enum err lists_get(struct device_list *out, struct lists *lists, struct arena *arena,
                              struct span server, struct span user_id);

/* What lists_get would give, if this thread has it in memory. */
MUST_CHECK bool lists_glance(struct list_glance *out, const struct lists *lists, struct span server,
                             struct span user_id);

/* Has the journal apply the update to what is stored then; everything is copied. `done` runs on the
 * journal thread, exactly once if this returned ERR_OK, else not at all; it may be NULL. ERR_FULL
 * and ERR_IO as journal_submit. There is no need to wait before the next lists_get. */
MUST_CHECK enum err lists_submit_update(struct lists *lists, const struct list_update *update,
                                        void (*done)(void *arg, enum err result), void *arg);
