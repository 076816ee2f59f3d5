#include "config_lines.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "config.h"
#include "proto/check.h"

enum {
    DEPTH_MAX = 8,      /* containers inside each other; the deepest known key needs 5 */
    KEY_MAX = 64,       /* bytes of a key that is compared */
    NEAR_MAX = 3,       /* edits between a key and the one that may be meant */
    MESSAGE_MAX = 512,  /* bytes of one problem */
    LINES_MAX = 200000, /* keys and list entries in one file */
};

struct key_row {
    const char *path;
    bool is_later;
};

static const struct key_row keys[] = {
#define TEXT(path, initial, prose)                         {path, false},
#define NUMBER(name, path, initial, min, max, unit, prose) {path, false},
#define LATER(path, prose)                                 {path, true},
#include "config_keys.def"
#undef TEXT
#undef NUMBER
#undef LATER
};

enum { N_KEYS = sizeof keys / sizeof keys[0] };

static const struct config_number_row numbers[] = {
#define TEXT(path, initial, prose)
#define LATER(path, prose)
#define NUMBER(name, path, initial, min, max, unit, prose) {path, initial, min, max, unit},
#include "config_keys.def"
#undef TEXT
#undef NUMBER
#undef LATER
};

const struct config_number_row *config_number_row(enum config_number number)
{
    CHECK(number < CONFIG_NUMBER_COUNT);
    return &numbers[number];
}

void config_problem(struct config_problems *problems, uint32_t line, const char *fmt, ...)
{
    char text[MESSAGE_MAX];
    va_list args;

    problems->n++;
    if (problems->n > CONFIG_PROBLEMS_MAX) {
        return;
    }
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ') {
            *at = '?'; /* one problem, one line */
        }
    }
    writer_bytes(problems->out, span_str(problems->file));
    if (line > 0) {
        writer_char(problems->out, ':');
        writer_u64(problems->out, line);
    }
    writer_bytes(problems->out, SPAN_LIT(": "));
    writer_bytes(problems->out, span_str(text));
    writer_char(problems->out, '\n');
}

/* A mapping or sequence that is open. `path` and `schema` are those of the child at hand: with
 * and without the numbers of list entries. */
struct frame {
    bool is_sequence;
    bool has_key;  /* in a mapping: a value comes next */
    bool unwanted; /* the value belongs to a key that was refused */
    uint32_t index;
    size_t first_line; /* where this container's entries begin */
    char base[CONFIG_PATH_MAX], base_schema[CONFIG_PATH_MAX];
    char path[CONFIG_PATH_MAX], schema[CONFIG_PATH_MAX];
};

struct scan {
    struct config_lines *lines;
    struct config_problems *problems;
    struct frame stack[DEPTH_MAX];
    size_t depth;
    size_t skipping; /* containers open inside an unwanted value */
};

static const struct key_row *find_key(const char *schema)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        if (strcmp(keys[i].path, schema) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

/* Edits between two words (Levenshtein), one row of the matrix at a time. */
static unsigned edits_between(const char *a, const char *b)
{
    unsigned row[KEY_MAX + 1];
    size_t n = strlen(b);

    if (n > KEY_MAX || strlen(a) > KEY_MAX) {
        return KEY_MAX;
    }
    for (unsigned j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; a[i - 1] != '\0'; i++) {
        unsigned corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            unsigned least = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            least = row[j] + 1 < least ? row[j] + 1 : least;
            row[j] = row[j - 1] + 1 < least ? row[j - 1] + 1 : least;
        }
    }
    return row[n];
}

/* The last word of a path if its parent is `base`, else NULL. */
static const char *child_of(const char *path, const char *base)
{
    size_t n = strlen(base);

    if (strncmp(path, base, n) != 0 || (n > 0 && path[n] != '.')) {
        return NULL;
    }
    const char *word = n > 0 ? path + n + 1 : path;
    return strchr(word, '.') == NULL ? word : NULL;
}

static void report_unknown(struct scan *s, const struct frame *f, const char *key, uint32_t line)
{
    const char *nearest = NULL;
    unsigned least = NEAR_MAX + 1;
    const char *shown = f->path[0] != '\0' ? f->path : key;

    for (size_t i = 0; i < N_KEYS; i++) {
        const char *word = child_of(keys[i].path, f->base_schema);
        if (word == NULL) {
            continue;
        }
        unsigned edits = edits_between(key, word);
        if (edits < least && edits < strlen(word)) {
            least = edits;
            nearest = word;
        }
    }
    if (nearest != NULL) {
        config_problem(s->problems, line, "unknown key '%s'; did you mean '%s'?", shown, nearest);
    } else {
        config_problem(s->problems, line, "unknown key '%s'", shown);
    }
}

static bool is_repeated(const struct scan *s, const struct frame *f)
{
    for (size_t i = f->first_line; i < s->lines->n; i++) {
        if (strcmp(s->lines->list[i].path, f->path) == 0) {
            return true;
        }
    }
    return false;
}

static void add_line(struct scan *s, const char *path, uint32_t line)
{
    struct config_lines *lines = s->lines;

    if (lines->n == lines->capacity) {
        lines->capacity = lines->capacity == 0 ? 64 : lines->capacity * 2;
        lines->list = realloc(lines->list, lines->capacity * sizeof lines->list[0]);
        CHECK(lines->list != NULL);
    }
    snprintf(lines->list[lines->n].path, CONFIG_PATH_MAX, "%s", path);
    lines->list[lines->n].line = line;
    lines->n++;
}

/* False if the result was cut. */
static bool join(char out[CONFIG_PATH_MAX], const char *base, const char *key)
{
    /* By way of an array of its own: gcc takes the arrays of one frame for overlapping. */
    char joined[CONFIG_PATH_MAX];
    int n = snprintf(joined, sizeof joined, "%s%s%s", base, base[0] != '\0' ? "." : "", key);

    memcpy(out, joined, (size_t)(n < CONFIG_PATH_MAX ? n : CONFIG_PATH_MAX - 1) + 1);
    return n < CONFIG_PATH_MAX;
}

static void on_key(struct scan *s, struct frame *f, const char *key, uint32_t line)
{
    bool whole = join(f->path, f->base, key) && join(f->schema, f->base_schema, key);
    const struct key_row *row = whole ? find_key(f->schema) : NULL;

    f->has_key = true;
    f->unwanted = true;
    if (row == NULL) {
        report_unknown(s, f, key, line);
    } else if (row->is_later) {
        config_problem(s->problems, line, "'%s' is not supported by this version yet", f->path);
    } else if (is_repeated(s, f)) {
        config_problem(s->problems, line, "'%s' is given twice", f->path);
    } else {
        add_line(s, f->path, line);
        f->unwanted = false;
    }
}

/* Names the next entry of a sequence. */
static void on_entry(struct scan *s, struct frame *f, uint32_t line)
{
    snprintf(f->path, CONFIG_PATH_MAX, "%.*s[%u]", CONFIG_PATH_MAX - 16, f->base, f->index);
    snprintf(f->schema, CONFIG_PATH_MAX, "%.*s[]", CONFIG_PATH_MAX - 16, f->base_schema);
    f->index++;
    add_line(s, f->path, line);
}

static struct frame *top(struct scan *s)
{
    return s->depth > 0 ? &s->stack[s->depth - 1] : NULL;
}

static void value_done(struct scan *s)
{
    struct frame *f = top(s);

    if (f != NULL) {
        f->has_key = false;
        f->unwanted = false;
    }
}

static void on_scalar(struct scan *s, const yaml_event_t *event, uint32_t line)
{
    struct frame *f = top(s);

    if (s->skipping > 0) {
        return;
    }
    if (f == NULL) {
        config_problem(s->problems, line, "a mapping is expected here");
    } else if (f->is_sequence) {
        on_entry(s, f, line);
    } else if (!f->has_key) {
        on_key(s, f, (const char *)event->data.scalar.value, line);
    } else {
        value_done(s);
    }
}

static void push(struct scan *s, bool is_sequence)
{
    const struct frame *parent = top(s);
    struct frame *f = &s->stack[s->depth];

    memset(f, 0, sizeof *f);
    f->is_sequence = is_sequence;
    f->first_line = s->lines->n;
    if (parent != NULL) {
        memcpy(f->base, parent->path, CONFIG_PATH_MAX);
        memcpy(f->base_schema, parent->schema, CONFIG_PATH_MAX);
    }
    s->depth++;
}

static void on_start(struct scan *s, bool is_sequence, uint32_t line)
{
    struct frame *f = top(s);

    if (s->skipping > 0) {
        s->skipping++;
        return;
    }
    if (f == NULL && is_sequence) {
        config_problem(s->problems, line, "a mapping is expected here");
    }
    if (f != NULL && !f->is_sequence && !f->has_key) {
        config_problem(s->problems, line, "a key must be a plain word");
        f->has_key = true;
        f->unwanted = true;
        s->skipping = 1;
        return;
    }
    if (f != NULL && f->is_sequence) {
        on_entry(s, f, line);
    }
    if (s->depth == DEPTH_MAX) {
        config_problem(s->problems, line, "nested too deeply");
    }
    if (s->depth == DEPTH_MAX || (f != NULL && f->unwanted)) {
        s->skipping = 1;
        return;
    }
    push(s, is_sequence);
}

static void on_end(struct scan *s)
{
    if (s->skipping == 0) {
        CHECK(s->depth > 0);
        s->depth--;
        value_done(s);
        return;
    }
    s->skipping--;
    if (s->skipping == 0) {
        value_done(s);
    }
}

/* False at the end. */
static bool on_event(struct scan *s, const yaml_event_t *event)
{
    uint32_t line = (uint32_t)event->start_mark.line + 1;

    if (event->type == YAML_SCALAR_EVENT) {
        on_scalar(s, event, line);
    } else if (event->type == YAML_SEQUENCE_START_EVENT ||
               event->type == YAML_MAPPING_START_EVENT) {
        on_start(s, event->type == YAML_SEQUENCE_START_EVENT, line);
    } else if (event->type == YAML_SEQUENCE_END_EVENT || event->type == YAML_MAPPING_END_EVENT) {
        on_end(s);
    } else if (event->type == YAML_ALIAS_EVENT) {
        config_problem(s->problems, line, "aliases (*name) are not supported");
    }
    /* One document: libcyaml reads no further either. */
    if (event->type == YAML_DOCUMENT_END_EVENT || event->type == YAML_STREAM_END_EVENT ||
        event->type == YAML_ALIAS_EVENT) {
        return false;
    }
    return s->problems->n <= CONFIG_PROBLEMS_MAX && s->lines->n < LINES_MAX;
}

void config_lines_read(struct config_lines *out, struct span text, struct config_problems *problems)
{
    struct scan s = {.lines = out, .problems = problems};
    yaml_parser_t parser;
    bool more = true;

    memset(out, 0, sizeof *out);
    CHECK(yaml_parser_initialize(&parser) == 1);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.data, text.size);
    while (more) {
        yaml_event_t event;
        if (yaml_parser_parse(&parser, &event) == 0) {
            config_problem(problems, (uint32_t)parser.problem_mark.line + 1, "not YAML: %s",
                           parser.problem != NULL ? parser.problem : "cannot be read");
            break;
        }
        more = on_event(&s, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (out->n >= LINES_MAX) {
        config_problem(problems, 0, "more than %d keys and entries", LINES_MAX);
    }
}

void config_lines_free(struct config_lines *lines)
{
    free(lines->list);
    memset(lines, 0, sizeof *lines);
}

uint32_t config_lines_find(const struct config_lines *lines, const char *path)
{
    size_t best = 0;
    uint32_t line = 0;

    for (size_t i = 0; i < lines->n; i++) {
        size_t n = strlen(lines->list[i].path);
        if (n >= best && strncmp(lines->list[i].path, path, n) == 0 &&
            (path[n] == '\0' || path[n] == '.' || path[n] == '[')) {
            best = n;
            line = lines->list[i].line;
        }
    }
    return line;
}
