/* The second read of a list that a claim still differed from after the first. */
#pragma once

#include "base/metrics.h"
#include "lists/reader.h"
#include "net/loop.h"
#include "proto/claim.h"
#include "proto/span.h"

#include <stdint.h>

enum { SECOND_LOOKS_MAX = 1000 /* waiting, per worker; what is over it is left out */ };

struct second_looks;

struct second_looks *second_looks_new(struct loop *loop, struct list_reader *reader,
                                      struct metrics *metrics);
void second_looks_free(struct second_looks *looks); /* those that wait are dropped */

/* Reads the list after settle_ms and counts what the claim is then (second_reads_total); nothing is
 * counted if there was no read. The read is always one that may wait. The request and the claim are
 * copied. At most one waits for each (server, user, claim). */
void second_looks_add(struct second_looks *looks, const struct list_read_request *request,
                      const struct claim *claim, uint32_t settle_ms);
