/* What records are made of: integers, little endian, and runs of bytes. */
#pragma once

#include "proto/span.h"
#include "proto/writer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void field_write_uint(struct writer *w, uint64_t value, size_t n_bytes); /* at most 8 */
void field_write_i64(struct writer *w, int64_t value);

/* What is left of a record; the first failure sticks, and what is read from then on is 0 or empty.
 */
struct field_reader {
    struct span left;
    bool failed;
};

struct span field_read_span(struct field_reader *r, size_t size);
uint64_t field_read_uint(struct field_reader *r, size_t n_bytes); /* at most 8 */
int64_t field_read_i64(struct field_reader *r);
void field_read_bytes(void *out, struct field_reader *r, size_t size); /* untouched on failure */
