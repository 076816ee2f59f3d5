/* A borrowed run of bytes: not terminated, never owned. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct span {
    const char *data; /* may be NULL only if size is 0 */
    size_t size;      /* bytes */
};

#define SPAN_LIT(literal) ((struct span){"" literal "", sizeof(literal) - 1})

/* The same as an initializer, for static tables. */
#define SPAN_INIT(literal) {"" literal "", sizeof(literal) - 1}

static inline struct span span_of(const void *data, size_t size)
{
    return (struct span){data, size};
}

static inline struct span span_str(const char *terminated)
{
    return (struct span){terminated, strlen(terminated)};
}

static inline bool span_equal(struct span a, struct span b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool span_starts_with(struct span s, struct span prefix)
{
    return s.size >= prefix.size && span_equal(span_of(s.data, prefix.size), prefix);
}

/* Byte order, which for UTF-8 is the order of Unicode code points. <0, 0, >0 as memcmp. */
int span_compare(struct span a, struct span b);

/* Letters of ASCII alone, whatever the locale. */
char ascii_lower(char c);
struct span span_lower(char *out, struct span text); /* out: text.size bytes */
bool span_equal_nocase(struct span a, struct span b);

/* The part from byte `from` on; empty if the span is shorter. */
struct span span_skip(struct span s, size_t from);
