/* Base64 as Matrix writes it: unpadded standard alphabet out, anything honest in. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"
#include "proto/writer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Standard or URL-safe alphabet, padding optional, left-over bits ignored. *n is the number of
 * bytes written; false for other characters, an impossible length or more than `capacity` bytes.
 * Source: Matrix specification, appendices, "Unpadded Base64". */
MUST_CHECK bool base64_decode(uint8_t *out, size_t capacity, size_t *n, struct span text);

void base64_encode(struct writer *out, const uint8_t *bytes, size_t n);
