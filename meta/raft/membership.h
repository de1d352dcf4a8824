/* Quorum arithmetic over a membership that may be joint (Raft §6, thesis §4.3). */
#pragma once
#include "raft/raft.h"

/* Has `ids` a majority of each part? */
bool raft_membership_quorum(const struct raft_membership *membership, const uint64_t *ids,
                            uint32_t id_count);
/* Can no quorum be had any more without `ids`? */
bool raft_membership_blocked(const struct raft_membership *membership, const uint64_t *ids,
                             uint32_t id_count);
/* Highest index that a quorum reached; match(context, id) gives each voter's. */
uint64_t raft_membership_committed(const struct raft_membership *membership,
                                   uint64_t (*match)(const void *context, uint64_t id),
                                   const void *context);
/* Is `replica` the only voter? */
bool raft_membership_sole(const struct raft_membership *membership, uint64_t replica);
bool raft_membership_valid(const struct raft_membership *membership);
bool raft_membership_same_voters(const struct raft_membership *a, const struct raft_membership *b);
/* All ids, each once, into ids[RAFT_PEERS_MAX]; their count. */
uint32_t raft_membership_ids(const struct raft_membership *membership, uint64_t *ids);
