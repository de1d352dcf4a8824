/* The codec of messages between replicas. */
#include "base/encode.h"
#include "base/mem.h"
#include "raft/raft.h"
#include <assert.h>

/* version u8, type u8, flags u8, then varints group, from, to, term, index, log_term, commit,
 * round, hint_index, hint_term, entry count; each entry: term varint, type u8, payload slice. */
enum { MESSAGE_VERSION = 1 };
enum { FLAG_REJECT = 1, FLAG_TRANSFER = 2, FLAG_REPAIR = 4, FLAGS_ALL = 7 };
enum { ENTRY_ENCODED_BYTES_MIN = 3 };

void raft_entries_deinit(struct raft_entries *entries)
{
    mem_free(entries->entries);
    *entries = (struct raft_entries){0};
}

void raft_message_encode(struct bytes *out, const struct raft_message *message)
{
    assert(message->type != 0);
    assert(message->entry_count <= RAFT_MESSAGE_ENTRIES_MAX);
    encode_u8(out, MESSAGE_VERSION);
    encode_u8(out, (uint8_t)message->type);
    encode_u8(out, (uint8_t)((message->reject ? FLAG_REJECT : 0) |
                             (message->transfer ? FLAG_TRANSFER : 0) |
                             (message->repair ? FLAG_REPAIR : 0)));
    const uint64_t fields[] = {message->group,     message->from,       message->to,
                               message->term,      message->index,      message->log_term,
                               message->commit,    message->round,      message->hint_index,
                               message->hint_term, message->entry_count};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        encode_varint(out, fields[i]);
    for (uint32_t i = 0; i < message->entry_count; i++) {
        const struct raft_entry *entry = &message->entries[i];
        encode_varint(out, entry->term);
        encode_u8(out, (uint8_t)entry->type);
        encode_slice(out, entry->payload);
    }
}

static bool type_known(uint8_t type)
{
    return type >= RAFT_PREVOTE && type <= RAFT_TIMEOUT_NOW;
}

static struct raft_entry decode_entry(struct decoder *decoder)
{
    struct raft_entry entry = {.term = decode_varint(decoder)};
    uint8_t type = decode_u8(decoder);
    entry.payload = decode_slice(decoder);
    if (type < RAFT_NOOP || type > RAFT_MEMBERSHIP || entry.payload.bytes > RAFT_PAYLOAD_BYTES_MAX)
        decoder->failed = true;
    else
        entry.type = (enum raft_entry_type)type;
    return entry;
}

static void reserve(struct raft_entries *storage, uint32_t count)
{
    if (count <= storage->capacity)
        return;
    storage->entries = mem_resize(storage->entries, count * sizeof *storage->entries);
    storage->capacity = count;
}

enum err raft_message_decode(struct slice input, struct raft_entries *storage,
                             struct raft_message *out_message)
{
    struct decoder decoder = decoder_of(input);
    uint8_t version = decode_u8(&decoder);
    if (!decoder.failed && version != MESSAGE_VERSION)
        return FAIL(ERR_UNSUPPORTED, "raft message version=%u", version);
    uint8_t type = decode_u8(&decoder);
    uint8_t flags = decode_u8(&decoder);
    struct raft_message message = {
        .reject = flags & FLAG_REJECT,
        .transfer = flags & FLAG_TRANSFER,
        .repair = flags & FLAG_REPAIR,
    };
    uint64_t *const fields[] = {&message.group,    &message.from,  &message.to,
                                &message.term,     &message.index, &message.log_term,
                                &message.commit,   &message.round, &message.hint_index,
                                &message.hint_term};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        *fields[i] = decode_varint(&decoder);
    uint64_t count = decode_varint(&decoder);
    if (!decoder.failed && (!type_known(type) || (flags & ~FLAGS_ALL) != 0))
        return FAIL(ERR_CORRUPT, "raft message type=%u flags=%u", type, flags);
    if (count > RAFT_MESSAGE_ENTRIES_MAX)
        return FAIL(ERR_LIMIT, "raft message has too many entries");
    if (count > decoder.rest.bytes / ENTRY_ENCODED_BYTES_MIN)
        return FAIL(ERR_CORRUPT, "raft message is shorter than its entries");
    message.type = (enum raft_message_type)type;
    message.entry_count = (uint32_t)count;
    reserve(storage, message.entry_count);
    for (uint32_t i = 0; i < message.entry_count; i++)
        storage->entries[i] = decode_entry(&decoder);
    message.entries = message.entry_count > 0 ? storage->entries : NULL;
    TRY(decode_finish(&decoder, "raft message"));
    *out_message = message;
    return OK;
}
