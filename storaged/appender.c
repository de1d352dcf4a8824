/* Open segments of one reactor, blocks prepared ahead, and the queue of writes. */
#include "appender.h"

#include "base/log.h"
#include "base/mem.h"
#include "shard.h"
#include <assert.h>

enum { FILL_BYTES = 1 << 20, ALLOCATE_AHEAD_BYTES = 64 << 20, DRAIN_DELAY_MS = 5 };

void appender_init(struct appender *appender, struct drive *drive, struct fiber_group *group)
{
    *appender = (struct appender){.drive = drive, .group = group};
    fiber_mutex_init(&appender->rotate);
    list_init(&appender->queue);
    signal_init(&appender->filled);
}

void appender_deinit(struct appender *appender)
{
    assert(appender->writes_in_flight == 0);
    assert(list_empty(&appender->queue));
    for (unsigned kind = SEGMENT_ONE_SHOT; kind <= SEGMENT_STREAMED; kind++)
        drive_segment_release(appender->drive, TAKE(appender->segments[kind]));
}

/* --- preparing blocks ahead of the appends --- */

/* After a failed write nobody knows what is on the medium, so it is never tried again. No space and
 * no room for another operation are another thing: nothing was promised. A canceled write is the
 * end of this process's life. */
static bool write_is_undefined(enum err err)
{
    return err != OK && err != ERR_NO_SPACE && err != ERR_BUSY && err != ERR_CANCELED;
}

/* Never more than 1 % of what is free. */
static uint64_t ahead_bytes(const struct drive *drive, uint64_t wanted)
{
    uint64_t limit = atomic_load(&drive->free_bytes) / 100 / FILL_BYTES * FILL_BYTES;
    return wanted < limit ? wanted : limit;
}

/* Writes into blocks that were written before need no change of the file's extents: 2-9 times the
 * durable appends a second of freshly allocated ones. */
static void fill_fiber(struct io *io, void *argument)
{
    struct appender *appender = argument;
    struct drive *drive = appender->drive;
    struct segment_file *segment = appender->segments[SEGMENT_ONE_SHOT];
    struct file *file = appender->files[SEGMENT_ONE_SHOT];
    drive_segment_use(drive, segment);
    AUTO(buf) zeros = buf_new(FILL_BYTES);
    memset(zeros->data, 0, FILL_BYTES);
    struct io_part part = {.buf = zeros, .bytes = FILL_BYTES};
    uint64_t *prepared_end = &appender->prepared_end[SEGMENT_ONE_SHOT];
    enum err err = OK;
    while (err == OK && segment == appender->segments[SEGMENT_ONE_SHOT] &&
           drive_check(drive) == OK) {
        /* Only this reactor appends, so `end` cannot move while we do not wait. */
        uint64_t from = *prepared_end < segment->end ? segment->end : *prepared_end;
        uint64_t ahead = ahead_bytes(drive, APPENDER_ZERO_AHEAD_BYTES);
        if (from + FILL_BYTES > segment->end + ahead || from + FILL_BYTES > drive->segment_bytes)
            break;
        appender->fill_file = file;
        appender->fill_from = from;
        appender->fill_to = from + FILL_BYTES;
        err = io_write(io, file, &part, 1, from, 0);
        if (err == OK && segment == appender->segments[SEGMENT_ONE_SHOT])
            *prepared_end = from + FILL_BYTES;
        /* Zeros that did not end in time may still land, on a record that was written meanwhile:
         * whoever waits for them must find the drive fenced. */
        if (write_is_undefined(err))
            drive_fence(drive, "zero filling", err);
        appender->fill_from = appender->fill_to = 0;
        signal_wake_all(io, &appender->filled);
    }
    /* Pays for the new extents here and not in the next append. */
    if (err == OK)
        err = io_sync(io, file);
    if (write_is_undefined(err))
        drive_fence(drive, "zero filling", err);
    appender->filling = false;
    drive_segment_release(drive, segment);
}

static void fill_ahead(struct io *io, struct appender *appender)
{
    struct segment_file *segment = appender->segments[SEGMENT_ONE_SHOT];
    uint64_t prepared_end = appender->prepared_end[SEGMENT_ONE_SHOT];
    uint64_t ahead = ahead_bytes(appender->drive, APPENDER_ZERO_AHEAD_BYTES);
    uint64_t room = appender->drive->segment_bytes - segment->end;
    if (appender->filling || room < FILL_BYTES || ahead == 0 ||
        (prepared_end > segment->end &&
         (prepared_end - segment->end > ahead / 2 ||
          prepared_end + FILL_BYTES > appender->drive->segment_bytes)))
        return;
    appender->filling = true;
    if (fiber_group_spawn(io, appender->group, fill_fiber, appender) != OK)
        appender->filling = false; /* the next append tries again */
}

static enum err allocate_ahead(struct io *io, struct appender *appender, uint64_t end)
{
    uint64_t *prepared_end = &appender->prepared_end[SEGMENT_STREAMED];
    if (end <= *prepared_end)
        return OK;
    uint64_t to = *prepared_end + ahead_bytes(appender->drive, ALLOCATE_AHEAD_BYTES);
    if (to > appender->drive->segment_bytes)
        to = appender->drive->segment_bytes;
    if (to < end)
        to = end;
    enum err err =
        io_allocate(io, appender->files[SEGMENT_STREAMED], *prepared_end, to - *prepared_end);
    if (err == OK || err == ERR_UNSUPPORTED)
        *prepared_end = to;
    else if (err == ERR_IO)
        drive_fence(appender->drive, "allocation", err);
    return err == ERR_UNSUPPORTED ? OK : err;
}

/* --- open segments --- */

static enum err rotate(struct io *io, struct appender *appender, enum segment_kind kind)
{
    struct drive *drive = appender->drive;
    struct segment_file *segment = NULL;
    TRY(drive_segment_create(io, drive, kind, &segment));
    struct segment_file *old = appender->segments[kind];
    if (old != NULL) {
        drive_segment_close(drive, old);
        drive_segment_release(drive, old);
    }
    appender->segments[kind] = segment;
    appender->files[kind] = segment->direct;
    appender->prepared_end[kind] = segment->end;
    return OK;
}

/* With the rotate mutex held. */
static enum err reserve_slowly(struct io *io, struct appender *appender, enum segment_kind kind,
                               uint64_t bytes, struct reservation *out)
{
    for (;;) {
        struct segment_file *segment = appender->segments[kind];
        if (segment != NULL && drive_segment_reserve(appender->drive, segment, bytes, &out->offset,
                                                     &out->durable_offset)) {
            out->segment = segment;
            out->file = appender->files[kind];
            break;
        }
        TRY(rotate(io, appender, kind));
    }
    drive_segment_use(appender->drive, out->segment);
    enum err err =
        kind == SEGMENT_STREAMED ? allocate_ahead(io, appender, out->offset + bytes) : OK;
    if (err != OK) {
        drive_extent_abandon(appender->drive, out->segment, out->offset, 0);
        drive_segment_release(appender->drive, out->segment);
    }
    return err;
}

enum err appender_reserve(struct io *io, struct appender *appender, enum segment_kind kind,
                          uint64_t bytes, struct reservation *out)
{
    if (bytes > appender->drive->segment_bytes - SEGMENT_HEADER_BYTES)
        return FAIL(ERR_LIMIT, "record larger than a segment");
    TRY(fiber_mutex_lock(io, &appender->rotate));
    enum err err = reserve_slowly(io, appender, kind, bytes, out);
    fiber_mutex_unlock(io, &appender->rotate);
    TRY(err);
    if (kind == SEGMENT_ONE_SHOT && out->segment == appender->segments[kind])
        fill_ahead(io, appender);
    return OK;
}

/* --- writes --- */

static bool overlaps_fill(const struct appender *appender, const struct write_op *op)
{
    return op->file == appender->fill_file && op->offset < appender->fill_to &&
           op->offset + op->bytes > appender->fill_from;
}

/* Take the first op of the queue and those right behind it in the same file. */
static unsigned take_group(struct appender *appender, struct write_op **group, unsigned max)
{
    unsigned count = 0;
    unsigned part_count = 0;
    uint64_t bytes = 0;
    while (!list_empty(&appender->queue) && count < max) {
        struct write_op *op = CONTAINER_OF(list_first(&appender->queue), struct write_op, node);
        struct write_op *last = count > 0 ? group[count - 1] : NULL;
        if (last != NULL && (op->file != last->file || op->offset != last->offset + last->bytes ||
                             part_count + op->part_count > IO_PARTS_MAX ||
                             bytes + op->bytes > APPENDER_GROUP_BYTES_MAX))
            break;
        list_remove(&appender->queue, &op->node);
        group[count++] = op;
        part_count += op->part_count;
        bytes += op->bytes;
    }
    return count;
}

static enum err write_group(struct io *io, struct appender *appender, struct write_op **group,
                            unsigned count)
{
    struct io_part parts[IO_PARTS_MAX];
    unsigned part_count = 0;
    for (unsigned i = 0; i < count; i++) {
        /* Zeros that are on their way to the same blocks must land first. */
        while (overlaps_fill(appender, group[i]))
            TRY(signal_wait(io, &appender->filled, 0));
        memcpy(parts + part_count, group[i]->parts, group[i]->part_count * sizeof parts[0]);
        part_count += group[i]->part_count;
    }
    TRY(drive_check(appender->drive));
    enum err err = io_write(io, group[0]->file, parts, part_count, group[0]->offset, WRITE_DURABLE);
    if (write_is_undefined(err))
        drive_fence(appender->drive, "write", err);
    return err;
}

static void write_fiber(struct io *io, void *argument)
{
    struct appender *appender = argument;
    struct write_op *group[IO_PARTS_MAX];
    while (!list_empty(&appender->queue)) {
        unsigned count = take_group(appender, group, IO_PARTS_MAX);
        enum err err = write_group(io, appender, group, count);
        for (unsigned i = 0; i < count; i++)
            shard_written(io, group[i], err);
    }
    appender->writes_in_flight--;
}

enum err appender_write(struct io *io, struct appender *appender, struct write_op *op)
{
    list_push_back(&appender->queue, &op->node);
    if (appender->writes_in_flight == APPENDER_WRITES_MAX)
        return OK;
    appender->writes_in_flight++;
    enum err err = fiber_group_spawn(io, appender->group, write_fiber, appender);
    if (err == OK)
        return OK;
    appender->writes_in_flight--;
    /* A fiber that runs takes it along; without one it would wait for ever. */
    if (appender->writes_in_flight > 0 || !list_linked(&op->node))
        return OK;
    list_remove(&appender->queue, &op->node);
    return err;
}

/* --- rows on their way to the index --- */

static void drain_fiber(struct io *io, void *argument)
{
    struct appender *appender = argument;
    enum err err = OK;
    while (err == OK && !drive_index_is_idle(appender->drive)) {
        err = io_sleep_ms(io, DRAIN_DELAY_MS);
        if (err == OK)
            err = drive_index_drain(io, appender->drive);
    }
    appender->draining = false;
}

void appender_drain(struct io *io, struct appender *appender)
{
    if (appender->draining)
        return;
    appender->draining = true;
    if (fiber_group_spawn(io, appender->group, drain_fiber, appender) != OK)
        appender->draining = false; /* the drive's tick drains too */
}
