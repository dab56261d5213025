#!/bin/sh
# Install to an empty prefix; then build the examples from there, through pkg-config and through
# CMake, against the shared and the static library, and run what was built.
# Usage: install.sh SOURCE_DIR BUILD_DIR SCRATCH_DIR
set -eu
source=$1
build=$2
scratch=$3/install
prefix="$scratch/with space"
rm -rf "$scratch"
mkdir -p "$scratch"
cmake --install "$build" --prefix "$prefix" >"$scratch/log"

libdir=$(dirname "$(find "$prefix" -name libutter.a)")
for file in bin/utter include/utter.h include/utter_status.h share/man/man1/utter.1 \
    share/utter/voices share/doc/utter/LICENSE; do
    if [ ! -e "$prefix/$file" ]; then
        echo "not installed: $file" >&2
        exit 1
    fi
done
"$prefix/bin/utter" --version

PKG_CONFIG_PATH=$libdir/pkgconfig
LD_LIBRARY_PATH=$libdir
export PKG_CONFIG_PATH LD_LIBRARY_PATH
test "$("$prefix/bin/utter" --version)" = "utter $(pkg-config --modversion utter)"
# The installed program finds an installed voice by itself.
env -u UTTER_MODEL "$prefix/bin/utter" say --output "$scratch/say.wav" -- 'Hello there.'
test "$(head -c 4 "$scratch/say.wav")" = RIFF

# A program starts and says something; what it says, and whether it succeeds, is its own matter.
starts() {
    status=0
    "$1" </dev/null >"$scratch/out" 2>&1 || status=$?
    if [ "$status" -gt 2 ] || [ ! -s "$scratch/out" ]; then
        echo "$1: status $status, output: $(cat "$scratch/out")" >&2
        exit 1
    fi
}

cmake -S "$source/tests/build/consumer" -B "$scratch/consumer" -DCMAKE_PREFIX_PATH="$prefix" \
    -DEXAMPLES="$source/examples" >>"$scratch/log"
cmake --build "$scratch/consumer" >>"$scratch/log"
for example in hello stream; do
    starts "$scratch/consumer/$example"
    starts "$scratch/consumer/${example}_static"
done

cc=${CC:-cc}
for example in hello stream; do # eval: pkg-config quotes the space in the prefix for a shell
    eval "$cc -std=c99 -Wall -Wextra -Werror '$source/examples/$example.c' \
        -o '$scratch/$example' $(pkg-config --cflags --libs utter)"
    starts "$scratch/$example"
done
rm "$libdir"/libutter.so*
for example in hello stream; do
    eval "$cc -std=c99 '$source/examples/$example.c' -o '$scratch/${example}_static' \
        $(pkg-config --static --cflags --libs utter)"
    starts "$scratch/${example}_static"
done
