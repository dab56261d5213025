/* speaker.c - weights and plan of the speaker encoder (specification, section 10; reference:
 * Qwen3TTSSpeakerEncoder in modeling_qwen3_tts.py; the network is Desplanques et al., ECAPA-TDNN,
 * 2020). */
#include "models/qwen3_tts/speaker.h"
#include <stdio.h>

ut_mel_params ut_q3_speaker_mel(const ut_q3_config *c)
{
    return (ut_mel_params){.sample_rate = c->speaker.sample_rate,
                           .window = 1024,
                           .hop = 256,
                           .n_bands = c->speaker.mel_dim,
                           .low = 0.0f,
                           .high = 12000.0f,
                           .power_floor = 1e-9f,
                           .floor = 1e-5f};
}

/* ---- Weights -------------------------------------------------------------------------------- */

static void load_tdnn(ut_loader *l, ut_q3_tdnn *t, int32_t in, int32_t out, int32_t dilation,
                      const char *name)
{
    char full[160];
    snprintf(full, sizeof full, "speaker_encoder.%s.conv", name);
    ut_conv_load(l, &t->conv, UT_CONV, in, out, 1, dilation, NULL, full);
    const int32_t reach = (t->conv.taps - 1) * dilation;
    t->left = reach / 2;
    t->right = reach - t->left;
}

static void load_1x1(ut_loader *l, ut_conv *c, int32_t in, int32_t out, const char *name)
{
    char full[160];
    snprintf(full, sizeof full, "speaker_encoder.%s", name);
    ut_conv_load(l, c, UT_CONV, in, out, 1, 1, NULL, full);
    if (l->status == UTTER_OK && c->taps != 1)
        ut_loader_fail(l, UTTER_ERR_MODEL, "tensor %s.weight has a kernel of %d, expected 1", full,
                       (int)c->kernel);
}

static void load_block(ut_loader *l, ut_q3_se_block *b, const ut_q3_config *c, int32_t i)
{
    char name[96];
    const int32_t in = c->speaker.channels[i - 1], out = c->speaker.channels[i];
    const int32_t part = out / c->speaker.res2net_scale;
    snprintf(name, sizeof name, "blocks.%d.tdnn1", (int)i);
    load_tdnn(l, &b->tdnn1, in, out, 1, name);
    for (int32_t g = 0; g + 1 < c->speaker.res2net_scale; g++) {
        snprintf(name, sizeof name, "blocks.%d.res2net_block.blocks.%d", (int)i, (int)g);
        load_tdnn(l, &b->groups[g], part, part, c->speaker.dilations[i], name);
    }
    snprintf(name, sizeof name, "blocks.%d.tdnn2", (int)i);
    load_tdnn(l, &b->tdnn2, out, out, 1, name);
    snprintf(name, sizeof name, "blocks.%d.se_block.conv1", (int)i);
    load_1x1(l, &b->se1, out, c->speaker.se_channels, name);
    snprintf(name, sizeof name, "blocks.%d.se_block.conv2", (int)i);
    load_1x1(l, &b->se2, c->speaker.se_channels, out, name);
}

void ut_q3_speaker_load(ut_loader *l, ut_q3_speaker *s, const ut_q3_config *c,
                        ut_speaker_encoder *encoder)
{
    const int32_t *channels = c->speaker.channels, last = c->speaker.n_blocks - 1;
    const int32_t wide = channels[last];
    int32_t joined = 0;
    s->n_blocks = c->speaker.n_blocks - 2;
    s->scale = c->speaker.res2net_scale;
    load_tdnn(l, &s->first, c->speaker.mel_dim, channels[0], c->speaker.dilations[0], "blocks.0");
    for (int32_t i = 1; l->status == UTTER_OK && i < last; i++) {
        if (channels[i] != channels[i - 1] || channels[i] % s->scale)
            ut_loader_fail(l, UTTER_ERR_MODEL,
                           "speaker_encoder_config: %d channels after %d, expected as many, a "
                           "multiple of enc_res2net_scale = %d",
                           (int)channels[i], (int)channels[i - 1], (int)s->scale);
        else
            load_block(l, &s->blocks[i - 1], c, i);
        joined += channels[i];
    }
    load_tdnn(l, &s->mfa, joined, wide, c->speaker.dilations[last], "mfa");
    load_1x1(l, &s->asp_tdnn, 3 * wide, c->speaker.attention_channels, "asp.tdnn.conv");
    load_1x1(l, &s->asp_conv, c->speaker.attention_channels, wide, "asp.conv");
    load_1x1(l, &s->fc, 2 * wide, c->speaker.enc_dim, "fc");
    encoder->dim = c->speaker.enc_dim;
    encoder->n_features = c->speaker.mel_dim;
}

/* ---- Plan ----------------------------------------------------------------------------------- */

static ut_tid emit_tdnn(ut_plan *p, const ut_q3_tdnn *t, ut_tid x)
{
    const ut_conv_args relu = {.act = UT_ACT_RELU, .residual = UT_NONE};
    if (t->left + t->right > 0)
        x = ut_op_reflect(p, x, t->left, t->right);
    return ut_conv_emit(p, &t->conv, x, &relu);
}

/* Each group of channels but the first: its convolution of itself plus the group before. */
static ut_tid emit_res2net(ut_plan *p, const ut_q3_speaker *s, const ut_q3_se_block *b, ut_tid x)
{
    const int32_t width = b->tdnn1.conv.out_channels, part = width / s->scale;
    const ut_tid y = ut_op_blank_like(p, x, width);
    ut_op_copy_cols(p, y, 0, x, 0, part, false);
    ut_tid before = UT_NONE;
    for (int32_t g = 1; g < s->scale; g++) {
        const ut_tid in = ut_op_blank_like(p, x, part);
        ut_op_copy_cols(p, in, 0, x, g * part, part, false);
        if (g > 1)
            ut_op_copy_cols(p, in, 0, before, 0, part, true);
        before = emit_tdnn(p, &b->groups[g - 1], in);
        ut_op_copy_cols(p, y, g * part, before, 0, part, false);
    }
    return y;
}

static ut_tid emit_block(ut_plan *p, const ut_q3_speaker *s, const ut_q3_se_block *b, ut_tid x)
{
    const ut_conv_args relu = {.act = UT_ACT_RELU, .residual = UT_NONE};
    const ut_conv_args sigmoid = {.act = UT_ACT_SIGMOID, .residual = UT_NONE};
    const int32_t width = b->tdnn2.conv.out_channels;
    const ut_tid y = emit_tdnn(p, &b->tdnn2, emit_res2net(p, s, b, emit_tdnn(p, &b->tdnn1, x)));
    const ut_tid statistics = ut_plan_reshape(p, ut_op_pool(p, y, UT_NONE), width);
    ut_tid gain = ut_op_blank(p, 1, width);
    ut_op_copy_into(p, gain, 0, statistics, 0, 1); /* the mean; row 1 is the deviation */
    gain = ut_conv_emit(p, &b->se2, ut_conv_emit(p, &b->se1, gain, &relu), &sigmoid);
    return ut_op_scale(p, y, gain, x);
}

/* Attentive statistics: mean and deviation over time under weights that a small network makes of
 * every row together with the plain mean and deviation. */
static ut_tid emit_pooling(ut_plan *p, const ut_q3_speaker *s, ut_tid x)
{
    const int32_t width = s->mfa.conv.out_channels;
    const ut_conv_args relu = {.act = UT_ACT_RELU, .residual = UT_NONE};
    const ut_tid joined = ut_op_blank_like(p, x, 3 * width);
    ut_op_copy_cols(p, joined, 0, x, 0, width, false);
    ut_op_copy_cols(p, joined, width, ut_op_pool(p, x, UT_NONE), 0, 2 * width, false);
    ut_tid logits = ut_conv_emit(p, &s->asp_tdnn, joined, &relu);
    logits = ut_conv_emit(p, &s->asp_conv, ut_op_act(p, logits, UT_ACT_TANH), NULL);
    return ut_op_pool(p, x, logits);
}

utter_status ut_q3_speaker_plan(const ut_q3_speaker *s, const ut_model_options *options,
                                ut_speaker_encoder *encoder, ut_err *err)
{
    ut_plan *p = encoder->plan = ut_plan_new("qwen3-tts speaker", NULL, options->taps);
    if (!p)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a plan");
    ut_tid x = ut_plan_input(p, "features", UT_F32, 1, 0, encoder->n_features);
    x = emit_tdnn(p, &s->first, x);
    ut_plan_name(p, x, "spk.block0");
    ut_tid out[UT_Q3_MAX_BLOCKS];
    int32_t width = 0;
    for (int32_t i = 0; i < s->n_blocks; i++) {
        out[i] = x = emit_block(p, s, &s->blocks[i], x);
        ut_plan_name(p, x, "spk.block%d", (int)i + 1);
        width += s->blocks[i].tdnn2.conv.out_channels;
    }
    const ut_tid joined = ut_op_blank_like(p, x, width);
    for (int32_t i = 0, col = 0; i < s->n_blocks; i++) {
        const int32_t w = s->blocks[i].tdnn2.conv.out_channels;
        ut_op_copy_cols(p, joined, col, out[i], 0, w, false);
        col += w;
    }
    x = emit_tdnn(p, &s->mfa, joined);
    ut_plan_name(p, x, "spk.mfa");
    x = emit_pooling(p, s, x);
    ut_plan_name(p, x, "spk.asp");
    ut_plan_output(p, ut_conv_emit(p, &s->fc, x, NULL), "embedding");
    return ut_plan_finish(p, err);
}
