#!/usr/bin/env python3
"""A report in Markdown from what bench_cuda, bench_speech and peers/bench.py measured.

    python3 bench/report.py RESULTS.jsonl [--title TEXT]

A figure that was not measured shows as a dash: there is no row without a number behind it.
"""
import json
import sys

S1, SMALL, LARGE = "s1-mini", "qwen3-tts-0.6b", "qwen3-tts-1.7b"
PEERS = {S1: "s1-mini", SMALL: "0.6B", LARGE: "1.7B"}
FRAME_MS = {S1: 2048 / 44.1, SMALL: 80.0, LARGE: 80.0}
# What, figure, slots, unit, to reach, then; the lowest is best but for "s/s"
ROWS = {
    S1: [("time per frame", "frame_ms", 1, "ms", 1.5, 1.0),
         ("time per frame, codec beside it", "frame_with_codec_ms", 1, "ms", None, None),
         ("first PCM, prompt of 100 tokens", "first_pcm_ms", 1, "ms", 20, 10),
         ("first PCM through the library, text of 30 words", "speech_first_pcm_ms", 1, "ms", None,
          None),
         ("prefill of 1,000 tokens", "prefill_1000_ms", 1, "ms", 12, 6),
         ("32 slots, audio", "audio_s_per_s", 32, "s/s", 300, 800),
         ("load, page cache warm, to first PCM", "load_to_first_pcm_ms", 1, "ms", 2500, 1000)],
    SMALL: [("time per frame", "frame_ms", 1, "ms", 2.1, 1.5),
            ("time per frame, codec beside it", "frame_with_codec_ms", 1, "ms", None, None),
            ("first PCM, text of 30 words, no prefix kept", "first_pcm_all_ms", 1, "ms", 20, 10),
            ("first PCM, prefix kept", "first_pcm_kept_ms", 1, "ms", 10, 6),
            ("prefill of 1,000 tokens", "prefill_1000_ms", 1, "ms", None, None),
            ("load, page cache warm, to first PCM", "load_to_first_pcm_ms", 1, "ms", None, None)],
    LARGE: [("time per frame", "frame_ms", 1, "ms", 3.6, 2.4),
            ("time per frame, codec beside it", "frame_with_codec_ms", 1, "ms", None, None),
            ("first PCM, text of 30 words, no prefix kept", "first_pcm_all_ms", 1, "ms", 20, 10),
            ("first PCM, prefix kept", "first_pcm_kept_ms", 1, "ms", 10, 6),
            ("prefill of 1,000 tokens", "prefill_1000_ms", 1, "ms", None, None),
            ("32 slots, audio", "audio_s_per_s", 32, "s/s", 200, 500),
            ("load, page cache warm, to first PCM", "load_to_first_pcm_ms", 1, "ms", None, None)],
}


def read(path):
    figures, peers = {}, []
    for line in open(path):
        if not line.startswith("{"):
            continue
        r = json.loads(line)
        if "figure" in r:
            figures[r["model"], r["figure"], r["slots"]] = r["value"]
        else:
            peers.append(r)
    return figures, peers


def number(v):
    return "-" if v is None else "%.0f" % v if v >= 1000 else "%.4g" % v


def verdict(v, reach, then, more_is_better):
    if v is None or reach is None:
        return ""
    better = (lambda a, b: a >= b) if more_is_better else (lambda a, b: a <= b)
    return "then" if better(v, then) else "reached" if better(v, reach) else "not reached"


def targets(model, figures):
    print("\n## %s\n\n| | measured | to reach | then | |\n|---|---|---|---|---|" % model)
    for what, figure, slots, unit, reach, then in ROWS[model]:
        v = figures.get((model, figure, slots))
        if v is None and figure == "first_pcm_all_ms":  # a build that keeps nothing
            v = figures.get((model, "speech_first_pcm_ms", slots))
        sign = "≥" if unit == "s/s" else "≤"
        limit = lambda x: "" if x is None else "%s %s %s" % (sign, number(x), unit)
        shown = "-" if v is None else "%s %s" % (number(v), unit)
        if v is not None and figure.startswith("frame"):
            shown += ", RTF %.4f" % (v / FRAME_MS[model])
        print("| %s | %s | %s | %s | %s |" % (what, shown, limit(reach), limit(then),
                                              verdict(v, reach, then, unit == "s/s")))
    alone, both = (figures.get((model, f, 1)) for f in ("frame_ms", "frame_with_codec_ms"))
    if alone and both:
        print("| codec beside the frames, change of the time | %+.1f %% | < 5 %% | | %s |" % (
            100 * (both / alone - 1), "reached" if both < 1.05 * alone else "not reached"))
    memory(model, figures)


def memory(model, figures):
    get = lambda name: figures.get((model, name, 1))
    if get("memory_mb") is None:
        return
    bound = 1.25 * get("weights_mb") + get("states_mb")
    parts = "weights %.0f, states %.0f, plans %.0f MB" % tuple(
        get(name) for name in ("weights_mb", "states_mb", "plans_mb"))
    print("| memory of the device: %s | %.0f MB | ≤ %.0f MB | | %s |" % (
        parts, get("memory_mb"), bound,
        "reached" if get("memory_mb") <= bound else "not reached"))


def slots(model, figures):
    sizes = sorted(s for m, f, s in figures if m == model and f == "frame_ms")
    if len(sizes) < 2:
        return
    print("\n| slots | ms per frame | with the codec | audio seconds per second | memory, MB |"
          "\n|---|---|---|---|---|")
    for n in sizes:
        print("| %d | %s | %s | %s | %s |" % (n, *(number(figures.get((model, f, n))) for f in (
            "frame_ms", "frame_with_codec_ms", "audio_s_per_s", "memory_mb"))))


def ratios(model, figures, peers):
    mine = figures.get((model, "frame_ms", 1))
    rows = [p for p in peers if p["model"] == PEERS[model]]
    if not rows:
        return
    print("\n| peer | ms per frame | launches | times utter's |\n|---|---|---|---|")
    best = eager = None
    for p in rows:
        ms = p.get("ms_per_frame")
        if ms is None:
            print("| %s | %s | | |" % (p["way"], p["error"][:80]))
            continue
        eager = ms if p["way"] == "eager" else eager
        best = min(ms, best or ms)
        print("| %s | %.3f | %s | %s |" % (p["way"], ms, p.get("launches") or "",
                                           "%.2f" % (ms / mine) if mine else ""))
    if mine and best:
        print("\nOver the best of them %.2f (to reach: 3)%s." % (
            best / mine, ", over eager %.1f (to reach: 25)" % (eager / mine) if eager else ""))


def main():
    figures, peers = read(sys.argv[1])
    print("# " + (sys.argv[3] if sys.argv[2:3] == ["--title"] else "Figures on a GPU"))
    print("\nFull-size checkpoints of random numbers, batch 1 unless slots are named, bf16, the end"
          " of speech ignored,\nwarm, median of 5.")
    for model in ROWS:
        if any(m == model for m, _, _ in figures) or any(p["model"] == PEERS[model] for p in peers):
            targets(model, figures)
            slots(model, figures)
            ratios(model, figures, peers)


main()
