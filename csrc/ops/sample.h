// One token per row; kernels/sample/__init__.py defines which. Weights are whole numbers, so no order of summing matters.
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
};

KVIK_INLINE int64_t whole(float weight) { return static_cast<int64_t>(weight * kWeightOne); }

static size_t work_bytes(int64_t size) {
    return size * (sizeof(float) + sizeof(Candidate)) + kBuckets * (sizeof(int64_t) + sizeof(int32_t));
}

static Row make_row(const float* logits, int64_t size, float max, float temperature, void* work) {
    Row row = {logits, size, max, 1.0f / temperature, nullptr, nullptr, nullptr, nullptr};
    row.sums = static_cast<int64_t*>(work);
    row.candidates = reinterpret_cast<Candidate*>(row.sums + kBuckets);
    row.counts = reinterpret_cast<int32_t*>(row.candidates + size);
    row.weights = reinterpret_cast<float*>(row.counts + kBuckets);
    each_vector(size, [&](int64_t i, int64_t n) {
        const F32 scaled = (load_part(logits + i, n) - set1(max)) * set1(row.inverse_temperature);
        store_part(row.weights + i, exp(scaled), n);
    });
    return row;
}

KVIK_INLINE int64_t bucket_of(float z) { return static_cast<int64_t>(-z * kBucketsPerUnit); }

static void fill_buckets(Row& row, float lowest) {
    std::memset(row.counts, 0, kBuckets * sizeof *row.counts);
    std::memset(row.sums, 0, kBuckets * sizeof *row.sums);
    for (int64_t i = 0; i < row.size; ++i) {
        const int64_t weight = whole(row.weights[i]);
        const float z = row.z(i);
        if (weight <= 0 || z < lowest) continue;
        const int64_t bucket = bucket_of(z);
        ++row.counts[bucket];
        row.sums[bucket] += weight;
    }
}

// The tokens of one bucket, best first; returns how many.
static int64_t open_bucket(Row& row, float lowest, int64_t bucket) {
    int64_t n = 0;
    for (int64_t i = 0; i < row.size; ++i) {
        const float z = row.z(i);
        if (whole(row.weights[i]) <= 0 || z < lowest || bucket_of(z) != bucket) continue;
        row.candidates[n++] = {z, static_cast<int32_t>(i)};
    }
    row_scan::sort_best_first(row.candidates, n);
    return n;
}

// The last token that top-k, then top-p keep; {-inf, ...} where neither cuts.
static Candidate find_cut(Row& row, const Filter& filter) {
    Candidate cut = {-kInfinity, 0};
    fill_buckets(row, filter.lowest);
    int64_t total = 0, num_left = filter.top_k, cut_bucket = kBuckets;
    for (int64_t b = 0; b < kBuckets && cut_bucket == kBuckets; ++b) {
        if (filter.top_k && row.counts[b] >= num_left) {
            open_bucket(row, filter.lowest, b);
            cut = row.candidates[num_left - 1];
            row.sums[b] = 0;
            for (int64_t i = 0; i < num_left; ++i) row.sums[b] += whole(row.weights[row.candidates[i].id]);
            cut_bucket = b;
        }
        num_left -= row.counts[b];
        total += row.sums[b];
    }
    if (filter.top_p >= 1.0f) return cut;
    const double target = __builtin_ceil(static_cast<double>(filter.top_p) * static_cast<double>(total));
    int64_t wanted = static_cast<int64_t>(target), b = 0;
    for (; b < kBuckets && row.sums[b] < wanted; ++b) wanted -= row.sums[b];
    if (b == kBuckets) return cut;
    open_bucket(row, filter.lowest, b);
    int64_t i = 0;
    for (; (wanted -= whole(row.weights[row.candidates[i].id])) > 0;) ++i;
    return row.candidates[i];
}

// Sets the weight of every token that the filter rules out to 0.
static void apply(Row& row, const Filter& filter) {
    if (!filter.top_k && filter.top_p >= 1.0f && filter.lowest == -kInfinity) return;
    const bool needs_cut = filter.top_k || filter.top_p < 1.0f;
    const Candidate cut = needs_cut ? find_cut(row, filter) : Candidate{-kInfinity, 0};
    for (int64_t i = 0; i < row.size; ++i) {
        const float z = row.z(i);
        const bool kept = z >= filter.lowest && (z > cut.value || (z == cut.value && i <= cut.id));
        row.weights[i] = kept ? row.weights[i] : 0.0f;
    }
}

KVIK_INLINE int64_t sum_weights(const float* weights, int64_t size) {
    int64_t sum = 0;
    for (int64_t i = 0; i < size; ++i) sum += whole(weights[i]);
    return sum;
}

// The first token in ascending id whose cumulative weight exceeds word / 2^64 of the total.
static int64_t draw(const Row& row, uint64_t word) {
    const uint64_t total = static_cast<uint64_t>(sum_weights(row.weights, row.size));
    int64_t left = static_cast<int64_t>(static_cast<unsigned __int128>(word) * total >> 64);
    int64_t i = 0;
    for (; i + kChunk < row.size; i += kChunk) {
        const int64_t chunk = sum_weights(row.weights + i, kChunk);
        if (left < chunk) break;
        left -= chunk;
    }
    while ((left -= whole(row.weights[i])) >= 0) ++i;
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
        for (int64_t i = 0; i < a.size; ++i) a.kept[r * a.size + i] = whole(row.weights[i]) > 0;
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
