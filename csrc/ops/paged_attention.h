// Causal attention over a paged cache: prefill and decode rows in one call.
//
// Only the cache may be other than fp32: keys and values are widened exactly. Those of an int8 cache carry a scale
// each (kv_layout.h): that of a key multiplies its score, that of a value its weight.
//
// Keys are taken in partitions of 512 at absolute positions. Per query row and partition: the scores, each one chain
// of multiply-adds over the head dimension; their maximum m; p = exp(score - m); l = the sum of p, lane by lane in
// ascending groups of 16 keys, then over the lanes; the sum of p times v, one chain over ascending keys. Partitions are
// merged in ascending order (Flash-Decoding; Milakov and Gimelshein, 2018). None of this depends on which rows share a
// tile, or on who computes it: a query's result is the same bits in any batch.
//
// A tile is some queries of one request times the query heads of one key head: the rows of a small matrix product.
// A tile with many keys can be split into its partitions, whose results are kept aside and merged afterwards.
//
// Blocks lie anywhere and are short: the hardware sees no stream to run ahead of. So keys are read while the values
// of the same partition are asked for, and values while the keys of the next are.
#pragma once

#include "../kv_layout.h"
#include "../parallel.h"

namespace kvik::KVIK_ISA {
namespace attention {

constexpr int64_t kPartition = 512;
constexpr int64_t kGroups = kPartition / kLanes;  // of keys
constexpr int64_t kTileRows = 32;                 // unless one query alone has more
constexpr float kInfinity = __builtin_inff();

template <class T>
struct Args {
    float* out;         // [T, Hq, D]
    const float* q;     // [T, Hq, D]
    const T* k_cache;
    const T* v_cache;
    KvLayout<T> layout;
    const int32_t* block_tables;     // [B, max_blocks]
    const int32_t* query_start_loc;  // [B + 1]
    const int32_t* seq_lens;         // [B]
    int64_t num_requests, max_blocks, num_kv_heads, group, head_dim;
    float scale;
    int64_t window;  // 0: none

    int64_t tile_queries() const { return group < kTileRows ? kTileRows / group : 1; }
    int64_t max_rows() const { return tile_queries() * group; }
    int64_t first_key(int64_t position) const { return window && position >= window ? position - window + 1 : 0; }
};

struct Tile {
    int32_t request, head;
    int32_t first_row;       // of q
    int32_t num_queries;
    int32_t first_position;  // of the first query
};

template <class T>
KVIK_INLINE int64_t first_partition(const Args<T>& a, const Tile& t) {
    return a.first_key(t.first_position) / kPartition;
}
KVIK_INLINE int64_t end_partition(const Tile& t) { return (t.first_position + t.num_queries - 1) / kPartition + 1; }

// A share of work: partitions [begin, end) of a tile. `kept` is the first of its rows among the partial results, or
// -1 where the tile is not split and its result goes out at once.
struct Item {
    Tile tile;
    int32_t begin, end;
    int64_t kept;
};

// What rows know after some partitions.
struct Partial {
    float* acc;    // [rows, D]
    float* max;    // [rows]
    float* total;  // [rows]
};

// Keys [begin, end) of one partition, from its start.
struct Range {
    int64_t begin, end;
};

// Where each 16 keys of a partition lie, and their values.
template <class T>
struct Places {
    const T* keys[kGroups];
    const T* values[kGroups];
    const float* key_scales[kGroups];  // those of a cache without scales are not read
    const float* value_scales[kGroups];
};

// The partition of a tile that comes next, in the order of the bytes: its keys are asked for ahead.
template <class T>
struct Ahead {
    const T* keys[kGroups];
    int64_t count = 0;
};

// One thread's room for one tile and one partition.
template <class T>
struct Work {
    float* queries;   // [rows, D]
    float* scores;    // [kMaxRows, 512] of the rows at hand; then the weights
    Partial part, whole;
    Places<T> places;
    Ahead<T> ahead;
};

// Cuts arrays, 64-byte aligned, out of one block of memory; without memory it only counts.
struct Cutter {
    char* data;
    size_t used = 0;

    template <class E>
    E* take(int64_t count) {
        E* cut = reinterpret_cast<E*>(data + used);
        used += (static_cast<size_t>(count) * sizeof(E) + 63) / 64 * 64;
        return data ? cut : nullptr;
    }
    Partial take_partial(int64_t rows, int64_t head_dim) {
        return {take<float>(rows * head_dim), take<float>(rows), take<float>(rows)};
    }
};

template <class T>
static void cut_work(Work<T>& w, Cutter& cutter, const Args<T>& a) {
    const int64_t rows = a.max_rows();
    w.queries = cutter.take<float>(rows * a.head_dim);
    w.scores = cutter.take<float>(kMaxRows * kPartition);
    w.part = cutter.take_partial(rows, a.head_dim);
    w.whole = cutter.take_partial(rows, a.head_dim);
}

// --- one partition of one tile ----------------------------------------------------------------------

// Asks for a cache line. L2 holds a partition of keys and one of values, L1 does not.
template <class T>
KVIK_INLINE void ask_for(const T* p) {
    __builtin_prefetch(p, 0, 2);
}

// kRows x kN sums += one input of each row, `stride` floats apart, times the vectors at address(n).
template <int kRows, int kN, class Address>
KVIK_INLINE void multiply_add(F32 (&sums)[kRows][kN], const float* inputs, int64_t stride, const Address& address) {
    F32 vectors[kN];
    KVIK_UNROLL for (int n = 0; n < kN; ++n) vectors[n] = widened(address(n));
    KVIK_UNROLL for (int r = 0; r < kRows; ++r) {
        const F32 input = set1(inputs[r * stride]);
        KVIK_UNROLL for (int n = 0; n < kN; ++n) sums[r][n] = fma(input, vectors[n], sums[r][n]);
    }
}

// scale * q k^T for kRows queries and kN groups of 16 keys from `group`. `ask`: for the values of these keys.
template <class T, int kRows, int kN>
static void score_tile(const Args<T>& a, const Places<T>& places, float* scores, const float* q, int64_t group,
                       bool ask) {
    constexpr int64_t kSteps = 64 / (kLanes * sizeof(T));  // to a cache line of a group's values
    const int64_t head_dim = a.head_dim, block_size = a.layout.block_size;
    const T* const* keys = places.keys + group;
    const T* const* values = places.values + group;
    F32 acc[kRows][kN];
    KVIK_UNROLL for (int r = 0; r < kRows; ++r)
        KVIK_UNROLL for (int n = 0; n < kN; ++n) acc[r][n] = zero();
    for (int64_t d = 0; d < head_dim; ++d) {
        multiply_add(acc, q + d, head_dim, [&](int n) { return keys[n] + d * block_size; });
        if (ask && d % kSteps == 0)
            KVIK_UNROLL for (int n = 0; n < kN; ++n) ask_for(values[n] + d * kLanes);
    }
    F32 scale[kN];
    KVIK_UNROLL for (int n = 0; n < kN; ++n) {
        scale[n] = set1(a.scale);
        if constexpr (kIsScaled<T>) scale[n] = scale[n] * load(places.key_scales[group + n]);
    }
    scores += group * kLanes;
    KVIK_UNROLL for (int r = 0; r < kRows; ++r)
        KVIK_UNROLL for (int n = 0; n < kN; ++n) store(scores + r * kPartition + n * kLanes, acc[r][n] * scale[n]);
}

// As many groups at once as there are registers for; then the rest, at once too.
template <class T, int kRows, int kN = kMaxPanels>
static void score_groups(const Args<T>& a, const Work<T>& w, int64_t row, Range groups) {
    int64_t g = groups.begin;
    for (; g + kN <= groups.end; g += kN)
        score_tile<T, kRows, kN>(a, w.places, w.scores, w.queries + row * a.head_dim, g, row == 0);
    if constexpr (kN > 1) {
        if (g < groups.end) score_groups<T, kRows, kN - 1>(a, w, row, {g, groups.end});
    }
}

template <class T, int kRows = kMaxRows>
static void score_rows(const Args<T>& a, const Work<T>& w, int64_t row, int64_t num_rows, Range groups) {
    if constexpr (kRows > 1) {
        if (num_rows < kRows) return score_rows<T, kRows - 1>(a, w, row, num_rows, groups);
    }
    score_groups<T, kRows>(a, w, row, groups);
}

// kRows x (16 kN) outputs from `column`: the weighted sum of the values of `keys`. No other is read: a slot without a
// token may hold anything, and even weight 0 would let NaN through. `ask`: for the keys that come next.
template <class T, int kRows, int kN>
static void value_tile(const Args<T>& a, const Work<T>& w, float* out, const float* weights, Range keys,
                       int64_t column, bool ask) {
    constexpr int64_t kLine = 64 / sizeof(T);
    const int64_t head_dim = a.head_dim, key_rows = a.layout.key_rows(), first_group = keys.begin / kLanes;
    F32 acc[kRows][kN];
    KVIK_UNROLL for (int r = 0; r < kRows; ++r)
        KVIK_UNROLL for (int n = 0; n < kN; ++n) acc[r][n] = zero();
    for (int64_t g = first_group; g * kLanes < keys.end; ++g) {
        const int64_t start = g * kLanes, left = keys.end - start, count = left < kLanes ? left : kLanes;
        const T* values = w.places.values[g] + column;
        const T* next = ask && g - first_group < w.ahead.count ? w.ahead.keys[g - first_group] : nullptr;
        for (int64_t i = keys.begin > start ? keys.begin - start : 0; i < count; ++i) {
            if (next)
                for (int64_t d = 0; d < key_rows; d += kLine) ask_for(next + i * key_rows + d);
            const T* value = values + i * head_dim;
            multiply_add(acc, weights + start + i, kPartition, [&](int n) { return value + n * kLanes; });
        }
    }
    KVIK_UNROLL for (int r = 0; r < kRows; ++r)
        KVIK_UNROLL for (int n = 0; n < kN; ++n) store(out + r * head_dim + column + n * kLanes, acc[r][n]);
}

template <class T, int kRows, int kN = kMaxPanels>
static void value_columns(const Args<T>& a, const Work<T>& w, int64_t row, Range keys, int64_t column) {
    const int64_t left = (a.head_dim - column) / kLanes;
    if constexpr (kN > 1) {
        if (left < kN) return value_columns<T, kRows, kN - 1>(a, w, row, keys, column);
    }
    value_tile<T, kRows, kN>(a, w, w.part.acc + row * a.head_dim, w.scores, keys, column, row == 0 && column == 0);
    if (left > kN) value_columns<T, kRows, kN>(a, w, row, keys, column + kN * kLanes);
}

template <class T, int kRows = kMaxRows>
static void value_rows(const Args<T>& a, const Work<T>& w, int64_t row, int64_t num_rows, Range keys) {
    if constexpr (kRows > 1) {
        if (num_rows < kRows) return value_rows<T, kRows - 1>(a, w, row, num_rows, keys);
    }
    value_columns<T, kRows>(a, w, row, keys, 0);
}

// fn(first, count) over rows in steps of up to kMaxRows, of nearly equal size: 7 rows are 4 and 3, not 6 and 1.
template <class Fn>
KVIK_INLINE void each_rows(int64_t num_rows, const Fn& fn) {
    const int64_t steps = (num_rows + kMaxRows - 1) / kMaxRows;
    for (int64_t s = 0; s < steps; ++s) {
        const int64_t from = num_rows * s / steps, to = num_rows * (s + 1) / steps;
        fn(from, to - from);
    }
}

// Takes out of its first and last group the keys that a row does not see.
KVIK_INLINE void hide_unseen(float* scores, Range seen) {
    static const float lanes[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const F32 lane = load(lanes), nothing = set1(-kInfinity);
    if (const int64_t before = seen.begin % kLanes) {
        float* first = scores + seen.begin - before;
        store(first, select_lt(lane, set1(static_cast<float>(before)), nothing, load(first)));
    }
    if (const int64_t count = seen.end % kLanes) {
        float* last = scores + seen.end - count;
        store(last, select_lt(lane, set1(static_cast<float>(count)), load(last), nothing));
    }
}

// Scores -> weights, in place, for one row that sees the keys `seen`; 0 for the others in the groups of its tile. The
// scale of a value goes into its weight, but not into their sum.
template <class T>
static void soften(const Places<T>& places, float* scores, Range seen, Range groups, float& row_max, float& row_total) {
    const int64_t from = seen.begin / kLanes, to = (seen.end + kLanes - 1) / kLanes;
    hide_unseen(scores, seen);
    F32 best = set1(-kInfinity);
    for (int64_t g = from; g < to; ++g) best = max(load(scores + g * kLanes), best);
    const float m = reduce_max(best);
    F32 total = zero();
    for (int64_t g = groups.begin; g < from; ++g) store(scores + g * kLanes, zero());
    for (int64_t g = from; g < to; ++g) {
        const F32 p = exp(load(scores + g * kLanes) - set1(m));
        total = total + p;
        if constexpr (kIsScaled<T>) {
            store(scores + g * kLanes, p * load(places.value_scales[g]));
        } else {
            store(scores + g * kLanes, p);
        }
    }
    for (int64_t g = to; g < groups.end; ++g) store(scores + g * kLanes, zero());
    row_max = m;
    row_total = reduce_add(total);
}

// fn(group, block, offset in the block) for groups of 16 keys of a partition. Blocks hold whole groups.
template <class T, class Fn>
KVIK_INLINE void each_group(const Args<T>& a, const Tile& t, int64_t partition, Range groups, const Fn& fn) {
    const int64_t position = partition * kPartition + groups.begin * kLanes, block_size = a.layout.block_size;
    const int32_t* block = a.block_tables + t.request * a.max_blocks + position / block_size;
    int64_t offset = position % block_size;
    for (int64_t g = groups.begin; g < groups.end; ++g) {
        fn(g, int64_t{*block}, offset);
        offset += kLanes;
        if (offset == block_size) {
            offset = 0;
            ++block;
        }
    }
}

template <class T>
static void find_places(const Args<T>& a, Places<T>& places, const Tile& t, int64_t partition, Range groups) {
    each_group(a, t, partition, groups, [&](int64_t g, int64_t block, int64_t offset) {
        const T* keys = a.k_cache + a.layout.keys(block, t.head);
        places.keys[g] = keys + offset;
        places.values[g] = a.v_cache + a.layout.values(block, t.head) + offset * a.head_dim;
        if constexpr (kIsScaled<T>) {
            places.key_scales[g] = key_scales(keys, a.layout) + offset;
            places.value_scales[g] = value_scales(keys, a.layout) + offset;
        }
    });
}

// The keys of a partition that the query at `position` sees; empty where begin >= end.
template <class T>
KVIK_INLINE Range seen_by(const Args<T>& a, int64_t position, int64_t partition) {
    const int64_t start = partition * kPartition, first = a.first_key(position) - start, end = position + 1 - start;
    return {first > 0 ? first : 0, end < kPartition ? end : kPartition};
}

// What queries side by side see of a partition: the keys from the first one's first to the last one's last.
template <class T>
KVIK_INLINE Range seen_by_any(const Args<T>& a, int64_t first_position, int64_t last_position, int64_t partition) {
    return {seen_by(a, first_position, partition).begin, seen_by(a, last_position, partition).end};
}
template <class T>
KVIK_INLINE Range seen_by_any(const Args<T>& a, const Tile& t, int64_t partition) {
    return seen_by_any(a, t.first_position, t.first_position + t.num_queries - 1, partition);
}
KVIK_INLINE Range groups_of(Range keys) { return {keys.begin / kLanes, (keys.end + kLanes - 1) / kLanes}; }

// A stretch of each block of the next partition: together they are its keys, whatever their order in a block.
template <class T>
static void look_ahead(const Args<T>& a, Ahead<T>& ahead, const Tile& t, int64_t partition) {
    const Range groups = groups_of(seen_by_any(a, t, partition));
    ahead.count = 0;
    each_group(a, t, partition, groups, [&](int64_t, int64_t block, int64_t offset) {
        ahead.keys[ahead.count++] = a.k_cache + a.layout.keys(block, t.head) + offset * a.layout.key_rows();
    });
}

// Folds one partition's results into those of the partitions before it.
static void merge_row(const Partial& whole, const Partial& part, int64_t row, int64_t part_row, int64_t head_dim) {
    const float before = whole.max[row], now = part.max[part_row], both = before > now ? before : now;
    float factors[2 * kLanes];
    store(factors, exp(set1(before) - set1(both)));
    store(factors + kLanes, exp(set1(now) - set1(both)));
    const F32 old_factor = set1(factors[0]), new_factor = set1(factors[kLanes]);
    whole.max[row] = both;
    whole.total[row] = whole.total[row] * factors[0] + part.total[part_row] * factors[kLanes];
    float* acc = whole.acc + row * head_dim;
    const float* add = part.acc + part_row * head_dim;
    for (int64_t d = 0; d < head_dim; d += kLanes)
        store(acc + d, load(acc + d) * old_factor + load(add + d) * new_factor);
}

static void clear(const Partial& whole, int64_t rows, int64_t head_dim) {
    std::memset(whole.acc, 0, rows * head_dim * sizeof(float));
    std::memset(whole.total, 0, rows * sizeof(float));
    for (int64_t r = 0; r < rows; ++r) whole.max[r] = -kInfinity;
}

// Fills w.part for `count` rows of the tile from `first`; a row that sees nothing is left with a maximum of -inf.
template <class T>
static void some_rows(const Args<T>& a, Work<T>& w, const Tile& t, int64_t partition, int64_t first, int64_t count) {
    const auto position = [&](int64_t row) { return t.first_position + row / a.group; };
    const Range keys = seen_by_any(a, position(first), position(first + count - 1), partition), groups = groups_of(keys);
    for (int64_t r = first; r < first + count; ++r) w.part.max[r] = -kInfinity;
    if (keys.begin >= keys.end) return;
    score_rows<T>(a, w, first, count, groups);
    for (int64_t r = 0; r < count; ++r) {
        const Range seen = seen_by(a, position(first + r), partition);
        float* scores = w.scores + r * kPartition;
        if (seen.begin < seen.end) {
            soften(w.places, scores, seen, groups, w.part.max[first + r], w.part.total[first + r]);
        } else {
            for (int64_t g = groups.begin; g < groups.end; ++g) store(scores + g * kLanes, zero());
        }
    }
    value_rows<T>(a, w, first, count, keys);
}

template <class T>
static void one_partition(const Args<T>& a, Work<T>& w, const Tile& t, int64_t partition) {
    find_places(a, w.places, t, partition, groups_of(seen_by_any(a, t, partition)));
    each_rows(t.num_queries * a.group, [&](int64_t from, int64_t count) { some_rows(a, w, t, partition, from, count); });
}

template <class T>
KVIK_INLINE bool row_sees(const Args<T>& a, const Tile& t, int64_t row, int64_t partition) {
    const Range seen = seen_by(a, t.first_position + row / a.group, partition);
    return seen.begin < seen.end;
}

// Where the rows of a tile's query lie in q and out, side by side: heads of one key head.
template <class T>
KVIK_INLINE int64_t rows_of_query(const Args<T>& a, const Tile& t, int64_t query) {
    return ((t.first_row + query) * a.num_kv_heads + t.head) * a.group * a.head_dim;
}

template <class T>
static void write_out(const Args<T>& a, const Tile& t, const Partial& whole) {
    const float* acc = whole.acc;
    const float* totals = whole.total;
    for (int64_t query = 0; query < t.num_queries; ++query) {
        float* out = a.out + rows_of_query(a, t, query);
        for (int64_t h = 0; h < a.group; ++h, ++totals) {
            const F32 total = set1(*totals);
            // + 0: as merging with nothing does, whose sums have no negative zero.
            for (int64_t d = 0; d < a.head_dim; d += kLanes, acc += kLanes, out += kLanes)
                store(out, (load(acc) + zero()) / total);
        }
    }
}

// Asks for what a tile will read of q and write of out: rows of queries lie far apart.
template <class T>
KVIK_INLINE void ask_for_rows(const Args<T>& a, const Tile& t) {
    constexpr int64_t kLine = 64 / sizeof(float);
    for (int64_t query = 0; query < t.num_queries; ++query) {
        const int64_t start = rows_of_query(a, t, query);
        for (int64_t d = 0; d < a.group * a.head_dim; d += kLine) {
            ask_for(a.q + start + d);
            ask_for(a.out + start + d);
        }
    }
}

template <class T>
static void copy_queries(const Args<T>& a, float* queries, const Tile& t) {
    for (int64_t query = 0; query < t.num_queries; ++query) {
        const float* q = a.q + rows_of_query(a, t, query);
        for (int64_t d = 0; d < a.group * a.head_dim; d += kLanes, queries += kLanes) store(queries, load(q + d));
    }
}

// `next` comes after it in this thread's share; null behind the last.
template <class T>
static void one_item(const Args<T>& a, Work<T>& w, const Item& item, const Item* next, const Partial& kept) {
    const Tile& t = item.tile;
    const auto ask_ahead = [&](int64_t partition) {
        w.ahead.count = 0;
        if (partition + 1 < item.end) {
            look_ahead(a, w.ahead, t, partition + 1);
        } else if (next) {
            look_ahead(a, w.ahead, next->tile, next->begin);
            ask_for_rows(a, next->tile);
        }
    };
    copy_queries(a, w.queries, t);
    if (item.kept >= 0) {
        ask_ahead(item.begin);
        w.part = {kept.acc + item.kept * a.head_dim, kept.max + item.kept, kept.total + item.kept};
        return one_partition(a, w, t, item.begin);
    }
    if (item.begin + 1 == item.end) {
        ask_ahead(item.begin);
        one_partition(a, w, t, item.begin);
        return write_out(a, t, w.part);
    }
    const int64_t num_rows = t.num_queries * a.group;
    clear(w.whole, num_rows, a.head_dim);
    for (int64_t partition = item.begin; partition < item.end; ++partition) {
        ask_ahead(partition);
        one_partition(a, w, t, partition);
        for (int64_t r = 0; r < num_rows; ++r)
            if (row_sees(a, t, r, partition)) merge_row(w.whole, w.part, r, r, a.head_dim);
    }
    write_out(a, t, w.whole);
}

// The items of one split tile lie side by side; merges their rows in ascending order.
template <class T>
static void merge_split(const Args<T>& a, const Item* items, int64_t count, const Partial& kept, const Partial& whole) {
    const Tile& t = items->tile;
    const int64_t num_rows = t.num_queries * a.group;
    clear(whole, num_rows, a.head_dim);
    for (int64_t i = 0; i < count; ++i)
        for (int64_t r = 0; r < num_rows; ++r)
            if (row_sees(a, t, r, items[i].begin)) merge_row(whole, kept, r, items[i].kept + r, a.head_dim);
    write_out(a, t, whole);
}

// --- the plan of a call -------------------------------------------------------------------------------

// What computing a tile with this many keys costs, in keys times rows; few rows cost as much as loading the keys.
template <class T>
KVIK_INLINE int64_t cost_of(const Args<T>& a, const Tile& t) {
    const int64_t num_rows = t.num_queries * a.group;
    const int64_t num_keys = t.first_position + t.num_queries - a.first_key(t.first_position);
    return (num_rows < 4 ? 4 : num_rows) * (num_keys + 16);
}

template <class T, class Fn>
static void each_tile(const Args<T>& a, const Fn& fn) {
    for (int64_t b = 0; b < a.num_requests; ++b) {
        const int32_t start = a.query_start_loc[b], end = a.query_start_loc[b + 1];
        const int32_t first_position = a.seq_lens[b] - (end - start);
        for (int64_t h = 0; h < a.num_kv_heads; ++h)
            for (int32_t row = start; row < end; row += static_cast<int32_t>(a.tile_queries())) {
                const int32_t left = end - row, most = static_cast<int32_t>(a.tile_queries());
                fn(Tile{static_cast<int32_t>(b), static_cast<int32_t>(h), row, left < most ? left : most,
                        first_position + row - start});
            }
    }
}

struct Size {
    int64_t cost = 0, num_items = 0, num_kept_rows = 0, num_split = 0;
};

// Is a tile so large a share of the call that threads would wait for it?
template <class T>
KVIK_INLINE bool is_split(const Args<T>& a, const Tile& t, int64_t total_cost, int threads) {
    return threads > 1 && end_partition(t) - first_partition(a, t) > 1 && cost_of(a, t) * 4 * threads > total_cost;
}

template <class T>
static Size measure(const Args<T>& a, int threads) {
    Size size;
    each_tile(a, [&](const Tile& t) { size.cost += cost_of(a, t); });
    each_tile(a, [&](const Tile& t) {
        const int64_t partitions = end_partition(t) - first_partition(a, t);
        const bool split = is_split(a, t, size.cost, threads);
        size.num_items += split ? partitions : 1;
        size.num_kept_rows += split ? partitions * t.num_queries * a.group : 0;
        size.num_split += split;
    });
    return size;
}

struct Plan {
    Item* items;
    int64_t* first_item;   // [threads + 1]: the share of each thread
    int64_t* first_split;  // [num_split]: where the items of each split tile begin
    Partial kept;
};

// Items in order, cut into contiguous shares of nearly equal cost.
template <class T>
static void fill_plan(Plan& plan, const Args<T>& a, const Size& size, int shares, int threads) {
    int64_t n = 0, num_split = 0, kept = 0, cost = 0, share = 0;
    const auto add = [&](const Item& item, int64_t item_cost) {
        while (share < shares && (cost + item_cost / 2) * shares >= share * size.cost) plan.first_item[share++] = n;
        plan.items[n++] = item;
        cost += item_cost;
    };
    each_tile(a, [&](const Tile& t) {
        const int32_t begin = static_cast<int32_t>(first_partition(a, t)), end = static_cast<int32_t>(end_partition(t));
        const int64_t num_rows = t.num_queries * a.group;
        if (!is_split(a, t, size.cost, threads)) return add({t, begin, end, -1}, cost_of(a, t));
        plan.first_split[num_split++] = n;
        for (int32_t p = begin; p < end; ++p, kept += num_rows) add({t, p, p + 1, kept}, cost_of(a, t) / (end - begin));
    });
    while (share <= shares) plan.first_item[share++] = n;
}

template <class T>
static Plan cut_plan(Cutter& cutter, const Args<T>& a, const Size& size, int shares) {
    return {cutter.take<Item>(size.num_items), cutter.take<int64_t>(shares + 1),
            cutter.take<int64_t>(size.num_split), cutter.take_partial(size.num_kept_rows, a.head_dim)};
}

template <class T>
static void all(const Args<T>& a) {
    constexpr int64_t kWorthWaking = 128 * 1024;  // multiply-adds
    const int threads = num_threads();
    const Size size = measure(a, threads);
    if (size.num_items == 0) return;
    const int64_t worth = size.cost * a.head_dim / kWorthWaking;
    const int shares = worth < 1 ? 1 : worth < threads ? static_cast<int>(worth) : threads;

    // The caller's block holds the plan, then its own room; the other threads have room in theirs.
    Work<T> measured;
    Cutter counting{nullptr}, counting_work{nullptr};
    cut_plan(counting, a, size, shares);
    cut_work(measured, counting_work, a);
    char* block = static_cast<char*>(thread_scratch(counting.used + counting_work.used));
    Cutter cutter{block};
    Plan plan = cut_plan(cutter, a, size, shares);
    fill_plan(plan, a, size, shares, threads);
    const auto my_work = [&](int thread) {
        Cutter mine{thread == 0 ? block + counting.used : static_cast<char*>(thread_scratch(counting_work.used))};
        Work<T> w;
        cut_work(w, mine, a);
        return w;
    };

    parallel_for(shares, 1, [&](int64_t begin, int64_t end, int thread) {
        Work<T> w = my_work(thread);
        const Partial own = w.part;
        const int64_t last = plan.first_item[end];
        for (int64_t i = plan.first_item[begin]; i < last; ++i) {
            w.part = own;
            one_item(a, w, plan.items[i], i + 1 < last ? plan.items + i + 1 : nullptr, plan.kept);
        }
    });
    parallel_for(size.num_split, 1, [&](int64_t begin, int64_t end, int thread) {
        const Work<T> w = my_work(thread);
        for (int64_t s = begin; s < end; ++s) {
            const Item* items = plan.items + plan.first_split[s];
            merge_split(a, items, end_partition(items->tile) - first_partition(a, items->tile), plan.kept, w.whole);
        }
    });
}

}  // namespace attention

static void paged_attention(float* out, const float* q, const void* k_cache, const void* v_cache,
                            const int32_t* block_tables, const int32_t* query_start_loc, const int32_t* seq_lens,
                            int64_t num_requests, int64_t max_blocks, int64_t num_kv_heads, int64_t group,
                            int64_t head_dim, int64_t block_size, float scale, int64_t window, int cache_dtype) {
    with_cache_type(cache_dtype, [&]<class T>() {
        attention::all(attention::Args<T>{
            out, q, static_cast<const T*>(k_cache), static_cast<const T*>(v_cache),
            KvLayout<T>{num_kv_heads, head_dim, block_size}, block_tables, query_start_loc, seq_lens, num_requests,
            max_blocks, num_kv_heads, group, head_dim, scale, window});
    });
}

}  // namespace kvik::KVIK_ISA
