#include "bench/pki.h"

#include "bench/tool.h"
#include "proto/check.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

enum { DAY_S = 24 * 3600, VALID_DAYS = 30, EXTENSION_MAX = 300 /* bytes */ };

struct pki {
    X509 *ca;
    EVP_PKEY *ca_key;
    EVP_PKEY *leaf_key; /* of all certificates it gives out: making keys takes time */
};

static EVP_PKEY *make_key(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    CHECK(key != NULL);
    return key;
}

static void extend(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    CHECK(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

/* All but the extensions and the signature. `issuer` is NULL for an authority. */
static X509 *begin_certificate(EVP_PKEY *key, const X509 *issuer, const char *common_name)
{
    X509 *certificate = X509_new();
    uint64_t serial = 0;

    CHECK(certificate != NULL && RAND_bytes((unsigned char *)&serial, sizeof serial) == 1);
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(certificate), (long)VALID_DAYS * DAY_S);
    X509_set_pubkey(certificate, key);
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)common_name, -1, -1,
                               0);
    X509_set_issuer_name(certificate, issuer != NULL ? X509_get_subject_name(issuer) : name);
    return certificate;
}

static X509 *issue(struct pki *pki, EVP_PKEY *key, const char *common_name, const char *names)
{
    X509 *certificate = begin_certificate(key, pki->ca, common_name);

    extend(certificate, pki->ca, NID_subject_key_identifier, "hash");
    extend(certificate, pki->ca, NID_authority_key_identifier, "keyid:always");
    extend(certificate, pki->ca, NID_subject_alt_name, names);
    CHECK(X509_sign(certificate, pki->ca_key, EVP_sha256()) != 0);
    return certificate;
}

static void make_authority(struct pki *pki)
{
    pki->ca_key = make_key();
    pki->ca = begin_certificate(pki->ca_key, NULL, "Freshet bench");
    extend(pki->ca, pki->ca, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    extend(pki->ca, pki->ca, NID_key_usage, "critical,keyCertSign,cRLSign");
    extend(pki->ca, pki->ca, NID_subject_key_identifier, "hash");
    CHECK(X509_sign(pki->ca, pki->ca_key, EVP_sha256()) != 0);
}

static FILE *open_in(const char *folder, const char *name, const char *mode)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, mode);
    if (file == NULL) {
        die("%s cannot be opened", path);
    }
    return file;
}

static void write_certificate(const char *folder, const char *name, X509 *certificate)
{
    FILE *file = open_in(folder, name, "w");

    CHECK(PEM_write_X509(file, certificate) == 1);
    fclose(file);
}

static void write_key(const char *folder, const char *name, EVP_PKEY *key)
{
    mode_t old = umask(077);
    FILE *file = open_in(folder, name, "w");

    umask(old);
    CHECK(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(file);
}

void pki_create(const char *folder, const char *server_name)
{
    struct pki pki = {.leaf_key = make_key()};
    char names[EXTENSION_MAX];

    make_authority(&pki);
    snprintf(names, sizeof names, "DNS:%s", server_name);
    X509 *server = issue(&pki, pki.leaf_key, "Freshet bench server", names);
    write_certificate(folder, "ca.pem", pki.ca);
    write_key(folder, "ca.key.pem", pki.ca_key);
    write_certificate(folder, "server.chain.pem", server);
    write_key(folder, "server.key.pem", pki.leaf_key);
    X509_free(server);
    X509_free(pki.ca);
    EVP_PKEY_free(pki.ca_key);
    EVP_PKEY_free(pki.leaf_key);
}

struct pki *pki_open(const char *folder)
{
    struct pki *pki = calloc(1, sizeof *pki);
    FILE *file = open_in(folder, "ca.pem", "r");

    CHECK(pki != NULL);
    pki->ca = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    file = open_in(folder, "ca.key.pem", "r");
    pki->ca_key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    if (pki->ca == NULL || pki->ca_key == NULL) {
        die("%s: no authority that --make-pki made", folder);
    }
    pki->leaf_key = make_key();
    return pki;
}

void pki_close(struct pki *pki)
{
    if (pki == NULL) {
        return;
    }
    X509_free(pki->ca);
    EVP_PKEY_free(pki->ca_key);
    EVP_PKEY_free(pki->leaf_key);
    free(pki);
}

void pki_certify(struct pki *pki, struct ssl_st *ssl, struct in_addr address)
{
    char names[EXTENSION_MAX];
    char text[INET_ADDRSTRLEN];

    CHECK(inet_ntop(AF_INET, &address, text, sizeof text) != NULL);
    snprintf(names, sizeof names, "IP:%s", text);
    X509 *certificate = issue(pki, pki->leaf_key, text, names);
    CHECK(SSL_use_certificate(ssl, certificate) == 1 &&
          SSL_use_PrivateKey(ssl, pki->leaf_key) == 1);
    X509_free(certificate);
}
