# Language level, warnings and instrumentation, in one place for every target of ours.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

option(SQUALL_WERROR "Treat warnings as errors" OFF)
option(SQUALL_PROGRAM "Build the squall program" ON)
option(SQUALL_BENCH "Build the benchmarks" OFF)
option(SQUALL_FUZZ "Build the fuzzers (clang only)" OFF)
set(SQUALL_SANITIZE "" CACHE STRING "Sanitizers, as for -fsanitize=")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # hash_dir off: build folders of the same tree share objects. Clones do not: with base_dir one
  # was seen to link an object of another.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_NOHASHDIR=1 ${CCACHE_PROGRAM})
  set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()

add_library(squall_flags INTERFACE)
target_compile_options(squall_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
  -Wnon-virtual-dtor -Woverloaded-virtual -Wno-missing-field-initializers -fno-strict-aliasing)
if(SQUALL_WERROR)
  target_compile_options(squall_flags INTERFACE -Werror)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  target_compile_definitions(squall_flags INTERFACE _GLIBCXX_ASSERTIONS)
endif()
if(SQUALL_SANITIZE)
  target_compile_options(squall_flags INTERFACE -fsanitize=${SQUALL_SANITIZE}
                         -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(squall_flags INTERFACE -fsanitize=${SQUALL_SANITIZE})
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(squall_flags INTERFACE -ffunction-sections -fdata-sections)
  target_link_options(squall_flags INTERFACE -static-libstdc++ -static-libgcc
                      -Wl,--gc-sections -Wl,-O1 -Wl,--as-needed -Wl,-s)
endif()
find_program(LLD_PROGRAM ld.lld)
if(LLD_PROGRAM)
  target_link_options(squall_flags INTERFACE -fuse-ld=lld)
endif()
