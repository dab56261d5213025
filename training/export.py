#!/usr/bin/env python3
"""Write the trained parts as a checkpoint in the official layout, and make the voices from reference sentences.

usage: export.py CODEC.pt LM.pt OUTDIR      (needs flite and festival, which speak the references)"""
import collections
import json
import pathlib
import sys
import tempfile

import numpy as np
import torch

from blocks import rope_table
from codec import Codec
from lm import DualAR
from synthesise import speak
from tokens import Tokenizer

HERE = pathlib.Path(__file__).resolve().parent
REFERENCE = "The morning was bright and clear, and we walked down to the harbor."
VOICES = {"slt": ("slt", "female, US English, taught by flite's voice slt"),
          "rms": ("rms", "male, US English, taught by flite's voice rms"),
          "slt-hts": ("slt-hts", "female, US English, taught by festival's voice cmu_us_slt_arctic_hts")}
DEFAULTS = {"temperature": 0.0, "top_p": 0.8, "repetition_penalty": 1.0, "max_chunk_chars": 200,
            "frames_per_char_limit": 2.5, "default_voice": "slt"}


def codec_tensors(codec, c):
    """Half precision tensors under the official names, with the small RoPE tables."""
    out = collections.OrderedDict((name, t.detach().half().contiguous()) for name, t in codec.state_dict().items())
    table = rope_table(c["rope_rows"], c["head_dim"], c["rope_base"]).bfloat16()
    last = len(c["strides"])
    for name in ("encoder.block.%d.block.5" % last, "quantizer.pre_module", "quantizer.post_module"):
        out[name + ".freqs_cis"] = table.clone()
    return out


def main():
    codec_path, lm_path, out = sys.argv[1:]
    out = pathlib.Path(out)
    (out / "voices").mkdir(parents=True, exist_ok=True)
    config = json.loads((HERE / "config.json").read_text())
    c, lm = config["codec"], config["lm"]
    tok = Tokenizer(lm["codebook_size"])
    tok.write(out)
    utter = {"sample_rate": c["sample_rate"], "fast_codes": lm["codebook_size"],
             "encoder_window": c["encoder_window"], "window": c["window"], "codec_norm_eps": c["norm_eps"],
             "codec_rope_base": c["rope_base"], "dilations": c["dilations"], **DEFAULTS}
    (out / "config.json").write_text(json.dumps({**lm, "vocab_size": tok.vocab_size, "utter": utter}, indent=2) + "\n")

    model = DualAR(dict(lm, vocab_size=tok.vocab_size), tok.begin)
    model.load_state_dict(torch.load(lm_path, map_location="cpu"))
    torch.save({name: t.detach().bfloat16().contiguous() for name, t in model.state_dict().items()}, out / "model.pth")
    codec = Codec(c).eval()
    codec.load_state_dict(torch.load(codec_path, map_location="cpu")["codec"])
    tensors = codec_tensors(codec, c)
    torch.save(tensors, out / "codec.pth")

    codec.load_state_dict({name: t.float() for name, t in tensors.items() if "freqs_cis" not in name})
    for name, (teacher, description) in VOICES.items():
        with tempfile.TemporaryDirectory() as folder:
            wav = speak(teacher, [REFERENCE], folder)[0]
        wav = np.pad(wav, (0, -len(wav) % codec.hop))
        with torch.no_grad():
            codes = codec.encode(torch.from_numpy(wav)[None, None])[0]
        voice = {"name": name, "description": description, "language": "en", "text": REFERENCE,
                 "codes": codes.tolist()}
        (out / "voices" / (name + ".json")).write_text(json.dumps(voice, separators=(",", ":")) + "\n")
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    print("%s: %.2f MB" % (out, size / 1e6))


if __name__ == "__main__":
    main()
