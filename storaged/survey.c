/* The table of shards, and what it says about blocks. */
#include "survey_table.h"

#include "base/log.h"
#include "base/mem.h"
#include "erasure/geometry.h"
#include "runtime/sync.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

enum { SHARDS_FIRST = 4096 };

/* --- drives --- */

static enum err read_copies(struct io *io, struct drive_survey *drive)
{
    AUTO(buf) buf = buf_new(SUPERBLOCK_BYTES);
    size_t bytes = 0;
    memset(buf->data, 0, SUPERBLOCK_BYTES);
    enum err err = io_read(io, drive->lock, buf, 0, SUPERBLOCK_BYTES, 0, &bytes);
    if (err != OK && err != ERR_IO)
        return err;
    struct superblock *superblock = mem_new(struct superblock);
    enum err whole = superblock_decode(slice_of(buf->data, bytes), superblock);
    if (whole == OK)
        drive->superblock = superblock;
    else
        mem_free(superblock);
    if (whole == ERR_UNSUPPORTED)
        return whole;
    for (size_t at = 0; at < SUPERBLOCK_BYTES; at += SUPERBLOCK_COPY_BYTES) {
        AUTO_VALUE(bytes) scratch = {.max = sizeof(struct superblock)};
        void *copy = bytes_extend(&scratch, sizeof(struct superblock));
        if (superblock_decode(slice_of(buf->data + at, SUPERBLOCK_COPY_BYTES), copy) != OK)
            survey_report(drive->survey, file_path(drive->lock), at,
                          "a copy of the superblock is damaged", NULL, 0);
    }
    return OK;
}

static enum err open_drive(struct io *io, struct drive_survey *drive)
{
    AUTO_STRING path = mem_format("%s/superblock", drive->directory);
    TRY(io_open(io, path, 0, &drive->lock));
    TRY(io_lock(io, drive->lock));
    TRY(read_copies(io, drive));
    if (drive->superblock != NULL) {
        memcpy(drive->cluster_id, drive->superblock->node.cluster_id, 16);
        drive->id = drive->superblock->drive;
        drive->identified = true;
    }
    return OK;
}

/* One cluster, one node, each drive once. */
static enum err check_drive(const struct survey *survey, const struct drive_survey *drive)
{
    for (uint32_t i = 0; i < drive->index; i++) {
        const struct drive_survey *other = &survey->drives[i];
        if (!drive->identified || !other->identified)
            continue;
        if (memcmp(drive->id.bytes, other->id.bytes, sizeof drive->id.bytes) == 0)
            return FAIL(ERR_MISMATCH, "%s and %s are one drive", other->directory,
                        drive->directory);
        if (memcmp(drive->cluster_id, other->cluster_id, 16) != 0 ||
            drive->superblock->node.node_id != other->superblock->node.node_id)
            return FAIL(ERR_MISMATCH, "%s and %s are of different nodes", other->directory,
                        drive->directory);
    }
    return OK;
}

enum err survey_open(struct io *io, const struct survey_options *options, const char **out_bad,
                     struct survey **out_survey)
{
    assert(options->directory_count > 0);
    assert(options->directory_count <= META_SHARDS_MAX);
    struct survey *survey = mem_new(struct survey);
    survey->options = *options;
    uint64_t memory_bytes =
        options->memory_bytes != 0 ? options->memory_bytes : SURVEY_MEMORY_BYTES;
    survey->shards_max = memory_bytes / sizeof(struct survey_shard);
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < options->directory_count; i++) {
        struct drive_survey *drive = &survey->drives[i];
        *drive = (struct drive_survey){.survey = survey, .index = i};
        drive->directory = mem_format("%s", options->directories[i]);
        survey->drive_count++;
        *out_bad = options->directories[i];
        err = open_drive(io, drive);
        if (err == OK)
            err = check_drive(survey, drive);
    }
    if (err != OK) {
        survey_close(survey);
        return err;
    }
    *out_survey = survey;
    return OK;
}

void survey_close(struct survey *survey)
{
    if (survey == NULL)
        return;
    for (uint32_t i = 0; i < survey->drive_count; i++) {
        struct drive_survey *drive = &survey->drives[i];
        file_close(drive->lock);
        mem_free(drive->superblock);
        mem_free(drive->segments);
        mem_free(drive->directory);
    }
    mem_free(survey->shards);
    mem_free(survey);
}

uint32_t survey_drives(const struct survey *survey, struct survey_drive *out, uint32_t max)
{
    for (uint32_t i = 0; i < survey->drive_count && i < max; i++) {
        const struct drive_survey *drive = &survey->drives[i];
        out[i] = (struct survey_drive){.directory = drive->directory,
                                       .id = drive->id,
                                       .identified = drive->identified,
                                       .segments = drive->segment_count,
                                       .records = drive->records,
                                       .bad_records = drive->bad_records,
                                       .torn_records = drive->torn_records,
                                       .payload_bytes = drive->payload_bytes};
    }
    return survey->drive_count;
}

const uint8_t *survey_cluster_id(const struct survey *survey)
{
    for (uint32_t i = 0; i < survey->drive_count; i++)
        if (survey->drives[i].identified)
            return survey->drives[i].cluster_id;
    return NULL;
}

static bool is_given(const struct survey *survey, const struct drive_id *id)
{
    for (uint32_t i = 0; i < survey->drive_count; i++)
        if (memcmp(survey->drives[i].id.bytes, id->bytes, sizeof id->bytes) == 0)
            return true;
    return false;
}

uint32_t survey_absent(const struct survey *survey, struct drive_id *out_ids,
                       const char **out_paths, uint32_t max)
{
    const struct superblock *newest = NULL;
    for (uint32_t i = 0; i < survey->drive_count; i++) {
        const struct superblock *superblock = survey->drives[i].superblock;
        if (superblock != NULL &&
            (newest == NULL || superblock->table_version > newest->table_version))
            newest = superblock;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; newest != NULL && i < newest->drive_count; i++) {
        const struct superblock_drive *known = &newest->drives[i];
        if (known->lost || is_given(survey, &known->id))
            continue;
        if (count < max) {
            out_ids[count] = known->id;
            out_paths[count] = known->path;
        }
        count++;
    }
    return count;
}

void survey_report(struct survey *survey, const char *file, uint64_t offset, const char *what,
                   const struct block_id *block, uint8_t slot)
{
    struct survey_damage damage = {
        .file = file, .offset = offset, .what = what, .block = block, .slot = slot};
    if (survey->options.on_damage != NULL)
        survey->options.on_damage(survey->options.context, &damage);
}

char *survey_segment_path(const struct drive_survey *drive, uint64_t segment)
{
    return mem_format("%s/segments/%016" PRIx64 ".seg", drive->directory, segment);
}

const struct survey_segment *survey_segment(const struct drive_survey *drive, uint64_t number)
{
    for (uint32_t low = 0, high = drive->segment_count; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        if (drive->segments[middle].number == number)
            return drive->segments[middle].known ? &drive->segments[middle] : NULL;
        if (drive->segments[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* --- the scan of all --- */

enum err survey_add(struct survey *survey, const struct survey_shard *shard)
{
    if (survey->shard_count == survey->shard_capacity) {
        if (survey->shard_count >= survey->shards_max)
            return FAIL(ERR_LIMIT, "survey: more than %" PRIu64 " shards", survey->shards_max);
        uint64_t capacity = survey->shard_capacity == 0 ? SHARDS_FIRST : survey->shard_capacity * 2;
        survey->shard_capacity = capacity < survey->shards_max ? capacity : survey->shards_max;
        survey->shards = mem_resize(survey->shards, survey->shard_capacity * sizeof *shard);
    }
    survey->shards[survey->shard_count++] = *shard;
    return OK;
}

static int compare_shards(const void *a, const void *b)
{
    const struct survey_shard *left = a;
    const struct survey_shard *right = b;
    if (left->block.volume != right->block.volume)
        return left->block.volume < right->block.volume ? -1 : 1;
    if (left->block.sequence != right->block.sequence)
        return left->block.sequence < right->block.sequence ? -1 : 1;
    if (left->slot != right->slot)
        return left->slot < right->slot ? -1 : 1;
    return (left->flags & SHARD_BAD) - (right->flags & SHARD_BAD);
}

static void scan_fiber(struct io *io, void *argument)
{
    struct drive_survey *drive = argument;
    drive->err = survey_scan_drive(io, drive);
}

enum err survey_scan(struct io *io, struct survey *survey)
{
    struct fiber_group group;
    fiber_group_init(&group);
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < survey->drive_count; i++)
        err = fiber_group_spawn(io, &group, scan_fiber, &survey->drives[i]);
    fiber_group_wait(io, &group);
    for (uint32_t i = 0; err == OK && i < survey->drive_count; i++)
        err = survey->drives[i].err;
    TRY(err);
    if (survey->shard_count > 0)
        qsort(survey->shards, survey->shard_count, sizeof *survey->shards, compare_shards);
    return OK;
}

/* --- blocks --- */

static bool tells_geometry(const struct survey_shard *shard)
{
    struct geometry geometry = {shard->data_shards, shard->parity_shards, shard->unit_bytes};
    return (shard->flags & SHARD_TRAILER) == 0 && shard->block_bytes > 0 &&
           geometry_check(geometry, shard->block_bytes) == OK;
}

/* Good as a record, and a shard of this block. */
static bool shard_fits(const struct survey_block *block, const struct survey_shard *shard)
{
    struct geometry geometry = {block->data_shards, block->parity_shards, block->unit_bytes};
    return (shard->flags & SHARD_BAD) == 0 && shard->data_shards == block->data_shards &&
           shard->parity_shards == block->parity_shards && shard->unit_bytes == block->unit_bytes &&
           shard->block_bytes == block->bytes && shard->slot < geometry_shards(geometry) &&
           shard->payload_bytes == geometry_shard_bytes(geometry, block->bytes, shard->slot);
}

static void add_up(const struct survey *survey, struct survey_block *block)
{
    const struct survey_shard *shards = survey->shards + block->first;
    const struct survey_shard *model = NULL;
    for (uint32_t i = 0; i < block->count; i++) {
        bool better = model == NULL || ((model->flags & SHARD_BAD) > (shards[i].flags & SHARD_BAD));
        if (tells_geometry(&shards[i]) && better)
            model = &shards[i];
    }
    if (model != NULL) {
        block->data_shards = model->data_shards;
        block->parity_shards = model->parity_shards;
        block->unit_bytes = model->unit_bytes;
        block->bytes = model->block_bytes;
    }
    block->torn = true;
    for (uint32_t i = 0; i < block->count; i++) {
        uint32_t bit = UINT32_C(1) << shards[i].slot;
        block->torn = block->torn && (shards[i].flags & SHARD_TORN) != 0;
        if (model != NULL && shard_fits(block, &shards[i])) {
            block->good |= bit;
            if (block->data_shards == 1)
                block->hash = shards[i].hash;
        } else {
            block->bad |= bit;
        }
    }
    block->bad &= ~block->good;
    block->referred = (shards[0].flags & SHARD_REFERRED) != 0;
}

bool survey_next(const struct survey *survey, uint64_t *cursor, struct survey_block *out_block)
{
    if (*cursor >= survey->shard_count)
        return false;
    const struct survey_shard *first = &survey->shards[*cursor];
    *out_block = (struct survey_block){.id = first->block, .first = *cursor};
    for (; *cursor < survey->shard_count &&
           block_id_equal(survey->shards[*cursor].block, out_block->id);
         ++*cursor)
        out_block->count++;
    add_up(survey, out_block);
    return true;
}

bool survey_find(const struct survey *survey, struct block_id id, struct survey_block *out_block)
{
    struct survey_shard wanted = {.block = id};
    uint64_t low = 0;
    for (uint64_t high = survey->shard_count; low < high;) {
        uint64_t middle = low + (high - low) / 2;
        if (compare_shards(&survey->shards[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *out_block = (struct survey_block){.id = id};
    if (low == survey->shard_count || !block_id_equal(survey->shards[low].block, id))
        return false;
    return survey_next(survey, &low, out_block);
}

void survey_refer(struct survey *survey, struct survey_block *block)
{
    assert(block->count > 0);
    block->referred = true;
    survey->shards[block->first].flags |= SHARD_REFERRED;
}

bool survey_bad_place(const struct survey *survey, const struct survey_block *block,
                      char **out_file, uint64_t *out_offset)
{
    for (uint32_t i = 0; i < block->count; i++) {
        const struct survey_shard *shard = &survey->shards[block->first + i];
        if ((shard->flags & SHARD_BAD) == 0)
            continue;
        *out_file = survey_segment_path(&survey->drives[shard->drive], shard->segment);
        *out_offset = (uint64_t)shard->place * RECORD_ALIGN_BYTES;
        return true;
    }
    return false;
}

/* Data slots of a short block that hold no byte. */
static uint32_t empty_slots(struct geometry geometry, uint32_t block_bytes)
{
    uint32_t slots = 0;
    for (uint32_t slot = 0; slot < geometry.data_shards; slot++)
        if (geometry_shard_bytes(geometry, block_bytes, slot) == 0)
            slots |= UINT32_C(1) << slot;
    return slots;
}

struct survey_verdict survey_judge(const struct survey_block *block, const struct block_ref *ref)
{
    struct survey_verdict verdict = {.state = SURVEY_LOST};
    if (block->bytes == 0)
        return verdict;
    struct geometry geometry = {block->data_shards, block->parity_shards, block->unit_bytes};
    uint32_t all = (UINT32_C(1) << geometry_shards(geometry)) - 1;
    verdict.missing = all & ~(block->good | block->bad);
    if (ref != NULL && ref->bytes != block->bytes)
        return verdict;
    if (ref != NULL && block->data_shards == 1 && block->good != 0 &&
        memcmp(&block->hash, ref->hash.bytes, sizeof block->hash) != 0)
        return verdict;
    uint32_t usable =
        (uint32_t)__builtin_popcount(block->good | empty_slots(geometry, block->bytes));
    if (usable < block->data_shards)
        return verdict;
    verdict.spare = usable - block->data_shards;
    verdict.state = block->good == all ? SURVEY_WHOLE : SURVEY_DEGRADED;
    return verdict;
}
