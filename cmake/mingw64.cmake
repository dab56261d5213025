# Toolchain: from Linux to 64-bit Windows with MinGW-w64. Everything is linked statically, so that a
# program is one file; the libraries come from scripts/mingw-deps; Wine runs the tests.

set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc)
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres)

# The 64-bit Windows stack is 16-byte aligned, and GCC does not realign it for 32- and 64-byte
# vectors that it spills (GCC bug 54412): the assembler turns aligned moves into unaligned ones.
set(CMAKE_C_FLAGS_INIT "-Wa,-muse-unaligned-vector-move")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-static")

get_filename_component(UT_MINGW_DEPS ${CMAKE_CURRENT_LIST_DIR}/../build/mingw64-deps ABSOLUTE)
set(ENV{PKG_CONFIG_LIBDIR} ${UT_MINGW_DEPS}/lib/pkgconfig)
set(CMAKE_FIND_ROOT_PATH ${UT_MINGW_DEPS})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

get_filename_component(ut_wine ${CMAKE_CURRENT_LIST_DIR}/../scripts/wine ABSOLUTE)
set(CMAKE_CROSSCOMPILING_EMULATOR ${ut_wine})
