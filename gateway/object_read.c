/* See object_read.h. */
#include "object_read.h"

#include "base/mem.h"
#include "runtime/sync.h"

enum {
    EXTENT_PAGE_MAX = 1024,
    /* For how many extents to ask: parts but the last have 5 MiB or more. */
    EXTENT_BYTES_USUAL = 5 << 20,
    BUSY_WAIT_MS = 5,
};
#define BUSY_WAIT_NS_MAX (5 * IO_NS_PER_S)
static_assert((int)CONTEXT_PIECE_BYTES_MAX <= (int)BLOCK_READ_BYTES_MAX);

struct object_reader {
    struct context *context;
    const struct object *object;
    uint64_t offset; /* of the next byte to read */
    uint64_t end;
    struct extent_page *page; /* NULL: inline, or not fetched yet */
    uint32_t page_index;      /* of the extent where `offset` is, or before it */
};

/* A piece on its way: filled by a fiber of its own while the one before is being used. */
struct fetch {
    struct object_reader *reader;
    enum s3_error error;
    struct buf *buf;
    size_t offset;
    size_t bytes; /* 0: the range has ended */
};

void object_reader_free(struct object_reader *reader)
{
    if (reader == NULL)
        return;
    extent_page_free(reader->page);
    mem_free(reader);
}

static enum err next_page(struct io *io, struct object_reader *reader)
{
    uint64_t usual = (reader->end - reader->offset) / EXTENT_BYTES_USUAL + 2;
    extent_page_free(TAKE(reader->page));
    TRY(meta_object_extents(
        io, reader->context->gateway->options.meta, reader->object, reader->offset,
        (uint32_t)(usual < EXTENT_PAGE_MAX ? usual : EXTENT_PAGE_MAX), &reader->page));
    reader->page_index = 0;
    if (reader->page->count == 0)
        return FAIL(ERR_CORRUPT, "extents end before the object does");
    return OK;
}

static enum err find_extent(struct io *io, struct object_reader *reader, struct extent *out_extent)
{
    for (;;) {
        if (reader->page == NULL || reader->page_index == reader->page->count)
            TRY(next_page(io, reader));
        const struct extent *extent = &reader->page->extents[reader->page_index];
        if (reader->offset < extent->offset)
            return FAIL(ERR_CORRUPT, "extents have a hole");
        if (reader->offset < extent->offset + extent->ref.bytes) {
            *out_extent = *extent;
            return OK;
        }
        reader->page_index++;
    }
}

enum err object_reader_open(struct io *io, struct context *context, const struct object *object,
                            struct range range, struct object_reader **out_reader)
{
    assert(range.offset + range.bytes <= object->bytes);
    AUTO(object_reader) reader = mem_new(struct object_reader);
    reader->context = context;
    reader->object = object;
    reader->offset = range.offset;
    reader->end = range.offset + range.bytes;
    /* Fetches the first page, so that a version that is gone shows before anything was answered. */
    struct extent first;
    if (range.bytes > 0 && object->layout != LAYOUT_INLINE)
        TRY(find_extent(io, reader, &first));
    *out_reader = TAKE(reader);
    return OK;
}

static enum err read_block(struct io *io, struct object_reader *reader, const struct extent *extent,
                           struct fetch *fetch)
{
    const struct gateway *gateway = reader->context->gateway;
    uint64_t until_ns = io_now_ns(io) + BUSY_WAIT_NS_MAX;
    for (;;) {
        enum err err = block_read(
            io, gateway->options.storage, &extent->ref, (uint32_t)(reader->offset - extent->offset),
            (uint32_t)fetch->bytes, gateway->pool, &fetch->buf, &fetch->offset);
        if (err != ERR_BUSY || io_now_ns(io) >= until_ns)
            return err;
        TRY(io_sleep_ms(io, BUSY_WAIT_MS));
    }
}

static enum s3_error fetch_inline(struct io *io, struct object_reader *reader, struct fetch *fetch)
{
    fetch->bytes = (size_t)(reader->end - reader->offset);
    assert(reader->end <= reader->object->inline_bytes.bytes);
    TRY(context_buf(io, reader->context, fetch->bytes, &fetch->buf));
    memcpy(fetch->buf->data, reader->object->inline_bytes.data + reader->offset, fetch->bytes);
    return S3_OK;
}

static enum err fetch_block(struct io *io, struct object_reader *reader, struct fetch *fetch)
{
    struct extent extent;
    TRY(find_extent(io, reader, &extent));
    uint64_t extent_end = extent.offset + extent.ref.bytes;
    uint64_t end = extent_end < reader->end ? extent_end : reader->end;
    size_t bytes_max = context_piece_bytes(reader->context);
    uint64_t rest = end - reader->offset;
    /* Pieces end where stripes do, so that the next one starts on a cell of every shard. */
    size_t misaligned = (size_t)((reader->offset - extent.offset) % bytes_max);
    fetch->bytes = rest <= bytes_max ? (size_t)rest : bytes_max - misaligned;
    return read_block(io, reader, &extent, fetch);
}

static enum s3_error fetch_next(struct io *io, struct object_reader *reader, struct fetch *fetch)
{
    if (reader->offset == reader->end)
        return S3_OK;
    if (reader->object->layout == LAYOUT_INLINE) {
        TRY(fetch_inline(io, reader, fetch));
    } else {
        TRY(s3_error_from(fetch_block(io, reader, fetch), "object read"));
    }
    reader->offset += fetch->bytes;
    return S3_OK;
}

static void fetch_run(struct io *io, void *argument)
{
    struct fetch *fetch = argument;
    fetch->error = fetch_next(io, fetch->reader, fetch);
}

enum s3_error object_reader_run(struct io *io, struct object_reader *reader, object_piece_fn *piece,
                                void *argument)
{
    struct fetch current = {.reader = reader};
    fetch_run(io, &current);
    while (current.error == S3_OK && current.bytes > 0) {
        struct fetch next = {.reader = reader};
        struct fiber_group ahead;
        fiber_group_init(&ahead);
        bool started =
            reader->offset < reader->end && fiber_group_spawn(io, &ahead, fetch_run, &next) == OK;
        enum s3_error error = piece(io, argument, current.buf, current.offset, current.bytes);
        /* Before the wait: readers that hold one piece while they wait for another would
         * starve each other of memory. */
        buf_unref(current.buf);
        fiber_group_wait(io, &ahead);
        if (error != S3_OK) {
            buf_unref(next.buf);
            return error;
        }
        if (!started)
            fetch_run(io, &next);
        current = next;
    }
    return current.error;
}
