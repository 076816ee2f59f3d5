/* A bounded, growing byte buffer whose first failure sticks: write all, check once at the end. */
#pragma once

#include "proto/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct writer {
    char *data;
    size_t size;     /* bytes written */
    size_t capacity; /* bytes allocated */
    size_t max;      /* bytes allowed; beyond it the writer fails */
    bool failed;     /* sticky */
};

void writer_init(struct writer *w, size_t max_bytes);
void writer_fini(struct writer *w);
void writer_reserve(struct writer *w, size_t n); /* room for n bytes in all, within its maximum */
void writer_reset(struct writer *w);             /* empties it, clears `failed`, keeps the memory */

/* Takes back what was written since it had that size, also if that failed. */
void writer_truncate(struct writer *w, size_t size);

void writer_bytes(struct writer *w, struct span bytes);
void writer_char(struct writer *w, char c);
void writer_u64(struct writer *w, uint64_t value);                 /* decimal */
void writer_i64(struct writer *w, int64_t value);                  /* decimal */
void writer_hex(struct writer *w, const uint8_t *bytes, size_t n); /* lower case */

/* A quoted JSON string in Matrix canonical form: \b \t \n \f \r \" \\ and \u00xx (lower-case hex)
 * for the other controls, everything else raw. The bytes must be UTF-8. */
void writer_json_string(struct writer *w, struct span utf8);

/* Valid until the next write. Only meaningful while !failed. */
struct span writer_span(const struct writer *w);
