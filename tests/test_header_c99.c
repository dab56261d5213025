/* test_header_c99.c - utter.h in a program of strict C99 that includes nothing else before it. */
#include "utter.h"

int main(void)
{
    utter_engine_params e;
    utter_synth_params s;
    utter_stats t;
    utter_engine_params_init(&e);
    utter_synth_params_init(&s);
    utter_stats_init(&t);
    return !(e.struct_size == sizeof e && s.seed == -1 && t.frames == 0 && utter_version()[0]);
}
