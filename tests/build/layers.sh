#!/bin/sh
# The rules of src/ that a compiler does not check: who may include whom, which system headers and
# which libraries appear where, and that the library never prints or ends the program.
# Usage: layers.sh, from the root of the source tree.
set -eu
bad=0
complain() { # lines of "file:line:text", why
    [ -z "$1" ] && return
    echo "$1" | sed "s|\$|    <- $2|" >&2
    bad=1
}
found() { grep -rnE "$@" --include='*.[ch]' || true; }

# Dependencies point downward. layer: the folders it may include from.
while IFS=: read -r layer allowed; do
    [ -d "src/$layer" ] || continue
    complain "$(found '^#include "[a-z_0-9]+/' "src/$layer" |
        grep -vE "#include \"($(echo $allowed | tr ' ' '|'))/" || true)" "not below $layer"
done <<'END'
base:base
weights:base weights
text:base text
audio:base audio
plan:base plan
nn:base weights plan nn
models:base weights text audio plan nn models
backends:base plan backends
engine:base weights text audio plan models backends engine
END
for family in src/models/*/; do
    name=$(basename "$family")
    complain "$(found '^#include "models/[a-z_0-9]+/' "$family" |
        grep -v "#include \"models/$name/" || true)" "another family's"
done

# The system, behind os.h; other libraries, each behind one file.
system='unistd|fcntl|dirent|pthread|sched|signal|spawn|dlfcn|windows|io|direct|process|winsock2'
complain "$(found "^#include <($system|sys/[a-z]+|netinet/[a-z]+|arpa/[a-z]+)\.h>" src include tools |
    grep -vE '^src/[a-z]+/(os|net|dynlib)_(posix|win32)\.c:' || true)" 'belongs in os_*.c'
complain "$(found '#if.*(_WIN32|__linux__|__APPLE__)' src tools |
    grep -vE '^src/[a-z]+/(os|net|dynlib)_(posix|win32)\.c:' || true)" 'belongs in os_*.c'
complain "$(found '<jansson\.h>' src tools | grep -v '^src/base/json\.c:' || true)" 'use base/json.h'
complain "$(found '<utf8proc\.h>' src tools | grep -v '^src/text/utf8\.c:' || true)" \
    'use text/utf8.h'
complain "$(found '<sndfile\.h>|<soxr\.h>' src tools | grep -v '^src/audio/' || true)" \
    'belongs in src/audio'

# Memory through base/alloc.h; no printing, no end of the program.
library=$(ls -d src/*/ | grep -vE '^src/(cli|server)/')
# shellcheck disable=SC2086
complain "$(found '(^|[^a-z_>.])(malloc|calloc|realloc|free|strdup|strndup|asprintf)\(' $library tools |
    grep -vE '^src/base/alloc\.c:|:[ /]\*' || true)" 'use base/alloc.h'
# shellcheck disable=SC2086
complain "$(found '(^|[^a-z_])(v?printf|puts|putchar|perror|exit|_exit|abort)\(|fprintf\(std' $library |
    grep -vE ':[ /]\*' || true)" 'a library does not'
exit $bad
