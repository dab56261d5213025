#!/usr/bin/env python3
"""Time per frame of the peers on a GPU: full-size models, random weights, batch 1, bf16, the end of
speech ignored, warm, median of 5.

    python3 bench/peers/bench.py [--models s1-mini,0.6B,1.7B] [--ways ...] [--budget SECONDS]
                                 [--out FILE]

Every model is run these ways, all with a static key-value cache that is as long as the run needs:

    eager            operation by operation, products as the checkpoint stores them
    graph            the whole frame in one torch.cuda.CUDAGraph
    graph-sdpa       the same with PyTorch's own attention kernels
    autotune-graph   torch.compile, "max-autotune" with Triton, in one torch.cuda.CUDAGraph
    reduce-overhead  torch.compile(mode="reduce-overhead") of the whole frame
    max-autotune     torch.compile(mode="max-autotune") of the whole frame; slow to compile, not in
                     the default list

All but eager join q, k, v and gate, up to one product each. Nothing is read back while frames run;
a real host would at least look for the end. Prints a JSON line per result as it comes, and a table.
"""
import argparse
import fcntl
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

PROMPT, ROUNDS = 100, 5
FRAMES = {"s1-mini": 400, "0.6B": 300, "1.7B": 300}
FIRST = ("eager", "graph", "graph-sdpa")  # one process runs them one after the other
LATER = ("autotune-graph", "reduce-overhead", "max-autotune")

# ---- One model in one process --------------------------------------------------------------------


def build(name, way, frames):
    import torch

    import layers
    import qwen3_tts
    import s1_mini

    kind, c = {"s1-mini": (s1_mini.DualAR, s1_mini.FULL),
               "0.6B": (qwen3_tts.TalkerAndPredictor, qwen3_tts.SMALL),
               "1.7B": (qwen3_tts.TalkerAndPredictor, qwen3_tts.LARGE)}[name]
    if way == "graph-sdpa":
        c = {k: dict(v, attention="sdpa") if isinstance(v, dict) else v for k, v in c.items()}
    torch.set_default_dtype(torch.bfloat16)
    model = kind(c, -(-(PROMPT + frames) // 64) * 64, way != "eager").to("cuda")
    torch.set_default_dtype(torch.float32)
    layers.randomise(model)
    for stack in model.modules():
        if isinstance(stack, layers.Layer):
            stack.keys.normal_()
            stack.values.normal_()
    model.start(PROMPT)
    return model


def captured(model):
    """The model's frame as a CUDA graph."""
    import torch
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            model.frame()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model.frame()
    return graph.replay


def prepare(model, way):
    import torch
    if way == "eager":
        return model.frame
    if way == "autotune-graph":
        for part in model.PARTS:
            compiled = torch.compile(getattr(model, part), mode="max-autotune-no-cudagraphs",
                                     fullgraph=True, dynamic=False)
            setattr(model, part, compiled)
    if way in ("reduce-overhead", "max-autotune"):
        whole = torch.compile(model.frame, mode=way, fullgraph=True, dynamic=False)

        def frame():
            torch.compiler.cudagraph_mark_step_begin()
            whole()
        return frame
    return captured(model)


def count_launches(frame):
    """Kernels and copies of a frame on the device; None: the profiler does not say."""
    import torch
    try:
        with torch.profiler.profile() as p:
            frame()
            torch.cuda.synchronize()
        cuda = torch.autograd.DeviceType.CUDA
        return sum(1 for e in p.events() if e.device_type == cuda) or None
    except Exception:
        return None


def measure(name, way, frames, lock):
    import torch
    exclusive = way != "reduce-overhead"  # the others tune kernels by timing them
    with torch.no_grad(), open(lock) as turn:
        if exclusive:
            fcntl.flock(turn, fcntl.LOCK_EX)
        started = time.perf_counter()
        model = build(name, way, frames)
        frame = prepare(model, way)
        for _ in range(5):
            frame()
        torch.cuda.synchronize()
        ready = time.perf_counter() - started
        fcntl.flock(turn, fcntl.LOCK_EX)
        rounds = []
        for _ in range(ROUNDS + 1):
            model.start(PROMPT)
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(frames):
                frame()
            torch.cuda.synchronize()
            rounds.append((time.perf_counter() - start) * 1e3 / frames)
        ms = statistics.median(rounds[1:])
        model.start(PROMPT)
        counters = torch._dynamo.utils.counters["inductor"] if way in LATER else {}
        result = dict(model=name, way=way, ms_per_frame=round(ms, 4),
                      rtf=round(ms / model.FRAME_MS, 5), rounds=[round(r, 4) for r in rounds[1:]],
                      frames=frames, prompt=PROMPT, launches=count_launches(frame),
                      ready_s=round(ready, 1), cudagraph_skips=counters.get("cudagraph_skips", 0),
                      device=torch.cuda.get_device_name(), torch=torch.__version__)
    return result


def child(name, ways, frames, lock):
    import torch
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    torch.set_float32_matmul_precision("high")
    for way in ways:
        try:
            result = measure(name, way, frames, lock)
        except Exception as e:
            lines = str(e).strip().splitlines() or [""]
            result = dict(model=name, way=way, error="%s: %s" % (type(e).__name__, lines[0][:300]))
        print(json.dumps(result), flush=True)
        torch.cuda.empty_cache()


# ---- All of them ---------------------------------------------------------------------------------


class Driver:
    def __init__(self, o):
        self.o, self.results, self.end = o, [], time.monotonic() + o.budget
        self.lock = tempfile.NamedTemporaryFile()
        self.out = open(o.out, "a") if o.out else None

    def keep(self, result):
        line = json.dumps(result)
        print(line, flush=True)
        self.results.append(result)
        if self.out:
            print(line, file=self.out, flush=True)

    def run(self, name, ways):
        """One process; what it has not said when time is up is an error of its own."""
        left = self.end - time.monotonic()
        frames = self.o.frames or FRAMES[name]
        command = [sys.executable, os.path.abspath(__file__), "--child", name, "--ways",
                   ",".join(ways), "--frames", str(frames), "--lock", self.lock.name]
        said, err = "", ""
        if left > 20:
            p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                said, err = p.communicate(timeout=left)
            except subprocess.TimeoutExpired:
                p.kill()
                said, err = p.communicate()
                err = "no time left"
        else:
            err = "no time left"
        done = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        for result in done:
            self.keep(result)
        for way in ways[len(done):]:
            reason = (err.strip().splitlines() or ["?"])[-1]
            self.keep(dict(model=name, way=way, error=reason[:300]))

    def all(self):
        models = self.o.models.split(",")
        ways = self.o.ways.split(",")
        for name in models:
            if any(w in FIRST for w in ways):
                self.run(name, [w for w in ways if w in FIRST])
        # Tuning one at a time; what only compiles does so beside it and waits for its turn.
        beside = [threading.Thread(target=self.run, args=(name, [way])) for name in models
                  for way in ways if way == "reduce-overhead"]
        for t in beside:
            t.start()
        for way in ways:
            for name in models:
                if way in ("autotune-graph", "max-autotune"):
                    self.run(name, [way])
        for t in beside:
            t.join()
        self.table()

    def table(self):
        order = [(m, w) for m in FRAMES for w in FIRST + LATER]
        print("\n| model | way | ms per frame | RTF | launches | ready after |")
        print("|---|---|---|---|---|---|")
        for r in sorted(self.results, key=lambda r: order.index((r["model"], r["way"]))):
            if "error" in r:
                print("| %s | %s | %s | | | |" % (r["model"], r["way"], r["error"][:80]))
            else:
                print("| %s | %s | %.3f | %.4f | %s | %.0f s |" % (
                    r["model"], r["way"], r["ms_per_frame"], r["rtf"], r["launches"] or "",
                    r["ready_s"]))


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--models", default=",".join(FRAMES))
    a.add_argument("--ways", default=",".join(FIRST + LATER[:2]))
    a.add_argument("--frames", type=int, default=0)
    a.add_argument("--budget", type=float, default=540)
    a.add_argument("--out")
    a.add_argument("--child")
    a.add_argument("--lock")
    o = a.parse_args()
    if o.child:
        child(o.child, o.ways.split(","), o.frames, o.lock)
    else:
        Driver(o).all()


if __name__ == "__main__":
    main()
