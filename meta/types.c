/* Release of what the metadata service answers. Pages and objects are one allocation each, or
 * two. */
#include "meta/types.h"
#include "base/mem.h"
#include "meta/client.h"

void object_free(struct object *object)
{
    mem_free(object);
}

void upload_free(struct upload *upload)
{
    mem_free(upload);
}

void list_page_free(struct list_page *page)
{
    mem_free(page);
}

#define DEFINE_PAGE_FREE(type, items)                                                              \
    void type##_free(struct type *page)                                                            \
    {                                                                                              \
        if (page == NULL)                                                                          \
            return;                                                                                \
        mem_free(page->items);                                                                     \
        mem_free(page);                                                                            \
    }
DEFINE_PAGE_FREE(bucket_page, buckets)
DEFINE_PAGE_FREE(part_page, parts)
DEFINE_PAGE_FREE(extent_page, extents)
DEFINE_PAGE_FREE(volume_page, volumes)
DEFINE_PAGE_FREE(free_page, entries)
DEFINE_PAGE_FREE(drive_page, drives)
DEFINE_PAGE_FREE(block_page, blocks)
