/* frame_decide.cuh - what concerns a slot by itself, inside a frame: a decision whose logits come
 * by mail, and a row looked up that goes by mail; all else as anywhere (slot_op.cuh). */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"
#include "backends/cuda/kernels/slot_op.cuh"

/* Four logits, as take_logits wants them: from memory, or mail where there is some. */
struct frame_logits {
    const float *in;
    const cu_mail *mail;
    uint32_t frame;
    uint32_t word[4];

    UT_DEVICE_MEMBER void look(int i, int n)
    {
        if (mail) {
            look_at_words(mail + i, word); /* there is room for four at the end of the mail, too */
            return;
        }
#pragma unroll
        for (int k = 0; k < 4; k++)
            word[k] = i + k < n ? __float_as_uint(in[i + k]) : 0;
    }
    UT_DEVICE_MEMBER void take(int i, int n, float (&f)[4])
    {
        for (uint32_t polls = 0; mail; look_at_words(mail + i, word)) {
            uint32_t missing = 0;
#pragma unroll
            for (int k = 0; k < 4; k++)
                missing |= i + k < n ? word[k] ^ frame : 0;
            if ((missing & 1) == 0)
                break;
            mail_again(++polls);
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float logit = __uint_as_float(mail ? word[k] & ~1u : word[k]);
            f[k] = i + k < n ? logit : -INFINITY;
        }
    }
};

/* A row of a table, looked up for other blocks: to mail, and to y unless that is 0. Its numbers are
 * asked for when its id is likely, and sent when it is certain. A thread has 16 bytes at a time. */
struct mailed_row {
    const cu_gather_args *a; /* NULL: none */
    cu_mail *to;
    int32_t id;
    uint4 group; /* the thread's first */

    /* Elements of a group. */
    UT_DEVICE_MEMBER int each() const { return a->type == CU_F32 ? 4 : 8; }
    UT_DEVICE_MEMBER uint4 group_at(int c) const
    {
        const size_t i = (size_t)clamp(id, 0, a->size - 1) * a->ld + c;
        return __ldg((const uint4 *)((const unsigned char *)a->table + i * (16 / each())));
    }
    UT_DEVICE_MEMBER void expect(int32_t now)
    {
        if (!a || now == id)
            return;
        id = now;
        if (each() * thread() < a->dim)
            group = group_at(each() * thread());
    }
    UT_DEVICE_MEMBER void send_four(int c, const float (&f)[4], const mail_clock &clock) const
    {
        uint32_t word[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            word[k] = mail_of(f[k], clock.frame);
#pragma unroll
        for (int i = 0; i < CU_MAIL_PLACES; i++)
            if (i < clock.places)
                send_words(to + i * clock.stride + c, word);
        for (int k = 0; a->y && k < 4; k++)
            a->y[c + k] = mail_value(word[k]);
    }
    UT_DEVICE_MEMBER void send_group(int c, const uint4 &u, const mail_clock &clock) const
    {
        const uint32_t word[4] = {u.x, u.y, u.z, u.w};
        float f[4];
#pragma unroll
        for (int h = 0; h < 4; h += 2) {
            if (a->type == CU_F32 && h > 0)
                continue;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const uint32_t two = word[h + k / 2], half = k % 2 ? two >> 16 : two & 0xffffu;
                f[k] = a->type == CU_F32    ? __uint_as_float(word[k])
                       : a->type == CU_BF16 ? __uint_as_float(half << 16)
                                            : f16_to_f32((uint16_t)half);
            }
            send_four(c + 2 * h, f, clock);
        }
    }
    UT_DEVICE_MEMBER void send(const mail_clock &clock) const
    {
        if (each() * thread() < a->dim)
            send_group(each() * thread(), group, clock);
#pragma unroll 1
        for (int c = each() * (thread() + CU_THREADS); c < a->dim; c += each() * CU_THREADS)
            send_group(c, group_at(c), clock);
    }
};

UT_DEVICE mailed_row row_of(const cu_slot_op *op)
{
    const bool some = op && op->kind == CU_SLOT_GATHER && op->mail;
    mailed_row r;
    r.a = some ? &op->u.gather : NULL;
    r.to = some ? op->mail : NULL;
    r.id = INT32_MIN;
    return r;
}

/* One operation of one slot, by the block, and the one behind it (or NULL) if that looks up what it
 * decides: how many. prepared: the first part of a decision has been made. shared: as the sampler
 * and slot_op want it. */
UT_DEVICE int frame_slot_ops(const cu_slot_op &op, const cu_slot_op *next, int slot, void *shared,
                             bool prepared, const mail_clock &clock)
{
    mailed_row row = row_of(op.kind == CU_SLOT_SAMPLE ? next : &op);
    if (op.kind == CU_SLOT_SAMPLE) {
        const cu_sample_args &a = op.u.sample;
        if (row.a && row.a->ids != a.dst + a.col)
            row.a = NULL;
        if (!prepared)
            sample_prepare(a, slot, shared);
        const frame_logits logits = {
            a.logits + slot * a.logits_slot, op.mail, clock.frame, {0, 0, 0, 0}};
        sample_choose(a, slot, shared, logits, row);
    } else if (row.a) {
        row.expect(row.a->ids[0]);
    } else {
        slot_op(op, slot, shared);
        return 1;
    }
    if (row.a)
        row.send(clock);
    return op.kind == CU_SLOT_SAMPLE && row.a ? 2 : 1;
}
