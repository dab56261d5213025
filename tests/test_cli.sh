#!/bin/sh
# The program `utter` from outside: what it prints, writes and returns, on the recorded model.
# Usage: test_cli.sh UTTER UT_CODEC EXAMPLES_DIR SCRATCH_DIR, from the root of the source tree.
set -u
utter=$1
codec=$2
examples=$3
manual=$PWD/docs/utter.1
model=$PWD/tests/data/s1-mini/case
scratch=$4/cli
hop=2048

rm -rf "$scratch"
mkdir -p "$scratch/tmp"
cd "$scratch" || exit 1
XDG_DATA_HOME=$scratch/data
XDG_CACHE_HOME=$scratch/cache
TMPDIR=$scratch/tmp
export XDG_DATA_HOME XDG_CACHE_HOME TMPDIR
unset UTTER_MODEL

checks=0
failed=0
complain() {
    echo "FAILED: $*" >&2
    sed 's/^/    /' err >&2
    failed=$((failed + 1))
}
# run CODE arguments...: run utter, expect the exit code; output in out and err.
run() {
    want=$1
    shift
    checks=$((checks + 1))
    "$utter" "$@" >out 2>err </dev/null
    code=$?
    [ $code -eq "$want" ] || complain "utter $*: exit code $code, expected $want"
}
# refuses CODE PATTERN arguments...: fails with one line on standard error that has PATTERN.
refuses() {
    want=$1
    pattern=$2
    shift 2
    run "$want" "$@"
    if [ "$(wc -l <err)" -ne 1 ] || ! grep -q "^utter: .*$pattern" err || [ -s out ]; then
        complain "utter $*: expected one line with '$pattern'"
    fi
}
expect() { # description, then a command that must succeed
    checks=$((checks + 1))
    description=$1
    shift
    "$@" || complain "$description"
}
same() { expect "$1 and $2 are the same" cmp -s "$1" "$2"; }
number() { sed -n "s/.*\"$1\":\([-0-9.e+]*\)[,}].*/\1/p" out; } # of the JSON in out
holds() { awk "BEGIN { exit !($1) }"; }
u32() { od -An -tu4 -j "$2" -N 4 "$1" | tr -d ' '; }
size() { wc -c <"$1" | tr -d ' '; }
is_wav() { # file: 16-bit mono, and the sizes in its header are those of the file
    [ "$(head -c 4 "$1")" = RIFF ] && [ "$(u32 "$1" 24)" -eq 44100 ] &&
        [ "$(u32 "$1" 4)" -eq $(($(size "$1") - 8)) ] &&
        [ "$(u32 "$1" 40)" -eq $(($(size "$1") - 44)) ]
}

# ---- Help, versions, usage --------------------------------------------------------------------
run 0 --version
expect "--version" grep -qE '^utter [0-9]+\.[0-9]+\.[0-9]+$' out
run 0 help
expect "help lists the exit codes" grep -q '130 interrupted' out
cp out help
run 0 --help
same out help
for command in say voices info; do
    run 0 help $command
    cp out help
    run 0 $command --help
    same out help
    for option in $(sed -n 's/^  \(-., \|    \)\(--[a-z-]*\).*/\2/p' out); do
        escaped=$(echo "$option" | sed 's/-/\\\\-/g')
        expect "$command $option is in the manual page" grep -q -e "$escaped" "$manual"
    done
done
refuses 2 'no command'
refuses 2 'unknown command "fly"' fly
refuses 2 'unknown command "fly"' help fly
refuses 2 'unknown option --fly' say --fly
refuses 2 'FILE is missing' say -o
refuses 2 'takes no value' say --play=yes Hi
for pair in temperature=2.1 temperature=x top-p=0 top-p=1.1 repetition-penalty=0.4 seed=-1 \
    seed=1.5 max-frames=0 threads=0 threads=1025 max-positions=63; do
    refuses 2 "expected a" say -m "$model" --${pair%=*} "${pair#*=}" Hi
done
refuses 2 'precision f64: expected' say -m "$model" --precision f64 Hi
refuses 2 'attention fast: expected auto, flash or math' say -m "$model" --attention fast Hi
refuses 1 'attention.*expected auto' say -m "$model" --backend cpu --attention math Hi
refuses 1 'there is no device 3, only 0' voices add "v" x.wav --text Hi -m "$model" --backend cpu --device 3
refuses 2 'device' info -m "$model" --device -1
refuses 2 'format aiff: expected' say -m "$model" --format aiff -o x Hi
refuses 2 'exclude one another' say -m "$model" --voice a --no-voice Hi
refuses 2 'needs --reference-text' say -m "$model" --reference a.wav Hi
refuses 2 'needs --reference;' say -m "$model" --reference-text a Hi
refuses 2 'both as argument and as file' say -m "$model" -f a Hi

# ---- Failures ---------------------------------------------------------------------------------
refuses 1 'no/model: no such model directory' say -m no/model Hi
refuses 1 'config.json' say -m "$scratch" Hi
refuses 1 'no letter\|expected a letter' say -m "$model" '...'
refuses 1 'expected a letter' say -m "$model" ''
expect "no file is left when there is nothing to speak" [ ! -e say.wav ]
printf 'abc \377 def' >latin1
refuses 1 'latin1: invalid UTF-8 at byte 4.*save it as UTF-8' say -m "$model" -f latin1
refuses 1 'no-text: ' say -m "$model" -f no-text
refuses 1 'is a directory' say -m "$model" -f .
refuses 1 'there is no folder' say -m "$model" -o no/folder.wav Hi
refuses 1 'x.xyz: names no sound format' say -m "$model" --max-frames 2 -o x.xyz Hi
refuses 1 'abacus' say -m "$model" --backend abacus Hi
refuses 1 'no voice "ann"; there are: none' say -m "$model" --voice ann Hi
refuses 1 'voice name' say -m "$model" --voice a/b Hi
if [ -w /dev/full ]; then
    "$utter" say -m "$model" --max-frames 30 -o - --format raw Hi >/dev/full 2>err
    expect "a full disk is a failure" [ $? -eq 1 ]
fi

# ---- Speaking ---------------------------------------------------------------------------------
say="say -m $model --seed 7 --max-frames 20"
run 0 $say Hello there.
expect "say.wav is a WAV file" is_wav say.wav
expect "20 frames were written" [ "$(size say.wav)" -eq $((44 + 2 * hop * 20)) ]
expect "the summary is one line" [ "$(wc -l <err)" -eq 1 ]
expect "the summary tells the speed" grep -q 'say.wav: 0.93 s of audio in .*RTF .* x real time)' err
expect "the summary tells the seed" grep -q 'seed 7' err
expect "nothing is printed" [ ! -s out ]
run 0 $say -o again.wav "Hello there."
same say.wav again.wav
printf '\357\273\277Hello there.\n' >text
run 0 $say -o file.wav -f text
same say.wav file.wav
printf 'Hello there.' | "$utter" $say -o pipe.wav - 2>err
same say.wav pipe.wav
"$utter" $say -o pipe2.wav <text 2>err
same say.wav pipe2.wav
"$utter" $say -o - "Hello there." 2>err >stdout.wav
tail -c +45 say.wav >samples
tail -c +45 stdout.wav >stdout.samples
same samples stdout.samples
expect "a WAV stream has no length" [ "$(u32 stdout.wav 40)" -eq 4294967295 ]
"$utter" $say -o - --format raw "Hello there." 2>err >raw
same samples raw
run 0 $say -o dashes.wav --max-frames=1 -- --help
expect "arguments after --" [ "$(size dashes.wav)" -eq $((44 + 2 * hop)) ]
run 0 say -m "$model" --seed 8 --max-frames 20 -o other.wav Hello there.
expect "another seed speaks otherwise" [ "$(cmp say.wav other.wav 2>&1 | wc -l)" -eq 1 ]
run 0 $say --quiet -o quiet.wav Hello there.
expect "--quiet prints nothing" [ ! -s err ]
same say.wav quiet.wav
run 0 $say --threads 1 --exact-head -o exact.wav Hello there.

# ---- Playing: programs that stand in for players ------------------------------------------------
mkdir -p players files none
printf '#!/bin/sh\necho "$@" >players.args; exec cat >played\n' >players/paplay
printf '#!/bin/sh\nexit 3\n' >players/aplay
printf '#!/bin/sh\n/bin/cp "$1" played.wav\n' >files/pw-play
chmod +x players/* files/*
with_path() { # path, run's arguments
    old=$PATH
    PATH=$1
    shift
    run "$@"
    PATH=$old
}
with_path "$scratch/players:$PATH" 0 $say --play Hello there.
same samples played
expect "the player knows the rate" grep -q -e '--rate=44100' players.args
rm players/paplay
with_path "$scratch/players:$PATH" 1 $say --play Hello there.
expect "a failing player is a failure" grep -q 'aplay \(failed\|ended\)' err
with_path "$scratch/files" 0 $say --play -o both.wav Hello there.
same both.wav say.wav
same played.wav say.wav
expect "the played file is removed" [ -z "$(ls tmp)" ]
with_path "$scratch/none" 1 $say --play Hello there.
expect "players are named when there is none" grep -q 'no program to play sound (paplay, ' err

# ---- Statistics -------------------------------------------------------------------------------
run 0 $say --json --ignore-eos -o json.wav Hello there.
for key in ms_per_frame rtf ttfa_ms load_ms audio_s peak_rss_mb x_realtime codec_ms_per_frame busy_s \
    codec_share prefill_ms; do
    expect "$key is positive: $(number $key)" holds "$(number $key) > 0"
done
expect "frames" [ "$(number frames)" -eq 20 ]
expect "seed" [ "$(number seed)" -eq 7 ]
expect "sample_rate" [ "$(number sample_rate)" -eq 44100 ]
expect "audio_s" holds "$(number audio_s) * 44100 == 20 * $hop"
expect "rtf is time over duration" \
    holds "($(number rtf) * $(number audio_s) / $(number busy_s) - 1)^2 < 1e-12"
expect "a limit ended it" [ "$(number stopped_by_limit)" -eq 1 ]
expect "JSON is one line" [ "$(wc -l <out)" -eq 1 ]
"$utter" $say --json -o - Hello there. >stdout.wav 2>out
expect "JSON goes to standard error beside a pipe" [ "$(number frames)" -eq 20 ]

# ---- A long text in constant memory -----------------------------------------------------------
i=0
while [ $i -lt 240 ]; do
    echo "This is sentence number $i of a long text."
    i=$((i + 1))
done >book
head -n 4 book >page
long="say -m $model --seed 1 --temperature 0 --max-positions 192 --json -q"
run 0 $long -o page.wav -f page
expect "all of the page" holds "$(number chunks) >= 2"
small=$(number peak_rss_mb)
run 0 $long -o book.wav -f book
expect "all of the book" holds "$(number chunks) > 40"
expect "book.wav is a WAV file" is_wav book.wav
case $(nm "$utter" 2>&1) in
*__asan_init* | *__tsan_init*) ;; # keep freed memory
*) expect "a book ($(number peak_rss_mb) MB) needs what a page ($small MB) needs" \
    holds "$(number peak_rss_mb) < $small + 2" ;;
esac

# ---- Interruption -----------------------------------------------------------------------------
"$utter" say -m "$model" --ignore-eos --max-frames 100000 -o long.wav -f book >out 2>err &
process=$!
tries=0
while [ ! -e long.wav ] || [ "$(size long.wav)" -lt 100000 ]; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || break
    sleep 0.05
done
kill -INT $process
wait $process
code=$?
expect "an interrupted program returns 130, not $code" [ $code -eq 130 ]
expect "an interrupted file is valid" is_wav long.wav
expect "an interrupted file has what was spoken" [ "$(size long.wav)" -gt 100000 ]
expect "an interrupted file ends early" [ "$(size long.wav)" -lt $((2 * hop * 100000)) ]
rm -f long.wav book.wav

# ---- Voices -----------------------------------------------------------------------------------
run 0 voices -m "$model"
expect "no voices yet" grep -q 'no voices' out
refuses 2 'needs --text' voices -m "$model" add ann say.wav
refuses 2 'takes a name and a recording' voices -m "$model" add ann --text x
refuses 1 'voice name' voices -m "$model" add a.b say.wav --text x
run 0 voices -m "$model" add ann say.wav --text 'Hello "there".' --language en --description 'A test.'
run 0 voices -m "$model" list
expect "the new voice is listed" grep -q '^ann .* en .*20 frames .*user .*A test\.' out
run 0 voices --json
expect "lists are JSON on request" grep -q '"text": "Hello \\"there\\"."' out
run 0 voices show ann
expect "one voice is shown" grep -q '20 frames of 4 codebooks' out
refuses 1 'already' voices -m "$model" add ann say.wav --text x
run 0 voices -m "$model" show ann -o heard.wav
expect "the preview is as long as the recording" [ "$(size heard.wav)" -eq "$(size say.wav)" ]
run 0 $say --json --voice ann -o ann.wav Hello there.
expect "the voice is in the prompt" holds "$(number prompt_tokens) > 40"
expect "the statistics name the voice" grep -q '"voice":"ann"' out
expect "the voice is kept" holds "$(number prefix_bytes) > 1000"
run 0 $say --json --voice ann --prefix-cache 0 -o ann0.wav Hello there.
same ann.wav ann0.wav
expect "nothing is kept" holds "$(number prefix_bytes) == 0"
refuses 1 'no voice "bob"; there are: ann' $say --voice bob -o bob.wav Hello there.
run 0 $say --reference say.wav --reference-text 'Hello "there".' -o ref.wav Hello there.
same ann.wav ref.wav
expect "the encoded reference is kept" [ "$(ls cache/utter/references | wc -l)" -eq 1 ]
run 0 $say --reference say.wav --reference-text 'Hello "there".' -o ref2.wav Hello there.
same ref.wav ref2.wav
run 0 voices rm ann
refuses 1 'no voice "ann" of yours' voices rm ann
refuses 2 'expected list, show, add or rm' voices fly

# ---- Models that are found --------------------------------------------------------------------
UTTER_MODEL=$model "$utter" say --seed 7 --max-frames 20 -o env.wav "Hello there." 2>err
same say.wav env.wav
mkdir -p prefix/bin prefix/share/utter/voices/b prefix/share/utter/voices/a-file-is-no-model
cp "$utter" prefix/bin
cp "$model"/*.pth "$model"/*.json "$model"/*.tiktoken prefix/share/utter/voices/b
prefix/bin/utter say --seed 7 --max-frames 20 -o installed.wav "Hello there." 2>err
same say.wav installed.wav
prefix/bin/utter info >out 2>err
expect "info names the default model" grep -q 'default model: .*share/utter/voices/b$' out

# ---- Info, and the other programs -------------------------------------------------------------
run 0 info
expect "info lists the cpu" grep -q '^  cpu  *available: ' out
expect "info lists formats" grep -q '^audio formats: wav' out
run 0 info "$model"
expect "info tells the family" grep -q 'family: s1-mini' out
expect "info tells the memory" grep -q 'memory: .* MB of packed weights' out
run 0 info --json "$model"
expect "info as JSON" grep -q '"family": "s1-mini"' out
bytes() { sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" out; }
stored=$(bytes weight_bytes) read=$(bytes bytes_per_frame)
for precision in int8 int4; do
    run 0 info --json --precision $precision "$model"
    expect "$precision: fewer bytes kept" [ "$(bytes weight_bytes)" -lt "$stored" ]
    expect "$precision: fewer bytes read per frame" [ "$(bytes bytes_per_frame)" -lt "$read" ]
    stored=$(bytes weight_bytes) read=$(bytes bytes_per_frame)
done
run 0 say -m "$model" --precision int4 --max-frames 3 -o int4.wav Hi
expect "speaks at int4" is_wav int4.wav
refuses 1 'no such model directory' info no/model
refuses 2 'takes one model' info a b
"$codec" "$model" say.wav copy.wav 2>err
same copy.wav heard.wav
"$codec" "$model" no.wav copy.wav 2>err
expect "ut-codec says what is missing" grep -q '^ut-codec: no.wav: ' err
"$examples/hello" "$model" >out 2>err
expect "the example speaks" is_wav hello.wav
printf 'Hello there.\n' | "$examples/stream" "$model" >streamed 2>err
expect "the streaming example speaks" [ "$(size streamed)" -gt $((2 * hop)) ]

echo "$checks checks, $failed failed"
[ $failed -eq 0 ]
