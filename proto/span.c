#include "proto/span.h"

int span_compare(struct span a, struct span b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);

    if (order != 0) {
        return order;
    }
    return (a.size > b.size) - (a.size < b.size);
}

char ascii_lower(char c)
{
    static const char lower[] = "abcdefghijklmnopqrstuvwxyz";

    if (c >= 'A' && c <= 'Z') {
        return lower[c - 'A'];
    }
    return c;
}

struct span span_lower(char *out, struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        out[i] = ascii_lower(text.data[i]);
    }
    return span_of(out, text.size);
}

bool span_equal_nocase(struct span a, struct span b)
{
    if (a.size != b.size) {
        return false;
    }
    for (size_t i = 0; i < a.size; i++) {
        if (ascii_lower(a.data[i]) != ascii_lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

struct span span_skip(struct span s, size_t from)
{
    if (from >= s.size) {
        return (struct span){s.data, 0};
    }
    return span_of(s.data + from, s.size - from);
}
