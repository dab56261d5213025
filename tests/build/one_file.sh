#!/bin/sh
# The Windows program needs no library but the system's own. Usage: one_file.sh OBJDUMP PROGRAM
set -eu
test -s "$2"
needed=$("$1" -p "$2" | sed -n 's/.*DLL Name: //p' | tr 'A-Z' 'a-z')
echo $needed | grep kernel32.dll
for dll in $needed; do
    case $dll in
    kernel32.dll | msvcrt.dll | ucrtbase.dll | api-ms-win-*.dll | shell32.dll | ws2_32.dll) ;;
    advapi32.dll | bcrypt.dll | ole32.dll | user32.dll) ;;
    *)
        echo "$2 needs $dll" >&2
        exit 1
        ;;
    esac
done
