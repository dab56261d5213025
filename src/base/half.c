/* half.c - IEEE 754 binary16 in integer arithmetic: 1 sign, 5 exponent (bias 15), 10 fraction. */
#include "base/half.h"

float ut_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 0x1fu, fraction = h & 0x3ffu;
    uint32_t u;
    if (exponent == 0x1fu) { /* infinity, NaN */
        u = sign | 0x7f800000u | fraction << 13;
    } else if (exponent != 0) {
        u = sign | (exponent + 127 - 15) << 23 | fraction << 13;
    } else { /* zero and subnormals: fraction * 2^-24, exact in f32 */
        float f = (float)fraction * 0x1p-24f;
        memcpy(&u, &f, sizeof u);
        u |= sign;
    }
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

uint16_t ut_f32_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) /* NaN stays a quiet NaN */
        return (uint16_t)(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    if (magnitude >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude >= 0x38800000u) { /* normal: re-bias, then round away 13 bits */
        uint32_t m = magnitude - ((127u - 15u) << 23);
        return (uint16_t)(sign | (m + 0xfffu + ((m >> 13) & 1u)) >> 13);
    }
    if (magnitude < 0x33000000u) /* below 2^-25: zero */
        return (uint16_t)sign;
    /* Subnormal: the significand 1.f, 24 bits, in units of 2^-24; 14 to 24 bits go. */
    uint32_t shift = 126u - (magnitude >> 23);
    uint32_t m = (magnitude & 0x7fffffu) | 0x800000u;
    uint32_t kept = m >> shift, rest = m & ((1u << shift) - 1), half = 1u << (shift - 1);
    if (rest > half || (rest == half && (kept & 1u)))
        kept++;
    return (uint16_t)(sign | kept);
}
