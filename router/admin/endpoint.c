#include "admin/endpoint.h"

#include "proto/ident.h"

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

/* False for a broken escape or more than ENDPOINT_NAME_MAX bytes. */
static bool percent_decode(struct span *out, char *buffer, struct span text)
{
    size_t n = 0;

    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (c == '%') {
            int high = i + 2 < text.size ? hex_digit(text.data[i + 1]) : -1;
            int low = i + 2 < text.size ? hex_digit(text.data[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (n == ENDPOINT_NAME_MAX) {
            return false;
        }
        buffer[n++] = c;
    }
    *out = span_of(buffer, n);
    return true;
}

/* Takes what stands before the next '/' (or all) off the front. */
static struct span next_segment(struct span *path)
{
    const char *slash = path->size > 0 ? memchr(path->data, '/', path->size) : NULL;
    size_t n = slash != NULL ? (size_t)(slash - path->data) : path->size;
    struct span segment = span_of(path->data, n);

    *path = span_skip(*path, slash != NULL ? n + 1 : n);
    return segment;
}

static bool find_devices(struct endpoint_target *out, struct span path)
{
    struct span prefix = SPAN_LIT("/admin/v1/servers/");
    struct user_id parsed;

    if (!span_starts_with(path, prefix)) {
        return false;
    }
    struct span rest = span_skip(path, prefix.size);
    struct span server = next_segment(&rest);
    struct span users = next_segment(&rest);
    struct span user = next_segment(&rest);
    return span_equal(users, SPAN_LIT("users")) && span_equal(rest, SPAN_LIT("devices")) &&
           percent_decode(&out->server, out->text, server) &&
           percent_decode(&out->user, out->text + ENDPOINT_NAME_MAX, user) &&
           server_name_is_valid(out->server) && user_id_parse(&parsed, out->user);
}

void endpoint_find(struct endpoint_target *out, struct span target)
{
    static const struct {
        struct span path;
        enum endpoint endpoint;
    } plain[] = {
        {SPAN_INIT("/livez"), ENDPOINT_LIVEZ},
        {SPAN_INIT("/readyz"), ENDPOINT_READYZ},
        {SPAN_INIT("/metrics"), ENDPOINT_METRICS},
    };
    const char *query = target.size > 0 ? memchr(target.data, '?', target.size) : NULL;
    struct span path = query != NULL ? span_of(target.data, (size_t)(query - target.data)) : target;

    out->endpoint = ENDPOINT_NONE;
    out->server = span_of(NULL, 0);
    out->user = span_of(NULL, 0);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (span_equal(path, plain[i].path)) {
            out->endpoint = plain[i].endpoint;
        }
    }
    if (find_devices(out, path)) {
        out->endpoint = ENDPOINT_DEVICES;
    }
}
