/* `shale extract`: see cli/offline.h.
 *
 * By the metadata: the current version, byte for byte as acknowledged. By the records alone: each
 * says of which object it is a block, in which write or upload, and at which place; so the blocks
 * of each write are put together again. What cannot be known then is where a write ended and
 * whether it was acknowledged, and that is said. */
#include "offline_node.h"

#include "base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

enum { CANDIDATES_MAX = 1 << 20, FULL_BLOCK_BYTES = META_BLOCK_BYTES_MAX };

/* A block that says it is of the object. */
struct candidate {
    struct block_id block;
    struct block_id write; /* first block of its object or part */
    uint64_t upload_id;
    uint64_t written_ms;
    uint32_t part_number;
    uint32_t ordinal;
    uint32_t bytes;
};

/* A piece of the object, in order; `lost`: it cannot be had. */
struct piece {
    uint64_t offset;
    struct block_ref ref;
    bool has_ref; /* with hash and length, from the metadata */
    bool lost;
};

struct extract {
    const struct extract_options *options;
    struct report report;
    struct offline_node node;
    struct candidate *candidates;
    uint32_t candidate_count, candidate_capacity;
    bool too_many;
    struct piece *pieces;
    uint32_t piece_count, piece_capacity;
    uint64_t bytes;  /* of the object */
    bool incomplete; /* gaps in what the records number */
};

static void complain(const struct extract *extract, const char *text)
{
    const struct extract_options *options = extract->options;
    offline_complain(&options->offline, "%.*s/%.*s: %s\n", SLICE_PRINT(options->bucket),
                     SLICE_PRINT(options->key), text);
}

static bool by_records(const struct extract_options *options)
{
    return options->offline.no_metadata || options->upload_id != 0 || options->write_sequence != 0;
}

/* --- what the records say --- */

static void on_record(void *context, const struct survey_record *record)
{
    struct extract *extract = context;
    const struct block_hint *hint = record->hint;
    if (!slice_equal(hint->bucket_name, extract->options->bucket) ||
        !slice_equal(hint->key, extract->options->key))
        return;
    if (extract->candidate_count == CANDIDATES_MAX) {
        extract->too_many = true;
        return;
    }
    if (extract->candidate_count == extract->candidate_capacity) {
        uint32_t capacity = extract->candidate_capacity;
        extract->candidate_capacity = capacity == 0 ? 64 : 2 * capacity;
        extract->candidates = mem_resize(extract->candidates,
                                         extract->candidate_capacity * sizeof *extract->candidates);
    }
    bool is_first = hint->write_id.volume == 0 && hint->write_id.sequence == 0;
    extract->candidates[extract->candidate_count++] = (struct candidate){
        .block = record->block,
        .write = is_first ? record->block : hint->write_id,
        .upload_id = hint->upload_id,
        .written_ms = record->written_ms,
        .part_number = hint->part_number,
        .ordinal = hint->ordinal,
        .bytes = record->block_bytes,
    };
}

static void on_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    const struct extract *extract = context;
    const struct offline_options *options = &extract->options->offline;
    if (options->progress != NULL)
        options->progress(options->context, done_bytes, total_bytes);
}

static int compare_numbers(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_ids(struct block_id a, struct block_id b)
{
    int order = compare_numbers(a.volume, b.volume);
    return order != 0 ? order : compare_numbers(a.sequence, b.sequence);
}

/* Uploads and writes apart; then parts, writes, blocks in order. */
static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *left = a;
    const struct candidate *right = b;
    int order = compare_numbers(left->upload_id, right->upload_id);
    if (order == 0)
        order = compare_numbers(left->part_number, right->part_number);
    if (order == 0)
        order = compare_ids(left->write, right->write);
    if (order == 0)
        order = compare_numbers(left->ordinal, right->ordinal);
    return order != 0 ? order : compare_ids(left->block, right->block);
}

/* Each block once: the shards of one say the same. */
static void sort_candidates(struct extract *extract)
{
    uint32_t count = 0;
    if (extract->candidate_count == 0)
        return;
    qsort(extract->candidates, extract->candidate_count, sizeof *extract->candidates,
          compare_candidates);
    for (uint32_t i = 1; i < extract->candidate_count; i++) {
        struct candidate *last = &extract->candidates[count];
        if (!block_id_equal(last->block, extract->candidates[i].block))
            extract->candidates[++count] = extract->candidates[i];
        else if (last->bytes == 0)
            last->bytes = extract->candidates[i].bytes;
    }
    extract->candidate_count = count + 1;
}

/* Candidates [from, to) that were written together: one upload, or one PUT. */
struct write {
    uint32_t from, to;
    uint64_t written_ms;
    uint64_t bytes;
};

static bool same_write(const struct candidate *a, const struct candidate *b)
{
    return a->upload_id == b->upload_id &&
           (a->upload_id != 0 || block_id_equal(a->write, b->write));
}

static bool next_write(const struct extract *extract, uint32_t *cursor, struct write *out)
{
    if (*cursor == extract->candidate_count)
        return false;
    *out = (struct write){.from = *cursor};
    const struct candidate *first = &extract->candidates[*cursor];
    for (; *cursor < extract->candidate_count; ++*cursor) {
        const struct candidate *candidate = &extract->candidates[*cursor];
        if (!same_write(first, candidate))
            break;
        out->bytes += candidate->bytes;
        if (candidate->written_ms > out->written_ms)
            out->written_ms = candidate->written_ms;
    }
    out->to = *cursor;
    return true;
}

static void tell_write(const struct extract *extract, const struct write *write)
{
    const struct candidate *first = &extract->candidates[write->from];
    struct report_line line = report_begin(&extract->report, "write");
    if (first->upload_id != 0)
        report_number(&line, "upload_id", first->upload_id);
    else
        report_block(&line, "write_id", first->write);
    report_number(&line, "blocks", write->to - write->from);
    report_number(&line, "bytes", write->bytes);
    report_number(&line, "not_before_ms", write->written_ms);
    report_end(&line);
}

static bool is_wanted(const struct extract *extract, const struct write *write)
{
    const struct extract_options *options = extract->options;
    const struct candidate *first = &extract->candidates[write->from];
    if (options->upload_id != 0)
        return first->upload_id == options->upload_id;
    if (options->write_sequence != 0)
        return first->upload_id == 0 && first->write.volume == options->write_volume &&
               first->write.sequence == options->write_sequence;
    return true;
}

/* Later by the age of its segment; of one age, by the ids, which rise within a volume. */
static bool is_newer(const struct extract *extract, const struct write *a, const struct write *b)
{
    if (a->written_ms != b->written_ms)
        return a->written_ms > b->written_ms;
    const struct candidate *left = &extract->candidates[a->from];
    const struct candidate *right = &extract->candidates[b->from];
    if (left->upload_id != right->upload_id && left->upload_id != 0 && right->upload_id != 0)
        return left->upload_id > right->upload_id;
    return compare_ids(left->write, right->write) > 0;
}

static uint32_t choose_write(const struct extract *extract, struct write *out)
{
    uint32_t count = 0;
    struct write write;
    for (uint32_t cursor = 0; next_write(extract, &cursor, &write);) {
        if (!is_wanted(extract, &write))
            continue;
        if (extract->options->list)
            tell_write(extract, &write);
        if (count == 0 || is_newer(extract, &write, out))
            *out = write;
        count++;
    }
    return count;
}

/* --- pieces --- */

static void add_piece(struct extract *extract, const struct piece *piece)
{
    if (extract->piece_count == extract->piece_capacity) {
        uint32_t capacity = extract->piece_capacity;
        extract->piece_capacity = capacity == 0 ? 64 : 2 * capacity;
        extract->pieces =
            mem_resize(extract->pieces, extract->piece_capacity * sizeof *extract->pieces);
    }
    extract->pieces[extract->piece_count++] = *piece;
    extract->bytes = piece->offset + piece->ref.bytes;
}

/* Where the next write of the same part begins: of a part that was uploaded again the newest
 * counts. */
static uint32_t end_of_part_write(const struct extract *extract, uint32_t from, uint32_t to)
{
    uint32_t end = from + 1;
    const struct candidate *first = &extract->candidates[from];
    while (end < to && extract->candidates[end].part_number == first->part_number &&
           block_id_equal(extract->candidates[end].write, first->write))
        end++;
    return end;
}

/* A block that the numbers say was there is a hole of unknown length, but of a full block. */
static void add_part_write(struct extract *extract, uint32_t from, uint32_t to)
{
    uint32_t ordinal = 0;
    for (uint32_t i = from; i < to; i++) {
        const struct candidate *candidate = &extract->candidates[i];
        struct piece piece = {.offset = extract->bytes};
        for (; ordinal < candidate->ordinal; ordinal++) {
            piece.ref.bytes = FULL_BLOCK_BYTES;
            piece.lost = true;
            add_piece(extract, &piece);
            piece.offset = extract->bytes;
        }
        if (candidate->ordinal < ordinal) {
            extract->incomplete = true; /* two blocks of one place: not one write */
            continue;
        }
        piece.lost = candidate->bytes == 0;
        piece.ref = (struct block_ref){.id = candidate->block,
                                       .bytes = piece.lost ? FULL_BLOCK_BYTES : candidate->bytes};
        add_piece(extract, &piece);
        ordinal++;
    }
}

static void pieces_of_write(struct extract *extract, const struct write *write)
{
    uint32_t part_number = 0;
    for (uint32_t from = write->from; from < write->to;) {
        const struct candidate *first = &extract->candidates[from];
        uint32_t to = end_of_part_write(extract, from, write->to);
        uint32_t best_from = from;
        uint32_t best_to = to;
        while (to < write->to && extract->candidates[to].part_number == first->part_number) {
            uint32_t next = end_of_part_write(extract, to, write->to);
            if (extract->candidates[to].written_ms >= extract->candidates[best_from].written_ms) {
                best_from = to;
                best_to = next;
            }
            to = next;
        }
        extract->incomplete |= first->upload_id != 0 && first->part_number != part_number + 1;
        part_number = first->part_number;
        add_part_write(extract, best_from, best_to);
        from = to;
    }
}

static enum err pieces_of_object(struct extract *extract, const struct object *object)
{
    uint64_t offset = 0;
    while (offset < object->bytes) {
        AUTO(extent_page) page = NULL;
        TRY(meta_offline_extents(extract->node.io, extract->node.meta, object, offset, &page));
        if (page->count == 0)
            return FAIL(ERR_CORRUPT, "object ends at offset=%" PRIu64, offset);
        for (uint32_t i = 0; i < page->count; i++) {
            struct piece piece = {
                .offset = page->extents[i].offset, .ref = page->extents[i].ref, .has_ref = true};
            add_piece(extract, &piece);
            offset = extract->bytes;
        }
    }
    return OK;
}

/* --- bytes --- */

static const struct block_ref *ref_of(const struct piece *piece)
{
    return piece->has_ref ? &piece->ref : NULL;
}

static bool find_lost(struct extract *extract)
{
    bool any = false;
    for (uint32_t i = 0; i < extract->piece_count; i++) {
        struct piece *piece = &extract->pieces[i];
        struct survey_block block = {.bytes = 0};
        if (!piece->lost)
            (void)survey_find(extract->node.survey, piece->ref.id, &block); /* else judged lost */
        piece->lost = survey_judge(&block, ref_of(piece)).state == SURVEY_LOST;
        any = any || piece->lost;
    }
    return any;
}

static void tell_piece(const struct extract *extract, const struct piece *piece)
{
    const struct offline_options *options = &extract->options->offline;
    offline_complain(options,
                     "lost: bytes %" PRIu64 " to %" PRIu64 " (block %" PRIu64 "-%" PRIu64 ")\n",
                     piece->offset, piece->offset + piece->ref.bytes - 1, piece->ref.id.volume,
                     piece->ref.id.sequence);
}

static enum err write_zeros(struct extract *extract, uint64_t bytes)
{
    enum { ZEROS_BYTES = 1 << 20 };
    AUTO(buf) buf = buf_new(ZEROS_BYTES);
    memset(buf->data, 0, ZEROS_BYTES);
    for (; bytes > 0;) {
        size_t count = bytes < ZEROS_BYTES ? (size_t)bytes : ZEROS_BYTES;
        TRY(extract->options->write(extract->node.io, extract->options->offline.context, buf, 0,
                                    count));
        bytes -= count;
    }
    return OK;
}

/* ERR_CORRUPT: the block cannot be had after all. */
static enum err write_piece(struct extract *extract, const struct piece *piece)
{
    struct survey_block block;
    AUTO(buf) buf = NULL;
    if (piece->lost || !survey_find(extract->node.survey, piece->ref.id, &block))
        return ERR_CORRUPT; /* told by the caller */
    TRY(survey_read(extract->node.io, extract->node.survey, &block, ref_of(piece), &buf));
    return extract->options->write(extract->node.io, extract->options->offline.context, buf, 0,
                                   block.bytes);
}

static enum offline_status write_pieces(struct extract *extract)
{
    bool lost = find_lost(extract);
    bool holes = extract->options->holes;
    for (uint32_t i = 0; lost && i < extract->piece_count; i++)
        if (extract->pieces[i].lost)
            tell_piece(extract, &extract->pieces[i]);
    if (lost && !holes) {
        complain(extract, "not written; --holes puts zeros where bytes are lost");
        return OFFLINE_LOST;
    }
    for (uint32_t i = 0; i < extract->piece_count; i++) {
        const struct piece *piece = &extract->pieces[i];
        enum err err = write_piece(extract, piece);
        if (err == ERR_CORRUPT && !piece->lost)
            tell_piece(extract, piece);
        if (err == ERR_CORRUPT && holes) {
            lost = true;
            err = write_zeros(extract, piece->ref.bytes);
        }
        if (err != OK) {
            complain(extract, err_text(err));
            return err == ERR_CORRUPT ? OFFLINE_LOST : OFFLINE_REFUSED;
        }
    }
    return lost ? OFFLINE_LOST : OFFLINE_WHOLE;
}

static enum offline_status write_inline(struct extract *extract, const struct object *object)
{
    if (object->bytes == 0)
        return OFFLINE_WHOLE;
    AUTO(buf) buf = buf_new(object->inline_bytes.bytes);
    memcpy(buf->data, object->inline_bytes.data, object->inline_bytes.bytes);
    enum err err = extract->options->write(extract->node.io, extract->options->offline.context, buf,
                                           0, object->inline_bytes.bytes);
    if (err != OK)
        complain(extract, err_text(err));
    return err == OK ? OFFLINE_WHOLE : OFFLINE_REFUSED;
}

/* --- the two ways --- */

static void tell_object(const struct extract *extract, const struct object *object)
{
    struct report_line line = report_begin(&extract->report, "object");
    report_number(&line, "stamp", object->stamp);
    report_number(&line, "bytes", object->bytes);
    report_number(&line, "modified_ms", object->modified_ms);
    if (object->layout == LAYOUT_INLINE)
        report_text(&line, "where", SLICE_LITERAL("metadata"));
    if (object->upload_id != 0)
        report_number(&line, "upload_id", object->upload_id);
    else if (object->layout == LAYOUT_BLOCKS)
        report_block(&line, "write_id", object->write_id);
    report_end(&line);
}

static enum err find_object(struct extract *extract, struct object **out_object)
{
    struct bucket bucket;
    const struct extract_options *options = extract->options;
    TRY(meta_offline_bucket_find(extract->node.io, extract->node.meta, options->bucket, &bucket));
    TRY(meta_offline_object_find(extract->node.io, extract->node.meta, bucket.id, options->key,
                                 out_object));
    if ((*out_object)->layout == LAYOUT_INLINE)
        return OK;
    return pieces_of_object(extract, *out_object);
}

static enum offline_status extract_by_metadata(struct extract *extract)
{
    AUTO(object) object = NULL;
    enum err err = find_object(extract, &object);
    if (err == ERR_NOT_FOUND) {
        complain(extract, "the metadata has no such object; --no-metadata looks for what a "
                          "deleted or unfinished one left");
        return OFFLINE_LOST;
    }
    if (err != OK) {
        complain(extract, err == ERR_CORRUPT ? "its metadata is damaged; --no-metadata looks for "
                                               "its blocks by their records"
                                             : err_text(err));
        return err == ERR_CORRUPT ? OFFLINE_LOST : OFFLINE_REFUSED;
    }
    if (extract->options->list) {
        tell_object(extract, object);
        return OFFLINE_WHOLE;
    }
    return object->layout == LAYOUT_INLINE ? write_inline(extract, object) : write_pieces(extract);
}

static void warn(const struct extract *extract, uint32_t others)
{
    const struct piece *last = &extract->pieces[extract->piece_count - 1];
    if (others > 0)
        complain(extract, "more than one write is there, the newest is taken; --list shows them, "
                          "--write-id or --upload-id chooses");
    if (extract->incomplete)
        complain(extract, "numbers are missing among its parts or blocks: it may lack some");
    if (last->ref.bytes == FULL_BLOCK_BYTES)
        complain(extract, "its last block is full: it may go on in one that is gone");
    complain(extract, "found by its records: whether this write was acknowledged is not known");
}

static enum offline_status extract_by_records(struct extract *extract)
{
    struct write write;
    sort_candidates(extract);
    if (extract->too_many) {
        complain(extract, "too many records of this key");
        return OFFLINE_REFUSED;
    }
    uint32_t count = choose_write(extract, &write);
    if (count == 0) {
        complain(extract, "no record of it is on these drives; objects of up to 16 KiB live in "
                          "the metadata alone");
        return OFFLINE_LOST;
    }
    if (extract->options->list)
        return OFFLINE_WHOLE;
    pieces_of_write(extract, &write);
    warn(extract, count - 1);
    return write_pieces(extract);
}

static enum offline_status run(struct extract *extract)
{
    if (!by_records(extract->options) && !offline_node_read_metadata(&extract->node, NULL))
        return OFFLINE_REFUSED;
    if (!offline_node_scan(&extract->node))
        return OFFLINE_REFUSED;
    if (extract->node.meta != NULL) {
        if (extract->node.meta_is_cut)
            complain(extract, "the log of the metadata is damaged: this may be an older version");
        return extract_by_metadata(extract);
    }
    if (!by_records(extract->options))
        complain(extract, "no metadata can be read on these drives: going by the records");
    return extract_by_records(extract);
}

enum offline_status extract_run(struct io *io, const struct extract_options *options)
{
    struct extract *extract = mem_new(struct extract);
    extract->options = options;
    extract->report =
        (struct report){.print = options->offline.print, .context = options->offline.context};
    struct survey_options survey = {.headers_only = true,
                                    .on_record = on_record,
                                    .on_progress = on_progress,
                                    .context = extract};
    enum offline_status status = OFFLINE_REFUSED;
    if (offline_node_open(io, &options->offline, &survey, &extract->node)) {
        status = run(extract);
        offline_node_close(&extract->node);
    }
    mem_free(extract->candidates);
    mem_free(extract->pieces);
    mem_free(extract);
    return status;
}
