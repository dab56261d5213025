#!/usr/bin/env python3
"""Compare the peers with what the reference implementations computed, on the CPU:

    python3 bench/peers/check.py [CASES]      default: tests/data, as in this repository

The recorded checkpoints are tiny; every dimension of them differs from the others, so what holds
here holds at full size.
"""
import json
import os
import struct
import sys

import numpy as np
import torch
from torch.nn import functional as F

import layers
import qwen3_tts
import s1_mini

worst = 0.0


def close(name, got, want, limit):
    global worst
    error = (got.double() - want.double()).abs().max().item() if got.shape == want.shape else 1e9
    worst = max(worst, error / limit if limit else (1e9 if error else 0.0))
    print("%-4s %-34s %.1e (limit %.0e)" % ("ok" if error <= limit else "FAIL", name, error, limit))


def read_tensors(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    meta = header.pop("__metadata__", {})
    kinds = {"F32": np.float32, "I32": np.int32, "I64": np.int64, "U8": np.uint8, "I8": np.int8}
    out = {}
    for name, t in header.items():
        a, b = (8 + n + o for o in t["data_offsets"])
        if t["dtype"] == "BF16":
            x = (np.frombuffer(raw[a:b], np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            x = np.frombuffer(raw[a:b], kinds[t["dtype"]])
        out[name] = torch.from_numpy(x.reshape(t["shape"]).copy())
    return out, meta


def fill(p, *parts):
    w = torch.cat([x.float() for x in parts])
    assert p.shape == w.shape, (p.shape, w.shape)
    p.data.copy_(w)


def fill_joint(joint, parts):
    for p, group in zip(joint.w, [parts] if len(joint.w) == 1 else [[x] for x in parts]):
        fill(p, *group)


# ---- S1-mini -------------------------------------------------------------------------------------


def fill_s1_stack(stack, w, prefix):
    for i, layer in enumerate(stack.layers):
        p = "%s.%d." % (prefix, i)
        fill(layer.attention_norm, w[p + "attention_norm.weight"])
        fill(layer.ffn_norm, w[p + "ffn_norm.weight"])
        fill_joint(layer.qkv, [w[p + "attention.wqkv.weight"]])
        fill(layer.wo, w[p + "attention.wo.weight"])
        fill_joint(layer.gate_up, [w[p + "feed_forward.w%d.weight" % k] for k in (1, 3)])
        fill(layer.down, w[p + "feed_forward.w2.weight"])
        if stack.c["qk_norm"]:
            fill(layer.q_norm, w[p + "attention.q_norm.weight"])
            fill(layer.k_norm, w[p + "attention.k_norm.weight"])


def s1_model(folder, meta, joined, attention):
    c = json.load(open(os.path.join(folder, "config.json")))
    common = dict(eps=c["norm_eps"], rope_base=c["rope_base"], pairs=True, qkv_is_one=True,
                  attention=attention)
    slow = dict(common, dim=c["dim"], layers=c["n_layer"], heads=c["n_head"],
                kv_heads=c["n_local_heads"], head_dim=c["head_dim"], ffn=c["intermediate_size"],
                qk_norm=True)
    fast = dict(common, dim=c["fast_dim"], layers=c["n_fast_layer"], heads=c["fast_n_head"],
                kv_heads=c["fast_n_local_heads"], head_dim=c["fast_head_dim"],
                ffn=c["fast_intermediate_size"], qk_norm=False)
    model = s1_mini.DualAR(dict(
        s1_mini.FULL, vocab=c["vocab_size"], codebook_size=c["codebook_size"],
        codebooks=c["num_codebooks"], semantic_begin=int(meta["semantic_begin_id"]),
        stop=int(meta["im_end_id"]), fast_codes=min(1024, c["codebook_size"]), whole_head=True,
        slow=slow, fast=fast), 128, joined)
    w = torch.load(os.path.join(folder, "model.pth"))
    for name in ("embeddings", "codebook_embeddings", "output", "fast_embeddings"):
        fill(getattr(model, name), w[name + ".weight"])
    fill(model.fast_output, w["fast_output.weight"][:model.c["fast_codes"]])
    fill(model.slow.norm, w["norm.weight"])
    fill(model.fast.norm, w["fast_norm.weight"])
    fill_s1_stack(model.slow, w, "layers")
    fill_s1_stack(model.fast, w, "fast_layers")
    return model


def s1_run(model, prompt, frames, temperature, top_p, penalty, noise=None):
    model.c.update(temperature=temperature, top_p=top_p, penalty=penalty)
    columns = [model.prefill(prompt)]
    while len(columns) < frames:
        columns.append(model.frame())
    return torch.stack(columns, 1)


def check_s1(folder, joined, attention):
    g, meta = read_tensors(os.path.join(folder, "golden.safetensors"))
    model = s1_model(folder, meta, joined, attention)
    tokens = g["slow/mixed/tokens"].long()
    hidden, normed = model.slow(model.embed(tokens), torch.arange(tokens.shape[1]))
    close("slow hidden", hidden[-6:], g["slow/mixed/hidden"], 1e-3)
    close("slow logits", normed[-1] @ model.output.T, g["slow/mixed/logits_last"], 1e-3)
    for frame in (0, 3, 7):
        codes = g["gen/greedy/tokens"][1:, frame].long()
        hidden = g["gen/greedy/hidden"][frame:frame + 1]
        rows = torch.cat((hidden, model.fast_embeddings[codes[:-1]]))
        y = [model.fast(rows[:2], model.place[:2, 0])[1]]
        for k in range(2, len(rows)):
            y.append(model.fast(rows[k:k + 1], model.place[k, :1])[1])
        want = g["gen/greedy/fast_logits"][frame][:, :model.c["fast_codes"]]
        close("fast logits, frame %d" % frame, torch.cat(y) @ model.fast_output.T, want, 1e-3)
    text = g["prompt/text_only/tokens"].long()
    for name, prompt, params in (("greedy", text, (0.7, 1e-6, 1.0)),
                                 ("clone2", g["prompt/clone2/tokens"].long(), (0.7, 1e-6, 1.0)),
                                 ("reppen", text, g["gen/reppen/params"].tolist())):
        want = g["gen/%s/tokens" % name]
        close("%s, %d frames" % (name, want.shape[1]),
              s1_run(model, prompt, want.shape[1], *params), want, 0)
    check_s1_noise(model, text, g)


def check_s1_noise(model, prompt, g):
    """A sampled run with the recorded noise, which is by id and here by rank."""
    want = g["gen/sampled/tokens"]
    rows = iter([r for f in range(want.shape[1])
                 for r in (g["gen/sampled/noise_slow"][f], *g["gen/sampled/noise_fast"][f])])
    kept = s1_mini.draw
    s1_mini.draw = lambda p, order: order[(p / next(rows)[order]).argmax(-1, keepdim=True)]
    close("sampled, recorded noise",
          s1_run(model, prompt, want.shape[1], *g["gen/sampled/params"].tolist()), want, 0)
    s1_mini.draw = kept


# ---- Qwen3-TTS -----------------------------------------------------------------------------------


def fill_qwen_stack(stack, w, prefix):
    for i, layer in enumerate(stack.layers):
        p = "%slayers.%d." % (prefix, i)
        fill(layer.attention_norm, w[p + "input_layernorm.weight"])
        fill(layer.ffn_norm, w[p + "post_attention_layernorm.weight"])
        fill_joint(layer.qkv, [w[p + "self_attn.%s_proj.weight" % n] for n in "qkv"])
        fill(layer.wo, w[p + "self_attn.o_proj.weight"])
        fill_joint(layer.gate_up, [w[p + "mlp.%s_proj.weight" % n] for n in ("gate", "up")])
        fill(layer.down, w[p + "mlp.down_proj.weight"])
        fill(layer.q_norm, w[p + "self_attn.q_norm.weight"])
        fill(layer.k_norm, w[p + "self_attn.k_norm.weight"])
    fill(stack.norm, w[prefix + "norm.weight"])


def qwen_stack(c, attention):
    return dict(dim=c["hidden_size"], layers=c["num_hidden_layers"], heads=c["num_attention_heads"],
                kv_heads=c["num_key_value_heads"], head_dim=c["head_dim"],
                ffn=c["intermediate_size"], eps=c["rms_norm_eps"], rope_base=c["rope_theta"],
                qk_norm=True, pairs=False, qkv_is_one=False, attention=attention)


def qwen_model(folder, pad, joined, attention):
    t = json.load(open(os.path.join(folder, "config.json")))["talker_config"]
    w, _ = read_tensors(os.path.join(folder, "model.safetensors"))
    p = t["code_predictor_config"]
    stop, ids = t["codec_eos_token_id"], t["vocab_size"]
    model = qwen3_tts.TalkerAndPredictor(
        dict(qwen3_tts.SMALL, codes=p["vocab_size"], ids=ids, stop=stop,
             groups=t["num_code_groups"], talker=qwen_stack(t, attention),
             predictor=qwen_stack(p, attention), top_k=1), 128, joined)
    tables = ((model.group_embedding, "model.codec_embedding"), (model.lm_head, "lm_head"))
    for table, name in tables:
        for i in range(table.shape[0]):
            fill(table[i], w["talker.code_predictor.%s.%d.weight" % (name, i)])
    fill(model.codec_embedding, w["talker.model.codec_embedding.weight"])
    head = w["talker.codec_head.weight"]
    fill(model.codec_head, head[:model.c["codes"]], head[stop:stop + 1])
    if model.projects:
        fill(model.projection, w["talker.code_predictor.small_to_mtp_projection.weight"])
        fill(model.projection_bias, w["talker.code_predictor.small_to_mtp_projection.bias"])
    fill(model.pad, pad)
    fill_qwen_stack(model.talker, w, "talker.model.")
    fill_qwen_stack(model.predictor, w, "talker.code_predictor.model.")
    return model


def check_qwen(folder, joined, attention):
    """The recorded case "cv": its text is all in the prompt, so each step adds the pad alone."""
    g, _ = read_tensors(os.path.join(folder, "golden.safetensors"))
    model = qwen_model(os.path.join(folder, "custom_voice"), g["tts_pad_embed"], joined, attention)
    n = model.c["codes"]
    prompt, want = g["prompt.cv.embeds"], g["gen.cv.codes"].long()
    codes = [model.prefill(prompt)]
    close("input of step 0", model.input[0], g["gen.cv.step_input"][0], 1e-3)
    while len(codes) < want.shape[0]:
        codes.append(model.frame())
    close("greedy, %d frames" % want.shape[0], torch.stack(codes), want, 0)
    rows = torch.cat([prompt] + [model.embed(c) for c in want])
    states = model.talker(rows, torch.arange(rows.shape[0]))[1]
    close("talker, prompt", states[:prompt.shape[0]], g["gen.cv.prefill_hidden"], 1e-3)
    states = states[prompt.shape[0] - 1:]
    close("talker logits, given codes", states @ model.codec_head[:n].T,
          g["gen.cv.logits"][:, :n], 1e-3)
    for frame in (0, 7):
        rows = torch.cat((states[frame:frame + 1], model.codec_embedding[want[frame, :1]]))
        y = [model.predictor(model.to_predictor(rows), model.place[:2, 0])[1][1:]]
        for k in range(2, model.c["groups"]):
            row = model.to_predictor(model.group_embedding[k - 2][want[frame, k - 1:k]])
            y.append(model.predictor(row, model.place[k, :1])[1])
        got = torch.einsum("gd,gnd->gn", torch.cat(y), model.lm_head)
        close("predictor logits, frame %d" % frame, got, g["gen.cv.code_predictor_logits"][frame],
              1e-3)


def check_shapes():
    """One frame of each at full size, a few layers deep."""
    torch.set_default_dtype(torch.bfloat16)
    shallow = lambda c, *names: dict(c, **{n: dict(c[n], layers=2) for n in names})
    for name, model in (
            ("s1-mini", s1_mini.DualAR(shallow(s1_mini.FULL, "slow", "fast"), 32, True)),
            ("0.6B", qwen3_tts.TalkerAndPredictor(shallow(qwen3_tts.SMALL, "talker"), 32, True)),
            ("1.7B", qwen3_tts.TalkerAndPredictor(shallow(qwen3_tts.LARGE, "talker"), 32, True))):
        layers.randomise(model)
        model.start(10)
        frames = torch.stack([model.frame() for _ in range(3)])
        distinct = frames.unique().numel()
        close("%s, bf16, %d distinct ids in 3 frames" % (name, distinct),
              torch.tensor(float(distinct > 10)), torch.tensor(1.0), 0)
    torch.set_default_dtype(torch.float32)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    cases = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "..", "tests", "data")
    with torch.no_grad():
        for joined, attention in ((False, "math"), (True, "math"), (True, "sdpa")):
            if attention == "sdpa" and not hasattr(F, "scaled_dot_product_attention"):
                print("skipped: this PyTorch has no scaled_dot_product_attention")
                continue
            print("products %s, attention %s" % ("joined" if joined else "as stored", attention))
            check_s1(os.path.join(cases, "s1-mini", "case"), joined, attention)
            check_qwen(os.path.join(cases, "qwen3-tts", "case"), joined, attention)
        check_shapes()
    sys.exit(worst > 1)
