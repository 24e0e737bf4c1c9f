// The layout of a packed weight, and rows going in and out of it.
//
// A weight [N, K] is cut into panels of 16 output rows. A panel is a run of steps of 64 bytes, in ascending K: one
// element (fp32) or two consecutive ones (bf16) of each of its 16 rows. So one load feeds one multiply-add of 16
// outputs, and no sum across lanes is ever taken. N is padded to 16 and K to 2 with zeros.
#pragma once

#include "chain.h"
#include "parallel.h"

namespace kvik::KVIK_ISA {

constexpr int64_t kPanelRows = 16;

template <class T>
constexpr int64_t kStepElements = kPanelRows * kUnit<T>;

template <class T>
KVIK_INLINE int64_t num_steps(int64_t k) {
    return (k + kUnit<T> - 1) / kUnit<T>;
}
KVIK_INLINE int64_t num_panels(int64_t n) { return (n + kPanelRows - 1) / kPanelRows; }

template <class T>
KVIK_INLINE void convert_row(T* out, const void* row, int64_t size, int row_dtype) {
    with_source_type(row_dtype, [&]<class S>() {
        const S* in = static_cast<const S*>(row);
        each_vector(size, [&](int64_t i, int64_t n) { store_part(out + i, load_part(in + i, n), n); });
    });
}

// rows [0, num_rows) of the source become the lanes from first_lane on.
template <class T>
static inline void interleave(T* panel, int64_t k, int64_t first_lane, const T* const* rows, int64_t num_rows) {
    const int64_t whole = k / kUnit<T>;
    uint32_t* out = reinterpret_cast<uint32_t*>(panel) + first_lane;
    for (int64_t step = 0; step < whole; ++step)
        for (int64_t row = 0; row < num_rows; ++row)
            std::memcpy(out + step * kPanelRows + row, rows[row] + step * kUnit<T>, 4);
    if (whole == num_steps<T>(k)) return;
    for (int64_t row = 0; row < num_rows; ++row) {
        T* pair = reinterpret_cast<T*>(out + whole * kPanelRows + row);
        pair[0] = rows[row][k - 1];
        pair[1] = T{};
    }
}

// One row of a packed weight, bit for bit.
template <class T>
static inline void gather_row(T* out, const T* packed, int64_t k, int64_t row) {
    const int64_t steps = num_steps<T>(k);
    const T* lane = packed + row / kPanelRows * steps * kStepElements<T> + row % kPanelRows * kUnit<T>;
    for (int64_t i = 0; i < k / kUnit<T>; ++i) std::memcpy(out + i * kUnit<T>, lane + i * kStepElements<T>, 4);
    if (k % kUnit<T>) out[k - 1] = lane[(steps - 1) * kStepElements<T>];
}

}  // namespace kvik::KVIK_ISA
