/* What a start finds on a drive: bring segments and index together again.
 *
 * Segments that the index knows as sealed are taken as they are. Every other one is scanned
 * from its watermark on, its rows are put, and it is sealed: nothing is ever appended to a
 * segment of an earlier start. Damage is never dropped silently: a record that says who it is
 * but fails its checksums gets a row marked bad (reads give ERR_CORRUPT), everything else is
 * logged. */
#pragma once
#include "drive_index.h"

/* Takes the rows of drive_index_open as they are; fills the drive's table of segments. */
enum err drive_recover(struct io *io, struct drive *drive, const struct segment_row *rows,
                       uint32_t row_count, bool rebuild);
