/* Our own failures; what a peer does wrong is an enum reject instead. */
#pragma once

#include "proto/own.h"

enum err {
    ERR_OK = 0,
    ERR_FULL,      /* a cap of ours was reached */
    ERR_IO,        /* the system or the disk failed */
    ERR_TLS,       /* OpenSSL failed on our side */
    ERR_TIMEOUT,   /* it took too long */
    ERR_CLOSED,    /* the other end is gone, or we are stopping */
    ERR_CONFIG,    /* what the operator gave does not work */
    ERR_NOT_FOUND, /* an ordinary outcome: never raised, only returned */
    ERR_CORRUPT,   /* stored bytes are not what was written */
    ERR_NO_MEMORY, /* a capped arena is full */
    ERR_COUNT
};

/* For logs: "io", "full", ... */
const char *err_label(enum err code);

/* Makes an error where it happens and logs it once, with its place; everyone above only returns it.
 * Use: return err_raise(ERR_IO, "mdb_txn_commit: %s", text); */
#define err_raise(code, ...) err_raise_at((code), __FILE__, __LINE__, __VA_ARGS__)

PRINTF_LIKE(4, 5)
enum err err_raise_at(enum err code, const char *file, int line, const char *format, ...);
