/* Matrix identifiers: server names and user ids. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>

enum { IDENT_MAX = 255 /* bytes; Matrix specification, appendices, "Common Identifier Format" */ };

/* The strict grammar: a DNS name or IPv4 address, or a bracketed IPv6 address, and an optional
 * port of 1 to 5 digits. Whether the address means anything is not checked.
 * Source: Matrix specification, appendices, "Server Name". */
bool server_name_is_valid(struct span name);

struct user_id {
    struct span whole;
    struct span localpart; /* without the '@'; any bytes but NUL and ':' (historical ids) */
    struct span server;
};

/* False unless it is '@', a localpart without ':' or NUL, ':', and a valid server name, within
 * IDENT_MAX. Source: Matrix specification, appendices, "User Identifiers". */
MUST_CHECK bool user_id_parse(struct user_id *out, struct span text);

/* True if user_id_parse would find this server, whose name is valid; at less cost. */
bool user_id_is_of(struct span user_id, struct span server);
