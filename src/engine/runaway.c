/* runaway.c - see runaway.h. A sustained sound varies in the codes of later codebooks, which are
 * drawn at random, so the first one alone is looked at. */
#include "engine/runaway.h"
#include <math.h>

#define AUDIBLE 0.001f /* of full scale: -60 dB */

void ut_runaway_start(ut_runaway *r, int32_t limit)
{
    *r = (ut_runaway){.limit = limit};
}

bool ut_runaway_repeats(ut_runaway *r, const int32_t *codes, int32_t n_codebooks, int32_t frame)
{
    bool too_many = false;
    for (int32_t p = 1; p <= UT_RUNAWAY_PERIODS && p <= frame; p++) {
        const int32_t *now = codes + (int64_t)frame * n_codebooks;
        const bool same = now[0] == now[-(int64_t)p * n_codebooks];
        r->repeats[p - 1] = same ? r->repeats[p - 1] + 1 : 0;
        too_many |= r->repeats[p - 1] >= r->limit;
    }
    return too_many && r->limit > 0;
}

static bool is_silent(const float *pcm, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (!(fabsf(pcm[i]) < AUDIBLE))
            return false;
    return true;
}

int32_t ut_runaway_silence(ut_runaway *r, const float *pcm, int32_t n, int32_t hop)
{
    for (int32_t f = 0; r->limit > 0 && f < n; f++) {
        r->silent = is_silent(pcm + (int64_t)f * hop, hop) ? r->silent + 1 : 0;
        if (r->silent >= r->limit)
            return f + 1;
    }
    return n + 1;
}
