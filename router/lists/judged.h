/* Claims that were judged by a read before, so that repeating one does not cost a read each time.
 */
#pragma once

#include "proto/claim.h"
#include "proto/dlh.h"
#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>

enum { JUDGED_SLOTS = 8192 /* claims remembered, per worker; a new one may push out another */ };

struct judged;

struct judged_claim {
    struct span server, user_id, origin;
    const struct claim *claim;
    const struct dlh *list; /* that it was judged against */
};

struct judged *judged_new(void);
void judged_free(struct judged *judged); /* NULL is fine */

void judged_remember(struct judged *judged, const struct judged_claim *what);

/* True if the very same was remembered, and not pushed out since. A chance of 2^-64 that it was
 * not: it saves a read and decides nothing. */
bool judged_before(const struct judged *judged, const struct judged_claim *what);
