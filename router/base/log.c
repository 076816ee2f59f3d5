#include "base/log.h"

#include "base/clock.h"
#include "proto/check.h"
#include "proto/writer.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {
    [LOG_DEBUG] = "debug",
    [LOG_INFO] = "info",
    [LOG_WARN] = "warn",
    [LOG_ERROR] = "error",
};

/* The one setting that every thread reads: written once at start, so that no call needs a handle.
 */
static atomic_int least_level = LOG_INFO;

void log_init(enum log_level level)
{
    atomic_store_explicit(&least_level, (int)level, memory_order_relaxed);
}

bool log_level_parse(enum log_level *out, struct span name)
{
    for (int level = LOG_DEBUG; level <= LOG_ERROR; level++) {
        if (span_equal(name, span_str(level_names[level]))) {
            *out = (enum log_level)level;
            return true;
        }
    }
    return false;
}

/* False if this line is over the limit. *suppressed is what was dropped before this one. */
static bool may_log(struct log_site *site, uint64_t *suppressed)
{
    uint64_t second = clock_monotonic_us() / 1000000;

    if (atomic_load_explicit(&site->second, memory_order_relaxed) != second) {
        atomic_store_explicit(&site->second, second, memory_order_relaxed);
        atomic_store_explicit(&site->lines, 0, memory_order_relaxed);
    }
    if (atomic_fetch_add_explicit(&site->lines, 1, memory_order_relaxed) >= LOG_LINES_PER_S) {
        atomic_fetch_add_explicit(&site->suppressed, 1, memory_order_relaxed);
        return false;
    }
    *suppressed = atomic_exchange_explicit(&site->suppressed, 0, memory_order_relaxed);
    return true;
}

/* Values may be any bytes: those outside ASCII become \u00xx, so that a line is always JSON. */
static void write_text(struct writer *w, struct span text)
{
    size_t size = text.size < LOG_VALUE_MAX ? text.size : LOG_VALUE_MAX;

    writer_char(w, '"');
    for (size_t i = 0; i < size; i++) {
        uint8_t c = (uint8_t)text.data[i];
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\') {
            writer_bytes(w, SPAN_LIT("\\u00"));
            writer_hex(w, &c, 1);
        } else {
            writer_char(w, (char)c);
        }
    }
    writer_char(w, '"');
}

static void write_value(struct writer *w, const struct log_field *field)
{
    switch (field->type) {
    case LOG_TYPE_TEXT:
        write_text(w, field->text);
        break;
    case LOG_TYPE_U64:
        writer_u64(w, field->u64);
        break;
    case LOG_TYPE_I64:
        writer_i64(w, field->i64);
        break;
    case LOG_TYPE_BOOL:
        writer_bytes(w, field->i64 != 0 ? SPAN_LIT("true") : SPAN_LIT("false"));
        break;
    case LOG_TYPE_END:
    default:
        CHECK(false);
    }
}

static void write_field(struct writer *w, const struct log_field *field)
{
    writer_char(w, ',');
    write_text(w, span_str(field->key));
    writer_char(w, ':');
    write_value(w, field);
}

/* RFC 3339, UTC, in ms. */
static void write_time(struct writer *w)
{
    int64_t now = clock_ms();
    time_t seconds = (time_t)(now / 1000);
    struct tm utc;
    char text[40];

    CHECK(gmtime_r(&seconds, &utc) != NULL);
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + n, sizeof text - n, ".%03dZ", (int)(now % 1000));
    writer_bytes(w, SPAN_LIT("{\"time\":"));
    write_text(w, span_str(text));
}

static void send_line(const struct writer *w)
{
    /* One write, so that lines of several threads do not mix. There is nowhere to report a log
     * that cannot be written. */
    ssize_t n = write(STDERR_FILENO, w->data, w->size);
    (void)n;
}

void log_write(struct log_site *site, enum log_level level, const char *event,
               const struct log_field *fields)
{
    uint64_t suppressed = 0;
    struct writer w;

    if ((int)level < atomic_load_explicit(&least_level, memory_order_relaxed) ||
        !may_log(site, &suppressed)) {
        return;
    }
    writer_init(&w, LOG_LINE_MAX);
    write_time(&w);
    write_field(&w, &F_STR("level", level_names[level]));
    write_field(&w, &F_STR("event", event));
    for (; fields->type != LOG_TYPE_END; fields++) {
        write_field(&w, fields);
    }
    if (suppressed > 0) {
        write_field(&w, &F_U64("suppressed", suppressed));
    }
    writer_bytes(&w, SPAN_LIT("}\n"));
    if (!w.failed) {
        send_line(&w);
    }
    writer_fini(&w);
}
