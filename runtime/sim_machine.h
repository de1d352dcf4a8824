/* The inside of the simulator: machines, and the operations on their disks.
 *
 * sim.c owns the clock, the event heap and the lives of machines; sim_operation.c says what an
 * operation on a file does and which faults strike it. */
#pragma once
#include "runtime/sim.h"
#include "scheduler.h"
#include "sim_disk.h"
#include "sim_random.h"

enum { SIM_REACTORS_MAX = 8, SIM_MACHINES_MAX = 256, SIM_FAULTS_MAX = 64 };

struct sim_reactor {
    struct io io;
    struct sim_machine *machine;
    struct sim_random random; /* io_random */
    uint64_t message_ns;      /* when the last message arrives; the next comes later */
};

struct sim_machine {
    struct sim *sim;
    unsigned index;
    unsigned reactor_count;
    struct sim_reactor reactors[SIM_REACTORS_MAX];
    bool on;
    uint64_t
        life; /* counts power cuts, kills and stops: a file opened in another life is no more */
    uint64_t paused_until_ns;
    uint64_t clock_ppm; /* what its clock counts in a million virtual nanoseconds */
    struct sim_disk *disk;
    struct list operations; /* struct io_operation in flight, oldest first */
    struct sim_fault faults[SIM_FAULTS_MAX];
    char *fault_prefixes[SIM_FAULTS_MAX]; /* owned; the same as faults[i].prefix */
    unsigned fault_count;
    struct sim_random latency_random;
    struct sim_random fault_random;
    struct sim_random crash_random;
    struct sim_random wall_random;
    int64_t wall_offset_ms;
};

enum sim_event_kind { SIM_EVENT_OPERATION, SIM_EVENT_MESSAGE, SIM_EVENT_LANE_JOB };

struct sim_event {
    uint64_t time_ns;
    uint64_t tie; /* drawn: order of events of one moment; then by sequence */
    uint64_t sequence;
    enum sim_event_kind kind;
    struct sim_machine *machine;
    unsigned reactor_index;
    void *object; /* struct io_operation, io_message or lane_job */
};

struct sim {
    struct sim_options options;
    uint64_t now_ns;
    struct sim_event *heap; /* least first */
    uint32_t heap_count;
    uint32_t heap_capacity;
    uint64_t event_sequence;
    struct sim_machine *machines[SIM_MACHINES_MAX];
    unsigned machine_count;
    struct sim_random schedule_random;
    struct sim_random driver_random;
    struct sim_fault_counts faults;
    uint64_t trace_hash;
    uint64_t event_count;
    bool running;
};

/* --- sim.c --- */

void sim_trace(struct sim *sim, uint64_t value);
/* `object` completes or arrives at `time_ns`. */
void sim_push_event(struct sim_machine *machine, enum sim_event_kind kind, unsigned reactor_index,
                    void *object, uint64_t time_ns);
struct sim_machine *sim_machine_of(struct io *io);
extern const struct io_backend sim_backend;

/* --- sim_operation.c --- */

void sim_operation_submit(struct io *io, struct io_operation *operation);
/* Carry it out, with what faults are drawn, and answer. */
void sim_operation_finish(struct sim_machine *machine, struct io_operation *operation);
/* All operations in flight when the power goes: each took effect or not, in any order, as if it
 * were not synced; each is answered ERR_CANCELED. */
void sim_operations_cut(struct sim_machine *machine);
void sim_handle_release(struct file *file);
