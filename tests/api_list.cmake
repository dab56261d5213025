# Writes OUTPUT, a C header with UT_API_LIST(X): X(name) for every function that HEADER declares with
# UTTER_API, so that test_api.c cannot forget one. cmake -DHEADER=... -DOUTPUT=... -P api_list.cmake
file(READ ${HEADER} text)
string(REGEX REPLACE "/\\*([^*]|\\*+[^*/])*\\*+/" "" text "${text}")
string(REGEX MATCHALL "\nUTTER_API [^;#(]*\\(" declarations "${text}")
set(list "")
foreach(declaration IN LISTS declarations)
    string(REGEX REPLACE ".*[ *](utter_[a-z0-9_]+)\\($" "\\1" name "${declaration}")
    string(APPEND list " \\\n    X(${name})")
endforeach()
list(LENGTH declarations n)
file(WRITE ${OUTPUT} "/* Generated from utter.h: ${n} functions. */\n#define UT_API_COUNT ${n}\n"
    "#define UT_API_LIST(X)${list}\n")
