#include "net/http.h"

#include "proto/check.h"

struct span http_header_find(const struct http_head *head, struct span name)
{
    for (size_t i = 0; i < head->n_headers; i++) {
        if (span_equal_nocase(head->headers[i].name, name)) {
            return head->headers[i].value;
        }
    }
    return span_of(NULL, 0);
}

size_t http_header_count(const struct http_head *head, struct span name)
{
    size_t n = 0;

    for (size_t i = 0; i < head->n_headers; i++) {
        n += span_equal_nocase(head->headers[i].name, name) ? 1 : 0;
    }
    return n;
}

bool http_header_is_hop_by_hop(struct span name)
{
    static const struct span names[] = {
        SPAN_INIT("connection"),
        SPAN_INIT("keep-alive"),
        SPAN_INIT("te"),
        SPAN_INIT("trailer"),
        SPAN_INIT("transfer-encoding"),
        SPAN_INIT("upgrade"),
        SPAN_INIT("proxy-authenticate"),
        SPAN_INIT("proxy-authorization"),
        SPAN_INIT("proxy-connection"),
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (span_equal_nocase(names[i], name)) {
            return true;
        }
    }
    return false;
}

struct span http_trim(struct span text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text = span_skip(text, 1);
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

bool http_list_has(struct span value, struct span token)
{
    while (value.size > 0) {
        const char *comma = memchr(value.data, ',', value.size);
        size_t size = comma == NULL ? value.size : (size_t)(comma - value.data);
        if (span_equal_nocase(http_trim(span_of(value.data, size)), token)) {
            return true;
        }
        value = span_skip(value, comma == NULL ? size : size + 1);
    }
    return false;
}

bool http_head_connection_has(const struct http_head *head, struct span token)
{
    for (size_t i = 0; i < head->n_headers; i++) {
        if (span_equal_nocase(head->headers[i].name, SPAN_LIT("connection")) &&
            http_list_has(head->headers[i].value, token)) {
            return true;
        }
    }
    return false;
}

bool http_head_is_hop_by_hop(const struct http_head *head, struct span name)
{
    return http_header_is_hop_by_hop(name) || http_head_connection_has(head, name);
}

/* Bit c is set: !#$%&'*+-.^_`|~, digits and letters. Source: RFC 9110 5.6.2, "tchar". */
static const uint64_t token_chars[4] = {0x3ff6cfa00000000, 0x57ffffffc7fffffe, 0, 0};

static bool is_token_char(uint8_t c)
{
    return (token_chars[c / 64] >> c % 64 & 1) != 0;
}

bool http_name_is_valid(struct span name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (!is_token_char((uint8_t)name.data[i])) {
            return false;
        }
    }
    return name.size > 0;
}

/* Without a way out of the loop and in bytes alone, which compilers make one over many at a time.
 */
bool http_value_is_valid(struct span value)
{
    const uint8_t *bytes = (const uint8_t *)value.data;
    uint8_t is_bad = 0;

    for (size_t i = 0; i < value.size; i++) {
        uint8_t is_control = bytes[i] < 0x20 ? 1 : 0;
        uint8_t is_tab = bytes[i] == '\t' ? 1 : 0;
        uint8_t is_delete = bytes[i] == 0x7f ? 1 : 0;
        is_bad |= (uint8_t)((is_control ^ is_tab) | is_delete);
    }
    return is_bad == 0;
}

struct span http_reason(unsigned status)
{
    static const struct {
        unsigned status;
        struct span text;
    } rows[] = {
        {200, SPAN_INIT("OK")},
        {201, SPAN_INIT("Created")},
        {202, SPAN_INIT("Accepted")},
        {204, SPAN_INIT("No Content")},
        {206, SPAN_INIT("Partial Content")},
        {301, SPAN_INIT("Moved Permanently")},
        {302, SPAN_INIT("Found")},
        {304, SPAN_INIT("Not Modified")},
        {307, SPAN_INIT("Temporary Redirect")},
        {308, SPAN_INIT("Permanent Redirect")},
        {400, SPAN_INIT("Bad Request")},
        {401, SPAN_INIT("Unauthorized")},
        {403, SPAN_INIT("Forbidden")},
        {404, SPAN_INIT("Not Found")},
        {405, SPAN_INIT("Method Not Allowed")},
        {408, SPAN_INIT("Request Timeout")},
        {413, SPAN_INIT("Content Too Large")},
        {414, SPAN_INIT("URI Too Long")},
        {415, SPAN_INIT("Unsupported Media Type")},
        {417, SPAN_INIT("Expectation Failed")},
        {421, SPAN_INIT("Misdirected Request")},
        {429, SPAN_INIT("Too Many Requests")},
        {431, SPAN_INIT("Request Header Fields Too Large")},
        {500, SPAN_INIT("Internal Server Error")},
        {501, SPAN_INIT("Not Implemented")},
        {502, SPAN_INIT("Bad Gateway")},
        {503, SPAN_INIT("Service Unavailable")},
        {504, SPAN_INIT("Gateway Timeout")},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].status == status) {
            return rows[i].text;
        }
    }
    return span_of(NULL, 0);
}
