/* emulation_mma.h - mma.cuh for a C++ compiler. A copy to shared memory happens no sooner than it
 * is waited for, so that a missing wait shows; products are summed in f32 from the first k to the
 * last.
 */
#pragma once

#include "emulation.h"

/* Every lane gives n <= 6 words; then those of lane l of the warp are at [l], until the next. */
struct emu_words {
    uint32_t w[6];
};
const emu_words *emu_publish(const emu_words &mine);

/* 16 bytes when the group is waited for; src NULL: zeros. */
void emu_copy_async(void *dst, const void *src);
void emu_copy_group_end(void);
void emu_copy_wait(int newest);

template <bool HALF> static inline float emu_number(uint32_t bits)
{
    return HALF ? f16_to_f32((uint16_t)bits) : __uint_as_float(bits << 16);
}

/* 16 numbers of which the lanes `all`[0 .. 3] have 2 each in their word `low`, then in `high`. */
template <bool HALF>
static inline void emu_row(const emu_words *all, int low, int high, float row[16])
{
    for (int lane = 0; lane < 4; lane++) {
        const uint32_t pair[2] = {all[lane].w[low], all[lane].w[high]};
        for (int h = 0; h < 2; h++) {
            row[8 * h + 2 * lane] = emu_number<HALF>(pair[h] & 0xffffu);
            row[8 * h + 2 * lane + 1] = emu_number<HALF>(pair[h] >> 16);
        }
    }
}

template <bool HALF>
static inline void emu_mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    const unsigned g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
    const emu_words *all = emu_publish({{a[0], a[1], a[2], a[3], b[0], b[1]}});
    float row[2][16], col[2][16];
    for (int i = 0; i < 2; i++) {
        emu_row<HALF>(all + 4 * g, i, i + 2, row[i]);
        emu_row<HALF>(all + 4 * (2 * q + i), 4, 5, col[i]);
    }
    for (int k = 0; k < 16; k++)
        for (int i = 0; i < 4; i++)
            c[i] += row[i / 2][k] * col[i % 2][k];
}

/* Of finite numbers. */
static inline uint32_t add_bf16(uint32_t a, uint32_t b)
{
    uint32_t sum = 0;
    for (int i = 0; i < 32; i += 16) {
        const uint32_t bits = __float_as_uint(emu_number<false>(a >> i & 0xffffu) +
                                              emu_number<false>(b >> i & 0xffffu));
        sum |= (bits + 0x7fffu + (bits >> 16 & 1)) >> 16 << i;
    }
    return sum;
}

static inline void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    emu_mma<false>(c, a, b);
}

static inline void mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    emu_mma<true>(c, a, b);
}

static inline void emu_load_matrices(uint32_t r[4], const void *row, bool trans)
{
    const unsigned g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
    emu_words mine = {};
    memcpy(mine.w, &row, sizeof row);
    const emu_words *all = emu_publish(mine);
    for (int i = 0; i < 4; i++) {
        uint16_t e[2];
        for (unsigned j = 0; j < 2; j++) {
            const unsigned from = trans ? 2 * q + j : g, element = trans ? g : 2 * q + j;
            const uint16_t *p;
            memcpy(&p, all[8 * i + from].w, sizeof p);
            e[j] = p[element];
        }
        r[i] = (uint32_t)e[1] << 16 | e[0];
    }
}

static inline void load_matrices(uint32_t r[4], const void *row)
{
    emu_load_matrices(r, row, false);
}

static inline void load_matrices_trans(uint32_t r[4], const void *row)
{
    emu_load_matrices(r, row, true);
}

static inline void copy_async(void *shared, const void *src, bool live)
{
    emu_copy_async(shared, live ? src : nullptr);
}

static inline void copy_group_end(void)
{
    emu_copy_group_end();
}

template <int N> static inline void copy_wait(void)
{
    emu_copy_wait(N);
}

/* ---- Products of groups of warps: made at once ------------------------------------------------
 */

#define UT_GROUPS 1

/* 16 bytes of a tile of shared memory. */
struct group_at {
    size_t at; /* from the begin of all, which is a multiple of 1024 on a device */
    group_at operator+(int groups) const { return {at + (size_t)groups * 16}; }
};
static inline group_at group_place(const void *p)
{
    return {(size_t)(static_cast<const unsigned char *>(p) - emu_shared())};
}
static inline void group_sees_memory(void) {}
static inline void group_begin(void) {}
static inline void group_close(void) {}
template <int N, int TILES> static inline void group_wait(float (*)[4]) {}

/* Columns 0 .. 15 from `from` on, of row `row` of lines of 16 groups bytes. */
template <bool HALF>
static inline void emu_tile_row(group_at from, int row, int groups, float v[16])
{
    for (unsigned k = 0; k < 16; k++) {
        const size_t at = from.at + (size_t)(row * groups) * 16 + 2 * k;
        const size_t turn = groups == 8 ? at >> 7 & 7 : at >> 7 & 3;
        uint16_t bits;
        memcpy(&bits, emu_shared() + (at ^ turn << 4), sizeof bits);
        v[k] = emu_number<HALF>(bits);
    }
}

template <int N, bool HALF, int GROUPS = 8> struct group_product {
    static void make(float (*c)[4], group_at a, group_at b, bool more)
    {
        const int row = (int)(threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4);
        float x[2][16], w[16];
        emu_tile_row<HALF>(a, row, GROUPS, x[0]);
        emu_tile_row<HALF>(a, row + 8, GROUPS, x[1]);
        for (int j = 0; j < N / 8; j++)
            for (int i = 0; i < 2; i++) {
                emu_tile_row<HALF>(b, 8 * j + (int)(threadIdx.x % 4) * 2 + i, GROUPS, w);
                for (int h = 0; h < 2; h++) {
                    float *sum = &c[j][2 * h + i];
                    if (!more)
                        *sum = 0.0f;
                    for (int k = 0; k < 16; k++)
                        *sum += x[h][k] * w[k];
                }
            }
    }
};

static inline uint4 load_once(const void *p)
{
    return *static_cast<const uint4 *>(p);
}
