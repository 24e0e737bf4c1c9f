// Rotary embedding of q and k (Su et al., 2021; the half-split form), and k and v into the paged cache. All is fp32 but
// the cache: keys and values are rounded once, to its type T, as they are written.
#pragma once

#include "../parallel.h"
#include "../simd.h"
#include "rms_norm.h"

namespace kvik::KVIK_ISA {
namespace rope {

template <class T>
struct Args {
    float* q_out;            // [T, Hq, D]
    const float* qkv;        // [T, Hq + 2 Hkv, D]
    const float* cos_sin;    // [max_pos, D]
    const int32_t* positions;
    const int32_t* slots;
    T* k_cache;              // [blocks, Hkv, D, block]
    T* v_cache;              // [blocks, Hkv, block, D]
    const float* q_norm;     // [D] or null
    const float* k_norm;     // [D] or null
    int64_t num_heads, num_kv_heads, head_dim, block_size;
    float eps;
    bool unit_offset;
};

// One thread's room for one head.
template <class T>
struct Work {
    float* normed;   // [D]
    float* rotated;  // [D]
    T* rounded;      // [D]
};

template <class T>
KVIK_INLINE void normalize(float* out, const float* x, const float* weight, const Args<T>& a) {
    F32 sum = zero();
    each_vector(a.head_dim, [&](int64_t i, int64_t n) {
        const F32 e = load_part(x + i, n);
        sum = fma(e, e, sum);
    });
    scale_row(out, x, weight, a.head_dim, inverse_rms(sum, a.head_dim, a.eps), a.unit_offset);
}

// Each product is rounded before their sum, as in transformers: no fused multiply-add.
KVIK_INLINE void rotate(float* out, const float* x, const float* cos_sin, int64_t half) {
    each_vector(half, [&](int64_t i, int64_t n) {
        const F32 first = load_part(x + i, n), second = load_part(x + half + i, n);
        const F32 cos = load_part(cos_sin + i, n), sin = load_part(cos_sin + half + i, n);
        store_part(out + i, first * cos - second * sin, n);
        store_part(out + half + i, second * cos + first * sin, n);
    });
}

// One head of one token: norm, where asked for, then rotation.
template <class T>
KVIK_INLINE void turn_head(float* out, const float* x, const float* norm, const float* cos_sin, const Work<T>& w,
                           const Args<T>& a) {
    if (norm) {
        normalize(w.normed, x, norm, a);
        x = w.normed;
    }
    rotate(out, x, cos_sin, a.head_dim / 2);
}

// fp16 ends at 65504: what is beyond is stored as that, for an infinite key would make its row of weights NaN.
KVIK_INLINE F32 in_range(const f16*, F32 a) { return min(set1(65504.0f), max(set1(-65504.0f), a)); }
KVIK_INLINE F32 in_range(const float*, F32 a) { return a; }

template <class T>
KVIK_INLINE void round_row(T* out, const float* x, int64_t size) {
    each_vector(size, [&](int64_t i, int64_t n) { store_part(out + i, in_range(out, load_part(x + i, n)), n); });
}

template <class T>
static void one_token(const Args<T>& a, int64_t t, const Work<T>& w) {
    const int64_t d = a.head_dim;
    const float* heads = a.qkv + t * (a.num_heads + 2 * a.num_kv_heads) * d;
    const float* cos_sin = a.cos_sin + a.positions[t] * d;
    for (int64_t h = 0; h < a.num_heads; ++h)
        turn_head(a.q_out + (t * a.num_heads + h) * d, heads + h * d, a.q_norm, cos_sin, w, a);
    if (a.slots[t] < 0) return;
    const int64_t block = a.slots[t] / a.block_size, offset = a.slots[t] % a.block_size;
    for (int64_t h = 0; h < a.num_kv_heads; ++h) {
        const int64_t place = (block * a.num_kv_heads + h) * d * a.block_size;
        const float* key = heads + (a.num_heads + h) * d;
        turn_head(w.rotated, key, a.k_norm, cos_sin, w, a);
        round_row(w.rounded, w.rotated, d);
        for (int64_t i = 0; i < d; ++i) a.k_cache[place + i * a.block_size + offset] = w.rounded[i];
        round_row(a.v_cache + place + offset * d, key + a.num_kv_heads * d, d);
    }
}

template <class T>
static void all_tokens(const Args<T>& a, int64_t num_tokens) {
    const int64_t d = a.head_dim, token_bytes = 2 * (a.num_heads + 2 * a.num_kv_heads) * d * sizeof(float);
    parallel_for(num_tokens, min_tasks(token_bytes), [&](int64_t begin, int64_t end, int) {
        float* block = static_cast<float*>(thread_scratch(3 * d * sizeof(float)));
        const Work<T> work = {block, block + d, reinterpret_cast<T*>(block + 2 * d)};
        for (int64_t t = begin; t < end; ++t) one_token(a, t, work);
    });
}

}  // namespace rope

static void rope_and_cache(float* q_out, const float* qkv, const float* cos_sin, const int32_t* positions,
                           const int32_t* slots, void* k_cache, void* v_cache, const float* q_norm,
                           const float* k_norm, int64_t num_tokens, int64_t num_heads, int64_t num_kv_heads,
                           int64_t head_dim, int64_t block_size, float eps, bool unit_offset, int cache_dtype) {
    with_cache_type(cache_dtype, [&]<class T>() {
        const rope::Args<T> args = {q_out, qkv, cos_sin, positions, slots, static_cast<T*>(k_cache),
                                    static_cast<T*>(v_cache), q_norm, k_norm, num_heads, num_kv_heads, head_dim,
                                    block_size, eps, unit_offset};
        rope::all_tokens(args, num_tokens);
    });
}

}  // namespace kvik::KVIK_ISA
