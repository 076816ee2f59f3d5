#include "bench/tool.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2); /* NOLINT(concurrency-mt-unsafe): nothing is to be saved */
}

void die_of_errno(const char *what)
{
    die("%s: %s", what, strerrordesc_np(errno));
}

static void print_value(const struct option_row *row)
{
    if (row->kind == OPTION_NUMBER) {
        printf(" [%" PRIu64 "]", *row->out.number);
    } else if (row->kind == OPTION_TEXT && *row->out.text != NULL) {
        printf(" [%s]", *row->out.text);
    }
}

static NORETURN void print_help(const struct option_row *rows, size_t n, const char *what_for)
{
    printf("%s\n", what_for);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].kind == OPTION_HEADING) {
            printf("\n%s\n", rows[i].help);
            continue;
        }
        printf("  --%-18s %s", rows[i].name, rows[i].help);
        print_value(&rows[i]);
        printf("\n");
    }
    exit(0); /* NOLINT(concurrency-mt-unsafe): before any thread */
}

static uint64_t number_of(const struct option_row *row, const char *text)
{
    char *end = NULL;

    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < row->min ||
        value > row->max) {
        die("--%s: %s is not a number from %" PRIu64 " to %" PRIu64, row->name, text, row->min,
            row->max);
    }
    return value;
}

static const struct option_row *find(const struct option_row *rows, size_t n, const char *given)
{
    for (size_t i = 0; i < n; i++) {
        if (rows[i].kind != OPTION_HEADING && strncmp(given, "--", 2) == 0 &&
            strcmp(given + 2, rows[i].name) == 0) {
            return &rows[i];
        }
    }
    die("%s: no such option; --help lists them", given);
}

void options_read(const struct option_row *rows, size_t n, const char *what_for, int argc,
                  char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            print_help(rows, n, what_for);
        }
        const struct option_row *row = find(rows, n, argv[i]);
        if (row->kind == OPTION_FLAG) {
            *row->out.flag = true;
            continue;
        }
        if (++i == argc) {
            die("--%s: its value is missing", row->name);
        }
        if (row->kind == OPTION_NUMBER) {
            *row->out.number = number_of(row, argv[i]);
        } else {
            *row->out.text = argv[i];
        }
    }
}

unsigned option_choice(const char *option, const char *text, const char *const *names)
{
    for (unsigned i = 0; names[i] != NULL; i++) {
        if (strcmp(text, names[i]) == 0) {
            return i;
        }
    }
    fprintf(stderr, "--%s is one of:", option);
    for (unsigned i = 0; names[i] != NULL; i++) {
        fprintf(stderr, " %s", names[i]);
    }
    die(" (not %s)", text);
}

void pin_to_cpu(uint64_t cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        die("core %" PRIu64 " is not to be had", cpu);
    }
}

void be_punctual(void)
{
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
}

uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

struct timespec timespec_of_ns(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000U),
                             .tv_nsec = (long)(ns % 1000000000U)};
}

void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}
