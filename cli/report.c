/* See report.h. Keys of objects may hold anything: control characters never reach a terminal. */
#include "report.h"

#include "base/mem.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>

enum { LINE_BYTES_MAX = 64 << 10, HEX_BYTES_MAX = 32, SLOTS_TEXT_BYTES = 128 };

struct report_line report_begin(const struct report *report, const char *kind)
{
    struct report_line line = {.report = report, .text = {.max = LINE_BYTES_MAX}};
    bytes_append_format(&line.text, report->json ? "{\"kind\":\"%s\"" : "%s", kind);
    return line;
}

static void add_name(struct report_line *line, const char *name)
{
    bytes_append_format(&line->text, line->report->json ? ",\"%s\":" : " %s=", name);
}

/* Bytes of a sequence of UTF-8 that starts here, 0: none. */
static size_t utf8_bytes(struct slice text)
{
    uint8_t first = text.data[0];
    size_t bytes = first < 0x80                     ? 1
                   : first >= 0xc2 && first <= 0xdf ? 2
                   : first >= 0xe0 && first <= 0xef ? 3
                   : first >= 0xf0 && first <= 0xf4 ? 4
                                                    : 0;
    if (bytes > text.bytes)
        return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((text.data[i] & 0xc0) != 0x80)
            return 0;
    return bytes;
}

/* A byte that is no text stands as the character of its number, as JSON has no other way. */
static void add_quoted(struct bytes *out, struct slice value)
{
    bytes_append_byte(out, '"');
    while (value.bytes > 0) {
        size_t bytes = utf8_bytes(value);
        uint8_t first = value.data[0];
        if (first == '"' || first == '\\')
            bytes_append_format(out, "\\%c", first);
        else if (bytes == 0 || first < ' ' || first == 0x7f)
            bytes_append_format(out, "\\u%04x", first);
        else
            bytes_append(out, slice_first(value, bytes));
        value = slice_skip(value, bytes == 0 ? 1 : bytes);
    }
    bytes_append_byte(out, '"');
}

static bool is_word(struct slice value)
{
    for (size_t i = 0; i < value.bytes; i++)
        if (value.data[i] <= ' ' || value.data[i] >= 0x7f || value.data[i] == '"' ||
            value.data[i] == '\\')
            return false;
    return value.bytes > 0;
}

void report_text(struct report_line *line, const char *name, struct slice value)
{
    add_name(line, name);
    if (!line->report->json && is_word(value))
        bytes_append(&line->text, value);
    else
        add_quoted(&line->text, value);
}

void report_number(struct report_line *line, const char *name, uint64_t value)
{
    add_name(line, name);
    bytes_append_format(&line->text, "%" PRIu64, value);
}

void report_hex(struct report_line *line, const char *name, struct slice value)
{
    char text[2 * HEX_BYTES_MAX + 1];
    text_hex(slice_first(value, HEX_BYTES_MAX), text);
    report_text(line, name, slice_of_text(text));
}

void report_block(struct report_line *line, const char *name, struct block_id block)
{
    char text[48];
    snprintf(text, sizeof text, "%" PRIu64 "-%" PRIu64, block.volume, block.sequence);
    report_text(line, name, slice_of_text(text));
}

void report_slots(struct report_line *line, const char *name, uint32_t slots)
{
    char text[SLOTS_TEXT_BYTES] = "";
    size_t at = 0;
    for (unsigned slot = 0; slot < META_SHARDS_MAX; slot++) {
        if ((slots >> slot & 1) != 0)
            at += (size_t)snprintf(text + at, sizeof text - at, at == 0 ? "%u" : ",%u", slot);
    }
    if (at > 0)
        report_text(line, name, slice_of_text(text));
}

void report_end(struct report_line *line)
{
    bytes_append_text(&line->text, line->report->json ? "}\n" : "\n");
    line->report->print(line->report->context, bytes_slice(&line->text));
    bytes_deinit(&line->text);
}
