/* See elements.h. */
#include "elements.h"

#include "s3/date.h"

void element_time(struct xml_writer *xml, const char *name, uint64_t ms)
{
    char text[S3_DATE_EXTENDED_CHARS + 1];
    s3_date_format_extended(ms, text);
    xml_element_text(xml, name, text);
}

void element_object_etag(struct xml_writer *xml, const struct object_etag *etag)
{
    struct etag text = etag_of_object(etag);
    xml_element_etag(xml, "ETag", etag_slice(&text));
}

void element_checksum(struct xml_writer *xml, const struct checksum *checksum)
{
    if (checksum->algorithm == CHECKSUM_NONE)
        return;
    AUTO_VALUE(bytes) text = {.max = CHECKSUM_TEXT_BYTES_MAX};
    checksum_append(&text, checksum);
    xml_element(xml, checksum_element(checksum->algorithm), bytes_slice(&text));
}

void element_checksum_kind(struct xml_writer *xml, uint8_t algorithm, uint8_t type)
{
    if (algorithm == CHECKSUM_NONE)
        return;
    xml_element_text(xml, "ChecksumAlgorithm", checksum_name((enum checksum_algorithm)algorithm));
    xml_element_text(xml, "ChecksumType", checksum_type_name((enum checksum_type)type));
}
