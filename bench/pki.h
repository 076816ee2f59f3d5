/* Certificates of an authority of our own. */
#pragma once

#include "bench/origins.h"

struct pki;

/* Writes ca.pem, ca.key.pem and, for the server of that name, server.chain.pem and server.key.pem
 * into the folder, which exists. Dies if that fails. */
void pki_create(const char *folder, const char *server_name);

/* The authority in such a folder. */
struct pki *pki_open(const char *folder);
void pki_close(struct pki *pki); /* NULL is fine */

struct ssl_st;
struct ssl_ctx_st;

/* Gives the connection a certificate for the IPv4 address it was accepted at. */
void pki_certify(struct pki *pki, struct ssl_st *ssl, struct in_addr address);
