#include "proto/writer.h"

#include "proto/check.h"
#include "proto/json_text.h"
#include "proto/own.h"

#include <stdlib.h>

enum { FIRST_CAPACITY = 256 /* bytes */ };

void writer_init(struct writer *w, size_t max_bytes)
{
    *w = (struct writer){.max = max_bytes};
}

void writer_fini(struct writer *w)
{
    free(w->data);
    *w = (struct writer){0};
}

void writer_reset(struct writer *w)
{
    writer_truncate(w, 0);
}

void writer_truncate(struct writer *w, size_t size)
{
    CHECK(size <= w->size);
    w->size = size;
    w->failed = false;
}

static void grow_to(struct writer *w, size_t capacity)
{
    w->data = realloc(w->data, capacity);
    CHECK(w->data != NULL);
    w->capacity = capacity;
}

void writer_reserve(struct writer *w, size_t n)
{
    if (n > w->capacity && n <= w->max) {
        grow_to(w, n);
    }
}

APART static bool grow(struct writer *w, size_t more)
{
    if (w->failed || more > w->max - w->size) {
        w->failed = true;
        return false;
    }
    size_t first = w->max < FIRST_CAPACITY ? w->max : FIRST_CAPACITY;
    size_t capacity = w->capacity == 0 ? first : w->capacity;
    while (capacity < w->size + more) {
        capacity = capacity > w->max / 2 ? w->max : capacity * 2;
    }
    grow_to(w, capacity);
    return true;
}

/* The capacity is never more than the maximum. */
static inline bool make_room(struct writer *w, size_t more)
{
    return (more <= w->capacity - w->size && !w->failed) || grow(w, more);
}

void writer_bytes(struct writer *w, struct span bytes)
{
    if (bytes.size != 0 && make_room(w, bytes.size)) {
        memcpy(w->data + w->size, bytes.data, bytes.size);
        w->size += bytes.size;
    }
}

void writer_char(struct writer *w, char c)
{
    if (make_room(w, 1)) {
        w->data[w->size++] = c;
    }
}

void writer_u64(struct writer *w, uint64_t value)
{
    char digits[20]; /* of 2^64 - 1 */
    size_t n = sizeof digits;

    do {
        digits[--n] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    writer_bytes(w, span_of(digits + n, sizeof digits - n));
}

void writer_i64(struct writer *w, int64_t value)
{
    if (value < 0) {
        writer_char(w, '-');
    }
    writer_u64(w, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

static const char hex_digits[] = "0123456789abcdef";

void writer_hex(struct writer *w, const uint8_t *bytes, size_t n)
{
    if (!make_room(w, 2 * n)) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        w->data[w->size++] = hex_digits[bytes[i] >> 4];
        w->data[w->size++] = hex_digits[bytes[i] & 15];
    }
}

/* Only for controls, quotes and backslashes. */
static void write_escape(struct writer *w, unsigned char c)
{
    static const char letters[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f',
                                   ['\r'] = 'r', ['"'] = '"',  ['\\'] = '\\'};

    writer_char(w, '\\');
    if (letters[c] != 0) {
        writer_char(w, letters[c]);
        return;
    }
    writer_bytes(w, SPAN_LIT("u00"));
    writer_hex(w, &c, 1);
}

/* Between the quotes. */
APART static void write_odd_string(struct writer *w, struct span utf8)
{
    size_t plain_from = 0;

    for (size_t i = 0; i < utf8.size; i++) {
        unsigned char c = (unsigned char)utf8.data[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        writer_bytes(w, span_of(utf8.data + plain_from, i - plain_from));
        write_escape(w, c);
        plain_from = i + 1;
    }
    writer_bytes(w, span_skip(utf8, plain_from));
}

void writer_json_string(struct writer *w, struct span utf8)
{
    size_t plain = json_plain_length(utf8);

    writer_char(w, '"');
    if (plain == utf8.size) {
        writer_bytes(w, utf8);
    } else {
        write_odd_string(w, utf8);
    }
    writer_char(w, '"');
}

struct span writer_span(const struct writer *w)
{
    return span_of(w->data, w->size);
}
