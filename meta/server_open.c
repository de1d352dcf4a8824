/* The directory of a replica.
 *
 *     identity             cluster, replica, group, log id; made last, locked while open
 *     log/                 segments (log_files.h)
 *     state/<replica>/     the store */
#include "base/crc.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/mem.h"
#include "server_core.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum {
    IDENTITY_BYTES = 4096,
    IDENTITY_VERSION = 1,
    /* layout */
    IDENTITY_MAGIC_AT = 0,
    IDENTITY_VERSION_AT = 8,
    IDENTITY_CLUSTER_AT = 16,
    IDENTITY_LOG_AT = 32,
    IDENTITY_REPLICA_AT = 48,
    IDENTITY_GROUP_AT = 56,
    IDENTITY_CRC_AT = 64,
    NAMES_BYTES_MAX = 1 << 20,
    BLOB_BYTES_MIN = 4096,
    STATE_CACHE_BYTES = 128 << 20,
    STATE_WRITE_BUFFER_BYTES = 32 << 20, /* fewer and larger files of the first level */
};
static const char identity_magic[8] = "SHALEMTA";
#define SCRATCH_PREFIX "reading-"

static char *path_in(const struct meta_server *server, const char *name)
{
    return mem_format("%s/%s", server->directory, name);
}

static char *state_path(const struct meta_server *server)
{
    return mem_format("%s/state/%016" PRIx64, server->directory, server->options.replica_id);
}

/* --- identity --- */

static enum err write_identity(struct io *io, const struct meta_server *server,
                               const uint8_t log_id[LOG_ID_BYTES])
{
    AUTO_STRING path_new = path_in(server, "identity.new");
    AUTO_STRING path = path_in(server, "identity");
    AUTO(file) file = NULL;
    AUTO(buf) buf = buf_new(IDENTITY_BYTES);
    uint8_t *at = buf->data;
    memset(at, 0, IDENTITY_BYTES);
    memcpy(at + IDENTITY_MAGIC_AT, identity_magic, sizeof identity_magic);
    store_u32(at + IDENTITY_VERSION_AT, IDENTITY_VERSION);
    memcpy(at + IDENTITY_CLUSTER_AT, server->options.cluster_id, 16);
    memcpy(at + IDENTITY_LOG_AT, log_id, LOG_ID_BYTES);
    store_u64(at + IDENTITY_REPLICA_AT, server->options.replica_id);
    store_u64(at + IDENTITY_GROUP_AT, server->options.group_id);
    store_u32(at + IDENTITY_CRC_AT, crc32c_update(0, slice_of(at, IDENTITY_CRC_AT)));
    TRY(io_open(io, path_new, FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE, &file));
    struct io_part part = {.buf = buf, .bytes = IDENTITY_BYTES};
    TRY(io_write(io, file, &part, 1, 0, 0));
    TRY(io_sync(io, file));
    return io_rename(io, path_new, path);
}

static enum err decode_identity(const char *directory, const uint8_t *at,
                                struct meta_replica_identity *out_identity)
{
    if (memcmp(at + IDENTITY_MAGIC_AT, identity_magic, sizeof identity_magic) != 0 ||
        load_u32(at + IDENTITY_CRC_AT) != crc32c_update(0, slice_of(at, IDENTITY_CRC_AT))) {
        log_error("meta: %s/identity is damaged", directory);
        return FAIL(ERR_CORRUPT, "identity of directory=%s", directory);
    }
    if (load_u32(at + IDENTITY_VERSION_AT) != IDENTITY_VERSION) {
        log_error("meta: %s was written by a release with format version=%" PRIu32
                  ", this one knows %d",
                  directory, load_u32(at + IDENTITY_VERSION_AT), IDENTITY_VERSION);
        return FAIL(ERR_UNSUPPORTED, "identity version directory=%s", directory);
    }
    *out_identity = (struct meta_replica_identity){.replica_id = load_u64(at + IDENTITY_REPLICA_AT),
                                                   .group_id = load_u64(at + IDENTITY_GROUP_AT)};
    memcpy(out_identity->cluster_id, at + IDENTITY_CLUSTER_AT, sizeof out_identity->cluster_id);
    return OK;
}

static enum err check_identity(const struct meta_server *server, const uint8_t *at)
{
    const struct meta_server_options *options = &server->options;
    struct meta_replica_identity identity;
    TRY(decode_identity(server->directory, at, &identity));
    if (memcmp(identity.cluster_id, options->cluster_id, 16) != 0 ||
        identity.replica_id != options->replica_id || identity.group_id != options->group_id) {
        log_error("meta: %s belongs to another cluster or replica", server->directory);
        return FAIL(ERR_MISMATCH, "identity of directory=%s", server->directory);
    }
    return OK;
}

enum err meta_server_identify(struct io *io, const char *directory,
                              struct meta_replica_identity *out_identity)
{
    AUTO_STRING path = mem_format("%s/identity", directory);
    AUTO(file) file = NULL;
    AUTO(buf) buf = buf_new(IDENTITY_BYTES);
    size_t bytes = 0;
    TRY(io_open(io, path, 0, &file));
    memset(buf->data, 0, IDENTITY_BYTES);
    TRY(io_read(io, file, buf, 0, IDENTITY_BYTES, 0, &bytes));
    return decode_identity(directory, buf->data, out_identity);
}

/* Lock and check; the id of the log comes from here. */
static enum err open_identity(struct io *io, struct meta_server *server,
                              uint8_t out_log_id[LOG_ID_BYTES])
{
    AUTO_STRING path = path_in(server, "identity");
    AUTO(buf) buf = buf_new(IDENTITY_BYTES);
    size_t bytes = 0;
    enum err err = io_open(io, path, FILE_WRITE, &server->identity);
    if (err == ERR_NOT_FOUND)
        log_error("meta: %s is missing; put it back", path);
    TRY(err);
    err = io_lock(io, server->identity);
    if (err == ERR_LOCKED)
        log_error("meta: %s is in use by another process", server->directory);
    TRY(err);
    memset(buf->data, 0, IDENTITY_BYTES);
    TRY(io_read(io, server->identity, buf, 0, IDENTITY_BYTES, 0, &bytes));
    TRY(check_identity(server, buf->data));
    /* Here and not at the rename: a process that was killed right after it synced nothing. */
    TRY(io_sync_directory(io, server->directory));
    memcpy(out_log_id, buf->data + IDENTITY_LOG_AT, LOG_ID_BYTES);
    return OK;
}

/* --- log and store --- */

static void log_changed(void *context)
{
    server_wake(context);
}

static enum err open_log(struct io *io, struct meta_server *server,
                         const uint8_t log_id[LOG_ID_BYTES])
{
    AUTO_STRING path = path_in(server, "log");
    struct meta_log_options options = {
        .directory = path,
        .segment_bytes = server->options.log_segment_bytes,
        .metrics = server->options.metrics,
        .changed = log_changed,
        .context = server,
    };
    memcpy(options.id, log_id, LOG_ID_BYTES);
    return meta_log_open(io, &options, &server->log);
}

struct open_job {
    struct meta_server *server;
    bool create;
    enum err err;
};

static enum err open_kv(struct lane *lane, struct meta_server *server, const char *path,
                        bool create)
{
    size_t cache_bytes = server->options.state_cache_bytes;
    struct kv_options options = {
        .cache_bytes = cache_bytes != 0 ? cache_bytes : STATE_CACHE_BYTES,
        .write_buffer_bytes = STATE_WRITE_BUFFER_BYTES,
        .blob_bytes_min = BLOB_BYTES_MIN,
        .create = create,
        .discard = create,
    };
    enum err err = kv_open(server->options.kv, lane, path, &options, &server->kv);
    if (err == ERR_NOT_FOUND) {
        log_error("meta: the state store %s is missing", path);
        return FAIL(ERR_CORRUPT, "store path=%s", path);
    }
    TRY(err);
    return create ? kv_flush(lane, server->kv) : OK;
}

/* What is read without a quorum must not change what a later start finds: it is done on a copy
 * (hard links), which the next start clears away. */
static enum err open_scratch(struct lane *lane, struct meta_server *server)
{
    AUTO_STRING path =
        mem_format("%s/" SCRATCH_PREFIX "%016" PRIx64, server->directory, server->boot);
    TRY(kv_checkpoint(lane, server->kv, path));
    kv_close(TAKE(server->kv));
    return open_kv(lane, server, path, false);
}

static enum err open_store(struct lane *lane, struct meta_server *server, bool create)
{
    AUTO_STRING path = state_path(server);
    TRY(open_kv(lane, server, path, create));
    if (server->seams.reads_only)
        TRY(open_scratch(lane, server));
    return create ? OK : state_open(lane, server->kv, &server->state);
}

static void open_on_lane(struct lane *lane, void *argument)
{
    struct open_job *job = argument;
    job->err = open_store(lane, job->server, job->create);
}

static void open_state_on_lane(struct lane *lane, void *argument)
{
    struct open_job *job = argument;
    job->err = state_open(lane, job->server->kv, &job->server->state);
}

static enum err open_lanes(struct io *io, struct meta_server *server)
{
    TRY(lane_new(io, "meta-apply", 1, &server->apply_lane));
    TRY(lane_new(io, "meta-flush", 1, &server->flush_lane));
    return lane_new(io, "meta-read", SERVER_READ_THREADS, &server->read_lane);
}

static enum err open_state(struct io *io, struct meta_server *server, bool create)
{
    struct open_job job = {.server = server, .create = create};
    TRY(lane_run(io, server->apply_lane, open_on_lane, &job));
    return job.err;
}

static enum err create_state(struct io *io, struct meta_server *server)
{
    struct server_seed *seed = server->seams.seed;
    TRY(open_state(io, server, true));
    if (seed != NULL)
        TRY(seed->fill(io, seed, server));
    struct open_job job = {.server = server};
    TRY(lane_run(io, server->apply_lane, open_state_on_lane, &job));
    TRY(job.err);
    if (seed == NULL)
        return OK;
    struct state_position position = state_position(server->state);
    if (position.index != seed->index || position.term != seed->term ||
        position.hash != seed->state_hash)
        return FAIL(ERR_CORRUPT, "copy of a state is at index=%" PRIu64 " not %" PRIu64,
                    position.index, seed->index);
    return OK;
}

/* Of lives that could only read. */
static enum err clear_scratch(struct io *io, const struct meta_server *server)
{
    AUTO_VALUE(bytes) names = {.max = NAMES_BYTES_MAX};
    TRY(io_list_directory(io, server->directory, &names));
    for (size_t at = 0; at < names.bytes; at += strlen((const char *)names.data + at) + 1) {
        const char *name = (const char *)names.data + at;
        if (strncmp(name, SCRATCH_PREFIX, sizeof SCRATCH_PREFIX - 1) != 0)
            continue;
        AUTO_STRING path = path_in(server, name);
        TRY(io_remove_tree(io, path));
    }
    return OK;
}

/* --- the first start --- */

static enum err check_empty(struct io *io, const struct meta_server *server)
{
    AUTO_VALUE(bytes) names = {.max = NAMES_BYTES_MAX};
    TRY(io_list_directory(io, server->directory, &names));
    if (names.bytes == 0)
        return OK;
    log_error("meta: %s is not empty", server->directory);
    return FAIL(ERR_EXISTS, "directory=%s", server->directory);
}

/* Their names become durable with that of the identity, which says that they are there: it is
 * in the same directory, which is synced after it. */
static enum err make_directories(struct io *io, const struct meta_server *server)
{
    AUTO_STRING log = path_in(server, "log");
    AUTO_STRING state = path_in(server, "state");
    enum err err = io_make_directory(io, server->directory);
    if (err == ERR_EXISTS)
        err = check_empty(io, server);
    TRY(err);
    TRY(io_sync_parent(io, server->directory));
    TRY(io_make_directory(io, log));
    return io_make_directory(io, state);
}

static enum err create_group(struct io *io, struct meta_server *server)
{
    struct raft_membership alone = {.voters = {server->options.replica_id}, .voter_count = 1};
    const struct raft_membership *membership = server->seams.membership;
    const struct server_seed *seed = server->seams.seed;
    uint64_t ticket = 0;
    if (seed != NULL)
        TRY(meta_log_create_group(server->log, server->options.group_id, seed->index, seed->term,
                                  &seed->membership, &ticket));
    else
        TRY(meta_log_create_group(server->log, server->options.group_id, 0, 0,
                                  membership != NULL ? membership : &alone, &ticket));
    return meta_log_wait(io, server->log, ticket);
}

static enum err create(struct io *io, struct meta_server *server)
{
    uint8_t log_id[LOG_ID_BYTES];
    io_random(io, log_id, sizeof log_id);
    TRY(make_directories(io, server));
    TRY(open_log(io, server, log_id));
    TRY(create_group(io, server));
    TRY(create_state(io, server));
    TRY(write_identity(io, server, log_id));
    return open_identity(io, server, log_id);
}

/* --- open and close --- */

enum err meta_server_probe(struct io *io, const char *directory, bool *out_made)
{
    AUTO_STRING path = mem_format("%s/identity", directory);
    struct file_info info;
    enum err err = io_stat(io, path, &info);
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    *out_made = err == OK;
    return OK;
}

enum err server_open(struct io *io, struct meta_server *server)
{
    uint8_t log_id[LOG_ID_BYTES];
    TRY(open_lanes(io, server));
    if (server->options.create)
        return create(io, server);
    TRY(open_identity(io, server, log_id));
    TRY(clear_scratch(io, server));
    TRY(open_log(io, server, log_id));
    return open_state(io, server, false);
}

void server_close(struct io *io, struct meta_server *server)
{
    meta_log_close(io, server->log);
    struct list_node *node = NULL;
    while ((node = list_pop_front(&server->writes)) != NULL)
        mem_free(CONTAINER_OF(node, struct server_write, node));
    server_group_deinit(server);
    lane_free(server->read_lane);
    lane_free(server->flush_lane);
    lane_free(server->apply_lane);
    raft_free(server->raft);
    state_free(server->state);
    kv_close(server->kv);
    file_close(server->identity);
    mem_free(server->scratch);
    mem_free(server->readers);
    mem_free(server->directory);
    mem_free(server);
}
