// Panels of a quantised weight for many rows of input: codes are bytes, scales and minima fp32. A block of panels is
// expanded once, into memory that stays in the cache, instead of by each tile of rows that passes over it.
//
// A group is the scales of 16 rows (for q6_k twice, one for each half), their minima if there are any, and 8 steps of
// 4 codes of each. What is read of it has the bits that packed_blocks.h gives, so the product does too.
#pragma once

#include <type_traits>

#include "packed_blocks.h"

namespace kvik::KVIK_ISA {

template <class Q>
struct ExpandedFrom {
    static constexpr int kZeroPoint = Q::kZeroPoint, kMaxCode = Q::kMaxCode, kScalesPerGroup = Q::kScalesPerGroup;
    static constexpr bool kHasMinimum = Q::kHasMinimum;
    static constexpr int64_t kMinimum = 64 * kScalesPerGroup, kBody = kMinimum + (kHasMinimum ? 64 : 0);
    static constexpr int64_t kBytes = kBody + kByteBytes;

    static constexpr int64_t panel_bytes(int64_t groups) { return groups * kBytes; }
    template <int kPair>
    KVIK_INLINE BytePair codes(const uint8_t* panel, int64_t group) {
        const uint8_t* at = panel + group * kBytes + kBody + 128 * kPair;
        return {load_bytes(at), load_bytes(at + 64)};
    }
    using Place = PackedQ8_0::Place;
    KVIK_INLINE Place place(int element) { return PackedQ8_0::place(element); }
    KVIK_INLINE I32 code_at(const uint8_t* panel, int64_t group, const Place& place) {
        return top_bytes(load_bytes(panel + group * kBytes + kBody + place.offset));
    }
    template <int kPart>
    KVIK_INLINE F32 scale(const uint8_t* panel, int64_t group) {
        return load(reinterpret_cast<const float*>(panel + group * kBytes + 64 * kPart));
    }
    KVIK_INLINE F32 minimum(const uint8_t* panel, int64_t group) {
        return load(reinterpret_cast<const float*>(panel + group * kBytes + kMinimum));
    }

    template <int kPair>
    KVIK_INLINE void expand_pair(uint8_t* out, const uint8_t* panel, int64_t group) {
        const BytePair pair = Q::template codes<kPair>(panel, group);
        store_bytes(out + kBody + 128 * kPair, pair.first);
        store_bytes(out + kBody + 128 * kPair + 64, pair.second);
    }
    // Groups [begin, end) of a panel of Q.
    KVIK_INLINE void expand(uint8_t* out, const uint8_t* panel, int64_t begin, int64_t end) {
        for (int64_t group = begin; group < end; ++group, out += kBytes) {
            float* scales = reinterpret_cast<float*>(out);
            store(scales, Q::template scale<0>(panel, group));
            if constexpr (kScalesPerGroup == 2) store(scales + kPanelRows, Q::template scale<1>(panel, group));
            if constexpr (kHasMinimum) store(scales + kPanelRows, Q::minimum(panel, group));
            expand_pair<0>(out, panel, group);
            expand_pair<1>(out, panel, group);
            expand_pair<2>(out, panel, group);
            expand_pair<3>(out, panel, group);
        }
    }
};

// What many rows read: q8_0 as it lies.
template <class Q>
using Expanded = std::conditional_t<std::is_same_v<Q, PackedQ8_0>, Q, ExpandedFrom<Q>>;

}  // namespace kvik::KVIK_ISA
