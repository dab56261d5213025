// test_header_cxx.cpp - utter.h in a C++ program: it compiles, and its functions link by their C
// names.
#include "utter.h"

int main()
{
    utter_engine_params e;
    utter_synth_params s;
    utter_engine *engine = nullptr;
    utter_engine_params_init(&e);
    utter_synth_params_init(&s);
    const utter_status status = utter_engine_open("no/such/model", &e, &engine);
    return !(status == UTTER_ERR_NOT_FOUND && !engine && s.temperature < 0 && utter_version()[0]);
}
