/* Lines of findings: one kind and fields, as key=value text or as a JSON object. */
#pragma once
#include "base/bytes.h"
#include "meta/types.h"
#include "runtime/io.h"

struct report {
    bool json;
    void (*print)(void *context, struct slice text);
    void *context;
};

struct report_line {
    const struct report *report;
    struct bytes text;
};
struct report_line report_begin(const struct report *report, const char *kind);
void report_text(struct report_line *line, const char *name, struct slice value);
void report_number(struct report_line *line, const char *name, uint64_t value);
void report_hex(struct report_line *line, const char *name, struct slice value);
void report_block(struct report_line *line, const char *name, struct block_id block);
/* Numbers of the bits that are set; nothing when there is none. */
void report_slots(struct report_line *line, const char *name, uint32_t slots);
/* Print it and free it. */
void report_end(struct report_line *line);
