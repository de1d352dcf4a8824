/* Pages with two images, the list of pending changes, and what a power cut makes of both. */
#include "sim_file.h"
#include "base/list.h"
#include "base/mem.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum {
    CHUNK_PAGES = 512,
    /* Of the lost writes that would have grown the file, one in so many leaves its length
     * behind. */
    LENGTH_ONLY_ONE_IN = 8,
};

struct page {
    uint8_t *live;       /* NULL: zeros */
    uint8_t *durable;    /* NULL: zeros; the same block as `live` while both agree */
    uint64_t *sequences; /* of each sector's newest durable change; only while writes are pending */
    uint32_t pending;    /* pending writes that touch this page */
    bool live_allocated;
    bool durable_allocated;
};

struct chunk {
    struct page pages[CHUNK_PAGES];
};

enum change_kind { CHANGE_WRITE, CHANGE_TRUNCATE, CHANGE_PUNCH, CHANGE_ALLOCATE, CHANGE_LENGTH };

/* One change that is not durable yet: [offset, end) of the file; for truncate and length only
 * `end`. */
struct change {
    struct list_node node;
    enum change_kind kind;
    uint64_t sequence;
    uint64_t offset;
    uint64_t end;
    uint64_t first_sector; /* of a write: the sectors it touched, as they were just after it */
    uint64_t sector_count;
    uint8_t *sectors;
};

struct sim_file {
    struct sim_space *space;
    struct chunk **chunks;
    uint64_t chunk_count;
    uint64_t live_bytes;
    uint64_t durable_bytes;
    uint64_t allocated_pages; /* live */
    uint64_t sequence;        /* of the newest change */
    /* Of the newest durable truncate: the length of an older write means nothing any more. */
    uint64_t truncate_sequence;
    struct list pending; /* struct change, by sequence */
    uint64_t pending_bytes;
};

static uint64_t page_of(uint64_t offset)
{
    return offset / SIM_PAGE_BYTES;
}

static uint64_t page_end_of(uint64_t offset)
{
    return (offset + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* --- pages --- */

static struct page *page_find(const struct sim_file *file, uint64_t index)
{
    uint64_t chunk = index / CHUNK_PAGES;
    if (chunk >= file->chunk_count || file->chunks[chunk] == NULL)
        return NULL;
    return &file->chunks[chunk]->pages[index % CHUNK_PAGES];
}

static struct page *page_make(struct sim_file *file, uint64_t index)
{
    uint64_t chunk = index / CHUNK_PAGES;
    assert(chunk < SIM_FILE_BYTES_MAX / SIM_PAGE_BYTES / CHUNK_PAGES);
    if (chunk >= file->chunk_count) {
        uint64_t count = max_u64(chunk + 1, file->chunk_count * 2);
        file->chunks = mem_resize(file->chunks, count * sizeof *file->chunks);
        for (uint64_t i = file->chunk_count; i < count; i++)
            file->chunks[i] = NULL;
        file->chunk_count = count;
    }
    if (file->chunks[chunk] == NULL)
        file->chunks[chunk] = mem_new(struct chunk);
    return &file->chunks[chunk]->pages[index % CHUNK_PAGES];
}

/* The next page at or after *index that may hold something, and its index; NULL at the end. */
static struct page *page_next(const struct sim_file *file, uint64_t *index, uint64_t end)
{
    while (*index < end) {
        uint64_t chunk = *index / CHUNK_PAGES;
        if (chunk >= file->chunk_count)
            return NULL;
        if (file->chunks[chunk] != NULL)
            return &file->chunks[chunk]->pages[*index % CHUNK_PAGES];
        *index = (chunk + 1) * CHUNK_PAGES;
    }
    return NULL;
}

/* `index` is a variable that holds the first index and then that of the page. */
#define PAGE_EACH(name, file, index, end)                                                          \
    for (struct page * name; (name = page_next((file), &(index), (end))) != NULL; (index)++)

static void image_drop(uint8_t **image, const uint8_t *other)
{
    if (*image != other)
        mem_free(*image);
    *image = NULL;
}

/* `*image`, alone in its block and so free to be changed. */
static uint8_t *image_own(uint8_t **image, const uint8_t *other)
{
    if (*image == NULL)
        *image = mem_alloc(SIM_PAGE_BYTES);
    else if (*image == other)
        *image = mem_copy(other, SIM_PAGE_BYTES);
    return *image;
}

static bool page_is_clean(const struct page *page)
{
    return page->live == page->durable && page->pending == 0;
}

/* Share one block again when nothing is pending and both images agree. */
static void page_settle(struct page *page)
{
    if (page->pending > 0)
        return;
    mem_free(page->sequences);
    page->sequences = NULL;
    if (page->live == NULL || page->durable == NULL || page->live == page->durable)
        return;
    if (memcmp(page->live, page->durable, SIM_PAGE_BYTES) == 0) {
        mem_free(page->durable);
        page->durable = page->live;
    }
}

/* Whether a change of `sequence` is newer than what the sector durably holds; notes it when so. */
static bool page_advance(struct page *page, unsigned sector, uint64_t sequence)
{
    if (page->pending == 0)
        return true;
    if (page->sequences == NULL)
        page->sequences = mem_alloc_array(SIM_PAGE_SECTORS, sizeof *page->sequences);
    if (page->sequences[sector] > sequence)
        return false;
    page->sequences[sector] = sequence;
    return true;
}

/* Make sectors of a page durable, from `data` or zeros (NULL), unless newer ones are. True if any
 * was. */
static bool page_make_durable(struct page *page, unsigned first, unsigned count, uint64_t sequence,
                              const uint8_t *data)
{
    bool any = false;
    for (unsigned i = 0; i < count; i++) {
        if (!page_advance(page, first + i, sequence))
            continue;
        any = true;
        if (data == NULL && page->durable == NULL)
            continue;
        uint8_t *out = image_own(&page->durable, page->live) + (first + i) * SIM_SECTOR_BYTES;
        if (data == NULL)
            memset(out, 0, SIM_SECTOR_BYTES);
        else
            memcpy(out, data + i * SIM_SECTOR_BYTES, SIM_SECTOR_BYTES);
    }
    return any;
}

/* The durable image loses the whole page. */
static void page_drop_durable(struct page *page, uint64_t sequence)
{
    page->durable_allocated = false;
    if (page->pending > 0)
        page_make_durable(page, 0, SIM_PAGE_SECTORS, sequence, NULL);
    else
        image_drop(&page->durable, page->live);
}

static void page_allocate(struct sim_file *file, struct page *page)
{
    if (page->live_allocated)
        return;
    page->live_allocated = true;
    file->allocated_pages++;
    file->space->used_bytes += SIM_PAGE_BYTES;
}

static void page_drop_live(struct sim_file *file, struct page *page)
{
    image_drop(&page->live, page->durable);
    if (!page->live_allocated)
        return;
    page->live_allocated = false;
    assert(file->allocated_pages > 0);
    file->allocated_pages--;
    assert(file->space->used_bytes >= SIM_PAGE_BYTES);
    file->space->used_bytes -= SIM_PAGE_BYTES;
}

/* --- pending changes --- */

static struct change *change_push(struct sim_file *file, enum change_kind kind, uint64_t offset,
                                  uint64_t end)
{
    struct change *change = mem_new(struct change);
    *change =
        (struct change){.kind = kind, .sequence = ++file->sequence, .offset = offset, .end = end};
    list_push_back(&file->pending, &change->node);
    return change;
}

/* The parts of a write's sectors that lie in one page each. */
struct span {
    struct page *page;
    uint64_t index;
    unsigned first; /* sector in the page */
    unsigned count;
    uint8_t *data;
};

static bool span_next(const struct sim_file *file, const struct change *change, uint64_t *done,
                      struct span *out)
{
    if (*done == change->sector_count)
        return false;
    uint64_t sector = change->first_sector + *done;
    unsigned first = (unsigned)(sector % SIM_PAGE_SECTORS);
    unsigned count = (unsigned)min_u64(SIM_PAGE_SECTORS - first, change->sector_count - *done);
    *out = (struct span){.page = page_find(file, sector / SIM_PAGE_SECTORS),
                         .index = sector / SIM_PAGE_SECTORS,
                         .first = first,
                         .count = count,
                         .data = change->sectors + *done * SIM_SECTOR_BYTES};
    assert(out->page != NULL);
    *done += count;
    return true;
}

#define SPAN_EACH(span, file, change)                                                              \
    for (struct {                                                                                  \
             uint64_t done;                                                                        \
             struct span at;                                                                       \
         } span = {0};                                                                             \
         span_next((file), (change), &span.done, &span.at);)

/* Forget the sectors of a write: its pages may settle. */
static void change_release(struct sim_file *file, struct change *change)
{
    SPAN_EACH(span, file, change)
    {
        assert(span.at.page->pending > 0);
        span.at.page->pending--;
        page_settle(span.at.page);
    }
    file->pending_bytes -= change->sector_count * SIM_SECTOR_BYTES;
    change->sector_count = 0;
    mem_free(change->sectors);
    change->sectors = NULL;
}

static void change_free(struct sim_file *file, struct change *change)
{
    change_release(file, change);
    list_remove(&file->pending, &change->node);
    mem_free(change);
}

/* Bytes behind a new end in its sector are gone also from older writes that are still pending. */
static void clip_pending(struct sim_file *file, uint64_t end, uint64_t sequence)
{
    uint64_t sector = end / SIM_SECTOR_BYTES;
    size_t keep = end % SIM_SECTOR_BYTES;
    LIST_EACH(struct change, change, &file->pending, node)
    {
        if (change->sequence >= sequence)
            return;
        if (sector < change->first_sector || sector >= change->first_sector + change->sector_count)
            continue;
        uint8_t *data = change->sectors + (sector - change->first_sector) * SIM_SECTOR_BYTES;
        memset(data + keep, 0, SIM_SECTOR_BYTES - keep);
    }
}

static void make_truncate_durable(struct sim_file *file, uint64_t end, uint64_t sequence)
{
    file->durable_bytes = end;
    file->truncate_sequence = sequence;
    struct page *page = page_find(file, page_of(end));
    size_t keep = end % SIM_PAGE_BYTES;
    if (keep > 0 && page != NULL) {
        unsigned first_gone = (unsigned)((keep + SIM_SECTOR_BYTES - 1) / SIM_SECTOR_BYTES);
        page_make_durable(page, first_gone, SIM_PAGE_SECTORS - first_gone, sequence, NULL);
        if (page->durable != NULL)
            memset(image_own(&page->durable, page->live) + keep, 0, SIM_PAGE_BYTES - keep);
        clip_pending(file, end, sequence);
        page_settle(page);
    }
    uint64_t index = page_end_of(end);
    PAGE_EACH(gone, file, index, UINT64_MAX)
    page_drop_durable(gone, sequence);
}

static void make_write_durable(struct sim_file *file, const struct change *change)
{
    SPAN_EACH(span, file, change)
    {
        if (page_make_durable(span.at.page, span.at.first, span.at.count, change->sequence,
                              span.at.data))
            span.at.page->durable_allocated = true;
    }
    if (change->sequence > file->truncate_sequence)
        file->durable_bytes = max_u64(file->durable_bytes, change->end);
}

static void make_durable(struct sim_file *file, const struct change *change)
{
    uint64_t index = page_of(change->offset);
    switch (change->kind) {
    case CHANGE_WRITE:
        make_write_durable(file, change);
        return;
    case CHANGE_TRUNCATE:
        make_truncate_durable(file, change->end, change->sequence);
        return;
    case CHANGE_PUNCH:
        PAGE_EACH(page, file, index, page_of(change->end))
        page_drop_durable(page, change->sequence);
        return;
    case CHANGE_ALLOCATE:
        for (; index < page_end_of(change->end); index++)
            page_make(file, index)->durable_allocated = true;
        file->durable_bytes = max_u64(file->durable_bytes, change->end);
        return;
    case CHANGE_LENGTH:
        if (change->sequence > file->truncate_sequence)
            file->durable_bytes = max_u64(file->durable_bytes, change->end);
        return;
    }
}

static void oldest_make_durable(struct sim_file *file)
{
    struct change *change = CONTAINER_OF(list_first(&file->pending), struct change, node);
    make_durable(file, change);
    change_free(file, change);
}

/* What the journal commits before a durable write returns: all changes but writes, in their
 * order. */
static void journal_make_durable(struct sim_file *file)
{
    LIST_EACH(struct change, change, &file->pending, node)
    {
        if (change->kind == CHANGE_WRITE)
            continue;
        make_durable(file, change);
        change_free(file, change);
    }
}

static void write_back_excess(struct sim_file *file)
{
    while (file->pending.count > SIM_PENDING_CHANGES_MAX ||
           file->pending_bytes > SIM_PENDING_BYTES_MAX)
        oldest_make_durable(file);
}

/* --- life and reading --- */

struct sim_file *sim_file_new(struct sim_space *space)
{
    struct sim_file *file = mem_new(struct sim_file);
    file->space = space;
    list_init(&file->pending);
    return file;
}

void sim_file_free(struct sim_file *file)
{
    if (file == NULL)
        return;
    while (!list_empty(&file->pending))
        change_free(file, CONTAINER_OF(list_first(&file->pending), struct change, node));
    uint64_t index = 0;
    PAGE_EACH(page, file, index, UINT64_MAX)
    {
        page_drop_live(file, page);
        mem_free(page->durable);
        mem_free(page->sequences);
    }
    for (uint64_t i = 0; i < file->chunk_count; i++)
        mem_free(file->chunks[i]);
    mem_free(file->chunks);
    mem_free(file);
}

uint64_t sim_file_bytes(const struct sim_file *file)
{
    return file->live_bytes;
}

uint64_t sim_file_allocated_bytes(const struct sim_file *file)
{
    return file->allocated_pages * SIM_PAGE_BYTES;
}

uint64_t sim_file_sequence(const struct sim_file *file)
{
    return file->sequence;
}

static void read_live(const struct sim_file *file, uint64_t offset, uint8_t *out, size_t bytes)
{
    while (bytes > 0) {
        size_t at = offset % SIM_PAGE_BYTES;
        size_t count = min_u64(bytes, SIM_PAGE_BYTES - at);
        const struct page *page = page_find(file, page_of(offset));
        if (page == NULL || page->live == NULL)
            memset(out, 0, count);
        else
            memcpy(out, page->live + at, count);
        offset += count;
        out += count;
        bytes -= count;
    }
}

size_t sim_file_read(const struct sim_file *file, uint64_t offset, uint8_t *out, size_t bytes)
{
    if (offset >= file->live_bytes)
        return 0;
    bytes = min_u64(bytes, file->live_bytes - offset);
    read_live(file, offset, out, bytes);
    return bytes;
}

/* --- changing --- */

static uint64_t new_page_count(const struct sim_file *file, uint64_t offset, uint64_t bytes)
{
    uint64_t result = 0;
    for (uint64_t index = page_of(offset); index < page_end_of(offset + bytes); index++) {
        const struct page *page = page_find(file, index);
        result += page == NULL || !page->live_allocated;
    }
    return result;
}

bool sim_file_needs_blocks(const struct sim_file *file, uint64_t offset, uint64_t bytes)
{
    return new_page_count(file, offset, bytes) > 0;
}

enum err sim_file_check_space(const struct sim_file *file, uint64_t offset, uint64_t bytes)
{
    if (offset > SIM_FILE_BYTES_MAX || bytes > SIM_FILE_BYTES_MAX - offset)
        return FAIL(ERR_INVALID, "file too large offset=%" PRIu64 " bytes=%" PRIu64, offset, bytes);
    uint64_t new_pages = new_page_count(file, offset, bytes);
    const struct sim_space *space = file->space;
    if (new_pages > 0 && space->used_bytes + new_pages * SIM_PAGE_BYTES > space->total_bytes)
        return FAIL(ERR_NO_SPACE, "simulated disk full used_bytes=%" PRIu64, space->used_bytes);
    return OK;
}

static bool is_zero_page(const uint8_t *data)
{
    return data[0] == 0 && memcmp(data, data + 1, SIM_PAGE_BYTES - 1) == 0;
}

/* Both images at once, when they agree and nothing is pending. Pages of zeros need no memory. */
static void write_clean_page(struct page *page, size_t at, const uint8_t *data, size_t count)
{
    if (count == SIM_PAGE_BYTES && is_zero_page(data)) {
        mem_free(page->live);
        page->live = NULL;
    } else {
        memcpy(image_own(&page->live, NULL) + at, data, count);
    }
    page->durable = page->live;
}

static void write_page(struct sim_file *file, uint64_t offset, const uint8_t *data, size_t count,
                       bool durable)
{
    struct page *page = page_make(file, page_of(offset));
    size_t at = offset % SIM_PAGE_BYTES;
    page_allocate(file, page);
    page->durable_allocated |= durable;
    if (durable && page_is_clean(page)) {
        write_clean_page(page, at, data, count);
        return;
    }
    memcpy(image_own(&page->live, page->durable) + at, data, count);
    if (durable) {
        /* The page cache writes whole sectors: with older bytes that were not durable so far. */
        unsigned first = (unsigned)(at / SIM_SECTOR_BYTES);
        unsigned end = (unsigned)((at + count + SIM_SECTOR_BYTES - 1) / SIM_SECTOR_BYTES);
        page_make_durable(page, first, end - first, file->sequence,
                          page->live + first * SIM_SECTOR_BYTES);
        page_settle(page);
    }
}

/* Remember a write that is not durable by the sectors it left in the live image. */
static void push_write(struct sim_file *file, uint64_t offset, size_t bytes)
{
    struct change *change = change_push(file, CHANGE_WRITE, offset, offset + bytes);
    change->first_sector = offset / SIM_SECTOR_BYTES;
    uint64_t end_sector = (offset + bytes + SIM_SECTOR_BYTES - 1) / SIM_SECTOR_BYTES;
    change->sector_count = end_sector - change->first_sector;
    size_t snapshot_bytes = change->sector_count * SIM_SECTOR_BYTES;
    change->sectors = mem_alloc(snapshot_bytes);
    read_live(file, change->first_sector * SIM_SECTOR_BYTES, change->sectors, snapshot_bytes);
    file->pending_bytes += snapshot_bytes;
    SPAN_EACH(span, file, change)
    span.at.page->pending++;
    write_back_excess(file);
}

void sim_file_write(struct sim_file *file, uint64_t offset, const uint8_t *data, size_t bytes,
                    bool durable)
{
    assert(bytes > 0);
    assert(offset + bytes <= SIM_FILE_BYTES_MAX);
    if (durable) {
        journal_make_durable(file);
        file->sequence++;
    }
    for (size_t done = 0; done < bytes;) {
        size_t count = min_u64(bytes - done, SIM_PAGE_BYTES - (offset + done) % SIM_PAGE_BYTES);
        write_page(file, offset + done, data + done, count, durable);
        done += count;
    }
    file->live_bytes = max_u64(file->live_bytes, offset + bytes);
    if (durable)
        file->durable_bytes = max_u64(file->durable_bytes, offset + bytes);
    else
        push_write(file, offset, bytes);
}

enum err sim_file_truncate(struct sim_file *file, uint64_t bytes)
{
    if (bytes > SIM_FILE_BYTES_MAX)
        return FAIL(ERR_INVALID, "file too large bytes=%" PRIu64, bytes);
    struct page *page = page_find(file, page_of(bytes));
    size_t keep = bytes % SIM_PAGE_BYTES;
    if (keep > 0 && page != NULL && page->live != NULL)
        memset(image_own(&page->live, page->durable) + keep, 0, SIM_PAGE_BYTES - keep);
    uint64_t index = page_end_of(bytes);
    PAGE_EACH(gone, file, index, UINT64_MAX)
    page_drop_live(file, gone);
    file->live_bytes = bytes;
    change_push(file, CHANGE_TRUNCATE, bytes, bytes);
    write_back_excess(file);
    return OK;
}

enum err sim_file_allocate(struct sim_file *file, uint64_t offset, uint64_t bytes)
{
    assert(bytes > 0);
    TRY(sim_file_check_space(file, offset, bytes));
    for (uint64_t index = page_of(offset); index < page_end_of(offset + bytes); index++)
        page_allocate(file, page_make(file, index));
    file->live_bytes = max_u64(file->live_bytes, offset + bytes);
    change_push(file, CHANGE_ALLOCATE, offset, offset + bytes);
    write_back_excess(file);
    return OK;
}

/* Zero the part [offset, end) of one page that is punched only in part. */
static void punch_edge(struct sim_file *file, uint64_t offset, uint64_t end)
{
    static const uint8_t zeros[SIM_PAGE_BYTES];
    const struct page *page = page_find(file, page_of(offset));
    end = min_u64(end, file->live_bytes);
    if (offset < end && page != NULL && page->live != NULL)
        sim_file_write(file, offset, zeros, end - offset, false);
}

void sim_file_punch(struct sim_file *file, uint64_t offset, uint64_t bytes)
{
    assert(bytes > 0);
    uint64_t end = min_u64(offset + bytes, SIM_FILE_BYTES_MAX);
    uint64_t first = page_end_of(offset);
    uint64_t last = page_of(end);
    if (offset % SIM_PAGE_BYTES != 0)
        punch_edge(file, offset, min_u64(end, first * SIM_PAGE_BYTES));
    if (end % SIM_PAGE_BYTES != 0 && last >= first)
        punch_edge(file, last * SIM_PAGE_BYTES, end);
    if (first >= last)
        return;
    uint64_t index = first;
    PAGE_EACH(page, file, index, last)
    page_drop_live(file, page);
    change_push(file, CHANGE_PUNCH, first * SIM_PAGE_BYTES, last * SIM_PAGE_BYTES);
    write_back_excess(file);
}

void sim_file_sync(struct sim_file *file, uint64_t sequence)
{
    for (struct list_node *node; (node = list_first(&file->pending)) != NULL;) {
        if (CONTAINER_OF(node, struct change, node)->sequence > sequence)
            return;
        oldest_make_durable(file);
    }
}

void sim_file_lose_writes(struct sim_file *file)
{
    LIST_EACH(struct change, change, &file->pending, node)
    {
        if (change->kind != CHANGE_WRITE)
            continue;
        change_release(file, change);
        change->kind = CHANGE_LENGTH;
    }
}

enum err sim_file_flip(struct sim_file *file, uint64_t bit)
{
    uint64_t offset = bit / 8;
    if (offset >= file->live_bytes)
        return FAIL(ERR_INVALID, "bit beyond the end bit=%" PRIu64, bit);
    struct page *page = page_make(file, page_of(offset));
    uint8_t mask = (uint8_t)(1U << (bit % 8));
    bool shared = page->live == page->durable;
    if (!shared)
        image_own(&page->durable, page->live)[offset % SIM_PAGE_BYTES] ^= mask;
    image_own(&page->live, shared ? NULL : page->durable)[offset % SIM_PAGE_BYTES] ^= mask;
    if (shared)
        page->durable = page->live;
    return OK;
}

enum err sim_file_copy(struct sim_file *file, const struct sim_file *from)
{
    assert(file->live_bytes == 0);
    uint64_t index = 0;
    PAGE_EACH(page, from, index, page_end_of(from->live_bytes))
    {
        uint64_t offset = index * SIM_PAGE_BYTES;
        uint64_t bytes = min_u64(SIM_PAGE_BYTES, from->live_bytes - offset);
        if (page->live != NULL) {
            TRY(sim_file_check_space(file, offset, bytes));
            sim_file_write(file, offset, page->live, bytes, true);
        } else if (page->live_allocated) {
            TRY(sim_file_allocate(file, offset, bytes));
        }
    }
    TRY(sim_file_truncate(file, from->live_bytes));
    sim_file_sync(file, UINT64_MAX);
    return OK;
}

/* --- power cut --- */

enum crash_mode { CRASH_KEEP_NONE, CRASH_KEEP_ALL, CRASH_DRAW, CRASH_MODE_COUNT = 4 };
enum tear { TEAR_NONE, TEAR_SECTORS, TEAR_PAGES, TEAR_COUNT };

struct crash {
    struct sim_random *random;
    struct sim_fault_counts *counts;
    enum crash_mode mode;
    bool journal_ended;  /* a change was lost, so all later ones are */
    bool space_lost;     /* an allocate was lost: later writes reach only older blocks */
    bool content_undone; /* a truncate or punch was lost: later writes are too */
    bool write_lost;     /* some earlier write was lost in part or whole */
};

/* Draw for each unit of a write whether it reached the disk; counts both kinds. `kept_end` is the
 * end in bytes of the last sector that did. */
struct draw {
    uint64_t kept;
    uint64_t lost;
    uint64_t kept_end;
};

static bool crash_keeps(const struct crash *crash, enum tear tear, bool whole)
{
    if (crash->mode == CRASH_KEEP_ALL || crash->mode == CRASH_KEEP_NONE)
        return crash->mode == CRASH_KEEP_ALL;
    return tear == TEAR_NONE ? whole : sim_random_below(crash->random, 2) == 0;
}

static struct draw crash_sectors(struct sim_file *file, const struct change *change,
                                 const struct crash *crash)
{
    struct draw draw = {0};
    enum tear tear = (enum tear)sim_random_below(crash->random, TEAR_COUNT);
    bool whole = sim_random_below(crash->random, 2) == 0;
    SPAN_EACH(span, file, change)
    {
        bool keep = crash_keeps(crash, tear, whole);
        bool reachable =
            !crash->content_undone && (!crash->space_lost || span.at.page->durable_allocated);
        for (unsigned i = 0; i < span.at.count; i++) {
            if (tear == TEAR_SECTORS)
                keep = crash_keeps(crash, tear, whole);
            if (!keep || !reachable) {
                draw.lost++;
                continue;
            }
            draw.kept++;
            draw.kept_end = span.at.index * SIM_PAGE_BYTES +
                            (span.at.first + i + 1) * (uint64_t)SIM_SECTOR_BYTES;
            if (page_make_durable(span.at.page, span.at.first + i, 1, change->sequence,
                                  span.at.data + i * SIM_SECTOR_BYTES))
                span.at.page->durable_allocated = true;
        }
    }
    return draw;
}

static void crash_write(struct sim_file *file, const struct change *change, struct crash *crash)
{
    struct draw draw = crash_sectors(file, change, crash);
    uint64_t *counts = crash->counts->counts;
    uint64_t end = min_u64(change->end, draw.kept_end);
    counts[SIM_FAULT_LOST_WRITE] += draw.kept == 0;
    counts[SIM_FAULT_TORN_WRITE] += draw.kept > 0 && draw.lost > 0;
    counts[SIM_FAULT_KEPT_WRITE] += draw.lost == 0;
    counts[SIM_FAULT_REORDERED_WRITE] += draw.kept > 0 && crash->write_lost;
    crash->write_lost |= draw.lost > 0;
    if (change->sequence < file->truncate_sequence || crash->space_lost || crash->content_undone)
        return;
    if (draw.lost > 0 && change->end > file->durable_bytes && crash->mode != CRASH_KEEP_NONE &&
        sim_random_below(crash->random, LENGTH_ONLY_ONE_IN) == 0) {
        counts[SIM_FAULT_LENGTH_ONLY]++;
        end = change->end;
    }
    file->durable_bytes = max_u64(file->durable_bytes, end);
}

static void crash_journal(struct sim_file *file, const struct change *change, struct crash *crash)
{
    crash->journal_ended |= sim_random_below(crash->random, 2) == 0;
    if (!crash->journal_ended) {
        make_durable(file, change);
        return;
    }
    crash->counts->counts[SIM_FAULT_LOST_CHANGE]++;
    crash->space_lost |= change->kind == CHANGE_ALLOCATE;
    crash->content_undone |= change->kind == CHANGE_TRUNCATE || change->kind == CHANGE_PUNCH;
}

/* The live image is what is durable. */
static void reload(struct sim_file *file)
{
    uint64_t index = 0;
    PAGE_EACH(page, file, index, UINT64_MAX)
    {
        page_drop_live(file, page);
        page->live = page->durable;
        if (page->durable_allocated)
            page_allocate(file, page);
    }
    file->live_bytes = file->durable_bytes;
    file->truncate_sequence = 0;
}

void sim_file_crash(struct sim_file *file, struct sim_random *random,
                    struct sim_fault_counts *counts)
{
    struct crash crash = {.random = random, .counts = counts};
    crash.mode = (enum crash_mode)sim_random_below(random, CRASH_MODE_COUNT);
    LIST_EACH(struct change, change, &file->pending, node)
    {
        if (change->kind == CHANGE_WRITE)
            crash_write(file, change, &crash);
        else
            crash_journal(file, change, &crash);
    }
    while (!list_empty(&file->pending))
        change_free(file, CONTAINER_OF(list_first(&file->pending), struct change, node));
    /* Kept sectors behind a length that was not kept. */
    make_truncate_durable(file, file->durable_bytes, ++file->sequence);
    reload(file);
}
