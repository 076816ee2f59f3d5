#include "config_check.h"

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

#include "certificates.h"
#include "proto/check.h"

enum {
    HOST_MAX = 255, /* bytes, as a DNS name */
    DNS_PORT = 53,
    MAPPED_BITS = 96 /* before the IPv4 address in ::ffff:a.b.c.d */
};

/* Decimal without sign or leading zeros, at most max. */
static bool parse_number(uint32_t *out, const char *text, uint32_t max)
{
    uint32_t value = 0;

    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0')) {
        return false;
    }
    for (const char *at = text; *at != '\0'; at++) {
        if (*at < '0' || *at > '9') {
            return false;
        }
        value = value * 10 + (uint32_t)(*at - '0');
        if (value > max) {
            return false;
        }
    }
    *out = value;
    return true;
}

/* Splits "host:port" and takes the brackets off. */
static bool split(struct config_address *out, struct arena *arena, const char *text)
{
    const char *colon = strrchr(text, ':');
    uint32_t port = 0;

    if (colon == NULL || !parse_number(&port, colon + 1, UINT16_MAX)) {
        return false;
    }
    struct span host = span_of(text, (size_t)(colon - text));
    bool is_bracketed = host.size > 2 && host.data[0] == '[' && host.data[host.size - 1] == ']';
    if (is_bracketed) {
        host = span_of(host.data + 1, host.size - 2);
    }
    bool has_colon = host.size > 0 && memchr(host.data, ':', host.size) != NULL;
    if (host.size == 0 || host.size > HOST_MAX || is_bracketed != has_colon) {
        return false;
    }
    char *copy = arena_alloc(arena, host.size + 1);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, host.data, host.size);
    copy[host.size] = '\0';
    out->host = copy;
    out->port = (uint16_t)port;
    return true;
}

static bool is_literal(const char *host)
{
    struct in6_addr six;
    struct in_addr four;
    return inet_pton(AF_INET6, host, &six) == 1 || inet_pton(AF_INET, host, &four) == 1;
}

static bool is_name(const char *host)
{
    size_t n = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
    return host[n] == '\0';
}

bool config_address_parse(struct config_address *out, struct arena *arena, const char *text)
{
    struct config_address address;

    if (!split(&address, arena, text) || !is_literal(address.host)) {
        return false;
    }
    *out = address;
    return true;
}

bool config_resolver_parse(struct config_address *out, struct arena *arena, const char *text)
{
    if (!is_literal(text)) {
        return config_address_parse(out, arena, text) && out->port != 0;
    }
    size_t size = strlen(text) + 1;
    char *host = arena_alloc(arena, size);
    if (host == NULL) {
        return false;
    }
    memcpy(host, text, size);
    *out = (struct config_address){.host = host, .port = DNS_PORT};
    return true;
}

const char *config_upstream_parse(struct config_address *out, struct arena *arena, const char *text)
{
    struct config_address address;

    if (strncmp(text, "https://", 8) == 0) {
        return "https to a homeserver is not supported by this version yet";
    }
    if (strncmp(text, "http://", 7) != 0 || !split(&address, arena, text + 7) ||
        address.port == 0 || !(is_literal(address.host) || is_name(address.host))) {
        return "expected http://host:port, without a path";
    }
    *out = address;
    return NULL;
}

/* True if all bits behind the prefix are zero. */
static bool is_whole(const struct config_network *network)
{
    for (unsigned bit = network->prefix; bit < 128; bit++) {
        if ((network->address[bit / 8] >> (7 - bit % 8) & 1) != 0) {
            return false;
        }
    }
    return true;
}

const char *config_network_parse(struct config_network *out, const char *text)
{
    struct config_network network = {.prefix = 128};
    char host[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
    const char *wrong = "expected a network such as 10.0.0.0/8 or fd00::/8";

    if (n >= sizeof host) {
        return wrong;
    }
    memcpy(host, text, n);
    host[n] = '\0';
    bool is_v4 = inet_pton(AF_INET, host, network.address + 12) == 1;
    if (is_v4) {
        memset(network.address + 10, 0xff, 2);
    } else if (inet_pton(AF_INET6, host, network.address) != 1) {
        return wrong;
    }
    uint32_t bits = is_v4 ? 32 : 128;
    if (slash != NULL && !parse_number(&bits, slash + 1, bits)) {
        return wrong;
    }
    network.prefix = (uint8_t)(bits + (is_v4 ? MAPPED_BITS : 0));
    if (!is_whole(&network)) {
        return "the address has bits beyond its prefix";
    }
    *out = network;
    return NULL;
}

bool config_networks_contain(const struct config_networks *networks, const struct in6_addr *address)
{
    for (size_t i = 0; i < networks->n; i++) {
        const struct config_network *network = &networks->list[i];
        size_t whole = network->prefix / 8;
        unsigned rest = network->prefix % 8;
        bool same = memcmp(network->address, address->s6_addr, whole) == 0;
        if (same && rest > 0) {
            same = (network->address[whole] ^ address->s6_addr[whole]) >> (8 - rest) == 0;
        }
        if (same) {
            return true;
        }
    }
    return false;
}

static void say(struct writer *w, const char *a, const char *b, const char *c)
{
    writer_bytes(w, span_str(a));
    writer_bytes(w, span_str(b));
    writer_bytes(w, span_str(c));
}

/* True if there is nothing to complain about. */
static bool check_file(struct writer *w, const char *file)
{
    if (file == NULL || access(file, R_OK) == 0) {
        return true;
    }
    say(w, "  PROBLEM: cannot read ", file, "\n");
    return false;
}

static bool describe_server(struct writer *w, const struct config *config,
                            const struct config_server *server)
{
    bool is_well = true;

    say(w, "\n", server->name, "\n  relay: yes, to");
    for (size_t i = 0; i < server->n_upstreams; i++) {
        say(w, i > 0 ? ", " : " ", "http://", server->upstreams[i].host);
        writer_char(w, ':');
        writer_u64(w, server->upstreams[i].port);
    }
    say(w, "\n  authentication of senders: ",
        server->authenticate == AUTHENTICATE_EDGE ? "by the router, before it judges"
                                                  : "by the homeserver; the router trusts its 2xx",
        "\n");
    if (server->signing_key_file != NULL) {
        say(w, "  verdicts: yes, from reads of device lists signed with ", server->signing_key_file,
            "\n");
        is_well = check_file(w, server->signing_key_file);
    } else if (config->listen.admin_socket != NULL) {
        say(w,
            "  verdicts: only from lists pushed to the admin socket (no signing.key_file, so no "
            "reads)",
            "\n", "");
    } else {
        say(w,
            "  verdicts: no (neither signing.key_file for reads nor listen.admin.socket for "
            "pushes)",
            "\n", "");
    }
    say(w, "  rejections, pokes, announcements: no (not in this version)\n",
        "  outbound listener, ledger, claims on outgoing messages: no (not in this version)\n", "");
    return is_well;
}

bool config_describe(struct writer *w, const struct config *config)
{
    bool has_tls = config->listen.federation.n_certificates > 0 ||
                   config->listen.federation.certificate_folder != NULL;
    bool is_well = true;

    say(w, "federation listener: ", has_tls ? "TLS" : "cleartext (no certificates)", "\n");
    say(w, "operations listener: ", config->listen.operations.host != NULL ? "yes" : "no", "\n");
    say(w,
        "admin socket: ", config->listen.admin_socket != NULL ? config->listen.admin_socket : "no",
        "\n");
    is_well = certificates_describe(w, config) && is_well;
    is_well = check_file(w, config->federation_client.ca_file) && is_well;
    for (size_t i = 0; i < config->n_servers; i++) {
        is_well = describe_server(w, config, &config->servers[i]) && is_well;
    }
    return is_well;
}
