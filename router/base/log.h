/* The log: one JSON object a line on standard error. */
#pragma once

#include "proto/span.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

enum {
    LOG_LINES_PER_S = 10, /* of one place in the source; what is over it is counted */
    LOG_VALUE_MAX = 256,  /* bytes of one value; the rest is cut */
    LOG_LINE_MAX = 16384, /* bytes; a line that would be longer is left out */
};

enum log_type { LOG_TYPE_END, LOG_TYPE_TEXT, LOG_TYPE_U64, LOG_TYPE_I64, LOG_TYPE_BOOL };

struct log_field {
    const char *key;
    enum log_type type;
    struct span text;
    uint64_t u64;
    int64_t i64; /* also a bool, as 0 or 1 */
};

#define F_SPAN(name, value)                                                                        \
    ((struct log_field){.key = (name), .type = LOG_TYPE_TEXT, .text = (value)})
#define F_STR(name, value) F_SPAN(name, span_str(value))
#define F_U64(name, value) ((struct log_field){.key = (name), .type = LOG_TYPE_U64, .u64 = (value)})
#define F_I64(name, value) ((struct log_field){.key = (name), .type = LOG_TYPE_I64, .i64 = (value)})
#define F_BOOL(name, value)                                                                        \
    ((struct log_field){.key = (name), .type = LOG_TYPE_BOOL, .i64 = (value) ? 1 : 0})
#define F_END ((struct log_field){.type = LOG_TYPE_END})

/* The rate limit of one place in the source. Counts may be off by a few when threads meet. */
struct log_site {
    atomic_uint_fast64_t second; /* monotonic, of the running window */
    atomic_uint_fast64_t lines;  /* asked for in this window */
    atomic_uint_fast64_t suppressed;
};

/* Lines below the level are dropped. Before any other thread runs; LOG_INFO without it. */
void log_init(enum log_level level);
bool log_level_parse(enum log_level *out, struct span name); /* "debug", "info", "warn", "error" */

/* Event names are constants to grep for, values are fields. Never message content, device ids or
 * full user ids. Any thread. Use: log_event(LOG_WARN, "fetch_failed", F_STR("dest", name)); */
#define log_event(level, ...)                                                                      \
    do {                                                                                           \
        static struct log_site log_site_; /* mutable only as this call's rate limit */             \
        log_write(&log_site_, (level), LOG_ARGS_(__VA_ARGS__, F_END));                             \
    } while (0)
#define LOG_ARGS_(event, ...)                                                                      \
    event, (const struct log_field[])                                                              \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

/* What log_event calls; fields end with F_END. */
void log_write(struct log_site *site, enum log_level level, const char *event,
               const struct log_field *fields);
