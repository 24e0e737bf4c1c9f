// Rotary embedding of q and k (Su et al., 2021; the half-split form), and k and v into the paged cache. All is fp32 but
// the cache: keys and values are rounded once, to its type T, as they are written.
//
// Neighbouring tokens of a block go in together: a row of its keys, one dimension of all its tokens, is written in one
// go, not in as many visits as there are tokens.
#pragma once

#include "../kv_layout.h"
#include "../parallel.h"
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
    T* k_cache;
    T* v_cache;
    KvLayout<T> layout;
    const float* q_norm;     // [D] or null
    const float* k_norm;     // [D] or null
    int64_t num_heads, num_kv_heads, head_dim;
    float eps;
    bool unit_offset;
};

constexpr int64_t kMaxTogether = 16;  // tokens

// One thread's room.
template <class T>
struct Work {
    float* normed;   // [D]
    float* rotated;  // [D]
    T* rounded;      // [16, D]: keys of one head
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
KVIK_INLINE F32 in_range(const bf16*, F32 a) { return a; }

template <class T>
KVIK_INLINE void round_row(T* out, float*, const float* x, int64_t size) {
    each_vector(size, [&](int64_t i, int64_t n) { store_part(out + i, in_range(out, load_part(x + i, n)), n); });
}

constexpr float kLargest = 3.40282347e38f;
KVIK_INLINE F32 finite(F32 a) { return min(set1(kLargest), max(set1(-kLargest), a)); }

// To int8 by a scale of the largest size / 127. A row with NaN gets the scale NaN: it would be lost in the integers.
KVIK_INLINE void round_row(int8_t* out, float* scale, const float* x, int64_t size) {
    F32 largest = zero(), nan = zero();
    each_vector(size, [&](int64_t i, int64_t n) {
        const F32 e = finite(load_part(x + i, n));
        largest = max(largest, max(e, zero() - e));
        nan = nan + (e - e);
    });
    *scale = (reduce_max(largest) + reduce_add(nan)) / 127.0f;
    const F32 step = set1(*scale == 0.0f ? 1.0f : *scale);
    each_vector(size, [&](int64_t i, int64_t n) {
        const F32 e = round(finite(load_part(x + i, n)) / step);
        store_part(out + i, min(max(e, set1(-127.0f)), set1(127.0f)), n);  // NaN: -127
    });
}

// The scales of a block's keys from `offset` on, and of its values; null where there are none.
struct Scales {
    float* keys = nullptr;
    float* values = nullptr;

    float* key(int64_t i) const { return keys ? keys + i : nullptr; }
    float* value(int64_t i) const { return values ? values + i : nullptr; }
};
template <class T>
KVIK_INLINE Scales scales_from(const Args<T>& a, T* keys, int64_t offset) {
    if constexpr (kIsScaled<T>) {
        float* first = reinterpret_cast<float*>(keys + a.head_dim * a.layout.block_size) + offset;
        return {first, first + a.layout.block_size};
    } else {
        return {};
    }
}

// Tokens [t, t + count) in neighbouring slots of one block, from `offset` on.
template <class T>
static void write_head(const Args<T>& a, int64_t t, int64_t count, int64_t h, const Work<T>& w) {
    const int64_t d = a.head_dim, block_size = a.layout.block_size, stride = (a.num_heads + 2 * a.num_kv_heads) * d;
    const int64_t block = a.slots[t] / block_size, offset = a.slots[t] % block_size;
    T* keys = a.k_cache + a.layout.keys(block, h);
    T* values = a.v_cache + a.layout.values(block, h) + offset * d;
    const Scales scales = scales_from(a, keys, offset);
    const float* key = a.qkv + t * stride + (a.num_heads + h) * d;
    for (int64_t i = 0; i < count; ++i, key += stride) {
        turn_head(w.rotated, key, a.k_norm, a.cos_sin + a.positions[t + i] * d, w, a);
        round_row(w.rounded + i * d, scales.key(i), w.rotated, d);
        round_row(values + i * d, scales.value(i), key + a.num_kv_heads * d, d);
    }
    if (count == kMaxTogether) {
        for (int64_t e = 0; e < d; ++e)
            for (int64_t i = 0; i < kMaxTogether; ++i) keys[e * block_size + offset + i] = w.rounded[i * d + e];
    } else {
        for (int64_t i = 0; i < count; ++i)
            for (int64_t e = 0; e < d; ++e) keys[e * block_size + offset + i] = w.rounded[i * d + e];
    }
}

// How many tokens from t on, up to `end`, lie in neighbouring slots of one block.
template <class T>
KVIK_INLINE int64_t count_together(const Args<T>& a, int64_t t, int64_t end) {
    const int64_t room = a.layout.block_size - a.slots[t] % a.layout.block_size;
    int64_t most = room < kMaxTogether ? room : kMaxTogether, count = 1;
    if (end - t < most) most = end - t;
    while (count < most && a.slots[t + count] == a.slots[t] + count) ++count;
    return count;
}

template <class T>
static void some_tokens(const Args<T>& a, int64_t begin, int64_t end, const Work<T>& w) {
    const int64_t d = a.head_dim;
    for (int64_t t = begin; t < end; ++t) {
        const float* heads = a.qkv + t * (a.num_heads + 2 * a.num_kv_heads) * d;
        for (int64_t h = 0; h < a.num_heads; ++h)
            turn_head(a.q_out + (t * a.num_heads + h) * d, heads + h * d, a.q_norm, a.cos_sin + a.positions[t] * d, w, a);
    }
    for (int64_t t = begin; t < end;) {
        const int64_t count = a.slots[t] < 0 ? 1 : count_together(a, t, end);
        for (int64_t h = 0; a.slots[t] >= 0 && h < a.num_kv_heads; ++h) write_head(a, t, count, h, w);
        t += count;
    }
}

template <class T>
static void all_tokens(const Args<T>& a, int64_t num_tokens) {
    const int64_t d = a.head_dim, token_bytes = 2 * (a.num_heads + 2 * a.num_kv_heads) * d * sizeof(float);
    parallel_for(num_tokens, min_tasks(token_bytes), [&](int64_t begin, int64_t end, int) {
        float* block = static_cast<float*>(thread_scratch((2 + kMaxTogether) * d * sizeof(float)));
        const Work<T> work = {block, block + d, reinterpret_cast<T*>(block + 2 * d)};
        some_tokens(a, begin, end, work);
    });
}

}  // namespace rope

static void rope_and_cache(float* q_out, const float* qkv, const float* cos_sin, const int32_t* positions,
                           const int32_t* slots, void* k_cache, void* v_cache, const float* q_norm,
                           const float* k_norm, int64_t num_tokens, int64_t num_heads, int64_t num_kv_heads,
                           int64_t head_dim, int64_t block_size, float eps, bool unit_offset, int cache_dtype) {
    with_cache_type(cache_dtype, [&]<class T>() {
        const rope::Args<T> args = {q_out, qkv, cos_sin, positions, slots, static_cast<T*>(k_cache),
                                    static_cast<T*>(v_cache), KvLayout<T>{num_kv_heads, head_dim, block_size}, q_norm,
                                    k_norm, num_heads, num_kv_heads, head_dim, eps, unit_offset};
        rope::all_tokens(args, num_tokens);
    });
}

}  // namespace kvik::KVIK_ISA
