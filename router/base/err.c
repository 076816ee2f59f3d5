#include "base/err.h"

#include "base/log.h"
#include "proto/check.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    TEXT_MAX = 240, /* bytes of a message; the rest is cut */
    N_SITES = 64,   /* rate limits shared by all places that raise, found by line */
};

static const char *const labels[ERR_COUNT] = {
    [ERR_OK] = "ok",           [ERR_FULL] = "full",
    [ERR_IO] = "io",           [ERR_TLS] = "tls",
    [ERR_TIMEOUT] = "timeout", [ERR_CLOSED] = "closed",
    [ERR_CONFIG] = "config",   [ERR_NOT_FOUND] = "not_found",
    [ERR_CORRUPT] = "corrupt", [ERR_NO_MEMORY] = "no_memory",
};

const char *err_label(enum err code)
{
    CHECK(code < ERR_COUNT);
    return labels[code];
}

enum err err_raise_at(enum err code, const char *file, int line, const char *format, ...)
{
    /* Mutable only as a rate limit, like the one inside log_event. */
    static struct log_site sites[N_SITES];
    char text[TEXT_MAX];
    va_list args;

    CHECK(code != ERR_OK && code < ERR_COUNT);
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const struct log_field fields[] = {F_STR("code", err_label(code)), F_STR("text", text),
                                       F_STR("file", file), F_I64("line", line), F_END};
    log_write(&sites[(unsigned)line % N_SITES], LOG_ERROR, "error", fields);
    return code;
}
