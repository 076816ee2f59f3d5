/* What becomes of a request from another server. */
#pragma once

#include "base/metrics.h"
#include "inbound/budget.h"
#include "inbound/gate.h"
#include "inbound/hosted.h"
#include "inbound/keyring.h"
#include "lists/judged.h"
#include "lists/lists.h"
#include "lists/reader.h"
#include "lists/second_look.h"
#include "net/http_server.h"
#include "net/loop.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct inbound;

/* All of one thread, borrowed. */
struct inbound_parts {
    struct loop *loop;
    struct metrics *metrics;
    struct keyring *keyring;
    struct lists *lists;
    struct list_reader *reader;
    struct second_looks *second_looks;
    struct gates *gates;
    struct judged *judged;
};

/* What the operator may change while it runs; for requests that begin from then on. */
struct inbound_settings {
    struct hosted *hosted; /* one reference becomes the inbound's */
    bool (*is_trusted_proxy)(void *arg, const struct in6_addr *address);
    void *arg;           /* lives as long as `hosted` */
    uint32_t max_age_s;  /* lists.max_age_s */
    uint32_t wait_ms;    /* lists.wait_ms */
    uint32_t settle_ms;  /* lists.settle_ms */
    uint32_t patience_s; /* upstream.patience_s */
    struct budget_limits budgets;
};

struct inbound *inbound_new(const struct inbound_parts *parts,
                            const struct inbound_settings *settings);
void inbound_set(struct inbound *inbound, const struct inbound_settings *settings);
void inbound_free(struct inbound *inbound); /* no request may be left */

/* The servers in force, for as long as the present callback. */
const struct hosted *inbound_hosted(const struct inbound *inbound);

/* The most bytes that requests held at once since the last call. */
uint64_t inbound_take_peak(struct inbound *inbound);

/* For a listener whose arg is the inbound. */
extern const struct http_server_ops inbound_ops;
