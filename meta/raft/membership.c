/* Sets of at most nine ids: linear search is the fast way. */
#include "membership.h"
#include "base/encode.h"
#include "core.h"
#include <assert.h>

enum { MEMBERSHIP_VERSION = 1 };

static bool ids_have(const uint64_t *ids, uint32_t count, uint64_t id)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static bool ids_distinct(const uint64_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == 0 || ids_have(ids, i, ids[i]))
            return false;
    return true;
}

bool raft_membership_is_voter(const struct raft_membership *membership, uint64_t replica)
{
    return ids_have(membership->voters, membership->voter_count, replica) ||
           ids_have(membership->old_voters, membership->old_voter_count, replica);
}

bool raft_membership_has(const struct raft_membership *membership, uint64_t replica)
{
    return raft_membership_is_voter(membership, replica) ||
           ids_have(membership->learners, membership->learner_count, replica);
}

static uint32_t shared_count(const uint64_t *voters, uint32_t voter_count, const uint64_t *ids,
                             uint32_t id_count)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < voter_count; i++)
        count += ids_have(ids, id_count, voters[i]);
    return count;
}

bool raft_membership_quorum(const struct raft_membership *membership, const uint64_t *ids,
                            uint32_t id_count)
{
    uint32_t voters = membership->voter_count;
    uint32_t old = membership->old_voter_count;
    if (shared_count(membership->voters, voters, ids, id_count) <= voters / 2)
        return false;
    if (old == 0 || MUTANT(JOINT_SINGLE_MAJORITY))
        return true;
    return shared_count(membership->old_voters, old, ids, id_count) > old / 2;
}

bool raft_membership_blocked(const struct raft_membership *membership, const uint64_t *ids,
                             uint32_t id_count)
{
    uint32_t voters = membership->voter_count;
    uint32_t old = membership->old_voter_count;
    uint32_t lost = shared_count(membership->voters, voters, ids, id_count);
    uint32_t lost_old = shared_count(membership->old_voters, old, ids, id_count);
    return voters - lost <= voters / 2 || (old > 0 && old - lost_old <= old / 2);
}

static uint64_t majority_index(const uint64_t *voters, uint32_t count,
                               uint64_t (*match)(const void *context, uint64_t id),
                               const void *context)
{
    uint64_t sorted[RAFT_VOTERS_MAX]; /* falling */
    for (uint32_t i = 0; i < count; i++) {
        uint64_t index = match(context, voters[i]);
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] < index; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = index;
    }
    return sorted[count / 2];
}

uint64_t raft_membership_committed(const struct raft_membership *membership,
                                   uint64_t (*match)(const void *context, uint64_t id),
                                   const void *context)
{
    assert(membership->voter_count > 0);
    uint64_t index = majority_index(membership->voters, membership->voter_count, match, context);
    if (membership->old_voter_count == 0 || MUTANT(JOINT_SINGLE_MAJORITY))
        return index;
    uint64_t old =
        majority_index(membership->old_voters, membership->old_voter_count, match, context);
    return old < index ? old : index;
}

bool raft_membership_sole(const struct raft_membership *membership, uint64_t replica)
{
    return membership->voter_count == 1 && membership->old_voter_count == 0 &&
           membership->voters[0] == replica;
}

bool raft_membership_valid(const struct raft_membership *membership)
{
    const struct raft_membership *m = membership;
    if (m->voter_count == 0 || m->voter_count > RAFT_VOTERS_MAX ||
        m->old_voter_count > RAFT_VOTERS_MAX || m->learner_count > RAFT_LEARNERS_MAX)
        return false;
    if (!ids_distinct(m->voters, m->voter_count) ||
        !ids_distinct(m->old_voters, m->old_voter_count) ||
        !ids_distinct(m->learners, m->learner_count))
        return false;
    return shared_count(m->voters, m->voter_count, m->learners, m->learner_count) == 0;
}

bool raft_membership_same_voters(const struct raft_membership *a, const struct raft_membership *b)
{
    return a->voter_count == b->voter_count &&
           shared_count(a->voters, a->voter_count, b->voters, b->voter_count) == a->voter_count;
}

uint32_t raft_membership_ids(const struct raft_membership *membership, uint64_t *ids)
{
    const uint64_t *parts[] = {membership->voters, membership->old_voters, membership->learners};
    uint32_t counts[] = {membership->voter_count, membership->old_voter_count,
                         membership->learner_count};
    uint32_t count = 0;
    for (uint32_t part = 0; part < 3; part++)
        for (uint32_t i = 0; i < counts[part]; i++)
            if (!ids_have(ids, count, parts[part][i]))
                ids[count++] = parts[part][i];
    assert(count <= RAFT_PEERS_MAX);
    return count;
}

static void encode_ids(struct bytes *out, const uint64_t *ids, uint32_t count)
{
    encode_u8(out, (uint8_t)count);
    for (uint32_t i = 0; i < count; i++)
        encode_u64(out, ids[i]);
}

void raft_membership_encode(struct bytes *out, const struct raft_membership *membership)
{
    assert(raft_membership_valid(membership));
    encode_u8(out, MEMBERSHIP_VERSION);
    encode_ids(out, membership->voters, membership->voter_count);
    encode_ids(out, membership->old_voters, membership->old_voter_count);
    encode_ids(out, membership->learners, membership->learner_count);
}

static uint32_t decode_ids(struct decoder *decoder, uint64_t *ids, uint32_t max)
{
    uint32_t count = decode_u8(decoder);
    if (count > max) {
        decoder->failed = true;
        return 0;
    }
    for (uint32_t i = 0; i < count; i++)
        ids[i] = decode_u64(decoder);
    return count;
}

enum err raft_membership_decode(struct slice input, struct raft_membership *out_membership)
{
    struct decoder decoder = decoder_of(input);
    struct raft_membership membership = {0};
    uint8_t version = decode_u8(&decoder);
    if (!decoder.failed && version != MEMBERSHIP_VERSION)
        return FAIL(ERR_UNSUPPORTED, "membership version=%u", version);
    membership.voter_count = decode_ids(&decoder, membership.voters, RAFT_VOTERS_MAX);
    membership.old_voter_count = decode_ids(&decoder, membership.old_voters, RAFT_VOTERS_MAX);
    membership.learner_count = decode_ids(&decoder, membership.learners, RAFT_LEARNERS_MAX);
    TRY(decode_finish(&decoder, "raft membership"));
    if (!raft_membership_valid(&membership))
        return FAIL(ERR_CORRUPT, "membership contradicts itself voters=%u", membership.voter_count);
    *out_membership = membership;
    return OK;
}
