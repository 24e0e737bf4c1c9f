// A small vector wrapper: what a kernel may say. Sixteen fp32 lanes, whatever the machine has.
//
// The header of the instruction set defines, as static always-inline functions in kvik::KVIK_ISA:
//
//   F32                           16 fp32 lanes; + - * / between them
//   zero() set1(float)
//   load(const float*|bf16*|f16*) 16 elements, widened; any alignment
//   load_n(p, n)                  the first n of 16 (0 <= n <= 16), the rest 0; does not touch memory beyond n
//   store(float*|bf16*|f16*, F32) rounded to nearest even, NaN stays NaN; f16: infinity from 65520 on
//   store_n(p, v, n)               the first n only
//   store(int8_t*, F32)           whole numbers in [-128, 127]; store_n likewise
//   fma(a, b, c)                  a * b + c, fused where the machine can
//   max(a, b) min(a, b)           b where either is NaN
//   abs(a) sqrt(a) round(a)       round: to nearest even
//   any_nan(a)                    whether a lane is NaN
//   equal_lanes(a, b)             a bit for each lane where they are equal, the first in the lowest
//   clear_lanes(a, uint32_t)      zero where the lane's bit of 16 is set
//   scale2(a, n)                  a * 2^n for lanes n of whole numbers in [-160, 160]
//   select_lt(a, b, x, y)         x where a < b, else y
//   reduce_add(a) reduce_max(a)   over the lanes, in a fixed tree
//   reduce_max2(a, b)             the two largest of the lanes of both, a Top2; none NaN
//   load_i8(const int8_t*) load_u8(const uint8_t*)    16 integers as fp32
//   round_bf16(a)                 the fp32 value of a rounded to bf16
//
//   pair_part<kPart>(const bf16*) the first (0) or second (1) elements of 16 pairs, widened
//
//   widen1(bf16|f16)              one element as a float
//   kMaxRows, kMaxPanels          the register tile of ops/linear.h
//
//   I32                           16 integers of 32 bits; set1_i32(int32_t) to_float(I32)
//   store_i8(int8_t*, F32)        16 whole numbers in [-128, 127]
//   Bytes                         16 lanes of 4 bytes; load_bytes(const uint8_t*) store_bytes(uint8_t*, Bytes)
//                                 repeat4(const int8_t*): in each lane
//   and_bytes(a, mask)            each byte; or_bytes(a, b)
//   shift_right<n>(a)             pairs of bytes as 16 bits; so does shift_left
//   dot4<kMaxCode>(sums, a, b)    each lane += its 4 unsigned bytes of a, up to kMaxCode, times its 4 signed ones of b,
//                                 which reach from -127 to 127; exact
//   dot4_repeated<kMaxCode>(sums, a, p)   the same with b = repeat4(p)
//   shift_lanes(a, const int32_t* bits)   each lane of Bytes as 32 bits, to the right by *bits, below 32
//   low_bits(a, int32_t mask) top_bytes(a)  of each lane of Bytes the bits of mask, or its last byte, as I32
//   add_product(sums, codes, const int32_t* factor)   sums + codes * *factor, codes in [0, 2^15), the factor of 16 bits
//   store_i16(int16_t*, F32)      16 whole numbers in [-2^15, 2^15)
//   PairSums                      16 sums of products of pairs, as I32; to_float(PairSums)
//   dot2(PairSums, a, b)          each lane += its 2 signed words of a times its 2 of b; whole numbers below 2^31
//   kDotRows, kDotPanels, kDotSums   the register tile of ops/linear_q16.h: at most so many rows, panels, and both
//   kMaxDotRows, kWideRows        the rows of a tile of ops/linear_blocks.h of one panel, and of two (0: none such)
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dtype.h"

#define KVIK_INLINE static inline __attribute__((always_inline))

// Before a loop over a tile of accumulators: unrolled only late, it would leave them in memory.
#define KVIK_UNROLL _Pragma("GCC unroll 8")

namespace kvik::KVIK_ISA {

KVIK_INLINE float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

KVIK_INLINE float widen1(bf16 a) { return float_of(static_cast<uint32_t>(a.bits) << 16); }

// Subnormal halves are a count of 2^-24.
KVIK_INLINE float widen1(f16 a) {
    const uint32_t sign = (a.bits & 0x8000u) << 16, exponent = (a.bits >> 10) & 31u, mantissa = a.bits & 0x3ffu;
    if (exponent == 0) {
        const float tiny = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
        return sign ? -tiny : tiny;
    }
    const uint32_t wide = exponent == 31u ? 255u : exponent + 112u;
    return float_of(sign | (wide << 23) | (mantissa << 13));
}

struct Top2 {
    float first, second;
};

}  // namespace kvik::KVIK_ISA

#if defined(KVIK_SIMD_AVX512)
#include "simd/avx512.h"
#elif defined(KVIK_SIMD_AVX2)
#include "simd/avx2.h"
#elif defined(KVIK_SIMD_GENERIC)
#include "simd/generic.h"
#else
#error "isa_unit.cpp is compiled with one of KVIK_SIMD_*; see CMakeLists.txt"
#endif

namespace kvik::KVIK_ISA {

constexpr int kLanes = 16;

// Rounds to what T can hold and comes back: what torch does between two ops of dtype T.
template <class T>
KVIK_INLINE F32 round_to(F32 a) {
    if constexpr (sizeof(T) == 2) {
        return round_bf16(a);
    } else {
        return a;
    }
}

// e^a within 2 units in the last place; 0 below about -104, infinity above 88.73, NaN stays NaN.
// 2^n * e^r with n = round(a / ln 2), |r| <= ln 2 / 2; ln 2 in two parts (Cody and Waite), e^r by its Taylor series.
KVIK_INLINE F32 exp(F32 a) {
    const F32 x = max(set1(-104.5f), min(set1(89.0f), a));
    const F32 n = round(x * set1(1.44269504088896341f));
    F32 r = fma(n, set1(-0.693359375f), x);
    r = fma(n, set1(2.12194440e-4f), r);
    F32 p = set1(1.0f / 5040);
    p = fma(p, r, set1(1.0f / 720));
    p = fma(p, r, set1(1.0f / 120));
    p = fma(p, r, set1(1.0f / 24));
    p = fma(p, r, set1(1.0f / 6));
    p = fma(p, r, set1(0.5f));
    p = fma(p, r, set1(1.0f));
    p = fma(p, r, set1(1.0f));
    return scale2(p, n);
}

// fn(i, n) for each vector of a row: n lanes from element i on, 16 but for the last.
template <class Fn>
KVIK_INLINE void each_vector(int64_t size, const Fn& fn) {
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) fn(i, int64_t{kLanes});
    if (i < size) fn(i, size - i);
}

// load and store of n lanes, without the mask where all are wanted.
template <class T>
KVIK_INLINE F32 load_part(const T* p, int64_t n) {
    return n == kLanes ? load(p) : load_n(p, n);
}
template <class T>
KVIK_INLINE void store_part(T* p, F32 a, int64_t n) {
    if (n == kLanes) {
        store(p, a);
    } else {
        store_n(p, a, n);
    }
}

// Calls fn<T>() with the element type of a dtype code: float or bf16.
template <class Fn>
KVIK_INLINE void with_type(int dtype, const Fn& fn) {
    if (dtype == kBf16) {
        fn.template operator()<bf16>();
    } else {
        fn.template operator()<float>();
    }
}

// The same for what is only read: all three.
template <class Fn>
KVIK_INLINE void with_source_type(int dtype, const Fn& fn) {
    if (dtype == kF16) {
        fn.template operator()<f16>();
    } else {
        with_type(dtype, fn);
    }
}

}  // namespace kvik::KVIK_ISA
