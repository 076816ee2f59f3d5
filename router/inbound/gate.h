/* Whether an upstream can be asked at all, and who waits until it can: one gate for each pool. */
#pragma once

#include "base/list.h"
#include "net/http_client.h"
#include "net/loop.h"
#include "proto/own.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GATE_PROBE_MS = 250, /* between two requests that are let through to an upstream that refuses */
    GATE_OPENING_MS = 25,   /* between two steps of the slow start: 1, 2, 4 ... requests */
    GATE_SMALL = 64 * 1024, /* bytes of a body up to which a request goes before larger ones */
};

struct gates;

struct gates *gates_new(struct loop *loop);
void gates_free(struct gates *gates); /* nobody may wait; NULL is fine */

/* True if requests go straight through; false while the upstream refuses, or those that waited for
 * it are being let through. */
bool gates_are_open(const struct gates *gates, const struct http_pool *pool);

/* Inside something of the waiting one's that lives until on_go or gate_leave. Two fields are the
 * owner's to set, the others the gate's. */
struct gate_wait {
    void (*on_go)(void *arg); /* from the loop, once for each time it entered */
    void *arg;
    struct link link;
    struct gate *gate; /* NULL: does not wait */
};

/* Closes the gate if it is open, and waits at it; `is_first`: before all others of its size, for
 * one that was let through and refused. */
void gate_enter(struct gates *gates, struct gate_wait *wait, const struct http_pool *pool,
                size_t body_size, bool is_first);
void gate_leave(struct gate_wait *wait); /* nothing happens to one that does not wait */

/* The upstream has answered: those that wait go now, by and by. */
void gates_answered(struct gates *gates, const struct http_pool *pool);

/* Who waits, in all. */
size_t gates_n_waiting(const struct gates *gates);
