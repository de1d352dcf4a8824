/* In-memory stores that survive simulated power cuts. Each path is one store; kv_memory_crash
 * rolls every store of a world back to a random point at or after its last flush (contract K1). */
#pragma once
#include "kv/kv.h"

struct kv_memory_world;

struct kv_memory_world *kv_memory_world_new(void);
void kv_memory_world_free(struct kv_memory_world *world);
DEFINE_AUTO(kv_memory_world, kv_memory_world_free)
struct kv_provider *kv_memory_provider(struct kv_memory_world *world);
/* All stores of the world must be closed. `draw(context, bound)` gives a uniform number in [0,
 * bound). */
void kv_memory_crash(struct kv_memory_world *world, uint64_t (*draw)(void *context, uint64_t bound),
                     void *context);
