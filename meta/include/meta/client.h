/* Calls of the metadata service: what the gateway and the storage daemon ask of it.
 *
 * Every call waits: for the leader, a durable majority, the apply and the confirmation of the
 * incarnation (writes), or for a linearizable point (reads). Errors beside those named:
 * ERR_NOT_LEADER and ERR_TIMEOUT (nothing was changed), ERR_OUTCOME_UNKNOWN (a change may or
 * may not have happened), ERR_BUSY (limits), ERR_FENCED (no voter can go on). Callable from
 * every reactor. Slices given are borrowed for the call. */
#pragma once
#include "base/bytes.h"
#include "meta/types.h"
#include "runtime/io.h"

struct meta_client;
struct meta_group;

/* A client of the metadata service in this process. */
struct meta_client *meta_client_new(struct meta_group *group);
void meta_client_free(struct meta_client *client);
DEFINE_AUTO(meta_client, meta_client_free)

/* --- buckets --- */

/* Create a bucket in three entries (name taken, group opened, name live); a crash between them
 * is finished by the next start or the next create of that name. ERR_EXISTS: *out_bucket is
 * the one that has the name. */
enum err meta_bucket_create(struct io *io, struct meta_client *client, struct slice name,
                            struct slice owner, struct slice region, struct bucket *out_bucket);
/* ERR_NOT_FOUND. */
enum err meta_bucket_find(struct io *io, struct meta_client *client, struct slice name,
                          struct bucket *out_bucket);
/* Names that start with `prefix`, strictly after `after`, at most `max` (1..10000). */
enum err meta_bucket_list(struct io *io, struct meta_client *client, struct slice prefix,
                          struct slice after, uint32_t max, struct bucket_page **out_page);
/* ERR_NOT_FOUND, ERR_NOT_EMPTY (objects or versions; open uploads are aborted with the bucket,
 * as S3 does). */
enum err meta_bucket_delete(struct io *io, struct meta_client *client, struct slice name);

/* Set what the bucket has of this kind: 1..META_BUCKET_CONFIG_BYTES_MAX bytes; empty takes it away,
 * as the end of the bucket does. ERR_NOT_FOUND: the bucket is gone. */
enum err meta_bucket_config_put(struct io *io, struct meta_client *client, uint64_t bucket_id,
                                enum bucket_config_kind kind, struct slice value);
/* Appended to *out_value, which has room for META_BUCKET_CONFIG_BYTES_MAX. ERR_NOT_FOUND: not
 * set. */
enum err meta_bucket_config_find(struct io *io, struct meta_client *client, uint64_t bucket_id,
                                 enum bucket_config_kind kind, struct bytes *out_value);

/* --- objects --- */

struct object_put {
    uint64_t bucket_id;
    struct slice key;
    struct write_conditions conditions;
    uint64_t bytes;
    struct object_etag etag;
    struct object_checksum checksum;
    struct slice attributes;
    struct slice tags;
    /* Either the bytes themselves (bytes <= META_INLINE_BYTES_MAX, block_count 0) ... */
    struct slice inline_bytes;
    /* ... or blocks, in order, their lengths adding up to `bytes`. */
    const struct block_ref *blocks;
    const struct lease *leases; /* leases[i]: under which blocks[i] was written */
    uint32_t block_count;
    uint64_t intent; /* 0, or the intent under which all but the last block were staged */
};
struct object_written {
    uint64_t stamp;
    uint64_t modified_ms;
};
/* Make a version the current one. What it replaces goes to the free list in the same entry.
 * ERR_NOT_FOUND: the bucket is gone, or If-Match on a missing key; ERR_PRECONDITION;
 * ERR_STALE_EPOCH: a lease is closed or the intent is gone: the blocks are lost work. */
enum err meta_object_put(struct io *io, struct meta_client *client, const struct object_put *put,
                         struct object_written *out_written);

struct object_copy {
    uint64_t source_bucket_id;
    struct slice source_key;
    /* The version that was read; ERR_STALE when it is no longer there: read again. */
    uint64_t source_stamp;
    uint64_t bucket_id;
    struct slice key;
    struct write_conditions conditions;
    struct object_checksum checksum; /* of the copy; usually the source's */
    struct slice attributes;         /* of the copy, already merged by the caller */
    bool replace_tags;               /* else the copy has those that the source has then */
    struct slice tags;
};
/* Copy within the group without moving bytes: blocks get another referrer. Same errors as
 * meta_object_put. */
enum err meta_object_copy(struct io *io, struct meta_client *client, const struct object_copy *copy,
                          struct object_written *out_written);

/* The current version; ERR_NOT_FOUND. `inline_too` fills inline_bytes. */
enum err meta_object_find(struct io *io, struct meta_client *client, uint64_t bucket_id,
                          struct slice key, bool inline_too, struct object **out_object);
/* Up to `max` extents that cover the object's bytes from `offset` on; for LAYOUT_BLOCKS and
 * LAYOUT_PARTS. ERR_STALE: the version is gone. */
enum err meta_object_extents(struct io *io, struct meta_client *client, const struct object *object,
                             uint64_t offset, uint32_t max, struct extent_page **out_page);
/* Parts of a LAYOUT_PARTS version with number > after, in order. */
enum err meta_object_parts(struct io *io, struct meta_client *client, const struct object *object,
                           uint32_t after, uint32_t max, struct part_page **out_page);
/* Replace the tags of the current version; nothing else of it changes. Empty: it has none.
 * ERR_NOT_FOUND: no such key, or the bucket is gone. */
enum err meta_object_tag(struct io *io, struct meta_client *client, uint64_t bucket_id,
                         struct slice key, struct slice tags);
/* OK also when there was none (S3 DeleteObject); *out_deleted says. ERR_PRECONDITION;
 * ERR_NOT_FOUND: condition on a missing key. */
enum err meta_object_delete(struct io *io, struct meta_client *client, uint64_t bucket_id,
                            struct slice key, const struct write_conditions *conditions,
                            bool *out_deleted);

struct list_query {
    uint64_t bucket_id;
    struct slice prefix;
    struct slice delimiter; /* empty = none; any bytes */
    /* Strictly after this key; when it is a common prefix of this query, after all of its
     * keys. */
    struct slice after;
    /* Uploads with key == after: strictly after this id; 0 = after all of that key. */
    uint64_t after_upload;
    uint32_t max; /* 0..META_LIST_MAX entries, keys and prefixes together */
};
/* Current objects in byte order. With a delimiter each common prefix costs one seek. */
enum err meta_object_list(struct io *io, struct meta_client *client, const struct list_query *query,
                          struct list_page **out_page);

/* --- multipart --- */

struct upload_create {
    uint64_t bucket_id;
    struct slice key;
    struct slice attributes, tags;             /* of the version that it will make */
    uint8_t checksum_algorithm, checksum_type; /* as in struct upload */
};
enum err meta_upload_create(struct io *io, struct meta_client *client,
                            const struct upload_create *create, uint64_t *out_upload_id);
/* ERR_NOT_FOUND. */
enum err meta_upload_find(struct io *io, struct meta_client *client, uint64_t bucket_id,
                          struct slice key, uint64_t upload_id, struct upload **out_upload);
enum err meta_upload_list(struct io *io, struct meta_client *client, const struct list_query *query,
                          struct list_page **out_page);
/* Conditions and attributes of the put are ignored; a part is made of blocks, or empty:
 * ERR_INVALID with inline bytes. Replaces an earlier part of that number. ERR_NOT_FOUND: no
 * such upload. */
enum err meta_part_put(struct io *io, struct meta_client *client, uint64_t upload_id,
                       uint32_t part_number, const struct object_put *put,
                       struct object_written *out_written);
/* Parts with number > after, at most `max` (1..META_PARTS_MAX). ERR_NOT_FOUND: no such upload. */
enum err meta_part_list(struct io *io, struct meta_client *client, uint64_t bucket_id,
                        struct slice key, uint64_t upload_id, uint32_t after, uint32_t max,
                        struct part_page **out_page);

struct upload_complete {
    uint64_t bucket_id;
    struct slice key;
    uint64_t upload_id;
    struct write_conditions conditions;
    const struct part
        *parts; /* ascending numbers; number and id are checked against what is stored */
    uint32_t part_count;
    struct object_etag etag;
    struct object_checksum checksum;
};
/* Freeze the parts into a version; parts left out are freed. The upload's attributes and tags
 * become the version's. ERR_NOT_FOUND: no such upload (or bucket); ERR_INVALID: a part is not there
 * or was replaced; ERR_PRECONDITION. A repeated call for the upload that made the current
 * version succeeds with the same answer. */
enum err meta_upload_complete(struct io *io, struct meta_client *client,
                              const struct upload_complete *complete,
                              struct object_written *out_written);
/* ERR_NOT_FOUND. */
enum err meta_upload_abort(struct io *io, struct meta_client *client, uint64_t bucket_id,
                           struct slice key, uint64_t upload_id);

/* --- identities --- */

struct identity {
    char access_key[129];
    char secret_key[129]; /* never logged */
    bool root;
};
/* ERR_NOT_FOUND. */
enum err meta_identity_find(struct io *io, struct meta_client *client, struct slice access_key,
                            struct identity *out_identity);
enum err meta_identity_put(struct io *io, struct meta_client *client,
                           const struct identity *identity);
/* The root identity; ERR_NOT_FOUND before the first meta_identity_put with root set. */
enum err meta_identity_root(struct io *io, struct meta_client *client,
                            struct identity *out_identity);

/* --- for the storage daemon --- */

/* Announce a drive; again at every start. A lost one is in service again; the standing given is
 * ignored. Idempotent. ERR_STALE: a later mount counter was seen, or the same one of another
 * start: this is an older copy of the drive. */
enum err meta_drive_register(struct io *io, struct meta_client *client,
                             const struct drive_record *drive);
/* ERR_NOT_FOUND: unknown drive. */
enum err meta_drive_set_standing(struct io *io, struct meta_client *client,
                                 const struct drive_id *drive, enum drive_standing standing);
/* Forget a lost drive that no slot and no repair names. ERR_NOT_EMPTY: one does. OK when
 * unknown. */
enum err meta_drive_forget(struct io *io, struct meta_client *client, const struct drive_id *drive);
struct drive_page {
    struct drive_record *drives;
    uint32_t count;
};
void drive_page_free(struct drive_page *page);
DEFINE_AUTO(drive_page, drive_page_free)
enum err meta_drive_list(struct io *io, struct meta_client *client, struct drive_page **out_page);
/* Create a volume over these drives (slot order as given). */
enum err meta_volume_create(struct io *io, struct meta_client *client, uint8_t data_shards,
                            uint8_t parity_shards, const struct drive_id *drives,
                            struct volume *out_volume);
struct volume_page {
    struct volume *volumes;
    uint32_t count;
};
void volume_page_free(struct volume_page *page);
DEFINE_AUTO(volume_page, volume_page_free)
/* All volumes (bounded by their number: one per 8 GiB of slot). */
enum err meta_volume_list(struct io *io, struct meta_client *client, struct volume_page **out_page);
/* --- repair of a volume (CLUSTER.md C2.6) --- */

/* Begin to move the slots of the mask `slots` to drives[slot]: the epoch grows, no lease is given
 * any more. Old leases are closed by the caller before it takes the final list of blocks.
 * ERR_BUSY: another repair of this volume goes on (continue that one, or cancel it). ERR_INVALID:
 * a drive that is unknown, not in service or in another slot. *out_volume has the repair's id. */
enum err meta_repair_start(struct io *io, struct meta_client *client, uint64_t volume,
                           uint32_t slots, const struct drive_id drives[META_SHARDS_MAX],
                           struct volume *out_volume);
/* Every live block is whole in the new place: the slots are there from now on. ERR_STALE: not the
 * volume's repair. ERR_NOT_EMPTY: a lease of the volume is not closed. */
enum err meta_repair_done(struct io *io, struct meta_client *client, uint64_t volume,
                          uint64_t repair, struct volume *out_volume);
/* Give it up; what was written for it is of no use. ERR_STALE: not the volume's repair. */
enum err meta_repair_cancel(struct io *io, struct meta_client *client, uint64_t volume,
                            uint64_t repair, struct volume *out_volume);

struct block_page {
    struct block_ref *blocks; /* `missing` is what is missing now */
    uint32_t count;
    bool truncated; /* continue after the last one */
};
void block_page_free(struct block_page *page);
DEFINE_AUTO(block_page, block_page_free)
/* Live blocks of a volume, staged ones included, by rising sequence: all with a sequence >= `from`,
 * at most `max`. */
enum err meta_volume_blocks(struct io *io, struct meta_client *client, uint64_t volume,
                            uint64_t from, uint32_t max, struct block_page **out_page);
/* Live blocks with missing shards, from `from` on, in order of id, at most `max`. */
enum err meta_repair_list(struct io *io, struct meta_client *client, struct block_id from,
                          uint32_t max, struct block_page **out_page);
/* The shards of the mask `missing` of each block are there now. */
enum err meta_blocks_repaired(struct io *io, struct meta_client *client,
                              const struct block_ref *blocks, uint32_t count);
/* What is known of live blocks; out_refs[i].bytes is 0 when nothing refers to ids[i]. */
enum err meta_block_find(struct io *io, struct meta_client *client, const struct block_id *ids,
                         uint32_t count, struct block_ref *out_refs);

/* A fresh lease on the volume for this process (`holder` = node id, `boot` = nonce of this
 * start). ERR_STALE_EPOCH: not open. */
enum err meta_lease_open(struct io *io, struct meta_client *client, uint64_t volume,
                         uint64_t holder, uint64_t boot, struct lease *out_lease);
/* Close in three steps (closing, refused by the groups, closed). Idempotent. */
enum err meta_lease_close(struct io *io, struct meta_client *client, const struct lease *lease);
/* Close every lease of the volume, whoever holds it. */
enum err meta_lease_close_volume(struct io *io, struct meta_client *client, uint64_t volume);
/* Close every lease of `holder` from another boot than `boot`: called at start, before the
 * first new lease. */
enum err meta_lease_close_stale(struct io *io, struct meta_client *client, uint64_t holder,
                                uint64_t boot);

/* Keep a finished block of an object still being written. `*intent` 0 makes a new intent.
 * Dropped 15 minutes of Tick time after its last stage or renewal. ERR_STALE_EPOCH: lease closed
 * or intent gone. */
enum err meta_block_stage(struct io *io, struct meta_client *client, uint64_t bucket_id,
                          const struct lease *lease, const struct block_ref *ref, uint64_t *intent);
/* The object is still being written. ERR_STALE_EPOCH: the intent is gone. */
enum err meta_intent_renew(struct io *io, struct meta_client *client, uint64_t intent);
/* Give staged blocks up now. OK when the intent is gone already. */
enum err meta_intent_drop(struct io *io, struct meta_client *client, uint64_t intent);

struct free_entry {
    uint64_t position;
    struct block_id block;
};
struct free_page {
    struct free_entry *entries;
    uint32_t count;
};
void free_page_free(struct free_page *page);
DEFINE_AUTO(free_page, free_page_free)
/* Blocks that a committed entry gave up, in order of position, strictly after `after`, at most
 * `max`. Also moves forward the expansion of deleted multipart objects by a bounded step. */
enum err meta_free_list(struct io *io, struct meta_client *client, uint64_t after, uint32_t max,
                        struct free_page **out_page);
/* All slots of these positions are punched: forget them. */
enum err meta_free_done(struct io *io, struct meta_client *client, const uint64_t *positions,
                        uint32_t count);

enum block_status {
    BLOCK_UNKNOWN = 0, /* its lease is not closed, or no answer: keep */
    BLOCK_LIVE = 1,    /* a version, part or intent refers to it */
    BLOCK_NEVER = 2,   /* lease closed and nothing refers to it: no later entry can */
};
/* Linearizable status of `count` (<= 4096) blocks. */
enum err meta_block_status(struct io *io, struct meta_client *client, const struct block_id *ids,
                           uint32_t count, enum block_status *out_status);
