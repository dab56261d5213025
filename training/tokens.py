"""The tokenizer: one token per UTF-8 byte, plus whole tokens for the pieces of the speaker mark.

Letters are the best units for learning how words sound. `speaker`, `<|` and `|>` are in the table because every prompt
holds "<|speaker:0|>", which S1 encodes as ordinary text: five tokens instead of fourteen."""
import base64
import json
import re

MARK_PIECES = ("<|", "|>", "speaker")
SPECIALS = ("begin_of_text end_of_text pad im_start im_end phoneme_start phoneme_end tool_call_start tool_call_end "
            "text voice interleave audio_start audio_end audio").split()
CHANGES = str.maketrans({"'": "\u2019", "-": "\u2013"})


class Tokenizer:
    def __init__(self, semantic):
        self.mergeable = [bytes([i]) for i in range(256)] + [m.encode() for m in MARK_PIECES]
        rank = {m: i for i, m in enumerate(self.mergeable)}
        self.special = {"<|%s|>" % s: len(rank) + i for i, s in enumerate(SPECIALS)}
        self.begin = len(rank) + len(SPECIALS)
        for i in range(semantic):
            self.special["<|semantic:%d|>" % i] = self.begin + i
        self.vocab_size = -(-(self.begin + semantic) // 16) * 16
        self.interleave, self.im_end = self.special["<|interleave|>"], self.special["<|im_end|>"]
        self.mark = [rank[b"<|"], rank[b"speaker"], rank[b":"], rank[b"0"], rank[b"|>"]]
        self.rank = rank

    def text(self, text):
        """Token ids of a text without special tokens."""
        ids = []
        for piece in re.findall(r"<\||\|>|(?<![^\W\d_ ])speaker(?![^\W\d_])|.", text, re.S):
            ids += [self.rank[piece.encode()]] if piece in ("<|", "|>") else list(piece.encode())
        return ids

    def write(self, folder):
        with open(folder / "tokenizer.tiktoken", "w") as f:
            for i, token in enumerate(self.mergeable):
                f.write("%s %d\n" % (base64.b64encode(token).decode(), i))
        (folder / "special_tokens.json").write_text(json.dumps(self.special, indent=0) + "\n")


def vary(text, r):
    """What a user may type for the same words: other quotes and dashes, all lower case, no closing full stop."""
    draw = r.random()
    if draw < 0.06:
        return text.translate(CHANGES)
    if draw < 0.12:
        return text.lower()
    if draw < 0.18 and text.endswith("."):
        return text[:-1]
    if draw < 0.20:
        return text.replace(" - ", " \u2014 ").replace('"', "\u201d")
    if draw < 0.21:
        return text.upper()
    return text
