/* Growing byte arrays with a maximum. */
#include "base/bytes.h"
#include "base/mem.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

enum { CAPACITY_MIN = 64 };

void bytes_deinit(struct bytes *bytes)
{
    mem_free(bytes->data);
    *bytes = (struct bytes){.max = bytes->max};
}

void bytes_clear(struct bytes *bytes)
{
    bytes->bytes = 0;
    bytes->overflow = false;
}

/* Once an append was refused all later ones are: what is there is a prefix, never a text with a
 * hole. */
static bool admit(struct bytes *bytes, size_t count)
{
    assert(bytes->max > 0);
    assert(bytes->bytes <= bytes->max);
    if (count > bytes->max - bytes->bytes)
        bytes->overflow = true;
    return !bytes->overflow;
}

static void reserve(struct bytes *bytes, size_t capacity)
{
    if (capacity <= bytes->capacity)
        return;
    size_t grown = bytes->capacity < CAPACITY_MIN ? CAPACITY_MIN : bytes->capacity;
    while (grown < capacity)
        grown = grown > SIZE_MAX / 2 ? capacity : grown * 2;
    /* Doubling must not take more than the owner asked for, but formatting needs one for its
     * NUL. */
    if (grown > bytes->max && bytes->max >= capacity)
        grown = bytes->max;
    bytes->data = mem_resize(bytes->data, grown);
    bytes->capacity = grown;
}

uint8_t *bytes_extend(struct bytes *bytes, size_t count)
{
    if (!admit(bytes, count))
        return NULL;
    /* At least one byte of memory, so that the result is not NULL when `count` is 0. */
    reserve(bytes, bytes->bytes + (count == 0 ? 1 : count));
    uint8_t *room = bytes->data + bytes->bytes;
    bytes->bytes += count;
    return room;
}

void bytes_append(struct bytes *bytes, struct slice slice)
{
    /* Growing would move the source away. */
    assert(bytes->data == NULL || slice.data < bytes->data ||
           slice.data >= bytes->data + bytes->capacity);
    uint8_t *room = bytes_extend(bytes, slice.bytes);
    if (room != NULL && slice.bytes > 0)
        memcpy(room, slice.data, slice.bytes);
}

void bytes_append_text(struct bytes *bytes, const char *text)
{
    bytes_append(bytes, slice_of_text(text));
}

void bytes_append_byte(struct bytes *bytes, uint8_t byte)
{
    uint8_t *room = bytes_extend(bytes, 1);
    if (room != NULL)
        *room = byte;
}

void bytes_append_format(struct bytes *bytes, const char *format, ...)
{
    va_list arguments;
    va_list again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    assert(length >= 0);
    if (admit(bytes, (size_t)length)) {
        reserve(bytes, bytes->bytes + (size_t)length + 1);
        (void)vsnprintf((char *)bytes->data + bytes->bytes, (size_t)length + 1, format, again);
        bytes->bytes += (size_t)length;
    }
    va_end(again);
}

void bytes_consume(struct bytes *bytes, size_t count)
{
    assert(count <= bytes->bytes);
    bytes->bytes -= count;
    if (count > 0 && bytes->bytes > 0)
        memmove(bytes->data, bytes->data + count, bytes->bytes);
}
