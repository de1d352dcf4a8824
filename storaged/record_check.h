/* Whether a record is on the medium what it was when it was written: read past the page
 * cache, every checksum compared. */
#pragma once
#include "drive_index.h"
#include "record.h"

/* The header and, of a streamed record, the footer: who the shard is, its hint and its hash. Slices
 * of *out point into `memory`, which has room for RECORD_HEADER_BYTES + RECORD_FOOTER_BYTES_MAX.
 * ERR_NOT_FOUND: its segment is gone; ERR_CORRUPT, ERR_IO. */
enum err record_identify(struct io *io, struct drive *drive, const struct index_record *record,
                         struct buf *memory, struct record *out);
/* All of it. Same errors. Whoever gets ERR_CORRUPT looks whether the record still counts: it
 * may have been punched meanwhile. */
enum err record_check(struct io *io, struct drive *drive, const struct index_record *record);
