#include "inbound/forward.h"

#include "net/address.h"

#include <string.h>

/* A peer's word on who it is, believed from trusted proxies alone. */
static bool is_about_the_client(struct span name)
{
    static const struct span prefix =
        SPAN_INIT("X-Forwarded-"); /* -For, -Proto, -Host, -Port ... */

    return (name.size >= prefix.size &&
            span_equal_nocase(span_of(name.data, prefix.size), prefix)) ||
           span_equal_nocase(name, SPAN_LIT("X-Real-IP")) ||
           span_equal_nocase(name, SPAN_LIT("Forwarded"));
}

/* What a request means depends on these, so a Connection header cannot take them out of it. */
static bool is_essential(struct span name)
{
    return span_equal_nocase(name, SPAN_LIT("Host")) ||
           span_equal_nocase(name, SPAN_LIT("Authorization")) ||
           span_equal_nocase(name, SPAN_LIT("Content-Type")) ||
           span_equal_nocase(name, SPAN_LIT("Content-Encoding"));
}

static bool is_dropped(const struct http_head *head, struct span name)
{
    return !is_essential(name) && http_head_is_hop_by_hop(head, name);
}

/* "what the proxies said, the peer"; data is NULL if the arena is full. */
static struct span forwarded_for(struct arena *arena, const struct http_head *head,
                                 const struct forward_peer *peer)
{
    static const struct span separator = SPAN_INIT(", ");
    char text[INET6_ADDRSTRLEN];
    struct span address = address_text(text, &peer->address);
    size_t max = address.size;

    for (size_t i = 0; i < head->n_headers; i++) {
        max += head->headers[i].value.size + separator.size;
    }
    char *bytes = arena_alloc(arena, max);
    if (bytes == NULL) {
        return (struct span){0};
    }
    size_t n = 0;
    for (size_t i = 0; peer->is_trusted && i < head->n_headers; i++) {
        const struct http_header *header = &head->headers[i];
        if (header->value.size > 0 &&
            span_equal_nocase(header->name, SPAN_LIT("X-Forwarded-For"))) {
            memcpy(bytes + n, header->value.data, header->value.size);
            n += header->value.size;
            memcpy(bytes + n, separator.data, separator.size);
            n += separator.size;
        }
    }
    memcpy(bytes + n, address.data, address.size);
    return span_of(bytes, n + address.size);
}

bool forward_request(struct http_head *out, struct arena *arena, const struct http_head *head,
                     const struct forward_peer *peer, bool reads_answer)
{
    struct http_header *headers = arena_calloc(arena, head->n_headers + 1, sizeof *headers);
    struct span value = forwarded_for(arena, head, peer);
    size_t n = 0;

    if (headers == NULL || value.data == NULL) {
        return false;
    }
    for (size_t i = 0; i < head->n_headers; i++) {
        struct span name = head->headers[i].name;
        if (is_dropped(head, name) || span_equal_nocase(name, SPAN_LIT("X-Forwarded-For")) ||
            (!peer->is_trusted && is_about_the_client(name)) ||
            (reads_answer && span_equal_nocase(name, SPAN_LIT("Accept-Encoding")))) {
            continue;
        }
        headers[n++] = head->headers[i];
    }
    headers[n++] = (struct http_header){SPAN_LIT("X-Forwarded-For"), value};
    *out = *head;
    out->headers = headers;
    out->n_headers = n;
    return true;
}

bool forward_answer(struct http_head *out, struct arena *arena, const struct http_head *head)
{
    struct http_header *headers = arena_calloc(arena, head->n_headers + 1, sizeof *headers);
    size_t n = 0;

    if (headers == NULL) {
        return false;
    }
    for (size_t i = 0; i < head->n_headers; i++) {
        if (is_dropped(head, head->headers[i].name)) {
            continue;
        }
        headers[n].name = arena_copy(arena, head->headers[i].name);
        headers[n].value = arena_copy(arena, head->headers[i].value);
        if (headers[n].name.data == NULL || headers[n].value.data == NULL) {
            return false;
        }
        n++;
    }
    *out = *head;
    out->headers = headers;
    out->n_headers = n;
    return true;
}
