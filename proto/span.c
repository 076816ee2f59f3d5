#include "proto/span.h"

#include <strings.h>

int span_compare(struct span a, struct span b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);

    if (order != 0) {
        return order;
    }
    return (a.size > b.size) - (a.size < b.size);
}

bool span_equal_nocase(struct span a, struct span b)
{
    return a.size == b.size && (a.size == 0 || strncasecmp(a.data, b.data, a.size) == 0);
}

struct span span_skip(struct span s, size_t from)
{
    if (from >= s.size) {
        return (struct span){s.data, 0};
    }
    return span_of(s.data + from, s.size - from);
}
