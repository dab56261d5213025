# A thin door to the CMake presets (CMakePresets.json); `make` lists what it does.

TEXT ?= Hello there.
OUT ?= say.wav
MODEL ?= voices/arctic-mini
VOICE ?=
PREFIX ?= /usr/local
SECONDS ?= 60
CMAKE_FLAGS ?=
CTEST_FLAGS ?=

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

build: setup = scripts/setup
test debug asan tsan minimal: setup = scripts/setup --test
clang mingw64 fuzz: setup = scripts/setup --ci
build test: preset = release
debug asan tsan minimal clang mingw64 fuzz: preset = $@
test: options = -DUT_TESTS=ON

define compile
	@$(setup)
	@cmake --preset $(preset) $(options) $(CMAKE_FLAGS) >/dev/null
	@cmake --build --preset $(preset)
endef

build:
	$(compile)

say: build
	@build/release/utter say --model "$$MODEL" $${VOICE:+--voice "$$VOICE"} \
	    --output "$$OUT" -- "$$TEXT"

test debug asan tsan minimal clang:
	$(compile)
	@ctest --preset $(preset) --output-junit ../$@.xml $(CTEST_FLAGS)

mingw64:
	@$(setup)
	@scripts/mingw-deps
	$(compile)
	@ctest --preset $(preset) --output-junit ../$@.xml $(CTEST_FLAGS)

fuzz:
	$(compile)
	@scripts/fuzz $(SECONDS)

format:
	@scripts/setup --ci
	@scripts/sources | xargs clang-format -i

install: build
	@cmake --install build/release --strip --prefix "$(PREFIX)"

clean:
	@rm -rf build
