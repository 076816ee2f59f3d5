/* A stored device list as JSON, for operators. */
#pragma once

#include "lists/device_list.h"
#include "proto/writer.h"

/* Ages are counted from now_ms, wall clock. */
void list_json_write(struct writer *out, const struct device_list *list, int64_t now_ms);
