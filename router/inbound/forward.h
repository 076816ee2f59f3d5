/* Heads as they are relayed: without what belongs to one connection, with who it was that asked. */
#pragma once

#include "net/http.h"
#include "proto/arena.h"
#include "proto/own.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

struct forward_peer {
    struct in6_addr address; /* of the connection's other end */
    bool is_trusted;         /* a proxy whose X-Forwarded-For is believed, and added to */
};

/* Method, target and framing as they are; Accept-Encoding left out where the answer has to be read.
 * False if the arena is full. */
MUST_CHECK bool forward_request(struct http_head *out, struct arena *arena,
                                const struct http_head *head, const struct forward_peer *peer,
                                bool reads_answer);

/* Copied whole, so that it outlives the call. False if the arena is full. */
MUST_CHECK bool forward_answer(struct http_head *out, struct arena *arena,
                               const struct http_head *head);
