/* Any bytes: a record that decodes is written back as the same bytes, and its devices walk. */
#include "lists/device_list.h"
#include "proto/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span record = span_of(data, size);
    struct device_list list;
    struct device_hash device;
    struct writer w;
    uint32_t n = 0;

    if (!device_list_decode(&list, record)) {
        return 0;
    }
    writer_init(&w, DEVICE_LIST_RECORD_MAX);
    device_list_encode(&w, &list);
    CHECK(w.failed || span_equal(writer_span(&w), record));
    writer_fini(&w);
    while (device_list_next_device(&device, &list.devices)) {
        n++;
    }
    CHECK(list.devices.size == 0 && n == list.sum.n && n <= DLH_DEVICES_MAX);
    return 0;
}
