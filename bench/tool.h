/* What both tools need of the system: options, a core of their own, the time, a way to give up. */
#pragma once

#include "proto/own.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Says it on standard error and ends with status 2. */
NORETURN PRINTF_LIKE(1, 2) void die(const char *format, ...);

enum option_kind { OPTION_FLAG, OPTION_NUMBER, OPTION_TEXT, OPTION_HEADING };

/* The same, with what errno says. */
NORETURN void die_of_errno(const char *what);

/* --NAME VALUE. */
struct option_row {
    const char *name;
    enum option_kind kind;
    union {
        bool *flag;
        uint64_t *number;
        const char **text;
    } out;
    uint64_t min, max; /* of a number */
    const char *help;
};

/* Dies of anything it does not know; --help prints the rows and ends the program. */
void options_read(const struct option_row *rows, size_t n, const char *what_for, int argc,
                  char **argv);

/* The index of the text in the NULL-terminated names; dies if there is none. */
unsigned option_choice(const char *option, const char *text, const char *const *names);

/* On no other core from now on. */
void pin_to_cpu(uint64_t cpu);

/* Timers fire when they are due instead of up to 50 us later. */
void be_punctual(void);

uint64_t now_ns(void); /* monotonic */
struct timespec timespec_of_ns(uint64_t ns);

/* Descriptors for thousands of connections. */
void raise_file_limit(void);
