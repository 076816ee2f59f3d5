/* A connection to the measured server: TCP, with TLS or without, never blocking. */
#pragma once

#include "proto/own.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct ssl_st;
struct ssl_ctx_st;

enum wire_result {
    WIRE_OK,
    WIRE_AGAIN, /* not before the next event */
    WIRE_CLOSED,
};

enum wire_state { WIRE_SHUT, WIRE_CONNECTING, WIRE_SHAKING, WIRE_OPEN };

/* Borrowed. */
struct wire_target {
    struct sockaddr_storage address;
    socklen_t address_size;
    uint32_t n_sources; /* addresses 127.1.0.1, 127.1.1.1, ... to connect from in turn; 0: any */
    struct ssl_ctx_st *tls; /* NULL: cleartext */
};

/* All zero is a shut one. */
struct wire {
    struct ssl_st *ssl;
    int fd;
    enum wire_state state;
};

/* What --target says: "IPV4:PORT" or "[IPV6]:PORT". */
MUST_CHECK bool wire_target_parse(struct wire_target *out, const char *text);

/* Begins to connect and has the descriptor watched, edge-triggered, under `what`. `number` chooses
 * the source, `name` is for SNI. */
MUST_CHECK bool wire_open(struct wire *wire, const struct wire_target *target, const char *name,
                          uint32_t number, int epoll_fd, void *what);
void wire_close(struct wire *wire);

/* As far as it goes: WIRE_OK once it is open. */
enum wire_result wire_advance(struct wire *wire);

/* WIRE_OK: at least one byte. */
MUST_CHECK enum wire_result wire_read(size_t *n, struct wire *wire, void *data, size_t size);
MUST_CHECK enum wire_result wire_write(size_t *n, struct wire *wire, const void *data, size_t size);
