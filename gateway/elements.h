/* XML elements that several answers have. */
#pragma once
#include "context.h"

/* 2009-10-12T17:50:30.000Z */
void element_time(struct xml_writer *xml, const char *name, uint64_t ms);
void element_object_etag(struct xml_writer *xml, const struct object_etag *etag);
/* <ChecksumCRC32>...</ChecksumCRC32>; nothing for none. */
void element_checksum(struct xml_writer *xml, const struct checksum *checksum);
/* ChecksumAlgorithm and ChecksumType, by the metadata's numbers; nothing for none. */
void element_checksum_kind(struct xml_writer *xml, uint8_t algorithm, uint8_t type);
