/* Matrix canonical JSON, the form that signatures are made over. */
#pragma once

#include "proto/arena.h"
#include "proto/json.h"
#include "proto/own.h"
#include "proto/span.h"
#include "proto/writer.h"

#include <stdbool.h>

/* Writes the value with sorted names, no white space and the shortest escapes. Number tokens stay
 * as they are (Go's homeservers sign them so; Python's re-encode what is no integer: see
 * canonical_has_odd_number). Of names given twice the last one's value stands, as Python and Go
 * read them. Iterative; scratch memory from the arena. False if the arena or the writer is full.
 * Source: Matrix specification, appendices, "Canonical JSON". */
MUST_CHECK bool canonical_encode(struct writer *out, struct arena *arena,
                                 const struct json_value *value);

/* True if the document has a number token that is not -?(0|[1-9][0-9]*), or is "-0": the signer
 * may have signed another spelling of it, so only the homeserver can tell. */
bool canonical_has_odd_number(const struct json_value *value);

enum canonical {
    CANONICAL_YES,
    CANONICAL_NO,       /* another spelling of a document, or no document at all */
    CANONICAL_TOO_DEEP, /* more than JSON_MAX_DEPTH containers; what follows was not looked at */
};

/* Whether the text is already what canonical_encode would write, its names strictly ascending: then
 * its own bytes are what was signed. One pass, no memory. The number of values is not bounded. */
enum canonical canonical_check(struct span text);
