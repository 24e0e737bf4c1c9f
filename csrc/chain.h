// The inner step of every matrix product: fp32 inputs times vectors of bf16, fp16 or fp32, summed in fp32.
//
// A step takes kUnit consecutive elements of a row: a pair in bf16, whose vectors hold pairs, and one otherwise. Each
// element is widened exactly and taken by one multiply-add of 16 sums, in ascending order: so a sum is one chain in
// one order, whoever computes it.
#pragma once

#include "simd.h"

namespace kvik::KVIK_ISA {

template <class T>
constexpr int64_t kUnit = 1;  // consecutive elements of one row in a step
template <>
inline constexpr int64_t kUnit<bf16> = 2;

// Element kPart of the 16 units at p.
template <int kPart, class T>
KVIK_INLINE F32 unit_part(const T* p) {
    if constexpr (kUnit<T> == 1) {
        return load(p);
    } else {
        return pair_part<kPart>(p);
    }
}

// kRows x kN sums += one input of each row, `stride` floats apart, times elements kPart of the units at address(n).
template <int kPart, int kRows, int kN, class Address>
KVIK_INLINE void add_part(F32 (&sums)[kRows][kN], const float* inputs, int64_t stride, const Address& address) {
    F32 vectors[kN];
    for (int n = 0; n < kN; ++n) vectors[n] = unit_part<kPart>(address(n));
    for (int r = 0; r < kRows; ++r) {
        const F32 input = set1(inputs[r * stride]);
        for (int n = 0; n < kN; ++n) sums[r][n] = fma(input, vectors[n], sums[r][n]);
    }
}

// The same for a whole step: kUnit inputs of each row.
template <class T, int kRows, int kN, class Address>
KVIK_INLINE void add_step(F32 (&sums)[kRows][kN], const float* inputs, int64_t stride, const Address& address) {
    add_part<0>(sums, inputs, stride, address);
    if constexpr (kUnit<T> == 2) add_part<1>(sums, inputs + 1, stride, address);
}

}  // namespace kvik::KVIK_ISA
