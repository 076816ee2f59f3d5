/* A doubly linked list through links that sit inside its elements. */
#pragma once

#include "proto/check.h"

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *prev, *next; /* both NULL while on no list */
};

struct list {
    struct link head; /* a ring; not to be moved once initialised */
};

/* The element that holds this link, e.g. LIST_ENTRY(link, struct job, link). */
#define LIST_ENTRY(link_ptr, type, member)                                                         \
    ((type *)(void *)((char *)(link_ptr) - offsetof(type, member)))

/* The same of one that may only be read. */
#define LIST_ENTRY_CONST(link_ptr, type, member)                                                   \
    ((const type *)(const void *)((const char *)(link_ptr) - offsetof(type, member)))

static inline void list_init(struct list *list)
{
    list->head.prev = list->head.next = &list->head;
}

static inline bool list_is_empty(const struct list *list)
{
    return list->head.next == &list->head;
}

static inline bool link_is_linked(const struct link *link)
{
    return link->next != NULL;
}

static inline void list_insert_after(struct link *before, struct link *link)
{
    CHECK(!link_is_linked(link));
    link->prev = before;
    link->next = before->next;
    before->next->prev = link;
    before->next = link;
}

static inline void list_append(struct list *list, struct link *link)
{
    list_insert_after(list->head.prev, link);
}

static inline void list_prepend(struct list *list, struct link *link)
{
    list_insert_after(&list->head, link);
}

/* Nothing happens to a link that is on no list. */
static inline void list_remove(struct link *link)
{
    if (link_is_linked(link)) {
        link->prev->next = link->next;
        link->next->prev = link->prev;
        link->prev = link->next = NULL;
    }
}

/* NULL if the list is empty. */
static inline struct link *list_first(const struct list *list)
{
    return list_is_empty(list) ? NULL : list->head.next;
}

/* NULL after the last. Take it before removing the link it follows. */
static inline struct link *list_next(const struct list *list, const struct link *link)
{
    return link->next == &list->head ? NULL : link->next;
}

/* list_first, removed. */
static inline struct link *list_take_first(struct list *list)
{
    struct link *first = list_first(list);

    if (first != NULL) {
        list_remove(first);
    }
    return first;
}
