#include "net/resolve.h"

#include "net/mailbox.h"
#include "proto/check.h"

#include <netdb.h>
#include <pthread.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SERVICE_SIZE = 8 }; /* a port as text */

struct resolver {
    struct mailbox *box;
    struct mail mail; /* of the thread: its answer is there */
    pthread_t thread;
    bool is_running;
    char *host;
    char service[SERVICE_SIZE];
    struct resolve_answer answer; /* the thread's while it runs */
    void (*on_answer)(void *arg, const struct resolve_answer *answer);
    void *arg;
};

static void look_up(struct resolve_answer *out, const char *host, const char *service, int flags)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    struct addrinfo *list = NULL;

    out->n = 0;
    if (getaddrinfo(host, service, &hints, &list) != 0) {
        return;
    }
    for (const struct addrinfo *at = list; at != NULL && out->n < RESOLVE_ADDRESSES_MAX;
         at = at->ai_next) {
        if (at->ai_addrlen <= sizeof out->addresses[0]) {
            memcpy(&out->addresses[out->n], at->ai_addr, at->ai_addrlen);
            out->sizes[out->n] = at->ai_addrlen;
            out->n++;
        }
    }
    freeaddrinfo(list);
}

bool resolve_numeric(struct resolve_answer *out, const char *host, uint16_t port)
{
    char service[SERVICE_SIZE];

    snprintf(service, sizeof service, "%u", port);
    look_up(out, host, service, AI_NUMERICHOST);
    return out->n > 0;
}

static void *run(void *arg)
{
    struct resolver *resolver = arg;

    look_up(&resolver->answer, resolver->host, resolver->service, 0);
    mailbox_post(resolver->box, &resolver->mail);
    return NULL;
}

static void join(struct resolver *resolver)
{
    if (resolver->is_running) {
        CHECK(pthread_join(resolver->thread, NULL) == 0);
        resolver->is_running = false;
    }
}

static void on_mail(void *arg, struct mail *mail)
{
    struct resolver *resolver = arg;

    (void)mail;
    join(resolver);
    if (resolver->on_answer != NULL) {
        resolver->on_answer(resolver->arg, &resolver->answer);
    }
}

enum err resolver_new(struct resolver **out, struct loop *loop, const char *host, uint16_t port,
                      void (*on_answer)(void *arg, const struct resolve_answer *answer), void *arg)
{
    struct resolver *resolver = calloc(1, sizeof *resolver);

    CHECK(resolver != NULL);
    enum err err = mailbox_new(&resolver->box, loop, on_mail, resolver);
    if (err != ERR_OK) {
        free(resolver);
        return err;
    }
    resolver->host = strdup(host);
    CHECK(resolver->host != NULL);
    snprintf(resolver->service, sizeof resolver->service, "%u", port);
    resolver->on_answer = on_answer;
    resolver->arg = arg;
    *out = resolver;
    return ERR_OK;
}

void resolver_free(struct resolver *resolver)
{
    if (resolver == NULL) {
        return;
    }
    resolver->on_answer = NULL;
    join(resolver);
    mailbox_free(resolver->box);
    free(resolver->host);
    free(resolver);
}

void resolver_start(struct resolver *resolver)
{
    if (!resolver->is_running) {
        resolver->is_running = true;
        CHECK(pthread_create(&resolver->thread, NULL, run, resolver) == 0);
    }
}
