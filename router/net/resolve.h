/* Addresses of one host, looked up off the loop's thread. For net/ alone. */
#pragma once

#include "base/err.h"
#include "net/loop.h"
#include "proto/own.h"

#include <sys/socket.h>

#include <stdbool.h>
#include <stdint.h>

enum { RESOLVE_ADDRESSES_MAX = 4 };

struct resolve_answer {
    size_t n; /* 0: there is none */
    struct sockaddr_storage addresses[RESOLVE_ADDRESSES_MAX];
    socklen_t sizes[RESOLVE_ADDRESSES_MAX];
};

/* True if the host is an address: *out is it, and nothing need be looked up. */
bool resolve_numeric(struct resolve_answer *out, const char *host, uint16_t port);

struct resolver;

/* The host may be an address. */
MUST_CHECK enum err resolver_new(struct resolver **out, struct loop *loop, const char *host,
                                 uint16_t port,
                                 void (*on_answer)(void *arg, const struct resolve_answer *answer),
                                 void *arg);

/* May wait for a lookup that is under way, as long as the system's resolver takes. */
void resolver_free(struct resolver *resolver);

/* The answer comes once, from the loop. Nothing happens while a lookup is under way. */
void resolver_start(struct resolver *resolver);
