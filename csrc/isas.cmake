# The kernels for every instruction set of this architecture, as parts of a target; see csrc/isa_unit.cpp.

# Contraction is off so that only an explicit fma() fuses; there is no -ffast-math: NaN and infinity keep their meaning.
set(KVIK_FLAGS -Wall -Wextra -ffp-contract=off -fvisibility=hidden)
if(KVIK_WERROR)
  list(APPEND KVIK_FLAGS -Werror)
endif()

# kvik_isa(<target> <name> <SIMD header selector> <compiler flags...>)
function(kvik_isa target name simd)
  add_library(kvik_${name} OBJECT ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/isa_unit.cpp)
  # -Wno-psabi: vector types cross function borders only where everything is inlined.
  # -Wno-(maybe-)uninitialized: gcc says so of its own intrinsics, which take "undefined" operands on purpose.
  target_compile_options(kvik_${name} PRIVATE ${KVIK_FLAGS} -Wno-psabi
    "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>" ${ARGN})
  target_compile_definitions(kvik_${name} PRIVATE KVIK_ISA=${name} KVIK_SIMD_${simd})
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:kvik_${name}>)
  string(TOUPPER ${name} upper)
  target_compile_definitions(${target} PRIVATE KVIK_HAVE_${upper})
endfunction()

# kvik_isas(<target> <compiler flags...>)
function(kvik_isas target)
  kvik_isa(${target} generic GENERIC ${ARGN})
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(AVX2 -mavx2 -mfma -mf16c)
    set(AVX512 ${AVX2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
    kvik_isa(${target} avx2 AVX2 ${AVX2} ${ARGN})
    kvik_isa(${target} avx512 AVX512 ${AVX512} ${ARGN})
    kvik_isa(${target} avx512_vnni AVX512 ${AVX512} -mavx512vnni ${ARGN})
  endif()
endfunction()
