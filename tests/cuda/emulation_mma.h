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

static inline float emu_bf16(uint32_t pair, int high)
{
    return __uint_as_float(high ? pair & 0xffff0000u : pair << 16);
}

static inline void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    const unsigned g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
    const emu_words *all = emu_publish({{a[0], a[1], a[2], a[3], b[0], b[1]}});
    for (int i = 0; i < 4; i++) {
        const unsigned col = 2 * q + i % 2;
        for (unsigned k = 0; k < 16; k++) {
            const unsigned lane = k % 8 / 2;
            const float x = emu_bf16(all[4 * g + lane].w[2 * (k / 8) + i / 2], k % 2);
            const float y = emu_bf16(all[4 * col + lane].w[4 + k / 8], k % 2);
            c[i] += x * y;
        }
    }
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
