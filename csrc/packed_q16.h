// The layout of a weight in 16-bit fixed point, and rows going in and out of it.
//
// A row of floats becomes whole numbers of up to kWeightRange steps of the row's scale, max |w| / kWeightRange. A panel
// of 16 rows is their 16 scales (fp32), then a run of steps of 64 bytes, in ascending K: a pair of consecutive elements
// of each row, as one dot product of pairs reads them. K is padded to whole groups of 32 with zeros, N to 16.
//
// A row with a NaN or an infinity has the scale NaN, and so NaN is all that comes of it.
#pragma once

#include "packed_blocks.h"

namespace kvik::KVIK_ISA {

// 32 products of a weight and an input stay below 2^31 in sum: 32 * 16383 * 4095 = 2^31 - 655,328.
constexpr float kWeightRange = 16383, kInputRange = 4095;
constexpr int64_t kQ16Header = kPanelRows * sizeof(float), kQ16GroupBytes = kPanelRows * kGroup * sizeof(int16_t);
constexpr int kGroupSteps = kGroup / 2;

template <>
inline constexpr int64_t kUnit<int16_t> = 2;

KVIK_INLINE int64_t num_groups(int64_t k) { return (k + kGroup - 1) / kGroup; }
KVIK_INLINE int64_t q16_panel_bytes(int64_t k) { return kQ16Header + num_groups(k) * kQ16GroupBytes; }

// The scale of numbers of sizes up to `largest`: NaN where one is not finite, 0 where a quotient could overflow.
KVIK_INLINE float fixed_point_scale(float largest, bool finite, float range) {
    if (!finite) return float_of(0x7fc00000u);
    return largest <= 1e-30f ? 0.0f : largest * (1.0f / range);
}

// values [size] to whole numbers, codes [size rounded up to groups of 32]; returns the scale.
template <class S>
static float fixed_point_row(int16_t* codes, const S* values, int64_t size) {
    F32 largest = zero(), flaws = zero();
    each_vector(size, [&](int64_t i, int64_t n) {
        const F32 a = load_part(values + i, n);
        largest = max(largest, abs(a));
        flaws = flaws + (a - a);
    });
    const bool finite = !any_nan(flaws);
    const float scale = fixed_point_scale(finite ? reduce_max(largest) : 0.0f, finite, kWeightRange);
    const F32 inverse = set1(scale > 0 ? 1.0f / scale : 0.0f);
    const int64_t padded = num_groups(size) * kGroup;
    for (int64_t i = 0; i < padded; i += kLanes) {
        const int64_t left = size - i, n = left < 0 ? 0 : left < kLanes ? left : kLanes;
        store_i16(codes + i, finite ? round(load_part(values + i, n) * inverse) : zero());
    }
    return scale;
}

// Rows of floats become rows first_row and on of a packed weight.
template <class S>
static void pack_q16_rows_of(uint8_t* packed, int64_t k, int64_t first_row, const S* rows, int64_t num_rows) {
    const int64_t first_panel = first_row / kPanelRows, end_row = first_row + num_rows;
    const int64_t panel_bytes = q16_panel_bytes(k), padded = num_groups(k) * kGroup;
    parallel_for(num_panels(end_row) - first_panel, min_tasks(panel_bytes), [=](int64_t begin, int64_t end, int) {
        int16_t* codes = static_cast<int16_t*>(thread_scratch(static_cast<size_t>(kPanelRows * padded) * 2));
        for (int64_t panel = first_panel + begin; panel < first_panel + end; ++panel) {
            const int64_t panel_row = panel * kPanelRows, panel_end = panel_row + kPanelRows;
            const int64_t from = first_row > panel_row ? first_row : panel_row;
            const int64_t to = end_row < panel_end ? end_row : panel_end;
            uint8_t* at = packed + panel * panel_bytes;
            const int16_t* sources[kPanelRows];
            for (int64_t row = from; row < to; ++row) {
                int16_t* row_codes = codes + (row - from) * padded;
                const float scale = fixed_point_row(row_codes, rows + (row - first_row) * k, k);
                std::memcpy(at + (row - panel_row) * sizeof scale, &scale, sizeof scale);
                sources[row - from] = row_codes;
            }
            interleave(reinterpret_cast<int16_t*>(at + kQ16Header), padded, from - panel_row, sources, to - from);
        }
    });
}

static void pack_q16_rows(uint8_t* packed, int64_t k, int64_t first_row, const void* rows, int64_t num_rows,
                          int rows_dtype) {
    with_source_type(rows_dtype, [&]<class S>() {
        pack_q16_rows_of(packed, k, first_row, static_cast<const S*>(rows), num_rows);
    });
}

// Row `row`, as floats: each a whole number times the scale.
static inline void gather_q16_row(float* out, const uint8_t* packed, int64_t k, int64_t row) {
    const uint8_t* panel = packed + row / kPanelRows * q16_panel_bytes(k);
    float scale;
    std::memcpy(&scale, panel + row % kPanelRows * sizeof scale, sizeof scale);
    const uint8_t* lane = panel + kQ16Header + row % kPanelRows * 4;
    for (int64_t i = 0; i < k; ++i) {
        int16_t code;
        std::memcpy(&code, lane + i / 2 * 64 + i % 2 * 2, sizeof code);
        out[i] = static_cast<float>(code) * scale;
    }
}

}  // namespace kvik::KVIK_ISA
