/* Where an inbound request goes, told from its method and raw target alone. */
#pragma once

#include "proto/reject.h"
#include "proto/span.h"

#include <stdbool.h>

enum route_class {
    ROUTE_HEALTH,      /* GET /health: answered by us */
    ROUTE_TRANSACTION, /* PUT .../federation/v1/send/ID and all that Synapse routes to its handler
                        */
    ROUTE_FEDERATION,  /* any other path below /_matrix/federation/ */
    ROUTE_KEY,         /* below /_matrix/key/ */
    ROUTE_MEDIA,       /* below /_matrix/media/ */
    ROUTE_REFUSED,     /* never relayed; *why says why */
};

/* The bytes are judged as sent: nothing is decoded or normalised, since X-Matrix signs the raw
 * target. `target` is origin-form. A percent-encoded slash inside a segment is ordinary.
 * `why` is REJECT_NONE, or REJECT_BAD_PATH or REJECT_NOT_RELAYED with ROUTE_REFUSED.
 * Source: limits.md, "Where a request goes". */
enum route_class route_classify(enum reject *why, struct span method, struct span target);

/* True if `host` (a Host or :authority value, port included) is that entry of a server's `hosts`:
 * host and port exactly, or, where the entry has no port, the host alone. ASCII case ignored. */
bool route_host_matches(struct span entry, struct span host);

/* The host without its port; an IPv6 literal keeps its brackets. */
struct span route_host_without_port(struct span host);
