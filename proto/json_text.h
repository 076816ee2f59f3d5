/* How long what begins a piece of JSON text is. Source: RFC 8259. */
#pragma once

#include "proto/span.h"

#include <stddef.h>

/* Bytes of a string before the first that is a quote, a backslash, a control character or not
 * ASCII. */
size_t json_plain_length(struct span text);

/* Bytes of the multi-byte UTF-8 character that the text begins with; 0 if it begins with none. */
size_t json_multibyte_length(struct span text);

/* Bytes of the number token that the text begins with; 0 if it begins with none. */
size_t json_number_length(struct span text);
