# squall_bpf(room source.bpf.c)
# Compiles a BPF program and embeds it into a room as the header NAME.skel.h (bpftool's skeleton):
# nothing is read from files when it runs.
find_program(BPF_CLANG NAMES clang clang-14 REQUIRED)
find_program(BPFTOOL bpftool PATHS /usr/sbin /sbin REQUIRED)
squall_find_archive(BPF_STATIC bpf)
squall_find_archive(ELF_STATIC elf)
squall_find_archive(Z_STATIC z)

function(squall_bpf room source)
  get_filename_component(name ${source} NAME_WE)
  set(folder ${CMAKE_BINARY_DIR}/bpf)
  file(MAKE_DIRECTORY ${folder})
  add_custom_command(
    OUTPUT ${folder}/${name}.bpf.o
    COMMAND ${BPF_CLANG} -g -O2 -target bpf -mcpu=v2 -Wall -Werror
            -I/usr/include/${CMAKE_LIBRARY_ARCHITECTURE} -c ${CMAKE_SOURCE_DIR}/${source}
            -o ${folder}/${name}.bpf.o
    DEPENDS ${CMAKE_SOURCE_DIR}/${source} VERBATIM)
  add_custom_command(
    OUTPUT ${folder}/${name}.skel.h
    COMMAND sh -c "\"$1\" gen skeleton \"$2\" name \"$3\" > \"$4.new\" && mv \"$4.new\" \"$4\"" sh
            ${BPFTOOL} ${folder}/${name}.bpf.o ${name} ${folder}/${name}.skel.h
    DEPENDS ${folder}/${name}.bpf.o VERBATIM)
  target_sources(squall_${room} PRIVATE ${folder}/${name}.skel.h)
  target_include_directories(squall_${room} SYSTEM PRIVATE ${folder})
endfunction()
