// Adapters of low rank beside a linear layer (LoRA; Hu et al., 2021): out += scale * (x A^T) B^T, where each row of x
// has its own adapter, or none.
//
// Adapters lie in slots. The layer may be several projections side by side, its parts, each with an A and a B of its
// own. Both are packed as in packed.h: A [rank, K] in panels of 16 ranks, B [N, rank] in panels of 16 outputs.
//
// An element of x A^T is four chains over K, of the steps 0, 4, 8, ..., of the steps 1, 5, 9, ... and so on, added in
// that order: one chain alone would wait for itself. An element of the second product is one chain over the rank, and
// is added to what is in `out`. So a row's result depends on nothing but the row and its adapter: not on the other
// rows, their adapters or the threads. Rows without an adapter are neither read nor written.
#pragma once

#include "../packed.h"

namespace kvik::KVIK_ISA {

constexpr int kLoraChains = 4;
constexpr int64_t kLoraRows = 12;  // of one task, at most

template <class T>
struct LoraArgs {
    float* out;
    int64_t out_stride;  // floats from row to row
    const float* x;
    float* shrunk;           // [M, parts, ranks in whole panels], x A^T times the scale
    const T* a;              // [slots, parts, panels of max_rank, steps of K, 16]
    const T* b;              // [slots, panels of all parts, steps of max_rank, 16]
    const int32_t* slots;    // [M], below 0: no adapter
    const int32_t* ranks;    // [slots, parts], 0: the adapter leaves this part alone
    const float* scales;     // [slots, parts]
    const int32_t* columns;  // [parts + 1], where the parts' outputs begin, and the end
    int64_t m, parts, k, max_rank;
};

// One panel of 16 outputs of B.
struct LoraPanel {
    int64_t part, index;  // among those of its part
    int64_t of_all;
    int64_t num_columns;  // of the part
};

static inline LoraPanel lora_panel(const int32_t* columns, int64_t index) {
    int64_t part = 0, left = index;
    for (;; ++part) {
        const int64_t num_columns = columns[part + 1] - columns[part], panels = num_panels(num_columns);
        if (left < panels) return {part, left, index, num_columns};
        left -= panels;
    }
}

// fn(slot, from, to) for each run of rows of [begin, end) with one adapter.
template <class Fn>
KVIK_INLINE void each_run(const int32_t* slots, int64_t begin, int64_t end, const Fn& fn) {
    for (int64_t from = begin; from < end;) {
        int64_t to = from + 1;
        while (to < end && slots[to] == slots[from]) ++to;
        if (slots[from] >= 0) fn(int64_t{slots[from]}, from, to);
        from = to;
    }
}

// sums[c] = chain first + c of each row.
template <class T, int kSide, int kRows>
KVIK_INLINE void run_chains(F32 (&sums)[kSide][kRows][1], const float* x, const T* panel, int64_t k, int64_t first) {
    const int64_t whole = k / kUnit<T>, rounds = whole / kLoraChains;
    const auto at = [=](int64_t step) { return [=](int) { return panel + step * kStepElements<T>; }; };
    for (int64_t round = 0; round < rounds; ++round)
        for (int c = 0; c < kSide; ++c) {
            const int64_t step = round * kLoraChains + first + c;
            add_step<T>(sums[c], x + step * kUnit<T>, k, at(step));
        }
    for (int c = 0; c < kSide; ++c) {
        const int64_t step = rounds * kLoraChains + first + c;
        if (step < whole) {
            add_step<T>(sums[c], x + step * kUnit<T>, k, at(step));
        } else if (step == whole && k % kUnit<T>) {  // behind the last element of an odd K there may be nothing
            add_part<0>(sums[c], x + step * kUnit<T>, k, at(step));
        }
    }
}

// kRows rows from x on times one panel of A, times the scale.
template <class T, int kRows>
static void shrink_tile(float* out, int64_t out_stride, const float* x, const T* panel, int64_t k, float scale) {
    constexpr int kRegisters = kMaxRows * kMaxPanels;
    constexpr int kSide = 4 * kRows <= kRegisters ? 4 : 2 * kRows <= kRegisters ? 2 : 1;
    F32 totals[kRows];
    for (int first = 0; first < kLoraChains; first += kSide) {
        F32 sums[kSide][kRows][1];
        KVIK_UNROLL for (int c = 0; c < kSide; ++c)
            for (int r = 0; r < kRows; ++r) sums[c][r][0] = zero();
        run_chains<T>(sums, x, panel, k, first);
        KVIK_UNROLL for (int c = 0; c < kSide; ++c)
            for (int r = 0; r < kRows; ++r) totals[r] = first + c == 0 ? sums[c][r][0] : totals[r] + sums[c][r][0];
    }
    for (int r = 0; r < kRows; ++r) store(out + r * out_stride, totals[r] * set1(scale));
}

template <class T, int kRows = kMaxRows>
static void run_shrink(float* out, int64_t out_stride, const float* x, const T* panel, int64_t k, float scale,
                       int64_t rows) {
    if constexpr (kRows > 1) {
        if (rows < kRows) return run_shrink<T, kRows - 1>(out, out_stride, x, panel, k, scale, rows);
    }
    shrink_tile<T, kRows>(out, out_stride, x, panel, k, scale);
}

// kRows rows of x A^T times kPanels panels of B, added to the output. `columns`: left of the part from the first on.
template <class T, int kRows, int kPanels>
static void expand_tile(float* out, int64_t out_stride, const float* shrunk, int64_t shrunk_stride, const T* panels,
                        int64_t panel_size, int64_t rank, int64_t columns) {
    F32 acc[kRows][kPanels];
    for (int r = 0; r < kRows; ++r)
        for (int p = 0; p < kPanels; ++p) acc[r][p] = zero();
    const auto at = [=](int64_t step) { return [=](int p) { return panels + p * panel_size + step * kStepElements<T>; }; };
    const int64_t whole = rank / kUnit<T>;
    for (int64_t step = 0; step < whole; ++step) add_step<T>(acc, shrunk + step * kUnit<T>, shrunk_stride, at(step));
    if (rank % kUnit<T>) add_part<0>(acc, shrunk + whole * kUnit<T>, shrunk_stride, at(whole));
    for (int r = 0; r < kRows; ++r)
        for (int p = 0; p < kPanels; ++p) {
            const int64_t left = columns - p * kPanelRows, n = left < kPanelRows ? left : kPanelRows;
            float* to = out + r * out_stride + p * kPanelRows;
            store_part(to, load_part(to, n) + acc[r][p], n);
        }
}

template <class T, int kRows = kMaxRows, int kPanels = kMaxPanels>
static void run_expand(float* out, int64_t out_stride, const float* shrunk, int64_t shrunk_stride, const T* panels,
                       int64_t panel_size, int64_t rank, int64_t columns, int64_t rows, int64_t num) {
    if constexpr (kRows > 1) {
        if (rows < kRows)
            return run_expand<T, kRows - 1, kPanels>(out, out_stride, shrunk, shrunk_stride, panels, panel_size, rank,
                                                     columns, rows, num);
    }
    if constexpr (kPanels > 1) {
        if (num < kPanels)
            return run_expand<T, kRows, kPanels - 1>(out, out_stride, shrunk, shrunk_stride, panels, panel_size, rank,
                                                     columns, rows, num);
    }
    expand_tile<T, kRows, kPanels>(out, out_stride, shrunk, shrunk_stride, panels, panel_size, rank, columns);
}

// x A^T of rows [begin, end) for one panel of ranks of one part.
template <class T>
static void shrink_rows(const LoraArgs<T>& args, int64_t begin, int64_t end, int64_t part, int64_t panel) {
    const int64_t rank_panels = num_panels(args.max_rank), panel_size = num_steps<T>(args.k) * kStepElements<T>;
    const int64_t stride = args.parts * rank_panels * kPanelRows;
    each_run(args.slots, begin, end, [&](int64_t slot, int64_t from, int64_t to) {
        const int64_t which = slot * args.parts + part;
        if (panel * kPanelRows >= args.ranks[which]) return;
        const T* weights = args.a + (which * rank_panels + panel) * panel_size;
        float* out = args.shrunk + (part * rank_panels + panel) * kPanelRows;
        for (int64_t row = from; row < to; row += kMaxRows)
            run_shrink<T>(out + row * stride, stride, args.x + row * args.k, weights, args.k, args.scales[which],
                          to - row);
    });
}

// Adds to rows [begin, end) of `num` panels of outputs of one part.
template <class T>
static void expand_rows(const LoraArgs<T>& args, int64_t begin, int64_t end, const LoraPanel& panel, int64_t num,
                        int64_t all_panels) {
    const int64_t padded_rank = num_panels(args.max_rank) * kPanelRows, stride = args.parts * padded_rank;
    const int64_t panel_size = num_steps<T>(args.max_rank) * kStepElements<T>;
    const int64_t column = panel.index * kPanelRows;
    each_run(args.slots, begin, end, [&](int64_t slot, int64_t from, int64_t to) {
        const int64_t rank = args.ranks[slot * args.parts + panel.part];
        if (rank == 0) return;
        const T* weights = args.b + (slot * all_panels + panel.of_all) * panel_size;
        float* out = args.out + args.columns[panel.part] + column;
        const float* shrunk = args.shrunk + panel.part * padded_rank;
        for (int64_t row = from; row < to; row += kMaxRows)
            run_expand<T>(out + row * args.out_stride, args.out_stride, shrunk + row * stride, stride, weights,
                          panel_size, rank, panel.num_columns - column, to - row, num);
    });
}

template <class T>
static void lora_rows(const LoraArgs<T>& args) {
    const int64_t blocks = (args.m + kLoraRows - 1) / kLoraRows, rank_panels = num_panels(args.max_rank);
    const int64_t block_rows = args.m < kLoraRows ? args.m : kLoraRows;
    const auto row_of = [&](int64_t block) { return args.m * block / blocks; };
    // A task is one panel of one block of rows, in both products.
    const int64_t shrinks = args.parts * rank_panels;
    parallel_for(blocks * shrinks, min_tasks(args.k * 8 * block_rows), [&](int64_t begin, int64_t end, int) {
        for (int64_t task = begin; task < end; ++task) {
            const int64_t block = task / shrinks, which = task % shrinks;
            shrink_rows(args, row_of(block), row_of(block + 1), which / rank_panels, which % rank_panels);
        }
    });
    int64_t all_panels = 0;
    for (int64_t part = 0; part < args.parts; ++part)
        all_panels += num_panels(args.columns[part + 1] - args.columns[part]);
    const int64_t expand_bytes = args.max_rank * 8 * block_rows;
    parallel_for(blocks * all_panels, min_tasks(expand_bytes), [&](int64_t begin, int64_t end, int) {
        for (int64_t task = begin; task < end;) {
            const int64_t block = task / all_panels;
            const LoraPanel panel = lora_panel(args.columns, task % all_panels);
            int64_t num = num_panels(panel.num_columns) - panel.index;  // of this part, this share and one tile
            if (num > end - task) num = end - task;
            if (num > kMaxPanels) num = kMaxPanels;
            expand_rows(args, row_of(block), row_of(block + 1), panel, num, all_panels);
            task += num;
        }
    });
}

static void lora(float* out, int64_t out_stride, const float* x, float* shrunk, const void* a, const void* b,
                 const int32_t* slots, const int32_t* ranks, const float* scales, const int32_t* columns, int64_t m,
                 int64_t parts, int64_t k, int64_t max_rank, int dtype) {
    with_source_type(dtype, [&]<class T>() {
        lora_rows<T>({out, out_stride, x, shrunk, static_cast<const T*>(a), static_cast<const T*>(b), slots, ranks,
                      scales, columns, m, parts, k, max_rank});
    });
}

}  // namespace kvik::KVIK_ISA
