#include "net/proxy_header.h"

#include "proto/check.h"

#include <arpa/inet.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4        "\xcb\x00\x71\x05\x0a\x00\x00\x01\xd9\x03\x20\xfb" /* 203.0.113.5 to 10.0.0.1 */
#define V6                                                                                         \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x05\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"         \
    "\xd9\x03\x20\xfb"
#define TLV                                                                                        \
    "\x04\x00\x03"                                                                                 \
    "abc"

struct row {
    const char *what;
    struct span bytes;
    enum proxy_result result;
    size_t size;         /* only if PROXY_WHOLE */
    const char *address; /* NULL: none */
};

static const struct row rows[] = {
    {"nothing yet", SPAN_INIT(""), PROXY_MORE, 0, NULL},
    {"a part of the signature", SPAN_INIT("\r\n\r\n\0\r"), PROXY_MORE, 0, NULL},
    {"the signature", SPAN_INIT(SIGNATURE), PROXY_MORE, 0, NULL},
    {"one byte short of a size", SPAN_INIT(SIGNATURE "\x21\x11\x00"), PROXY_MORE, 0, NULL},
    {"one byte short", SPAN_INIT(SIGNATURE "\x21\x11\x00\x0d" V4), PROXY_MORE, 0, NULL},
    {"IPv4", SPAN_INIT(SIGNATURE "\x21\x11\x00\x0c" V4), PROXY_WHOLE, 28, "::ffff:203.0.113.5"},
    {"IPv4 and what follows", SPAN_INIT(SIGNATURE "\x21\x11\x00\x0c" V4 "GET / HTTP/1.1"),
     PROXY_WHOLE, 28, "::ffff:203.0.113.5"},
    {"IPv4 with something attached", SPAN_INIT(SIGNATURE "\x21\x11\x00\x12" V4 TLV), PROXY_WHOLE,
     34, "::ffff:203.0.113.5"},
    {"IPv6", SPAN_INIT(SIGNATURE "\x21\x21\x00\x24" V6), PROXY_WHOLE, 52, "2001:db8::5"},
    {"local", SPAN_INIT(SIGNATURE "\x20\x00\x00\x00"), PROXY_WHOLE, 16, NULL},
    {"local with an address, which does not count", SPAN_INIT(SIGNATURE "\x20\x11\x00\x0c" V4),
     PROXY_WHOLE, 28, NULL},
    {"unspecified", SPAN_INIT(SIGNATURE "\x21\x00\x00\x00"), PROXY_WHOLE, 16, NULL},
    {"not the signature", SPAN_INIT("GET / HTTP/1.1\r\n"), PROXY_BAD, 0, NULL},
    {"a ClientHello", SPAN_INIT("\x16\x03\x01\x02\x00\x01"), PROXY_BAD, 0, NULL},
    {"wrong in the last byte of the signature",
     SPAN_INIT("\r\n\r\n\0\r\nQUIT\r\x21\x11\x00\x0c" V4), PROXY_BAD, 0, NULL},
    {"version 1", SPAN_INIT(SIGNATURE "\x11\x11\x00\x0c" V4), PROXY_BAD, 0, NULL},
    {"version 3", SPAN_INIT(SIGNATURE "\x31\x11\x00\x0c" V4), PROXY_BAD, 0, NULL},
    {"no such command", SPAN_INIT(SIGNATURE "\x22\x11\x00\x0c" V4), PROXY_BAD, 0, NULL},
    {"UDP", SPAN_INIT(SIGNATURE "\x21\x12\x00\x0c" V4), PROXY_BAD, 0, NULL},
    {"no such family", SPAN_INIT(SIGNATURE "\x21\x41\x00\x0c" V4), PROXY_BAD, 0, NULL},
    {"no room for IPv4", SPAN_INIT(SIGNATURE "\x21\x11\x00\x0b" V4), PROXY_BAD, 0, NULL},
    {"no room for IPv6", SPAN_INIT(SIGNATURE "\x21\x21\x00\x0c" V4), PROXY_BAD, 0, NULL},
    {"a Unix socket without its paths", SPAN_INIT(SIGNATURE "\x21\x31\x00\x0c" V4), PROXY_BAD, 0,
     NULL},
    {"one byte too large", SPAN_INIT(SIGNATURE "\x21\x11\x02\x09"), PROXY_BAD, 0, NULL},
    {"as large as it may be, not whole", SPAN_INIT(SIGNATURE "\x21\x11\x02\x08"), PROXY_MORE, 0,
     NULL},
};

static bool has_address(const struct proxy_header *header, const char *address)
{
    char text[INET6_ADDRSTRLEN];

    inet_ntop(AF_INET6, &header->address, text, sizeof text);
    return address == NULL ? !header->has_address
                           : header->has_address && strcmp(text, address) == 0;
}

static void headers_are_decoded(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct proxy_header header;
        enum proxy_result result = proxy_header_decode(&header, rows[i].bytes);
        bool is_well = result == rows[i].result;
        if (is_well && result == PROXY_WHOLE) {
            is_well = header.size == rows[i].size && has_address(&header, rows[i].address);
        }
        if (!is_well) {
            print_error("row failed: %s\n", rows[i].what);
        }
        assert_true(is_well);
    }
}

static void the_largest_is_taken(void **state)
{
    char bytes[PROXY_HEADER_MAX] = SIGNATURE "\x21\x11\x02\x08" V4;
    struct proxy_header header;

    (void)state;
    assert_int_equal(proxy_header_decode(&header, span_of(bytes, sizeof bytes)), PROXY_WHOLE);
    assert_int_equal(header.size, PROXY_HEADER_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_decoded),
        cmocka_unit_test(the_largest_is_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
