/* A self-signed certificate in files, for tests. */
#pragma once

#include "proto/check.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct tls_files {
    char dir[32];
    char chain[64], key[64]; /* paths */
};

static inline void tls_files_name(X509 *x509, const char *names)
{
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    X509_NAME *name = X509_get_subject_name(x509);
    const unsigned char *text = (const unsigned char *)names;

    CHECK(san != NULL && name != NULL);
    CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, text, -1, -1, 0) == 1);
    CHECK(X509_set_issuer_name(x509, name) == 1 && X509_add_ext(x509, san, -1) == 1);
    X509_EXTENSION_free(san);
}

static inline void tls_files_sign(X509 *x509, EVP_PKEY *key, const char *names)
{
    CHECK(X509_set_version(x509, X509_VERSION_3) == 1);
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(x509), 1) == 1);
    CHECK(X509_gmtime_adj(X509_getm_notBefore(x509), -3600) != NULL &&
          X509_gmtime_adj(X509_getm_notAfter(x509), 3600) != NULL);
    tls_files_name(x509, names);
    CHECK(X509_set_pubkey(x509, key) == 1 && X509_sign(x509, key, EVP_sha256()) > 0);
}

/* `names` as OpenSSL writes them: "DNS:a.test,IP:127.0.0.1". */
static inline void tls_files_make(struct tls_files *out, const char *names)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x509 = X509_new();
    FILE *file;

    snprintf(out->dir, sizeof out->dir, "/tmp/freshet-tls-XXXXXX");
    CHECK(key != NULL && x509 != NULL && mkdtemp(out->dir) != NULL);
    snprintf(out->chain, sizeof out->chain, "%s/chain.pem", out->dir);
    snprintf(out->key, sizeof out->key, "%s/key.pem", out->dir);
    tls_files_sign(x509, key, names);
    file = fopen(out->chain, "w");
    CHECK(file != NULL && PEM_write_X509(file, x509) == 1);
    fclose(file);
    file = fopen(out->key, "w");
    CHECK(file != NULL && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(file);
    X509_free(x509);
    EVP_PKEY_free(key);
}

static inline void tls_files_remove(struct tls_files *files)
{
    unlink(files->chain);
    unlink(files->key);
    rmdir(files->dir);
}
