#!/usr/bin/env python3
"""Writes bpe_cases.h: a small byte-level vocabulary (byte b is token b, then the tokens that the
header lists), and texts with the tokens that they must give.

The tokens come from this file alone, in the most literal way there is: Python's own backtracking
regular expressions with the tokeniser's pattern (the categories spelt out as character classes,
since `re` has no \\p), and a merge loop that searches all pairs again after each merge.

    python3 make_bpe_cases.py > bpe_cases.h          the header
    python3 make_bpe_cases.py --random N SEED DIR    N random texts for a program to compare
"""
import base64
import random
import re
import sys
import unicodedata

WHITE_SPACE = [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
               0x202F, 0x205F, 0x3000]

TRAINING = """
The quick brown fox jumps over the lazy dog. She said that they're here, and we've been there since
three o'clock; it's what I'd call the other thing, and he'll think so too. There is nothing in the
world that another one would not do for the same reason. Numbers like 1984, 3.14 and 42 are spelt
digit by digit. (excited) wow!!! -- really? ... Ellipses... and more: "quoted" things.
Der schnelle braune Fuchs springt \u00fcber den faulen Hund. \u00c7a d\u00e9pend, na\u00efve caf\u00e9 d\u00e9j\u00e0 vu.
\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u041a\u0430\u043a \u0434\u0435\u043b\u0430? \u4f60\u597d\uff0c\u4e16\u754c\u3002\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff01 \u3053\u3093\u306b\u3061\u306f\u3001\u4e16\u754c\u3002
\U0001f600\U0001f600 \U0001f389  \t\t\n\n    spaces        and        more        spaces
aaaa aaaaaaaa <|speaker:0|> <|speaker:1|> hello hello helllllo
"""
N_MERGES = 200
SPECIALS = ["<|begin|>", "<|im_end|>", "<|im_end|>x", "<|semantic:0|>", "<|semantic:1|>",
            "<|semantic:10|>"]

CASES = [
    # text, whether special tokens are recognised
    ("Hello world.", False),
    ("The quick brown fox's tail; they're, we'VE, I'll, he'D, it'\u017f, 'twas 'S", False),
    ("'re're ''s 'L 'l 'LL'ST'", False),
    ("I have 1234 things, 3.14 and \u00bd \u0664\u0665 \u2167", False),
    ("wow!!! -- really?\r\n\r\n \t ...ok (excited)\n", False),
    ("  two  spaces\tand\ttabs \n\n new line \r\n end   ", False),
    ("a ?!b  ?!c \t?!d\n?!e \u3000?! f  ?!\u4f60  ?!", False),
    ("nbsp\u00a0here\u3000wide\u2003em\u0085nel\u200bzero\u180emongol", False),
    ("\u4f60\u597d\uff0c\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f \uc548\ub155\ud558\uc138\uc694", False),
    ("e\u0301 combining \u0301x \u0915\u094d\u0937\u093f", False),
    ("emoji \U0001f600\U0001f389x \U0001f468\u200d\U0001f469\u200d\U0001f467!", False),
    ("$5 + \u20ac7 = x^2 <= y && z || {a: [b]} ~tilde`tick_under-dash", False),
    ("\x00\x01control\x1f\x7f", False),
    ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", False),
    ("<|speaker:0|>literal <|im_end|> and <|semantic:1|>x<|not_special|>", False),
    ("<|speaker:0|>literal <|im_end|> and <|semantic:1|>x<|not_special|>", True),
    ("<|im_end|>x<|im_end|>y<|im_end<|im_end|><|semantic:10|><|semantic:1", True),
    ("<|begin|>", True),
    ("", True),
]


def char_class(prefix):
    """The members of a general category as the inside of a character class."""
    out, cp = [], 0
    while cp < 0x110000:
        if unicodedata.category(chr(cp))[0] == prefix:
            end = cp
            while end < 0x10FFFF and unicodedata.category(chr(end + 1))[0] == prefix:
                end += 1
            out.append(f"\\U{cp:08x}-\\U{end:08x}")
            cp = end
        cp += 1
    return "".join(out)


def pattern():
    letter, number, punct = char_class("L"), char_class("N"), char_class("P")
    space = "".join(f"\\U{c:08x}" for c in WHITE_SPACE)
    return re.compile(
        rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[{punct}]|[^\r\n{letter}{number}]?[{letter}]+|[{number}]"
        rf"| ?[^{space}{letter}{number}]+[\r\n]*|[{space}]*[\r\n]+|[{space}]+(?:\?![^{space}])"
        rf"|[{space}]+")


def train(text, split):
    pieces = [[bytes([b]) for b in m.group().encode()] for m in split.finditer(text)]
    ranks = {bytes([b]): b for b in range(256)}
    while len(ranks) < 256 + N_MERGES:
        count = {}
        for p in pieces:
            for pair in zip(p, p[1:]):
                count[pair] = count.get(pair, 0) + 1
        best = max(count, key=lambda k: (count[k], k))  # any fixed order will do
        ranks.setdefault(best[0] + best[1], len(ranks))
        for p in pieces:
            i = 0
            while i + 1 < len(p):
                if (p[i], p[i + 1]) == best:
                    p[i:i + 2] = [p[i] + p[i + 1]]
                i += 1
    return ranks


def merge(piece, ranks):
    if piece in ranks:
        return [ranks[piece]]
    parts = [bytes([b]) for b in piece]
    while len(parts) > 1:
        rank, i = min((ranks.get(parts[i] + parts[i + 1], 1 << 30), i)
                      for i in range(len(parts) - 1))
        if rank == 1 << 30:
            break
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return [ranks[p] for p in parts]


def encode(text, specials, split, ranks):
    ids, chunks = [], [text]
    if specials:
        longest_first = sorted(SPECIALS, key=len, reverse=True)
        chunks = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text)
    for i, chunk in enumerate(chunks):
        if i % 2:
            ids.append(len(ranks) + SPECIALS.index(chunk))
        else:
            assert "".join(m.group() for m in split.finditer(chunk)) == chunk
            for m in split.finditer(chunk):
                ids += merge(m.group().encode(), ranks)
    return ids


def c_string(data):
    """A C string literal; octal, because a hexadecimal escape has no end."""
    return '"' + "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}"
                         for b in data) + '"'


def write_header(split, ranks):
    print("/* bpe_cases.h - a small vocabulary and what texts become with it. Generated by\n"
          " * make_bpe_cases.py; do not edit. */\n"
          "#ifndef UT_TESTS_BPE_CASES_H\n#define UT_TESTS_BPE_CASES_H\n\n"
          "#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n\n"
          "/* clang-format off */\n"
          "/* Lines of a rank file that follow those of the 256 single bytes. */\n"
          "static const char bpe_merged[] =")
    lines = [base64.b64encode(t).decode() + f" {r}" for t, r in ranks.items() if r >= 256]
    for i in range(0, len(lines), 6):
        print('    "' + "".join(x + "\\n" for x in lines[i:i + 6]) + '"')
    print(f"    ;\n#define BPE_N_RANKS {len(ranks)}\n\nstatic const char bpe_specials[] =")
    print('    "{' + ", ".join(f'\\"{s}\\": {len(ranks) + i}' for i, s in enumerate(SPECIALS))
          + '}";\n')
    print("typedef struct bpe_case {\n    const char *text;\n    size_t n;\n    bool specials;\n"
          "    int n_ids;\n    int16_t ids[80];\n} bpe_case;\n\n"
          "static const bpe_case bpe_cases[] = {")
    for text, specials in CASES:
        data, ids = text.encode(), encode(text, specials, split, ranks)
        assert len(ids) <= 80
        print(f"    {{{c_string(data)},\n     {len(data)}, {str(specials).lower()}, {len(ids)},")
        rows = [", ".join(map(str, ids[i:i + 18])) for i in range(0, len(ids), 18)] or ["0"]
        print("     {" + ",\n      ".join(rows) + "}},")
    print("};\n/* clang-format on */\n\n#endif")


def write_random(n, seed, folder, split, ranks):
    """folder/tokenizer.tiktoken, special_tokens.json, texts (UTF-8, a 0x1e after each) and ids
    (a line each)."""
    rng = random.Random(seed)
    letters = ["'s", "'S", "'\u017f", "'re", "'vE", "'ll", "'", " ", " ", "  ", "\t", "\n", "\r\n", "\r",
               "\u3000", "\u00a0", "\u0085", "?!", "?", "!", "a", "the", "ing", "Z", "\u00e9", "\u4f60\u597d", "\u3002", "5",
               "\u0664", "\u00bd", "\u0301", "\u200d", "$", "+", "<|", "|>", ".", "--", "\U0001f600", "\u2028",
               "aaaa", "\u1680", "\u017f", "\u212a", "(", "\x00", "\x1d"]
    with open(folder + "/tokenizer.tiktoken", "w") as f:
        f.writelines(base64.b64encode(t).decode() + f" {r}\n" for t, r in ranks.items())
    with open(folder + "/special_tokens.json", "w") as f:
        f.write("{" + ", ".join(f'"{s}": {len(ranks) + i}' for i, s in enumerate(SPECIALS)) + "}")
    with open(folder + "/texts", "wb") as texts, open(folder + "/ids", "w") as ids:
        for _ in range(n):
            t = "".join(rng.choice(letters) if rng.random() < 0.95 else
                        chr(rng.choice([*range(0x20, 0xD800), *range(0xE000, 0x11000)]))
                        for _ in range(rng.randrange(1, 14)))
            texts.write(t.encode() + b"\x1e")
            ids.write(" ".join(map(str, encode(t, False, split, ranks))) + "\n")


if __name__ == "__main__":
    SPLIT = pattern()
    RANKS = train(TRAINING, SPLIT)
    if len(sys.argv) == 5 and sys.argv[1] == "--random":
        write_random(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], SPLIT, RANKS)
    else:
        write_header(SPLIT, RANKS)
