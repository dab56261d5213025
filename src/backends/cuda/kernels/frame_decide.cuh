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

UT_DEVICE void frame_sample(const cu_slot_op &op, int slot, void *shared, bool prepared,
                            uint32_t frame)
{
    const cu_sample_args &a = op.u.sample;
    if (!prepared)
        sample_prepare(a, slot, shared);
    const frame_logits logits = {a.logits + slot * a.logits_slot, op.mail, frame, {0, 0, 0, 0}};
    sample_choose(a, slot, shared, logits);
}

/* Row ids[0] of one slot's table, to mail, and to y unless that is 0. */
template <int TYPE>
UT_DEVICE void mail_row(const cu_gather_args &a, cu_mail *to, const mail_clock &clock)
{
    const int32_t entry = a.range[0] + clamp(a.ids[0], 0, a.range[1] - 1);
    const size_t first = (size_t)entry * a.ld;
#pragma unroll 1
    for (int c = 4 * thread(); c < a.dim; c += 4 * CU_THREADS) {
        uint32_t word[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            word[k] = mail_of(load_element(TYPE, a.table, first + c + k), clock.frame);
#pragma unroll
        for (int i = 0; i < CU_MAIL_PLACES; i++)
            if (i < clock.places)
                send_words(to + i * clock.stride + c, word);
        for (int k = 0; a.y && k < 4; k++)
            a.y[c + k] = mail_value(word[k]);
    }
}

/* One operation of one slot, by the block; as slot_op. */
UT_DEVICE void frame_slot_op(const cu_slot_op &op, int slot, void *shared, bool prepared,
                             const mail_clock &clock)
{
    if (op.kind == CU_SLOT_SAMPLE)
        frame_sample(op, slot, shared, prepared, clock.frame);
    else if (op.kind == CU_SLOT_GATHER && op.mail && op.u.gather.type == CU_BF16)
        mail_row<CU_BF16>(op.u.gather, op.mail, clock);
    else if (op.kind == CU_SLOT_GATHER && op.mail && op.u.gather.type == CU_F32)
        mail_row<CU_F32>(op.u.gather, op.mail, clock);
    else if (op.kind == CU_SLOT_GATHER && op.mail)
        mail_row<CU_F16>(op.u.gather, op.mail, clock);
    else
        slot_op(op, slot, shared);
}
