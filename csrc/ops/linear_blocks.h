// x [M, K] fp32 times a packed weight of a quantised format. Knows the formats only through packed_blocks.h.
//
// Each row of x is cut into groups of 32 and rounded to int8 first, by itself: scale = max |x| / 127. Products and sums
// within a group (q6_k: half a group) are whole numbers, so exact on every machine. An output element is one chain of
// fp32 multiply-adds over the groups in ascending order, started from zero: whatever the number of rows, the tile or
// the thread, its bits are the same. Blocking over K keeps the chain's unfinished value in the output itself.
//
// A tile is one panel by up to kMaxDotRows rows: as many as registers hold sums for, so that few rows pass over the
// weight once and the next rows find the panel in the cache.
#pragma once

#include <type_traits>

#include "../packed_blocks.h"

namespace kvik::KVIK_ISA {

constexpr int64_t kBlockTiles = 16;                // row tiles that pass over a share's panels together
constexpr int64_t kBlockGroups = 64;               // groups in a block of K, where K is taken in blocks:
constexpr int64_t kCachedInputBytes = 384 * 1024;  // beyond this many bytes of inputs, a part of the level-2 cache

// A group of one row of x.
template <class Q>
struct InputGroup {
    int8_t codes[kGroup];
    float scale;
    // Of a format with minima: scale times the sum of the codes. Else -kZeroPoint times the sum, for each weight scale.
    std::conditional_t<Q::kHasMinimum, float, int32_t> rest[Q::kScalesPerGroup];
};

struct BlockArgs {
    float* out;
    int64_t out_stride;
    const float* x;
    const uint8_t* weight;
    const float* bias;  // or null
    int64_t m, n, k;

    int64_t groups() const { return k / kGroup; }
    int64_t tiles() const { return (m + kMaxDotRows - 1) / kMaxDotRows; }
    int64_t first_row(int64_t tile) const { return m * tile / tiles(); }  // tiles of nearly equal height
};

// A NaN or an infinity makes the scale NaN, hence the whole row. Below 1e-30 a quotient could overflow: all zeros.
template <class Q>
KVIK_INLINE void quantize_group(InputGroup<Q>& out, const float* x) {
    const F32 a = load(x), b = load(x + kLanes);
    const float not_finite = reduce_add((a - a) + (b - b));  // 0 or NaN
    const float largest = reduce_max(max(max(a, zero() - a), max(b, zero() - b)));
    const bool usable = not_finite == 0.0f && largest > 1e-30f;
    const F32 inverse = set1(usable ? 127.0f / largest : 0.0f), top = set1(127.0f), bottom = set1(-127.0f);
    const F32 codes_a = max(bottom, min(round(a * inverse), top)), codes_b = max(bottom, min(round(b * inverse), top));
    store_i8(out.codes, codes_a);
    store_i8(out.codes + kLanes, codes_b);
    out.scale = largest / 127.0f + not_finite;
    if constexpr (Q::kHasMinimum) {
        out.rest[0] = out.scale * reduce_add(codes_a + codes_b);
    } else if constexpr (Q::kScalesPerGroup == 1) {
        out.rest[0] = -Q::kZeroPoint * static_cast<int32_t>(reduce_add(codes_a + codes_b));
    } else {
        out.rest[0] = -Q::kZeroPoint * static_cast<int32_t>(reduce_add(codes_a));
        out.rest[1] = -Q::kZeroPoint * static_cast<int32_t>(reduce_add(codes_b));
    }
}

// Inputs lie tile by tile; in a tile as it reads them: [groups, rows].
template <class Q>
static void quantize_tiles(InputGroup<Q>* inputs, const BlockArgs& args, int64_t begin_tile, int64_t end_tile) {
    const int64_t groups = args.groups();
    for (int64_t tile = begin_tile; tile < end_tile; ++tile) {
        const int64_t first = args.first_row(tile), rows = args.first_row(tile + 1) - first;
        InputGroup<Q>* out = inputs + first * groups;
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t group = 0; group < groups; ++group)
                quantize_group<Q>(out[group * rows + row], args.x + (first + row) * args.k + group * kGroup);
    }
}

template <class Q, int kPair, int kRows>
KVIK_INLINE void add_pair(I32 (&sums)[kRows], const uint8_t* panel, int64_t group, const InputGroup<Q>* inputs) {
    const BytePair codes = Q::template codes<kPair>(panel, group);
    for (int r = 0; r < kRows; ++r)
        sums[r] = dot4<Q::kMaxCode>(sums[r], codes.first, repeat4(inputs[r].codes + 8 * kPair));
    for (int r = 0; r < kRows; ++r)
        sums[r] = dot4<Q::kMaxCode>(sums[r], codes.second, repeat4(inputs[r].codes + 8 * kPair + 4));
}

// The elements of a group that share a weight scale.
template <class Q, int kPart, int kRows>
KVIK_INLINE void add_part(F32 (&acc)[kRows], const uint8_t* panel, int64_t group, const InputGroup<Q>* inputs) {
    I32 sums[kRows];
    for (int r = 0; r < kRows; ++r) {
        if constexpr (Q::kHasMinimum) {
            sums[r] = set1_i32(0);
        } else {
            sums[r] = set1_i32(inputs[r].rest[kPart]);
        }
    }
    if constexpr (Q::kScalesPerGroup == 1) {
        add_pair<Q, 0>(sums, panel, group, inputs);
        add_pair<Q, 1>(sums, panel, group, inputs);
        add_pair<Q, 2>(sums, panel, group, inputs);
        add_pair<Q, 3>(sums, panel, group, inputs);
    } else {
        add_pair<Q, 2 * kPart>(sums, panel, group, inputs);
        add_pair<Q, 2 * kPart + 1>(sums, panel, group, inputs);
    }
    const F32 scale = Q::template scale<kPart>(panel, group);
    for (int r = 0; r < kRows; ++r) acc[r] = fma(to_float(sums[r]), scale * set1(inputs[r].scale), acc[r]);
}

template <class Q, int kRows>
KVIK_INLINE void add_group(F32 (&acc)[kRows], const uint8_t* panel, int64_t group, const InputGroup<Q>* inputs) {
    add_part<Q, 0>(acc, panel, group, inputs);
    if constexpr (Q::kScalesPerGroup == 2) add_part<Q, 1>(acc, panel, group, inputs);
    if constexpr (Q::kHasMinimum) {
        const F32 minimum = Q::minimum(panel, group);
        for (int r = 0; r < kRows; ++r) acc[r] = fma(minimum, set1(inputs[r].rest[0]), acc[r]);
    }
}

// Groups [begin, end) of a panel times those of a tile of rows, added to what the output holds of the groups before.
template <class Q>
struct BlockSpan {
    const uint8_t* panel;
    const InputGroup<Q>* inputs;
    int64_t begin, end;
    float* out;
    int64_t out_stride, columns;
    const float* bias;  // null before the last group
};

template <class Q, int kRows>
static void block_tile(const BlockSpan<Q>& span) {
    F32 acc[kRows];
    for (int r = 0; r < kRows; ++r)
        acc[r] = span.begin ? load_part(span.out + r * span.out_stride, span.columns) : zero();
    for (int64_t group = span.begin; group < span.end; ++group)
        add_group<Q>(acc, span.panel, group, span.inputs + group * kRows);
    for (int r = 0; r < kRows; ++r) {
        if (span.bias) acc[r] = acc[r] + load_part(span.bias, span.columns);
        store_part(span.out + r * span.out_stride, acc[r], span.columns);
    }
}

template <class Q, int kRows = kMaxDotRows>
static void run_block_tile(const BlockSpan<Q>& span, int64_t rows) {
    if constexpr (kRows > 1) {
        if (rows < kRows) return run_block_tile<Q, kRows - 1>(span, rows);
    }
    block_tile<Q, kRows>(span);
}

// Panels [begin, end) by tiles [begin_tile, end_tile).
template <class Q>
static void run_block(const BlockArgs& args, const InputGroup<Q>* inputs, int64_t begin_tile, int64_t end_tile,
                      int64_t begin, int64_t end) {
    const int64_t groups = args.groups(), panel_bytes = Q::panel_bytes(groups);
    const int64_t rows = args.first_row(end_tile) - args.first_row(begin_tile);
    const bool cached = rows * groups * static_cast<int64_t>(sizeof(InputGroup<Q>)) <= kCachedInputBytes;
    const int64_t step = cached ? groups : kBlockGroups;
    for (int64_t from = 0; from < groups; from += step) {
        const int64_t to = from + step < groups ? from + step : groups;
        for (int64_t panel = begin; panel < end; ++panel) {
            const int64_t column = panel * kPanelRows, left = args.n - column;
            for (int64_t tile = begin_tile; tile < end_tile; ++tile) {
                const int64_t first = args.first_row(tile);
                const BlockSpan<Q> span = {args.weight + panel * panel_bytes, inputs + first * groups, from, to,
                                           args.out + first * args.out_stride + column, args.out_stride,
                                           left < kPanelRows ? left : kPanelRows,
                                           args.bias && to == groups ? args.bias + column : nullptr};
                run_block_tile<Q>(span, args.first_row(tile + 1) - first);
            }
        }
    }
}

template <class Q>
static void linear_blocks(const BlockArgs& args) {
    const int64_t groups = args.groups(), panels = num_panels(args.n), tiles = args.tiles();
    const int64_t row_blocks = (tiles + kBlockTiles - 1) / kBlockTiles;
    const size_t input_bytes = static_cast<size_t>(args.m * groups) * sizeof(InputGroup<Q>);
    // Few rows are rounded by each thread for itself, which is faster than to wait for each other.
    InputGroup<Q>* shared = nullptr;
    if (tiles > 1) {
        shared = static_cast<InputGroup<Q>*>(thread_scratch(input_bytes));
        parallel_for(tiles, min_tasks(kMaxDotRows * args.k * 4),
                     [&](int64_t begin, int64_t end, int) { quantize_tiles<Q>(shared, args, begin, end); });
    }
    const int64_t block_rows = args.m / row_blocks;
    parallel_for(row_blocks * panels, min_tasks(Q::panel_bytes(groups) * block_rows), [&](int64_t begin, int64_t end, int) {
        const InputGroup<Q>* inputs = shared;
        if (!shared) {
            InputGroup<Q>* own = static_cast<InputGroup<Q>*>(thread_scratch(input_bytes));
            quantize_tiles<Q>(own, args, 0, tiles);
            inputs = own;
        }
        // A task is one panel of one block of rows.
        for (int64_t task = begin; task < end;) {
            const int64_t block = task / panels, panel = task % panels;
            const int64_t share = end - task < panels - panel ? end - task : panels - panel;
            run_block<Q>(args, inputs, tiles * block / row_blocks, tiles * (block + 1) / row_blocks, panel,
                         panel + share);
            task += share;
        }
    });
}

// Rows of GGUF blocks become rows first_row and on of a packed weight.
template <class Q>
static void pack_blocks_of(uint8_t* packed, int64_t k, int64_t first_row, const uint8_t* rows, int64_t num_rows) {
    const int64_t blocks = k / Q::Gguf::kSize, panel_bytes = Q::panel_bytes(k / kGroup);
    parallel_for(num_rows, min_tasks(k), [=](int64_t begin, int64_t end, int) {
        for (int64_t row = first_row + begin; row < first_row + end; ++row) {
            const uint8_t* in = rows + (row - first_row) * blocks * Q::Gguf::kBytes;
            uint8_t* panel = packed + row / kPanelRows * panel_bytes;
            for (int64_t block = 0; block < blocks; ++block)
                Q::put(panel, block, static_cast<int>(row % kPanelRows), in + block * Q::Gguf::kBytes);
        }
    });
}

static void pack_blocks(void* packed, int64_t k, int64_t first_row, const uint8_t* rows, int64_t num_rows,
                        int format) {
    with_packed_blocks(format, [&]<class Q>() {
        pack_blocks_of<Q>(static_cast<uint8_t*>(packed), k, first_row, rows, num_rows);
    });
}

}  // namespace kvik::KVIK_ISA
