/* quant.h - the two block-wise types of weights. A row of a matrix is cut into blocks along K, the
 * last one shorter; a block is a scale in f16 and a small whole number for each weight, which
 * stands for scale * number. The product is exact in f32 (11 bits times 8 or 4), so a kernel that
 * takes scale * number as the weight gives the same bits as one that was given those weights in
 * f32.
 *
 *   q8  32 weights, -127 .. 127; scale = max |w| / 127: 8.5 bits a weight
 *   q4  16 weights, -8 .. 7; scale = w / -8 for the largest |w|: 5 bits a weight
 *
 * Of weights with a normal distribution q8 loses 0.53 % (root of the mean square), q4 7.6 %; q4 in
 * blocks of 32 would lose 8.6 %, and with a minimum per block, which costs as much as halving the
 * blocks, 7.8 %. Where the numbers lie in memory is each backend's own business. */
#ifndef UT_PLAN_QUANT_H
#define UT_PLAN_QUANT_H

#include <stdint.h>

enum { UT_Q8_BLOCK = 32, UT_Q4_BLOCK = 16 };

/* The numbers of a block of n <= UT_Q8_BLOCK (UT_Q4_BLOCK) weights, nearest and ties to even;
 * returns the scale, f16. Where that is a normal f16, a weight moves by at most half of it, but one
 * of q4 that is about as large as the largest, with the other sign, by up to 1.005 of it. Weights
 * that are too large (above 8 million, 500 thousand) become the nearest that the type has, NaN
 * becomes 0. */
uint16_t ut_q8_pack(int8_t *q, const float *w, int32_t n);
uint16_t ut_q4_pack(int8_t *q, const float *w, int32_t n);

#endif
