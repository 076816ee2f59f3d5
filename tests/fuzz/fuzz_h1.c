/* Any bytes on a connection of the server: whatever comes of it, a handler hears of one request at
 * a time, each with a sound head and the body it announces. */
#include "served.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    serve(SPAN_LIT(""), span_of(data, size), 1);
    return 0;
}
