/* The values of the configuration: text in, addresses, networks and URLs out. */
#pragma once

#include "config.h"
#include "proto/own.h"

/* "1.2.3.4:80" or "[::1]:80"; only literal addresses. The host goes into the arena. */
MUST_CHECK bool config_address_parse(struct config_address *out, struct arena *arena,
                                     const char *text);

/* The same, or an address alone, which means port 53; never port 0. */
MUST_CHECK bool config_resolver_parse(struct config_address *out, struct arena *arena,
                                      const char *text);

/* "http://host:port". NULL if that is what it is, else what is wrong with it. */
MUST_CHECK const char *config_upstream_parse(struct config_address *out, struct arena *arena,
                                             const char *text);

/* "10.0.0.0/8", "fd00::/8" or one address; NULL or what is wrong. */
MUST_CHECK const char *config_network_parse(struct config_network *out, const char *text);

/* What each hosted server gets and what it does not, and why, for people. True if all files named
 * can be read. */
bool config_describe(struct writer *w, const struct config *config);
