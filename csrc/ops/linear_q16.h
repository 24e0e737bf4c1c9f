// x [M, K] fp32 times a weight in 16-bit fixed point: as fast as dot products of bf16 are, and more exact.
//
// Each row of x is cut into groups of 32 and rounded by itself: whole numbers of up to 4,095 steps of the group's scale,
// max |x| / 4,095. Products and their sum within a group are whole numbers below 2^31, hence exact on every machine. An
// output element is one chain of fp32 multiply-adds over the groups in ascending order, started from zero, then times
// the row's scale of the weight: whatever the number of rows, the tile or the thread, its bits are the same. Blocking
// over K keeps the chain's unfinished value in the output itself.
//
// The scheme is block floating point; what shares a scale are 32 inputs, or a row of the weight.
#pragma once

#include "../packed_q16.h"

namespace kvik::KVIK_ISA {

constexpr int64_t kQ16RowBlock = 384;   // rows that pass over a panel's block one after another
constexpr int64_t kQ16GroupBlock = 32;  // groups of it, where they are several tiles
constexpr int64_t kQ16StreamRows = 4;   // up to so many rows, panels pass one by one: one sequential stream of weights
constexpr int64_t kQ16StreamInputBytes = 20 * 1024;  // and of a single tile's, while they leave it room in the cache
constexpr int64_t kQ16StreamAhead = 12288, kQ16Ahead = 3072;  // bytes to fetch ahead in that, and in several at once

struct Q16Args : ProductArgs {
    int64_t groups() const { return num_groups(k); }
    int64_t tiles() const { return (m + kDotRows - 1) / kDotRows; }
    int64_t first_row(int64_t tile) const { return m * tile / tiles(); }  // tiles of nearly equal height
    bool is_stream() const {
        return m <= kQ16StreamRows || (tiles() == 1 && m * k * 2 <= kQ16StreamInputBytes);
    }
    int64_t ahead() const { return is_stream() ? kQ16StreamAhead : kQ16Ahead; }
    // Panels that a tile of the tallest height takes at once.
    int64_t panels_at_once() const {
        if (is_stream()) return 1;
        const int64_t rows = (m + tiles() - 1) / tiles(), panels = kDotSums / rows;
        return panels < kDotPanels ? panels : kDotPanels;
    }
};

// Rounded inputs, tile by tile; in a tile as it reads them: codes [groups, rows, 32], scales [groups, rows].
struct Q16Inputs {
    int16_t* codes;
    float* scales;

    static size_t num_bytes(const Q16Args& args) {
        return static_cast<size_t>(args.m * args.groups()) * (kGroup * sizeof(int16_t) + sizeof(float));
    }
    static Q16Inputs in(void* memory, const Q16Args& args) {
        int16_t* codes = static_cast<int16_t*>(memory);
        return {codes, reinterpret_cast<float*>(codes + args.m * args.groups() * kGroup)};
    }
};

KVIK_INLINE float fixed_point_group(int16_t* codes, const float* x, int64_t left) {
    const int64_t in_a = left < kLanes ? left : kLanes, in_b = left < kLanes ? 0 : left < kGroup ? left - kLanes : kLanes;
    const F32 a = load_part(x, in_a), b = load_part(x + in_a, in_b);
    const bool finite = !any_nan((a - a) + (b - b));
    const float scale = fixed_point_scale(finite ? reduce_max(max(abs(a), abs(b))) : 0.0f, finite, kInputRange);
    const F32 inverse = set1(scale > 0 ? 1.0f / scale : 0.0f);
    store_i16(codes, finite ? round(a * inverse) : zero());
    store_i16(codes + kLanes, finite ? round(b * inverse) : zero());
    return scale;
}

static void round_tiles(const Q16Inputs& inputs, const Q16Args& args, int64_t begin_tile, int64_t end_tile) {
    const int64_t groups = args.groups();
    for (int64_t tile = begin_tile; tile < end_tile; ++tile) {
        const int64_t first = args.first_row(tile), rows = args.first_row(tile + 1) - first;
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t group = 0; group < groups; ++group) {
                const int64_t at = first * groups + group * rows + row;
                const float* x = args.x + (first + row) * args.k + group * kGroup;
                inputs.scales[at] = fixed_point_group(inputs.codes + at * kGroup, x, args.k - group * kGroup);
            }
    }
}

// Groups [begin, end) of a tile: of some panels from `panel` on times those of some rows, added to what the output
// holds of the groups before. Meanwhile the weights that come next are fetched into the cache.
struct Q16Span {
    const Q16Args& args;
    Q16Inputs inputs;  // of the tile
    int64_t row, panel, begin, end;
    int64_t ahead;                // bytes from a group to the one to fetch
    int64_t fetch, num_fetchers;  // of so many tiles that each fetch some of the groups, this is the fetch-th
};

template <int kRows, int kPanels>
KVIK_INLINE void add_q16_group(F32 (&acc)[kRows][kPanels], const uint8_t* weight, int64_t panel_bytes, int64_t ahead,
                               const int16_t* codes, const float* scales) {
    PairSums sums[kRows][kPanels];
    for (int r = 0; r < kRows; ++r)
        for (int p = 0; p < kPanels; ++p) sums[r][p] = PairSums{};
    _Pragma("GCC unroll 1")
    for (int s = 0; s < kGroupSteps; ++s) {
        Bytes weights[kPanels];
        for (int p = 0; p < kPanels; ++p) {
            weights[p] = load_bytes(weight + p * panel_bytes + s * 64);
            __builtin_prefetch(weight + ahead + p * panel_bytes + s * 64, 0, 3);
        }
        for (int r = 0; r < kRows; ++r) {
            const Bytes pair = repeat4(reinterpret_cast<const int8_t*>(codes + r * kGroup + 2 * s));
            for (int p = 0; p < kPanels; ++p) sums[r][p] = dot2(sums[r][p], weights[p], pair);
        }
    }
    for (int r = 0; r < kRows; ++r) {
        const F32 scale = set1(scales[r]);
        for (int p = 0; p < kPanels; ++p) acc[r][p] = fma(to_float(sums[r][p]), scale, acc[r][p]);
    }
}

template <int kRows, int kPanels>
static void q16_tile(const Q16Span& span) {
    const Q16Args& args = span.args;
    const int64_t panel_bytes = q16_panel_bytes(args.k), column = span.panel * kPanelRows;
    const uint8_t* panels = args.weight + span.panel * panel_bytes;
    float* out = args.out + span.row * args.out_stride + column;
    F32 acc[kRows][kPanels];
    int64_t lanes[kPanels];
    for (int p = 0; p < kPanels; ++p) {
        const int64_t left = args.n - column - p * kPanelRows;
        lanes[p] = left < kPanelRows ? left : kPanelRows;
        for (int r = 0; r < kRows; ++r)
            acc[r][p] = span.begin ? load_part(out + r * args.out_stride + p * kPanelRows, lanes[p]) : zero();
    }
    for (int64_t group = span.begin; group < span.end; ++group) {
        const uint8_t* weight = panels + kQ16Header + group * kQ16GroupBytes;
        const int64_t ahead = group % span.num_fetchers == span.fetch ? span.ahead : 0;
        const int64_t at = group * kRows;
        add_q16_group(acc, weight, panel_bytes, ahead, span.inputs.codes + at * kGroup, span.inputs.scales + at);
    }
    const bool done = span.end == args.groups();
    for (int p = 0; p < kPanels; ++p) {
        const F32 scale = load(reinterpret_cast<const float*>(panels + p * panel_bytes));
        for (int r = 0; r < kRows; ++r) {
            F32 sum = done ? acc[r][p] * scale : acc[r][p];
            if (done && args.bias) sum = sum + load_part(args.bias + column + p * kPanelRows, lanes[p]);
            store_part(out + r * args.out_stride + p * kPanelRows, sum, lanes[p]);
        }
    }
}

// The instance for a number of rows and panels known at run time only. Several panels are for high tiles.
template <int kRows = kDotRows, int kPanels = 1>
static void run_q16_tile(const Q16Span& span, int64_t rows, int64_t panels) {
    if constexpr (kRows > 1) {
        if (rows < kRows) return run_q16_tile<kRows - 1, 1>(span, rows, panels);
    }
    if constexpr (kPanels < kDotPanels && kRows * (kPanels + 1) <= kDotSums && kRows > kQ16StreamRows) {
        if (panels > kPanels) return run_q16_tile<kRows, kPanels + 1>(span, rows, panels);
    }
    q16_tile<kRows, kPanels>(span);
}

// Panels [begin, end) by tiles [begin_tile, end_tile).
static void run_q16_panels(const Q16Args& args, const Q16Inputs& inputs, int64_t begin_tile, int64_t end_tile,
                           int64_t begin, int64_t end) {
    const int64_t groups = args.groups(), tiles = end_tile - begin_tile, width = args.panels_at_once();
    const int64_t step = tiles > 1 ? kQ16GroupBlock : groups;
    for (int64_t panel = begin; panel < end; panel += width) {
        const int64_t panels = end - panel < width ? end - panel : width;
        for (int64_t from = 0; from < groups; from += step) {
            const int64_t to = from + step < groups ? from + step : groups;
            const int64_t to_panels = width * q16_panel_bytes(args.k) - from * kQ16GroupBytes;
            const int64_t next = tiles == 1 ? args.ahead() : to < groups ? step * kQ16GroupBytes : to_panels;
            for (int64_t t = 0; t < tiles; ++t) {
                const int64_t row = args.first_row(begin_tile + t), rows = args.first_row(begin_tile + t + 1) - row;
                const Q16Inputs own = {inputs.codes + row * groups * kGroup, inputs.scales + row * groups};
                run_q16_tile({args, own, row, panel, from, to, next, t, tiles}, rows, panels);
            }
        }
    }
}

// The beginning of a stream, while inputs are still being rounded.
KVIK_INLINE void fetch_q16(const uint8_t* weight, int64_t num_bytes) {
    for (int64_t i = 0; i < num_bytes; i += 64) __builtin_prefetch(weight + i, 0, 3);
}

static void linear_q16(const Q16Args& args) {
    const int64_t panels = num_panels(args.n), tiles = args.tiles();
    const int64_t row_blocks = (args.m + kQ16RowBlock - 1) / kQ16RowBlock;
    // Few rows are rounded by each thread for itself, which is faster than to wait for each other.
    void* shared = tiles > 1 ? thread_scratch(Q16Inputs::num_bytes(args)) : nullptr;
    if (shared) {
        parallel_for(tiles, min_tasks(args.m / tiles * args.k * 4), [&](int64_t begin, int64_t end, int) {
            round_tiles(Q16Inputs::in(shared, args), args, begin, end);
        });
    }
    const int64_t task_bytes = args.m ? q16_panel_bytes(args.k) * (args.m / row_blocks) : 0;
    parallel_for(row_blocks * panels, min_tasks(task_bytes), [&](int64_t begin, int64_t end, int) {
        if (args.is_stream()) fetch_q16(args.weight + begin * q16_panel_bytes(args.k), kQ16StreamAhead);
        const Q16Inputs inputs = Q16Inputs::in(shared ? shared : thread_scratch(Q16Inputs::num_bytes(args)), args);
        if (!shared) round_tiles(inputs, args, 0, tiles);
        // A task is one panel of one block of rows.
        for (int64_t task = begin; task < end;) {
            const int64_t block = task / panels, panel = task % panels;
            const int64_t share = end - task < panels - panel ? end - task : panels - panel;
            run_q16_panels(args, inputs, tiles * block / row_blocks, tiles * (block + 1) / row_blocks, panel,
                           panel + share);
            task += share;
        }
    });
}

}  // namespace kvik::KVIK_ISA
