/* packed.cuh - matrices in blocks of whole numbers, CU_Q8 and CU_Q4: see cu_type in args.h. */
#pragma once

#include "backends/cuda/kernels/device.cuh"

/* Byte e of a word as a number: put below the exponent of 2^23, where the last bit counts 1. */
UT_DEVICE float number(uint32_t word, int e, int bias)
{
    const uint32_t byte = (word >> (8 * e)) & 0xffu;
    return __uint_as_float(byte | 0x4b000000u) - (float)(8388608 + bias);
}

/* BIAS: what a number has been made larger by. */
template <int TYPE> struct packed;
template <> struct packed<CU_Q8> {
    enum { BIAS = 128, BLOCK = CU_Q8_BLOCK };
    static UT_DEVICE_MEMBER size_t bytes(size_t n) { return n; }
};
template <> struct packed<CU_Q4> {
    enum { BIAS = 8, BLOCK = CU_Q4_BLOCK };
    static UT_DEVICE_MEMBER size_t bytes(size_t n) { return n / 2; }
};

/* Scales of matrix row o. */
template <int TYPE> UT_DEVICE const uint16_t *scales_of(const cu_linear_args &a, int o)
{
    typedef packed<TYPE> P;
    const uint16_t *scales =
        (const uint16_t *)((const uint8_t *)a.w + P::bytes((size_t)a.n_out * a.ldw));
    return scales + (size_t)o * (a.ldw / P::BLOCK);
}
