#!/bin/sh
# Every header compiles alone; the public ones as C99 and as C++, too. Usage: headers.sh CC CXX,
# from the root of the source tree.
set -eu
cc=$1
cxx=$2
strict='-Wall -Wextra -Wpedantic -Werror -fsyntax-only'
for header in include/*.h; do
    # shellcheck disable=SC2086
    "$cc" -std=c99 $strict -Iinclude -x c "$header"
    # shellcheck disable=SC2086
    "$cxx" -std=c++98 -Wall -Wextra -Werror -fsyntax-only -Iinclude -x c++ "$header"
done
# *_body.h and simd_*.h are parts of the kernels that include them.
find src -name '*.h' ! -name '*_body.h' ! -name 'simd_*.h' | while read -r header; do
    # shellcheck disable=SC2086
    "$cc" -std=c11 -D_GNU_SOURCE $strict -Iinclude -Isrc -x c "$header"
done
