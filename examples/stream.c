/* stream.c - speaks the lines of standard input as they arrive: stream MODEL_DIR, raw samples
 * (16 bit, mono, the model's rate) to standard output. On Linux:
 *
 *     stream voices/arctic-mini | aplay -t raw -f S16_LE -c 1 -r 44100 */
#include <stdio.h>
#include <string.h>
#include <utter.h>

/* Samples as 16-bit integers, low byte first. */
static void write_samples(const float *pcm, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) {
        float x = pcm[i] < -1.0f ? -1.0f : pcm[i] > 1.0f ? 1.0f : pcm[i];
        int s = (int)(x * 32767.0f);
        putchar(s & 255);
        putchar((s >> 8) & 255);
    }
    fflush(stdout);
}

/* Read samples as long as there are any; while the stream waits for text, give it a line. */
static utter_status speak(utter_stream *s)
{
    char line[4096];
    float pcm[4096];
    size_t n;
    utter_stream_state state;
    for (;;) {
        utter_status st = utter_stream_read(s, pcm, 4096, &n, &state);
        if (st != UTTER_OK || state == UTTER_STREAM_END)
            return st;
        if (state == UTTER_STREAM_AUDIO)
            write_samples(pcm, n);
        else if (fgets(line, sizeof line, stdin))
            st = utter_stream_push(s, line, strlen(line));
        else
            st = utter_stream_finish(s);
        if (st != UTTER_OK)
            return st;
    }
}

int main(int argc, char **argv)
{
    utter_engine *e;
    utter_stream *s;
    utter_status st;
    if (argc != 2) {
        fprintf(stderr, "usage: stream MODEL_DIR <text >samples\n");
        return 2;
    }
    if (utter_engine_open(argv[1], NULL, &e) != UTTER_OK) {
        fprintf(stderr, "stream: %s\n", utter_last_error(NULL));
        return 1;
    }
    st = utter_stream_open(e, NULL, &s);
    if (st == UTTER_OK)
        st = speak(s);
    if (st != UTTER_OK)
        fprintf(stderr, "stream: %s\n", utter_last_error(e));
    utter_stream_close(s);
    utter_engine_close(e);
    return st == UTTER_OK ? 0 : 1;
}
