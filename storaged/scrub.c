/* See scrub.h. */
#include "scrub.h"

#include "base/encode.h"
#include "base/log.h"
#include "base/mem.h"
#include "collector.h"
#include "drives.h"
#include "placement.h"
#include "rebuild.h"
#include "record_check.h"
#include <assert.h>
#include <inttypes.h>

enum {
    PAGE_RECORDS = 64,
    PAGE_BLOCKS = 1024,
    NOTE_SCRUB = 1,
    NOTE_VERSION = 1,
    NOTE_BYTES_MAX = 64,
    PAUSE_S_MAX = 3600,
    RETRY_MS = 1000,
    QUEUE_WAIT_MS = 200,
    COMPARE_PAUSE_MS = 1000, /* between pages, when nobody waits for the pass */
};

/* One drive's. */
struct scrubbing {
    struct storage *storage;
    struct drive *drive;
    struct drive_scrub *state;
};

struct scrub *scrub_new(struct metrics *metrics)
{
    struct scrub *scrub = mem_new(struct scrub);
    signal_init(&scrub->wake);
    scrub->bytes = metrics_counter(metrics, "shale_scrub_bytes_total", NULL,
                                   "Bytes of records that the scrub has read.");
    scrub->errors = metrics_counter(metrics, "shale_scrub_errors_total", NULL,
                                    "Records that the scrub found damaged, and shards missing.");
    return scrub;
}

void scrub_free(struct scrub *scrub)
{
    mem_free(scrub);
}

void scrub_wake(struct io *io, struct storage *storage)
{
    signal_wake_all(io, &storage->scrub->wake);
}

static bool was_asked(const struct scrubbing *scrubbing)
{
    return scrubbing->state->served != scrubbing->storage->scrub->requests;
}

static bool goes_on(struct io *io, const struct scrubbing *scrubbing)
{
    return !atomic_load(&scrubbing->storage->stopping) && drive_is_ok(scrubbing->drive) &&
           !io_canceled(io);
}

/* Until then, a request or the end. */
static void pause_for(struct io *io, const struct scrubbing *scrubbing, uint64_t ms)
{
    uint64_t until_ns = io_now_ns(io) + ms * IO_NS_PER_MS;
    while (goes_on(io, scrubbing) && !was_asked(scrubbing) && io_now_ns(io) < until_ns) {
        enum err err = signal_wait(io, &scrubbing->storage->scrub->wake, until_ns);
        if (err != OK)
            return;
    }
}

/* --- the position, over restarts --- */

static void save(struct io *io, const struct scrubbing *scrubbing)
{
    const struct drive_scrub *state = scrubbing->state;
    AUTO_VALUE(bytes) note = {.max = NOTE_BYTES_MAX};
    encode_u8(&note, NOTE_VERSION);
    encode_u64(&note, state->segment);
    encode_u64(&note, state->offset);
    encode_u64(&note, state->bytes);
    encode_u64(&note, state->errors);
    /* A lost one costs reading again. */
    (void)drive_index_put_note(io, scrubbing->drive, NOTE_SCRUB, bytes_slice(&note));
}

static void load(struct io *io, const struct scrubbing *scrubbing)
{
    struct drive_scrub *state = scrubbing->state;
    AUTO_VALUE(bytes) note = {.max = NOTE_BYTES_MAX};
    if (drive_index_get_note(io, scrubbing->drive, NOTE_SCRUB, &note) != OK)
        return;
    struct decoder decoder = decoder_of(bytes_slice(&note));
    if (decode_u8(&decoder) != NOTE_VERSION)
        return;
    struct drive_scrub loaded = {.served = state->served};
    loaded.segment = decode_u64(&decoder);
    loaded.offset = decode_u64(&decoder);
    loaded.bytes = decode_u64(&decoder);
    loaded.errors = decode_u64(&decoder);
    if (decode_finish(&decoder, "scrub note") == OK)
        *state = loaded;
}

/* --- reading --- */

static void count_error(const struct scrubbing *scrubbing)
{
    scrubbing->state->errors++;
    counter_add(scrubbing->storage->scrub->errors, 1);
}

/* To repair, which looks itself; waits for room in its queue. */
static void report(struct io *io, const struct scrubbing *scrubbing, const struct block_ref *ref,
                   unsigned slot)
{
    while (goes_on(io, scrubbing) && !storage_report_scrubbed(scrubbing->storage, ref, slot)) {
        if (!storage_sleep(io, scrubbing->storage, QUEUE_WAIT_MS))
            return;
    }
}

/* It does not matter when the record does not count any more, or its block is not live. */
static enum err report_record(struct io *io, const struct scrubbing *scrubbing,
                              const struct index_record *record)
{
    struct place place;
    enum err err = drive_index_find(io, scrubbing->drive, &record->key, &place);
    if (err == ERR_NOT_FOUND)
        return OK;
    TRY(err);
    if (place.segment != record->segment || place.offset != record->offset)
        return OK;
    struct block_ref ref;
    TRY(meta_block_find(io, scrubbing->storage->meta, &record->key.block, 1, &ref));
    if (ref.bytes == 0)
        return OK;
    log_error("scrub: a stored record is damaged directory=%s segment=%" PRIu64 " offset=%" PRIu64,
              scrubbing->drive->directory, record->segment, record->offset);
    count_error(scrubbing);
    report(io, scrubbing, &ref, record->key.slot);
    return OK;
}

static enum err scrub_record(struct io *io, const struct scrubbing *scrubbing,
                             const struct index_record *record)
{
    enum err err = record_check(io, scrubbing->drive, record);
    scrubbing->state->segment = record->segment;
    scrubbing->state->offset = record->offset;
    scrubbing->state->bytes += record->bytes;
    counter_add(scrubbing->storage->scrub->bytes, record->bytes);
    bool damaged = err == ERR_CORRUPT || err == ERR_NOT_FOUND ||
                   (err == ERR_IO && drive_is_ok(scrubbing->drive));
    return damaged ? report_record(io, scrubbing, record) : err;
}

/* So that all that lives on the drive is read in one pass of the usual length. */
static uint64_t pause_ms(const struct scrubbing *scrubbing, uint64_t bytes)
{
    struct drive *drive = scrubbing->drive;
    uint64_t live_bytes = 1;
    pthread_mutex_lock(&drive->mutex);
    for (uint32_t i = 0; i < drive->segment_count; i++)
        live_bytes += drive->segments[i]->live_bytes;
    pthread_mutex_unlock(&drive->mutex);
    uint32_t pass_s = scrubbing->storage->options.scrub_pass_s;
    double pass_ms = 1000.0 * (pass_s > 0 ? pass_s : SCRUB_PASS_S);
    uint64_t ms = (uint64_t)((double)bytes / (double)live_bytes * pass_ms);
    return ms < PAUSE_S_MAX * UINT64_C(1000) ? ms : PAUSE_S_MAX * UINT64_C(1000);
}

/* From the position to the end. False: cut off by a request or the end. */
static enum err scrub_records(struct io *io, const struct scrubbing *scrubbing, bool *out_ended)
{
    struct index_record records[PAGE_RECORDS];
    struct drive_scrub *state = scrubbing->state;
    *out_ended = false;
    while (goes_on(io, scrubbing) && !was_asked(scrubbing)) {
        uint32_t count = 0;
        uint64_t bytes = 0;
        TRY(drive_index_records(io, scrubbing->drive, state->segment, state->offset, records,
                                PAGE_RECORDS, &count));
        if (count == 0) {
            *out_ended = true;
            return OK;
        }
        for (uint32_t i = 0; i < count && goes_on(io, scrubbing) && !was_asked(scrubbing); i++) {
            TRY(scrub_record(io, scrubbing, &records[i]));
            bytes += records[i].bytes;
        }
        TRY(collector_sweep(io, scrubbing->storage, scrubbing->drive, records, count));
        save(io, scrubbing);
        if (!state->running)
            pause_for(io, scrubbing, pause_ms(scrubbing, bytes));
    }
    return OK;
}

/* --- comparing with the metadata --- */

/* Live blocks whose shard the drive should have. The other direction, records of blocks that
 * are not live, is the collector's. */
static enum err compare_page(struct io *io, const struct scrubbing *scrubbing,
                             const struct volume_entry *entry, unsigned slot,
                             const struct block_page *page)
{
    for (uint32_t i = 0; i < page->count && goes_on(io, scrubbing); i++) {
        const struct block_ref *ref = &page->blocks[i];
        struct place place;
        enum err err = rebuild_find(io, scrubbing->drive, &entry->volume, ref, slot,
                                    entry->volume.slot_epochs[slot], &place);
        if (err == OK || (ref->missing >> slot & 1) != 0)
            continue;
        if (err != ERR_NOT_FOUND && err != ERR_CORRUPT)
            return err;
        struct block_ref now;
        TRY(meta_block_find(io, scrubbing->storage->meta, &ref->id, 1, &now));
        if (now.bytes == 0)
            continue;
        log_error("scrub: a shard is not where it should be directory=%s volume=%" PRIu64
                  " sequence=%" PRIu64,
                  scrubbing->drive->directory, ref->id.volume, ref->id.sequence);
        count_error(scrubbing);
        report(io, scrubbing, &now, slot);
    }
    return OK;
}

static enum err compare_slot(struct io *io, const struct scrubbing *scrubbing,
                             const struct volume *volume, unsigned slot)
{
    AUTO(volume_entry) entry = NULL;
    TRY(volumes_find(io, scrubbing->storage, volume->id, &entry));
    uint64_t from = 0;
    for (bool more = true; more && goes_on(io, scrubbing);) {
        AUTO(block_page) page = NULL;
        TRY(meta_volume_blocks(io, scrubbing->storage->meta, volume->id, from, PAGE_BLOCKS, &page));
        if (page->count == 0)
            break;
        if (entry->drives[slot] == scrubbing->drive)
            TRY(compare_page(io, scrubbing, entry, slot, page));
        from = page->blocks[page->count - 1].id.sequence + 1;
        more = page->truncated;
        if (!scrubbing->state->running)
            pause_for(io, scrubbing, COMPARE_PAUSE_MS);
    }
    return OK;
}

static enum err compare(struct io *io, const struct scrubbing *scrubbing)
{
    const struct drive_id *id = &scrubbing->drive->superblock->drive;
    AUTO(volume_page) page = NULL;
    TRY(meta_volume_list(io, scrubbing->storage->meta, &page));
    for (uint32_t i = 0; i < page->count; i++) {
        const struct volume *volume = &page->volumes[i];
        for (unsigned slot = 0; slot < (unsigned)volume->data_shards + volume->parity_shards;
             slot++) {
            if (drive_id_equal(&volume->slots[slot], id))
                TRY(compare_slot(io, scrubbing, volume, slot));
        }
    }
    return OK;
}

/* --- a pass --- */

/* It is made anew from the records when the drive is opened next. */
static enum err verify_index(struct io *io, const struct scrubbing *scrubbing)
{
    enum err err = drive_index_verify(io, scrubbing->drive);
    if (err != ERR_CORRUPT)
        return err;
    count_error(scrubbing);
    log_error("scrub: the index of a drive is damaged, it is rebuilt from the records at the next "
              "start directory=%s",
              scrubbing->drive->directory);
    return drive_index_condemn(io, scrubbing->drive);
}

static void begin_pass(struct scrubbing *scrubbing)
{
    struct drive_scrub *state = scrubbing->state;
    state->served = scrubbing->storage->scrub->requests;
    state->segment = state->offset = 0;
    state->bytes = state->errors = 0;
}

static enum err pass(struct io *io, struct scrubbing *scrubbing)
{
    struct drive_scrub *state = scrubbing->state;
    bool ended = false;
    if (was_asked(scrubbing)) {
        begin_pass(scrubbing);
        state->running = true;
        TRY(verify_index(io, scrubbing));
    }
    TRY(scrub_records(io, scrubbing, &ended));
    if (!ended)
        return OK;
    TRY(compare(io, scrubbing));
    if (!was_asked(scrubbing)) {
        if (state->running || state->bytes > 0)
            log_info("scrub: a pass ended directory=%s bytes=%" PRIu64 " errors=%" PRIu64,
                     scrubbing->drive->directory, state->bytes, state->errors);
        state->running = false;
        /* The next one begins anew, a while later when there was nothing to read. */
        pause_for(io, scrubbing, pause_ms(scrubbing, RECORD_ALIGN_BYTES) + RETRY_MS);
        if (!was_asked(scrubbing) && goes_on(io, scrubbing))
            begin_pass(scrubbing);
        save(io, scrubbing);
    }
    return OK;
}

static void scrub_fiber(struct io *io, void *argument)
{
    struct scrubbing *scrubbing = argument;
    load(io, scrubbing);
    while (goes_on(io, scrubbing)) {
        enum err err = pass(io, scrubbing);
        if (err != OK && err != ERR_CANCELED) {
            log_debug("scrub: ended early cause=%s", err_text(err));
            if (!storage_sleep(io, scrubbing->storage, RETRY_MS))
                break;
        }
    }
    scrubbing->state->running = false;
    mem_free(scrubbing);
}

enum err scrub_start(struct io *io, struct storage *storage, struct drive *drive)
{
    struct scrubbing *scrubbing = mem_new(struct scrubbing);
    *scrubbing = (struct scrubbing){storage, drive, &storage->scrub->drives[drive->index]};
    scrubbing->state->served = storage->scrub->requests;
    enum err err = fiber_group_spawn(io, &storage->background, scrub_fiber, scrubbing);
    if (err != OK)
        mem_free(scrubbing);
    return err;
}

/* --- asking --- */

enum err storage_scrub(struct io *io, struct storage *storage)
{
    assert(io == storage->home);
    if (storage->reads_only)
        return FAIL(ERR_NOT_LEADER, "the metadata can only be read");
    storage->scrub->requests++;
    scrub_wake(io, storage);
    return OK;
}

uint32_t storage_scrub_state(struct io *io, struct storage *storage, struct scrub_status *out,
                             uint32_t max)
{
    assert(io == storage->home);
    uint32_t count = 0;
    for (uint32_t i = 0; i < atomic_load(&storage->drive_count) && count < max; i++) {
        const struct drive *drive = storage->drives[i];
        const struct drive_scrub *state = &storage->scrub->drives[i];
        if (!drive_is_ok(drive))
            continue;
        out[count++] = (struct scrub_status){
            .directory = drive->directory,
            .running = state->running || state->served != storage->scrub->requests,
            .segment = state->segment,
            .offset = state->offset,
            .bytes = state->bytes,
            .errors = state->errors,
        };
    }
    return count;
}
