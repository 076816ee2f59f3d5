/* What a thread has lately seen of stored lists, in its memory: enough to call a claim fresh. */
#pragma once

#include "lists/device_list.h"
#include "proto/dlh.h"
#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>
#include <stdint.h>

/* Which lists have changed, for all threads: a count for each of many groups of lists. */
struct list_marks;

struct list_marks *list_marks_new(void);
void list_marks_free(struct list_marks *marks);

/* After the change was committed, and before anybody is told. Any thread. */
void list_marks_changed(struct list_marks *marks, struct span server, struct span user_id);

/* Part of struct device_list. */
struct list_glance {
    struct dlh current;
    int64_t read_started_ms;
    bool pushed;
};

/* Of one thread. */
struct glances;

enum { GLANCES_MAX = 65536 /* some 120 bytes each */ };

struct glances *glances_new(struct list_marks *marks);
void glances_free(struct glances *glances);

/* False if none was seen, or the list may have changed since. */
MUST_CHECK bool glances_get(struct list_glance *out, const struct glances *glances,
                            struct span server, struct span user_id);

/* To be taken before the store is read, for glances_put. */
uint64_t glances_mark(const struct glances *glances, struct span server, struct span user_id);
void glances_put(struct glances *glances, const struct device_list *list, uint64_t mark);
