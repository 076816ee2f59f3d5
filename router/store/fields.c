#include "store/fields.h"

void field_write_uint(struct writer *w, uint64_t value, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        writer_char(w, (char)(uint8_t)(value >> (8 * i)));
    }
}

void field_write_i64(struct writer *w, int64_t value)
{
    field_write_uint(w, (uint64_t)value, sizeof value);
}

struct span field_read_span(struct field_reader *r, size_t size)
{
    if (r->failed || size > r->left.size) {
        r->failed = true;
        return (struct span){0};
    }
    struct span taken = span_of(r->left.data, size);
    r->left = span_skip(r->left, size);
    return taken;
}

uint64_t field_read_uint(struct field_reader *r, size_t n_bytes)
{
    struct span bytes = field_read_span(r, n_bytes);
    uint64_t value = 0;

    for (size_t i = 0; i < bytes.size; i++) {
        value |= (uint64_t)(uint8_t)bytes.data[i] << (8 * i);
    }
    return value;
}

int64_t field_read_i64(struct field_reader *r)
{
    uint64_t bits = field_read_uint(r, sizeof bits);
    int64_t value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

void field_read_bytes(void *out, struct field_reader *r, size_t size)
{
    struct span bytes = field_read_span(r, size);

    if (size > 0 && bytes.size == size) {
        memcpy(out, bytes.data, size);
    }
}
