/* hello.c - the least that speaks: hello MODEL_DIR [TEXT], into hello.wav. */
#include <stdio.h>
#include <utter.h>

int main(int argc, char **argv)
{
    const char *text = argc > 2 ? argv[2] : "Hello there.";
    utter_engine *e;
    utter_audio *a;
    int failed = 0;
    if (argc < 2)
        return puts("usage: hello MODEL_DIR [TEXT]"), 2;
    if (utter_engine_open(argv[1], NULL, &e) != UTTER_OK)
        return puts(utter_last_error(NULL)), 1;
    if (utter_synth(e, text, NULL, &a) != UTTER_OK)
        failed = puts(utter_last_error(e));
    else if (utter_audio_write(a, "hello.wav") != UTTER_OK)
        failed = puts(utter_last_error(NULL));
    utter_audio_free(a);
    utter_engine_close(e);
    return failed != 0;
}
