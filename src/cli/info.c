/* info.c - `utter info`: what this build and machine can do, and what a model is. */
#include "audio/audio.h"
#include "base/alloc.h"
#include "base/cpu.h"
#include "base/json.h"
#include "base/os.h"
#include "cli/cli.h"
#include <stdio.h>

/* ---- The machine ---------------------------------------------------------------------------- */

static void print_machine(void)
{
    char cpu[256];
    ut_cpu_describe(cpu, sizeof cpu);
    printf("utter %s\n", utter_version());
    printf("CPU: %s; %d physical cores for this process\n", cpu, ut_physical_cores());
    printf("backends, best first:\n");
    for (size_t i = 0; i < utter_backend_count(); i++) {
        utter_backend_info b;
        utter_backend_info_init(&b);
        if (utter_backend_get(i, &b) != UTTER_OK)
            continue;
        printf("  %-8s%s: %s\n", b.name, b.available ? "available" : "not available", b.text);
        for (int32_t device = 1; device < b.n_devices; device++)
            if (utter_backend_get_device(i, device, &b) == UTTER_OK)
                printf("  %8sdevice %d, %s: %s\n", "", (int)device,
                       b.available ? "available" : "not available", b.text);
    }
    printf("audio formats: %s; resampler: %s\n", ut_audio_formats(), ut_audio_resampler());
}

static void put_devices(ut_json_writer *w, size_t backend, int32_t n)
{
    ut_json_begin_array(w, "devices");
    for (int32_t device = 0; device < n; device++) {
        utter_backend_info b;
        utter_backend_info_init(&b);
        if (utter_backend_get_device(backend, device, &b) != UTTER_OK)
            continue;
        ut_json_begin_object(w, NULL);
        ut_json_put_bool(w, "available", b.available != 0);
        ut_json_put_string(w, "text", b.text);
        ut_json_end(w);
    }
    ut_json_end(w);
}

static void put_machine(ut_json_writer *w)
{
    char cpu[256];
    ut_cpu_describe(cpu, sizeof cpu);
    ut_json_put_string(w, "version", utter_version());
    ut_json_put_string(w, "cpu", cpu);
    ut_json_put_int(w, "physical_cores", ut_physical_cores());
    ut_json_begin_array(w, "backends");
    for (size_t i = 0; i < utter_backend_count(); i++) {
        utter_backend_info b;
        utter_backend_info_init(&b);
        if (utter_backend_get(i, &b) != UTTER_OK)
            continue;
        ut_json_begin_object(w, NULL);
        ut_json_put_string(w, "name", b.name);
        ut_json_put_bool(w, "available", b.available != 0);
        ut_json_put_string(w, "text", b.text);
        put_devices(w, i, b.n_devices);
        ut_json_end(w);
    }
    ut_json_end(w);
    ut_json_put_string(w, "audio_formats", ut_audio_formats());
    ut_json_put_string(w, "resampler", ut_audio_resampler());
}

/* ---- The model ------------------------------------------------------------------------------ */

static void print_model(const utter_engine_info *i)
{
    const double mb = 1e6;
    printf("model %s\n", i->model_dir);
    printf("  family: %s\n", i->family);
    printf("  sizes: %s\n", i->summary);
    printf("  parameters: %.1f M language model, %.1f M codec\n", (double)i->n_params_lm / mb,
           (double)i->n_params_codec / mb);
    printf("  sound: %d Hz, %d samples per frame (%.2f frames per second), %d codebooks\n",
           (int)i->sample_rate, (int)i->hop_samples, (double)i->sample_rate / i->hop_samples,
           (int)i->n_codebooks);
    printf("  limits: %d positions, prompts of %d, chunks of %d characters\n",
           (int)i->max_positions, (int)i->max_prompt, (int)i->max_chunk_chars);
    printf("  defaults: temperature %g, top-p %g, repetition penalty %g, voice %s\n",
           (double)i->temperature, (double)i->top_p, (double)i->repetition_penalty,
           i->default_voice ? i->default_voice : i->voices);
    printf("  backend: %s\n", i->backend_text);
    printf("  memory: %.1f MB of packed weights, %.1f MB for a stream; %.1f MB of weights read per "
           "frame\n",
           (double)i->weight_bytes / mb, (double)i->work_bytes / mb,
           (double)i->bytes_per_frame / mb);
    if (i->device_total > 0)
        printf("  device memory: %.1f MB taken of %.1f MB\n",
               (double)(i->device_total - i->device_free) / mb, (double)i->device_total / mb);
    printf("  codec: %s\n", i->codec_id);
    printf("  loaded in %.0f ms; peak memory of the process %.1f MB\n", i->load_ms,
           (double)ut_peak_rss() / mb);
}

static void put_model(ut_json_writer *w, const utter_engine_info *i)
{
    ut_json_begin_object(w, "model");
    ut_json_put_string(w, "dir", i->model_dir);
    ut_json_put_string(w, "family", i->family);
    ut_json_put_string(w, "summary", i->summary);
    ut_json_put_int(w, "n_params_lm", i->n_params_lm);
    ut_json_put_int(w, "n_params_codec", i->n_params_codec);
    ut_json_put_int(w, "sample_rate", i->sample_rate);
    ut_json_put_int(w, "hop_samples", i->hop_samples);
    ut_json_put_int(w, "n_codebooks", i->n_codebooks);
    ut_json_put_int(w, "max_positions", i->max_positions);
    ut_json_put_int(w, "max_prompt", i->max_prompt);
    ut_json_put_int(w, "max_chunk_chars", i->max_chunk_chars);
    ut_json_put_f32(w, "temperature", i->temperature);
    ut_json_put_f32(w, "top_p", i->top_p);
    ut_json_put_f32(w, "repetition_penalty", i->repetition_penalty);
    ut_json_put_string(w, "default_voice", i->default_voice);
    ut_json_put_string(w, "backend", i->backend);
    ut_json_put_string(w, "device", i->backend_text);
    ut_json_put_int(w, "weight_bytes", i->weight_bytes);
    ut_json_put_int(w, "work_bytes", i->work_bytes);
    ut_json_put_int(w, "bytes_per_frame", i->bytes_per_frame);
    ut_json_put_int(w, "device_free_bytes", i->device_free);
    ut_json_put_int(w, "device_total_bytes", i->device_total);
    ut_json_put_string(w, "codec", i->codec_id);
    ut_json_put_number(w, "load_ms", i->load_ms);
    ut_json_put_number(w, "peak_rss_mb", (double)ut_peak_rss() / 1e6);
    ut_json_end(w);
}

/* info NULL: the machine alone. */
static int print_json(const utter_engine_info *info)
{
    ut_buf text;
    ut_json_writer w;
    ut_buf_init(&text, 1 << 20);
    ut_json_writer_init(&w, &text, 2);
    ut_json_begin_object(&w, NULL);
    put_machine(&w);
    if (info)
        put_model(&w, info);
    bool ok = ut_json_end_all(&w) && printf("%s\n", (const char *)text.data) > 0;
    ut_buf_free(&text);
    return ok ? UT_EXIT_OK : ut_cli_fail("the information cannot be written");
}

static int run(const ut_command *self, int argc, char **argv)
{
    ut_engine_options engine_options = {0};
    bool json = false;
    const ut_option options[] = {
        UT_ENGINE_OPTIONS(&engine_options),
        {'j', "json", NULL, "the same as JSON", UT_OPTION_FLAG, &json, 0, 0},
    };
    int n_rest;
    int code =
        ut_options_parse(self, options, sizeof options / sizeof options[0], argc, argv, &n_rest);
    if (code >= 0)
        return code;
    if (n_rest > 1 || (n_rest == 1 && engine_options.model))
        return ut_cli_usage(self, "info takes one model");
    if (n_rest == 1)
        engine_options.model = argv[0];
    if (!engine_options.model) {
        if (json)
            return print_json(NULL);
        print_machine();
        char *model = ut_cli_find_model(NULL);
        printf("default model: %s\n", model ? model : "none");
        ut_free(model);
        return UT_EXIT_OK;
    }
    utter_engine *e;
    code = ut_cli_open_engine(self, &engine_options, &e);
    if (code != UT_EXIT_OK)
        return code;
    utter_engine_info info;
    utter_engine_info_init(&info);
    utter_engine_get_info(e, &info);
    if (json) {
        code = print_json(&info);
    } else {
        print_machine();
        print_model(&info);
    }
    utter_engine_close(e);
    return code;
}

const ut_command ut_command_info = {
    .name = "info",
    .arguments = "[MODEL]",
    .summary = "show what this machine can do, and what a model is",
    .run = run,
};
