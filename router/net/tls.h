/* What our ends of TLS connections have in common: versions, certificates, ALPN. */
#pragma once

#include "base/err.h"
#include "proto/own.h"

#include <stddef.h>

struct ssl_st;
struct tls_context;

/* Files in PEM; the chain begins with the server's own certificate. */
struct tls_certificate {
    const char *chain, *key;
};

/* TLS 1.2 and 1.3, ALPN http/1.1. The certificate is chosen by SNI; the first is the default.
 * May be shared by threads. */
MUST_CHECK enum err tls_server_new(struct tls_context **out, const struct tls_certificate *list,
                                   size_t n);

/* Verifies against ca_file (PEM; NULL: the system's). */
MUST_CHECK enum err tls_client_new(struct tls_context **out, const char *ca_file);

void tls_context_free(struct tls_context *context);

/* For net/ alone. NULL if OpenSSL fails. A client's end checks the certificate against `name`. */
struct ssl_st *tls_accepting(struct tls_context *context, int fd);
struct ssl_st *tls_connecting(struct tls_context *context, int fd, const char *name);
