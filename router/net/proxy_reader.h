/* Reads a PROXY header off a socket before anything else is, and not a byte beyond it. */
#pragma once

#include "net/proxy_header.h"
#include "proto/own.h"

struct proxy_reader {
    size_t size; /* bytes read */
    char bytes[PROXY_HEADER_MAX];
};

enum proxy_read {
    PROXY_READ_AGAIN, /* when the socket has more */
    PROXY_READ_NONE,  /* something else begins here; line ends before it may be gone */
    PROXY_READ_DONE,
    PROXY_READ_BAD, /* malformed, cut off, or the socket failed */
};

/* *out only with PROXY_READ_DONE. */
MUST_CHECK enum proxy_read proxy_read(struct proxy_header *out, struct proxy_reader *reader,
                                      int fd);
