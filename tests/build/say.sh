#!/bin/sh
# `make say` hands its text, file names and voice to the program as they were typed, whatever make
# or a shell could read into them. Usage: say.sh SOURCE_DIR SCRATCH_DIR
set -eu
source=$1
scratch=$2/make-say
rm -rf "$scratch"
mkdir -p "$scratch/build/release"
cp "$source/Makefile" "$scratch"
cat >"$scratch/build/release/utter" <<'END'
#!/bin/sh
for argument; do
    printf '[%s]\n' "$argument"
done >arguments
END
chmod +x "$scratch/build/release/utter"

check() { # text
    rm -f "$scratch/arguments"
    env -u MAKEFLAGS -u MAKELEVEL make -s -C "$scratch" -o build say TEXT="$1" OUT='my "x".wav' MODEL='a b' VOICE="o'clock" \
        >/dev/null
    if ! grep -qxF "[$1]" "$scratch/arguments"; then
        echo "TEXT=$1 arrived as:" >&2
        cat "$scratch/arguments" >&2
        exit 1
    fi
    for other in '[my "x".wav]' '[a b]' "[o'clock]"; do
        grep -qxF "$other" "$scratch/arguments"
    done
}
check 'Hello there.'
check 'It'\''s "quoted", isn'\''t it?'
check 'It costs $5, or $$10, or ${HOME}.'
check '`touch stolen` $(touch stolen) $(shell touch stolen); touch stolen'
check '--help # \n é 日本'
test ! -e "$scratch/stolen"
test ! -e "$source/stolen"

# Without a voice there is no --voice, and there are defaults.
env -u MAKEFLAGS -u MAKELEVEL make -s -C "$scratch" -o build say >/dev/null
grep -qxF '[Hello there.]' "$scratch/arguments"
grep -qxF '[say.wav]' "$scratch/arguments"
! grep -q -e --voice "$scratch/arguments"
