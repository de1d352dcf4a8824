/* `shale fsck`: see cli/offline.h.
 *
 * What is live is what the metadata refers to: walked in the order of block ids, as the table of
 * shards is sorted. Without metadata every block counts, and the records say whose it is. */
#include "offline_node.h"

#include "base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    LINES_MAX = 1000, /* of one kind, unless all are wanted */
    WRONG_BLOCKS_MAX = 1 << 20,
    DAMAGED_SHARDS_MAX = 1 << 20, /* more count as damage, replaced or not */
};

struct damaged_shard {
    struct block_id block;
    uint8_t slot;
};

struct fsck {
    const struct fsck_options *options;
    struct report report;
    struct offline_node node;
    uint64_t damage_count, replaced_count;
    uint64_t block_count, whole_count, degraded_count, lost_count, orphan_count, torn_count;
    uint64_t block_lines, damage_lines, lost_lines;
    uint64_t object_count, objects_lost;
    /* Blocks whose shards are good and whose bytes are not what the metadata says; rising. */
    struct block_id *wrong;
    uint32_t wrong_count, wrong_capacity;
    /* Shards of damaged records. */
    struct damaged_shard *damaged;
    uint32_t damaged_count, damaged_capacity;
};

/* True while a kind of line is still printed. */
static bool take_line(const struct fsck *fsck, uint64_t *lines)
{
    return (*lines)++ < LINES_MAX || fsck->options->all;
}

static void note_damaged(struct fsck *fsck, struct block_id block, uint8_t slot)
{
    if (fsck->damaged_count == DAMAGED_SHARDS_MAX)
        return;
    if (fsck->damaged_count == fsck->damaged_capacity) {
        fsck->damaged_capacity = fsck->damaged_capacity == 0 ? 16 : 2 * fsck->damaged_capacity;
        fsck->damaged = mem_resize(fsck->damaged, fsck->damaged_capacity * sizeof fsck->damaged[0]);
    }
    fsck->damaged[fsck->damaged_count++] = (struct damaged_shard){block, slot};
}

/* A record that was damaged and written anew stays until its space is collected. */
static void discount_replaced(struct fsck *fsck)
{
    for (uint32_t i = 0; i < fsck->damaged_count; i++) {
        struct survey_block block;
        bool replaced = survey_find(fsck->node.survey, fsck->damaged[i].block, &block) &&
                        (block.good >> fsck->damaged[i].slot & 1) != 0;
        fsck->damage_count -= replaced;
        fsck->replaced_count += replaced;
    }
}

static void on_damage(void *context, const struct survey_damage *damage)
{
    struct fsck *fsck = context;
    fsck->damage_count++;
    if (damage->block != NULL)
        note_damaged(fsck, *damage->block, damage->slot);
    if (!take_line(fsck, &fsck->damage_lines))
        return;
    struct report_line line = report_begin(&fsck->report, "damage");
    report_text(&line, "file", slice_of_text(damage->file));
    report_number(&line, "offset", damage->offset);
    if (damage->block != NULL) {
        report_block(&line, "block", *damage->block);
        report_number(&line, "slot", damage->slot);
    }
    report_text(&line, "what", slice_of_text(damage->what));
    report_end(&line);
}

static void on_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    const struct fsck *fsck = context;
    const struct offline_options *options = &fsck->options->offline;
    if (options->progress != NULL)
        options->progress(options->context, done_bytes, total_bytes);
}

/* --- drives --- */

static void tell_drives(const struct fsck *fsck)
{
    struct survey_drive drives[META_SHARDS_MAX];
    uint32_t count = survey_drives(fsck->node.survey, drives, META_SHARDS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        struct report_line line = report_begin(&fsck->report, "drive");
        report_text(&line, "directory", slice_of_text(drives[i].directory));
        report_hex(&line, "id", slice_of(drives[i].id.bytes, sizeof drives[i].id.bytes));
        report_number(&line, "segments", drives[i].segments);
        report_number(&line, "records", drives[i].records);
        report_number(&line, "damaged", drives[i].bad_records);
        report_number(&line, "cut_off", drives[i].torn_records);
        report_number(&line, "bytes", drives[i].payload_bytes);
        report_end(&line);
    }
    struct drive_id ids[META_SHARDS_MAX];
    const char *paths[META_SHARDS_MAX];
    count = survey_absent(fsck->node.survey, ids, paths, META_SHARDS_MAX);
    for (uint32_t i = 0; i < count && i < META_SHARDS_MAX; i++) {
        struct report_line line = report_begin(&fsck->report, "not_given");
        report_text(&line, "directory", slice_of_text(paths[i]));
        report_hex(&line, "id", slice_of(ids[i].bytes, sizeof ids[i].bytes));
        report_end(&line);
    }
}

/* --- blocks --- */

static struct report_line begin_block(const struct fsck *fsck, const struct survey_block *block,
                                      const struct survey_verdict *verdict)
{
    struct report_line line = report_begin(&fsck->report, "block");
    report_block(&line, "block", block->id);
    bool lost = verdict->state == SURVEY_LOST;
    bool doubt = lost && block->torn && !block->referred;
    const char *state = lost ? "lost" : "degraded";
    report_text(&line, "state", slice_of_text(doubt ? "lost or never finished" : state));
    report_number(&line, "data_shards", block->data_shards);
    report_number(&line, "parity_shards", block->parity_shards);
    report_slots(&line, "missing", verdict->missing);
    report_slots(&line, "bad", block->bad);
    if (!lost)
        report_number(&line, "spare", verdict->spare);
    char *file = NULL;
    uint64_t offset = 0;
    if (survey_bad_place(fsck->node.survey, block, &file, &offset)) {
        report_text(&line, "file", slice_of_text(file));
        report_number(&line, "offset", offset);
        mem_free(file);
    }
    return line;
}

static void count_block(struct fsck *fsck, const struct survey_verdict *verdict)
{
    fsck->block_count++;
    fsck->whole_count += verdict->state == SURVEY_WHOLE;
    fsck->degraded_count += verdict->state == SURVEY_DEGRADED;
    fsck->lost_count += verdict->state == SURVEY_LOST;
}

static void add_wrong(struct fsck *fsck, struct block_id id)
{
    if (fsck->wrong_count == WRONG_BLOCKS_MAX)
        return;
    if (fsck->wrong_count == fsck->wrong_capacity) {
        fsck->wrong_capacity = fsck->wrong_capacity == 0 ? 16 : 2 * fsck->wrong_capacity;
        fsck->wrong = mem_resize(fsck->wrong, fsck->wrong_capacity * sizeof *fsck->wrong);
    }
    fsck->wrong[fsck->wrong_count++] = id;
}

static int compare_ids(const void *a, const void *b)
{
    const struct block_id *left = a;
    const struct block_id *right = b;
    if (left->volume != right->volume)
        return left->volume < right->volume ? -1 : 1;
    return left->sequence < right->sequence ? -1 : left->sequence > right->sequence;
}

static bool is_wrong(const struct fsck *fsck, const struct block_id *id)
{
    return fsck->wrong_count > 0 &&
           bsearch(id, fsck->wrong, fsck->wrong_count, sizeof *id, compare_ids) != NULL;
}

/* The shards agree with themselves; do they give the bytes that were acknowledged? With one data
 * shard its own hash says so. */
static enum err check_bytes(struct fsck *fsck, const struct survey_block *block,
                            const struct block_ref *ref, struct survey_verdict *verdict)
{
    if (fsck->options->no_decode || verdict->state == SURVEY_LOST || block->data_shards == 1)
        return OK;
    AUTO(buf) buf = NULL;
    enum err err = survey_read(fsck->node.io, fsck->node.survey, block, ref, &buf);
    if (err == ERR_CANCELED)
        return err;
    if (err != OK) {
        verdict->state = SURVEY_LOST;
        add_wrong(fsck, ref->id);
    }
    return OK;
}

static enum err check_block(struct fsck *fsck, const struct meta_offline_block *live)
{
    const struct block_ref *ref = &live->ref;
    struct survey_block block;
    if (live->pending)
        return OK; /* nobody was told of the object that it would have been part of */
    if (survey_find(fsck->node.survey, ref->id, &block))
        survey_refer(fsck->node.survey, &block);
    struct survey_verdict verdict = survey_judge(&block, ref);
    TRY(check_bytes(fsck, &block, ref, &verdict));
    count_block(fsck, &verdict);
    if (verdict.state == SURVEY_WHOLE || !take_line(fsck, &fsck->block_lines))
        return OK;
    struct report_line line = begin_block(fsck, &block, &verdict);
    report_end(&line);
    return OK;
}

static enum err check_blocks(struct fsck *fsck)
{
    struct meta_offline_blocks *page = mem_new(struct meta_offline_blocks);
    struct block_id after = {0};
    enum err err = OK;
    do {
        err = meta_offline_block_list(fsck->node.io, fsck->node.meta, after, page);
        for (uint32_t i = 0; err == OK && i < page->count; i++)
            err = check_block(fsck, &page->blocks[i]);
        if (page->count > 0)
            after = page->blocks[page->count - 1].ref.id;
    } while (err == OK && page->truncated);
    mem_free(page);
    return err;
}

static void count_orphans(struct fsck *fsck)
{
    struct survey_block block;
    for (uint64_t cursor = 0; survey_next(fsck->node.survey, &cursor, &block);) {
        fsck->torn_count += !block.referred && block.torn;
        fsck->orphan_count += !block.referred && !block.torn;
    }
}

/* --- objects --- */

static void tell_lost(struct fsck *fsck, const struct bucket *bucket, struct slice key,
                      const struct extent *extent, const char *why)
{
    if (!take_line(fsck, &fsck->lost_lines))
        return;
    struct report_line line = report_begin(&fsck->report, "lost");
    AUTO_VALUE(bytes) name = {.max = META_BUCKET_NAME_BYTES_MAX + 1 + META_KEY_BYTES_MAX};
    bytes_append_format(&name, "%s/", bucket->name);
    bytes_append(&name, key);
    report_text(&line, "object", bytes_slice(&name));
    if (extent != NULL) {
        report_number(&line, "offset", extent->offset);
        report_number(&line, "bytes", extent->ref.bytes);
        report_block(&line, "block", extent->ref.id);
    }
    report_text(&line, "what", slice_of_text(why));
    report_end(&line);
}

static bool extent_is_lost(const struct fsck *fsck, const struct extent *extent)
{
    struct survey_block block;
    (void)survey_find(fsck->node.survey, extent->ref.id, &block); /* judged lost when not there */
    return survey_judge(&block, &extent->ref).state == SURVEY_LOST ||
           is_wrong(fsck, &extent->ref.id);
}

static enum err check_extents(struct fsck *fsck, const struct bucket *bucket,
                              const struct object *object, bool *lost)
{
    uint64_t offset = 0;
    while (offset < object->bytes) {
        AUTO(extent_page) page = NULL;
        TRY(meta_offline_extents(fsck->node.io, fsck->node.meta, object, offset, &page));
        if (page->count == 0)
            return FAIL(ERR_CORRUPT, "object ends at offset=%" PRIu64, offset);
        for (uint32_t i = 0; i < page->count; i++) {
            const struct extent *extent = &page->extents[i];
            offset = extent->offset + extent->ref.bytes;
            if (!extent_is_lost(fsck, extent))
                continue;
            *lost = true;
            tell_lost(fsck, bucket, object->key, extent, "a block of it is lost");
        }
    }
    return OK;
}

static enum err check_object(struct fsck *fsck, const struct bucket *bucket, struct slice key)
{
    AUTO(object) object = NULL;
    bool lost = false;
    enum err err =
        meta_offline_object_find(fsck->node.io, fsck->node.meta, bucket->id, key, &object);
    if (err == OK && object->layout != LAYOUT_INLINE)
        err = check_extents(fsck, bucket, object, &lost);
    if (err == ERR_CANCELED)
        return err;
    if (err != OK)
        tell_lost(fsck, bucket, key, NULL, "its metadata is damaged");
    fsck->object_count++;
    fsck->objects_lost += lost || err != OK;
    return OK;
}

static enum err check_bucket(struct fsck *fsck, const struct bucket *bucket)
{
    AUTO_VALUE(bytes) after = {.max = META_KEY_BYTES_MAX};
    for (bool more = true; more;) {
        AUTO(list_page) page = NULL;
        TRY(meta_offline_object_list(fsck->node.io, fsck->node.meta, bucket->id,
                                     bytes_slice(&after), &page));
        for (uint32_t i = 0; i < page->count; i++)
            TRY(check_object(fsck, bucket, page->entries[i].key));
        more = page->truncated;
        if (page->count > 0) {
            bytes_clear(&after);
            bytes_append(&after, page->entries[page->count - 1].key);
        }
    }
    return OK;
}

static enum err check_objects(struct fsck *fsck)
{
    AUTO_VALUE(bytes) after = {.max = META_BUCKET_NAME_BYTES_MAX};
    for (bool more = true; more;) {
        AUTO(bucket_page) page = NULL;
        TRY(meta_offline_bucket_list(fsck->node.io, fsck->node.meta, bytes_slice(&after), &page));
        for (uint32_t i = 0; i < page->count; i++)
            TRY(check_bucket(fsck, &page->buckets[i]));
        more = page->truncated;
        if (page->count > 0) {
            bytes_clear(&after);
            bytes_append_text(&after, page->buckets[page->count - 1].name);
        }
    }
    return OK;
}

/* --- by the records alone --- */

static void tell_block_and_hint(struct fsck *fsck, const struct survey_block *block,
                                const struct survey_verdict *verdict)
{
    AUTO(buf) buf = NULL;
    struct block_hint hint;
    struct report_line line = begin_block(fsck, block, verdict);
    if (survey_hint(fsck->node.io, fsck->node.survey, block, &buf, &hint) == OK) {
        AUTO_VALUE(bytes) name = {.max = META_BUCKET_NAME_BYTES_MAX + 1 + META_KEY_BYTES_MAX};
        bytes_append(&name, hint.bucket_name);
        bytes_append_byte(&name, '/');
        bytes_append(&name, hint.key);
        report_text(&line, "object", bytes_slice(&name));
        report_number(&line, "ordinal", hint.ordinal);
        if (hint.upload_id != 0)
            report_number(&line, "upload_id", hint.upload_id);
        if (hint.upload_id != 0)
            report_number(&line, "part", hint.part_number);
    }
    report_end(&line);
}

static void check_records(struct fsck *fsck)
{
    struct survey_block block;
    for (uint64_t cursor = 0; survey_next(fsck->node.survey, &cursor, &block);) {
        struct survey_verdict verdict = survey_judge(&block, NULL);
        fsck->torn_count += block.torn;
        if (!block.torn)
            count_block(fsck, &verdict);
        if (verdict.state != SURVEY_WHOLE && take_line(fsck, &fsck->block_lines))
            tell_block_and_hint(fsck, &block, &verdict);
    }
}

/* --- the end --- */

static enum offline_status status_of(const struct fsck *fsck)
{
    if (fsck->lost_count > 0 || fsck->objects_lost > 0 || fsck->node.meta_is_cut ||
        (fsck->node.meta == NULL && !fsck->options->offline.no_metadata))
        return OFFLINE_LOST;
    bool sound =
        fsck->damage_count == 0 && fsck->degraded_count == 0 && fsck->node.replicas_damaged == 0;
    return sound ? OFFLINE_WHOLE : OFFLINE_DAMAGED;
}

static void tell_metadata(const struct fsck *fsck)
{
    const struct offline_node *node = &fsck->node;
    struct report_line line = report_begin(&fsck->report, "metadata");
    report_number(&line, "replicas", node->replica_count);
    report_number(&line, "damaged", node->replicas_damaged);
    if (node->meta == NULL) {
        report_text(&line, "what",
                    SLICE_LITERAL("none can be read: blocks are judged by their records, objects "
                                  "up to 16 KiB and what was deleted are not known"));
    } else {
        report_text(&line, "used", slice_of_text(node->meta_directory));
        report_number(&line, "index", meta_offline_index(node->meta));
        if (node->meta_is_cut)
            report_text(&line, "what",
                        SLICE_LITERAL("its log is damaged: what was acknowledged after this index "
                                      "is not known"));
    }
    report_end(&line);
}

static void tell_more(const struct fsck *fsck, const char *kind, uint64_t lines)
{
    if (lines <= LINES_MAX || fsck->options->all)
        return;
    struct report_line line = report_begin(&fsck->report, "more");
    report_text(&line, "of", slice_of_text(kind));
    report_number(&line, "count", lines - LINES_MAX);
    report_text(&line, "what", SLICE_LITERAL("not shown; --all shows them"));
    report_end(&line);
}

static void tell_summary(const struct fsck *fsck, enum offline_status status)
{
    static const char *const results[] = {
        [OFFLINE_WHOLE] = "everything is whole",
        [OFFLINE_DAMAGED] = "damaged, and everything can be reconstructed",
        [OFFLINE_LOST] = "something is lost",
        [OFFLINE_REFUSED] = "not finished",
    };
    tell_more(fsck, "damage", fsck->damage_lines);
    tell_more(fsck, "block", fsck->block_lines);
    tell_more(fsck, "lost", fsck->lost_lines);
    struct report_line line = report_begin(&fsck->report, "summary");
    report_number(&line, "objects", fsck->object_count);
    report_number(&line, "objects_lost", fsck->objects_lost);
    report_number(&line, "blocks", fsck->block_count);
    report_number(&line, "whole", fsck->whole_count);
    report_number(&line, "degraded", fsck->degraded_count);
    report_number(&line, "lost", fsck->lost_count);
    report_number(&line, "orphans", fsck->orphan_count);
    report_number(&line, "cut_off", fsck->torn_count);
    report_number(&line, "damage", fsck->damage_count + fsck->node.replicas_damaged);
    report_number(&line, "replaced", fsck->replaced_count);
    report_text(&line, "result", slice_of_text(results[status]));
    report_number(&line, "exit", (uint64_t)status);
    report_end(&line);
}

static enum err check_all(struct fsck *fsck)
{
    if (fsck->node.meta == NULL) {
        check_records(fsck);
        return OK;
    }
    TRY(check_blocks(fsck));
    count_orphans(fsck);
    return check_objects(fsck);
}

static enum offline_status run(struct fsck *fsck)
{
    if (!offline_node_scan(&fsck->node))
        return OFFLINE_REFUSED;
    tell_drives(fsck);
    if (!offline_node_read_metadata(&fsck->node, &fsck->report))
        return OFFLINE_REFUSED;
    tell_metadata(fsck);
    enum err err = check_all(fsck);
    if (err != OK && err != ERR_CORRUPT) {
        offline_complain(&fsck->options->offline, "not finished: %s\n", err_text(err));
        return OFFLINE_REFUSED;
    }
    if (err == ERR_CORRUPT)
        fsck->node.meta_is_cut = true;
    discount_replaced(fsck);
    enum offline_status status = status_of(fsck);
    tell_summary(fsck, status);
    return status;
}

enum offline_status fsck_run(struct io *io, const struct fsck_options *options)
{
    struct fsck *fsck = mem_new(struct fsck);
    fsck->options = options;
    fsck->report = (struct report){.json = options->json,
                                   .print = options->offline.print,
                                   .context = options->offline.context};
    struct survey_options survey = {
        .on_damage = on_damage, .on_progress = on_progress, .context = fsck};
    enum offline_status status = OFFLINE_REFUSED;
    if (offline_node_open(io, &options->offline, &survey, &fsck->node)) {
        status = run(fsck);
        offline_node_close(&fsck->node);
    }
    mem_free(fsck->wrong);
    mem_free(fsck->damaged);
    mem_free(fsck);
    return status;
}
