/* Where each key of the configuration file stands, and whether it is a known one: libcyaml fills
 * the structs, but it names no line for an unknown key and nothing near it. */
#pragma once

#include "proto/own.h"
#include "proto/writer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONFIG_PATH_MAX = 128 }; /* bytes of "servers[3].signing.key_file" with its NUL */

struct config_line {
    char path[CONFIG_PATH_MAX];
    uint32_t line; /* from 1 */
};

/* Collects problems up to CONFIG_PROBLEMS_MAX. */
struct config_problems {
    const char *file;
    struct writer *out;
    unsigned n;
};

struct config_lines {
    struct config_line *list;
    size_t n;
    size_t capacity;
};

/* "FILE:LINE: ..."; without the line if that is 0. */
void config_problem(struct config_problems *problems, uint32_t line, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* Reads the whole text; unknown, unsupported and repeated keys, aliases and broken YAML are
 * problems. */
void config_lines_read(struct config_lines *out, struct span text,
                       struct config_problems *problems);
void config_lines_free(struct config_lines *lines);

/* The line of a path, or of the nearest thing around it; 0 if there is none. */
uint32_t config_lines_find(const struct config_lines *lines, const char *path);

struct config_number_row {
    const char *path;
    uint32_t initial, min, max;
    const char *unit;
};

enum config_number {
#define TEXT(path, initial, prose)
#define LATER(path, prose)
#define NUMBER(name, path, initial, min, max, unit, prose) CONFIG_##name,
#include "config_keys.def"
#undef TEXT
#undef LATER
#undef NUMBER
    CONFIG_NUMBER_COUNT
};

const struct config_number_row *config_number_row(enum config_number number);
