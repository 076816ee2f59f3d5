/* Deletes the stored keys that have ended, a few at a time: servers that were heard once do not
 * fill the disk. */
#pragma once

#include "net/loop.h"
#include "proto/own.h"
#include "store/journal.h"

#include <stdint.h>

enum {
    KEY_SWEEP_RECORDS = 500,  /* looked at in one commit */
    KEY_SWEEP_MS = 60 * 1000, /* between two rounds */
    KEY_SWEEP_NEXT_MS = 2000, /* between two commits of one round: 250 records/s */
};

struct key_sweep;

/* One for each store. The first commit comes after next_ms, the next after as much, a round after
 * round_ms. */
struct key_sweep *key_sweep_new(struct loop *loop, struct journal *journal, uint64_t round_ms,
                                uint64_t next_ms);
void key_sweep_free(struct key_sweep *sweep); /* after journal_stop; NULL is fine */
