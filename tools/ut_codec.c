/* ut_codec.c - what a model's codec makes of a sound: encodes a recording and decodes it again, so
 * that its quality can be heard without a language model in between. */
#include "base/os.h"
#include "utter.h"
#include <stdio.h>

static int fail(const char *message)
{
    fprintf(stderr, "ut-codec: %s\n", message);
    return 1;
}

static int copy(utter_engine *e, const char *in, const char *out)
{
    utter_voice_params p;
    utter_voice *v = NULL;
    utter_audio *a = NULL;
    utter_voice_params_init(&p);
    p.path = in;
    p.text = "-"; /* a voice needs a transcript; the codec does not */
    int code = 0;
    if (utter_voice_create(e, &p, &v) != UTTER_OK || utter_voice_preview(e, v, &a) != UTTER_OK)
        code = fail(utter_last_error(e));
    else if (utter_audio_write(a, out) != UTTER_OK)
        code = fail(utter_last_error(NULL));
    utter_audio_free(a);
    utter_voice_free(v);
    return code;
}

int main(int argc, char **argv)
{
    ut_main_args(&argc, &argv);
    if (argc != 4) {
        fprintf(stderr, "usage: ut-codec MODEL_DIR IN OUT\n"
                        "Writes the sound file IN, of at most two minutes, as the model's codec "
                        "gives it back.\n");
        return 2;
    }
    utter_engine *e;
    if (utter_engine_open(argv[1], NULL, &e) != UTTER_OK)
        return fail(utter_last_error(NULL));
    int code = copy(e, argv[2], argv[3]);
    utter_engine_close(e);
    return code;
}
