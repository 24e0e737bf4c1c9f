// The inner step of every matrix product: fp32 inputs times vectors of bf16 or fp32, summed in fp32.
//
// A step takes kUnit consecutive elements of a row: a pair in bf16, whose vectors hold pairs, and one in fp32. Its
// inputs lie in memory as `prepare` leaves them, as many floats as elements. A pair is two multiply-adds of 16 sums:
// the first element, then the second; or, with an instruction for dot products of bf16, the upper and then the lower
// half of both inputs (see split() in simd.h). Either way a sum is one chain in one order, whoever computes it.
#pragma once

#include "simd.h"

namespace kvik::KVIK_ISA {

template <class T>
constexpr int64_t kUnit = 4 / sizeof(T);  // consecutive elements of one row in a step

template <class T>
struct Step;

template <>
struct Step<bf16> {
    using Operand = Part;
    KVIK_INLINE F32 prepare(F32 x) { return split(x); }
    template <int kPart>
    KVIK_INLINE Operand vector(const bf16* p) { return pair_part<kPart>(p); }
    KVIK_INLINE Operand input(const float* p) { return broadcast_part(p); }
    KVIK_INLINE F32 add(Operand a, Operand b, F32 sum) { return add_part(a, b, sum); }
};

template <>
struct Step<float> {
    using Operand = F32;
    KVIK_INLINE F32 prepare(F32 x) { return x; }
    template <int kPart>
    KVIK_INLINE Operand vector(const float* p) { return load(p); }
    KVIK_INLINE Operand input(const float* p) { return set1(*p); }
    KVIK_INLINE F32 add(Operand a, Operand b, F32 sum) { return fma(a, b, sum); }
};

// kRows x kN sums += one input of each row, `stride` floats apart, times vectors at address(n). The last template
// argument is for the function itself.
template <class T, int kRows, int kN, class Address, int kPart = 0>
KVIK_INLINE void add_step(F32 (&sums)[kRows][kN], const float* inputs, int64_t stride, const Address& address) {
    using S = Step<T>;
    typename S::Operand vectors[kN];
    for (int n = 0; n < kN; ++n) vectors[n] = S::template vector<kPart>(address(n));
    for (int r = 0; r < kRows; ++r) {
        const typename S::Operand input = S::input(inputs + r * stride + kPart);
        for (int n = 0; n < kN; ++n) sums[r][n] = S::add(input, vectors[n], sums[r][n]);
    }
    if constexpr (kPart + 1 < kUnit<T>) add_step<T, kRows, kN, Address, kPart + 1>(sums, inputs, stride, address);
}

// Floats that a row of `size` prepared inputs takes: whole vectors.
KVIK_INLINE int64_t prepared_size(int64_t size) { return (size + kLanes - 1) / kLanes * kLanes; }

// One row of inputs into the form that steps read, zeros behind its end.
template <class T>
KVIK_INLINE void prepare_row(float* out, const float* x, int64_t size) {
    each_vector(size, [&](int64_t i, int64_t n) { store(out + i, Step<T>::prepare(load_part(x + i, n))); });
}

}  // namespace kvik::KVIK_ISA
