// Rotary embedding of q and k (Su et al., 2021; the half-split form), and k and v into the paged cache.
#pragma once

#include "../parallel.h"
#include "../simd.h"
#include "rms_norm.h"

namespace kvik::KVIK_ISA {
namespace rope {

template <class T>
struct Args {
    T* q_out;            // [T, Hq, D]
    const T* qkv;        // [T, Hq + 2 Hkv, D]
    const T* cos_sin;    // [max_pos, D]
    const int32_t* positions;
    const int32_t* slots;
    T* k_cache;
    T* v_cache;
    const T* q_norm;     // [D] or null
    const T* k_norm;     // [D] or null
    int64_t num_heads, num_kv_heads, head_dim, block_size;
    float eps;
    bool unit_offset;
};

template <class T>
KVIK_INLINE void normalize(T* out, const T* x, const T* weight, const Args<T>& a) {
    F32 sum = zero();
    each_vector(a.head_dim, [&](int64_t i, int64_t n) {
        const F32 e = load_part(x + i, n);
        sum = fma(e, e, sum);
    });
    scale_row(out, x, weight, a.head_dim, inverse_rms(sum, a.head_dim, a.eps), a.unit_offset);
}

// Each product and their sum are rounded to T, as in transformers.
template <class T>
KVIK_INLINE void rotate(T* out, const T* x, const T* cos_sin, int64_t half) {
    each_vector(half, [&](int64_t i, int64_t n) {
        const F32 first = load_part(x + i, n), second = load_part(x + half + i, n);
        const F32 cos = load_part(cos_sin + i, n), sin = load_part(cos_sin + half + i, n);
        store_part(out + i, round_to<T>(first * cos) - round_to<T>(second * sin), n);
        store_part(out + half + i, round_to<T>(second * cos) + round_to<T>(first * sin), n);
    });
}

// One head of one token: norm, where asked for, then rotation. `work` holds head_dim elements.
template <class T>
KVIK_INLINE void turn_head(T* out, const T* x, const T* norm, const T* cos_sin, T* work, const Args<T>& a) {
    if (norm) {
        normalize(work, x, norm, a);
        x = work;
    }
    rotate(out, x, cos_sin, a.head_dim / 2);
}

// To [D / 2, block, 2] (bf16) or [D, block] (fp32) at a token's place in its block.
KVIK_INLINE void put_key(bf16* block, const bf16* key, int64_t offset, int64_t head_dim, int64_t block_size) {
    for (int64_t d = 0; d < head_dim; d += 2) std::memcpy(block + d * block_size + 2 * offset, key + d, 2 * sizeof *key);
}
KVIK_INLINE void put_key(float* block, const float* key, int64_t offset, int64_t head_dim, int64_t block_size) {
    for (int64_t d = 0; d < head_dim; ++d) block[d * block_size + offset] = key[d];
}

// To [block / 2, D, 2] (bf16) or [block, D] (fp32).
KVIK_INLINE void put_value(bf16* block, const bf16* value, int64_t offset, int64_t head_dim) {
    bf16* pairs = block + offset / 2 * 2 * head_dim + offset % 2;
    for (int64_t d = 0; d < head_dim; ++d) pairs[2 * d] = value[d];
}
KVIK_INLINE void put_value(float* block, const float* value, int64_t offset, int64_t head_dim) {
    std::memcpy(block + offset * head_dim, value, head_dim * sizeof *value);
}

template <class T>
static void one_token(const Args<T>& a, int64_t t, T* work) {
    const int64_t d = a.head_dim;
    const T* heads = a.qkv + t * (a.num_heads + 2 * a.num_kv_heads) * d;
    const T* cos_sin = a.cos_sin + a.positions[t] * d;
    for (int64_t h = 0; h < a.num_heads; ++h)
        turn_head(a.q_out + (t * a.num_heads + h) * d, heads + h * d, a.q_norm, cos_sin, work, a);
    if (a.slots[t] < 0) return;
    const int64_t block = a.slots[t] / a.block_size, offset = a.slots[t] % a.block_size;
    for (int64_t h = 0; h < a.num_kv_heads; ++h) {
        const int64_t place = (block * a.num_kv_heads + h) * d * a.block_size;
        const T* key = heads + (a.num_heads + h) * d;
        turn_head(work + d, key, a.k_norm, cos_sin, work, a);
        put_key(a.k_cache + place, work + d, offset, d, a.block_size);
        put_value(a.v_cache + place, key + a.num_kv_heads * d, offset, d);
    }
}

template <class T>
static void all_tokens(const Args<T>& a, int64_t num_tokens) {
    const int64_t token_bytes = 2 * (a.num_heads + 2 * a.num_kv_heads) * a.head_dim * sizeof(T);
    parallel_for(num_tokens, min_tasks(token_bytes), [&](int64_t begin, int64_t end, int) {
        T* work = static_cast<T*>(thread_scratch(2 * a.head_dim * sizeof(T)));
        for (int64_t t = begin; t < end; ++t) one_token(a, t, work);
    });
}

}  // namespace rope

static void rope_and_cache(void* q_out, const void* qkv, const void* cos_sin, const int32_t* positions,
                           const int32_t* slots, void* k_cache, void* v_cache, const void* q_norm, const void* k_norm,
                           int64_t num_tokens, int64_t num_heads, int64_t num_kv_heads, int64_t head_dim,
                           int64_t block_size, float eps, bool unit_offset, int dtype) {
    with_type(dtype, [&]<class T>() {
        const rope::Args<T> args = {
            static_cast<T*>(q_out), static_cast<const T*>(qkv), static_cast<const T*>(cos_sin), positions, slots,
            static_cast<T*>(k_cache), static_cast<T*>(v_cache), static_cast<const T*>(q_norm),
            static_cast<const T*>(k_norm), num_heads, num_kv_heads, head_dim, block_size, eps, unit_offset};
        rope::all_tokens(args, num_tokens);
    });
}

}  // namespace kvik::KVIK_ISA
