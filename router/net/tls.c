#include "net/tls.h"

#include "proto/check.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tls_context {
    SSL_CTX **list; /* a server's certificates, the default first; a client's only one */
    size_t n;
};

/* As on the wire: a length, then the name. Source: RFC 7301 3.1. */
static const unsigned char alpn_ours[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

static enum err raise_tls(const char *what, const char *where)
{
    char text[160];

    ERR_error_string_n(ERR_peek_error(), text, sizeof text);
    ERR_clear_error();
    return err_raise(ERR_TLS, "%s (%s): %s", what, where, text);
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                           const unsigned char *offered, unsigned offered_size, void *arg)
{
    unsigned char *chosen;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_size, alpn_ours, sizeof alpn_ours, offered,
                              offered_size) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int choose_certificate(SSL *ssl, int *alert, void *arg)
{
    const struct tls_context *context = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)alert;
    for (size_t i = 0; name != NULL && i < context->n; i++) {
        X509 *certificate = SSL_CTX_get0_certificate(context->list[i]);
        if (X509_check_host(certificate, name, strlen(name), 0, NULL) == 1) {
            SSL_set_SSL_CTX(ssl, context->list[i]);
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_OK; /* the default */
}

static SSL_CTX *ctx_new(const SSL_METHOD *method)
{
    SSL_CTX *ctx = SSL_CTX_new(method);

    CHECK(ctx != NULL);
    CHECK(SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* Released buffers: an idle connection holds none. Moving and partial writes: the output is a
     * chain of buffers whose head may have been joined with more since the last try. */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    return ctx;
}

static struct tls_context *context_new(size_t n)
{
    struct tls_context *context = calloc(1, sizeof *context);

    CHECK(context != NULL);
    context->list = calloc(n, sizeof(void *)); /* one size for all pointers: POSIX */
    CHECK(context->list != NULL);
    return context;
}

static enum err server_add(struct tls_context *context, const struct tls_certificate *certificate)
{
    SSL_CTX *ctx = ctx_new(TLS_server_method());

    context->list[context->n++] = ctx;
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    SSL_CTX_set_tlsext_servername_callback(ctx, choose_certificate);
    SSL_CTX_set_tlsext_servername_arg(ctx, context);
    if (SSL_CTX_use_certificate_chain_file(ctx, certificate->chain) != 1) {
        return raise_tls("certificate chain", certificate->chain);
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, certificate->key, SSL_FILETYPE_PEM) != 1) {
        return raise_tls("private key", certificate->key);
    }
    if (SSL_CTX_check_private_key(ctx) != 1) {
        return raise_tls("private key of another certificate", certificate->key);
    }
    return ERR_OK;
}

enum err tls_server_new(struct tls_context **out, const struct tls_certificate *list, size_t n)
{
    struct tls_context *context = context_new(n);

    CHECK(n > 0);
    for (size_t i = 0; i < n; i++) {
        enum err err = server_add(context, &list[i]);
        if (err != ERR_OK) {
            tls_context_free(context);
            return err;
        }
    }
    *out = context;
    return ERR_OK;
}

enum err tls_client_new(struct tls_context **out, const char *ca_file)
{
    struct tls_context *context = context_new(1);
    SSL_CTX *ctx = ctx_new(TLS_client_method());
    int loaded;

    context->list[context->n++] = ctx;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    CHECK(SSL_CTX_set_alpn_protos(ctx, alpn_ours, sizeof alpn_ours) == 0);
    loaded = ca_file == NULL ? SSL_CTX_set_default_verify_paths(ctx)
                             : SSL_CTX_load_verify_locations(ctx, ca_file, NULL);
    if (loaded != 1) {
        tls_context_free(context);
        return raise_tls("certificate authorities", ca_file == NULL ? "system" : ca_file);
    }
    *out = context;
    return ERR_OK;
}

void tls_context_free(struct tls_context *context)
{
    if (context == NULL) {
        return;
    }
    for (size_t i = 0; i < context->n; i++) {
        SSL_CTX_free(context->list[i]);
    }
    free(context->list);
    free(context);
}

static SSL *ssl_new(struct tls_context *context, int fd)
{
    SSL *ssl = SSL_new(context->list[0]);

    if (ssl != NULL && SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        ssl = NULL;
    }
    return ssl;
}

SSL *tls_accepting(struct tls_context *context, int fd)
{
    SSL *ssl = ssl_new(context, fd);

    if (ssl != NULL) {
        SSL_set_accept_state(ssl);
    }
    return ssl;
}

SSL *tls_connecting(struct tls_context *context, int fd, const char *name)
{
    SSL *ssl = ssl_new(context, fd);
    char sni[TLSEXT_MAXLEN_host_name + 1]; /* OpenSSL's macro casts const away */

    if (ssl == NULL) {
        return NULL;
    }
    snprintf(sni, sizeof sni, "%s", name);
    if (SSL_set_tlsext_host_name(ssl, sni) != 1 || SSL_set1_host(ssl, name) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_connect_state(ssl);
    return ssl;
}
