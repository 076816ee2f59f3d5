/* The configuration file as libcyaml fills it in: what was left out is NULL. */
#pragma once

#include "config_lines.h"
#include "proto/own.h"

#include <stdint.h>

struct yaml_certificate {
    char *chain, *key;
};

struct yaml_federation {
    char *address;
    struct yaml_certificate *certificates;
    uint32_t certificates_count;
    char *certificate_folder;
};

struct yaml_operations {
    char *address;
};

struct yaml_admin {
    char *socket;
};

struct yaml_listen {
    struct yaml_federation *federation;
    struct yaml_operations *operations;
    struct yaml_admin *admin;
};

struct yaml_memory {
    uint32_t *request_bytes;
};

struct yaml_client {
    char *ca_file;
    char **allow_addresses;
    uint32_t allow_addresses_count;
    char **dns_servers;
    uint32_t dns_servers_count;
};

struct yaml_keys {
    uint32_t *fetches_per_s;
};

struct yaml_signing {
    char *key_file;
};

struct yaml_server {
    char *name;
    char **hosts;
    uint32_t hosts_count;
    char **upstreams;
    uint32_t upstreams_count;
    uint32_t *authenticate;   /* enum config_authenticate */
    uint32_t *spoofed_sender; /* enum config_spoofed_sender */
    struct yaml_signing *signing;
};

struct yaml_lists {
    uint32_t *max_age_s, *reads_per_s, *wait_ms, *settle_ms;
};

struct yaml_upstream {
    uint32_t *patience_s, *idle_s;
};

struct yaml_config {
    char *data_dir;
    struct yaml_listen *listen;
    char **trusted_proxies;
    uint32_t trusted_proxies_count;
    uint32_t *workers;
    struct yaml_memory *memory;
    struct yaml_client *federation_client;
    struct yaml_keys *keys;
    struct yaml_server *servers;
    uint32_t servers_count;
    struct yaml_lists *lists;
    struct yaml_upstream *upstream;
};

/* NULL, with a problem reported, if a value has not the type of its key. */
MUST_CHECK struct yaml_config *config_yaml_load(struct span text, struct config_problems *problems);
void config_yaml_free(struct yaml_config *raw);
