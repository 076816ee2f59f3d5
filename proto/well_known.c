#include "proto/well_known.h"

#include "proto/ident.h"
#include "proto/json.h"

enum {
    DAY_S = 24 * 3600,
    DIGITS_MAX = 9,   /* of a max-age; more is as good as for ever */
    DATE_LENGTH = 29, /* of "Sun, 06 Nov 1994 08:49:37 GMT" */
    LIFETIME_MAX_S = 1000 * 1000 * 1000,
};

bool well_known_decode(struct span *out, struct arena *arena, struct span body)
{
    const struct json_value *root = NULL;

    if (body.size > WELL_KNOWN_SIZE_MAX || json_parse(&root, arena, body) != JSON_OK ||
        json_has_duplicate(root)) {
        return false;
    }
    struct span name = json_get_string(root, SPAN_LIT("m.server"));
    if (name.data == NULL || !server_name_is_valid(name)) {
        return false;
    }
    *out = name;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The digits at the front; -1 if there is none. */
static int64_t number_at_front(struct span text)
{
    int64_t value = 0;
    size_t n = 0;

    while (n < text.size && is_digit(text.data[n])) {
        if (n < DIGITS_MAX) {
            value = value * 10 + (text.data[n] - '0');
        } else {
            value = LIFETIME_MAX_S;
        }
        n++;
    }
    return n == 0 ? -1 : value;
}

static struct span trim(struct span text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text = span_skip(text, 1);
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

/* Takes one directive off the front of a list. */
static struct span take_directive(struct span *list)
{
    const char *comma = list->size == 0 ? NULL : memchr(list->data, ',', list->size);
    size_t n = comma == NULL ? list->size : (size_t)(comma - list->data);
    struct span directive = trim(span_of(list->data, n));

    *list = span_skip(*list, comma == NULL ? n : n + 1);
    return directive;
}

/* -1: nothing is said. */
static int64_t cache_control_s(struct span list)
{
    static const struct span max_age = SPAN_INIT("max-age=");
    int64_t lifetime = -1;

    while (list.size > 0) {
        struct span directive = take_directive(&list);
        if (span_equal_nocase(directive, SPAN_LIT("no-store")) ||
            span_equal_nocase(directive, SPAN_LIT("no-cache"))) {
            return 0;
        }
        if (directive.size > max_age.size &&
            span_equal_nocase(span_of(directive.data, max_age.size), max_age)) {
            struct span value = span_skip(directive, max_age.size);
            value = value.data[0] == '"' ? span_skip(value, 1) : value;
            int64_t seconds = number_at_front(value);
            lifetime = seconds < 0 ? 0 : seconds;
        }
    }
    return lifetime;
}

/* -1 if they are no digits. */
static int64_t digits(struct span text, size_t at, size_t n)
{
    for (size_t i = at; i < at + n; i++) {
        if (!is_digit(text.data[i])) {
            return -1;
        }
    }
    return number_at_front(span_of(text.data + at, n));
}

/* From 0; -1 if it is none. */
static int64_t month_of(struct span name)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (size_t i = 0; i < 12; i++) {
        if (span_equal(name, span_of(names + i * 3, 3))) {
            return (int64_t)i;
        }
    }
    return -1;
}

/* Days from 1970-01-01 in the Gregorian calendar. Years begin with March here, so that the leap day
 * is their last. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month < 2 ? year - 1 : year;
    int64_t m = (month + 10) % 12;
    int64_t era = y / 400;
    int64_t of_era = y - era * 400;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day - 1 -
           719468;
}

/* s since 1970; -1 if it is no date of RFC 9110's preferred form. */
static int64_t date_s(struct span text)
{
    if (text.size != DATE_LENGTH || !span_equal(span_of(text.data + 25, 4), SPAN_LIT(" GMT"))) {
        return -1;
    }
    int64_t day = digits(text, 5, 2);
    int64_t month = month_of(span_of(text.data + 8, 3));
    int64_t year = digits(text, 12, 4);
    int64_t hour = digits(text, 17, 2);
    int64_t minute = digits(text, 20, 2);
    int64_t second = digits(text, 23, 2);
    if (day < 1 || day > 31 || month < 0 || year < 1970 || hour < 0 || hour > 23 || minute < 0 ||
        minute > 59 || second < 0 || second > 60) {
        return -1;
    }
    return days_of(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second;
}

int64_t http_lifetime_s(struct span cache_control, struct span expires, int64_t now_s)
{
    int64_t lifetime = cache_control_s(cache_control);

    if (lifetime >= 0 || expires.size == 0) {
        return lifetime;
    }
    int64_t end = date_s(trim(expires));
    return end > now_s ? end - now_s : 0;
}
