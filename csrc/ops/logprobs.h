// Log-softmax at single tokens, the best k, and ranks. A row's sum runs in chunks of fixed size, whatever the batch.
#pragma once

#include "../parallel.h"
#include "../simd.h"
#include "row_scan.h"

namespace kvik::KVIK_ISA {
namespace logprobs {

using row_scan::Candidate;
using row_scan::kChunk;

constexpr int64_t kSmallK = 128;  // up to here the best are kept sorted while the row goes by

// What turns a logit into the value to report: (x - max) - log_sum, or x itself.
struct Scale {
    float max, log_sum;
    bool normalize;

    float operator()(float x) const { return normalize ? (x - max) - log_sum : x; }
};

KVIK_INLINE float sum_chunk(const float* x, int64_t size, float max) {
    F32 sum = zero();
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) sum = sum + exp(load(x + i) - set1(max));
    float tail[kLanes] = {};
    if (i < size) {
        store(tail, exp(load_n(x + i, size - i) - set1(max)));
        for (int64_t j = size - i; j < kLanes; ++j) tail[j] = 0.0f;
    }
    return reduce_add(sum + load(tail));
}

static Scale scale_of(const float* x, int64_t size, bool normalize) {
    if (!normalize) return {0.0f, 0.0f, false};
    const float max = row_scan::find_peak(x, size).value;
    double sum = 0.0;
    for (int64_t i = 0; i < size; i += kChunk)
        sum += static_cast<double>(sum_chunk(x + i, size - i < kChunk ? size - i : kChunk, max));
    return {max, static_cast<float>(__builtin_log(sum)), true};
}

static int64_t rank_of(const float* x, int64_t size, int64_t id) {
    const float value = x[id];
    int64_t better = 0;
    for (int64_t i = 0; i < size; ++i) better += x[i] > value;
    for (int64_t i = 0; i < id; ++i) better += x[i] == value;
    return better + 1;
}

// Moves the last of n candidates up to its place among the sorted ones before it.
KVIK_INLINE void settle(Candidate* best, int64_t n) {
    const Candidate moving = best[n - 1];
    int64_t i = n - 1;
    for (; i > 0 && row_scan::is_better(moving, best[i - 1]); --i) best[i] = best[i - 1];
    best[i] = moving;
}

// The first k of all tokens, best first.
static void find_best(Candidate* best, const float* x, int64_t size, int64_t k) {
    const auto token = [&](int64_t i) { return Candidate{x[i], static_cast<int32_t>(i)}; };
    for (int64_t i = 0; i < k; ++i) best[i] = token(i);
    if (k > kSmallK) {  // a heap with the worst of the best on top
        for (int64_t i = k / 2; i-- > 0;) row_scan::sink(best, k, i);
        for (int64_t i = k; i < size; ++i) {
            if (!row_scan::is_better(token(i), best[0])) continue;
            best[0] = token(i);
            row_scan::sink(best, k, 0);
        }
        row_scan::sort_best_first(best, k);
        return;
    }
    for (int64_t n = 1; n <= k; ++n) settle(best, n);
    for (int64_t i = k; i < size; ++i) {
        if (size - i >= kLanes && !(reduce_max(load(x + i)) > best[k - 1].value)) {
            i += kLanes - 1;  // none of the next 16 is better
            continue;
        }
        if (!row_scan::is_better(token(i), best[k - 1])) continue;
        best[k - 1] = token(i);
        settle(best, k);
    }
}

}  // namespace logprobs

static void top_logprobs(int64_t* ids, float* values, int64_t* ranks, const float* logits, const int64_t* chosen,
                         int64_t num_rows, int64_t size, int64_t k, bool normalize) {
    parallel_for(num_rows, min_tasks(size * sizeof(float)), [=](int64_t begin, int64_t end, int) {
        auto* best = static_cast<row_scan::Candidate*>(thread_scratch((k + 1) * sizeof(row_scan::Candidate)));
        for (int64_t r = begin; r < end; ++r) {
            const float* x = logits + r * size;
            const logprobs::Scale scale = logprobs::scale_of(x, size, normalize);
            const int64_t row = r * (k + 1);
            ids[row] = chosen[r];
            values[row] = scale(x[chosen[r]]);
            ranks[row] = logprobs::rank_of(x, size, chosen[r]);
            if (k) logprobs::find_best(best, x, size, k);
            for (int64_t i = 0; i < k; ++i) {
                ids[row + 1 + i] = best[i].id;
                values[row + 1 + i] = scale(best[i].value);
                ranks[row + 1 + i] = i + 1;
            }
        }
    });
}

static void token_logprobs(float* values, int64_t* ranks, const float* logits, const int64_t* token_ids,
                           int64_t num_rows, int64_t size, int64_t num_ids, bool normalize) {
    parallel_for(num_rows, min_tasks(size * sizeof(float)), [=](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
            const float* x = logits + r * size;
            const logprobs::Scale scale = logprobs::scale_of(x, size, normalize);
            for (int64_t i = r * num_ids; i < (r + 1) * num_ids; ++i) {
                values[i] = scale(x[token_ids[i]]);
                ranks[i] = logprobs::rank_of(x, size, token_ids[i]);
            }
        }
    });
}

}  // namespace kvik::KVIK_ISA
