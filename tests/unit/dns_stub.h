/* A DNS server on loopback, on a thread of its own: answers from a table, over UDP alone. */
#pragma once

#include "proto/check.h"
#include "proto/span.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <pthread.h>
#include <sys/socket.h>

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct dns_row {
    const char *name; /* in lower case */
    uint16_t type;
    const char *data; /* "127.0.0.1", "::1", for SRV "PRIORITY WEIGHT PORT TARGET"; "": silence */
};

struct dns_stub {
    pthread_t thread;
    int fd;
    char address[32];           /* "127.0.0.1:PORT" */
    const struct dns_row *rows; /* until one without a name */
    atomic_uint ttl_s;
    atomic_uint n_queries;
};

enum { DNS_MESSAGE_MAX = 512, DNS_HEADER = 12 };

static inline void dns_put(uint8_t *message, size_t *size, uint32_t value, size_t n)
{
    for (size_t i = n; i > 0; i--) {
        CHECK(*size < DNS_MESSAGE_MAX);
        message[(*size)++] = (uint8_t)(value >> (8 * (i - 1)));
    }
}

/* A name of the question or a target, as labels. */
static inline void dns_put_name(uint8_t *message, size_t *size, const char *name)
{
    while (*name != '\0') {
        size_t n = strcspn(name, ".");
        dns_put(message, size, (uint32_t)n, 1);
        CHECK(*size + n < DNS_MESSAGE_MAX);
        memcpy(message + *size, name, n);
        *size += n;
        name += name[n] == '.' ? n + 1 : n;
    }
    dns_put(message, size, 0, 1);
}

static inline void dns_put_data(uint8_t *message, size_t *size, const struct dns_row *row)
{
    char *rest = NULL;
    size_t at = *size;

    dns_put(message, size, 0, 2);
    if (row->type == ns_t_srv) {
        dns_put(message, size, (uint32_t)strtoul(row->data, &rest, 10), 2);
        dns_put(message, size, (uint32_t)strtoul(rest, &rest, 10), 2);
        dns_put(message, size, (uint32_t)strtoul(rest, &rest, 10), 2);
        CHECK(*rest == ' ');
        dns_put_name(message, size, strcmp(rest, " .") == 0 ? "" : rest + 1);
    } else {
        int family = row->type == ns_t_a ? AF_INET : AF_INET6;
        CHECK(inet_pton(family, row->data, message + *size) == 1);
        *size += family == AF_INET ? 4 : 16;
    }
    message[at] = (uint8_t)((*size - at - 2) >> 8);
    message[at + 1] = (uint8_t)(*size - at - 2);
}

/* The question's name in lower case; where it ends. */
static inline size_t dns_take_name(char out[256], const uint8_t *message, size_t size)
{
    size_t at = DNS_HEADER;
    size_t n = 0;

    while (at < size && message[at] != 0 && at + message[at] < size && n + message[at] < 250) {
        for (size_t i = 1; i <= message[at]; i++) {
            out[n++] = ascii_lower((char)message[at + i]);
        }
        out[n++] = '.';
        at += message[at] + 1U;
    }
    out[n > 0 ? n - 1 : 0] = '\0';
    return at + 1;
}

/* The answer in place of the question; 0: none is given. */
static inline size_t dns_answer(const struct dns_stub *stub, uint8_t message[DNS_MESSAGE_MAX],
                                size_t size)
{
    char name[256];
    size_t end = dns_take_name(name, message, size);
    uint16_t type = (uint16_t)(message[end] << 8 | message[end + 1]);
    uint8_t n_answers = 0;
    bool is_known = false;

    size = end + 4;
    for (const struct dns_row *row = stub->rows; row != NULL && row->name != NULL; row++) {
        bool is_it = strcmp(row->name, name) == 0;
        is_known = is_known || is_it;
        if (is_it && row->type == type) {
            if (row->data[0] == '\0') {
                return 0;
            }
            dns_put(message, &size, 0xc000 | DNS_HEADER, 2);
            dns_put(message, &size, type, 2);
            dns_put(message, &size, ns_c_in, 2);
            dns_put(message, &size, atomic_load(&stub->ttl_s), 4);
            dns_put_data(message, &size, row);
            n_answers++;
        }
    }
    message[2] = 0x84; /* an answer, authoritative */
    message[3] = is_known ? 0 : ns_r_nxdomain;
    memset(message + 6, 0, 6);
    message[7] = n_answers;
    return size;
}

static inline void *dns_stub_run(void *arg)
{
    struct dns_stub *stub = arg;
    uint8_t message[DNS_MESSAGE_MAX];
    struct sockaddr_in from;

    for (;;) {
        socklen_t from_size = sizeof from;
        ssize_t n =
            recvfrom(stub->fd, message, sizeof message, 0, (struct sockaddr *)&from, &from_size);
        if (n == 1) {
            return NULL; /* dns_stub_stop */
        }
        if (n > DNS_HEADER) {
            atomic_fetch_add(&stub->n_queries, 1);
            size_t size = dns_answer(stub, message, (size_t)n);
            if (size > 0) {
                sendto(stub->fd, message, size, 0, (struct sockaddr *)&from, from_size);
            }
        }
    }
}

/* The rows must not change while it runs, and outlive it; NULL: no name exists. */
static inline void dns_stub_start(struct dns_stub *stub, const struct dns_row *rows)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;

    stub->rows = rows;
    atomic_init(&stub->ttl_s, 3600);
    atomic_init(&stub->n_queries, 0);
    stub->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(stub->fd >= 0 && bind(stub->fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(getsockname(stub->fd, (struct sockaddr *)&address, &size) == 0);
    snprintf(stub->address, sizeof stub->address, "127.0.0.1:%u", ntohs(address.sin_port));
    CHECK(pthread_create(&stub->thread, NULL, dns_stub_run, stub) == 0);
}

static inline void dns_stub_stop(struct dns_stub *stub)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;

    CHECK(getsockname(stub->fd, (struct sockaddr *)&address, &size) == 0);
    CHECK(sendto(stub->fd, "", 1, 0, (struct sockaddr *)&address, size) == 1);
    CHECK(pthread_join(stub->thread, NULL) == 0);
    close(stub->fd);
}
