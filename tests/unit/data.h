/* Files of tests/data for unit tests. */
#pragma once

#include "proto/arena.h"
#include "proto/check.h"
#include "proto/json.h"

#include <stdio.h>
#include <stdlib.h>

/* The parsed document of tests/data/NAME; a missing or malformed file aborts the test. */
static inline const struct json_value *data_json(struct arena *arena, const char *path)
{
    FILE *file = fopen(path, "rbe");
    CHECK(file != NULL);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    long size = ftell(file);
    CHECK(size > 0 && fseek(file, 0, SEEK_SET) == 0);
    char *text = arena_alloc(arena, (size_t)size);
    CHECK(text != NULL && fread(text, 1, (size_t)size, file) == (size_t)size);
    fclose(file);
    const struct json_value *root = NULL;
    CHECK(json_parse(&root, arena, span_of(text, (size_t)size)) == JSON_OK);
    return root;
}
