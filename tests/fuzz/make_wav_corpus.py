#!/usr/bin/env python3
"""Writes the first inputs of fuzz_wav to corpus/wav."""
import os
import struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "wav")
GUID = bytes([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71])


def chunk(name, body, size=None):
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def form(tag, channels, rate, bits, extensible=False):
    width = (bits + 7) // 8
    head = struct.pack("<HHIIHH", 0xFFFE if extensible else tag, channels, rate,
                       rate * channels * width, channels * width, bits)
    return chunk(b"fmt ", head + (struct.pack("<HHIH", 22, bits, 0x63F, tag) + GUID if extensible else b""))


def write(name, *chunks, riff=b"RIFF"):
    body = b"WAVE" + b"".join(chunks)
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(riff + struct.pack("<I", len(body)) + body)


ramp = bytes(range(48))
write("pcm8", form(1, 1, 8000, 8), chunk(b"data", ramp[:7]))
write("pcm16", form(1, 1, 44100, 16), chunk(b"data", ramp))
write("pcm24-stereo", form(1, 2, 48000, 24), chunk(b"data", ramp))
write("pcm32-surround", form(1, 6, 96000, 32, True), chunk(b"data", ramp))
write("float", form(3, 1, 22050, 32), chunk(b"data", struct.pack("<4f", 0, 1, -1, 0.5)))
write("double", form(3, 1, 22050, 64, True), chunk(b"data", struct.pack("<2d", 1e300, -0.5)))
write("not-a-number", form(3, 1, 22050, 32), chunk(b"data", struct.pack("<2f", float("nan"), 1)))
write("odd-chunks", chunk(b"JUNK", b"abc"), form(1, 1, 8000, 16), chunk(b"LIST", b"x"), chunk(b"data", ramp))
write("until-the-end", form(1, 1, 8000, 16), chunk(b"data", ramp, 0xFFFFFFFF))
write("claims-4-gb", form(1, 64, 768000, 8), chunk(b"data", ramp + ramp[:16], 0xFFFFFF00))
write("rf64", chunk(b"ds64", struct.pack("<QQQI", 99, 8, 4, 0)), form(1, 1, 8000, 16),
      chunk(b"data", ramp, 0xFFFFFFFF), riff=b"RF64")
write("a-law", form(6, 1, 8000, 8), chunk(b"data", ramp))
write("truncated", form(1, 2, 8000, 16), chunk(b"data", ramp[:7], 48))
