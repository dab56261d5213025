#!/bin/sh
# The shared library shows utter_* and nothing else, and everything that utter.h declares.
# Usage: exports.sh LIBRARY HEADER
set -eu
shown=$(nm -D --defined-only "$1" | awk '$2 != "A" { print $3 }' | sort)
declared=$(tr '\n' ' ' <"$2" | sed 's|/\*|\n/*|g; s|\*/|*/\n|g' | grep -v '^/\*' | tr '\n' ' ' |
    grep -o 'UTTER_API [^;#]*(' | sed 's/(.*//; s/.*[ *]//' | grep '^utter_' | sort -u)
others=$(echo "$shown" | grep -v '^utter_' || true)
if [ -n "$others" ]; then
    echo "exported, but not utter_*:" $others >&2
    exit 1
fi
if [ "$shown" != "$declared" ]; then
    echo "declared in $2: $declared" >&2
    echo "exported by $1: $shown" >&2
    exit 1
fi
echo "$(echo "$shown" | wc -l) functions"
