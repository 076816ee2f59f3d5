# Warnings, hardening and sanitizers, carried by one interface target.
add_library(freshet_options INTERFACE)
target_compile_definitions(freshet_options INTERFACE _GNU_SOURCE)
target_compile_options(freshet_options INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes
    -Wmissing-prototypes -Wold-style-definition -Wpointer-arith -Wcast-qual -Wcast-align
    -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wswitch-enum -Wimplicit-fallthrough
    -Wdouble-promotion -Wnull-dereference -fno-common
    $<$<C_COMPILER_ID:GNU>:-Wlogical-op -Wduplicated-cond -Wduplicated-branches>)

if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(freshet_options INTERFACE -fstack-protector-strong
        -fstack-clash-protection -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fPIE)
    target_link_options(freshet_options INTERFACE -pie -Wl,-z,relro,-z,now)
    set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
endif()
if(FRESHET_SANITIZE)
    target_compile_options(freshet_options INTERFACE
        -fsanitize=${FRESHET_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(freshet_options INTERFACE -fsanitize=${FRESHET_SANITIZE})
endif()
if(FRESHET_FUZZ)
    target_compile_options(freshet_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(FRESHET_COVERAGE)
    target_compile_options(freshet_options INTERFACE --coverage)
    target_link_options(freshet_options INTERFACE --coverage)
endif()
