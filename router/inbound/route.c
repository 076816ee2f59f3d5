#include "inbound/route.h"

static struct span path_of(struct span target)
{
    const char *query = target.size == 0 ? NULL : memchr(target.data, '?', target.size);

    return query == NULL ? target : span_of(target.data, (size_t)(query - target.data));
}

static bool is_visible_ascii(struct span path)
{
    for (size_t i = 0; i < path.size; i++) {
        unsigned char c = (unsigned char)path.data[i];
        if (c <= 0x20 || c >= 0x7f || c == '\\' || c == '#') {
            return false;
        }
    }
    return true;
}

/* The segment that begins at `from`, without its slash. */
static struct span segment_at(struct span path, size_t from)
{
    struct span rest = span_skip(path, from);
    const char *slash = rest.size == 0 ? NULL : memchr(rest.data, '/', rest.size);

    return slash == NULL ? rest : span_of(rest.data, (size_t)(slash - rest.data));
}

static bool segments_are_plain(struct span path)
{
    size_t at = 1;

    while (at < path.size) {
        struct span segment = segment_at(path, at);
        bool is_last = at + segment.size >= path.size;
        if (span_equal(segment, SPAN_LIT(".")) || span_equal(segment, SPAN_LIT("..")) ||
            (segment.size == 0 && !is_last)) {
            return false;
        }
        at += segment.size + 1;
    }
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Takes one character of the path, percent-decoded as the homeserver decodes it before routing. */
static char take_decoded(struct span *rest)
{
    char c = rest->data[0];

    if (c == '%' && rest->size >= 3 && hex_digit(rest->data[1]) >= 0 &&
        hex_digit(rest->data[2]) >= 0) {
        c = (char)(hex_digit(rest->data[1]) * 16 + hex_digit(rest->data[2]));
        *rest = span_skip(*rest, 3);
        return c;
    }
    *rest = span_skip(*rest, 1);
    return c;
}

/* A homeserver may decode before it routes, so "/send%2F1" must not slip past the transaction
 * rules. */
static bool is_transaction(struct span path)
{
    static const struct span send = SPAN_INIT("/_matrix/federation/v1/send");

    for (size_t i = 0; i < send.size; i++) {
        if (path.size == 0 || take_decoded(&path) != send.data[i]) {
            return false;
        }
    }
    return path.size == 0 || take_decoded(&path) == '/';
}

static enum route_class refuse(enum reject *why, enum reject reason)
{
    *why = reason;
    return ROUTE_REFUSED;
}

enum route_class route_classify(enum reject *why, struct span method, struct span target)
{
    struct span path = path_of(target);

    *why = REJECT_NONE;
    if (path.size == 0 || path.data[0] != '/') {
        return refuse(why, REJECT_NOT_RELAYED);
    }
    if (span_equal(target, SPAN_LIT("/health"))) {
        bool may_read = span_equal(method, SPAN_LIT("GET")) || span_equal(method, SPAN_LIT("HEAD"));
        return may_read ? ROUTE_HEALTH : refuse(why, REJECT_NOT_RELAYED);
    }
    if (!is_visible_ascii(path) || !segments_are_plain(path)) {
        return refuse(why, REJECT_BAD_PATH);
    }
    if (span_starts_with(path, SPAN_LIT("/_matrix/federation/"))) {
        return is_transaction(path) ? ROUTE_TRANSACTION : ROUTE_FEDERATION;
    }
    if (span_starts_with(path, SPAN_LIT("/_matrix/key/"))) {
        return ROUTE_KEY;
    }
    if (span_starts_with(path, SPAN_LIT("/_matrix/media/"))) {
        return ROUTE_MEDIA;
    }
    return refuse(why, REJECT_NOT_RELAYED);
}

struct span route_host_without_port(struct span host)
{
    for (size_t i = host.size; i > 0; i--) {
        char c = host.data[i - 1];
        if (c == ':') {
            return span_of(host.data, i - 1);
        }
        if (c < '0' || c > '9') {
            break;
        }
    }
    return host;
}

bool route_host_matches(struct span entry, struct span host)
{
    if (span_equal_nocase(entry, host)) {
        return true;
    }
    return route_host_without_port(entry).size == entry.size &&
           span_equal_nocase(entry, route_host_without_port(host));
}
