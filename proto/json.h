/* JSON documents, read only. */
#pragma once

#include "proto/arena.h"
#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Containers last. */
enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* One value of a document. Opaque; lives in the arena the document was parsed into. */
struct json_value;

enum json_error {
    JSON_OK,
    JSON_MALFORMED, /* not RFC 8259: includes invalid UTF-8, lone surrogates, a BOM, trailing bytes
                     */
    JSON_TOO_DEEP,  /* more than JSON_MAX_DEPTH containers inside each other */
    JSON_TOO_MANY,  /* more than JSON_MAX_VALUES values */
    JSON_NO_ROOM,   /* the arena's cap was reached, or the text is 4 GiB or more */
};

/* limits.md, "Transactions": beyond these a document is relayed unjudged. */
enum { JSON_MAX_DEPTH = 128, JSON_MAX_VALUES = 100000 };

/* Parses a whole document. Numbers are kept as their tokens. A document that is malformed is
 * JSON_MALFORMED whatever its size or depth. The text must outlive the document: strings without
 * escapes, and numbers, are views of it. */
MUST_CHECK enum json_error json_parse(const struct json_value **out, struct arena *arena,
                                      struct span text);

enum json_type json_type(const struct json_value *value);
bool json_is_object(const struct json_value *value); /* false for NULL */
bool json_is_array(const struct json_value *value);
bool json_is_string(const struct json_value *value);
bool json_bool(const struct json_value *value);

/* Unescaped UTF-8; may contain NUL bytes. Empty for anything but a string. */
struct span json_string(const struct json_value *value);

/* The token as it stood, e.g. "-0.0" or "1E5". Empty for anything but a number. */
struct span json_number_token(const struct json_value *value);

/* True and *out set if the value is an integer token ("-0" is not) within +-(2^53-1). */
MUST_CHECK bool json_integer(int64_t *out, const struct json_value *value);

/* Members of an object or elements of an array; 0 for anything else. */
size_t json_size(const struct json_value *value);

/* The first member of that name; NULL if there is none or the value is NULL or no object. */
const struct json_value *json_get(const struct json_value *object, struct span name);

/* json_get if it is a string; an empty span with NULL data otherwise. */
struct span json_get_string(const struct json_value *object, struct span name);

/* True if the names of the object ascend strictly, in byte order, so that none occurs twice; found
 * while reading, so this costs nothing. True for what is no object. */
bool json_is_sorted(const struct json_value *value);
/* The same of it and of all objects inside it. */
bool json_is_sorted_throughout(const struct json_value *value);

/* Of a whole document: whether its text is what canonical_encode would write, its names strictly
 * ascending; found while reading. */
bool json_is_canonical(const struct json_value *root);

/* True if a member name occurs twice in this object (not in its children). */
bool json_has_duplicate(const struct json_value *object);

struct json_iter {
    const struct json_value *at;
    size_t left;
    bool is_object;
};

/* For anything but an array or object (or NULL) the iteration is empty. */
struct json_iter json_iterate(const struct json_value *container);
/* False at the end. `name` may be NULL; for arrays it is set empty. */
bool json_next(struct json_iter *iter, struct span *name, const struct json_value **value);
