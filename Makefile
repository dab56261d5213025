# A thin door to the CMake presets (CMakePresets.json); `make` lists what it does.

TEXT ?= Hello there.
OUT ?= say.wav
MODEL ?= voices/arctic-mini
VOICE ?=
PREFIX ?= /usr/local

# The text goes to the program through the environment, as it is: neither make nor the shell may
# expand what is in it.
override TEXT := $(value TEXT)
override OUT := $(value OUT)
override MODEL := $(value MODEL)
override VOICE := $(value VOICE)
export TEXT OUT MODEL VOICE

.PHONY: help build say test debug asan tsan clang minimal mingw64 fuzz format install clean

help:
	@echo 'make build     program, library and tools, in build/release'
	@echo 'make say       speak TEXT="..." into OUT=say.wav [MODEL=directory] [VOICE=name]'
	@echo 'make test      build and run all tests'
	@echo 'make install   install to PREFIX=/usr/local'
	@echo 'make debug | asan | tsan | clang | minimal   tests in that kind of build'
	@echo 'make mingw64   the Windows program, with its tests under Wine'
	@echo 'make fuzz      every fuzz target for SECONDS=60'
	@echo 'make format    clang-format over all sources'
	@echo 'make clean     remove build/'

build:
	@scripts/setup
	@cmake --preset release --log-level=WARNING
	@cmake --build --preset release

say: build
	@build/release/utter say --model "$$MODEL" $${VOICE:+--voice "$$VOICE"} --stats \
	    --out "$$OUT" -- "$$TEXT"

test:
	@scripts/setup --test
	@cmake --preset release --log-level=WARNING -DUT_TESTS=ON
	@cmake --build --preset release
	@ctest --preset release

debug asan tsan minimal:
	@scripts/setup --test
	@cmake --preset $@ --log-level=WARNING
	@cmake --build --preset $@
	@ctest --preset $@

clang:
	@scripts/setup --ci
	@cmake --preset $@ --log-level=WARNING
	@cmake --build --preset $@
	@ctest --preset $@

mingw64:
	@scripts/setup --ci
	@scripts/mingw-deps
	@cmake --preset $@ --log-level=WARNING
	@cmake --build --preset $@
	@ctest --preset $@

fuzz:
	@scripts/setup --ci
	@cmake --preset $@ --log-level=WARNING
	@cmake --build --preset $@
	@scripts/fuzz $(or $(SECONDS),60)

format:
	@scripts/setup --ci
	@scripts/sources | xargs clang-format -i

install: build
	@cmake --install build/release --strip --prefix "$(PREFIX)"

clean:
	@rm -rf build
