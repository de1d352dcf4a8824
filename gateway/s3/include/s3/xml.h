/* Writer of S3's XML answers, appended to a `struct bytes`.
 *
 *     struct xml_writer xml = xml_document(&out, "ListBucketResult", true);
 *     xml_element(&xml, "Name", bucket);
 *     xml_open(&xml, "Contents");
 *     ...
 *     xml_close(&xml);
 *     xml_finish(&xml);
 *
 * Element names are literals of ours and outlive the writer. Text is escaped here and nowhere
 * else. A key may hold characters that XML 1.0 cannot carry: like S3 they are written as numeric
 * references (&#x1;), which lenient parsers accept; a client that lists such keys asks for
 * encoding-type=url. Bytes that are not UTF-8 become U+FFFD. Running out of room shows in
 * out->overflow, to be checked once at the end. */
#pragma once
#include "base/bytes.h"
#include "base/slice.h"
#include <stdbool.h>
#include <stdint.h>

enum { XML_DEPTH_MAX = 16 };

struct xml_writer {
    struct bytes *out;
    bool url_encode; /* set for encoding-type=url: what xml_element_key writes is percent-encoded */
    uint32_t depth;
    const char *open[XML_DEPTH_MAX];
};

/* Start a document: declaration and root element, with S3's namespace when `with_namespace` (all
 * answers but Error). */
struct xml_writer xml_document(struct bytes *out, const char *root, bool with_namespace);
/* A writer without declaration and root, for the pieces of an answer that is streamed. */
struct xml_writer xml_fragment(struct bytes *out);
void xml_open(struct xml_writer *xml, const char *name);
/* As xml_open; `attributes` (name="value" ...) is written as it is: a literal, never outside
 * input. */
void xml_open_with(struct xml_writer *xml, const char *name, const char *attributes);
/* Close the innermost open element. */
void xml_close(struct xml_writer *xml);
/* Close all that is open. */
void xml_finish(struct xml_writer *xml);

/* <name>text</name>; an empty text gives <name></name>. */
void xml_element(struct xml_writer *xml, const char *name, struct slice text);
void xml_element_text(struct xml_writer *xml, const char *name, const char *text);
void xml_element_u64(struct xml_writer *xml, const char *name, uint64_t value);
void xml_element_bool(struct xml_writer *xml, const char *name, bool value);
/* Keys, prefixes, delimiters and markers: percent-encoded when xml->url_encode. A space becomes
 * %20, not '+', because both form decoders and plain ones understand it. */
void xml_element_key(struct xml_writer *xml, const char *name, struct slice key);
/* An entity tag, given without quotes, written with them (&quot;...&quot;). */
void xml_element_etag(struct xml_writer *xml, const char *name, struct slice etag);

/* Escaped text alone, as inside an element. */
void xml_append_escaped(struct bytes *out, struct slice text);
