/* The configuration reader on any bytes: it either says what is wrong or gives a whole struct. */
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "config_check.h"
#include "proto/check.h"

enum { OUTPUT_MAX = 1 << 20, INPUT_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(config_freep) struct config *config = NULL;
    AUTO(writer_fini) struct writer text;

    if (size > INPUT_MAX) {
        return 0;
    }
    writer_init(&text, OUTPUT_MAX);
    enum err err = config_parse(&config, span_of(data, size), "f", &text);
    CHECK((err == ERR_OK) == (config != NULL));
    CHECK((err == ERR_OK) == (text.size == 0));
    if (config != NULL) {
        CHECK(config->n_servers > 0 && config->servers[0].n_upstreams > 0);
        config_describe(&text, config);
    }
    return 0;
}
