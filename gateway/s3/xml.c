/* See s3/xml.h. */
#include "s3/xml.h"
#include "s3/uri.h"
#include <assert.h>
#include <inttypes.h>

static const char xml_declaration[] = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
static const char xml_namespace[] = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";

struct xml_writer xml_fragment(struct bytes *out)
{
    assert(out != NULL);
    assert(out->max > 0);
    return (struct xml_writer){.out = out};
}

struct xml_writer xml_document(struct bytes *out, const char *root, bool with_namespace)
{
    struct xml_writer xml = xml_fragment(out);
    bytes_append_text(out, xml_declaration);
    xml_open_with(&xml, root, with_namespace ? xml_namespace : "");
    return xml;
}

void xml_open(struct xml_writer *xml, const char *name)
{
    xml_open_with(xml, name, "");
}

void xml_open_with(struct xml_writer *xml, const char *name, const char *attributes)
{
    assert(xml->depth < XML_DEPTH_MAX);
    assert(name[0] != '\0');
    xml->open[xml->depth++] = name;
    bytes_append_byte(xml->out, '<');
    bytes_append_text(xml->out, name);
    if (attributes[0] != '\0')
        bytes_append_byte(xml->out, ' ');
    bytes_append_text(xml->out, attributes);
    bytes_append_byte(xml->out, '>');
}

void xml_close(struct xml_writer *xml)
{
    assert(xml->depth > 0);
    bytes_append_text(xml->out, "</");
    bytes_append_text(xml->out, xml->open[--xml->depth]);
    bytes_append_byte(xml->out, '>');
}

void xml_finish(struct xml_writer *xml)
{
    while (xml->depth > 0)
        xml_close(xml);
}

void xml_element(struct xml_writer *xml, const char *name, struct slice text)
{
    xml_open(xml, name);
    xml_append_escaped(xml->out, text);
    xml_close(xml);
}

void xml_element_text(struct xml_writer *xml, const char *name, const char *text)
{
    xml_element(xml, name, slice_of_text(text));
}

void xml_element_u64(struct xml_writer *xml, const char *name, uint64_t value)
{
    xml_open(xml, name);
    bytes_append_format(xml->out, "%" PRIu64, value);
    xml_close(xml);
}

void xml_element_bool(struct xml_writer *xml, const char *name, bool value)
{
    xml_element_text(xml, name, value ? "true" : "false");
}

void xml_element_key(struct xml_writer *xml, const char *name, struct slice key)
{
    xml_open(xml, name);
    if (xml->url_encode)
        s3_uri_encode(xml->out, key, true);
    else
        xml_append_escaped(xml->out, key);
    xml_close(xml);
}

void xml_element_etag(struct xml_writer *xml, const char *name, struct slice etag)
{
    xml_open(xml, name);
    bytes_append_text(xml->out, "&quot;");
    xml_append_escaped(xml->out, etag);
    bytes_append_text(xml->out, "&quot;");
    xml_close(xml);
}

static const char *named_entity(uint8_t byte)
{
    switch (byte) {
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '&':
        return "&amp;";
    case '"':
        return "&quot;";
    case '\'':
        return "&apos;";
    default: /* any other byte stands for itself */
        return NULL;
    }
}

/* U+FFFE and U+FFFF, the two that UTF-8 has and XML 1.0 lacks above the controls. */
static bool is_noncharacter(struct slice text)
{
    return text.bytes >= 3 && text.data[0] == 0xef && text.data[1] == 0xbf && text.data[2] >= 0xbe;
}

/* Write the character at the start of `text` if it needs more than copying. Returns the bytes
 * consumed, 0 when it is plain. */
static size_t append_special(struct bytes *out, struct slice text, bool is_utf8)
{
    uint8_t byte = text.data[0];
    if (byte >= 0x80) {
        if (!is_utf8) {
            bytes_append_text(out, "\xef\xbf\xbd"); /* U+FFFD */
            return 1;
        }
        if (!is_noncharacter(text))
            return 0;
        bytes_append_format(out, "&#xFFF%c;", text.data[2] == 0xbe ? 'E' : 'F');
        return 3;
    }
    const char *entity = named_entity(byte);
    if (entity != NULL) {
        bytes_append_text(out, entity);
        return 1;
    }
    /* Tab, LF and CR too: a parser would normalise CR away. */
    if (byte < 0x20) {
        bytes_append_format(out, "&#x%X;", (unsigned)byte);
        return 1;
    }
    return 0;
}

void xml_append_escaped(struct bytes *out, struct slice text)
{
    bool is_utf8 = s3_utf8_valid(text);
    while (text.bytes > 0) {
        size_t special = append_special(out, text, is_utf8);
        text = slice_skip(text, special);
        size_t plain = 0;
        while (plain < text.bytes) {
            uint8_t byte = text.data[plain];
            if (byte < 0x20 || named_entity(byte) != NULL || (byte >= 0x80 && !is_utf8) ||
                is_noncharacter(slice_skip(text, plain)))
                break;
            plain++;
        }
        assert(special + plain > 0);
        bytes_append(out, slice_first(text, plain));
        text = slice_skip(text, plain);
    }
}
