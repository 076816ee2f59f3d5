/* Whose keys were asked for lately, or are being asked for. */
#pragma once

#include "base/list.h"
#include "base/table.h"
#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct key_fetch;

struct key_attempts {
    struct table by_server;
    struct list by_age; /* oldest first */
    size_t max;
    uint64_t lately_us;
};

struct key_attempt {
    struct link by_age;
    uint64_t began_us; /* monotonic */
    void *owner;       /* the rest is its own */
    struct key_fetch *fetch;
    struct list waiting;
    bool is_running; /* is kept however old it is */
    size_t size;
    char server[];
};

/* At most `max` at a time; forgotten after lately_us. */
void key_attempts_init(struct key_attempts *attempts, size_t max, uint64_t lately_us);
void key_attempts_fini(struct key_attempts *attempts); /* none may be running */

/* The one that runs or began lately; NULL if there is none. */
struct key_attempt *key_attempts_find(struct key_attempts *attempts, struct span server,
                                      uint64_t now_us);

/* A new one, running; there must be none. NULL if there are too many. */
struct key_attempt *key_attempts_begin(struct key_attempts *attempts, struct span server,
                                       uint64_t now_us);

struct span key_attempt_server(const struct key_attempt *attempt);
