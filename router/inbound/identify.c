#include "inbound/exchange.h"

#include "net/address.h"

#include <string.h>

/* Parses every X-Matrix header; they must agree on who asks and whom. */
static enum reject parse_authorization(struct exchange *ex)
{
    size_t n = http_header_count(ex->head, SPAN_LIT("Authorization"));

    ex->xmatrix = arena_calloc(&ex->arena, n, sizeof *ex->xmatrix);
    if (n > 0 && ex->xmatrix == NULL) {
        return REJECT_BAD_XMATRIX;
    }
    for (size_t i = 0; i < ex->head->n_headers; i++) {
        const struct http_header *header = &ex->head->headers[i];
        if (!span_equal_nocase(header->name, SPAN_LIT("Authorization")) ||
            !xmatrix_is_scheme(header->value)) {
            continue;
        }
        struct xmatrix *xmatrix = &ex->xmatrix[ex->n_xmatrix];
        if (ex->n_xmatrix == XMATRIX_MAX ||
            xmatrix_parse(xmatrix, &ex->arena, header->value) != REJECT_NONE) {
            return REJECT_BAD_XMATRIX;
        }
        if (!span_equal(xmatrix->origin, ex->xmatrix[0].origin)) {
            return REJECT_MANY_ORIGINS;
        }
        if (!span_equal(xmatrix->destination, ex->xmatrix[0].destination)) {
            return REJECT_WRONG_DESTINATION;
        }
        ex->n_xmatrix++;
    }
    if (ex->n_xmatrix > 0) {
        ex->origin = ex->xmatrix[0].origin;
    }
    return REJECT_NONE;
}

/* A connection is for the servers of the certificate that was shown on it. Behind a proxy it is the
 * proxy's, whatever SNI it says. */
static bool is_misdirected(const struct exchange *ex)
{
    const struct hosted_server *server = ex->server;

    for (size_t i = 0; i < server->n_hosts; i++) {
        if (http_tls_covers(ex->http, span_str(server->hosts[i]))) {
            return false;
        }
    }
    return !ex->peer.is_trusted;
}

/* The destination decides, and Host must be one of its names; without one Host decides. */
static enum reject find_server(struct exchange *ex)
{
    const struct hosted *hosted = ex->hosted;
    struct span host = http_header_find(ex->head, SPAN_LIT("Host"));
    struct span destination = ex->n_xmatrix > 0 ? ex->xmatrix[0].destination : (struct span){0};

    if (destination.data == NULL) {
        ex->server = hosted_by_host(hosted, host);
        return ex->server != NULL ? REJECT_NONE : REJECT_MISDIRECTED;
    }
    ex->server = hosted_by_name(hosted, destination);
    if (ex->server == NULL) {
        return REJECT_WRONG_DESTINATION;
    }
    if (hosted_has_host(ex->server, host)) {
        return REJECT_NONE;
    }
    if (ex->peer.is_trusted) { /* it may have rewritten Host */
        metrics_add(ex->inbound->parts.metrics, COUNTER_host_mismatches_total, 1);
        return REJECT_NONE;
    }
    return REJECT_MISDIRECTED;
}

/* "192.0.2.1", "2001:db8::1"; some proxies add a port: "192.0.2.1:5000", "[2001:db8::1]:5000". */
static bool parse_address(struct in6_addr *out, struct span text)
{
    char host[INET6_ADDRSTRLEN];
    bool is_bracketed = span_starts_with(text, SPAN_LIT("["));

    text = is_bracketed ? span_skip(text, 1) : text;
    if (text.size == 0 || text.size >= sizeof host) {
        return false;
    }
    memcpy(host, text.data, text.size);
    host[text.size] = '\0';
    char *end = strchr(host, is_bracketed ? ']' : ':');
    if (end != NULL && (is_bracketed || strchr(end + 1, ':') == NULL)) {
        *end = '\0';
    }
    return address_parse(out, host);
}

/* Takes the last entry off a list such as "a, b". */
static struct span take_last(struct span *list)
{
    const char *comma = list->size == 0 ? NULL : memrchr(list->data, ',', list->size);
    struct span last = comma == NULL ? *list : span_skip(*list, (size_t)(comma - list->data) + 1);

    *list = span_of(list->data, comma == NULL ? 0 : (size_t)(comma - list->data));
    while (last.size > 0 && last.data[0] == ' ') {
        last = span_skip(last, 1);
    }
    while (last.size > 0 && last.data[last.size - 1] == ' ') {
        last.size--;
    }
    return last;
}

/* From the nearest to the farthest: the first that is no trusted proxy. What stands before it in
 * X-Forwarded-For is a client's own word. */
static void find_client(struct exchange *ex)
{
    const struct inbound_settings *settings = &ex->inbound->settings;

    ex->client = ex->peer.address;
    ex->has_client = !ex->peer.is_trusted;
    for (size_t i = ex->head->n_headers; i > 0 && !ex->has_client; i--) {
        const struct http_header *header = &ex->head->headers[i - 1];
        struct span list = header->value;
        if (!span_equal_nocase(header->name, SPAN_LIT("X-Forwarded-For"))) {
            continue;
        }
        while (list.size > 0 && !ex->has_client) {
            if (!parse_address(&ex->client, take_last(&list))) {
                return;
            }
            ex->has_client = !settings->is_trusted_proxy(settings->arg, &ex->client);
        }
    }
}

enum reject identify(struct exchange *ex)
{
    const struct inbound_settings *settings = &ex->inbound->settings;

    ex->peer.address = http_peer_address(ex->http);
    ex->peer.is_trusted = settings->is_trusted_proxy(settings->arg, &ex->peer.address);
    find_client(ex);
    enum reject why = parse_authorization(ex);
    if (why != REJECT_NONE) {
        return why;
    }
    if (ex->class == ROUTE_TRANSACTION && ex->n_xmatrix == 0) {
        return REJECT_NO_XMATRIX;
    }
    why = find_server(ex);
    return why == REJECT_NONE && is_misdirected(ex) ? REJECT_MISDIRECTED : why;
}
