/* Why a peer's request is refused, or relayed without a verdict: the two tables of reasons. */
#pragma once

#include "proto/writer.h"

enum reject {
    REJECT_NONE,
#define REJECT(name, status, errcode, text) REJECT_##name,
#include "proto/reject.def"
#undef REJECT
    REJECT_COUNT
};

struct reject_row {
    const char *label;   /* for metrics and logs */
    int status;          /* HTTP */
    const char *errcode; /* Matrix */
    const char *text;    /* for the peer */
};

/* For REJECT_NONE too: its label is "none", its status 0. */
const struct reject_row *reject_row(enum reject why);

/* {"errcode":...,"error":...}, the body of every error. Source: Matrix specification, "Standard
 * error response". */
void matrix_error_write(struct writer *out, const char *errcode, const char *text);

/* The same with "retry_after_ms". Source: Matrix client-server API, "Rate limiting". */
void matrix_error_write_limited(struct writer *out, const char *errcode, const char *text,
                                uint32_t retry_after_s);

enum unjudged {
    UNJUDGED_NONE,
#define UNJUDGED(name, text) UNJUDGED_##name,
#include "proto/unjudged.def"
#undef UNJUDGED
    UNJUDGED_COUNT
};

/* For metrics and logs. */
const char *unjudged_label(enum unjudged why);
