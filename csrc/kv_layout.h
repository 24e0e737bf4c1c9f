// Where the keys and values of a token lie in the cache of one layer. Knows no op.
//
//   keys    [blocks, Hkv, D (+ 8), block]   16 neighbouring tokens fill one vector
//   values  [blocks, Hkv, block, D]         16 neighbouring dimensions do
//
// int8 is symmetric with one fp32 scale per token and head. The scales of a block's keys, then those of its values,
// fill the 8 rows of bytes behind its keys: a block is whole in itself, wherever it is copied or read from.
#pragma once

#include "simd.h"

namespace kvik::KVIK_ISA {

template <class T>
constexpr bool kIsScaled = false;
template <>
inline constexpr bool kIsScaled<int8_t> = true;

constexpr int64_t kScaleRows = 2 * sizeof(float);  // of bytes, one per token

// Offsets in elements of T from the start of a tensor.
template <class T>
struct KvLayout {
    int64_t num_kv_heads, head_dim, block_size;

    int64_t key_rows() const { return head_dim + (kIsScaled<T> ? kScaleRows : 0); }
    int64_t keys(int64_t block, int64_t head) const { return (block * num_kv_heads + head) * key_rows() * block_size; }
    int64_t values(int64_t block, int64_t head) const { return (block * num_kv_heads + head) * head_dim * block_size; }
};

// Scales of the block whose keys start at `keys`: one float per token, those of the values behind those of the keys.
template <class T>
KVIK_INLINE const float* key_scales(const T* keys, const KvLayout<T>& layout) {
    return reinterpret_cast<const float*>(keys + layout.head_dim * layout.block_size);
}
template <class T>
KVIK_INLINE const float* value_scales(const T* keys, const KvLayout<T>& layout) {
    return key_scales(keys, layout) + layout.block_size;
}

KVIK_INLINE F32 widened(const float* p) { return load(p); }
KVIK_INLINE F32 widened(const bf16* p) { return load(p); }
KVIK_INLINE F32 widened(const f16* p) { return load(p); }
KVIK_INLINE F32 widened(const int8_t* p) { return load_i8(p); }

// Calls fn<T>() with the element type of a cache.
template <class Fn>
KVIK_INLINE void with_cache_type(int dtype, const Fn& fn) {
    switch (dtype) {
        case kI8: return fn.template operator()<int8_t>();
        case kF16: return fn.template operator()<f16>();
        case kBf16: return fn.template operator()<bf16>();
        default: return fn.template operator()<float>();
    }
}

}  // namespace kvik::KVIK_ISA
