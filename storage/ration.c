/* How much public-key work each user may still cause. */
#include "storage/ration.h"

static void refill(struct ration *p, uint64_t now_ms)
{
    uint64_t gained = (now_ms - p->at_ms) / RATION_MS, room = RATION_BURST - p->left;
    p->left += (uint32_t)(gained < room ? gained : room);
    p->at_ms += gained * RATION_MS;
}

/* The user's own place, or the one that gives way for him. */
static struct ration *place_of(struct rations *r, uint64_t now_ms, uint64_t user)
{
    struct ration *set = r->place[user % RATION_SETS], *found = set;
    for (uint32_t i = 0; i < RATION_WAYS; i++) {
        if (set[i].user == user)
            return &set[i];
        refill(&set[i], now_ms);
        if (found->user != 0 && (set[i].user == 0 || set[i].left > found->left))
            found = &set[i];
    }
    *found = (struct ration){.user = user, .at_ms = now_ms, .left = RATION_BURST};
    return found;
}

bool rations_take(struct rations *r, uint64_t now_ms, uint64_t user, uint32_t signatures)
{
    struct ration *p = place_of(r, now_ms, user);
    refill(p, now_ms);
    if (p->left < signatures)
        return false;
    p->left -= signatures;
    return true;
}
