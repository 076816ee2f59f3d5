/* Serves the key documents of all simulated origins over TLS, in a thread of its own. */
#pragma once

#include "bench/origins.h"
#include "bench/pki.h"

#include <stdint.h>

struct key_server;

/* Listens on every loopback address; *port 0 takes any free one. `pki` is borrowed until the stop.
 */
struct key_server *key_server_listen(uint16_t *port, struct pki *pki);

/* From now on answers for these, which are borrowed. */
void key_server_start(struct key_server *server, const struct origins *origins);

uint64_t key_server_count(const struct key_server *server); /* documents given out */
void key_server_stop(struct key_server *server);            /* NULL is fine */
