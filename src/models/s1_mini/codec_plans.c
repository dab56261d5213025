/* codec_plans.c - the codec as two plans: codes to samples, samples to codes. Both are exact
 * streams: every layer is causal and keeps its own history. */
#include "models/s1_mini/codec.h"

static ut_tid emit_tf(ut_plan *p, const ut_tf *t, ut_tid x, int pos_state, int32_t rows_per_frame)
{
    const ut_tid pos = ut_plan_state(p, pos_state);
    x = ut_tf_emit(p, t, x, pos, 0);
    ut_op_advance(p, pos, 0, rows_per_frame);
    return ut_op_rms_norm(p, x, t->norm, t->norm_eps);
}

/* codes i32 [T, Q] -> pcm [T * hop, 1]. */
static void write_decode(ut_plan *p, const ut_s1_codec *c)
{
    const ut_tid codes = ut_plan_input(p, "codes", UT_I32, 1, 0, c->rvq.n);
    ut_tid x = ut_rvq_decode(p, &c->rvq, codes, 0, UT_NONE);
    ut_plan_name(p, x, "dec.z_q");
    x = emit_tf(p, &c->post, x, c->post_pos, 1);
    ut_plan_name(p, x, "dec.post");
    for (int32_t i = 0; i < c->n_resample; i++) {
        x = ut_conv_emit(p, &c->up[i], x, NULL);
        x = ut_convnext_emit(p, &c->up_next[i], x);
    }
    ut_plan_name(p, x, "dec.up");
    x = ut_conv_emit(p, &c->dec_in, x, NULL);
    ut_plan_name(p, x, "dec.block0");
    for (int32_t i = 0; i < c->n_dec; i++) {
        const ut_s1_codec_block *b = &c->dec[i];
        x = ut_conv_emit(p, &b->conv, ut_op_snake(p, x, b->alpha), NULL);
        for (int32_t u = 0; u < c->n_units; u++)
            x = ut_resunit_emit(p, &b->units[u], x);
        ut_plan_name(p, x, "dec.block%d", (int)(i + 1));
    }
    const ut_conv_args last = {.act = UT_ACT_TANH, .residual = UT_NONE};
    x = ut_conv_emit(p, &c->dec_out, ut_op_snake(p, x, c->dec_alpha), &last);
    ut_plan_output(p, x, "pcm");
}

/* pcm [T * hop, 1] -> codes i32 [T, Q]. */
static void write_encode(ut_plan *p, const ut_s1_codec *c)
{
    ut_tid x = ut_plan_input(p, "pcm", UT_F32, c->hop_samples, 0, 1);
    x = ut_conv_emit(p, &c->enc_in, x, NULL);
    ut_plan_name(p, x, "enc.block0");
    for (int32_t i = 0; i < c->n_enc; i++) {
        const ut_s1_codec_block *b = &c->enc[i];
        for (int32_t u = 0; u < c->n_units; u++)
            x = ut_resunit_emit(p, &b->units[u], x);
        x = ut_conv_emit(p, &b->conv, ut_op_snake(p, x, b->alpha), NULL);
        if (b->tf.n_layers)
            x = emit_tf(p, &b->tf, x, b->tf_pos, b->tf_rows);
        ut_plan_name(p, x, "enc.block%d", (int)(i + 1));
    }
    x = ut_conv_emit(p, &c->enc_out, ut_op_snake(p, x, c->enc_alpha), NULL);
    ut_plan_name(p, x, "enc.z");
    for (int32_t i = 0; i < c->n_resample; i++) {
        x = ut_conv_emit(p, &c->down[i], x, NULL);
        x = ut_convnext_emit(p, &c->down_next[i], x);
    }
    ut_plan_name(p, x, "enc.down");
    x = emit_tf(p, &c->pre, x, c->pre_pos, 1);
    ut_plan_name(p, x, "enc.pre");
    const ut_tid codes = ut_op_blank_ids(p, x, c->rvq.n);
    ut_rvq_encode(p, &c->rvq, x, codes, 0, "enc");
    ut_plan_output(p, codes, "codes");
}

static utter_status write_plan(ut_plan **out, const char *name, const ut_state_set *states,
                               const ut_model_options *options, const ut_s1_codec *c,
                               void (*body)(ut_plan *, const ut_s1_codec *), ut_err *err)
{
    *out = ut_plan_new(name, states, options->taps);
    if (!*out)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a plan");
    body(*out, c);
    return ut_plan_finish(*out, err);
}

utter_status ut_s1_codec_plans(const ut_s1_codec *c, const ut_model_options *options,
                               ut_codec *codec, ut_err *err)
{
    utter_status st = write_plan(&codec->decode, "s1-mini codec decode", &codec->decode_states,
                                 options, c, write_decode, err);
    if (st == UTTER_OK)
        st = write_plan(&codec->encode, "s1-mini codec encode", &codec->encode_states, options, c,
                        write_encode, err);
    return st;
}
