/* Finds member names that are given twice, in linear time: two readers may differ about them. */
#pragma once

#include "proto/arena.h"
#include "proto/json.h"
#include "proto/own.h"
#include "proto/span_index.h"

enum duplicate {
    DUPLICATE_NONE,
    DUPLICATE_FOUND,
    DUPLICATE_NO_ROOM, /* the arena was full before it was known */
};

/* Scratch memory, kept from one call to the next. Needed only for objects whose names are not in
 * ascending order, so never for canonical documents. */
struct duplicate_scratch {
    struct arena *arena;
    struct span_index names;
};

/* In this object alone. */
MUST_CHECK enum duplicate duplicate_among(struct duplicate_scratch *scratch,
                                          const struct json_value *object);

/* In this value or anywhere inside it. */
MUST_CHECK enum duplicate duplicate_inside(struct duplicate_scratch *scratch,
                                           const struct json_value *value);
