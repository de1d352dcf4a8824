/* The simulator back end: machines with disks, a virtual clock and seeded randomness, one thread.
 *
 * Same seed and same program = same trace hash. A machine has reactors (struct io) and a file
 * system in memory. sim_power_cut ends a life: from then on every wait and file operation of its
 * fibers returns ERR_CANCELED without effect, so they unwind and free what they own; what the
 * disk then holds is drawn from what was durable and a random subset, tearing and order of what
 * was not. */
#pragma once
#include "runtime/io.h"

struct sim;
struct sim_machine;

struct sim_options {
    uint64_t seed;
    /* File latencies are drawn between these virtual nanoseconds; 0 = defaults, 20 us .. 2 ms. */
    uint64_t disk_ns_min;
    uint64_t disk_ns_max;
    /* Probabilities in parts per million, per operation. */
    uint32_t latency_spike_ppm;     /* F26: the operation takes up to 2 s longer */
    uint32_t read_error_ppm;        /* F18: ERR_IO */
    uint32_t write_error_ppm;       /* F12/F25: ERR_IO, contents undefined */
    uint32_t sync_error_ppm;        /* F23: ERR_IO once, the file's unsynced writes are lost */
    uint32_t flip_ppm;              /* F19: a read finds a flipped bit, which stays flipped */
    uint32_t misdirected_write_ppm; /* F20: OK, but the bytes land elsewhere in the file */
    uint32_t misdirected_read_ppm;  /* F21: the bytes come from elsewhere in the file */
    uint32_t phantom_write_ppm;     /* F22: OK, but the disk keeps what it had */
    uint32_t clock_jump_ppm;        /* F35: wall clock jumps at a wall clock read */
    uint32_t clock_rate_ppm;        /* F36: error of each machine's clock, at most */
    uint64_t disk_bytes;            /* capacity per machine, 0 = 64 GiB (sparse) */
};

struct sim *sim_new(const struct sim_options *options);
void sim_free(struct sim *sim);
DEFINE_AUTO(sim, sim_free)

/* `reactor_count` 1..8. Lives as long as the sim; its disk survives power cuts. */
struct sim_machine *sim_machine_new(struct sim *sim, unsigned reactor_count);
struct io *sim_machine_io(struct sim_machine *machine, unsigned index);
/* Start a fiber on a reactor of a machine that is on. */
enum err sim_spawn(struct sim_machine *machine, unsigned reactor_index, fiber_fn *fn,
                   void *argument);
/* Cut the power; runs the machine's fibers until all ended (asserts that they do within a bound
 * of turns), then decides what its disk holds. Not to be called from a fiber of that machine. */
void sim_power_cut(struct sim_machine *machine);
/* F33: end the process at once, like sim_power_cut, but what was written stays (page cache).
 * Operations in flight may take effect or not. */
void sim_kill(struct sim_machine *machine);
/* F34: nothing happens on the machine before this virtual time. */
void sim_pause(struct sim_machine *machine, uint64_t until_ns);
/* Switch on again: spawning is allowed, the clock goes on, file locks are gone. */
void sim_power_on(struct sim_machine *machine);
/* End of an orderly life: asserts no fiber is left; the disk keeps everything written, synced or
 * not. */
void sim_stop(struct sim_machine *machine);
bool sim_is_on(const struct sim_machine *machine);

/* Run events until `done(context)` is true or virtual time `until_ns` is reached or nothing is
 * left to happen. True when done. */
bool sim_run(struct sim *sim, bool (*done)(void *context), void *context, uint64_t until_ns);
/* Virtual time; io_now_ns differs from it on machines with a wrong clock rate. */
uint64_t sim_now_ns(const struct sim *sim);
/* Draw from the simulator's own randomness, for test drivers: uniform in [0, bound). */
uint64_t sim_draw(struct sim *sim, uint64_t bound);
/* Hash over every event so far. */
uint64_t sim_trace_hash(const struct sim *sim);
/* Events run so far; a power cut at a random event count hits every kind of moment. */
uint64_t sim_event_count(const struct sim *sim);
/* How often a fault class fired, by name ("torn_write", "lost_write", "flip", ...); 0 for unknown
 * names. */
uint64_t sim_fault_count(const struct sim *sim, const char *name);

/* Directed faults on paths that start with `prefix`, until changed; prefix "" = all. */
struct sim_fault {
    const char *prefix;
    bool read_fails;     /* io_read */
    bool write_fails;    /* io_write, and whatever else changes files or names */
    bool sync_fails;     /* io_sync and writes with WRITE_DURABLE */
    bool full;           /* writes that need new blocks get ERR_NO_SPACE */
    uint64_t latency_ns; /* added to each operation */
    /* A disk that lies: the operation answers OK and nothing became durable. */
    bool sync_ignored;    /* io_sync of files and directories */
    bool durable_ignored; /* WRITE_DURABLE */
};
void sim_set_fault(struct sim_machine *machine, const struct sim_fault *fault);
void sim_clear_faults(struct sim_machine *machine);
/* F30, F32: copy a directory with all it holds, as readers see it now, to a path that does not
 * exist yet; the copy is durable at once. The machines may be the same. ERR_NOT_FOUND,
 * ERR_EXISTS, ERR_NO_SPACE (then part of the copy exists). */
enum err sim_copy_directory(struct sim_machine *from, const char *from_path, struct sim_machine *to,
                            const char *to_path);
/* A drive is pulled, or put back: rename a directory, durable at once. Files that are open stay so.
 * ERR_NOT_FOUND, ERR_INVALID, ERR_NOT_EMPTY. */
enum err sim_move_directory(struct sim_machine *machine, const char *from, const char *to);
/* Flip one bit of a stored file; ERR_NOT_FOUND, ERR_INVALID beyond its end. */
enum err sim_flip_bit(struct sim_machine *machine, const char *path, uint64_t bit);
/* Simulated file tree as text, sorted: for tests. */
void sim_describe_disk(struct sim_machine *machine, struct bytes *out);
