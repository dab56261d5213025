/* codec_plans.c - the codec as two plans: codes to samples, samples to codes. Both are exact
 * streams: every layer is causal and keeps its own history. */
#include "models/qwen3_tts/codec.h"

/* ---- Decoder -------------------------------------------------------------------------------- */

static ut_tid emit_decoder_transformer(ut_plan *p, const ut_q3_decoder *d, ut_tid x)
{
    const ut_tid pos = ut_plan_state(p, d->pos);
    const ut_linear_args in = {.w = d->in, .bias = d->in_bias, .residual = UT_NONE};
    const ut_linear_args out = {.w = d->out, .bias = d->out_bias, .residual = UT_NONE};
    x = ut_tf_emit(p, &d->tf, ut_op_linear(p, x, &in), pos, 0);
    ut_op_advance(p, pos, 0, 1);
    x = ut_op_rms_norm(p, x, d->tf.norm, d->tf.norm_eps);
    return ut_op_linear(p, x, &out);
}

/* codes i32 [T, G] -> pcm [T * hop, 1]. */
static void write_decode(ut_plan *p, const ut_q3_codec *c)
{
    const ut_q3_decoder *d = &c->dec;
    const ut_tid codes = ut_plan_input(p, "codes", UT_I32, 1, 0, c->n_groups);
    ut_tid x = ut_rvq_decode(p, &d->first, codes, 0, UT_NONE);
    x = ut_rvq_decode(p, &d->rest, codes, 1, x);
    ut_plan_name(p, x, "dec.rvq");
    x = ut_conv_emit(p, &d->pre_conv, x, NULL);
    ut_plan_name(p, x, "dec.pre_conv");
    x = emit_decoder_transformer(p, d, x);
    ut_plan_name(p, x, "dec.pre_transformer");
    for (int32_t u = 0; u < d->n_upsample; u++) {
        x = ut_conv_emit(p, &d->up[u], x, NULL);
        ut_plan_name(p, x, "dec.up%d_conv", (int)u);
        x = ut_convnext_emit(p, &d->up_next[u], x);
        if (u + 1 < d->n_upsample)
            ut_plan_name(p, x, "dec.up%d", (int)u);
    }
    ut_plan_name(p, x, "dec.upsample");
    x = ut_conv_emit(p, &d->conv_in, x, NULL);
    ut_plan_name(p, x, "dec.conv0");
    for (int32_t b = 0; b < d->n_blocks; b++) {
        x = ut_snake_emit(p, &d->blocks[b].snake, x);
        ut_plan_name(p, x, "dec.block%d_snake", (int)b);
        x = ut_conv_emit(p, &d->blocks[b].conv, x, NULL);
        ut_plan_name(p, x, "dec.block%d_tconv", (int)b);
        for (int u = 0; u < UT_Q3_UNITS; u++)
            x = ut_resunit_emit(p, &d->blocks[b].units[u], x);
        ut_plan_name(p, x, "dec.block%d", (int)b);
    }
    const ut_conv_args last = {.act = UT_ACT_CLAMP, .residual = UT_NONE};
    x = ut_conv_emit(p, &d->conv_out, ut_snake_emit(p, &d->snake_out, x), &last);
    ut_plan_output(p, x, "pcm");
}

/* ---- Encoder -------------------------------------------------------------------------------- */

/* pcm [T * hop, 1], of which n_samples are of the signal -> codes i32 [T, G]. Where the reference
 * fills a last window, past the end of the signal at that layer, the rows are trimmed. */
static void write_encode(ut_plan *p, const ut_q3_codec *c)
{
    const ut_q3_encoder *e = &c->enc;
    const ut_tid pcm = ut_plan_input(p, "pcm", UT_F32, c->hop_samples, 0, 1);
    const ut_tid n_samples = ut_plan_input(p, "n_samples", UT_I32, 0, 1, 1);
    const ut_conv_args elu = {.act = UT_ACT_ELU, .residual = UT_NONE};
    ut_tid x = ut_conv_emit(p, &e->conv_in, pcm, NULL);
    ut_plan_name(p, x, "enc.conv0");
    for (int32_t s = 0; s < e->n_stages; s++) {
        const ut_conv_args add = {.residual = x};
        ut_tid y = ut_conv_emit(p, &e->stages[s].conv1, ut_op_act(p, x, UT_ACT_ELU), &elu);
        x = ut_conv_emit(p, &e->stages[s].conv2, y, &add);
        ut_plan_name(p, x, "enc.res%d", (int)s);
        y = ut_op_act(p, x, UT_ACT_ELU);
        ut_op_trim(p, y, n_samples, e->stages[s].hop, false);
        x = ut_conv_emit(p, &e->stages[s].conv, y, NULL);
    }
    x = ut_conv_emit(p, &e->conv_out, ut_op_act(p, x, UT_ACT_ELU), NULL);
    ut_plan_name(p, x, "enc.seanet");
    const ut_tid pos = ut_plan_state(p, e->pos);
    x = ut_tf_emit(p, &e->tf, x, pos, 0);
    ut_plan_name(p, x, "enc.transformer");
    x = ut_op_copy(p, x);
    ut_op_trim(p, x, n_samples, c->hop_samples / e->tf_rows, true);
    const ut_conv_args first = {.residual = UT_NONE, .repeat_start = true, .pos = pos};
    x = ut_conv_emit(p, &e->down, x, &first);
    ut_op_advance(p, pos, 0, e->tf_rows);
    ut_plan_name(p, x, "enc.downsample");
    const ut_tid codes = ut_op_blank_ids(p, x, c->n_groups);
    ut_rvq_encode(p, &e->semantic, x, codes, 0, "enc");
    ut_rvq_encode(p, &e->acoustic, x, codes, 1, "enc");
    ut_plan_output(p, codes, "codes");
}

/* ---- Both ----------------------------------------------------------------------------------- */

static utter_status write_plan(ut_plan **out, const char *name, const ut_state_set *states,
                               const ut_model_options *options, const ut_q3_codec *c,
                               void (*body)(ut_plan *, const ut_q3_codec *), ut_err *err)
{
    *out = ut_plan_new(name, states, options->taps);
    if (!*out)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a plan");
    body(*out, c);
    return ut_plan_finish(*out, err);
}

utter_status ut_q3_codec_plans(const ut_q3_codec *c, const ut_model_options *options,
                               ut_codec *codec, ut_err *err)
{
    utter_status st = write_plan(&codec->decode, "qwen3-tts codec decode", &codec->decode_states,
                                 options, c, write_decode, err);
    if (st == UTTER_OK)
        st = write_plan(&codec->encode, "qwen3-tts codec encode", &codec->encode_states, options, c,
                        write_encode, err);
    return st;
}
