// x [M, K] fp32 times a packed weight: the matrix product behind every linear layer. For fp32 and bf16 it is here, for
// quantised formats in linear_blocks.h.
//
// Each output element is one chain of steps (chain.h) over K in ascending order, started from zero, whatever the
// number of rows, the tile it falls in or the thread that computes it: so a row's result never depends on its
// neighbours. Blocking over K stores the chain's fp32 value and takes it up again, which changes no bit.
//
// Up to kMaxRows rows the weight streams through once. Beyond, a block of up to kMaxPanels panels and kBlockSteps
// steps stays in the cache while all tiles of up to kMaxRows rows pass over it.
#pragma once

#include "linear_blocks.h"
#include "linear_q16.h"

namespace kvik::KVIK_ISA {

constexpr int64_t kBlockSteps = 512;  // times 4 panels of 64 bytes: 128 KiB, a small part of the second-level cache
constexpr int64_t kBlockRows = 192;   // rows whose unfinished sums are kept: 48 KiB

template <class T>
struct LinearArgs {
    float* out;
    int64_t out_stride;  // floats from row to row
    const float* x;
    const T* weight;
    const float* bias;  // or null
    int64_t m, n, k;
    int64_t steps;
};

// The part of the product that one register tile takes in one visit.
struct Span {
    int64_t row;                     // first row of x
    int64_t panel;                   // first panel of the weight
    int64_t begin_step, end_step;
    float* sums;                     // [rows, panels, 16]: unfinished sums, where K is taken in blocks
};

template <class T>
KVIK_INLINE void finish(const LinearArgs<T>& args, int64_t row, int64_t panel, F32 sum) {
    const int64_t column = panel * kPanelRows, left = args.n - column, n = left < kPanelRows ? left : kPanelRows;
    if (args.bias) sum = sum + load_part(args.bias + column, n);
    store_part(args.out + row * args.out_stride + column, sum, n);
}

template <class T, int kRows, int kPanels>
static void tile(const LinearArgs<T>& args, const Span& span) {
    F32 acc[kRows][kPanels];
    for (int r = 0; r < kRows; ++r)
        for (int p = 0; p < kPanels; ++p)
            acc[r][p] = span.begin_step ? load(span.sums + (r * kPanels + p) * kLanes) : zero();

    const int64_t panel_size = args.steps * kStepElements<T>;
    const T* weight = args.weight + span.panel * panel_size;
    const float* x = args.x + span.row * args.k;
    const int64_t whole = args.k / kUnit<T>, end = span.end_step < whole ? span.end_step : whole;
    const auto weights_of = [&](int64_t s) {
        return [=](int p) { return weight + p * panel_size + s * kStepElements<T>; };
    };
    for (int64_t s = span.begin_step; s < end; ++s) add_step<T>(acc, x + s * kUnit<T>, args.k, weights_of(s));
    // The last element of an odd K: behind it in x is the next row or nothing.
    if (end < span.end_step) add_part<0>(acc, x + end * kUnit<T>, args.k, weights_of(end));

    for (int r = 0; r < kRows; ++r)
        for (int p = 0; p < kPanels; ++p) {
            if (span.end_step == args.steps) {
                finish(args, span.row + r, span.panel + p, acc[r][p]);
            } else {
                store(span.sums + (r * kPanels + p) * kLanes, acc[r][p]);
            }
        }
}

// The instance of tile() for a number of rows and panels that is known at run time only.
template <class T, int kRows = kMaxRows, int kPanels = kMaxPanels>
static void run_tile(const LinearArgs<T>& args, const Span& span, int64_t rows, int64_t panels) {
    if constexpr (kRows > 1) {
        if (rows < kRows) return run_tile<T, kRows - 1, kPanels>(args, span, rows, panels);
    }
    if constexpr (kPanels > 1) {
        if (panels < kPanels) return run_tile<T, kRows, kPanels - 1>(args, span, rows, panels);
    }
    tile<T, kRows, kPanels>(args, span);
}

// All rows of [first_row, end_row) by up to kMaxPanels panels.
template <class T>
static void run_panels(const LinearArgs<T>& args, int64_t first_row, int64_t end_row, int64_t panel, int64_t panels) {
    const int64_t rows = end_row - first_row, tiles = (rows + kMaxRows - 1) / kMaxRows;
    const int64_t block = tiles == 1 ? args.steps : kBlockSteps;
    float* sums = nullptr;
    if (block < args.steps)
        sums = static_cast<float*>(thread_scratch(sizeof(float) * kBlockRows * kMaxPanels * kLanes));
    for (int64_t begin = 0; begin < args.steps; begin += block) {
        const int64_t end = begin + block < args.steps ? begin + block : args.steps;
        for (int64_t t = 0; t < tiles; ++t) {  // tiles of nearly equal height: 7 rows are 4 and 3, not 6 and 1
            const int64_t from = rows * t / tiles, to = rows * (t + 1) / tiles;
            const Span span = {first_row + from, panel, begin, end, sums + from * panels * kLanes};
            run_tile<T>(args, span, to - from, panels);
        }
    }
}

template <class T>
static void all_panels(const LinearArgs<T>& args) {
    const int64_t panels = num_panels(args.n), row_blocks = (args.m + kBlockRows - 1) / kBlockRows;
    const int64_t task_bytes = args.steps * 64 * (args.m < kBlockRows ? args.m : kBlockRows);
    // A task is one panel of one block of rows.
    parallel_for(row_blocks * panels, min_tasks(task_bytes), [&](int64_t begin, int64_t end, int) {
        for (int64_t task = begin; task < end;) {
            const int64_t block = task / panels, panel = task % panels;
            const int64_t share = end - task < panels - panel ? end - task : panels - panel;
            const int64_t groups = (share + kMaxPanels - 1) / kMaxPanels;
            for (int64_t g = 0; g < groups; ++g) {
                const int64_t from = panel + share * g / groups, to = panel + share * (g + 1) / groups;
                run_panels(args, args.m * block / row_blocks, args.m * (block + 1) / row_blocks, from, to - from);
            }
            task += share;
        }
    });
}

static void linear(float* out, int64_t out_stride, const float* x, const void* weight, const float* bias, int64_t m,
                   int64_t n, int64_t k, int format) {
    const uint8_t* blocks = static_cast<const uint8_t*>(weight);
    if (with_packed_blocks(format, [&]<class Q>() { linear_blocks<Q>({out, out_stride, x, blocks, bias, m, n, k}); }))
        return;
    if (format == kFormatQ16) return linear_q16({out, out_stride, x, blocks, bias, m, n, k});
    with_type(format == kFormatBf16 ? kBf16 : kF32, [&]<class T>() {
        all_panels<T>({out, out_stride, x, static_cast<const T*>(weight), bias, m, n, k, num_steps<T>(k)});
    });
}

template <class T>
static void pack_rows_typed(T* packed, int64_t k, int64_t first_row, const char* rows, int64_t num_rows, int dtype,
                            int64_t row_bytes) {
    const int64_t first_panel = first_row / kPanelRows, end_row = first_row + num_rows;
    const int64_t panel_size = num_steps<T>(k) * kStepElements<T>;
    const bool as_is = dtype == (sizeof(T) == 2 ? kBf16 : kF32);
    const int64_t panels = num_panels(end_row) - first_panel;
    parallel_for(panels, min_tasks(panel_size * sizeof(T)), [=](int64_t begin, int64_t end, int) {
        T* converted = as_is ? nullptr : static_cast<T*>(thread_scratch(kPanelRows * k * sizeof(T)));
        for (int64_t panel = first_panel + begin; panel < first_panel + end; ++panel) {
            const int64_t panel_row = panel * kPanelRows, panel_end = panel_row + kPanelRows;
            const int64_t from = first_row > panel_row ? first_row : panel_row;
            const int64_t to = end_row < panel_end ? end_row : panel_end;
            const T* sources[kPanelRows];
            for (int64_t row = from; row < to; ++row) {
                const char* source = rows + (row - first_row) * row_bytes;
                if (!as_is) convert_row(converted + (row - from) * k, source, k, dtype);
                sources[row - from] = as_is ? reinterpret_cast<const T*>(source) : converted + (row - from) * k;
            }
            interleave(packed + panel * panel_size, k, from - panel_row, sources, to - from);
        }
    });
}

// Rows [0, num_rows) of a plain [num_rows, K] source become rows first_row and on of a packed weight of fp32, bf16 or
// 16-bit fixed point.
static void pack_rows(void* packed, int64_t k, int64_t first_row, const void* rows, int64_t num_rows, int format,
                      int rows_dtype) {
    if (format == kFormatQ16)
        return pack_q16_rows(static_cast<uint8_t*>(packed), k, first_row, rows, num_rows, rows_dtype);
    const int64_t row_bytes = k * (rows_dtype == kF32 ? 4 : 2);
    with_type(format == kFormatBf16 ? kBf16 : kF32, [&]<class T>() {
        pack_rows_typed(static_cast<T*>(packed), k, first_row, static_cast<const char*>(rows), num_rows, rows_dtype,
                        row_bytes);
    });
}

}  // namespace kvik::KVIK_ISA
