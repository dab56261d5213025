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

static inline uint4 load_once(const void *p)
{
    return *static_cast<const uint4 *>(p);
}
