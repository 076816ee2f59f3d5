#include "net/h2_head.h"

#include "proto/check.h"

#include <stdlib.h>

/* Bytes of the pseudo-fields: as much as a header list may have in all. */
enum { PSEUDO_MAX = HTTP_HEADER_BYTES_MAX + HTTP_TARGET_MAX };

struct h2_head *h2_head_new(void)
{
    struct h2_head *h = calloc(1, sizeof *h);

    CHECK(h != NULL);
    h->builder = head_builder_new();
    writer_init(&h->pseudo, PSEUDO_MAX);
    return h;
}

void h2_head_free(struct h2_head *h)
{
    if (h != NULL) {
        head_builder_free(h->builder);
        writer_fini(&h->pseudo);
        free(h);
    }
}

static void wrong(struct h2_head *h, enum reject why)
{
    h->why = h->why == REJECT_NONE ? why : h->why;
}

static void add_field(struct h2_head *h, struct span name, struct span value)
{
    if (!head_add_name(h->builder, name)) {
        wrong(h, REJECT_HEADERS_TOO_LARGE);
        return;
    }
    head_end_name(h->builder);
    if (!head_add_value(h->builder, value)) {
        wrong(h, REJECT_HEADERS_TOO_LARGE);
    }
}

static struct span kept(const struct h2_head *h, size_t at, size_t size)
{
    return size == 0 ? SPAN_LIT("") : span_of(h->pseudo.data + at, size);
}

/* What :authority says stands in the place of Host, first of all. */
static void add_host(struct h2_head *h)
{
    struct span host = h->authority.size > 0 ? kept(h, h->authority.at, h->authority.size)
                                             : kept(h, h->host.at, h->host.size);

    if (!h->has_host && host.size > 0) {
        h->has_host = true;
        add_field(h, SPAN_LIT("host"), host);
    }
}

static void add_pseudo(struct h2_head *h, struct span name, struct span value)
{
    size_t at = h->pseudo.size;

    if (span_equal(name, SPAN_LIT(":path"))) {
        if (!head_add_target(h->builder, value)) {
            wrong(h, REJECT_URI_TOO_LONG);
        }
        return;
    }
    writer_bytes(&h->pseudo, value);
    if (span_equal(name, SPAN_LIT(":method"))) {
        h->method.at = at;
        h->method.size = value.size;
    } else if (span_equal(name, SPAN_LIT(":scheme"))) {
        h->scheme.at = at;
        h->scheme.size = value.size;
    } else if (span_equal(name, SPAN_LIT(":authority"))) {
        h->authority.at = at;
        h->authority.size = value.size;
    } else {
        wrong(h, REJECT_BAD_HTTP);
    }
}

static void add_host_field(struct h2_head *h, struct span value)
{
    if (h->host.size > 0 || value.size == 0) {
        wrong(h, REJECT_BAD_HTTP);
        return;
    }
    h->host.at = h->pseudo.size;
    h->host.size = value.size;
    writer_bytes(&h->pseudo, value);
    if (h->authority.size > 0 &&
        !span_equal_nocase(kept(h, h->authority.at, h->authority.size), value)) {
        wrong(h, REJECT_BAD_HTTP);
    }
}

void h2_head_add(struct h2_head *h, struct span name, struct span value)
{
    if (name.size > 0 && name.data[0] == ':') {
        add_pseudo(h, name, value);
        return;
    }
    if (span_equal(name, SPAN_LIT("host"))) {
        add_host_field(h, value);
        add_host(h);
        return;
    }
    add_host(h);
    if (memchr(name.data, '_', name.size) != NULL) {
        wrong(h, REJECT_BAD_HTTP);
    }
    add_field(h, name, value);
}

static bool method_is_sound(struct span method)
{
    for (size_t i = 0; i < method.size; i++) {
        if (method.data[i] < 'A' || method.data[i] > 'Z') {
            return false;
        }
    }
    return method.size > 0;
}

static bool target_is_sound(struct span target)
{
    for (size_t i = 0; i < target.size; i++) {
        unsigned char c = (unsigned char)target.data[i];
        if (c <= 0x20 || c >= 0x7f || c == '#') {
            return false;
        }
    }
    return target.size > 0 && (target.data[0] == '/' || span_equal(target, SPAN_LIT("*")));
}

static bool scheme_is_one_of(struct span scheme, unsigned schemes)
{
    return ((schemes & H2_SCHEME_HTTP) != 0 && span_equal(scheme, SPAN_LIT("http"))) ||
           ((schemes & H2_SCHEME_HTTPS) != 0 && span_equal(scheme, SPAN_LIT("https")));
}

static bool pseudo_is_sound(const struct h2_head *h, const struct http_head *head, unsigned schemes)
{
    struct span authority = kept(h, h->authority.at, h->authority.size);

    return !h->pseudo.failed && method_is_sound(head->method) && target_is_sound(head->target) &&
           scheme_is_one_of(kept(h, h->scheme.at, h->scheme.size), schemes) &&
           (authority.size == 0 || memchr(authority.data, '@', authority.size) == NULL);
}

enum reject h2_head_finish(struct h2_head *h, struct http_head *out, unsigned schemes, bool ends)
{
    add_host(h);
    *out = (struct http_head){.method = kept(h, h->method.at, h->method.size)};
    if (h->why == REJECT_NONE) {
        head_finish(h->builder, out);
        if (!pseudo_is_sound(h, out, schemes)) {
            wrong(h, REJECT_BAD_HTTP);
        }
    }
    if (h->why == REJECT_NONE) {
        h->why = head_judge_request(out, 11);
    }
    out->chunked = !ends && !out->has_content_length;
    return h->why;
}
