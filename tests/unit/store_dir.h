/* A store directory of a test's own. */
#pragma once

#include "proto/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { STORE_DIR_MAX = 64 /* bytes */ };

struct store_dir {
    char path[STORE_DIR_MAX];
    char data[STORE_DIR_MAX + 16]; /* LMDB's file */
    char lock[STORE_DIR_MAX + 16];
};

static inline void store_dir_make(struct store_dir *dir)
{
    snprintf(dir->path, sizeof dir->path, "/tmp/freshet-test-XXXXXX");
    CHECK(mkdtemp(dir->path) != NULL);
    snprintf(dir->data, sizeof dir->data, "%s/data.mdb", dir->path);
    snprintf(dir->lock, sizeof dir->lock, "%s/lock.mdb", dir->path);
}

static inline void store_dir_remove(const struct store_dir *dir)
{
    unlink(dir->data);
    unlink(dir->lock);
    CHECK(rmdir(dir->path) == 0);
}
