#!/usr/bin/env bash
# Runs all kernels under sanitizers: the drivers of Tests/KernelSanitizer call each of them on odd shapes, on one and three threads
# and every instruction set of this machine, in buffers of exactly the size that it may touch, and compare with double loops.
#
#   scripts/sanitize.sh [address] [thread]
#
# address: addresses and undefined behaviour. thread: data races. Both without arguments. Objects stay in .build/sanitize, and
# only what has changed is compiled again.
source "$(dirname "${BASH_SOURCE[0]}")/setup/common.sh"

clang=$(toolchain_clang)
[ -n "$clang" ] || fail "no clang beside swift or on PATH; install the complete Swift toolchain"
sources=(Sources/CKernels/*.cpp Tests/KernelSanitizer/*.cpp)
# Of all headers: a changed one compiles everything again.
newest_header=$(ls -t Sources/CKernels/*.h Sources/CKernels/include/*.h Tests/KernelSanitizer/*.h | head -1)

# Flags of a sanitizer; the thread sanitizer of a Swift toolchain knows libdispatch and needs it.
compile_flags() {
    case "$1" in
    address) printf '%s\n' -fsanitize=address,undefined -fno-sanitize-recover=all ;;
    thread) printf '%s\n' -fsanitize=thread ;;
    *) fail "sanitize.sh: unknown sanitizer '$1'; expected address or thread" ;;
    esac
}

link_flags() {
    local libraries
    libraries=$(dirname "$clang")/../lib/swift/linux
    if [ "$1" = thread ] && [ -e "$libraries/libdispatch.so" ]; then
        printf '%s\n' "-L$libraries" "-Wl,-rpath,$libraries" -ldispatch -lBlocksRuntime
    fi
}

# Compiles what is older than its source or the newest header, one compiler a core.
compile() {
    local source object
    for source in "${sources[@]}"; do
        object=$folder/$(basename "$(dirname "$source")")-$(basename "$source" .cpp).o
        objects+=("$object")
        [ "$object" -nt "$source" ] && [ "$object" -nt "$newest_header" ] && continue
        printf '%s\0-o\0%s\0' "$source" "$object"
    done > "$folder/stale"
    xargs -0 -r -n 3 -P "$(nproc)" "$clang" -x c++ -std=c++20 -O1 -g -fno-omit-frame-pointer -fno-math-errno -Wall -Wextra -Werror \
        -ISources/CKernels -ISources/CKernels/include "${flags[@]}" -c < "$folder/stale"
}

[ "$#" -gt 0 ] || set -- address thread
for name in "$@"; do
    mapfile -t flags < <(compile_flags "$name")
    [ "${#flags[@]}" -gt 0 ] || exit 1
    mapfile -t libraries < <(link_flags "$name")
    folder=.build/sanitize/$name
    objects=()
    mkdir -p "$folder"
    say "compiling the kernels for the sanitizer: $name"
    compile
    # The toolchain's lld: gold complains of every symbol of the sanitizer's.
    "$clang++" "${flags[@]}" "${objects[@]}" -fuse-ld=lld -pthread "${libraries[@]}" -o "$folder/check"
    say "running the kernels under the sanitizer: $name"
    UBSAN_OPTIONS=print_stacktrace=1 "$folder/check"
done
