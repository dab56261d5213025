/* emulation_queue.cpp - see emulation_queue.h. What is waited for is looked at under one lock. */
#include "emulation_queue.h"

#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace
{

struct item {
    emu_work work; /* empty: wait for `after` */
    emu_place after;
};

/* Of the process, never destroyed: the thread runs until its end. */
struct device {
    std::mutex lock;
    std::condition_variable changed;
    std::vector<emu_queue *> queues;
    bool later = false;
    uint32_t random = 1;
};

} // namespace

struct emu_queue {
    std::deque<item> items;
    uint64_t asked = 0;
    std::shared_ptr<uint64_t> done = std::make_shared<uint64_t>(0);
};

static bool is_reached(const emu_place &p)
{
    return !p.done || *p.done >= p.ticket;
}

static bool can_go_on(const emu_queue *q)
{
    return !q->items.empty() && (q->items.front().work || is_reached(q->items.front().after));
}

/* A queue that can go on, any of them; NULL: none can. */
static emu_queue *choose(device *d)
{
    d->random = d->random * 1664525u + 1013904223u;
    const size_t n = d->queues.size(), first = d->random >> 8;
    for (size_t i = 0; i < n; i++)
        if (can_go_on(d->queues[(first + i) % n]))
            return d->queues[(first + i) % n];
    return nullptr;
}

static void work_forever(device *d)
{
    std::unique_lock<std::mutex> hold(d->lock);
    for (;;) {
        emu_queue *q = choose(d);
        if (!q) {
            d->changed.wait(hold);
            continue;
        }
        const emu_work w = q->items.front().work;
        if (w) {
            hold.unlock();
            w();
            hold.lock();
        }
        q->items.pop_front();
        ++*q->done;
        d->changed.notify_all();
    }
}

static device *the_device()
{
    static device *d = [] {
        device *made = new device;
        const char *seed = getenv("UT_EMULATED_ASYNC");
        if (seed) {
            made->later = true;
            made->random = (uint32_t)strtoul(seed, nullptr, 10);
            std::thread(work_forever, made).detach();
        }
        return made;
    }();
    return d;
}

emu_queue *emu_queue_new()
{
    device *d = the_device();
    const std::lock_guard<std::mutex> hold(d->lock);
    emu_queue *q = new emu_queue;
    d->queues.push_back(q);
    return q;
}

void emu_queue_free(emu_queue *q)
{
    device *d = the_device();
    emu_wait_for(emu_place_of(q));
    const std::lock_guard<std::mutex> hold(d->lock);
    for (size_t i = 0; i < d->queues.size(); i++)
        if (d->queues[i] == q)
            d->queues.erase(d->queues.begin() + (long)i);
    delete q;
}

void emu_do(emu_queue *q, emu_work w)
{
    device *d = the_device();
    if (!q)
        emu_wait_for_all();
    const std::lock_guard<std::mutex> hold(d->lock);
    if (q && getenv("UT_EMULATED_STUCK")) {
        q->asked++;
        return;
    }
    if (!q || !d->later) {
        w();
        return;
    }
    q->asked++;
    q->items.push_back({std::move(w), {}});
    d->changed.notify_all();
}

emu_place emu_place_of(emu_queue *q)
{
    device *d = the_device();
    const std::lock_guard<std::mutex> hold(d->lock);
    return {q->done, q->asked};
}

bool emu_reached(const emu_place &p)
{
    device *d = the_device();
    const std::lock_guard<std::mutex> hold(d->lock);
    return is_reached(p);
}

void emu_wait_for(const emu_place &p)
{
    device *d = the_device();
    std::unique_lock<std::mutex> hold(d->lock);
    d->changed.wait(hold, [&] { return is_reached(p); });
}

void emu_order(emu_queue *q, const emu_place &p)
{
    device *d = the_device();
    const std::lock_guard<std::mutex> hold(d->lock);
    if (!d->later || is_reached(p))
        return;
    q->asked++;
    q->items.push_back({nullptr, p});
    d->changed.notify_all();
}

void emu_wait_for_all()
{
    device *d = the_device();
    std::unique_lock<std::mutex> hold(d->lock);
    d->changed.wait(hold, [&] {
        for (const emu_queue *q : d->queues)
            if (!q->items.empty())
                return false;
        return true;
    });
}
