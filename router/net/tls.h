/* What our ends of TLS connections have in common: versions, certificates, ALPN. */
#pragma once

#include "base/err.h"
#include "net/tls_identities.h"
#include "proto/own.h"

#include <stdbool.h>
#include <stddef.h>

struct ssl_st;
struct tls_context;

/* TLS 1.2 and 1.3, ALPN h2 and http/1.1. The certificate is chosen by SNI. A name that none has
 * gets the default, and so does a client that says no name; without a default the handshake fails
 * with unrecognized_name. Takes the identities, at least one. May be shared by threads. */
struct tls_context *tls_server_with(struct tls_identities *identities);

/* The same with these alone. */
MUST_CHECK enum err tls_server_new(struct tls_context **out, const struct tls_certificate *list,
                                   size_t n);

/* Verifies against ca_file (PEM; NULL: the system's). */
MUST_CHECK enum err tls_client_new(struct tls_context **out, const char *ca_file);

/* Any thread. A connection holds one until its handshake is over, and then only the certificate it
 * showed: of a set that was replaced nothing else stays because somebody is still connected. */
struct tls_context *tls_context_ref(struct tls_context *context); /* NULL is fine */
void tls_context_free(struct tls_context *context);               /* lets go; NULL is fine */

/* Nobody but the caller holds one. */
bool tls_context_is_last(const struct tls_context *context);

/* A server's; NULL: a client's. */
const struct tls_identities *tls_context_identities(const struct tls_context *context);

/* For net/ alone. NULL if OpenSSL fails. A client's end checks the certificate against `name`. */
struct ssl_st *tls_accepting(struct tls_context *context, int fd);
struct ssl_st *tls_connecting(struct tls_context *context, int fd, const char *name);
void tls_established(struct ssl_st *ssl); /* the handshake is over */
void tls_free(struct ssl_st *ssl);        /* NULL is fine */

/* Whether the certificate that was shown to the client has the host's name. */
bool tls_covers(const struct ssl_st *ssl, struct span host);
