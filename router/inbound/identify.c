#include "inbound/exchange.h"

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

enum reject identify(struct exchange *ex)
{
    const struct inbound_settings *settings = &ex->inbound->settings;

    ex->peer.address = http_peer_address(ex->http);
    ex->peer.is_trusted = settings->is_trusted_proxy(settings->arg, &ex->peer.address);
    enum reject why = parse_authorization(ex);
    if (why != REJECT_NONE) {
        return why;
    }
    if (ex->class == ROUTE_TRANSACTION && ex->n_xmatrix == 0) {
        return REJECT_NO_XMATRIX;
    }
    return find_server(ex);
}
