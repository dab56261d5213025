/* emulation_queue.h - the order of work on an emulated device. Work of a stream happens in order;
 * without UT_EMULATED_ASYNC all of it before the call returns that asks for it. With it a thread of
 * the device does the work later, taking streams in an order that its number decides: what nobody
 * has waited for may not have happened, and what nobody ordered happens in any order. What is asked
 * for while UT_EMULATED_STUCK is set never happens. */
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

typedef std::function<void()> emu_work;
struct emu_queue; /* of a stream */

emu_queue *emu_queue_new();
void emu_queue_free(emu_queue *q); /* after its work */

void emu_do(emu_queue *q, emu_work w); /* q may be NULL: after all work of all streams */

/* A place in a queue; all work before it is done when `done` reaches `ticket`. */
struct emu_place {
    std::shared_ptr<uint64_t> done;
    uint64_t ticket = 0;
};
emu_place emu_place_of(emu_queue *q); /* behind everything that was asked for */
bool emu_reached(const emu_place &p);
void emu_wait_for(const emu_place &p);
void emu_order(emu_queue *q, const emu_place &p); /* what q is asked for from now on, after p */
void emu_wait_for_all();
