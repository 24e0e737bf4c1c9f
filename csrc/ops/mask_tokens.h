// Logits of tokens that may not come become -inf. Bit i % 32 of word i / 32 of a row's mask is set where token i may.
#pragma once

#include "../parallel.h"
#include "../simd.h"

namespace kvik::KVIK_ISA {
namespace mask_tokens_detail {

constexpr int64_t kBits = 32;

KVIK_INLINE void mask_word(float* x, int64_t size, uint32_t allowed) {
    if (allowed == ~uint32_t{0}) return;  // most words of a grammar are all or nothing
    constexpr float kNever = -__builtin_inff();
    if (allowed == 0)
        for (int64_t i = 0; i < size; ++i) x[i] = kNever;
    else
        for (int64_t i = 0; i < size; ++i) x[i] = allowed >> i & 1 ? x[i] : kNever;
}

static void mask_row(float* x, int64_t size, const uint32_t* mask) {
    const int64_t num_whole = size / kBits;
    for (int64_t w = 0; w < num_whole; ++w) mask_word(x + w * kBits, kBits, mask[w]);
    if (size % kBits) mask_word(x + num_whole * kBits, size % kBits, mask[num_whole]);
}

}  // namespace mask_tokens_detail

static void mask_tokens(float* logits, int64_t size, const int32_t* rows, int64_t num_masks, const uint32_t* masks,
                        int64_t mask_stride) {
    parallel_for(num_masks, min_tasks(size * sizeof(float)), [=](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
            mask_tokens_detail::mask_row(logits + rows[i] * size, size, masks + i * mask_stride);
    });
}

}  // namespace kvik::KVIK_ISA
