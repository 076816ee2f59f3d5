/* The compiler extensions this project uses; nothing else may use any. */
#pragma once

#define MUST_CHECK                      __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))
#define NORETURN                        __attribute__((noreturn))

/* Seldom called: kept out of its callers, which are fast. */
#define APART __attribute__((noinline))

/* Runs free_fn(&variable) when the variable goes out of scope. */
#define AUTO(free_fn) __attribute__((cleanup(free_fn)))

/* Gives a pointer away: yields its value and leaves NULL behind. */
#define TAKE(var)                                                                                  \
    (__extension__({                                                                               \
        __typeof__(var) taken_ = (var);                                                            \
        (var) = NULL;                                                                              \
        taken_;                                                                                    \
    }))
