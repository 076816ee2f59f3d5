/* What https://NAME/.well-known/matrix/server says, and for how long. */
#pragma once

#include "proto/arena.h"
#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>
#include <stdint.h>

enum { WELL_KNOWN_SIZE_MAX = 50 * 1024 /* bytes. Source: design.md, section 5 */ };

/* True and *out set if the body delegates to a valid server name. The name points into the body or
 * the arena. Source: server-server API, "Resolving server names". */
MUST_CHECK bool well_known_decode(struct span *out, struct arena *arena, struct span body);

/* How long an answer may be kept from now_s (wall clock, s since 1970) on by its headers, in s; -1
 * if they say nothing. Either may be empty. no-store and no-cache come before max-age, that before
 * Expires; what cannot be read there is in the past. Source: RFC 9111, sections 5.2.2 and 5.3. */
int64_t http_lifetime_s(struct span cache_control, struct span expires, int64_t now_s);
