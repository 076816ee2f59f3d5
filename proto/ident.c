#include "proto/ident.h"

enum {
    PORT_DIGITS_MAX = 5,
    IPV6_MIN = 2, /* characters between the brackets */
    IPV6_MAX = 45,
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_dns_char(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.';
}

static bool is_ipv6_char(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':' || c == '.';
}

static size_t run_length(struct span text, bool (*is_member)(char))
{
    size_t n = 0;

    while (n < text.size && is_member(text.data[n])) {
        n++;
    }
    return n;
}

/* Length of the host at the start of the name; 0 if there is none. */
static size_t host_length(struct span name)
{
    if (name.size == 0 || name.data[0] != '[') {
        return run_length(name, is_dns_char);
    }
    size_t n = run_length(span_skip(name, 1), is_ipv6_char);
    bool is_closed = n + 1 < name.size && name.data[n + 1] == ']';
    return is_closed && n >= IPV6_MIN && n <= IPV6_MAX ? n + 2 : 0;
}

static bool port_is_valid(struct span port)
{
    size_t n = port.size - 1;

    return port.data[0] == ':' && n >= 1 && n <= PORT_DIGITS_MAX &&
           run_length(span_skip(port, 1), is_digit) == n;
}

bool server_name_is_valid(struct span name)
{
    size_t host = host_length(name);

    if (host == 0 || name.size > IDENT_MAX) {
        return false;
    }
    return host == name.size || port_is_valid(span_skip(name, host));
}

bool user_id_is_of(struct span user_id, struct span server)
{
    if (user_id.size < server.size + 2 || user_id.size > IDENT_MAX || user_id.data[0] != '@') {
        return false;
    }
    size_t localpart = user_id.size - server.size - 2;
    return user_id.data[1 + localpart] == ':' &&
           span_equal(span_skip(user_id, localpart + 2), server) &&
           memchr(user_id.data + 1, ':', localpart) == NULL &&
           memchr(user_id.data + 1, '\0', localpart) == NULL;
}

bool user_id_parse(struct user_id *out, struct span text)
{
    if (text.size == 0 || text.size > IDENT_MAX || text.data[0] != '@' ||
        memchr(text.data, '\0', text.size) != NULL) {
        return false;
    }
    const char *colon = memchr(text.data, ':', text.size);
    if (colon == NULL) {
        return false;
    }
    size_t at = (size_t)(colon - text.data);
    out->whole = text;
    out->localpart = span_of(text.data + 1, at - 1);
    out->server = span_skip(text, at + 1);
    return server_name_is_valid(out->server);
}
