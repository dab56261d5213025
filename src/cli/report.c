/* report.c - progress, summary and statistics of an utterance. */
#include "cli/report.h"
#include "base/json.h"
#include "base/os.h"

#define UPDATE_SECONDS 0.2

void ut_progress_begin(ut_progress *p, bool wanted)
{
    *p = (ut_progress){.shown = wanted && ut_is_terminal(stderr)};
}

void ut_progress_update(ut_progress *p, const utter_stream *s, long long text_left)
{
    double now = ut_time_now();
    if (!p->shown || now < p->next)
        return;
    p->next = now + UPDATE_SECONDS;
    utter_stats x;
    utter_stats_init(&x);
    utter_stream_get_stats(s, &x);
    char line[160], left[48] = "";
    if (text_left >= 0)
        snprintf(left, sizeof left, ", %lld bytes of text left", text_left);
    int n = snprintf(line, sizeof line, "%.1f s of audio, RTF %.2f (%.1f x real time)%s", x.audio_s,
                     x.rtf, x.x_realtime, left);
    fprintf(stderr, "\r%-*s", p->width > n ? p->width : n, line);
    fflush(stderr);
    p->width = n;
}

void ut_progress_clear(ut_progress *p)
{
    if (p->width > 0)
        fprintf(stderr, "\r%*s\r", p->width, "");
    p->width = 0;
}

void ut_report_line(FILE *f, const utter_stats *s, const char *output)
{
    fprintf(f,
            "utter: %s%s%.2f s of audio in %.2f s: RTF %.3f (%.2f x real time), first audio after "
            "%.0f ms, seed %lld",
            output ? output : "", output ? ": " : "", s->audio_s, s->busy_s, s->rtf, s->x_realtime,
            s->ttfa_ms, (long long)s->seed);
    if (s->stopped_by_limit > 0)
        fprintf(f, "; a limit ended %lld of %lld chunks", (long long)s->stopped_by_limit,
                (long long)s->chunks);
    fputc('\n', f);
}

bool ut_report_json(FILE *f, const utter_stats *s, const utter_engine_info *e, const char *voice,
                    const char *output, bool interrupted)
{
    ut_buf text;
    ut_json_writer w;
    ut_buf_init(&text, 1 << 16);
    ut_json_writer_init(&w, &text, 0);
    ut_json_begin_object(&w, NULL);
    ut_json_put_string(&w, "version", utter_version());
    ut_json_put_string(&w, "model", e->model_dir);
    ut_json_put_string(&w, "family", e->family);
    ut_json_put_string(&w, "backend", e->backend);
    ut_json_put_string(&w, "device", e->backend_text);
    ut_json_put_string(&w, "voice", voice);
    ut_json_put_string(&w, "output", output);
    ut_json_put_bool(&w, "interrupted", interrupted);
    ut_json_put_int(&w, "seed", s->seed);
    ut_json_put_int(&w, "sample_rate", s->sample_rate);
    ut_json_put_int(&w, "hop_samples", e->hop_samples);
    ut_json_put_int(&w, "frames", s->frames);
    ut_json_put_int(&w, "chunks", s->chunks);
    ut_json_put_int(&w, "stopped_by_limit", s->stopped_by_limit);
    ut_json_put_int(&w, "prompt_tokens", s->prompt_tokens);
    ut_json_put_int(&w, "prefix_hit_tokens", s->prefix_hit_tokens);
    ut_json_put_int(&w, "prefix_bytes", s->prefix_bytes);
    ut_json_put_number(&w, "audio_s", s->audio_s);
    ut_json_put_number(&w, "busy_s", s->busy_s);
    ut_json_put_number(&w, "rtf", s->rtf);
    ut_json_put_number(&w, "x_realtime", s->x_realtime);
    ut_json_put_number(&w, "ttfa_ms", s->ttfa_ms);
    ut_json_put_number(&w, "prefill_ms", s->prefill_ms);
    ut_json_put_number(&w, "ms_per_frame", s->ms_per_frame);
    ut_json_put_number(&w, "codec_ms_per_frame", s->codec_ms_per_frame);
    ut_json_put_number(&w, "codec_share", s->codec_share);
    ut_json_put_number(&w, "load_ms", s->load_ms);
    ut_json_put_number(&w, "peak_rss_mb", s->peak_rss_mb);
    bool ok = ut_json_end_all(&w) && fprintf(f, "%s\n", (const char *)text.data) > 0;
    ut_buf_free(&text);
    return ok;
}
