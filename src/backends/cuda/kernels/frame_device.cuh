/* frame_device.cuh - what a kernel needs that outlives its phases: barriers of the whole grid, mail
 * from block to block, gates between the warps of a block, and copies that arrive while others
 * work. */
#pragma once

#include "backends/cuda/frame_args.h"
#include "backends/cuda/kernels/gates.cuh"

/* Blocks that share products and attention: this one, if its number is smaller. */
UT_DEVICE int sharers(void)
{
    return CU_FRAME_SHARERS((int)gridDim.x);
}

#if defined(__CUDACC__)

/* The thread's number. Asked for anew wherever this stands, so that what follows from it is not
 * kept in registers from phase to phase. */
UT_DEVICE int thread(void)
{
    int t;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t));
    __builtin_assume(t >= 0 && t < CU_FRAME_THREADS);
    return t;
}

/* Polls of a barrier, or looks for mail, before the kernel gives up: seconds. */
#define UT_PATIENCE (1u << 24)

/* A store to nowhere, which ends the kernel with an error. In a kernel that can trap ptxas gives no
 * thread more registers than it began with (take_registers). */
UT_DEVICE void give_up(void)
{
    asm volatile("st.global.u32 [%0], %1;" ::"l"((uint64_t)0), "r"(0) : "memory");
}

UT_DEVICE uint32_t load_acquire(const uint32_t *p)
{
    uint32_t v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}

/* All blocks arrive, then all go on; the high bit of *counter turns. turn: that bit before. The
 * block's threads have met before. */
UT_DEVICE void grid_arrive(uint32_t *counter)
{
    if (thread() == 0) {
        const uint32_t add = blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1;
        asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(counter), "r"(add)
                     : "memory");
    }
}

UT_DEVICE void grid_wait(const uint32_t *counter, uint32_t turn)
{
    if (thread() == 0) {
        uint32_t polls = 0;
        while (((load_acquire(counter) ^ turn) & 0x80000000u) == 0)
            if (++polls == UT_PATIENCE)
                give_up();
    }
    block_meet();
}

UT_DEVICE uint32_t grid_turn(const uint32_t *counter)
{
    return *(const volatile uint32_t *)counter & 0x80000000u;
}

/* ---- Mail ------------------------------------------------------------------------------------ */

UT_DEVICE void send_word(void *to, uint32_t word)
{
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(word) : "memory");
}

/* Two or four that lie together. */
UT_DEVICE void send_words(void *to, const uint32_t (&word)[2])
{
    asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(word[0]),
                 "r"(word[1])
                 : "memory");
}

UT_DEVICE void send_words(void *to, const uint32_t (&word)[4])
{
    asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(word[0]),
                 "r"(word[1]), "r"(word[2]), "r"(word[3])
                 : "memory");
}

UT_DEVICE void look_at_words(const void *from, uint32_t (&word)[1])
{
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(word[0]) : "l"(from) : "memory");
}

UT_DEVICE void look_at_words(const void *from, uint32_t (&word)[2])
{
    asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];"
                 : "=r"(word[0]), "=r"(word[1])
                 : "l"(from)
                 : "memory");
}

UT_DEVICE void look_at_words(const void *from, uint32_t (&word)[4])
{
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "l"(from)
                 : "memory");
}

/* Before looking again, the polls so far. */
UT_DEVICE void mail_again(uint32_t polls)
{
    if (polls == UT_PATIENCE)
        give_up();
}

/* ---- Registers ------------------------------------------------------------------------------- */

/* A block of CU_FRAME_THREADS begins with as many registers for every thread; where they cannot be
 * given away some are spilt. */
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define UT_REGISTERS(how, n) asm volatile("setmaxnreg." how ".sync.aligned.u32 " n ";")
#else
#define UT_REGISTERS(how, n) (void)0
#endif

/* By the four warps that fetch, and by those that work. */
UT_DEVICE void give_registers(void)
{
    UT_REGISTERS("dec", "56");
}

UT_DEVICE void take_registers(void)
{
    UT_REGISTERS("inc", "224");
}

/* The time, for profiles. A call, so that there is no more than a branch where none is made. */
UT_DEVICE_APART void leave_time(uint64_t *at)
{
    *at = (uint64_t)clock64();
}

#endif /* emulation.h has its own */

/* ---- Mail, opened ---------------------------------------------------------------------------- */

UT_DEVICE uint32_t mail_of(float value, uint32_t frame)
{
    return (__float_as_uint(value) & ~1u) | (frame & 1);
}

UT_DEVICE float mail_value(uint32_t word)
{
    return __uint_as_float(word & ~1u);
}

/* Two results as mail has them: who finds them elsewhere works with the same numbers. */
UT_DEVICE float2 as_mailed(float2 v)
{
    const float2 r = {mail_value(__float_as_uint(v.x)), mail_value(__float_as_uint(v.y))};
    return r;
}

/* N numbers that lie together, at an address that is a multiple of theirs, as they were when they
 * were looked at. */
template <int N> struct mail_look {
    uint32_t word[N];

    UT_DEVICE_MEMBER void at(const cu_mail *from) { look_at_words(from, word); }
    /* 0 where all are there. */
    UT_DEVICE_MEMBER uint32_t missing(uint32_t frame) const
    {
        uint32_t any = 0;
#pragma unroll
        for (int i = 0; i < N; i++)
            any |= word[i] ^ frame;
        return any & 1;
    }
    /* Look until they are there. */
    UT_DEVICE_MEMBER void wait(const cu_mail *from, uint32_t frame)
    {
        for (uint32_t polls = 0; missing(frame); at(from))
            mail_again(++polls);
    }
    UT_DEVICE_MEMBER float operator[](int i) const
    {
        return mail_value(word[i]);
    }
};

/* What is now and here: the frame's number, and the places where mail is left. */
struct mail_clock {
    uint32_t frame;
    int places;
    int stride, mine; /* from place to place; to the one that this block reads */
};

/* Two results that lie together, to all places. */
UT_DEVICE void mail_leave_two(cu_mail *to, float first, float second, const mail_clock &clock)
{
    const uint32_t word[2] = {mail_of(first, clock.frame), mail_of(second, clock.frame)};
#pragma unroll
    for (int i = 0; i < CU_MAIL_PLACES; i++)
        if (i < clock.places)
            send_words(to + i * clock.stride, word);
}

/* Two numbers of a part that lie together, at an address that is a multiple of 16. */
UT_DEVICE void part_send(cu_part *to, float first, float second, uint32_t stamp)
{
    const uint32_t word[4] = {__float_as_uint(first), stamp, __float_as_uint(second), stamp};
    send_words(to, word);
}

/* And as they were when they were looked at. */
struct part_look {
    uint32_t word[4];

    UT_DEVICE_MEMBER void at(const cu_part *from) { look_at_words(from, word); }
    UT_DEVICE_MEMBER float2 wait(const cu_part *from, uint32_t stamp)
    {
        for (uint32_t polls = 0; word[1] != stamp || word[3] != stamp; at(from))
            mail_again(++polls);
        const float2 v = {__uint_as_float(word[0]), __uint_as_float(word[2])};
        return v;
    }
};
