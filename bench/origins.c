#include "bench/origins.h"

#include "base/clock.h"
#include "bench/tool.h"
#include "proto/base64.h"
#include "proto/check.h"

#include <arpa/inet.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_ADDRESS = 0x7f100000 /* 127.16.0.0 */, DOCUMENT_MAX = 64 * 1024 /* bytes */ };

static const struct span key_id = SPAN_INIT("ed25519:bench");

/* A day: shorter than KEYRING_VALID_S, longer than any run. */
static const int64_t valid_ms = 24LL * 3600 * 1000;

static void make_origin(struct origin *origin, const char *name)
{
    origin->name = strdup(name);
    CHECK(origin->name != NULL);
    origin->name_size = strlen(name);
    crypto_generichash(origin->seed, sizeof origin->seed, (const unsigned char *)name,
                       origin->name_size, NULL, 0);
    ed25519_public_key(origin->public_key, origin->seed);
}

static void allocate(struct origins *origins, uint32_t n)
{
    CHECK(sodium_init() >= 0);
    origins->all = calloc(n, sizeof *origins->all);
    CHECK(origins->all != NULL);
    origins->n = n;
}

void origins_init(struct origins *origins, uint32_t n, uint16_t port)
{
    allocate(origins, n);
    for (uint32_t i = 0; i < n; i++) {
        struct in_addr address = {htonl(FIRST_ADDRESS + i)};
        char text[INET_ADDRSTRLEN];
        char name[ORIGIN_NAME_MAX];
        CHECK(inet_ntop(AF_INET, &address, text, sizeof text) != NULL);
        snprintf(name, sizeof name, "%s:%u", text, (unsigned)port);
        make_origin(&origins->all[i], name);
    }
}

void origins_init_named(struct origins *origins, const char *name)
{
    allocate(origins, 1);
    make_origin(&origins->all[0], name);
}

void origins_fini(struct origins *origins)
{
    for (uint32_t i = 0; i < origins->n; i++) {
        free(origins->all[i].name);
    }
    free(origins->all);
    *origins = (struct origins){0};
}

const struct origin *origins_find(const struct origins *origins, struct in_addr address)
{
    uint32_t i = ntohl(address.s_addr) - FIRST_ADDRESS;

    return i < origins->n ? &origins->all[i] : NULL;
}

/* The members of a key document around its signatures, in canonical order. */
static void write_document(struct writer *out, const struct origin *origin, int64_t until_ms,
                           const uint8_t *signature)
{
    writer_bytes(out, SPAN_LIT("{\"old_verify_keys\":{},\"server_name\":"));
    writer_json_string(out, origin_name(origin));
    if (signature != NULL) {
        writer_bytes(out, SPAN_LIT(",\"signatures\":{"));
        writer_json_string(out, origin_name(origin));
        writer_bytes(out, SPAN_LIT(":{\""));
        writer_bytes(out, key_id);
        writer_bytes(out, SPAN_LIT("\":\""));
        base64_encode(out, signature, ED25519_SIGNATURE_SIZE);
        writer_bytes(out, SPAN_LIT("\"}}"));
    }
    writer_bytes(out, SPAN_LIT(",\"valid_until_ts\":"));
    writer_i64(out, until_ms);
    writer_bytes(out, SPAN_LIT(",\"verify_keys\":{\""));
    writer_bytes(out, key_id);
    writer_bytes(out, SPAN_LIT("\":{\"key\":\""));
    base64_encode(out, origin->public_key, sizeof origin->public_key);
    writer_bytes(out, SPAN_LIT("\"}}}"));
}

void origins_write_key_document(struct writer *out, const struct origins *origins, uint32_t i)
{
    const struct origin *origin = &origins->all[i];
    int64_t until_ms = clock_ms() + valid_ms;
    uint8_t signature[ED25519_SIGNATURE_SIZE];
    struct writer message;

    writer_init(&message, DOCUMENT_MAX);
    write_document(&message, origin, until_ms, NULL);
    ed25519_sign(signature, origin->seed, writer_span(&message));
    writer_fini(&message);
    write_document(out, origin, until_ms, signature);
}

void origin_authorize(struct writer *out, const struct origin *origin,
                      const struct xmatrix_request *request)
{
    struct signing_key key = {.key_id = key_id};

    memcpy(key.seed, origin->seed, sizeof key.seed);
    xmatrix_sign(out, &key, request);
}
