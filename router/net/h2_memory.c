#include "net/h2_memory.h"

#include "proto/check.h"

#include <sys/mman.h>

#include <stdlib.h>
#include <string.h>

enum { FRAME_SIZE_MIN = 16 * 1024 /* bytes; nothing else is nearly so large */ };

static void *plain_malloc(size_t size, void *arg)
{
    (void)arg;
    return malloc(size);
}

static void *plain_calloc(size_t n, size_t size, void *arg)
{
    (void)arg;
    return calloc(n, size);
}

static void free_any(void *bytes, void *arg)
{
    struct h2_memory *memory = arg;

    if (bytes == NULL || bytes != memory->frame) {
        free(bytes);
        return;
    }
    CHECK(munmap(memory->frame, memory->frame_size) == 0);
    memory->frame = NULL;
}

static void *map_frame(struct h2_memory *memory, size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(pages != MAP_FAILED);
    memory->frame = pages;
    memory->frame_size = size;
    return pages;
}

static void *realloc_any(void *old, size_t size, void *arg)
{
    struct h2_memory *memory = arg;

    if (old == NULL && memory->frame == NULL && size >= FRAME_SIZE_MIN) {
        return map_frame(memory, size);
    }
    if (old == NULL || old != memory->frame) {
        return realloc(old, size);
    }
    void *bytes = malloc(size);
    CHECK(bytes != NULL);
    memcpy(bytes, old, size < memory->frame_size ? size : memory->frame_size);
    free_any(old, arg);
    return bytes;
}

void h2_memory_init(nghttp2_mem *out, struct h2_memory *memory)
{
    *out = (nghttp2_mem){.mem_user_data = memory,
                         .malloc = plain_malloc,
                         .free = free_any,
                         .calloc = plain_calloc,
                         .realloc = realloc_any};
}

void h2_memory_rest(struct h2_memory *memory)
{
    if (memory->frame != NULL) {
        CHECK(madvise(memory->frame, memory->frame_size, MADV_DONTNEED) == 0);
    }
}
