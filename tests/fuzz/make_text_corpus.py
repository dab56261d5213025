#!/usr/bin/env python3
"""Writes the first inputs of fuzz_tokenizer and fuzz_sentences to corpus/."""
import base64
import os

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def write(folder, name, data):
    with open(os.path.join(HERE, folder, name), "wb") as f:
        f.write(data)


def ranks(extra=(), newline="\n"):
    tokens = [bytes([b]) for b in range(256)] + list(extra)
    return "".join(base64.b64encode(t).decode() + f" {i}" + newline for i, t in enumerate(tokens))


TEXT = ("Mr. Smith's 3.14, \u201cReally?\u201d he asked\u2026 \"No!\" (It was late.) e.g. U.S. law \u2014 a, b; c:\r\n\r\n"
        "\u4f60\u597d\u3002\u201c\u597d\u5417\uff1f\u201d\u4ed6\u95ee\u3002 \u00ab\u00a0Oui.\u00a0\u00bb \u0939\u0948\u0964 \U0001f468\u200d\U0001f469 e\u0301 \u2029?! x\t?!y  ?!z 1,000 ***")

write("tokenizer", "load", b"L" + (ranks([b"aa", b"Hello"]) + "\n---\n" + '{"<|a|>": 258}').encode())
write("tokenizer", "load-crlf", b"L" + (ranks([], "\r\n") + "= 9\n---\n{}").encode())
write("tokenizer", "load-missing", b"LYQ== 0\nYWI= 1\n---\n{}")
write("tokenizer", "load-bad", b"LYQ= 0\n---\n[]")
write("tokenizer", "text", b"T" + TEXT.encode())
write("tokenizer", "merges", b"T" + b"aaaaaaaabababa aab\n\n\n  \n<|a|>b<|a|><<|a|>" + "\u00f6\u017f'\u017f".encode())
write("tokenizer", "invalid", b"Tab\xc3")
write("sentences", "mixed", b"\x18\x02" + TEXT.encode())
write("sentences", "long", b"\x00\x07" + b"abcdefghijklmnopqrstuvwxyz" * 4 + "\u0301".encode() * 40)
write("sentences", "marks", b"\x40\x00" + b"!!!...?\"')]" * 20 + b" . . . \n \n" + b" " * 80)
write("sentences", "invalid", b"\x10\x01Hello. \xe4\xbd\xa0 \xe4\xbd")
