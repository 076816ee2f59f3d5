/* The configuration: read once from a YAML file, checked, then constant. */
#pragma once

#include "base/err.h"
#include "proto/arena.h"
#include "proto/own.h"
#include "proto/writer.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "127.0.0.1:9090", "[::1]:9090". */
struct config_address {
    const char *host; /* without brackets; NULL: not configured */
    uint16_t port;
};

/* "10.0.0.0/8". IPv4 is kept as ::ffff:a.b.c.d, so `prefix` counts from 0 to 128 for both. */
struct config_network {
    uint8_t address[16];
    uint8_t prefix; /* bits */
};

struct config_networks {
    struct config_network *list;
    size_t n;
};

struct config_certificate {
    const char *chain; /* file */
    const char *key;   /* file */
};

enum config_authenticate { AUTHENTICATE_EDGE, AUTHENTICATE_UPSTREAM };
enum config_spoofed_sender { SPOOFED_SENDER_RELAY, SPOOFED_SENDER_REFUSE };

struct config_server {
    const char *name;
    const char **hosts; /* at least one */
    size_t n_hosts;
    struct config_address *upstreams; /* at least one; cleartext HTTP/1.1 */
    size_t n_upstreams;
    enum config_authenticate authenticate;
    enum config_spoofed_sender spoofed_sender;
    const char *signing_key_file; /* NULL: none */
};

/* File names are absolute, or relative to the folder of the configuration file, which is already
 * put in front of them here. */
struct config {
    const char *data_dir;
    struct {
        struct {
            struct config_address address;
            struct config_certificate *certificates;
            size_t n_certificates;
            const char *certificate_folder; /* NULL: none; cleartext without any certificate */
        } federation;
        struct config_address operations;
        const char *admin_socket; /* NULL: none */
    } listen;
    struct config_networks trusted_proxies;
    uint32_t workers; /* 0: one per core */
    struct {
        uint32_t request_bytes;
    } in_flight; /* memory */
    struct {
        const char *ca_file; /* NULL: the system's */
        struct config_networks allow_addresses;
        const char *dns_servers; /* "127.0.0.1:53,[::1]:53"; NULL: the system's */
    } federation_client;
    struct {
        uint32_t fetches_per_s;
    } keys;
    struct config_server *servers;
    size_t n_servers;
    struct {
        uint32_t max_age_s;
        uint32_t reads_per_s;
        uint32_t wait_ms;
        uint32_t settle_ms;
    } lists;
    struct {
        uint32_t patience_s;
        uint32_t idle_s;
    } upstream;
    struct arena memory; /* holds everything above */
};

/* What the configuration may hold: limits of our own, far above any real one. */
enum {
    CONFIG_FILE_MAX = 4 << 20,    /* bytes of the file */
    CONFIG_MEMORY_MAX = 64 << 20, /* bytes of the struct */
    CONFIG_PROBLEMS_MAX = 20,     /* reported at once */
};

/* Reads and checks a file. What is wrong with it is written to `problems`, one line each,
 * "FILE:LINE: what"; then the result is ERR_CONFIG and *out untouched. */
MUST_CHECK enum err config_load(struct config **out, const char *path, struct writer *problems);

/* The same for text in memory; `path` is for messages and for relative file names. */
MUST_CHECK enum err config_parse(struct config **out, struct span text, const char *path,
                                 struct writer *problems);

void config_free(struct config *config);

/* Frees what an AUTO variable holds. */
void config_freep(struct config **config);

/* True if the IPv6 address, or IPv4 mapped into it, lies in one of the networks. */
bool config_networks_contain(const struct config_networks *networks,
                             const struct in6_addr *address);

/* docs/config.md. */
void config_write_docs(struct writer *w);
