/* The state of drives as others see it: words, slowness, gauges. */
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "drive.h"
#include "drives.h"
#include <inttypes.h>

enum { SLOW_FACTOR = 4, SLOW_TICKS = 60 };
#define SLOW_NS_MIN (20 * IO_NS_PER_MS)

/* --- states --- */

enum drive_state drives_state(const struct known_drive *known)
{
    const struct drive *drive = known->drive;
    if (known->state == ROSTER_ROLLED_BACK || (drive != NULL && atomic_load(&drive->rolled_back)))
        return DRIVE_STATE_QUARANTINED;
    if (drive == NULL)
        return DRIVE_STATE_MISSING;
    if (atomic_load(&drive->fenced))
        return DRIVE_STATE_FENCED;
    if (atomic_load(&drive->draining))
        return DRIVE_STATE_DRAINING;
    return atomic_load(&drive->full) ? DRIVE_STATE_FULL : DRIVE_STATE_OK;
}

/* Of the drives that serve and were read enough. */
static uint64_t median_p99_ns(const struct storage *storage, const struct drive *without)
{
    uint64_t sorted[STORAGE_DRIVES_LIFE_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < atomic_load(&storage->drive_count); i++) {
        struct drive *drive = storage->drives[i];
        if (drive == without || !drive_is_ok(drive) || !atomic_load(&drive->read_latency.known))
            continue;
        uint64_t value = atomic_load(&drive->read_latency.p99_ns);
        uint32_t at = count++;
        for (; at > 0 && sorted[at - 1] > value; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = value;
    }
    return count == 0 ? UINT64_MAX : sorted[count / 2];
}

void drives_judge_latency(struct storage *storage, bool ages)
{
    uint32_t ok = 0;
    uint32_t slow = 0;
    uint32_t count = atomic_load(&storage->drive_count);
    for (uint32_t i = 0; i < count; i++) {
        latency_update(&storage->drives[i]->read_latency, ages);
        ok += drive_is_ok(storage->drives[i]);
        slow += drive_is_ok(storage->drives[i]) && atomic_load(&storage->drives[i]->slow);
    }
    uint32_t slow_max = ok / 10 > 1 ? ok / 10 : 1;
    for (uint32_t i = 0; i < count; i++) {
        struct drive *drive = storage->drives[i];
        uint64_t p99_ns = atomic_load(&drive->read_latency.p99_ns);
        uint64_t peers_ns = median_p99_ns(storage, drive);
        bool is_slow = drive_is_ok(drive) && atomic_load(&drive->read_latency.known) &&
                       p99_ns > SLOW_NS_MIN && peers_ns != UINT64_MAX &&
                       p99_ns > SLOW_FACTOR * peers_ns;
        if (is_slow && (atomic_load(&drive->slow) || slow < slow_max)) {
            if (!atomic_exchange(&drive->slow, true)) {
                slow++;
                log_warn("storage: a drive is slow, reads go around it directory=%s p99_ms=%" PRIu64
                         " peers_ms=%" PRIu64,
                         drive->directory, p99_ns / IO_NS_PER_MS, peers_ns / IO_NS_PER_MS);
            }
            drive->slow_ticks = SLOW_TICKS;
        } else if (atomic_load(&drive->slow) && drive->slow_ticks-- == 0) {
            atomic_store(&drive->slow, false);
            log_info("storage: a slow drive gets another chance directory=%s", drive->directory);
        }
    }
}

/* --- gauges --- */

static void make_gauges(struct storage *storage, struct known_drive *known)
{
    char id[2 * sizeof known->entry.id.bytes + 1];
    text_hex(slice_of(known->entry.id.bytes, sizeof known->entry.id.bytes), id);
    /* What a label may not hold as it is. */
    AUTO_STRING path = mem_format("%s", known->entry.path);
    for (char *at = path; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\' || *at == '\n')
            *at = '_';
    }
    AUTO_STRING labels = mem_format("drive=\"%s\",directory=\"%s\"", id, path);
    struct metrics *metrics = storage->metrics;
    known->state_gauge = metrics_gauge(metrics, "shale_drive_state", labels,
                                       "1 ok, 2 full, 3 fenced, 4 missing, 5 quarantined, 6 "
                                       "draining, 0 not of this node any more.");
    known->free_gauge =
        metrics_gauge(metrics, "shale_drive_free_bytes", labels, "Free bytes of the file system.");
    known->total_gauge =
        metrics_gauge(metrics, "shale_drive_total_bytes", labels, "Bytes of the file system.");
    known->reserve_gauge = metrics_gauge(metrics, "shale_drive_reserve_bytes", labels,
                                         "Free bytes below which new objects are refused.");
}

static void show_volumes(struct storage *storage)
{
    enum { PROFILES_MAX = 64 };
    struct {
        struct redundancy profile;
        uint32_t count;
    } seen[PROFILES_MAX];
    uint32_t seen_count = 0;
    pthread_mutex_lock(storage->mutex);
    for (uint32_t i = 0; i < storage->volume_count; i++) {
        const struct volume *volume = &storage->volumes[i]->volume;
        uint32_t at = 0;
        while (at < seen_count && (seen[at].profile.data_shards != volume->data_shards ||
                                   seen[at].profile.parity_shards != volume->parity_shards))
            at++;
        if (at == PROFILES_MAX)
            continue;
        if (at == seen_count) {
            seen[seen_count].profile =
                (struct redundancy){volume->data_shards, volume->parity_shards};
            seen[seen_count++].count = 0;
        }
        seen[at].count += volume->state != VOLUME_RETIRED;
    }
    pthread_mutex_unlock(storage->mutex);
    for (uint32_t i = 0; i < seen_count; i++) {
        AUTO_STRING labels = mem_format("profile=\"%u+%u\"", seen[i].profile.data_shards,
                                        seen[i].profile.parity_shards);
        gauge_set(metrics_gauge(storage->metrics, "shale_volumes", labels, "Volumes by profile."),
                  seen[i].count);
    }
}

void drives_show(struct storage *storage)
{
    for (uint32_t i = 0; i < storage->known_count; i++) {
        struct known_drive *known = &storage->known[i];
        if (known->state_gauge == NULL)
            make_gauges(storage, known);
        const struct drive *drive = known->drive;
        gauge_set(known->state_gauge, known->state == ROSTER_LOST ? 0 : (int)drives_state(known));
        gauge_set(known->free_gauge, drive == NULL ? 0 : (int64_t)atomic_load(&drive->free_bytes));
        gauge_set(known->total_gauge,
                  drive == NULL ? 0 : (int64_t)atomic_load(&drive->total_bytes));
        gauge_set(known->reserve_gauge,
                  drive == NULL ? 0 : (int64_t)atomic_load(&drive->reserve_bytes));
    }
    show_volumes(storage);
}
