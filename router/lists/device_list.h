/* What the store knows of one hosted user's device list, and how news changes it. */
#pragma once

#include "proto/arena.h"
#include "proto/device_list_answer.h"
#include "proto/dlh.h"
#include "proto/own.h"
#include "proto/span.h"
#include "proto/writer.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    DEVICE_LIST_HISTORY_MAX = 16,         /* past lists kept; design.md, section 4 */
    DEVICE_LIST_NO_POSITION = -1,         /* an answer without a stream_id */
    DEVICE_LIST_RECORD_MAX = 1024 * 1024, /* bytes; a longer record is not stored */
};

/* A list that was true once and was replaced. */
struct past_list {
    struct dlh hash;
    int64_t last_true;      /* the last position at which it was read */
    int64_t first_replaced; /* the first position at which another was */
    int64_t when_ms;        /* wall clock, when that was seen */
};

/* Spans point to wherever it was decoded from or applied from. */
struct device_list {
    struct span server;  /* the hosted server's name */
    struct span user_id; /* whole */
    struct dlh current;
    struct dlh_sum sum;
    int64_t position;        /* of the newest read; or DEVICE_LIST_NO_POSITION */
    int64_t first_position;  /* at which the current list was first read */
    int64_t read_started_ms; /* wall clock */
    int64_t changed_ms;      /* wall clock, when the current list was first seen */
    bool pushed;             /* vouches for itself until the next push */
    uint32_t n_history;
    struct past_list history[DEVICE_LIST_HISTORY_MAX]; /* newest first */
    struct span devices; /* those that count, encoded: see device_list_next_device */
};

struct device_hash {
    struct span device_id;
    struct dlh_device hash;
};

enum list_source { LIST_SOURCE_READ, LIST_SOURCE_PUSH };

/* A list just read or pushed. */
struct list_update {
    struct span server, user_id;
    enum list_source source;
    struct dlh hash;
    struct dlh_sum sum;
    struct span devices; /* encoded, as in struct device_list */
    int64_t position;    /* the answer's stream_id, or DEVICE_LIST_NO_POSITION */
    int64_t started_ms;  /* wall clock, when the read began */
    int64_t finished_ms; /* wall clock */
};

/* Fills all but server, source and the times. False if the list has no hash or the arena is full.
 */
MUST_CHECK bool list_update_from_answer(struct list_update *out, struct arena *arena,
                                        const struct device_list_answer *answer);

enum list_applied {
    LIST_STORED,
    LIST_KEPT, /* the old one stands: the read was of an older state, or the list is pushed */
};

/* The list after the update; `old` is NULL if nothing was known. Pure. *next is set for LIST_KEPT
 * too, to the old list. */
enum list_applied device_list_apply(struct device_list *next, const struct device_list *old,
                                    const struct list_update *update);

/* Sticky in the writer; its cap should be DEVICE_LIST_RECORD_MAX. */
void device_list_encode(struct writer *out, const struct device_list *list);

/* False for anything that device_list_encode does not write. No allocation. */
MUST_CHECK bool device_list_decode(struct device_list *out, struct span record);

/* Takes the next device off *devices; false at the end. */
MUST_CHECK bool device_list_next_device(struct device_hash *out, struct span *devices);
