// act(gate) * up for rows [gate | up]: the middle of a gated feed-forward layer (Shazeer, 2020).
#pragma once

#include "../parallel.h"
#include "../simd.h"

namespace kvik::KVIK_ISA {

struct Silu {
    KVIK_INLINE F32 apply(F32 a) { return a / (set1(1.0f) + exp(zero() - a)); }
};

// The tanh form of GELU (Hendrycks and Gimpel, 2016). With 1 + tanh(y) = 2 / (1 + e^-2y) it needs no tanh and loses
// no digits where tanh(y) is near -1.
struct GeluTanh {
    KVIK_INLINE F32 apply(F32 a) {
        const F32 inner = a * fma(set1(0.044715f) * a, a, set1(1.0f));
        return a / (set1(1.0f) + exp(inner * set1(-1.5957691216057308f)));
    }
};

template <class Act, class T>
static void gate_rows(T* out, const T* x, int64_t rows, int64_t size) {
    // A task is a stretch of one row, so that one long row has work for all threads.
    constexpr int64_t kStretch = 512;
    const int64_t per_row = (size + kStretch - 1) / kStretch;
    parallel_for(rows * per_row, min_tasks(4 * kStretch * sizeof(T)), [=](int64_t begin, int64_t end, int) {
        for (int64_t task = begin; task < end; ++task) {
            const int64_t row = task / per_row, from = task % per_row * kStretch, left = size - from;
            const T* gate = x + row * 2 * size + from;
            T* result = out + row * size + from;
            each_vector(left < kStretch ? left : kStretch, [&](int64_t i, int64_t n) {
                const F32 activated = round_to<T>(Act::apply(load_part(gate + i, n)));
                store_part(result + i, activated * load_part(gate + size + i, n), n);
            });
        }
    });
}

// kind: 0 is silu, 1 tanh-gelu.
static void gated_activation(void* out, const void* x, int64_t rows, int64_t size, int kind, int dtype) {
    with_type(dtype, [&]<class T>() {
        const auto gate = kind == 0 ? gate_rows<Silu, T> : gate_rows<GeluTanh, T>;
        gate(static_cast<T*>(out), static_cast<const T*>(x), rows, size);
    });
}

}  // namespace kvik::KVIK_ISA
