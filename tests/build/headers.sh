#!/bin/sh
# Every header compiles alone. Usage: headers.sh CC, from the root of the source tree.
set -eu
# Clang would complain of inline functions that a header defines and this does not call.
flags='-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wno-unused-function -Werror -fsyntax-only'
# *_body.h and simd_*.h are parts of the kernels that include them.
find include src -name '*.h' ! -name '*_body.h' ! -name 'simd_*.h' | sort | while read -r header; do
    # shellcheck disable=SC2086
    "$1" $flags -Iinclude -Isrc -x c "$header" || {
        echo "$header does not compile alone" >&2
        exit 1
    }
done
