// Root-mean-square norm of each row, alone or after adding a residual (Zhang and Sennrich, 2019).
#pragma once

#include "../parallel.h"
#include "../simd.h"

namespace kvik::KVIK_ISA {

// Rounds where transformers does: Llama rounds the normed value, then its product with the weight; with
// `unit_offset` (Gemma) the product with 1 + weight is taken in fp32 and rounded once.
template <class T>
KVIK_INLINE void scale_row(T* out, const T* x, const T* weight, int64_t size, float inverse_rms, bool unit_offset) {
    const F32 scale = set1(inverse_rms), one = set1(1.0f);
    each_vector(size, [&](int64_t i, int64_t n) {
        const F32 normed = load_part(x + i, n) * scale, w = load_part(weight + i, n);
        store_part(out + i, unit_offset ? normed * (one + w) : round_to<T>(normed) * w, n);
    });
}

KVIK_INLINE float inverse_rms(F32 sum_of_squares, int64_t size, float eps) {
    return 1.0f / __builtin_sqrtf(reduce_add(sum_of_squares) / static_cast<float>(size) + eps);
}

template <class T>
static void rms_norm_rows(T* out, const T* x, const T* weight, int64_t rows, int64_t size, float eps,
                          bool unit_offset) {
    parallel_for(rows, min_tasks(size * sizeof(T)), [=](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
            const T* in = x + row * size;
            F32 sum = zero();
            each_vector(size, [&](int64_t i, int64_t n) {
                const F32 a = load_part(in + i, n);
                sum = fma(a, a, sum);
            });
            scale_row(out + row * size, in, weight, size, inverse_rms(sum, size, eps), unit_offset);
        }
    });
}

template <class T>
static void add_rms_norm_rows(T* out, const T* x, T* residual, const T* weight, int64_t rows, int64_t size, float eps,
                              bool unit_offset) {
    parallel_for(rows, min_tasks(2 * size * sizeof(T)), [=](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
            const T* in = x + row * size;
            T* res = residual + row * size;
            F32 sum = zero();
            each_vector(size, [&](int64_t i, int64_t n) {
                const F32 a = round_to<T>(load_part(in + i, n) + load_part(res + i, n));
                store_part(res + i, a, n);
                sum = fma(a, a, sum);
            });
            scale_row(out + row * size, res, weight, size, inverse_rms(sum, size, eps), unit_offset);
        }
    });
}

static void rms_norm(void* out, const void* x, const void* weight, int64_t rows, int64_t size, float eps,
                     bool unit_offset, int dtype) {
    with_type(dtype, [&]<class T>() {
        rms_norm_rows(static_cast<T*>(out), static_cast<const T*>(x), static_cast<const T*>(weight), rows, size, eps,
                      unit_offset);
    });
}

static void add_rms_norm(void* out, const void* x, void* residual, const void* weight, int64_t rows, int64_t size,
                         float eps, bool unit_offset, int dtype) {
    with_type(dtype, [&]<class T>() {
        add_rms_norm_rows(static_cast<T*>(out), static_cast<const T*>(x), static_cast<T*>(residual),
                          static_cast<const T*>(weight), rows, size, eps, unit_offset);
    });
}

}  // namespace kvik::KVIK_ISA
