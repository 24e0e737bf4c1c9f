// One token per row; kernels/sample/__init__.py defines which. Weights are whole numbers: no order of sums matters.
#pragma once

#include "../parallel.h"
#include "../simd.h"
#include "row_scan.h"

namespace kvik::KVIK_ISA {
namespace sampling {

using row_scan::Candidate;
using row_scan::kChunk;
using row_scan::kInfinity;

constexpr float kGreedyBelow = 1e-5f;
constexpr float kWeightOne = 1099511627776.0f;  // 2^40
// Tokens with a weight have z > -28. They fall into buckets of 1/64, the best in bucket 0.
constexpr float kBucketsPerUnit = 64.0f;
constexpr int64_t kBuckets = 28 * 64;

// Philox4x32-10 (Salmon et al., 2011): the first two words for the counter (position, 0) and the key `seed`.
KVIK_INLINE uint64_t random_word64(uint64_t seed, uint64_t position) {
    uint32_t c0 = static_cast<uint32_t>(position), c1 = static_cast<uint32_t>(position >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = uint64_t{0xD2511F53u} * c0, b = uint64_t{0xCD9E8D57u} * c2;
        c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
        c1 = static_cast<uint32_t>(b);
        c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
        c3 = static_cast<uint32_t>(a);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return uint64_t{c1} << 32 | c0;
}

struct Filter {
    int64_t top_k;  // 0 is off
    float top_p;    // 1 is off
    float lowest;   // min-p as a bound on z; -inf is off
};

// A row, its weights over 2^40, and room to select in.
struct Row {
    const float* logits;
    int64_t size;
    float max, inverse_temperature;
    float* weights;          // [size]
    Candidate* candidates;   // [size]
    int32_t* counts;         // [kBuckets]
    int64_t* sums;           // [kBuckets]

    float z(int64_t i) const { return (logits[i] - max) * inverse_temperature; }
    F32 z_vector(int64_t i, int64_t n = kLanes) const {
        return (load_part(logits + i, n) - set1(max)) * set1(inverse_temperature);
    }
    int64_t weight(int64_t i) const { return static_cast<int64_t>(weights[i] * kWeightOne); }
};

static size_t work_bytes(int64_t size) {
    return size * (sizeof(float) + sizeof(Candidate)) + kBuckets * (sizeof(int64_t) + sizeof(int32_t));
}

static Row make_row(const float* logits, int64_t size, float max, float temperature, void* work) {
    Row row = {logits, size, max, 1.0f / temperature, nullptr, nullptr, nullptr, nullptr};
    row.sums = static_cast<int64_t*>(work);
    row.candidates = reinterpret_cast<Candidate*>(row.sums + kBuckets);
    row.counts = reinterpret_cast<int32_t*>(row.candidates + size);
    row.weights = reinterpret_cast<float*>(row.counts + kBuckets);
    each_vector(size, [&](int64_t i, int64_t n) { store_part(row.weights + i, exp(row.z_vector(i, n)), n); });
    return row;
}

KVIK_INLINE int64_t sum_weights(const Row& row, int64_t begin, int64_t end) {
    int64_t sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += row.weight(i);
    return sum;
}

// fn(i) for the tokens that have a weight, and one of at least `floor`.
template <class Fn>
KVIK_INLINE void each_weighty(const Row& row, float floor, const Fn& fn) {
    for (int64_t begin = 0; begin < row.size; begin += kLanes) {
        const int64_t left = row.size - begin, n = left < kLanes ? left : kLanes;
        if (n == kLanes && reduce_max(load(row.weights + begin)) < floor) continue;
        for (int64_t i = begin; i < begin + n; ++i)
            if (row.weights[i] >= floor && row.weight(i) > 0) fn(i);
    }
}

KVIK_INLINE int64_t bucket_of(float z) { return static_cast<int64_t>(-z * kBucketsPerUnit); }

static void fill_buckets(Row& row, float floor) {
    std::memset(row.counts, 0, kBuckets * sizeof *row.counts);
    std::memset(row.sums, 0, kBuckets * sizeof *row.sums);
    each_weighty(row, floor, [&](int64_t i) {
        const int64_t bucket = bucket_of(row.z(i));
        ++row.counts[bucket];
        row.sums[bucket] += row.weight(i);
    });
}

// Makes the tokens of one bucket the candidates, best first.
static void open_bucket(Row& row, float floor, int64_t bucket) {
    int64_t n = 0;
    each_weighty(row, floor, [&](int64_t i) {
        if (bucket_of(row.z(i)) == bucket) row.candidates[n++] = {row.z(i), static_cast<int32_t>(i)};
    });
    row_scan::sort_best_first(row.candidates, n);
}

KVIK_INLINE int64_t nucleus(float top_p, int64_t total) {
    return static_cast<int64_t>(__builtin_ceil(static_cast<double>(top_p) * static_cast<double>(total)));
}

// Of sorted candidates the one with which the sum reaches `wanted`; it must reach it.
static Candidate reach(const Row& row, int64_t wanted) {
    int64_t i = 0;
    while ((wanted -= row.weight(row.candidates[i].id)) > 0) ++i;
    return row.candidates[i];
}

// The last token that a small top-k, then top-p keep: the best k are kept sorted in one walk.
static Candidate cut_few(Row& row, const Filter& filter) {
    row_scan::find_best(
        row.candidates, filter.top_k, row.size, [&](int64_t i) { return row.weights[i] > 0 ? row.z(i) : -kInfinity; },
        [&](int64_t i) { return select_lt(zero(), load(row.weights + i), row.z_vector(i), set1(-kInfinity)); });
    int64_t total = 0, n = 0;
    for (; n < filter.top_k && row.weight(row.candidates[n].id) > 0; ++n) total += row.weight(row.candidates[n].id);
    return filter.top_p < 1.0f ? reach(row, nucleus(filter.top_p, total)) : row.candidates[n - 1];
}

// The last token that top-k keeps, by counting buckets; takes what it rules out off the buckets. {-inf} without a cut.
static Candidate cut_many(Row& row, int64_t top_k) {
    int64_t left = top_k, b = 0;
    for (; b < kBuckets && row.counts[b] < left; ++b) left -= row.counts[b];
    if (b == kBuckets) return {-kInfinity, 0};
    open_bucket(row, 0.0f, b);
    std::memset(row.sums + b, 0, (kBuckets - b) * sizeof *row.sums);
    for (int64_t i = 0; i < left; ++i) row.sums[b] += row.weight(row.candidates[i].id);
    return row.candidates[left - 1];
}

// The last token that top-k, then top-p keep. {-inf} where neither cuts.
static Candidate find_cut(Row& row, const Filter& filter) {
    if (filter.top_k && filter.top_k <= row_scan::kSmallK) return cut_few(row, filter);
    // Tokens below an equal share of what top-p may leave out are left out in any case.
    int64_t total = filter.top_k ? 0 : sum_weights(row, 0, row.size);
    const double share = (1.0 - static_cast<double>(filter.top_p)) * static_cast<double>(total) / row.size;
    const float floor = static_cast<float>(0.99 * share / static_cast<double>(kWeightOne));
    fill_buckets(row, floor);
    const Candidate cut = filter.top_k ? cut_many(row, filter.top_k) : Candidate{-kInfinity, 0};
    if (filter.top_p >= 1.0f) return cut;
    for (int64_t b = 0; filter.top_k && b < kBuckets; ++b) total += row.sums[b];
    int64_t wanted = nucleus(filter.top_p, total), b = 0;
    for (; b < kBuckets && row.sums[b] < wanted; ++b) wanted -= row.sums[b];
    if (b == kBuckets) return cut;
    open_bucket(row, floor, b);
    return reach(row, wanted);
}

// Sets the weight of every token that the filter rules out to 0.
static void apply(Row& row, const Filter& filter) {
    const auto rule_out_below = [&](float bound) {
        each_vector(row.size, [&](int64_t i, int64_t n) {
            const F32 kept = select_lt(row.z_vector(i, n), set1(bound), zero(), load_part(row.weights + i, n));
            store_part(row.weights + i, kept, n);
        });
    };
    if (filter.lowest > -kInfinity) rule_out_below(filter.lowest);
    if (!filter.top_k && filter.top_p >= 1.0f) return;
    const Candidate cut = find_cut(row, filter);
    if (cut.value == -kInfinity) return;
    rule_out_below(cut.value);
    for (int64_t i = cut.id + 1; i < row.size; ++i) row.weights[i] = row.z(i) == cut.value ? 0.0f : row.weights[i];
}

// The first token in ascending id whose cumulative weight exceeds word / 2^64 of the total.
static int64_t draw(const Row& row, uint64_t word) {
    const uint64_t total = static_cast<uint64_t>(sum_weights(row, 0, row.size));
    int64_t left = static_cast<int64_t>(static_cast<unsigned __int128>(word) * total >> 64);
    int64_t i = 0;
    for (; i + kChunk < row.size; i += kChunk) {
        const int64_t chunk = sum_weights(row, i, i + kChunk);
        if (left < chunk) break;
        left -= chunk;
    }
    while ((left -= row.weight(i)) >= 0) ++i;
    return i;
}

struct Args {
    int64_t* out;       // [R], or null
    uint8_t* kept;      // [R, V], or null
    const float* logits;
    int64_t size;
    const float* temperature;
    const int32_t* top_k;
    const float* top_p;
    const float* min_p;
    const int64_t* seeds;
    const int64_t* positions;
};

static Filter filter_of(const Args& a, int64_t r) {
    const bool cuts = a.top_k[r] > 0 && a.top_k[r] < a.size;
    const double min_p = static_cast<double>(a.min_p[r]);
    const float lowest = min_p > 0 ? static_cast<float>(__builtin_log(min_p)) : -kInfinity;
    return {cuts ? a.top_k[r] : 0, a.top_p[r], lowest};
}

static void one_row(const Args& a, int64_t r, void* work) {
    const float* logits = a.logits + r * a.size;
    const row_scan::Peak peak = row_scan::find_peak(logits, a.size);
    const bool greedy = a.temperature[r] < kGreedyBelow;
    if (!peak.is_sound || greedy) {
        if (a.out) a.out[r] = peak.is_sound ? peak.index : -1;
        if (a.kept) std::memset(a.kept + r * a.size, peak.is_sound, a.size);
        return;
    }
    Row row = make_row(logits, a.size, peak.value, a.temperature[r], work);
    apply(row, filter_of(a, r));
    if (a.out) a.out[r] = draw(row, random_word64(a.seeds[r], a.positions[r]));
    if (a.kept)
        for (int64_t i = 0; i < a.size; ++i) a.kept[r * a.size + i] = row.weight(i) > 0;
}

static void all_rows(const Args& a, int64_t num_rows) {
    parallel_for(num_rows, min_tasks(a.size * sizeof(float)), [&](int64_t begin, int64_t end, int) {
        void* work = thread_scratch(work_bytes(a.size));
        for (int64_t r = begin; r < end; ++r) one_row(a, r, work);
    });
}

}  // namespace sampling

static void sample(int64_t* out, const float* logits, int64_t num_rows, int64_t size, const float* temperature,
                   const int32_t* top_k, const float* top_p, const float* min_p, const int64_t* seeds,
                   const int64_t* positions) {
    sampling::all_rows({out, nullptr, logits, size, temperature, top_k, top_p, min_p, seeds, positions}, num_rows);
}

static void kept_tokens(uint8_t* kept, const float* logits, int64_t num_rows, int64_t size, const float* temperature,
                        const int32_t* top_k, const float* top_p, const float* min_p) {
    sampling::all_rows({nullptr, kept, logits, size, temperature, top_k, top_p, min_p, nullptr, nullptr}, num_rows);
}

static void arg_max(int64_t* out, const float* logits, int64_t num_rows, int64_t size) {
    parallel_for(num_rows, min_tasks(size * sizeof(float)), [=](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
            const row_scan::Peak peak = row_scan::find_peak(logits + r * size, size);
            out[r] = peak.is_sound ? peak.index : -1;
        }
    });
}

}  // namespace kvik::KVIK_ISA
