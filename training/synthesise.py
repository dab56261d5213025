#!/usr/bin/env python3
"""Speak every sentence with one of the three teachers and store the trimmed 16 kHz audio in shards.

Needs the programs flite (voices slt, rms) and festival (voice cmu_us_slt_arctic_hts). Sentence i is spoken by
teacher i mod 3. A shard OUT/shard-NNNN.npz holds: pcm int16 [samples], offsets int64 [n+1], index int32 [n] (line
in the text file), voice int8 [n]. Shards appear one after the other, so training can start on the first ones, which
are small. A teacher who says nothing at all ends everything when no shard is there yet; later the shard is left out.

usage: synthesise.py TEXTS.txt OUTDIR [--jobs N] [--shard N] [--first K]"""
import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import tempfile
import wave

import numpy as np
from scipy.signal import resample_poly

RATE = 16000
TEACHERS = ("slt", "rms", "slt-hts")
LEAD, TAIL = 0.10, 0.15                 # seconds of silence kept at both ends
EARLY, SMALL = 100, 30                  # so many shards at the beginning have so few sentences
FESTIVAL = """(voice_cmu_us_slt_arctic_hts)
(define (say text file) (utt.save.wave (utt.synth (eval (list 'Utterance 'Text text))) file 'riff))
"""


def read_wav(path):
    """16 kHz float [samples] from a 16-bit mono WAV file."""
    with wave.open(str(path)) as w:
        x = np.frombuffer(w.readframes(w.getnframes()), "<i2").astype(np.float32) / 32768
        rate = w.getframerate()
    return x if rate == RATE else resample_poly(x, RATE, rate).astype(np.float32)


def trim(x):
    """Cut silence down to LEAD and TAIL seconds, or pad it up to them."""
    step = RATE // 100
    n = len(x) // step
    if n == 0:
        return x[:0]
    level = np.sqrt((x[:n * step].reshape(n, step) ** 2).mean(1))
    loud = np.flatnonzero(level > max(0.004, 0.01 * level.max()))
    if not len(loud):
        return x[:0]
    start, end = loud[0] * step - int(LEAD * RATE), (loud[-1] + 1) * step + int(TAIL * RATE)
    y = x[max(start, 0):min(end, len(x))]
    return np.pad(y, (max(-start, 0), max(end - len(x), 0)))


def call(command):
    """Run a program -> what it complains about."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          check=False)
    return "exit status %d, %s" % (done.returncode, done.stderr.decode(errors="replace").strip()[-300:] or "no message")


def speak(teacher, texts, folder):
    """Trimmed 16 kHz audio of each text, empty where the teacher failed. RuntimeError where it failed everywhere."""
    files = [os.path.join(folder, "%d.wav" % i) for i in range(len(texts))]
    complaint = ""
    if teacher == "slt-hts":
        program = "festival"
        script = os.path.join(folder, "batch.scm")
        with open(script, "w") as f:
            f.write(FESTIVAL)
            for text, path in zip(texts, files):
                f.write('(say "%s" "%s")\n' % (text.replace("\\", "").replace('"', '\\"'), path))
        complaint = call([program, "--batch", script])
    else:
        program = "flite"
        for k, (text, path) in enumerate(zip(texts, files)):
            complaint = call([program, "-voice", teacher, "-t", text, "-o", path])
            if k == 4 and not any(map(os.path.exists, files)):
                break
    audio = []
    for path in files:
        try:
            audio.append(trim(read_wav(path)))
            os.remove(path)
        except (OSError, EOFError, wave.Error):
            audio.append(np.zeros(0, np.float32))
    if texts and not any(len(x) for x in audio):
        raise RuntimeError("%s says nothing with voice %s (%s), text: %s" % (program, teacher, complaint, texts[0]))
    return audio


def make_shard(job):
    """Write one shard; returns its seconds of audio."""
    path, first, texts = job
    pcm, index, voice = [], [], []
    with tempfile.TemporaryDirectory(dir=os.environ.get("UTTER_TMP")) as folder:
        for v, teacher in enumerate(TEACHERS):
            mine = [i for i in range(len(texts)) if (first + i) % len(TEACHERS) == v]
            for i, x in zip(mine, speak(teacher, [texts[i] for i in mine], folder)):
                if 0.3 * RATE < len(x) < 22 * RATE:
                    pcm.append((np.clip(x, -1, 32767 / 32768) * 32768).astype(np.int16))
                    index.append(first + i)
                    voice.append(v)
    offsets = np.cumsum([0] + [len(x) for x in pcm])
    np.savez(path + ".part.npz", pcm=np.concatenate(pcm), offsets=offsets, index=np.array(index, np.int32),
             voice=np.array(voice, np.int8))
    os.replace(path + ".part.npz", path)
    return offsets[-1] / RATE


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("texts")
    ap.add_argument("out")
    ap.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) - 3))
    ap.add_argument("--shard", type=int, default=120, help="sentences per shard (a multiple of 3), after the first ones")
    ap.add_argument("--first", type=int, default=0, help="shard to begin with; those before it exist already as codes")
    args = ap.parse_args()
    os.makedirs(args.out, exist_ok=True)
    texts = pathlib.Path(args.texts).read_text().splitlines()
    cuts = [*range(0, min(len(texts), EARLY * SMALL), SMALL), *range(EARLY * SMALL, len(texts), args.shard), len(texts)]
    jobs = [(os.path.join(args.out, "shard-%04d.npz" % k), a, texts[a:b])
            for k, (a, b) in enumerate(zip(cuts, cuts[1:])) if k >= args.first]
    assert len(cuts) <= 10001, "names of shards have four digits: choose a larger --shard"
    seconds, made, failed = 0.0, 0, 0
    with concurrent.futures.ProcessPoolExecutor(args.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(make_shard, job) for job in jobs]):
            try:
                seconds += done.result()
                made += 1
            except Exception as e:                  # whatever became of one shard
                failed += 1
                print("error: a shard is missing: %s" % e, flush=True)
                if not made:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
            if made in (1, 15) or made % 50 == 0:
                print("synthesised %d of %d shards, %.1f h" % (made, len(jobs), seconds / 3600), flush=True)
    print("synthesised %.1f hours" % (seconds / 3600), flush=True)
    pathlib.Path(args.out, "done").touch()
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
