// x [M, K] fp32 times a packed weight of a quantised format. Knows the formats only through packed_blocks.h.
//
// Each row of x is cut into groups of 32 and rounded first, by itself. The largest element of a group, its outlier,
// stands apart: the scale is max |x| / 127 of the others, which become int8, while the outlier is rounded in the same
// steps to 16 bits. Products and sums within a group (q6_k: half a group) are whole numbers below 2^24, so exact on every
// machine. An output element is one chain of fp32 multiply-adds over the groups in ascending order, started from zero:
// whatever the number of rows, the tile or the thread, its bits are the same. Blocking over K keeps the chain's
// unfinished value in the output itself.
//
// A tile is as many rows and panels as registers hold sums for. Up to kMaxDotRows rows are one tile of one panel, and
// the weight streams by once. More are cut into tiles of up to kWideRows rows by two panels, where the machine has the
// registers: fewer loads. They pass one after another over a block of two panels that stays in the first-level cache.
#pragma once

#include <type_traits>

#include "../packed_blocks.h"

namespace kvik::KVIK_ISA {

constexpr int64_t kCachedRows = 192;               // rows that pass over a share's panels together
constexpr int64_t kCachedGroups = 64;              // groups of them at a time, where they are
constexpr int64_t kCachedInputBytes = 384 * 1024;  // more than this, a part of the second-level cache
constexpr int64_t kWeightGroups = 16;              // groups of two panels that stay while all tiles pass
constexpr int kTallestTile = kWideRows ? kWideRows : kMaxDotRows;  // of several
constexpr float kMaxOutlier = 16000;               // steps; 255 times as many, and the rest, stay below 2^24

// A group of one row of x.
template <class Q>
struct InputGroup {
    int8_t codes[kGroup];  // the outlier's is 0
    float scale;
    int32_t outlier[Q::kScalesPerGroup];  // its code where it has that weight scale, else 0
    typename Q::Place place;              // of the outlier
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
    int64_t tiles() const { return m <= kMaxDotRows ? 1 : (m + kTallestTile - 1) / kTallestTile; }
    int64_t first_row(int64_t tile) const { return m * tile / tiles(); }  // tiles of nearly equal height
};

// What a format wants to know of the sums of the codes: of 16 elements each, or of 32 in the first.
template <class Q>
KVIK_INLINE void set_rest(InputGroup<Q>& out, F32 codes_a, F32 codes_b) {
    if constexpr (Q::kScalesPerGroup == 2) {
        out.rest[0] = -Q::kZeroPoint * static_cast<int32_t>(reduce_add(codes_a));
        out.rest[1] = -Q::kZeroPoint * static_cast<int32_t>(reduce_add(codes_b));
    } else if constexpr (Q::kHasMinimum) {
        out.rest[0] = out.scale * reduce_add(codes_a + codes_b);
    } else {
        out.rest[0] = -Q::kZeroPoint * static_cast<int32_t>(reduce_add(codes_a + codes_b));
    }
}

// The nearest whole number, the even one of two, of |a| below 2^22.
KVIK_INLINE int32_t round_to_int(float a) { return static_cast<int32_t>((a + 12582912.0f) - 12582912.0f); }

// A NaN or an infinity makes the scale NaN, hence the whole row. Below 1e-30 a quotient could overflow: all zeros.
template <class Q>
KVIK_INLINE void quantize_group(InputGroup<Q>& out, const float* x) {
    const F32 a = load(x), b = load(x + kLanes);
    const bool finite = !any_nan((a - a) + (b - b));
    const F32 size_a = abs(a), size_b = abs(b);
    const auto [largest, second] = reduce_max2(size_a, size_b);
    if (!finite || largest <= 1e-30f) {
        std::memset(&out, 0, sizeof out);
        out.place = Q::place(0);
        out.scale = finite ? 0.0f : float_of(0x7fc00000u);
        return set_rest<Q>(out, zero(), zero());
    }
    const F32 bound = set1(largest);
    const uint32_t found = equal_lanes(size_a, bound) | equal_lanes(size_b, bound) << kLanes;
    const int outlier = __builtin_ctz(found);
    const uint32_t first = found & (0u - found), in_a = first & 0xffffu, in_b = first >> kLanes;
    const float of_others = second * (1.0f / 127), of_outlier = largest * (1.0f / kMaxOutlier);
    out.scale = of_others > of_outlier ? of_others : of_outlier;
    const float inverse = 1.0f / out.scale;
    const F32 codes_a = round(a * set1(inverse)), codes_b = round(b * set1(inverse));
    store_i8(out.codes, clear_lanes(codes_a, in_a));
    store_i8(out.codes + kLanes, clear_lanes(codes_b, in_b));
    const int32_t code = round_to_int(x[outlier] * inverse);
    for (int part = 0; part < Q::kScalesPerGroup; ++part)
        out.outlier[part] = outlier * Q::kScalesPerGroup / kGroup == part ? code : 0;
    out.place = Q::place(outlier);
    set_rest<Q>(out, codes_a, codes_b);
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

// Step 2 kPair or 2 kPair + 1 of each panel; `inputs` are the first row's of that step, a group apart from row to row.
template <class Q, int kRows, int kPanels>
KVIK_INLINE void add_step(I32 (&sums)[kRows][kPanels], const Bytes (&codes)[kPanels], const int8_t* inputs) {
    for (int r = 0; r < kRows; ++r) {
        const int8_t* input = inputs + r * static_cast<int>(sizeof(InputGroup<Q>));
        if constexpr (kPanels == 1) {
            sums[r][0] = dot4_repeated<Q::kMaxCode>(sums[r][0], codes[0], input);
        } else {
            const Bytes repeated = repeat4(input);
            for (int p = 0; p < kPanels; ++p) sums[r][p] = dot4<Q::kMaxCode>(sums[r][p], codes[p], repeated);
        }
    }
}

template <class Q, int kPair, int kRows, int kPanels>
KVIK_INLINE void add_pair(I32 (&sums)[kRows][kPanels], const uint8_t* const (&panels)[kPanels], int64_t group,
                          const InputGroup<Q>* inputs) {
    Bytes first[kPanels], second[kPanels];
    for (int p = 0; p < kPanels; ++p) {
        const BytePair pair = Q::template codes<kPair>(panels[p], group);
        first[p] = pair.first;
        second[p] = pair.second;
    }
    add_step<Q>(sums, first, inputs->codes + 8 * kPair);
    add_step<Q>(sums, second, inputs->codes + 8 * kPair + 4);
}

// The elements of a group that share a weight scale.
template <class Q, int kPart, int kRows, int kPanels>
KVIK_INLINE void add_part(F32 (&acc)[kRows][kPanels], const uint8_t* const (&panels)[kPanels], int64_t group,
                          const InputGroup<Q>* inputs) {
    I32 sums[kRows][kPanels];
    for (int r = 0; r < kRows; ++r) {
        I32 start = set1_i32(0);
        if constexpr (!Q::kHasMinimum) start = set1_i32(inputs[r].rest[kPart]);
        for (int p = 0; p < kPanels; ++p) sums[r][p] = start;
    }
    if constexpr (Q::kScalesPerGroup == 1) {
        add_pair<Q, 0>(sums, panels, group, inputs);
        add_pair<Q, 1>(sums, panels, group, inputs);
        add_pair<Q, 2>(sums, panels, group, inputs);
        add_pair<Q, 3>(sums, panels, group, inputs);
    } else {
        add_pair<Q, 2 * kPart>(sums, panels, group, inputs);
        add_pair<Q, 2 * kPart + 1>(sums, panels, group, inputs);
    }
    for (int r = 0; r < kRows; ++r)
        for (int p = 0; p < kPanels; ++p) {
            const I32 codes = Q::code_at(panels[p], group, inputs[r].place);
            sums[r][p] = add_product(sums[r][p], codes, &inputs[r].outlier[kPart]);
        }
    for (int p = 0; p < kPanels; ++p) {
        const F32 scale = Q::template scale<kPart>(panels[p], group);
        for (int r = 0; r < kRows; ++r)
            acc[r][p] = fma(to_float(sums[r][p]), scale * set1(inputs[r].scale), acc[r][p]);
    }
}

template <class Q, int kRows, int kPanels>
KVIK_INLINE void add_group(F32 (&acc)[kRows][kPanels], const uint8_t* const (&panels)[kPanels], int64_t group,
                           const InputGroup<Q>* inputs) {
    add_part<Q, 0>(acc, panels, group, inputs);
    if constexpr (Q::kScalesPerGroup == 2) add_part<Q, 1>(acc, panels, group, inputs);
    if constexpr (Q::kHasMinimum) {
        for (int p = 0; p < kPanels; ++p) {
            const F32 minimum = Q::minimum(panels[p], group);
            for (int r = 0; r < kRows; ++r) acc[r][p] = fma(minimum, set1(inputs[r].rest[0]), acc[r][p]);
        }
    }
}

// Groups [begin, end) of a tile: of some panels from `panel` on times those of some rows, added to what the output
// holds of the groups before.
template <class Q>
struct BlockSpan {
    const BlockArgs& args;
    const InputGroup<Q>* inputs;  // of the tile
    int64_t row, panel, begin, end;
};

template <class Q, int kRows, int kPanels>
static void block_tile(const BlockSpan<Q>& span) {
    const BlockArgs& args = span.args;
    const int64_t groups = args.groups(), panel_bytes = Q::panel_bytes(groups), column = span.panel * kPanelRows;
    float* out = args.out + span.row * args.out_stride + column;
    F32 acc[kRows][kPanels];
    const uint8_t* panels[kPanels];
    int64_t lanes[kPanels];
    for (int p = 0; p < kPanels; ++p) {
        const int64_t left = args.n - column - p * kPanelRows;
        lanes[p] = left < kPanelRows ? left : kPanelRows;
        panels[p] = args.weight + (span.panel + p) * panel_bytes;
        for (int r = 0; r < kRows; ++r)
            acc[r][p] = span.begin ? load_part(out + r * args.out_stride + p * kPanelRows, lanes[p]) : zero();
    }
    for (int64_t group = span.begin; group < span.end; ++group)
        add_group<Q>(acc, panels, group, span.inputs + group * kRows);
    for (int p = 0; p < kPanels; ++p)
        for (int r = 0; r < kRows; ++r) {
            F32 sum = acc[r][p];
            if (args.bias && span.end == groups) sum = sum + load_part(args.bias + column + p * kPanelRows, lanes[p]);
            store_part(out + r * args.out_stride + p * kPanelRows, sum, lanes[p]);
        }
}

// The instance for a number of rows known at run time only. Several tiles are never lower than half the tallest.
template <class Q, int kPanels = 1, int kRows = kPanels == 1 ? kMaxDotRows : kWideRows>
static void run_block_tile(const BlockSpan<Q>& span, int64_t rows) {
    if constexpr (kRows > (kPanels == 1 ? 1 : kWideRows / 2)) {
        if (rows < kRows) return run_block_tile<Q, kPanels, kRows - 1>(span, rows);
    }
    block_tile<Q, kRows, kPanels>(span);
}

// Groups [begin_group, end_group) of panels [begin, end) by tiles [begin_tile, end_tile).
template <class Q>
static void run_block(const BlockArgs& args, const InputGroup<Q>* inputs, int64_t begin_tile, int64_t end_tile,
                      int64_t begin, int64_t end, int64_t begin_group, int64_t end_group) {
    const int64_t step = end_tile - begin_tile > 1 ? kWeightGroups : end_group - begin_group;
    for (int64_t panel = begin; panel < end;) {
        const int64_t panels = kWideRows && args.tiles() > 1 && panel + 2 <= end ? 2 : 1;
        for (int64_t from = begin_group; from < end_group; from += step) {
            const int64_t to = from + step < end_group ? from + step : end_group;
            for (int64_t tile = begin_tile; tile < end_tile; ++tile) {
                const int64_t row = args.first_row(tile), rows = args.first_row(tile + 1) - row;
                const BlockSpan<Q> span = {args, inputs + row * args.groups(), row, panel, from, to};
                if constexpr (kWideRows > 0) {
                    if (panels == 2) {
                        run_block_tile<Q, 2>(span, rows);
                        continue;
                    }
                }
                run_block_tile<Q>(span, rows);
            }
        }
        panel += panels;
    }
}

template <class Q>
static void run_panels(const BlockArgs& args, const InputGroup<Q>* inputs, int64_t begin_tile, int64_t end_tile,
                       int64_t begin, int64_t end) {
    const int64_t groups = args.groups(), rows = args.first_row(end_tile) - args.first_row(begin_tile);
    const bool cached = rows * groups * static_cast<int64_t>(sizeof(InputGroup<Q>)) <= kCachedInputBytes;
    const int64_t step = cached ? groups : kCachedGroups;
    for (int64_t from = 0; from < groups; from += step)
        run_block<Q>(args, inputs, begin_tile, end_tile, begin, end, from,
                     from + step < groups ? from + step : groups);
}

template <class Q>
static void linear_blocks(const BlockArgs& args) {
    const int64_t groups = args.groups(), panels = num_panels(args.n), tiles = args.tiles();
    const int64_t row_blocks = (args.m + kCachedRows - 1) / kCachedRows;
    const size_t input_bytes = static_cast<size_t>(args.m * groups) * sizeof(InputGroup<Q>);
    // Few rows are rounded by each thread for itself, which is faster than to wait for each other.
    InputGroup<Q>* shared = nullptr;
    if (tiles > 1) {
        shared = static_cast<InputGroup<Q>*>(thread_scratch(input_bytes));
        parallel_for(tiles, min_tasks(args.m / tiles * args.k * 4),
                     [&](int64_t begin, int64_t end, int) { quantize_tiles<Q>(shared, args, begin, end); });
    }
    const int64_t block_rows = args.m / row_blocks;
    const int64_t task_bytes = Q::panel_bytes(groups) * block_rows;
    parallel_for(row_blocks * panels, min_tasks(task_bytes), [&](int64_t begin, int64_t end, int) {
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
            run_panels<Q>(args, inputs, tiles * block / row_blocks, tiles * (block + 1) / row_blocks, panel,
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
