// The rows of x that a quantised linear multiplies, rounded: a group of 32 elements at a time.
//
// The largest element of a group, its outlier, stands apart: the scale is max |x| / 127 of the others, which become
// int8, while the outlier is rounded in the same steps to 16 bits.
#pragma once

#include <type_traits>

#include "../packed_blocks.h"

namespace kvik::KVIK_ISA {

constexpr float kMaxOutlier = 16000;  // steps; 255 times as many, and the rest, stay below 2^24

// A group of one row of x.
template <class Q>
struct InputGroup {
    int8_t codes[kGroup];  // the outlier's is 0
    float scale;
    int32_t outlier[Q::kScalesPerGroup];  // its code where it has that weight scale, else 0
    typename Q::Place place;              // of the outlier
    // Of a format with minima: scale times the sum of the codes. Else -kZeroPoint times the sum, for each weight scale.
    std::conditional_t<Q::kHasMinimum, float, int32_t> rest[Q::kScalesPerGroup];
};

// What a format wants to know of the sums of the codes: of 16 elements each, or of 32 in the first.
template <class Q>
KVIK_INLINE void set_rest(InputGroup<Q>& out, F32 codes_a, F32 codes_b) {
    if constexpr (Q::kScalesPerGroup == 2) {
        out.rest[0] = -Q::kZeroPoint * static_cast<int32_t>(reduce_add(codes_a));
        out.rest[1] = -Q::kZeroPoint * static_cast<int32_t>(reduce_add(codes_b));
    } else if constexpr (Q::kHasMinimum) {
        out.rest[0] = out.scale * reduce_add(codes_a + codes_b);
    } else {
        out.rest[0] = -Q::kZeroPoint * static_cast<int32_t>(reduce_add(codes_a + codes_b));
    }
}

// The nearest whole number, the even one of two, of |a| below 2^22.
KVIK_INLINE int32_t round_to_int(float a) { return static_cast<int32_t>((a + 12582912.0f) - 12582912.0f); }

// How a group is rounded.
struct Rounding {
    float scale, inverse;
    uint32_t outlier;  // its bit; none in a group of zeros or with a NaN or an infinity
};

// A NaN or an infinity makes the scale NaN, hence the whole row. Below 1e-30 a quotient could overflow: all zeros.
KVIK_INLINE Rounding rounding_of(const float* x) {
    const F32 a = load(x), b = load(x + kLanes);
    const bool finite = !any_nan((a - a) + (b - b));
    const F32 size_a = abs(a), size_b = abs(b);
    const auto [largest, second] = reduce_max2(size_a, size_b);
    if (!finite || largest <= 1e-30f) return {finite ? 0.0f : float_of(0x7fc00000u), 0.0f, 0};
    const F32 bound = set1(largest);
    const uint32_t found = equal_lanes(size_a, bound) | equal_lanes(size_b, bound) << kLanes;
    const float of_others = second * (1.0f / 127), of_outlier = largest * (1.0f / kMaxOutlier);
    const float scale = of_others > of_outlier ? of_others : of_outlier;
    return {scale, 1.0f / scale, found & (0u - found)};
}

template <class Q>
KVIK_INLINE void round_group(InputGroup<Q>& out, const float* x, const Rounding& by) {
    out.scale = by.scale;
    if (!by.outlier) {
        std::memset(out.codes, 0, sizeof out.codes);
        std::memset(out.outlier, 0, sizeof out.outlier);
        out.place = Q::place(0);
        return set_rest<Q>(out, zero(), zero());
    }
    const F32 inverse = set1(by.inverse);
    const F32 codes_a = round(load(x) * inverse), codes_b = round(load(x + kLanes) * inverse);
    store_i8(out.codes, clear_lanes(codes_a, by.outlier & 0xffffu));
    store_i8(out.codes + kLanes, clear_lanes(codes_b, by.outlier >> kLanes));
    const int outlier = __builtin_ctz(by.outlier);
    const int32_t code = round_to_int(x[outlier] * by.inverse);
    for (int part = 0; part < Q::kScalesPerGroup; ++part)
        out.outlier[part] = outlier * Q::kScalesPerGroup / kGroup == part ? code : 0;
    out.place = Q::place(outlier);
    set_rest<Q>(out, codes_a, codes_b);
}

// A row's groups, in the output `stride` apart. Two short loops overlap more of their long chains than one would.
template <class Q>
static void quantize_row(InputGroup<Q>* out, int64_t stride, const float* x, int64_t groups) {
    constexpr int64_t kBatch = 16;
    Rounding by[kBatch];
    for (int64_t first = 0; first < groups; first += kBatch) {
        const int64_t count = groups - first < kBatch ? groups - first : kBatch;
        for (int64_t i = 0; i < count; ++i) by[i] = rounding_of(x + (first + i) * kGroup);
        for (int64_t i = 0; i < count; ++i)
            round_group<Q>(out[(first + i) * stride], x + (first + i) * kGroup, by[i]);
    }
}

}  // namespace kvik::KVIK_ISA
