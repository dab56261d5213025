#!/usr/bin/env python3
"""Compose the training sentences from free text packages and from templates.

Sources (Debian packages): wordnet-base (definitions and example sentences), fortunes (prose), miscfiles (the US
constitution and declaration, names of countries), scowl (word lists by frequency). Everything else comes from the
templates below. Output: one sentence per line. Sentences of heldout.txt are left out.

usage: texts.py OUT.txt [--count N] [--seed S]"""
import argparse
import gzip
import pathlib
import random
import re
import zlib

HERE = pathlib.Path(__file__).resolve().parent
WORDNET = pathlib.Path("/usr/share/wordnet")
FORTUNES = pathlib.Path("/usr/share/games/fortunes")
MISC = pathlib.Path("/usr/share/misc")
SCOWL = pathlib.Path("/usr/share/dict/scowl")
STATE = pathlib.Path("/usr/share/state")
MAX_CHARS = 230
OK = re.compile(r"[A-Za-z0-9 .,?!;:'\"()$%-]+$")
WORD = re.compile(r"[A-Za-z][A-Za-z']*")
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen").split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


def spell(n):
    """Number 0..999999 in words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + ("-" + ONES[n % 10] if n % 10 else "")
    for unit, name in ((1000, "thousand"), (100, "hundred")):
        if n >= unit:
            rest = n % unit
            return spell(n // unit) + " " + name + (" " + spell(rest) if rest else "")
    return ""


def clean(text):
    """One line in the characters that we keep, or None."""
    text = text.replace("``", '"').replace("''", '"').replace("`", "'").replace("--", " - ").replace("_", " ")
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([.,?!;:])", r"\1", text)
    text = re.sub(r"\.{2,}", ".", text)
    text = re.sub(r"([!?]){2,}", r"\1", text)
    if not text or not OK.match(text) or len(text) > MAX_CHARS:
        return None
    if text.count('"') % 2 or text.count("(") != text.count(")"):
        return None
    for word in text.split():
        letters = re.sub(r"[^A-Za-z0-9]", "", word)
        if re.search(r"[A-Z]{2}", letters) or (re.search(r"\d", letters) and re.search(r"[A-Za-z]", letters)):
            return None
        if re.search(r"[A-Za-z]\.[A-Za-z]", word) or len(letters) > 18:
            return None
        if re.fullmatch(r"[A-Za-z]{1,3}\.", word) and word.lower() in {"mr.", "mrs.", "dr.", "st.", "vs.", "etc.",
                                                                       "cf.", "esp.", "ca.", "jr.", "sr.", "no."}:
            return None
    return text


def sentence(text):
    """Capital first letter and a closing mark."""
    text = text[:1].upper() + text[1:]
    return text if text[-1] in ".?!\"" else text.rstrip(",;:-") + "."


def wordnet():
    """Yield (kind, sentence): examples as they are, definitions after the word that they define."""
    for name in ("noun", "verb", "adj", "adv"):
        for line in (WORDNET / ("data." + name)).read_text("latin-1").splitlines():
            if line.startswith(" ") or "|" not in line:
                continue
            head, gloss = line.split("|", 1)
            lemma = re.sub(r"\(.*?\)", "", head.split()[4]).replace("_", " ")
            for example in re.findall(r'"([^"]{4,})"', gloss):
                yield "example", sentence(example.strip())
            definition = re.sub(r"\([^)]*\)", "", gloss.split('"')[0]).split(";")[0].strip(" ;,")
            if len(definition) > 8:
                yield "definition", (lemma, definition)


def prose(text):
    """Split running text into sentences."""
    text = re.sub(r"\s+", " ", text)
    for part in re.split(r"(?<=[.?!])\s+(?=[A-Z\"'])", text):
        if part[-1:] in ".?!" and len(part) > 6:
            yield part


def fortunes():
    for path in sorted(FORTUNES.iterdir()):
        if path.suffix or path.is_symlink() or path.name in ("ascii-art", "art", "perl", "magic"):
            continue
        for item in path.read_text("latin-1").split("\n%\n"):
            item = re.sub(r"\n\s*--.*", "", item, flags=re.S)
            yield from prose(re.sub(r"(?m)^\s*[A-Z][A-Za-z .]{0,20}:\s", "", item))


def hash_of(word):
    return zlib.crc32(word.encode())


def word_lists():
    """(very frequent, frequent, rarer words, names), all of letters and apostrophes; few possessives."""
    def read(sizes, kinds):
        words = set()
        for size in sizes:
            for kind in kinds:
                path = SCOWL / ("%s.%d" % (kind, size))
                if path.exists():
                    words.update(path.read_text("latin-1").split())
        return sorted(w for w in words if re.fullmatch(r"[A-Za-z][a-z]*('[a-z]+)?", w) and len(w) < 17
                      and (not w.endswith("'s") or hash_of(w) % 8 == 0))
    kinds = ("english-words", "american-words")
    return (read((10, 20), kinds), read((10, 20, 35), kinds + ("english-contractions",)),
            read((40, 50), kinds), read((50,), ("english-proper-names", "american-proper-names")))


def number_sentence(r):
    n = r.choice((r.randrange(13), r.randrange(100), r.randrange(1000), r.randrange(10000), r.randrange(1000000)))
    m, day, year = r.choice(MONTHS), r.randrange(1, 29), r.randrange(1700, 2060)
    nth = "%d%s" % (day, "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th"))
    hour, minute = r.randrange(1, 13), r.randrange(60)
    spelled = spell(n)
    noun = r.choice("people,houses,birds,miles,hours,days,minutes,pages,dollars,trees,cars,students,books,votes,"
                    "letters,meters,pounds,seats,ships,windows,stars,apples,chairs,years".split(","))
    return r.choice((
        "There were %d %s." % (n, noun), "There were %s %s." % (spelled, noun), "%s %s." % (spelled, noun),
        "We counted %s %s and %s more." % (spelled, noun, spell(r.randrange(100))), "Number %d." % n,
        "%d, %d, %d." % (r.randrange(100), r.randrange(100), r.randrange(100)),
        "%s, %s, %s." % tuple(spell(r.randrange(60)) for _ in range(3)),
        "It happened on %s %d, %d." % (m, day, year), "She was born in %s %d." % (m, year),
        "In %d, %s." % (year, r.choice(("the war ended", "we moved away", "nothing changed", "the bridge was built"))),
        "The meeting is on %s, %s %s." % (r.choice(DAYS), m, nth), "See you on %s the %s." % (r.choice(DAYS), nth),
        "The train leaves at %d:%02d." % (hour, minute), "Wake me at %d:%02d, please." % (hour, minute),
        "It is %d:%02d now." % (hour, minute), "It costs $%d." % n, "That is $%d for %d %s." % (n, day, noun),
        "About %d%% of the %s were lost." % (r.randrange(101), noun), "It grew by %d percent." % r.randrange(101),
        "The value is %d.%d." % (r.randrange(100), r.randrange(100)), "Chapter %d, page %d." % (day, r.randrange(400)),
        "Call %d %d %d." % (r.randrange(10), r.randrange(10), r.randrange(10)), "Room %d is on the %s floor." %
        (r.randrange(900), r.choice("first second third fourth fifth sixth seventh eighth ninth tenth".split())),
        "%d plus %d is %d." % (day, hour, day + hour), "The temperature is %d degrees." % r.randrange(-20, 110),
        "From %d to %d." % (year, year + r.randrange(1, 40)), "%d %s Street." % (n, r.choice(("Main", "Oak", "King"))),
    ))


FRAMES = (
    "Please say {w}.", "The word is {w}.", "{w}, {w} and {w}.", "{w} or {w}?", "I wrote {w} and {w} on the wall.",
    "She said {w}, then {w}, then {w}.", "Is it {w}, or is it {w}?", "He thought about {w} all day.",
    "The {w} {w} was near the {w}.", "My {w} is not your {w}.", "{w}; {w}; {w}.", "{w} {w} {w}.", "{w} {w}.", "{w}.",
    "They talked about {w}, {w}, {w} and {w}.", "A {w} for the {w}, and {w} for everyone.", "{w} {w} {w} {w} {w}.",
    "Do you know what {w} means?", "We need more {w} and less {w}.", "Some {w} may {w} with {w} {w}.",
    "From {w} to {w}, it was {w}.", "\"{w},\" said the {w}.", "Why {w}? Because {w}!", "Not {w} but {w}.", "{w}!",
    "If {w} then {w}, else {w}.", "Could the {w} have been {w}?", "Every {w} has a {w} of {w} and {w}.", "{w}?",
    "This {w}, that {w}, these {w}, those {w}.", "It was {w} in the {w}, but {w} by the {w}.", "{w} - {w} - {w}.",
)
PLACES = (
    "I come from {w}.", "{w} and {w} are friends.", "Have you been to {w}?", "{w} wrote a letter to {w}.",
    "{w} lives in {w} with {w}.", "Good morning, {w}!", "Thank you, {w}.", "Where is {w}?", "{w} met {w} in {w}.",
    "The road from {w} to {w} is long.", "Mister {w}, Missus {w} and Doctor {w}.", "{w} said hello to {w}.",
)


def fill(frame, take):
    return sentence(re.sub(r"\{w\}", lambda _: take(), frame))


def compose(count, seed):
    """The list of sentences, in random order."""
    r = random.Random(seed)
    top, frequent, rarer, names = word_lists()
    found, definitions = [], []
    for kind, item in wordnet():
        (definitions if kind == "definition" else found).append(item)
    for lemma, gloss in definitions:
        draw = r.random()
        found.append(sentence(gloss) if draw < 0.5 else sentence("%s: %s." % (lemma, gloss)) if draw < 0.7 else
                     sentence("%s means %s." % (lemma, gloss)) if draw < 0.8 else
                     "What is the word for %s?" % gloss if draw < 0.9 else "I would call that %s." % gloss)
    found.extend(fortunes())
    for name in ("us-constitution.gz", "us-declaration.gz"):
        found.extend(prose(gzip.decompress((STATE / name).read_bytes()).decode("latin-1")))
    lines = (HERE / "heldout.txt").read_text().splitlines()
    held_out = set(lines).union(*map(prose, lines))
    found = sorted({t for t in map(clean, found) if t and t not in held_out})
    r.shuffle(found)

    made = [number_sentence(r) for _ in range(count // 14)]
    countries = gzip.decompress((MISC / "countries.gz").read_bytes()).decode("latin-1").splitlines()
    places = [f[3] for f in (line.split(":") for line in countries) if len(f) > 4 and clean(f[3])] * 6 + names
    r.shuffle(places)
    names_left = iter(places)
    while True:
        try:
            made.append(fill(r.choice(PLACES), lambda: next(names_left)))
        except (StopIteration, RuntimeError):
            break
    found = (found * 2)[:count * 7 // 10]           # the second time mostly with another teacher
    seen = {}
    for text in found + made:
        for word in WORD.findall(text.lower()):
            seen[word] = seen.get(word, 0) + 1
    short = [w for goal, words in ((8, top), (5, frequent), (2, rarer)) for w in words
             for _ in range(goal - seen.get(w.lower(), 0))]
    r.shuffle(short)
    words_left = iter(short)
    while True:
        try:
            made.append(fill(r.choice(FRAMES), lambda: next(words_left)))
        except (StopIteration, RuntimeError):
            break
    made = [t for t in map(clean, made) if t and t not in held_out]
    r.shuffle(made)
    texts = found + made
    while len(texts) < count:
        texts.append(fill(r.choice(FRAMES), lambda: r.choice(top if r.random() < 0.4 else frequent)))
    r.shuffle(texts)
    texts = texts[:count]
    for i in range(0, len(texts) - 3, 5):          # some texts of two to four sentences
        joined = " ".join(texts[i:i + r.choice((2, 2, 3, 4))])
        if len(joined) <= MAX_CHARS:
            texts[i] = joined
    return texts


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("--count", type=int, default=120000)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    texts = compose(args.count, args.seed)
    pathlib.Path(args.out).write_text("\n".join(texts) + "\n")
    print("%d sentences, %.1f characters on average" % (len(texts), sum(map(len, texts)) / len(texts)))


if __name__ == "__main__":
    main()
