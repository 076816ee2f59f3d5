/* Questions between loops: what must be single belongs to one of them, and the others ask it. */
#pragma once

#include "base/err.h"
#include "net/loop.h"
#include "proto/own.h"
#include "proto/span.h"

#include <stddef.h>
#include <stdint.h>

struct ask_ring;
struct ask_port;

/* Whom an answer goes to. */
struct asker {
    uint32_t port;
    uint64_t id;
};

/* Of n ports, one on each loop. All are made before the first loop runs and freed after the last
 * has stopped. */
struct ask_ring *ask_ring_new(size_t n);
void ask_ring_free(struct ask_ring *ring);

/* on_question runs on the loop of the port that owns the name; `question` is valid for the call.
 * It is answered once by ask_answer, at once or later. */
MUST_CHECK enum err
ask_port_new(struct ask_port **out, struct ask_ring *ring, size_t index, struct loop *loop,
             void (*on_question)(void *arg, struct asker asker, struct span question), void *arg);

/* What was asked and not answered is dropped; so is what was not read. */
void ask_port_free(struct ask_port *port);

/* A question on its way, inside something of the asker's that lives until on_answer or
 * ask_cancel. */
struct ask {
    uint64_t id;                                      /* 0: not on its way */
    void (*on_answer)(void *arg, struct span answer); /* on the asker's loop; valid for the call */
    void *arg;
};

/* Puts the question, which is copied, to the owner of the name: the same for every asker. Never
 * answered from inside this call. */
void ask_start(struct ask_port *port, struct ask *ask, struct span name, struct span question,
               void (*on_answer)(void *arg, struct span answer), void *arg);

/* Nothing happens to one that is not on its way. */
void ask_cancel(struct ask_port *port, struct ask *ask);

/* On the owner's loop. Copied. */
void ask_answer(struct ask_port *port, struct asker asker, struct span answer);
