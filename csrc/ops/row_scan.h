// What sample and logprobs share: walks over one row of logits.
#pragma once

#include "../simd.h"

namespace kvik::KVIK_ISA {
namespace row_scan {

constexpr int64_t kChunk = 1024;  // elements; a multiple of the vector
constexpr float kInfinity = __builtin_inff();

struct Peak {
    float value;       // -inf for a row of -inf; NaN is passed over
    int64_t index;     // the lowest with that value
    bool is_sound;     // no NaN, no +inf, not all -inf
};

struct Chunk {
    float max;
    bool is_sound;  // no NaN, no +inf
};

KVIK_INLINE Chunk scan_chunk(const float* x, int64_t size) {
    F32 best = set1(-kInfinity), flaw = zero();  // flaw turns NaN where 0 * x is; -inf is let through
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) {
        const F32 v = load(x + i);
        best = max(v, best);
        flaw = fma(max(set1(-3e38f), v), zero(), flaw);
    }
    Chunk found = {reduce_max(best), true};
    float sum = reduce_add(flaw);
    for (; i < size; ++i) {
        if (x[i] > found.max) found.max = x[i];
        if (x[i] != x[i] || x[i] == kInfinity) sum = x[i] - x[i];
    }
    found.is_sound = sum == sum;
    return found;
}

static Peak find_peak(const float* x, int64_t size) {
    Peak peak = {-kInfinity, 0, true};
    int64_t home = 0;
    for (int64_t begin = 0; begin < size; begin += kChunk) {
        const Chunk chunk = scan_chunk(x + begin, size - begin < kChunk ? size - begin : kChunk);
        peak.is_sound &= chunk.is_sound;
        if (chunk.max > peak.value) {
            peak.value = chunk.max;
            home = begin;
        }
    }
    peak.is_sound &= peak.value > -kInfinity;
    if (peak.value > -kInfinity)
        for (peak.index = home; x[peak.index] != peak.value;) ++peak.index;
    return peak;
}

// A token by its value. Better is a higher value, then a lower id.
struct Candidate {
    float value;
    int32_t id;
};

KVIK_INLINE bool is_better(Candidate a, Candidate b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }

// Heap of n candidates, the worst of them on top: sinks the one at `at`.
static void sink(Candidate* heap, int64_t n, int64_t at) {
    const Candidate moving = heap[at];
    while (true) {
        int64_t child = 2 * at + 1;
        if (child >= n) break;
        if (child + 1 < n && is_better(heap[child], heap[child + 1])) ++child;
        if (!is_better(moving, heap[child])) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

// Best first. Heap sort: no recursion, no extra memory, n log n whatever the input.
static void sort_best_first(Candidate* all, int64_t n) {
    for (int64_t i = n / 2; i-- > 0;) sink(all, n, i);
    for (int64_t left = n; left > 1; --left) {
        const Candidate worst = all[0];
        all[0] = all[left - 1];
        all[left - 1] = worst;
        sink(all, left - 1, 0);
    }
}

}  // namespace row_scan
}  // namespace kvik::KVIK_ISA
